# SPDX-License-Identifier: MIT
"""Urgent data (MSG_OOB) in a stream that is busy; tests/conformance has what a program sees of one byte."""

from harness import HERE, PYTHON

PROGRAM = HERE / "programs/urgent.py"
ROUNDS = 400


def test_each_at_its_mark(server, client, free_port):
    port = free_port()
    server.start([PYTHON, PROGRAM, str(ROUNDS), "write", str(port)]).wait_printed("ready")
    told = client.run([PYTHON, PROGRAM, str(ROUNDS), "read", str(port)])
    assert told.stdout == f"out of line: {ROUNDS}\nin line: {ROUNDS}\nall at once: {ROUNDS}\n", told.describe()
