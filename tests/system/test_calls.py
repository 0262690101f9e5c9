# SPDX-License-Identifier: MIT
"""Every socket call, as a program sees it: tests/calls/ natively and under canal.

Both ends of each connection are in the program under test. So the switch of canald joins them in
memory; with --no-join the kernel carries the bytes between the two. The outputs must be equal.
"""

import functools
import re
import shutil
import subprocess

import pytest

import harness
from oracle import Oracle

PROGRAMS = ["connect", "endings", "stream", "dgram", "udplite", "options", "descriptors", "ready", "epolls",
            "processes", "missed", "started", "given", "limits", "threads", "itself", "signals", "names", "fortify"]
# Of these sockets become the kernel's.
ALLOWED = {"given"}
# They count on loopback's being done at once, and that is what joined sockets are.
JOINED = {"itself"}
SERVICES = {
    "io_uring": ["--engine", "io_uring"],
    "io_uring-no_join": ["--engine", "io_uring", "--no-join"],
    "epoll": ["--engine", "epoll"],
    "epoll-no_join": ["--engine", "epoll", "--no-join"],
}
SOURCES = harness.HERE.parent / "calls"
RUN_SECONDS = 100


def start_service(bin_dir, session_dir, name, options):
    work_dir = session_dir / f"canald-{name}"
    work_dir.mkdir()
    return harness.Canald(bin_dir, work_dir, options)


@pytest.fixture(scope="module", params=SERVICES)
def service(request, canal_off, session_dir):
    """A canald of each kind in turn; with --canal-off None: native against native."""
    if canal_off:
        if request.param != next(iter(SERVICES)):
            pytest.skip("--canal-off")
        yield None
        return
    if "io_uring" in request.param and not harness.io_uring_works():
        pytest.skip("no io_uring here")
    canald = start_service(request.getfixturevalue("bin_dir"), session_dir, request.param,
                           SERVICES[request.param])
    try:
        yield canald
        canald.wait_no_leak()
        canald.stop()
    finally:
        canald.program.kill()


@pytest.fixture(scope="module")
def oracle(bin_dir):
    """What a program prints natively: it runs once, if nothing differs."""
    def run(program, family):
        told = subprocess.run([bin_dir / f"calls_{program}", family], env=harness.environment(),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=RUN_SECONDS * harness.PATIENCE, check=True)
        assert "== " in told.stdout and not told.stderr
        return told.stdout
    return functools.cache(lambda program, family: Oracle(f"calls_{program} {family}", lambda: run(program, family)))


@pytest.mark.parametrize("family", ["4", "6"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_equal(request, service, programs, oracle, bin_dir, program, family):
    if program in JOINED and "no_join" in request.node.callspec.params["service"]:
        pytest.skip("--no-join")
    side = harness.Side("canal" if service else "native", programs, service)
    native = oracle(program, family)
    env = {"CANAL_FALLBACK": "allow"} if program in ALLOWED else None
    told = side.run([bin_dir / f"calls_{program}", family], env, seconds=RUN_SECONDS)
    native.check(told.stdout)
    if service:
        service.wait_status(lambda status: not status["guests"], "guests are left")


# --- no system calls ------------------------------------------------------------------------------

def between_marks(trace):
    """What strace saw between each mark and its end: {mark: [lines]}, in order of appearance."""
    found, lines = [], None
    for line in trace.splitlines():
        mark = re.search(r'write\(\d+, "mark: (\w+)"', line)
        if mark and mark[1] != "end":
            lines = []
            found.append((mark[1], lines))
        elif mark:
            lines = None
        elif lines is not None:
            lines.append(line)
    return found


@pytest.mark.canal_only
@pytest.mark.parametrize("options", [[], ["--no-join"]], ids=["join", "no_join"])
def test_fast_path_makes_no_system_call(session_dir, work_dir, programs, bin_dir, options):
    """A canald that always looks is never woken: 1,000 calls of a kind are not one system call."""
    canald = start_service(bin_dir, session_dir, "-".join(["quiet", *options]),
                           ["--poll", "always", *options])
    try:
        trace = work_dir / "trace"
        told = harness.Side("canal", programs, canald).run(
            ["strace", "-f", "-e", "trace=all", "-o", trace, bin_dir / "calls_quiet", "4", "run"])
        assert told.stdout.count(": all\n") == 8, told.describe()
        marks = between_marks(trace.read_text(errors="replace"))
        assert [mark for mark, _ in marks] == ["sends", "polls", "epoll_waits", "recvs"] * 2
        for mark, lines in marks:
            assert not lines, f"{mark}: {len(lines)} system calls, {lines[:5]}"
        canald.wait_no_leak()
        canald.stop()
    finally:
        canald.program.kill()


@pytest.mark.canal_only
def test_select_sleeps_when_canald_is_gone(session_dir, work_dir, programs, bin_dir):
    """Who asks only for what will never be waits its time, and does not look all the while."""
    canald = start_service(bin_dir, session_dir, "gone", [])
    try:
        trace = work_dir / "trace"
        script = ("import select, socket, sys; s = socket.create_server(('127.0.0.1', 0)); print('ready', flush=True);"
                  "sys.stdin.readline(); print(select.select([], [], [s], 0.5), flush=True)")
        program = harness.Side("canal", programs, canald).start(
            ["strace", "-f", "-e", "trace=ppoll", "-o", trace, harness.PYTHON, "-c", script], stdin=subprocess.PIPE)
        program.wait_printed("ready")
        canald.program.kill()
        program.popen.stdin.write(b"\n")
        program.popen.stdin.close()
        assert program.wait(20) == 0, program.describe()
        assert "([], [], [])" in program.stdout, program.describe()
        assert trace.read_text().count("ppoll(") < 20
    finally:
        canald.program.kill()


# --- by source --------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def vsocket(bin_dir, session_dir):
    """A program that was built against an installed libcanal, by its libcanal.pc alone."""
    prefix = session_dir / "prefix"
    subprocess.run(["cmake", "--install", bin_dir.parent, "--prefix", prefix, "--component", "guest"],
                   check=True, capture_output=True, timeout=60)
    libcanal_pc = next(prefix.rglob("libcanal.pc"))
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libcanal"], check=True, text=True,
                           env=harness.environment(PKG_CONFIG_PATH=str(libcanal_pc.parent)),
                           capture_output=True, timeout=60).stdout.split()
    program = session_dir / "vsocket"
    library_dir = next(flag[2:] for flag in flags if flag.startswith("-L"))
    assert str(prefix) in str(library_dir)
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-o", program,
                    SOURCES / "vsocket.c", *flags, f"-Wl,-rpath,{library_dir}"],
                   check=True, timeout=60)
    yield program
    shutil.rmtree(prefix)


VSOCKET_TOLD = """\
attached: 0
canal's stream: canal 1 1 1, named as 2, is 2
  exchange
  exchange
canal's stream, IPv6: canal 1 1 1, named as 10, is 10
  exchange
  exchange
canal's datagrams: canal 1 1 1, named as 2, is 2
  exchange
plain stream: canal 0 0 0, named as 2, is 2
  exchange
  exchange
plain stream, IPv6: canal 0 0 0, named as 10, is 10
  exchange
  exchange
plain datagrams: canal 0 0 0, named as 2, is 2
  exchange
standard input: canal 0
ready
"""


@pytest.mark.canal_only
def test_sockets_by_source(canald, programs, vsocket):
    """AF_VSOCKET without LD_PRELOAD: exactly those sockets are canal's."""
    program = programs.start([vsocket], harness.environment(CANAL_SOCKET=str(canald.socket),
                                                            CANAL_FALLBACK="deny"),
                             stdin=subprocess.PIPE)
    program.wait_printed("ready\n")
    version, told = program.stdout.split("\n", 1)
    assert re.fullmatch(r"version: \d+\.\d+\.\d+", version)
    assert told == VSOCKET_TOLD
    # Three of each stream pair and two of the datagram pair; those of AF_INET are not there.
    sockets = canald.guest(program.pid)["sockets"]
    assert len(sockets) == 3 + 3 + 2, sockets
    program.popen.stdin.close()
    program.wait(10)
    assert program.returncode == 0, program.describe()
    canald.wait_no_leak()


@pytest.mark.canal_only
def test_sockets_by_source_without_canald(programs, vsocket, work_dir):
    """Then they are the kernel's, or fail, as CANAL_FALLBACK says."""
    nowhere = str(work_dir / "nowhere.sock")
    denied = programs.run([vsocket], harness.environment(CANAL_SOCKET=nowhere, CANAL_FALLBACK="deny"),
                          status=1)
    assert "socket: Network is down" in denied.stdout, denied.describe()
    allowed = programs.run([vsocket], harness.environment(CANAL_SOCKET=nowhere,
                                                          CANAL_FALLBACK="allow"))
    assert "canal's stream: canal 0 0 0, named as 2, is 2" in allowed.stdout, allowed.describe()
