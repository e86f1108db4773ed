// Package world counts what becomes of uploads in the world: clients that are killed in mid-upload, that abort, and that upload
// whole files, through a network that loses 3 % of the packets, or that delays the control connection by 50 ms each way, plain and
// over TLS, with a disk that syncs in 0.1 ms and in 20 ms. It prints a table for the docs:
//
//	go test -tags world -v ./ftp/world -runs 200
//
// It takes Linux, the right to make namespaces (root), ip and iptables, and a kernel with NFQUEUE and the statistic match,
// so it hides behind a build tag; with the tag, what is missing is a failure. Each test makes namespaces with names of its own and
// removes them; nothing else on the machine is touched. The server and each client are processes, in a namespace each.
package world
