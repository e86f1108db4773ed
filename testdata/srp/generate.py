"""Makes vectors.json with two independent implementations of Cognito's USER_SRP_AUTH. See README.md."""

import base64
import datetime
import hashlib
import json
import os
import random
import subprocess
import types

from pycognito import aws_srp

N = int(aws_srp.N_HEX, 16)
HERE = os.path.dirname(os.path.abspath(__file__))
rng = random.Random("ftpnode srp vectors")


def pad(n):
    """Java's BigInteger.toByteArray for n >= 0."""
    return n.to_bytes(n.bit_length() // 8 + 1, "big")


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


K = int.from_bytes(sha(pad(N), pad(2)), "big")


class Server:
    """The server's half in plain integers: gives B, u and S for a client's A."""

    def __init__(self, case):
        identity = sha((case["poolName"] + case["userId"] + ":" + case["password"]).encode())
        x = int.from_bytes(sha(pad(int(case["salt"], 16)), identity), "big")
        self.v = pow(2, x, N)

    def B(self, b):
        return (K * self.v + pow(2, b, N)) % N

    def u(self, A, B):
        return int.from_bytes(sha(pad(A), pad(B)), "big")

    def S(self, A, b, u):
        return pow(A * pow(self.v, u, N), b, N)


def odd(size):
    return lambda n: n.bit_length() > (size - 1) * 8 and len("%x" % n) % 2 == 1


def top_bit(size):
    return lambda n: n.bit_length() == size * 8


def short(size, zeros):
    return lambda n: n.bit_length() <= (size - zeros) * 8


def secret():
    return rng.getrandbits(1024) % N


def search(case, want):
    """Steps a (and b) until the predicates in want, by the names A, B, u and S, hold."""
    server = Server(case)
    while True:
        a, b = secret(), secret()
        B = server.B(b)
        if "B" in want:
            gb = pow(2, b, N)
            while not want["B"](B):
                b, gb = b + 1, gb * 2 % N
                B = (K * server.v + gb) % N
        A = pow(2, a, N)
        for _ in range(1 << 20):
            u = server.u(A, B)
            if all(p({"A": A, "u": u}[k]) for k, p in want.items() if k in "Au"):
                if "S" not in want or want["S"](server.S(A, b, u)):
                    return a, b
            a, A = a + 1, A * 2 % N


class Clock:
    """Stands in for the datetime module in pycognito."""

    def __init__(self, now):
        self.datetime = types.SimpleNamespace(utcnow=lambda: now)


def parse_time(s):
    return datetime.datetime.strptime(s, "%Y-%m-%dT%H:%M:%SZ")


def by_pycognito(case):
    client = aws_srp.AWSSRP("alias", case["password"], "eu-west-1_" + case["poolName"], "client", client=object())
    client.small_a_value = int(case["a"], 16)
    client.large_a_value = client.calculate_a()
    aws_srp.datetime = Clock(parse_time(case["time"]))
    answer = client.process_challenge(
        {
            "USERNAME": case["userId"],
            "USER_ID_FOR_SRP": case["userId"],
            "SALT": case["salt"],
            "SRP_B": case["B"],
            "SECRET_BLOCK": case["secretBlock"],
        },
        {"USERNAME": "alias"},
    )
    return {
        "A": client.get_auth_params()["SRP_A"],
        "timestamp": answer["TIMESTAMP"],
        "signature": answer["PASSWORD_CLAIM_SIGNATURE"],
    }


def by_amazon(cases):
    out = subprocess.run(
        ["node", os.path.join(HERE, "amazon.js")], input=json.dumps(cases).encode(), capture_output=True, check=True
    ).stdout
    return json.loads(out)


BASE = {
    "poolName": "Ab3dEf9Gh",
    "userId": "0b6f2a7e-7d0c-4f0e-9a51-2f0f6cf8a2b1",
    "password": "correct horse battery staple",
    "salt": "5f3c8e0a94d17b62c0ffee1234567890",
    "time": "2026-11-07T16:05:09Z",
}
NUMBERS = 384  # bytes of A, B and S
HASH = 32  # bytes of u
CASES = [
    ("plain", {}, {}),
    ("A has an odd number of digits", {}, {"A": odd(NUMBERS)}),
    ("A has the top bit set", {}, {"A": top_bit(NUMBERS)}),
    ("A has a leading zero byte", {}, {"A": short(NUMBERS, 1)}),
    ("A has two leading zero bytes", {}, {"A": short(NUMBERS, 2)}),
    ("A is 2", {}, {"a": 1}),
    ("A is 80", {}, {"a": 7}),
    ("B has an odd number of digits", {}, {"B": odd(NUMBERS)}),
    ("B has the top bit set", {}, {"B": top_bit(NUMBERS)}),
    ("B has a leading zero byte", {}, {"B": short(NUMBERS, 1)}),
    ("B has two leading zero bytes", {}, {"B": short(NUMBERS, 2)}),
    ("u has an odd number of digits", {}, {"u": odd(HASH)}),
    ("u has the top bit set", {}, {"u": top_bit(HASH)}),
    ("u has a leading zero byte", {}, {"u": short(HASH, 1)}),
    ("u has two leading zero bytes", {}, {"u": short(HASH, 2)}),
    ("S has an odd number of digits", {}, {"S": odd(NUMBERS)}),
    ("S has the top bit set", {}, {"S": top_bit(NUMBERS)}),
    ("S has a leading zero byte", {}, {"S": short(NUMBERS, 1)}),
    ("S has a leading zero byte and then the top bit", {}, {"S": top_bit(NUMBERS - 1)}),
    ("A, B and u have a leading zero byte", {}, {"A": short(NUMBERS, 1), "B": short(NUMBERS, 1), "u": short(HASH, 1)}),
    ("salt has an odd number of digits", {"salt": "f3c8e0a94d17b62c0ffee1234567890"}, {}),
    ("salt has the top bit set", {"salt": "ff3c8e0a94d17b62c0ffee1234567890"}, {}),
    ("salt has a leading zero byte", {"salt": "3c8e0a94d17b62c0ffee1234567890"}, {}),
    ("salt has a leading zero byte and then the top bit", {"salt": "ac8e0a94d17b62c0ffee1234567890"}, {}),
    ("salt is 1", {"salt": "1"}, {}),
    # Cognito never writes zeros in front. pycognito would hash them, Amazon's library reads a number.
    ("salt has redundant zeros", {"salt": "00003c8e0a94d17b62c0ffee1234567890"}, {}),
    ("password and user are not ASCII", {"password": "pässwörd — 密码 🔑", "userId": "Müller"}, {}),
    ("password is empty", {"password": ""}, {}),
    ("password holds colons", {"password": ":a:b:"}, {}),
    ("midnight", {"time": "2026-01-01T00:00:00Z"}, {}),
    ("morning, one-digit everything", {"time": "2027-09-05T07:08:09Z"}, {}),
    ("noon", {"time": "2026-12-31T12:00:00Z"}, {}),
    ("one o'clock p.m.", {"time": "2028-02-29T13:00:01Z"}, {}),
    ("last second", {"time": "2026-10-10T23:59:59Z"}, {}),
]
TIMES = [
    "2026-%02d-%02dT%02d:%02d:%02dZ" % (i % 12 + 1, i % 28 + 1, i % 24, (i * 7) % 60, (i * 11) % 60) for i in range(36)
] + ["2028-02-29T12:30:00Z", "2026-08-31T23:59:59Z", "2027-01-01T00:00:00Z"]


def main():
    cases = []
    for name, change, want in CASES:
        case = {"name": name, **BASE, **change}
        if "a" in want:
            a, b = want["a"], secret()
        else:
            a, b = search(case, want)
        server = Server(case)
        A, B = pow(2, a, N), server.B(b)
        u = server.u(A, B)
        case.update(
            a="%x" % a,
            b="%x" % b,
            B="%x" % B,
            u="%x" % u,
            S="%x" % server.S(A, b, u),
            secretBlock=base64.b64encode(bytes(rng.getrandbits(8) for _ in range(rng.randrange(1, 900)))).decode(),
        )
        cases.append(case)
    amazon = by_amazon({"proofs": cases, "times": TIMES})
    for case, proof in zip(cases, amazon["proofs"], strict=True):
        if case["name"] != "salt has redundant zeros":
            assert proof == by_pycognito(case), case["name"]
        case.update(proof)
    times = []
    for time, amazons in zip(TIMES, amazon["times"], strict=True):
        timestamp = aws_srp.AWSSRP.get_cognito_formatted_timestamp(parse_time(time))
        assert timestamp == amazons, time
        times.append({"time": time, "timestamp": timestamp})
    with open(os.path.join(HERE, "vectors.json"), "w") as f:
        json.dump({"proofs": cases, "times": times}, f, indent=1, ensure_ascii=False)
        f.write("\n")
    print(len(cases), "proofs and", len(times), "timestamps: both implementations agree")


main()
