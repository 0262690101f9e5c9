# SPDX-License-Identifier: MIT
"""iperf3 (streams both ways, UDP, zero copy) and sockperf (ping-pong, every multiplexer)."""

import json
import re

import pytest

import servers

IPERF = {
    "tcp": [],
    "tcp-reverse": ["-R"],
    "tcp-bidir": ["--bidir"],
    "tcp-P4": ["-P", "4"],
    "tcp-P4-reverse": ["-P", "4", "-R"],
    "tcp-small": ["-l", "64", "-N"],
    "tcp-window": ["-w", "64K"],
    "zerocopy": ["-Z"],
    "zerocopy-reverse": ["-Z", "-R"],
    "udp": ["-u", "-b", "100M"],
    "udp-reverse": ["-u", "-b", "100M", "-R"],
    "udp-small": ["-u", "-b", "10M", "-l", "64"],
}
MULTIPLEXERS = {"s": "select", "p": "poll", "e": "epoll", "r": "recvfrom"}


def _iperf3(client, port, *options):
    program = client.run(["iperf3", "-c", "127.0.0.1", "-p", str(port),
                          "--connect-timeout", "60000", "-J", *options], seconds=40)
    report = json.loads(program.stdout)
    assert "error" not in report, program.describe()
    return report["end"], program


@pytest.mark.parametrize("options", IPERF.values(), ids=IPERF.keys())
def test_iperf3(server, client, free_port, traffic, options):
    port = free_port()
    serving = servers.iperf3(server, port)
    with traffic() as moved:
        end, program = _iperf3(client, port, "-t", "1", *options)
        if "-u" in options:
            for again in range(1, 5):  # a machine that stood still for a while has lost more
                if _mostly_arrived(end):
                    break
                servers.iperf3_listens(serving, again)
                end, program = _iperf3(client, port, "-t", "1", *options)
            moved.payload_len = _assert_udp(end, program)
        else:
            moved.payload_len = _assert_tcp(end, program)
            moved.connections = len(end["streams"])


def _assert_tcp(end, program):
    """What was received is what was sent, up to what was on the way at the end."""
    received_len = end["sum_received"]["bytes"]
    assert 0 < received_len <= end["sum_sent"]["bytes"], program.describe()
    if "sum_received_bidir_reverse" in end:
        assert end["sum_received_bidir_reverse"]["bytes"] > 0, program.describe()
    streams = [stream[way]["bytes"] for stream in end["streams"] for way in ("sender", "receiver")]
    assert all(length > 0 for length in streams), program.describe()
    return received_len


def _assert_udp(end, program):
    """Half of the datagrams arrive at least: loopback, a modest rate, but two cores."""
    assert _mostly_arrived(end), program.describe()
    return end["sum"]["bytes"] // 2


def _mostly_arrived(end):
    total = end["sum"]
    return total["bytes"] > 0 and total["packets"] > 0 and total["lost_packets"] < total["packets"] / 2


def test_iperf3_many_clients_in_turn(server, client, free_port, traffic):
    """The server is free again after each client, which ends as soon as all is sent."""
    port = free_port()
    serving = servers.iperf3(server, port)
    for clients in range(5):
        servers.iperf3_listens(serving, clients)
        with traffic() as moved:
            end, program = _iperf3(client, port, "-n", "16M")
            moved.payload_len = _assert_tcp(end, program)
            assert end["sum_sent"]["bytes"] >= 16 << 20, program.describe()


@pytest.mark.parametrize("multiplexer", MULTIPLEXERS.keys(), ids=MULTIPLEXERS.values())
def test_sockperf_ping_pong(server, client, work_dir, free_port, traffic, multiplexer):
    """select, poll and epoll watch three sockets; recvfrom blocks on one."""
    count = 1 if multiplexer == "r" else 3
    _ping_pong(server, client, work_dir, free_port, traffic, multiplexer, count)


def test_sockperf_big_messages(server, client, work_dir, free_port, traffic):
    _ping_pong(server, client, work_dir, free_port, traffic, "e", 1, "--msg-size", "8000")


def test_sockperf_nonblocked(server, client, work_dir, free_port, traffic):
    _ping_pong(server, client, work_dir, free_port, traffic, "r", 1, "--nonblocked")


def _ping_pong(server, client, work_dir, free_port, traffic, multiplexer, count, *options):
    """A TCP pair of programs and a UDP pair, side by side: sockperf is slow to begin and end."""
    feeds = {}
    processes = []
    for protocol in ("tcp", "udp"):
        ports = [free_port() for _ in range(count)]
        feeds[protocol] = work_dir / f"{protocol}.feed"
        feeds[protocol].write_text("".join(f"{protocol[0].upper()}:127.0.0.1:{port}\n"
                                           for port in ports))
        processes.append(servers.sockperf(server, feeds[protocol], multiplexer, ports[-1],
                                          protocol))
    with traffic(2000, connections=count):
        pingers = [client.start(["sockperf", "ping-pong", "-f", feed, "-F", multiplexer, "-t", "1",
                                 "--data-integrity", *options]) for feed in feeds.values()]
        for pinger in pingers:
            assert pinger.wait(40) == 0, pinger.describe()
    for pinger in pingers:
        _assert_ping_pong(pinger)
    for process in processes:
        assert not process.ended(), process.describe()


def _assert_ping_pong(pinger):
    """Every message came back once, in order; the last one may be on its way at the end."""
    counts = re.search(r"SentMessages=(\d+); ReceivedMessages=(\d+)", pinger.stdout)
    assert counts, pinger.describe()
    sent, received = map(int, counts.groups())
    assert received > 0 and sent - received <= 1, pinger.describe()
    for fault in ("dropped", "duplicated", "out-of-order"):
        assert re.search(rf"# {fault} messages = 0\b", pinger.stdout), pinger.describe()
