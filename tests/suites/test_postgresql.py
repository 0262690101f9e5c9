# SPDX-License-Identifier: MIT
"""PostgreSQL: pgbench from 32 connections, dumps, replication, and a query that is cancelled by a signal."""

import hashlib
import os
import pathlib
import pwd
import shutil
import signal

import pytest

CLIENTS = 32
SCALE = 4
USER = "postgres"
DATABASE = "postgres"


def tool(name):
    """Debian keeps them by version, outside of PATH."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    assert found, f"no {name}: tests/lib/install suites"
    return found[-1]


def as_user(argv):
    """The server refuses to be root."""
    if os.geteuid():
        return argv
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *argv]


@pytest.fixture(scope="module")
def cluster(session_dir, programs_of_module):
    """A new database cluster; each test has a copy of it."""
    directory = session_dir / "cluster"
    directory.mkdir()
    if os.geteuid() == 0:
        shutil.chown(directory, USER)
    programs_of_module.run(as_user([tool("initdb"), "-D", directory / "data", "-U", USER, "--no-sync", "-A", "trust",
                                    "-E", "UTF8"]))
    return directory / "data"


class Server:
    def __init__(self, side, work_dir, cluster, port):
        self.port = port
        self.data = work_dir / "data"
        shutil.copytree(cluster, self.data)
        self.data.chmod(0o700)
        if os.geteuid() == 0:
            owner = pwd.getpwnam(USER)
            for path in (self.data, *self.data.rglob("*")):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off",
                   "max_connections": 100, "wal_level": "replica", "shared_buffers": "64MB"}
        self.program = side.start(as_user([tool("postgres"), "-D", self.data,
                                           *(f"--{name}={value}" for name, value in options.items())]),
                                  cwd=work_dir)
        self.program.wait_printed("ready to accept connections", 60)

    def argv(self, name, *arguments):
        return [tool(name), "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, *arguments]


@pytest.fixture
def postgres(server, work_dir, cluster, free_port):
    return Server(server, work_dir, cluster, free_port())


def query(client, postgres, text):
    return client.run(postgres.argv("psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", DATABASE,
                                    "-c", text)).stdout.strip()


def fill(client, postgres):
    client.run(postgres.argv("pgbench", "-i", "-q", "-s", str(SCALE), DATABASE), seconds=120)


def bench(client, postgres, transactions, *options):
    told = client.run(postgres.argv("pgbench", "-n", "-c", str(CLIENTS), "-j", "2", "-t", str(transactions),
                                    *options, DATABASE), seconds=150)
    done = CLIENTS * transactions
    assert f"number of transactions actually processed: {done}/{done}" in told.stdout, told.describe()
    assert "number of failed transactions: 0 " in told.stdout, told.describe()


@pytest.mark.seconds(300)
def test_pgbench(server, client, postgres, traffic, long):
    """Reads, then writes; every sum that a transaction keeps in four tables is kept in all."""
    rounds = 2000 if long else 200
    with traffic(SCALE * 1_000_000, connections=3 * CLIENTS):
        fill(client, postgres)
        bench(client, postgres, 2 * rounds, "-S")
        bench(client, postgres, 2 * rounds, "-S", "-M", "prepared")
        bench(client, postgres, rounds)
    sums = query(client, postgres, """
        select (select sum(abalance) from pgbench_accounts), (select sum(bbalance) from pgbench_branches),
               (select sum(tbalance) from pgbench_tellers), (select sum(delta) from pgbench_history)""").split("|")
    assert len(set(sums)) == 1, sums
    assert query(client, postgres, "select count(*) from pgbench_history") == str(CLIENTS * rounds)
    assert query(client, postgres, "select count(*) from pgbench_accounts") == str(SCALE * 100_000)


def test_new_connection_for_each(server, client, postgres, traffic):
    """-C: a backend is forked for each transaction."""
    fill(client, postgres)
    with traffic(connections=CLIENTS * 10):
        bench(client, postgres, 10, "-S", "-C")


@pytest.mark.seconds(200)
def test_dump(server, client, native, postgres, work_dir, traffic):
    """What pg_dump reads is what a native one reads; a copy of 100,000 rows goes in and comes out."""
    fill(client, postgres)
    dump = postgres.argv("pg_dump", "-d", DATABASE)
    with traffic(SCALE * 5_000_000):
        told = client.run(dump, seconds=90)
    assert digest(told.out_path) == digest(native.run(dump).out_path)
    rows = work_dir / "rows"
    rows.write_text("".join(f"{n}\t{n * n}\n" for n in range(100_000)))
    query(client, postgres, "create table squares (n int, square bigint)")
    with traffic(rows.stat().st_size), open(rows, "rb") as stdin:
        client.run(postgres.argv("psql", "-X", "-d", DATABASE, "-c", "copy squares from stdin"), stdin=stdin)
    with traffic(rows.stat().st_size):
        told = client.run(postgres.argv("psql", "-X", "-d", DATABASE, "-c", "copy squares to stdout"))
    assert told.stdout == rows.read_text()


def digest(path):
    """Of a dump; newer versions put a random word into two of its lines."""
    lines = [line for line in path.read_bytes().splitlines() if not line.startswith((b"\\restrict", b"\\unrestrict"))]
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


@pytest.mark.seconds(200)
def test_base_backup(server, client, postgres, work_dir, traffic):
    """Two connections at once, one of them a stream of the log until the other is done."""
    fill(client, postgres)
    target = work_dir / "backup"
    with traffic(SCALE * 12_000_000, connections=2):
        client.run(postgres.argv("pg_basebackup", "-D", target, "-X", "stream", "--checkpoint=fast", "--no-sync"),
                   seconds=120)
    client.run([tool("pg_verifybackup"), target])


def test_cancel(server, client, postgres):
    """SIGINT: psql's handler opens a connection of its own while the thread waits on another."""
    sleeper = client.start(postgres.argv("psql", "-X", "-d", DATABASE, "-c", "select 'now', pg_sleep(100)"))
    sleeper.wait_until(lambda: query(client, postgres, "select count(*) from pg_stat_activity where query like "
                                     "'%now%' and state = 'active' and pid <> pg_backend_pid()") == "1", "query")
    sleeper.send_signal(signal.SIGINT)
    assert sleeper.wait(20) == 1, sleeper.describe()
    assert "canceling statement due to user request" in sleeper.stderr, sleeper.describe()


def test_stop(server, client, postgres):
    """A server that is told to stop ends its sessions, and they learn why."""
    sleeper = client.start(postgres.argv("psql", "-X", "-d", DATABASE, "-c", "select pg_sleep(1000)"))
    sleeper.wait_until(lambda: query(client, postgres, "select count(*) from pg_stat_activity where wait_event = "
                                     "'PgSleep'") == "1", "sleeper")
    postgres.program.send_signal(signal.SIGINT)
    assert postgres.program.wait(30) == 0, postgres.program.describe()
    assert sleeper.wait(20) == 2, sleeper.describe()
    assert "terminating connection due to administrator command" in sleeper.stderr, sleeper.describe()
