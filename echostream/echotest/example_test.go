package echotest_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// A node that receives is given a file, and what it would send on can be decoded.
func Example() {
	cloud := echotest.NewCloud(echotest.Options{Sources: []string{"scanner"}, Targets: []string{"archive"}})
	defer cloud.Close()

	// A node under test is started with these: Environment()["APPSYNC_ENDPOINT"] and so on.
	fmt.Println(cloud.Environment()["TENANT"], cloud.Environment()["NODE"])

	cloud.Put("scanner", "ftp-node", `{
		"name": "hello.txt", "contentLength": 6, "contentType": "text/plain",
		"modificationDateTime": "2026-11-07T16:05:09.000Z", "content": "aGVsbG8K"
	}`, "")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	messages, err := cloud.WaitMessages(ctx, "ftp-node", 1)
	if err != nil {
		panic(err)
	}
	file, err := cloud.Decode(ctx, messages[0], os.Stdout)
	if err != nil {
		panic(err)
	}
	fmt.Println(file.Name, file.Size, file.SHA256[:8])
	// Output:
	// acme ftp-node
	// hello
	// hello.txt 6 5891b5b5
}

func ExampleCloud_Fault() {
	cloud := echotest.NewCloud(echotest.Options{})
	defer cloud.Close()
	// The second batch is taken, and the node never hears of it.
	cloud.Fault(echotest.Fault{Service: echotest.SQS, Operation: "SendMessageBatch", Kind: echotest.ReplyLost, After: 1, Count: 1})
	// Then SQS is out of reach for an hour of the cloud's clock.
	outage := cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.Down, For: time.Hour})
	cloud.Clock().Advance(2 * time.Hour)
	fmt.Println(outage.Hits())
	// Output: 0
}

func ExampleParseFault() {
	fault, err := echotest.ParseFault("sqs:reply-lost:count=3,every=10")
	fmt.Println(fault.Service, fault.Kind, fault.Count, err)
	_, err = echotest.ParseFault("s3:partial")
	fmt.Println(err)
	// Output:
	// sqs reply-lost 3 <nil>
	// fault "s3:partial": partial cannot happen to s3, only to sqs
}
