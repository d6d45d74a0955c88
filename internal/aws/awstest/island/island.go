// Package island puts a program on an island: a network namespace that has
// nothing but its own loopback, with its own name server, hosts and certificate
// authorities. Programs started there need no option and no variable to be led
// to test servers, so those that are tested are the ones that are released.
//
// It promises that no packet leaves (there is no interface but lo) and that
// every attempt is seen: all of IPv4 and IPv6 is routed to lo, where a listening
// socket of the kernel's sees each connection's first packet, whatever address
// and port it is for, before connect returns to whoever asked. What goes where
// nobody listens is refused at once.
//
// It trusts the kernel, and the program that it runs: that one is the
// namespace's root and could look into the rest of the machine's files. A unix
// socket in the file system still leads out.
package island

import (
	"fmt"
	"net/netip"
	"os"
)

// Run runs the program on an island and returns its exit code. It starts this
// program's file again, with the same arguments, streams and folder, in new
// namespaces; there Run is reached again and calls program. Signals go on to
// it, and it ends with this process. So Run comes first in main or TestMain.
//
// Started by a user, the program sees itself as root: of this namespace alone.
// Where the kernel does not permit that, program runs where it is, and Why says
// what is missing.
func Run(program func() int) int {
	switch {
	case isTask():
		return runTask()
	case isArrival():
		if err := settle(); err != nil {
			report(err)
			return 1
		}
		report(nil)
		return program()
	}
	code, err := embark()
	if err != nil {
		why = err
		return program()
	}
	return code
}

// Needed says whether a test that has no island fails instead of being skipped:
// with CI=true, where nobody reads what was skipped, unless STAKESEAL_ISLAND is
// optional. CI sets that where it found that the machine permits no namespaces,
// and says so.
func Needed() bool { return os.Getenv("CI") == "true" && os.Getenv("STAKESEAL_ISLAND") != "optional" }

var (
	why     error
	arrived *place
)

// Why returns nil on an island, else what is missing for one.
func Why() error {
	switch {
	case arrived != nil:
		return nil
	case why != nil:
		return why
	}
	return fmt.Errorf("the program was not started by island.Run")
}

// place is the island that this process is on.
type place struct {
	dir      string // holds the files that are bound over those of /etc
	watching *watch
}

// Trust makes the certificate authorities of bundle (PEM) the only ones of the
// island, wherever distributions keep them. Programs read them at their start.
func Trust(bundle []byte) error {
	if err := Why(); err != nil {
		return err
	}
	// Written in place: the file is bound by its inode.
	return os.WriteFile(arrived.dir+"/"+bundleFile, bundle, 0o644)
}

// Attempt is the first packet of a connection, or a datagram.
type Attempt struct {
	Network  string // tcp, udp, icmp, or the number of another protocol
	From, To netip.AddrPort
}

func (a Attempt) String() string { return a.Network + " " + a.To.String() }

// Attempts returns every attempt since the program began, each once for each
// time. An attempt that was answered or refused is among them; lost is how
// many the kernel could not show, which is zero unless it was flooded.
func Attempts() (seen []Attempt, lost int) {
	if arrived == nil {
		return nil, 0
	}
	return arrived.watching.all()
}
