package ftp

import (
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

// TestDialogues holds what old devices and other clients send, and what they get.
func TestDialogues(t *testing.T) {
	type step struct {
		send string
		code int
		text string // is in the reply
	}
	for name, steps := range map[string][]step{
		"harmless legacy": {
			{"SYST", 215, "UNIX"}, {"TYPE I", 200, ""}, {"TYPE I N", 200, ""}, {"type a n", 200, ""}, {"TYPE L 8", 200, ""}, {"TYPE E", 504, ""},
			{"MODE S", 200, ""}, {"MODE Z", 504, ""}, {"STRU F", 200, ""}, {"STRU R", 504, ""},
			{"OPTS UTF8 ON", 200, ""}, {"OPTS UTF8 OFF", 200, ""}, {"OPTS MLST type;size;", 200, ""}, {"OPTS HASH MD5", 501, ""},
			{"CLNT Old Device 1.0", 200, ""}, {"HELP", 214, "STOR"}, {"NOOP", 200, ""}, {"noop", 200, ""}, {"ACCT x", 202, ""}, {"SMNT /", 202, ""}, {"LANG EN", 200, ""},
			{"ABOR", 226, ""}, {"STAT", 211, "Connected"},
			{"ALLO 5", 200, ""}, {"ALLO 5 R 512", 200, ""}, {"ALLO 0", 200, ""}, {"ALLO", 501, ""}, {"ALLO -5", 200, ""}, {"ALLO x", 501, ""},
			{"HASH x", 500, ""}, {"COMB a b c", 500, ""}, {"XYZZY", 500, `Unknown command: "XYZZY"`},
		},
		"directories": {
			{"PWD", 257, `"/" is`}, {"MKD a", 257, `"/a" created`}, {"XMKD a/b", 257, `"/a/b"`}, {"MKD a", 550, "There is"},
			{"CWD a", 250, ""}, {"XCWD b", 250, ""}, {"XPWD", 257, `"/a/b"`}, {"XCUP", 250, ""}, {"PWD", 257, `"/a"`}, {"CDUP", 250, ""}, {"CDUP", 250, ""},
			{"CWD ..", 250, ""}, {"PWD", 257, `"/"`}, {"CWD /../../etc", 550, "No such"}, {"CWD nowhere", 550, "No such"},
			{"RMD a", 550, "not empty"}, {"XRMD a/b", 250, ""}, {"RMD a", 250, ""}, {"RMD a", 550, "No such"},
			{`MKD say "x"`, 257, `"/say ""x""" created`}, {"MKD", 501, "needs a name"},
		},
		"nothing there": {
			{"SIZE x", 550, "No such"}, {"MDTM x", 550, "No such"}, {"MFMT 20200102030405 x", 550, "No such"}, {"DELE x", 550, "No such"},
			{"RNFR x", 550, "No such"}, {"RNTO y", 503, ""}, {"SITE CHMOD 644 x", 550, ""}, {"MLST x", 550, ""}, {"STAT x", 550, ""},
		},
		"wrong forms": {
			{"SITE CHMOD 644", 501, ""}, {"SITE CHMOD", 501, ""}, {"SITE", 504, ""}, {"SITE EXEC ls", 504, ""}, {"SITE UTIME", 501, ""}, {"SITE UTIME x y", 501, ""},
			{"SITE UMASK 022", 200, ""}, {"SITE HELP", 214, ""}, {"MFMT", 501, ""}, {"MFMT 2020 x", 501, ""}, {"MFF Modify=2020 x", 501, ""}, {"MFF x", 501, ""}, {"MFF UNIX.mode=0644; x", 504, ""},
			{"REST -5", 501, ""}, {"REST x", 501, ""}, {"EPSV 3", 501, ""}, {"EPSV 2", 522, "(1)"},
			{"STOR x", 425, "PASV or EPSV"}, {"STOR", 501, ""}, {"LIST", 425, "PASV or EPSV"}, {"RETR", 501, ""},
			{"PORT 127,0,0,1,200,200", 502, "passive"}, {"EPRT |1|127.0.0.1|51400|", 502, "passive"},
			{"AUTH TLS", 502, ""}, {"PROT P", 503, ""}, {"PBSZ 0", 503, ""}, {"AUTH KERBEROS", 504, ""},
			{"DELE a\x1b[2J", 501, "Control"}, {"MKD a\x00b", 501, "Control"}, {"CWD \r.", 501, "Control"}, {"CWD \u009b31mx", 501, "Control"}, {"MKD \xff\x1b", 501, "Control"},
			{"\x1b[31mXX", 500, "?[31MXX"}, {"", 500, ""}, {" ", 500, ""}, {strings.Repeat("A", 3000), 500, ""},
		},
		"log in twice": {
			{"USER dock", 331, ""}, {"PASS whatever", 230, ""}, {"PWD", 257, ""}, {"USER blind", 331, ""}, {"PWD", 530, ""}, {"PASS pass", 230, ""}, {"PWD", 257, ""},
		},
		"small syntax": {
			{"MKD d", 257, ""}, {"CWD d", 250, ""}, {"CWD", 250, ""}, {"PWD", 257, `"/" is`}, {"CWD d", 250, ""}, {"CWD ", 250, ""}, {"PWD", 257, `"/" is`},
			{"CWD d", 250, ""}, {"CWD ~", 250, ""}, {"PWD", 257, `"/" is`}, {"CWD ~/d", 250, ""}, {"PWD", 257, `"/d" is`}, {"CWD ~nobody", 550, ""},
			{"MKD ~", 257, ""}, {"CWD ~", 250, ""}, {"PWD", 257, `"/d/~" is`}, {"CWD /", 250, ""},
			{"TYPE AN", 200, "ASCII"}, {"TYPE IN", 200, "Binary"}, {"TYPE  a  n ", 200, ""}, {"PROT P ", 503, ""}, {"AUTH TLS ", 502, ""}, {"REIN", 220, ""}, {"PWD", 530, ""},
			{"USER dock", 331, ""}, {"PASS pass", 230, ""}, {"USER dock", 331, ""}, {"PASS pass", 230, ""},
			{"MLST /", 250, "Type=dir;"}, {"OPTS MLST size;TYPE;nothing;", 200, "MLST OPTS Type;Size;"}, {"FEAT", 211, " MLST Type*;Size*;Modify;\n"}, {"OPTS MLST", 200, "MLST OPTS"},
			{"MLST d", 250, "\n  d\n"},
		},
		"epsv all": {{"EPSV ALL", 200, ""}, {"PASV", 501, ""}, {"EPSV", 229, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, nil).login(t)
			for _, s := range steps {
				text := c.do(s.code, "%s", s.send)
				require.Contains(t, text, s.text, s.send)
			}
			c.do(221, "QUIT")
		})
	}
}

func TestBeforeLogin(t *testing.T) {
	n := start(t, nil)
	c := n.dial(t)
	require.Equal(t, "ftpnode ready.", c.expect(220))
	for _, command := range []string{"PWD", "PASV", "STOR x", "LIST", "MKD x", "SITE CHMOD 644 x", "REST 5", "ALLO 5", "TYPE I"} {
		c.do(530, "%s", command)
	}
	c.do(211, "FEAT")
	c.do(500, "XYZZY")
	c.do(503, "PASS pass")
	c.login("dock", "pass")
	c.do(257, "PWD")
}

// TestFeatures holds that what is off is not offered.
func TestFeatures(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		has    []string
		hasNot []string
	}{
		"by default":  {nil, []string{"EPSV", "MFMT", "TVFS"}, []string{"EPRT", "AUTH", "PROT", "MODE Z", "HASH", "COMB"}},
		"active mode": {func(o *Options) { o.ActiveMode = true }, []string{"EPRT"}, nil},
		"TLS":         {func(o *Options) { o.TLS = TLSOptional }, []string{"AUTH TLS", "PBSZ", "PROT"}, []string{"EPRT"}},
	} {
		n := start(t, func(o *Options, _ *drop.Options) {
			if c.change != nil {
				c.change(o)
			}
		})
		features := n.login(t).do(211, "FEAT")
		for _, f := range c.has {
			require.Contains(t, features, "\n "+f, name)
		}
		for _, f := range c.hasNot {
			require.NotContains(t, features, "\n "+f, name)
		}
	}
}

func TestTimes(t *testing.T) {
	n := start(t, nil)
	c := n.login(t)
	c.store("a b", []byte("x"))
	for _, s := range []struct {
		send string
		code int
		want string
	}{
		{"MFMT 20200102030405 a b", 213, "20200102030405"},
		{"MDTM 20200102030406 a b", 213, "20200102030406"},
		{"MFF Modify=20200102030407;UNIX.mode=0644; a b", 213, "20200102030407"},
		{"SITE UTIME 20200102030408 a b", 200, "20200102030408"},
		{"SITE UTIME 202001020304 a b", 200, "20200102030400"},
		{"SITE UTIME a b 20190102030405 20200102030409 20200102030405 UTC", 200, "20200102030409"},
		{"SITE CHMOD 644 a b", 200, "20200102030409"},
		{"MFMT 20200102030410.123 a b", 213, "20200102030410"},
		{"MDTM 20200102030405+120 a b", 213, "20200102010405"},
		{"MDTM 20200102030405-60 a b", 213, "20200102040405"},
		{"MDTM 20200102030410 a b", 213, "20200102030410"},
	} {
		c.do(s.code, "%s", s.send)
		require.Equal(t, s.want, c.do(213, "MDTM a b"), s.send)
	}
	info, ok := n.box.Lookup("dock/a b")
	require.True(t, ok)
	require.Equal(t, int64(1577934250), info.ModTime.Unix())
}

func TestListings(t *testing.T) {
	c := start(t, nil).login(t)
	c.do(257, "MKD sub")
	for _, name := range []string{"a.csv", "b.csv", "c.txt", "sub/d.csv", "Gr\xfc\xdfe.txt", "日本.csv"} {
		c.store(name, []byte("12345"))
	}
	lines := func(s string) []string { return strings.Split(strings.TrimSuffix(s, "\r\n"), "\r\n") }
	all := []string{"a.csv", "b.csv", "c.txt", "sub", "Gr\xfc\xdfe.txt", "日本.csv"}
	for _, command := range []string{"NLST", "NLST -a", "NLST /", "NLST ."} {
		require.ElementsMatch(t, all, lines(c.fetch(command)), command)
	}
	require.ElementsMatch(t, []string{"a.csv", "b.csv", "日本.csv"}, lines(c.fetch("NLST *.csv")))
	require.Equal(t, []string{"sub/d.csv"}, lines(c.fetch("NLST sub")))
	require.Equal(t, []string{"sub/d.csv"}, lines(c.fetch("NLST sub/*.csv")))
	require.Empty(t, c.fetch("NLST *.nothing"))
	for _, command := range []string{"LIST", "LIST -al", "LIST -a -l /", "LIST -lart ."} {
		require.Len(t, lines(c.fetch(command)), len(all), command)
	}
	require.Regexp(t, `^-rw\S+ .* 5 .* a\.csv\r\n$`, c.fetch("LIST -l a.csv"))
	mlsd := c.fetch("MLSD")
	require.Contains(t, mlsd, "Type=dir;")
	require.Regexp(t, `Type=file;Size=5;Modify=\d{14}; a\.csv\r\n`, mlsd)
	require.Regexp(t, `Type=file;Size=5;Modify=\d{14}; a\.csv`, c.do(250, "MLST a.csv"))
	for arg, want := range map[string]string{"": "/", "/": "/", "sub": "sub", "/sub/d.csv": "/sub/d.csv", ".": "."} {
		require.Regexp(t, `^Listing\n Type=(dir|file);Size=\d+;Modify=\d{14}; `+regexp.QuoteMeta(want)+`\nEnd$`, c.do(250, "MLST %s", arg))
	}
	c.do(200, "OPTS MLST size;type;")
	require.Contains(t, c.fetch("MLSD"), "Type=file;Size=5; a.csv\r\n")
	require.Contains(t, c.do(250, "MLST a.csv"), " Type=file;Size=5; a.csv\n")
	c.do(200, "OPTS MLST type;size;modify;")
	require.Equal(t, mlsd, c.fetch("MLSD"))
	require.Regexp(t, ` -rw\S+ .* a\.csv`, c.do(213, "STAT a.csv"))
	stat := c.do(212, "STAT /")
	require.Contains(t, stat, "c.txt")
	require.NotContains(t, stat, "%s")
	c.store("a %sb", []byte("x"))
	require.Contains(t, c.do(250, "MLST a %%sb"), "; a %sb\n")
	require.Regexp(t, `^Status follows:\n -rw\S+ .* a %sb\n`, c.do(213, "STAT a %%sb"))
	require.Regexp(t, ` -rw\S+ .* a %sb\n`, c.do(212, "STAT /"))
	c.refused(550, "LIST nowhere")
	c.refused(550, "NLST nowhere")
	c.refused(550, "MLSD a.csv")
	require.Contains(t, c.do(211, "FEAT"), " MLST Type*;")
}

func TestNamesOfOtherProgramsCannotForgeReplies(t *testing.T) {
	n := start(t, nil)
	c := n.login(t)
	require.NoError(t, os.WriteFile(n.folder("x\r\n226 forged\x1b[2J"), nil, 0o644))
	require.NoError(t, os.WriteFile(n.folder("y\u009b2J"), nil, 0o644))
	require.NoError(t, os.WriteFile(n.folder("z\x9b"), nil, 0o644))
	gbk := "\xc2\x93\xba\xcf.txt" // its first letter would be a control character in UTF-8
	c.store(gbk, nil)
	require.NoError(t, os.MkdirAll(n.folder("d\r\n226 forged"), 0o755))
	for _, command := range []string{"LIST", "NLST", "MLSD"} {
		got := c.fetch(command)
		require.NotContains(t, got, "\n226")
		require.NotContains(t, got, "\x1b")
		require.NotContains(t, got, "\u009b")
		require.Contains(t, got, "z\x9b", "not UTF-8, but a byte of some other encoding")
		require.Contains(t, got, gbk)
	}
	stat := c.do(212, "STAT /")
	require.NotContains(t, stat, "\n226")
	require.NotContains(t, stat, "\u009b")
	c.do(200, "NOOP")
}

func TestRenameAndDelete(t *testing.T) {
	n := start(t, nil)
	c := n.login(t)
	for i := range 3 { // a camera
		c.send("DELE camera_tmp.jpg")
		code, _, _ := c.text.ReadResponse(0)
		require.Contains(t, []int{250, 550}, code)
		content := noise(1000 + i)
		c.store("camera_tmp.jpg", content)
		c.send("DELE camera.jpg")
		code, _, _ = c.text.ReadResponse(0)
		require.Contains(t, []int{250, 550}, code)
		c.do(350, "RNFR camera_tmp.jpg")
		c.do(250, "RNTO camera.jpg")
		n.requireFile(t, "camera.jpg", content)
	}
	c.do(350, "RNFR camera.jpg")
	c.do(550, "RNTO nowhere/camera.jpg")
	c.do(250, "DELE camera.jpg")
	n.requireNoFile(t, "camera.jpg")
}

func TestReadingIsASetting(t *testing.T) {
	n := start(t, nil)
	c := n.dial(t)
	c.expect(220)
	c.login("blind", "pass")
	c.store("x", []byte("secret"))
	require.Equal(t, "Failed to open file: Files cannot be read here, only sent.", c.refused(550, "RETR x"))
	require.Contains(t, c.fetch("NLST"), "x")

	d := n.login(t)
	d.refused(550, "RETR ../blind/x")
	d.refused(550, "RETR /../../drop/blind/x")
	d.store("abc", []byte("0123456789"))
	d.do(350, "REST 4")
	require.Equal(t, "456789", d.fetch("RETR abc"))
	d.do(350, "REST 11")
	d.refused(554, "RETR abc")
	require.Equal(t, "0123456789", d.fetch("RETR abc"), "REST is for one transfer")
}

func TestNoWayOut(t *testing.T) {
	n := start(t, nil)
	c := n.login(t)
	require.NoError(t, os.WriteFile(n.dir+"/outside", []byte("x"), 0o644))
	require.NoError(t, os.Symlink(n.dir, n.folder("link")))
	require.NoError(t, os.Symlink(n.dir+"/outside", n.folder("file")))
	for _, command := range []string{"CWD link", "SIZE link/outside", "DELE link/outside", "MKD link/x", "SIZE ../../outside", "SIZE /outside", "CWD ../blind"} {
		c.do(550, "%s", command)
	}
	c.refused(550, "RETR link/outside")
	c.refused(550, "RETR file")
	data := c.passive()
	c.send("STOR link/new")
	code, _, _ := c.text.ReadResponse(0)
	require.GreaterOrEqual(t, code, 400)
	data.Close()
	require.NoFileExists(t, n.dir+"/new")
	require.FileExists(t, n.dir+"/outside")
}

func TestPipelining(t *testing.T) {
	n := start(t, nil)
	c := n.dial(t)
	_, err := c.conn.Write([]byte("USER dock\r\nPASS pass\nTYPE I\r\nNOOP\r\nPWD\r\n"))
	require.NoError(t, err)
	for _, code := range []int{220, 331, 230, 200, 200, 257} {
		c.expect(code)
	}
	// NOOPs and QUIT sent during a transfer are answered after it, in order.
	data := c.passive()
	c.do(150, "STOR slow")
	for range 3 * lineQueue {
		c.send("NOOP")
	}
	c.send("QUIT")
	_, err = data.Write([]byte("content"))
	require.NoError(t, err)
	data.Close()
	c.expect(226)
	for range 3 * lineQueue {
		c.expect(200)
	}
	c.expect(221)
	n.requireFile(t, "slow", []byte("content"))
}

func TestStatDuringTransfer(t *testing.T) {
	for name, send := range map[string]func(c *client, line string){
		"in line": func(c *client, line string) { c.send("%s", line) },
		"urgent":  (*client).urgent,
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, nil)
			c := n.login(t)
			data := c.passive()
			c.do(150, "STOR x")
			_, err := data.Write(make([]byte, 1234))
			require.NoError(t, err)
			require.Eventually(t, func() bool {
				send(c, "STAT")
				return strings.Contains(c.expect(211), "STOR under way: 1,234 bytes")
			}, patience, time.Millisecond)
			send(c, "NOOP") // answered after the transfer, as STAT of a file is
			send(c, "STAT x")
			data.Close()
			c.expect(226)
			c.expect(200)
			require.Contains(t, c.expect(213), " 1234 ")

			data = c.passive()
			c.do(150, "STOR y")
			_, err = data.Write(make([]byte, 1234))
			require.NoError(t, err)
			send(c, "ABOR")
			c.expect(426)
			c.expect(226)
			n.requireNoFile(t, "y")
		})
	}
}

// urgent sends a line as urgent data, as Python's ftplib and Ruby's net-ftp do; its line end is the urgent byte.
func (c *client) urgent(line string) {
	c.t.Helper()
	raw, err := c.conn.(*net.TCPConn).SyscallConn()
	require.NoError(c.t, err)
	require.NoError(c.t, raw.Write(func(fd uintptr) bool {
		err = syscall.Sendto(int(fd), []byte(line+"\r\n"), syscall.MSG_OOB, nil)
		return err != syscall.EAGAIN
	}))
	require.NoError(c.t, err)
}
