# SPDX-License-Identifier: MIT
"""A guest whose RAM lies on both sides of the hole below 4 GiB: channels and buffers of either side."""

import pytest

from harness import PYTHON
from world import SYSTEM_PROGRAMS

pytestmark = [pytest.mark.canal_only, pytest.mark.seconds(300)]
# Of these QEMU puts 2 GiB below the hole, and the rest at 4 GiB. The file is sparse.
WORLD = {"memory_mib": 3072}
# Memory from the top goes first: this much of it is taken, so that what follows lies below the hole.
FILL_MIB = 1200


def echo(native, guest, world, port):
    server = native.start([PYTHON, SYSTEM_PROGRAMS / "echo_asyncio.py", "server", str(port), world.here])
    server.wait_printed("ready")
    told = guest.python("echo_asyncio.py", "client", port, world.host, seconds=110)
    assert told.stdout == "all equal\n", told.describe()


def test_above_the_hole(native, guest, world, free_port):
    assert int(guest.machine.sh("grep -c '^1[0-9a-f]*-[0-9a-f]* : System RAM' /proc/iomem").stdout) == 1
    echo(native, guest, world, free_port())


def test_below_the_hole(native, guest, world, free_port):
    """The memory above it is full; the module begins anew, with a cookie that lies below."""
    guest.machine.sh(f"mkdir /fill && mount -t tmpfs -o size={FILL_MIB}m none /fill && "
                     f"dd if=/dev/zero of=/fill/all bs=1M count={FILL_MIB} 2>/dev/null", seconds=200)
    try:
        guest.machine.sh("rmmod canal && insmod /lib/modules/canal.ko && /etc/guest/setup")
        echo(native, guest, world, free_port())
    finally:
        guest.machine.sh("umount /fill && rmdir /fill")
    echo(native, guest, world, free_port())
