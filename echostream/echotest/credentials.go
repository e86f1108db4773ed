package echotest

import (
	"encoding/base32"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// credentials are the AWS credentials that the cloud knows.
type credentials struct {
	mu    sync.Mutex
	byKey map[string]*vended
}

// vended is a set of credentials of GetAwsCredentials, or (without app) of the machine.
type vended struct {
	aws.Credentials
	app   string
	edges int // the last edge that they open, by its number
}

func newCredentialStore(machine aws.Credentials) *credentials {
	return &credentials{byKey: map[string]*vended{machine.AccessKeyID: {Credentials: machine}}}
}

func newCredentials(prefix string) aws.Credentials {
	return aws.Credentials{
		AccessKeyID:     prefix + base32.StdEncoding.EncodeToString(randomBytes(10)),
		SecretAccessKey: randomSecret(30),
		SessionToken:    randomSecret(240),
	}
}

func (s *credentials) vend(app string, edges int, expires time.Time) *vended {
	v := &vended{Credentials: newCredentials("ASIA"), app: app, edges: edges}
	v.CanExpire, v.Expires = true, expires.Truncate(time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byKey[v.AccessKeyID] = v
	return v
}

// get finds credentials; those of a CrossAccountApp's machine belong to no app.
func (s *credentials) get(key string) (vended, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.byKey[key]
	if !ok {
		return vended{}, false
	}
	return *v, true
}

// ExpireCredentials ends all credentials that GetAwsCredentials gave out so far.
func (c *Cloud) ExpireCredentials() {
	now := c.clock.Now()
	s := c.credentials
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.byKey {
		if v.CanExpire && v.Expires.After(now) {
			v.Expires = now
		}
	}
}
