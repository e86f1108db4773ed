package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/internal/program"
	"github.com/ftpnode/ftpnode/internal/race"
)

// The real thing, short: the 100 kills of CI and the 1,000 of a release are runs of the command.
func TestFewKills(t *testing.T) {
	node, err := race.Build(t.TempDir(), "github.com/ftpnode/ftpnode/cmd/ftpnode")
	require.NoError(t, err)
	race.QuickExit(t)
	t.Run("stored", func(t *testing.T) { fewKills(t, node) })
	t.Run("delivered", func(t *testing.T) { fewKillsOfOneThatDelivers(t, node) })
}

func fewKills(t *testing.T, node string) {
	var out, problems bytes.Buffer
	dir := t.TempDir()
	err := run(t.Context(), []string{"-kills", "5", "-seed", "7", "-clients", "3", "-node", node, "-dir", dir}, &out, &problems)
	require.NoError(t, err, "%s", &out)
	assert.Empty(t, problems.String())
	assert.Contains(t, out.String(), "seed=7 ")
	assert.Regexp(t, `\nkills=5 files=\d+ acknowledged=[1-9]\d* delivered=[1-9]\d* duplicates=0 truncated=0 died-together=0 late-copies=2 `, out.String())
	log, err := os.ReadFile(filepath.Join(dir, "node.log"))
	require.NoError(t, err)
	assert.Equal(t, 5+2, bytes.Count(log, []byte("ftpnode starts")), "each kill, and before and after the late copy")
}

// Where 226 means delivered, nothing that was acknowledged is lost, and nothing arrives under two ids.
func fewKillsOfOneThatDelivers(t *testing.T, node string) {
	var out, problems bytes.Buffer
	err := run(t.Context(), []string{"-kills", "5", "-seed", "7", "-clients", "3", "-acknowledge", "delivered", "-node", node, "-dir", t.TempDir()}, &out, &problems)
	require.NoError(t, err, "%s", &out)
	assert.Regexp(t, `\nkills=5 files=\d+ acknowledged=[1-9]\d* delivered=[1-9]\d* duplicates=0 truncated=0 died-together=0 late-copies=0 `, out.String())
}

// A node that takes files and sends nothing is no success.
func TestRunFailsIfTheNodeDoes(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "node")
	require.NoError(t, os.WriteFile(broken, []byte("#!/bin/sh\nexit 3\n"), 0o700))
	var out bytes.Buffer
	err := run(t.Context(), []string{"-kills", "1", "-node", broken, "-dir", t.TempDir()}, &out, io.Discard)
	require.ErrorContains(t, err, "ended by itself")
}

func TestOptions(t *testing.T) {
	for _, args := range [][]string{{"-kills", "-1"}, {"-clients", "0"}, {"-kills", "x"}, {"-acknowledge", "auto"}, {"more"}} {
		var problems bytes.Buffer
		_, err := parseOptions(args, &problems)
		require.ErrorIs(t, err, program.ErrUsage, "%q", args)
		assert.NotEmpty(t, problems.String())
	}
	one, err := parseOptions(nil, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, 100, one.kills)
	assert.NotZero(t, one.seed, "a new one, which is printed")
}

// A seed makes the same schedule, another one another.
func TestSeedRepeatsTheSchedule(t *testing.T) {
	schedule := func(seed uint64) (plans []plan) {
		chance := (&test{o: options{seed: seed}}).chance("kills")
		for range 20 {
			plans = append(plans, newPlan(chance))
		}
		return plans
	}
	assert.Equal(t, schedule(1), schedule(1))
	assert.NotEqual(t, schedule(1), schedule(2))
}

func TestTriggerPullsOnceAtItsMoment(t *testing.T) {
	var trigger trigger
	trigger.hit(claimed) // nobody waits for it
	pulls := 0
	trigger.arm(plan{at: claimed, skip: 1}, func() { pulls++ })
	trigger.hit(sent)
	trigger.hit(claimed)
	assert.Zero(t, pulls)
	trigger.hit(claimed)
	trigger.hit(claimed)
	assert.Equal(t, 1, pulls)
	trigger.arm(plan{at: claimed}, func() { pulls++ })
	trigger.disarm()
	trigger.hit(claimed)
	assert.Equal(t, 1, pulls)
}

// What comes after the power was cut has not happened, whether it is read while it is cut or after that.
func TestPowerCutEndsConnections(t *testing.T) {
	var trigger trigger
	s := &session{replies: bufio.NewReader(strings.NewReader("226 one\r\n226 two\r\n226 three\r\n")), trigger: &trigger}
	here, there := net.Pipe()
	t.Cleanup(func() { here.Close(); there.Close() })
	s.conn = here
	code, _, err := s.reply()
	require.NoError(t, err)
	require.Equal(t, 226, code)
	trigger.epoch.Add(1)
	require.True(t, trigger.isCut())
	_, _, err = s.reply()
	require.ErrorIs(t, err, errPowerCut)
	_, err = dial(t.Context(), "127.0.0.1:1", "", "", &trigger)
	require.ErrorIs(t, err, errPowerCut)
	trigger.epoch.Add(1)
	require.False(t, trigger.isCut())
	_, _, err = s.reply()
	require.ErrorIs(t, err, errPowerCut)
}

// verifyCase is a little world in which all is well, until a case changes it.
type verifyCase struct {
	a, b *file
	evidence
}

func newVerifyCase() *verifyCase {
	at := time.Date(2026, 11, 7, 16, 0, 0, 0, time.UTC)
	c := &verifyCase{
		a: &file{what: "x upload", names: []string{"a"}, size: 1, sha256: "aa", wholes: 1, acked: true, from: at, to: at.Add(1 * time.Second)},
		b: &file{what: "x upload", names: []string{"b"}, size: 1, sha256: "bb", wholes: 1, acked: true, from: at.Add(2 * time.Second), to: at.Add(3 * time.Second)},
	}
	c.evidence = evidence{
		files: []*file{c.a, c.b}, edges: []string{"one", "two"}, arrivals: map[string][]arrival{},
		audits: map[string][]echotest.AuditRecord{}, overtook: map[overtaking]bool{},
	}
	for _, f := range c.files {
		id := "id-" + f.names[0]
		for _, edge := range c.edges {
			c.arrivals[edge] = append(c.arrivals[edge], arrival{edge: edge, trackingID: id, dedupID: id, at: at, name: f.names[0], size: 1, sha256: f.sha256})
		}
		c.audits[id] = []echotest.AuditRecord{{TrackingID: id, Attributes: map[string]any{"name": f.names[0], "sha256": f.sha256}}}
	}
	return c
}

func (c *verifyCase) copyOf(i int, change func(*arrival)) {
	for _, edge := range c.edges {
		a := c.arrivals[edge][i]
		change(&a)
		c.arrivals[edge] = append(c.arrivals[edge], a)
	}
}

// diedAt has a piece of b arrive, whose client died in the middle of it, and a node that was ended so long after that.
func (c *verifyCase) diedAt(after time.Duration) {
	c.b.content, c.b.size, c.b.cut, c.b.died = []byte("whole"), 5, 2, c.a.from
	c.ends = []time.Time{c.a.from.Add(after)}
	c.copyOf(1, func(a *arrival) {
		a.size, a.sha256, a.trackingID, a.dedupID = 2, sumOf([]byte("wh")), "id-piece", "id-piece"
	})
	c.audits["id-piece"] = []echotest.AuditRecord{{TrackingID: "id-piece", Attributes: map[string]any{"name": "b", "sha256": sumOf([]byte("wh"))}}}
}

// endedPieces has its client end so many pieces of b by itself, and the same piece arrive so many times.
func (c *verifyCase) endedPieces(ended, arrive int) {
	c.b.content, c.b.pieces, c.b.size = []byte("whole"), ended, 5
	for n := range arrive {
		id := fmt.Sprintf("id-piece-%d", n)
		c.copyOf(1, func(a *arrival) { a.size, a.sha256, a.trackingID, a.dedupID = 2, sumOf([]byte("wh")), id, id })
		c.audits[id] = []echotest.AuditRecord{{TrackingID: id, Attributes: map[string]any{"name": "b", "sha256": sumOf([]byte("wh"))}}}
	}
}

func TestVerify(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*verifyCase)
		want   string // the first violation; "" is none
	}{
		"all is well":                         {func(c *verifyCase) {}, ""},
		"a piece whose 226 its client read":   {func(c *verifyCase) { c.endedPieces(1, 1) }, ""},
		"a piece that its client ended twice": {func(c *verifyCase) { c.endedPieces(2, 2) }, ""},
		"a piece that its client ended once":  {func(c *verifyCase) { c.endedPieces(1, 2) }, "duplicate"},
		"a piece whose 226 nobody read": {func(c *verifyCase) {
			c.b.content, c.b.size = []byte("whole"), 5
			c.copyOf(1, func(a *arrival) {
				a.size, a.sha256, a.trackingID, a.dedupID = 2, sumOf([]byte("wh")), "id-piece", "id-piece"
			})
		}, "truncated"},
		"a piece whose client and node died in one moment": {func(c *verifyCase) { c.diedAt(100 * time.Millisecond) }, ""},
		"a piece whose node died before":                   {func(c *verifyCase) { c.diedAt(-time.Millisecond) }, "truncated"},
		"a piece whose node died later":                    {func(c *verifyCase) { c.diedAt(2 * time.Second) }, "truncated"},
		"a piece whose client lived on":                    {func(c *verifyCase) { c.diedAt(2 * time.Second); c.b.dies(result{from: c.a.from, lived: true}) }, ""},
		"lost on one edge": {func(c *verifyCase) { c.arrivals["two"] = c.arrivals["two"][:1] },
			`lost: x upload: \["b"\].* has not reached two`},
		"not acknowledged and not there": {func(c *verifyCase) {
			c.b.acked, c.b.wholes = false, 0
			for _, edge := range c.edges {
				c.arrivals[edge] = c.arrivals[edge][:1]
			}
			delete(c.audits, "id-b")
		}, ""},
		"a reply that was not read": {func(c *verifyCase) { c.b.acked = false }, ""},
		"a piece":                   {func(c *verifyCase) { c.b.acked, c.b.wholes = false, 0 }, `duplicate: one took .* 1 times, expected 0`},
		"other bytes": {func(c *verifyCase) { c.arrivals["one"][1].sha256 = "bc" },
			`truncated: one took "b" with 1 bytes`},
		"twice at once": {func(c *verifyCase) { c.copyOf(0, func(a *arrival) { a.at = a.at.Add(time.Minute) }) },
			`duplicate: one took .*"a".* twice within 1m0s`},
		"twice, and late":           {func(c *verifyCase) { c.copyOf(0, func(a *arrival) { a.at = a.at.Add(6 * time.Minute) }) }, ""},
		"twice under another id":    {func(c *verifyCase) { c.copyOf(0, func(a *arrival) { a.trackingID, a.dedupID = "new", "new" }) }, `duplicate: one took .*"a".* 2 times, expected 1`},
		"sent whole, and once more": {func(c *verifyCase) { c.a.wholes = 2 }, ""},
		"one id on each edge": {func(c *verifyCase) { c.arrivals["two"][0].trackingID, c.arrivals["two"][0].dedupID = "new", "new" },
			`tracking ids differ: .*"a"`},
		"one id for two": {func(c *verifyCase) {
			for _, edge := range c.edges {
				c.arrivals[edge][1].trackingID, c.arrivals[edge][1].dedupID = "id-a", "id-a"
			}
		}, `tracking id id-a was used twice`},
		"another deduplication id": {func(c *verifyCase) { c.arrivals["one"][0].dedupID = "hash" }, `deduplication: one`},
		"a temporary name":         {func(c *verifyCase) { c.arrivals["one"][0].name = "a.tmp" }, `wrong name: one`},
		"unreadable":               {func(c *verifyCase) { c.arrivals["one"][0].err = errors.New("no JSON") }, `cannot be read: one`},
		"out of order":             {func(c *verifyCase) { slices.Reverse(c.arrivals["two"]) }, `order: two took .*"b".* before .*"a".*, which was finished 1s earlier`},
		"out of order by SQS itself": {func(c *verifyCase) {
			slices.Reverse(c.arrivals["two"])
			c.overtook[overtaking{"two", "id-a", "id-b"}] = true
		}, ""},
		"excused on another edge": {func(c *verifyCase) {
			slices.Reverse(c.arrivals["two"])
			c.overtook[overtaking{"one", "id-a", "id-b"}] = true
		}, `order: two`},
		"finished at the same time": {func(c *verifyCase) {
			slices.Reverse(c.arrivals["two"])
			c.b.from = c.a.to.Add(-time.Millisecond)
		}, ""},
		"not audited":               {func(c *verifyCase) { delete(c.audits, "id-b") }, `audit: .*"b".* has no record`},
		"audited as something else": {func(c *verifyCase) { c.audits["id-b"][0].Attributes["sha256"] = "aa" }, `audit: the record of .*"b"`},
		"audited and not sent":      {func(c *verifyCase) { c.audits["id-c"] = c.audits["id-b"] }, `audit: .*id-c, under which nothing arrived`},
	} {
		t.Run(name, func(t *testing.T) {
			world := newVerifyCase()
			c.change(world)
			got := world.verify().violations
			if c.want == "" {
				assert.Empty(t, got)
				return
			}
			matches := func(v string) bool { return regexp.MustCompile(c.want).MatchString(v) }
			assert.True(t, slices.ContainsFunc(got, matches), "no %q in %q", c.want, got)
		})
	}
}

func TestLogIsChecked(t *testing.T) {
	for line, want := range map[string]string{
		"[INFO] all is well": "",
		"no level":           "does not begin with its level",
		"[DEBUG] got https://x/?X-Amz-Signature=1":               "presigned URL",
		"[DEBUG] token eyJhbGciOiJSUzI1NiJ9.x":                   "token",
		"[INFO] login with hunter2":                              "shows a password",
		"[ERROR] File cannot be delivered and was set aside x=1": "must not happen",
	} {
		n := node{secrets: []string{"hunter2"}}
		n.check(line)
		n.check(line)
		if want == "" {
			assert.Empty(t, n.violations(), line)
			continue
		}
		require.Len(t, n.violations(), 1, line)
		assert.Contains(t, n.violations()[0], want)
		assert.NotContains(t, n.violations()[0], "hunter2")
	}
}

// The proof is worth something only if other people's clients take part.
func TestClientsAreInstalled(t *testing.T) {
	for _, client := range []string{"curl", "lftp"} {
		_, err := exec.LookPath(client)
		assert.NoError(t, err)
	}
}

func TestAcknowledgedInLftpsLog(t *testing.T) {
	const log = `10:20:31 ---> STOR other.dat
10:20:31 <--- 150 Ok to send data.
10:20:31 ---- Closing data socket
10:20:31 <--- 226 Transfer complete.
10:20:31 ---> STOR a.dat
10:20:31 <--- 150 Ok to send data.
10:20:31 ---- Closing data socket
10:20:31 <--- 226 Transfer complete.
10:20:32 **** Peer closed connection
10:20:32 ---> STOR a.dat
10:20:32 <--- 426 Broken.
10:20:32 ---> STOR a.dat
10:20:32 <--- 150 Ok to send data.
10:20:32 ---- Closing data socket
10:20:32 **** Peer closed connection
10:20:32 ---> STOR a.dat
10:20:32 <--- 150 Ok to send data.
10:20:32 **** Peer closed connection
10:20:32 ---- Closing data socket
10:20:32 ---> STOR a.dat
10:20:32 <--- 150 Ok to send data.
10:20:32 ---- Closing data socket
10:20:32 <--- 451 The file could not be delivered in time; send it again.
10:20:32 ---> STOR a.dat
10:20:32 <--- 150 Ok to send data.
10:20:32 ---- Closing data socket
10:20:32 <--- 426 Broken.
`
	require.Equal(t, 3, acknowledged(log, "a.dat"))
}
