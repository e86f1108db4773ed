//go:build image

// Package image tests the image on a real Docker engine: started exactly as EchoStream's Managed App starts it, against
// echolocal in a second container of its network, with real FTP clients through the ports published on loopback.
//
//	deploy/image/test.sh                        # everything: an engine, the images, the test
//	go test -tags image ./deploy/image          # the test alone; build.sh has made the images
//
// An engine, an image or a client that is missing is a failure, never a skip. All that a run makes carries a label of its
// own and is removed at its end.
package image
