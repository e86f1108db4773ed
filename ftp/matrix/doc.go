// Package matrix runs the FTP clients that sites have, and replayed dialogues of devices, against package
// ftp, one cell of a table for each client and each thing that clients do.
//
// The oracle of every cell is what the Taker got: each file once, byte for byte (SHA-256), in order, and nothing that
// was not finished. That a client really did what the cell is about is read from the commands it sent.
//
// It takes real clients, so it hides behind a build tag; a client that is missing is a failure:
//
//	go test -tags matrix ./ftp/matrix            # the run must give the table of ftp/matrix/README.md
//	go test -tags matrix ./ftp/matrix -update    # writes that table
//
// A cell that a client cannot do carries the reason, which the table shows. A client has every cell, or a reason
// for it; the test fails if one has neither, or both.
package matrix
