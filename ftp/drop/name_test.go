package drop

import (
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClean(t *testing.T) {
	for name, want := range map[string]string{
		"":                       ".",
		"/":                      ".",
		"/..":                    ".",
		"a.csv":                  "a.csv",
		"/a.csv":                 "a.csv",
		"//a///b.csv":            "a/b.csv",
		"/a/../../../etc/passwd": "etc/passwd",
		"..":                     ".",
		"a/./b/":                 "a/b",
		"..a":                    "..a",
		"Müller.csv":             "Müller.csv",
		"M\xfcller.csv":          "M\xfcller.csv",
		"\xc4\xe3\xba\xc3.txt":   "\xc4\xe3\xba\xc3.txt",
		`a\b`:                    `a\b`,
		" a ":                    " a ",
		strings.Repeat("n", 255): strings.Repeat("n", 255),
	} {
		got, err := clean(name)
		require.NoError(t, err, "%q", name)
		require.Equal(t, want, got, "%q", name)
	}
	for _, name := range []string{
		"a\x00b", "a\rb", "a\nb", "a\x1b[31m", "a\x7f", "a/\t/b",
		strings.Repeat("n", 256),
		strings.Repeat("dir/", 1001) + "f",
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
	for _, seed := range []string{"", "/", "..", "/a/../b", "a//b/./c", "../../../etc/passwd", "a\x00", "M\xfcller", "a\r\n226 ok"} {
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
		require.False(t, strings.ContainsAny(p, "\r\n\x00\x1b\x7f"))
		again, err := clean(p)
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}
