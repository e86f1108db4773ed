package main

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWhat226Means(t *testing.T) {
	const tooMuch = "files.acknowledge is stored, but the data goes with the container"
	for _, c := range []struct {
		outlives              bool
		configured, mode, why string
		warning               string // "": none
	}{
		{true, "auto", "stored", "mounted so", ""},
		{true, "stored", "stored", "files.acknowledge says so", ""},
		{true, "delivered", "delivered", "files.acknowledge says so", ""},
		{false, "auto", "delivered", "mounted so", ""},
		{false, "stored", "stored", "files.acknowledge says so", tooMuch},
		{false, "delivered", "delivered", "files.acknowledge says so", ""},
	} {
		mode, why := acknowledge(c.configured, c.outlives, "mounted so")
		assert.Equal(t, c.mode, mode, "%+v", c)
		assert.Equal(t, c.why, why, "%+v", c)
		var out bytes.Buffer
		checkAcknowledge(mode, c.outlives, "mounted so", slog.New(slog.NewTextHandler(&out, nil)))
		if c.warning == "" {
			assert.Empty(t, out.String(), "%+v", c)
			continue
		}
		assert.Contains(t, out.String(), "level=WARN", "%+v", c)
		assert.Contains(t, out.String(), c.warning, "%+v", c)
	}
}
