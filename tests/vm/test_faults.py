# SPDX-License-Identifier: MIT
"""What ends badly in a guest ends only there, cleanly, and the next program works."""

import signal

import pytest

import harness
import machine
from harness import PYTHON
from world import HERE

WORLD = {"guests": 2, "reboots": True, "memory_mib": 384}
FLOW = HERE / "programs" / "flow.py"
DEVICE = "/sys/bus/pci/drivers/canal/0*"
GAVE_UP = "canald does not move"
HOLD_MANY = """
import signal, socket, sys
held = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(600)]
print("open", flush=True)
signal.pause()
"""
ENDED = ("end of file", "ECONNRESET", "EPIPE", "ECONNABORTED", "ENOTCONN")


class Flow:
    """A connection from a guest to this machine that is busy until something ends it."""

    def __init__(self, native, side, world, port, way="send"):
        other = {"send": "receive", "receive": "send"}[way]
        self.here = native.start([PYTHON, FLOW, "listen", world.here, str(port), other])
        self.here.wait_printed("ready")
        self.there = side.python("flow.py", "connect", world.host, port, way, start=True)
        self.here.wait_printed("flowing")

    def assert_ended_here(self, seconds=20):
        assert self.here.wait(seconds) == 0, self.here.describe()
        assert self.here.stdout.partition("ended: ")[2].strip() in ENDED, self.here.describe()

    def assert_ended_there(self, seconds=20):
        """The program in the guest is told by a proper error, and goes on to its own end."""
        assert self.there.wait(seconds) == 0, self.there.describe()
        assert self.there.stdout.partition("ended: ")[2].strip() in ENDED, self.there.describe()

    def stop(self):
        self.there.stop()
        self.assert_ended_here()


@pytest.fixture
def flow(native, sides, world, free_port):
    """Starts a Flow of the guest NAME."""
    return lambda name="vm1", way="send": Flow(native, sides[name], world, free_port(), way)


def assert_works(native, side, world, free_port):
    """A new program in the guest transfers something and sees its end."""
    port = free_port()
    server = native.start([PYTHON, HERE / "programs" / "epoll_many.py", "server", world.here, str(port), "8"])
    server.wait_printed("ready")
    told = side.python("epoll_many.py", "client", world.host, port, 8)
    assert told.stdout == "all equal\n", told.describe()


@pytest.mark.parametrize("way", ["send", "receive"])
def test_program_is_killed(native, guest, world, flow, free_port, way):
    """kill -9 in mid-transfer: the other end sees it end, and another program is not disturbed."""
    other = flow(way=way)
    killed = flow(way=way)
    killed.there.send_signal(signal.SIGKILL, group=True)
    killed.assert_ended_here()
    assert not other.here.ended(), other.here.describe()
    other.stop()
    assert_works(native, guest, world, free_port)


@pytest.mark.canal_only
def test_qemu_is_killed(native, sides, world, flow, free_port):
    """The whole machine at once: its connections end, the other guest's goes on; it boots again."""
    other, killed = flow("vm2"), flow("vm1")
    world.machines["vm1"].kill_qemu()
    killed.assert_ended_here()
    assert not other.here.ended(), other.here.describe()
    world.machines["vm1"].start()
    world.machines["vm1"].wait_ready()
    assert_works(native, sides["vm1"], world, free_port)
    other.stop()


@pytest.mark.canal_only
def test_guest_reboots(native, sides, world, flow, free_port):
    """Without a word to its programs, several times."""
    other = flow("vm2")
    for _ in range(2):
        vm = world.machines["vm1"]
        ended = flow("vm1")
        boots = vm.boots
        vm.power(machine.RESTART)
        vm.wait_ready(boots + 1)
        ended.assert_ended_here()
        assert_works(native, sides["vm1"], world, free_port)
    assert not other.here.ended(), other.here.describe()
    other.stop()


@pytest.mark.canal_only
def test_module_is_unloaded_and_reloaded(native, guest, world, flow, free_port):
    """Not while a program uses it; then as often as one likes."""
    busy = flow()
    told = guest.machine.run(["rmmod", "canal"], status=None)
    assert told.returncode != 0, "the module went away under a program that uses it"
    busy.stop()
    for _ in range(3):
        guest.machine.sh("rmmod canal && insmod /lib/modules/canal.ko && /etc/guest/setup")
        assert_works(native, guest, world, free_port)


@pytest.mark.canal_only
@pytest.mark.parametrize("way", ["send", "receive"])
def test_device_is_unplugged(native, guest, world, flow, free_port, way):
    """Every sleeper wakes with an error; the device may come back."""
    busy = flow(way=way)
    guest.machine.sh(f"echo 1 > $(echo {DEVICE})/remove")
    busy.assert_ended_there()
    busy.assert_ended_here()
    guest.machine.sh("echo 1 > /sys/bus/pci/rescan; /etc/guest/setup")
    assert_works(native, guest, world, free_port)


@pytest.mark.canal_only
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_canald_is_restarted(native, sides, world, flow, free_port, number):
    """Programs get a proper error, new ones work, and QEMU notices nothing."""
    flows = [flow("vm1", "send"), flow("vm2", "receive")]
    world.canald.restart(number)
    for each in flows:
        each.assert_ended_there()
        each.assert_ended_here()
    for side in sides.values():
        assert_works(native, side, world, free_port)


@pytest.fixture
def overfull(native, guest, world, free_port):
    """canald stands still, and its mailbox has no room: a program died that had many sockets."""
    port = free_port()
    server = native.start([PYTHON, HERE / "programs" / "epoll_many.py", "server", world.here, str(port), "600"])
    server.wait_printed("ready")
    many = guest.start([PYTHON, "-c", HOLD_MANY, world.host, str(port)])
    many.wait_printed("open")
    world.canald.program.send_signal(signal.SIGSTOP)
    try:
        many.send_signal(signal.SIGKILL)
        many.wait(20)
        yield server
    finally:
        world.canald.program.send_signal(signal.SIGCONT)


@pytest.mark.canal_only
def test_canald_pauses(native, guest, world, free_port, overfull):
    """A host that is busy for a moment is no dead one, however many requests wait: no connection ends."""
    before = guest.machine.kernel_log.count(GAVE_UP)
    guest.machine.sh("sleep 3")
    world.canald.program.send_signal(signal.SIGCONT)
    assert_works(native, guest, world, free_port)
    assert guest.machine.kernel_log.count(GAVE_UP) == before


@pytest.mark.canal_only
def test_canald_stands_still(native, guest, world, free_port, overfull):
    """Its mailbox full of requests that nobody looks at, the driver gives it up, and begins anew when it moves."""
    before = guest.machine.kernel_log.count(GAVE_UP)
    overfull.wait_until(lambda: guest.machine.kernel_log.count(GAVE_UP) > before, "end of patience", seconds=90)
    world.canald.program.send_signal(signal.SIGCONT)
    overfull.wait_until(lambda: guest.run([PYTHON, "-c", "import socket; socket.socket()"], status=None).returncode == 0,
                        "new beginning", seconds=60)
    assert_works(native, guest, world, free_port)


@pytest.mark.canal_only
def test_sleepers_wake_when_canald_ends(native, guest, world, free_port):
    """A program that waits for a connection, not for bytes, is woken, too."""
    program = guest.python("names.py", "server", "0.0.0.0", 7000, start=True)
    program.wait_printed("ready")
    world.canald.restart()
    program.wait_until(lambda: program.ended(harness.LOOK_MS), "its end")
    assert "Error" in program.stderr, program.describe()
    assert_works(native, guest, world, free_port)
