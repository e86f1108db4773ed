package echotest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Tenant is the one tenant of a Cloud.
type Tenant struct {
	Name   string // By default, "acme".
	Region string // By default, "us-east-1".
	Audit  bool   // whether messages are to be audited
	Config string // a JSON object, or "" for null
	Table  string // the DynamoDB table's name. By default, "tenant-table".
}

// AppKind is the kind of an app: its type in the GraphQL schema.
type AppKind string

// The kinds of apps that nodes can belong to.
const (
	ManagedApp      AppKind = "ManagedApp"
	ExternalApp     AppKind = "ExternalApp"
	CrossAccountApp AppKind = "CrossAccountApp" // its nodes use the machine's own AWS credentials: Options.Machine
)

// App is an app: it has a user in Cognito, and nodes that use it.
type App struct {
	Name        string  // required
	Kind        AppKind // By default, ManagedApp.
	Config      string  // a JSON object, or "" for null
	TableAccess bool
	UserName    string // By default, a random one.
	Password    string // By default, a random one.
	// Inactive has the user pool refuse log-ins of the app's user with UserLambdaValidationException, as EchoStream's does
	// for an app that was removed or is not active. What is logged in stays so.
	Inactive bool
}

// Node is a node's definition. That of a ManagedApp is a ManagedNode, any other an ExternalNode.
type Node struct {
	Name               string // required
	App                string // By default, the app of the cloud's first node.
	Config             string // a JSON object, or "" for null
	Stopped            bool
	LoggingLevel       string // DEBUG, ERROR, INFO or WARNING; "" is null. Only a ManagedNode has it.
	SendMessageType    string // a message type's name. By default, "echo.file"; None for null.
	ReceiveMessageType string // a message type's name. By default, null.
	Ports              []Port
	Mounts             []Mount
}

// None as a Node's message type is null.
const None = "-"

// Port is a port of a ManagedNode.
type Port struct {
	ContainerPort, HostPort int
	HostAddress             string // "" is null
	Protocol                string // By default, "tcp".
}

// Mount is a mount of a ManagedNode.
type Mount struct {
	Source string // "" is null: an anonymous volume
	Target string
}

// MessageType is the type of the messages on an edge.
type MessageType struct {
	Name          string
	Auditor       string // Python source
	SampleMessage string
	Readme        string // "" is null
}

// EchoFile is EchoStream's type for files, as far as it is published: the auditor is, the sample is our guess.
func EchoFile() MessageType {
	return MessageType{
		Name: "echo.file",
		// The Python library runs it: it must be one function, which imports what it needs.
		Auditor: `def auditor(*, message, **kwargs):
    import simplejson as json

    file = json.loads(message)
    return dict(
        content_length=file["contentLength"],
        content_type=file["contentType"],
        modification_datetime=file["modificationDateTime"],
        name=file["name"],
    )
`,
		SampleMessage: `{"name":"example.txt","contentLength":5,"contentType":"text/plain",` +
			`"modificationDateTime":"2026-11-07T16:05:09.000Z","content":"aGVsbG8="}`,
	}
}

// edge is a queue between two nodes. Its name is "source>target".
type edge struct {
	source, target string
	queue          *queue
	number         int // 1 is the first edge that was made
}

func edgeName(source, target string) string { return source + ">" + target }

// Tenant tells what the tenant is now.
func (c *Cloud) Tenant() Tenant {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tenant
}

// UpdateTenant changes the tenant. Its name and region stay what they are.
func (c *Cloud) UpdateTenant(change func(*Tenant)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name, region := c.tenant.Name, c.tenant.Region
	change(&c.tenant)
	c.tenant.Name, c.tenant.Region = name, region
}

// SetApp adds an app or replaces it. An app's user keeps its name and password where the new ones are empty.
func (c *Cloud) SetApp(app App) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setApp(app)
}

func (c *Cloud) setApp(app App) {
	if app.Name == "" {
		panic("echotest: an App needs a Name")
	}
	old := c.apps[app.Name]
	if app.Kind == "" {
		app.Kind = ManagedApp
	}
	if app.UserName == "" {
		app.UserName = old.UserName
	}
	if app.UserName == "" {
		app.UserName = "user-" + randomHex(6)
	}
	if app.Password == "" {
		app.Password = old.Password
	}
	if app.Password == "" {
		app.Password = randomPassword()
	}
	c.apps[app.Name] = app
	c.cognito.setUser(app.UserName, app.Password, app.Name)
	c.cognito.setInactive(app.Name, app.Inactive)
}

// UpdateApp changes an app; it panics if there is none with this name.
func (c *Cloud) UpdateApp(name string, change func(*App)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	app, ok := c.apps[name]
	if !ok {
		panic(fmt.Sprintf("echotest: no app %q", name))
	}
	change(&app)
	app.Name = name
	c.setApp(app)
}

// SetNode adds a node or replaces its definition.
func (c *Cloud) SetNode(n Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setNode(n)
}

func (c *Cloud) setNode(n Node) {
	if n.Name == "" {
		panic("echotest: a Node needs a Name")
	}
	if n.App == "" {
		n.App = c.opts.App.Name
	}
	if _, ok := c.apps[n.App]; !ok {
		panic(fmt.Sprintf("echotest: node %q: no app %q", n.Name, n.App))
	}
	switch n.SendMessageType {
	case "":
		n.SendMessageType = EchoFile().Name
	case None:
		n.SendMessageType = ""
	}
	if n.ReceiveMessageType == None {
		n.ReceiveMessageType = ""
	}
	c.nodes[n.Name] = n
}

// Node gives a node's definition and whether there is one.
func (c *Cloud) Node(name string) (Node, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.nodes[name]
	return n, ok
}

// UpdateNode changes a node's definition; it panics if there is none with this name. "" for the cloud's first node.
func (c *Cloud) UpdateNode(name string, change func(*Node)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if name == "" {
		name = c.opts.Node.Name
	}
	n, ok := c.nodes[name]
	if !ok {
		panic(fmt.Sprintf("echotest: no node %q", name))
	}
	change(&n)
	n.Name = name
	if n.SendMessageType == "" {
		n.SendMessageType = None
	}
	c.setNode(n)
}

// RemoveNode removes a node and its edges.
func (c *Cloud) RemoveNode(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.nodes, name)
	for key, e := range c.edges {
		if e.source == name || e.target == name {
			c.removeEdge(key)
		}
	}
}

// SetMessageType adds a message type or replaces it.
func (c *Cloud) SetMessageType(m MessageType) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.messageTypes[m.Name] = m
}

// AddEdge adds an edge with a new, empty queue, or does nothing if there is one. Credentials that GetAwsCredentials gave out
// before do not open it: they are narrowed when they are made. Either end may be a node that is not
// defined here: it then is one that runs elsewhere. source "" is the cloud's first node. It returns the queue's URL.
func (c *Cloud) AddEdge(source, target string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addEdge(source, target)
}

func (c *Cloud) addEdge(source, target string) string {
	if source == "" {
		source = c.opts.Node.Name
	}
	key := edgeName(source, target)
	if e, ok := c.edges[key]; ok {
		return e.queue.url
	}
	path := "/" + accountID + "/edge-" + randomHex(8) + ".fifo"
	log := c.logs[key]
	if log == nil {
		log = &edgeLog{source: source, target: target}
		c.logs[key] = log
	}
	q := newQueue(c, c.url(SQS)+path, path, log)
	c.edgesMade++
	c.edges[key] = &edge{source: source, target: target, queue: q, number: c.edgesMade}
	c.edgeOrder = append(c.edgeOrder, key)
	c.queues[path] = c.edges[key]
	return q.url
}

// MoveEdge gives an edge another source. The queue stays what it is, with its messages and its log. It panics if there
// is no such edge, or one between these nodes already.
func (c *Cloud) MoveEdge(source, target, newSource string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	from, to := edgeName(source, target), edgeName(newSource, target)
	e, log := c.edges[from], c.logs[from]
	if e == nil || c.logs[to] != nil {
		panic(fmt.Sprintf("echotest: moving edge %q to %q: there is no such edge, or was one", from, to))
	}
	log.source = newSource
	delete(c.edges, from)
	delete(c.logs, from)
	moved := &edge{source: newSource, target: target, queue: e.queue} // a request may be looking at e
	c.edges[to], c.queues[e.queue.path], c.logs[to] = moved, moved, log
	c.edgeOrder[slices.Index(c.edgeOrder, from)] = to
}

// RemoveEdge removes an edge: its queue does not exist any more and what nobody received from it is lost. What it
// accepted stays in Messages. edge is a target's name or "source>target".
func (c *Cloud) RemoveEdge(edge string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range c.edgeKeys(edge) {
		c.removeEdge(key)
	}
}

func (c *Cloud) removeEdge(key string) {
	e, ok := c.edges[key]
	if !ok {
		return
	}
	delete(c.edges, key)
	delete(c.queues, e.queue.path)
	c.edgeOrder = slices.DeleteFunc(c.edgeOrder, func(k string) bool { return k == key })
	e.queue.remove()
}

// edgeKeys finds the edges that a name means, those that are gone included.
func (c *Cloud) edgeKeys(name string) []string {
	if strings.Contains(name, ">") {
		return []string{name}
	}
	var keys []string
	for key, log := range c.logs {
		if log.target == name {
			keys = append(keys, key)
		}
	}
	return slices.Sorted(slices.Values(keys))
}

// Edges names the edges of now as "source>target", in the order in which they were added.
func (c *Cloud) Edges() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.edgeOrder)
}

// Nodes names the nodes that are defined.
func (c *Cloud) Nodes() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.nodes))
}
