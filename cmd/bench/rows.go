package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// row is one thing to measure. run measures it once for each contender, in turn.
type row struct {
	name, about string
	run         func(context.Context, *bench, string) error
}

// smallFile is the size of the files that sites send most.
const smallFile = 4 << 10

// rows are in the order in which they are measured. It is filled by init: what they run reports by their names.
var rows []row

func init() {
	rows = []row{
		{"small-1", "4 KiB files over 1 connection, upload only", small(1)},
		{"small-8", "4 KiB files over 8 connections, upload only", small(8)},
		{"small-64", "4 KiB files over 64 connections, upload only", small(64)},
		{"send", "4 KiB files over 8 connections, to the last message of two edges", send},
		{"latency", "from 226 to SQS, an idle node, beyond files.settle", latency},
		{"large", "a large file over 1 connection, upload only", large},
		{"bulk", "the largest file, through bulk storage, with 20 other sessions", bulk},
		{"waiting", "a start with files that wait, in a cgroup of 256 MiB", waiting},
		{"sessions", "500 idle sessions", sessions},
		{"idle", "an idle node", idle},
		{"growth-size", "growth with the size of a file", growthSize},
		{"growth-waiting", "growth with the files that wait", growthWaiting},
		{"growth-sessions", "growth with the sessions that upload", growthSessions},
		{"growth-edges", "growth with the target edges", growthEdges},
	}
}

func rowNames() []string {
	return []string{"small-1", "small-8", "small-64", "send", "latency", "large", "bulk", "waiting", "sessions", "idle",
		"growth-size", "growth-waiting", "growth-sessions", "growth-edges"}
}

// with starts a contender, runs do, and stops it.
func (b *bench) with(ctx context.Context, name string, o setting, do func(*server) error) error {
	s, err := b.start(ctx, name, o)
	if err != nil {
		return err
	}
	defer s.stop()
	return do(s)
}

// small uploads small files, each contender by itself, and runs the bare loop.
func small(connections int) func(context.Context, *bench, string) error {
	return func(ctx context.Context, b *bench, name string) error {
		for _, who := range []string{ours, vsftpd, pure, python} {
			if who != ours && !b.has(who) {
				continue
			}
			if err := b.with(ctx, who, setting{connections: connections}, func(s *server) error {
				done, err := b.load(connections).upload(ctx, s)
				if err != nil {
					return err
				}
				b.noteLoad(name, s, done)
				return listed(ctx, s, len(done.names))
			}); err != nil {
				return err
			}
		}
		if connections > 8 {
			return nil // more workers than 8 are no faster
		}
		return b.bareLoop(ctx, name, connections)
	}
}

func (b *bench) load(connections int) load {
	return load{connections: connections, size: smallFile, files: b.files, limit: b.limit}
}

func (b *bench) noteLoad(name string, s *server, done loaded) {
	n := float64(done.counted)
	b.results.add(name, s.name, rate, n/done.took.Seconds())
	b.results.add(name, s.name, cpu, done.cpu.Seconds()/n)
	b.results.add(name, s.name, clientCPU, done.client.Seconds()/n)
	b.results.add(name, s.name, peakRSS, float64(done.peak))
}

// listed fails unless the server lists that many files.
func listed(ctx context.Context, s *server, want int) error {
	c, err := dial(ctx, s)
	if err != nil {
		return err
	}
	defer c.quit()
	got, err := c.names()
	if err == nil && got != want {
		err = fmt.Errorf("%s lists %d files, %d were acknowledged", s.name, got, want)
	}
	return err
}

// bareLoop is what a crash-safe program cannot do without: write, fsync, rename, fsync of the directory, for each file.
func (b *bench) bareLoop(ctx context.Context, name string, workers int) error {
	dir, err := os.MkdirTemp(b.work, "bare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	parent, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer parent.Close()
	var next atomic.Int64
	var mu sync.Mutex
	var failed error
	var group sync.WaitGroup
	before, began := ownCPU(), time.Now()
	for range workers {
		group.Go(func() {
			for ctx.Err() == nil && time.Since(began) < b.limit {
				n := next.Add(1)
				if n > int64(b.files) {
					return
				}
				if err := bareFile(parent, filepath.Join(dir, fmt.Sprintf("file-%06d.dat", n))); err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	group.Wait()
	took, used := time.Since(began), ownCPU()-before
	files, err := os.ReadDir(dir)
	if err := errors.Join(failed, err, ctx.Err()); err != nil {
		return err
	}
	b.results.add(name, bare, rate, float64(len(files))/took.Seconds())
	b.results.add(name, bare, cpu, used.Seconds()/float64(len(files)))
	return nil
}

func bareFile(parent *os.File, name string) error {
	f, err := os.OpenFile(name+".tmp", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content(name, smallFile)())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(name+".tmp", name), parent.Sync())
}

// arriveTime bounds the wait for the last message.
const arriveTime = 5 * time.Minute

// deliver uploads a load and waits for its last message at the last edge; then all of it is verified.
func (b *bench) deliver(ctx context.Context, l load, s *server) (done loaded, perFile time.Duration, used time.Duration, err error) {
	done, err = l.upload(ctx, s)
	if err != nil {
		return done, 0, 0, err
	}
	arrived, err := s.cloud.ask(ctx, question{Wait: len(done.names), Seconds: arriveTime.Seconds()})
	if err != nil {
		return done, 0, 0, fmt.Errorf("%s: %w", s.name, err)
	}
	now, err := s.cpu()
	if err != nil {
		return done, 0, 0, err
	}
	n := time.Duration(done.counted)
	perFile, used = arrived.Last.Sub(done.began)/n, (now-done.cpuAt)/n
	if _, err = s.cloud.ask(ctx, question{Verify: done.names, Size: l.size}); err != nil {
		err = fmt.Errorf("%s: %w", s.name, err)
	}
	return done, perFile, used, err
}

// send goes all the way.
func send(ctx context.Context, b *bench, name string) error {
	for _, who := range []string{ours, python} {
		if who != ours && !b.has(who) {
			continue
		}
		if err := b.with(ctx, who, setting{connections: 8, targets: 2}, func(s *server) error {
			done, perFile, used, err := b.deliver(ctx, b.load(8), s)
			if err != nil {
				return err
			}
			b.noteLoad(name, s, done)
			b.results.add(name, who, messages, 1/perFile.Seconds())
			b.results.add(name, who, allCPU, used.Seconds())
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// settle is the default of files.settle.
const settle = time.Second

// latency uploads a file now and then, and compares when its 226 was read with when it was at the last edge.
func latency(ctx context.Context, b *bench, name string) error {
	return b.with(ctx, ours, setting{connections: 1, targets: 2}, func(s *server) error {
		c, err := dial(ctx, s)
		if err != nil {
			return err
		}
		defer c.quit()
		replied := map[string]time.Time{}
		for i := range b.samples {
			file := fmt.Sprintf("file-%06d.dat", i)
			if err := c.store(file, content(file, smallFile)); err != nil {
				return err
			}
			replied[file] = time.Now()
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if _, err := s.cloud.ask(ctx, question{Wait: b.samples, Seconds: 60}); err != nil {
			return err
		}
		a, err := s.cloud.ask(ctx, question{Arrivals: true})
		if err != nil {
			return err
		}
		var beyond []float64
		for file, at := range a.Arrivals {
			beyond = append(beyond, max(0, (at.Sub(replied[file])-settle).Seconds()))
		}
		slices.Sort(beyond)
		b.results.add(name, ours, p50, beyond[len(beyond)/2])
		b.results.add(name, ours, p99, beyond[min(len(beyond)-1, len(beyond)*99/100)])
		return nil
	})
}

// large uploads one large file, plain and encrypted, and has dd write one.
func large(ctx context.Context, b *bench, name string) error {
	file := filepath.Join(b.work, "dd.dat")
	began := time.Now()
	mib := max(1, b.options.large>>20)
	err := b.tool(ctx, b.work, "dd", "if=/dev/zero", "of="+file, "bs=1M", fmt.Sprintf("count=%d", mib), "conv=fsync")
	took := time.Since(began)
	if err := errors.Join(err, os.Remove(file)); err != nil {
		return err
	}
	b.results.add(name, dd, bandwidth, float64(mib<<20)/took.Seconds())
	for _, who := range []string{ours, vsftpd} {
		if who != ours && !b.has(who) {
			continue
		}
		for _, encrypted := range []bool{false, true} {
			label := who
			if encrypted {
				label += " TLS"
			}
			if err := b.with(ctx, who, setting{connections: 1, tls: encrypted}, func(s *server) error {
				took, used, err := largeFile(ctx, s, b.options.large)
				if err != nil {
					return err
				}
				b.results.add(name, label, bandwidth, float64(b.options.large)/took.Seconds())
				b.results.add(name, label, cpu, used.Seconds())
				_, peak, err := s.memory()
				b.results.add(name, label, peakRSS, float64(peak))
				return err
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// largeFile uploads one file, and holds its size against what the server says.
func largeFile(ctx context.Context, s *server, size int64) (took, used time.Duration, err error) {
	c, err := dial(ctx, s)
	if err != nil {
		return 0, 0, err
	}
	defer c.quit()
	before, err := s.cpu()
	if err != nil {
		return 0, 0, err
	}
	from := content("large.dat", size)
	began := time.Now()
	if err := c.store("large.dat", from); err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	after, err := s.cpu()
	if err != nil {
		return 0, 0, err
	}
	got, err := c.size("large.dat")
	if err == nil && got != size {
		err = fmt.Errorf("%s has %d bytes of large.dat, %d were acknowledged", s.name, got, size)
	}
	return took, after - before, err
}

// bulk sends the largest file that the node takes by default, while others are logged in.
func bulk(ctx context.Context, b *bench, name string) error {
	return b.with(ctx, ours, setting{connections: 30, targets: 1}, func(s *server) error {
		for range 20 {
			c, err := dial(ctx, s)
			if err != nil {
				return err
			}
			defer c.quit()
		}
		size := b.options.bulk
		read := s.io("rchar")
		began := time.Now()
		took, _, err := largeFile(ctx, s, size)
		if err != nil {
			return err
		}
		wait := 60 + float64(size)/(2<<20) // at 2 MiB a second, which only an emulator on a busy machine needs
		arrived, err := s.cloud.ask(ctx, question{Wait: 1, Seconds: wait})
		if err != nil {
			return err
		}
		used, err := s.cpu()
		if err != nil {
			return err
		}
		b.results.add(name, ours, bandwidth, float64(size)/took.Seconds())
		b.results.add(name, ours, toMessage, arrived.Last.Sub(began).Seconds())
		// What read(2) gave, less what came from the client. Where the client's bytes are moved without being read (splice), this
		// is too low by 1.
		again := float64(s.io("rchar")-read-size) / float64(size)
		b.results.add(name, ours, readAgain, math.Round(again*100)/100) // replies and requests are in it, too
		b.results.add(name, ours, cpu, used.Seconds())
		_, peak, err := s.memory()
		if err != nil {
			return err
		}
		b.results.add(name, ours, peakRSS, float64(peak))
		_, err = s.cloud.ask(ctx, question{Verify: []string{"large.dat"}, Size: size})
		return err
	})
}

// A container of that memory must do for that many waiting files; more have all of the machine's.
const (
	containerMemory = 256 << 20 // bytes
	containerFiles  = 200_000
)

const (
	// fewWaiting is what many are compared with.
	fewWaiting = 100
	// manySent is of how many, at most, the delivery is measured: the first few leave while the node still starts.
	manySent = 2000
)

// anyNumber has the node take more files than it does by default.
var anyNumber = map[string]any{"maxFiles": 10_000_000, "maxTotal": 10_000_000}

// waiting starts the node on volumes with files that wait.
func waiting(ctx context.Context, b *bench, name string) error {
	for _, n := range append([]int{fewWaiting}, b.options.waiting...) {
		memory := int64(containerMemory)
		if n > containerFiles {
			memory = 0
		}
		if err := b.startWith(ctx, name, n, fmt.Sprintf("%s, %d files", ours, n), memory); err != nil {
			return err
		}
	}
	return nil
}

// startWith measures a start with n files that wait, then the listing, the taking and the delivery of some.
func (b *bench) startWith(ctx context.Context, name string, n int, who string, memory int64) error {
	volume, err := b.fill(ctx, n)
	if err != nil {
		return err
	}
	if err := b.with(ctx, ours, setting{connections: 1, volume: volume, memory: memory, files: anyNumber}, func(s *server) error {
		b.results.add(name, who, startSeconds, time.Since(s.started).Seconds())
		c, err := dial(ctx, s)
		if err != nil {
			return err
		}
		defer c.quit()
		began := time.Now()
		got, err := c.names()
		if err != nil {
			return err
		}
		if got < n/2 { // earlier runs have sent a few of many
			return fmt.Errorf("ftpnode lists %d files, %d wait", got, n)
		}
		b.results.add(name, who, listing, time.Since(began).Seconds()/float64(got))
		done, err := load{connections: 1, size: smallFile, files: fewWaiting, limit: b.limit}.upload(ctx, s)
		if err != nil {
			return err
		}
		b.results.add(name, who, taking, done.took.Seconds()/float64(done.counted))
		_, peak, err := s.memory()
		b.results.add(name, who, peakRSS, float64(peak))
		return err
	}); err != nil {
		return err
	}
	return b.with(ctx, ours, setting{connections: 1, volume: volume, memory: memory, targets: 1, countOnly: true}, func(s *server) error {
		sent := min(n, manySent)
		a, err := s.cloud.ask(ctx, question{Wait: sent, Seconds: arriveTime.Seconds()})
		if err != nil {
			return err
		}
		b.results.add(name, who, drain, a.Last.Sub(a.First).Seconds()/float64(sent-1))
		if n >= 20_000 { // it serves again
			return nil
		}
		delete(b.filled, n)
		s.cleanup = append(s.cleanup, func() { _ = os.RemoveAll(volume) })
		return nil
	})
}

// fill makes a volume with n files that wait. What the node makes once for a volume is there, and its outbox is filled as the node fills it with files of
// other programs, but for the sync of each file: that would take minutes.
func (b *bench) fill(ctx context.Context, n int) (string, error) {
	if volume := b.filled[n]; volume != "" {
		return volume, nil
	}
	dir, err := os.MkdirTemp(b.work, "waiting-")
	if err != nil {
		return "", err
	}
	if err := b.with(ctx, ours, setting{connections: 1, volume: dir}, func(*server) error { return nil }); err != nil {
		return "", err
	}
	began := time.Now()
	volume, err := disk.Open(dir)
	if err != nil {
		return "", err
	}
	defer volume.Close()
	box, err := outbox.Open(outbox.Options{FS: volume, Deliverer: struct{ outbox.Deliverer }{}}) // it is asked for nothing without a Run
	if err != nil {
		return "", err
	}
	for first := 0; first < n && err == nil; first += 1000 {
		err = cmp.Or(putWaiting(volume, box, first, min(1000, n-first)), context.Cause(ctx))
	}
	if err := errors.Join(err, box.Close()); err != nil {
		return "", err
	}
	fmt.Fprintf(b.out, "        an outbox was filled with %d files in %.0fs\n", n, time.Since(began).Seconds())
	b.filled[n] = dir
	return dir, nil
}

// putWaiting makes n files and puts them into the outbox.
func putWaiting(volume *disk.OS, box *outbox.Outbox, first, n int) error {
	items := make([]outbox.Item, n)
	for i := range items {
		name := fmt.Sprintf("waits-%06d.dat", first+i)
		items[i] = outbox.Item{Path: "drop/bench/" + name, Name: name, Key: "bench/" + name, Meta: fmt.Appendf(nil, `{"user":"bench","received":%q}`, time.Now().Format(time.RFC3339Nano))}
		f, err := volume.OpenFile(items[i].Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
		if err != nil {
			return err
		}
		if err := errors.Join(disk.WriteAll(f, []byte("waits\n")), f.Close()); err != nil {
			return err
		}
	}
	_, errs := box.Put(context.Background(), items)
	return errors.Join(errs...)
}

// sessions has many log in and do nothing.
func sessions(ctx context.Context, b *bench, name string) error {
	return b.with(ctx, ours, setting{connections: 10, targets: 2}, func(s *server) error {
		for range 500 {
			c, err := dial(ctx, s)
			if err != nil {
				return err
			}
			defer c.close()
		}
		return b.rest(ctx, name, s, 3*time.Second)
	})
}

// idle has nobody log in.
func idle(ctx context.Context, b *bench, name string) error {
	return b.with(ctx, ours, setting{connections: 10, targets: 2}, func(s *server) error {
		// What the start has begun ends meanwhile.
		if err := b.rest(ctx, name, s, b.watch/4); err != nil {
			return err
		}
		before, began := s.switches(), time.Now()
		select {
		case <-time.After(b.watch):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		b.results.add(name, ours, wakeUps, float64(s.switches()-before)/time.Since(began).Seconds())
		return nil
	})
}

// rest waits, and notes the memory.
func (b *bench) rest(ctx context.Context, name string, s *server, d time.Duration) error {
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	now, peak, err := s.memory()
	b.results.add(name, s.name, nowRSS, float64(now))
	b.results.add(name, s.name, peakRSS, float64(peak))
	return err
}
