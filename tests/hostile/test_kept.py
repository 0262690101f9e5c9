# SPDX-License-Identifier: MIT
"""What a service manager keeps for canald: QEMU's socket, and the device of a machine across restarts.

This test is the manager: it listens, gives descriptors as sd_listen_fds(3) has them, and takes in what
sd_notify(3) wants to be stored. QEMU and its driver are tests/hostile/machine.c.
"""

import contextlib
import os
import pathlib
import select
import signal
import socket
import sys
import time

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

import harness
from test_hostile import BUILD, SANITIZERS, programs, work_dir

__all__ = ["programs", "work_dir"]
# Puts the descriptors at 3 and up, as a service manager does, and becomes canald.
BECOME = """
import fcntl, os, sys
fds = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 200) for fd in sys.argv[1].split(",")]
for at, fd in enumerate(fds, 3):
    os.dup2(fd, at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)))
os.execv(sys.argv[2], sys.argv[2:])
"""
KEPT = [f"vm-machine-{what}" for what in ("qemu", "mail", "bell", "irq")]


class Manager:
    def __init__(self, programs, directory):
        self.programs, self.directory = programs, directory
        self.store = []
        self.stored = 0  # so many came
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(directory / "notify.sock"))
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(directory / "machine.sock"))
        self.listener.listen()
        config = directory / "canald.conf"
        config.write_text(f"[guest machine]\ntransport = vm\nsocket = {directory}/machine.sock\n"
                          f"memory = {directory}/machine.ram\naddress = 10.77.0.2\nchannel-memory = 4M\n")

    def start(self):
        fds = [self.listener.fileno(), *(fd for _, fd in self.store)]
        names = ":".join(["listener", *(name for name, _ in self.store)])
        environment = harness.environment(NOTIFY_SOCKET=str(self.directory / "notify.sock"), LISTEN_FDNAMES=names)
        self.canald = self.programs.start(
            [harness.PYTHON, "-c", BECOME, ",".join(map(str, fds)), BUILD / "bin/canald",
             "--config", self.directory / "canald.conf", "--socket", self.directory / "canald.sock"],
            environment, pass_fds=fds)
        self.hear(lambda told: "READY=1" in told)

    def hear(self, enough, seconds=20):
        """Takes notifications in until `enough(all of the words of one)`."""
        poller, deadline = select.poll(), time.monotonic() + seconds * harness.PATIENCE
        poller.register(self.notify, select.POLLIN)
        told = []
        while not enough(told):
            left = (deadline - time.monotonic()) * 1000
            assert left > 0 and poller.poll(left), f"{told}, {self.store}: {self.canald.describe()}"
            packet, fds, _, _ = socket.recv_fds(self.notify, 4096, 8)
            told = packet.decode().split("\n")
            name = next((word.removeprefix("FDNAME=") for word in told if word.startswith("FDNAME=")), None)
            if "FDSTORE=1" in told:
                self.stored += len(fds)
                self.store += [(name, fd) for fd in fds]
            if "FDSTOREREMOVE=1" in told:
                self.drop([one for one in self.store if one[0] == name])

    def drop(self, what):
        for one in what:
            self.store.remove(one)
            os.close(one[1])

    def names(self):
        return [name for name, _ in self.store]

    def close(self):
        self.drop(list(self.store))
        self.notify.close()
        self.listener.close()


@pytest.fixture
def manager(programs, work_dir):
    directory = work_dir / "kept"
    directory.mkdir(exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    os.environ.update(SANITIZERS)
    with contextlib.closing(Manager(programs, directory)) as started:
        yield started
        started.canald.stop()
        assert started.canald.returncode == 0, started.canald.describe()


def machine(manager, part="kept"):
    directory = manager.directory
    return manager.programs.start([BUILD / "bin/hostile", directory / "machine.sock", part, "7", "0",
                                   directory / "machine.ram"])


def test_qemu_first_and_restarts(manager):
    """QEMU is there before canald; canald is killed, then ended, and each time the next goes on with the same device."""
    qemu = machine(manager)
    manager.start()
    qemu.wait_printed("works 1\n")
    manager.hear(lambda _: manager.names() == KEPT)
    manager.canald.stop(number=signal.SIGKILL)
    manager.start()
    qemu.wait_printed("works 2\n")
    assert manager.names() == KEPT
    manager.canald.stop()
    assert manager.canald.returncode == 0, manager.canald.describe()
    manager.start()
    qemu.wait_printed("works 3\n")
    assert qemu.wait(20) == 0, qemu.describe()
    manager.hear(lambda _: not manager.store)  # QEMU is gone: nothing is kept


def test_part_of_an_older_qemu(manager):
    """QEMU ended while there was no canald, and its connection fell out of the store: the rest is forgotten."""
    qemu = machine(manager)
    manager.start()
    qemu.wait_printed("works 1\n")
    manager.hear(lambda _: manager.names() == KEPT)
    manager.canald.stop(number=signal.SIGKILL)
    qemu.kill()
    manager.drop([one for one in manager.store if one[0] == "vm-machine-qemu"])
    manager.start()
    if manager.store:
        manager.hear(lambda _: not manager.store)
    qemu = machine(manager)
    qemu.wait_printed("works 1\n")
    manager.hear(lambda _: manager.names() == KEPT)
    manager.canald.stop(number=signal.SIGKILL)
    manager.start()
    qemu.wait_printed("works 2\n")
    qemu.kill()
    manager.hear(lambda _: not manager.store)


def connect(manager):
    """As QEMU does: it is served when it has the five messages."""
    qemu = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    qemu.settimeout(20 * harness.PATIENCE)
    qemu.connect(str(manager.directory / "machine.sock"))
    left = 5 * 8
    while left:
        told, fds, _, _ = socket.recv_fds(qemu, left, 8)
        for fd in fds:
            os.close(fd)
        assert told, "it was turned away"
        left -= len(told)
    return qemu


def turned_away(manager):
    """The QEMU before is not gone yet."""
    try:
        return connect(manager)
    except (AssertionError, ConnectionError):
        return None


def test_qemu_without_rest(manager):
    """A QEMU that comes and goes without end is none to be kept; when it stays, it is."""
    manager.start()
    for _ in range(30):
        qemu = turned_away(manager)
        if qemu:
            qemu.close()
    qemu = next(filter(None, iter(lambda: turned_away(manager), 0)))
    manager.hear(lambda _: manager.names() == KEPT and manager.stored > len(KEPT))
    assert manager.stored < 10 * len(KEPT)  # 2, and more on a machine that stands still
    manager.canald.stop(number=signal.SIGKILL)
    manager.start()
    assert not select.select([qemu], [], [], 0)[0]  # it goes on
    qemu.close()
    manager.hear(lambda _: not manager.store)


def test_qemu_new_at_the_end(manager):
    """canald is ended before it has kept a QEMU: it is for the next one."""
    manager.start()
    connect(manager).close()
    manager.hear(lambda _: manager.stored and not manager.store)
    qemu = next(filter(None, iter(lambda: turned_away(manager), 0)))
    manager.canald.stop()
    manager.hear(lambda _: manager.names() == KEPT)
    manager.start()
    assert not select.select([qemu], [], [], 0)[0]
    qemu.close()
    manager.hear(lambda _: not manager.store)
