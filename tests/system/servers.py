# SPDX-License-Identifier: MIT
"""Servers of the system tests: their configuration, and when they are ready.

Each function takes the side that the server runs on, starts it in the foreground and returns
once it accepts. Loopback only, non-privileged ports, everything else inside `work_dir`.
"""

import os
import shutil

from harness import PATH, PYTHON

APACHE_MODULES = "/usr/lib/apache2/modules"


def at(host, port):
    """host:port, with the brackets of an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url(port, path="", host="127.0.0.1"):
    return f"http://{at(host, port)}/{path}"


def _lines(*lines):
    return "\n".join(lines) + "\n"


def nginx(side, work_dir, port, root, workers=3, keepalive=True, host="127.0.0.1", http2_port=None, tls=None, daemon=False):
    """nginx with several workers; PUT below /upload/ writes into work_dir/upload.

    `tls` is (port, key, certificate) of HTTPS, HTTP/1.1 and HTTP/2. A `daemon` leaves its
    parent, and only then does nginx exchange its binary: who starts one ends it.
    """
    upload = work_dir / "upload"
    upload.mkdir()
    upload.chmod(0o777)
    as_root = os.geteuid() == 0
    config = work_dir / "nginx.conf"
    temp = [f"  {kind}_temp_path {work_dir}/nginx-{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
    config.write_text(_lines(
        f"daemon {'on' if daemon else 'off'};",
        "user nobody nogroup;" if as_root else "",
        f"worker_processes {workers};",
        "worker_shutdown_timeout 30s;",
        f"pid {work_dir}/nginx.pid;",
        "error_log stderr warn;",
        "events { worker_connections 2048; }",
        "http {",
        "  access_log off;",
        "  sendfile on;",
        "  tcp_nopush on;",
        "  default_type application/octet-stream;",
        "  client_max_body_size 0;",
        f"  keepalive_timeout {60 if keepalive else 0};",
        "  keepalive_requests 1000000;",
        *temp,
        "  server {",
        f"    listen {at(host, port)};",
        f"    listen {at(host, http2_port)} http2;" if http2_port else "",
        *([f"    listen {at(host, tls[0])} ssl http2;", f"    ssl_certificate_key {tls[1]};",
           f"    ssl_certificate {tls[2]};"] if tls else []),
        f"    root {root};",
        f"    location /upload/ {{ root {work_dir}; dav_methods PUT; }}",
        "  }",
        "}"))
    # by its path: that is what it executes when its binary is exchanged
    argv = [shutil.which("nginx", path=PATH), "-e", "stderr", "-p", work_dir, "-c", config]
    program = side.start(["sh", "-c", '"$@" && exec sleep infinity', "sh", *argv] if daemon else argv)
    program.wait_listening(port)
    return program


def apache(side, work_dir, port, root, mpm, sendfile=True):
    """Apache with the given multi-processing module and nothing that it does not need."""
    config = work_dir / "apache.conf"
    limits = {
        "prefork": ["StartServers 64", "MinSpareServers 64", "MaxSpareServers 64",
                    "MaxRequestWorkers 64"],
        # One child must have a thread for every client: else it closes connections that wait for
        # their next request, and ab counts those that were just sending it as failed.
        "event": ["StartServers 2", "ThreadsPerChild 32", "MaxRequestWorkers 128",
                  "MinSpareThreads 32", "MaxSpareThreads 128"],
    }[mpm]
    config.write_text(_lines(
        f"ServerRoot {work_dir}",
        f"DefaultRuntimeDir {work_dir}",
        f"PidFile {work_dir}/apache.pid",
        "ServerName localhost",
        f"Listen 127.0.0.1:{port}",
        f"LoadModule mpm_{mpm}_module {APACHE_MODULES}/mod_mpm_{mpm}.so",
        f"LoadModule authz_core_module {APACHE_MODULES}/mod_authz_core.so",
        "<IfModule unixd_module>",
        "User nobody" if os.geteuid() == 0 else "",
        "Group nogroup" if os.geteuid() == 0 else "",
        "</IfModule>",
        "ErrorLog /dev/stderr",
        "LogLevel warn",
        "KeepAlive On",
        "MaxKeepAliveRequests 0",
        "GracefulShutdownTimeout 20",
        f"EnableSendfile {'On' if sendfile else 'Off'}",
        f"DocumentRoot {root}",
        *limits))
    program = side.start(["apache2", "-DFOREGROUND", "-d", work_dir, "-f", config])
    # A child of the event module that is told to end while its threads start or end may fault.
    program.crashes_at_end = mpm == "event"
    program.wait_listening(port)
    return program


def haproxy(side, work_dir, http_port, tcp_port, backend_port):
    """haproxy with two threads: an HTTP and a TCP (splicing) frontend to one server."""
    config = work_dir / "haproxy.cfg"
    config.write_text(_lines(
        "global",
        "  maxconn 1000",
        "  nbthread 2",
        "  log stderr format raw local0 warning",
        "defaults",
        "  timeout connect 10s",
        "  timeout client 30s",
        "  timeout server 30s",
        "  retries 0",
        "  option splice-auto",
        "frontend http_in",
        "  mode http",
        f"  bind 127.0.0.1:{http_port}",
        "  default_backend http_out",
        "backend http_out",
        "  mode http",
        f"  server web 127.0.0.1:{backend_port}",
        "frontend tcp_in",
        "  mode tcp",
        f"  bind 127.0.0.1:{tcp_port}",
        "  default_backend tcp_out",
        "backend tcp_out",
        "  mode tcp",
        f"  server web 127.0.0.1:{backend_port}"))
    program = side.start(["haproxy", "-db", "-f", config])
    program.wait_listening(http_port)
    program.wait_listening(tcp_port)
    return program


def python_http(side, port, root, host="127.0.0.1"):
    program = side.start([PYTHON, "-m", "http.server", str(port), "--bind", host,
                          "--directory", root, "--protocol", "HTTP/1.1"])
    program.wait_listening(port)
    return program


def redis(side, work_dir, port):
    program = side.start(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                          "--appendonly", "no", "--dir", work_dir], cwd=work_dir)
    program.wait_listening(port)
    return program


def memcached(side, port):
    """memcached with four threads, on TCP and UDP."""
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    program = side.start(["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", str(port),
                          "-t", "4", "-m", "64", *user])
    program.wait_listening(port)
    program.wait_listening(port, "udp")
    return program


def iperf3(side, port):
    program = side.start(["iperf3", "-s", "-B", "127.0.0.1", "-p", str(port), "--forceflush"])
    program.wait_listening(port)
    return program


def iperf3_listens(program, clients):
    """So many clients are over: it closes its listener behind each, and makes another one."""
    program.wait_until(lambda: program.stdout.count("Server listening") > clients, "next listener")


def sockperf(side, feed, multiplexer, port, protocol):
    program = side.start(["sockperf", "server", "-f", feed, "-F", multiplexer])
    program.wait_listening(port, protocol)
    return program
