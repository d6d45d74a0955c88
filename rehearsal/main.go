// Command rehearsal plays the whole story on AWS on one machine, without an
// account: the templates of infra/ are put up in a world that judges every
// call by their policies, and the released programs meet it under AWS's own
// names. Each person of the story has that person's role and nothing else. It
// is run by make rehearsal and prints only what it saw.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/telling"
)

func main() { os.Exit(world.Run(rehearse)) }

func rehearse() int {
	if err := tell(); err != nil {
		fmt.Fprintf(os.Stderr, "\nrehearsal: error: %v\n", err)
		return 1
	}
	return 0
}

const (
	name    = "stakeseal-hoodi"
	address = "0x388C818CA8B9251b393131C08a736A67ccB19297"
)

// story is one run.
type story struct {
	telling.Teller
	dir   string
	world *world.World
	aws   *stack.Installation
	keys  []string // of the first order

	source   string // the repository that the release is built from
	release1 string // digest of its package
	golang   []string
}

func tell() (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "stakeseal-rehearsal-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	functions := filepath.Join(dir, "functions")
	if err := os.Mkdir(functions, 0o700); err != nil {
		return err
	}
	w, err := world.Open(functions)
	if err != nil {
		return err
	}
	// Modules and objects are where they were for the build of this program:
	// nothing can be fetched in here.
	var golang []string
	for _, name := range []string{"GOMODCACHE", "GOCACHE"} {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			return fmt.Errorf("couldn't ask go for %s: %w", name, err)
		}
		golang = append(golang, name+"="+strings.TrimSpace(string(out)))
	}
	begun := time.Now()
	source, err := os.Getwd()
	if err != nil {
		return err
	}
	s := &story{source: source, golang: golang, Teller: telling.Teller{Programs: filepath.Dir(self), Home: filepath.Join(dir, "home")}, dir: dir, world: w}
	fmt.Printf("stakeseal on AWS, rehearsed: account %s in %s is a simulation in this process; programs, templates and policies are the real ones.\n", world.Account, world.Region)
	for _, chapter := range []func() error{
		s.stacks, s.home, s.release, s.birth, s.generatorCannotOpen, s.redirected, s.crash, s.otherRoles, s.drill,
		s.deposits, s.doctor, s.overwritten, s.drift, s.opened, s.audited, s.searched,
	} {
		if err := chapter(); err != nil {
			w.Close()
			return err
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("the world had problems: %w", err)
	}
	fmt.Printf("\nAll of it as promised, in %.0f seconds. What only a real account can show, and the way there: docs/aws.md\n", time.Since(begun).Seconds())
	return nil
}

// as is the environment of a program that a role runs: its session, and none
// of this process's own variables but the search path.
func (s *story) as(role string) []string {
	return append(append(s.world.Environ(role), s.golang...), "PATH="+os.Getenv("PATH"), "HOME="+s.dir)
}

func (s *story) output(stack, key string) string { return s.aws.Outputs[stack][key] }

func (s *story) stacks() error {
	s.Heading("An empty account: three stacks go up, and the watch over them.")
	inst, err := s.world.Deploy(stack.Options{Name: name, Account: world.Account, Region: world.Region,
		Parameters: map[string]map[string]string{"bootstrap": {}, "foundation": {}, "function": {"Architecture": "x86_64"}, "watch": {"InvokeEvents": "on", "TableEvents": "on", "ObjectEvents": "on"}}})
	if err != nil {
		return err
	}
	s.aws = inst
	kinds := map[string]int{}
	for _, r := range inst.Resources {
		kinds[r.Type]++
	}
	s.Line("%d resources: %d roles, %d KMS keys, %d tables, %d buckets, 1 function", len(inst.Resources), kinds["AWS::IAM::Role"], kinds["AWS::KMS::Key"], kinds["AWS::DynamoDB::Table"], kinds["AWS::S3::Bucket"])
	s.Line("no key policy allows the account's root; who may open is in the key's own policy and nowhere else")
	return nil
}
