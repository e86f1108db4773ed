//go:build matrix

package matrix

import (
	"bytes"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/stretchr/testify/require"
)

type actions = map[string]func(*run)

var curl = &client{
	name: "curl",
	cells: actions{
		"binary":    with(doCurl, "-T", "in.bin", "URL/out.bin"),
		"ascii":     with(doCurl, "-B", "-T", "in.bin", "URL/out.bin"),
		"empty":     with(doCurl, "-T", "empty.bin", "URL/empty.bin"),
		"big":       with(doCurl, "-T", "big.bin", "URL/big.bin"),
		"appe":      with(doCurl, "-C", "-", "-T", "in.bin", "URL/in.bin"),
		"rename":    with(doCurl, "-T", "in.bin", "-Q", "-RNFR out.tmp", "-Q", "-RNTO out.bin", "URL/out.tmp"),
		"overwrite": with(doCurl, "-T", "in.bin", "URL/out.bin", "-T", "second.bin", "URL/out.bin"),
		"append":    with(doCurl, "-T", "in.bin", "URL/out.bin", "--next", "-sS", "--append", "-T", "second.bin", "URL/out.bin"),
		"mkdir":     with(doCurl, "--ftp-create-dirs", "-T", "in.bin", "URL/a/b/out.bin"),
		"awkward": func(r *run) {
			var args []string
			for _, name := range awkward {
				args = append(args, "-T", "./"+name, "URL/"+url.PathEscape(name))
			}
			doCurl(r, append([]string{"-g"}, args...)...)
		},
		"bytes": func(r *run) { doCurl(r, "-T", foreign, "URL/"+url.PathEscape(foreign)) },
		"parallel": func(r *run) {
			args := []string{"--parallel", "--parallel-immediate"}
			doCurl(r, append(args, "-T", "p{0,1,2,3,4,5}.bin", "URL/")...)
		},
		"ask": func(r *run) {
			doCurl(r, "-T", "in.bin", "URL/out.bin", "-Q", "*SIZE out.bin", "-Q", "*MDTM out.bin", "-Q", "*MLST out.bin",
				"-Q", "-SIZE out.bin", "-Q", "-MDTM out.bin", "-Q", "-MLST out.bin")
			doCurl(r, "-X", "LIST -al", "URL/")
			doCurl(r, "-l", "URL/")
		},
		"mfmt":     with(doCurl, "-T", "in.bin", "-Q", "-MFMT 20200102030405 in.bin", "URL/in.bin"),
		"site":     with(doCurl, "-T", "in.bin", "-Q", "-SITE CHMOD 644 in.bin", "-Q", "-SITE UTIME 20200102030405 in.bin", "URL/in.bin"),
		"allo":     with(doCurl, "-T", "in.bin", "-Q", "+ALLO 300000", "URL/in.bin"),
		"quit":     func(r *run) { r.kill("", "curl", "-sS", "--limit-rate", "50k", "-T", "in.bin", r.url("out.bin")) },
		"explicit": with(doCurl, "-k", "--ssl-reqd", "-T", "in.bin", "URL/out.bin"),
		"implicit": func(r *run) {
			doCurl(r, "-k", "-T", "in.bin", strings.Replace(r.url("out.bin"), "ftp:", "ftps:", 1))
		},
		"pasv":   with(doCurl, "--disable-epsv", "-T", "in.bin", "URL/out.bin"),
		"epsv":   with(doCurl, "-T", "in.bin", "URL/out.bin"),
		"active": with(doCurl, "-P", "-", "-T", "in.bin", "URL/out.bin"),
	},
	ascii: crlf,
	no:    map[string]string{"rest": "curl resumes uploads with APPE."},
}

func doCurl(r *run, args ...string) string {
	r.t.Helper()
	for i := range args {
		args[i] = strings.Replace(args[i], "URL/", r.url(""), 1)
	}
	return r.exec("", append([]string{"curl", "-sS"}, args...)...)
}

var lftp = &client{
	name: "lftp",
	cells: actions{
		"binary":    with(doLftp, "put in.bin -o out.bin"),
		"ascii":     with(doLftp, "put -a in.bin -o out.bin"),
		"empty":     with(doLftp, "put empty.bin"),
		"big":       with(doLftp, "put big.bin"),
		"rest":      with(doLftp, "put -c in.bin"),
		"rename":    with(doLftp, "set xfer:use-temp-file yes", "set xfer:temp-file-name .in.*", "put in.bin -o out.bin"),
		"overwrite": with(doLftp, "put in.bin -o out.bin", "put second.bin -o out.bin"),
		"mkdir":     with(doLftp, "mkdir -p a/b", "put in.bin -o a/b/out.bin"),
		"awkward": func(r *run) {
			var script []string
			for _, name := range awkward {
				script = append(script, "put ./"+lftpQuoted(name))
			}
			doLftp(r, script...)
		},
		"bytes": func(r *run) {
			doLftp(r, "set ftp:use-utf8 no", "set ftp:charset ISO-8859-1", "set file:charset ISO-8859-1", "put "+lftpQuoted(foreign))
		},
		"parallel": with(doLftp, "mput -P 6 p*.bin"),
		"ask": func(r *run) {
			questions := []string{"quote SIZE out.bin", "quote MDTM out.bin", "quote MLST out.bin", "ls -al", "nlist"}
			script := []string{"set cmd:fail-exit no"}
			script = append(script, questions...)
			script = append(script, "set cmd:fail-exit yes", "put in.bin -o out.bin")
			script = append(script, questions...)
			script = append(script, "!"+r.waitForDelivery())
			out := doLftp(r, append(script, questions...)...)
			require.Equal(r.t, 2, strings.Count(out, "213 300000"), out)
		},
		"mfmt": with(doLftp, "put in.bin"),
		"site": with(doLftp, "set ftp:use-mdtm-overloaded no", "put in.bin", "chmod 644 in.bin", "quote SITE UTIME 20200102030405 in.bin"),
		"allo": with(doLftp, "set ftp:use-allo yes", "put in.bin"),
		"quit": func(r *run) {
			r.kill("", "lftp", "-c", lftpScript(r, "set net:limit-rate 50000", "put in.bin -o out.bin"))
		},
		"explicit": with(doLftp, "set ftp:ssl-force yes", "set ftp:ssl-protect-data yes", "put in.bin -o out.bin"),
		"implicit": func(r *run) {
			r.exec("", "lftp", "-c", strings.Replace(lftpScript(r, "put in.bin -o out.bin"), "ftp://", "ftps://", 1))
		},
		"pasv":   with(doLftp, "set ftp:prefer-epsv no", "put in.bin -o out.bin"),
		"epsv":   with(doLftp, "set ftp:prefer-epsv yes", "put in.bin -o out.bin"),
		"active": with(doLftp, "set ftp:passive-mode no", "put in.bin -o out.bin"),
	},
	ascii: crlf,
	sent:  map[string][]string{"ascii": {`STOR out\.bin`}}, // ASCII is the default of FTP; lftp does not say it
	no: map[string]string{
		"appe":   "lftp resumes uploads with REST and STOR.",
		"append": "lftp has no command that appends.",
	},
}

func lftpQuoted(name string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
}

func lftpScript(r *run, script ...string) string {
	settings := []string{"set net:max-retries 1", "set cmd:fail-exit yes", "set ssl:verify-certificate no", "open -u dock,pass ftp://" + r.node.addr}
	return strings.Join(append(settings, script...), "\n")
}

func doLftp(r *run, script ...string) string {
	r.t.Helper()
	return r.exec("", "lftp", "-c", lftpScript(r, script...))
}

var ncftp = &client{
	name: "ncftp",
	cells: actions{
		"binary": with(ncftpput, "-C", "HOST", "in.bin", "out.bin"),
		"ascii":  with(ncftpput, "-a", "-C", "HOST", "in.bin", "out.bin"),
		"empty":  with(ncftpput, "HOST", "/", "empty.bin"),
		"big":    with(ncftpput, "HOST", "/", "big.bin"),
		"rest":   with(ncftpput, "-s", "-z", "HOST", "/", "in.bin"),
		"rename": with(ncftpput, "-S", ".tmp", "-C", "HOST", "in.bin", "out.bin"),
		"overwrite": func(r *run) {
			ncftpput(r, "-C", "HOST", "in.bin", "out.bin")
			ncftpput(r, "-C", "HOST", "second.bin", "out.bin")
		},
		"append": func(r *run) {
			ncftpput(r, "-C", "HOST", "in.bin", "out.bin")
			ncftpput(r, "-A", "-C", "HOST", "second.bin", "out.bin")
		},
		"mkdir": func(r *run) {
			r.local("out.bin", content)
			ncftpput(r, "-m", "HOST", "/a/b", "out.bin")
		},
		"awkward": func(r *run) {
			for _, name := range awkward {
				ncftpput(r, "-C", "HOST", "./"+name, name)
			}
		},
		"bytes":    with(ncftpput, "HOST", "/", foreign),
		"parallel": inParallel(ncftpput, "HOST", "/"),
		"ask": func(r *run) {
			questions := "quote SIZE out.bin\nquote MDTM out.bin\nquote MLST out.bin\nls -al\nls -1\n"
			wait := filepath.Join(r.dir, "wait") // its shell takes no quotes
			r.ok(os.WriteFile(wait, []byte("#!/bin/sh\n"+r.waitForDelivery()+"\n"), 0o755))
			out := ncftpShell(r, questions+"put -z in.bin out.bin\n"+questions+"!"+wait+"\n"+questions)
			require.Equal(r.t, 2, strings.Count(out, "300000\n2"), out)
		},
		"mfmt": with(ncftpput, "-X", "MFMT 20200102030405 in.bin", "HOST", "/", "in.bin"),
		"site": with(ncftpput, "-y", "-Y", "SITE CHMOD 644 in.bin", "HOST", "/", "in.bin"),
		"allo": with(ncftpput, "-W", "ALLO 300000", "HOST", "/", "in.bin"),
		"quit": func(r *run) {
			r.killReader(append([]string{"ncftpput"}, ncftpArgs(r, "-C", "HOST", "slow", "out.bin")...)...)
		},
		"pasv":   with(ncftpput, "-F", "-C", "HOST", "in.bin", "out.bin"),
		"active": with(ncftpput, "-E", "-C", "HOST", "in.bin", "out.bin"),
	},
	ascii: func(b []byte) []byte { // it takes CR for a line end, too
		return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\n"), []byte("\r")), []byte("\r"), []byte("\r\n"))
	},
	sent: map[string][]string{
		"ascii": {`STOR out\.bin`}, // as lftp
		"ask":   {`SIZE .*`, `MDTM .*`, `MLST .*`, `LIST -a`, `MLSD`},
	},
	no: map[string]string{
		"appe":     "ncftpput resumes uploads with REST and STOR.",
		"explicit": noTLS, "implicit": noTLS,
		"epsv": "ncftp knows PASV and PORT only.",
	},
}

const noTLS = "The client has no TLS."

func ncftpArgs(r *run, args ...string) []string {
	all := []string{"-u", "dock", "-p", "pass", "-P", r.node.port}
	for _, a := range args {
		if a == "HOST" {
			a = "127.0.0.1"
		}
		all = append(all, a)
	}
	return all
}

func ncftpput(r *run, args ...string) string {
	r.t.Helper()
	return r.exec("", append([]string{"ncftpput"}, ncftpArgs(r, args...)...)...)
}

func ncftpShell(r *run, script string) string {
	r.t.Helper()
	return r.exec(script+"quit\n", append([]string{"ncftp"}, ncftpArgs(r, "HOST")...)...)
}

// The BSD clients differ in details only.
var (
	tnftp     = bsd("tnftp", "epsv", "pasv", "tnftp", "-n", "-p", "-v")
	inetutils = bsd("inetutils-ftp", "pasv", "epsv", "inetutils-ftp", "-n", "-p", "-v")
)

// bsd is one that uses byItself, PASV or EPSV, and the other after the command epsv4.
func bsd(name, byItself, other string, command ...string) *client {
	do := func(script string) func(*run) {
		return func(r *run) { doBSD(r, command, script) }
	}
	cl := &client{
		name: name,
		cells: actions{
			"binary":    do("binary\nput in.bin out.bin"),
			"ascii":     do("ascii\nput in.bin out.bin"),
			"empty":     do("binary\nput empty.bin"),
			"big":       do("binary\nput big.bin"),
			"rest":      do("binary\nrestart 100000\nput in.bin"),
			"appe":      do("binary\nappend tail.bin in.bin"),
			"rename":    do("binary\nput in.bin out.tmp\nrename out.tmp out.bin"),
			"overwrite": do("binary\nput in.bin out.bin\nput second.bin out.bin"),
			"append":    do("binary\nput in.bin out.bin\nappend second.bin out.bin"),
			"mkdir":     do("binary\nmkdir a\nmkdir a/b\ncd a/b\nput in.bin out.bin"),
			"awkward": func(r *run) { // one by one, so that the order is ours; their quoting knows no quotes, patterns do
				doBSD(r, command, "binary\nprompt\nmput a*.csv\nmput it*.csv\nput "+bsdQuoted("./"+awkward[2])+" "+bsdQuoted(awkward[2])+"\nput "+bsdQuoted(awkward[3]))
			},
			"bytes": func(r *run) { doBSD(r, command, "binary\nput "+bsdQuoted(foreign)) },
			"parallel": func(r *run) {
				inParallel(func(r *run, args ...string) string { return doBSD(r, command, "binary\nput "+args[0]) })(r)
			},
			"ask": func(r *run) {
				questions := "quote SIZE out.bin\nquote MDTM out.bin\nquote MLST out.bin\nls -al\nnlist\n"
				out := doBSD(r, command, questions+"binary\nput in.bin out.bin\n"+questions+"!"+r.waitForDelivery()+"\n"+questions)
				require.Equal(r.t, 2, strings.Count(out, "213 300000"), out)
				require.Equal(r.t, 3, strings.Count(out, "550 "), out)
			},
			"mfmt":   do("binary\nput in.bin\nquote MFMT 20200102030405 in.bin"),
			"site":   do("binary\nput in.bin\nchmod 644 in.bin\nsite UTIME 20200102030405 in.bin"),
			"allo":   do("binary\nquote ALLO 300000\nput in.bin"),
			"quit":   func(r *run) { r.kill(bsdScript(r, `put "|cat in.bin; sleep 60" out.bin`), command...) },
			other:    do("epsv4\nbinary\nput in.bin out.bin"),
			byItself: do("binary\nput in.bin out.bin"),
			"active": do("passive\nbinary\nput in.bin out.bin"),
		},
		ascii: crlf,
		no:    map[string]string{"explicit": noTLS, "implicit": noTLS},
	}
	return cl
}

func bsdQuoted(name string) string { return `"` + name + `"` }

func bsdScript(r *run, script string) string {
	return "open 127.0.0.1 " + r.node.port + "\nuser dock pass\n" + script + "\nquit\n"
}

func doBSD(r *run, command []string, script string) string {
	r.t.Helper()
	out := r.exec(bsdScript(r, script), command...)
	require.NotContains(r.t, out, "\n500 ", "a command is not known")
	return out
}

var wput = &client{
	name: "wput",
	cells: actions{
		"binary": with(doWput, "in.bin", "URL/out.bin"),
		"ascii": func(r *run) { // of noise it loses some line ends itself
			r.local("in.txt", text)
			doWput(r, "-A", "in.txt", "URL/out.bin")
		},
		"empty":     with(doWput, "empty.bin", "URL/empty.bin"),
		"big":       with(doWput, "big.bin", "URL/big.bin"),
		"rest":      with(doWput, "in.bin", "URL/in.bin"),
		"overwrite": func(r *run) { doWput(r, "in.bin", "URL/out.bin"); doWput(r, "--reupload", "second.bin", "URL/out.bin") },
		"mkdir":     with(doWput, "in.bin", "URL/a/b/out.bin"),
		"awkward": func(r *run) {
			for _, name := range awkward {
				doWput(r, "./"+name, "URL/"+url.PathEscape(name))
			}
		},
		"bytes":    func(r *run) { doWput(r, foreign, "URL/"+url.PathEscape(foreign)) },
		"parallel": inParallel(doWput),
		"site":     with(doWput, "-m", "644", "in.bin", "URL/in.bin"),
		"quit": func(r *run) {
			r.kill("", "wput", "-nv", "--disable-tls", "--limit-rate=20K", "in.bin", r.url("out.bin"))
		},
		"explicit": func(r *run) { // it takes the session tickets of TLS 1.3 for the end of the connection
			r.local("gnutls.conf", []byte("[overrides]\ndisabled-version = tls1.3\n"))
			r.exec("", "env", "GNUTLS_SYSTEM_PRIORITY_FILE="+filepath.Join(r.dir, "gnutls.conf"),
				"wput", "-nv", "--tries=1", "--force-tls", "in.bin", r.url("out.bin"))
		},
		"pasv":   with(doWput, "in.bin", "URL/out.bin"),
		"active": with(doWput, "-p", "in.bin", "URL/out.bin"),
	},
	ascii: func([]byte) []byte { return crlf(text) },
	sent:  map[string][]string{"rest": {`REST \d+`, `STOR .*`}}, // it begins at a multiple of 1024
	no: map[string]string{
		"appe":     "wput resumes uploads with REST and STOR.",
		"rename":   "wput cannot rename.",
		"append":   "wput has no option that appends.",
		"ask":      "wput asks SIZE (or LIST) before an upload only; it has no commands.",
		"mfmt":     "wput does not set times.",
		"allo":     "wput does not send ALLO, nor other commands.",
		"implicit": "wput knows explicit TLS only.",
		"epsv":     "wput knows PASV and PORT only.",
	},
}

func doWput(r *run, args ...string) string {
	r.t.Helper()
	for i := range args {
		args[i] = strings.Replace(args[i], "URL/", r.url(""), 1)
	}
	if filepath.Base(args[0]) == args[0] && len(args) == 1 { // of inParallel
		args = append(args, r.url(args[0]))
	}
	return r.exec("", append([]string{"wput", "-nv", "--disable-tls", "--tries=1"}, args...)...)
}

// killReader runs a client that uploads the FIFO "slow", which brings the first bytes only, and kills it.
func (r *run) killReader(args ...string) {
	r.t.Helper()
	fifo := filepath.Join(r.dir, "slow")
	r.ok(syscall.Mkfifo(fifo, 0o600))
	f, err := os.OpenFile(fifo, os.O_RDWR, 0) // so that neither side waits for the other
	r.ok(err)
	defer f.Close()
	go f.Write(content[:cut])
	r.kill("", args...)
}
