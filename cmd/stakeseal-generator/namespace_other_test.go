//go:build !linux

package main

import (
	"errors"
	"syscall"
)

func enterMounts(string) error { return errors.New("there are mount namespaces on Linux only") }

func execProgram(program string, environ []string) error {
	return syscall.Exec(program, []string{program}, environ)
}

func namespaces() (*syscall.SysProcAttr, string) {
	return nil, "the function runs on Linux only: this machine has no mount namespace"
}
