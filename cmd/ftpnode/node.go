package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/retry"
)

// node puts each definition to work: in the front, the deliverer and the log.
type node struct {
	env       echostream.Environment
	client    *echostream.Client
	volume    disk.FS
	log       *slog.Logger
	level     *slog.LevelVar
	front     *front
	deliverer *deliverer
	outbox    *outbox.Outbox

	known     chan struct{} // closed with the first definition of EchoStream
	knownOnce sync.Once
	failed    chan struct{} // closed with the first failure to get one
	failOnce  sync.Once

	mu          sync.Mutex
	current     *echostream.Definition // put to work
	kept        *echostream.Definition // on the volume
	config      Config
	bulk        *echostream.Bulk
	out         bool // EchoStream was out of reach at the last try
	status      string
	keepTrouble retry.Trouble
	tellTrouble retry.Trouble
}

// newNode makes a node, without its front and its outbox, and what reads its definition.
func newNode(env echostream.Environment, client *echostream.Client, volume disk.FS, log *slog.Logger, level *slog.LevelVar, p pace) (*node, *definitions) {
	n := &node{
		env: env, client: client, volume: volume, log: log, level: level,
		known: make(chan struct{}), failed: make(chan struct{}),
	}
	d := &definitions{read: client.Definition, got: n.got, failed: n.missed, log: log, pace: p, again: make(chan struct{}, 1), hurry: n.hurries}
	n.deliverer = &deliverer{cloud: client, now: client.Now, outdated: d.readAgain, hurry: n.hurries}
	return n, d
}

func (n *node) outboxOptions(p pace) outbox.Options {
	return outbox.Options{
		FS: n.volume, Deliverer: n.deliverer, Log: n.log, Grace: flushTime,
		MinBackoff: p.firstRetry, MaxBackoff: p.slowRetry,
		KeyOf: keyOf(n.volume, n.env, n.log),
	}
}

// start waits for the first definition: EchoStream's, or if that takes too long the one kept on the volume. Without
// either, FTP is up and refuses log-ins, and nothing is claimed.
func (n *node) start(ctx context.Context, patience time.Duration) {
	n.mu.Lock()
	if n.status == "" { // what the last run has left is not true any more
		n.tell("EchoStream has not answered yet")
	}
	n.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-n.known:
		return
	case <-n.failed:
	case <-timer.C:
	case <-ctx.Done():
		return
	}
	kept, err := echostream.LoadDefinition(n.volume, definitionFile, n.env)
	switch {
	case err == nil:
		n.log.Warn("EchoStream has not answered yet: the node starts from the definition that it kept, and sends nothing until then")
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.current == nil { // else it has just come
			onVolume := *kept
			onVolume.Kept = false
			n.kept = &onVolume
			n.apply(kept)
		}
		return
	case !errors.Is(err, fs.ErrNotExist):
		n.log.Warn("the node cannot start from the definition that it kept", "error", err)
	}
	n.log.Warn("the node does not know its definition yet: FTP refuses log-ins until EchoStream has answered once, and finished files wait")
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current == nil {
		config, _ := parseConfig(nil)
		n.front.use(config, nil)
	}
}

// got takes a definition that EchoStream has given.
func (n *node) got(definition *echostream.Definition) {
	n.mu.Lock()
	defer n.mu.Unlock()
	trouble := n.deliverer.trouble.Swap(nil) != nil
	n.tell("EchoStream can be reached")
	if !reflect.DeepEqual(definition, n.kept) {
		if err := echostream.SaveDefinition(n.volume, definitionFile, n.env, definition); err != nil {
			n.keepTrouble.Hit(time.Now(), slog.LevelWarn, "the node's definition cannot be kept for a start without EchoStream", err).To(n.log)
		} else {
			n.kept = definition
			n.keepTrouble.Over(time.Now(), "the node's definition is kept again").To(n.log)
		}
	}
	changed := !reflect.DeepEqual(definition, n.current)
	if changed {
		n.apply(definition)
	}
	if changed || n.out || trouble && n.acknowledges() == delivered {
		n.outbox.Wake()
	}
	n.out = false
	n.knownOnce.Do(func() { close(n.known) })
}

// hurries reports whether clients wait for EchoStream, and cannot be served without it.
func (n *node) hurries() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.acknowledges() == delivered
}

// acknowledges is what a 226 means now. n.mu is held.
func (n *node) acknowledges() string {
	mode, _ := n.front.storage.acknowledge(n.config.Files.Acknowledge)
	return mode
}

// missed notes that EchoStream has not given a definition.
func (n *node) missed(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.out = true
	n.deliverer.trouble.Store(&err)
	n.tell(fmt.Sprintf("EchoStream is out of reach: %v", err))
	n.failOnce.Do(func() { close(n.failed) })
}

// apply puts a definition to work. n.mu is held.
func (n *node) apply(definition *echostream.Definition) {
	before := n.current
	n.current = definition
	level := slog.LevelInfo
	if definition.LoggingLevel != nil {
		level = *definition.LoggingLevel
	}
	n.level.Set(level)
	configured := before == nil || !bytes.Equal(before.Config, definition.Config)
	if configured {
		var problems []Problem
		accelerate := n.config.Bulk.Accelerate
		n.config, problems = parseConfig(definition.Config)
		for _, p := range problems {
			p.log(n.log)
		}
		if n.bulk == nil || n.config.Bulk.Accelerate != accelerate {
			n.bulk = n.client.NewBulk(echostream.BulkOptions{Accelerate: n.config.Bulk.Accelerate})
		}
	}
	if configured || !reflect.DeepEqual(before.SendMessageType, definition.SendMessageType) {
		compareSample(definition.SendMessageType, n.config.Message, n.log)
	}
	if configured || before.Managed != definition.Managed || !reflect.DeepEqual(before.Mounts, definition.Mounts) {
		n.front.storage.check(definition, n.front.dir, n.config.Files.Acknowledge, n.log)
	}
	switch wasStopped := before != nil && before.Stopped; {
	case definition.Stopped && !wasStopped:
		n.log.Warn("the node is stopped in EchoStream: files are taken and kept, and nothing is sent until it is started")
	case !definition.Stopped && wasStopped:
		n.log.Info("the node is started in EchoStream: files are sent")
	}
	n.deliverer.set(deliveryState{node: definition, config: n.config.Message, bulk: n.bulk})
	ports := publicPorts(definition.Ports)
	if configured || !reflect.DeepEqual(before.Ports, definition.Ports) {
		checkPorts(ports, n.config.FTP.PassivePorts, n.log)
	}
	n.front.use(n.config, ports)
}

// tell leaves a line for the health check. n.mu is held.
func (n *node) tell(status string) {
	if retry.SameCause(status, n.status) {
		return // each failure may have its own port and request id: no reason to write
	}
	text, _ := json.Marshal(struct {
		Cloud string    `json:"cloud"`
		Since time.Time `json:"since"`
	}{status, time.Now().UTC().Truncate(time.Second)})
	if err := disk.WriteFile(n.volume, statusFile, append(text, '\n'), 0o640); err != nil {
		n.tellTrouble.Hit(time.Now(), slog.LevelWarn, "the data volume takes no writes: the status for the health check is out of date", err).To(n.log)
		return
	}
	n.status = status
	n.tellTrouble.Over(time.Now(), "the data volume takes writes again").To(n.log)
}
