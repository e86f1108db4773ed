// Package echotest is an EchoStream cloud in the test's own process, as net/http/httptest is a web server in it.
//
// A [Cloud] answers on loopback what a node talks to: Amazon Cognito, the GraphQL API (AWS AppSync), Amazon SQS FIFO
// queues, S3 bulk data storage and the audit endpoint. It promises to be as strict as they are where a node can go
// wrong: the SRP proof and its TIMESTAMP are verified; each query is validated against the schema; tokens, vended
// credentials and upload URLs expire; every AWS signature is computed again; SQS deduplicates, orders, blocks groups
// in flight and refuses what is too large or no XML; S3 wants the signed headers and a Content-Length. Any AWS SDK
// and EchoStream's own Python library can talk to it, given the variables of [Cloud.Environment].
//
// What goes wrong on real networks is scripted with [Cloud.Fault] (or [ParseFault], for a command line), and with
// [Cloud.Off] and [Cloud.On] for a service whose address refuses connections.
//
// Time is the cloud's [Clock]: it decides when a token, a credential, a URL, a deduplication or an object ends, and a
// test moves it. A client's own clock must agree, within five minutes, with the cloud's or with the machine's.
// Delays (slow answers, long polls) are real time.
//
// Who may do what is not documented in all detail. We assume the least that a node needs: into the queue of an edge sends its
// source alone, and from it receives, deletes and changes the visibility its target alone; a node is who has the
// credentials of its app, those of GetAwsCredentials, or for a CrossAccountApp those of the machine; audit records take
// those of GetAwsCredentials for every kind of app.
//
// Limits: one region and one tenant; no access rules beyond these, so that the nodes of one app are one; no keys of KMS
// (but a fault of them); dead letters are listed and in no queue; no multipart uploads, no DynamoDB; the throughput quotas of
// AWS are not enforced. Messages are kept in memory, unless Options.DropBodies; objects are kept in a temporary
// directory that Close removes.
//
//	cloud := echotest.NewCloud(echotest.Options{Targets: []string{"archive", "erp"}})
//	defer cloud.Close()
//	for k, v := range cloud.Environment() {
//		t.Setenv(k, v)
//	}
//	// ... run a node ...
//	messages, err := cloud.WaitMessages(ctx, "archive", 1)
//	file, err := cloud.Decode(ctx, messages[0], io.Discard) // file.SHA256
package echotest
