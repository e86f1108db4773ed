"""Makes definition-1.bin, a kept node definition of format 1, by the description in kept.go and with another
implementation of the cryptography (pip install cryptography). Do not make it again: it stands for the files that are out there."""

import hashlib
import os
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

tenant, node, password = b"Acme", "Nödé 1".encode(), "pässwörd of Acme".encode()
plain = (
    '{"name":"Nödé 1","tenant":"Acme","region":"eu-west-1","app":"app","config":{"ftp":{"users":[]}},'
    '"targets":[{"name":"target","queue":"https://sqs.eu-west-1.amazonaws.com/1/q.fifo"}],"auditRecordsEndpoint":"",'
    '"loggingLevel":"DEBUG"}'
).encode()
salt, nonce = os.urandom(32), os.urandom(12)
names = b"".join(struct.pack(">I", len(n)) + n for n in (tenant, node))
header = b"ESnodedf" + b"\x01" + salt + hashlib.sha256(salt + names).digest()[:16] + struct.pack(">I", 12 + len(plain) + 16)
key = HKDF(SHA256(), 32, salt, b"echostream node definition 1").derive(password)
data = header + nonce + AESGCM(key).encrypt(nonce, plain, header + names)
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "definition-1.bin"), "wb") as f:
    f.write(data + hashlib.sha256(data).digest())
