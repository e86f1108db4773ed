//go:build powercut && linux

package powercut

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// inside is set in the environment of the process that runs the tests.
const inside = "POWERCUT_INSIDE"

// Main is the TestMain of a package that uses volumes. It runs the tests in another process, the first one of a mount and a
// PID namespace: what that has mounted or started ends with it, also when it is killed.
func Main(m *testing.M) {
	if os.Getenv(inside) != "" {
		if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
			fail(fmt.Errorf("mounts cannot be made private: %w", err))
		}
		os.Exit(m.Run())
	}
	if os.Geteuid() != 0 {
		fail(errors.New("power cuts of real file systems take root"))
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
	}
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode())
	default:
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "powercut:", err)
	os.Exit(1)
}
