# SPDX-License-Identifier: MIT
"""A virtual machine whose driver, or QEMU, lies, against a sanitized canald, while others work.

              +------------ canald (ASan, UBSan) -----------+
    hostile --+ QEMU's socket, RAM file       QEMU's socket +-- hostile honest: bytes of an echo server,
              +---------------------------------------------+   by FIFO and by reference, all compared
                                                            +-- curl and nginx of test_hostile.py

No QEMU and no guest: one program speaks to canald as both would. Its RAM is a sparse file, of 512 MiB
or of 6 GiB, which begins again above 4 GiB.
"""

import contextlib
import os
import pathlib
import socket
import socketserver
import sys
import threading
import time

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

import harness
from test_hostile import (BUILD, RSS_GROWTH_MAX, SANITIZERS, TRANSFER_SECONDS, programs, reasons, rss, victims,
                          work_dir)

__all__ = ["programs", "victims", "work_dir"]
SEED = 7
SMALL, LARGE = "", "+"
CONFIG = """
[guest attacker]
transport = vm
socket = {dir}/attacker.sock
memory = {dir}/attacker.ram
address = 10.77.0.2
address6 = fd77::2
host-alias = 10.77.0.1
channel-memory = 16M
[guest honest]
transport = vm
socket = {dir}/honest.sock
memory = {dir}/honest.ram
address = 10.77.0.3
host-alias = 10.77.0.1
channel-memory = 4M
[guest thief]
transport = vm
socket = {dir}/thief.sock
memory = {dir}/thief.ram
address = 10.77.0.4
"""


@pytest.fixture(scope="module", params=["io_uring", "epoll"])
def canald(request, work_dir):
    if request.param == "io_uring" and not harness.io_uring_works():
        pytest.skip("no io_uring here")
    directory = work_dir / f"machine-{request.param}"
    directory.mkdir()
    os.environ.update(SANITIZERS)
    config = directory / "canald.conf"
    config.write_text(CONFIG.format(dir=directory))
    service = harness.Canald(BUILD / "bin", directory, ["--config", config, "--engine", request.param])
    try:
        yield service
        service.stop()  # its exit status is that of the leak check, too
        assert "runtime error" not in service.program.stderr, service.program.describe()
        assert "Sanitizer" not in service.program.stderr, service.program.describe()
    finally:
        service.program.kill()


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(65536):
                self.request.sendall(data)


@pytest.fixture(scope="module")
def echo_port():
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
    with Server(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def hostile(canald, name, part, port, ram):
    directory = canald.socket.parent
    return [BUILD / "bin/hostile", directory / f"{name}.sock", part, str(SEED), str(port),
            f"{directory / name}.ram{ram}"]


@pytest.fixture(scope="module")
def honest(canald, programs, echo_port):
    """The other machine: whatever happens to the first, its bytes are right and it gets on."""
    program = programs.start(hostile(canald, "honest", "honest", echo_port, LARGE))
    yield program
    assert not program.ended(), program.describe()
    program.stop(30 * harness.PATIENCE)
    assert program.returncode == 0, program.describe()
    assert int(program.stdout.split()[0]) > 0, program.describe()


@pytest.fixture
def attack(canald, programs, victims, honest):
    """Run a part of the hostile program; the others get on meanwhile, and after."""
    def run(part, ram=SMALL):
        before = victims.transfers.count
        program = programs.run(hostile(canald, "attacker", part, victims.port, ram), seconds=100)
        deadline = time.monotonic() + TRANSFER_SECONDS
        while victims.transfers.count < before + 2:
            victims.transfers.check()
            assert time.monotonic() < deadline, "the honest guest stands still"
            canald.program.ended(harness.LOOK_MS)
        assert not honest.ended(), honest.describe()
        canald.wait_status(lambda status: not [guest for guest in status["guests"]
                                               if guest["command"].startswith("attacker")],
                           f"{part} left channels behind")
        return program
    return run


def counted(canald, before):
    after = canald.status()["broken"]
    return {reason: after[reason] - before.get(reason, 0) for reason in after
            if after[reason] != before.get(reason, 0)}


@pytest.mark.parametrize("ram", [SMALL, LARGE], ids=["512M", "6G"])
@pytest.mark.parametrize("part", ["lies", "refs"])
def test_each_lie(canald, attack, part, ram):
    """One rule broken at a time: a request or a channel is refused, or the guest thrown out, for the right reason."""
    before = canald.status()["broken"]
    wanted = reasons(attack(part, ram))
    found = counted(canald, before)
    found.pop("bell-storm", None)  # the program rings while it waits
    if part == "lies":  # what is cut short reads as zeros, also as a ring, for the rest of that pass
        found.pop("ring-state", None)
    assert found == wanted


def test_bells(canald, attack):
    """Doorbells without end, interrupts that would wait, requests that cost much."""
    before = canald.status()["broken"]
    for _ in range(5):  # a canald that hardly runs does not hear so many in a second
        attack("bells")
        if counted(canald, before).get("bell-storm", 0) > 0:
            return
    assert False, "no storm was noticed"


@pytest.mark.parametrize("part", ["mailbox", "vanish", "scribble", "flip"])
def test_attack(attack, part):
    attack(part)


@pytest.mark.parametrize("ram", [SMALL, LARGE], ids=["512M", "6G"])
def test_requests(attack, ram):
    attack("requests", ram)


def test_ram_of_another(canald, programs, honest):
    """A RAM file that leads to another machine's is not taken, whatever is in it."""
    directory = canald.socket.parent
    (directory / "thief.ram").symlink_to(directory / "honest.ram")
    program = programs.run(hostile(canald, "thief", "steal", 9, SMALL), seconds=30)
    assert "refused" in program.stdout, program.describe()


def test_second_qemu_and_strangers(canald, honest):
    """Who connects beside QEMU hears nothing, and QEMU is not disturbed."""
    for _ in range(50):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(canald.socket.parent / "honest.sock"))
            stranger.settimeout(10)
            with contextlib.suppress(ConnectionError):
                assert stranger.recv(8) == b""
    assert not honest.ended(), honest.describe()


def test_nothing_is_left(canald, attack, victims):
    """Another round of everything costs no memory and no descriptors."""
    before, fds = rss(canald), len(canald.fds())
    for part in ("lies", "refs", "vanish", "requests"):
        attack(part)
    victims.stop()
    canald.wait_status(lambda status: len(canald.fds()) <= fds, f"more than {fds} descriptors: {canald.fds()}")
    assert rss(canald) - before < RSS_GROWTH_MAX, f"{before} bytes, now {rss(canald)}"
    assert not canald.program.crashed(), canald.program.describe()
