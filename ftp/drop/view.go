package drop

import (
	"cmp"
	"errors"
	"io/fs"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// nameState is what stands at a name.
type nameState struct {
	dir   fs.FileInfo  // a directory; then nothing else
	open  *Upload      // under way
	kept  fs.FileInfo  // an interrupted upload
	entry outbox.Entry // the newest version in the outbox, if there is one
	waits bool         // there is
	found fs.FileInfo  // a file of another program
}

// at returns what stands at p. It is an error if p's directory is not there, all of its path being directories and no symlinks.
func (d *Drop) at(p string) (nameState, error) {
	var here nameState
	switch fi, err := d.lstat(p); {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := d.lstat(path.Dir(p)); err != nil {
			return here, err
		}
	case err != nil:
		return here, err
	case fi.IsDir():
		return nameState{dir: fi}, nil
	case fi.Mode().IsRegular(): // not a symlink, a pipe, ...: these are not shown, not followed and not taken
		here.found = fi
	}
	var err error
	here.open, here.kept, err = d.uploads.at(p)
	here.setEntry(d.box.Lookup(p))
	return here, err
}

// lstat describes what stands at p on the volume. A symlink on the way is like a file there.
func (d *Drop) lstat(p string) (fs.FileInfo, error) {
	fi, err := d.fs.Lstat(path.Join(dropDir, p))
	if errors.Is(err, syscall.ELOOP) {
		err = syscall.ENOTDIR
	}
	return fi, err
}

// setEntry sets the newest version in the outbox, unless its client was told nothing of it, and must not find it as if it had been.
func (s *nameState) setEntry(e outbox.Entry, ok bool) {
	if ok && !e.Tentative {
		s.entry, s.waits = e, true
	}
}

// changeable reports whether there is an entry that is not due.
func (s nameState) changeable() bool { return s.waits && !s.entry.Due }

// held reports whether there is an entry that waits for a real name.
func (s nameState) held() bool { return s.waits && held(s.entry) }

// held reports whether e waits for a real name, and not for the end of a doubt (see Upload.Doubtful).
func held(e outbox.Entry) bool { return !e.Due && e.Yield && e.Until.IsZero() }

// uploading reports whether an upload is under way that is to be seen: a longer version of an entry is not while that one stands.
func (s nameState) uploading() bool {
	return s.open != nil && !(s.changeable() && s.entry.ID == s.open.base)
}

// adds is how many files an upload adds (0 or 1) in the end: not what takes the place of another.
func (s nameState) adds(w Start) int {
	if s.open != nil || s.kept != nil || s.held() || w.continues() && (s.changeable() || s.found != nil) {
		return 0
	}
	return 1
}

// info is what clients see: the upload under way or interrupted, as it is the newest and can be resumed; then what is finished.
func (s nameState) info() fs.FileInfo {
	switch {
	case s.dir != nil:
		return s.dir
	case s.uploading():
		return unfinishedInfo(path.Base(s.open.path), s.open.Size(), s.open.began)
	case s.kept != nil:
		return unfinishedInfo(s.kept.Name(), s.kept.Size(), s.kept.ModTime())
	case s.changeable():
		return entryInfo(s.entry)
	case s.found != nil:
		return s.found
	case s.waits:
		return entryInfo(s.entry)
	}
	return nil
}

// info is a file that clients see and that may stand nowhere under this name. It is small, as a listing may have hundreds of thousands.
type info struct {
	name       string
	size       int64
	mtime      int64 // Unix seconds; listings tell no less
	mode       fs.FileMode
	unfinished bool
}

func (i *info) Name() string       { return i.name }
func (i *info) Size() int64        { return i.size }
func (i *info) Mode() fs.FileMode  { return i.mode }
func (i *info) ModTime() time.Time { return time.Unix(i.mtime, 0) }
func (i *info) IsDir() bool        { return false }
func (i *info) Sys() any           { return nil }

// readOnly is the mode of what its client can no longer change.
const readOnly fs.FileMode = 0o440

func entryInfo(e outbox.Entry) fs.FileInfo {
	mode := filePerm
	if e.Due {
		mode = readOnly
	}
	return &info{path.Base(e.Key), e.Size, e.ModTime.Unix(), mode, false}
}

// unfinishedInfo describes an upload with one byte less than came: see shownSizes.
func unfinishedInfo(name string, size int64, mtime time.Time) fs.FileInfo {
	return &info{name, shownSize(size), mtime.Unix(), filePerm, true}
}

// shownSize is what clients see of an unfinished upload of size bytes.
func shownSize(size int64) int64 { return max(size-1, 0) }

// list lists the directory p. A file goes one way: from the uploads, or from drop, to the outbox. The places are read in that
// order, so that one that moves meanwhile is seen at least once, and shown once.
func (d *Drop) list(p string) ([]fs.FileInfo, error) {
	at := map[string]*nameState{}
	stands := func(name string) *nameState {
		if at[name] == nil {
			at[name] = &nameState{}
		}
		return at[name]
	}
	for _, u := range d.uploads.in(p, false) {
		stands(path.Base(u.path)).open = u
	}
	kept, err := d.uploads.keptIn(p)
	if err != nil {
		return nil, err
	}
	for _, fi := range kept {
		stands(fi.Name()).kept = fi
	}
	fi, err := d.lstat(p)
	if err == nil && !fi.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, err
	}
	entries, err := d.fs.ReadDir(path.Join(dropDir, p))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		fi, err := e.Info()
		switch {
		case err != nil:
		case e.IsDir():
			*stands(e.Name()) = nameState{dir: fi}
		case e.Type().IsRegular():
			stands(e.Name()).found = fi
		}
	}
	var list []fs.FileInfo
	for e := range d.box.List(p) {
		if s := at[path.Base(e.Key)]; s != nil {
			s.setEntry(e, true)
		} else if !e.Tentative {
			list = append(list, entryInfo(e)) // most are nowhere else
		}
	}
	for _, s := range at {
		if fi := s.info(); fi != nil {
			list = append(list, fi)
		}
	}
	slices.SortFunc(list, func(a, b fs.FileInfo) int { return cmp.Compare(a.Name(), b.Name()) })
	return list, nil
}
