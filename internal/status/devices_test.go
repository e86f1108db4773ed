package status_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/internal/status"
)

func TestDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d status.Devices
		assert.Empty(t, d.Attempts())
		assert.Equal(t, []status.Sender{{Name: "press"}}, d.Senders([]string{"press"}))
		start := time.Now()
		d.LoggedIn("scanner", "192.0.2.1")
		time.Sleep(time.Second)
		d.Uploaded("scanner")
		assert.Equal(t, []status.Sender{{Name: "press"}, {Name: "scanner", LastLogin: start, LastUpload: start.Add(time.Second), From: "192.0.2.1"}},
			d.Senders([]string{"press", "scanner"}))

		tried := status.Attempt{From: "192.0.2.9", Tried: "TLS 1.0", Advice: "newer firmware"}
		for range 3 {
			time.Sleep(time.Second)
			d.Tried(tried)
		}
		d.Tried(status.Attempt{From: "192.0.2.8", Tried: "HTTP"})
		tried.At, tried.Count = time.Now(), 3
		assert.Equal(t, []status.Attempt{{At: time.Now(), From: "192.0.2.8", Tried: "HTTP", Count: 1}, tried}, d.Attempts())

		for i := range 1000 { // a scanner on the internet
			time.Sleep(time.Millisecond)
			d.Tried(status.Attempt{From: "198.51.100.7", Tried: fmt.Sprint(i)})
		}
		list := d.Attempts()
		require.Len(t, list, 100)
		assert.Equal(t, "999", list[0].Tried)
		assert.Equal(t, "900", list[99].Tried)
	})
}
