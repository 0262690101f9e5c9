# SPDX-License-Identifier: MIT
"""rsync: its daemon and over ssh, both ways, a whole tree and then only what changed."""

import filecmp
import os
import random
import shutil

import pytest

from ssh import Sshd

FILES = 400


@pytest.fixture(scope="session")
def tree(session_dir, big_file):
    """Directories, links, empty files, and one of 100 MB."""
    top = session_dir / "tree"
    noise = random.Random(3)
    for number in range(FILES):
        directory = top / f"d{number % 20}" / f"e{number % 7}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number}").write_bytes(noise.randbytes(number * number // 3))
    (top / "link").symlink_to("d0/e0")
    shutil.copy(big_file.path, top / "big")
    return top


def assert_same(one, two):
    """Names, kinds, content, modes and times (filecmp alone would believe in the last)."""
    def entries(top):
        found = {}
        for directory, names, files in os.walk(top):
            for name in names + files:
                path = os.path.join(directory, name)
                info = os.lstat(path)
                kept = os.path.islink(path) or os.path.isdir(path)
                found[os.path.relpath(path, top)] = (info.st_mode, kept or (info.st_size, int(info.st_mtime)))
        return found
    assert entries(one) == entries(two)
    for name in entries(one):
        if (one / name).is_file():
            assert filecmp.cmp(one / name, two / name, shallow=False), name


def change(tree):
    """A few bytes in the middle of the big file, a file more, a file less."""
    with open(tree / "big", "r+b") as file:
        file.seek(50 << 20)
        file.write(b"something else")
    (tree / "new").write_text("new\n")
    (tree / "d1/e1/f1").unlink()


@pytest.fixture
def remote(request, server, native, work_dir, free_port):
    """(what begins a path of the other side, options of rsync)"""
    port = free_port()
    if request.param == "ssh":
        sshd = Sshd(server, native, work_dir, port)
        return f"{sshd.host}:{work_dir}/", [f"--rsh=ssh -F {sshd.config}"]
    config = work_dir / "rsyncd.conf"
    config.write_text("\n".join([
        "use chroot = no",
        "address = 127.0.0.1",
        f"port = {port}",
        f"lock file = {work_dir}/lock",
        "[files]",
        f"path = {work_dir}",
        "read only = no",
        "uid = root" if os.geteuid() == 0 else "",
        "gid = root" if os.geteuid() == 0 else ""]) + "\n")
    daemon = server.start(["rsync", "--daemon", "--no-detach", f"--config={config}"])
    daemon.wait_listening(port)
    return f"rsync://127.0.0.1:{port}/files/", []


@pytest.mark.seconds(200)
@pytest.mark.parametrize("remote", ["daemon", "ssh"], indirect=True)
def test_tree(server, client, remote, work_dir, tree, traffic):
    prefix, options = remote
    mine = work_dir / "mine"
    shutil.copytree(tree, mine, symlinks=True)
    sync = ["rsync", "-a", "--delete", "--checksum", "--no-whole-file", *options]
    with traffic(100 << 20):
        client.run([*sync, f"{mine}/", f"{prefix}up/"], seconds=100)
    assert_same(mine, work_dir / "up")
    change(mine)
    with traffic(1000):
        told = client.run([*sync, "--stats", f"{mine}/", f"{prefix}up/"], seconds=100)
    assert "Number of deleted files: 1" in told.stdout, told.describe()
    assert_same(mine, work_dir / "up")
    with traffic(100 << 20):
        client.run([*sync, "--compress", f"{prefix}up/", f"{work_dir}/down/"], seconds=100)
    assert_same(mine, work_dir / "down")
