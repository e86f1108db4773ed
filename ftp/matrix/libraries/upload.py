"""Uploads with ftplib: see libraries_test.go."""
import ftplib
import ssl
import sys

port, mode = sys.argv[1:]
f = ftplib.FTP_TLS(context=ssl._create_unverified_context()) if mode == "tls" else ftplib.FTP()
f.connect("127.0.0.1", int(port), timeout=20)
f.login("dock", "pass")
if mode == "tls":
    f.prot_p()
with open("in.bin", "rb") as source:
    assert f.storbinary("STOR out.tmp", source).startswith("226 Transfer complete")
f.rename("out.tmp", "out.bin")
f.mkd("sub")
f.cwd("sub")
with open("second.bin", "rb") as source:
    assert f.storbinary("STOR second.bin", source) == "226 Transfer complete."
f.cwd("..")
assert f.size("sub/second.bin") == 70001
f.nlst("/")
f.quit()
