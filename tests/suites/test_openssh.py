# SPDX-License-Identifier: MIT
"""OpenSSH: sessions, copies of a big file, and ports forwarded in every way.

sshd executes itself anew for each connection, and the connection is one of its descriptors.
"""

import pytest

import harness
import servers
from ssh import Sshd


@pytest.fixture
def sshd(server, native, work_dir, free_port):
    return Sshd(server, native, work_dir, free_port())


@pytest.fixture(scope="session")
def huge_file(files_dir, long):
    return harness.Payload(files_dir / "huge.bin", (1024 if long else 256) << 20, seed=2)


def ssh(client, sshd, *arguments, **options):
    return client.run(["ssh", "-F", sshd.config, *arguments], **options)


def test_session(server, client, sshd, traffic):
    """What a command prints, what it reads, and how it ended."""
    with traffic(connections=1):
        told = ssh(client, sshd, sshd.host, "echo out; echo err >&2; exit 3", status=3)
    assert told.stdout == "out\n" and "err\n" in told.stderr, told.describe()
    told = ssh(client, sshd, "-tt", sshd.host, "tty >/dev/null && echo terminal")
    assert told.stdout.strip() == "terminal", told.describe()


def test_many_sessions(server, client, sshd, traffic):
    with traffic(connections=16):
        sessions = [client.start(["ssh", "-F", sshd.config, sshd.host, f"echo {n}"]) for n in range(16)]
        for number, session in enumerate(sessions):
            assert session.wait(60) == 0 and session.stdout == f"{number}\n", session.describe()


@pytest.mark.seconds(200)
def test_pipe(server, client, sshd, work_dir, huge_file, traffic):
    copy = work_dir / "copy"
    with traffic(huge_file.length):
        told = ssh(client, sshd, sshd.host, f"cat {huge_file.path}", seconds=90)
    huge_file.assert_equal(told.out_path)
    with traffic(huge_file.length), open(huge_file.path, "rb") as stdin:
        ssh(client, sshd, sshd.host, f"cat > {copy}", stdin=stdin, seconds=90)
    huge_file.assert_equal(copy)


@pytest.mark.seconds(200)
@pytest.mark.parametrize("protocol", ["sftp", "scp"])
def test_scp(server, client, sshd, work_dir, huge_file, traffic, protocol):
    old = ["-O"] if protocol == "scp" else []
    with traffic(huge_file.length):
        client.run(["scp", *old, "-q", "-F", sshd.config, f"{sshd.host}:{huge_file.path}", work_dir / "down"],
                   seconds=90)
    huge_file.assert_equal(work_dir / "down")
    with traffic(huge_file.length):
        client.run(["scp", *old, "-q", "-F", sshd.config, huge_file.path, f"{sshd.host}:{work_dir}/up"], seconds=90)
    huge_file.assert_equal(work_dir / "up")


@pytest.mark.seconds(200)
def test_scp_between_servers(server, client, native, sshd, work_dir, free_port, huge_file, traffic):
    """-3: out of one server and into the other at the same time."""
    other = Sshd(server, native, work_dir, free_port(), "other")
    config = work_dir / "both"
    config.write_text(sshd.config.read_text() + other.config.read_text())
    with traffic(2 * huge_file.length, connections=2):
        client.run(["scp", "-3", "-q", "-F", config, f"{sshd.host}:{huge_file.path}",
                    f"{other.host}:{work_dir}/copy"], seconds=150)
    huge_file.assert_equal(work_dir / "copy")


@pytest.mark.seconds(200)
def test_sftp(server, client, sshd, work_dir, huge_file, small_files, traffic):
    """A batch: a big file there and back, small ones, a listing."""
    (work_dir / "down").mkdir()
    (work_dir / "up").mkdir()
    batch = work_dir / "batch"
    batch.write_text(f"get {huge_file.path} {work_dir}/down/\nput {huge_file.path} {work_dir}/up/\n"
                     f"mget {small_files[0].path.parent}/small-1*.bin {work_dir}/down/\nls -l {work_dir}/up\n")
    with traffic(2 * huge_file.length):
        client.run(["sftp", "-q", "-F", sshd.config, "-b", batch, sshd.host], seconds=150)
    for directory in ("down", "up"):
        huge_file.assert_equal(work_dir / directory / huge_file.name)
    for file in small_files:
        if file.name.startswith("small-1"):
            file.assert_equal(work_dir / "down" / file.name)


def curl(client, url, copy, *options):
    client.run(["curl", "--silent", "--show-error", "--fail", "--output", copy, *options, url])


@pytest.mark.parametrize("way", ["L", "R", "D"])
def test_forwarding(server, client, sshd, work_dir, files_dir, big_file, small_files, free_port, traffic, way):
    """The big file and, twenty at a time, small ones through one connection to sshd."""
    web, port = free_port(), free_port()
    servers.nginx(server, work_dir, web, files_dir)
    forward = str(port) if way == "D" else f"{port}:127.0.0.1:{web}"
    tunnel = client.start(["ssh", "-F", sshd.config, "-N", f"-{way}", forward, sshd.host])
    tunnel.wait_listening(port)
    proxy = ["--socks5-hostname", f"127.0.0.1:{port}"] if way == "D" else []
    entry = web if way == "D" else port
    with traffic(big_file.length + sum(file.length for file in small_files), connections=21):
        curl(client, servers.url(entry, big_file.name), work_dir / "copy", *proxy)
        client.run(["curl", "--silent", "--show-error", "--fail", "--parallel", "--parallel-max", "20",
                    "--output-dir", work_dir, "--remote-name-all", *proxy,
                    *(servers.url(entry, file.name) for file in small_files)])
    big_file.assert_equal(work_dir / "copy")
    for file in small_files:
        file.assert_equal(work_dir / file.name)


def test_control_master(server, client, sshd, work_dir, traffic):
    """Sessions that are passed to a master over a UNIX socket, with their descriptors."""
    control = ["-o", f"ControlPath={work_dir}/control"]
    master = client.start(["ssh", "-F", sshd.config, "-N", "-M", *control, sshd.host])
    master.wait_until((work_dir / "control").exists, "control socket")
    for number in range(10):
        assert ssh(client, sshd, *control, sshd.host, f"echo {number}").stdout == f"{number}\n"
    ssh(client, sshd, *control, "-O", "exit", sshd.host)
    master.wait(20)
