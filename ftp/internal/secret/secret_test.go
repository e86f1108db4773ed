package secret

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

func bcryptOf(t *testing.T, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	require.NoError(t, err)
	return string(h)
}

func argonOf(password string) string {
	salt := []byte("0123456789abcdef")
	enc := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=19$m=64,t=1,p=1$%s$%s", enc(salt), enc(argon2.IDKey([]byte(password), salt, 1, 64, 1, 32)))
}

func TestCheck(t *testing.T) {
	b, err := New(map[string]Entry{
		"plain":  {Password: "pä ss"},
		"bcrypt": {Hash: bcryptOf(t, "b")},
		"php":    {Hash: strings.Replace(bcryptOf(t, "y"), "$2a$", "$2y$", 1)},
		"argon":  {Hash: argonOf("a")},
	}, 0)
	require.NoError(t, err)
	for _, c := range []struct {
		name, password string
		want           bool
	}{
		{"plain", "pä ss", true}, {"plain", "pä s", false}, {"plain", "", false},
		{"bcrypt", "b", true}, {"bcrypt", "b", true}, {"bcrypt", "a", false},
		{"php", "y", true}, {"argon", "a", true}, {"argon", "b", false}, {"argon", "a", true},
		{"nobody", "", false}, {"nobody", "a", false}, {"", "", false},
	} {
		got, err := b.Check(t.Context(), Client{}, c.name, c.password)
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%s with %q", c.name, c.password)
	}
}

// counter is a hash that counts how often it is computed.
type counter struct{ n *int }

func (c counter) matches(string) bool { *c.n++; return false }
func (c counter) memory() int64       { return 1 }

func TestEveryFailureDoesTheSameWork(t *testing.T) {
	b, err := New(map[string]Entry{"plain": {Password: "p"}, "bcrypt": {Hash: bcryptOf(t, "b")}, "argon": {Hash: argonOf("a")}}, 0)
	require.NoError(t, err)
	require.Len(t, b.kinds, 2)
	n := 0
	for kind := range b.kinds {
		b.kinds[kind] = counter{&n}
	}
	b.users["bcrypt"].hash = counter{&n}
	b.users["argon"].hash = counter{&n}
	for _, name := range []string{"plain", "bcrypt", "argon", "nobody"} {
		n = 0
		got, err := b.Check(t.Context(), Client{}, name, "wrong")
		require.NoError(t, err)
		require.False(t, got)
		require.Equal(t, 2, n, name)
	}
}

func TestDecoys(t *testing.T) {
	for cost := bcrypt.MinCost; cost <= 6; cost++ {
		decoy := bcryptDecoy(cost)
		got, err := bcrypt.Cost(decoy)
		require.NoError(t, err)
		require.Equal(t, cost, got)
		// Not an error of its form, which would be found before any work is done.
		require.ErrorIs(t, bcrypt.CompareHashAndPassword(decoy, []byte("p")), bcrypt.ErrMismatchedHashAndPassword)
		require.NotEqual(t, decoy, bcryptDecoy(cost))
	}
}

// TestNewHashesNothing has users enough for an hour of hashing.
func TestNewHashesNothing(t *testing.T) {
	entries := map[string]Entry{}
	for i := range 5000 {
		entries[fmt.Sprint(i)] = Entry{Hash: fmt.Sprintf("$2y$%02d$%s", maxBcryptCost, strings.Repeat("a", 53))}
	}
	made := make(chan error, 1)
	go func() {
		_, err := New(entries, 0)
		made <- err
	}()
	select {
	case err := <-made:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		require.Fail(t, "New does not return")
	}
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		entry Entry
		want  string
	}{
		"both":         {Entry{Password: "s3cret", Hash: argonOf("x")}, "both"},
		"neither":      {Entry{}, "neither"},
		"sha":          {Entry{Hash: "s3cret5e884898da"}, "neither bcrypt"},
		"short":        {Entry{Hash: "$2y$12$s3cret"}, "neither bcrypt"},
		"bcrypt cost":  {Entry{Hash: strings.Replace(bcryptOf(t, "x"), "$04$", "$20$", 1)}, "cost is 20"},
		"argon memory": {Entry{Hash: "$argon2id$v=19$m=9999999,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo"}, "m=9999999"},
		"argon part":   {Entry{Hash: "$argon2id$v=19$m=64,t=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo"}, "p=0"},
		"argon salt":   {Entry{Hash: "$argon2id$v=19$m=64,t=1,p=1$!$aGFzaGhhc2hoYXNo"}, "base64"},
		"argon2i":      {Entry{Hash: "$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaA"}, "neither bcrypt"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(map[string]Entry{"dock": c.entry}, 0)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, `user "dock"`)
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
}

// TestHashesThatCannotFit are refused with a hash that could.
func TestHashesThatCannotFit(t *testing.T) {
	const mib = 1 << 20
	hash := func(m int) map[string]Entry {
		return map[string]Entry{"dock": {Hash: fmt.Sprintf("$argon2id$v=19$m=%d,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo", m)}}
	}
	for _, c := range []struct {
		m      int
		memory int64
		want   []string // in the error; none: it fits
	}{
		{65536, 256 * mib, nil},
		{131072, 256 * mib, nil},
		{262144, 0, nil},
		{262144, 512 * mib, nil},
		{262144, 256 * mib, []string{"m=262144 takes 256 MiB", "may use 256 MiB", "give it 512 MiB", "argon2 ", "-id -e ", "-k 65536"}},
		{65536, 64 * mib, []string{"m=65536 takes 64 MiB", "give it 128 MiB", "-k 32768"}},
	} {
		_, err := New(hash(c.m), c.memory)
		if c.want == nil {
			require.NoError(t, err)
		}
		for _, want := range c.want {
			require.ErrorContains(t, err, want)
		}
	}
}

// FuzzHash takes any text as a hash: it is one, or the error says what was expected and does not repeat it.
func FuzzHash(f *testing.F) {
	for _, hash := range []string{
		"", "$2y$10$abcdefghijklmnopqrstuuC4vKhKZ5dGkfr/1ZAMb4I4kUg1ohyZy", "$2a$31$x", "$2a$10$",
		"$argon2id$v=19$m=64,t=1,p=1$YWFhYWFhYWE$YWFhYWFhYWFhYWFh", "$argon2id$v=19$m=99999999999999,t=1,p=1$YWFhYWFhYWE$YWFhYWFhYWFhYWFh",
		"$argon2id$v=19$m=64,t=1,p=0$YQ$YQ", "$argon2id$v=19$m=64,t=1$$", "$argon2id$$$$", "$argon2i$v=19$m=64,t=1,p=1$YWFh$YWFh",
	} {
		f.Add(hash)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, err := New(map[string]Entry{"dock": {Hash: text}}, 0)
		if sum := text[strings.LastIndexByte(text, '$')+1:]; err != nil && len(sum) > 12 && !strings.Contains(sum, " ") {
			require.NotContains(t, err.Error(), sum)
		}
	})
}
