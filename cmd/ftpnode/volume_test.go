package main

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

func TestFormatIsWrittenOnce(t *testing.T) {
	fsys := disktest.New(1)
	fsys.SetCapacity(1)
	require.ErrorContains(t, checkFormat(fsys), "no space left", "a new volume that takes nothing is of no use")
	fsys.SetCapacity(0)
	require.NoError(t, checkFormat(fsys))
	fsys.SetCapacity(1)
	changes := fsys.Len()
	require.NoError(t, checkFormat(fsys))
	assert.Equal(t, changes, fsys.Len(), "nothing is written at a later start")
}

// The texts of one outage differ in ports and request ids: no reason to write, with syncs, for weeks.
func TestStatusIsWrittenOnceForEachCause(t *testing.T) {
	fsys := disktest.New(1)
	n := &node{volume: fsys, log: slog.New(slog.DiscardHandler), failed: make(chan struct{}), deliverer: &deliverer{}}
	n.missed(errors.New("read udp 10.0.0.2:41234->10.0.0.1:53: i/o timeout"))
	assert.Contains(t, fsys.Files()[statusFile], "i/o timeout")
	changes := fsys.Len()
	n.missed(errors.New("read udp 10.0.0.2:51007->10.0.0.1:53: i/o timeout"))
	assert.Equal(t, changes, fsys.Len())
	n.missed(errors.New("dial tcp 192.0.2.1:443: connection refused"))
	assert.Contains(t, fsys.Files()[statusFile], "connection refused")
}
