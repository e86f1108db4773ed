// Package nat tries the node behind NAT, as it stands at a site: the real program in a network namespace behind
// ports that are mapped one by one, as Docker maps them, real clients (curl, lftp) in another behind a router that
// masquerades, and an Internet between them in which private addresses lead nowhere.
//
//	client ── site ── internet ── host ── node
//	10.77.1.0/24  198.51.100.0/24   203.0.113.0/24  172.30.0.0/24
//	                   └── stranger 192.0.2.66
//
// Each mistake in a mapping has a test that holds its symptom, so that what the documentation tells operators to
// look for is what their clients show.
//
// It takes Linux, the right to make namespaces (root), and the tools ip, iptables, curl and lftp, so it hides behind a
// build tag; with the tag, what is missing is a failure:
//
//	go test -tags nat ./ftp/nat
//
// Each test makes namespaces with names of its own and removes them; nothing else on the machine is touched. Not
// covered: Docker's own userland proxy, and hosts that translate between IPv6 and IPv4.
package nat
