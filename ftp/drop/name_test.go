package drop

import (
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestClean(t *testing.T) {
	for name, want := range map[string]string{
		"":                             ".",
		"/":                            ".",
		"/..":                          ".",
		"a.csv":                        "a.csv",
		"/a.csv":                       "a.csv",
		"//a///b.csv":                  "a/b.csv",
		"/a/../../../etc/passwd":       "etc/passwd",
		"..":                           ".",
		"a/./b/":                       "a/b",
		"..a":                          "..a",
		"Müller.csv":                   "Müller.csv",
		"M\xfcller.csv":                "M\xfcller.csv",
		"\xc4\xe3\xba\xc3.txt":         "\xc4\xe3\xba\xc3.txt",
		`a\b`:                          `a\b`,
		" a ":                          " a ",
		"\u00a0\u0107":                 "\u00a0\u0107",
		"\x9b\x85":                     "\x9b\x85",             // Windows-1252
		"\xc2\x93\xba\xcf.txt":         "\xc2\x93\xba\xcf.txt", // GBK
		strings.Repeat("d/", 63) + "f": strings.Repeat("d/", 63) + "f",
		strings.Repeat("n", 255):       strings.Repeat("n", 255),
	} {
		got, err := clean(name)
		require.NoError(t, err, "%q", name)
		require.Equal(t, want, got, "%q", name)
	}
	for _, name := range []string{
		"a\x00b", "a\rb", "a\nb", "a\x1b[31m", "a\x7f", "a/\t/b",
		"a\u0080", "\u009b31m", "d\u0085/a", "\x9b/\u009f",
		strings.Repeat("n", 256),
		strings.Repeat("d/", 64) + "f",
		strings.Repeat(strings.Repeat("n", 250)+"/", 16) + "f",
	} {
		_, err := clean(name)
		require.ErrorIs(t, err, ErrName, "%q", name)
	}
}

func TestIgnored(t *testing.T) {
	patterns := []string{"*.tmp", ".*"}
	for p, want := range map[string]bool{
		"a.csv":          false,
		"a.tmp":          true,
		".in.a.csv.":     true,
		".rsync/a.csv":   true,
		"x.tmp/b/c.csv":  true,
		"a.tmp.csv":      false,
		"dir/file.x.tmp": true,
	} {
		require.Equal(t, want, ignored(patterns, p), p)
	}
}

func FuzzClean(f *testing.F) {
	for _, seed := range []string{"", "/", "..", "/a/../b", "a//b/./c", "../../../etc/passwd", "a\x00", "M\xfcller", "a\r\n226 ok", "\u009b", "\xc2\x93\xba", "\xc2/\x85"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		p, err := clean(name)
		if err != nil {
			require.ErrorIs(t, err, ErrName)
			return
		}
		require.Equal(t, p, path.Clean(p), "clean")
		require.False(t, strings.HasPrefix(p, "/"), "relative")
		require.True(t, below(path.Join("top", p), "top"), "confined")
		for _, element := range strings.Split(p, "/") {
			require.NotEqual(t, "..", element)
			require.NotEmpty(t, element)
			require.LessOrEqual(t, len(element), maxName)
		}
		require.Less(t, strings.Count(p, "/"), maxDepth)
		require.False(t, strings.ContainsAny(p, "\r\n\x00\x1b\x7f"))
		require.False(t, utf8.ValidString(p) && strings.ContainsAny(p, "\u0080\u0085\u009b\u009f"))
		again, err := clean(p)
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}
