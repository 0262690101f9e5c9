# SPDX-License-Identifier: MIT
"""A name server for one test: a small zone, over UDP and TCP, at 127.0.0.1:53.

Prints "ready", then a line for each question: its type and its name. A name that begins with "silent"
gets no answer at all.
"""

import socket
import struct
import sys
import threading

A, CNAME, PTR, TXT, AAAA = 1, 5, 12, 16, 28
ZONE = {
    "one.example.test": [(A, "192.0.2.1")],
    "both.example.test": [(A, "192.0.2.2"), (AAAA, "2001:db8::2")],
    "six.example.test": [(AAAA, "2001:db8::6")],
    "many.example.test": [(A, f"198.51.100.{i}") for i in range(1, 41)],
    "alias.example.test": [(CNAME, "middle.example.test")],
    "middle.example.test": [(CNAME, "one.example.test")],
    "empty.example.test": [(TXT, "nothing to call")],
    "text.example.test": [(TXT, "first"), (TXT, "second")],
    "mine.example.test": [(A, "192.0.2.99")],
    "1.2.0.192.in-addr.arpa": [(PTR, "one.example.test")],
    "2.2.0.192.in-addr.arpa": [(PTR, "both.example.test"), (PTR, "second.example.test")],
    "9.113.0.203.in-addr.arpa": [(PTR, "dns-name.example.test")],
    "6" + ".0" * 23 + ".8.b.d.0.1.0.0.2.ip6.arpa": [(PTR, "six.example.test")],
    **{f"n{i}.example.test": [(A, f"198.51.100.{i}")] for i in range(1, 20)},
}


def encode(name):
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".") if part) + b"\0"


def data_of(kind, value):
    if kind == A:
        return socket.inet_pton(socket.AF_INET, value)
    if kind == AAAA:
        return socket.inet_pton(socket.AF_INET6, value)
    return bytes([len(value)]) + value.encode() if kind == TXT else encode(value)


def records(name, kind):
    """The answer section, through aliases; None when there is no such name."""
    found, known = [], False
    while name in ZONE:
        known = True
        found += [(name, *record) for record in ZONE[name] if record[0] in (kind, CNAME)]
        target = [value for have, value in ZONE[name] if have == CNAME and kind != CNAME]
        if not target:
            break
        name = target[0]
    return found if known else None


def answer(query, limit):
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode(errors="replace"))
        at += 1 + query[at]
    kind, = struct.unpack(">H", query[at + 1:at + 3])
    name = ".".join(labels).lower()
    print(kind, name, flush=True)
    if name.startswith("silent"):
        return None
    question = query[12:at + 5]
    found = records(name, kind)
    rcode = 2 if name.startswith("broken") else 3 if found is None else 0
    body = b"".join(encode(owner) + struct.pack(">HHIH", have, 1, 60, len(data_of(have, value)))
                    + data_of(have, value) for owner, have, value in found or [])
    cut = 12 + len(question) + len(body) > limit
    flags = 0x8180 | rcode | (0x0200 if cut else 0)
    head = query[:2] + struct.pack(">HHHHH", flags, 1, 0 if cut else len(found or []), 0, 0)
    return head + question + (b"" if cut else body)


def serve_tcp(server):
    while True:
        connection, _ = server.accept()
        with connection, connection.makefile("rwb") as stream:
            while head := stream.read(2):
                reply = answer(stream.read(int.from_bytes(head, "big")), 65535)
                if reply:
                    stream.write(len(reply).to_bytes(2, "big") + reply)
                    stream.flush()


udp = socket.socket(type=socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 53))
threading.Thread(target=serve_tcp, args=(socket.create_server(("127.0.0.1", 53)),), daemon=True).start()
print("ready", flush=True)
while True:
    data, source = udp.recvfrom(4096)
    try:
        reply = answer(data, 512)
    except (IndexError, struct.error) as error:
        print("bad query", error, file=sys.stderr, flush=True)
        continue
    if reply:
        udp.sendto(reply, source)
