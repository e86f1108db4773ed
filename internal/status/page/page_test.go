package page_test

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/internal/certs"
	"github.com/ftpnode/ftpnode/internal/guard"
	"github.com/ftpnode/ftpnode/internal/status"
	"github.com/ftpnode/ftpnode/internal/status/page"
	"github.com/ftpnode/ftpnode/internal/status/statustest"
)

// picture has TestPicture write the README's picture.
var picture = flag.String("picture", "", "write the picture of the page to this `file`")

const password = "tell me how it does"

// site is a page that is served.
type site struct {
	t   *testing.T
	url string
	log *strings.Builder
	*statustest.Node
}

func newSite(t *testing.T, node *statustest.Node, g *guard.Guard) *site {
	volume, err := disk.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { volume.Close() })
	certificate, err := certs.New(certs.Options{FS: volume, Hosts: []string{"localhost"}})
	require.NoError(t, err)
	log := &strings.Builder{}
	p, err := page.New(page.Options{Source: node, Password: password, Secret: t.Name(), Guard: g, Log: slog.New(slog.NewTextHandler(log, nil))})
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, l, certificate.Get) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
		assert.NotContains(t, log.String(), password)
	})
	return &site{t, fmt.Sprintf("https://localhost:%d", l.Addr().(*net.TCPAddr).Port), log, node}
}

// client is a program that follows no redirects.
func client(t *testing.T) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// do is one request. change may set headers.
func (s *site) do(method, path string, form url.Values, change func(*http.Request)) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(form.Encode()))
	require.NoError(s.t, err)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if change != nil {
		change(r)
	}
	response, err := client(s.t).Do(r)
	require.NoError(s.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	return response, string(body)
}

// login is the session's cookie.
func (s *site) login() *http.Cookie {
	s.t.Helper()
	response, _ := s.do("POST", "/login", url.Values{"password": {password}}, nil)
	require.Equal(s.t, http.StatusSeeOther, response.StatusCode)
	require.Len(s.t, response.Cookies(), 1)
	return response.Cookies()[0]
}

func with(c *http.Cookie) func(*http.Request) { return func(r *http.Request) { r.AddCookie(c) } }

func TestNothingWithoutThePassword(t *testing.T) {
	s := newSite(t, statustest.New().Fail("secret-name.pdf", "x").Wait(1, ""), nil)
	id := s.Report().Failed[0].ID
	for _, path := range []string{"/", "/?q=secret", "/metrics", "/healthz"} {
		_, body := s.do("GET", path, nil, nil)
		for _, secret := range []string{"secret-name", "delivery-note", "plant-7", "acme", "camera", id} {
			assert.NotContains(t, body, secret, path)
		}
	}
	response, _ := s.do("POST", "/retry", url.Values{"id": {id}}, nil)
	assert.Equal(t, "/", response.Header.Get("Location"))
	forged := &http.Cookie{Name: "__Host-session", Value: strings.Repeat("A", 54)}
	s.do("POST", "/retry", url.Values{"id": {id}}, with(forged))
	assert.Len(t, s.Report().Failed, 1)
}

func TestCookieAndHeaders(t *testing.T) {
	s := newSite(t, statustest.New(), nil)
	c := s.login()
	assert.True(t, c.Secure && c.HttpOnly && c.SameSite == http.SameSiteStrictMode && c.Path == "/", "%+v", c)
	response, body := s.do("GET", "/", nil, with(c))
	assert.Contains(t, body, "All delivered")
	assert.Contains(t, response.Header.Get("Content-Security-Policy"), "default-src 'none'")
	assert.Equal(t, "nosniff", response.Header.Get("X-Content-Type-Options"))
	assert.Equal(t, "DENY", response.Header.Get("X-Frame-Options"))
	assert.Equal(t, "no-store", response.Header.Get("Cache-Control"))
	assert.NotRegexp(t, `(src|href|action)="(https?:|//)`, body, "nothing is loaded from elsewhere")
	response, _ = s.do("POST", "/logout", nil, with(c))
	require.Len(t, response.Cookies(), 1)
	assert.Negative(t, response.Cookies()[0].MaxAge)
}

// A page of another site can have the browser send a form here; the browser says so.
func TestForgedRequests(t *testing.T) {
	s := newSite(t, statustest.New().Fail("a.pdf", "x"), nil)
	c := s.login()
	form := url.Values{"id": {s.Report().Failed[0].ID}}
	for name, header := range map[string][2]string{
		"another site":         {"Sec-Fetch-Site", "cross-site"},
		"another port of it":   {"Sec-Fetch-Site", "same-site"},
		"an old browser":       {"Origin", "https://evil.example"},
		"a file, or a sandbox": {"Origin", "null"},
	} {
		response, _ := s.do("POST", "/retry", form, func(r *http.Request) { r.AddCookie(c); r.Header.Set(header[0], header[1]) })
		assert.Equal(t, http.StatusForbidden, response.StatusCode, name)
	}
	response, _ := s.do("GET", "/retry?"+form.Encode(), nil, with(c))
	assert.Equal(t, http.StatusMethodNotAllowed, response.StatusCode)
	require.Len(t, s.Report().Failed, 1)
	response, _ = s.do("POST", "/retry", form, func(r *http.Request) { r.AddCookie(c); r.Header.Set("Sec-Fetch-Site", "same-origin") })
	assert.Equal(t, http.StatusSeeOther, response.StatusCode)
	assert.Empty(t, s.Report().Failed)
}

func TestWhoGuessesIsShutOut(t *testing.T) {
	now := time.Now()
	s := newSite(t, statustest.New(), guard.New(guard.Options{Failures: 4, Delay: time.Millisecond, Now: func() time.Time { return now }}))
	for i := range 4 {
		response, body := s.do("POST", "/login", url.Values{"password": {fmt.Sprint("guess", i)}}, nil)
		assert.Equal(t, http.StatusUnauthorized, response.StatusCode)
		assert.Contains(t, body, "That is not the password")
	}
	response, _ := s.do("POST", "/login", url.Values{"password": {password}}, nil)
	assert.Equal(t, http.StatusTooManyRequests, response.StatusCode, "the right one, too, tells nothing")
	response, _ = s.do("GET", "/metrics", nil, func(r *http.Request) { r.SetBasicAuth("prometheus", password) })
	assert.Equal(t, http.StatusTooManyRequests, response.StatusCode, "nor here")
	now = now.Add(6 * time.Minute)
	s.login()
	assert.Contains(t, s.log.String(), "too many wrong passwords for the status page")
	assert.NotContains(t, s.log.String(), "guess1")
}

// Names are chosen by devices.
func TestNamesAreEscaped(t *testing.T) {
	name := "\"><script>alert(1)</script>\u202e\x1b.pdf"
	s := newSite(t, statustest.New().Fail(name, "<b>why</b>"), nil)
	s.Set(func(r *status.Report) {
		r.Recent[0].Name, r.Bridge.Senders[0].Name = name, name
		r.Bridge.Attempts = []status.Attempt{{From: "192.0.2.1", User: name, Tried: name, Advice: "<i>x</i>"}}
		r.Cloud.Error = status.Trouble{Text: name}
	})
	_, body := s.do("GET", "/?q="+url.QueryEscape(`"><script>`), nil, with(s.login()))
	assert.Contains(t, body, `value="&#34;&gt;&lt;script&gt;"`)
	_, all := s.do("GET", "/", nil, with(s.login()))
	for _, body := range []string{body, all} {
		assert.NotContains(t, body, "<script>alert")
		assert.NotContains(t, body, "<b>why")
		assert.NotContains(t, body, "<i>x")
		assert.NotContains(t, body, "\x1b")
		assert.NotContains(t, body, "\u202e")
	}
}

// Where a 226 means delivered, what cannot be delivered is not here: it must not be said to be safe.
func TestWhereFilesAreMeanwhile(t *testing.T) {
	away := func(r *status.Report) { r.Cloud.Error = status.Trouble{Text: "no such host"} }
	for acknowledge, want := range map[string]string{
		"stored":    "Files are safe here, and are sent as soon as that is over.",
		"delivered": "devices are told to keep their files",
	} {
		s := newSite(t, statustest.New().Set(away).Set(func(r *status.Report) { r.Acknowledge = acknowledge }), nil)
		_, body := s.do("GET", "/", nil, with(s.login()))
		assert.Contains(t, body, "No connection to EchoStream: is the internet down?")
		assert.Contains(t, body, want)
	}
}

func TestRetryThatCannotBe(t *testing.T) {
	s := newSite(t, statustest.New(), nil)
	response, body := s.do("POST", "/retry", url.Values{"id": {"gone"}}, with(s.login()))
	assert.Equal(t, http.StatusConflict, response.StatusCode)
	assert.Contains(t, body, "The file cannot be sent again: no failed file has the id")
}

func TestSessionsEndWithThePassword(t *testing.T) {
	cookies := map[string]*http.Cookie{}
	serve := func(password string) http.Handler {
		p, err := page.New(page.Options{Source: statustest.New(), Password: password, Secret: "s"})
		require.NoError(t, err)
		return p
	}
	ask := func(h http.Handler, method, path, body string, c *http.Cookie) *response {
		r, err := http.NewRequest(method, path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = "192.0.2.1:1234"
		if c != nil {
			r.AddCookie(c)
		}
		w := &response{header: http.Header{}}
		h.ServeHTTP(w, r)
		return w
	}
	for _, password := range []string{"first password", "second password"} {
		w := ask(serve(password), "POST", "/login", "password="+url.QueryEscape(password), nil)
		cookies[password] = (&http.Response{Header: w.header}).Cookies()[0]
	}
	restarted := serve("first password")
	assert.Contains(t, ask(restarted, "GET", "/", "", cookies["first password"]).String(), "All delivered")
	assert.NotContains(t, ask(restarted, "GET", "/", "", cookies["second password"]).String(), "All delivered")
}

type response struct {
	strings.Builder
	header http.Header
}

func (r *response) Header() http.Header { return r.header }
func (r *response) WriteHeader(int)     {}

func TestHealthz(t *testing.T) {
	s := newSite(t, statustest.New(), nil)
	response, body := s.do("GET", "/healthz", nil, nil)
	assert.Equal(t, "200 healthy\n", fmt.Sprint(response.StatusCode, " ", body))

	s = newSite(t, statustest.New().Set(func(r *status.Report) { r.Bridge.Refuses = "no user" }), nil)
	response, body = s.do("GET", "/healthz", nil, nil)
	assert.Equal(t, "503 unhealthy\n", fmt.Sprint(response.StatusCode, " ", body))
}

func TestMetrics(t *testing.T) {
	s := newSite(t, statustest.New().Wait(12, "x").Fail("a.pdf", "x"), nil)
	response, _ := s.do("GET", "/metrics", nil, nil)
	assert.Equal(t, http.StatusUnauthorized, response.StatusCode)
	response, body := s.do("GET", "/metrics", nil, func(r *http.Request) { r.SetBasicAuth("prometheus", password) })
	require.Equal(t, http.StatusOK, response.StatusCode, body)
	for _, line := range []string{
		`echostream_node_info{node="plant-7",program="ftpnode",tenant="acme",version="v1.4.0"} 1`,
		"echostream_node_healthy 1",
		"echostream_node_cloud_reachable 1",
		"echostream_node_waiting_files 12",
		"echostream_node_oldest_waiting_seconds 748",
		"echostream_node_failed_files 1",
		"echostream_node_delivered_files_total 1204",
		`echostream_node_target_waiting_files{target="erp"} 12`,
		`echostream_node_target_acknowledged_time_seconds{target="archive"} 1.773048377e+09`,
		"echostream_node_volume_free_bytes 3.14e+10",
	} {
		assert.Contains(t, body, line+"\n")
	}
	assert.NotContains(t, body, "camera", "names are not for metrics")
}

// What dashboards of programs in Go have, and a form that Prometheus can read.
func TestMetricsOfTheProcess(t *testing.T) {
	s := newSite(t, statustest.New(), nil)
	runtime.GC()
	began := time.Now()
	response, body := s.do("GET", "/metrics", nil, func(r *http.Request) { r.SetBasicAuth("prometheus", password) })
	assert.Equal(t, "text/plain; version=0.0.4; charset=utf-8", response.Header.Get("Content-Type"))
	values, kinds, helped := map[string]float64{}, map[string]string{}, map[string]bool{}
	value := regexp.MustCompile(`^([a-z_]+)((?:\{[A-Za-z]+="(?:[^"\\]|\\.)*"(?:, ?[A-Za-z]+="(?:[^"\\]|\\.)*")*\})?) (\S+)$`)
	for line := range strings.SplitSeq(strings.TrimSuffix(body, "\n"), "\n") {
		if about, ok := strings.CutPrefix(line, "# "); ok {
			what, rest, _ := strings.Cut(about, " ")
			name, text, _ := strings.Cut(rest, " ")
			if what == "HELP" {
				require.False(t, helped[name], "%s is there twice", name)
				helped[name] = true
			} else {
				kinds[name] = text
			}
			continue
		}
		parts := value.FindStringSubmatch(line)
		require.NotNil(t, parts, line)
		number, err := strconv.ParseFloat(parts[3], 64)
		require.NoError(t, err, line)
		base := parts[1]
		if kinds[base] == "" {
			base = regexp.MustCompile("_(sum|count|bucket)$").ReplaceAllString(base, "")
		}
		require.NotEmpty(t, kinds[base], line)
		require.True(t, helped[base], line)
		values[parts[1]+parts[2]] = number
	}
	for _, name := range strings.Fields(`goroutines memstats_alloc_bytes memstats_alloc_bytes_total memstats_buck_hash_sys_bytes
		memstats_frees_total memstats_gc_sys_bytes memstats_heap_alloc_bytes memstats_heap_idle_bytes memstats_heap_inuse_bytes memstats_heap_objects
		memstats_heap_released_bytes memstats_heap_sys_bytes memstats_last_gc_time_seconds memstats_mallocs_total memstats_mcache_inuse_bytes
		memstats_mcache_sys_bytes memstats_mspan_inuse_bytes memstats_mspan_sys_bytes memstats_next_gc_bytes memstats_other_sys_bytes
		memstats_stack_inuse_bytes memstats_stack_sys_bytes memstats_sys_bytes threads`) {
		assert.Contains(t, values, "go_"+name)
		assert.Equal(t, map[bool]string{true: "counter", false: "gauge"}[strings.HasSuffix(name, "_total")], kinds["go_"+name], name)
	}
	assert.Positive(t, values["go_gc_duration_seconds_count"])
	assert.Equal(t, 1.0, values[`go_info{version="`+runtime.Version()+`"}`])
	if runtime.GOOS != "linux" {
		return
	}
	for name, kind := range map[string]string{
		"cpu_seconds_total": "counter", "max_fds": "gauge", "open_fds": "gauge", "resident_memory_bytes": "gauge", "start_time_seconds": "gauge",
		"virtual_memory_bytes": "gauge",
	} {
		assert.Contains(t, values, "process_"+name)
		assert.Equal(t, kind, kinds["process_"+name], name)
	}
	assert.Greater(t, values["process_resident_memory_bytes"], 1e6)
	assert.GreaterOrEqual(t, values["process_open_fds"], 3.0)
	assert.InDelta(t, began.Unix(), values["process_start_time_seconds"], 3600)
}

func TestMetricsAreEscaped(t *testing.T) {
	s := newSite(t, statustest.New().Set(func(r *status.Report) { r.Node = "a \"plant\"\\\n\xff" }), nil)
	_, body := s.do("GET", "/metrics", nil, func(r *http.Request) { r.SetBasicAuth("prometheus", password) })
	assert.Contains(t, body, "\n"+`echostream_node_info{node="a \"plant\"\\\n`+"\uFFFD"+`",program="`)
}

// logIn shows the page in the browser.
func (s *site) logIn(b *browser) {
	s.t.Helper()
	b.open(s.url + "/")
	b.eval(`document.getElementById("password").focus()`, nil)
	b.write(password)
	b.press("form button")
}

func TestInTheBrowser(t *testing.T) {
	s := newSite(t, statustest.New().Fail("Lieferschein Größe.pdf", "the message is 262,201 bytes, at most 262,144 are taken"), nil)
	s.Set(func(r *status.Report) { r.At = time.Now().UTC() })
	b := newBrowser(t)
	b.size(1000, 900)
	b.open(s.url + "/")
	b.eval(`document.getElementById("password").focus()`, nil)
	b.write("not the password")
	b.press("form button")
	assert.Contains(t, b.text("[role=alert]"), "That is not the password")
	s.logIn(b)
	assert.Equal(t, "1 file needs help", b.text("h1"))
	assert.Contains(t, b.text("li.failed"), "at most 262,144 are taken")

	b.press("li.failed button")
	assert.Equal(t, "Lieferschein Größe.pdf is sent again.", b.text("[role=status]"))
	assert.Empty(t, s.Report().Failed)
	assert.Contains(t, b.text("section[aria-labelledby=waiting]"), "Lieferschein Größe.pdf")
	assert.Equal(t, "1 file is on the way", b.text("h1"))

	b.eval(`document.getElementById("q").focus()`, nil)
	b.write("PRESS-2026")
	b.press(".search button")
	assert.Contains(t, b.text("section[aria-labelledby=delivered]"), "press-2026-03-09.csv")
	assert.NotContains(t, b.text("main"), "delivery-note")

	b.script(false)
	b.open(s.url + "/")
	b.script(true)
	assert.Contains(t, b.text("main"), "delivery-note", "it can be read without scripts")
	b.press("footer button")
	assert.Contains(t, b.text("label"), "Password")
	b.open(s.url + "/")
	assert.Contains(t, b.text("label"), "Password", "logged out")
	for _, e := range b.events {
		assert.NotEqual(t, "Log.entryAdded", e.Method, "%s", e.Params)
		assert.NotEqual(t, "Runtime.exceptionThrown", e.Method, "%s", e.Params)
	}
}

// situations are all that the page can show.
func situations() map[string]*statustest.Node {
	all := statustest.New().Wait(12, "SQS: dial tcp 192.0.2.1:443: i/o timeout").
		Fail(strings.Repeat("a-very-long-name-without-a-gap_", 8)+".pdf", "the message is 262,201 bytes, at most 262,144 are taken").Fail("b.pdf", "x")
	all.Set(func(r *status.Report) {
		r.Cloud.Error = status.Trouble{Text: "dial tcp: lookup api.example.com: no such host", Since: r.At.Add(-13 * time.Minute), Advice: "the network"}
		r.Bridge.Refuses = "nobody is known yet"
		r.Waiting.Held = 1
		r.Bridge.Uploads = []status.Upload{{User: "scanner", Name: "big.tif", Bytes: 81_000_000, Since: r.At.Add(-9 * time.Second)}}
		r.Bridge.Interrupted = []status.Interrupted{{ID: "x", User: "press-2", Name: "shift.csv", Bytes: 812, Since: r.At.Add(-3 * time.Hour)}}
		r.Bridge.Attempts = []status.Attempt{{At: r.At.Add(-4 * time.Minute), From: "2001:db8:1234:5678:9abc:def0:1234:5678", User: "press-2", Count: 7,
			Tried: "EPSV, and no data connection came", Advice: "let the ports 30000-30009 through to the node"}}
		r.Disk.Error = status.Trouble{Text: "read-only file system"}
	})
	return map[string]*statustest.Node{
		"delivered": statustest.New(),
		"empty": statustest.New().Set(func(r *status.Report) {
			r.Recent, r.Bridge, r.Targets, r.Cloud = nil, status.Bridge{}, nil, status.Cloud{}
		}),
		"all": all,
	}
}

// TestAccessible has axe look at the page in all situations, in both colour schemes, wide and at 360 px, where nothing may be cut off.
func TestAccessible(t *testing.T) {
	axe := axe(t)
	b := newBrowser(t)
	check := func(t *testing.T) {
		for _, scheme := range []string{"light", "dark"} {
			for _, width := range []int{360, 1200} {
				b.t = t
				b.scheme(scheme)
				b.size(width, 800)
				var wide int
				b.eval("document.documentElement.scrollWidth", &wide)
				assert.LessOrEqual(t, wide, width, "the page can be scrolled sideways")
				b.eval(axe, nil)
				var result struct {
					Passes     int
					Violations []struct{ ID, Help, HTML string }
				}
				b.eval(`axe.run().then(r => ({passes: r.passes.length, violations: r.violations.map(v => ({id: v.id, help: v.help, html: v.nodes[0].html}))}))`, &result)
				assert.Greater(t, result.Passes, 10, "it has looked")
				assert.Empty(t, result.Violations, "%s, %d px", scheme, width)
			}
		}
	}
	for name, node := range situations() {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, node, nil)
			b.t, s.t = t, t
			b.open(s.url + "/")
			if name == "delivered" {
				t.Run("log-in", check)
				b.t = t
			}
			s.logIn(b)
			check(t)
		})
	}
	b.t = t
}

// axe is axe-core's text, from npm.
func axe(t *testing.T) string {
	npm, err := exec.LookPath("npm")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("npm is missing")
		}
		t.Skip("npm is missing")
	}
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "axe"))))
	cmd := exec.CommandContext(t.Context(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	text, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	require.NoError(t, err)
	return string(text)
}

// TestPicture makes the README's picture: go test ./internal/status/page -run TestPicture -picture "$PWD/docs/page.png".
func TestPicture(t *testing.T) {
	if *picture == "" {
		t.Skip("no -picture")
	}
	node := statustest.New().Fail("delivery-note-20377.pdf", "the message is 262,201 bytes, at most 262,144 are taken")
	s := newSite(t, node, nil)
	b := newBrowser(t)
	b.scheme("light")
	b.size(900, 760)
	s.logIn(b)
	require.NoError(t, os.WriteFile(*picture, b.picture(), 0o644))
}
