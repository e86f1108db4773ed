//go:build matrix

package matrix

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	ftpclient "github.com/jlaffaye/ftp"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

// library is a client library, with a small program of ours in the directory libraries. It uploads in.bin as out.tmp and renames it to out.bin, makes a
// directory and uploads second.bin there, asks for a size and a list, and ends with exit code 0 if nothing was refused.
type library struct {
	name string
	// build fetches and builds what the program needs, below dir. It may take long.
	build func(t *testing.T, dir string)
	// command runs the program, with the port and "plain" or "tls" behind it.
	command func(dir string) []string
	// implicit says why its TLS is implicit; empty: it is explicit.
	implicit string
}

var libraries = []library{
	{name: "Java, commons-net", build: javac, command: func(dir string) []string {
		return []string{"java", "-cp", dir + ":" + commonsNet, "Upload"}
	}},
	{name: "Node, basic-ftp", build: npm, command: func(dir string) []string { return []string{"node", filepath.Join(dir, "upload.mjs")} }},
	{name: "PHP, ftp", command: script("php", "upload.php")},
	{name: "Perl, Net::FTP", command: script("perl", "upload.pl")},
	{name: "Ruby, net-ftp", command: script("ruby", "upload.rb")},
	{name: "Python, ftplib", command: script("python3", "upload.py")},
	{name: "Python, aioftp", build: pip, command: func(dir string) []string {
		return []string{filepath.Join(dir, "venv", "bin", "python"), source("upload_aioftp.py")}
	}, implicit: "with its explicit TLS, 0.25.1 does not encrypt data connections"},
	{name: "Rust, suppaftp", build: cargo, command: func(dir string) []string { return []string{filepath.Join(dir, "debug", "upload")} }},
	{name: "Go, jlaffaye/ftp"}, // in this process
}

const commonsNet = "/usr/share/java/commons-net.jar" // of Debian's libcommons-net-java

func source(name string) string {
	path, err := filepath.Abs(filepath.Join("libraries", name))
	if err != nil {
		panic(err)
	}
	return path
}

func script(interpreter, name string) func(string) []string {
	return func(string) []string { return []string{interpreter, source(name)} }
}

func javac(t *testing.T, dir string) {
	build(t, dir, nil, "javac", "-cp", commonsNet, "-d", dir, source("Upload.java"))
}

func npm(t *testing.T, dir string) {
	for _, name := range []string{"package.json", "package-lock.json", "upload.mjs"} {
		text, err := os.ReadFile(source("node/" + name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
	build(t, dir, nil, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
}

func pip(t *testing.T, dir string) {
	build(t, dir, nil, "python3", "-m", "venv", "venv")
	build(t, dir, nil, filepath.Join(dir, "venv", "bin", "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "aioftp==0.25.1")
}

func cargo(t *testing.T, dir string) {
	build(t, source("rust"), []string{"CARGO_TARGET_DIR=" + dir}, "cargo", "build", "-q", "--locked")
}

func build(t *testing.T, dir string, env []string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%v: %s", args, out)
}

func TestLibraries(t *testing.T) {
	var mu sync.Mutex
	passed := map[string]bool{}
	modes := []string{"plain", "tls"}
	t.Run("libraries", func(t *testing.T) {
		for _, l := range libraries {
			t.Run(l.name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				if l.build != nil {
					l.build(t, dir)
				}
				for _, mode := range modes {
					t.Run(mode, func(t *testing.T) {
						l.run(t, dir, mode)
						mu.Lock()
						defer mu.Unlock()
						passed[l.name+mode] = true
					})
				}
			})
		}
	})
	if t.Failed() || len(passed) < len(modes)*len(libraries) {
		return // the table is of a whole run without a failure
	}
	var b strings.Builder
	b.WriteString("| | plain | FTPS |\n|---|:---:|:---:|\n")
	for _, l := range libraries {
		kind := "explicit"
		if l.implicit != "" {
			kind = "implicit; " + l.implicit
		}
		fmt.Fprintf(&b, "| %s | ✓ | ✓ %s |\n", l.name, kind)
	}
	checkTable(t, "libraries", b.String())
}

func (l library) run(t *testing.T, dir, mode string) {
	r := &run{t: t, dir: t.TempDir()}
	r.node = start(t, func(o *ftp.Options, _ *drop.Options) {
		switch {
		case mode == "plain":
		case l.implicit == "":
			o.TLS = ftp.TLSRequired
		default:
			o.TLS = ftp.TLSImplicit
		}
	})
	r.local("in.bin", content)
	r.local("second.bin", second)
	if l.command != nil {
		r.exec("", append(l.command(dir), r.node.port, mode)...)
	} else {
		goLibrary(r, mode)
	}
	r.node.delivered(t, 2)
	require.Equal(t, fmt.Sprint([]file{fileOf("out.bin", content), fileOf("sub/second.bin", second)}), fmt.Sprint(r.node.taker.got()))
	require.Zero(t, r.node.drop.Usage().Partial.Files, "nothing is left unfinished")
	if mode == "tls" && l.implicit == "" {
		r.requireSent(`PROT P`)
	}
}

func goLibrary(r *run, mode string) {
	options := map[string][]ftpclient.DialOption{"tls": {ftpclient.DialWithExplicitTLS(anyCertificate)}}[mode]
	goClient(func(r *run, c *ftpclient.ServerConn) {
		goPut(r, c, "out.tmp", content)
		r.ok(c.Rename("out.tmp", "out.bin"))
		r.ok(c.MakeDir("sub"))
		r.ok(c.ChangeDir("sub"))
		r.ok(c.Stor("second.bin", bytes.NewReader(second)))
		r.ok(c.ChangeDirToParent())
		size, err := c.FileSize("sub/second.bin")
		r.ok(err)
		require.EqualValues(r.t, len(second), size)
		_, err = c.List("/")
		r.ok(err)
	}, options...)(r)
}
