//go:build nat

package nat

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// patience is for what must happen; nothing is measured.
const patience = 60 * time.Second

// The places of the network, each a namespace.
const (
	client   = "client"   // the devices of a site
	site     = "site"     // its router
	internet = "internet" // between them all
	host     = "host"     // the machine that runs the container
	node     = "node"     // the container
	stranger = "stranger" // someone else
)

const (
	siteAddress  = "198.51.100.2" // which all devices have outside, unless the layout says otherwise
	hostAddress  = "203.0.113.10"
	movedAddress = "203.0.113.11" // which the host has as well
	hostAddress6 = "2001:db8:3::10"
	ftpPort      = 2121
)

// layout is what differs between networks.
type layout struct {
	masquerade string      // iptables rules of the site's router. By default, all devices have its one address
	published  map[int]int // the host's ports and the node's. By default, the FTP port and 30000-30009, each to the same
	devices    int         // how many addresses the client has, from 10.77.1.10 on. By default, 1
}

// network is one that was made for a test.
type network struct {
	t      *testing.T
	prefix string
}

var networks atomic.Int32

// newNetwork makes a network, and removes it when the test ends.
func newNetwork(t *testing.T, l layout) *network {
	t.Helper()
	for _, tool := range []string{"ip", "iptables", "ip6tables", "sh", "mount"} {
		_, err := exec.LookPath(tool)
		require.NoError(t, err, "%s is needed for this test", tool)
	}
	n := &network{t: t, prefix: fmt.Sprintf("ftpnode-nat-%d-%d-", os.Getpid(), networks.Add(1))}
	for _, place := range []string{client, site, internet, host, node, stranger} {
		n.add(place)
	}
	n.link(client, "eth0", site, "lan")
	n.link(site, "wan", internet, "site")
	n.link(host, "wan", internet, "host")
	n.link(stranger, "eth0", internet, "stranger")
	n.link(node, "eth0", host, "docker0")

	devices := ""
	for i := range max(l.devices, 1) {
		devices += fmt.Sprintf("ip addr add %s/24 dev eth0\n", device(i))
	}
	n.setup(client, devices+`
		ip link set eth0 up
		ip route add default via 10.77.1.1
		ip addr add 2001:db8:77::10/64 dev eth0 nodad
		ip route add default via 2001:db8:77::1`)
	if l.masquerade == "" {
		l.masquerade = "iptables -t nat -A POSTROUTING -o wan -j MASQUERADE"
	}
	n.setup(site, forwards+`
		ip link set lan up
		ip link set wan up
		ip addr add 10.77.1.1/24 dev lan
		ip addr add 198.51.100.2/24 dev wan
		ip addr add 2001:db8:77::1/64 dev lan nodad
		ip addr add 2001:db8:1::2/64 dev wan nodad
		ip route add default via 198.51.100.1
		ip route add default via 2001:db8:1::1
		iptables -A FORWARD -i wan -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
		iptables -A FORWARD -i wan -j DROP
		`+l.masquerade)
	n.setup(internet, forwards+`
		ip link set site up
		ip link set host up
		ip link set stranger up
		ip addr add 198.51.100.1/24 dev site
		ip addr add 203.0.113.1/24 dev host
		ip addr add 192.0.2.1/24 dev stranger
		ip addr add 2001:db8:1::1/64 dev site nodad
		ip addr add 2001:db8:3::1/64 dev host nodad
		ip route add 2001:db8:77::/64 via 2001:db8:1::2
		ip route add blackhole default`)
	n.setup(stranger, `
		ip link set eth0 up
		ip addr add 192.0.2.66/24 dev eth0
		ip route add default via 192.0.2.1`)
	if l.published == nil {
		l.published = published(30000, 30009)
	}
	rules := ""
	for outside, inside := range l.published {
		rules += fmt.Sprintf(`
			iptables -t nat -A PREROUTING -p tcp -m addrtype --dst-type LOCAL --dport %d -j DNAT --to-destination 172.30.0.2:%d
			ip6tables -t nat -A PREROUTING -p tcp -m addrtype --dst-type LOCAL --dport %[1]d -j DNAT --to-destination [fd00:30::2]:%[2]d`, outside, inside)
	}
	n.setup(host, forwards+`
		ip link set wan up
		ip link set docker0 up
		ip addr add 203.0.113.10/24 dev wan
		ip addr add 203.0.113.11/24 dev wan
		ip addr add 172.30.0.1/24 dev docker0
		ip addr add 2001:db8:3::10/64 dev wan nodad
		ip addr add fd00:30::1/64 dev docker0 nodad
		ip route add default via 203.0.113.1
		ip route add default via 2001:db8:3::1
		iptables -t nat -A POSTROUTING -s 172.30.0.0/24 ! -o docker0 -j MASQUERADE
		ip6tables -t nat -A POSTROUTING -s fd00:30::/64 ! -o docker0 -j MASQUERADE`+rules)
	n.setup(node, `
		ip link set eth0 up
		ip addr add 172.30.0.2/24 dev eth0
		ip addr add fd00:30::2/64 dev eth0 nodad
		ip route add default via 172.30.0.1
		ip route add default via fd00:30::1`)
	return n
}

const forwards = `
	echo 1 >/proc/sys/net/ipv4/ip_forward
	echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
`

// published maps the FTP port, and the ports from first to last, each to the same.
func published(first, last int) map[int]int {
	ports := map[int]int{ftpPort: ftpPort}
	for p := first; p <= last; p++ {
		ports[p] = p
	}
	return ports
}

// device is an address of the client.
func device(i int) string { return fmt.Sprintf("10.77.1.%d", 10+i) }

func (n *network) name(place string) string { return n.prefix + place }

// add makes a namespace. When the test ends, whatever still runs in it is killed, and it goes, with its links.
func (n *network) add(place string) {
	n.t.Helper()
	n.must("ip", "netns", "add", n.name(place))
	n.t.Cleanup(func() {
		out, err := exec.Command("ip", "netns", "pids", n.name(place)).Output()
		assert.NoError(n.t, err)
		for _, field := range strings.Fields(string(out)) {
			if pid, err := strconv.Atoi(field); assert.NoError(n.t, err) && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		n.must("ip", "netns", "delete", n.name(place))
	})
}

// link joins two places by a wire, with the names that its ends have there.
func (n *network) link(a, nameA, b, nameB string) {
	n.t.Helper()
	n.must("ip", "link", "add", nameA, "netns", n.name(a), "type", "veth", "peer", "name", nameB, "netns", n.name(b))
}

func (n *network) setup(place, script string) {
	n.t.Helper()
	n.must("ip", "netns", "exec", n.name(place), "sh", "-ec", "ip link set lo up\n"+script)
}

func (n *network) must(program string, args ...string) {
	n.t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	require.NoError(n.t, err, "%s %q (it takes root): %s", program, args, out)
}

// command is a program that runs in a place.
func (n *network) command(ctx context.Context, place, program string, args ...string) *exec.Cmd {
	n.t.Helper()
	path, err := exec.LookPath(program)
	require.NoError(n.t, err, "%s is needed for this test", program)
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.name(place), path}, args...)...)
}

// run runs a program in a place and gives its output.
func (n *network) run(place, program string, args ...string) (string, error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	cmd := n.command(ctx, place, program, args...)
	dir := n.t.TempDir()
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// dial connects from a place; local is the address there, or "".
func (n *network) dial(place, local, to string, timeout time.Duration) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine, since its namespace is not the process's
		var r result
		r.err = enter(n.name(place))
		if r.err == nil {
			d := net.Dialer{Timeout: timeout}
			if local != "" {
				d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(local)}
			}
			r.conn, r.err = d.Dial("tcp", to) // an address, not a name: the socket is made by this thread
		}
		results <- r
	}()
	r := <-results
	return r.conn, r.err
}

// enter puts the thread into a namespace.
func enter(name string) error {
	f, err := os.Open("/var/run/netns/" + name)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}
