// Uploads with basic-ftp: see libraries_test.go.
import { Client } from "basic-ftp"

const [port, mode] = process.argv.slice(2)
const f = new Client()
await f.access({ host: "127.0.0.1", port: Number(port), user: "dock", password: "pass",
    secure: mode === "tls", secureOptions: { rejectUnauthorized: false } })
await f.uploadFrom("in.bin", "out.tmp")
await f.rename("out.tmp", "out.bin")
await f.ensureDir("sub")
await f.uploadFrom("second.bin", "second.bin")
await f.cd("/")
const size = await f.size("sub/second.bin")
if (size !== 70001) throw new Error("size: " + size)
await f.list("/")
f.close()
