package process

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// swap puts null at fd and returns what was there under a new descriptor that
// children do not inherit.
func swap(fd int, null *os.File) (*os.File, error) {
	kept, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 10)
	if err != nil {
		return nil, fmt.Errorf("couldn't silence crashes: %w", err)
	}
	if err := dup(int(null.Fd()), fd); err != nil {
		return nil, fmt.Errorf("couldn't silence crashes: %w", err)
	}
	return os.NewFile(uintptr(kept), fmt.Sprintf("/dev/fd/%d", fd)), nil
}
