//go:build unix

package identity

import (
	"io/fs"
	"os"
	"syscall"
)

// ours says whether a file belongs to root or to the user who runs this.
func ours(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && (s.Uid == 0 || int(s.Uid) == os.Geteuid())
}
