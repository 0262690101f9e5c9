# SPDX-License-Identifier: MIT
"""OpenJDK: java.nio with Selectors, and java.net, whose close() is a dup2 onto the socket."""

import pytest

from harness import HERE

SOURCE = HERE.parent / "suites/programs/Echo.java"


@pytest.fixture(scope="module")
def classes(session_dir, programs_of_module):
    programs_of_module.run(["javac", "-d", session_dir / "classes", SOURCE], seconds=100)
    return session_dir / "classes"


@pytest.fixture
def java(classes):
    return ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", classes, "Echo"]


@pytest.fixture
def echo(server, java, free_port):
    port = str(free_port())
    program = server.start([*java, "server", port])
    program.wait_printed("ready")
    return port


def run(client, java, *arguments):
    told = client.run([*java, *map(str, arguments)], seconds=100)
    assert told.stdout == "all equal\n", told.describe()


def test_selectors(server, client, java, echo, traffic):
    with traffic(2 * 100 * 250_000, connections=100):
        run(client, java, "client", echo, 100, 250_000)


def test_threads(server, client, java, echo, traffic):
    with traffic(2 * 40 * 409_600, connections=40):
        run(client, java, "blocking", echo, 40, 409_600)


@pytest.mark.parametrize("family", ["ipv4", "any"])
def test_calls(canal, java, free_port, family):
    """close and interrupt of blocked threads, time-outs, datagrams. By default Java has IPv6 sockets for all."""
    run(canal, [*java[:1], *(["-Djava.net.preferIPv4Stack=true"] if family == "ipv4" else []), *java[1:]],
        "calls", free_port())
