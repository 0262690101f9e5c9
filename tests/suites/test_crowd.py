# SPDX-License-Identifier: MIT
"""A Python asyncio server with 5,000 clients at once."""

import resource

import pytest

from harness import HERE, PYTHON

PROGRAM = HERE.parent / "suites/programs/crowd_asyncio.py"
CLIENTS = 5000
# As many fewer as there are not enough descriptors: canald has two for each socket of either end.
EACH = 4
SPARE = 2000


@pytest.mark.seconds(300)
def test_asyncio_crowd(server, client, free_port, traffic):
    count = min(CLIENTS, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE) // EACH)
    port = str(free_port())
    program = server.start([PYTHON, PROGRAM, "server", port])
    program.wait_printed("ready")
    with traffic(count * 60, connections=count):
        told = client.run([PYTHON, PROGRAM, "client", port, str(count)], seconds=200)
    assert told.stdout == "all equal\n", told.describe()
    assert not program.stderr, program.describe()
