package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/node"
	"github.com/ftpnode/ftpnode/echostream/node/nodetest"
	"github.com/ftpnode/ftpnode/internal/freeport"
	"github.com/ftpnode/ftpnode/internal/status"
)

const pagePassword = "how does it do?"

// statusRig is a node with a status page, and a browser that has logged in there.
type statusRig struct {
	*rig
	page    string // its URL
	browser *http.Client
}

// newStatusRig is newRig with a page. more are further sections of the config.
func newStatusRig(t *testing.T, opts echotest.Options, more ...string) *statusRig {
	return newStatusRigFTP(t, opts, "", more...)
}

// newStatusRigFTP has further keys of the config's section ftp, too.
func newStatusRigFTP(t *testing.T, opts echotest.Options, ftp string, more ...string) *statusRig {
	port := freeport.Range(t, 1)
	section := fmt.Sprintf(`"status": {"port": %d, "password": %q}`, port, pagePassword)
	opts.Node.Config = testConfig(t, ftp, append(more, section)...)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	return &statusRig{newRig(t, opts), fmt.Sprintf("https://localhost:%d", port), &http.Client{Transport: transport, Jar: jar}}
}

// run is the program with arguments: what it prints.
func (r *statusRig) run(args ...string) (string, error) {
	opts := r.options(args...)
	var out bytes.Buffer
	opts.Stdout = &out
	err := node.Run(r.t.Context(), r.bridge, opts)
	return out.String(), err
}

// shows waits until the first line of the status holds text, and returns the report.
func (r *statusRig) shows(text string) status.Report {
	r.t.Helper()
	var out string
	require.Eventually(r.t, func() bool {
		var err error
		if out, err = r.run("status"); err != nil {
			out = err.Error()
		}
		line, _, _ := strings.Cut(out, "\n")
		return strings.Contains(line, text)
	}, waitFor, tick, "no %q in:\n%s\n%s", text, lazy(func() string { return out }), r.log)
	report, err := status.NewClient(r.env["FTPNODE_DATA"]).Report(r.t.Context())
	require.NoError(r.t, err)
	return report
}

type lazy func() string

func (l lazy) String() string { return l() }

// open is a page of the browser: what a reader sees, without tags.
func (r *statusRig) open(do func() (*http.Response, error)) string {
	r.t.Helper()
	response, err := do()
	require.NoError(r.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(r.t, err)
	if strings.Contains(string(body), `name="password"`) {
		return r.open(func() (*http.Response, error) {
			return r.browser.PostForm(r.page+"/login", url.Values{"password": {pagePassword}})
		})
	}
	return html.UnescapeString(tags.ReplaceAllString(string(body), ""))
}

var tags = regexp.MustCompile(`<[^>]*>`)

func (r *statusRig) look() string {
	r.t.Helper()
	return r.open(func() (*http.Response, error) { return r.browser.Get(r.page + "/") })
}

// Each situation is told alike by the status, the page, the health check and the log, and when its cause goes away all is well again.
func TestSituationsAreTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		opts  echotest.Options
		more  string // of the config
		first bool   // it is there at the first start, when nothing is known yet: there is no page then
		store bool   // a file is uploaded once it is there

		begin func(r *statusRig)
		line  string // of the status
		page  string // what people read there
		sick  string // why the node is unhealthy; "": it is not
		log   []string
		end   func(r *statusRig)
	}{
		{
			name: "cloud down", store: true,
			begin: func(r *statusRig) {
				for _, s := range echotest.Services() {
					r.cloud.Off(s)
				}
			},
			line: "1 file waits since", page: "No connection to EchoStream: is the internet down?",
			log: []string{"[WARNING] EchoStream cannot be reached; retrying"},
			end: func(r *statusRig) {
				for _, s := range echotest.Services() {
					r.cloud.On(s)
				}
			},
		},
		{
			name: "SQS denied", store: true,
			begin: func(r *statusRig) { r.cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.Denied}) },
			line:  "The node needs help, and 1 file waits since", page: "EchoStream refuses the files. Call whoever runs it.",
			sick: "refuses files", log: []string{"[ERROR]", "AccessDenied"},
			end: func(r *statusRig) { r.cloud.ClearFaults(); r.cloud.ExpireCredentials() },
		},
		{
			name: "wrong password, from the start", first: true,
			begin: func(r *statusRig) { r.env["PASSWORD"] = "not-the-right-password" },
			line:  "The node needs help: every log-in is refused", sick: "EchoStream cannot be used: USER_NAME, PASSWORD",
			log: []string{"[ERROR] EchoStream refuses the node's log-in", "PASSWORD"},
			end: func(r *statusRig) { r.cloud.SetPassword("ftp-app", r.env["PASSWORD"]) },
		},
		{
			name: "wrong password, of a node that was known", store: true,
			begin: func(r *statusRig) {
				r.shutdown()
				r.cloud.SetPassword("ftp-app", "another-password")
				r.start()
			},
			line: "The node needs help, and 1 file waits since", page: "EchoStream does not let this node in.",
			sick: "EchoStream cannot be used", log: []string{"[ERROR] EchoStream refuses the node's log-in", "PASSWORD"},
			end: func(r *statusRig) { r.cloud.SetPassword("ftp-app", r.env["PASSWORD"]) },
		},
		{
			name: "wrong tenant", first: true,
			begin: func(r *statusRig) { r.env["TENANT"] = "another" },
			line:  "The node needs help: every log-in is refused", sick: "EchoStream cannot be used",
			log: []string{"[ERROR]", "TENANT"},
			end: func(r *statusRig) { r.shutdown(); r.env["TENANT"] = r.cloud.Environment()["TENANT"]; r.start() },
		},
		{
			name: "no edge", store: true, opts: echotest.Options{Targets: []string{}},
			line: "1 file waits since", page: "In EchoStream, nothing is connected to this node.",
			log: []string{"[WARNING] No targets"},
			end: func(r *statusRig) { r.cloud.AddEdge("", "late") },
		},
		{
			name: "stopped node", store: true, opts: echotest.Options{Node: echotest.Node{Stopped: true}},
			line: "1 file waits since", page: "The node is stopped in EchoStream.",
			log: []string{"[WARNING] the node is stopped in EchoStream"},
			end: func(r *statusRig) { r.cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = false }) },
		},
		{
			name:  "full disk",
			begin: func(r *statusRig) { fillVolume(r.t, r.env["FTPNODE_DATA"]) },
			line:  "The node needs help: the volume", page: "The node's disk cannot be written", sick: "no space left on device",
			end: func(r *statusRig) { require.NoError(r.t, os.Remove(filepath.Join(r.env["FTPNODE_DATA"], "filler"))) },
		},
		{
			name: "nobody may log in",
			begin: func(r *statusRig) {
				r.cloud.UpdateNode("", func(n *echotest.Node) {
					n.Config = strings.Replace(n.Config, `"name": "scanner"`, `"nom": "scanner"`, 1)
				})
			},
			line: "The node needs help: every log-in is refused: the config has no valid user", page: "every log-in is refused", sick: "every log-in is refused",
			log: []string{"[WARNING] FTP refuses every log-in"},
			end: func(r *statusRig) {
				r.cloud.UpdateNode("", func(n *echotest.Node) { n.Config = strings.Replace(n.Config, `"nom"`, `"name"`, 1) })
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newStatusRig(t, c.opts)
			if c.name == "full disk" {
				r.env["FTPNODE_DATA"] = nodetest.SmallVolume(t)
			}
			if c.first {
				c.begin(r)
			}
			r.start()
			if !c.first {
				r.log.wait(t, "The status page is served")
				if c.begin != nil {
					r.shows("All delivered")
					c.begin(r)
				}
			}
			if c.store {
				r.login().store("Prüfbericht.txt", []byte("x"))
			}
			report := r.shows(c.line)
			if c.sick == "" {
				assert.True(t, report.Health.OK, "%q", report.Health.Problems)
			}
			if c.page != "" {
				var page string // which tells of a cause when it has shown: a file may wait for a moment before
				require.Eventually(t, func() bool {
					page = r.look()
					return strings.Contains(page, c.page)
				}, waitFor, tick, "no %q in:\n%s", c.page, lazy(func() string { return page }))
				if c.store {
					assert.Contains(t, page, "Prüfbericht.txt")
				}
			}
			if len(c.log) > 0 {
				r.log.wait(t, c.log...)
			}
			out, err := r.healthcheck(r.env["FTPNODE_DATA"], r.address())
			assert.Contains(t, out, c.line)
			if c.sick == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, c.sick)
			}

			c.end(r)
			r.shows("All delivered")
			_, err = r.healthcheck(r.env["FTPNODE_DATA"], r.address())
			assert.NoError(t, err)
			require.Eventually(t, func() bool {
				_, err := r.browser.Get(r.page + "/healthz")
				return err == nil
			}, waitFor, tick, "the page comes with the first definition")
			assert.Contains(t, r.look(), "All delivered")
		})
	}
}

func fillVolume(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	require.NoError(t, err)
	defer f.Close()
	_, err = io.Copy(f, pattern(1<<30))
	require.ErrorIs(t, err, syscall.ENOSPC)
}

// A node that was told to stop, or was never started, says nothing; its health check does.
func TestStatusOfANodeThatDoesNotRun(t *testing.T) {
	t.Parallel()
	r := newStatusRig(t, echotest.Options{})
	_, err := r.run("status")
	require.ErrorIs(t, err, status.ErrNoNode)
	_, err = r.run("healthcheck")
	require.ErrorIs(t, err, status.ErrNoNode)
	r.start()
	r.shows("All delivered")
	r.shutdown()
	_, err = r.run("retry", "--all")
	require.ErrorIs(t, err, status.ErrNoNode)
	_, err = r.run("retry")
	require.ErrorIs(t, err, node.ErrUsage)
}

// A file that no edge will ever take is sent again when what was wrong is mended: from the page, and by the command.
func TestFailedFiles(t *testing.T) {
	t.Parallel()
	r := newStatusRig(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}}, `"message": {"content": "inline"}`)
	r.start()
	r.log.wait(t, "The status page is served")
	c := r.login()
	for _, name := range []string{"first.bin", "second.bin", "third.bin"} {
		c.upload(name, pattern(300_000))
		c.expect(226)
	}
	c.store("small.txt", []byte("x"))
	r.arrived("", 1)
	report := r.shows("3 files need help")
	require.Len(t, report.Failed, 3)
	assert.True(t, report.Health.OK, "the node works: %q", report.Health.Problems)
	for i, name := range []string{"first.bin", "second.bin", "third.bin"} {
		assert.Equal(t, name, report.Failed[i].Name)
		assert.Equal(t, "scanner", report.Failed[i].User)
		assert.Contains(t, report.Failed[i].Reason, "262144")
	}
	r.log.wait(t, "[ERROR]", report.Failed[0].ID)
	page := r.look()
	for _, text := range []string{"3 files need help", "first.bin", "262144", report.Failed[0].ID, "small.txt"} {
		assert.Contains(t, page, text)
	}

	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Config = strings.Replace(n.Config, `"inline"`, `"auto"`, 1) })
	r.log.wait(t, "the config has changed")
	page = r.open(func() (*http.Response, error) {
		return r.browser.PostForm(r.page+"/retry", url.Values{"id": {report.Failed[0].ID}})
	})
	assert.Regexp(t, `first\.bin (is sent again|was sent again and has arrived)\.`, page)
	r.arrived("", 2)
	out, err := r.run("retry", report.Failed[1].ID)
	require.NoError(t, err)
	assert.Equal(t, "Sent again: "+report.Failed[1].ID+" second.bin\n", out)
	r.arrived("", 3)
	out, err = r.run("discard", report.Failed[2].ID)
	require.NoError(t, err)
	assert.Equal(t, "Discarded: "+report.Failed[2].ID+" third.bin\n", out)
	_, err = r.run("discard", report.Failed[2].ID)
	assert.ErrorContains(t, err, "no failed file has this id")

	r.settled(3)
	require.Eventually(t, func() bool { return r.shows("All delivered").Sent.Files == 3 }, waitFor, tick)
	after := r.shows("All delivered")
	assert.Equal(t, []string{"small.txt", "first.bin", "second.bin"}, r.names(""))
	assert.Subset(t, r.trackingIDs(""), []string{report.Failed[0].ID, report.Failed[1].ID}, "they keep their tracking ids")
	assert.Equal(t, int64(3), after.Sent.Files)
	assert.Equal(t, "second.bin", after.Recent[0].Name)
	assert.Contains(t, r.look(), "second.bin")
	r.audited(r.trackingIDs("")...)
}

func TestStatusTellsOfDevices(t *testing.T) {
	t.Parallel()
	r := newStatusRig(t, echotest.Options{})
	r.start()
	r.log.wait(t, "The status page is served")
	before := time.Now()
	c := r.login()
	c.store("done.txt", []byte("x"))
	report := r.shows("All delivered")
	require.Len(t, report.Bridge.Senders, 1)
	sender := report.Bridge.Senders[0]
	assert.Equal(t, "scanner", sender.Name)
	assert.Equal(t, "127.0.0.1", sender.From)
	assert.WithinRange(t, sender.LastLogin, before.Truncate(time.Second), time.Now())
	assert.WithinRange(t, sender.LastUpload, sender.LastLogin, time.Now())

	data := c.data("STOR half.bin")
	_, err := data.Write([]byte("what came so far"))
	require.NoError(t, err)
	r.find(func(d node.Devices) bool {
		return len(d.Uploads) == 1 && d.Uploads[0].Name == "half.bin" && d.Uploads[0].Bytes == 16
	})
	require.NoError(t, c.conn.Close())
	require.NoError(t, data.Close())
	d := r.find(func(d node.Devices) bool { return len(d.Interrupted) == 1 && len(d.Uploads) == 0 })
	assert.Equal(t, "half.bin", d.Interrupted[0].Name)
	assert.Contains(t, r.look(), "half.bin")

	out, err := r.run("accept", d.Interrupted[0].ID)
	require.NoError(t, err)
	assert.Equal(t, "Accepted: "+d.Interrupted[0].ID+" half.bin\n", out)
	r.arrived("", 2)
	_, err = r.run("accept", d.Interrupted[0].ID)
	assert.ErrorContains(t, err, "no interrupted upload has this id")
}

// What devices try in vain is told by the status, on the page and in the log, with what to change; it makes no node unhealthy.
func TestStatusTellsWhatDevicesTried(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		ftp    string // of the config
		try    func(t *testing.T, address string)
		tried  string
		advice string
	}{
		{"wrong password", "", func(t *testing.T, address string) {
			c := dialFTP(t, address)
			assert.Equal(t, 530, c.login("scanner", "a wrong password"))
			c.conn.Close()
		}, "a log-in with a wrong name or password", "compare the device's name and password with ftp.users"},
		{"passive port closed", "", func(t *testing.T, address string) {
			c := loginFTP(t, address)
			c.command(229, "EPSV")
			c.command(221, "QUIT")
		}, "no data connection came", "let the passive ports (ftp.passivePorts) through"},
		{"TLS 1.0", "", func(t *testing.T, address string) {
			assert.Error(t, authTLS(t, address, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}))
		}, "TLS with a version before 1.2", "update the device or turn TLS 1.2 on in it"},
		{"untrusted certificate", "", func(t *testing.T, address string) {
			assert.Error(t, authTLS(t, address, &tls.Config{ServerName: "localhost", RootCAs: x509.NewCertPool()}))
		}, "TLS, but the device does not trust the certificate", "let the device accept the node's certificate"},
		{"plain to a TLS port", `"tls": "implicit"`, func(t *testing.T, address string) {
			conn, err := net.Dial("tcp", address)
			require.NoError(t, err)
			_, err = conn.Write([]byte("USER scanner\r\n"))
			require.NoError(t, err)
			_, _ = conn.Read(make([]byte, 100))
			conn.Close()
		}, "plain FTP on a port for implicit TLS", "use implicit FTPS in the device"},
		{"HTTP", "", func(t *testing.T, address string) {
			conn, err := net.Dial("tcp", address)
			require.NoError(t, err)
			_, err = conn.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
			require.NoError(t, err)
			replies := bufio.NewReader(conn)
			for range 2 { // the greeting, and that there is no such command
				_, err = replies.ReadString('\n')
				require.NoError(t, err)
			}
			conn.Close()
		}, "HTTP on the FTP port", "use an FTP client"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newStatusRigFTP(t, echotest.Options{}, c.ftp)
			r.start()
			r.log.wait(t, "The status page is served")
			for range 2 {
				c.try(t, r.address())
			}
			r.find(func(d node.Devices) bool {
				return slices.ContainsFunc(d.Attempts, func(a node.Attempt) bool {
					return a.Tried == c.tried && a.From == "127.0.0.1" && a.Count == 2 && strings.Contains(a.Advice, c.advice)
				})
			})
			text, err := r.run("status")
			require.NoError(t, err)
			for where, text := range map[string]string{"status": text, "page": r.look()} {
				assert.Contains(t, text, c.tried, where)
				assert.Contains(t, text, c.advice, where)
			}
			if c.name == "wrong password" { // which is told at once
				r.log.wait(t, "[WARNING] login failed", "user=scanner")
			} else {
				r.log.wait(t, "[INFO] a session ended without a transfer: "+c.tried, c.advice)
			}
			_, err = r.healthcheck(r.env["FTPNODE_DATA"], r.address())
			assert.NoError(t, err)
		})
	}
}

// authTLS begins TLS as a device does that speaks it explicitly.
func authTLS(t *testing.T, address string, config *tls.Config) error {
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	replies := bufio.NewReader(conn)
	_, err = replies.ReadString('\n')
	require.NoError(t, err)
	_, err = conn.Write([]byte("AUTH TLS\r\n"))
	require.NoError(t, err)
	line, err := replies.ReadString('\n')
	require.NoError(t, err)
	require.Regexp(t, "^234 ", line)
	return tls.Client(conn, config).Handshake()
}

// find waits until the devices do something.
func (r *statusRig) find(want func(node.Devices) bool) (found node.Devices) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		report, err := status.NewClient(r.env["FTPNODE_DATA"]).Report(r.t.Context())
		found = report.Bridge
		return err == nil && want(found)
	}, waitFor, tick, "%s", r.log)
	return found
}

// What is wrong is told within seconds, although the definition is read every ten minutes only: the first file that cannot be sent has the node look
// at its cloud. When that is back, nothing waits for the end of a long pause.
func TestOutageIsToldWithinSeconds(t *testing.T) {
	t.Parallel()
	r := newStatusRig(t, echotest.Options{})
	r.pace = node.Pace{FirstRetry: 10 * time.Millisecond, LastRetry: 100 * time.Millisecond, SlowRetry: time.Hour, Poll: time.Hour, PollIdle: time.Hour}
	r.start()
	r.shows("All delivered")
	for _, s := range echotest.Services() {
		r.cloud.Off(s)
	}
	r.login().store("a.txt", []byte("x"))
	r.shows("EchoStream cannot be reached")
	for _, s := range echotest.Services() {
		r.cloud.On(s)
	}
	r.arrived("", 1)
	r.shows("All delivered")
}

// The page comes, moves and goes with the config, and no port is opened without it.
func TestPageIsOffByDefault(t *testing.T) {
	t.Parallel()
	r := newRig(t, echotest.Options{}).start()
	assert.Empty(t, r.log.find("The status page is served"))
	port := freeport.Range(t, 1)
	r.cloud.UpdateNode("", func(n *echotest.Node) {
		n.Config = strings.TrimSuffix(n.Config, "}") + fmt.Sprintf(`, "status": {"port": %d, "password": %q}}`, port, pagePassword)
	})
	r.log.wait(t, "The status page is served", fmt.Sprint(port))
	assert.NotContains(t, r.log.Everything(), pagePassword)
	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Config = strings.Replace(n.Config, `"status"`, `"ignored"`, 1) })
	require.Eventually(t, func() bool {
		_, err := http.Get(fmt.Sprintf("http://localhost:%d", port))
		return err != nil
	}, waitFor, tick)
}
