# SPDX-License-Identifier: MIT
"""zmq_ends.py PATTERN server|client PORT: ZeroMQ, whose threads of I/O connect, connect again, and join pieces."""

import random
import sys
import threading

import zmq

COUNT, LENGTH, PEERS = 500, 10_000, 4
pattern, end, port = sys.argv[1:]
url = f"tcp://127.0.0.1:{port}"
context = zmq.Context(io_threads=2)


def text(number):
    return random.Random(number).randbytes(LENGTH)


def opened(kind, *subscriptions):
    s = context.socket(kind)
    s.setsockopt(zmq.SNDHWM, 0)
    s.setsockopt(zmq.RCVHWM, 0)
    for name in subscriptions:
        s.setsockopt(zmq.SUBSCRIBE, name)
    if end == "server":
        s.bind(url)
        print("ready", flush=True)
    else:
        s.connect(url)
    return s


def reqrep_server():
    s = opened(zmq.REP)
    while True:
        s.send(s.recv()[::-1])


def reqrep_client():
    def ask(first):
        s = opened(zmq.REQ)
        for number in range(first, first + COUNT):
            s.send(text(number))
            assert s.recv() == text(number)[::-1]
        done.append(first)
    done = []
    threads = [threading.Thread(target=ask, args=(n * COUNT,)) for n in range(PEERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == PEERS


def pubsub_server():
    """Sends once all have subscribed, of which an XPUB hears."""
    s = opened(zmq.XPUB)
    s.setsockopt(zmq.XPUB_VERBOSE, 1)
    for _ in range(PEERS):
        s.recv()
    for number in range(COUNT):
        s.send(text(number))
    while True:
        s.recv()


def pubsub_client():
    peers = [opened(zmq.SUB, b"") for _ in range(PEERS)]
    for number in range(COUNT):
        for peer in peers:
            assert peer.recv() == text(number)


def pushpull_server():
    s = opened(zmq.PUSH)
    for number in range(PEERS * COUNT):
        s.send_multipart([number.to_bytes(4, "big"), text(number)])
    threading.Event().wait()


def pushpull_client():
    poller, seen = zmq.Poller(), set()
    for peer in [opened(zmq.PULL) for _ in range(PEERS)]:
        poller.register(peer, zmq.POLLIN)
    while len(seen) < PEERS * COUNT:
        for peer, _ in poller.poll(100_000) or sys.exit("nothing more"):
            name, got = peer.recv_multipart()
            number = int.from_bytes(name, "big")
            assert got == text(number) and number not in seen
            seen.add(number)


globals()[f"{pattern}_{end}"]()
print("all equal")
