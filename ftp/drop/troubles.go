package drop

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/internal/retry"
)

// troubles is a retry.Trouble for each key, such as a user. It is safe for concurrent use.
type troubles struct {
	mu  sync.Mutex
	all map[string]*retry.Trouble
}

// hit logs a WARN that something is wrong with key, now and then.
func (t *troubles) hit(log *slog.Logger, key, what string, err error, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[string]*retry.Trouble{}
	}
	if t.all[key] == nil {
		t.all[key] = &retry.Trouble{}
	}
	t.all[key].Hit(time.Now(), slog.LevelWarn, what, err, args...).To(log)
}

// over logs that nothing is wrong with key any more, if something was.
func (t *troubles) over(log *slog.Logger, key, what string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if trouble := t.all[key]; trouble != nil {
		trouble.Over(time.Now(), what, args...).To(log)
	}
}

// keys are those with which something was wrong.
func (t *troubles) keys() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Keys(t.all))
}
