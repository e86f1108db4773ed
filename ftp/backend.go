package ftp

import (
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"time"
)

// Backend keeps the files of a [Server]. It is safe for concurrent use.
//
// The errors of a Backend and of what it returns decide the client's reply. An [*Error] carries its own. These are told in words of the
// server's: fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, and syscall's ENOTEMPTY, ENOTDIR, EISDIR, ENAMETOOLONG and ELOOP. Any other is
// trouble, which may pass: 451, without its text.
type Backend interface {
	// Login begins a session of one of [Options].Users, whose password was right.
	Login(user string, remote netip.Addr) (Session, error)
}

// Session is what one client that has logged in sees and does. Names are absolute and clean, with "/" as FTP has them: "/" is
// the user's own directory, and "/a/b.csv" a file. They are bytes in any encoding. One goroutine uses a Session at a time, but for the
// methods of what it opened.
type Session interface {
	// Stat describes a file or directory, also a file that is being uploaded or was interrupted: REST goes by its size.
	Stat(name string) (fs.FileInfo, error)
	// ReadDir lists a directory, in the order in which clients read it. The server may change the slice.
	ReadDir(name string) ([]fs.FileInfo, error)
	// Chdir says in which directory the client stands from now on. It fails if there is none of that name.
	Chdir(name string) error

	// Open opens a finished file for reading (RETR).
	Open(name string) (io.ReadSeekCloser, error)
	// Create begins an upload (STOR, APPE, STOU).
	Create(name string, how Start) (Upload, error)

	Remove(name string) error     // DELE: a file
	Rename(from, to string) error // RNFR and RNTO
	Mkdir(name string) error
	RemoveDir(name string) error // an empty one
	// Chtimes sets the modification time (MFMT and its like).
	Chtimes(name string, modified time.Time) error

	// Close ends the session. Its uploads have ended by then, though their verdicts (see Upload) may still come.
	Close()
}

// Counter is a [Session] that knows how many files its longest listing can have. Long listings take turns, since each is in memory until its
// client has read it. Those of other sessions do not.
type Counter interface{ Files() int }

// Start says how an upload begins.
type Start struct {
	Offset   int64 // of its first byte in the file (REST), at most at the end of what is there: that is continued
	Append   bool  // at the end of what is there (APPE), which is something
	Declared int64 // a file with fewer bytes than these is not complete (ALLO); 0: nothing is known
	// Confirm says by an error that the client has gone, or has aborted the upload. A Commit that waits for something asks it
	// when it has waited; its error is then Commit's.
	Confirm func() error
}

// Upload is a file that is being received: Writes, then either Interrupt or Commit.
//
// After a Commit that returned nil, the server sends the 226, and then one of Read, Interrupted and Doubtful is called, once, by any
// goroutine: whether the client has read it.
type Upload interface {
	io.Writer
	// Size is how many bytes the file has by now, with those that were there before.
	Size() int64
	// Commit makes the file durable: when it returns nil, the client is told that it has arrived. After an error the upload has ended as by Interrupt.
	Commit() error
	// Temporary reports whether the name is one that the client is expected to change.
	Temporary() bool
	// Interrupt ends the upload unfinished. What was received is kept for resuming, if that is possible.
	Interrupt(reason error) error

	// Read says that the client has read the 226.
	Read()
	// Interrupted says that it cannot have read it: the upload proves to be unfinished.
	Interrupted(reason string)
	// Doubtful says that nothing tells whether it has.
	Doubtful(reason string)
}

// Error is an error with the reply that the client gets.
type Error struct {
	Code int    // 4xx: the client is to try again; 5xx: it is not
	Text string // of one line, a sentence. That of a 550 follows what failed: "Delete operation failed: ..."
	Err  error  // what happened, for the log; nil if Text says it all
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return fmt.Sprintf("%d %s", e.Code, e.Text)
}

func (e *Error) Unwrap() error { return e.Err }
