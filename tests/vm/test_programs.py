# SPDX-License-Identifier: MIT
"""Unmodified programs in one guest, as client and as server."""

import csv
import io
import json
import re
import time
import urllib.request

import pytest

import harness
import load
import servers
from harness import PYTHON
from world import SYSTEM_PROGRAMS, HERE, UNPUBLISHED, wait_served

REQUESTS = 2000
KEYS = 5000
CONNECTIONS = 1000

NGINX = """daemon off;
user nobody nogroup;
worker_processes 2;
pid /tmp/nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  default_type application/octet-stream;
  client_max_body_size 0;
  keepalive_requests 1000000;
%s
  server { listen 80; root /tmp/www; location /upload/ { root /tmp/www; dav_methods PUT; } }
}
""" % "\n".join(f"  {kind}_temp_path /tmp/nginx-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))


@pytest.fixture
def web(native, world, work_dir, free_port, files_dir, big_file, small_file):
    """nginx of this machine; yields how a guest names its files."""
    port = free_port()
    servers.nginx(native, work_dir, port, files_dir, host=world.here)
    return lambda name: servers.url(port, name, world.host)


@pytest.fixture
def guest_nginx(guest, world, big_file, small_file):
    world.machines["vm1"].sh("mkdir -p /tmp/www/upload /var/lib/nginx; chmod 777 /tmp/www/upload")
    for file in (big_file, small_file):
        world.machines["vm1"].put(f"/tmp/www/{file.name}", file.path.read_bytes())
    world.machines["vm1"].put("/tmp/nginx.conf", NGINX.encode())
    program = guest.start(["nginx", "-e", "stderr", "-p", "/tmp", "-c", "/tmp/nginx.conf"])
    wait_served(program, lambda: urllib.request.urlopen(world.url(80, small_file.name), timeout=5).read())
    return program


def test_clock(guest):
    """A second of the guest is one of this machine, whatever that was busy with when its kernel began."""
    def uptime():
        begin = time.monotonic()
        told = guest.machine.run(["cat", "/proc/uptime"]).stdout
        return begin, float(told.split()[0]), time.monotonic()
    first = uptime()
    guest.machine.sh("sleep 2")
    last = uptime()
    passed = last[1] - first[1]
    assert (last[0] - first[2]) * 0.9 < passed < (last[2] - first[0]) * 1.1, (first, last)


# --- the guest as client ------------------------------------------------------------------------

def in_guest_sha256(guest, path):
    return guest.machine.run(["sha256sum", path]).stdout.split()[0]


def test_curl_downloads(guest, web, big_file):
    guest.run(["curl", "-sSf", "-o", "/tmp/copy", web(big_file.name)])
    assert in_guest_sha256(guest, "/tmp/copy") == big_file.sha256


def test_curl_uploads(guest, web, work_dir, big_file):
    guest.machine.put("/tmp/sent", big_file.path.read_bytes())
    guest.run(["curl", "-sSf", "-T", "/tmp/sent", web("upload/copy")])
    big_file.assert_equal(work_dir / "upload" / "copy")


def test_curl_many_at_once(guest, web, small_file):
    urls = [web(small_file.name)] * 100
    told = guest.run(["curl", "-sSf", "-Z", "--parallel-max", "20", *[word for url in urls for word in ("-o", "/dev/null", url)],
                      "-w", "%{size_download}\n"])
    assert told.stdout.split() == [str(small_file.length)] * 100, told.describe()


def test_wget(guest, web, big_file):
    guest.run(["wget", "-q", "-O", "/tmp/copy", web(big_file.name)])
    assert in_guest_sha256(guest, "/tmp/copy") == big_file.sha256


def test_connection_refused(guest, world, free_port):
    """An address where nobody listens is refused at once, and said so."""
    told = guest.run(["curl", "-sS", servers.url(free_port(), "", world.host)], status=7)
    assert "onnection refused" in told.stderr or "Couldn't connect" in told.stderr, told.describe()


@pytest.mark.canal_only
def test_names_resolve(guest):
    """A guest without a network card resolves what this machine resolves."""
    script = "import socket; print(sorted({a[4][0] for a in socket.getaddrinfo('localhost', 80)}))"
    named = "import socket; print(socket.gethostname())"
    assert "127.0.0.1" in guest.run([PYTHON, "-c", script]).stdout
    assert guest.run([PYTHON, "-c", named]).stdout == "guest\n"


@pytest.mark.canal_only
def test_interfaces(guest, world):
    """Its own address, at an interface that its kernel does not have."""
    found = json.loads(guest.python("interfaces.py").stdout)
    assert ["canal0", world.address("vm1"), "255.255.255.255"] in found["listed"]
    assert ["canal0", world.address("vm1")] in found["configured"]
    assert "127.0.0.1" in {text for _, text, _ in found["listed"]}
    assert found["address"] == world.address("vm1")
    assert found["join"] == "ENODEV"


# --- the guest as server ------------------------------------------------------------------------

def test_nginx_serves_curl(native, guest_nginx, world, work_dir, big_file):
    native.run(["curl", "-sSf", "-o", work_dir / "copy", world.url(80, big_file.name)])
    big_file.assert_equal(work_dir / "copy")


def test_nginx_takes_upload(native, guest, guest_nginx, world, big_file):
    native.run(["curl", "-sSf", "-T", big_file.path, world.url(80, "upload/copy")])
    assert in_guest_sha256(guest, "/tmp/www/upload/copy") == big_file.sha256


@pytest.mark.parametrize("kept", [["-k"], []], ids=["kept", "new"])
def test_nginx_serves_ab(native, guest_nginx, world, small_file, kept):
    told = native.run(["ab", "-q", "-s", "120", *kept, "-n", str(REQUESTS), "-c", "16", world.url(80, small_file.name)], seconds=100)
    assert load.assert_ab_clean(told, REQUESTS) >= REQUESTS * small_file.length


def test_nginx_serves_wrk(native, guest_nginx, world, small_file):
    told = native.run(["wrk", "-t", "1", "-c", "32", "-d", "3s", "--timeout", "20s", world.url(80, small_file.name)])
    load.assert_wrk_clean(told)


@pytest.mark.canal_only
def test_unpublished_is_not_reached(native, guest, world):
    """Nobody listens on this machine for a port that no rule publishes."""
    program = guest.python("epoll_many.py", "server", "0.0.0.0", UNPUBLISHED, 10, start=True)
    program.wait_printed("ready")
    assert not harness.is_bound(UNPUBLISHED, "tcp")
    native.run(["curl", "-sS", servers.url(UNPUBLISHED)], status=7)


def test_guest_reaches_itself(guest):
    """A wildcard listener serves the guest's own loopback, too."""
    program = guest.python("epoll_many.py", "server", "0.0.0.0", UNPUBLISHED, 10, start=True)
    program.wait_printed("ready")
    told = guest.python("epoll_many.py", "client", "127.0.0.1", UNPUBLISHED, 10)
    assert told.stdout == "all equal\n", told.describe()


# --- redis ----------------------------------------------------------------------------------------

def benchmark(side, host, port):
    told = side.run(["redis-benchmark", "-h", host, "-p", str(port), "-c", "20", "-n", str(REQUESTS), "-P", "4",
                     "-d", "64", "-t", "set,get", "--csv"], seconds=100)
    rows = {row["test"]: row for row in csv.DictReader(io.StringIO(told.stdout))}
    assert set(rows) == {"SET", "GET"} and all(float(row["rps"]) > 0 for row in rows.values()), told.describe()


def test_redis_in_guest(native, guest, world, work_dir):
    program = guest.start(["redis-server", "--port", "6379", "--bind", "0.0.0.0", "--protected-mode", "no",
                           "--save", "", "--appendonly", "no", "--dir", "/tmp"])
    program.wait_printed("Ready to accept connections")
    host, port = world.outside(6379)
    benchmark(native, host, port)
    commands = work_dir / "commands"
    commands.write_text("".join(f"SET key:{n} value:{n}\r\n" for n in range(KEYS)))
    with open(commands, "rb") as stdin:
        told = native.run(["redis-cli", "-h", host, "-p", str(port), "--pipe"], stdin=stdin)
    assert f"errors: 0, replies: {KEYS}" in told.stdout, told.describe()


def test_redis_outside(native, guest, world, work_dir, free_port):
    port = free_port()
    server = native.start(["redis-server", "--port", str(port), "--bind", world.here, "--protected-mode", "no",
                           "--save", "", "--appendonly", "no", "--dir", work_dir], cwd=work_dir)
    server.wait_listening(port)
    benchmark(guest, world.host, port)


# --- iperf3 and sockperf --------------------------------------------------------------------------

IPERF = {"tcp": [], "tcp-reverse": ["-R"], "tcp-P4": ["-P", "4"], "udp": ["-u", "-b", "20M"],
         "udp-reverse": ["-u", "-b", "20M", "-R"]}


def iperf3(side, host, port, options):
    told = side.run(["iperf3", "-c", host, "-p", str(port), "-t", "1", "-J", *options], seconds=60)
    report = json.loads(told.stdout)
    assert "error" not in report, told.describe()
    end = report["end"]
    assert end["sum" if "-u" in options else "sum_received"]["bytes"] > 0, told.describe()


@pytest.mark.parametrize("options", IPERF.values(), ids=IPERF.keys())
def test_iperf3_client(native, guest, world, free_port, options):
    port = free_port()
    native.start(["iperf3", "-s", "-B", world.here, "-p", str(port)]).wait_listening(port)
    iperf3(guest, world.host, port, options)


@pytest.mark.parametrize("options", IPERF.values(), ids=IPERF.keys())
def test_iperf3_server(native, guest, world, options):
    guest.start(["iperf3", "-s", "-p", "5201", "--forceflush"]).wait_printed("Server listening")
    iperf3(native, *world.outside(5201), options)


def sockperf(side, host, port, protocol):
    """A second may pass without an answer where others are busy."""
    for _ in range(3):
        told = side.run(["sockperf", "ping-pong", "-i", host, "-p", str(port), "-t", "1", "-m", "64",
                         *(["--tcp"] if protocol == "tcp" else [])], status=None)
        match = re.search(r"\[Valid Duration\] .* ReceivedMessages=(\d+)", told.stdout)
        if match and int(match.group(1)) > 0:
            return
    raise AssertionError(told.describe())


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_sockperf_client(native, guest, world, free_port, protocol):
    port = free_port()
    flags = ["--tcp"] if protocol == "tcp" else []
    native.start(["sockperf", "server", "-i", world.here, "-p", str(port), *flags]).wait_listening(port, protocol)
    sockperf(guest, world.host, port, protocol)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_sockperf_server(native, guest, world, protocol):
    flags = ["--tcp"] if protocol == "tcp" else []
    server = guest.start(["sockperf", "server", "-i", "0.0.0.0", "-p", "11111", *flags])
    host, port = world.outside(11111, protocol=protocol)
    if world.canal:
        server.wait_until(lambda: harness.is_bound(port, protocol), "published port", 30)
    else:
        server.wait_listening(11111, protocol)
    sockperf(native, host, port, protocol)


# --- event loops, forks, datagrams ---------------------------------------------------------------

def test_asyncio_client(native, guest, world, free_port):
    """A hundred streams at once and datagrams, on one event loop at each end."""
    port = free_port()
    server = native.start([PYTHON, SYSTEM_PROGRAMS / "echo_asyncio.py", "server", str(port), world.here])
    server.wait_printed("ready")
    told = guest.python("echo_asyncio.py", "client", port, world.host)
    assert told.stdout == "all equal\n", told.describe()


def test_asyncio_server(native, guest, world):
    program = guest.python("echo_asyncio.py", "server", 7000, "0.0.0.0", start=True)
    program.wait_printed("ready")
    host, port = world.outside(7000)
    told = native.run([PYTHON, SYSTEM_PROGRAMS / "echo_asyncio.py", "client", str(port), host])
    assert told.stdout == "all equal\n", told.describe()


def test_thousand_connections_out(native, guest, world, free_port):
    port = free_port()
    server = native.start([PYTHON, HERE / "programs" / "epoll_many.py", "server", world.here, str(port), str(CONNECTIONS)])
    server.wait_printed("ready")
    told = guest.python("epoll_many.py", "client", world.host, port, CONNECTIONS, seconds=100)
    assert told.stdout == "all equal\n", told.describe()


def test_thousand_connections_in(native, guest, world):
    program = guest.python("epoll_many.py", "server", "0.0.0.0", 7001, CONNECTIONS, start=True)
    program.wait_printed("ready")
    host, port = world.outside(7001)
    told = native.run([PYTHON, HERE / "programs" / "epoll_many.py", "client", host, str(port), str(CONNECTIONS)], seconds=100)
    assert told.stdout == "all equal\n", told.describe()


@pytest.mark.parametrize("kind", ["thread", "fork"])
def test_server_of_threads_and_forks(native, guest, world, kind):
    program = guest.python("echo_threads.py", "server", 7002, kind, "0.0.0.0", start=True)
    program.wait_printed("ready")
    host, port = world.outside(7002)
    told = native.run([PYTHON, SYSTEM_PROGRAMS / "echo_threads.py", "client", str(port), kind, host], seconds=100)
    assert told.stdout == "all equal\n", told.describe()


def test_client_of_threads(native, guest, world, free_port):
    port = free_port()
    server = native.start([PYTHON, SYSTEM_PROGRAMS / "echo_threads.py", "server", str(port), "thread", world.here])
    server.wait_printed("ready")
    told = guest.python("echo_threads.py", "client", port, "thread", world.host, seconds=100)
    assert told.stdout == "all equal\n", told.describe()


def test_descriptor_is_handed_to_static_program(native, guest, world, free_port):
    port = free_port()
    server = native.start([PYTHON, HERE / "programs" / "epoll_many.py", "server", world.here, str(port), "4"])
    server.wait_printed("ready")
    told = guest.python("handed_on.py", world.host, port)
    assert told.stdout == "all equal\n", told.describe()


# --- urgent data, signals -------------------------------------------------------------------------

def test_urgent(native, guest, world, free_port):
    port = free_port()
    native.start([PYTHON, SYSTEM_PROGRAMS / "urgent.py", "60", "write", str(port), world.here]).wait_printed("ready")
    told = guest.python("urgent.py", 60, "read", port, world.host, seconds=100)
    assert told.stdout == "out of line: 60\nin line: 60\nall at once: 60\n", told.describe()


def test_signals(native, guest, world, free_port):
    """SIGIO and SIGURG come from the driver."""
    port = free_port()
    native.start([PYTHON, HERE / "programs" / "signals.py", "server", world.here, str(port)]).wait_printed("ready")
    told = guest.python("signals.py", "client", world.host, port)
    assert told.stdout == "signals came\n", told.describe()


# --- privileges -----------------------------------------------------------------------------------

@pytest.mark.canal_only
def test_user_of_the_group_may(guest, web, small_file):
    told = guest.run(["curl", "-sSf", "-o", "/dev/null", "-w", "%{size_download}", web(small_file.name)], uid=1000)
    assert told.stdout == str(small_file.length), told.describe()


@pytest.mark.canal_only
def test_user_outside_the_group_may_not(guest, web, small_file):
    """/dev/canal is closed to others, who are told so."""
    told = guest.run(["curl", "-sS", web(small_file.name)], uid=1001, status=None)
    assert told.returncode != 0 and "ermission" in told.stderr, told.describe()
