package node

import (
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/redact"
	"github.com/ftpnode/ftpnode/internal/status"
)

// What a bridge tells of its devices, for the status: see Bridge.Devices. A field that is not set is not shown.
type (
	// Devices holds Uploads, Interrupted, Senders and Attempts, lists of the types below; Refuses, why every device is refused; and MinFree,
	// the bytes that must be free on the volume.
	Devices = status.Bridge
	// Upload is what is being received: User, Name, Bytes so far, Since, From (an address).
	Upload = status.Upload
	// Interrupted is an upload that ended early: ID (for Bridge.Accept), User, Name, Bytes, Since.
	Interrupted = status.Interrupted
	// Sender is a user or device that the config names: Name, LastLogin, LastUpload, From (the address of its last log-in).
	Sender = status.Sender
	// Attempt is what a device tried in vain: At, From (its address), User, Tried, Advice, Count. Those of one device that fail alike are one.
	Attempt = status.Attempt
)

// reporter tells how a node does. It is a status.Source.
type reporter[C any] struct {
	life    *life[C]
	version string
	since   time.Time
	recent  status.Recent
	probe   probe

	mu      sync.Mutex // never held while the disk or the cloud is waited for
	config  C
	read    time.Time      // when the definition was read last
	cloud   status.Trouble // since then
	retried time.Time
}

// use notes the config of now.
func (r *reporter[C]) use(config C) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.config = config
}

// got notes that EchoStream has given a definition.
func (r *reporter[C]) got() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read, r.cloud = time.Now(), status.Trouble{}
}

// missed notes that it has not.
func (r *reporter[C]) missed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	since := r.cloud.Since
	if since.IsZero() {
		since = time.Now()
	}
	person, advice := needsPerson(err)
	r.cloud = status.Trouble{Text: err.Error(), Since: since, Person: person, Advice: advice}
}

// gone is told by the outbox.
func (r *reporter[C]) gone(e outbox.Entry, why outbox.Gone) {
	if why == outbox.Delivered {
		f := r.file(e)
		f.Delivered = time.Now()
		r.recent.Add(f)
	}
}

func (r *reporter[C]) file(e outbox.Entry) status.File {
	f := status.File{ID: e.ID, Name: e.Name, Bytes: e.Size, Accepted: e.Accepted}
	if r.life.bridge.Sender != nil {
		f.User = r.life.bridge.Sender(e)
	}
	return f
}

// Report implements status.Source.
func (r *reporter[C]) Report() status.Report {
	report := r.facts()
	r.redact(&report)
	return report
}

// redact blots out what is secret in the texts of errors, as the log does.
func (r *reporter[C]) redact(report *status.Report) {
	texts := []*string{&report.Cloud.Error.Text, &report.Disk.Error.Text, &report.Bridge.Refuses}
	for i := range report.Sources {
		texts = append(texts, &report.Sources[i].Error.Text)
	}
	for i := range report.Targets {
		texts = append(texts, &report.Targets[i].Error.Text)
		if f := report.Targets[i].Oldest; f != nil {
			texts = append(texts, &f.Error)
		}
	}
	for i := range report.Failed {
		texts = append(texts, &report.Failed[i].Reason)
	}
	for _, text := range texts {
		*text = redact.Text(r.life.secrets.Redact(*text))
	}
}

// facts is Report without redact.
func (r *reporter[C]) facts() status.Report {
	l := r.life
	report := status.Report{
		Program: l.bridge.Name, Node: l.Name, Tenant: l.env.Tenant, Version: r.version, Since: r.since, At: time.Now(),
		Acknowledge: "stored", Recent: r.recent.List(), Sent: r.recent.Sent(), Disk: status.Disk{Dir: l.Dir, Error: r.probe.check(l.Volume)},
	}
	switch {
	case l.bridge.Compose == nil:
		report.Acknowledge = ""
	case l.deliverer.waits():
		report.Acknowledge = "delivered"
	}
	r.mu.Lock()
	report.Retried, report.Cloud = r.retried, status.Cloud{Read: r.read, Error: r.cloud}
	r.mu.Unlock()
	if d := l.Definition(); d != nil {
		report.Cloud.Kept, report.Cloud.Stopped = d.Kept, d.Stopped
		if report.Receives = l.bridge.Receive != nil; report.Receives {
			report.Sources = l.received.of(d.Sources)
		}
	}
	r.waiting(&report)
	r.devices(&report)
	if report.Disk.Error.Text == noAnswer {
		return report // without what would wait for the disk, too
	}
	r.failed(&report)
	if free, err := l.Volume.Free(); err == nil {
		report.Disk.Free = int64(free)
		report.Disk.Full = report.Disk.Free < report.Bridge.MinFree
	}
	return report
}

// waiting tells what the outbox holds.
func (r *reporter[C]) waiting(report *status.Report) {
	stats := r.life.Outbox.Stats()
	known := map[string]outbox.TargetStats{}
	for _, t := range stats.Targets {
		known[t.Name] = t
	}
	report.Sends = r.life.bridge.Compose != nil
	report.Waiting = status.Waiting{Files: stats.Entries, Bytes: stats.Bytes, Held: stats.Held}
	for _, name := range r.targets() {
		t := known[name]
		target := status.Target{Name: name, Files: t.Waiting, Bytes: t.Bytes, LastAcknowledged: t.Acknowledged}
		if t.Waiting > 0 {
			f := r.file(t.Oldest)
			f.Attempts, f.Error, f.Next = t.Attempts, t.Error, t.NextTry
			target.Oldest = &f
			target.Error = status.Trouble{Text: t.Error, Person: t.Error != "" && r.life.deliverer.needsPerson(name)}
			if o := report.Waiting.Oldest; o == nil || f.Accepted.Before(o.Accepted) {
				report.Waiting.Oldest = &f
			}
		}
		report.Targets = append(report.Targets, target)
	}
	if report.Waiting.Oldest == nil && stats.Entries > stats.Held { // there is no target, or they wait for their audit
		report.Waiting.Oldest = &status.File{Accepted: stats.Oldest}
		for e := range r.life.Outbox.Entries() {
			if e.Accepted.Equal(stats.Oldest) {
				f := r.file(e)
				report.Waiting.Oldest = &f
				break
			}
		}
	}
}

// targets are those of the definition: the outbox hears of them a little later.
func (r *reporter[C]) targets() (names []string) {
	if d := r.life.Definition(); d != nil {
		for _, edge := range d.Targets {
			names = append(names, edge.Name)
		}
	}
	return names
}

// failed tells what was set aside.
func (r *reporter[C]) failed(report *status.Report) {
	entries, err := r.life.Outbox.Failed()
	if err != nil && report.Disk.Error.Text == "" {
		report.Disk.Error = status.Trouble{Text: err.Error()}
	}
	for _, e := range entries {
		reason := e.Reason
		if e.Error != "" {
			reason += ": " + e.Error
		}
		report.Failed = append(report.Failed, status.Failed{File: r.file(e.Entry), Reason: reason, Since: e.At})
	}
}

// devices tells what the bridge does.
func (r *reporter[C]) devices(report *status.Report) {
	l := r.life
	r.mu.Lock()
	config := r.config
	r.mu.Unlock()
	if l.bridge.Devices != nil && report.Disk.Error.Text != noAnswer {
		report.Bridge = l.bridge.Devices(l.Node, config)
	}
	if why := l.front.refuses(); why != "" {
		report.Bridge.Refuses = why
	}
	if l.listener != nil {
		report.Bridge.Address = l.listener.Addr().String()
	}
}

// Find implements status.Source.
func (r *reporter[C]) Find(text string, limit int) (found []status.File) {
	for e := range r.life.Outbox.Entries() {
		if f := r.file(e); f.Matches(text) {
			found = append(found, f)
		}
		if len(found) == limit {
			break
		}
	}
	return found
}

// Retry implements status.Source.
func (r *reporter[C]) Retry(id string) error {
	err := r.life.Outbox.Retry(id)
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.retried = time.Now()
	}
	return notFound(err, "no failed file has this id; status lists them")
}

// Discard implements status.Source.
func (r *reporter[C]) Discard(id string) error {
	return notFound(r.life.Outbox.Discard(id), "no failed file has this id; status lists them")
}

// Accept implements status.Source.
func (r *reporter[C]) Accept(id string) error {
	if r.life.bridge.Accept == nil {
		return errors.New("nothing can be accepted: an upload that was interrupted is not kept")
	}
	err := r.life.bridge.Accept(r.life.Node, id)
	if err == nil {
		r.life.Log.Info("An interrupted upload is sent as it is: somebody asked for it", "id", id)
	}
	return notFound(err, "no interrupted upload has this id, or it has changed; status lists them")
}

func notFound(err error, text string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New(text)
	}
	return err
}

// needsPerson reports whether only a person can end why the definition cannot be read, and what to look at if the error does not say so.
func needsPerson(err error) (bool, string) {
	switch {
	case errors.Is(err, echostream.ErrAppInactive):
		return true, "whether the node's app still exists and is active"
	case errors.Is(err, echostream.ErrConfiguration):
		return true, "USER_NAME, PASSWORD, CLIENT_ID and USER_POOL_ID"
	case errors.Is(err, echostream.ErrNodeNotFound):
		return true, "NAME (or NODE) and TENANT"
	case errors.Is(err, echostream.ErrInvalidConfig):
		return true, "the config of the tenant, the app and the node"
	}
	return echostream.NeedsOperator(err), ""
}

// probe finds out whether the volume takes writes.
type probe struct {
	mu      sync.Mutex
	running chan struct{} // closed when the last try has ended
	began   time.Time
	result  status.Trouble
}

const (
	probeEvery = 5 * time.Second
	probeWaits = 3 * time.Second // then the disk does not answer
	noAnswer   = "the disk does not answer"
)

// check writes a file, unless that was done just now.
func (p *probe) check(volume disk.FS) status.Trouble {
	p.mu.Lock()
	if p.running == nil || isClosed(p.running) && time.Since(p.began) >= probeEvery {
		p.running, p.began = make(chan struct{}), time.Now()
		go p.write(volume, p.running)
	}
	running, began := p.running, p.began
	p.mu.Unlock()
	timer := time.NewTimer(probeWaits)
	defer timer.Stop()
	select {
	case <-running:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.result
	case <-timer.C:
		return status.Trouble{Text: noAnswer, Since: began, Person: true}
	}
}

func (p *probe) write(volume disk.FS, ended chan struct{}) {
	defer close(ended)
	err := disk.WriteFile(volume, healthFile, []byte("ok\n"), 0o640)
	if err == nil {
		err = volume.Remove(healthFile)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.result = status.Trouble{}
	case p.result.Text == "":
		p.result = status.Trouble{Text: err.Error(), Since: time.Now(), Person: true}
	default:
		p.result.Text = err.Error()
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
