# SPDX-License-Identifier: MIT
"""DNS servers, asked by dig, by dnsperf and through each other."""

import os
import re

import pytest

NAMES = 200
QUERIES = 4000


def zone():
    return "\n".join([
        "$TTL 60", "@ SOA localhost. root.localhost. 1 3600 3600 3600 60", "@ NS localhost.",
        *(f"host{n} A 192.0.2.{n}" for n in range(NAMES)),
        *(f"host{n} AAAA 2001:db8::{n:x}" for n in range(NAMES)),
        *(f"large TXT \"{number} {'x' * 200}\"" for number in range(40))]) + "\n"


def bind9(side, work_dir, port):
    (work_dir / "zone").write_text(zone())
    config = work_dir / "named.conf"
    config.write_text(f"""
        options {{ directory "{work_dir}"; pid-file none; listen-on port {port} {{ 127.0.0.1; }};
                   listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; empty-zones-enable no; session-keyfile "{work_dir}/key"; }};
        controls {{ }};
        zone "." {{ type primary; file "{work_dir}/zone"; }};
        zone "test.invalid" {{ type primary; file "{work_dir}/zone"; }};
        """)
    work_dir.chmod(0o777)
    user = ["-u", "bind"] if os.geteuid() == 0 else []
    program = side.start(["/usr/sbin/named", "-g", "-n", "2", "-c", config, *user], cwd=work_dir)
    program.wait_printed("all zones loaded")  # it listens before it has read its zones
    return program


def unbound(side, work_dir, port):
    config = work_dir / "unbound.conf"
    data = "\n".join(
        [f'local-data: "host{n}.test.invalid. A 192.0.2.{n}"' for n in range(NAMES)]
        + [f'local-data: "host{n}.test.invalid. AAAA 2001:db8::{n:x}"' for n in range(NAMES)]
        + [f"local-data: 'large.test.invalid. TXT \"{number} {'x' * 200}\"'" for number in range(40)])
    config.write_text(f"""
server:
  interface: 127.0.0.1@{port}
  num-threads: 2
  username: "{'unbound' if os.geteuid() == 0 else ''}"
  chroot: ""
  directory: "{work_dir}"
  pidfile: ""
  use-syslog: no
  logfile: ""
  auto-trust-anchor-file: ""
  local-zone: "test.invalid." static
  {data}
remote-control:
  control-enable: no
""")
    return side.start(["unbound", "-d", "-p", "-c", config], cwd=work_dir)


def dnsmasq(side, work_dir, port):
    (work_dir / "hosts").write_text("".join(
        f"192.0.2.{n} host{n}.test.invalid\n2001:db8::{n:x} host{n}.test.invalid\n" for n in range(NAMES)))
    text = ",".join(["large.test.invalid", *(f"{number} {'x' * 200}" for number in range(40))])
    return side.start(["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                       f"--addn-hosts={work_dir}/hosts", f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces",
                       "--pid-file=", "--log-facility=-", "--local=/test.invalid/", f"--txt-record={text}",
                       "--edns-packet-max=4096", *(["--user=nobody"] if os.geteuid() == 0 else [])])


SERVERS = [bind9, unbound, dnsmasq]


@pytest.fixture(params=SERVERS, ids=lambda start: start.__name__)
def port(request, server, work_dir, free_port):
    number = free_port()
    program = request.param(server, work_dir, number)
    program.wait_listening(number)
    program.wait_listening(number, "udp")
    return number


def dig(client, port, *arguments):
    return client.run(["dig", "@127.0.0.1", "-p", str(port), "+tries=1", "+time=60", *arguments]).stdout


def test_dig(server, client, port, traffic):
    """By UDP and by TCP; what is too long for a datagram is asked for again by TCP."""
    with traffic(1000, connections=1):
        for way in ("+notcp", "+tcp"):
            assert dig(client, port, way, "+short", "host7.test.invalid", "A") == "192.0.2.7\n"
            assert dig(client, port, way, "+short", "host7.test.invalid", "AAAA") == "2001:db8::7\n"
            assert "status: NXDOMAIN" in dig(client, port, way, "nobody.test.invalid", "A")
        long = dig(client, port, "+bufsize=1232", "large.test.invalid", "TXT")
    assert "retrying in TCP mode" in long and long.count("x" * 200) == 40, long


def test_dnsperf(request, server, client, work_dir, port, traffic):
    queries = work_dir / "queries"
    queries.write_text("".join(f"host{n % NAMES}.test.invalid {('A', 'AAAA')[n % 2]}\n" for n in range(QUERIES)))
    ways = ["udp"] if "dnsmasq" in request.node.name else ["udp", "tcp"]  # that closes after 100 questions
    for mode in ways:
        with traffic(QUERIES * 50, connections=0):
            told = client.run(["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", queries, "-n", "1", "-c", "10",
                               "-m", mode, "-q", "50", "-t", "60"])
        assert re.search(rf"Queries completed: +{QUERIES} \(100.00%\)", told.stdout), told.describe()
        assert re.search(rf"NOERROR {QUERIES} \(100.00%\)", told.stdout), told.describe()
