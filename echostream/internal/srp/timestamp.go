package srp

import (
	"fmt"
	"time"
)

// timestampLayout is Java's "EEE MMM d HH:mm:ss z yyyy" in English and UTC: no leading zero on the day, 24-hour clock.
const timestampLayout = "Mon Jan 2 15:04:05 UTC 2006"

// Timestamp formats t as Cognito's TIMESTAMP, for example "Sat Nov 7 16:05:09 UTC 2026".
func Timestamp(t time.Time) string {
	return t.UTC().Format(timestampLayout)
}

// ParseTimestamp reads a TIMESTAMP and refuses, as Cognito does, whatever is not written in the one canonical way:
// a padded day, a wrong weekday, a 12-hour clock that shows by its missing zero, other zones or languages.
func ParseTimestamp(s string) (time.Time, error) {
	t, err := time.Parse(timestampLayout, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("srp: TIMESTAMP %q is not like %q: %w", s, timestampLayout, err)
	}
	if want := Timestamp(t); s != want {
		return time.Time{}, fmt.Errorf("srp: TIMESTAMP %q is not canonical, want %q", s, want)
	}
	return t, nil
}
