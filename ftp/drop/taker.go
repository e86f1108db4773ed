package drop

import (
	"context"
	"iter"
	"net/netip"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// File is a finished file in the drop directory, or one that the Taker has and that is not delivered yet.
type File struct {
	User       string     // the user in whose directory it stands
	Name       string     // path below the user's directory, with "/"
	Path       string     // where it stands on the volume
	Size       int64      // bytes
	ModTime    time.Time  // when it was modified last, as the client set it or as it was finished
	Received   time.Time  // when it was finished
	RemoteAddr netip.Addr // who sent it; the zero Addr if it is not known (after a restart, or another program)
}

// Taker is where finished files go.
type Taker interface {
	// Take moves the files away, by renaming them from their Path, in order, and returns for each an id or an
	// error. A file whose error is nil is the Taker's, durably; one with an error stands where it stood.
	//
	// What is due later waits until an error has passed: the same files come again, first, after a pause. Two kinds
	// of errors do not hold up others: one that is permanent (it has a method Permanent() bool that says true), after
	// which the file is left alone until it changes, and one about a file of another program that is not about
	// the disk as a whole.
	//
	// ctx ends when the Drop's Run is to end.
	Take(ctx context.Context, files []File) (ids []string, errs []error)
	// Waiting lists by id what was taken before and is not delivered yet; User, Name, Size and
	// ModTime are used. It is called once, by Open.
	Waiting() iter.Seq2[string, File]
}

// Opener is a Taker whose files can be read while they wait. Without it clients see them but cannot fetch them.
type Opener interface {
	// Open opens the file with the id for reading; fs.ErrNotExist if it is gone.
	Open(id string) (disk.File, error)
}
