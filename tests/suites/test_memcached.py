# SPDX-License-Identifier: MIT
"""memcached with libmemcached's load generator. (UDP, of which that can do little: tests/system.)"""

import pytest

import servers

THREADS, SETS = 8, 1000


@pytest.mark.parametrize("test", ["set", "get", "mget"])
@pytest.mark.parametrize("protocol", ["text", "binary"])
def test_memslap(server, client, free_port, traffic, protocol, test):
    port = free_port()
    servers.memcached(server, port)
    with traffic(THREADS * SETS * 100, connections=THREADS):
        told = client.run(["memcslap", f"--servers=127.0.0.1:{port}", f"--concurrency={THREADS}",
                           f"--execute-number={SETS}", f"--test={test}",
                           *(["--binary"] if protocol == "binary" else [])])
    assert not told.stderr, told.describe()
