package ftp

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/ftp/drop"
	"github.com/ftpnode/ftpnode/ftp/internal/secret"
	"github.com/ftpnode/ftpnode/internal/guard"
)

// TestDefenceBruteForce holds what a day of guessing looks like, in simulated time.
func TestDefenceBruteForce(t *testing.T) {
	now := time.Unix(1e9, 0)
	g := guard.New(guard.Options{Now: func() time.Time { return now }})
	from := netip.MustParseAddr("198.51.100.1")
	guesses, last := 0, time.Duration(0)
	for end := now.Add(24 * time.Hour); now.Before(end); {
		if g.Banned(from) {
			now = now.Add(time.Second)
			last = 0
			continue
		}
		delay, _ := g.Failed("nobody", false, from)
		require.GreaterOrEqual(t, delay, last, "the delay grows")
		require.GreaterOrEqual(t, delay, 500*time.Millisecond)
		last = delay
		now = now.Add(delay)
		guesses++
	}
	require.Less(t, guesses, 3000, "guesses a day from one address")
	require.Greater(t, guesses, 100, "a ban ends")
}

// TestDefenceGuardMemory simulates 100,000 addresses that fail for as many users: what is kept of them has its bounds, and
// those that fail now are still told.
func TestDefenceGuardMemory(t *testing.T) {
	const attackers, bound = 100_000, 24 << 20
	now := time.Unix(1e9, 0)
	g := guard.New(guard.Options{Now: func() time.Time { return now }})
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	before := measure(t).heap
	for i := range attackers {
		user := fmt.Sprintf("%s-%d", strings.Repeat("long", 20), i)
		g.Failed(user, true, address(i))
		g.Succeeded(user, address(i))
	}
	after := measure(t).heap
	require.Less(t, after, before+bound, "%d bytes for %d attackers", int64(after-before), attackers)
	t.Logf("%d bytes are kept of %d attackers", int64(after)-int64(before), attackers)

	late := netip.MustParseAddr("2001:db8::1")
	for range 10 {
		require.False(t, g.Banned(late))
		g.Failed("dock", true, late)
	}
	require.True(t, g.Banned(late))
	runtime.KeepAlive(g)
}

// TestDefenceUserBan guesses one user's password from many addresses: none of them gets in any more, not even with the
// right one, but where the user has logged in from before nobody notices, nor does another user.
func TestDefenceUserBan(t *testing.T) {
	const failures = 8
	n := start(t, func(o *Options, _ *drop.Options) {
		o.guard = guard.Options{UserFailures: failures, Delay: 1, MaxDelay: 1}
	})
	n.login(t).do(221, "QUIT") // from 127.0.0.1
	answer := func(from, user, password string) (int, string) {
		c := n.from(t, from)
		defer c.conn.Close()
		c.expect(220)
		c.do(331, "USER %s", user)
		c.send("PASS %s", password)
		code, text, _ := c.text.ReadResponse(0)
		return code, text
	}
	var refusals []string
	for i := range failures {
		code, text := answer(attacker(i), "dock", "guess")
		require.Equal(t, 530, code)
		refusals = append(refusals, text)
	}
	code, text := answer(attacker(failures), "dock", "pass")
	require.Equal(t, 530, code, "the right password, from a new address")
	require.Equal(t, refusals[0], text, "it does not tell that it was right")
	code, text = answer(attacker(failures), "nobody", "pass")
	require.Equal(t, 530, code)
	require.Equal(t, refusals[0], text)
	code, _ = answer("127.0.0.1", "dock", "pass")
	require.Equal(t, 230, code)
	code, _ = answer(attacker(failures+1), "blind", "pass")
	require.Equal(t, 230, code)
}

// TestDefenceRestart guesses one user's password after a restart: the device that logged in before it is not locked out.
func TestDefenceRestart(t *testing.T) {
	const failures = 8
	state, err := disk.Open(t.TempDir())
	require.NoError(t, err)
	defer state.Close()
	options := func(o *Options, _ *drop.Options) {
		o.State = state
		o.guard = guard.Options{UserFailures: failures, Delay: 1, MaxDelay: 1}
	}
	n := start(t, options)
	n.login(t).do(221, "QUIT") // from 127.0.0.1
	n.cancel()
	require.NoError(t, <-n.served)
	n.served <- nil

	n = start(t, options)
	guess := func(from, password string) {
		c := n.from(t, from)
		defer c.conn.Close()
		c.expect(220)
		c.do(331, "USER dock")
		c.do(530, "PASS %s", password)
	}
	for i := range failures {
		guess(attacker(i), "guess")
	}
	guess(attacker(failures), "pass") // else nothing is tested here
	n.login(t)
}

// TestDefenceQueueForHashes has one guesser fill the queue: what is too much is told to come again and is no failed log-in, and a client
// that leaves does not count either.
func TestDefenceQueueForHashes(t *testing.T) {
	salt, sum := base64.RawStdEncoding.EncodeToString(make([]byte, 16)), base64.RawStdEncoding.EncodeToString(make([]byte, 32))
	slow := "$argon2id$v=19$m=65536,t=10,p=1$" + salt + "$" + sum // about half a second
	n := start(t, func(o *Options, _ *drop.Options) {
		o.MaxConnectionsPerAddress = 100
		o.Users = append(o.Users, User{Name: "hashed", PasswordHash: slow})
	})
	var clients []*client
	for range 40 {
		c := n.from(t, attacker(1))
		c.expect(220)
		c.do(331, "USER nobody")
		c.send("PASS wrong")
		clients = append(clients, c)
	}
	refused := make(chan string, len(clients))
	for _, c := range clients {
		go func() {
			_, text, _ := c.text.ReadResponse(421)
			refused <- text
		}()
	}
	told := 0
	for told < len(clients) && !strings.Contains(<-refused, "Too many log-ins at once") {
		told++ // on a busy machine some have had their turn before others came
	}
	require.Less(t, told, len(clients), "nobody is refused")
	for _, c := range clients {
		c.conn.Close()
	}
	eventually(t, func() bool { return n.sessionCount() == 0 }, "those that have gone do not wait")
	require.False(t, n.guard.Banned(netip.MustParseAddr(attacker(1))))
}

// TestDefenceSameWork holds that a name that nobody has costs the same work as a wrong password, measured by what the work
// allocates, which is the same each time, unlike the time that it takes: bcrypt 4 KiB and argon2id its memory.
func TestDefenceSameWork(t *testing.T) {
	salt, sum := base64.RawStdEncoding.EncodeToString(make([]byte, 16)), base64.RawStdEncoding.EncodeToString(make([]byte, 32))
	argon := "$argon2id$v=19$m=4096,t=1,p=1$" + salt + "$" + sum
	crypt, err := bcrypt.GenerateFromPassword([]byte("pass"), bcrypt.MinCost)
	require.NoError(t, err)
	for name, entries := range map[string]map[string]secret.Entry{
		"bcrypt": {"hashed": {Hash: string(crypt)}, "plain": {Password: "pass"}},
		"argon2": {"hashed": {Hash: argon}, "plain": {Password: "pass"}},
		"both":   {"hashed": {Hash: string(crypt)}, "argon": {Hash: argon}, "plain": {Password: "pass"}},
	} {
		t.Run(name, func(t *testing.T) {
			book, err := secret.New(entries, 0)
			require.NoError(t, err)
			work := func(user string) float64 {
				const runs = 4
				_, err := book.Check(t.Context(), secret.Client{}, user, "wrong") // what is made once is made
				require.NoError(t, err)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for range runs {
					book.Check(t.Context(), secret.Client{}, user, "wrong")
				}
				runtime.ReadMemStats(&after)
				return float64(after.TotalAlloc-before.TotalAlloc) / runs
			}
			unknown := work("nobody")
			for user := range entries {
				require.InEpsilon(t, unknown, work(user), 0.1, "%s and nobody", user)
			}
			if strings.Contains(name, "argon") || name == "both" {
				require.Greater(t, unknown, float64(4<<20), "the hash is computed for nobody, too")
			}
			if name == "bcrypt" {
				require.Greater(t, unknown, float64(4<<10), "the hash is computed for nobody, too")
			}
		})
	}
}

// TestDefencePasswordsAreNotLogged sends a password in all the ways that a device may find, the right one, a wrong one, and one too
// soon: whatever is in between, no part of it is in the log, which shows each command.
func TestDefencePasswordsAreNotLogged(t *testing.T) {
	const password = "qZxJwVyKgHbT"
	for _, c := range []struct {
		line string // with %s for the password
		code int    // of its reply, with the right password
	}{
		{"PASS %s", 230},
		{"pass %s", 230},
		{"PaSs %s", 230},
		{" PASS %s", 230},
		{"\tPASS %s", 230},
		{"PASS\t%s", 230},
		{"PASS\v%s", 230},
		{"PASS\u00a0%s", 230},
		{"PASS\u2003%s", 230},
		{"PASS%s", 230},
		{"pass%s", 230},
		{"PASS  %s", 530}, // a blank may be the first of a password
		{"PASS \t%s", 530},
		{"PASS:%s", 530},
		{"PASS=%s", 530},
		{"PASS\x00%s", 530},
		{"PASS\r%s", 530},
		{"PASS\xa0%s", 530},
		{"PASS %s ", 530},
		{"\xff\xf4\xff\xf2PASS %s", 230},
		{"\xf2PASS\t%s", 230},
		{"\xff\xfb\x01PASS\t%s", 230},
		{"\xff\xfd\x06\xff\xf2 PASS\t%s", 230},
		{"\x00PASS %s", 230},
		{"ACCT\t%s", 202},
		{"ACCT%s", 202},
	} {
		t.Run(fmt.Sprintf("%q", c.line), func(t *testing.T) {
			n := start(t, func(o *Options, _ *drop.Options) {
				o.Users = append(o.Users, User{Name: "keeper", Password: password})
			})
			client := n.dial(t)
			client.expect(220)
			line := fmt.Sprintf(c.line, password)
			client.send("%s", line) // before USER
			_, text, _ := client.text.ReadResponse(0)
			requireNothingOf(t, password, text)
			client.do(331, "USER keeper")
			client.send("%s", fmt.Sprintf(c.line, password+"x"))
			client.text.ReadResponse(0)
			client.send("USER keeper\r\n%s\r\nNOOP", line)
			client.text.ReadResponse(0)
			code, text, _ := client.text.ReadResponse(0)
			require.Equal(t, c.code, code, text)
			requireNothingOf(t, password, text)
			client.expect(200)
			require.Contains(t, n.log.String(), "msg=command", "the log shows commands")
			requireNothingOf(t, password, n.log.String())
		})
	}
}

// requireNothingOf holds that no three characters of secret are in text.
func requireNothingOf(t *testing.T, secret, text string) {
	t.Helper()
	secret, text = strings.ToLower(secret), strings.ToLower(text)
	for i := range len(secret) - 2 {
		require.NotContains(t, text, secret[i:i+3])
	}
}
