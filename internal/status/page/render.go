package page

import (
	"fmt"
	"net/http"
	"time"

	"github.com/ftpnode/ftpnode/internal/status"
)

// causes are what keeps files, for people who do not run networks.
var causes = map[status.Cause]string{
	status.CloudAway:     "No connection to EchoStream: is the internet down?",
	status.CloudRefuses:  "EchoStream does not let this node in. Call whoever runs it.",
	status.NodeStopped:   "The node is stopped in EchoStream.",
	status.NoEdge:        "In EchoStream, nothing is connected to this node.",
	status.TargetAway:    "A receiver cannot be reached.",
	status.TargetRefuses: "EchoStream refuses the files. Call whoever runs it.",
	status.VolumeBroken:  "The node's disk cannot be written: devices cannot send files. Call whoever runs it.",
}

// plain says what keeps files from being delivered, and where they are meanwhile; "" if nothing does.
func plain(r status.Report) string {
	cause := causes[r.Summary.Cause]
	switch {
	case cause == "" || r.Summary.Cause == status.VolumeBroken:
		return cause
	case r.Acknowledge == "delivered":
		return cause + " Until that is over, devices are told to keep their files and to send them again later."
	}
	return cause + " Files are safe here, and are sent as soon as that is over."
}

// lasted is how long a file was on its way.
func lasted(f status.File) string {
	d := f.Delivered.Sub(f.Accepted)
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", max(d, 0).Seconds())
	}
	return status.Age(d)
}

func symbol(s status.State) string {
	switch s {
	case status.OK:
		return "✓"
	case status.Help:
		return "!"
	}
	return "…"
}

// colours of the states are those of page.css.
var colours = map[string]string{"ok": "#0b6b3a", "waiting": "#8a4b00", "help": "#a8141a"}

// icon is a dot in the state's colour, for the browser's tab.
func icon(w http.ResponseWriter, r *http.Request) {
	colour, ok := colours[r.URL.Query().Get("state")]
	if !ok {
		colour = "#44546a"
	}
	w.Header().Set("Content-Type", "image/svg+xml")
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="%s"/></svg>`, colour)
}

func asset(name, contentType string) http.HandlerFunc {
	text, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(text)
	}
}
