# SPDX-License-Identifier: MIT
"""MariaDB, an LDAP directory, and what stands between a database and its clients: pgbouncer, nutcracker."""

import os
import pwd
import re
import shutil

import pytest

import servers
from test_postgresql import DATABASE, USER, Server, cluster, fill, tool  # noqa: F401

ROWS = 50_000
ENTRIES = 500


def as_user(user, argv):
    return argv if os.geteuid() else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *argv]


# --- MariaDB ------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def mariadb_data(session_dir, programs_of_module):
    directory = session_dir / "mariadb"
    directory.mkdir()
    user = ["--user=mysql"] if os.geteuid() == 0 else []
    if user:
        shutil.chown(directory, "mysql")
    programs_of_module.run(["mariadb-install-db", "--no-defaults", f"--datadir={directory}/data", *user,
                            "--auth-root-authentication-method=normal", "--skip-test-db"], seconds=100)
    return directory / "data"


@pytest.fixture
def mariadb(server, work_dir, mariadb_data, free_port):
    port, data = free_port(), work_dir / "data"
    shutil.copytree(mariadb_data, data)
    if os.geteuid() == 0:
        owner = pwd.getpwnam("mysql")
        for path in (data, *data.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    program = server.start(["mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={data}/socket", f"--port={port}",
                            "--bind-address=127.0.0.1", "--skip-name-resolve", "--connect-timeout=120", "--net-read-timeout=120", "--net-write-timeout=120",
                            "--innodb-flush-log-at-trx-commit=0",
                            f"--pid-file={data}/pid", f"--lc-messages-dir=/usr/share/mysql/english",
                            *(["--user=mysql"] if os.geteuid() == 0 else [])], cwd=work_dir)
    program.wait_until(lambda: "ready for connections" in program.stderr, "ready", 60)
    return port


def mariadb_query(client, port, text, *options, **more):
    return client.run(["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(port), "-u", "root", "--batch",
                       "--skip-column-names", "--local-infile=1", *options, "-e", text], **more).stdout


@pytest.mark.seconds(200)
def test_mariadb(server, client, native, mariadb, work_dir, traffic):
    """Rows in and out, a load of 32 clients, a dump, a query that is killed."""
    rows = work_dir / "rows"
    rows.write_text("".join(f"{n}\t{n * n}\t{'x' * (n % 100)}\n" for n in range(ROWS)))
    mariadb_query(client, mariadb, "create database test; create table test.rows (n int primary key, s bigint, t text)")
    with traffic(rows.stat().st_size):
        mariadb_query(client, mariadb, f"load data local infile '{rows}' into table test.rows")
    with traffic(rows.stat().st_size):
        assert mariadb_query(client, mariadb, "select * from test.rows order by n", "--quick") == rows.read_text()
    with traffic(32 * 100, connections=32):
        told = client.run(["mariadb-slap", "--no-defaults", "-h", "127.0.0.1", "-P", str(mariadb), "-u", "root",
                           "--concurrency=32", "--iterations=1", "--number-of-queries=3200", "--auto-generate-sql",
                           "--auto-generate-sql-load-type=mixed", "--auto-generate-sql-add-autoincrement"], seconds=90)
    assert "Number of clients running queries: 32" in told.stdout and not told.stderr, told.describe()
    dump = ["mariadb-dump", "--no-defaults", "-h", "127.0.0.1", "-P", str(mariadb), "-u", "root", "--skip-dump-date", "test"]
    with traffic(rows.stat().st_size):
        told = client.run(dump)
    assert told.stdout == native.run(dump).stdout
    told = client.run(["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(mariadb), "-u", "root", "-e",
                       "kill query connection_id()"], status=None)
    assert "interrupted" in told.stderr, told.describe()


# --- PostgreSQL behind a pool --------------------------------------------------------------------

@pytest.mark.seconds(200)
def test_pgbouncer(server, client, native, cluster, work_dir, free_port, traffic):
    """32 clients share 8 connections."""
    postgres = Server(native, work_dir, cluster, free_port())
    fill(native, postgres)
    port, config = free_port(), work_dir / "pgbouncer.ini"
    (work_dir / "users").write_text(f'"{USER}" ""\n')
    config.write_text(f"""
[databases]
{DATABASE} = host=127.0.0.1 port={postgres.port} user={USER}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
auth_file = {work_dir}/users
pool_mode = transaction
default_pool_size = 8
max_client_conn = 100
server_connect_timeout = 120
ignore_startup_parameters = extra_float_digits
""")
    server.start(as_user(USER, ["pgbouncer", config])).wait_listening(port)
    with traffic(32 * 200, connections=32):
        told = client.run([tool("pgbench"), "-h", "127.0.0.1", "-p", str(port), "-U", USER, "-n", "-c", "32", "-j", "2",
                           "-t", "100", "-S", DATABASE])
    assert "number of transactions actually processed: 3200/3200" in told.stdout, told.describe()


# --- memcached and redis behind a proxy ----------------------------------------------------------

def test_nutcracker(server, client, native, work_dir, free_port, traffic):
    backends, port = [free_port(), free_port()], free_port()
    for number in backends:
        servers.redis(native, work_dir, number)
    config = work_dir / "nutcracker.yml"
    config.write_text(f"pool:\n  listen: 127.0.0.1:{port}\n  redis: true\n  hash: fnv1a_64\n  distribution: ketama\n"
                      f"  timeout: 100000\n  servers:\n" + "".join(f"   - 127.0.0.1:{number}:1\n" for number in backends))
    server.start(["nutcracker", "-c", config, "-s", str(free_port()), "-a", "127.0.0.1"]).wait_listening(port)
    with traffic(20_000 * 64, connections=20):
        told = client.run(["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-c", "20", "-n", "20000", "-d", "64",
                           "-r", "10000", "-P", "8", "-t", "set,get", "--csv"])
    assert len(told.stdout.splitlines()) == 3, told.describe()


# --- LDAP ----------------------------------------------------------------------------------------

def test_slapd(server, client, work_dir, free_port, traffic):
    port, data, config = free_port(), work_dir / "ldap", work_dir / "slapd.conf"
    data.mkdir()
    config.write_text(f"""
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {work_dir}/slapd.pid
sizelimit unlimited
database mdb
suffix "dc=example"
rootdn "cn=admin,dc=example"
rootpw secret
directory {data}
""")
    server.start(["slapd", "-d", "0", "-h", f"ldap://127.0.0.1:{port}/", "-f", config]).wait_listening(port)
    entries = work_dir / "entries"
    entries.write_text("dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\no: example\ndc: example\n\n" + "".join(
        f"dn: cn=person {n},dc=example\nobjectClass: person\ncn: person {n}\nsn: {n}\ndescription: {'x' * n}\n\n"
        for n in range(1, ENTRIES + 1)))
    ldap = ["-x", "-H", f"ldap://127.0.0.1:{port}", "-D", "cn=admin,dc=example", "-w", "secret"]
    with traffic(entries.stat().st_size):
        client.run(["ldapadd", *ldap, "-f", entries])
    with traffic(20 * entries.stat().st_size, connections=20):
        searches = [client.start(["ldapsearch", *ldap, "-LLL", "-o", "ldif-wrap=no", "-b", "dc=example", "(objectClass=person)"])
                    for _ in range(20)]
        for search in searches:
            assert search.wait(60) == 0, search.describe()
            assert len(re.findall("^dn: ", search.stdout, re.MULTILINE)) == ENTRIES, search.describe()
            assert f"description: {'x' * ENTRIES}\n" in search.stdout
