// Package awsenv keeps what a developer has configured for AWS out of tests, and lets one process have several clouds at a time.
package awsenv

import (
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// Clear removes the AWS variables from this process's environment, and hides the AWS files in the home directory. It is
// for TestMain.
func Clear() {
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "AWS_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("AWS_CONFIG_FILE", os.DevNull)
	os.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	os.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// Options direct a client to the endpoints that env names, the variables of an echotest.Cloud, without the process's environment: tests
// with a cloud each can run side by side. They are for echostream.Options.AWS.
func Options(env map[string]string) []func(*config.LoadOptions) error {
	return []func(*config.LoadOptions) error{config.WithServiceOptions(func(_ string, options any) {
		switch o := options.(type) {
		case *cognitoidentityprovider.Options:
			o.BaseEndpoint = aws.String(env["AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER"])
		case *sqs.Options:
			o.BaseEndpoint = aws.String(env["AWS_ENDPOINT_URL_SQS"])
		}
	})}
}
