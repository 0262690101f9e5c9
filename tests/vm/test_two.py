# SPDX-License-Identifier: MIT
"""Two guests at once: to the outside, to each other, and a local guest beside them."""

import pytest

from harness import PYTHON
from service import HOST_ALIAS
from world import SYSTEM_PROGRAMS, HERE

pytestmark = pytest.mark.canal_only
WORLD = {"guests": 2, "memory_mib": 384}
PROGRAMS = HERE / "programs"


def lines(program):
    return dict(line.split(": ", 1) for line in program.stdout.splitlines())


def host_of(address):
    return address.rpartition(":")[0]


def test_both_listen_on_the_same_port(native, sides, world):
    """Each is reached by what it publishes; a client on the host's loopback is seen at the alias."""
    for side in sides.values():
        side.python("names.py", "server", "0.0.0.0", 7000, start=True).wait_printed("ready")
    for name in sides:
        host, port = world.outside(7000, name)
        told = lines(native.run([PYTHON, PROGRAMS / "names.py", "client", host, str(port)]))
        own, peer = told["server"].split()
        assert own == f"{world.address(name)}:7000", told
        assert peer == f"{HOST_ALIAS}:{told['client'].split()[0].rpartition(':')[2]}", told


@pytest.mark.parametrize("server, client", [("vm1", "vm2"), ("vm2", "vm1")])
def test_guest_to_guest(sides, world, server, client):
    """By the other's virtual address; each sees the other under it."""
    sides[server].python("names.py", "server", "0.0.0.0", 7000, start=True).wait_printed("ready")
    told = lines(sides[client].python("names.py", "client", world.address(server), 7000))
    assert told["client"].split()[1] == f"{world.address(server)}:7000", told
    assert told["server"].split()[0] == f"{world.address(server)}:7000", told
    assert host_of(told["client"].split()[0]) == world.address(client), told
    assert told["server"].split()[1] == told["client"].split()[0], told


def test_guest_to_guest_echo(sides, world):
    sides["vm1"].python("echo_asyncio.py", "server", 7000, "0.0.0.0", start=True).wait_printed("ready")
    told = sides["vm2"].python("echo_asyncio.py", "client", 7000, world.address("vm1"), seconds=100)
    assert told.stdout == "all equal\n", told.describe()


def test_both_to_the_outside_at_once(native, sides, world, free_port):
    port = free_port()
    server = native.start([PYTHON, SYSTEM_PROGRAMS / "echo_asyncio.py", "server", str(port), world.here])
    server.wait_printed("ready")
    clients = [side.python("echo_asyncio.py", "client", port, world.host, start=True) for side in sides.values()]
    for client in clients:
        assert client.wait(110) == 0, client.describe()
        assert client.stdout == "all equal\n", client.describe()


def test_guest_to_local_guest(local, sides, world, free_port):
    """A program of this machine that is a guest of the same canald serves a virtual machine."""
    port = free_port()
    server = local.start([PYTHON, SYSTEM_PROGRAMS / "echo_asyncio.py", "server", str(port), world.here])
    server.wait_printed("ready")
    told = sides["vm1"].python("echo_asyncio.py", "client", port, world.host, seconds=100)
    assert told.stdout == "all equal\n", told.describe()


def test_local_guest_to_guest(local, sides, world):
    sides["vm1"].python("echo_asyncio.py", "server", 7000, "0.0.0.0", start=True).wait_printed("ready")
    host, port = world.outside(7000)
    told = local.run([PYTHON, SYSTEM_PROGRAMS / "echo_asyncio.py", "client", str(port), host], seconds=100)
    assert told.stdout == "all equal\n", told.describe()
