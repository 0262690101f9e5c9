# SPDX-License-Identifier: MIT
"""Web servers of every make: event loops of C, of Python and of Ruby, and what stands behind FastCGI and uwsgi.

Each serves the same directory; curl gets a big file and 200 small ones, 50 at a time, ab asks for one again and again.
ab takes it for an error when a server closes a connection that it is about to use: none is closed for being idle.
"""

import os
import pathlib
import shutil

import pytest

import load
import servers
from harness import HERE, PYTHON

PROGRAMS = HERE.parent / "suites/programs"
AB_REQUESTS = 2000
IDLE_SECONDS = 120


def lighttpd(side, work_dir, port, root):
    config = work_dir / "lighttpd.conf"
    config.write_text("\n".join([
        f'server.document-root = "{root}"',
        'server.bind = "127.0.0.1"',
        f"server.port = {port}",
        f'server.errorlog = "{work_dir}/lighttpd.log"',
        f'server.upload-dirs = ( "{work_dir}" )',
        "server.max-worker = 2",
        f"server.max-keep-alive-idle = {IDLE_SECONDS}",
        "server.max-keep-alive-requests = 1000000"]) + "\n")
    return side.start(["lighttpd", "-D", "-f", config])


def h2o(side, work_dir, port, root):
    config = work_dir / "h2o.conf"
    config.write_text("\n".join([
        "num-threads: 2",
        f"http1-request-timeout: {IDLE_SECONDS}",
        f"listen: {{host: 127.0.0.1, port: {port}}}",
        f"error-log: {work_dir}/h2o.log",
        *(["user: nobody"] if os.geteuid() == 0 else []),
        "hosts:",
        "  default:",
        "    paths:",
        f"      /: {{file.dir: {root}}}"]) + "\n")
    return side.start(["h2o", "-c", config])


def webfsd(side, work_dir, port, root):
    return side.start(["webfsd", "-F", "-i", "127.0.0.1", "-p", str(port), "-r", root])


def uwsgi(side, work_dir, port, root):
    return side.start(["uwsgi_python3", "--http-socket", f"127.0.0.1:{port}", "--wsgi-file", PROGRAMS / "web_wsgi.py",
                       "--processes", "2", "--threads", "4", "--master", "--need-app", "--die-on-term", "--disable-logging", "--listen",
                       "100", "--socket-timeout", str(IDLE_SECONDS)],
                      env={"WEB_ROOT": str(root)}, cwd=work_dir)


def gunicorn(worker):
    def start(side, work_dir, port, root):
        return side.start(["gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--worker-class", worker,
                           "--worker-tmp-dir", work_dir, "--keep-alive", str(IDLE_SECONDS), "--timeout", str(2 * IDLE_SECONDS),
                           "--threads", "4" if worker == "gthread" else "1",
                           "--chdir", PROGRAMS, "web_wsgi:application"],
                          env={"WEB_ROOT": str(root)}, cwd=work_dir)
    start.__name__ = f"gunicorn_{worker}"
    return start


def python(framework):
    def start(side, work_dir, port, root):
        return side.start([PYTHON, PROGRAMS / "web_python.py", framework, str(port), root])
    start.__name__ = framework
    return start


def puma(side, work_dir, port, root):
    config = work_dir / "puma.rb"
    config.write_text(f"persistent_timeout {IDLE_SECONDS}\nfirst_data_timeout {IDLE_SECONDS}\n")
    return side.start(["puma", "-C", config, "-b", f"tcp://127.0.0.1:{port}", "-w", "2", "-t", "4:4", PROGRAMS / "web.ru"],
                      env={"WEB_ROOT": str(root), "HOME": str(work_dir)}, cwd=work_dir)


def webrick(side, work_dir, port, root):
    return side.start(["ruby", "-run", "-e", "httpd", root, "-b", "127.0.0.1", "-p", str(port)], cwd=work_dir)


def php(side, work_dir, port, root):
    return side.start(["php", "-S", f"127.0.0.1:{port}", "-t", root], env={"PHP_CLI_SERVER_WORKERS": "4"})


def erlang(side, work_dir, port, root):
    return side.start(["erl", "-noinput", "-eval",
                       "application:ensure_all_started(inets), {ok, _} = inets:start(httpd, [{port, %d}, "
                       "{bind_address, {127,0,0,1}}, {server_name, \"localhost\"}, {server_root, \"%s\"}, "
                       "{document_root, \"%s\"}, {max_clients, 300}, {max_keep_alive_request, 1000000}])."
                       % (port, work_dir, root)], env={"HOME": str(work_dir)}, cwd=work_dir)


SERVERS = [lighttpd, h2o, webfsd, uwsgi, gunicorn("sync"), gunicorn("gthread"), gunicorn("gevent"), gunicorn("tornado"),
           python("aiohttp"), python("tornado"), python("twisted"), python("gevent"), puma, webrick, php, erlang]


@pytest.mark.parametrize("start", SERVERS, ids=lambda start: start.__name__)
def test_web(server, client, work_dir, files_dir, big_file, small_files, free_port, traffic, start):
    port, page = free_port(), small_files[0]
    start(server, work_dir, port, files_dir).wait_listening(port)
    curl = ["curl", "--silent", "--show-error", "--fail"]
    with traffic(big_file.length):
        client.run([*curl, "--output", work_dir / "copy", servers.url(port, big_file.name)])
    big_file.assert_equal(work_dir / "copy")
    with traffic(sum(file.length for file in small_files)):
        client.run([*curl, "--parallel", "--parallel-max", "50", "--output-dir", work_dir, "--remote-name-all",
                    *(servers.url(port, file.name) for file in small_files)])
    for file in small_files:
        file.assert_equal(work_dir / file.name)
    with traffic(AB_REQUESTS * page.length):
        told = client.run(["ab", "-q", "-s", "120", "-k", "-c", "16", "-n", str(AB_REQUESTS), servers.url(port, page.name)])
    load.assert_ab_clean(told, AB_REQUESTS)
