# SPDX-License-Identifier: MIT
"""A guest that keeps no rule, against a sanitized canald, while an honest guest works.

              +--------- canald (ASan, UBSan) ---------+
    hostile --+                                        +-- curl, again and again
              +----------------------------------------+-- nginx: the victim

curl and nginx are both guests: curl's transfers from the victim are joined in memory, those from a
second, native nginx go through the kernel. Each file must arrive whole and in time, whatever the
hostile guest does meanwhile. Afterwards canald holds what it held at the start.
"""

import contextlib
import os
import pathlib
import re
import sys
import tempfile
import threading
import time

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

import harness
import servers

BUILD = pathlib.Path(os.environ.get("CANAL_BUILD", harness.HERE.parents[1] / "build/asan"))
FILE_LEN = 20 << 20
TRANSFER_SECONDS = 40 * harness.PATIENCE
SEED = 7
# What the sanitizer keeps for later would look like a leak.
SANITIZERS = {"ASAN_OPTIONS": "quarantine_size_mb=4:detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
RSS_GROWTH_MAX = 64 << 20


@pytest.fixture(scope="module")
def work_dir():
    with tempfile.TemporaryDirectory(prefix="canal-hostile-", dir="/tmp") as path:
        path = pathlib.Path(path)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="module")
def programs(work_dir):
    logs = work_dir / "logs"
    logs.mkdir()
    started = harness.Programs(logs)
    yield started
    started.close()


@pytest.fixture(scope="module", params=["io_uring", "epoll"])
def canald(request, work_dir):
    if request.param == "io_uring" and not harness.io_uring_works():
        pytest.skip("no io_uring here")
    directory = work_dir / request.param
    directory.mkdir()
    os.environ.update(SANITIZERS)
    config = directory / "canald.conf"
    config.write_text(f"[guest attacked]\nsocket = {directory}/guest.sock\naddress = 10.77.0.2\n"
                      "address6 = fd77::2\nhost-alias = 10.77.0.1\n")
    service = harness.Canald(BUILD / "bin", directory,
                             ["--config", config, "--engine", request.param])
    try:
        yield service
        service.stop()  # its exit status is that of the leak check, too
        assert "runtime error" not in service.program.stderr, service.program.describe()
        assert "Sanitizer" not in service.program.stderr, service.program.describe()
    finally:
        service.program.kill()


class Transfers(threading.Thread):
    """An honest guest: one curl after the other, from each of the URLs in turn."""

    def __init__(self, side, urls, payload, work_dir):
        super().__init__(daemon=True)
        self.side, self.urls, self.payload = side, urls, payload
        self.copy = work_dir / "copy"
        self.count = 0
        self.longest = 0.0
        self.error = None
        self.ending = threading.Event()

    def run(self):
        try:
            while not self.ending.is_set():
                begin = time.monotonic()
                url = self.urls[self.count % len(self.urls)]
                self.side.run(["curl", "--silent", "--show-error", "--fail", "--output", self.copy, url],
                              seconds=TRANSFER_SECONDS // harness.PATIENCE)
                self.payload.assert_equal(self.copy)
                self.longest = max(self.longest, time.monotonic() - begin)
                self.count += 1
        except BaseException as error:  # told by the test's thread
            self.error = error

    def check(self):
        if self.error:
            raise self.error

    def end(self):
        self.ending.set()
        self.join(TRANSFER_SECONDS + 5)
        self.check()


class Victims:
    def __init__(self, canald, programs, work_dir):
        files, served, native = (work_dir / canald.socket.parent.name / name
                                 for name in ("files", "served", "native"))
        for directory in (files, served, native):
            directory.mkdir()
            directory.chmod(0o755)
        free_port = harness.Ports()
        self.port = free_port()
        native_port = free_port()
        payload = harness.Payload(files / "file.bin", FILE_LEN, seed=1)
        self.side = harness.Side("canal", programs, canald)
        self.nginx = servers.nginx(self.side, served, self.port, files, workers=1)
        self.native = servers.nginx(harness.Side("native", programs, None), native, native_port,
                                    files, workers=1)
        self.transfers = Transfers(self.side, [servers.url(self.port, payload.name),
                                               servers.url(native_port, payload.name)], payload, files)

    def stop(self):
        self.transfers.end()
        self.nginx.stop()
        self.native.stop()


def rss(canald):
    status = pathlib.Path(f"/proc/{canald.program.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status).group(1)) << 10


@pytest.fixture(scope="module")
def victims(canald, programs, work_dir):
    found = Victims(canald, programs, work_dir)
    found.transfers.start()
    yield found
    with contextlib.suppress(AssertionError):
        found.stop()


@pytest.fixture
def attack(canald, programs, victims):
    """Run a part of the hostile program; the honest guest gets on meanwhile, and after."""
    def run(part, seed=SEED, path=None):
        before = victims.transfers.count
        program = programs.run([BUILD / "bin/hostile", path or canald.socket, part, str(seed),
                                str(victims.port)], seconds=100)
        deadline = time.monotonic() + TRANSFER_SECONDS
        while victims.transfers.count < before + 2:
            victims.transfers.check()
            assert time.monotonic() < deadline, "the honest guest stands still"
            canald.program.ended(harness.LOOK_MS)
        canald.wait_status(lambda status: not hostile_guests(status), f"{part} left guests behind")
        return program
    return run


def hostile_guests(status):
    return [guest for guest in status["guests"] if guest["command"] == "hostile"]


def reasons(program):
    """How often each reason must have been counted, by what the program printed."""
    counts = {}
    for line in program.stdout.splitlines():
        reason = line.split()[1]
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def test_each_rule(canald, attack):
    """One rule broken at a time: the channel is closed, and the reason is the right one."""
    before = canald.status()["broken"]
    wanted = reasons(attack("cases"))
    after = canald.status()["broken"]
    assert {reason: after[reason] - before.get(reason, 0) for reason in after} == wanted
    documented = re.search(r"counts the reason:\n(.*?)\.\n", (harness.HERE.parents[1] / "docs/wire.md")
                           .read_text(), re.DOTALL).group(1)
    assert set(wanted) == set(re.findall(r"[a-z]+-[a-z]+", documented)), "a reason that is not tested"


@pytest.mark.parametrize("part", ["chains", "control", "deaths", "depths", "flip", "flood", "stalled", "stock", "storm"])
def test_attack(attack, part):
    attack(part)


@pytest.mark.parametrize("part", ["scribble", "requests"])
@pytest.mark.parametrize("seed", [1, 2])
def test_random(attack, part, seed):
    attack(part, seed)


@pytest.mark.parametrize("part", ["chains", "deaths", "depths", "flip", "requests", "scribble", "stock"])
def test_guest_with_addresses(canald, attack, part):
    """The same by a guest that has an address space of its own."""
    attack(part, path=canald.socket.parent / "guest.sock")


def test_nothing_is_left(canald, attack, victims):
    """After the storms: another round of everything costs no memory and no descriptors."""
    before = rss(canald)
    for part in ("scribble", "requests", "deaths", "flood", "stock"):
        attack(part, SEED + 1)
    victims.stop()
    print(f"{victims.transfers.count} transfers, the longest took {victims.transfers.longest:.1f} s")
    canald.wait_no_leak()
    assert rss(canald) - before < RSS_GROWTH_MAX, f"{before} bytes, now {rss(canald)}"
    assert not canald.program.crashed(), canald.program.describe()
