"""The Python way that bench measures: pyftpdlib takes files, and echostream-node sends each as an echo.file message.

Written as one would: the file is read, put into the message, handed to the library, and removed. Without EchoStream's environment it
only takes files. Arguments: address, port, directory.
"""

import base64
import datetime
import logging
import mimetypes
import os
import sys

import simplejson as json
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

address, port, directory = sys.argv[1:]
logging.basicConfig(level=logging.INFO)
logging.getLogger("botocore").setLevel(logging.WARNING)
logging.getLogger("echostream-node").setLevel(logging.WARNING)  # at INFO it logs credentials

node = None
if "APPSYNC_ENDPOINT" in os.environ:
    from echostream_node.threading import AppNode

    node = AppNode()
    node.start()


class Handler(FTPHandler):
    def on_file_received(self, file):
        if node is None:
            return
        with open(file, "rb") as f:
            content = f.read()
        modified = datetime.datetime.fromtimestamp(os.path.getmtime(file), datetime.timezone.utc)
        body = json.dumps(
            {
                "name": os.path.relpath(file, directory),
                "contentLength": len(content),
                "contentType": mimetypes.guess_type(file)[0] or "application/octet-stream",
                "modificationDateTime": modified.isoformat(timespec="milliseconds"),
                "content": base64.b64encode(content).decode(),
            }
        )
        node.send_message(node.create_message(body))
        os.remove(file)


authorizer = DummyAuthorizer()
authorizer.add_user("bench", "bench", directory, perm="elradfmwMT")
Handler.authorizer = authorizer
server = FTPServer((address, int(port)), Handler)
server.max_cons = server.max_cons_per_ip = 0
server.serve_forever(handle_exit=True)
if node is not None:
    node.stop()
    node.join()
