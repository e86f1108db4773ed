package page

import (
	"fmt"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/ftpnode/ftpnode/internal/status"
)

// The pages are made by gomponents, which escapes every text and value. (html/template calls methods by their names, so that the linker
// keeps all of the AWS SDK: 8 MB of image.)

// document is the whole page: the log-in form, or what the node reports.
func (v view) document() g.Node {
	title, body := "Log in", v.login()
	if v.LoggedIn {
		title, body = v.Summary.Title+" – "+v.Node, v.report()
	}
	return h.Doctype(h.HTML(h.Lang("en"),
		h.Head(
			h.Meta(h.Charset("utf-8")),
			h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")),
			h.Meta(h.Name("robots"), h.Content("noindex")),
			h.TitleEl(g.Text(title)),
			h.Link(h.Rel("stylesheet"), h.Href("/page.css")),
			h.Link(h.Rel("icon"), h.Href("/icon.svg?state="+string(v.Summary.State))),
			h.Script(h.Src("/page.js"), h.Defer()),
		),
		body,
	))
}

func (v view) login() g.Node {
	return h.Body(h.Class("login"), h.Main(
		h.H1(g.Text("How is the node?")),
		g.If(v.Wrong != "", h.P(h.Class("notice bad"), h.Role("alert"), visible(v.Wrong))),
		h.Form(h.Method("post"), h.Action("/login"),
			h.Input(h.Type("text"), h.Name("username"), h.Value("status"), h.AutoComplete("username"), g.Attr("hidden")),
			h.Label(h.For("password"), g.Text("Password")),
			h.Input(h.ID("password"), h.Name("password"), h.Type("password"), h.AutoComplete("current-password"), h.Required(), h.AutoFocus()),
			h.Button(g.Text("Show")),
		),
	))
}

func (v view) report() g.Node {
	return h.Body(
		v.header(),
		h.Main(
			g.If(v.Notice != "", h.P(h.Class("notice"+map[bool]string{true: " bad"}[v.Bad]), h.Role("status"), visible(v.Notice))),
			v.failed(),
			v.search(),
			v.waiting(),
			v.delivered(),
			g.Iff(v.Query == "", func() g.Node {
				return g.Group{v.attempts(), v.devices(), v.node()}
			}),
		),
		h.Footer(
			h.P(g.Text("As of "), v.stamp(v.At), g.Text(".")),
			h.Form(h.Method("post"), h.Action("/logout"), h.Button(h.Class("quiet"), g.Text("Log out"))),
		),
	)
}

func (v view) header() g.Node {
	return h.Header(h.Class(string(v.Summary.State)),
		h.P(h.Class("node"), name(v.Node), g.Text(" "), h.Span(visible(v.Tenant))),
		h.Div(h.Class("word"),
			h.Span(h.Class("symbol"), h.Aria("hidden", "true"), g.Text(symbol(v.Summary.State))),
			h.H1(g.Text(v.Summary.Title), v.at(" since ", v.Summary.Since)),
		),
		g.If(len(v.Failed) > 0, h.P(h.Class("plain"), g.Text("See below what was refused and why. Send it again when that is fixed."))),
		g.If(plain(v.Report) != "", h.P(h.Class("plain"), g.Text(plain(v.Report)))),
		g.Iff(v.Summary.Last != nil, func() g.Node {
			return h.P(g.Text("Last file delivered: "), v.stamp(v.Summary.Last.Delivered), g.Text(", "), name(v.Summary.Last.Name))
		}),
	)
}

func (v view) failed() g.Node {
	if len(v.Failed) == 0 {
		return nil
	}
	return section("failed", "Needs help", h.Ul(h.Class("files"), g.Map(v.Failed, func(f status.Failed) g.Node {
		return h.Li(h.Class("failed"),
			h.Div(h.Class("name"), name(f.Name)),
			why(f.Reason),
			facts(v.at("failed ", f.Since), g.Text(status.Size(f.Bytes)), from(f.User)),
			id(f.ID),
			h.Form(h.Method("post"), h.Action("/retry"),
				h.Input(h.Type("hidden"), h.Name("id"), h.Value(f.ID)),
				h.Button(h.Aria("label", "Send again: "+status.Visible(f.Name)), g.Text("Send again")),
			),
		)
	})))
}

func (v view) search() g.Node {
	return h.Form(h.Class("search"), h.Method("get"), h.Action("/"), h.Role("search"),
		h.Label(h.For("q"), g.Text("Find a file by its name or tracking id")),
		h.Div(
			h.Input(h.ID("q"), h.Name("q"), h.Type("search"), h.Value(v.Query), h.MaxLength("255")),
			g.Text(" "),
			h.Button(g.Text("Find")),
		),
		g.If(v.Query != "", h.P(h.A(h.Href("/"), g.Text("Show all files")))),
	)
}

func (v view) waiting() g.Node {
	if len(v.Found) == 0 && v.Waiting.Files == 0 {
		return nil
	}
	list := h.Ul(h.Class("files"), g.Map(v.Found, func(f status.File) g.Node {
		return h.Li(
			h.Div(h.Class("name"), name(f.Name)),
			why(f.Error),
			facts(g.Group{g.Text("received "), v.stamp(f.Accepted), g.Text(", " + v.ago(f.Accepted))}, g.Text(status.Size(f.Bytes)), from(f.User), v.tried(f)),
			id(f.ID),
		)
	}))
	if v.Query != "" {
		return section("waiting", "Waiting, found", list)
	}
	sum := fmt.Sprintf("%s, %s", counted(v.Waiting.Files), status.Size(v.Waiting.Bytes))
	if v.Waiting.Held > 0 {
		sum += fmt.Sprintf("; %d of them under a temporary name, until the device renames it", v.Waiting.Held)
	}
	sum += "."
	if v.Waiting.Files > len(v.Found) {
		sum += fmt.Sprintf(" The first %d:", len(v.Found))
	}
	return section("waiting", "Waiting", h.P(g.Text(sum)), list)
}

// tried says how often a file was tried, and when again.
func (v view) tried(f status.File) g.Node {
	if f.Attempts == 0 {
		return nil
	}
	return g.Group{g.Textf("tried %d×", f.Attempts), v.at(", again ", f.Next)}
}

func (v view) delivered() g.Node {
	heading, nothing := "Delivered last", "Nothing since the node started."
	if v.Query != "" {
		heading, nothing = "Delivered, found", "None of the files that were delivered last has such a name."
	}
	if len(v.Recent) == 0 {
		return section("delivered", heading, h.P(g.Text(nothing)))
	}
	return section("delivered", heading, h.Ul(h.Class("files"), g.Map(v.Recent, func(f status.File) g.Node {
		return h.Li(
			h.Div(h.Class("name"), name(f.Name)),
			facts(g.Group{g.Text("received "), v.stamp(f.Accepted), g.Text(" → sent "), v.stamp(f.Delivered), g.Text(" (" + lasted(f) + ")")},
				g.Text(status.Size(f.Bytes)), from(f.User)),
			id(f.ID),
		)
	})))
}

func (v view) attempts() g.Node {
	if len(v.Bridge.Attempts) == 0 {
		return nil
	}
	return section("attempts", "What devices tried in vain", h.Ul(h.Class("files"), g.Map(v.Bridge.Attempts, func(a status.Attempt) g.Node {
		return h.Li(
			h.Div(h.Class("name"), visible(a.From), g.Iff(a.User != "", func() g.Node { return g.Group{g.Text(" · "), name(a.User)} })),
			why(a.Tried),
			advice("", a.Advice),
			facts(g.Group{g.Text("last "), v.stamp(a.At), g.Text(", " + v.ago(a.At))}, g.If(a.Count > 1, g.Textf("%d times", a.Count))),
		)
	})))
}

func (v view) devices() g.Node {
	return section("devices", "Devices",
		g.If(v.Bridge.Refuses != "", h.P(h.Class("notice bad"), g.Text("All are refused: "), visible(v.Bridge.Refuses))),
		h.Ul(h.Class("files"),
			g.Map(v.Bridge.Senders, func(s status.Sender) g.Node {
				seen := g.Node(g.Text("not seen since the node started"))
				if !s.LastLogin.IsZero() {
					seen = g.Group{v.at("last seen ", s.LastLogin), g.If(s.From != "", g.Group{g.Text(" at "), visible(s.From)})}
				}
				return h.Li(h.Div(h.Class("name"), name(s.Name)), facts(seen, v.at("last file ", s.LastUpload)))
			}),
			g.Map(v.Bridge.Uploads, func(u status.Upload) g.Node {
				return h.Li(h.Div(h.Class("name"), name(u.Name)),
					facts(g.Group{g.Text("is being received from "), name(u.User), g.Text(": " + status.Size(u.Bytes) + " so far"), v.at(", since ", u.Since)}))
			}),
			g.Map(v.Bridge.Interrupted, func(u status.Interrupted) g.Node {
				return h.Li(h.Div(h.Class("name"), name(u.Name)),
					facts(g.Group{g.Text("interrupted at " + status.Size(u.Bytes)), v.at(", ", u.Since), g.Text("; "), name(u.User), g.Text(" can send it again")}))
			}),
		))
}

func (v view) node() g.Node {
	term := func(name string, about ...g.Node) g.Node { return g.Group{h.Dt(g.Text(name)), h.Dd(about...)} }
	health := g.Node(g.Text("healthy"))
	if !v.Health.OK {
		health = g.Map(v.Health.Problems, why)
	}
	cloud := g.Node(g.Text("has not answered yet"))
	switch {
	case v.Cloud.Error.Text != "":
		cloud = g.Group{why(v.Cloud.Error.Text), advice("Look at: ", v.Cloud.Error.Advice), v.at("since ", v.Cloud.Error.Since)}
	case !v.Cloud.Read.IsZero():
		cloud = v.at("logged in, last read ", v.Cloud.Read)
	}
	return section("node", "The node", h.Dl(
		term("Health", health),
		term("EchoStream", cloud),
		g.Map(v.Targets, func(t status.Target) g.Node {
			waits := "nothing waits"
			if t.Files > 0 {
				waits = fmt.Sprintf("%d waiting (%s)", t.Files, status.Size(t.Bytes))
			}
			return term("Target", name(t.Name), g.Text(": "+waits), v.at(", last took a file ", t.LastAcknowledged), why(t.Error.Text), advice("Look at: ", t.Error.Advice))
		}),
		term("Disk", why(v.Disk.Error.Text), g.Text(status.Size(v.Disk.Free)+" free"), g.If(v.Disk.Full, g.Text(": uploads are refused"))),
		term("Running", g.Text("since "), v.stamp(v.Since), g.Textf("; %s (%s) delivered since then", counted(v.Sent.Files), status.Size(v.Sent.Bytes))),
		term("Version", g.Text(v.Program+" "+v.Version)),
	))
}

// stamp is a time in the node's zone, which page.js turns into the reader's.
func (v view) stamp(t time.Time) g.Node {
	return h.Time(h.DateTime(t.UTC().Format(time.RFC3339)), g.Text(status.Clock(t, v.At)+v.At.Format(" MST")))
}

// at is a time behind a text; nothing if there is none.
func (v view) at(text string, t time.Time) g.Node {
	return g.Iff(!t.IsZero(), func() g.Node { return g.Group{g.Text(text), v.stamp(t)} })
}

func (v view) ago(t time.Time) string { return status.Age(v.At.Sub(t)) + " ago" }

func section(id, heading string, content ...g.Node) g.Node {
	return h.Section(h.Aria("labelledby", id), h.H2(h.ID(id), g.Text(heading)), g.Group(content))
}

// visible is a text from outside, without what could mislead its reader.
func visible(text string) g.Node { return g.Text(status.Visible(text)) }

// name is one of somebody else's choice: its direction of writing ends with it.
func name(text string) g.Node { return g.El("bdi", visible(text)) }

func why(text string) g.Node { return g.If(text != "", h.Div(h.Class("why"), visible(text))) }

func advice(before, text string) g.Node {
	return g.If(text != "", h.Div(h.Class("advice"), g.Text(before), visible(text)))
}

// facts are short texts in a line, with dots between those that are there.
func facts(list ...g.Node) g.Node {
	var line g.Group
	for _, fact := range list {
		if fact == nil {
			continue
		}
		if len(line) > 0 {
			line = append(line, g.Text(" · "))
		}
		line = append(line, fact)
	}
	return h.Div(h.Class("facts"), line)
}

func from(user string) g.Node {
	return g.Iff(user != "", func() g.Node { return g.Group{g.Text("from "), name(user)} })
}

func id(text string) g.Node { return h.Div(h.Class("id"), g.Text(text)) }

func counted[N int | int64](files N) string {
	if files == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", files)
}
