# SPDX-License-Identifier: MIT
"""Servers that are exchanged while they serve: no request fails.

nginx executes its new binary with the listeners among its descriptors; haproxy gets them from its
predecessor over a UNIX socket.
"""

import contextlib
import os
import pathlib
import re
import select
import signal

import pytest

import load
import servers
from harness import children

AB_REQUESTS = 6000


@contextlib.contextmanager
def under_load(client, url, traffic, length):
    """ab, with a connection for each request, runs while the block does; none of its requests fails."""
    with traffic(AB_REQUESTS * length, connections=AB_REQUESTS):
        ab = client.start(["ab", "-q", "-s", "120", "-c", "16", "-n", str(AB_REQUESTS), url])
        yield ab
        assert ab.wait(90) == 0, ab.describe()
    load.assert_ab_clean(ab, AB_REQUESTS)


def read_pid(path):
    """What a daemon wrote into its file; 0 while there is none."""
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0


def end_all(*paths):
    """The daemons whose pids these files have, and with them their workers."""
    for path in paths:
        if pid := read_pid(path):
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                select.select([pidfd], [], [], 10)
                os.close(pidfd)


@pytest.mark.seconds(200)
def test_nginx_binary(request, server, client, work_dir, files_dir, small_files, free_port, traffic):
    """To the new binary and, as if that were no good, back to the old one."""
    port, page = free_port(), small_files[0]
    nginx = servers.nginx(server, work_dir, port, files_dir, daemon=True)
    new, old = work_dir / "nginx.pid", work_dir / "nginx.pid.oldbin"
    first = read_pid(new)
    request.addfinalizer(lambda: end_all(new, old))
    old_workers = children(first)
    with under_load(client, servers.url(port, page.name), traffic, page.length):
        os.kill(first, signal.SIGUSR2)
        nginx.wait_until(lambda: read_pid(new) not in (0, first) and read_pid(old) == first, "new master")
        second = read_pid(new)
        nginx.wait_until(lambda: len(children(second)) == 3, "new workers")
        os.kill(first, signal.SIGWINCH)
        nginx.wait_until(lambda: not children(first) & old_workers, "end of the old workers", 40)
    with under_load(client, servers.url(port, page.name), traffic, page.length):
        os.kill(first, signal.SIGHUP)
        nginx.wait_until(lambda: len(children(first) - {str(second)}) == 3, "workers of the old master")
        os.kill(second, signal.SIGQUIT)
        nginx.wait_until(lambda: str(second) not in children(first) and read_pid(new) == first,
                         "end of the new master", 40)


def haproxy_config(work_dir, port, backend):
    path = work_dir / "haproxy.cfg"
    path.write_text("\n".join([
        "global",
        "  maxconn 1000",
        "  hard-stop-after 120s",
        "  log stderr format raw local0 warning",
        f"  stats socket {work_dir}/stats.sock mode 600 level admin expose-fd listeners",
        "defaults",
        "  mode http",
        "  timeout connect 120s",
        "  timeout client 120s",
        "  timeout server 120s",
        "  retries 0",
        "frontend in",
        f"  bind 127.0.0.1:{port}",
        "  default_backend out",
        "backend out",
        f"  server web 127.0.0.1:{backend}"]) + "\n")
    return path


def master_waits(haproxy):
    """haproxy's master executes itself once more when its worker runs, and ignores SIGUSR2 until it is up: what comes
    before is forgotten."""
    environ, status = (pathlib.Path(f"/proc/{haproxy.pid}/{name}") for name in ("environ", "status"))

    def waits():
        if b"HAPROXY_MWORKER_WAIT_ONLY=" not in environ.read_bytes():
            return False
        caught = int(re.search(r"^SigCgt:\s+(\w+)", status.read_text(), re.MULTILINE)[1], 16)
        return caught >> (signal.SIGUSR2 - 1) & 1
    haproxy.wait_until(waits, "master that waits", 30)


@pytest.mark.seconds(200)
def test_haproxy_master(server, client, native, work_dir, files_dir, small_files, free_port, traffic):
    """Master and workers: SIGUSR2 makes the master execute itself; five times."""
    backend, port, page = free_port(), free_port(), small_files[0]
    servers.nginx(native, work_dir, backend, files_dir)
    haproxy = server.start(["haproxy", "-W", "-db", "-f", haproxy_config(work_dir, port, backend)])
    haproxy.crash_is_its_own = not server.is_canal  # a worker of 2.6.12 that ends
    haproxy.wait_listening(port)
    with under_load(client, servers.url(port, page.name), traffic, page.length):
        for number in range(5):
            master_waits(haproxy)
            before = children(haproxy.pid)
            loaded = haproxy.stderr.count("Loading success")
            haproxy.send_signal(signal.SIGUSR2)
            haproxy.wait_until(lambda: haproxy.stderr.count("Loading success") > loaded, "new worker", 30)
            haproxy.wait_until(lambda: children(haproxy.pid) and not children(haproxy.pid) & before,
                               "end of the old worker", 40)


@pytest.mark.seconds(200)
def test_haproxy_x(server, client, native, work_dir, files_dir, small_files, free_port, traffic):
    """-x: a new haproxy asks the old one for its listeners, and tells it to end."""
    backend, port, page = free_port(), free_port(), small_files[0]
    servers.nginx(native, work_dir, backend, files_dir)
    argv = ["haproxy", "-db", "-f", haproxy_config(work_dir, port, backend)]
    haproxy = server.start(argv)
    haproxy.wait_listening(port)
    with under_load(client, servers.url(port, page.name), traffic, page.length):
        for number in range(3):
            new = server.start([*argv, "-x", work_dir / "stats.sock", "-sf", str(haproxy.pid)])
            assert haproxy.wait(40) == 0, haproxy.describe()
            haproxy = new
    assert not re.search("ALERT", haproxy.stderr), haproxy.describe()
