package disktest

import (
	"fmt"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// Kind is what an operation does.
type Kind int

// The kinds of operations. The first ones change the disk; they have an index, and a power cut or a fault
// without a kind can hit them. The last ones can only be made to fail.
const (
	Any      Kind = iota // in a Fault: every operation that changes the disk
	Create               // OpenFile that makes the file
	Write                // File.Write
	Truncate             // File.Truncate, and OpenFile with O_TRUNC of a file that is there
	Sync                 // File.Sync
	Rename               //
	Unlink               // Remove of a file
	Mkdir                //
	Rmdir                // Remove of a directory
	Chtimes              //
	SyncDir              //

	Open    // OpenFile, before anything else
	Read    // File.Read and ReadAt
	Close   // File.Close; the file is closed all the same
	Lstat   // and File.Stat
	ReadDir //
	Free    //
)

var kindNames = [...]string{"any", "create", "write", "truncate", "sync", "rename", "unlink", "mkdir", "rmdir",
	"chtimes", "syncdir", "open", "read", "close", "lstat", "readdir", "free"}

func (k Kind) String() string { return kindNames[k] }

// changes reports whether operations of the kind change the disk.
func (k Kind) changes() bool { return k > Any && k < Open }

// isSync and isMove tell the two kinds of operations apart whose order makes a program safe.
func (k Kind) isSync() bool { return k == Sync || k == SyncDir }
func (k Kind) isMove() bool { return k == Rename || k == Unlink }

// Op is one operation that a program did, or tried to do, on an FS.
type Op struct {
	Index int    // of the operations that change the disk, from 0
	Kind  Kind   //
	Path  string // clean, relative to the top; of an open file: what it was opened as
	To    string // of a Rename
	Off   int64  // of a Write
	Size  int64  // of a Write: its length; of a Truncate: the new size
	Err   error  // what a Fault or a full disk made of it
	Note  string // "dropped" if DropSync hit it

	callers [callDepth]uintptr // of a Sync, SyncDir, Rename or Unlink
}

// String is one readable line, without the place in the source.
func (op Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#%d %s %s", op.Index, op.Kind, op.Path)
	switch op.Kind {
	case Rename:
		fmt.Fprintf(&b, " -> %s", op.To)
	case Write:
		fmt.Fprintf(&b, " [%d:%d]", op.Off, op.Off+op.Size)
	case Truncate:
		fmt.Fprintf(&b, " to %d", op.Size)
	}
	if op.Note != "" {
		fmt.Fprintf(&b, " (%s)", op.Note)
	}
	if op.Err != nil {
		fmt.Fprintf(&b, ": %v", op.Err)
	}
	return b.String()
}

// callDepth reaches from an FS method through disk.WriteFile and disk.Commit to their caller.
const callDepth = 10

func callers() (pcs [callDepth]uintptr) {
	runtime.Callers(3, pcs[:])
	return pcs
}

// Site is a place in the source that syncs, renames or removes: the call nearest to the FS that is outside
// package disk and of this one.
type Site struct {
	Kind Kind
	Func string // like "drop.(*Upload).Commit"
	File string // its base name
	Line int
	Via  string // the function of package disk that was called there, like "disk.Commit"; "" for the FS itself
}

// Site finds the place that did the operation; only a Sync, SyncDir, Rename or Unlink knows it.
func (op Op) Site() Site {
	site := Site{Kind: op.Kind}
	n := 0
	for n < len(op.callers) && op.callers[n] != 0 {
		n++
	}
	if n == 0 {
		return site
	}
	frames := runtime.CallersFrames(op.callers[:n])
	for {
		frame, more := frames.Next()
		dir, name := path.Split(frame.Function)
		pkg, _, _ := strings.Cut(name, ".")
		switch dir + pkg {
		case thisPackage: // the FS, or a helper of it
		case path.Dir(thisPackage):
			site.Via = name
		default:
			site.Func, site.File, site.Line = name, filepath.Base(frame.File), frame.Line
			return site
		}
		if !more {
			return site
		}
	}
}

const thisPackage = "github.com/ftpnode/ftpnode/echostream/disk/disktest"

// Key names the site in a way that outlives other changes of its file: "syncdir in drop.(*Upload).Commit
// via disk.Commit".
func (s Site) Key() string {
	key := fmt.Sprintf("%s in %s", s.Kind, s.Func)
	if s.Via != "" {
		key += " via " + s.Via
	}
	return key
}

func (s Site) String() string { return fmt.Sprintf("%s (%s:%d)", s.Key(), s.File, s.Line) }
