// Package ftp is a server for FTP and FTPS that takes uploads from whatever clients sites have, and hands them to a [Backend].
//
// # What it promises
//
// A reply 226 to an upload is written only after [Upload].Commit has returned nil. An upload that was
// aborted, stalled, fell short of its ALLO, or whose client died in the middle is never committed: it is
// kept for resuming and logged with the reason. Bytes arrive as they were sent, whatever the TYPE. No user
// leaves their directory, and a wrong password takes as long as an unknown name.
//
// # How it is built
//
// A session (session.go) reads the client's commands, with or without TLS, and answers them one at a time (commands.go). Those that touch
// files, and the transfers, are run by an engine (package internal/engine), over what the Backend gives (files.go, upload.go). Limits,
// log-in, TLS, data connections (data.go) and the words of all replies (replies.go) are the session's.
//
// # What it cannot know
//
// FTP does not say how long a file is: the end of the data connection is the end of the file, also when
// the kernel closed it for a client that was killed, and TLS's own end only says that the client lived. So the control
// connection decides, before the 226 and after it, whether the client has read it (package internal/evidence): the
// verdict goes to the [Upload], unless the client declared the size with ALLO. A client that breaks off in good order when the 226
// is already there, or that dies behind a relay which answers for it, cannot be told from one that finished.
// On systems other than Linux only what is read from the control connection before the 226 counts.
//
// # Example
//
//	l, err := net.Listen("tcp", ":2121")
//	server, err := ftp.New(ftp.Options{
//		Listener:     l,
//		Backend:      files,
//		Users:        []ftp.User{{Name: "scanner", PasswordHash: "$2y$12$…"}},
//		PassivePorts: ftp.PortRange{First: 30000, Last: 30009},
//	})
//	err = server.Serve(ctx)
package ftp
