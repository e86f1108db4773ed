package node

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ftpnode/ftpnode/echostream"
)

// compareSample holds the bridge's messages against the sample of the node's message type: EchoStream checks no message and does not
// publish which keys one has, but each tenant's own library shows it. It warns, once, of what differs.
func (l *life[C]) compareSample(t *echostream.MessageType) {
	if t == nil {
		l.Log.Warn("the node has no message type to send; its messages are those of " + l.bridge.MessageType)
		return
	}
	if l.bridge.Keys == nil {
		return
	}
	const what = "the messages of this node may not be what their receivers expect"
	keys := l.bridge.Keys(l.config)
	theirs, ours, err := keys.compare(t)
	switch {
	case err != nil:
		l.Log.Warn(what, "messageType", t.Name, "error", err, "advice", keys.Advice)
	case len(theirs) > 0 || len(ours) > 0 || t.Name != l.bridge.MessageType:
		l.Log.Warn(what+": the sample message of their type differs",
			"messageType", t.Name, "onlyInSample", strings.Join(theirs, ","), "onlyInOurs", strings.Join(ours, ","), "advice", keys.Advice)
	}
}

// compare returns which keys only the sample message of t has, which must be a JSON object, and which only ours; both are sorted.
func (k Keys) compare(t *echostream.MessageType) (theirs, ours []string, err error) {
	var sample map[string]json.RawMessage
	if json.Unmarshal([]byte(t.SampleMessage), &sample) != nil || sample == nil {
		return nil, nil, fmt.Errorf("the sample message of message type %s is not a JSON object", t.Name)
	}
	inSample := func(key string) bool { _, ok := sample[key]; return ok }
	known := slices.Clone(k.Optional)
	for _, alternatives := range k.Each {
		known = append(known, alternatives...)
		if !slices.ContainsFunc(alternatives, inSample) {
			ours = append(ours, alternatives...)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(sample)) {
		if !slices.Contains(known, key) {
			theirs = append(theirs, key)
		}
	}
	slices.Sort(ours)
	return theirs, ours, nil
}
