# SPDX-License-Identifier: MIT
"""Under another preloaded library: one that sends all traffic by SOCKS, another clock, another malloc."""

import pytest

import servers
from harness import HERE, PYTHON

PROGRAMS = HERE.parent / "suites/programs"
NOWHERE = "192.0.2.1"  # for documentation: only the proxy knows a way


def faketime(work_dir, port):
    return ["faketime", "-f", "+1d"]


def proxychains(work_dir, port):
    config = work_dir / "proxychains.conf"
    config.write_text(f"strict_chain\ntcp_connect_time_out 120000\ntcp_read_time_out 120000\n[ProxyList]\nsocks5 127.0.0.1 {port}\n")
    return ["proxychains4", "-q", "-f", config]


@pytest.mark.parametrize("shim", [faketime, proxychains], ids=lambda shim: shim.__name__)
def test_shim(server, client, work_dir, files_dir, big_file, free_port, traffic, shim):
    port, proxy = free_port(), free_port()
    servers.nginx(server, work_dir, port, files_dir)
    server.start([PYTHON, PROGRAMS / "socks.py", str(proxy)]).wait_listening(proxy)
    host = NOWHERE if shim is proxychains else "127.0.0.1"
    with traffic(big_file.length):
        client.run([*shim(work_dir, proxy), "curl", "--silent", "--show-error", "--fail", "--output", work_dir / "copy",
                    servers.url(port, big_file.name, host)])
    big_file.assert_equal(work_dir / "copy")


def test_malloc(server, client, work_dir, files_dir, big_file, free_port, traffic):
    port = free_port()
    servers.nginx(server, work_dir, port, files_dir)
    with traffic(big_file.length):
        client.run(["curl", "--silent", "--show-error", "--fail", "--output", work_dir / "copy", servers.url(port, big_file.name)],
                   env={"LD_PRELOAD": "libjemalloc.so.2"})
    big_file.assert_equal(work_dir / "copy")
