// Package page shows the status of a node to the people of its site, in the browser, and to Prometheus.
//
// It needs one password and serves HTTPS only: a page that says in a word how the node does, what was delivered, what waits, what failed (with
// a button to send it again), and what devices tried in vain. The page is made on the server and can be read without
// any script; the only one shows times in the reader's own time zone and renews the page. It loads nothing from elsewhere.
//
//	GET  /         the page; ?q= searches by name or tracking id
//	POST /login    the password
//	POST /logout
//	POST /retry    sends a failed file again
//	GET  /metrics  for Prometheus, which gives the password by HTTP's Basic scheme, with any user name
//	GET  /healthz  200 while the node is healthy, otherwise 503; no password
//
// Who guesses passwords is slowed down and shut out as on the FTP port. A request that another site has the browser send is
// refused (by Sec-Fetch-Site and Origin, and the session's cookie is SameSite=Strict).
package page

import (
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/internal/guard"
	"github.com/ftpnode/ftpnode/internal/status"
)

// Options of a Page.
type Options struct {
	Source   status.Source // required
	Password string        // required
	// Secret is what sessions are sealed with, besides Password. With the same one, sessions survive a restart.
	Secret string
	Guard  *guard.Guard // By default, a new one
	Log    *slog.Logger // By default, nothing is logged
}

// Page is an http.Handler. It is safe for concurrent use.
type Page struct {
	source  status.Source
	log     *slog.Logger
	door    door
	handler http.Handler

	mu     sync.Mutex
	cached status.Report // for those who have not given a password
	until  time.Time
}

// New makes a page.
func New(opts Options) (*Page, error) {
	if opts.Source == nil || opts.Password == "" {
		return nil, errors.New("page: Options.Source and Options.Password are required")
	}
	if opts.Guard == nil {
		opts.Guard = guard.New(guard.Options{})
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	door, err := newDoor(opts)
	if err != nil {
		return nil, err
	}
	p := &Page{source: opts.Source, log: opts.Log, door: door}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.show)
	mux.HandleFunc("POST /login", p.login)
	mux.HandleFunc("POST /logout", p.logout)
	mux.HandleFunc("POST /retry", p.retry)
	mux.Handle("GET /metrics", p.metrics())
	mux.HandleFunc("GET /healthz", p.healthz)
	mux.HandleFunc("GET /page.css", asset("page.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /page.js", asset("page.js", "text/javascript; charset=utf-8"))
	mux.HandleFunc("GET /icon.svg", icon)
	p.handler = secured(http.NewCrossOriginProtection().Handler(mux))
	return p, nil
}

func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// secured bounds what a request may cost, and says what a browser may do with the answers.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Content-Security-Policy":      "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Referrer-Policy":              "no-referrer",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Cache-Control":                "no-store",
		} {
			w.Header().Set(name, value)
		}
		r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
		next.ServeHTTP(w, r)
	})
}

// Serve answers HTTPS on l until ctx ends. certificate is as tls.Config.GetCertificate.
func (p *Page) Serve(ctx context.Context, l net.Listener, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) error {
	server := &http.Server{
		Handler:           p,
		TLSConfig:         &tls.Config{GetCertificate: certificate, MinVersion: tls.VersionTLS12},
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // no HTTP/2: maxConnections bounds the requests
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      40 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug), // scanners, and browsers that do not know the certificate
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.ServeTLS(&bounded{l, make(chan struct{}, maxConnections)}, "", ""); ctx.Err() == nil {
		return err
	}
	return nil
}

const maxConnections = 64

// bounded closes the connections for which there is no place.
type bounded struct {
	net.Listener
	places chan struct{}
}

func (b *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case b.places <- struct{}{}:
			return &boundedConn{Conn: conn, leave: sync.OnceFunc(func() { <-b.places })}, nil
		default:
			conn.Close()
		}
	}
}

type boundedConn struct {
	net.Conn
	leave func()
}

func (c *boundedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

//go:embed page.css page.js
var files embed.FS

// view is what a page shows.
type view struct {
	status.Report
	LoggedIn bool
	Wrong    string        // with the log-in form
	Notice   string        // what came of a button
	Bad      bool          // it came to nothing
	Query    string        // of a search
	Found    []status.File // that wait
}

func (p *Page) show(w http.ResponseWriter, r *http.Request) {
	if !p.door.open(r) {
		p.render(w, http.StatusOK, view{})
		return
	}
	p.showWith(w, r, http.StatusOK, view{})
}

// maxListed is how many files a list on the page has at most.
const maxListed = 50

func (p *Page) showWith(w http.ResponseWriter, r *http.Request, code int, v view) {
	v.LoggedIn = true
	v.Report = status.ReportOf(p.source)
	v.Query = strings.TrimSpace(r.URL.Query().Get("q"))
	if id := r.URL.Query().Get("sent"); id != "" && v.Notice == "" {
		v.Notice = p.sentAgain(v.Report, id)
	}
	v.Found = p.source.Find(v.Query, maxListed)
	if v.Query != "" {
		v.Recent = matching(v.Recent, v.Query)
		v.Failed = matching(v.Failed, v.Query)
	}
	v.Recent = v.Recent[:min(len(v.Recent), maxListed)]
	p.render(w, code, v)
}

func matching[F interface{ Matches(text string) bool }](list []F, text string) (found []F) {
	for _, f := range list {
		if f.Matches(text) {
			found = append(found, f)
		}
	}
	return found
}

// sentAgain says what has become of a file that was sent again.
func (p *Page) sentAgain(r status.Report, id string) string {
	for _, f := range r.Recent {
		if f.ID == id {
			return status.Visible(f.Name) + " was sent again and has arrived."
		}
	}
	for _, f := range r.Failed {
		if f.ID == id {
			return status.Visible(f.Name) + " was sent again and failed again: " + f.Reason
		}
	}
	for _, f := range p.source.Find(id, 1) {
		return status.Visible(f.Name) + " is sent again."
	}
	return "The file is sent again."
}

func (p *Page) render(w http.ResponseWriter, code int, v view) {
	var b strings.Builder
	if err := v.document().Render(&b); err != nil {
		p.log.Error("the status page cannot be made", "error", err)
		http.Error(w, "the page cannot be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(b.String()))
}

func (p *Page) login(w http.ResponseWriter, r *http.Request) {
	if code, why := p.door.allow(r, r.PostFormValue("password")); why != "" {
		p.render(w, code, view{Wrong: why})
		return
	}
	http.SetCookie(w, cookie(p.door.session(time.Now()), int(sessionTime/time.Second)))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (p *Page) logout(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, cookie("", -1))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (p *Page) retry(w http.ResponseWriter, r *http.Request) {
	if !p.door.open(r) {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	id := r.PostFormValue("id")
	if err := p.source.Retry(id); err != nil {
		p.log.Warn("the status page was asked to send a failed file again, and cannot", "trackingId", id, "error", err, "remote", remote(r))
		p.showWith(w, r, http.StatusConflict, view{Bad: true, Notice: "The file cannot be sent again: " + err.Error()})
		return
	}
	http.Redirect(w, r, "/?sent="+url.QueryEscape(id), http.StatusSeeOther)
}

// report is one that is up to a second old, for what is asked often or without a password.
func (p *Page) report() status.Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); !now.Before(p.until) {
		p.cached, p.until = status.ReportOf(p.source), now.Add(time.Second)
	}
	return p.cached
}

func (p *Page) healthz(w http.ResponseWriter, _ *http.Request) {
	if !p.report().Health.OK {
		http.Error(w, "unhealthy", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("healthy\n"))
}
