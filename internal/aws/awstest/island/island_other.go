//go:build !linux

package island

import "errors"

const bundleFile = "bundle.pem"

type watch struct{}

func (*watch) all() ([]Attempt, int) { return nil, 0 }

func isArrival() bool { return false }
func settle() error   { return errLinux }
func report(error)    {}
func isTask() bool    { return false }
func runTask() int    { return 1 }

func embark() (int, error) { return 0, errLinux }

var errLinux = errors.New("network namespaces are Linux's: run it in a Linux machine or container")

// Start starts the task.
func (t Task) Start() (*Process, error) { return nil, errLinux }
