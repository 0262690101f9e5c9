# SPDX-License-Identifier: MIT
"""canal.ko under a kernel that checks its heap, on two processors: abuse, then ordinary work.

Debian ships no kernel with KASAN or lockdep: its -dbg packages are symbols only. What its kernels can
check, they check here: slub_debug (red zones, poison, owners), list corruption, refcounts; CANAL_VM_KERNEL
names another of its kernels, such as a 6.12 one with KFENCE.
"""

import pytest

from harness import PYTHON
from world import SYSTEM_PROGRAMS

pytestmark = pytest.mark.canal_only
WORLD = {"cpus": 2, "debug": True, "memory_mib": 768}


@pytest.fixture
def abuse(guest, bin_dir):
    if not (bin_dir / "driver_abuse").exists():
        pytest.fail("driver_abuse was not built")
    return guest.machine


@pytest.mark.seconds(240)
@pytest.mark.parametrize("uid", [0, 1000], ids=["root", "user"])
def test_abuse(abuse, uid):
    """Wrong arguments, races and sudden ends: each refused, none noticed by the kernel."""
    told = abuse.run(["driver_abuse"], uid=uid, seconds=220)
    assert told.returncode == 0, told.describe()


def test_work_after_abuse(native, guest, world, free_port):
    port = free_port()
    server = native.start([PYTHON, SYSTEM_PROGRAMS / "echo_asyncio.py", "server", str(port), world.here])
    server.wait_printed("ready")
    told = guest.python("echo_asyncio.py", "client", port, world.host, seconds=110)
    assert told.stdout == "all equal\n", told.describe()


@pytest.mark.seconds(240)
def test_many_processes_come_and_go(guest, world, native, free_port):
    """Channels are made and released, forked children join and end, some of them by force."""
    told = guest.python("forked_sets.py", "children", 60, seconds=200)
    assert told.stdout == "all equal\n", told.describe()
    for _ in range(20):
        told = guest.run([PYTHON, "-c", "import socket; socket.socket().bind(('0.0.0.0', 0))"])
        assert told.returncode == 0, told.describe()


def test_heap_is_whole(guest):
    """Every object of every slab cache still has its red zones and its poison."""
    guest.machine.sh("for file in /sys/kernel/slab/*/validate; do echo 1 > $file; done")
