# SPDX-License-Identifier: MIT
"""CANAL_LOG: levels, and the trace of calls that CANAL_LOG=debug writes."""

import os
import pathlib
import re
import socket

import pytest

import harness
from harness import PYTHON

pytestmark = pytest.mark.canal_only
LINE = re.compile(r"\[(\d+) (\d+)\] (\w+)\((.*)\) = (-?\d+|\?|found|NULL|EAI_\w+)( \w+)? \[([^]]+)\]")
SECONDS = 30


def calls(text):
    """The lines of a trace: (name, arguments, result, where it went); every one must be whole."""
    found = []
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        assert match, f"no line of a trace: {line!r}"
        found.append((match[3], match[4], match[5] + (match[6] or ""), match[7]))
    # Python tries epoll when it is imported.
    return found[2:] if [call[0] for call in found[:2]] == ["epoll_create1", "close"] else found


@pytest.fixture
def traced(programs, canald, work_dir):
    """Runs a line of Python under CANAL_LOG=debug:FILE; the program, and the trace of it."""
    def run(script, *args, log="debug", status=0, **env):
        path = work_dir / "trace"
        program = harness.Side("canal", programs, canald).run(
            [PYTHON, "-c", script, *args], {"CANAL_LOG": f"{log}:{path}", **env}, seconds=SECONDS,
            status=status)
        return program, path.read_text() if path.exists() else ""
    return run


def test_a_connection(traced, free_port):
    port = free_port()
    script = """
import select, socket, sys
port = int(sys.argv[1])
l = socket.socket(); l.bind(("127.0.0.1", port)); l.listen(7)
c = socket.socket(); c.setblocking(False); c.connect_ex(("127.0.0.1", port))
p = select.poll(); p.register(c, select.POLLOUT); p.poll()
a, _ = l.accept()
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); c.send(b"secret"); a.recv(100, socket.MSG_PEEK)
a.recvmsg_into([bytearray(3), bytearray(30)])
a.shutdown(socket.SHUT_WR); c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
e = select.epoll(); e.register(c, select.EPOLLIN | select.EPOLLET, ); e.poll(1)
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.sendto(b"secret", ("::1", port))
select.select([c], [a], [], 1.5)
for s in (u, e, a, c, l): s.close()
n = socket.socket(); n.connect_ex(("127.0.0.1", 1)); n.close()
"""
    program, text = traced(script, port)
    seen = [call for call in calls(text) if not call[0].startswith("getsockname")]
    at = f"127\\.0\\.0\\.1:{port}"
    wanted = [
        ("socket", r"AF_INET, SOCK_STREAM\|SOCK_CLOEXEC, 0", r"\d+"),
        ("bind", rf"\d+, {at}", "0"),
        ("listen", r"\d+, 7", "0"),
        ("socket", ".*", r"\d+"),
        ("ioctl", r"\d+, FIONBIO, 1", "0"),
        ("connect", rf"\d+, {at}", "-1 EINPROGRESS|0"),
        ("poll", r"\[\d+ POLLOUT=POLLOUT\], 1, -1", "1"),
        ("accept4", r"\d+, 127\.0\.0\.1:\d+, SOCK_CLOEXEC", r"\d+"),
        ("setsockopt", r"\d+, IPPROTO_TCP, TCP_NODELAY, 1", "0"),
        ("send", r"\d+, \.\.\., 6, 0", "6"),
        ("recv", r"\d+, \.\.\., 100, MSG_PEEK", "6"),
        ("recvmsg", r"\d+, \{\[2 of 33\]\}, 0", "6"),
        ("shutdown", r"\d+, SHUT_WR", "0"),
        ("getsockopt", r"\d+, SOL_SOCKET, SO_ERROR, 0", "0"),
        ("epoll_create1", "EPOLL_CLOEXEC", r"\d+"),
        ("epoll_ctl", r"\d+, EPOLL_CTL_ADD, \d+, \{EPOLLIN\|EPOLLET, 0x[0-9a-f]+\}", "0"),
        ("epoll_wait", r"\d+, \[\{EPOLLIN, 0x[0-9a-f]+\}\], \d+, 1000", "1"),
        ("socket", r"AF_INET6, SOCK_DGRAM\|SOCK_CLOEXEC, 0", r"\d+"),
        ("sendto", rf"\d+, \.\.\., 6, 0, \[::1\]:{port}", "6"),
        ("select", r"\d+, \[\d+\], \[\d+\], NULL, \{1, 500000\}|"
                   r"\d+, \[\d+\], \[\d+\], NULL, \{1, \d+\}", "2"),
        *[("close", r"\d+", "0")] * 5,
        ("socket", ".*", r"\d+"),
        ("connect", r"\d+, 127\.0\.0\.1:1", "-1 ECONNREFUSED"),
        ("close", r"\d+", "0"),
    ]
    assert [call[0] for call in seen] == [call[0] for call in wanted], text
    for (name, args, result, path), (_, args_wanted, result_wanted) in zip(seen, wanted, strict=True):
        assert re.fullmatch(args_wanted, args), (name, args)
        assert re.fullmatch(result_wanted, result), (name, args, result)
        assert path == "canal", (name, args, path)
    assert "secret" not in text
    assert not program.stderr


def test_files_are_left_to_strace(traced, work_dir):
    (work_dir / "file").write_text("x")
    _, text = traced("import sys; print(open(sys.argv[1]).read())", work_dir / "file")
    assert calls(text) == []


def test_kernel_and_bad_pointers(traced):
    """What is not canal's goes to the kernel, and a pointer that is refused there harms nobody here."""
    script = """
import ctypes, socket
u = socket.socket(socket.AF_UNIX); libc = ctypes.CDLL(None, use_errno=True)
for name, args in (("connect", (1, 16)), ("setsockopt", (1, 2, 8, 4))):
    assert getattr(libc, name)(u.fileno(), *map(ctypes.c_long, args)) == -1
u.connect_ex("/nonexistent/path")
"""
    _, text = traced(script)
    seen = [call for call in calls(text) if call[0] in ("socket", "connect", "setsockopt")]
    assert [(name, result) for name, _, result, _ in seen] == [
        ("socket", seen[0][2]), ("connect", "-1 EFAULT"), ("setsockopt", "-1 EFAULT"),
        ("connect", "-1 ENOENT")]
    assert "0x1" in seen[1][1] and "unix:/nonexistent/path" in seen[3][1]
    assert {path for *_, path in seen} == {"kernel"}


def test_why_it_went_to_the_kernel(programs, canald, bin_dir, work_dir):
    """A socket that canald does not serve: who carries it now, and why; or that it was denied."""
    for fallback, wanted in (("allow", (r"\d+", "fallback: E[A-Z]+")),
                             ("deny", ("-1 E[A-Z]+", "canal: E[A-Z]+"))):
        path = work_dir / f"trace-{fallback}"
        programs.run([*canald.wrap([PYTHON, "-c", "import socket; socket.socket(2, 1, 262)"])],
                     harness.environment(CANAL_FALLBACK=fallback, CANAL_LOG=f"debug:{path}"), status=None)
        lines = [line for line in path.read_text().splitlines() if line.startswith("[")]
        (name, args, result, where), = [call for call in calls("\n".join(lines)) if call[0] == "socket"]
        assert re.search(r"SOCK_STREAM.*, 262", args)
        assert re.fullmatch(wanted[1], where), where
        # The kernel may know no MPTCP either.
        assert re.fullmatch(wanted[0] + "|-1 .*", result)


def test_where_to(programs, canald, work_dir):
    """Standard error; a file by a relative name; a file for each process; what cannot be opened."""
    side = harness.Side("canal", programs, canald)
    script = [PYTHON, "-c", "import os, socket; os.chdir('/'); os.dup2(os.open('/dev/null', 1), 2);"
                            "s = socket.socket(); s.close()"]

    def names(text):
        return [call[0] for call in calls(text)]
    on_stderr = side.run(script, {"CANAL_LOG": "debug"}, cwd=work_dir)
    assert names(on_stderr.stderr) == ["socket", "close"]
    side.run(script, {"CANAL_LOG": "debug:relative.log"}, cwd=work_dir)
    assert names((work_dir / "relative.log").read_text()) == ["socket", "close"]
    assert (work_dir / "relative.log").stat().st_mode & 0o777 == 0o600
    each = side.run(script, {"CANAL_LOG": "debug:each-%p.log"}, cwd=work_dir)
    assert names((work_dir / f"each-{each.pid}.log").read_text()) == ["socket", "close"]
    nowhere = side.run(script, {"CANAL_LOG": "debug:/nonexistent/trace"})
    first, *rest = nowhere.stderr.splitlines()
    assert re.match(r"libcanal: CANAL_LOG: /nonexistent/trace: No such file or directory: ", first)


def test_levels(programs, canald, work_dir):
    """quiet, warn, info; a level that there is not."""
    nowhere = {"CANAL_SOCKET": str(work_dir / "nowhere.sock"),
               "LD_PRELOAD": str(canald.bin_dir.parent / "lib/libcanal.so")}
    script = [PYTHON, "-c", "import socket; socket.socket()"]

    def said(level, fallback):
        return programs.run(script, harness.environment(CANAL_LOG=level, CANAL_FALLBACK=fallback,
                                                        **nowhere), status=None).stderr
    assert "libcanal:" not in said("quiet", "deny")
    assert "no canald there" in said("warn", "deny")
    assert "libcanal:" not in said("warn", "allow")
    assert re.search(r"libcanal: socket\(.*\) goes to the kernel: ", said("info", "allow"))
    assert "the levels are quiet, warn, info and debug" in said("loud", "allow")
    assert "[" not in said("info", "allow").replace("[Errno", "")


def test_program_that_closes_everything(traced, work_dir):
    """By libc: the trace's descriptor is not there for it. By itself: it comes back, elsewhere than
    in the program's own file that has got the number."""
    script = """
import ctypes, os, socket, sys
os.closerange(3, 1 << 16)
s = socket.socket(); s.close()
libc = ctypes.CDLL("libc.so.6") # whose own functions these are
mine = [int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")
        and os.readlink(f"/proc/self/fd/{n}") == sys.argv[1]]
assert len(mine) == 1 and mine[0] > 1000
try:
    os.fstat(mine[0]); os.close(mine[0]); raise SystemExit("closed it")
except OSError: pass
libc.close(mine[0])
other = os.open(sys.argv[1] + ".other", os.O_CREAT | os.O_WRONLY)
assert libc.dup2(other, mine[0]) == mine[0]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.close()
assert os.fstat(other).st_size == 0
"""
    _, text = traced(script, str(work_dir / "trace"))
    shown = [call for call in calls(text) if call[0] == "socket"]
    assert ["STREAM" in call[1] for call in shown] == [True, False]


def test_threads_signals_and_forks(traced):
    """Every line is whole, and each is of the process and thread that made the call."""
    script = """
import os, signal, socket, threading
a, b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
b.bind(("127.0.0.1", 0)); a.connect(b.getsockname()); b.settimeout(10)
signal.signal(signal.SIGALRM, lambda *_: a.send(b"signal"))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
def work():
    for _ in range(200):
        a.send(b"thread")
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
pid = os.fork()
for _ in range(20): a.send(b"both")
signal.setitimer(signal.ITIMER_REAL, 0)
if pid == 0: os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(pid)
"""
    program, text = traced(script)
    seen = calls(text)
    sends = [line for line in text.splitlines() if "] send(" in line]
    assert len(sends) >= 4 * 200 + 2 * 20
    heads = {tuple(map(int, LINE.fullmatch(line).group(1, 2))) for line in sends}
    child = int(program.stdout)
    assert (program.pid, program.pid) in heads and (child, child) in heads
    assert len([tid for pid, tid in heads if pid == program.pid]) >= 2
    assert ("fork", "", "0", "kernel") in seen and ("fork", "", str(child), "kernel") in seen


def test_never_into_a_connection(programs, canald):
    """A server of inetd has a connection for its stderr: the client hears what the server says alone."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pid = os.posix_spawn(
            canald.bin_dir / "canal-run",
            [str(arg) for arg in canald.wrap([PYTHON, "-c", "import os, socket; s = socket.socket();"
                                              "s.close(); os.write(2, b'hello')"])],
            harness.environment(CANAL_LOG="debug", CANAL_FALLBACK="deny"),
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 2)])
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        theirs.close()
        assert ours.makefile("rb").read() == b"hello"


def test_off_is_off(programs, canald, work_dir):
    program = harness.Side("canal", programs, canald).run(
        [PYTHON, "-c", "import socket; socket.socket().close()"], cwd=work_dir)
    assert not program.stderr and not list(pathlib.Path(work_dir).glob("*trace*"))


def test_programs_that_are_started(traced):
    """exec does not return: its line comes first, and a second one when it failed."""
    script = """
import os, subprocess
try:
    os.execv("/nonexistent", ["x"])
except FileNotFoundError:
    pass
os.posix_spawn("/bin/true", ["true"], {})
os.wait()
os.execv("/bin/true", ["true"])
"""
    _, text = traced(script)
    told = [call for call in calls(text) if call[0] in ("execve", "posix_spawn")]
    assert told == [("execve", '"/nonexistent"', "?", "not under canal"),
                    ("execve", '"/nonexistent"', "-1 ENOENT", "not under canal"),
                    ("posix_spawn", '"/bin/true"', "0", "under canal"),
                    ("execve", '"/bin/true"', "?", "under canal")], text


def test_what_goes_past_libc(traced):
    """A stream's stdio, and dprintf."""
    script = """
import ctypes, socket
libc = ctypes.CDLL(None)
a, b = socket.socket(), socket.socket()
a.bind(("127.0.0.1", 0)); a.listen(); b.connect(a.getsockname()); c, _ = a.accept()
libc.dprintf(b.fileno(), b"secret")
c.recv(6)
libc.fdopen(c.detach(), b"r")
"""
    _, text = traced(script)
    assert "secret" not in text
    told = [call for call in calls(text) if call[0] in ("vdprintf", "fdopen")]
    assert [(call[0], call[2], call[3]) for call in told] == [
        ("vdprintf", "6", "canal"), ("fdopen", "found", "canal")], text
