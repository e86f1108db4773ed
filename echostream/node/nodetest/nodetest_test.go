package nodetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// recorder is a test that may fail.
type recorder struct {
	*testing.T
	failed strings.Builder
}

func (r *recorder) Errorf(format string, args ...any) { fmt.Fprintf(&r.failed, format, args...) }
func (r *recorder) FailNow()                          { runtime.Goexit() }

// verdict is what Delivered says of a cloud and a volume that a test has made: "" if all is well.
func verdict(t *testing.T, r *Rig) string {
	rec := &recorder{T: t}
	r.t = rec
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Delivered()
	}()
	<-done
	return rec.failed.String()
}

// What a node must not do is seen.
func TestFaultsOfANodeAreSeen(t *testing.T) {
	body := func(name string) string { return `{"name":"` + name + `","content":"` + name + `"}` }
	id := echostream.NewTrackingID
	for _, c := range []struct {
		name    string
		arrive  func(put func(edge, content, id string))
		volume  string // a file that is left
		problem string
	}{
		{"all is well", func(put func(edge, content, id string)) {
			a, b := id(), id()
			for _, edge := range []string{"archive", "erp"} {
				put(edge, "YQ==", a)
				put(edge, "Yg==", b)
			}
		}, "", ""},
		{"two ids", func(put func(edge, content, id string)) {
			put("archive", "YQ==", id())
			put("erp", "YQ==", id())
			b := id()
			put("archive", "Yg==", b)
			put("erp", "Yg==", b)
		}, "", "the tracking ids of"},
		{"twice", func(put func(edge, content, id string)) {
			a, b := id(), id()
			for _, edge := range []string{"archive", "erp"} {
				put(edge, "YQ==", a)
				put(edge, "Yg==", b)
			}
			put("erp", "Yg==", id())
		}, "", "too often"},
		{"out of order", func(put func(edge, content, id string)) {
			a, b := id(), id()
			put("archive", "YQ==", a)
			put("archive", "Yg==", b)
			put("erp", "Yg==", b)
			put("erp", "YQ==", a)
		}, "", "out of order"},
		{"lost", func(put func(edge, content, id string)) {
			a, b := id(), id()
			put("archive", "YQ==", a)
			put("archive", "Yg==", b)
			put("erp", "YQ==", a)
			put("erp", "YQ==", id())
		}, "", "lost"},
		{"other bytes", func(put func(edge, content, id string)) {
			a, b := id(), id()
			for _, edge := range []string{"archive", "erp"} {
				put(edge, "YQ==", a)
				put(edge, "Yg==", b)
				put(edge, "Yy==", id())
			}
		}, "", "nobody has handed this over"},
		{"set aside", func(put func(edge, content, id string)) {
			a, b := id(), id()
			for _, edge := range []string{"archive", "erp"} {
				put(edge, "YQ==", a)
				put(edge, "Yg==", b)
			}
		}, "failed/1.data", "set aside"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := New(t, Bridge{Data: "DATA", Read: func(_ context.Context, _ *echotest.Cloud, m echotest.Received) (Item, error) {
				return Item{Content: []byte(m.Body)}, nil
			}})
			for _, content := range []string{body("YQ=="), body("Yg==")} {
				r.fed = append(r.fed, &fed{Item: Item{Content: []byte(content)}, edges: []string{"archive", "erp"}, tries: 1, acked: true})
			}
			c.arrive(func(edge, content, id string) { r.Cloud.Put("node-under-test", edge, body(content), id) })
			if c.volume != "" {
				require.NoError(t, os.MkdirAll(filepath.Join(r.Dir, filepath.Dir(c.volume)), 0o700))
				require.NoError(t, os.WriteFile(filepath.Join(r.Dir, c.volume), nil, 0o600))
			}
			got := verdict(t, r)
			if c.problem == "" {
				// Nothing was audited, since no node has run; that is all that is wrong.
				assert.Equal(t, 4, strings.Count(got, "has no audit record"), got)
				assert.Equal(t, 4, strings.Count(got, "Error:"), got)
				return
			}
			assert.Contains(t, got, c.problem)
		})
	}
}

// So are secrets and lines that EchoStream would glue together.
func TestFaultsOfALogAreSeen(t *testing.T) {
	for line, fine := range map[string]bool{
		"[INFO] all is well\n": true,
		"no level\n":           false,
		"[INFO] https://bulk/?X-Amz-Signature=0\n":                             false,
		"[ERROR] panic: index out of range\n":                                  false,
		"[INFO] token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0\n":                  false,
		"[INFO] the last line is cut o" + cutOff:                               true,
		"[INFO] PASSWORD\n":                                                    false,
		"[WARNING] EchoStream cannot be reached; retrying error=\"refused\"\n": true,
	} {
		rec := &recorder{T: t}
		r := &Rig{t: rec, log: &output{}, env: map[string]string{"PASSWORD": "a-secret"}}
		fmt.Fprint(r.log, strings.ReplaceAll(line, "PASSWORD", "a-secret"))
		r.checkLog()
		assert.Equal(t, fine, rec.failed.Len() == 0, "%q: %s", line, &rec.failed)
	}
}
