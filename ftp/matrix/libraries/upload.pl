# Uploads with Net::FTP: see libraries_test.go.
use strict;
use warnings;
use Net::FTP;

my ($port, $mode) = @ARGV;
my $f = Net::FTP->new("127.0.0.1", Port => $port, Timeout => 20, Passive => 1, SSL_verify_mode => 0) or die "connect: $@";
if ($mode eq "tls") {
    $f->starttls or die $f->message;
}
$f->login("dock", "pass") or die $f->message;
if ($mode eq "tls") {
    $f->prot("P") or die $f->message;
}
$f->binary;
$f->put("in.bin", "out.tmp") or die $f->message;
$f->rename("out.tmp", "out.bin") or die $f->message;
$f->mkdir("sub") or die $f->message;
$f->cwd("sub") or die $f->message;
$f->put("second.bin") or die $f->message;
$f->cdup or die $f->message;
$f->size("sub/second.bin") == 70001 or die "size";
defined $f->dir("/") or die $f->message;
$f->quit or die $f->message;
