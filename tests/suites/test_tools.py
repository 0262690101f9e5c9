# SPDX-License-Identifier: MIT
"""Tools that people take for a network in a line: netcats, super-servers, telnet, loads, downloads in pieces."""

import os
import re

import pytest

import servers

ECHO_LEN = 1 << 20
NETCATS = {"ncat": ("ncat", "--send-only", "--recv-only"), "openbsd": ("nc.openbsd", "-N", "-d")}


@pytest.mark.parametrize("way", ["in", "out"])
@pytest.mark.parametrize("name", NETCATS)
def test_netcat(server, client, big_file, free_port, traffic, name, way):
    """A file to a netcat that listens, or from it."""
    port, (argv, *options) = free_port(), NETCATS[name]
    out = way == "out"
    with traffic(big_file.length), open(big_file.path, "rb") as stdin:
        listener = server.start([argv, "-l", options[not out], "127.0.0.1", str(port)], **({"stdin": stdin} if out else {}))
        listener.wait_listening(port)
        other = client.start([argv, options[out], "127.0.0.1", str(port)], **({} if out else {"stdin": stdin}))
        assert listener.wait(30) == 0 and other.wait(30) == 0, listener.describe() + other.describe()
    big_file.assert_equal(other.out_path if out else listener.out_path)


def xinetd(side, work_dir, port):
    config = work_dir / "xinetd.conf"
    config.write_text(f"""
service echo-here
{{
    type = UNLISTED
    socket_type = stream
    protocol = tcp
    bind = 127.0.0.1
    port = {port}
    wait = no
    user = {'nobody' if os.geteuid() == 0 else os.getlogin()}
    server = /bin/cat
    instances = UNLIMITED
    cps = 10000 1
    per_source = UNLIMITED
}}
""")
    return side.start(["xinetd", "-dontfork", "-f", config, "-pidfile", work_dir / "pid", "-filelog", work_dir / "log"])


def tcpserver(side, work_dir, port):
    return side.start(["tcpserver", "-v", "-R", "-H", "-l", "0", "-c", "100", "127.0.0.1", str(port), "/bin/cat"])


@pytest.mark.parametrize("start", [xinetd, tcpserver], ids=lambda start: start.__name__)
def test_inetd(server, client, work_dir, free_port, traffic, start):
    """A program for each connection, which is its standard input and output; 20 at once."""
    port = free_port()
    start(server, work_dir, port).wait_listening(port)
    question = work_dir / "question"
    question.write_text("".join(f"{n:015}\n" for n in range(ECHO_LEN // 16)))
    argv = ["socat", "-t", "120", "-", f"TCP4:127.0.0.1:{port}"]
    with traffic(20 * 2 * ECHO_LEN, connections=20):
        clients = []
        for _ in range(20):
            with open(question, "rb") as stdin:
                clients.append(client.start(argv, stdin=stdin))
        for one in clients:
            assert one.wait(60) == 0, one.describe()
            assert one.out_path.read_bytes() == question.read_bytes()


def test_ncat_broker(server, client, free_port, work_dir, traffic):
    """What one says, all others hear."""
    port = free_port()
    broker = server.start(["ncat", "-v", "-l", "--broker", "127.0.0.1", str(port)])
    broker.wait_listening(port)
    with traffic(1000, connections=6):
        hearers = [client.start(["ncat", "--recv-only", "127.0.0.1", str(port)]) for _ in range(5)]
        broker.wait_until(lambda: broker.stderr.count("Connection from 127.0.0.1:") == len(hearers), "hearers")
        (work_dir / "said").write_text("x" * 100_000 + "end\n")
        with open(work_dir / "said", "rb") as stdin:
            client.run(["ncat", "--send-only", "127.0.0.1", str(port)], stdin=stdin)
        for hearer in hearers:
            hearer.wait_printed("end\n")
            assert hearer.stdout == (work_dir / "said").read_text()


@pytest.mark.parametrize("way", ["tcp", "both", "udp"])
def test_iperf2(server, client, free_port, traffic, way):
    port = str(free_port())
    udp = ["-u"] if way == "udp" else []
    server.start(["iperf", "-s", "-B", "127.0.0.1", "-p", port, *udp]).wait_listening(int(port), "udp" if udp else "tcp")
    options = {"tcp": ["-n", "200M", "-P", "4"], "both": ["-t", "1", "--full-duplex"], "udp": ["-t", "1", "-b", "100M", "-l", "1400"]}
    with traffic(5 << 20, connections=0):
        told = client.run(["iperf", "-c", "127.0.0.1", "-p", port, *udp, *options[way]])
        if "did not receive ack" in told.stderr:  # it waits 2.5 seconds for the server to look: that may be busy longer, once
            told = client.run(["iperf", "-c", "127.0.0.1", "-p", port, *udp, *options[way]])
    assert re.search("Bytes.*bits/sec", told.stdout) and not re.search("fail|error:|WARN", told.stdout + told.stderr), told.describe()


def test_aria2(server, client, work_dir, files_dir, big_file, small_files, free_port, traffic):
    """16 pieces of one file at once, and a list of files."""
    port = free_port()
    servers.nginx(server, work_dir, port, files_dir)
    aria = ["aria2c", "--no-conf", "--quiet", "--dir", work_dir / "down", "--file-allocation=none", "--summary-interval=0"]
    with traffic(big_file.length, connections=8):
        client.run([*aria, "--split=16", "--max-connection-per-server=16", "--min-split-size=1M", servers.url(port, big_file.name)])
    big_file.assert_equal(work_dir / "down" / big_file.name)
    urls = work_dir / "urls"
    urls.write_text("".join(f"{servers.url(port, file.name)}\n" for file in small_files))
    with traffic(sum(file.length for file in small_files)):
        client.run([*aria, "--max-concurrent-downloads=20", "--input-file", urls])
    for file in small_files:
        file.assert_equal(work_dir / "down" / file.name)
