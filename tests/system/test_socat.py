# SPDX-License-Identifier: MIT
"""socat: echo and file transfer over TCP and UDP, IPv4 and IPv6, one process or a fork each."""

import subprocess

import pytest

import servers

HOSTS = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
ECHO_LEN = 1 << 20

# What echoes: not socat's own PIPE, in which it can block itself for ever. poll() calls a pipe
# writable while a page of it is free, socat then writes two, and nobody else reads. Natively
# too: 2,560 bytes, a pause, then more than the sockets hold.
ECHO = "EXEC:cat"


def _listen(host, port, protocol="TCP", options=""):
    family, bind = ("6", "[::1]") if ":" in host else ("4", "127.0.0.1")
    return f"{protocol}{family}-LISTEN:{port},bind={bind},reuseaddr{options}"


def _connect(host, port, protocol="TCP"):
    return f"{protocol}{'6' if ':' in host else '4'}:{servers.at(host, port)}"


def _start(server, port, protocol, *arguments):
    program = server.start(["socat", *arguments])
    program.wait_listening(port, protocol)
    return program


@HOSTS
@pytest.mark.parametrize("fork", [False, True], ids=["single", "fork"])
def test_tcp_echo(server, client, work_dir, big_file, free_port, traffic, host, fork):
    """The client ends its sending side first, then reads the rest of the echo."""
    port = free_port()
    _start(server, port, "tcp", "-t", "30",
           _listen(host, port, options=",fork" if fork else ""), ECHO)
    question = big_file.path.read_bytes()[:ECHO_LEN]
    (work_dir / "question").write_bytes(question)
    with traffic(2 * ECHO_LEN, connections=1), open(work_dir / "question", "rb") as stdin:
        answer = client.run(["socat", "-t", "30", "-", _connect(host, port)], stdin=stdin)
    assert answer.out_path.read_bytes() == question


@HOSTS
def test_tcp_forking_server_many_clients(server, client, work_dir, big_file, free_port, traffic,
                                         host):
    """Twenty clients at once, a child of the server for each."""
    port = free_port()
    _start(server, port, "tcp", "-t", "30",
           _listen(host, port, options=",fork,backlog=64"), ECHO)
    question = big_file.path.read_bytes()[:ECHO_LEN // 16]
    (work_dir / "question").write_bytes(question)
    with traffic(20 * 2 * len(question), connections=20):
        clients = []
        for _ in range(20):
            with open(work_dir / "question", "rb") as stdin:
                clients.append(client.start(["socat", "-t", "30", "-", _connect(host, port)],
                                            stdin=stdin))
        for program in clients:
            assert program.wait(40) == 0, program.describe()
            assert program.out_path.read_bytes() == question, program.argv


@HOSTS
def test_tcp_file_transfer(server, client, work_dir, big_file, free_port, traffic, host):
    """The client sends a file and ends; the server ends when it has all of it."""
    port = free_port()
    copy = work_dir / "copy"
    receiver = _start(server, port, "tcp", "-u", _listen(host, port), f"CREATE:{copy}")
    with traffic(big_file.length):
        client.run(["socat", "-u", f"OPEN:{big_file.path},rdonly", _connect(host, port)])
        assert receiver.wait(40) == 0, receiver.describe()
    big_file.assert_equal(copy)


@HOSTS
def test_tcp_file_served(server, client, work_dir, big_file, free_port, traffic, host):
    """The server sends a file to each client; the big blocks go in one write."""
    port = free_port()
    copy = work_dir / "copy"
    _start(server, port, "tcp", "-b", "262144", "-U", _listen(host, port, options=",fork"),
           f"OPEN:{big_file.path},rdonly")
    with traffic(big_file.length):
        client.run(["socat", "-b", "262144", "-u", _connect(host, port), f"CREATE:{copy}"])
    big_file.assert_equal(copy)


@HOSTS
def test_half_close_other_way(server, client, work_dir, free_port, traffic, small_files, host):
    """The server has sent everything and shut down; the client's bytes still arrive."""
    port = free_port()
    question, reply = small_files[0], small_files[1]
    copy = work_dir / "copy"
    receiver = _start(server, port, "tcp", "-t", "30", _listen(host, port),
                      f"OPEN:{reply.path},rdonly!!CREATE:{copy}")
    with traffic(question.length + reply.length), open(question.path, "rb") as stdin:
        answer = client.run(["socat", "-t", "30", "-", _connect(host, port)], stdin=stdin)
        assert receiver.wait(40) == 0, receiver.describe()
    reply.assert_equal(answer.out_path)
    question.assert_equal(copy)


@HOSTS
@pytest.mark.parametrize("server_kind", ["LISTEN", "RECVFROM"])
def test_udp_echo(server, client, free_port, traffic, host, server_kind):
    """Datagrams of 1 to 8000 bytes, each sent when the one before came back.

    LISTEN connects its socket to the first peer; RECVFROM forks a child for every datagram.
    """
    port = free_port()
    address = _listen(host, port, "UDP", ",fork").replace("LISTEN", server_kind)
    _start(server, port, "udp", address, "PIPE")
    lengths = [1, 10, 100, 512, 1000, 1472, 4000, 8000]
    with traffic(2 * sum(lengths), connections=0):
        program = client.start(["socat", "-t", "0.1", "-", _connect(host, port, "UDP")],
                               stdin=subprocess.PIPE)
        expected = b""
        for number, length in enumerate(lengths):
            datagram = bytes([65 + number]) * length
            expected += datagram
            program.popen.stdin.write(datagram)
            program.popen.stdin.flush()
            program.wait_until(lambda: program.out_path.stat().st_size >= len(expected),
                               f"echo of {length} bytes")
        program.popen.stdin.close()
        assert program.wait(20) == 0, program.describe()
    assert program.out_path.read_bytes() == expected


def test_connect_refused(client, server, free_port):
    port = free_port()
    program = client.run(["socat", "-u", "OPEN:/dev/null", f"TCP4:127.0.0.1:{port}"], status=1)
    assert "Connection refused" in program.stderr


def test_address_in_use(server, client, free_port):
    """A listener on a port that the other side holds already is told so."""
    port = free_port()
    _start(server, port, "tcp", f"TCP4-LISTEN:{port},bind=127.0.0.1", "PIPE")
    second = client.run(["socat", f"TCP4-LISTEN:{port},bind=127.0.0.1", "PIPE"], status=1)
    assert "Address already in use" in second.stderr
