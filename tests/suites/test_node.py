# SPDX-License-Identifier: MIT
"""node: its http, http2, net, dgram and cluster modules as server and client."""

import pytest

from harness import HERE

PROGRAM = HERE.parent / "suites/programs/node_http.js"
REQUESTS = 600
SENT_LEN = sum(number * number % 300000 for number in range(REQUESTS))


def run(client, *arguments):
    told = client.run(["node", PROGRAM, *map(str, arguments)], seconds=100)
    assert told.stdout == "all equal\n", told.describe()


@pytest.mark.parametrize("workers", [0, 2], ids=["alone", "cluster"])
def test_http(server, client, free_port, traffic, workers):
    """A cluster's primary accepts, and passes each connection to a worker over a UNIX socket."""
    port = free_port()
    node = server.start(["node", PROGRAM, "server", str(port), str(workers)])
    node.wait_printed("ready")
    with traffic(2 * SENT_LEN, connections=REQUESTS):
        run(client, "client", port, REQUESTS)


def test_http2(server, client, free_port, certificate, traffic):
    port = free_port()
    node = server.start(["node", PROGRAM, "h2server", str(port), *certificate])
    node.wait_printed("ready")
    with traffic(SENT_LEN):
        run(client, "h2client", port, REQUESTS)


def test_net(canal, free_port):
    """Half-close, back-pressure, time-out, reset, refusal and datagrams, both ends in one process."""
    run(canal, "net", free_port())
