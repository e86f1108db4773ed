package echostream_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/echotest"
)

func TestTable(t *testing.T) {
	for _, kind := range []echotest.AppKind{echotest.ManagedApp, echotest.ExternalApp, echotest.CrossAccountApp} {
		t.Run(string(kind), func(t *testing.T) {
			w := newWorld(t, echotest.Options{
				Tenant: echotest.Tenant{Region: "eu-central-1", Table: "of the tenant"}, App: echotest.App{Name: "x", Kind: kind, TableAccess: true},
			})
			name, err := w.client.Table(t.Context())
			require.NoError(t, err)
			assert.Equal(t, "of the tenant", name)

			// The credentials are the node's and work in the tenant's region; that of DynamoDB's client is the same configuration.
			cfg := w.client.AWS(w.node)
			_, err = sqs.NewFromConfig(cfg).GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
				QueueUrl: aws.String(w.node.Targets[0].Queue), AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
			require.NoError(t, err)
			assert.Equal(t, "eu-central-1", cfg.Region)

			w.UpdateApp("x", func(a *echotest.App) { a.TableAccess = false })
			_, err = w.client.Table(t.Context())
			assert.ErrorIs(t, err, echostream.ErrNoTable)
			w.RemoveNode("ftp-node")
			_, err = w.client.Table(t.Context())
			assert.ErrorIs(t, err, echostream.ErrNodeNotFound)
		})
	}
}

// Who may not read the table's name can do without.
func TestTableThatIsKeptBack(t *testing.T) {
	w := newWorld(t, echotest.Options{App: echotest.App{Name: "x", TableAccess: true}})
	w.Fault(echotest.Fault{Service: echotest.AppSync, Kind: echotest.Denied, Field: "Tenant.table"})
	w.read(t)
	_, err := w.client.Table(t.Context())
	assert.ErrorContains(t, err, "Unauthorized")
}
