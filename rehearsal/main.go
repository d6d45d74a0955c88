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

	"github.com/stakeseal/stakeseal/internal/aws/awstest/stage"
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

// story is one run.
type story struct {
	telling.Teller
	*stage.Stage
	keys []string // of the first order

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
	on, err := stage.Open(dir)
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
	s := &story{source: source, golang: golang, Teller: telling.Teller{Programs: filepath.Dir(self), Home: filepath.Join(dir, "home")}, Stage: on}
	fmt.Printf("stakeseal on AWS, rehearsed: account %s in %s is a simulation in this process; programs, templates and policies are the real ones.\n", world.Account, world.Region)
	for _, chapter := range []func() error{
		s.stacks, s.home, s.release, s.birth, s.generatorCannotOpen, s.redirected, s.crash, s.otherRoles, s.drill,
		s.deposits, s.doctor, s.overwritten, s.drift, s.opened, s.audited, s.searched,
	} {
		if err := chapter(); err != nil {
			_ = on.Close()
			return err
		}
	}
	if err := on.Close(); err != nil {
		return err
	}
	fmt.Printf("\nAll of it as promised, in %.0f seconds. What only a real account can show, and the way there: docs/aws.md\n", time.Since(begun).Seconds())
	return nil
}

// as is the environment of a program that a role runs.
func (s *story) as(role string) []string { return append(s.Environ(role), s.golang...) }

func (s *story) stacks() error {
	s.Heading("An empty account: three stacks go up, and the watch over them.")
	if err := s.Deploy(map[string]map[string]string{"watch": {"InvokeEvents": "on", "TableEvents": "on", "ObjectEvents": "on"}}); err != nil {
		return err
	}
	kinds := map[string]int{}
	for _, r := range s.Stacks.Resources {
		kinds[r.Type]++
	}
	s.Line("%d resources: %d roles, %d KMS keys, %d tables, %d buckets, 1 function", len(s.Stacks.Resources), kinds["AWS::IAM::Role"], kinds["AWS::KMS::Key"], kinds["AWS::DynamoDB::Table"], kinds["AWS::S3::Bucket"])
	s.Line("no key policy allows the account's root; who may open is in the key's own policy and nowhere else")
	return nil
}
