# SPDX-License-Identifier: MIT
"""canald as systemd's service, in a guest that is a small Debian with systemd: see debian_root.py.

Emulated, booting takes 15 s; making the root, once, half a minute.
"""

import re
import time

import pytest

import debian_root
import harness
import image
from machine import Machine

PORT = 8000
PAGE = "what the page says\n"
USER, OTHER = 1000, 1001
SHARED_PORT = 8001
# What perl does, given a port: binds, as one who shares it, and keeps it until its input ends.
SHARER = """
use Socket; $| = 1;
socket(my $s, AF_INET, SOCK_STREAM, 0) or die $!;
setsockopt($s, SOL_SOCKET, SO_REUSEPORT, 1) or die $!;
print bind($s, pack_sockaddr_in($ARGV[0], INADDR_LOOPBACK)) && listen($s, 8) ? "bound" : "refused: $!", "\\n"; <STDIN>;
"""
BOOT_SECONDS = 180


@pytest.fixture(scope="module")
def system(bin_dir, session_dir):
    work_dir = session_dir / "systemd"
    work_dir.mkdir()
    initrd = work_dir / "initrd"
    debian_root.write(initrd, image.kernel(), bin_dir, texts=[("/srv/page", PAGE)])
    machine = Machine("systemd", bin_dir, work_dir, debian_root.MEMORY_MIB, initrd=initrd)
    try:
        machine.start()
        machine.wait_ready(seconds=BOOT_SECONDS)
        machine.run(["systemctl", "is-system-running", "--wait"], seconds=BOOT_SECONDS)
        # As the package does after it is installed.
        machine.sh("systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload", status=None)
        for uid in (USER, OTHER):
            machine.sh(f"adduser --disabled-password --gecos '' --uid {uid} user{uid} && adduser user{uid} canal")
        yield machine
        machine.close()
    finally:
        machine.kill()


def show(system, key):
    return system.run(["systemctl", "show", "canald", "--property", key, "--value"]).stdout.strip()


def wait_show(system, key, value, seconds=40):
    deadline = time.monotonic() + seconds * harness.PATIENCE
    while (now := show(system, key)) != value:
        assert time.monotonic() < deadline, f"{key} is {now}, not {value}: {journal(system)}"


def journal(system):
    return system.run(["journalctl", "-u", "canald", "--no-pager", "-n", "50"]).stdout


def fetch(system):
    told = system.run(["canal-run", "--", "curl", "-sSf", f"http://127.0.0.1:{PORT}/page"], {"CANAL_FALLBACK": "deny"},
                      uid=USER, status=None)
    assert told.stdout == PAGE, told.describe() + journal(system)


@pytest.fixture(scope="module")
def service(system):
    """The service, started as an administrator does; it is ready when systemctl returns."""
    system.start_program(["busybox", "httpd", "-f", "-p", f"127.0.0.1:{PORT}", "-h", "/srv"])
    told = system.run(["systemctl", "enable", "--now", "canald"], status=None)
    assert told.returncode == 0, told.describe() + journal(system)
    return system


def test_unit_is_good(system):
    told = system.sh("systemd-analyze verify --man=no $(systemctl show -P FragmentPath canald) 2>&1")
    assert told.stdout == "", told.describe()


def test_it_is_ready_and_serves(service):
    assert show(service, "ActiveState") == "active"
    assert show(service, "Type") == "notify"
    fetch(service)


def test_it_has_a_user_of_its_own(service):
    status = service.sh(f"cat /proc/{show(service, 'MainPID')}/status").stdout
    assert int(re.search(r"^Uid:\s+(\d+)", status, re.M).group(1)) != 0, status
    assert int(re.search(r"^NoNewPrivs:\s+(\d)", status, re.M).group(1)) == 1, status


def share(system, uid):
    program = system.start_program(["canal-run", "--", "perl", "-e", SHARER, str(SHARED_PORT)], {"CANAL_FALLBACK": "deny"},
                                   uid=uid)
    program.wait_printed("\n")
    return program


def test_users_share_no_port(service):
    first, second, other = share(service, USER), share(service, USER), share(service, OTHER)
    assert first.stdout == second.stdout == "bound\n", first.describe() + second.describe()
    assert "in use" in other.stdout, other.describe()
    for program in (first, second, other):
        program.stdin_end()
        program.wait(harness.STOP_SECONDS)


def test_it_is_watched(service):
    assert show(service, "WatchdogUSec") not in ("0", "infinity")


def test_it_comes_back(service):
    """After kill -9; what runs under canal then works again."""
    before = show(service, "MainPID")
    service.run(["systemctl", "kill", "--signal=SIGKILL", "canald"])
    wait_show(service, "NRestarts", "1")
    wait_show(service, "ActiveState", "active")
    assert show(service, "MainPID") != before
    fetch(service)


def test_it_stops_cleanly(service):
    service.run(["systemctl", "stop", "canald"], seconds=harness.STOP_SECONDS * 3)
    assert show(service, "ActiveState") == "inactive"
    assert show(service, "Result") == "success", journal(service)
