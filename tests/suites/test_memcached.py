# SPDX-License-Identifier: MIT
"""memcached with libmemcached's load generator: text and binary protocol over TCP, text over UDP."""

import pytest

import servers

KINDS = {
    "text": [],
    "binary": ["--binary"],
    "nonblocking": ["--non-blocking", "--tcp-nodelay", "--buffer"],
    "udp": ["--udp"],
}


@pytest.mark.parametrize("test", ["set", "get", "mget"])
@pytest.mark.parametrize("kind", KINDS)
def test_memslap(server, client, free_port, traffic, kind, test):
    if kind == "udp" and test != "set":
        pytest.skip("libmemcached gets nothing over UDP")
    port = free_port()
    servers.memcached(server, port)
    with traffic(10_000):
        told = client.run(["memcslap", f"--servers=127.0.0.1:{port}", "--concurrency=8", "--execute-number=500",
                           f"--test={test}", *KINDS[kind]])
    assert "Time:" in told.stdout + told.stderr or "Took" in told.stdout + told.stderr or not told.stderr, told.describe()
