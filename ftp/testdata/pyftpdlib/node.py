"""A pytest plugin that runs pyftpdlib's functional suite against a node that is served already.

NODE_PORT is its port, the working directory is the directory of its user (USER and PASSWD of the suite), and NODE_RESULTS is a file for the results: a
line for each test, "passed" or "failed" and its name. The texts of replies are not compared, only whether a command is refused.
"""
import ftplib
import io
import os

import pytest
import pyftpdlib.test
from pyftpdlib.handlers import FTPHandler


class Node:
    """In place of the suite's server in a thread."""

    handler = FTPHandler
    port = int(os.environ["NODE_PORT"])

    def __init__(self, addr=("127.0.0.1", 0)):
        self.host = addr[0] or "127.0.0.1"

    def start(self):
        pass

    def stop(self):
        pass


pyftpdlib.test.FtpdThreadWrapper = Node

raises = pytest.raises
pytest.raises = lambda *args, match=None, **kwargs: raises(*args, **kwargs)


def pytest_runtest_logreport(report):
    if report.when == "call" or report.failed:
        name = "::".join(report.nodeid.split("::")[1:])
        with open(os.environ["NODE_RESULTS"], "a") as f:
            f.write(report.outcome + " " + name + "\n")


def stored(name, mode="r"):
    """open, but what was uploaded is asked for by FTP: a finished file does not stand in the folder."""
    try:
        return open(name, mode)
    except FileNotFoundError:
        if not mode.startswith("r"):
            raise
    content = io.BytesIO()
    with ftplib.FTP() as client:
        client.connect("127.0.0.1", Node.port)
        client.login(pyftpdlib.test.USER, pyftpdlib.test.PASSWD)
        client.retrbinary("RETR " + name, content.write)
    content.seek(0)
    return content if "b" in mode else io.TextIOWrapper(content)


def pytest_collection_modifyitems(items):
    for item in items:
        item.module.open = stored
