package disktest

import (
	"path"
	"strings"
	"syscall"
)

// Fault makes operations fail.
type Fault struct {
	// Kind of the operations. By default, Any: each that changes the disk.
	Kind Kind
	// Path of the operations, for a Rename the old or the new one: a pattern of path.Match, or a directory and
	// "/..." for all below it. By default, any.
	Path string
	// Nth of these operations fails, counted from 1 when the fault is injected. By default, the first.
	Nth int
	// Forever lets all later ones fail too, until Heal.
	Forever bool
	// Err is the errno. By default, syscall.EIO.
	Err error
	// Short lets a Write that fails first write the half of its bytes.
	Short bool
	// Done lets the operation be done all the same, except a Write or Sync: only the answer is an error.
	Done bool

	seen int
}

// Inject adds a fault. Of several that hit an operation the first one counts.
func (f *FS) Inject(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault.seen = 0
	f.faults = append(f.faults, &fault)
}

// Heal takes all faults away.
func (f *FS) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

// fault finds the fault that hits op. mu is held.
func (f *FS) fault(op *Op) (hit *Fault) {
	for _, fault := range f.faults {
		if fault.hits(op) && hit == nil {
			hit = fault
		}
	}
	return hit
}

func (f *Fault) hits(op *Op) bool {
	if f.Kind != op.Kind && (f.Kind != Any || !op.Kind.changes()) {
		return false
	}
	if f.Path != "" && !matches(f.Path, op.Path) && (op.Kind != Rename || !matches(f.Path, op.To)) {
		return false
	}
	f.seen++
	nth := max(f.Nth, 1)
	return f.seen == nth || f.Forever && f.seen > nth
}

func (f *Fault) err() error {
	if f.Err == nil {
		return syscall.EIO
	}
	return f.Err
}

func matches(pattern, name string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return strings.HasPrefix(name, dir+"/")
	}
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}
