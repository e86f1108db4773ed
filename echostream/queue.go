package echostream

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// queues is the SQS client that a node's edges are reached with.
func (c *Client) queues(node *Definition) *sqs.Client {
	credentials := c.Credentials(node) // takes c.mu itself
	key := node.App
	if node.CrossAccount {
		key = "" // no app is called that
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sqs[key] == nil {
		c.sqs[key] = sqs.NewFromConfig(c.aws, func(o *sqs.Options) {
			o.Credentials = credentials
			o.HTTPSignerV4 = clockSigner{v4.NewSigner(), c.clock}
		})
	}
	return c.sqs[key]
}

// clockSigner signs at the time of the service's clock.
type clockSigner struct {
	signer *v4.Signer
	clock  *serviceClock
}

// SignHTTP implements sqs.HTTPSignerV4.
func (s clockSigner) SignHTTP(ctx context.Context, credentials aws.Credentials, r *http.Request, payloadHash, service, region string, _ time.Time, options ...func(*v4.SignerOptions)) error {
	return s.signer.SignHTTP(ctx, credentials, r, payloadHash, service, region, s.clock.now(), options...)
}

var awsQueueHost = regexp.MustCompile(
	`^(?:sqs(?:-fips)?\.([a-z0-9-]+)|([a-z0-9-]+)\.queue|(queue))\.(?:amazonaws\.com(?:\.cn)?|api\.aws|api\.amazonwebservices\.com\.cn)$`)

// at directs a request to where a queue is. The SDK sends every request to the region that it was configured for and
// does not look at the queue's URL, but an edge can be in another region. A queue that is not in AWS is asked for at its own
// address. An endpoint that was set (AWS_ENDPOINT_URL_SQS and the like) wins.
func at(queue, region string) (func(*sqs.Options), error) {
	u, err := url.Parse(queue)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("the edge's queue is %q, expected a URL", shorten(queue))
	}
	own := ""
	if host := awsQueueHost.FindStringSubmatch(u.Hostname()); host == nil {
		own = u.Scheme + "://" + u.Host
	} else if host[3] != "" {
		region = "us-east-1" // the oldest form of the URL
	} else {
		region = host[1] + host[2]
	}
	return func(o *sqs.Options) {
		if region != "" {
			o.Region = region
		}
		if own != "" && o.BaseEndpoint == nil {
			o.BaseEndpoint = aws.String(own)
		}
	}, nil
}
