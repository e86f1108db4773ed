package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// point is the label of a growth row's contender: ours, at that x.
func point(x int64) string { return strconv.FormatInt(x, 10) }

// points gives the values of x: powers, with quick only the first few.
func (b *bench) points(first, factor int64, n, quick int) (xs []int64) {
	if b.quick {
		n = quick
	}
	for x := first; len(xs) < n; x *= factor {
		xs = append(xs, x)
	}
	return xs
}

func (b *bench) notePoint(name string, x int64, s *server, seconds float64) error {
	_, peak, err := s.memory()
	b.results.add(name, point(x), growthTime, seconds)
	b.results.add(name, point(x), growthMemory, float64(peak))
	return err
}

// growthSize: the time until the 226.
func growthSize(ctx context.Context, b *bench, name string) error {
	for _, size := range b.points(1<<10, 16, 6, 3) {
		if err := b.with(ctx, ours, setting{connections: 1}, func(s *server) error {
			if _, _, err := largeFile(ctx, s, size); err != nil { // the first pays for what is made once
				return err
			}
			took, _, err := largeFile(ctx, s, size)
			if err != nil {
				return err
			}
			return b.notePoint(name, size, s, took.Seconds())
		}); err != nil {
			return err
		}
	}
	return nil
}

// growthWaiting: the time of a start.
func growthWaiting(ctx context.Context, b *bench, name string) error {
	for _, n := range b.points(100, 10, 4, 2) {
		volume, err := b.fill(ctx, int(n))
		if err != nil {
			return err
		}
		if err := b.with(ctx, ours, setting{connections: 1, volume: volume}, func(s *server) error {
			return b.notePoint(name, n, s, time.Since(s.started).Seconds())
		}); err != nil {
			return err
		}
	}
	return nil
}

// growthSessions: the time a file while each session uploads small files.
func growthSessions(ctx context.Context, b *bench, name string) error {
	for _, n := range b.points(1, 4, 5, 3) {
		if err := b.with(ctx, ours, setting{connections: int(n)}, func(s *server) error {
			l := b.load(int(n))
			l.limit /= 4
			done, err := l.upload(ctx, s)
			if err != nil {
				return err
			}
			if err := listed(ctx, s, len(done.names)); err != nil {
				return err
			}
			return b.notePoint(name, n, s, done.took.Seconds()/float64(done.counted))
		}); err != nil {
			return err
		}
	}
	return nil
}

// growthEdges: the time a file until it is at all edges.
func growthEdges(ctx context.Context, b *bench, name string) error {
	for _, n := range b.points(1, 2, 5, 3) {
		if err := b.with(ctx, ours, setting{connections: 8, targets: int(n)}, func(s *server) error {
			l := b.load(8)
			l.limit /= 4
			_, perFile, _, err := b.deliver(ctx, l, s)
			if err != nil {
				return err
			}
			return b.notePoint(name, n, s, perFile.Seconds())
		}); err != nil {
			return err
		}
	}
	return nil
}

// growthPanels are the pictures of those rows that were measured.
func (b *bench) growthPanels() (panels []panel) {
	for _, g := range []struct {
		row, title, x, time string
	}{
		{"growth-size", "Size of a file", "bytes", "until its 226"},
		{"growth-waiting", "Files that wait", "files", "a start"},
		{"growth-sessions", "Sessions that upload 4 KiB files", "sessions", "a file"},
		{"growth-edges", "Target edges of 4 KiB files", "edges", "a file, to its last edge"},
	} {
		p := panel{title: g.title, xUnit: g.x, timeOf: g.time, xLabel: growthLabel(g.row)}
		for _, who := range b.results.contenders(g.row) {
			x, err := strconv.ParseFloat(who, 64)
			seconds, ok := b.results.median(g.row, who, growthTime)
			if memory, has := b.results.median(g.row, who, growthMemory); err == nil && ok && has {
				p.x, p.seconds, p.bytes = append(p.x, x), append(p.seconds, seconds), append(p.bytes, memory)
			}
		}
		if len(p.x) > 0 {
			panels = append(panels, p)
		}
	}
	return panels
}

// growthLabel writes a value of a growth row's x.
func growthLabel(row string) func(float64) string {
	if row == "growth-size" {
		return byteText
	}
	return countText
}

func byteText(n float64) string {
	for _, unit := range []string{"B", "KiB", "MiB"} {
		if n < 1024 {
			return fmt.Sprintf("%.4g %s", n, unit)
		}
		n /= 1024
	}
	return fmt.Sprintf("%.4g GiB", n)
}

func countText(n float64) string {
	if n >= 1000 {
		return fmt.Sprintf("%.4gk", n/1000)
	}
	return fmt.Sprintf("%.4g", n)
}

func secondsText(s float64) string {
	switch {
	case s >= 1:
		return fmt.Sprintf("%.3g s", s)
	case s >= 1e-3:
		return fmt.Sprintf("%.3g ms", s*1e3)
	}
	return fmt.Sprintf("%.3g µs", s*1e6)
}
