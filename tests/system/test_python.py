# SPDX-License-Identifier: MIT
"""Python as client and server: asyncio, threads, forks, urllib. (http.server: test_http.py.)"""

import pytest

import servers
from harness import HERE, PYTHON

PROGRAMS = HERE / "programs"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_asyncio_echo(server, client, free_port, traffic, host):
    """A hundred streams at once and some datagrams, on one event loop at each end."""
    port = free_port()
    program = server.start([PYTHON, PROGRAMS / "echo_asyncio.py", "server", str(port), host])
    program.wait_printed("ready")
    with traffic(2 * 100 * 200_000, connections=100):
        told = client.run([PYTHON, PROGRAMS / "echo_asyncio.py", "client", str(port), host])
    assert told.stdout == "all equal\n", told.describe()


@pytest.mark.parametrize("kind", ["thread", "fork"])
def test_socketserver_echo(server, client, free_port, traffic, kind):
    port = free_port()
    program = server.start([PYTHON, PROGRAMS / "echo_threads.py", "server", str(port), kind])
    program.wait_listening(port)
    with traffic(32 * 200, connections=32):
        told = client.run([PYTHON, PROGRAMS / "echo_threads.py", "client", str(port), kind])
    assert told.stdout == "all equal\n", told.describe()


def test_sets_of_children_that_just_end(canal):
    """More epoll instances than a channel has: those of ended processes are used again."""
    told = canal.run([PYTHON, PROGRAMS / "forked_sets.py", "children", "1100"], seconds=120)
    assert told.stdout == "all equal\n", told.describe()


def test_set_made_before_fork(server, client, free_port, traffic):
    """A child serves with the epoll instance of its parent: what it closes is reported no more."""
    port = free_port()
    program = server.start([PYTHON, PROGRAMS / "forked_sets.py", "daemon", str(port)])
    program.wait_printed("ready")
    script = ("import socket, sys;"
              "address = ('127.0.0.1', int(sys.argv[1]));"
              "[(c := socket.create_connection(address, 10), c.sendall(b'x'), c.recv(1), c.close())"
              " for _ in range(2000)];"
              "print('all equal')")
    with traffic(2000, connections=2000):
        told = client.run([PYTHON, "-c", script, str(port)])
    assert told.stdout == "all equal\n", told.describe()


def test_urllib_downloads_big_file(server, client, files_dir, big_file, free_port, traffic):
    port = free_port()
    servers.python_http(server, port, files_dir)
    script = ("import hashlib, sys, urllib.request;"
              "answer = urllib.request.urlopen(sys.argv[1], timeout=30);"
              "print(hashlib.file_digest(answer, 'sha256').hexdigest())")
    with traffic(big_file.length):
        told = client.run([PYTHON, "-c", script, servers.url(port, big_file.name)])
    assert told.stdout.strip() == big_file.sha256


@pytest.mark.parametrize("habit", ["os.closerange(3, 65536)",
                                   "[os.dup2(0, fd) for fd in range(3, 40)]"],
                         ids=["close_range", "dup2"])
def test_program_owns_its_descriptors(server, client, files_dir, small_files, free_port, traffic,
                                      habit):
    """Daemons close or reuse every descriptor that they did not open; sockets must still work."""
    port = free_port()
    servers.python_http(server, port, files_dir)
    script = (f"import hashlib, os, sys, urllib.request; {habit};"
              "answer = urllib.request.urlopen(sys.argv[1], timeout=30);"
              "print(hashlib.sha256(answer.read()).hexdigest())")
    with traffic(small_files[0].length):
        told = client.run([PYTHON, "-c", script, servers.url(port, small_files[0].name)])
    assert told.stdout.strip() == small_files[0].sha256


def test_names_of_host(canal, native):
    """getaddrinfo tells the same under canal as natively."""
    script = ("import socket;"
              "print(sorted(set(socket.getaddrinfo('localhost', 80, type=socket.SOCK_STREAM))));"
              "print(socket.getaddrinfo('127.0.0.1', 'http', type=socket.SOCK_STREAM));"
              "print(socket.getnameinfo(('127.0.0.1', 80), socket.NI_NUMERICHOST))")
    assert canal.run([PYTHON, "-c", script]).stdout == native.run([PYTHON, "-c", script]).stdout
