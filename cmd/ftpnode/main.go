// Command ftpnode is an EchoStream node that takes files by FTP and sends them as echo.file messages.
//
// Once a client has read 226, the file will reach every target edge: byte for byte, once, in order, whatever is killed,
// restarted, full or offline in between.
//
// It takes no arguments. Its environment says which node it is (APPSYNC_ENDPOINT, CLIENT_ID, NAME or NODE, PASSWORD, TENANT,
// USER_POOL_ID, USER_NAME), where its data volume is (FTPNODE_DATA, by default /data) and where FTP listens
// (FTPNODE_FTP_ADDR, by default :2121); EchoStream gives it the rest, as deploy/config.schema.json describes it. With
// "healthcheck" it reports whether the node of this machine works, with "status" how it does; package node has the other commands.
//
// Its life is that of every node: see package node, also for its exit codes. What is here joins it to FTP: serve.go, the directory
// and the server that clients see; message.go, the message of a file; config.go, what a config means.
package main

import (
	"cmp"
	"context"

	"github.com/ftpnode/ftpnode/deploy"
	"github.com/ftpnode/ftpnode/echostream/node"
	"github.com/ftpnode/ftpnode/ftp"
)

// release is set by the image's build (-ldflags -X main.release=…), which knows no version control.
var release string

func main() { node.Main(bridge()) }

func bridge() node.Bridge[Config] {
	w := new(watch)
	serve := func(ctx context.Context, n *node.Node, c Config) error { return serveFTP(ctx, n, c, w) }
	return node.Bridge[Config]{
		Name: "ftpnode", Version: release, MessageType: "echo.file", Format: format,
		Schema: deploy.ConfigSchema(), Check: checkConfig,
		Address: func(getenv func(string) string) string { return cmp.Or(getenv("FTPNODE_FTP_ADDR"), ":2121") },
		Health:  ftp.Probe,
		Serve:   serve, Refuse: serve, Waits: waits,
		Compose: compose, Attributes: attributes, Keys: keys,
		KeyOf:   keyOf,
		Devices: w.tell, Sender: senderOf, Accept: w.accept, Page: statusPage,
	}
}

// format is the version of what the node keeps on its volume.
//
//	1: finished files wait in drop/, and go from there into the outbox
//	2: finished files are in the outbox. A program of format 1 would send what is held, and drop what only the outbox knows
const format = 2
