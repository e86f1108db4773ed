package page_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// browser is Chromium with one tab, driven by its own protocol (https://chromedevtools.github.io/devtools-protocol/) over a pipe. One
// goroutine uses it.
type browser struct {
	t       *testing.T
	in      *os.File
	pipe    *os.File
	out     *bufio.Reader // of pipe
	number  int
	session string
	events  []reply
}

type reply struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// newBrowser starts Chromium. Where there is none, the test is skipped, but not in CI.
func newBrowser(t *testing.T) *browser {
	program, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is missing")
		}
		t.Skip("chromium is missing")
	}
	theirIn, in, err := os.Pipe()
	require.NoError(t, err)
	out, theirOut, err := os.Pipe()
	require.NoError(t, err)
	cmd := exec.Command(program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--hide-scrollbars", "--ignore-certificate-errors", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.Env = append(os.Environ(), "TZ=UTC", "HOME="+t.TempDir())
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // 3 and 4
	require.NoError(t, cmd.Start())
	theirIn.Close()
	theirOut.Close()
	b := &browser{t: t, in: in, pipe: out, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		in.Close()
		stop := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		stop.Stop()
		out.Close()
	})
	var target struct {
		TargetID string `json:"targetId"`
	}
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct {
		SessionID string `json:"sessionId"`
	}
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

// call sends a command and waits for its result; events that come meanwhile are kept.
func (b *browser) call(method string, params any, result any) {
	b.t.Helper()
	if params == nil {
		params = struct{}{}
	}
	b.number++
	text, err := json.Marshal(map[string]any{"id": b.number, "method": method, "params": params, "sessionId": b.session})
	if b.session == "" {
		text, err = json.Marshal(map[string]any{"id": b.number, "method": method, "params": params})
	}
	require.NoError(b.t, err)
	_, err = b.in.Write(append(text, 0))
	require.NoError(b.t, err)
	for {
		r := b.read()
		if r.ID != b.number {
			b.events = append(b.events, r)
			continue
		}
		require.Nil(b.t, r.Error, "%s", method)
		if result != nil {
			require.NoError(b.t, json.Unmarshal(r.Result, result))
		}
		return
	}
}

func (b *browser) read() (r reply) {
	b.t.Helper()
	require.NoError(b.t, b.pipe.SetReadDeadline(time.Now().Add(2*time.Minute)))
	text, err := b.out.ReadBytes(0)
	require.NoError(b.t, err, "the browser is gone, or does not answer")
	require.NoError(b.t, json.Unmarshal(text[:len(text)-1], &r))
	return r
}

// loaded does what leads to another page, and waits until that has loaded.
func (b *browser) loaded(do func()) {
	b.t.Helper()
	b.events = nil
	do()
	for _, e := range b.events {
		if e.Method == "Page.loadEventFired" {
			return
		}
	}
	for b.read().Method != "Page.loadEventFired" {
	}
}

func (b *browser) open(url string) {
	b.t.Helper()
	b.loaded(func() { b.call("Page.navigate", map[string]any{"url": url}, nil) })
}

// eval is the value of a JavaScript expression, which may be a promise.
func (b *browser) eval(expression string, value any) {
	b.t.Helper()
	var result struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		ExceptionDetails json.RawMessage `json:"exceptionDetails"`
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &result)
	require.Nil(b.t, result.ExceptionDetails, "%s: %s", expression, result.ExceptionDetails)
	if value != nil {
		require.NoError(b.t, json.Unmarshal(result.Result.Value, value), "%s: %s", expression, result.Result.Value)
	}
}

// text is what a reader sees of the first element that the selector finds.
func (b *browser) text(selector string) (text string) {
	b.t.Helper()
	b.eval(fmt.Sprintf("document.querySelector(%q)?.innerText ?? '(nothing is %s)'", selector, selector), &text)
	return text
}

// press clicks what the selector finds, with the mouse, and waits for the next page.
func (b *browser) press(selector string) {
	b.t.Helper()
	var at struct{ X, Y float64 }
	b.eval(fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		e.scrollIntoView({block: "center"});
		const r = e.getBoundingClientRect();
		return {x: r.x + r.width / 2, y: r.y + r.height / 2};
	})()`, selector), &at)
	b.loaded(func() {
		for _, kind := range []string{"mousePressed", "mouseReleased"} {
			b.call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1}, nil)
		}
	})
}

// write types into what has the focus.
func (b *browser) write(text string) {
	b.call("Input.insertText", map[string]any{"text": text}, nil)
}

// size sets the window's size in pixels of CSS.
func (b *browser) size(width, height int) {
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}, nil)
}

// scheme is "light" or "dark".
func (b *browser) scheme(value string) {
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": value}}}, nil)
}

// script says whether the pages' own scripts run.
func (b *browser) script(on bool) {
	b.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": !on}, nil)
}

// picture is a PNG of the window.
func (b *browser) picture() []byte {
	var result struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png"}, &result)
	png, err := base64.StdEncoding.DecodeString(result.Data)
	require.NoError(b.t, err)
	return png
}
