package echostream

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream/internal/api"
)

const (
	ticketBatch = 20
	// ticketMargin is how much time a ticket must have left: S3 looks at the clock when an upload begins.
	ticketMargin = time.Minute
	// bulkLife is how long EchoStream keeps an object.
	bulkLife = 7 * 24 * time.Hour
)

// ticket is a place in bulk storage that can be written once.
type ticket struct {
	expires time.Time
	get     string
	put     request
	post    request
}

// request is a presigned URL and the headers (of a PUT) or fields (of a POST) that belong to its signature.
type request struct {
	url    string
	values map[string]string
}

// tickets are fetched by the batch and handed out once each.
type ticketStore struct {
	client     *Client
	accelerate bool
	turn       chan struct{} // held while fetching

	mu   sync.Mutex
	free []ticket
}

// take hands out a ticket. A fresh one is taken as it is: if it looks stale, then the clock is wrong, and S3's counts.
func (s *ticketStore) take(ctx context.Context) (ticket, error) {
	if t, ok := s.pop(); ok {
		return t, nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ticket{}, ctx.Err()
	}
	if t, ok := s.pop(); ok {
		return t, nil // someone else has just fetched some
	}
	fetched, err := s.fetch(ctx)
	if err != nil {
		return ticket{}, fmt.Errorf("getting upload URLs of bulk storage: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = fetched[1:]
	return fetched[0], nil
}

// pop takes a ticket that has time left, and drops those that have not.
func (s *ticketStore) pop() (ticket, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := s.client.clock.now().Add(ticketMargin)
	for len(s.free) > 0 {
		t := s.free[0]
		s.free = s.free[1:]
		if t.expires.After(limit) {
			return t, true
		}
	}
	return ticket{}, false
}

// drop forgets all tickets: those fetched together end together.
func (s *ticketStore) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = nil
}

func (s *ticketStore) fetch(ctx context.Context) ([]ticket, error) {
	answer, err := api.GetBulkDataStorage(ctx, s.client.api, s.client.env.Tenant, ticketBatch, s.accelerate)
	if err != nil {
		return nil, err
	}
	var fetched []ticket
	for _, place := range answer.GetBulkDataStorage {
		headers, err := stringMap(place.PresignedPut.Headers)
		if err != nil {
			return nil, fmt.Errorf("presignedPut.headers: %w", err)
		}
		fields, err := stringMap(place.PresignedPost.Fields)
		if err != nil {
			return nil, fmt.Errorf("presignedPost.fields: %w", err)
		}
		fetched = append(fetched, ticket{
			expires: time.Unix(place.Expiration, 0),
			get:     place.PresignedGet,
			put:     request{place.PresignedPut.Url, headers},
			post:    request{place.PresignedPost.Url, fields},
		})
	}
	if len(fetched) == 0 {
		return nil, fmt.Errorf("the API gave none, expected up to %d", ticketBatch)
	}
	return fetched, nil
}

// stringMap reads an AWSJSON object. Its values are part of a signature and stay out of errors.
func stringMap(text string) (map[string]string, error) {
	var values map[string]any
	if err := json.Unmarshal([]byte(text), &values); err != nil {
		return nil, fmt.Errorf("not a JSON object of strings")
	}
	result := make(map[string]string, len(values))
	for name, v := range values {
		switch v := v.(type) {
		case string:
			result[name] = v
		case float64:
			result[name] = strconv.FormatFloat(v, 'f', -1, 64)
		default:
			return nil, fmt.Errorf("%q is a %T, expected a string", name, v)
		}
	}
	return result, nil
}

// readableUntil is when an object uploaded now can no longer be read through its URL: at the URL's own end if it has one
// (SigV4's X-Amz-Date and X-Amz-Expires, or SigV2's Expires), and seven days from now at the latest.
func readableUntil(presignedGet string, now time.Time) time.Time {
	end := now.Add(bulkLife)
	u, err := url.Parse(presignedGet)
	if err != nil {
		return end
	}
	q := u.Query()
	own := time.Time{}
	if signed, err := time.Parse("20060102T150405Z", q.Get("X-Amz-Date")); err == nil {
		if seconds, err := strconv.ParseInt(q.Get("X-Amz-Expires"), 10, 32); err == nil {
			own = signed.Add(time.Duration(seconds) * time.Second)
		}
	} else if epoch, err := strconv.ParseInt(q.Get("Expires"), 10, 64); err == nil {
		own = time.Unix(epoch, 0)
	}
	if !own.IsZero() && own.Before(end) {
		return own
	}
	return end
}
