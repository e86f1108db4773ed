// Package engine runs the FTP commands that touch files, with ftpserverlib. Nothing else in this module knows that library.
//
// It runs SIZE, MDTM, MKD, RMD, DELE, STAT of a path and MLST, the listings LIST, NLST and MLSD, and the transfers of files, STOR, APPE
// and RETR. A command goes in as verb and argument, and
// comes out as a [Reply], a code or an error; words for the client are the caller's, as are log-in, TLS, data connections, limits and time.
//
//	s := engine.New(files)
//	defer s.Close()
//	r := s.Do("SIZE", "a.csv", nil)
//	s.Transfer("STOR", "a.csv", accept, func(r engine.Reply) { ... })
//
// # How
//
// ftpserverlib v0.32.3 takes its commands from a connection that it reads by itself, answers there in text, and its callbacks do not say
// which session they are for. So each Session has a library server of its own, which serves one connection that is none (conn.go): one
// command at a time is put in, and what is written is parsed back, here and nowhere else. The passive listener that it opens for
// each listing is closed before anyone could connect to it, and the caller's connection is what the library accepts (files.go).
//
// Files are sent and received without it (transfer.go). With it a file costs a listener, that is ten system calls, and four turns of goroutines;
// and it would have to be kept from taking a file whose REST failed as whole, from replying before a file is closed, from
// changing bytes of TYPE A, and from leaving a file open after a panic.
//
// Its goroutines: the library has one that reads commands, from the first on, and one for each listing. In these, done is called; files are sent and
// received in the caller's.
//
// # Workarounds
//
// Each fault of the library's is worked around in one place, and has a test that fails without that.
//
//	an io.EOF counts as success                                        guarded         TestEOFIsAnError
//	its listener stays open through the listing, and behind it         Accept, finish  TestNoListenerIsLeft
//	the default type is ASCII, which has no SIZE                       GetSettings     TestCommands
//	what looks like an option of ls is taken off names                 GetSettings     TestListings
//	addresses that are not IP, or have a zone, are an error            here            TestListings
//	the error of the last bytes of a listing is lost                   listing.Flush   TestBrokenListing
//	each entry of a listing is a write of its own                      listing.Write   TestListingsAreBuffered
//	STAT of a directory has "%s" in front of each entry                parser.parse    TestCommands
//	MLST has the last part of the path for its name                    named           TestCommands
//	OPTS MLST is not known                                             shown           TestListings, TestWhatCommandsLeave
//	a line that is too long ends the session                           start           TestCommands
//
// Of these commands it never hears, since it does them wrong:
//
//	USER, PASS: one failure ends the session                           TestLoginFailures
//	AUTH, PBSZ, PROT: any argument is taken                            TestHandshake, TestOldNamesOfAuth
//	ABOR: a 426 for a file that is committed; it hangs before data     TestAbort
//	PASV, EPSV: IPv4 alone, and a literal; no timeout in transfers     TestPasvAddress, TestIPv6, TestStall, TestFewPorts
//	PORT, EPRT: no other conn can be put in place, nor its address checked TestActiveModeWithTLS, TestDefenceNoBounce
//	REST: offsets below 0                                              TestDialogues
//	ALLO, TYPE, OPTS, STOU, MFF: not all of their forms                TestDialogues, TestStou
//	RNFR, RNTO: a former name is kept after a failure                  TestWhatCommandsLeave
//	CWD, CDUP: the files are not told where the client stands          TestFoldersAtTheLimit
//	SITE: CHMOD without a name panics                                  TestDialogues
//	FEAT: EPRT, though active mode is off                              TestFeatures
//	150: sent behind the connection, which may wait for it             TestConnectAfter150
//	HASH, COMB, MODE Z: the directory is ignored; sources are deleted before the target is closed; there is no bound
package engine
