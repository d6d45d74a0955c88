// Package stage is an installation in a world, for the programs that play on
// it: the rehearsal and the measurement of costs. They meet it as people do,
// with a role's session and the command line.
//
// It promises what package world promises, and that Close returns the problems
// which the world had.
package stage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/stakeseal/stakeseal/infra/stack"
	"github.com/stakeseal/stakeseal/internal/aws/awstest/world"
	"github.com/stakeseal/stakeseal/internal/aws/session"
)

// Name is the installation's, Address what its validators pay to.
const (
	Name    = "stakeseal-hoodi"
	Address = "0x388C818CA8B9251b393131C08a736A67ccB19297"
)

// Stage is a world and what stands in it.
type Stage struct {
	World  *world.World
	Stacks *stack.Installation
	Dir    string // for files that the programs hand on
}

// Open opens a world for functions in a folder below dir.
func Open(dir string) (*Stage, error) {
	functions := filepath.Join(dir, "functions")
	if err := os.Mkdir(functions, 0o700); err != nil {
		return nil, err
	}
	w, err := world.Open(functions)
	if err != nil {
		return nil, err
	}
	return &Stage{World: w, Dir: dir}, nil
}

// Close ends the world.
func (s *Stage) Close() error {
	if err := s.World.Close(); err != nil {
		return fmt.Errorf("the world had problems: %w", err)
	}
	return nil
}

// Deploy puts the three stacks up for functions of this machine's kind, and
// with parameters those that are optional.
func (s *Stage) Deploy(optional map[string]map[string]string) (err error) {
	parameters := map[string]map[string]string{"bootstrap": {}, "foundation": {}, "function": {"Architecture": "x86_64"}}
	for name, given := range optional {
		parameters[name] = given
	}
	s.Stacks, err = s.World.Deploy(stack.Options{Name: Name, Account: world.Account, Region: world.Region, Parameters: parameters})
	return err
}

// Output is what a stack says of itself.
func (s *Stage) Output(stack, key string) string { return s.Stacks.Outputs[stack][key] }

// Config is for clients of a role in this process.
func (s *Stage) Config(role string) aws.Config {
	return session.New(world.Region, s.World.Credentials(role), session.Options{})
}

// Environ is the environment of a program that a role runs: its session, and
// none of this process's own variables but the search path.
func (s *Stage) Environ(role string) []string {
	return append(s.World.Environ(role), "PATH="+os.Getenv("PATH"), "HOME="+s.Dir)
}

// Init returns the command that makes a home, with the certifying key as the
// auditor reads it.
func (s *Stage) Init() ([]string, error) {
	key, err := kms.NewFromConfig(s.Config("auditor")).GetPublicKey(context.Background(), &kms.GetPublicKeyInput{KeyId: aws.String(s.Output("foundation", "CertifyingKeyArn"))})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the certifying key: %w", err)
	}
	file := filepath.Join(s.Dir, "certifying.der")
	if err := os.WriteFile(file, key.PublicKey, 0o600); err != nil {
		return nil, err
	}
	return []string{"init", "--aws", "--stack", Name + "-foundation", "--region", world.Region, "--network", "hoodi",
		"--withdrawal-address", "cold=" + Address, "--certifying-key", file}, nil
}
