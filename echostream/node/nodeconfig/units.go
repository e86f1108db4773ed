package nodeconfig

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Ports is a range of ports, both ends included.
type Ports struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// String writes the range as a config does: "30000-30009", "40000".
func (p Ports) String() string {
	if p.First == p.Last {
		return strconv.Itoa(p.First)
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

// unit is a kind of quantity that a config writes as text, so that JSON Schema cannot bound it.
type unit struct {
	parse  func(string) (first, last int64, err error) // the error completes "it …"; only a range has two ends
	tidy   func(string) string                         // puts the case right in a text without blanks
	native func(first, last int64) any
	what   string // for people
}

func number(n, _ int64) any { return n }

var units = map[string]unit{
	"x-duration": {parseDuration, tidyDuration, number, "a number with a unit (ms, s, m, h)"},
	"x-size": {func(s string) (int64, int64, error) { n, err := ParseSize(s); return n, n, err }, tidySize, number,
		"a number with a unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)"},
	"x-ports": {parsePorts, strings.ToLower, func(a, b int64) any { return Ports{int(a), int(b)} }, "a port, or the first and the last of a range"},
}

// quantity is a unit with its bounds, as the schema writes them.
type quantity struct {
	unit
	least, most string
	low, high   int64
}

func newQuantity(u unit, bounds any) (*quantity, error) {
	if list, ok := bounds.([]any); ok && len(list) == 2 {
		q := &quantity{unit: u, least: fmt.Sprint(list[0]), most: fmt.Sprint(list[1])}
		var errLow, errHigh error
		q.low, _, errLow = u.parse(q.least)
		q.high, _, errHigh = u.parse(q.most)
		if errors.Join(errLow, errHigh) == nil {
			return q, nil
		}
	}
	return nil, fmt.Errorf("%v: expected a list of the least and the most value", bounds)
}

// native returns a value without fault as a Go type reads it from JSON.
func (q *quantity) native(value any) any {
	first, last, err := q.parse(fmt.Sprint(value))
	if err != nil {
		return value
	}
	return q.unit.native(first, last)
}

// fault says which rule value breaks and what to write instead; nothing if it breaks none.
func (q *quantity) fault(value any, examples []any) (rule, write string) {
	given := fmt.Sprint(value)
	first, last, err := q.parse(given)
	write = fmt.Sprintf("write %s, from %s to %s%s", q.what, q.least, q.most, asIn(",", examples))
	switch {
	case errors.Is(err, errNoUnit):
		for _, u := range []string{"s", "ms", "m", "h"} {
			if n, _, _ := q.parse(given + u); q.low <= n && n <= q.high {
				return "the unit is missing", "write " + either(slices.Compact(append([]any{given + u}, examples[:min(1, len(examples))]...)))
			}
		}
		return "the unit is missing", write
	case err != nil:
		return "it " + err.Error(), write
	case first > last:
		return "the range is reversed", "write " + strconv.Quote(Ports{int(last), int(first)}.String())
	case first < q.low:
		return "it is below " + q.least, write
	case last > q.high:
		return "it is above " + q.most, write
	}
	return "", ""
}

// understood returns the text that means what s means beyond doubt, with its blanks and its case put right; s itself if it is right or has no meaning.
func (q *quantity) understood(s string) string {
	better := q.tidy(strings.Join(strings.Fields(s), ""))
	_, _, err := q.parse(s)
	if _, _, errBetter := q.parse(better); err != nil && errBetter == nil {
		return better
	}
	return s
}

var errNoUnit = errors.New("has no unit")

func parseDuration(s string) (int64, int64, error) {
	d, err := time.ParseDuration(s)
	if _, notNumber := strconv.ParseFloat(s, 64); notNumber == nil {
		return 0, 0, errNoUnit
	}
	if err != nil {
		return 0, 0, errors.New("is not a duration")
	}
	return int64(d), int64(d), nil
}

var durationWords = strings.NewReplacer("milliseconds", "ms", "millisecond", "ms", "msec", "ms", "seconds", "s", "second", "s", "secs", "s", "sec", "s",
	"minutes", "m", "minute", "m", "mins", "m", "min", "m", "hours", "h", "hour", "h", "hrs", "h", "hr", "h")

func tidyDuration(s string) string { return durationWords.Replace(strings.ToLower(s)) }

var sizes = map[string]int64{
	"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// ParseSize reads a number of bytes: "5GB", "1GiB", "1.5 MB", "100". A part of a byte is cut off.
func ParseSize(s string) (int64, error) {
	number := strings.TrimRight(s, "BkKMGTi ")
	factor, ok := sizes[strings.TrimSpace(s[len(number):])]
	// An exponent could ask for more digits than there is memory for.
	v, isNumber := new(big.Rat).SetString(number)
	if !ok || !isNumber || strings.Trim(number, "-.0123456789") != "" || len(number) > 30 {
		return 0, errors.New("is not a size")
	}
	v.Mul(v, new(big.Rat).SetInt64(factor))
	whole := new(big.Int).Quo(v.Num(), v.Denom())
	if v.Sign() < 0 {
		return 0, errors.New("is negative")
	}
	if !whole.IsInt64() {
		return 0, errors.New("is beyond 64 bits")
	}
	return whole.Int64(), nil
}

func tidySize(s string) string {
	number := strings.TrimRight(strings.ToLower(s), "bkmgti")
	for unit := range sizes {
		if unit != "KB" && strings.EqualFold(unit, s[len(number):]) {
			return number + unit
		}
	}
	return s
}

func parsePorts(s string) (int64, int64, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	a, errA := strconv.ParseUint(first, 10, 31)
	b, errB := strconv.ParseUint(last, 10, 31)
	if errA != nil || errB != nil {
		return 0, 0, errors.New("is not a range of ports")
	}
	return int64(a), int64(b), nil
}
