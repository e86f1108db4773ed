// Uploads with Apache Commons Net: see libraries_test.go.
import java.io.FileInputStream;
import java.io.IOException;
import org.apache.commons.net.ftp.FTP;
import org.apache.commons.net.ftp.FTPClient;
import org.apache.commons.net.ftp.FTPFile;
import org.apache.commons.net.ftp.FTPSClient;
import org.apache.commons.net.util.TrustManagerUtils;

public class Upload {
    static void must(boolean ok, FTPClient f) throws IOException {
        if (!ok) throw new IOException(f.getReplyString());
    }

    static void put(FTPClient f, String from, String to) throws IOException {
        try (FileInputStream in = new FileInputStream(from)) {
            must(f.storeFile(to, in), f);
        }
    }

    public static void main(String[] args) throws Exception {
        boolean tls = args[1].equals("tls");
        FTPClient f = new FTPClient();
        if (tls) {
            FTPSClient s = new FTPSClient(false);
            s.setTrustManager(TrustManagerUtils.getAcceptAllTrustManager());
            f = s;
        }
        f.connect("127.0.0.1", Integer.parseInt(args[0]));
        if (tls) {
            ((FTPSClient) f).execPBSZ(0);
            ((FTPSClient) f).execPROT("P");
        }
        must(f.login("dock", "pass"), f);
        f.enterLocalPassiveMode();
        must(f.setFileType(FTP.BINARY_FILE_TYPE), f);
        put(f, "in.bin", "out.tmp");
        must(f.rename("out.tmp", "out.bin"), f);
        must(f.makeDirectory("sub"), f);
        must(f.changeWorkingDirectory("sub"), f);
        put(f, "second.bin", "second.bin");
        must(f.changeToParentDirectory(), f);
        FTPFile file = f.mlistFile("sub/second.bin");
        if (file == null || file.getSize() != 70001) throw new IOException("size: " + file);
        f.listFiles("/");
        must(FTPClient.class.cast(f).logout(), f);
        f.disconnect();
    }
}
