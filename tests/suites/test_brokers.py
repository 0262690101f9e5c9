# SPDX-License-Identifier: MIT
"""Brokers of messages and of work: MQTT, beanstalkd, gearman, ZeroMQ; and Erlang, whose nodes send each other terms."""

import os

import pytest

from harness import HERE, PYTHON

PROGRAMS = HERE.parent / "suites/programs"
MESSAGES = 2000


def test_mosquitto(server, client, work_dir, free_port, traffic):
    """Two subscribers, of which one asks for each message to be acknowledged, hear every line."""
    port, lines = free_port(), work_dir / "lines"
    config = work_dir / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest stderr\nlog_type subscribe\nlog_type debug\nmax_queued_messages 0\nmax_inflight_messages 100\n"
                      + ("user nobody\n" if os.geteuid() == 0 else ""))
    lines.write_text("".join(f"message {n} {'x' * (n % 500)}\n" for n in range(MESSAGES)))
    broker = server.start(["mosquitto", "-c", config])
    broker.wait_listening(port)
    at = ["-h", "127.0.0.1", "-p", str(port), "-t", "topic"]
    with traffic(3 * lines.stat().st_size, connections=3):
        subscribers = [client.start(["mosquitto_sub", *at, "-q", qos, "-C", str(MESSAGES), "-i", f"sub{qos}"])
                       for qos in ("1", "2")]
        broker.wait_until(lambda: broker.stderr.count("Sending SUBACK") == 2, "subscribers")
        with open(lines, "rb") as stdin:
            client.run(["mosquitto_pub", *at, "-q", "2", "-l"], stdin=stdin)
        for subscriber in subscribers:
            assert subscriber.wait(60) == 0, subscriber.describe()
            assert subscriber.stdout == lines.read_text(), subscriber.describe()


def test_beanstalkd(server, client, free_port, traffic):
    port = free_port()
    server.start(["beanstalkd", "-l", "127.0.0.1", "-p", str(port), "-z", "1000000"]).wait_listening(port)
    with traffic(2 * 500 * 20_000, connections=2):
        told = client.run([PYTHON, PROGRAMS / "beanstalk.py", str(port), "500", "20000"])
    assert told.stdout == "all equal\n", told.describe()


def test_gearman(server, client, work_dir, free_port, small_files, traffic):
    """Four workers, each a process that starts another for each job."""
    port = free_port()
    work_dir.chmod(0o777)
    server.start(["gearmand", "--listen=127.0.0.1", f"--port={port}", f"--pid-file={work_dir}/pid", "--log-file=stderr",
                  *(["--user=nobody"] if os.geteuid() == 0 else [])]).wait_listening(port)
    at = ["-h", "127.0.0.1", "-p", str(port), "-f", "sum"]
    for _ in range(4):
        client.start(["gearman", *at, "-w", "-c", "20", "sha256sum"])
    with traffic(sum(file.length for file in small_files[:40])):
        for file in small_files[:40]:
            with open(file.path, "rb") as stdin:
                told = client.run(["gearman", *at], stdin=stdin)
            assert told.stdout.split()[0] == file.sha256, told.describe()


@pytest.mark.parametrize("pattern", ["reqrep", "pubsub", "pushpull"])
def test_zmq(server, client, free_port, traffic, pattern):
    port = free_port()
    program = server.start([PYTHON, PROGRAMS / "zmq_ends.py", pattern, "server", str(port)])
    program.wait_printed("ready")
    with traffic(10_000_000, connections=4):
        told = client.run([PYTHON, PROGRAMS / "zmq_ends.py", pattern, "client", str(port)])
    assert told.stdout == "all equal\n", told.describe()


@pytest.mark.seconds(200)
def test_erlang_nodes(server, client, work_dir, free_port, traffic):
    """Two nodes that find each other by epmd, and send each other terms of 1 MB."""
    epmd, ready = free_port(), work_dir / "ready"
    server.start(["epmd", "-port", str(epmd), "-address", "127.0.0.1"]).wait_listening(epmd)
    env = {"ERL_EPMD_PORT": str(epmd), "HOME": str(work_dir), "ERL_EPMD_ADDRESS": "127.0.0.1"}
    erl = ["erl", "-noinput", "-start_epmd", "false", "-setcookie", "secret", "-kernel", "net_setuptime", "120", "inet_dist_use_interface", "{127,0,0,1}"]
    node = server.start([*erl, "-name", "one@127.0.0.1", "-eval",
                         "register(echo, self()), io:format(\"ready~n\"), "
                         "F = fun(F) -> receive {P, T} -> P ! {back, T}, F(F) end end, F(F)."], env=env)
    node.wait_printed("ready")
    with traffic(2 * 50 * 1_000_000):
        told = client.run([*erl, "-name", "two@127.0.0.1", "-eval",
                           "pong = net_adm:ping('one@127.0.0.1'), "
                           "[begin B = binary:copy(<<N:32>>, 250000), {echo, 'one@127.0.0.1'} ! {self(), B}, "
                           "receive {back, B} -> ok end end || N <- lists:seq(1, 50)], io:format(\"all equal~n\"), halt()."],
                          env=env, seconds=100)
    assert told.stdout == "all equal\n", told.describe()
