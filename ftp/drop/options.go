package drop

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// Options of a Drop. FS, Outbox and Describe are required.
type Options struct {
	// FS is the volume; the Drop keeps its files below "partial" and "drop" in it.
	FS disk.FS
	// Outbox gets the finished files. It is on the same volume.
	Outbox *outbox.Outbox
	// Describe says in which lane of the outbox a file goes, and what is kept with it. It must give the same lane for the same
	// User and Name.
	Describe func(File) (lane string, meta json.RawMessage)
	// Log gets one line for each thing that an operator may want to know. By default, nothing is logged.
	Log *slog.Logger
	// WatchDir is the path by which the operating system knows the directory "drop" of FS; it is watched with
	// fsnotify. By default, files that other programs put there are found by the rescan only.
	WatchDir string

	// Ignore holds patterns (path.Match) of temporary names: a file whose name, or the name of one of whose
	// directories below the user's, matches is held until it is renamed. In a directory that is no user's (any
	// more), the names of all directories below "drop" count. By default, "*.tmp", "*.part", "*.filepart" and ".*". An
	// empty non-nil slice ignores nothing.
	Ignore []string

	// Delivered, if it is not 0, is for a volume that may go any time: nothing counts as accepted before it is delivered. Commit, and a Rename that
	// ends a temporary name, return nil then, and wait so long for it; there is no Settle. By default, a file is accepted when it is in the outbox.
	Delivered time.Duration
	// Ready says, by an error, why nothing can be delivered now; with Delivered, Create and such a Rename then fail at once. By default, it
	// always can.
	Ready func() error

	// Settle is how long a finished upload is not sent, so that the client can still rename it, set its time or delete it. By default, 1 s; negative: none.
	Settle time.Duration
	// Quiet is how long a file of another program must not have changed before it is taken. By default, 10 s.
	Quiet time.Duration
	// Rescan is how often the whole directory is read, since events get lost. By default, 30 s.
	Rescan time.Duration
	// PartialExpiry is how long an interrupted upload is kept for resuming. By default, 72 h. Until then it counts
	// towards the limits and none is removed to make room for another: what is refused can be sent again, what was received cannot be had back.
	PartialExpiry time.Duration

	// MaxSize is the size of the largest file that is accepted, in bytes. By default, 5,000,000,000; negative: no limit.
	MaxSize int64
	// SpoolLimit bounds the bytes of all files that are being received, or finished and not yet delivered. By default, there is no limit.
	SpoolLimit int64
	// MinFree is how many bytes of the volume are left free. By default, 1,000,000,000; negative: no floor.
	MinFree int64
	// MaxFiles bounds the files below one top directory of "drop" (which is one user's, unless users share it). By default, 1,000,000.
	// Those that were held under a temporary name for longer than PartialExpiry do not count: nothing that was
	// acknowledged is deleted, but it locks nobody out for ever.
	MaxFiles int
	// MaxDirs bounds the directories below a user's own. At it, a new one takes the place of the empty one that was not used for the
	// longest time; only if there is none, it is refused. By default, 10,000.
	MaxDirs int
	// FolderExpiry is how long an empty directory that clients made is kept after its last use. By default, 30 days.
	FolderExpiry time.Duration
	// MaxTotal bounds the files of all directories together, and with them the memory that the volume's contents take. If more are there when
	// the Drop is opened, they are delivered, and uploads are refused until they are fewer. By default, 150,000.
	MaxTotal int
}

// File is what Describe is told.
type File struct {
	User       string     // who sent it, or in whose directory it stands
	Name       string     // path below the user's directory, with "/"
	Received   time.Time  // when it was finished
	RemoteAddr netip.Addr // who sent it; the zero Addr if it was another program
}

// withDefaults returns a copy with the defaults filled in, or an error for each value that cannot be used.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	if o.FS == nil {
		errs = append(errs, errors.New("FS: required"))
	}
	if o.Outbox == nil {
		errs = append(errs, fmt.Errorf("%s: required", "Outbox"))
	}
	if o.Describe == nil {
		errs = append(errs, fmt.Errorf("%s: required", "Describe"))
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Ignore == nil {
		o.Ignore = []string{"*.tmp", "*.part", "*.filepart", ".*"}
	}
	for _, pattern := range o.Ignore {
		if _, err := path.Match(pattern, ""); err != nil {
			errs = append(errs, fmt.Errorf("%s: %q: expected a pattern of path.Match: %w", "Ignore", pattern, err))
		}
	}
	positive := func(field string, d *time.Duration, byDefault time.Duration) {
		if *d == 0 {
			*d = byDefault
		}
		if *d < 0 {
			errs = append(errs, fmt.Errorf("%s: %v: expected a positive duration", field, *d))
		}
	}
	positive("Quiet", &o.Quiet, 10*time.Second)
	positive("Rescan", &o.Rescan, 30*time.Second)
	positive("PartialExpiry", &o.PartialExpiry, 72*time.Hour)
	positive("FolderExpiry", &o.FolderExpiry, 30*24*time.Hour)
	if o.Settle == 0 {
		o.Settle = time.Second
	}
	o.Settle = max(o.Settle, 0)
	if o.Delivered != 0 {
		positive("Delivered", &o.Delivered, 0)
		o.Settle = 0
	}
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	if o.MaxSize == 0 {
		o.MaxSize = 5_000_000_000
	}
	if o.MinFree == 0 {
		o.MinFree = 1_000_000_000
	}
	o.MinFree = max(o.MinFree, 0)
	count := func(field string, n *int, byDefault int) {
		if *n == 0 {
			*n = byDefault
		}
		if *n < 0 {
			errs = append(errs, fmt.Errorf("%s: %d: expected a positive number", field, *n))
		}
	}
	count("MaxFiles", &o.MaxFiles, 1_000_000)
	count("MaxDirs", &o.MaxDirs, 10_000)
	count("MaxTotal", &o.MaxTotal, 150_000)
	return o, errors.Join(errs...)
}
