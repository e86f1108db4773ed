package echostream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"

	"github.com/ftpnode/ftpnode/echostream/internal/api"
)

// Definition is the definition of a node, as EchoStream holds it. It can be kept as JSON. It holds the config,
// which may hold secrets: it does not print itself.
type Definition struct {
	Name   string `json:"name"`
	Tenant string `json:"tenant"`
	// Region is the tenant's AWS region, such as "us-east-1".
	Region string `json:"region"`
	// App is the name of the app that the node belongs to.
	App string `json:"app"`
	// CrossAccount says that the node reaches its queues with the machine's own AWS credentials.
	CrossAccount bool `json:"crossAccount,omitempty"`
	// Config is a JSON object: the tenant's keys, replaced by the app's, replaced by the node's. Never empty.
	Config json.RawMessage `json:"config"`
	// Targets are the edges that the node sends to, Sources those it receives from, sorted by name.
	Targets []Edge `json:"targets,omitempty"`
	Sources []Edge `json:"sources,omitempty"`
	// SendMessageType and ReceiveMessageType are nil for a node that does not send or not receive.
	SendMessageType    *MessageType `json:"sendMessageType,omitempty"`
	ReceiveMessageType *MessageType `json:"receiveMessageType,omitempty"`
	// Stopped says that the node must neither send nor receive.
	Stopped bool `json:"stopped,omitempty"`
	// Audit says that the tenant wants an audit record for each message.
	Audit                bool   `json:"audit,omitempty"`
	AuditRecordsEndpoint string `json:"auditRecordsEndpoint"`
	// Managed says that it is a ManagedNode, which EchoStream runs in a container.
	Managed bool `json:"managed,omitempty"`
	// LoggingLevel, Ports and Mounts are set on managed nodes only. A nil level means that none was chosen.
	LoggingLevel *slog.Level `json:"loggingLevel,omitempty"`
	Ports        []Port      `json:"ports,omitempty"`
	Mounts       []Mount     `json:"mounts,omitempty"`
	// Kept says that the definition was kept from an earlier run, as package node does, and may be out of date: edges that it does not name may have
	// been drawn, and the node may have been stopped. Nothing is sent by it ([ErrKept]). That of [Client.Definition] never is.
	Kept bool `json:"-"`
}

// Edge is a queue between this node and another one.
type Edge struct {
	Name  string `json:"name"`  // the node at the other end
	Queue string `json:"queue"` // the URL of the SQS FIFO queue
}

// MessageType says what the messages of an edge look like. EchoStream does not enforce it. All but the name is "" where
// EchoStream keeps it back from the node's user.
type MessageType struct {
	Name          string `json:"name"`
	SampleMessage string `json:"sampleMessage"`
	Auditor       string `json:"auditor"` // Python source
	Readme        string `json:"readme,omitempty"`
}

// Port is a port of a managed node's container and where it is published.
type Port struct {
	ContainerPort int    `json:"containerPort"`
	HostAddress   string `json:"hostAddress,omitempty"` // "" is every address
	HostPort      int    `json:"hostPort"`
	Protocol      string `json:"protocol"` // tcp, udp or sctp
}

// Mount is a volume in a managed node's container.
type Mount struct {
	Source string `json:"source,omitempty"` // "" is an anonymous volume
	Target string `json:"target"`
}

// LogValue shows what is needed to know a definition by, and not the config.
func (n Definition) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("name", n.Name), slog.String("tenant", n.Tenant), slog.String("region", n.Region),
		slog.String("app", n.App), slog.Int("targets", len(n.Targets)), slog.Int("sources", len(n.Sources)),
		slog.Bool("stopped", n.Stopped), slog.Bool("audit", n.Audit))
}

// String names the node and its tenant.
func (n Definition) String() string {
	return fmt.Sprintf("node %q of tenant %q", n.Name, n.Tenant)
}

// GoString is String, as a type's.
func (n Definition) GoString() string {
	return "echostream.Definition{" + n.String() + "}"
}

// Definition reads the node's definition. The error holds [ErrNodeNotFound] if the tenant has no such node; see also
// [NeedsOperator].
func (c *Client) Definition(ctx context.Context) (*Definition, error) {
	name, tenant := c.env.Name, c.env.Tenant
	answer, err := api.GetNode(ctx, c.api, name, tenant)
	var refused *APIError
	if errors.As(err, &refused) && refused.onlyDispensable() && answer.GetNode != nil {
		// The sample message, say, is no reason not to start.
		c.log.WarnContext(ctx, "EchoStream kept a part of the node's definition back", "node", name, "error", err)
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading node %q of tenant %q: %w", name, tenant, err)
	}
	if answer.GetNode == nil {
		return nil, withHint(fmt.Errorf("reading node %q of tenant %q: %w", name, tenant, ErrNodeNotFound), "check NAME (or NODE) and TENANT")
	}
	node, err := nodeOf(answer.GetNode)
	if err != nil {
		return nil, withHint(fmt.Errorf("reading node %q of tenant %q: %w", name, tenant, err), "look at the node, its app and its tenant in EchoStream")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !reflect.DeepEqual(node, c.node) {
		copied := *node
		c.node = &copied
		clear(c.closed)
	}
	return node, nil
}

func nodeOf(answer api.GetNodeGetNode) (*Definition, error) {
	var node *Definition
	var appConfig, nodeConfig *string
	switch n := answer.(type) {
	case *api.GetNodeGetNodeManagedNode:
		node = &Definition{
			Managed: true, App: n.App.Name, AuditRecordsEndpoint: n.App.AuditRecordsEndpoint,
			Targets: targets(n.SendEdges), Sources: sources(n.ReceiveEdges),
			SendMessageType:    messageType(n.SendMessageType, n.SendAuditor, n.SendSample),
			ReceiveMessageType: messageType(n.ReceiveMessageType, n.ReceiveAuditor, n.ReceiveSample),
			Stopped:            value(n.Stopped),
		}
		if n.LoggingLevel != nil {
			node.LoggingLevel = logLevel(*n.LoggingLevel)
		}
		for _, p := range n.Ports {
			node.Ports = append(node.Ports, Port{p.ContainerPort, value(p.HostAddress), p.HostPort, string(p.Protocol)})
		}
		for _, m := range n.Mounts {
			node.Mounts = append(node.Mounts, Mount{value(m.Source), m.Target})
		}
		appConfig, nodeConfig = n.App.Config, n.Config
	case *api.GetNodeGetNodeExternalNode:
		node = &Definition{
			Targets: targets(n.SendEdges), Sources: sources(n.ReceiveEdges),
			SendMessageType:    messageType(n.SendMessageType, n.SendAuditor, n.SendSample),
			ReceiveMessageType: messageType(n.ReceiveMessageType, n.ReceiveAuditor, n.ReceiveSample),
			Stopped:            value(n.Stopped),
		}
		switch app := n.App.(type) {
		case *api.GetNodeGetNodeExternalNodeAppExternalApp:
			node.App, node.AuditRecordsEndpoint, appConfig = app.Name, app.AuditRecordsEndpoint, app.Config
		case *api.GetNodeGetNodeExternalNodeAppCrossAccountApp:
			node.App, node.AuditRecordsEndpoint, appConfig = app.Name, app.AuditRecordsEndpoint, app.Config
			node.CrossAccount = true
		}
		nodeConfig = n.Config
	default:
		return nil, fmt.Errorf("it is a %s, expected a ManagedNode or an ExternalNode", value(answer.GetTypename()))
	}
	if node.App == "" {
		return nil, fmt.Errorf("it belongs to no app, expected a ManagedApp, an ExternalApp or a CrossAccountApp")
	}

	tenant := answer.GetTenant()
	node.Name, node.Tenant, node.Region, node.Audit = answer.GetName(), tenant.Name, tenant.Region, value(tenant.Audit)
	var err error
	node.Config, err = mergeConfig(
		layer{"tenant", tenant.Name, tenant.Config}, layer{"app", node.App, appConfig}, layer{"node", node.Name, nodeConfig})
	if err != nil {
		return nil, err
	}
	return node, nil
}

func targets(edges []*api.TargetFields) []Edge {
	var list []Edge
	for _, e := range edges {
		if e != nil { // the schema lets a list of edges hold null
			list = append(list, Edge{e.Target.Name, e.Queue})
		}
	}
	return sorted(list)
}

func sources(edges []*api.SourceFields) []Edge {
	var list []Edge
	for _, e := range edges {
		if e != nil {
			list = append(list, Edge{e.Source.Name, e.Queue})
		}
	}
	return sorted(list)
}

// sorted makes two readings of the same definition equal.
func sorted(edges []Edge) []Edge {
	slices.SortFunc(edges, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Queue, b.Queue))
	})
	return edges
}

// messageType is nil if t is. The others are nil too if they were kept back.
func messageType(t *api.MessageType, auditor *api.Auditor, sample *api.Sample) *MessageType {
	if t == nil {
		return nil
	}
	return &MessageType{Name: t.Name, SampleMessage: value(sample).SampleMessage, Auditor: value(auditor).Auditor, Readme: value(t.Readme)}
}

func logLevel(l api.LogLevel) *slog.Level {
	levels := map[api.LogLevel]slog.Level{
		api.LogLevelDebug: slog.LevelDebug, api.LogLevelInfo: slog.LevelInfo,
		api.LogLevelWarning: slog.LevelWarn, api.LogLevelError: slog.LevelError,
	}
	if level, ok := levels[l]; ok {
		return &level
	}
	return nil
}

// value is what p points to, and the zero value for nil: GraphQL's null.
func value[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}
