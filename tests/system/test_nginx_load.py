# SPDX-License-Identifier: MIT
"""ab, wrk and h2load against nginx: several workers, sendfile, keep-alive on and off, reload."""

import signal

import pytest

import load
import servers
from harness import children

AB_REQUESTS = 5000
H2_REQUESTS = 20000
RELOADS = 5


@pytest.fixture
def page(small_files):
    return small_files[0]


@pytest.mark.parametrize("keepalive", [True, False], ids=["keepalive", "close"])
def test_ab(server, client, work_dir, files_dir, page, free_port, traffic, keepalive):
    port = free_port()
    servers.nginx(server, work_dir, port, files_dir)
    with traffic(AB_REQUESTS * page.length):
        ab = client.run(["ab", "-q", "-s", "120", *(["-k"] if keepalive else []), "-c", "32",
                         "-n", str(AB_REQUESTS), servers.url(port, page.name)])
    assert load.assert_ab_clean(ab, AB_REQUESTS) >= AB_REQUESTS * page.length


def test_ab_server_closes(server, client, work_dir, files_dir, page, free_port, traffic):
    """The client wants to keep the connection, the server does not."""
    port = free_port()
    servers.nginx(server, work_dir, port, files_dir, keepalive=False)
    with traffic(AB_REQUESTS * page.length, connections=AB_REQUESTS):
        ab = client.run(["ab", "-q", "-s", "120", "-k", "-c", "32", "-n", str(AB_REQUESTS),
                         servers.url(port, page.name)])
    load.assert_ab_clean(ab, AB_REQUESTS)


@pytest.mark.parametrize("keepalive", [True, False], ids=["keepalive", "close"])
def test_wrk(server, client, work_dir, files_dir, page, free_port, traffic, keepalive):
    port = free_port()
    servers.nginx(server, work_dir, port, files_dir, keepalive=keepalive)
    header = [] if keepalive else ["-H", "Connection: close"]
    with traffic() as moved:
        wrk = client.run(["wrk", "-t", "2", "-c", "64", "-d", "2s", "--timeout", "30s", *header,
                          servers.url(port, page.name)])
        moved.payload_len = load.assert_wrk_clean(wrk) * page.length
        moved.connections = 64


@pytest.mark.parametrize("http", ["http1", "http2"])
def test_h2load(server, client, work_dir, files_dir, page, free_port, traffic, http):
    """HTTP/1.1, and many streams on few connections in clear-text HTTP/2."""
    port, http2_port = free_port(), free_port()
    servers.nginx(server, work_dir, port, files_dir, http2_port=http2_port)
    options, target = (["--h1"], port) if http == "http1" else (["-m", "10"], http2_port)
    with traffic(H2_REQUESTS * page.length, connections=16):
        h2load = client.run(["h2load", *options, "-t", "2", "-c", "16", "-n", str(H2_REQUESTS),
                             servers.url(target, page.name)])
    load.assert_h2load_clean(h2load, H2_REQUESTS)


def test_reload_under_load(server, client, work_dir, files_dir, page, free_port, traffic):
    """Workers are replaced again and again while ab makes connections: not one request fails."""
    port = free_port()
    nginx = servers.nginx(server, work_dir, port, files_dir)
    argv = ["ab", "-q", "-s", "120", "-c", "16", "-n", str(AB_REQUESTS), servers.url(port, page.name)]
    with traffic() as moved:
        loads = [client.start(argv)]
        for _ in range(RELOADS):
            if loads[-1].ended():  # one after the other, as many as the reloads take
                loads.append(client.start(argv))
            _reload(nginx)
        for ab in loads:
            assert ab.wait(60) == 0, ab.describe()
            load.assert_ab_clean(ab, AB_REQUESTS)
        moved.payload_len = len(loads) * AB_REQUESTS * page.length
        moved.connections = len(loads) * AB_REQUESTS


def _reload(nginx):
    """HUP, then wait until no worker of before is left."""
    before = children(nginx.pid)
    nginx.send_signal(signal.SIGHUP)
    nginx.wait_until(lambda: len(children(nginx.pid)) == len(before)
                     and not children(nginx.pid) & before, "new workers", seconds=40)


def _begin_download(client, port, file, copy):
    """A curl that takes its time; its first bytes are there."""
    curl = client.start(["curl", "--silent", "--show-error", "--fail", "--limit-rate", "60M",
                         "--output", copy, servers.url(port, file.name)])
    curl.wait_until(copy.exists, "first bytes")
    return curl


def test_reload_with_transfer(server, client, work_dir, files_dir, big_file, free_port, traffic):
    """A transfer that began before a reload is finished by the old worker."""
    port = free_port()
    nginx = servers.nginx(server, work_dir, port, files_dir)
    copy = work_dir / "copy"
    with traffic(big_file.length):
        curl = _begin_download(client, port, big_file, copy)
        before = children(nginx.pid)
        nginx.send_signal(signal.SIGHUP)
        nginx.wait_until(lambda: len(children(nginx.pid) - before) == len(before), "new workers")
        assert curl.wait(60) == 0, curl.describe()
    big_file.assert_equal(copy)


def test_quit_finishes_transfer(server, client, work_dir, files_dir, big_file, free_port, traffic):
    """QUIT: nginx stops listening, ends the running transfer, then itself with status 0."""
    port = free_port()
    nginx = servers.nginx(server, work_dir, port, files_dir)
    copy = work_dir / "copy"
    with traffic(big_file.length):
        curl = _begin_download(client, port, big_file, copy)
        nginx.send_signal(signal.SIGQUIT)
        assert curl.wait(60) == 0, curl.describe()
        assert nginx.wait(20) == 0, nginx.describe()
    big_file.assert_equal(copy)
