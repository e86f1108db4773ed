//go:build nat

package nat

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPublicAddress(t *testing.T) {
	t.Parallel()
	p := newNetwork(t, layout{}).start(`"publicAddress": "203.0.113.10"`)
	out, err := p.curl(hostAddress, "curl", content(300_000), pasv...)
	require.NoError(t, err, out)
	require.Contains(t, out, "(203,0,113,10,117,")
	p.arrives("curl", content(300_000))
	out, err = p.lftp(hostAddress, "lftp", content(1000), "set ftp:prefer-epsv no")
	require.NoError(t, err, out)
	require.Contains(t, out, "(203,0,113,10,117,")
	p.arrives("lftp", content(1000))
	require.Contains(t, p.login(client, "").do(211, "STAT"), "Connected from "+siteAddress+" ", "the router hides the client's own address")
}

// TestPublicNameMoves gives the public host name another address while the node runs, as dynamic DNS does.
func TestPublicNameMoves(t *testing.T) {
	t.Parallel()
	p := newNetwork(t, layout{}).start(`"publicAddress": "plant.example"`)
	s := p.login(client, "")
	require.Contains(t, s.do(425, "PASV"), "Use EPSV", "the name is not known yet")
	named := func(address string) {
		t.Helper()
		require.NoError(t, os.WriteFile(p.hosts, []byte("127.0.0.1 localhost\n"+address+" plant.example\n"), 0o644))
		// The resolver may remember what it read for a few seconds.
		deadline, tick := time.After(patience), time.NewTicker(100*time.Millisecond)
		defer tick.Stop()
		for {
			require.NoError(t, s.text.PrintfLine("PASV"))
			if _, text, err := s.text.ReadResponse(227); err == nil && strings.Contains(text, strings.ReplaceAll(address, ".", ",")) {
				return
			}
			select {
			case <-tick.C:
			case <-deadline:
				require.Fail(t, "PASV does not tell the name's address", address)
			}
		}
	}
	for i, address := range []string{hostAddress, movedAddress} {
		named(address)
		name := fmt.Sprint("file-", i)
		out, err := p.curl(hostAddress, name, content(1000), pasv...)
		require.NoError(t, err, out)
		require.Contains(t, out, "("+strings.ReplaceAll(address, ".", ",")+",")
		p.arrives(name, content(1000))
	}
	// A name that is gone keeps its last address.
	require.NoError(t, os.WriteFile(p.hosts, []byte("127.0.0.1 localhost\n"), 0o644))
	require.Eventually(t, func() bool {
		require.Equal(t, movedAddress, s.pasvAddress().Addr().String())
		return strings.Contains(p.log.String(), "cannot be looked up")
	}, patience, 100*time.Millisecond)
}

func TestEpsvNeedsNoPublicAddress(t *testing.T) {
	t.Parallel()
	p := newNetwork(t, layout{}).start("")
	out, err := p.curl(hostAddress, "curl", content(300_000), epsv...)
	require.NoError(t, err, out)
	require.Contains(t, out, "229 Entering Extended Passive Mode")
	p.arrives("curl", content(300_000))
	out, err = p.lftp(hostAddress, "lftp", content(1000), "set ftp:prefer-epsv yes")
	require.NoError(t, err, out)
	require.Contains(t, out, "229 Entering Extended Passive Mode")
	p.arrives("lftp", content(1000))
}

// TestIPv6 comes through ports that are mapped one by one, in IPv6.
func TestIPv6(t *testing.T) {
	t.Parallel()
	p := newNetwork(t, layout{}).start(`"passivePorts": "30000-30003"`)
	out, err := p.curl(hostAddress6, "curl", content(300_000))
	require.NoError(t, err, out)
	require.Regexp(t, `229 Entering Extended Passive Mode \(\|\|\|3000[0-3]\|\)`, out)
	p.arrives("curl", content(300_000))
	out, err = p.lftp("["+hostAddress6+"]", "lftp", content(1000), "")
	require.NoError(t, err, out)
	p.arrives("lftp", content(1000))

	conn, err := p.dial(client, "", net.JoinHostPort(hostAddress6, fmt.Sprint(ftpPort)), patience)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("USER dock\r\nPASS " + password + "\r\nSTAT\r\nPASV\r\nQUIT\r\n"))
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	all, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Contains(t, string(all), "Connected from 2001:db8:77::10 ")
	require.Contains(t, string(all), "\n425 Use EPSV; there is no IPv4 address to tell.")
}

// TestMistakes holds the one symptom of each mistake in a set-up. The documentation names them.
func TestMistakes(t *testing.T) {
	t.Parallel()
	loggedIn := func(t *testing.T, out string) {
		t.Helper()
		require.Contains(t, out, "< 230 ", "the log-in works")
	}
	t.Run("no public address: PASV hangs", func(t *testing.T) {
		t.Parallel()
		p := newNetwork(t, layout{}).start("")
		out, err := p.curl(hostAddress, "lost", content(1000), append(pasv, "--connect-timeout", "8")...)
		require.Equal(t, 28, exitCode(t, err), "a timeout: %s", out)
		loggedIn(t, out)
		require.Contains(t, out, "(172,30,0,2,", "the node tells an address that no one outside can reach")
		out, err = p.lftp(hostAddress, "lost", content(1000), "set ftp:prefer-epsv no; set net:timeout 3; set net:connection-limit 1")
		require.Error(t, err, out)
		require.Contains(t, out, "(172,30,0,2,")

		out, err = p.curl(hostAddress, "found", content(1000), epsv...)
		require.NoError(t, err, out)
		p.arrives("found", content(1000))
		require.Equal(t, []string{"found"}, p.arrived())
	})
	for name, ports := range map[string]map[int]int{
		"passive ports are not mapped: refused":          {ftpPort: ftpPort},
		"mapped to other numbers on the host: refused":   {ftpPort: ftpPort, 31000: 30000, 31001: 30001},
		"mapped in part: refused for those that are not": {ftpPort: ftpPort, 30001: 30001},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newNetwork(t, layout{published: ports}).start(`"publicAddress": "203.0.113.10", "passivePorts": "30000-30001"`)
			refused := 0
			for i := range 2 { // each port once
				for _, mode := range [][]string{pasv, epsv} {
					name := fmt.Sprintf("file-%d-%d", i, len(mode))
					out, err := p.curl(hostAddress, name, content(1000), append(mode, "--connect-timeout", "10")...)
					loggedIn(t, out)
					if err == nil {
						p.arrives(name, content(1000))
						continue
					}
					refused++
					require.Contains(t, out, "Connection refused")
				}
			}
			if ports[30001] == 30001 {
				require.NotZero(t, refused)
				require.Len(t, p.arrived(), 4-refused)
				return
			}
			require.Equal(t, 4, refused)
			require.Empty(t, p.arrived())
		})
	}
	t.Run("active mode: refused at once", func(t *testing.T) {
		t.Parallel()
		p := newNetwork(t, layout{}).start("")
		out, err := p.curl(hostAddress, "lost", content(1000), "--ftp-port", "-")
		require.Equal(t, 30, exitCode(t, err), "PORT failed: %s", out)
		loggedIn(t, out)
		require.Contains(t, out, "< 502 Active mode is off here; use passive mode (PASV or EPSV).")
		out, err = p.lftp(hostAddress, "lost", content(1000), "set ftp:passive-mode no")
		require.Error(t, err, out)
		require.Empty(t, p.arrived())
	})
	t.Run("active mode through a router: the address is not the client's", func(t *testing.T) {
		t.Parallel()
		p := newNetwork(t, layout{}).start(`"activeMode": true`)
		out, err := p.curl(hostAddress, "lost", content(1000), "--ftp-port", "-")
		require.Equal(t, 30, exitCode(t, err), "PORT failed: %s", out)
		require.Contains(t, out, "< 504 Data connections go to your own address only")
		require.Empty(t, p.arrived())
	})
	t.Run("more devices behind one address than it may have sessions: 421", func(t *testing.T) {
		t.Parallel()
		p := newNetwork(t, layout{devices: 3}).start(`"maxConnectionsPerAddress": 2`)
		for i := range 2 {
			p.login(client, device(i))
		}
		require.Contains(t, p.connect(client, device(2)).expect(421), "Too many connections from your address")
		p.login(stranger, "")
	})
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	require.True(t, errors.As(err, &exit), "%v", err)
	return exit.ExitCode()
}

// TestFewPorts has many clients, from as many addresses, share two ports at the same moment.
func TestFewPorts(t *testing.T) {
	t.Parallel()
	const devices = 12
	rules := ""
	for i := range devices {
		outside := fmt.Sprintf("198.51.100.%d", 100+i)
		rules += fmt.Sprintf("ip addr add %s/24 dev wan\niptables -t nat -A POSTROUTING -o wan -s %s -j SNAT --to-source %[1]s\n", outside, device(i))
	}
	p := newNetwork(t, layout{masquerade: rules, devices: devices, published: published(30000, 30001)}).
		start(`"publicAddress": "203.0.113.10", "passivePorts": "30000-30001"`)
	fileOf := func(i int) []byte { return content(10_000 + i) }

	// All have a port before anyone connects to it; then they connect in the other order.
	var sessions []*session
	var ports []int
	for i := range devices {
		s := p.login(client, device(i))
		sessions, ports = append(sessions, s), append(ports, s.passive())
		require.Contains(t, []int{30000, 30001}, ports[i])
	}
	var connections []net.Conn
	for i := range devices {
		connections = append(connections, sessions[devices-1-i].data(ports[devices-1-i]))
	}
	for i, s := range sessions {
		s.do(150, fmt.Sprintf("STOR session-%d", i))
	}
	for i, s := range sessions {
		data := connections[devices-1-i]
		_, err := data.Write(fileOf(i))
		require.NoError(t, err)
		require.NoError(t, data.Close())
		s.expect(226)
		p.arrives(fmt.Sprintf("session-%d", i), fileOf(i))
	}

	var running sync.WaitGroup
	for i := range devices {
		running.Go(func() {
			mode := pasv
			if i%2 == 0 {
				mode = epsv
			}
			out, err := p.curl(hostAddress, fmt.Sprintf("curl-%d", i), fileOf(i), append(mode, "--interface", device(i))...)
			assert.NoError(t, err, out)
		})
	}
	running.Wait()
	for i := range devices {
		p.arrives(fmt.Sprintf("curl-%d", i), fileOf(i))
	}
}

// twoSources is a router with two addresses, which uses one for control connections and the other for the rest.
const twoSources = `
	ip addr add 198.51.100.3/24 dev wan
	iptables -t nat -A POSTROUTING -o wan -p tcp --dport 2121 -j SNAT --to-source 198.51.100.2
	iptables -t nat -A POSTROUTING -o wan -j SNAT --to-source 198.51.100.3`

func TestTwoSourceAddresses(t *testing.T) {
	t.Parallel()
	t.Run("refused by default", func(t *testing.T) {
		t.Parallel()
		p := newNetwork(t, layout{masquerade: twoSources}).start(`"publicAddress": "203.0.113.10", "stallTimeout": "5s"`)
		for _, mode := range [][]string{pasv, epsv} {
			out, err := p.curl(hostAddress, "lost", content(1000), mode...)
			require.Error(t, err, out)
			require.Contains(t, out, "< 425 ")
		}
		require.Empty(t, p.arrived())
	})
	t.Run("works when the address is not checked", func(t *testing.T) {
		t.Parallel()
		p := newNetwork(t, layout{masquerade: twoSources}).start(`"publicAddress": "203.0.113.10", "checkDataAddress": false`)
		out, err := p.curl(hostAddress, "curl", content(300_000), pasv...)
		require.NoError(t, err, out)
		p.arrives("curl", content(300_000))
		out, err = p.lftp(hostAddress, "lftp", content(1000), "set ftp:prefer-epsv yes")
		require.NoError(t, err, out)
		p.arrives("lftp", content(1000))
	})
}

// TestTheft has a stranger connect to the passive ports before the client does.
func TestTheft(t *testing.T) {
	t.Parallel()
	p := newNetwork(t, layout{published: published(30000, 30001)}).start(`"publicAddress": "203.0.113.10", "passivePorts": "30000-30001"`)
	steal := func(port int) (stolen []byte, err error) {
		conn, err := p.dial(stranger, "", fmt.Sprintf("%s:%d", hostAddress, port), patience)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = conn.Write([]byte("forged"))
		return io.ReadAll(conn)
	}
	closed := func(t *testing.T, stolen []byte, err error) {
		t.Helper()
		require.Empty(t, stolen)
		require.True(t, err == nil || errors.Is(err, syscall.ECONNRESET), "the stranger's connection is closed: %v", err)
	}

	s := p.login(client, "")
	port := s.passive()
	stolen, err := steal(port)
	closed(t, stolen, err)
	data := s.data(port)
	s.do(150, "STOR mine")
	stolen, err = steal(port)
	closed(t, stolen, err) // the port is kept for the next file; nobody is expected there any more
	_, err = data.Write(content(1000))
	require.NoError(t, err)
	require.NoError(t, data.Close())
	s.expect(226)
	p.arrives("mine", content(1000))

	// A list is not the stranger's to read, either.
	port = s.passive()
	require.NoError(t, s.text.PrintfLine("LIST"))
	stolen, err = steal(port)
	closed(t, stolen, err)
	data = s.data(port)
	s.expect(150)
	_, err = io.ReadAll(data)
	require.NoError(t, err)
	s.expect(226)

	// And while strangers try both ports all the time, clients do not notice.
	done := make(chan struct{})
	var thieves sync.WaitGroup
	for i := range 4 {
		thieves.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					stolen, _ := steal(30000 + i%2)
					assert.Empty(t, stolen)
				}
			}
		})
	}
	for i := range 8 {
		name := fmt.Sprint("busy-", i)
		out, err := p.curl(hostAddress, name, content(50_000), pasv...)
		assert.NoError(t, err, out)
	}
	close(done)
	thieves.Wait()
	for i := range 8 {
		p.arrives(fmt.Sprint("busy-", i), content(50_000))
	}
}
