package echostream_test

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/echotest"
)

func ExampleClient_Receive() {
	cloud := echotest.NewCloud(echotest.Options{
		Tenant: echotest.Tenant{Audit: true}, Sources: []string{"laboratory"}, Node: echotest.Node{ReceiveMessageType: "echo.text"},
		MessageTypes: []echotest.MessageType{{Name: "echo.text"}},
	})
	defer cloud.Close()
	cloud.Put("laboratory", "ftp-node", "21.5 degrees", "")
	cloud.Put("laboratory", "ftp-node", "22 degrees", "")

	// A node in its container passes os.Getenv and no options.
	environment := cloud.Environment()
	env, err := echostream.EnvironmentFrom(func(name string) string { return environment[name] })
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := echostream.New(env, echostream.Options{
		AWS: []func(*config.LoadOptions) error{config.WithBaseEndpoint(cloud.URL())},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // a node's ends with SIGTERM
	defer cancel()
	n := 0
	err = client.Receive(ctx, echostream.ReceiveOptions{}, func(_ context.Context, m echostream.ReceivedMessage) error {
		fmt.Printf("%s: %s\n", m.Source, m.Body)
		if n++; n == 2 {
			cancel()
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println("audited", len(cloud.AuditRecords()))
	// Output:
	// laboratory: 21.5 degrees
	// laboratory: 22 degrees
	// audited 2
}
