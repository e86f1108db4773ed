"""A node on EchoStream's own library, driven by a test.

It writes one line of JSON for each message that it receives, sends what the lines of JSON on its standard input say, and ends
with them.
"""

import base64
import json
import os
import sys
import threading
import urllib.request

from echostream_node import Message
from echostream_node.threading import AppNode

writing = threading.Lock()


def say(**what):
    with writing:
        print(json.dumps(what), flush=True)


def fetch(url):
    with urllib.request.urlopen(url) as answer:
        return answer.headers.get("Content-Encoding", ""), answer.read()


class Receiver(AppNode):
    def handle_received_message(self, *, message: Message, source: str) -> None:
        try:
            said = dict(body=message.body, trackingId=message.tracking_id, previous=message.previous_tracking_ids or [],
                        source=source, type=message.message_type.name)
            url = json.loads(message.body).get("contentUrl")
            if url:
                said["encoding"], stored = fetch(url)
                said["stored"] = base64.b64encode(stored).decode()
            self.audit_message(message, source=source)
            say(**said)
        except Exception as problem:
            say(problem=repr(problem))
            raise


node = Receiver()
node.start()
say(ready=node.name)
for line in sys.stdin:
    order = json.loads(line)
    body = order["body"]
    if "bulk" in order:
        file = json.loads(body)
        file["contentUrl"] = node.handle_bulk_data(base64.b64decode(order["bulk"]))
        body = json.dumps(file)
    message = node.create_message(body, group_id=order.get("group"), previous_tracking_ids=order.get("previous"))
    node.send_message(message)
    node.audit_message(message)
    say(sent=message.tracking_id)
os._exit(0)  # its own end takes a long poll; the test has all that it wants
