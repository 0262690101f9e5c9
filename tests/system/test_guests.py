# SPDX-License-Identifier: MIT
"""Guests with addresses of their own (guests.py): ports, names, where they get, datagrams, programs."""

import contextlib
import json
import os
import socket
import subprocess

import pytest

import harness
from guests import ALIAS, config, connect, net, own_address, published  # noqa: F401
from harness import HERE, PYTHON
from oracle import Oracle


# --- its own addresses ------------------------------------------------------------------------------

def interfaces(net, name=None, prefix=()):
    """What programs/interfaces.py finds in a guest, or at the main socket."""
    path = net.work_dir / f"{name}.sock" if name else net.canald.socket
    told = net.programs.run([*prefix, net.bin_dir / "canal-run", "--socket", path, "--", PYTHON, HERE / "programs/interfaces.py"],
                            env=harness.environment(CANAL_FALLBACK="deny"))
    return json.loads(told.stdout)


def test_interfaces_are_the_guests(net):
    """The loopback, and canal0 with the guest's addresses; nothing of the host's."""
    found = interfaces(net, "web1")
    assert {name for name, *_ in found["listed"]} == {"lo", "canal0"}
    assert ["canal0", "10.77.0.2", "255.255.255.255"] in found["listed"]
    assert ["canal0", "fd77::2", ":".join(["ffff"] * 8)] in found["listed"]
    assert found["configured"] == [["lo", "127.0.0.1"], ["canal0", "10.77.0.2"]]
    assert found["needed"] == 2 and found["one"] == 1
    assert (found["address"], found["mask"]) == ("10.77.0.2", "255.255.255.255")
    assert found["flags"] & 1  # IFF_UP
    assert found["lo"] == "127.0.0.1"
    assert found["other"] == found["join"] == "ENODEV"


@pytest.mark.skipif(subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode != 0,
                    reason="makes a network namespace")
def test_other_addresses_of_the_loopback(net):
    """A service address that the host has at lo is the host's as any other."""
    script = 'ip link set lo up && ip address add 192.0.2.7/32 dev lo && ip address add 2001:db8::7/128 dev lo && exec "$@"'
    found = interfaces(net, "web1", ["unshare", "-n", "sh", "-c", script, "sh"])
    assert found["configured"] == [["lo", "127.0.0.1"], ["canal0", "10.77.0.2"]]
    assert {address for _, address, *_ in found["listed"]} <= {"127.0.0.1", "::1", "10.77.0.2", "fd77::2"}


def test_interfaces_of_the_plain_policy(net):
    """Without addresses of its own a program sees what the kernel says."""
    found = interfaces(net)
    assert found["address"] == "ENODEV"
    assert "canal0" not in {name for name, *_ in found["listed"]}


# --- ports ------------------------------------------------------------------------------------------

def test_port_80_three_times(net, published):
    """Each guest has a port 80; each is reached by what it publishes, the unpublished by nobody."""
    guests = {name: net(name) for name in ("web1", "web2", "shut")}
    for name, guest in guests.items():
        guest("l = listener('0.0.0.0', 80)")
        assert guest("l.getsockname()") == ["0.0.0.0", 80]
    for name in ("web1", "web2"):
        with connect(published[name]) as peer:
            guests[name](f"c, who = l.accept(); c.sendall(b'{name}')")
            assert peer.recv(100) == name.encode()
            peer.sendall(b"hello")
            assert guests[name]("c.recv(100)") == "hello"
    assert not harness.is_bound(80, "tcp") or os.geteuid() == 0
    table = net.ports()
    assert table.count("LISTEN") == 3, table


def test_unpublished_is_refused(net, published, free_port):
    """A rule whose port nobody has is refused; so is a published one after its listener closed."""
    guest = net("web1")
    with pytest.raises(ConnectionRefusedError):
        connect(published["web1"])
    guest("l = listener('10.77.0.2', 80)")
    connect(published["web1"]).close()
    guest("l.close()")
    net.canald.wait_status(lambda status: not net.rows("web1", "LISTEN"), "listener is left")
    with pytest.raises(ConnectionRefusedError):
        connect(published["web1"])
    guest("l = listener('127.0.0.1', 80)")  # its own loopback is not published
    with pytest.raises(ConnectionRefusedError):
        connect(published["web1"])
    other = free_port()
    guest(f"l.close(); l = listener('0.0.0.0', {other})")  # nor is another port
    with pytest.raises(ConnectionRefusedError):
        connect(other)


def test_address_in_use_is_told(net):
    """EADDRINUSE is the truth of the guest's own space: neither the host's nor another guest's."""
    first, second, other = net("web1"), net("web1"), net("web2")
    with socket.socket() as host:
        host.bind(("0.0.0.0", 0))
        host.listen()
        port = host.getsockname()[1]
        first(f"l = listener('0.0.0.0', {port})")
        other(f"l = listener('0.0.0.0', {port})")
        assert second.error(f"listener('10.77.0.2', {port})") == "EADDRINUSE"
        assert second.error(f"listener('127.0.0.1', {port})") == "EADDRINUSE"
        assert second.error(f"listener('0.0.0.0', {port}, SO_REUSEADDR=1)") == "EADDRINUSE"
        assert second.error(f"listener('::', {port}, family=socket.AF_INET6)") == "EADDRINUSE"
        second(f"u = udp(); u.bind(('0.0.0.0', {port}))")
        assert first.error(f"udp().bind(('10.77.0.2', {port}))") == "EADDRINUSE"
    first("l.close()")
    second(f"l = listener('0.0.0.0', {port})")


def test_port_may_be_shared(net):
    """SO_REUSEADDR before either listens, SO_REUSEPORT always: as Linux has it."""
    guest = net("web1")
    guest("a = tcp(SO_REUSEADDR=1); a.bind(('0.0.0.0', 700))")
    guest("b = tcp(SO_REUSEADDR=1); b.bind(('0.0.0.0', 700))")
    guest("a.listen()")
    assert guest.error("b.listen()") == "EADDRINUSE"
    guest("c = listener('0.0.0.0', 701, SO_REUSEPORT=1); d = listener('0.0.0.0', 701, SO_REUSEPORT=1)")
    guest("made = [client('10.77.0.2', 701) for i in range(4)]")
    assert guest("len([c.accept() for i in range(2)]) + len([d.accept() for i in range(2)])") == 4


def test_sharers_get_connections_in_turn(net, published):
    """From outside as from inside; with the options of the listener."""
    one, two = net("web1"), net("web1")
    for guest in (one, two):
        guest("l = listener('0.0.0.0', 80, SO_REUSEPORT=1)")
        guest("l.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)")
        guest("l.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)")
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(connect(published["web1"]))
        for guest in (one, two):
            guest("c = [l.accept()[0] for i in range(3)]")
            assert guest("c[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)") == 1
            assert guest("c[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)") == 1
            assert guest("c[0].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)") == 0
            assert guest("l.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)") == 1
    one("l.close()")
    for _ in range(2):
        with connect(published["web1"]):
            two("l.accept()[0].close()")


def test_bind_to_any_port(net):
    guest = net("web1")
    guest("l = listener('0.0.0.0', 0); port = l.getsockname()[1]")
    assert 32768 <= guest("port") <= 60999
    assert guest("l.getsockname()[0]") == "0.0.0.0"
    guest("c = client('127.0.0.1', port); s, who = l.accept(); s.sendall(b'x')")
    assert guest("c.recv(1)") == "x"
    assert guest("c.getpeername() == s.getsockname() and s.getpeername() == c.getsockname() == who")
    guest("many = [listener('0.0.0.0', 0) for i in range(100)]")
    assert guest("len({m.getsockname()[1] for m in many})") == 100


def test_address_of_another(net):
    guest = net("web1")
    for address in ("10.77.0.3", "192.0.2.1", ALIAS):
        assert guest.error(f"tcp().bind(('{address}', 80))") == "EADDRNOTAVAIL"
    assert guest.error("udp(socket.AF_INET6).bind(('2001:db8::1', 80))") == "EADDRNOTAVAIL"
    guest("tcp().bind(('10.77.0.2', 80)); tcp(socket.AF_INET6).bind(('fd77::2', 80))")
    guest("tcp(socket.AF_INET6).bind(('::ffff:10.77.0.2', 80))")
    assert guest.error("s = tcp(); s.bind(('10.77.0.2', 81)); s.bind(('10.77.0.2', 82))") == "EINVAL"


# --- names ------------------------------------------------------------------------------------------

def test_real_client_address(net, published):
    """accept() tells who the client is; the listener's own name is the virtual one."""
    guest = net("web1")
    guest("l = listener('0.0.0.0', 80)")
    with connect(published["web1"]) as peer:
        # the host's loopback has a name in the guest: not 127.0.0.1, which is the guest itself
        assert guest("c, who = l.accept(); 1") is None
        assert guest("who") == [ALIAS, peer.getsockname()[1]]
        assert guest("c.getsockname()") == ["10.77.0.2", 80]
        assert guest("c.getpeername()") == [ALIAS, peer.getsockname()[1]]
    own = own_address()
    if own:
        with connect(published["web1"], own) as peer:
            guest("c, who = l.accept()")
            assert guest("who") == list(peer.getsockname())
            assert guest("c.getsockname()") == ["10.77.0.2", 80]


@pytest.fixture
def borrowed():
    """Adds an address to this machine's loopback, for as long as the test lasts."""
    added = []

    def add(address):
        done = subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], capture_output=True)
        if done.returncode:
            pytest.skip("no right to add an address")
        added.append(address)
    yield add
    for address in added:
        subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True)


@pytest.mark.parametrize("address", ["10.77.0.2", "10.77.0.3", ALIAS, "192.0.0.8"],
                         ids=["the guest", "another", "alias", "stand-in"])
def test_client_with_address_of_a_guest(net, published, borrowed, address):
    """Who really has an address that means something else to the guest does not pass for that."""
    borrowed(address)
    guest = net("web1")
    guest("l = listener('0.0.0.0', 80)")
    with connect(published["web1"], source=address) as peer:
        with contextlib.suppress(ConnectionResetError):
            assert peer.recv(100) == b""
    with connect(published["web1"]):  # the one that guest accepts is the next
        guest("c, who = l.accept()")
        assert guest("who[0]") == ALIAS
    guest("u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('0.0.0.0', 53))")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind((address, 0))
        peer.sendto(b"forged", ("127.0.0.1", published["dns"]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"true", ("127.0.0.1", published["dns"]))
        assert guest("u.recvfrom(100)[0]") == "true"


def test_host_loopback_without_alias(net, published):
    """A client of the host's loopback is never seen as the guest's own, nor can it be called."""
    guest = net("web2")
    guest("l = listener('0.0.0.0', 80)")
    with connect(published["web2"]) as peer:
        guest("c, who = l.accept()")
        assert guest("who") == ["192.0.0.8", peer.getsockname()[1]]
        assert guest("c.getsockname()") == ["10.77.0.3", 80]


@pytest.mark.ipv6
def test_ipv6(net, published):
    """Published on [::1]; a dual listener serves IPv4 as mapped; an IPv4 one is not offered IPv6."""
    guest = net("web1")
    guest("l = listener('::', 81, family=socket.AF_INET6)")
    with connect(published["web6"], "::1") as peer:
        guest("c, who = l.accept()")
        assert guest("c.getsockname()[:2]") == ["fd77::2", 81]
        assert guest("who[1]") == peer.getsockname()[1] and guest("who[0]") == "100::8"
    guest("l = listener('::', 80, family=socket.AF_INET6)")
    with connect(published["web1"]) as peer:
        guest("c, who = l.accept()")
        assert guest("who[:2]") == [f"::ffff:{ALIAS}", peer.getsockname()[1]]
        assert guest("c.getsockname()[:2]") == ["::ffff:10.77.0.2", 80]
    guest("c.close(); l.close(); l = listener('0.0.0.0', 80)")
    with pytest.raises(ConnectionRefusedError):
        connect(published["web1"], "::1")
    other = net("web2")
    guest("l = listener('fd77::2', 90, family=socket.AF_INET6)")
    other("c = client('fd77::2', 90, family=socket.AF_INET6)")
    assert guest("s, who = l.accept(); 1") is None and guest("who[0]") == "fd77::3"


def test_names_of_a_connection_out(net, free_port):
    """getsockname() shows the guest's address and a port of the guest, never the host's."""
    guest = net("web1")
    with socket.socket() as host:
        host.bind(("127.0.0.1", 0))
        host.listen()
        port = host.getsockname()[1]
        guest(f"c = client('{ALIAS}', {port})")
        accepted, _ = host.accept()
        with accepted:
            assert guest("c.getpeername()") == [ALIAS, port]
            address, own_port = guest("c.getsockname()")
            assert address == "10.77.0.2" and 32768 <= own_port <= 60999
            assert guest.error(f"tcp().bind(('10.77.0.2', {own_port}))") == "EADDRINUSE"
            guest("c.sendall(b'out')")
            assert accepted.recv(10) == b"out"
        guest("c.close()")
        guest(f"c = tcp(); c.bind(('10.77.0.2', 4000)); c.connect(('{ALIAS}', {port}))")
        assert guest("c.getsockname()") == ["10.77.0.2", 4000]


# --- where a guest gets -----------------------------------------------------------------------------

@pytest.mark.ipv6
def test_own_loopback(net):
    """127.0.0.1 and ::1 are the guest's own: the host's listeners are not there."""
    guest, same, other = net("web1"), net("web1"), net("web2")
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as host:
            host.bind((address, 0))
            host.listen()
            port = host.getsockname()[1]
            call = f"client('{address}', {port}, family={int(family)})"
            assert guest.error(call) == "ECONNREFUSED"
            if family == socket.AF_INET:
                mapped = f"client('::ffff:127.0.0.1', {port}, family={int(socket.AF_INET6)})"
                assert guest.error(mapped) == "ECONNREFUSED"
                assert guest.error(f"client('0.0.0.0', {port})") == "ECONNREFUSED"
            # two programs of one guest share it, another guest does not
            same(f"l = listener('{address}', {port}, family={int(family)})")
            guest(f"c = {call}")
            same("s, who = l.accept(); s.sendall(b'mine')")
            assert guest("c.recv(10)") == "mine" and same("who[0]") == address
            assert other.error(call) == "ECONNREFUSED"
            same("l.close()")


def test_guest_to_guest(net):
    """By virtual address, in memory; a listener on loopback is not reached from outside."""
    one, two = net("web1"), net("web2")
    before = net.canald.status()["total"]["joined"]
    two("l = listener('0.0.0.0', 80)")
    one("c = client('10.77.0.3', 80)")
    two("s, who = l.accept()")
    assert one("c.getsockname()") == two("list(who)")
    assert two("who[0]") == "10.77.0.2"
    assert two("s.getsockname()") == ["10.77.0.3", 80] == one("c.getpeername()")
    one.start("c.sendall(b'a' * 1000000)")
    two("got = b''\nwhile len(got) < 1000000: got += s.recv(65536)")
    assert two("got == b'a' * 1000000")
    one.finish()
    assert net.canald.status()["total"]["joined"] > before
    assert one.error("client('10.77.0.3', 81)") == "ECONNREFUSED"
    two("k = listener('127.0.0.1', 81)")
    assert one.error("client('10.77.0.3', 81)") == "ECONNREFUSED"
    two("v = listener('::', 82, family=socket.AF_INET6)")
    one("c = client('10.77.0.3', 82)")
    two("s, who = v.accept()")
    assert two("who[0]") == "::ffff:10.77.0.2"


def test_listener_ends_with_connectors(net):
    """Connections that nobody took are reset; the port is free for the next."""
    one, two = net("web1"), net("web2")
    two("l = listener('0.0.0.0', 80)")
    one("c = client('10.77.0.3', 80)")
    two("l.close(); l = listener('0.0.0.0', 80)")
    assert one.error("c.recv(1)") == "ECONNRESET"


def test_host_alias(net):
    """The alias is the host's loopback, for the guest that has one."""
    one, two = net("web1"), net("web2")
    with socket.socket() as host:
        host.bind(("127.0.0.1", 0))
        host.listen()
        port = host.getsockname()[1]
        one(f"c = client('{ALIAS}', {port})")
        host.accept()[0].close()
        assert one("c.recv(1)") == ""
        assert one.error(f"client('{ALIAS}', 1)") == "ECONNREFUSED"
        two(f"s = tcp(); s.settimeout(0.2)")
        how = two.error(f"s.connect(('{ALIAS}', {port}))")  # somewhere outside, if anywhere
        assert how in ("TimeoutError", "ENETUNREACH", "EHOSTUNREACH", "ECONNREFUSED", "EACCES"), how


def test_allow(net):
    """What no rule covers is EACCES, over TCP and UDP; link-local is so without any rule."""
    shut, web2 = net("shut"), net("web2")
    web2("l = listener('0.0.0.0', 80); k = listener('0.0.0.0', 81)")
    shut("c = client('10.77.0.3', 80)")
    assert shut.error("client('10.77.0.3', 81)") == "EACCES"
    assert shut.error("client('192.0.2.1', 80)") == "EACCES"
    assert shut.error("udp().connect(('192.0.2.1', 80))") == "EACCES"
    assert shut.error("client('2001:db8::1', 80, family=socket.AF_INET6)") == "ENETUNREACH"
    shut("u = udp(); u.sendto(b'x', ('192.0.2.1', 53))")
    assert shut.error("u.recv(1)") == "EACCES"
    assert web2.error("client('169.254.169.254', 80)") == "EACCES"
    shut("l = listener('127.0.0.1', 80); c = client('127.0.0.1', 80)")  # its own is always there
    denied = {g["name"]: g["denied"] for g in net.canald.status()["configured"]}
    assert denied["shut"] >= 4 and denied["web2"] == 1


def test_plain_guest_is_as_before(net, published):
    """At the main socket: the host's ports and the host's loopback."""
    plain, web1 = net.plain(), net("web1")
    with socket.socket() as host:
        host.bind(("127.0.0.1", 0))
        host.listen()
        port = host.getsockname()[1]
        plain(f"c = client('127.0.0.1', {port})")
        host.accept()[0].close()
        assert plain.error(f"listener('127.0.0.1', {port})") == "EADDRINUSE"
    plain("l = listener('127.0.0.1', 0)")
    connect(plain("l.getsockname()[1]")).close()
    web1("l = listener('0.0.0.0', 80)")
    plain(f"c = client('127.0.0.1', {published['web1']})")
    web1("s, who = l.accept(); s.sendall(b'through the kernel')")
    assert plain("c.recv(100)") == "through the kernel"


# --- datagrams --------------------------------------------------------------------------------------

def test_datagrams_published(net, published):
    """A published port: the client's address arrives, the answer comes from that port."""
    guest = net("web1")
    guest("u = udp(); u.bind(('0.0.0.0', 53))")
    for source in ("127.0.0.1", own_address()):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.settimeout(10)
            if not source:
                continue
            peer.bind((source, 0))
            peer.sendto(b"question", (source, published["dns"]))
            guest("data, who = u.recvfrom(100)")
            seen = ALIAS if source == "127.0.0.1" else source
            assert guest("who") == [seen, peer.getsockname()[1]]
            guest("u.sendto(b'answer', who)")
            assert peer.recvfrom(100) == (b"answer", (source, published["dns"]))
    assert guest("u.getsockname()") == ["0.0.0.0", 53]


def test_datagrams_out(net):
    """Out of a port that is not published: answers come back, strangers do not."""
    guest = net("web1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.settimeout(10)
        host.bind(("127.0.0.1", 0))
        port = host.getsockname()[1]
        guest(f"u = udp(); u.sendto(b'out', ('{ALIAS}', {port}))")
        data, way_back = host.recvfrom(100)
        assert data == b"out"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"stranger", way_back)
            host.sendto(b"answer", way_back)
            assert guest("u.recvfrom(100)") == ["answer", [ALIAS, port]]
            guest("u.settimeout(0.1)")
            assert guest.error("u.recvfrom(100)") == "TimeoutError"
        guest("c = udp(); c.connect(('%s', %d)); c.send(b'connected')" % (ALIAS, port))
        data, way_back = host.recvfrom(100)
        host.sendto(b"to it", way_back)
        assert guest("c.recv(100)") == "to it"
        assert guest("c.getpeername()") == [ALIAS, port]
        assert guest("c.getsockname()[0]") == "10.77.0.2"


def test_datagrams_guest_to_guest(net):
    one, two = net("web1"), net("web2")
    two("u = udp(); u.bind(('0.0.0.0', 500))")
    one("u = udp(); u.sendto(b'over', ('10.77.0.3', 500))")
    two("data, who = u.recvfrom(100)")
    assert two("data") == "over" and two("who[0]") == "10.77.0.2"
    two("u.sendto(b'back', who)")
    assert one("u.recvfrom(100)") == ["back", ["10.77.0.3", 500]]
    one("c = udp(); c.connect(('10.77.0.3', 501)); c.send(b'nobody')")
    assert one.error("c.recv(1)") == "ECONNREFUSED"
    one("a = udp(); a.bind(('127.0.0.1', 600)); b = udp(); b.sendto(b'me', ('127.0.0.1', 600))")
    one("data, who = a.recvfrom(10)")
    assert one("who[0]") == "127.0.0.1"
    one("s = udp(socket.AF_INET6); s.bind(('::', 700)); b.sendto(b'six', ('10.77.0.2', 700))")
    assert one("s.recvfrom(10)[1][0]") == "::ffff:10.77.0.2"


# --- programs ---------------------------------------------------------------------------------------

CALLS = ["connect", "stream", "dgram", "options", "descriptors", "ready", "epolls", "processes",
         "threads", "names"]


@pytest.mark.parametrize("family", ["4", "6"])
def test_calls_are_as_native(net, bin_dir, work_dir, programs, family):
    """What the conformance programs do on loopback they do on a guest's own loopback, too."""
    for name in CALLS:
        native = Oracle(f"calls_{name} {family}", lambda: programs.run([bin_dir / f"calls_{name}", family]).stdout)
        guest = programs.run([bin_dir / "canal-run", "--socket", work_dir / "web1.sock", "--",
                              bin_dir / f"calls_{name}", family],
                             harness.environment(CANAL_FALLBACK="deny"))
        native.check(guest.stdout)


def test_nginx_in_two_guests(net, work_dir, programs, published, free_port):
    """Both listen at port 80, with workers that share it; each log has the client's own address."""
    for name in ("web1", "web2"):
        directory = work_dir / name
        directory.mkdir(mode=0o755)
        (directory / "page").write_text(f"this is {name}")
        (directory / "nginx.conf").write_text(f"""
            daemon off; worker_processes 2; pid {directory}/nginx.pid; error_log stderr warn;
            {"user nobody nogroup;" if os.geteuid() == 0 else ""}
            events {{ worker_connections 256; }}
            http {{
              client_body_temp_path {directory}/1; proxy_temp_path {directory}/2;
              fastcgi_temp_path {directory}/3; uwsgi_temp_path {directory}/4; scgi_temp_path {directory}/5;
              log_format who "$remote_addr $server_addr $server_port";
              access_log {directory}/access.log who;
              server {{ listen 80 {"reuseport" if name == "web1" else ""}; root {directory}; }}
            }}""")
        server = programs.start([net.bin_dir / "canal-run", "--socket", work_dir / f"{name}.sock", "--",
                                 "nginx", "-e", "stderr", "-p", directory, "-c",
                                 directory / "nginx.conf"],
                                harness.environment(CANAL_FALLBACK="deny"))
        server.wait_until(lambda: net.rows(name, "LISTEN"), "listener")
    for name, seen in (("web1", ALIAS), ("web2", "192.0.0.8")):
        url = f"http://127.0.0.1:{published[name]}/page"
        for _ in range(20):
            reply = programs.run(["curl", "--silent", "--fail", "--noproxy", "*", url])
            assert reply.stdout == f"this is {name}"
        log = (work_dir / name / "access.log").read_text().splitlines()
        assert set(log) == {f"{seen} {'10.77.0.2' if name == 'web1' else '10.77.0.3'} 80"}, log
    inside = programs.run([net.bin_dir / "canal-run", "--socket", work_dir / "web1.sock", "--", "curl",
                           "--silent", "--fail", "--noproxy", "*", "http://10.77.0.3/page"],
                          harness.environment(CANAL_FALLBACK="deny"))
    assert inside.stdout == "this is web2"


def test_killed_guest(net, published):
    """SIGKILL: its ports are free, its connections are over, its published port refuses."""
    guest, peer = net("web1"), net("web2")
    guest("l = listener('0.0.0.0', 80); u = udp(); u.bind(('0.0.0.0', 53))")
    peer("c = client('10.77.0.2', 80)")
    guest("s, who = l.accept()")
    with connect(published["web1"]) as outside:
        guest("o, who = l.accept()")
        guest.program.kill()
        assert peer("c.recv(1)") == ""
        assert outside.recv(1) == b""
    net.canald.wait_status(lambda status: not [row for row in net.rows("web1")
                                               if row["state"] != "CLOSED"], "ports are left")
    with pytest.raises(ConnectionRefusedError):
        connect(published["web1"])
    again = net("web1")
    again("l = listener('0.0.0.0', 80)")
    connect(published["web1"]).close()
