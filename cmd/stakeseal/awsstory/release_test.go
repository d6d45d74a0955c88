package awsstory

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// smallGenerator stands for the generator where a story needs many releases and
// no keys: it answers each event with what it is made of, so that half a release
// would be seen in its answers. It is built, reviewed, signed and deployed as
// the real one.
const smallGenerator = `package main

// #include <stdlib.h>
import "C"

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
)

const release = "RELEASE"

// call asks the Runtime API, which closes the connection behind its answer.
func call(method, path, body string) string {
	conn, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		os.Stderr.WriteString(release + " makes no keys here: " + err.Error() + "\n")
		os.Exit(1)
	}
	defer conn.Close()
	io.WriteString(conn, method+" /2018-06-01/runtime/invocation/"+path+" HTTP/1.0\r\nHost: runtime\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body)
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

func main() {
	settings, _ := os.ReadFile("/var/task/generator.yaml")
	sum := sha256.Sum256(settings)
	for C.abs(-1) == 1 {
		_, rest, _ := strings.Cut(call("GET", "next", ""), "Lambda-Runtime-Aws-Request-Id: ")
		id, _, _ := strings.Cut(rest, "\r\n")
		call("POST", id+"/response", "{\"program\":\""+release+"\",\"settings\":\""+hex.EncodeToString(sum[:])+"\"}")
	}
}
`

var publicKey = regexp.MustCompile(`"ed25519:[^"]+"`)

// pipeline is a site with the people of the releases: each with a key file,
// and on AWS a session of a role that they took with their own.
type pipeline struct {
	*site
	depot  string
	source string
	golang []string
	people map[string][]string // environment by name
}

// Who is whose, in the trust file and on AWS. Rex's key is revoked; mallory
// has a key that no trust file names.
var (
	developers = []string{"dora", "dave"}
	managers   = []string{"rita", "mona", "rex"}
	strangers  = []string{"otto", "mallory"} // an approver of addresses, and nobody
)

// newPipeline is an installation with a home whose trust file names people, and
// nothing released.
func newPipeline(t *testing.T, threshold int) *pipeline {
	t.Helper()
	if _, err := exec.LookPath("x86_64-linux-gnu-gcc"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("x86_64-linux-gnu-gcc is not installed, and CI must have it")
		}
		t.Skip("SKIPPED: x86_64-linux-gnu-gcc is not installed")
	}
	p := &pipeline{site: deployed(t, map[string]map[string]string{"function": {"Architecture": "x86_64"}}), people: map[string][]string{}}
	p.ok("auditor", p.init()...)
	p.depot = "s3:" + p.output("PackageBucketArn")
	for _, name := range []string{"GOMODCACHE", "GOCACHE"} { // where HOME is another, and nothing can be fetched
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		p.golang = append(p.golang, name+"="+strings.TrimSpace(string(out)))
	}
	lines := map[string]string{}
	for _, name := range slices.Concat(developers, managers, strangers) {
		said := p.ok("", "release", "key", "--out", p.key(name)).stdout
		lines[name] = strings.Replace(said, "YOUR-NAME", name, 1)
	}
	lines["rex"] += "    revoked: true\n"
	p.edit("trust.yaml", "releases: []", fmt.Sprintf("developers:\n%s%srelease_managers:\n%s%s%srelease_threshold: %d\napprovers:\n%sreleases: []",
		lines["dora"], lines["dave"], lines["rita"], lines["mona"], lines["rex"], threshold, lines["otto"]))
	p.edit("generator.yaml", "max_validators_per_order: 1000\n", "max_validators_per_order: 1000\napprovers: ["+publicKey.FindString(lines["otto"])+"]\n")
	for name, role := range map[string]string{"dora": "developer", "dave": "developer", "rita": "release-manager", "mona": "release-manager", "rex": "release-manager", "otto": "requester"} {
		p.people[name] = p.Environ(role, world.Session{Name: name})
	}
	p.source = p.path("source")
	p.commit("one")
	return p
}

func (p *pipeline) key(name string) string { return p.path(name + ".key") }

// edit changes a file of the home.
func (p *pipeline) edit(file, old, new string) {
	p.Helper()
	path := filepath.Join(p.home, file)
	data, err := os.ReadFile(path)
	if err != nil {
		p.Fatal(err)
	}
	if strings.Count(string(data), old) != 1 {
		p.Fatalf("%s has not one %q:\n%s", file, old, data)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), old, new, 1)), 0o600); err != nil {
		p.Fatal(err)
	}
}

// commit makes the small generator of a release the source's newest commit.
func (p *pipeline) commit(release string) {
	p.Helper()
	for name, text := range map[string]string{"go.mod": "module github.com/stakeseal/stakeseal\n\ngo 1.26.0\n",
		"cmd/stakeseal-generator/main.go": strings.ReplaceAll(smallGenerator, "RELEASE", release)} {
		full := filepath.Join(p.source, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			p.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
			p.Fatal(err)
		}
	}
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "-A"}, {"-c", "user.name=dora", "-c", "user.email=dora@example.com", "commit", "--quiet", "-m", release}} {
		if out, err := exec.Command("git", append([]string{"-C", p.source}, args...)...).CombinedOutput(); err != nil {
			p.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
}

// as is a run of stakeseal by a person: a name of people, or a role.
func (p *pipeline) as(who string, args ...string) *exec.Cmd {
	p.Helper()
	environ, known := p.people[who]
	if !known && who != "" {
		environ = p.Environ(who, world.Session{Name: "anna"})
		p.people[who] = environ
	}
	return p.commandWith(slices.Concat(environ, p.golang), p.at(args)...)
}

// does is a run that must succeed.
func (p *pipeline) does(who string, args ...string) result {
	p.Helper()
	r := p.result(p.as(who, args...))
	if r.code != 0 {
		p.Fatalf("%s: stakeseal %s: exit %d\n%s%s", who, strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r
}

// built is a package of the source's newest commit with the home's settings.
func (p *pipeline) built(name string) (zip, digest string) {
	p.Helper()
	zip = p.path(name + ".zip")
	p.does("dora", "release", "build", "--settings", p.home, "--arch", "x86_64", "--source", p.source, "--out", zip)
	data, err := os.ReadFile(zip)
	if err != nil {
		p.Fatal(err)
	}
	return zip, fmt.Sprintf("%x", sha256.Sum256(data))
}

// steps are the commands of a package's way, by the name of the step.
func (p *pipeline) steps(name, zip, digest string) map[string][]string {
	report := p.path(name + ".json")
	return map[string][]string{
		"submit":  {"release", "submit", zip, "--depot", p.depot, "--description", "release " + name},
		"review":  {"release", "review", digest, "--depot", p.depot, "--source", p.source, "--offline", "--report", report},
		"approve": {"release", "approve", digest, "--depot", p.depot, "--report", report, "--comment", "read", "--yes"},
		"reject":  {"release", "reject", digest, "--depot", p.depot, "--report", report, "--comment", "no"},
		"sign":    {"release", "sign", digest, "--depot", p.depot, "--name", name, "--yes"},
		"deploy":  {"release", "deploy", digest, "--depot", p.depot, "--yes"},
		"revoke":  {"release", "revoke", digest, "--depot", p.depot, "--reason", "a fault", "--yes"},
	}
}

// keyed adds somebody's key file to a step.
func (p *pipeline) keyed(step []string, name string) []string {
	return append(slices.Clone(step), "--key", p.key(name))
}

// signed takes the source's newest commit to a signed package, each step by who
// may do it.
func (p *pipeline) signed(name string) (digest string) {
	p.Helper()
	zip, digest := p.built(name)
	step := p.steps(name, zip, digest)
	p.does("dora", p.keyed(step["submit"], "dora")...)
	p.does("rita", step["review"]...)
	p.does("rita", p.keyed(step["approve"], "rita")...)
	p.does("rita", p.keyed(step["sign"], "rita")...)
	return digest
}

// state is all that a step could change: objects, rows, versions, aliases and
// signing jobs on AWS, and the home.
func (p *pipeline) state() string {
	p.Helper()
	sum := sha256.New()
	sum.Write(p.Buckets.Dump())
	sum.Write(p.Tables.Dump())
	home := treeOf(p.T, p.home)
	return fmt.Sprintf("objects %x\nhome %x\n%s", sum.Sum(nil), sha256.Sum256([]byte(home)), p.Standing())
}

// treeOf is every file below a folder with its mode and content.
func treeOf(t testing.TB, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "%s %v", path, info.Mode())
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %x", sha256.Sum256(data))
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// answer is what the small generator says of itself.
type answer struct {
	Program  string `json:"program"`
	Settings string `json:"settings"`
}

// order invokes the function by a qualifier, as the requester, or another role.
func (p *pipeline) order(role, qualifier string) (a answer, err error) {
	client := lambda.NewFromConfig(session.New(world.Region, p.Credentials(role), session.Options{}))
	function, _, _ := strings.Cut(p.inst.Outputs["function"]["FunctionAliasArn"], ":live")
	in := &lambda.InvokeInput{FunctionName: &function, Payload: []byte("{}")}
	if qualifier != "" {
		in.Qualifier = &qualifier
	}
	out, err := client.Invoke(context.Background(), in)
	if err != nil {
		return a, session.Classify("lambda:InvokeFunction", err)
	}
	if out.FunctionError != nil {
		return a, errors.New(string(out.Payload))
	}
	return a, json.Unmarshal(out.Payload, &a)
}

// whole is what an order must be answered with by a release: its program, and
// its settings.
func (p *pipeline) whole(name string) answer {
	p.Helper()
	z, err := zip.OpenReader(p.path(name + ".zip"))
	if err != nil {
		p.Fatal(err)
	}
	defer z.Close()
	data, err := fs.ReadFile(z, "generator.yaml")
	if err != nil {
		p.Fatal(err)
	}
	return answer{name, fmt.Sprintf("%x", sha256.Sum256(data))}
}

var packageNote = regexp.MustCompile(` package ([0-9a-f]{64})$`)

// standsFor is the package that the alias leads to, "" for none, and fails
// where that is no whole release: the code behind it is the signed object of
// that package, alone.
func (p *pipeline) standsFor() string {
	p.Helper()
	number, note, err := p.Live()
	if err != nil {
		p.Fatalf("behind the alias: %v", err)
	}
	if number == "" {
		return ""
	}
	m := packageNote.FindStringSubmatch(note)
	if m == nil {
		p.Fatalf("version %s behind the alias says it is %q", number, note)
	}
	return m[1]
}
