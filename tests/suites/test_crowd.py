# SPDX-License-Identifier: MIT
"""A Python asyncio server with 5,000 clients at once; threads beyond the places for sleepers."""

import resource

import pytest

import harness
from harness import HERE, PYTHON

PROGRAM = HERE.parent / "suites/programs/crowd_asyncio.py"
CLIENTS = 5000
THREADS = 1200  # of each end
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


@pytest.mark.seconds(200)
def test_thread_crowd(canal, canald):
    """Many more threads wait than a channel has places for sleepers."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < SPARE + EACH * THREADS:
        pytest.skip("too few descriptors here")
    with harness.Traffic(canald, 2 if canald else 0)(THREADS * 20, connections=2 * THREADS):
        told = canal.run([PYTHON, PROGRAM.with_name("crowd_threads.py"), str(THREADS)], seconds=150)
    assert told.stdout == "all equal\n" and not told.stderr, told.describe()
