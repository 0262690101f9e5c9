# SPDX-License-Identifier: MIT
"""Urgent data (MSG_OOB) in a stream that is busy; tests/conformance has what a program sees of one byte."""

from harness import HERE, PYTHON

PROGRAM = HERE / "programs/urgent.py"
ROUNDS = 400
# Readers at once, and rounds of each: canald has SIGURG of others while it looks for a mark.
CROWD = 3
CROWD_ROUNDS = 1000


def argv(rounds, port, side):
    return [PYTHON, PROGRAM, str(rounds), side, str(port)]


def told(rounds):
    return f"out of line: {rounds}\nin line: {rounds}\nall at once: {rounds}\n"


def test_each_at_its_mark(server, client, free_port):
    port = free_port()
    server.start(argv(ROUNDS, port, "write")).wait_printed("ready")
    reader = client.run(argv(ROUNDS, port, "read"))
    assert reader.stdout == told(ROUNDS), reader.describe()


def test_of_several_at_once(server, client, free_port):
    port = free_port()
    server.start(argv(CROWD_ROUNDS, port, "write")).wait_printed("ready")
    readers = [client.start(argv(CROWD_ROUNDS, port, "read")) for _ in range(CROWD)]
    for reader in readers:
        reader.wait(60)
        assert reader.stdout == told(CROWD_ROUNDS), reader.describe()
