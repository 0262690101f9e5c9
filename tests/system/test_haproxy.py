# SPDX-License-Identifier: MIT
"""haproxy in front of nginx: client -> haproxy (the middle) -> nginx (the server)."""

import pytest

import load
import servers

AB_REQUESTS = 2000


@pytest.fixture
def ports(server, middle, work_dir, files_dir, free_port):
    """http and tcp: the ports of haproxy's two frontends."""
    backend, http, tcp = free_port(), free_port(), free_port()
    servers.nginx(server, work_dir, backend, files_dir)
    servers.haproxy(middle, work_dir, http, tcp, backend)
    return {"http": http, "tcp": tcp}


@pytest.fixture
def traffic(traffic, middle):
    """The middle receives what the server sends, and sends what the client receives."""
    traffic.canal_ends += 2 * middle.is_canal
    return traffic


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_curl_downloads_big_file(ports, client, work_dir, big_file, traffic, mode):
    copy = work_dir / "copy"
    with traffic(big_file.length):
        client.run(["curl", "--silent", "--show-error", "--fail", "--output", copy,
                    servers.url(ports[mode], big_file.name)])
    big_file.assert_equal(copy)


def test_curl_uploads_big_file(ports, client, work_dir, big_file, traffic):
    with traffic(big_file.length):
        client.run(["curl", "--silent", "--show-error", "--fail", "--upload-file", big_file.path,
                    servers.url(ports["http"], "upload/copy")])
    big_file.assert_equal(work_dir / "upload" / "copy")


@pytest.mark.parametrize("mode", ["http", "tcp"])
@pytest.mark.parametrize("keepalive", [True, False], ids=["keepalive", "close"])
def test_ab(ports, client, small_files, traffic, mode, keepalive):
    page = small_files[0]
    with traffic(AB_REQUESTS * page.length):
        ab = client.run(["ab", "-q", "-s", "120", *(["-k"] if keepalive else []), "-c", "16",
                         "-n", str(AB_REQUESTS), servers.url(ports[mode], page.name)])
    load.assert_ab_clean(ab, AB_REQUESTS)


def test_backend_gone(ports, client, programs, small_files):
    """Without its server haproxy answers 503 at once: the refusal reaches it."""
    nginx = programs.all[0]
    nginx.stop()
    told = client.run(["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}",
                       servers.url(ports["http"], small_files[0].name)])
    assert told.stdout == "503"
