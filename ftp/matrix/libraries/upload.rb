# Uploads with net-ftp: see libraries_test.go.
require "net/ftp"

port, mode = ARGV
options = { port: port.to_i, passive: true, open_timeout: 20, read_timeout: 20 }
options.update(ssl: { verify_mode: OpenSSL::SSL::VERIFY_NONE }, private_data_connection: true) if mode == "tls"
Net::FTP.open("127.0.0.1", **options) do |f|
  f.login("dock", "pass")
  f.putbinaryfile("in.bin", "out.tmp")
  f.rename("out.tmp", "out.bin")
  f.mkdir("sub")
  f.chdir("sub")
  f.putbinaryfile("second.bin")
  f.chdir("..")
  raise "size" unless f.size("sub/second.bin") == 70001
  f.list("/")
  f.status
  f.quit
end
