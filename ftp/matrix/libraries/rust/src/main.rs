//! Uploads with suppaftp: see libraries_test.go.
use std::fs::File;
use suppaftp::native_tls::TlsConnector;
use suppaftp::types::FileType;
use suppaftp::{NativeTlsConnector, NativeTlsFtpStream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let mut f = NativeTlsFtpStream::connect(format!("127.0.0.1:{}", args[1]))?;
    if args[2] == "tls" {
        let connector = TlsConnector::builder().danger_accept_invalid_certs(true).danger_accept_invalid_hostnames(true).build()?;
        f = f.into_secure(NativeTlsConnector::from(connector), "127.0.0.1")?;
    }
    f.login("dock", "pass")?;
    f.transfer_type(FileType::Binary)?;
    f.put_file("out.tmp", &mut File::open("in.bin")?)?;
    f.rename("out.tmp", "out.bin")?;
    f.mkdir("sub")?;
    f.cwd("sub")?;
    f.put_file("second.bin", &mut File::open("second.bin")?)?;
    f.cdup()?;
    assert_eq!(f.size("sub/second.bin")?, 70001);
    f.list(Some("/"))?;
    f.quit()?;
    Ok(())
}
