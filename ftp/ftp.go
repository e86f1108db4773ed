// Package ftp serves FTP and FTPS to whatever sites have, and hands what they send to package drop.
//
// # What it promises
//
// A reply 226 to an upload is written only after [drop.Upload.Commit] has returned nil. An upload that was
// aborted, stalled, fell short of its ALLO, or whose client died in the middle is never committed: it is
// kept for resuming and logged with the reason. Bytes arrive as they were sent, whatever the TYPE. Nobody
// leaves his directory, and a wrong password takes as long as an unknown name.
//
// # How it is built
//
// The commands that touch files, and the transfers, are run by ftpserverlib. Each session has a library
// server of its own, whose only connection is a bridge (bridge.go): the session reads the client's
// commands, with or without TLS, answers most of them itself, hands one at a time to the library, and
// rewrites what the library replies (replies.go). So limits, TLS, replies and data connections are the
// session's, and each of the library's faults is worked around in one place, marked "ftpserverlib:".
//
// # What it cannot know
//
// FTP does not say how long a file is: the end of the data connection is the end of the file, also when
// the kernel closed it for a client that was killed, and TLS's own end only says that the client lived. The
// session therefore looks for a short while if the control connection ends as well, or an ABOR comes (upload.go):
// 100 ms, by which the 226 comes later, unless the client declared the size with ALLO. A client that dies or gives up
// later than that, or whose network loses that end, is not told from one that finished, unless it declared the size.
// On systems other than Linux the end of the control connection is seen only after what was sent before it.
//
// # Example
//
//	l, err := net.Listen("tcp", ":2121")
//	server, err := ftp.New(ftp.Options{
//		Listener:     l,
//		Drop:         d,
//		Users:        []ftp.User{{Name: "scanner", PasswordHash: "$2y$12$…", Directory: "scanner"}},
//		PassivePorts: ftp.PortRange{First: 30000, Last: 30009},
//	})
//	err = server.Serve(ctx)
package ftp
