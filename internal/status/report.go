// Package status says how a node does: what waits, since when, why, and what to do about it.
//
// The node fills a [Report] with facts; [Report.Judge] draws the conclusions, so that the command, the page, the metrics and
// the health check never disagree. [Report.Text] is the report for a technician at 3 a.m.; as JSON it is for programs.
//
// A running node answers on a [Channel], a Unix socket on its volume that only its own user may open:
//
//	go status.Serve(ctx, channel, source)           // in the node
//	err := status.Command(ctx, dir, args, os.Stdout) // docker exec NODE /ftpnode status
//
// Limits: what is delivered is remembered in memory, the last [Recents] of it, and forgotten at a restart.
package status

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Source is the node that runs. Its methods may be called from several goroutines.
type Source interface {
	// Report tells the facts of now. Its Summary and Health are set by Judge.
	Report() Report
	// Find lists the files that wait and whose name or tracking id holds text, in their order, at most limit.
	Find(text string, limit int) []File
	// Retry sends a file in failed/ again, under the tracking id it has.
	Retry(id string) error
	// Discard removes a file from failed/ for good.
	Discard(id string) error
	// Accept sends an interrupted upload that was whole.
	Accept(id string) error
}

// Report is all that is known of a node at one time. In JSON, times are RFC 3339, and one that never was is left out; sizes are bytes.
type Report struct {
	Summary Summary `json:"summary"`
	Health  Health  `json:"health"`

	Program     string    `json:"program"` // as in "ftpnode retry ID"
	Node        string    `json:"node"`
	Tenant      string    `json:"tenant"`
	Version     string    `json:"version"`
	Since       time.Time `json:"since"`                 // the node runs
	At          time.Time `json:"at"`                    // of the report
	Retried     time.Time `json:"retried,omitzero"`      // a failed file was sent again last
	Acknowledge string    `json:"acknowledge,omitempty"` // what a reply means to clients: "stored" or "delivered"

	Cloud   Cloud    `json:"cloud"`
	Sends   bool     `json:"sends"` // to targets; a node may only receive
	Waiting Waiting  `json:"waiting"`
	Targets []Target `json:"targets"`
	// Receives reports whether the node receives; Sources are the edges it receives from.
	Receives bool       `json:"receives,omitempty"`
	Sources  []Incoming `json:"sources,omitempty"`
	Failed   []Failed   `json:"failed"`
	Recent   []File     `json:"recent"` // delivered last, the newest first
	Sent     Sent       `json:"sent"`
	Bridge   Bridge     `json:"bridge"`
	Disk     Disk       `json:"disk"`
}

// Cloud is how the node does with EchoStream.
type Cloud struct {
	// Read is when the definition was read last, since the start.
	Read time.Time `json:"read,omitzero"`
	// Kept reports whether the node runs by a definition that it kept, and sends nothing until it has read one.
	Kept bool `json:"kept,omitempty"`
	// Stopped reports whether the node is stopped in EchoStream: it takes files and sends none.
	Stopped bool `json:"stopped,omitempty"`
	// Error is why the definition could not be read the last time; "" if it could.
	Error Trouble `json:"error,omitzero"`
}

// Trouble is something that keeps failing.
type Trouble struct {
	Text  string    `json:"text"`
	Since time.Time `json:"since,omitzero"`
	// Person reports whether only a person can end it: a wrong password, a denied access.
	Person bool `json:"person,omitempty"`
	// Advice is what to look at.
	Advice string `json:"advice,omitempty"`
}

// Waiting is what is not delivered, over all targets.
type Waiting struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
	// Held are those of them that wait for their client, under a temporary name.
	Held   int   `json:"held,omitempty"`
	Oldest *File `json:"oldest,omitempty"` // but for those held
}

// Sent counts what was delivered since the start.
type Sent struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Target is one edge that files go to.
type Target struct {
	Name             string    `json:"name"`
	Files            int       `json:"files"` // that it has not acknowledged
	Bytes            int64     `json:"bytes"`
	Oldest           *File     `json:"oldest,omitempty"`
	LastAcknowledged time.Time `json:"lastAcknowledged,omitzero"`
	Error            Trouble   `json:"error,omitzero"` // what keeps it from taking files
}

// Incoming is one edge that messages come from.
type Incoming struct {
	Name     string    `json:"name"`
	Messages int64     `json:"messages"`       // handled since the start
	Last     time.Time `json:"last,omitzero"`  // when the last of them was
	Error    Trouble   `json:"error,omitzero"` // why the one that came last could not be handled
}

// File is a file on its way, or delivered.
type File struct {
	ID        string    `json:"id"` // the tracking id
	Name      string    `json:"name"`
	Bytes     int64     `json:"bytes"`
	User      string    `json:"user,omitempty"`
	Accepted  time.Time `json:"accepted,omitzero"`
	Delivered time.Time `json:"delivered,omitzero"`
	Attempts  int       `json:"attempts,omitempty"` // that failed
	Error     string    `json:"error,omitempty"`    // of the last attempt
	Next      time.Time `json:"next,omitzero"`      // when it is tried again
}

// Failed is a file that was set aside.
type Failed struct {
	File
	Reason string    `json:"reason"`
	Since  time.Time `json:"since,omitzero"`
}

// Bridge is what the devices do.
type Bridge struct {
	// Refuses says why every device is refused; "" if none is.
	Refuses string `json:"refuses,omitempty"`
	// Address is where the bridge listens.
	Address     string        `json:"address,omitempty"`
	Uploads     []Upload      `json:"uploads"`
	Interrupted []Interrupted `json:"interrupted"`
	Senders     []Sender      `json:"senders"`
	Attempts    []Attempt     `json:"attempts"` // that came to nothing, the newest first
	// MinFree is how many bytes have to be free for uploads to be taken.
	MinFree int64 `json:"minFree,omitempty"`
}

// Upload is a file that is being received.
type Upload struct {
	User  string    `json:"user"`
	Name  string    `json:"name"`
	Bytes int64     `json:"bytes"` // so far
	Since time.Time `json:"since,omitzero"`
	From  string    `json:"from,omitempty"` // the device's address
}

// Interrupted is an upload that ended early, or seemed to. It can be resumed, or accepted as it is.
type Interrupted struct {
	ID    string    `json:"id"` // for Accept
	User  string    `json:"user"`
	Name  string    `json:"name"`
	Bytes int64     `json:"bytes"`
	Since time.Time `json:"since,omitzero"`
}

// Sender is a user of the config.
type Sender struct {
	Name       string    `json:"name"`
	LastLogin  time.Time `json:"lastLogin,omitzero"`
	LastUpload time.Time `json:"lastUpload,omitzero"`
	From       string    `json:"from,omitempty"` // the address of the last log-in
}

// Attempt is what a device tried, and why it came to nothing. Attempts of one device that fail alike are one.
type Attempt struct {
	At     time.Time `json:"at,omitzero"` // the last one
	From   string    `json:"from"`        // the device's address
	User   string    `json:"user,omitempty"`
	Tried  string    `json:"tried"`
	Advice string    `json:"advice,omitempty"`
	Count  int       `json:"count"`
}

// Disk is the node's volume.
type Disk struct {
	Dir  string `json:"dir,omitempty"`
	Free int64  `json:"free"`           // bytes
	Full bool   `json:"full,omitempty"` // uploads are refused for want of room
	// Error is why the volume cannot be written.
	Error Trouble `json:"error,omitzero"`
}

// State is the whole in one word.
type State string

const (
	OK       State = "ok"       // nothing waits longer than it should
	Waits    State = "waiting"  // files wait, or would, for something that should end by itself
	Help     State = "help"     // a person has to do something
	Starting State = "starting" // nothing is known yet
)

// Cause is what keeps files from being delivered.
type Cause string

const (
	CloudAway     Cause = "cloudAway"     // no connection, or EchoStream is down
	CloudRefuses  Cause = "cloudRefuses"  // log-in, tenant or node
	NodeStopped   Cause = "nodeStopped"   // in EchoStream
	NoEdge        Cause = "noEdge"        // to send to
	TargetAway    Cause = "targetAway"    // one target at least
	TargetRefuses Cause = "targetRefuses" // likewise
	VolumeBroken  Cause = "volumeBroken"  // the node cannot write
)

// Summary is the report in one line.
type Summary struct {
	State State `json:"state"`
	// Title is what one reads from three metres: "All delivered", "12 files wait", "1 file needs help".
	Title string `json:"title"`
	// Since is when that began, for Waits.
	Since time.Time `json:"since,omitzero"`
	// Why says more: why files wait, what to do.
	Why string `json:"why,omitempty"`
	// Cause is Why in one word, as far as it keeps files from being delivered.
	Cause Cause `json:"cause,omitempty"`
	// Last is the file that was delivered last.
	Last *File `json:"last,omitempty"`
}

// Health is whether the node does its work. That the cloud is out of reach is no fault of the node's, which keeps what it takes.
type Health struct {
	OK       bool     `json:"ok"`
	Problems []string `json:"problems"`
}

const (
	// onItsWay is how long a file may take before it counts as waiting.
	onItsWay = 30 * time.Second
	// stuck is how long a file may wait for no reason that the node knows.
	stuck = 15 * time.Minute
)

// Judge draws the conclusions from the facts: Summary and Health.
func (r *Report) Judge() {
	r.Health = Health{Problems: r.problems()}
	r.Health.OK = len(r.Health.Problems) == 0
	r.Summary = r.summary()
	if len(r.Recent) > 0 {
		r.Summary.Last = &r.Recent[0]
	}
}

// problems are those that make the node unhealthy.
func (r *Report) problems() []string {
	problems := []string{}
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if e := r.Disk.Error; e.Text != "" {
		add("the volume %s cannot be written: %s", r.Disk.Dir, e.Text)
	}
	if r.Bridge.Refuses != "" {
		add("every log-in is refused: %s", r.Bridge.Refuses)
	}
	if e := r.Cloud.Error; e.Person {
		add("EchoStream cannot be used: %s", advised(e))
	}
	for _, t := range r.Targets {
		if t.Error.Person {
			add("target %q refuses files: %s", t.Name, advised(t.Error))
		}
	}
	if _, why := r.why(); why == "" && r.waitedFor() > stuck {
		add("a file waits since %s, and the node does not know why", Clock(r.Waiting.Oldest.Accepted, r.At))
	}
	return problems
}

func advised(t Trouble) string {
	if t.Advice == "" {
		return t.Text
	}
	return t.Advice + " (" + t.Text + ")"
}

// waitedFor is how long the oldest file that is not held has waited for a node that runs. One that failed has waited on nobody
// until it was sent again.
func (r *Report) waitedFor() time.Duration {
	if r.Waiting.Oldest == nil {
		return 0
	}
	since := r.Waiting.Oldest.Accepted
	for _, t := range []time.Time{r.Since, r.Retried} {
		if t.After(since) {
			since = t
		}
	}
	return r.At.Sub(since)
}

// why says why nothing, or not all, is delivered; "" if nothing is known to be wrong.
func (r *Report) why() (Cause, string) {
	switch {
	case r.Disk.Error.Text != "":
		return VolumeBroken, "the volume cannot be written: " + r.Disk.Error.Text
	case r.Cloud.Error.Person:
		return CloudRefuses, "EchoStream cannot be used: " + advised(r.Cloud.Error)
	case r.Cloud.Error.Text != "":
		return CloudAway, "EchoStream cannot be reached: " + r.Cloud.Error.Text
	case r.Cloud.Read.IsZero():
		return CloudAway, "EchoStream has not answered yet"
	case r.Cloud.Stopped:
		return NodeStopped, "the node is stopped in EchoStream; start it there"
	case r.Sends && len(r.Targets) == 0:
		return NoEdge, "the node has no edge in EchoStream to send to; draw one there"
	case r.Receives && len(r.Sources) == 0:
		return NoEdge, "the node has no edge in EchoStream to receive from; draw one there"
	}
	for _, t := range r.Targets {
		if t.Error.Person {
			return TargetRefuses, fmt.Sprintf("target %q refuses files: %s", t.Name, advised(t.Error))
		}
	}
	for _, t := range r.Targets {
		if t.Error.Text != "" {
			return TargetAway, fmt.Sprintf("target %q cannot be reached: %s", t.Name, t.Error.Text)
		}
	}
	return "", ""
}

func (r *Report) summary() Summary {
	moving := r.Waiting.Files - r.Waiting.Held
	cause, why := r.why()
	waits := moving > 0 && (why != "" || r.waitedFor() > onItsWay)
	s := Summary{State: Waits, Cause: cause, Why: why}
	if waits {
		s.Title = count(moving, "file waits", "files wait")
		s.Why = cmp.Or(why, "the node does not know why")
		if r.Waiting.Oldest != nil {
			s.Since = r.Waiting.Oldest.Accepted
		}
	}
	switch {
	case len(r.Failed) > 0:
		s.State = Help
		if waits {
			s.Title = ", and " + s.Title
			s.Why = "; the others: " + s.Why
		} else {
			s.Why = ""
		}
		s.Title = count(len(r.Failed), "file needs", "files need") + " help" + s.Title
		s.Why = fmt.Sprintf("%s: %s%s", Visible(r.Failed[0].Name), r.Failed[0].Reason, s.Why)
	case len(r.Health.Problems) > 0:
		s.State, s.Title, s.Why = Help, "The node needs help", r.Health.Problems[0]
		if waits {
			s.Title += ", and " + count(moving, "file waits", "files wait")
		}
	case waits:
	case why == "" && r.stuck() != nil:
		in := r.stuck()
		s.Title, s.Since, s.Why = "A message waits", in.Error.Since, fmt.Sprintf("from %q: %s", in.Name, in.Error.Text)
	case r.Cloud.Read.IsZero() && r.Cloud.Error.Text == "":
		s.State, s.Title = Starting, "The node starts"
	case why != "" && !r.Sends && r.Receives:
		s.Title = "Nothing is received"
	case why != "":
		s.Title = "Nothing waits"
	case moving > 0:
		s.State, s.Title = OK, count(moving, "file is", "files are")+" on the way"
	default:
		s.State, s.Title = OK, "All delivered"
		if !r.Sends && r.Receives {
			s.Title = "Receiving"
		}
	}
	return s
}

// stuck is the first source whose last message could not be handled.
func (r *Report) stuck() *Incoming {
	for i := range r.Sources {
		if r.Sources[i].Error.Text != "" {
			return &r.Sources[i]
		}
	}
	return nil
}

// count is a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Matches reports whether the name of f, or its tracking id, holds text, in any case.
func (f File) Matches(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(strings.ToLower(f.Name), text) || strings.Contains(strings.ToLower(f.ID), text)
}
