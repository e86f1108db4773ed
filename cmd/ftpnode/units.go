package main

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that the config writes as text: "90s", "1h30m".
type Duration time.Duration

// UnmarshalJSON reads what the schema's pattern lets through.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	*d = Duration(v)
	return err
}

// MarshalJSON writes it as the config does.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// Size is a number of bytes, in the config a number or text with a unit: 1048576, "5GB", "1.5 GiB".
type Size int64

// UnmarshalJSON reads what the schema's pattern lets through.
func (s *Size) UnmarshalJSON(b []byte) error {
	text := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
	}
	v, err := parseSize(text)
	*s = Size(v)
	return err
}

// parseSize reads "5GB", "1GiB", "1.5 MB", "100". A part of a byte is cut off.
func parseSize(s string) (int64, error) {
	number := strings.TrimRight(s, "BkKMGTi ")
	factor, ok := map[string]int64{
		"": 1, "B": 1,
		"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}[strings.TrimSpace(s[len(number):])]
	// An exponent could ask for more digits than there is memory for.
	v, isNumber := new(big.Rat).SetString(number)
	if !ok || !isNumber || strings.ContainsAny(number, "eE/_xX") || len(number) > 30 {
		return 0, fmt.Errorf("%q is not a size", s)
	}
	v.Mul(v, new(big.Rat).SetInt64(factor))
	whole := new(big.Int).Quo(v.Num(), v.Denom())
	if whole.Sign() < 0 || !whole.IsInt64() {
		return 0, fmt.Errorf("%q is not a size that fits 64 bits", s)
	}
	return whole.Int64(), nil
}

// Ports is a range of ports, both ends included; the config writes "30000-30009" or "30000".
type Ports struct{ First, Last int }

// UnmarshalJSON reads what the schema's pattern lets through.
func (p *Ports) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := parsePorts(s)
	*p = v
	return err
}

// MarshalJSON writes it as the config does.
func (p Ports) MarshalJSON() ([]byte, error) {
	return json.Marshal(fmt.Sprintf("%d-%d", p.First, p.Last))
}

func parsePorts(s string) (Ports, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(last)
	if errA != nil || errB != nil || a < 1024 || b > 65535 || a > b {
		return Ports{}, fmt.Errorf("%q is not a range of ports between 1024 and 65535", s)
	}
	return Ports{First: a, Last: b}, nil
}
