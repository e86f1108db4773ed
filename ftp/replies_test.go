package ftp

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

// TestReplyTexts holds how replies begin: with what vsftpd says at that place, since scripts look for it.
func TestReplyTexts(t *testing.T) {
	n := start(t, func(o *Options, _ *drop.Options) { o.ActiveMode = true; o.TLS = TLSOptional })
	c := n.dial(t)
	require.Equal(t, "ftpnode ready.", c.expect(220))
	for _, step := range []struct {
		send    string
		want    []string // how the replies begin
		passive bool     // it has a data connection
		data    string   // what is sent there
	}{
		{"PWD", []string{"530 Please login with USER and PASS."}, false, ""},
		{"PASS pass", []string{"503 Login with USER first."}, false, ""},
		{"USER dock", []string{"331 Please specify the password."}, false, ""},
		{"PASS wrong", []string{"530 Login incorrect."}, false, ""},
		{"USER nobody", []string{"331 Please specify the password."}, false, ""},
		{"PASS pass", []string{"530 Login incorrect."}, false, ""},
		{"USER dock", []string{"331 Please specify the password."}, false, ""},
		{"PASS pass", []string{"230 Login successful."}, false, ""},
		{"USER dock", []string{"331 Any password will do."}, false, ""},
		{"PASS wrong", []string{"230 Already logged in."}, false, ""},
		{"SYST", []string{"215 UNIX Type: L8"}, false, ""},
		{"TYPE I", []string{"200 Switching to Binary mode."}, false, ""},
		{"TYPE A", []string{"200 Switching to ASCII mode"}, false, ""},
		{"MODE S", []string{"200 Mode set to S."}, false, ""},
		{"STRU F", []string{"200 Structure set to F."}, false, ""},
		{"NOOP", []string{"200 NOOP ok."}, false, ""},
		{"OPTS UTF8 ON", []string{"200 Always in UTF8 mode"}, false, ""},
		{"PWD", []string{`257 "/" is the current directory`}, false, ""},
		{"XPWD", []string{`257 "/" is the current directory`}, false, ""},
		{`MKD a "b"`, []string{`257 "/a ""b""" created`}, false, ""},
		{`MKD a "b"`, []string{"550 Create directory operation failed"}, false, ""},
		{`CWD a "b"`, []string{"250 Directory successfully changed."}, false, ""},
		{"PWD", []string{`257 "/a ""b""" is the current directory`}, false, ""},
		{"CDUP", []string{"250 Directory successfully changed."}, false, ""},
		{"CWD nowhere", []string{"550 Failed to change directory: No such file or directory."}, false, ""},
		{`RMD a "b"`, []string{"250 Remove directory operation successful."}, false, ""},
		{`RMD a "b"`, []string{"550 Remove directory operation failed: No such file or directory."}, false, ""},
		{"STOR x", []string{"425 Use PASV or EPSV first."}, false, ""},
		{"STOR x", []string{"150 Ok to send data.", "226 Transfer complete."}, true, "content"},
		{"STOR x.part", []string{"150 Ok to send data.", "226 Transfer complete; the file waits for its last name."}, true, "temporary"},
		{"APPE x", []string{"150 Ok to send data.", "226 Transfer complete."}, true, "more"},
		{"STOU", []string{"150 FILE: /upload-", "226 Transfer complete."}, true, "scan"},
		{"STOR nowhere/x", []string{"550 Could not create file: No such file or directory."}, true, ""},
		{"RETR nothing", []string{"550 Failed to open file: No such file or directory."}, true, ""},
		{"RETR x", []string{"150 Opening BINARY mode data connection for x.", "226 Transfer complete."}, true, ""},
		{"LIST", []string{"150 Here comes the directory listing.", "226 Directory send OK."}, true, ""},
		{"NLST", []string{"150 Here comes the directory listing.", "226 Directory send OK."}, true, ""},
		{"MLSD", []string{"150 Here comes the directory listing.", "226 Directory send OK."}, true, ""},
		{"MLSD x", []string{"550 Not a directory."}, true, ""},
		{"STAT x", []string{"213 Status follows:"}, false, ""},
		{"STAT /", []string{"212 Status follows:"}, false, ""},
		{"SIZE x", []string{"213 11"}, false, ""},
		{"SIZE nothing", []string{"550 Could not get file size: No such file or directory."}, false, ""},
		{"SIZE /", []string{"550 Could not get file size: It is a directory."}, false, ""},
		{"MDTM nothing", []string{"550 Could not get file modification time: No such file or directory."}, false, ""},
		{"RNFR nothing", []string{"550 RNFR command failed: No such file or directory."}, false, ""},
		{"RNTO y", []string{"503 RNFR required first."}, false, ""},
		{"RNFR x", []string{"350 Ready for RNTO."}, false, ""},
		{"RNTO nowhere/x", []string{"550 Rename failed: No such file or directory."}, false, ""},
		{"RNFR x", []string{"350 Ready for RNTO."}, false, ""},
		{"RNTO y", []string{"250 Rename successful."}, false, ""},
		{"SITE CHMOD 644 y", []string{"200 SITE CHMOD command ok"}, false, ""},
		{"SITE UTIME 20200102030405 y", []string{"200 SITE UTIME command ok."}, false, ""},
		{"DELE y", []string{"250 Delete operation successful."}, false, ""},
		{"DELE y", []string{"550 Delete operation failed: No such file or directory."}, false, ""},
		{"REST 5", []string{"350 Restart position accepted (5)."}, false, ""},
		{"REST 0", []string{"350 Restart position accepted (0)."}, false, ""},
		{"ALLO 7", []string{"200 ALLO command successful."}, false, ""},
		{"ABOR", []string{"226 ABOR successful"}, false, ""},
		{"PASV", []string{"227 Entering Passive Mode (127,0,0,1,"}, false, ""},
		{"EPSV", []string{"229 Entering Extended Passive Mode (|||"}, false, ""},
		{"PORT 127,0,0,1,200,200", []string{"200 PORT command successful. Consider using PASV."}, false, ""},
		{"EPRT |1|127.0.0.1|51400|", []string{"200 EPRT command successful. Consider using EPSV."}, false, ""},
		{"FEAT", []string{"211 Features:"}, false, ""},
		{"STAT", []string{"211 Status:"}, false, ""},
		{"HELP", []string{"214 The following commands are recognized."}, false, ""},
		{"PBSZ 0", []string{"503"}, false, ""},
		{"XYZZY", []string{"500 Unknown command"}, false, ""},
		{"QUIT", []string{"221 Goodbye."}, false, ""},
	} {
		var data *net.TCPConn
		if step.passive {
			data = c.passive()
		}
		c.send("%s", step.send)
		for _, want := range step.want {
			code, text, _ := c.text.ReadResponse(0)
			got := fmt.Sprintf("%d %s", code, text)
			require.True(t, strings.HasPrefix(got, want), "%s: expected %q, got %q", step.send, want, got)
			if code == 150 {
				_, err := io.WriteString(data, step.data)
				require.NoError(t, err)
				require.NoError(t, data.CloseWrite())
			}
		}
	}
}

// TestBrokenDownloads: the client resets the data connection, and reads what became of it in the server's words.
func TestBrokenDownloads(t *testing.T) {
	n := start(t, nil)
	c := n.login(t)
	c.store("x", noise(20<<20)) // more than the kernel takes
	data := c.passive()
	c.do(150, "RETR x")
	_, err := io.ReadFull(data, make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, data.SetLinger(0))
	require.NoError(t, data.Close())
	require.Equal(t, "Failure writing network stream.", c.expect(426))
	data = c.passive()
	c.do(150, "RETR x")
	c.send("ABOR")
	require.Equal(t, "Transfer aborted.", c.expect(426))
	c.expect(226)
	data.Close()
}
