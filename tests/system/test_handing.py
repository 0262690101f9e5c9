# SPDX-License-Identifier: MIT
"""Sockets that change programs: inetd, socket activation, pass_fds, descriptors sent to a pool.

The programs that get them are covered, or, as the helper that is linked statically, not.
"""

import pytest

from harness import HERE, PYTHON

PROGRAM = HERE / "programs/handing.py"
ACTIVATE = "systemd-socket-activate"
COUNT = 20
BYTES = COUNT * 2 * 101_001


def talk(client, port, traffic):
    with traffic(BYTES, connections=COUNT):
        told = client.run([PYTHON, PROGRAM, "talk", str(port), str(COUNT)])
    assert told.stdout == "all equal\n", told.describe()


@pytest.mark.parametrize("kind", ["covered", "static"])
def test_inetd(server, client, bin_dir, free_port, traffic, kind):
    """Each connection is standard input and output of a program of its own."""
    port = free_port()
    argv = ["/bin/cat"] if kind == "covered" else [bin_dir / "calls_helper_static", "plain", "0"]
    program = server.start([ACTIVATE, "-l", f"127.0.0.1:{port}", "--inetd", "-a", *argv])
    program.wait_listening(port)
    talk(client, port, traffic)


def test_activation(server, client, free_port, traffic):
    """A listener that waits for its server: LISTEN_FDS."""
    port = free_port()
    program = server.start([ACTIVATE, "-l", f"127.0.0.1:{port}", PYTHON, PROGRAM, "activated"])
    program.wait_listening(port)
    talk(client, port, traffic)


@pytest.mark.parametrize("kind", ["children", "workers"])
def test_python(server, client, free_port, traffic, kind):
    port = free_port()
    server.start([PYTHON, PROGRAM, kind, str(port)]).wait_printed("ready")
    talk(client, port, traffic)
