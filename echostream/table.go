package echostream

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ftpnode/ftpnode/echostream/internal/api"
)

// ErrNoTable is in the error of [Client.Table] when the node's app has no access to the tenant's table.
var ErrNoTable = errors.New("the app has no table access")

// Table asks for the name of the tenant's DynamoDB table. The node may use it if tableAccess of its app is set; else the error holds
// [ErrNoTable]. There is no wrapper around the table: it is for DynamoDB's own client.
//
//	name, err := client.Table(ctx)
//	items := dynamodb.NewFromConfig(client.AWS(node)) // of github.com/aws/aws-sdk-go-v2/service/dynamodb
//	_, err = items.PutItem(ctx, &dynamodb.PutItemInput{TableName: &name, Item: item})
func (c *Client) Table(ctx context.Context) (name string, err error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("reading the table of node %q of tenant %q: %w", c.env.Name, c.env.Tenant, err)
	}
	answer, err := api.GetTable(ctx, c.api, c.env.Name, c.env.Tenant)
	if err != nil {
		return fail(err)
	}
	var app any
	switch n := answer.GetNode.(type) {
	case nil:
		return fail(ErrNodeNotFound)
	case *api.GetTableGetNodeManagedNode:
		app = &n.App
	case *api.GetTableGetNodeExternalNode:
		app = n.App
	}
	if a, ok := app.(interface{ GetTableAccess() *bool }); !ok || !value(a.GetTableAccess()) {
		return fail(ErrNoTable)
	}
	return answer.GetNode.GetTenant().Table, nil
}

// AWS is the configuration of AWS's SDK for what a node may do in AWS apart from this package: the tenant's region, the node's
// credentials ([Client.Credentials]), this client's HTTP client and endpoints. Its clients retry as the SDK does by default.
func (c *Client) AWS(node *Definition) aws.Config {
	cfg := c.aws.Copy()
	cfg.Region = node.Region
	cfg.Credentials = c.Credentials(node)
	cfg.Retryer = nil
	return cfg
}
