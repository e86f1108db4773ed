package echotest

import "sync"

// counters counts requests by service and operation.
type counters struct {
	mu sync.Mutex
	n  map[Service]map[string]int
}

func newCounters() *counters { return &counters{n: make(map[Service]map[string]int)} }

func (c *counters) add(s Service, op string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[s] == nil {
		c.n[s] = make(map[string]int)
	}
	c.n[s][op]++
}

// Requests counts the requests to an operation so far, those that failed by a fault included; operation "" counts all of
// the service. Operations are named as in AWS: InitiateAuth (with SRP), RespondToAuthChallenge, and RefreshToken for an
// InitiateAuth with a refresh token; GetNode, GetApp, GetBulkDataStorage; SendMessageBatch...; PutObject, PostObject,
// GetObject; PutRecords for the audit endpoint.
func (c *Cloud) Requests(s Service, operation string) int {
	c.requests.mu.Lock()
	defer c.requests.mu.Unlock()
	if operation != "" {
		return c.requests.n[s][operation]
	}
	n := 0
	for _, k := range c.requests.n[s] {
		n += k
	}
	return n
}
