// Package awsenv keeps what a developer has configured for AWS out of tests.
package awsenv

import (
	"os"
	"strings"
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
