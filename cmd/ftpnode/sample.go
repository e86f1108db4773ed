package main

import (
	"log/slog"
	"slices"
	"strings"

	"github.com/ftpnode/ftpnode/echostream"
)

// compareSample holds the messages of this node against the sample of the node's message type: EchoStream does not
// publish under which key a file's content stands, but each tenant's own library shows it. It warns, once, of what differs.
func compareSample(t *echostream.MessageType, config MessageConfig, log *slog.Logger) {
	if t == nil {
		log.Warn("the node has no message type to send; its messages are those of " + fileType)
		return
	}
	const advice = "look at the config's message.contentField and message.urlField"
	ours := []string{"name", "contentLength", "contentType", "modificationDateTime", config.ContentField, config.URLField, "metadata"}
	theirs, extra, err := t.CompareSample(ours...)
	if err != nil {
		log.Warn("the messages of this node may not be what their receivers expect", "messageType", t.Name, "error", err, "advice", advice)
		return
	}
	has := func(key string) bool { return !slices.Contains(extra, key) }
	extra = slices.DeleteFunc(extra, func(key string) bool {
		switch key {
		case "metadata": // more is allowed
			return true
		case config.ContentField: // a sample shows one of the two
			return has(config.URLField)
		case config.URLField:
			return has(config.ContentField)
		}
		return false
	})
	if len(theirs) == 0 && len(extra) == 0 && t.Name == fileType {
		return
	}
	log.Warn("the messages of this node may not be what their receivers expect: the sample message of their type differs",
		"messageType", t.Name, "onlyInSample", strings.Join(theirs, ","), "onlyInOurs", strings.Join(extra, ","), "advice", advice)
}
