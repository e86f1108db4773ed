package echostream

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
)

// CompareSample compares the keys of the type's sample message, which must be a JSON object, with those that a node
// sends. missing are in the sample only, extra in keys only; both are sorted. EchoStream checks no message, so that this
// is how a node finds out that its messages are not what the tenant's other nodes expect.
func (t *MessageType) CompareSample(keys ...string) (missing, extra []string, err error) {
	var sample map[string]json.RawMessage
	if json.Unmarshal([]byte(t.SampleMessage), &sample) != nil || sample == nil {
		return nil, nil, errors.New("the sample message of message type " + t.Name + " is not a JSON object")
	}
	for _, key := range slices.Sorted(maps.Keys(sample)) {
		if !slices.Contains(keys, key) {
			missing = append(missing, key)
		}
	}
	for _, key := range slices.Sorted(slices.Values(keys)) {
		if _, ok := sample[key]; !ok && !slices.Contains(extra, key) {
			extra = append(extra, key)
		}
	}
	return missing, extra, nil
}
