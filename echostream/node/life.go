package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/node/nodeconfig"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/redact"
	"github.com/ftpnode/ftpnode/internal/retry"
)

// life puts each definition to work: in the bridge, the deliverer and the log.
type life[C any] struct {
	*Node
	bridge Bridge[C]
	schema *nodeconfig.Schema
	env    echostream.Environment
	level  *slog.LevelVar
	pace   Pace
	front  *front[C]
	report *reporter[C]
	site   *site

	secrets *redact.Secrets // of the log and the status

	inbox    inbox
	received received

	known     chan struct{} // closed with the first definition of EchoStream
	knownOnce sync.Once
	failed    chan struct{} // closed with the first failure to get one
	failOnce  sync.Once

	mu          sync.Mutex             // guards what follows; the goroutines of definitions.run and of start apply definitions
	kept        *echostream.Definition // on the volume
	config      C
	out         bool // EchoStream was out of reach at the last try
	keepTrouble retry.Trouble
}

// start waits for the first definition: EchoStream's, or if that takes too long the one kept on the volume. Without
// either, the bridge refuses, and nothing is taken.
func (l *life[C]) start(ctx context.Context) {
	timer := time.NewTimer(l.pace.Patience)
	defer timer.Stop()
	select {
	case <-l.known:
		return
	case <-l.failed:
	case <-timer.C:
	case <-ctx.Done():
		return
	}
	kept, err := loadDefinition(l.Volume, definitionFile, l.env)
	switch {
	case err == nil:
		l.Log.Warn("EchoStream has not answered yet: the node starts from the definition that it kept, and sends nothing until then")
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.Definition() == nil { // else it has just come
			onVolume := *kept
			onVolume.Kept = false
			l.kept = &onVolume
			l.apply(kept)
		}
		return
	case !errors.Is(err, fs.ErrNotExist):
		l.Log.Warn("the node cannot start from the definition that it kept", "error", err)
	}
	l.Log.Warn("the node does not know its definition yet: it takes nothing new until EchoStream has answered once, and what is finished waits")
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Definition() == nil {
		l.front.use(wanted[C]{config: l.decode(nil, slog.New(slog.DiscardHandler))})
	}
}

// got takes a definition that EchoStream has given.
func (l *life[C]) got(definition *echostream.Definition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	trouble := l.deliverer.trouble.Swap(nil) != nil
	l.report.got()
	if !reflect.DeepEqual(definition, l.kept) {
		if err := saveDefinition(l.Volume, definitionFile, l.env, definition); err != nil {
			l.keepTrouble.Hit(time.Now(), slog.LevelWarn, "the node's definition cannot be kept for a start without EchoStream", err).To(l.Log)
		} else {
			l.kept = definition
			l.keepTrouble.Over(time.Now(), "the node's definition is kept again").To(l.Log)
		}
	}
	changed := !reflect.DeepEqual(definition, l.Definition())
	if changed {
		l.apply(definition)
	}
	l.inbox.offer(definition)
	if changed || l.out || trouble && l.deliverer.waits() {
		l.Outbox.Wake()
	}
	l.out = false
	l.knownOnce.Do(func() { close(l.known) })
}

// idle reports whether the node has nothing to do by a definition.
func (l *life[C]) idle(d *echostream.Definition) bool {
	return d.Stopped || l.bridge.Compose != nil && len(d.Targets) == 0 || l.bridge.Receive != nil && len(d.Sources) == 0
}

// missed notes that EchoStream has not given a definition.
func (l *life[C]) missed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = true
	l.deliverer.trouble.Store(&err)
	l.report.missed(err)
	l.failOnce.Do(func() { close(l.failed) })
}

// apply puts a definition to work. l.mu is held.
func (l *life[C]) apply(definition *echostream.Definition) {
	before := l.definition.Swap(definition)
	level := slog.LevelInfo
	if definition.LoggingLevel != nil {
		level = *definition.LoggingLevel
	}
	l.level.Set(level)
	configured := before == nil || !bytes.Equal(before.Config, definition.Config)
	if configured {
		l.config = l.decode(definition.Config, l.Log)
	}
	if l.bridge.Compose != nil && (configured || !reflect.DeepEqual(before.SendMessageType, definition.SendMessageType)) {
		l.compareSample(definition.SendMessageType)
	}
	if configured || before.Managed != definition.Managed || !reflect.DeepEqual(before.Mounts, definition.Mounts) {
		l.storage.check(definition, l.Dir, l.Log)
	}
	switch wasStopped := before != nil && before.Stopped; {
	case definition.Stopped && !wasStopped:
		l.Log.Warn("the node is stopped in EchoStream: what comes in is kept, and nothing is sent until it is started")
	case !definition.Stopped && wasStopped:
		l.Log.Info("the node is started in EchoStream: what waits is sent")
	}
	l.deliverer.state.Store(&delivery{
		definition: definition, messageType: l.bridge.MessageType, composer: composerOf(l.bridge, l.Node, l.config),
		waits: l.bridge.Waits != nil && l.bridge.Waits(l.Node, l.config),
	})
	l.report.use(l.config)
	if l.bridge.Page != nil {
		l.site.use(l.bridge.Page(l.config))
	}
	l.front.use(wanted[C]{known: true, config: l.config, ports: publicPorts(definition.Ports)})
}

// decode reads a merged config, nil for none, and logs what is wrong with it.
func (l *life[C]) decode(raw json.RawMessage, log *slog.Logger) C {
	config, problems := nodeconfig.Parse(l.schema, raw, l.bridge.Check)
	for _, p := range problems {
		p.Log(log)
	}
	return config
}

// composerOf is the bridge, with a config.
func composerOf[C any](b Bridge[C], n *Node, config C) composer {
	compose := func(ctx context.Context, e outbox.Entry, open func() (disk.File, error)) (Message, error) {
		return b.Compose(ctx, n, config, e, open)
	}
	attributes := func(ctx context.Context, e outbox.Entry, open func() (disk.File, error)) (map[string]any, error) {
		m, err := compose(ctx, e, open)
		return m.Attributes, err
	}
	if b.Attributes != nil {
		attributes = func(ctx context.Context, e outbox.Entry, open func() (disk.File, error)) (map[string]any, error) {
			return b.Attributes(ctx, n, config, e, open)
		}
	}
	return composer{compose, attributes}
}

// keyOf is the bridge's KeyOf, by the definition that was kept on the volume.
func (l *life[C]) keyOf() func(outbox.Entry) string {
	if l.bridge.KeyOf == nil {
		return nil
	}
	var raw json.RawMessage
	definition, err := loadDefinition(l.Volume, definitionFile, l.env)
	switch {
	case err == nil:
		raw = definition.Config
	case !errors.Is(err, fs.ErrNotExist):
		l.Log.Warn("the kept definition cannot be read: what waits may not be shown to those who sent it", "error", err)
	}
	config := l.decode(raw, slog.New(slog.DiscardHandler))
	return func(e outbox.Entry) string { return l.bridge.KeyOf(l.Log, config, e) }
}
