package ftp

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

// kills is how many clients TestKilledClients kills; CI asks for more.
var kills = flag.Int("kills", 20, "how many clients to kill in mid-upload")

// TestRealClients uploads a file that any conversion would change with each client that sites have, twice
// under the same name.
func TestRealClients(t *testing.T) {
	content := noise(300_000)
	python := func(body string) func(n *node) []string {
		return func(n *node) []string {
			return []string{"python3", "-c", "import ftplib\nf=ftplib.FTP()\nf.connect('127.0.0.1'," + n.port() + ")\nf.login('dock','pass')\n" + body + "\nf.quit()"}
		}
	}
	type invocation struct {
		command func(n *node) []string
		input   func(n *node) string
	}
	said := func(format string) func(n *node) string {
		return func(n *node) string { return fmt.Sprintf(format, n.port()) }
	}
	args := func(format string) func(n *node) []string {
		return func(n *node) []string {
			return strings.Fields(strings.ReplaceAll(strings.ReplaceAll(format, "ADDR", n.addr), "PORT", n.port()))
		}
	}
	for name, c := range map[string]invocation{
		"curl":       {command: args("curl -sS -T in.bin ftp://dock:pass@ADDR/out.bin")},
		"curl ascii": {command: args("curl -sS -B -T in.bin ftp://dock:pass@ADDR/out.bin")},
		"curl PASV":  {command: args("curl -sS --disable-epsv -T in.bin ftp://dock:pass@ADDR/out.bin")},
		"curl temp name": {command: func(n *node) []string {
			return []string{"curl", "-sS", "-T", "in.bin", "-Q", "-RNFR out.tmp", "-Q", "-RNTO out.bin", n.url("out.tmp")}
		}},
		"lftp": {command: func(n *node) []string {
			return []string{"lftp", "-c", fmt.Sprintf("set net:max-retries 1; open -u dock,pass ftp://%s; put in.bin -o out.bin; cls -l", n.addr)}
		}},
		"ncftpput":              {command: args("ncftpput -u dock -p pass -P PORT -C 127.0.0.1 in.bin out.bin")},
		"ncftpput temp name":    {command: args("ncftpput -T tmp. -u dock -p pass -P PORT -C 127.0.0.1 in.bin out.bin")},
		"wput":                  {command: args("wput -nv --reupload in.bin ftp://dock:pass@ADDR/out.bin")},
		"tnftp":                 {command: args("tnftp -n -p -v"), input: said("open 127.0.0.1 %s\nuser dock pass\nbinary\nput in.bin out.bin\nquit\n")},
		"tnftp ascii":           {command: args("tnftp -n -p -v"), input: said("open 127.0.0.1 %s\nuser dock pass\nascii\nput in.bin out.bin\nls -al\nquit\n")},
		"tnftp upload":          {command: args("tnftp -u ftp://dock:pass@ADDR/out.bin in.bin")},
		"inetutils ftp":         {command: args("inetutils-ftp -n -p -v"), input: said("open 127.0.0.1 %s\nuser dock pass\nbinary\nput in.bin out.bin\nquit\n")},
		"python storbinary":     {command: python("f.storbinary('STOR out.bin',open('in.bin','rb'))")},
		"python TYPE A":         {command: python("f.storbinary('STOR x',open('in.bin','rb'))\nf.voidcmd('TYPE A')\nd=f.transfercmd('STOR out.bin')\nd.sendall(open('in.bin','rb').read())\nd.close()\nf.voidresp()")},
		"python rename":         {command: python("f.storbinary('STOR out.tmp',open('in.bin','rb'))\nf.rename('out.tmp','out.bin')")},
		"python without quit":   {command: python("f.storbinary('STOR out.bin',open('in.bin','rb'))\nf.close()\nimport os\nos._exit(0)")},
		"python MFMT and lists": {command: python("f.storbinary('STOR out.bin',open('in.bin','rb'))\nassert f.size('out.bin')==300000\nf.sendcmd('MFMT 20200102030405 out.bin')\nassert 'out.bin' in f.nlst()\nassert dict(f.mlsd())['out.bin']['modify']=='20200102030405'\nf.dir('-al')")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, nil)
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "in.bin"), content, 0o644))
			for range 2 {
				command, input := c.command(n), ""
				if c.input != nil {
					input = c.input(n)
				}
				out, err := runWith(t, dir, input, command[0], command[1:]...)
				require.NoError(t, err, out)
				want := content
				if strings.Contains(name, "ascii") { // these clients convert before they send; the server does not
					want = bytes.ReplaceAll(content, []byte("\n"), []byte("\r\n"))
				}
				n.requireFile(t, "out.bin", want)
			}
			require.NotContains(t, n.log.String(), "level=WARN")
		})
	}
}

// TestResumeWithRealClients cuts an upload, in the middle or behind its last byte, and lets clients go on with it: none of them takes it for accepted.
func TestResumeWithRealClients(t *testing.T) {
	content := noise(300_000)
	for name, command := range map[string]func(n *node) []string{
		"curl": func(n *node) []string { return []string{"curl", "-sS", "-C", "-", "-T", "in.bin", n.url("out.bin")} },
		"lftp": func(n *node) []string {
			return []string{"lftp", "-c", fmt.Sprintf("set net:max-retries 1; open -u dock,pass ftp://%s; put -c in.bin -o out.bin", n.addr)}
		},
		"python": func(n *node) []string {
			return []string{"python3", "-c", "import ftplib\nf=ftplib.FTP()\nf.connect('127.0.0.1'," + n.port() + ")\nf.login('dock','pass')\ns=f.size('out.bin')\nassert s in (99999, 299999)\ni=open('in.bin','rb')\ni.seek(s)\nf.storbinary('STOR out.bin',i,rest=s)"}
		},
	} {
		for _, cut := range []int{100_000, len(content)} {
			t.Run(fmt.Sprintf("%s, %d bytes", name, cut), func(t *testing.T) {
				n := start(t, nil)
				n.login(t).interrupt("STOR out.bin", content[:cut])
				dir := t.TempDir()
				require.NoError(t, os.WriteFile(filepath.Join(dir, "in.bin"), content, 0o644))
				args := command(n)
				out, err := run(t, dir, args[0], args[1:]...)
				require.NoError(t, err, out)
				n.requireFile(t, "out.bin", content)
			})
		}
	}
}

// TestEncryptedClients uploads over TLS in each mode that fits.
func TestEncryptedClients(t *testing.T) {
	content := noise(300_000)
	python := "import ftplib,ssl\nc=ssl._create_unverified_context()\nf=ftplib.FTP_TLS(context=c)\nf.connect('127.0.0.1',%s)\nf.login('dock','pass')\nf.prot_p()\nf.storbinary('STOR out.bin',open('in.bin','rb'))\nf.storbinary('STOR out.bin',open('in.bin','rb'))\nf.nlst()\nf.quit()"
	for name, c := range map[string]struct {
		mode    TLSMode
		command func(n *node) []string
	}{
		"curl required": {TLSRequired, func(n *node) []string {
			return []string{"curl", "-sS", "-k", "--ssl-reqd", "-T", "in.bin", n.url("out.bin")}
		}},
		"curl optional": {TLSOptional, func(n *node) []string {
			return []string{"curl", "-sS", "-k", "--ssl-reqd", "-T", "in.bin", n.url("out.bin")}
		}},
		"curl in the clear": {TLSOptional, func(n *node) []string { return []string{"curl", "-sS", "-T", "in.bin", n.url("out.bin")} }},
		"curl TLS 1.2": {TLSRequired, func(n *node) []string {
			return []string{"curl", "-sS", "-k", "--ssl-reqd", "--tls-max", "1.2", "-T", "in.bin", n.url("out.bin")}
		}},
		"curl implicit": {TLSImplicit, func(n *node) []string {
			return []string{"curl", "-sS", "-k", "-T", "in.bin", strings.Replace(n.url("out.bin"), "ftp:", "ftps:", 1)}
		}},
		"lftp required": {TLSRequired, func(n *node) []string {
			return []string{"lftp", "-c", fmt.Sprintf("set net:max-retries 1; set ssl:verify-certificate no; set ftp:ssl-force yes; set ftp:ssl-protect-data yes; open -u dock,pass ftp://%s; put in.bin -o out.bin; put in.bin -o out.bin; cls", n.addr)}
		}},
		"lftp implicit": {TLSImplicit, func(n *node) []string {
			return []string{"lftp", "-c", fmt.Sprintf("set net:max-retries 1; set ssl:verify-certificate no; open -u dock,pass ftps://%s; put in.bin -o out.bin", n.addr)}
		}},
		"python required": {TLSRequired, func(n *node) []string { return []string{"python3", "-c", fmt.Sprintf(python, n.port())} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, func(o *Options, _ *drop.Options) { o.TLS = c.mode })
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "in.bin"), content, 0o644))
			args := c.command(n)
			out, err := run(t, dir, args[0], args[1:]...)
			require.NoError(t, err, out)
			n.requireFile(t, "out.bin", content)
			require.Contains(t, n.log.String(), "TLS certificate")
			require.NotContains(t, n.log.String(), "level=WARN")
		})
	}
}

// TestKilledClients kills real clients at random moments of an upload, plain and over TLS: nothing that is not
// complete may be finished. They send slowly, so that they are killed in the middle.
func TestKilledClients(t *testing.T) {
	const size = 400_000
	content := noise(size)
	n := start(t, func(o *Options, _ *drop.Options) { o.TLS = TLSOptional; o.MaxConnectionsPerAddress = 200 })
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "in.bin"), content, 0o644))
	python := "import ftplib,ssl,sys,time\nc=ssl._create_unverified_context()\nf=%s\nf.connect('127.0.0.1',%s)\nf.login('dock','pass')\n%s\n" +
		"f.storbinary('STOR '+sys.argv[1],open('in.bin','rb'),blocksize=4096,callback=lambda b: time.sleep(0.005))\ntime.sleep(60)"
	commands := []func(name string) []string{
		func(name string) []string {
			return []string{"curl", "-sS", "--limit-rate", "600k", "-T", "in.bin", n.url(name)}
		},
		func(name string) []string {
			return []string{"curl", "-sS", "-k", "--ssl-reqd", "--limit-rate", "600k", "-T", "in.bin", n.url(name)}
		},
		func(name string) []string {
			return []string{"lftp", "-c", fmt.Sprintf("set net:max-retries 1; set ftp:ssl-allow no; set net:limit-rate 600000; open -u dock,pass ftp://%s; put in.bin -o %s", n.addr, name)}
		},
		func(name string) []string {
			return []string{"python3", "-c", fmt.Sprintf(python, "ftplib.FTP()", n.port(), ""), name}
		},
		func(name string) []string {
			return []string{"python3", "-c", fmt.Sprintf(python, "ftplib.FTP_TLS(context=c)", n.port(), "f.prot_p()"), name}
		},
	}
	for i := range *kills {
		name := fmt.Sprintf("f%d.bin", i)
		args := commands[i%len(commands)](name)
		path, err := exec.LookPath(args[0])
		require.NoError(t, err)
		cmd := exec.Command(path, args[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+dir)
		require.NoError(t, cmd.Start())
		least := rand.Int64N(size / 2)
		require.Eventually(t, func() bool {
			_, err := os.Stat(n.stored("dock", name)) // on a busy machine it may be done before anybody looks
			return err == nil || n.received() > least
		}, patience, time.Millisecond, "%v sends", args)
		require.NoError(t, cmd.Process.Kill())
		cmd.Wait()
		eventually(t, func() bool { return n.sessionCount() == 0 }, "the session ends")
		// A client may have been done before it was killed; then its file is whole.
		if n.sent(t, name) {
			got, err := os.ReadFile(n.stored("dock", name))
			require.NoError(t, err)
			require.Equal(t, size, len(got), "%v: a truncated file was taken as finished", args)
		}
	}
}

// TestClientsThatGiveUp lets curl give up by itself at random moments of an upload. It ends its connections in an
// orderly way, with close_notify where there is TLS: nothing that is not complete may be finished.
func TestClientsThatGiveUp(t *testing.T) {
	t.Parallel()
	const size = 4 << 20 // two seconds, at the rate
	for name, args := range map[string][]string{
		"plain":   {},
		"TLS":     {"--ssl-reqd", "-k"},
		"TLS 1.2": {"--ssl-reqd", "-k", "--tls-max", "1.2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, func(o *Options, _ *drop.Options) { o.TLS = TLSOptional })
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "in.bin"), noise(size), 0o644))
			began := 0
			for i := range *kills {
				name := fmt.Sprintf("f%d.bin", i)
				patience := fmt.Sprint(0.1 + rand.Float64()/2) // in seconds
				out, err := run(t, dir, "curl", append(args, "-sS", "--limit-rate", "2M", "--max-time", patience, "-T", "in.bin", n.url(name))...)
				require.Error(t, err)
				require.Regexp(t, "^exit status (28|18)$", err.Error(), out) // on a busy machine curl may say for the time that is up that the file was not sent whole
				eventually(t, func() bool { return n.sessionCount() == 0 }, "the session ends")
				require.False(t, n.sent(t, name))
				if n.drop.Usage().Partial.Files > began {
					began++
				}
			}
			require.NotZero(t, began, "some gave up in the middle")
		})
	}
}

// received is how many bytes the uploads under way have brought.
func (n *node) received() (bytes int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for s := range n.Server.sessions {
		s.mu.Lock()
		if s.cur != nil {
			bytes += s.cur.bytes
		}
		s.mu.Unlock()
	}
	return bytes
}
