//go:build matrix

package matrix

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

// Devices and programs that cannot run here: their dialogues, replayed. What they wait for is waited for.

const notInDialogue = "not in its dialogue"

// device speaks the protocol line by line.
type device struct {
	r         *run
	conn      net.Conn
	text      *textproto.Conn
	encrypted bool
}

func (r *run) connect() *device {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.node.addr)
	r.ok(err)
	conn.SetDeadline(time.Now().Add(patience))
	r.t.Cleanup(func() { conn.Close() })
	d := &device{r: r, conn: conn, text: textproto.NewConn(conn)}
	if r.cell.id == "implicit" {
		d.startTLS()
	}
	d.expect(220)
	if r.cell.id == "explicit" {
		d.do(234, "AUTH TLS")
		d.startTLS()
	}
	if d.encrypted {
		d.do(200, "PBSZ 0")
		d.do(200, "PROT P")
	}
	return d
}

// dial connects and logs in.
func (r *run) dial() *device {
	d := r.connect()
	d.do(331, "USER dock")
	d.do(230, "PASS pass")
	return d
}

func (d *device) expect(code int) string {
	d.r.t.Helper()
	got, text, err := d.text.ReadResponse(code)
	require.NoError(d.r.t, err, "expected %d, got %d %s", code, got, text)
	return text
}

func (d *device) do(code int, format string, args ...any) string {
	d.r.t.Helper()
	_, err := fmt.Fprintf(d.conn, format+"\r\n", args...)
	d.r.ok(err)
	return d.expect(code)
}

// pasv opens a data connection.
func (d *device) pasv() net.Conn {
	d.r.t.Helper()
	_, rest, _ := strings.Cut(d.do(227, "PASV"), "(")
	var h1, h2, h3, h4, p1, p2 int
	_, err := fmt.Sscanf(rest, "%d,%d,%d,%d,%d,%d", &h1, &h2, &h3, &h4, &p1, &p2)
	d.r.ok(err)
	data, err := net.Dial("tcp", fmt.Sprintf("%d.%d.%d.%d:%d", h1, h2, h3, h4, p1<<8|p2))
	d.r.ok(err)
	data.SetDeadline(time.Now().Add(patience))
	d.r.t.Cleanup(func() { data.Close() })
	return data
}

// open begins an upload in passive mode.
func (d *device) open(command string) net.Conn {
	d.r.t.Helper()
	data := d.pasv()
	d.do(150, "%s", command)
	if d.encrypted {
		return tls.Client(data, anyCertificate)
	}
	return data
}

func (d *device) put(command string, content []byte) {
	d.r.t.Helper()
	data := d.open(command)
	_, err := data.Write(content)
	d.r.ok(err)
	data.Close()
	d.expect(226)
}

// port is PORT: the client listens.
func (d *device) port() net.Listener {
	d.r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	d.r.ok(err)
	d.r.t.Cleanup(func() { l.Close() })
	p := l.Addr().(*net.TCPAddr).Port
	d.do(200, "PORT 127,0,0,1,%d,%d", p>>8, p&0xff)
	return l
}

// putActive is an upload in active mode.
func (d *device) putActive(command string, content []byte) {
	d.r.t.Helper()
	l := d.port()
	d.do(150, "%s", command)
	data, err := l.Accept()
	d.r.ok(err)
	_, err = data.Write(content)
	d.r.ok(err)
	data.Close()
	d.expect(226)
}

func (d *device) list(command string) string {
	d.r.t.Helper()
	return d.read(d.open(command))
}

func (d *device) listActive(command string) string {
	d.r.t.Helper()
	l := d.port()
	d.do(150, "%s", command)
	data, err := l.Accept()
	d.r.ok(err)
	return d.read(data)
}

func (d *device) read(data net.Conn) string {
	d.r.t.Helper()
	var b bytes.Buffer
	_, err := b.ReadFrom(data)
	d.r.ok(err)
	d.expect(226)
	return b.String()
}

// startTLS encrypts the control connection, and data connections from now on.
func (d *device) startTLS() {
	d.conn = tls.Client(d.conn, anyCertificate)
	d.text = textproto.NewConn(d.conn)
	d.encrypted = true
}

func (d *device) quit() {
	d.r.t.Helper()
	d.do(221, "QUIT")
	_, err := io.Copy(io.Discard, d.conn)
	d.r.ok(err)
}

// dies ends all connections at once, as a kernel does for a program that is killed.
func (d *device) dies(data net.Conn) {
	require.Eventually(d.r.t, func() bool { return d.r.node.drop.Usage().Partial.Bytes > 0 }, patience, time.Millisecond)
	data.Close()
	d.conn.Close()
	d.r.interrupted()
}

func (d *device) die(command string) {
	data := d.open(command)
	_, err := data.Write(content[:cut])
	d.r.ok(err)
	d.dies(data)
}

// camera sends pictures with the same names over and over.
var camera = &client{
	name: "camera",
	cells: actions{
		"binary": func(r *run) {
			d := r.dial()
			d.do(200, "TYPE I")
			d.put("STOR out.bin", content)
			d.quit()
		},
		"pasv": func(r *run) {
			d := r.dial()
			d.put("STOR out.bin", content)
			d.quit()
		},
		"rename": func(r *run) {
			d := r.dial()
			d.cameraTakes(content, content, content)
			d.quit()
		},
		"overwrite": func(r *run) {
			d := r.dial()
			d.cameraTakes(second, content)
			r.node.delivered(r.t, 1)
			d.cameraTakes(second)
			d.quit()
		},
		"quit": func(r *run) { r.dial().die("STOR camera_tmp.jpg") },
	},
	rest: notInDialogue,
}

// cameraTakes replays the loop. Where a picture of the name still waits, it is deleted: the camera wants it so.
func (d *device) cameraTakes(pictures ...[]byte) {
	d.do(200, "TYPE I")
	for i, picture := range pictures {
		d.do(550, "DELE camera_tmp.jpg")
		d.put("STOR camera_tmp.jpg", picture)
		if i == 0 {
			d.do(550, "DELE out.bin")
		} else {
			d.do(250, "DELE out.bin")
		}
		d.do(350, "RNFR camera_tmp.jpg")
		d.do(250, "RNTO out.bin")
	}
}

// scanner is one of 2006: TYPE A for a PDF, and it hangs up after the 226.
var scanner = &client{
	name: "scanner",
	cells: actions{
		"ascii": func(r *run) { r.scan("out.bin", content) },
		"empty": func(r *run) { r.scan("empty.bin", nil) },
		"pasv":  func(r *run) { r.scan("out.bin", content) },
		"mkdir": func(r *run) {
			d := r.dial()
			d.do(257, "XMKD a")
			d.do(250, "CWD a")
			d.do(257, "XMKD b")
			d.do(250, "CWD b")
			d.put("STOR out.bin", content)
		},
		"allo": func(r *run) {
			d := r.dial()
			d.do(200, "ALLO 300000 R 1024")
			d.put("STOR in.bin", content)
			d.conn.Close()
		},
		"quit": func(r *run) { r.dial().die("STOR out.bin") },
	},
	rest: notInDialogue,
}

func (r *run) scan(name string, content []byte) {
	d := r.dial()
	for _, old := range []string{"STRU F", "MODE S", "TYPE A N"} {
		d.do(200, "%s", old)
	}
	d.put("STOR "+name, content)
	d.conn.Close()
}

// controller is a PLC: a small buffer at a time, with NOOP on the control connection meanwhile; or all commands at once, with
// QUIT behind STOR. One that sends QUIT when its data has ended, before it has read the 226, needs ftp.trustHangups.
var controller = &client{
	name: "PLC",
	cells: actions{
		"binary": func(r *run) { r.drip("STOR out.bin") },
		"pasv": func(r *run) {
			d := r.dial()
			data := d.open("STOR out.bin\r\nQUIT")
			_, err := data.Write(content)
			r.ok(err)
			data.Close()
			d.expect(226)
			d.expect(221)
		},
		"appe": func(r *run) {
			d := r.dial()
			d.put("APPE in.bin", content[cut:])
			d.quit()
		},
		"append": func(r *run) {
			d := r.dial()
			d.put("STOR out.bin", content)
			d.put("APPE out.bin", second)
			d.quit()
		},
		"quit": func(r *run) { r.dial().die("STOR out.bin") },
	},
	rest: notInDialogue,
}

func (r *run) drip(command string) {
	d := r.dial()
	d.do(200, "TYPE I")
	data := d.open(command)
	noops := 0
	for i := 0; i < len(content); i += 1024 {
		_, err := data.Write(content[i:min(i+1024, len(content))])
		r.ok(err)
		if i%(32*1024) == 0 {
			fmt.Fprint(d.conn, "NOOP\r\n")
			noops++
		}
	}
	data.Close()
	d.expect(226)
	for range noops {
		d.expect(200)
	}
	d.quit()
}

// windows is ftp.exe: active mode only, ASCII unless told otherwise, OPTS UTF8 ON since Windows 7.
var windows = &client{
	name:   "Windows ftp.exe",
	change: func(o *ftp.Options, _ *drop.Options) { o.ActiveMode = true },
	cells: actions{
		"binary": ftpExe(func(d *device) { d.do(200, "TYPE I"); d.putActive("STOR out.bin", content) }),
		"ascii":  ftpExe(func(d *device) { d.do(200, "TYPE A"); d.putActive("STOR out.bin", content) }),
		"empty":  ftpExe(func(d *device) { d.putActive("STOR empty.bin", nil) }),
		"big":    ftpExe(func(d *device) { d.do(200, "TYPE I"); d.putActive("STOR big.bin", big) }),
		"rename": ftpExe(func(d *device) {
			d.putActive("STOR out.tmp", content)
			d.do(350, "RNFR out.tmp")
			d.do(250, "RNTO out.bin")
		}),
		"overwrite": ftpExe(func(d *device) { d.putActive("STOR out.bin", content); d.putActive("STOR out.bin", second) }),
		"append":    ftpExe(func(d *device) { d.putActive("STOR out.bin", content); d.putActive("APPE out.bin", second) }),
		"appe":      ftpExe(func(d *device) { d.putActive("APPE in.bin", content[cut:]) }),
		"mkdir": ftpExe(func(d *device) {
			d.do(257, "XMKD a")
			d.do(250, "CWD a")
			d.do(257, "XMKD b")
			d.do(250, "CWD b")
			d.do(257, "XPWD")
			d.putActive("STOR out.bin", content)
		}),
		"awkward": ftpExe(func(d *device) {
			for i, name := range awkward {
				d.putActive("STOR "+name, content[:1000+i])
			}
		}),
		"bytes":  ftpExe(func(d *device) { d.putActive("STOR "+foreign, content) }),
		"active": ftpExe(func(d *device) { d.putActive("STOR out.bin", content) }),
		"quit": ftpExe(func(d *device) {
			l := d.port()
			d.do(150, "STOR out.bin")
			data, err := l.Accept()
			d.r.ok(err)
			_, err = data.Write(content[:cut])
			d.r.ok(err)
			d.dies(data)
		}),
	},
	no: map[string]string{
		"rest": noRestart, "explicit": noTLS, "implicit": noTLS,
		"pasv": "ftp.exe is active only.", "epsv": "ftp.exe is active only.",
		"parallel": "ftp.exe sends one file at a time.",
	},
	rest: notInDialogue,
}

const noRestart = "The client cannot resume."

// ftpExe is a session of ftp.exe -s:script, which the cells of all modes run with active mode on.
func ftpExe(do func(*device)) func(*run) {
	return func(r *run) {
		d := r.connect()
		d.do(200, "OPTS UTF8 ON")
		d.do(331, "USER dock")
		d.do(230, "PASS pass")
		do(d)
		if r.cell.id != "quit" {
			d.listActive("NLST")
			d.quit()
		}
	}
}

// winscp asks for its own way of names and lists at the start, and sets the time right after each upload.
var winscp = &client{
	name: "WinSCP",
	cells: actions{
		"binary": winSCP(func(d *device) { d.winPut("out.bin", content) }),
		"ascii": winSCP(func(d *device) {
			d.do(200, "TYPE A")
			d.put("STOR out.bin", content)
			d.do(213, "MFMT 20200102030405 out.bin")
		}),
		"empty": winSCP(func(d *device) { d.winPut("empty.bin", nil) }),
		"big":   winSCP(func(d *device) { d.winPut("big.bin", big) }),
		"appe": winSCP(func(d *device) {
			require.Equal(d.r.t, fmt.Sprint(told), d.do(213, "SIZE in.bin"))
			d.put("APPE in.bin", content[told:])
			d.do(213, "MFMT 20200102030405 in.bin")
		}),
		"rename": winSCP(func(d *device) {
			d.winPut("out.bin.filepart", content)
			d.do(350, "RNFR out.bin.filepart")
			d.do(250, "RNTO out.bin")
		}),
		"overwrite": winSCP(func(d *device) { d.winPut("out.bin", content); d.winPut("out.bin", second) }),
		"mkdir": winSCP(func(d *device) {
			d.do(257, "MKD a")
			d.do(257, "MKD a/b")
			d.do(250, "CWD /a/b")
			d.do(257, "PWD")
			d.winPut("out.bin", content)
		}),
		"awkward": winSCP(func(d *device) {
			for i, name := range awkward {
				d.winPut(name, content[:1000+i])
			}
		}),
		"ask": winSCP(func(d *device) {
			d.do(550, "SIZE out.bin")
			d.winPut("out.bin", content)
			for range 2 {
				require.Equal(d.r.t, "300000", d.do(213, "SIZE out.bin"))
				d.do(213, "MDTM out.bin")
				require.Contains(d.r.t, d.do(250, "MLST out.bin"), "Size=300000;")
				for _, list := range []string{"MLSD", "LIST -a", "LIST -al", "NLST"} {
					d.list(list)
				}
				d.r.node.delivered(d.r.t, 1)
			}
			require.Empty(d.r.t, d.list("NLST"))
		}),
		"mfmt":     winSCP(func(d *device) { d.winPut("in.bin", content) }),
		"site":     winSCP(func(d *device) { d.winPut("in.bin", content); d.do(200, "SITE CHMOD 644 in.bin") }),
		"quit":     winSCP(func(d *device) { d.die("STOR out.bin") }),
		"explicit": winSCP(func(d *device) { d.winPut("out.bin", content) }),
		"implicit": winSCP(func(d *device) { d.winPut("out.bin", content) }),
		"pasv":     winSCP(func(d *device) { d.winPut("out.bin", content) }),
	},
	rest: notInDialogue,
}

func winSCP(do func(*device)) func(*run) {
	return func(r *run) {
		d := r.dial()
		d.do(215, "SYST")
		d.do(211, "FEAT")
		d.do(200, "CLNT WinSCP-release-6.3.5")
		d.do(200, "OPTS UTF8 ON")
		d.do(257, "PWD")
		d.do(250, "CWD /")
		d.do(200, "TYPE A")
		d.list("MLSD")
		do(d)
		if r.cell.id != "quit" {
			d.quit()
		}
	}
}

func (d *device) winPut(name string, content []byte) {
	d.r.t.Helper()
	d.do(200, "TYPE I")
	d.put("STOR "+name, content)
	d.do(213, "MFMT 20200102030405 %s", name)
}

// commander is Total Commander: it sets times with MDTM where it may, and tells its name.
var commander = &client{
	name: "Total Commander",
	cells: actions{
		"binary": totalCommander(func(d *device) { d.put("STOR out.bin", content); d.do(213, "MDTM 20200102030405 out.bin") }),
		"ascii":  totalCommander(func(d *device) { d.do(200, "TYPE A"); d.put("STOR out.bin", content) }),
		"empty":  totalCommander(func(d *device) { d.put("STOR empty.bin", nil) }),
		"rest": totalCommander(func(d *device) {
			require.Equal(d.r.t, fmt.Sprint(told), d.do(213, "SIZE in.bin"))
			d.do(350, "REST %d", told)
			d.put("STOR in.bin", content[told:])
		}),
		"appe": totalCommander(func(d *device) { d.put("APPE in.bin", content[told:]) }), // as the listing says
		"rename": totalCommander(func(d *device) {
			d.put("STOR out.tmp", content)
			d.do(350, "RNFR out.tmp")
			d.do(250, "RNTO /out.bin")
		}),
		"overwrite": totalCommander(func(d *device) {
			d.put("STOR out.bin", second)
			d.do(250, "DELE out.bin") // what it deletes before it is due is not sent
			d.put("STOR out.bin", content)
			d.r.node.delivered(d.r.t, 1)
			d.put("STOR out.bin", second)
		}),
		"mkdir": totalCommander(func(d *device) {
			d.do(257, "MKD a")
			d.do(250, "CWD a")
			d.do(257, "MKD b")
			d.do(250, "CWD b")
			d.do(257, "PWD")
			d.put("STOR out.bin", content)
			d.do(250, "CDUP")
		}),
		"awkward": totalCommander(func(d *device) {
			for i, name := range awkward {
				d.put("STOR "+name, content[:1000+i])
			}
		}),
		"bytes":    totalCommander(func(d *device) { d.put("STOR "+foreign, content) }),
		"mfmt":     totalCommander(func(d *device) { d.put("STOR in.bin", content); d.do(213, "MFMT 20200102030405 in.bin") }),
		"quit":     totalCommander(func(d *device) { d.die("STOR out.bin") }),
		"explicit": totalCommander(func(d *device) { d.put("STOR out.bin", content) }),
		"pasv":     totalCommander(func(d *device) { d.put("STOR out.bin", content) }),
	},
	rest: notInDialogue,
}

func totalCommander(do func(*device)) func(*run) {
	return func(r *run) {
		d := r.dial()
		d.do(215, "SYST")
		d.do(211, "FEAT")
		d.do(200, "CLNT Total Commander (UTF-8)")
		d.do(200, "OPTS UTF8 ON")
		d.do(257, "PWD")
		d.do(200, "TYPE A")
		d.list("LIST -la")
		d.do(200, "TYPE I")
		do(d)
		if r.cell.id != "quit" {
			d.list("LIST -la")
			d.quit()
		}
	}
}
