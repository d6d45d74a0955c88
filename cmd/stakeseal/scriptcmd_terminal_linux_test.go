package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

func init() {
	moreCommands = append(moreCommands, map[string]func(ts *testscript.TestScript, neg bool, args []string){"terminal": terminalCommand})
}

// terminalCommand runs a program on a terminal of its own and types a file's
// lines, one at each question: terminal CODE SCREEN ANSWERS PROGRAM ARGS...
// What the screen showed goes to the file SCREEN. A question that ends in
// ": " is answered only when the echo is off, so that an answer on the screen
// was shown by the program.
func terminalCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: terminal CODE SCREEN ANSWERS PROGRAM ARGS...")
	}
	code, err := strconv.Atoi(args[0])
	ts.Check(err)
	answers := strings.SplitAfter(ts.ReadFile(args[2]), "\n")
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	ts.Check(err)
	defer master.Close()
	ts.Check(unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	ts.Check(err)
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	ts.Check(err)

	cmd := exec.Command("env", append([]string{"-C", ts.MkAbs("."), args[3]}, args[4:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "TERM=dumb"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ts.Check(cmd.Start())
	ts.Check(slave.Close())

	var screen bytes.Buffer
	part := make([]byte, 4096)
	for {
		n, err := master.Read(part)
		screen.Write(part[:n])
		if err != nil { // the program has closed its end
			break
		}
		hidden := bytes.HasSuffix(screen.Bytes(), []byte(": "))
		if len(answers) == 0 || !hidden && !bytes.HasSuffix(screen.Bytes(), []byte("[y/N] ")) {
			continue
		}
		for hidden {
			state, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)
			ts.Check(err)
			hidden = state.Lflag&unix.ECHO != 0
		}
		_, err = master.WriteString(answers[0])
		ts.Check(err)
		answers = answers[1:]
	}
	err = cmd.Wait()
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	// Whoever sits there must see again what he types.
	state, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)
	ts.Check(err)
	if state.Lflag&unix.ECHO == 0 {
		ts.Fatalf("the terminal is left without echo")
	}
	text := bytes.ReplaceAll(screen.Bytes(), []byte("\r\n"), []byte("\n"))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), text, 0o600))
	ts.Logf("[screen]\n%s", text)
	if got != code {
		ts.Fatalf("exit code %d, want %d", got, code)
	}
}
