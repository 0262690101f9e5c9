# SPDX-License-Identifier: MIT
"""canald with guests of its own, for who runs it: what it tells, ports that are taken, limits, its unit, its file."""

import json
import shutil
import socket

import pytest

import harness
from guests import Network, config, connect, net, published  # noqa: F401
from harness import HERE, PYTHON


# --- the service ------------------------------------------------------------------------------------

def test_ports_and_status(net, published):
    """canalctl ports: who has what, as what it is published; status: guests by name."""
    guest = net("web1")
    guest("l = listener('0.0.0.0', 80); u = udp(); u.bind(('10.77.0.2', 53))")
    guest("c = client('127.0.0.1', 80)")
    rows = net.rows("web1")
    tcp = [row for row in rows if row["state"] == "LISTEN"]
    assert len(tcp) == 1 and tcp[0]["local"] == "0.0.0.0:80" and tcp[0]["queue"] == 1
    assert tcp[0]["published"] == [f"0.0.0.0:{published['web1']}"]
    assert tcp[0]["pid"] == guest.program.pid
    udp = [row for row in rows if row["proto"] == "udp" and row["state"] == "UNCONN"]
    assert udp[0]["local"] == "10.77.0.2:53"
    assert f"0.0.0.0:{published['dns']}" in udp[0]["published"]
    closed = [row for row in net.rows("web2") if row["state"] == "CLOSED"]
    assert closed[0]["published"] == [f"127.0.0.1:{published['web2']}"]
    status = net.canald.status()
    assert [g["name"] for g in status["guests"]] == ["web1"]
    assert [(g["name"], g["channels"]) for g in status["configured"]] == [
        ("web1", 1), ("web2", 0), ("shut", 0)]
    lines = [line.split()[:3] for line in net.ports().splitlines()[1:]]
    assert ["web1", "udp", "10.77.0.2:53"] in lines
    assert lines == sorted(lines, key=lambda row: (*row[:2], int(row[2].rsplit(":", 1)[1]), row[2]))


def members(value):
    """The names of all members of a JSON value, but for the reasons of `broken`."""
    if isinstance(value, list):
        return set().union(*map(members, value))
    if not isinstance(value, dict):
        return set()
    return set(value).union(*(members(inner) for name, inner in value.items() if name != "broken"))


def test_members_of_manual(net):
    """canalctl(1) names each member of canald's answers."""
    guest = net("web1")
    guest("l = listener('0.0.0.0', 80); u = udp(); u.bind(('10.77.0.2', 53))")
    guest("c = client('127.0.0.1', 80)")
    answers = [net.canald.status(), net.ports("--json")]
    sockets = net.programs.run([net.bin_dir / "canalctl", "-s", net.canald.socket, "sockets", "-j"], status=0)
    manual = (HERE.parents[1] / "docs" / "man" / "canalctl.1").read_text().split(".Ss JSON")[1]
    described = {word for line in manual.splitlines() if line.startswith(".Va ") for word in line[4:].split(" , ")}
    described = {word.rstrip(" ,.") for word in described}
    assert members([*answers, json.loads(sockets.stdout)]) <= described


def test_standard_descriptors_are_closed(bin_dir, work_dir, programs, config):
    """canald's log goes into none of its sockets, and so not to a guest."""
    prefix = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    network = Network(bin_dir, work_dir, programs, config, prefix=prefix)
    assert [network.canald.fds()[str(fd)] for fd in range(3)] == 3 * ["/dev/null"]
    network.canald.stop()


def test_host_port_taken(bin_dir, work_dir, programs, config, published):
    """canald says which rule has no port, and has it as soon as it is free."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", published["web2"]))
        other.listen()
        network = Network(bin_dir, work_dir, programs, config)
        said = network.canald.program.stderr
        assert f"guest=web2: publish = 127.0.0.1:{published['web2']}:80" in said, said
        assert "by another program: free it" in said and "tried again when" in said
        assert network.rows("web2", "TAKEN")
        guest = network("web2")
        guest("for _ in range(50): listener('0.0.0.0', 80).close()")
        guest.end()
        assert network.canald.program.stderr.count("cannot be had") == 1, "a guest fills the log"
    guest = network("web2")
    guest("l = listener('0.0.0.0', 80)")
    connect(published["web2"]).close()
    guest.end()
    network.canald.stop()


def test_port_is_held(net, published):
    """A published port is the rule's, also while nobody in the guest listens."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", published["web1"]))


def test_restart_with_connections_in_time_wait(bin_dir, work_dir, programs, config, published):
    """The ports are had again at once."""
    for _ in range(2):
        network = Network(bin_dir, work_dir, programs, config)
        guest = network("web1")
        guest("l = listener('0.0.0.0', 80)")
        with connect(published["web1"]) as peer:
            guest("c, who = l.accept(); c.close()")  # this side closes first: TIME-WAIT is its own
            assert peer.recv(1) == b""
        guest.end()
        network.canald.stop()
        assert "cannot be had" not in network.canald.program.stderr


def test_limits(bin_dir, work_dir, programs, config):
    """max-channels: one program too many is refused, and told why."""
    network = Network(bin_dir, work_dir, programs, config + "max-channels = 1\nmax-sockets = 64\n")
    guest = network("shut")
    guest("first = tcp()")
    more = programs.start([bin_dir / "canal-run", "--socket", work_dir / "shut.sock", "--", PYTHON,
                           "-c", "import socket; socket.socket()"],
                          harness.environment(CANAL_FALLBACK="deny"))
    assert more.wait(20) != 0 and "max-channels" in more.stderr, more.describe()
    assert guest.error("many = [tcp() for i in range(100)]") == "ENFILE"
    guest.end()
    network.canald.stop()


def test_watchdog(bin_dir, work_dir):
    """A sign of life three times in the time that the service manager gives."""
    path = work_dir / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(20)
        service = harness.Program([bin_dir / "canald", "--config", "/dev/null", "--socket",
                                   work_dir / "dog.sock"], work_dir,
                                  harness.environment(NOTIFY_SOCKET=str(path), WATCHDOG_USEC="300000"),
                                  "watched")
        try:
            signs = 0
            while signs < 5:
                signs += b"WATCHDOG=1" in notify.recv(4096).splitlines()
        finally:
            service.stop()
    assert service.returncode == 0, service.describe()


def test_unit_is_valid(bin_dir, work_dir, programs):
    """systemd has nothing to say about the unit, but that canald is not installed here."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze: install systemd")
    unit = (HERE.parents[1] / "host/systemd/canald.service").read_text()
    assert "ExecStart=canald " in unit
    path = work_dir / "canald.service"
    path.write_text(unit.replace("ExecStart=canald ", f"ExecStart={bin_dir}/canald "))
    check = programs.run(["systemd-analyze", "verify", "--man=no", path])
    # Units of other packages are looked at, too: what is wrong with them is not ours.
    ours = [line for line in (check.stdout + check.stderr).splitlines() if not line.startswith("/lib/systemd/")]
    assert not ours, check.describe()


# --- the configuration file -------------------------------------------------------------------------

WHOLE = "[guest a]\nsocket = /s/a\naddress = 10.77.0.2\n"
OTHER = "[guest b]\nsocket = /s/b\naddress = 10.77.0.3\n"


@pytest.mark.parametrize("text, line, told", [
    ("[guest a]\naddress = 10.77.0.2\n", 1, "no socket"),
    ("[guest a]\nsocket = /s/a\n", 1, "no address"),
    ("[guest a b/c]\n", 1, "expected a name"),
    ("[guest]\nsocket = /s\n", 1, "expected a name"),
    (WHOLE + "transport = tcp\n", 4, "expected local or vm"),
    (WHOLE + "transport = vm\n", 1, "without memory"),
    (WHOLE + "memory = /dev/shm/a\n", 1, "transport = vm"),
    (WHOLE + "address = 10.77.0.9\n", 4, "twice"),
    ("[guest a]\nsocket = /s/a\naddress = 127.0.0.1\n", 3, "an IPv4 address of one machine"),
    (WHOLE + "address6 = 10.77.0.2\n", 4, "an IPv6 address"),
    (WHOLE + "publish = 80\n", 4, "expected [ADDRESS:]PORT:PORT[/udp]"),
    (WHOLE + "publish = 80:80/sctp\n", 4, "expected [ADDRESS:]PORT:PORT[/udp]"),
    (WHOLE + "publish = ::1:80:80\n", 4, "expected [ADDRESS:]PORT:PORT[/udp]"),
    (WHOLE + "publish = 0:80\n", 4, "expected [ADDRESS:]PORT:PORT[/udp]"),
    (WHOLE + "allow = 10.0.0.0/33\n", 4, "expected ADDRESS[/BITS][:PORT]"),
    (WHOLE + "allow = example.org\n", 4, "expected ADDRESS[/BITS][:PORT]"),
    (WHOLE + "allow = ::ffff:10.0.0.0/104\n", 4, "expected ADDRESS[/BITS][:PORT]"),
    (WHOLE + "publish = [::ffff:127.0.0.1]:80:80\n", 4, "expected [ADDRESS:]PORT:PORT[/udp]"),
    (WHOLE + "address6 = 100::8\n", 4, "an IPv6 address of one machine"),
    (WHOLE + "publish = 80:80\n  publish = 81\n", 5, "publish = 81: expected [ADDRESS:]PORT:PORT"),
    (WHOLE + "host-alias = 0.0.0.0\n", 4, "an address of one machine"),
    (WHOLE + "max-sockets = 1\n", 4, "from 64 to 32768"),
    (WHOLE + "channel-memory = 1\n", 4, "from 2M"),
    (WHOLE + "publich = 80:80\n", 4, "did you mean 'publish'"),
    (WHOLE + WHOLE.replace("/s/a", "/s/c").replace("0.2", "0.9"), 4, "already, in line 1"),
    (WHOLE + OTHER.replace("/s/b", "/s/a"), 4, "that of guest a (line 1)"),
    (WHOLE + OTHER.replace("0.3", "0.2"), 4, "the address of another guest"),
    (WHOLE + OTHER + "host-alias = 10.77.0.2\n", 4, "host-alias is the address of guest a"),
    (WHOLE + "publish = 8080:80\n" + OTHER + "publish = 127.0.0.1:8080:80\n", 8,
     "guest a publishes that port already, by 8080:80 in line 4"),
    (WHOLE + "publish = 8080:80\npublish = 8080:81\n", 5, "already, by 8080:80 in line 4"),
    ("[canald]\nsocket = /s/a\n" + WHOLE, 3, "the socket of [canald]"),
    ("[gast a]\nsocket = /s\n", 1, "expected [canald] or [guest NAME]"),
    ("[canald x]\npoll = never\n", 1, "expected [canald] or [guest NAME]"),
    ("[nothing]\n", 1, "expected [canald] or [guest NAME]"),
    ("poll = never\n", 1, "no section"),
    ("[canald]\npoll = never\npoll = always\n", 3, "twice: expected once, and line 2 has it"),
    ("[canald]\n[canald]\n", 2, "already, in line 1"),
    ("[canald] poll = never\n", 1, "expected [section] or key = value"),
    ("[canald]\nnonsense\npoll: never\n", 3, "expected [section] or key = value"),
    ("[canald]\npoll = " + 2000 * "x" + "\npoll = often\n", 3, "expected always, adaptive or never"),
    ("[canald]\npoll = " + 2000 * "x" + "\n", 2, "longer than 1023 bytes"),
    ("[canald]\npoll = never\0\n", 2, "a control character"),
    ("[canald]\npoll = \033[2J\n", 2, "a control character"),
    ("[canald]\ncpu = 0,0\n", 2, "each once"),
    (WHOLE + "publish = 65536:80\n", 4, "from 1 to 65535"),
    (WHOLE + "publish = 8000-8010:80\n", 4, "expected [ADDRESS:]PORT:PORT[/udp]"),
    (WHOLE + "".join(f"publish = {port}:80\n" for port in range(1, 102)), 104, "at most 100 times"),
    ("[guest a]\nsocket = /s/a\naddress = 169.254.7.7\n", 3, "not link-local"),
    (WHOLE + "host-alias = fe80::1\n", 4, "not link-local"),
])
def test_configuration_fault(bin_dir, work_dir, programs, text, line, told):
    """Named by file, line and what was expected; canald does not start with it."""
    path = work_dir / "bad.conf"
    path.write_text(text)
    check = programs.run([bin_dir / "canald", "--check", path], status=1)
    found = [one for one in check.stdout.splitlines() if one.startswith(f"{path}:{line}: ")]
    assert any(told in one for one in found), check.describe()
    start = programs.run([bin_dir / "canald", "--config", path, "--socket", work_dir / "x.sock"],
                         status=1)
    assert told in start.stderr, start.describe()


def test_configuration_is_good(bin_dir, work_dir, programs):
    path = work_dir / "good.conf"
    path.write_text("[canald]\nmax-sockets = 100\n" + WHOLE + """\
publish = 8080:80   ; all addresses
  publish = 8082:82
	publish = 8083:83 ; indented
publish = 127.0.0.1:8443:443/tcp
publish = [::1]:8443:443
publish = 8080:80/udp
host-alias = 10.77.0.1
host-alias = fd77::1
allow = 0.0.0.0/0
allow = 192.0.2.7:443
allow = 10.0.0.0/8:53
allow = 2001:db8::/32
allow = [2001:db8::1]:443
allow = [fd00::]/8:53
channel-memory = 64M
pin-memory = 16M
[guest machine]
transport = vm
socket = /run/canal/machine.sock
socket-mode = 0660
memory = /dev/shm/machine.ram
address6 = fd77::9
""")
    check = programs.run([bin_dir / "canald", "--check", path], status=0)
    assert check.stdout == f"{path}: ok\n"
