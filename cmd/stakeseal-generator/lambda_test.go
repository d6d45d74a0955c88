package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stakeseal/stakeseal/internal/aws/awstest/island"
	"github.com/stakeseal/stakeseal/internal/config"
	"github.com/stakeseal/stakeseal/internal/runtimeapi"
)

// The tests here run the real program under the Runtime API on 127.0.0.1, up
// to its first call to AWS. What comes after that is tested with AWS's fakes,
// in cloud_test.go in this process and by the stories of awstest/world.

const (
	testAccount = "111122223333"
	testRegion  = "us-east-1"
	testTable   = "arn:aws:dynamodb:" + testRegion + ":" + testAccount + ":table/stakeseal-hoodi-records"
	testBucket  = "arn:aws:s3:::stakeseal-hoodi-archive-" + testAccount
	testKey     = "arn:aws:kms:" + testRegion + ":" + testAccount + ":key/01234567-89ab-cdef-0123-456789abcdef"
	testAlias   = "arn:aws:lambda:" + testRegion + ":" + testAccount + ":function:stakeseal-hoodi-generator:live"

	awsSettings = `version: 1
network: hoodi
withdrawal_addresses: {cold: "` + address + `"}
seal_to: {signing: [signing], recovery: [recovery]}
certifier: awskms:` + testKey + `
store: dynamodb:` + testTable + `
archive: s3:` + testBucket + `
`
	testSecret = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEYs1"
	testToken  = "IQoJb3JpZ2luX2VjEXAMPLEtoken0123456789abcdef=="
)

// lambdaEnvironment is what Lambda sets for provided.al2023, as it was seen.
func lambdaEnvironment(api string) []string {
	return []string{
		"AWS_LAMBDA_FUNCTION_VERSION=7",
		"AWS_SESSION_TOKEN=" + testToken,
		"LD_LIBRARY_PATH=/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/stakeseal-hoodi-generator",
		"LAMBDA_TASK_ROOT=/var/task",
		"AWS_LAMBDA_LOG_STREAM_NAME=2026/11/22/stakeseal-hoodi-generator[7]c026cde3732340049aff322b9cc3c19b",
		"AWS_LAMBDA_LOG_FORMAT=Text",
		"AWS_LAMBDA_RUNTIME_API=" + api,
		"AWS_LAMBDA_FUNCTION_NAME=stakeseal-hoodi-generator",
		"AWS_XRAY_DAEMON_ADDRESS=169.254.100.1:2000",
		"PATH=/usr/local/bin:/usr/bin/:/bin:/opt/bin",
		"AWS_DEFAULT_REGION=" + testRegion,
		"AWS_SECRET_ACCESS_KEY=" + testSecret,
		"LANG=en_US.UTF-8",
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"AWS_REGION=" + testRegion,
		"TZ=:UTC",
		"AWS_ACCESS_KEY_ID=ASIAIOSFODNN7EXAMPLE",
		"_AWS_XRAY_DAEMON_ADDRESS=169.254.100.1",
		"_AWS_XRAY_DAEMON_PORT=2000",
		"AWS_LAMBDA_METADATA_API=169.254.100.1:9001",
		"AWS_LAMBDA_METADATA_TOKEN=9b066b0b-03fe-47c2-9b61-59d2057d788a",
		"AWS_XRAY_CONTEXT_MISSING=LOG_ERROR",
		"_HANDLER=bootstrap",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=1769",
		"LAMBDA_RUNTIME_DIR=/var/runtime",
	}
}

// enterFunction is the test program as what stands between a test and the
// bootstrap: a mount namespace of its own in which /opt is empty, or holds
// one folder; then it is the bootstrap, with the environment it was given and
// what is more: exec.Cmd passes on no variable twice.
func enterFunction(inOpt, program string, more []string) {
	err := enterMounts(inOpt)
	if err == nil {
		err = execProgram(program, append(os.Environ(), more...))
	}
	fmt.Fprintln(os.Stderr, "couldn't enter the function:", err)
	os.Exit(98)
}

// lambdaRun is a bootstrap that was started.
type lambdaRun struct {
	t       *testing.T
	runtime *runtimeapi.Server
	api     string
	paths   lockedBuffer // the requests it made
	output  lockedBuffer
}

// newRuntime serves the Runtime API on 127.0.0.1.
func newRuntime(t *testing.T) *lambdaRun {
	t.Helper()
	r := &lambdaRun{t: t, runtime: runtimeapi.NewServer()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = fmt.Fprintln(&r.paths, q.Method, q.URL.Path)
		r.runtime.ServeHTTP(w, q)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	r.api = l.Addr().String()
	return r
}

// packaged puts a package's files beside the program, as bootstrap, and
// returns its path. The program is linked, not copied: it is large.
func packaged(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(generator(t)), "package-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Link(generator(t), filepath.Join(dir, "bootstrap")))
	for name, text := range files {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return filepath.Join(dir, "bootstrap")
}

// command is the bootstrap in its namespace. A machine that gives none skips
// the test, where it is not needed.
func command(t *testing.T, inOpt, program string, environ []string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	attributes, why := namespaces()
	if why != "" {
		if island.Needed() {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	cmd := exec.Command(self, "function", inOpt, program)
	names := map[string]bool{}
	for _, line := range environ {
		name, _, _ := strings.Cut(line, "=")
		if names[name] || line == "" {
			cmd.Args = append(cmd.Args, line)
		} else {
			cmd.Env = append(cmd.Env, line)
		}
		names[name] = true
	}
	cmd.Dir, cmd.SysProcAttr = t.TempDir(), attributes
	return cmd
}

// run runs a bootstrap to its end and returns what its runtime was told.
func (r *lambdaRun) run(inOpt, program string, environ []string) (told string) {
	t := r.t
	t.Helper()
	cmd := command(t, inOpt, program, environ)
	cmd.Stdout, cmd.Stderr = &r.output, &r.output
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait(); r.runtime.Gone() }()
	_, err := r.runtime.Invoke(ctx, runtimeapi.Invocation{Event: []byte("{}"), Function: testAlias})
	var exit *exec.ExitError
	if wait := <-ended; !errors.As(wait, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v: %s", wait, r.output.bytes())
	}
	var failure *runtimeapi.Failure
	if errors.As(err, &failure) {
		if failure.Class != "init" {
			t.Errorf("it said %q", failure)
		}
		return failure.Message
	}
	return ""
}

// trap is a port that nothing may connect to.
func trap(t *testing.T) (address string, touched func() int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var n atomic.Int64
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			_ = conn.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return l.Addr().String(), n.Load
}

// with returns the environment with lines added, or in place of those of the
// same name.
func with(environ []string, lines ...string) []string {
	environ = slices.Clone(environ)
	for _, line := range lines {
		name, _, _ := strings.Cut(line, "=")
		i := slices.IndexFunc(environ, func(l string) bool { return strings.HasPrefix(l, name+"=") })
		if i >= 0 {
			environ[i] = line
		} else {
			environ = append(environ, line)
		}
	}
	return environ
}

func without(environ []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(l string) bool { return strings.HasPrefix(l, name+"=") })
}

// TestPoisonedEnvironments: whatever a changed function configuration adds,
// nothing is dialled but the Runtime API, which is told why there will be no
// keys; and where that address itself is poisoned, nothing at all.
func TestPoisonedEnvironments(t *testing.T) {
	to, touched := trap(t)
	program := packaged(t, map[string]string{config.GeneratorFile: awsSettings})
	for _, line := range []string{
		"AWS_ENDPOINT_URL=http://" + to, "AWS_ENDPOINT_URL_KMS=http://" + to, "AWS_ENDPOINT_URL_DYNAMODB=http://" + to, "AWS_ENDPOINT_URL_S3=http://" + to,
		"HTTPS_PROXY=http://" + to, "https_proxy=http://" + to, "HTTP_PROXY=http://" + to, "http_proxy=http://" + to, "ALL_PROXY=socks5://" + to, "NO_PROXY=",
		"SSL_CERT_FILE=/tmp/evil.pem", "SSL_CERT_DIR=/tmp", "AWS_CA_BUNDLE=/tmp/evil.pem",
		"AWS_CONFIG_FILE=/tmp/config", "AWS_SHARED_CREDENTIALS_FILE=/tmp/config", "AWS_PROFILE=evil", "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://" + to,
		"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://" + to, "AWS_ROLE_ARN=arn:aws:iam::1:role/evil", "AWS_STS_REGIONAL_ENDPOINTS=legacy",
		"AWS_LAMBDA_EXEC_WRAPPER=/opt/evil", "AWS_LAMBDA_MAX_CONCURRENCY=10", "AWS_NEW_RETRIES_2026=true", "AWS_LAMBDA_DOTNET_PREJIT=Always",
		"GODEBUG=http2debug=2", "GOTRACEBACK=crash", "GOTRACEBACK=all", "GOMAXPROCS=1", "GOMEMLIMIT=1", "GOGC=off", "GOCOVERDIR=/tmp", "GOFIPS140=off",
		"LD_PRELOAD=/nonexistent/evil.so", "LD_AUDIT=/nonexistent/evil.so", "LOCALDOMAIN=evil", "RES_OPTIONS=use-vc", "HOSTALIASES=/tmp/hosts", "RESOLV_HOST_CONF=/tmp/hosts",
		"STAKESEAL_CLEAN=1", "CLEAN=1", "_STAKESEAL_CLEANED=yes", "KMS_KEY_ARN=" + testKey, "TABLE=x", "A=", "=x",
		"aws_region=eu-west-1", "AWS_REGION =x",
		"TZ=:UTC", "AWS_ACCESS_KEY_ID=ASIAXXXXXXXXXXXXXXXX", // a second time
	} {
		name, _, _ := strings.Cut(line, "=")
		t.Run(line, func(t *testing.T) {
			r := newRuntime(t)
			environ := with(lambdaEnvironment(r.api), line)
			if name == "AWS_ACCESS_KEY_ID" || name == "TZ" {
				environ = append(lambdaEnvironment(r.api), line)
			}
			told := r.run("", program, environ)
			if !strings.Contains(told, "refusing to make keys in this environment") || !strings.Contains(told, name) {
				t.Errorf("the runtime was told %q", told)
			}
			if made := string(r.paths.bytes()); made != "POST /2018-06-01/runtime/init/error\n" {
				t.Errorf("it made the requests %q", made)
			}
			r.saidOnce(told)
		})
	}
	if n := touched(); n != 0 {
		t.Errorf("%d connections were made to where the environment pointed", n)
	}
}

// saidOnce: standard error has the one fact, and no secret.
func (r *lambdaRun) saidOnce(told string) {
	r.t.Helper()
	output := r.output.bytes()
	for line := range bytes.Lines(output) {
		if bytes.HasPrefix(line, []byte("ERROR: ld.so:")) { // of the test program, which is not static
			output = bytes.Replace(output, line, nil, 1)
		}
	}
	var fact struct{ Fact, Class, Message string }
	decoder := json.NewDecoder(bytes.NewReader(output))
	if err := decoder.Decode(&fact); err != nil || fact.Fact != "error" || fact.Class != "init" || !strings.HasPrefix(told, strings.TrimSuffix(fact.Message, "...")) {
		r.t.Errorf("standard error has %s (%v)", output, err)
	}
	if rest, _ := io.ReadAll(decoder.Buffered()); len(bytes.TrimSpace(rest)) > 0 {
		r.t.Errorf("and %s", rest)
	}
	for _, secret := range []string{testSecret, testToken} {
		if bytes.Contains(output, []byte(secret)) || strings.Contains(told, secret) {
			r.t.Error("the credentials were shown")
		}
	}
}

// TestValuesOfAnotherShape: a variable that Lambda does set, with a value
// that it does not give it; more than once; or not at all.
func TestValuesOfAnotherShape(t *testing.T) {
	api := "169.254.100.1:9001"
	good := lambdaEnvironment(api)
	if _, _, err := clean(good); err != nil {
		t.Fatalf("what Lambda sets is refused: %v", err)
	}
	for _, line := range []string{
		"AWS_REGION=us-east-1.evil.example", "AWS_REGION=", "AWS_DEFAULT_REGION=eu-west-1", "AWS_LAMBDA_FUNCTION_VERSION=live", "AWS_LAMBDA_FUNCTION_NAME=a b",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=-1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=1e9", "AWS_LAMBDA_INITIALIZATION_TYPE=snap-start", "AWS_LAMBDA_INITIALIZATION_TYPE=lambda-managed-instances",
		"AWS_ACCESS_KEY_ID=ASIA\r\nX: y", "AWS_SECRET_ACCESS_KEY=short", "AWS_SESSION_TOKEN=", "AWS_SESSION_TOKEN=a b", "GOTRACEBACK=none ", "AWS_ACCESS_KEY=ASIAXXXXXXXXXXXXXXXX",
		"PATH=/tmp", "PATH=.:/bin", "PATH=/usr/../tmp", "PATH=", "PATH=/usr/bin:", "LD_LIBRARY_PATH=/tmp/evil", "LD_LIBRARY_PATH=/lib64:/home", "LD_LIBRARY_PATH=/libevil", "LANG=../../tmp/x",
		"TZ=:/tmp/zone", "LAMBDA_TASK_ROOT=/tmp", "LAMBDA_RUNTIME_DIR=/tmp", "PWD=/tmp", "AWS_EXECUTION_ENV=AWS_Lambda_\nx", "_HANDLER=$(evil)", "AWS_XRAY_DAEMON_ADDRESS=evil.example:2000", "AWS_XRAY_DAEMON_ADDRESS=8.8.8.8:2000",
		"_AWS_XRAY_DAEMON_ADDRESS=10.0.0.1", "AWS_LAMBDA_METADATA_API=evil.example:9001", "AWS_LAMBDA_LOG_LEVEL=all",
		"AWS_LAMBDA_RUNTIME_API=evil.example:9001", "AWS_LAMBDA_RUNTIME_API=localhost:9001", "AWS_LAMBDA_RUNTIME_API=10.0.0.1:9001", "AWS_LAMBDA_RUNTIME_API=169.253.1.1:9001", "AWS_LAMBDA_RUNTIME_API=[::1]:9001",
		"AWS_LAMBDA_RUNTIME_API=127.0.0.1", "AWS_LAMBDA_RUNTIME_API=127.0.0.1:0", "AWS_LAMBDA_RUNTIME_API=127.0.0.1:09001", "AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001/x", "AWS_LAMBDA_RUNTIME_API=u@127.0.0.1:9001",
		"AWS_LAMBDA_RUNTIME_API=0.0.0.0:9001", "AWS_LAMBDA_RUNTIME_API=[::ffff:127.0.0.1]:9001", "AWS_LAMBDA_RUNTIME_API=2130706433:9001", "AWS_LAMBDA_RUNTIME_API=http://127.0.0.1:9001",
	} {
		name, value, _ := strings.Cut(line, "=")
		_, _, err := clean(with(good, line))
		if !errors.Is(err, errEnvironment) || !strings.Contains(err.Error(), name) || len(err.Error()) > 400 {
			t.Errorf("%q: %v", line, err)
		}
		if err != nil && len(value) > 6 && strings.Contains(err.Error(), value) {
			t.Errorf("%q: the value is shown, which may be a secret: %v", line, err)
		}
	}
	for _, line := range good {
		if _, _, err := clean(append(slices.Clone(good), line)); !errors.Is(err, errEnvironment) || !strings.Contains(err.Error(), "twice") {
			t.Errorf("%q twice: %v", line, err)
		}
	}
	for _, v := range variables {
		_, _, err := clean(without(good, v.name))
		if missing := errors.Is(err, errEnvironment); missing != (v.fate == kept) || err != nil && !missing {
			t.Errorf("without %s: %v", v.name, err)
		}
	}
	for _, line := range []string{"GOTRACEBACK=none", "PWD=/var/task", "SHLVL=0", "AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_LAMBDA_LOG_LEVEL=INFO", "AWS_LAMBDA_FUNCTION_VERSION=$LATEST", "AWS_LAMBDA_INITIALIZATION_TYPE=provisioned-concurrency",
		"AWS_EXECUTION_ENV=AWS_Lambda_provided.al2023", "TZ=UTC", "AWS_ACCESS_KEY=ASIAIOSFODNN7EXAMPLE", "_X_AMZN_TRACE_ID=Root=1-5e1b4151-5ac6c58f3375aa3c7c6b73c9;Parent=53995c3f42cd8ad8;Sampled=1", "PATH=/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin", "_LAMBDA_TELEMETRY_LOG_FD=3"} {
		if _, _, err := clean(with(good, line)); err != nil {
			t.Errorf("%q, which Lambda may set: %v", line, err)
		}
	}
}

// FuzzClean: a clean environment is its own clean environment, in one form
// whatever order it came in, and holds nothing but what is kept. So the
// program starts itself again once at most.
func FuzzClean(f *testing.F) {
	for _, seed := range cleanSeeds() {
		f.Add(strings.Join(seed, "\x00"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		environ := strings.Split(text, "\x00")
		_, cleaned, err := clean(environ)
		if err != nil {
			if !errors.Is(err, errEnvironment) || len(err.Error()) > 1000 {
				t.Fatalf("%v", err)
			}
			return
		}
		_, again, err := clean(cleaned)
		if err != nil || !slices.Equal(again, cleaned) {
			t.Fatalf("%q becomes %q, %v", cleaned, again, err)
		}
		slices.Reverse(environ)
		if _, other, err := clean(environ); err != nil || !slices.Equal(other, cleaned) {
			t.Fatalf("in another order it becomes %q, %v", other, err)
		}
		keeps := slices.DeleteFunc(slices.Clone(variables), func(v variable) bool { return v.fate == dropped })
		if len(cleaned) != len(keeps) {
			t.Fatalf("%d variables, %d are kept", len(cleaned), len(keeps))
		}
		for i, line := range cleaned {
			if !strings.HasPrefix(line, keeps[i].name+"=") || line != "GOTRACEBACK=none" && !slices.Contains(environ, line) {
				t.Fatalf("%q became %q", environ, line)
			}
		}
	})
}

func cleanSeeds() [][]string {
	good := lambdaEnvironment("169.254.100.1:9001")
	_, cleaned, _ := clean(good)
	return [][]string{good, cleaned, with(cleaned, "PWD=/var/task"), with(good, "GODEBUG=x"), {""}, nil}
}

func TestCleanSeeds(t *testing.T) {
	good := 0
	for _, seed := range cleanSeeds() {
		if _, _, err := clean(seed); err == nil {
			good++
		}
	}
	if good != 3 {
		t.Errorf("%d seeds are of a good environment, want 3", good)
	}
}

// TestRuntimeAddressOfOthers: an address that is not the Runtime API's is
// neither used nor told anything.
func TestRuntimeAddressOfOthers(t *testing.T) {
	to, touched := trap(t)
	_, port, err := net.SplitHostPort(to)
	must(t, err)
	program := packaged(t, map[string]string{config.GeneratorFile: awsSettings})
	for name, environ := range map[string][]string{
		"a name":        with(lambdaEnvironment(""), "AWS_LAMBDA_RUNTIME_API=localhost:"+port),
		"every address": with(lambdaEnvironment(""), "AWS_LAMBDA_RUNTIME_API=0.0.0.0:"+port),
		"two":           append(with(lambdaEnvironment(""), "AWS_LAMBDA_RUNTIME_API="+to), "AWS_LAMBDA_RUNTIME_API="+to),
		"none":          without(lambdaEnvironment(""), "AWS_LAMBDA_RUNTIME_API"),
		"two, of one":   append(lambdaEnvironment(to), "AWS_LAMBDA_RUNTIME_API=169.254.100.1:9001"),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuntime(t)
			if told := r.run("", program, environ); told != "" {
				t.Errorf("somebody was told %q", told)
			}
			if output := string(r.output.bytes()); !strings.Contains(output, "AWS_LAMBDA_RUNTIME_API") && !strings.Contains(output, "started by stakeseal, not by hand") || strings.Contains(output, testSecret) {
				t.Errorf("it said %s", output)
			}
		})
	}
	if n := touched(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// TestUnusableFunctions: in a good environment, everything else that keeps
// the function from its first call to AWS.
func TestUnusableFunctions(t *testing.T) {
	for name, c := range map[string]struct {
		inOpt, settings string
		environ         []string
		says            string
	}{
		"an extension":   {"extensions", awsSettings, nil, "layer"},
		"a layer":        {"lib", awsSettings, nil, "layer"},
		"$LATEST":        {"", awsSettings, []string{"AWS_LAMBDA_FUNCTION_VERSION=$LATEST"}, "published version"},
		"no settings":    {"", "", nil, config.GeneratorFile},
		"a local store":  {"", strings.Replace(awsSettings, "dynamodb:"+testTable, "sqlite:records.db", 1), nil, `store "sqlite:records.db"`},
		"a local folder": {"", strings.Replace(awsSettings, "s3:"+testBucket, "dir:bundles/", 1), nil, `archive "dir:bundles/"`},
		"a local key":    {"", strings.Replace(awsSettings, "awskms:"+testKey, "file:certifier.key", 1), nil, `certifier "file:certifier.key"`},
		"another region": {"", awsSettings, []string{"AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=eu-west-1"}, "this function in eu-west-1"},
		"another account's key": {"", strings.Replace(awsSettings, testRegion+":"+testAccount+":key", testRegion+":444455556666:key", 1), nil,
			"not in the region and account of the table"},
		"a key elsewhere": {"", strings.Replace(awsSettings, testRegion+":"+testAccount+":key", "eu-west-1:"+testAccount+":key", 1), nil,
			"not in the region and account of the table"},
		"an alias for a key":   {"", strings.Replace(awsSettings, "key/01234567-89ab-cdef-0123-456789abcdef", "alias/certifying", 1), nil, "alias"},
		"an index for a table": {"", strings.Replace(awsSettings, "-records", "-records/index/x", 1), nil, "not of a DynamoDB table"},
		"no bucket":            {"", strings.Replace(awsSettings, testBucket, testTable, 1), nil, "not of an S3 bucket"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{config.GeneratorFile: c.settings, "recipients/signing.txt": testRecipients[0], "recipients/recovery.txt": testRecipients[1]}
			if c.settings == "" {
				delete(files, config.GeneratorFile)
			}
			r := newRuntime(t)
			told := r.run(c.inOpt, packaged(t, files), with(lambdaEnvironment(r.api), c.environ...))
			if !strings.Contains(told, c.says) {
				t.Errorf("the runtime was told %q, which does not say %q", told, c.says)
			}
			r.saidOnce(told)
		})
	}
}

// two recipients whose identities nobody has.
var testRecipients = []string{
	"age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj\n",
	"age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z\n",
}
