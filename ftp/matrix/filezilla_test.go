//go:build matrix

package matrix

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

// filezilla is the real program in a window of its own: its queue, which it keeps from one start to the next, is
// filled before it starts, and one key processes it.
var filezilla = &client{
	name: "FileZilla",
	cells: actions{
		"binary":    fileZilla(zilla{files: queued("in.bin", "out.bin")}),
		"empty":     fileZilla(zilla{files: queued("empty.bin", "empty.bin")}),
		"big":       fileZilla(zilla{files: queued("big.bin", "big.bin")}),
		"rest":      fileZilla(zilla{files: []zillaFile{{Local: "in.bin", Remote: "in.bin", Resume: true}}}),
		"overwrite": fileZilla(zilla{files: append(queued("in.bin", "out.bin"), queued("second.bin", "out.bin")...), one: true}),
		"mkdir":     fileZilla(zilla{files: []zillaFile{{Local: "in.bin", Remote: "out.bin", Dir: []string{"a", "b"}}}}),
		"awkward": func(r *run) {
			var files []zillaFile
			for _, name := range awkward {
				files = append(files, queued(name, name)...)
			}
			fileZilla(zilla{files: files, one: true})(r)
		},
		"parallel": func(r *run) {
			var files []zillaFile
			for i := range parallel {
				name := fmt.Sprintf("p%d.bin", i)
				files = append(files, queued(name, name)...)
			}
			fileZilla(zilla{files: files})(r)
		},
		"mfmt":     fileZilla(zilla{files: queued("in.bin", "in.bin")}),
		"quit":     killedFileZilla,
		"explicit": fileZilla(zilla{files: queued("in.bin", "out.bin"), protocol: 4}),
		"implicit": fileZilla(zilla{files: queued("in.bin", "out.bin"), protocol: 3}),
		"pasv":     fileZilla(zilla{files: queued("in.bin", "out.bin")}),
		"active":   fileZilla(zilla{files: queued("in.bin", "out.bin"), active: true}),
	},
	no: map[string]string{
		"ascii":  "Not run: how FileZilla's stored queue says ASCII is not known here.",
		"bytes":  "Not run: FileZilla shows no window when its stored queue names a charset.",
		"appe":   "FileZilla resumes uploads with REST and STOR.",
		"rename": "FileZilla uploads under the last name at once.",
		"append": "FileZilla has no command that appends; it resumes.",
		"ask":    "FileZilla asks with MLSD before an upload, and nothing after it.",
		"site":   "FileZilla sends SITE CHMOD from a dialog only.",
		"allo":   "FileZilla does not send ALLO.",
		"epsv":   "FileZilla uses EPSV over IPv6 only.",
	},
}

// zilla is what one start is to do.
type zilla struct {
	files    []zillaFile
	protocol int  // of FileZilla's own numbers; 0: plain FTP
	one      bool // one transfer at a time, so that there is an order
	active   bool
	slow     bool // and killed
}

type zillaFile struct {
	Local, Remote string
	Dir           []string // at the server
	Resume        bool
}

func queued(local, remote string) []zillaFile { return []zillaFile{{Local: local, Remote: remote}} }

// killedFileZilla sends a file that is too large for the burst that its speed limit begins with: a small one would be whole before the kill.
func killedFileZilla(r *run) {
	r.ok(os.Symlink(bigFile, filepath.Join(r.dir, "big.bin")))
	fileZilla(zilla{files: queued("big.bin", "out.bin"), slow: true})(r)
}

func fileZilla(z zilla) func(*run) {
	return func(r *run) {
		screen.Lock()
		defer screen.Unlock()
		r.configureFileZilla(z)
		display := r.display()
		cmd, out := r.command("", "filezilla")
		cmd.Env = append(cmd.Env, "DISPLAY="+display)
		r.ok(cmd.Start())
		defer func() {
			cmd.Cancel()
			cmd.Wait()
			if r.t.Failed() {
				r.t.Logf("%s", out)
			}
		}()
		r.process(display)
		if z.protocol != 0 { // it asks about the self-signed certificate; Return trusts it
			require.Eventually(r.t, func() bool {
				return r.xdotool(display, "search", "--onlyvisible", "--name", "Unknown certificate") == nil
			}, patience, 50*time.Millisecond)
			r.ok(r.xdotool(display, "key", "Return"))
		}
		if z.slow {
			require.Eventually(r.t, func() bool { return r.node.drop.Usage().Partial.Bytes > 0 }, patience, time.Millisecond)
			r.ok(cmd.Cancel())
			cmd.Wait()
			r.interrupted()
			return
		}
		last := func() int { // uploads whose time was set, which FileZilla does last
			n := 0
			for _, line := range r.node.log.sent() {
				if strings.HasPrefix(line, "MFMT ") {
					n++
				}
			}
			return n
		}
		require.Eventually(r.t, func() bool { return last() == len(z.files) }, patience, 5*time.Millisecond, "FileZilla is done")
		if z.protocol != 0 {
			require.Eventually(r.t, func() bool {
				trust, _ := os.ReadFile(filepath.Join(r.dir, ".config", "filezilla", "trustedcerts.xml"))
				return strings.Contains(string(trust), ">true</Entry>")
			}, patience, 5*time.Millisecond, "FileZilla notes that data connections resume the TLS session of the control connection")
		}
	}
}

// process starts the queue: Ctrl+P, once the window takes keys. It would also stop it, so there is time
// between two tries.
func (r *run) process(display string) {
	r.t.Helper()
	before := strings.Count(r.node.log.String(), "session started")
	require.Eventually(r.t, func() bool { return r.xdotool(display, "search", "--onlyvisible", "--name", "FileZilla") == nil }, patience, 50*time.Millisecond)
	for range 4 {
		r.ok(r.xdotool(display, "key", "ctrl+p"))
		deadline := time.After(15 * time.Second)
		for {
			if strings.Count(r.node.log.String(), "session started") > before {
				return
			}
			select {
			case <-time.After(20 * time.Millisecond):
				continue
			case <-deadline:
			}
			break
		}
	}
	require.Fail(r.t, "FileZilla does not begin")
}

func (r *run) xdotool(display string, args ...string) error {
	cmd, _ := r.command("", append([]string{"xdotool"}, args...)...)
	cmd.Env = append(cmd.Env, "DISPLAY="+display)
	return cmd.Run()
}

// screen is an X server without a screen, for one FileZilla at a time: it has one focus.
var screen struct {
	sync.Mutex
	server  *exec.Cmd
	display string
}

// display starts the X server for the first who needs it, and returns its name.
func (r *run) display() string {
	r.t.Helper()
	if screen.server != nil {
		return screen.display
	}
	path, err := exec.LookPath("Xvfb")
	require.NoError(r.t, err, "Xvfb is needed for this test")
	read, write, err := os.Pipe()
	r.ok(err)
	defer read.Close()
	cmd := exec.Command(path, "-displayfd", "3", "-screen", "0", "1280x1024x24", "-nolisten", "tcp", "-noreset")
	cmd.ExtraFiles = []*os.File{write}
	r.ok(cmd.Start())
	write.Close()
	number, err := bufio.NewReader(read).ReadString('\n')
	r.ok(err)
	screen.server, screen.display = cmd, ":"+strings.TrimSpace(number)
	return screen.display
}

// stopDisplay ends the X server, if there is one.
func stopDisplay() {
	if screen.server != nil {
		screen.server.Process.Signal(syscall.SIGTERM)
		screen.server.Wait()
	}
}

// configureFileZilla writes what FileZilla reads at its start: settings, what it trusts, and the queue.
func (r *run) configureFileZilla(z zilla) {
	r.t.Helper()
	dir := filepath.Join(r.dir, ".config", "filezilla")
	r.ok(os.MkdirAll(dir, 0o700))
	write := func(name, body string) {
		r.ok(os.WriteFile(filepath.Join(dir, name), []byte(`<?xml version="1.0" encoding="UTF-8"?>`+"\n<FileZilla3>"+body+"</FileZilla3>\n"), 0o600))
	}
	settings := map[string]any{"Greeting version": "99.0.0", "Update Check": 0, "Preserve timestamps": 1, "Use Pasv mode": 1, "Number of Transfers": parallel}
	if z.one {
		settings["Number of Transfers"] = 1
	}
	if z.active {
		settings["Use Pasv mode"] = 0
	}
	if z.slow {
		settings["Speedlimit outbound"], settings["Speedlimits enabled"], settings["Speed limit burst tolerance"] = 10, 1, 0
	}
	var body strings.Builder
	for name, value := range settings {
		fmt.Fprintf(&body, `<Setting name="%s">%v</Setting>`, name, value)
	}
	write("filezilla.xml", "<Settings>"+body.String()+"</Settings>")

	if z.protocol == 0 {
		z.protocol = 6 // FTP that must not be encrypted
		write("trustedcerts.xml", fmt.Sprintf(`<InsecureHosts><Host Port="%s">127.0.0.1</Host></InsecureHosts>`, r.node.port))
	}
	queue, err := json.Marshal(map[string]any{"port": r.node.port, "protocol": z.protocol, "files": z.files, "dir": r.dir + "/"})
	r.ok(err)
	r.exec(string(queue), "python3", "-c", makeQueue, filepath.Join(dir, "queue.sqlite3"))
}

// makeQueue writes a queue as FileZilla 3.63 does.
const makeQueue = `
import json, os, sqlite3, sys
want = json.load(sys.stdin)
q = sqlite3.connect(sys.argv[1])
q.executescript('''PRAGMA encoding="UTF-16le"; PRAGMA user_version=7;
CREATE TABLE servers (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, host TEXT NOT NULL, port INTEGER, user TEXT, password TEXT, account TEXT, keyfile TEXT, protocol INTEGER, type INTEGER, logontype INTEGER, timezone_offset INTEGER, transfer_mode TEXT, max_connections INTEGER, encoding TEXT, bypass_proxy INTEGER, post_login_commands TEXT, name TEXT, parameters TEXT, site_path TEXT DEFAULT NULL);
CREATE TABLE files (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, server INTEGER NOT NULL, source_file TEXT, target_file TEXT, local_path INTEGER, remote_path INTEGER, size INTEGER, error_count INTEGER, priority INTEGER, flags INTEGER, default_exists_action INTEGER, extra_flags TEXT);
CREATE INDEX server_index ON files (server);
CREATE TABLE local_paths (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, path TEXT NOT NULL);
CREATE TABLE remote_paths (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, path TEXT NOT NULL);''')
q.execute("INSERT INTO servers (host, port, user, password, protocol, type, logontype, timezone_offset, transfer_mode, max_connections, encoding, bypass_proxy, name, parameters) VALUES ('127.0.0.1', ?, 'dock', 'pass', ?, 0, 1, 0, 'default', 0, 'Auto', 0, '', '')",
    (int(want['port']), want['protocol']))
q.execute('INSERT INTO local_paths (path) VALUES (?)', (want['dir'],))
for i, f in enumerate(want['files'], 1):
    path = '1 0' + ''.join(' %d %s' % (len(d), d) for d in f['Dir'] or [])
    q.execute('INSERT INTO remote_paths (id, path) VALUES (?, ?)', (i, path))
    target = f['Remote'] if f['Remote'] != f['Local'] else None
    q.execute('INSERT INTO files (server, source_file, target_file, local_path, remote_path, size, error_count, priority, flags, default_exists_action) VALUES (1, ?, ?, 1, ?, ?, 0, 2, ?, ?)',
        (f['Local'], target, i, os.path.getsize(want['dir'] + f['Local']), 0, 5 if f['Resume'] else 1))
q.commit()
`
