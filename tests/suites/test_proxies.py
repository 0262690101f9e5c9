# SPDX-License-Identifier: MIT
"""Proxies and caches between curl and nginx: what goes through them, what they keep, and TLS that they end."""

import os
import pathlib

import pytest

import load
import servers

AB_REQUESTS = 2000


def squid(side, work_dir, port, backend, certificate):
    config = work_dir / "squid.conf"
    config.write_text("\n".join([
        f"http_port 127.0.0.1:{port}",
        "http_access allow all",
        f"pid_filename {work_dir}/squid.pid",
        f"cache_log {work_dir}/cache.log",
        "access_log none",
        f"coredump_dir {work_dir}",
        "cache_mem 64 MB",
        "netdb_filename none",
        "pinger_enable off",
        "shutdown_lifetime 0 seconds",
        f"unlinkd_program /bin/true"]) + "\n")
    work_dir.chmod(0o777)
    side.start(["squid", "-N", "-f", config], cwd=work_dir).wait_listening(port)
    return ["--proxy", f"http://127.0.0.1:{port}"], f"http://127.0.0.1:{backend}", ["-X", f"127.0.0.1:{port}"]


def tinyproxy(side, work_dir, port, backend, certificate):
    config = work_dir / "tinyproxy.conf"
    config.write_text(f"Port {port}\nListen 127.0.0.1\nMaxClients 100\nTimeout 60\nLogLevel Error\n"
                      f"LogFile \"{work_dir}/tinyproxy.log\"\n")
    side.start(["tinyproxy", "-d", "-c", config]).wait_listening(port)
    return ["--proxy", f"http://127.0.0.1:{port}"], f"http://127.0.0.1:{backend}", ["-X", f"127.0.0.1:{port}"]


def varnish(side, work_dir, port, backend, certificate):
    side.start(["varnishd", "-F", "-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{backend}", "-n", work_dir / "varnish",
                "-s", "default,256m", "-j", "none", "-T", "none"]).wait_listening(port)
    return [], f"http://127.0.0.1:{port}", []


def nghttpx(side, work_dir, port, backend, certificate):
    key, cert = certificate
    side.start(["nghttpx", f"--frontend=127.0.0.1,{port}", f"--backend=127.0.0.1,{backend}", "--workers=2",
                "--errorlog-file=/dev/stderr", "--conf=/dev/null", key, cert]).wait_listening(port)
    return ["--http2", "--cacert", cert], f"https://127.0.0.1:{port}", []


def stunnel(side, work_dir, port, backend, certificate):
    key, cert = certificate
    config = work_dir / "stunnel.conf"
    config.write_text(f"foreground = yes\npid =\nsyslog = no\ncert = {cert}\nkey = {key}\n"
                      f"[web]\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{backend}\n")
    side.start(["stunnel4", config]).wait_listening(port)
    return ["--cacert", cert], f"https://127.0.0.1:{port}", []


PROXIES = [squid, tinyproxy, varnish, nghttpx, stunnel]


@pytest.mark.parametrize("start", PROXIES, ids=lambda start: start.__name__)
def test_proxy(server, client, native, work_dir, files_dir, big_file, small_files, free_port, traffic, certificate, start):
    """The proxy is on the server's side; what it asks is native."""
    backend, port, page = free_port(), free_port(), small_files[0]
    servers.nginx(native, work_dir, backend, files_dir)
    options, url, ab_options = start(server, work_dir, port, backend, certificate)
    curl = ["curl", "--silent", "--show-error", "--fail", *options]
    with traffic(big_file.length):
        client.run([*curl, "--output", work_dir / "copy", f"{url}/{big_file.name}"])
    big_file.assert_equal(work_dir / "copy")
    for turn in range(2):
        with traffic(sum(file.length for file in small_files)):
            client.run([*curl, "--parallel", "--parallel-max", "50", "--output-dir", work_dir, "--remote-name-all",
                        *(f"{url}/{file.name}" for file in small_files)])
        for file in small_files:
            file.assert_equal(work_dir / file.name)
            (work_dir / file.name).unlink()
    with traffic(AB_REQUESTS * page.length):
        told = client.run(["ab", "-q", "-s", "120", "-k", "-c", "16", "-n", str(AB_REQUESTS), *ab_options, f"{url}/{page.name}"])
    load.assert_ab_clean(told, AB_REQUESTS)
