# SPDX-License-Identifier: MIT
"""redis: saving under load, a replica that is fed from a forked child, transactions in a pipeline."""

import csv
import io
import re

import pytest

REQUESTS = 40_000
KEYS = 30_000


def start(side, work_dir, port, *options):
    directory = work_dir / f"redis-{port}"
    directory.mkdir()
    program = side.start(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory,
                          "--enable-debug-command", "yes", *options], cwd=directory)
    program.wait_listening(port)
    return program


def cli(side, port, *arguments, **options):
    return side.run(["redis-cli", "-h", "127.0.0.1", "-p", str(port), *arguments], **options).stdout.strip()


def fill(client, work_dir, port):
    commands = work_dir / "commands"
    commands.write_text("".join(f"SET key:{n} {'value' * (n % 50)}:{n}\r\nRPUSH list:{n % 100} {n}\r\n"
                                for n in range(KEYS)))
    with open(commands, "rb") as stdin:
        assert f"errors: 0, replies: {2 * KEYS}" in cli(client, port, "--pipe", stdin=stdin)


def field(client, port, section, name):
    return re.search(rf"^{name}:(\S*)", cli(client, port, "INFO", section), re.MULTILINE).group(1)


def test_bgsave_under_load(server, client, work_dir, free_port, traffic):
    """Ten forks, one after the other, while fifty connections write; what was saved can be loaded."""
    port = free_port()
    redis = start(server, work_dir, port)
    fill(client, work_dir, port)
    with traffic(2 * REQUESTS * 64, connections=50):
        bench = client.start(["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-c", "50", "-n", str(REQUESTS),
                              "-d", "64", "-r", "1000", "-t", "set,get,incr,lpush", "--csv"])
        for number in range(1, 11):
            assert "saving started" in cli(client, port, "BGSAVE")
            redis.wait_until(lambda: redis.stdout.count("DB saved on disk") == number, f"end of BGSAVE {number}")
            redis.wait_until(lambda: field(client, port, "persistence", "rdb_bgsave_in_progress") == "0", "its child")
        assert bench.wait(90) == 0, bench.describe()
    rows = list(csv.DictReader(io.StringIO(bench.stdout)))
    assert len(rows) == 4 and all(float(row["rps"]) > 0 for row in rows), bench.describe()
    digest = cli(client, port, "DEBUG", "DIGEST")
    assert cli(client, port, "DEBUG", "RELOAD") == "OK"
    assert cli(client, port, "DEBUG", "DIGEST") == digest


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_replica(server, client, work_dir, free_port, traffic, diskless):
    """A replica on the client's side gets everything, also what is written meanwhile, and again after a cut."""
    port, copy = free_port(), free_port()
    start(server, work_dir, port, "--repl-diskless-sync", diskless, "--repl-diskless-sync-delay", "0")
    fill(client, work_dir, port)
    with traffic(KEYS * 60):
        replica = start(client, work_dir, copy, "--replicaof", "127.0.0.1", str(port))
        bench = client.start(["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-c", "10", "-n", str(REQUESTS),
                              "-r", "1000", "-t", "set", "--csv"])
        replica.wait_until(lambda: field(client, copy, "replication", "master_link_status") == "up", "replica")
        assert bench.wait(60) == 0, bench.describe()
    cli(client, port, "CLIENT", "KILL", "TYPE", "replica")
    replica.wait_until(lambda: field(client, copy, "replication", "master_link_status") == "up", "replica again")
    assert cli(client, port, "SET", "last", "one") == "OK"
    replica.wait_until(lambda: cli(client, copy, "GET", "last") == "one", "last key")
    assert cli(client, copy, "DEBUG", "DIGEST") == cli(client, port, "DEBUG", "DIGEST")
