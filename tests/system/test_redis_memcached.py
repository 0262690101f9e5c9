# SPDX-License-Identifier: MIT
"""redis-server with redis-benchmark and redis-cli; memcached over TCP and UDP."""

import csv
import io

import pytest

import servers
from harness import HERE, PYTHON

REQUESTS = 20000
KEYS = 50000


@pytest.mark.parametrize("depth", [1, 16], ids=["P1", "P16"])
def test_redis_benchmark(server, client, work_dir, free_port, traffic, depth):
    """SET and GET of 64 bytes on 50 connections, one request or sixteen in flight on each."""
    port = free_port()
    servers.redis(server, work_dir, port)
    with traffic(2 * REQUESTS * 64, connections=50):
        bench = client.run(["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-c", "50",
                            "-n", str(REQUESTS), "-P", str(depth), "-d", "64", "-r", "1000",
                            "-t", "set,get", "--csv"])
    rows = {row["test"]: row for row in csv.DictReader(io.StringIO(bench.stdout))}
    assert set(rows) == {"SET", "GET"}, bench.describe()
    assert all(float(row["rps"]) > 0 for row in rows.values()), bench.describe()


def _cli(client, port, *arguments, **options):
    return client.run(["redis-cli", "-h", "127.0.0.1", "-p", str(port), *arguments], **options)


def test_redis_threads(server, client, work_dir, free_port, traffic):
    """redis-benchmark with threads and values of 16 KiB."""
    port = free_port()
    servers.redis(server, work_dir, port)
    with traffic(2 * 4000 * 16384, connections=20):
        client.run(["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-c", "20",
                    "-n", "4000", "--threads", "2", "-d", "16384", "-t", "set,get", "--csv"])


def test_redis_mass_insert(server, client, work_dir, free_port, traffic):
    """redis-cli --pipe sends a file of commands while it reads the replies."""
    port = free_port()
    servers.redis(server, work_dir, port)
    commands = work_dir / "commands"
    commands.write_text("".join(f"SET key:{n} value:{n}\r\n" for n in range(KEYS)))
    with traffic(commands.stat().st_size), open(commands, "rb") as stdin:
        told = _cli(client, port, "--pipe", stdin=stdin)
    assert f"errors: 0, replies: {KEYS}" in told.stdout
    assert _cli(client, port, "DBSIZE").stdout.strip() == str(KEYS)
    assert _cli(client, port, "GET", f"key:{KEYS - 1}").stdout.strip() == f"value:{KEYS - 1}"


def test_redis_forks_to_save(server, client, work_dir, free_port, traffic, small_files):
    """BGSAVE forks a child that inherits every connection; they must go on."""
    port = free_port()
    redis = servers.redis(server, work_dir, port)
    with traffic(small_files[0].length), open(small_files[0].path, "rb") as stdin:
        _cli(client, port, "-x", "SET", "blob", stdin=stdin)
        bench = client.start(["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-c", "20",
                              "-n", str(4 * REQUESTS), "-t", "set", "--csv"])
        assert "saving started" in _cli(client, port, "BGSAVE").stdout
        redis.wait_until(lambda: "DB saved on disk" in redis.stdout, "end of BGSAVE")
        assert bench.wait(60) == 0, bench.describe()
        blob = _cli(client, port, "STRLEN", "blob")
    assert blob.stdout.strip() == str(small_files[0].length)
    assert (work_dir / "dump.rdb").stat().st_size >= small_files[0].length


def test_redis_publishes(server, client, work_dir, free_port, traffic):
    """A subscriber sleeps until another connection publishes."""
    port = free_port()
    servers.redis(server, work_dir, port)
    with traffic(connections=2):
        subscriber = client.start(["redis-cli", "-h", "127.0.0.1", "-p", str(port),
                                   "SUBSCRIBE", "news"])
        subscriber.wait_printed("subscribe")
        for number in range(20):
            heard = _cli(client, port, "PUBLISH", "news", f"item-{number}")
            assert heard.stdout.strip() == "1"
            subscriber.wait_printed(f"item-{number}")


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_memcached(server, client, free_port, traffic, protocol):
    """Values of 1 byte to 500 KiB over the text protocol; over UDP, values up to one datagram."""
    port = free_port()
    servers.memcached(server, port)
    with traffic(1 << 20 if protocol == "tcp" else 1 << 14):
        told = client.run([PYTHON, HERE / "programs/memcached_client.py", protocol, str(port)])
    assert told.stdout.startswith("all equal"), told.describe()


def test_memcached_many_connections(server, client, free_port, traffic):
    port = free_port()
    servers.memcached(server, port)
    with traffic(connections=200):
        told = client.run([PYTHON, HERE / "programs/memcached_client.py", "many", str(port)])
    assert told.stdout.startswith("all equal"), told.describe()
