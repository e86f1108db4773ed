<?php
// Uploads with PHP's ftp extension: see libraries_test.go.
[, $port, $mode] = $argv;
function must($ok) {
    if ($ok === false) {
        throw new Exception("refused: " . json_encode(error_get_last()));
    }
    return $ok;
}
$f = must($mode == "tls" ? ftp_ssl_connect("127.0.0.1", (int)$port, 20) : ftp_connect("127.0.0.1", (int)$port, 20));
must(ftp_login($f, "dock", "pass"));
must(ftp_pasv($f, true));
must(ftp_put($f, "out.tmp", "in.bin", FTP_BINARY));
must(ftp_rename($f, "out.tmp", "out.bin"));
must(ftp_mkdir($f, "sub"));
must(ftp_put($f, "sub/second.bin", "second.bin", FTP_BINARY));
must(ftp_size($f, "sub/second.bin") === 70001);
must(ftp_nlist($f, "/"));
must(ftp_rawlist($f, "/"));
must(ftp_close($f));
