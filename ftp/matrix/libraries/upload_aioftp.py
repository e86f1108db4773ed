"""Uploads with aioftp: see libraries_test.go."""
import asyncio
import ssl
import sys

import aioftp

port, mode = sys.argv[1:]


async def main():
    f = aioftp.Client(socket_timeout=20, ssl=ssl._create_unverified_context() if mode == "tls" else None)
    await f.connect("127.0.0.1", int(port))
    await f.login("dock", "pass")
    await f.upload("in.bin", "out.tmp", write_into=True)
    await f.rename("out.tmp", "out.bin")
    await f.make_directory("sub")
    await f.upload("second.bin", "sub/second.bin", write_into=True)
    info = await f.stat("sub/second.bin")
    assert int(info["size"]) == 70001, info
    await f.list("/")
    await f.quit()


asyncio.run(main())
