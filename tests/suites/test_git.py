# SPDX-License-Identifier: MIT
"""git: clone, push and fetch over http (Apache and git http-backend), ssh, and git's own protocol.

git daemon executes a program for each connection, which is its standard input and output.
"""

import os
import random
import shutil

import pytest

import harness
import servers
from harness import HERE
from ssh import Sshd

COMMITS = 30
GIT_CONFIG = HERE.parent / "suites/programs/gitconfig"
GIT_ENV = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": str(GIT_CONFIG), "GIT_TERMINAL_PROMPT": "0"}


def git(side, *arguments, env=None, **options):
    return side.run(["git", *arguments], env={**GIT_ENV, **(env or {})}, **options)


def commit(native, repository, number):
    noise = random.Random(number)
    for name in range(5):
        (repository / f"file-{name}").write_bytes(noise.randbytes(100_000))
    git(native, "-C", repository, "add", ".")
    git(native, "-C", repository, "commit", "-q", "-m", f"commit {number}")


@pytest.fixture(scope="module")
def origin(session_dir, programs_of_module):
    """A repository of 15 MB that cannot be compressed."""
    native = harness.Side("native", programs_of_module, None)
    path = session_dir / "origin"
    git(native, "init", "-q", path)
    for number in range(COMMITS):
        commit(native, path, number)
    return path


def http(server, native, work_dir, port):
    shutil.copy(GIT_CONFIG, work_dir)
    modules = servers.APACHE_MODULES
    config = work_dir / "apache.conf"
    config.write_text("\n".join([
        f"ServerRoot {work_dir}",
        f"DefaultRuntimeDir {work_dir}",
        f"PidFile {work_dir}/apache.pid",
        "ServerName localhost",
        f"Listen 127.0.0.1:{port}",
        f"LoadModule mpm_event_module {modules}/mod_mpm_event.so",
        f"LoadModule authz_core_module {modules}/mod_authz_core.so",
        f"LoadModule env_module {modules}/mod_env.so",
        f"LoadModule alias_module {modules}/mod_alias.so",
        f"LoadModule cgid_module {modules}/mod_cgid.so",
        f"ScriptSock {work_dir}/cgid.sock",
        "ErrorLog /dev/stderr",
        "LogLevel warn",
        f"SetEnv GIT_PROJECT_ROOT {work_dir}",
        "SetEnv GIT_HTTP_EXPORT_ALL 1",
        f"SetEnv GIT_CONFIG_GLOBAL {work_dir}/gitconfig",
        "ScriptAlias / /usr/lib/git-core/git-http-backend/",
        *(["User www-data", "Group www-data"] if os.geteuid() == 0 else [])]) + "\n")
    program = server.start(["apache2", "-DFOREGROUND", "-d", work_dir, "-f", config])
    program.crashes_at_end = True  # see servers.apache()
    program.wait_listening(port)
    return f"http://127.0.0.1:{port}/shared.git", {}


def ssh(server, native, work_dir, port):
    sshd = Sshd(server, native, work_dir, port)
    return f"{sshd.host}:{work_dir}/shared.git", {"GIT_SSH_COMMAND": f"ssh -F {sshd.config}"}


def daemon(server, native, work_dir, port):
    program = server.start(["git", "daemon", "--listen=127.0.0.1", f"--port={port}",
                            "--export-all", "--enable=receive-pack", f"--base-path={work_dir}"], env=GIT_ENV)
    program.wait_listening(port)
    return f"git://127.0.0.1:{port}/shared.git", {}


@pytest.mark.seconds(200)
@pytest.mark.parametrize("way", [http, ssh, daemon], ids=lambda way: way.__name__)
def test_clone_push_fetch(server, client, native, origin, work_dir, free_port, traffic, way):
    shared = work_dir / "shared.git"
    git(native, "clone", "-q", "--bare", origin, shared)
    if os.geteuid() == 0:
        native.run(["chown", "-R", "www-data" if way is http else "root", shared])
    url, env = way(server, native, work_dir, free_port())
    with traffic(COMMITS * 500_000):
        git(client, "clone", "-q", url, work_dir / "one", env=env, seconds=60)
    git(native, "-C", work_dir / "one", "fsck", "--full")
    git(native, "clone", "-q", shared, work_dir / "two")
    commit(native, work_dir / "one", COMMITS)
    with traffic(500_000):
        git(client, "-C", work_dir / "one", "push", "-q", env=env, seconds=60)
    with traffic(500_000):
        git(client, "-C", work_dir / "two", "pull", "-q", "--ff-only", url, "main", env=env, seconds=60)
    heads = {git(native, "-C", path, "rev-parse", "main").stdout for path in (work_dir / "one", work_dir / "two", shared)}
    assert len(heads) == 1, heads
    git(native, "-C", shared, "fsck", "--full")
