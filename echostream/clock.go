package echostream

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// clockSlack is how far the services' clocks may be from each other, and the machine's counting from theirs.
	clockSlack = 2 * time.Second
	// clockOff is from when on the machine's clock is said to be wrong. What goes by it is refused from 5 minutes on.
	clockOff = time.Minute
	// clockQuiet is how long nothing more is said of it, so that one that is set to and fro does not fill the log.
	clockQuiet = 10 * time.Minute
)

// serviceClock is the clock of EchoStream and of the AWS services behind it. What ends (credentials, tokens, upload
// URLs) ends by their clock, and what is signed must be signed by it, so that the machine's, which may be years off or be
// set at any time, decides nothing: it only stands in until the first answer.
//
// It goes by the Date of their answers, and counts from there with a clock that nobody sets. An answer's Date lies
// between the request and the answer, so one that took long changes nothing unless it has to.
type serviceClock struct {
	machine func() time.Time     // right or wrong
	elapsed func() time.Duration // since some moment, however often the machine's clock is set
	log     *slog.Logger

	mu    sync.Mutex
	known bool          // an answer has told the time
	told  time.Time     // their time ...
	at    time.Duration // ... when this had elapsed
	moved int           // counts how often it turned out to be wrong by more than clockOff
	said  time.Duration // how much the machine's clock is ahead, by the last line of the log; 0: it is right
	quiet time.Duration // nothing is said until this has elapsed
	doubt time.Duration // the same, of certificates
}

func newServiceClock(machine func() time.Time, elapsed func() time.Duration, log *slog.Logger) *serviceClock {
	return &serviceClock{machine: machine, elapsed: elapsed, log: log}
}

// now is their time, and the machine's before the first answer.
func (c *serviceClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nowLocked()
}

func (c *serviceClock) nowLocked() time.Time {
	if !c.known {
		return c.machine()
	}
	return c.told.Add(c.elapsed() - c.at)
}

// moves counts how often the clock turned out to be wrong: if it did with the answer to a request, what that request was
// refused for may have been its time.
func (c *serviceClock) moves() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moved
}

// hear takes the time from the answer to a request that was made at sent.
func (c *serviceClock) hear(header http.Header, sent time.Duration) {
	if !fromService(header) {
		return
	}
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	elapsed := c.elapsed()
	// The Date is cut to a second.
	earliest, latest := date, date.Add(time.Second+elapsed-sent)
	switch now := c.nowLocked(); {
	case !c.known, now.Before(earliest.Add(-clockSlack)), now.After(latest.Add(clockSlack)):
		if c.known && (now.Before(earliest.Add(-clockOff)) || now.After(latest.Add(clockOff))) {
			c.moved++
		}
		c.known, c.told, c.at = true, date.Add(time.Second/2), elapsed
	}
	c.reportLocked(elapsed)
}

// fromService reports whether an answer is one of AWS's and new: what a proxy or a captive portal says of the time may be
// as wrong as the machine's clock. Each of the services names its answers: x-amz-request-id is S3's name.
func fromService(header http.Header) bool {
	return header.Get("Age") == "" && (header.Get("X-Amzn-Requestid") != "" || header.Get("X-Amz-Request-Id") != "")
}

// reportLocked says that the machine's clock is wrong: once, and again when that changes a lot.
func (c *serviceClock) reportLocked(elapsed time.Duration) {
	machine, theirs := c.machine(), c.nowLocked()
	ahead := machine.Sub(theirs)
	if elapsed < c.quiet {
		return
	}
	wrong, change := ahead.Abs() > clockOff, (ahead - c.said).Abs()
	switch {
	case wrong && (c.said == 0 || change > max(5*clockOff, c.said.Abs()/10)):
		direction := "ahead"
		if ahead < 0 {
			direction = "behind"
		}
		c.log.Warn("the machine's clock is wrong; set it right, for example by NTP (EchoStream's clock is used meanwhile)",
			"off", ahead.Abs().Round(10*time.Second).String()+" "+direction,
			"machine", machine.UTC().Format(time.RFC3339), "echostream", theirs.UTC().Format(time.RFC3339))
		c.said = ahead
	case !wrong && c.said != 0:
		c.log.Info("the machine's clock is right again")
		c.said = 0
	default:
		return
	}
	c.quiet = elapsed + clockQuiet
}

// failed looks for a wrong clock in the error of a request: before the first answer it shows in a certificate that is
// not valid yet, or not any more.
func (c *serviceClock) failed(err error, host string) {
	invalid, ok := invalidByTime(err)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	elapsed := c.elapsed()
	if c.known || elapsed < c.doubt {
		return // it is not the clock, or was said
	}
	c.log.Warn("the machine's clock is wrong, or a certificate is: it is not valid at the machine's time; set the clock right, for example by NTP",
		"machine", c.machine().UTC().Format(time.RFC3339), "host", host,
		"validFrom", invalid.NotBefore.UTC().Format(time.RFC3339), "validUntil", invalid.NotAfter.UTC().Format(time.RFC3339))
	c.doubt = elapsed + time.Hour // that it goes on is the caller's to say
}

// invalidByTime finds the certificate that err refuses for the time.
func invalidByTime(err error) (*x509.Certificate, bool) {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil {
		return invalid.Cert, true
	}
	return nil, false
}

// timedClient has the clock hear each answer.
//
// It also keeps the AWS SDK from cutting answers off: the SDK closes a request's body as soon as the head of the answer is
// there, and its WriteTo then fails with io.EOF. On a busy machine, net/http may only then look for the end of the body, and
// would close the connection for that error while the answer is being read.
type timedClient struct {
	client aws.HTTPClient
	clock  *serviceClock
	body   []byte // of the requests, or nil: net/http writes a body in memory together with the head
}

// Do implements aws.HTTPClient.
func (t timedClient) Do(r *http.Request) (*http.Response, error) {
	if t.body != nil {
		r = r.WithContext(r.Context()) // a copy
		r.Body = io.NopCloser(bytes.NewReader(t.body))
	} else if _, ok := r.Body.(io.WriterTo); ok {
		r = r.WithContext(r.Context())
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	sent := t.clock.elapsed()
	answer, err := t.client.Do(r)
	if err != nil {
		t.clock.failed(err, r.URL.Host)
		return nil, err
	}
	t.clock.hear(answer.Header, sent)
	return answer, nil
}

// uptime counts on, whatever the machine's clock is set to.
func uptime() func() time.Duration {
	if _, ok := sinceBoot(); ok {
		return func() time.Duration {
			elapsed, _ := sinceBoot()
			return elapsed
		}
	}
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}
