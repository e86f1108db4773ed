package retry

import (
	"errors"
	"log/slog"
)

// What kind of error it is says a method of it: its package need not be known.

// IsPermanent reports whether an error in err's chain has a method Permanent() bool that says true: trying again is of no use.
func IsPermanent(err error) bool {
	var e interface{ Permanent() bool }
	return errors.As(err, &e) && e.Permanent()
}

// NeedsOperator reports whether an error in err's chain has a method Operator() bool that says true: it comes again until a person
// changes something.
func NeedsOperator(err error) bool {
	var e interface{ Operator() bool }
	return errors.As(err, &e) && e.Operator()
}

// IsUnknown reports whether an error in err's chain has a method Unknown() bool that says true: what failed may have been done all the same.
func IsUnknown(err error) bool {
	var e interface{ Unknown() bool }
	return errors.As(err, &e) && e.Unknown()
}

// IsStale reports whether an error in err's chain has a method Stale() bool that says true: what was made ready must be made anew.
func IsStale(err error) bool {
	var e interface{ Stale() bool }
	return errors.As(err, &e) && e.Stale()
}

// LevelOf is how much it matters that err keeps coming: what only a person can end is an ERROR.
func LevelOf(err error) slog.Level {
	if NeedsOperator(err) {
		return slog.LevelError
	}
	return slog.LevelWarn
}
