package main

import (
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/node/nodeconfig"
	"github.com/ftpnode/ftpnode/internal/nodelog"
)

// Each situation gives one clear line, and when its cause goes away delivery goes on by itself.

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	r := newRig(t, echotest.Options{})
	right := r.env["PASSWORD"]
	r.env["PASSWORD"] = "not-the-right-password"
	r.start()
	r.log.wait(t, "[ERROR] EchoStream refuses the node's log-in", "PASSWORD")
	r.log.wait(t, "[WARNING] the node does not know its definition yet")
	assert.Equal(t, 421, dialFTP(t, r.address()).code("USER scanner"), "try later: nobody's password is wrong")
	require.Eventually(t, func() bool { return r.cloud.Requests(echotest.Cognito, "InitiateAuth") > 5 }, waitFor, tick)
	assert.Len(t, r.log.find("refuses the node's log-in"), 1, "the same trouble is not repeated each time")

	r.cloud.SetPassword("ftp-app", r.env["PASSWORD"])
	r.log.wait(t, "[INFO] EchoStream can be reached again")
	r.log.wait(t, "FTP is served", "users=1")
	r.login().store("a.txt", []byte("x"))
	r.arrived("", 1)
	assert.NotContains(t, r.log.Everything(), right)
}

func TestBadConfigRunsWhatIsValid(t *testing.T) {
	t.Parallel()
	config := strings.Replace(testConfig(t, `"idleTimeout": "soon", "colour": "red"`), `"users": [`, `"users": [{"name": "broken"}, `, 1)
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: config}}).start()
	r.log.wait(t, `[ERROR] invalid config: ftp.users[0] has neither password nor passwordHash; write one of them. This user is left out. key=ftp.users[0]`)
	r.log.wait(t, `[ERROR] invalid config: ftp.idleTimeout is "soon": it is not a duration`, `Using the default, 5m. key=ftp.idleTimeout value=`)
	r.log.wait(t, `[ERROR] invalid config: ftp.colour is an unknown key`, `It is ignored. key=ftp.colour`)
	assert.Len(t, r.log.find("invalid config"), 3)
	r.login().store("a.txt", []byte("x"))
	r.arrived("", 1)
}

func TestNoValidUser(t *testing.T) {
	t.Parallel()
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: `{"ftp": {"passivePorts": "` + freePorts(t) + `"}}`}}).start()
	r.log.wait(t, "[ERROR] invalid config: ftp.users is missing; write it as in", "FTP refuses all log-ins until the node's config has a user. key=ftp.users")
	r.log.wait(t, "[WARNING] FTP refuses every log-in")
	assert.Equal(t, 421, dialFTP(t, r.address()).code("USER scanner"))

	// An external node is not restarted when its config changes: the new one is taken as it runs.
	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Config = testConfig(t, "") })
	r.log.wait(t, "the config has changed")
	r.log.wait(t, "FTP is served", "users=1")
	r.login().store("a.txt", []byte("x"))
	r.arrived("", 1)
}

func TestHashThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	config := strings.Replace(testConfig(t, ""), `"users": [`,
		`"users": [{"name": "broken", "passwordHash": "$argon2id$v=19$m=99999999999999,t=1,p=1$YWFhYWFhYWE$YWFhYWFhYWFhYWFh"}, `, 1)
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: config}}).start()
	r.log.wait(t, "[ERROR] a user cannot be used and is left out", "user=broken")
	r.login().store("a.txt", []byte("x"))
	r.arrived("", 1)
}

// The one is refused, all others are served, and files are taken.
func TestUserDirectoryThatCannotBeMade(t *testing.T) {
	t.Parallel()
	config := strings.Replace(testConfig(t, ""), `"users": [`, `"users": [{"name": "other", "password": "`+testPassword+`", "directory": "plant/line2"}, `, 1)
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: config}})
	place := filepath.Join(r.env["FTPNODE_DATA"], "drop", "plant", "line2")
	require.NoError(t, os.MkdirAll(filepath.Dir(place), 0o750))
	require.NoError(t, os.Symlink("nowhere", place)) // which stays: it is never followed and never taken
	r.start()
	r.log.wait(t, "[ERROR] a user's directory cannot be made", "user=other", "directory=plant/line2", "not a directory")
	r.login().store("a.txt", []byte("x"))
	r.arrived("", 1)
	assert.Equal(t, 550, dialFTP(t, r.address()).login("other", testPassword))
	assert.Len(t, r.log.find("[ERROR] a user's directory cannot be made"), 1)
	assert.Len(t, r.log.find("TLS certificate"), 1)

	require.NoError(t, os.Remove(place))
	c := dialFTP(t, r.address())
	require.Equal(t, 230, c.login("other", testPassword))
	c.store("b.txt", []byte("x"))
	r.arrived("", 2)
}

// A file without a record is set aside. Put back as NODE_TYPE.md says, it is sent, and what comes after it too.
func TestUnknownRecordIsSentAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}})
	dir, name := r.env["FTPNODE_DATA"], "0000000000000001-"+strings.Repeat("ab", 16)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "outbox"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "outbox", name+".data"), []byte("x"), 0o600))
	r.start()
	r.log.wait(t, "[ERROR] A file in the outbox has no record and was set aside")
	r.shutdown()
	for _, suffix := range []string{".data", ".json"} {
		require.NoError(t, os.Rename(filepath.Join(dir, "failed", name+suffix), filepath.Join(dir, "outbox", name+suffix)))
	}
	r.start()
	r.login().store("behind.txt", []byte("x"))
	r.arrived("", 2)
	assert.Equal(t, []string{name, "behind.txt"}, r.names(""))
	r.audited(r.trackingIDs("")...)
}

func TestCertificateThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	config := testConfig(t, `"certificate": "/does/not/exist.pem", "privateKey": "/does/not/exist.key"`)
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: config}}).start()
	r.log.wait(t, "[ERROR] the certificate cannot be used; a self-signed one is")
	c := dialFTP(t, r.address())
	c.command(234, "AUTH TLS")
}

// At files.maxTotal uploads are refused, and accepted again when something has left.
func TestFilesMaxTotal(t *testing.T) {
	t.Parallel()
	config := strings.Replace(testConfig(t, ""), `"minFree"`, `"maxTotal": 2, "minFree"`, 1)
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: config, Stopped: true}}).start()
	c := r.login()
	c.store("a", []byte("x"))
	c.store("b", []byte("x"))
	c.command(229, "EPSV")
	c.command(452, "STOR c")
	r.log.wait(t, "[WARNING]", "2 files of all users together wait, no more are accepted")
	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = false })
	r.arrived("", 2)
	r.settled(2)
	c.store("c", []byte("x"))
	r.arrived("", 3)
}

// A transfer under way may end; what it brought is delivered by the next start.
func TestStopInMidUpload(t *testing.T) {
	t.Parallel()
	r := newRig(t, echotest.Options{}).start()
	idle := r.login()
	c := r.login()
	c.command(200, "TYPE I")
	conn := c.data("STOR a.txt")
	_, err := io.WriteString(conn, "first half, ")
	require.NoError(t, err)
	ended := make(chan struct{})
	stop := r.stop
	go func() { stop(); close(ended) }()
	r.log.wait(t, "ftpnode stops")
	_, err = io.WriteString(conn, "second half")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	c.expect(226)
	idle.expect(421)
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		require.Fail(t, "it takes too long")
	}
	r.stop = nil
	r.start()
	m := r.arrived("", 1)
	f, err := r.cloud.Decode(t.Context(), m[0], io.Discard)
	require.NoError(t, err)
	assert.Equal(t, hexSum([]byte("first half, second half")), f.SHA256)
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	r := newRig(t, echotest.Options{}).start()
	dir, address := r.env["FTPNODE_DATA"], r.address()
	before, err := os.ReadDir(dir)
	require.NoError(t, err)
	out, err := r.healthcheck(dir, address)
	require.NoError(t, err)
	assert.Contains(t, out, "All delivered")
	assert.Contains(t, out, "healthy")
	after, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, after, len(before), "it leaves nothing behind")

	r.cloud.Off(echotest.AppSync)
	r.log.wait(t, "EchoStream cannot be reached")
	out, err = r.healthcheck(dir, address)
	require.NoError(t, err, "no fault of the node's")
	assert.Contains(t, out, "EchoStream cannot be reached")
	r.cloud.On(echotest.AppSync)

	_, err = r.healthcheck(filepath.Join(dir, "gone"), address)
	require.ErrorContains(t, err, "the running node cannot be asked")
	r.shutdown()
	_, err = r.healthcheck(dir, address)
	require.ErrorContains(t, err, "does not answer")
}

func TestHealthcheckImplicitTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: testConfig(t, `"tls": "implicit"`)}}).start()
	_, err := r.healthcheck(r.env["FTPNODE_DATA"], r.address())
	require.NoError(t, err)
}

// Ports that other servers of the node have are told when FTP is served.
func TestPassivePortsThatAreTaken(t *testing.T) {
	control := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2121}
	for ports, want := range map[nodeconfig.Ports]string{
		{First: 30000, Last: 30009}: "",
		{First: 2122, Last: 8442}:   "",
		{First: 2100, Last: 2121}: `[ERROR] invalid config: ftp.passivePorts is "2100-2121": the FTP port, 2121, is in it; write ports that nothing else has. ` +
			"Transfers use the other ports. key=ftp.passivePorts value=2100-2121\n",
		{First: 8443, Last: 8443}: `[ERROR] invalid config: ftp.passivePorts is "8443": the port of the status page, 8443, is in it; write ports that nothing else has. ` +
			"Transfers in passive mode fail. key=ftp.passivePorts value=8443\n",
	} {
		var log strings.Builder
		checkPorts(nil, control, Config{FTP: FTPConfig{PassivePorts: ports}, Status: StatusConfig{Port: 8443}}, slog.New(nodelog.NewHandler(&log, nil, nil)))
		assert.Equal(t, want, log.String())
	}
}

func TestPassivePortsThatAreNotPublished(t *testing.T) {
	t.Parallel()
	r := newRig(t, echotest.Options{})
	r.cloud.UpdateNode("", func(n *echotest.Node) {
		n.Ports = []echotest.Port{{ContainerPort: 2121, HostPort: 2121, Protocol: "tcp"}, {ContainerPort: 30001, HostPort: 30001, Protocol: "tcp"}}
	})
	r.start()
	r.log.wait(t, "[WARNING] passive ports are not published", "missing=")
}
