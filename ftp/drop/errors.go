package drop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// The errors that a caller branches on. Beside them an error may wrap fs.ErrNotExist, fs.ErrExist (a file or directory of that name is there),
// syscall.ENOTEMPTY or syscall.ENOTDIR. Any other is trouble with the disk, which may pass. The texts name the file as the client named it and no path of the volume.
//
// The first group passes by itself: the client can try again later. The second one is only of Options.Delivered.
var (
	// ErrFull says that the free-space floor, the spool limit or the file limit is reached, or the disk is full.
	ErrFull = errors.New("no space now, try again later")
	// ErrBusy says that an upload to the name is under way, or that files in the directory are being delivered.
	ErrBusy = errors.New("in use, try again later")

	// ErrNotReady says that nothing can be delivered now. It passes by itself.
	ErrNotReady = errors.New("nothing can be delivered now, try again later")
	// ErrNotDelivered says that the file was not delivered in time. If it is sent again, it is that file that is waited for, if it may be under way.
	ErrNotDelivered = errors.New("not delivered in time, try again")
	// ErrRefused says that no target will ever take the file, or not all of them will.
	ErrRefused = errors.New("refused by a target for good")

	// ErrTooLarge says that the file is larger than Options.MaxSize.
	ErrTooLarge = errors.New("larger than the largest file accepted here")
	// ErrDue says that the file is being delivered and can no longer be changed.
	ErrDue = errors.New("it is being delivered and can no longer be changed")
	// ErrReplaced says that another session has sent the name anew since this one did.
	ErrReplaced = errors.New("another session has sent this name anew")
	// ErrNoPartial says that there is nothing to resume or to append to.
	ErrNoPartial = errors.New("nothing to resume or to append to, send the file from its start")
	// ErrOffset says that Start.Offset lies beyond the end of what is there.
	ErrOffset = errors.New("offset beyond the end of what was received")
	// ErrName says that the name is not accepted: too long, too deep, or with control characters.
	ErrName = errors.New("name not allowed")
	// ErrIncomplete says that the upload holds fewer bytes than were declared, or that the operation needs
	// a finished file and this is an interrupted upload.
	ErrIncomplete = errors.New("upload is not complete")
	// ErrSuperseded says that a newer upload of the same name has taken this one's place.
	ErrSuperseded = errors.New("superseded by a newer upload of the same name")
)

// named says which file of the client err is about, without the path of the volume that the
// disk's errors hold, and makes a full disk ErrFull.
func named(name string, err error) error {
	if err == nil {
		return nil
	}
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	switch {
	case errors.As(err, &pathErr):
		err = pathErr.Err
	case errors.As(err, &linkErr):
		err = linkErr.Err
	}
	switch {
	case isFull(err) && !errors.Is(err, ErrFull):
		err = fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, syscall.EFBIG):
		err = fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return fmt.Errorf("%q: %w", name, err)
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// isForNow reports whether err is about the process or the volume as a whole, and not about one file.
func isForNow(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EROFS} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return isFull(err)
}
