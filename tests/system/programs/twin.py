# SPDX-License-Identifier: MIT
"""twin.py CASE HOST PORT: loopback as a guest has it whose loopback is not canald's (guest/twin.c).

An echo server is at HOST:PORT, an address of canald's network. Ends with 0 when all is as it should.
"""

import asyncio
import ctypes
import errno
import os
import select
import signal
import socket
import sys
import threading
import time

HOST, PORT = sys.argv[2], int(sys.argv[3])
LIBCANAL = ctypes.CDLL(None)
SECONDS = 60
MOMENT = 0.2


def canal(s):
    """Is this socket canal's, and not the kernel's?"""
    return bool(LIBCANAL.canal_is_socket(s.fileno()))


def listener(address="", family=socket.AF_INET):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, 0))
    s.listen(5)
    return s, s.getsockname()[1]


def datagrams(address=None, family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if address is not None:
        s.bind((address, 0))
    return s, s.getsockname()[1]


def soon(function):
    def later():
        time.sleep(MOMENT)
        function()
    thread = threading.Thread(target=later)
    thread.start()
    return thread


def expect(error, function, *args):
    try:
        function(*args)
    except OSError as e:
        assert isinstance(e, TimeoutError) if error is TimeoutError else e.errno == error, e
    else:
        raise AssertionError(f"no error, {error} was expected")


def loopback_connect():
    """In place: number, options, modes and duplicates stay."""
    server, port = listener("127.0.0.1")
    assert not canal(server)
    c = socket.socket()
    assert canal(c)
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100000)
    c.settimeout(SECONDS)
    fd, twice = c.fileno(), os.dup(c.fileno())
    c.connect(("127.0.0.1", port))
    assert not canal(c) and c.fileno() == fd and not os.get_inheritable(fd)
    assert os.fstat(twice).st_ino == os.fstat(fd).st_ino
    assert c.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert c.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 200000
    accepted, _ = server.accept()
    c.sendall(b"hi")
    assert accepted.recv(9) == b"hi"


def refused():
    """A connect() that fails leaves the socket canal's."""
    c = socket.socket()
    expect(errno.ECONNREFUSED, c.connect, ("127.0.0.1", 1))
    assert canal(c)
    c.connect((HOST, PORT))


def serve_once(server, port, to):
    c = socket.create_connection((to, port))
    assert not canal(c)
    accepted, peer = server.accept()
    assert not canal(accepted) and peer[1] == c.getsockname()[1]
    accepted.sendall(b"x")
    assert c.recv(1) == b"x"
    return peer[0]


def wildcard():
    server, port = listener()
    assert canal(server) and port
    assert serve_once(server, port, "127.0.0.1") == "127.0.0.1"
    assert serve_once(server, port, "0.0.0.0") == "127.0.0.1"


def wildcard6():
    server, port = listener("::", socket.AF_INET6)
    assert serve_once(server, port, "::1") == "::1"
    assert serve_once(server, port, "127.0.0.1") == "::ffff:127.0.0.1"


def wildcard_both_ways():
    """One listener: connections of canal and of the guest's own loopback."""
    server, port = listener()
    c = socket.create_connection((HOST, port))
    assert canal(c)
    accepted, _ = server.accept()
    assert canal(accepted)
    assert serve_once(server, port, "127.0.0.1")


def blocked_accept():
    server, port = listener()
    thread = soon(lambda: socket.create_connection(("127.0.0.1", port)))
    server.accept()
    thread.join()
    server.settimeout(MOMENT)
    expect(TimeoutError, server.accept)
    server.setblocking(False)
    expect(errno.EAGAIN, server.accept)


def signal_in_accept():
    server, port = listener()
    caught = []
    signal.signal(signal.SIGUSR1, lambda *args: caught.append(1))
    thread = soon(lambda: (os.kill(os.getpid(), signal.SIGUSR1), time.sleep(MOMENT),
                           socket.create_connection(("127.0.0.1", port))))
    server.accept()
    thread.join()
    assert caught


def readiness():
    """poll, select and epoll see a twin; also one that came after epoll_ctl()."""
    server = socket.socket()
    server.bind(("", 0))
    epoll = select.epoll()
    epoll.register(server.fileno(), select.EPOLLIN)
    server.listen(5)
    port = server.getsockname()[1]
    poll = select.poll()
    poll.register(server.fileno(), select.POLLIN)
    waits = [lambda ms: poll.poll(ms), lambda ms: epoll.poll(ms / 1000),
             lambda ms: select.select([server], [], [], ms / 1000)[0]]
    for wait in waits:
        assert not wait(0) and not wait(50)
        kept = socket.create_connection(("127.0.0.1", port))
        assert len(wait(SECONDS * 1000)) == 1 and len(wait(0)) == 1
        server.accept()
        assert not wait(0)
        thread = soon(lambda: socket.create_connection(("127.0.0.1", port)))
        assert wait(SECONDS * 1000)
        thread.join()
        server.accept()
        kept.close()
    epoll.unregister(server.fileno())
    kept = socket.create_connection(("127.0.0.1", port))
    assert not epoll.poll(.05)


def child(function):
    pid = os.fork()
    if pid == 0:
        function()
        os._exit(0)
    return pid


def epoll_and_fork():
    """A child that closes leaves its parent's epoll alone; a parent that closes hears no more."""
    server, port = listener()
    epoll = select.epoll()
    epoll.register(server.fileno(), select.EPOLLIN)
    os.waitpid(child(server.close), 0)
    kept = socket.create_connection(("127.0.0.1", port))
    assert epoll.poll(SECONDS)
    server.accept()
    pid = child(lambda: time.sleep(SECONDS))
    server.close()
    try:
        kept = socket.create_connection(("127.0.0.1", port))
        assert not epoll.poll(.1)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def forked_server():
    server, port = listener()
    pids = [child(lambda: server.accept()[0].sendall(b"%d" % os.getpid())) for _ in range(2)]
    server.close()
    got = {int(socket.create_connection(("127.0.0.1", port)).recv(99)) for _ in range(2)}
    for pid in pids:
        os.waitpid(pid, 0)
    assert got == set(pids)
    expect(errno.ECONNREFUSED, socket.create_connection, ("127.0.0.1", port))


def in_use():
    server, port = listener("127.0.0.1")
    second = socket.socket()

    def take(address):
        second.bind((address, port))
        second.listen(1)
    expect(errno.EADDRINUSE, take, "")
    second.close()
    server.close()
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("", port))
    server.listen(1)
    second = socket.socket()
    expect(errno.EADDRINUSE, take, "127.0.0.1")


def udp():
    server, port = datagrams("")
    client, _ = datagrams()
    client.sendto(b"q", ("127.0.0.1", port))
    assert canal(client) and client.getsockname()[1]
    data, address = server.recvfrom(9)
    assert data == b"q" and address[1] == client.getsockname()[1]
    server.sendto(b"answer", address)
    assert client.recvfrom(99) == (b"answer", ("127.0.0.1", port))
    connected, _ = datagrams()
    connected.connect(("127.0.0.1", port))
    assert not canal(connected)
    connected.send(b"r")
    assert server.recvfrom(9) == (b"r", connected.getsockname())
    server.settimeout(MOMENT)
    expect(TimeoutError, server.recv, 1)
    poll, epoll = select.poll(), select.epoll()
    poll.register(server, select.POLLIN)
    epoll.register(client.fileno(), select.EPOLLIN | select.EPOLLET)
    assert not poll.poll(50) and not epoll.poll(.05)
    connected.send(b"s")
    assert poll.poll(SECONDS * 1000) and server.recv(3) == b"s"
    server.sendto(b"t", address)
    assert epoll.poll(SECONDS) and client.recv(3) == b"t"


def udp6():
    server, port = datagrams("::", socket.AF_INET6)
    client, _ = datagrams(family=socket.AF_INET6)
    for to in "::1", "::ffff:127.0.0.1":
        client.sendto(b"q", (to, port))
        data, address = server.recvfrom(9)
        assert data == b"q" and address[0] == to
        server.sendto(b"p", address)
        data, address = client.recvfrom(9)
        assert data == b"p" and address[:2] == (to, port)


def with_asyncio():
    async def serve(reader, writer):
        writer.write(await reader.read(10))
        await writer.drain()
        writer.close()

    async def ask(port, text):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(text)
        writer.write_eof()
        assert await reader.read() == text
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, host="", port=0, family=socket.AF_INET)
        port = server.sockets[0].getsockname()[1]
        await asyncio.gather(*(ask(port, b"m%03d" % i) for i in range(50)))
        server.close()
    asyncio.run(main())


def epoll_before_connect():
    """What was a member before it became the kernel's is one afterwards."""
    server, port = listener("127.0.0.1")
    c = socket.socket()
    c.setblocking(False)
    epoll = select.epoll()
    epoll.register(c.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
    epoll.poll(0)
    assert c.connect_ex(("127.0.0.1", port)) in (0, errno.EINPROGRESS)
    assert epoll.poll(SECONDS)[0][0] == c.fileno()
    accepted, _ = server.accept()
    accepted.send(b"x")
    assert epoll.poll(SECONDS)[0][1] & select.EPOLLIN


def outside():
    c = socket.create_connection((HOST, PORT))
    assert canal(c)
    c.sendall(b"hello")
    assert c.recv(99) == b"hello"


def names():
    assert socket.getaddrinfo("localhost", 80, socket.AF_INET)[0][4] == ("127.0.0.1", 80)
    assert socket.getaddrinfo("localhost", 80, socket.AF_INET6)[0][4][0] == "::1"
    assert set(socket.gethostbyname_ex("localhost")[2]) == {"127.0.0.1"}
    LIBCANAL.gethostbyname.restype = ctypes.c_void_p
    assert LIBCANAL.gethostbyname(b"localhost")
    assert not LIBCANAL.gethostbyname(b"no-such-host.invalid")


if __name__ == "__main__":
    signal.alarm(SECONDS)
    globals()[sys.argv[1]]()
