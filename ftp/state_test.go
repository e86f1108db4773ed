package ftp

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

// TestWhatCommandsLeave holds what is left of a command that others build on, after it succeeded or failed, after others,
// and after a new log-in. Files: "a" with "0123456789", and "part", an interrupted upload with "01234".
func TestWhatCommandsLeave(t *testing.T) {
	t.Parallel()
	type step struct {
		send string
		code int    // the last reply's
		data string // what is sent over the data connection, of a command that has one
	}
	login := []step{{"USER dock", 331, ""}, {"PASS pass", 230, ""}}
	other := []step{{"USER blind", 331, ""}, {"PASS pass", 230, ""}, {"USER dock", 331, ""}, {"PASS pass", 230, ""}}
	anew := append([]step{{"REIN", 220, ""}, {"PWD", 530, ""}}, login...)
	steps := func(parts ...[]step) (all []step) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	for name, c := range map[string]struct {
		steps []step
		want  map[string]string // files; "" is: no such file
	}{
		"RNFR":                      {[]step{{"RNFR a", 350, ""}, {"RNTO b", 250, ""}, {"RNTO c", 503, ""}}, map[string]string{"a": "", "b": "0123456789"}},
		"RNFR, another that fails":  {[]step{{"RNFR a", 350, ""}, {"RNFR missing", 550, ""}, {"RNTO b", 503, ""}}, map[string]string{"a": "0123456789", "b": ""}},
		"RNFR, RNTO that fails":     {[]step{{"RNFR a", 350, ""}, {"RNTO nowhere/b", 550, ""}, {"RNTO b", 503, ""}}, map[string]string{"a": "0123456789", "b": ""}},
		"RNFR, RNTO without a name": {[]step{{"RNFR a", 350, ""}, {"RNTO", 501, ""}, {"RNTO b", 250, ""}}, map[string]string{"a": ""}},
		"RNFR, others":              {[]step{{"RNFR a", 350, ""}, {"NOOP", 200, ""}, {"DELE b", 550, ""}, {"SIZE a", 213, ""}, {"RNTO b", 250, ""}}, map[string]string{"a": "", "b": "0123456789"}},
		"RNFR, a new user":          {steps([]step{{"RNFR a", 350, ""}}, other, []step{{"RNTO b", 503, ""}}), map[string]string{"a": "0123456789"}},
		"RNFR, REIN":                {steps([]step{{"RNFR a", 350, ""}}, anew, []step{{"RNTO b", 503, ""}}), map[string]string{"a": "0123456789"}},

		"REST":                     {[]step{{"REST 5", 350, ""}, {"TYPE I", 200, ""}, {"STOR part", 226, "56789"}, {"STOR a", 226, "x"}}, map[string]string{"part": "0123456789", "a": "x"}},
		"REST, another that fails": {[]step{{"REST 5", 350, ""}, {"REST x", 501, ""}, {"STOR part", 226, "new"}}, map[string]string{"part": "new"}},
		"REST, a listing":          {[]step{{"REST 5", 350, ""}, {"LIST", 226, ""}, {"STOR part", 226, "56789"}}, map[string]string{"part": "0123456789"}},
		"REST, RETR that fails":    {[]step{{"REST 5", 350, ""}, {"RETR missing", 550, ""}, {"STOR part", 226, "new"}}, map[string]string{"part": "new"}},
		"REST, STOR that fails":    {[]step{{"REST 5", 350, ""}, {"STOR nowhere/x", 550, ""}, {"STOR part", 226, "new"}}, map[string]string{"part": "new"}},
		"REST, a new user":         {steps([]step{{"REST 5", 350, ""}}, other, []step{{"STOR part", 226, "new"}}), map[string]string{"part": "new"}},
		"REST, REIN":               {steps([]step{{"REST 5", 350, ""}}, anew, []step{{"STOR part", 226, "new"}}), map[string]string{"part": "new"}},

		"ALLO":                     {[]step{{"ALLO 9", 200, ""}, {"NOOP", 200, ""}, {"STOR x", 426, "12345"}, {"STOR y", 226, "12345"}}, map[string]string{"x": "", "y": "12345"}},
		"ALLO, another that fails": {[]step{{"ALLO 9", 200, ""}, {"ALLO x", 501, ""}, {"STOR x", 226, "12345"}}, map[string]string{"x": "12345"}},
		"ALLO, one below zero":     {[]step{{"ALLO 9", 200, ""}, {"ALLO -294967296", 200, ""}, {"STOR x", 226, "12345"}}, map[string]string{"x": "12345"}},
		"ALLO, other transfers":    {[]step{{"ALLO 9", 200, ""}, {"LIST", 226, ""}, {"RETR a", 226, ""}, {"STOR x", 426, "12345"}}, map[string]string{"x": ""}},
		"ALLO, STOR that fails":    {[]step{{"ALLO 9", 200, ""}, {"STOR nowhere/x", 550, ""}, {"STOR x", 226, "12345"}}, map[string]string{"x": "12345"}},
		"ALLO, a new user":         {steps([]step{{"ALLO 9", 200, ""}}, other, []step{{"STOR x", 226, "12345"}}), map[string]string{"x": "12345"}},
		"ALLO, REIN":               {steps([]step{{"ALLO 9", 200, ""}}, anew, []step{{"STOR x", 226, "12345"}}), map[string]string{"x": "12345"}},

		"STOU":               {[]step{{"STOU s.csv", 226, "one"}, {"STOR x", 226, "two"}}, map[string]string{"x": "two", "s.csv": ""}},
		"EPSV ALL":           {[]step{{"EPSV ALL", 200, ""}, {"EPSV 3", 501, ""}, {"PASV", 501, ""}, {"EPSV", 229, ""}}, nil},
		"EPSV that fails":    {[]step{{"EPSV ALLES", 501, ""}, {"PASV", 227, ""}}, nil},
		"EPSV ALL, new user": {steps([]step{{"EPSV ALL", 200, ""}}, other, []step{{"PASV", 501, ""}}), nil},
		"EPSV ALL, REIN":     {steps([]step{{"EPSV ALL", 200, ""}}, anew, []step{{"PASV", 227, ""}}), nil},
		"CWD, a new user":    {steps([]step{{"MKD d", 257, ""}, {"CWD d", 250, ""}}, other, []step{{"STOR x", 226, "top"}}), map[string]string{"x": "top"}},
		"TYPE that fails":    {[]step{{"TYPE A", 200, ""}, {"TYPE E", 504, ""}, {"STOR x", 226, "1\r\n2\n"}}, map[string]string{"x": "1\r\n2\n"}},
		"PROT without TLS":   {[]step{{"PROT P", 503, ""}, {"STOR x", 226, "clear"}}, map[string]string{"x": "clear"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, withTLS(TLSOptional))
			cl := n.login(t)
			cl.store("a", []byte("0123456789"))
			cl.interrupt("STOR part", []byte("01234"))
			for _, s := range c.steps {
				verb, _, _ := strings.Cut(s.send, " ")
				if !isTransfer(verb) {
					cl.do(s.code, "%s", s.send)
					continue
				}
				data := cl.passive()
				cl.send("%s", s.send)
				code, text, _ := cl.text.ReadResponse(0)
				if code == 150 {
					_, err := io.WriteString(data, s.data)
					require.NoError(t, err)
					require.NoError(t, data.CloseWrite())
					code, text, _ = cl.text.ReadResponse(0)
				}
				data.Close()
				require.Equal(t, s.code, code, "%s: %s", s.send, text)
			}
			for file, want := range c.want {
				got, err := os.ReadFile(n.stored("dock", file))
				if want == "" {
					require.ErrorIs(t, err, os.ErrNotExist, "%s: %q", file, got)
				} else {
					require.NoError(t, err)
					require.Equal(t, want, string(got), file)
				}
			}
		})
	}
}

// TestWhatProtLeaves is the same, of what encrypts.
func TestWhatProtLeaves(t *testing.T) {
	n := start(t, withTLS(TLSOptional))
	s := n.loginTLS(t)
	put := func(name string) {
		t.Helper()
		data := s.passiveTLS()
		s.do(150, "STOR %s", name)
		_, err := io.WriteString(data, name)
		require.NoError(t, err)
		require.NoError(t, data.Close())
		s.expect(226)
		n.requireFile(t, name, []byte(name))
	}
	put("P")
	s.do(536, "PROT S")
	put("another that fails")
	s.do(502, "REIN")
	put("REIN, which is refused")
	s.do(331, "USER blind")
	s.do(230, "PASS pass")
	s.do(331, "USER dock")
	s.do(230, "PASS pass")
	put("a new user")
}

func (c *client) passiveTLS() net.Conn { return tls.Client(c.passive(), insecure()) }

// TestANewLoginHasATime: who logs out must log in within the time that a new client has.
func TestANewLoginHasATime(t *testing.T) {
	n := start(t, func(o *Options, _ *drop.Options) { o.LoginTimeout = time.Second })
	c := n.login(t)
	c.do(220, "REIN")
	require.Contains(t, c.expect(421), "without a login")
}
