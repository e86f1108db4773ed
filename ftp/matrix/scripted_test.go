//go:build matrix

package matrix

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path"
	"strings"
	"sync"
	"time"

	ftpclient "github.com/jlaffaye/ftp"
	"github.com/stretchr/testify/require"
)

// python is ftplib, as the scripts of sites use it.
var python = &client{
	name: "Python ftplib",
	cells: actions{
		"binary":    with(doPython, "put('in.bin', 'out.bin')"),
		"ascii":     with(doPython, "f.storlines('STOR out.bin', open('in.bin', 'rb'))"),
		"empty":     with(doPython, "put('empty.bin')"),
		"big":       with(doPython, "put('big.bin')"),
		"rest":      with(doPython, "n = f.size('in.bin')", "i = open('in.bin', 'rb')", "i.seek(n)", "f.storbinary('STOR in.bin', i, rest=n)"),
		"appe":      with(doPython, "f.storbinary('APPE in.bin', open('tail.bin', 'rb'))"),
		"rename":    with(doPython, "put('in.bin', 'out.part')", "f.rename('out.part', 'out.bin')"),
		"overwrite": with(doPython, "put('in.bin', 'out.bin')", "put('second.bin', 'out.bin')"),
		"append":    with(doPython, "put('in.bin', 'out.bin')", "f.storbinary('APPE out.bin', open('second.bin', 'rb'))"),
		"mkdir": with(doPython, "assert f.mkd('a') == '/a'", "f.cwd('a')", "assert f.mkd('b') == '/a/b'", "f.cwd('b')",
			"assert f.pwd() == '/a/b'", "put('in.bin', 'out.bin')"),
		"awkward": func(r *run) {
			var script []string
			for _, name := range awkward {
				script = append(script, fmt.Sprintf("put(%q)", name), fmt.Sprintf("assert f.size(%q) > 0", name))
			}
			doPython(r, script...)
		},
		"bytes": with(doPython, "f.encoding = 'latin-1'", `put(b'caf\xe9 \xce\xc4.bin', 'caf\xe9 \xce\xc4.bin')`),
		"parallel": with(doPython, "import threading", "def one(i):", " g = connect()", " g.storbinary('STOR p%d.bin' % i, open('p%d.bin' % i, 'rb'))", " g.quit()",
			"all = [threading.Thread(target=one, args=(i,)) for i in range(6)]", "for t in all: t.start()", "for t in all: t.join()"),
		"ask": func(r *run) {
			doPython(r, "def refused(what):", " try: f.sendcmd(what)", " except ftplib.error_perm: return True",
				"assert refused('SIZE out.bin') and refused('MDTM out.bin') and refused('MLST out.bin') and f.nlst() == []", "f.dir('-al', print)",
				"put('in.bin', 'out.bin')",
				"def ask():", " assert f.size('out.bin') == 300000", " assert f.sendcmd('MDTM out.bin').startswith('213 20')",
				" assert 'size=300000;' in f.sendcmd('MLST out.bin').lower()", " f.nlst()", " f.dir('-al', print)", " list(f.mlsd())",
				"ask()", "import subprocess", fmt.Sprintf("subprocess.check_call(%q, shell=True)", r.waitForDelivery()), "ask()", "assert f.nlst() == []")
		},
		"mfmt": with(doPython, "put('in.bin')", "f.sendcmd('MFMT 20200102030405 in.bin')", "assert dict(f.mlsd())['in.bin']['modify'] == '20200102030405'"),
		"site": with(doPython, "put('in.bin')", "f.sendcmd('SITE CHMOD 644 in.bin')", "f.sendcmd('SITE UTIME 20200102030405 in.bin')",
			"f.sendcmd('SITE UTIME in.bin 20200102030405 20200102030405 20200102030405 UTC')"),
		"allo": with(doPython, "f.sendcmd('ALLO 300000')", "put('in.bin')"),
		"quit": func(r *run) {
			r.kill("", "python3", "-c", pythonScript(r, "ftplib.FTP()", "import time",
				"f.storbinary('STOR out.bin', open('in.bin', 'rb'), blocksize=4096, callback=lambda b: time.sleep(0.5))"))
		},
		"explicit": func(r *run) {
			r.exec("", "python3", "-c", pythonScript(r, "ftplib.FTP_TLS(context=ssl._create_unverified_context())", "f.prot_p()", "put('in.bin', 'out.bin')"))
		},
		"pasv":   with(doPython, "put('in.bin', 'out.bin')"),
		"active": with(doPython, "f.set_pasv(False)", "put('in.bin', 'out.bin')"),
	},
	ascii: func(b []byte) []byte { // storlines ends each line with CRLF
		var out []byte
		for line := range bytes.Lines(b) {
			if !bytes.HasSuffix(line, []byte("\r\n")) {
				line = append(bytes.TrimSuffix(line, line[len(bytes.TrimRight(line, "\r\n")):][max(0, len(line[len(bytes.TrimRight(line, "\r\n")):])-1):]), "\r\n"...)
			}
			out = append(out, line...)
		}
		return out
	},
	no: map[string]string{
		"implicit": "ftplib knows explicit TLS only.",
		"epsv":     "ftplib uses EPSV over IPv6 only.",
	},
}

func pythonScript(r *run, constructor string, lines ...string) string {
	return strings.Join(append([]string{
		"import ftplib, ssl",
		"def connect():", " f = " + constructor, " f.connect('127.0.0.1', " + r.node.port + ")", " f.login('dock', 'pass')", " return f",
		"def put(name, to=None): f.storbinary('STOR ' + (to or name), open(name, 'rb'))",
		"f = connect()",
	}, append(lines, "f.quit()")...), "\n")
}

func doPython(r *run, lines ...string) string {
	r.t.Helper()
	return r.exec("", "python3", "-c", pythonScript(r, "ftplib.FTP()", lines...))
}

var rclone = &client{
	name: "rclone",
	cells: actions{
		"binary": with(doRclone, "copyto", "in.bin", ":ftp:out.bin"),
		"empty":  with(doRclone, "copyto", "empty.bin", ":ftp:empty.bin"),
		"big":    with(doRclone, "copyto", "big.bin", ":ftp:big.bin", "-L"),
		"rename": func(r *run) {
			doRclone(r, "copyto", "in.bin", ":ftp:out.tmp")
			doRclone(r, "moveto", ":ftp:out.tmp", ":ftp:out.bin")
		},
		"overwrite": func(r *run) {
			doRclone(r, "copyto", "in.bin", ":ftp:out.bin")
			doRclone(r, "copyto", "second.bin", ":ftp:out.bin")
		},
		"mkdir": with(doRclone, "copyto", "in.bin", ":ftp:a/b/out.bin"),
		"awkward": func(r *run) {
			for _, name := range awkward {
				doRclone(r, "copyto", "./"+name, ":ftp:"+name)
			}
		},
		"parallel": with(doRclone, "copy", ".", ":ftp:", "--include", "p*.bin", "--transfers", "6"),
		"ask": func(r *run) {
			doRclone(r, "copyto", "in.bin", ":ftp:out.bin")
		},
		"mfmt": with(doRclone, "copyto", "in.bin", ":ftp:in.bin"),
		"quit": func(r *run) {
			rcloneArgs(r)
			r.kill("", append(rcloneArgs(r), "copyto", "in.bin", ":ftp:out.bin", "--bwlimit", "20k")...)
		},
		"explicit": with(doRclone, "copyto", "in.bin", ":ftp:out.bin", "--ftp-explicit-tls", "--ftp-no-check-certificate"),
		"implicit": with(doRclone, "copyto", "in.bin", ":ftp:out.bin", "--ftp-tls", "--ftp-no-check-certificate"),
		"pasv":     with(doRclone, "copyto", "in.bin", ":ftp:out.bin", "--ftp-disable-epsv"),
		"epsv":     with(doRclone, "copyto", "in.bin", ":ftp:out.bin"),
	},
	sent: map[string][]string{"ask": {`STOR .*`, `MLSD.*`}}, // it compares sizes in a listing before and after
	no: map[string]string{
		"ascii":  "rclone sends binary only.",
		"rest":   "rclone begins a file anew.",
		"appe":   "rclone begins a file anew.",
		"append": "rclone's FTP backend does not append.",
		"bytes":  "rclone's names are UTF-8; it refuses others before it connects.",
		"site":   "rclone does not send SITE.",
		"allo":   "rclone does not send ALLO.",
		"active": "rclone is passive only.",
	},
}

func rcloneArgs(r *run) []string {
	password := strings.TrimSpace(r.exec("", "rclone", "obscure", "pass"))
	return []string{"rclone", "--config", "", "--ftp-host", "127.0.0.1", "--ftp-port", r.node.port, "--ftp-user", "dock", "--ftp-pass", password, "--retries", "1", "--low-level-retries", "1"}
}

func doRclone(r *run, args ...string) string {
	r.t.Helper()
	return r.exec("", append(rcloneArgs(r), args...)...)
}

// golang is github.com/jlaffaye/ftp, which Go programs (rclone too) use.
var golang = &client{
	name: "Go",
	cells: actions{
		"binary": goClient(func(r *run, c *ftpclient.ServerConn) { goPut(r, c, "out.bin", content) }),
		"ascii": goClient(func(r *run, c *ftpclient.ServerConn) {
			r.ok(c.Type(ftpclient.TransferTypeASCII))
			goPut(r, c, "out.bin", content)
		}),
		"empty": goClient(func(r *run, c *ftpclient.ServerConn) { goPut(r, c, "empty.bin", nil) }),
		"big":   goClient(func(r *run, c *ftpclient.ServerConn) { goPut(r, c, "big.bin", big) }),
		"rest":  goClient(func(r *run, c *ftpclient.ServerConn) { r.ok(c.StorFrom("in.bin", bytes.NewReader(content[cut:]), cut)) }),
		"appe":  goClient(func(r *run, c *ftpclient.ServerConn) { r.ok(c.Append("in.bin", bytes.NewReader(content[cut:]))) }),
		"rename": goClient(func(r *run, c *ftpclient.ServerConn) {
			goPut(r, c, "out.tmp", content)
			r.ok(c.Rename("out.tmp", "out.bin"))
		}),
		"overwrite": goClient(func(r *run, c *ftpclient.ServerConn) { goPut(r, c, "out.bin", content); goPut(r, c, "out.bin", second) }),
		"append": goClient(func(r *run, c *ftpclient.ServerConn) {
			goPut(r, c, "out.bin", content)
			r.ok(c.Append("out.bin", bytes.NewReader(second)))
		}),
		"mkdir": goClient(func(r *run, c *ftpclient.ServerConn) {
			r.ok(c.MakeDir("a"))
			r.ok(c.ChangeDir("a"))
			r.ok(c.MakeDir("b"))
			goPut(r, c, "b/out.bin", content)
		}),
		"awkward": goClient(func(r *run, c *ftpclient.ServerConn) {
			for i, name := range awkward {
				goPut(r, c, name, content[:1000+i])
			}
		}),
		"bytes": goClient(func(r *run, c *ftpclient.ServerConn) { goPut(r, c, foreign, content) }),
		"parallel": func(r *run) {
			var all sync.WaitGroup
			for i := range parallel {
				all.Go(func() {
					goClient(func(r *run, c *ftpclient.ServerConn) { goPut(r, c, fmt.Sprintf("p%d.bin", i), content[i:]) })(r)
				})
			}
			all.Wait()
		},
		"ask": goClient(func(r *run, c *ftpclient.ServerConn) {
			ask := func() {
				size, err := c.FileSize("out.bin")
				r.ok(err)
				require.EqualValues(r.t, len(content), size)
				_, err = c.GetTime("out.bin")
				r.ok(err)
				entry, err := c.GetEntry("out.bin")
				r.ok(err)
				require.EqualValues(r.t, len(content), entry.Size)
				_, err = c.List("")
				r.ok(err)
				_, err = c.NameList("")
				r.ok(err)
			}
			_, err := c.FileSize("out.bin")
			require.Error(r.t, err)
			goPut(r, c, "out.bin", content)
			ask()
			r.node.delivered(r.t, 1)
			ask()
		}),
		"mfmt": goClient(func(r *run, c *ftpclient.ServerConn) {
			goPut(r, c, "in.bin", content)
			r.ok(c.SetTime("in.bin", stamp))
		}),
		"quit": func(r *run) {
			var mu sync.Mutex
			var conns []net.Conn
			dial := func(network, address string) (net.Conn, error) {
				conn, err := net.Dial(network, address)
				mu.Lock()
				defer mu.Unlock()
				conns = append(conns, conn)
				return conn, err
			}
			c, err := ftpclient.Dial(r.node.addr, ftpclient.DialWithDialFunc(dial))
			r.ok(err)
			r.ok(c.Login("dock", "pass"))
			in, out := io.Pipe()
			go func() {
				out.Write(content)
				for r.node.drop.Usage().Partial.Bytes < int64(len(content)) && r.t.Context().Err() == nil {
					time.Sleep(time.Millisecond)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, conn := range conns {
					conn.Close() // as the kernel does when it kills the program
				}
				out.CloseWithError(context.Canceled)
			}()
			require.Error(r.t, c.Stor("out.bin", in))
			r.interrupted()
		},
		"explicit": goClient(func(r *run, c *ftpclient.ServerConn) { goPut(r, c, "out.bin", content) }, ftpclient.DialWithExplicitTLS(anyCertificate)),
		"implicit": goClient(func(r *run, c *ftpclient.ServerConn) { goPut(r, c, "out.bin", content) }, ftpclient.DialWithTLS(anyCertificate)),
		"pasv":     goClient(func(r *run, c *ftpclient.ServerConn) { goPut(r, c, "out.bin", content) }, ftpclient.DialWithDisabledEPSV(true)),
		"epsv":     goClient(func(r *run, c *ftpclient.ServerConn) { goPut(r, c, "out.bin", content) }),
	},
	sent: map[string][]string{"ask": {`SIZE .*`, `MDTM .*`, `MLST .*`, `MLSD.*`, `NLST.*`}}, // it lists with MLSD
	no: map[string]string{
		"site":   "The library does not send SITE.",
		"allo":   "The library does not send ALLO.",
		"active": "The library is passive only.",
	},
}

// anyCertificate takes the self-signed one. Sessions are resumed, as other clients do.
var anyCertificate = &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(10)}

func goClient(do func(*run, *ftpclient.ServerConn), options ...ftpclient.DialOption) func(*run) {
	return func(r *run) {
		c, err := ftpclient.Dial(r.node.addr, append(options, ftpclient.DialWithTimeout(patience))...)
		r.ok(err)
		r.ok(c.Login("dock", "pass"))
		do(r, c)
		r.ok(c.Quit())
	}
}

func goPut(r *run, c *ftpclient.ServerConn, name string, content []byte) {
	r.t.Helper()
	r.ok(c.Stor(name, bytes.NewReader(content)))
}

func (r *run) ok(err error) {
	r.t.Helper()
	require.NoError(r.t, err, "%s", path.Base(r.t.Name()))
}

// inParallel runs a client that uploads one file at a time several times at once.
func inParallel(do func(*run, ...string) string, args ...string) func(*run) {
	return func(r *run) {
		var all sync.WaitGroup
		for i := range parallel {
			all.Go(func() { do(r, append(append([]string{}, args...), fmt.Sprintf("p%d.bin", i))...) })
		}
		all.Wait()
	}
}
