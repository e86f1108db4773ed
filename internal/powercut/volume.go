//go:build powercut && linux

package powercut

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Kinds are the file systems that a Volume can have.
func Kinds() []string { return []string{"ext4", "xfs", "btrfs"} }

const (
	poolSize  = 4 << 30   // of the scratch file system; a sparse file
	imageSize = 512 << 20 // of each image: an xfs has 300 MiB at least
)

// mountOptions shorten the time between two commits where that can be told.
var mountOptions = map[string]string{"ext4": "loop,commit=1", "xfs": "loop", "btrfs": "loop,commit=1"}

// Volume is a mounted file system. One goroutine, that of the test, uses it; only Sync may be called by others.
type Volume struct {
	t     testing.TB
	kind  string
	dir   string
	pool  string // the scratch file system with the images
	image string // the one that is mounted
	cut   string // the one that a cut has left
	cuts  int
}

// New makes an empty file system of a kind and mounts it at dir, which must be an empty directory, until the test ends.
func New(t testing.TB, kind, dir string) *Volume {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Fatal("powercut.Main must be the TestMain of the package")
	}
	scratch := t.TempDir()
	v := &Volume{t: t, kind: kind, dir: dir, pool: filepath.Join(scratch, "pool")}
	if err := os.Mkdir(v.pool, 0o700); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(scratch, "disk")
	v.make(disk, "xfs", poolSize)
	v.mount(disk, v.pool, "loop")
	v.image = filepath.Join(v.pool, "0")
	v.make(v.image, kind, imageSize)
	v.mount(v.image, dir, mountOptions[kind])
	return v
}

// Cut keeps the disk as it is at this moment, for Restore. Programs may go on meanwhile; what they do from
// here on has not happened.
func (v *Volume) Cut() {
	v.t.Helper()
	v.cuts++
	v.cut = filepath.Join(v.pool, fmt.Sprint(v.cuts))
	if err := clone(v.image, v.cut); err != nil {
		v.t.Fatalf("cloning the image: %v", err)
	}
}

// Restore mounts what the last Cut has left in place of the file system that was there, which nothing may use any more.
func (v *Volume) Restore() {
	v.t.Helper()
	v.run("umount", v.dir)
	if err := os.Remove(v.image); err != nil {
		v.t.Fatal(err)
	}
	v.image = v.cut
	v.run("mount", "-t", v.kind, "-o", mountOptions[v.kind], v.image, v.dir)
}

// Sync is sync(2) for the volume: it commits all, as any program on a machine may do at any time.
func (v *Volume) Sync() error {
	d, err := os.Open(v.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// make makes a file system in a sparse file.
func (v *Volume) make(image, kind string, size int64) {
	v.t.Helper()
	f, err := os.OpenFile(image, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		err = f.Truncate(size)
		f.Close()
	}
	if err != nil {
		v.t.Fatal(err)
	}
	v.run("mkfs."+kind, "-q", image)
}

// mount mounts an image until the test ends.
func (v *Volume) mount(image, dir, options string) {
	v.t.Helper()
	v.run("mount", "-o", options, image, dir)
	v.t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			v.t.Errorf("unmounting %s: %v", dir, err)
		}
	})
}

func (v *Volume) run(name string, args ...string) {
	v.t.Helper()
	cmd := exec.Command(name, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		v.t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}

// clone makes a copy of a file in one step.
func clone(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlFileClone(int(f.Fd()), int(source.Fd()))
}
