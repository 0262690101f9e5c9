# SPDX-License-Identifier: MIT
"""Apache, a process per connection (prefork) and threads (event), with ab and curl."""

import signal

import pytest

import load
import servers

AB_REQUESTS = 3000

pytestmark = pytest.mark.parametrize("mpm", ["prefork", "event"])


@pytest.mark.parametrize("keepalive", [True, False], ids=["keepalive", "close"])
def test_ab(server, client, work_dir, files_dir, small_files, free_port, traffic, mpm, keepalive):
    page, port = small_files[0], free_port()
    servers.apache(server, work_dir, port, files_dir, mpm)
    with traffic(AB_REQUESTS * page.length):
        ab = client.run(["ab", "-q", "-s", "120", *(["-k"] if keepalive else []), "-c", "16",
                         "-n", str(AB_REQUESTS), servers.url(port, page.name)])
    load.assert_ab_clean(ab, AB_REQUESTS)


@pytest.mark.parametrize("sendfile", [True, False], ids=["sendfile", "mmap"])
def test_curl_downloads_big_file(server, client, work_dir, files_dir, big_file, free_port, traffic,
                                 mpm, sendfile):
    port = free_port()
    servers.apache(server, work_dir, port, files_dir, mpm, sendfile)
    copy = work_dir / "copy"
    with traffic(big_file.length):
        client.run(["curl", "--silent", "--show-error", "--fail", "--output", copy,
                    servers.url(port, big_file.name)])
    big_file.assert_equal(copy)


def test_curl_parallel_transfers(server, client, work_dir, files_dir, small_files, free_port,
                                 traffic, mpm):
    port = free_port()
    servers.apache(server, work_dir, port, files_dir, mpm)
    copies = work_dir / "copies"
    copies.mkdir()
    with traffic(sum(file.length for file in small_files)):
        client.run(["curl", "--silent", "--show-error", "--fail",
                    "--parallel", "--parallel-max", "50", "--parallel-immediate",
                    "--output", f"{copies}/small-#1.bin",
                    servers.url(port, f"small-[1-{len(small_files)}].bin")])
    for file in small_files:
        file.assert_equal(copies / file.name)


def test_graceful_restart_under_load(server, client, work_dir, files_dir, small_files, free_port,
                                     traffic, mpm):
    """USR1 replaces the children while ab makes connections."""
    page, port = small_files[0], free_port()
    apache = servers.apache(server, work_dir, port, files_dir, mpm)
    request_count = 3 * AB_REQUESTS
    with traffic(request_count * page.length, connections=request_count):
        ab = client.start(["ab", "-q", "-s", "120", "-c", "16", "-n", str(request_count),
                           servers.url(port, page.name)])
        apache.send_signal(signal.SIGUSR1)
        apache.wait_until(lambda: "oing graceful restart" in apache.stderr
                          or "raceful restart requested" in apache.stderr, "graceful restart")
        assert ab.wait(60) == 0, ab.describe()
    load.assert_ab_clean(ab, request_count)
