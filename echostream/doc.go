// Package echostream is an SDK for EchoStream nodes: programs that join other systems to an EchoStream tenant. It logs
// in, reads the node's definition, sends messages and bulk data to the node's targets, receives messages from its sources, and
// audits both.
//
// # What it promises
//
// A nil error is an acknowledgement: SQS holds the message, S3 the bytes, the tenant the audit records. Everything else
// is an error, and one of two kinds: permanent ([IsPermanent]: this message or content will never be taken) or
// transient (the same call can succeed later; when it does, a message arrives once, in its order, as long as it goes out
// under the same tracking id within SQS's five minutes). Of a transient error two more things can be asked: whether it
// will come again until a person changes something ([NeedsOperator]; its text says what to look at), and whether SQS may
// have taken the message all the same ([IsUnknown]). The package does not wait and try again, but for what it can cure
// at once: a token or credentials that were refused are replaced, a message that failed out of a batch is sent
// again, and so is what was refused for its time. Retrying is the caller's, by one policy; package outbox has it, for what
// must not be lost.
//
// [Client.Receive] is the other half: a handler gets each message, and its nil error is the acknowledgement. It does wait and try
// again, since it runs for as long as the node does.
//
// Each request takes Options.CallTimeout at most, but for uploads, and a call makes several where it has to.
// [Client.Definition] takes up to twice that, whatever log-in and second try it needs. [Client.Send] and [Client.Audit] take
// up to once that for each batch of theirs, or three times if there are no credentials that work, and three times more
// if those are refused. [Bulk.Upload] takes up to twice that for an upload URL, and then as long as there is progress. A
// context can make all of it shorter. [New] reaches out to nothing, so that a program can start without the cloud.
//
// Tokens, credentials and upload URLs are fetched when they are needed. Tokens and credentials are replaced in the
// background before they end: while they are valid, nothing waits for Cognito or for new ones. Memory does not grow with the size
// of an upload. Everything may be used from several goroutines.
//
// The machine's clock decides nothing once EchoStream or AWS has answered: what is signed, and what expires, goes by their
// clock ([Client.Now]). A machine's clock that is wrong is a WARNING, and the log-in of a machine that is so wrong that
// certificates are not valid fails with an error that says so.
//
// No error and no log line holds a password, token, key or presigned URL.
//
// # Limits
//
// It is for ManagedNodes, and for ExternalNodes of an ExternalApp or a CrossAccountApp. Bulk data is uploaded in gzip, never in
// deflate. The auditor of a message type is Python; whoever sends a message says what its auditor would have found
// ([AuditRecord]), and whoever receives it has an [Auditor] in Go. Messages to send are text of at most 256 KiB. A message can
// be received more than once: see [Handler].
//
// # A bridge
//
// In the environment that EchoStream gives to a node:
//
//	env, err := echostream.EnvironmentFrom(os.Getenv)
//	client, err := echostream.New(env, echostream.Options{Log: log})
//	node, err := client.Definition(ctx)
//	body, err := echostream.MarshalMessage(map[string]any{"temperature": 21.5})
//	message := echostream.Message{TrackingID: echostream.NewTrackingID(), Body: body}
//	for _, target := range node.Targets {
//		errs := client.Send(ctx, node, target.Queue, []echostream.Message{message})
//	}
//
// And one that receives:
//
//	err = client.Receive(ctx, echostream.ReceiveOptions{}, func(ctx context.Context, m echostream.ReceivedMessage) error {
//		return store(ctx, m.ID, m.Body)
//	})
//
// This is the client alone. A program that is a node takes its life from package node: log, definition, config, volume, queue, health.
//
// The standard AWS variables (AWS_ENDPOINT_URL and its kin, HTTPS_PROXY, SSL_CERT_FILE, AWS_CA_BUNDLE) are honoured, so that the same
// program runs against an emulator; package echotest is one for tests.
package echostream
