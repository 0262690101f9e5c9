# SPDX-License-Identifier: MIT
"""Starting, watching and ending the programs that the system tests run.

Invariants:
  1. Every program leads a session of its own; ending it ends its whole process group.
  2. Every wait has a deadline, and ends at once when the program waited for dies.
  3. Nothing waits by sleeping: a wait polls the program's pidfd between two looks.
  4. A limit guards against hangs, nothing else: it is given for a quiet machine, and PATIENCE times as long here.

A program writes to files, never to pipes, so that a talkative server cannot stall.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import pathlib
import random
import re
import select
import signal
import socket
import subprocess
import time
import types

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE = 4
LOOK_MS = 10
STOP_SECONDS = 10
LOG_TAIL = 6000
IO_URING_SETUP, IO_URING_PARAMS_LEN = 425, 120  # the number of the call, and of its argument's bytes
# What nginx, Apache, haproxy, the shell and sanitizers print when a process crashed.
CRASH = re.compile(r".*(exited on signal|exit signal|Segmentation fault|Aborted|core dumped"
                   r"|exited with code 1(?:34|35|36|39)|ERROR: \w+Sanitizer|WARNING: ThreadSanitizer).*")
CRASH_SIGNALS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}


def environment(**extra):
    """A small, known environment: no proxies, no preloads, no CANAL_* of the caller."""
    env = {"PATH": PATH, "LC_ALL": "C", "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    env.update({k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
    env.update(extra)
    return env


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tail(path):
    if not path.exists():
        return "(removed)\n"
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOG_TAIL))
        return file.read().decode(errors="replace")


class Program:
    """One running program and what it printed."""

    crashes_at_end = False  # natively too: then only what it did before counts
    crash_is_its_own = False  # it runs natively, and was seen to crash now and then

    def __init__(self, argv, log_dir, env, name, stdin=subprocess.DEVNULL, cwd=None,
                 pass_fds=()):
        self.argv = [str(arg) for arg in argv]
        self.name = name
        self.out_path = log_dir / f"{name}.out"
        self.err_path = log_dir / f"{name}.err"
        self.pidfd = None
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.popen = subprocess.Popen(self.argv, stdin=stdin, stdout=out, stderr=err, env=env,
                                          cwd=cwd, start_new_session=True, restore_signals=True,
                                          pass_fds=pass_fds)
        self.pid = self.popen.pid
        self.pidfd = os.pidfd_open(self.pid)

    @property
    def stdout(self):
        return self.out_path.read_text(errors="replace")

    @property
    def stderr(self):
        return self.err_path.read_text(errors="replace")

    @property
    def returncode(self):
        return self.popen.returncode

    def ended(self, milliseconds=0):
        """Has the program ended? Waits up to `milliseconds` for it; does not reap it."""
        if self.pidfd is None:
            return True
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(milliseconds))

    def wait(self, seconds):
        """The exit status; fails when the program outlives `seconds`."""
        in_time = self.ended(seconds * PATIENCE * 1000)
        self._end_group()
        assert in_time, f"still running after {seconds * PATIENCE} s: {self.describe()}"
        return self.returncode

    def wait_until(self, condition, what, seconds=20):
        """Look until `condition()` holds; fails when the program ends first or time is up."""
        seconds *= PATIENCE
        deadline = time.monotonic() + seconds
        while not condition():
            ended = self.ended(LOOK_MS)
            if ended and not condition():
                self._end_group()
                raise AssertionError(f"ended before {what}: {self.describe()}")
            assert time.monotonic() < deadline, f"no {what} after {seconds} s: {self.describe()}"

    def wait_printed(self, text, seconds=20):
        self.wait_until(lambda: text in self.stdout or text in self.stderr, repr(text), seconds)

    def wait_listening(self, port, protocol="tcp", seconds=20):
        self.wait_until(lambda: is_bound(port, protocol), f"{protocol} listener on {port}", seconds)

    def send_signal(self, number):
        if self.pidfd is not None:
            signal.pidfd_send_signal(self.pidfd, number)

    def stop(self, seconds=STOP_SECONDS, number=signal.SIGTERM):
        """Ask the program to end, then end whatever is left of its group. Never raises."""
        if self.pidfd is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.send_signal(number)
        self.ended(seconds * 1000)
        self._end_group()

    def kill(self):
        self._end_group()

    def _end_group(self):
        # The leader is not reaped yet, so its pid still names this group and no other.
        if self.pidfd is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()
        if self.popen.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.popen.stdin.close()
        os.close(self.pidfd)
        self.pidfd = None

    def crashed(self):
        """Did this program, or by its own words a child of it, end by a fault?"""
        status = self.returncode or 0
        if self.crash_is_its_own:
            return False
        return -status in CRASH_SIGNALS or bool(CRASH.search(self.stderr))

    def describe(self):
        status = "running" if self.returncode is None else f"exit {self.returncode}"
        return (f"{' '.join(self.argv)} [{status}]\n--- stdout\n{tail(self.out_path)}"
                f"--- stderr\n{tail(self.err_path)}")


class Programs:
    """The programs of one test; `close` ends those that still run, the newest first."""

    def __init__(self, log_dir):
        self.log_dir = log_dir
        self.all = []

    def start(self, argv, env=None, **options):
        base = os.path.basename(str(argv[0]))
        name = f"{len(self.all):03d}-{base}"
        program = Program(argv, self.log_dir, env or environment(), name, **options)
        self.all.append(program)
        return program

    def run(self, argv, env=None, seconds=60, status=0, **options):
        """Run to the end; `status` is the exit status that must come, None for any."""
        program = self.start(argv, env, **options)
        program.wait(seconds)
        if status is not None:
            assert program.returncode == status, program.describe()
        return program

    def close(self):
        crashed = [program for program in self.all if program.crashed()]
        for program in reversed(self.all):
            program.stop()
        crashed += [program for program in self.all if program.crashed()
                    and not program.crashes_at_end and program not in crashed]
        assert not crashed, "\n".join(["a program crashed", *map(Program.describe, crashed)])


class Side:
    """Where a program does its networking: `native`, or `canal` (under libcanal)."""

    def __init__(self, kind, programs, canald):
        self.kind = kind
        self.programs = programs
        self.canald = canald

    @property
    def is_canal(self):
        return self.kind == "canal"

    def command(self, argv):
        return self.canald.wrap(argv) if self.is_canal else list(argv)

    def _env(self, extra):
        if self.is_canal:
            extra = {"CANAL_FALLBACK": "deny", **(extra or {})}
        return environment(**(extra or {}))

    def start(self, argv, env=None, **options):
        return self.programs.start(self.command(argv), self._env(env), **options)

    def run(self, argv, env=None, **options):
        return self.programs.run(self.command(argv), self._env(env), **options)


class Canald:
    """A canald of the tests, from READY=1 to its clean end."""

    def __init__(self, bin_dir, work_dir, options=(), prefix=()):
        self.bin_dir = bin_dir
        self.socket = work_dir / "canald.sock"
        notify_path = work_dir / "notify.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.bind(str(notify_path))
            # the system's own configuration has no say here
            config = [] if "--config" in options else ["--config", "/dev/null"]
            self.program = Program([*prefix, bin_dir / "canald", *config, "--socket", self.socket, *options], work_dir,
                                   environment(NOTIFY_SOCKET=str(notify_path)), "canald")
            try:
                self._wait_ready(notify)
            except BaseException:
                self.program.kill()
                raise
            finally:
                notify_path.unlink()
        self.fd_count = len(self.fds())

    def _wait_ready(self, notify, seconds=20):
        poller = select.poll()
        poller.register(notify, select.POLLIN)
        poller.register(self.program.pidfd, select.POLLIN)
        deadline = time.monotonic() + seconds * PATIENCE
        while True:
            left_ms = (deadline - time.monotonic()) * 1000
            events = dict(poller.poll(left_ms)) if left_ms > 0 else {}
            if notify.fileno() in events:
                if b"READY=1" in notify.recv(4096).splitlines():
                    return
            else:
                raise AssertionError(f"canald is not ready: {self.program.describe()}")

    def wrap(self, argv):
        return [self.bin_dir / "canal-run", "--socket", self.socket, "--", *argv]

    def fds(self):
        directory = f"/proc/{self.program.pid}/fd"
        found = {}
        for name in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):
                found[name] = os.readlink(f"{directory}/{name}")
        return found

    def status(self):
        assert not self.program.ended(), f"canald ended: {self.program.describe()}"
        reply = subprocess.run([self.bin_dir / "canalctl", "--socket", self.socket, "status", "--json"],
                               env=environment(), capture_output=True, timeout=10 * PATIENCE)
        assert reply.returncode == 0, reply.stderr.decode(errors="replace")
        return json.loads(reply.stdout)

    def guest(self, pid):
        """What canald says about the guest process `pid`, or None."""
        return next((guest for guest in self.status()["guests"] if guest["pid"] == pid), None)

    def wait_status(self, condition, what, seconds=10):
        """Ask until `condition(status)` holds; returns that status."""
        seconds *= PATIENCE
        deadline = time.monotonic() + seconds
        while True:
            status = self.status()
            if condition(status):
                return status
            assert time.monotonic() < deadline, f"{what} after {seconds} s: {json.dumps(status)}"
            self.program.ended(LOOK_MS)

    def wait_no_leak(self):
        """Nothing of a guest is left: no guest, socket, chunk, nor descriptor in canald."""
        def holdings(status):
            return [(g["name"], g["pid"], len(g["sockets"]), g["chunks"]) for g in status["guests"]]
        self.wait_status(lambda status: not holdings(status), "guests are left")
        self.wait_status(lambda status: len(self.fds()) <= self.fd_count,
                         f"more than {self.fd_count} descriptors are left in canald: {self.fds()}")

    def stop(self):
        """A clean end: exit status 0, in time, and the socket path is free again."""
        self.program.stop(STOP_SECONDS * PATIENCE)
        assert self.program.returncode == 0, self.program.describe()
        assert not self.socket.exists(), f"canald left {self.socket} behind"


class Traffic:
    """Proves that programs under canal went through canald: its totals grew by what they moved."""

    def __init__(self, canald, canal_ends):
        self.canald = canald
        self.canal_ends = canal_ends

    @contextlib.contextmanager
    def __call__(self, payload_len=1, connections=1):
        """`payload_len` bytes at least pass between the two ends inside the block; each end that
        is under canal sends or receives all of them, so the totals grow by that much per end.
        A block that learns its figures late sets them in what it is given.
        """
        wanted = types.SimpleNamespace(payload_len=payload_len, connections=connections)
        if not self.canal_ends:
            yield wanted
            return
        before = self.canald.status()["total"]
        yield wanted
        wanted_len = wanted.payload_len * self.canal_ends

        def grown(status):
            now = status["total"]
            moved_len = sum(now[key] - before[key] for key in ("tx_bytes", "rx_bytes"))
            return (moved_len >= wanted_len
                    and now["connections"] - before["connections"] >= wanted.connections)
        self.canald.wait_status(grown, f"{wanted_len} bytes and {wanted.connections} connections "
                                       f"did not pass through canald, which began at {before}")


# --- ports -----------------------------------------------------------------------------------

class Ports:
    """Port numbers below the ephemeral range, each handed out once and free on both families."""

    FIRST, LAST = 20000, 31999

    def __init__(self):
        self.next = self.FIRST + os.getpid() * 97 % (self.LAST - self.FIRST)

    def __call__(self):
        for _ in range(self.FIRST, self.LAST):
            port = self.next
            self.next = self.FIRST if port == self.LAST else port + 1
            if is_free(port):
                return port
        raise AssertionError("no free port")


def is_free(port):
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        if family == socket.AF_INET6 and not ipv6_works():
            continue
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(family, kind) as probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    probe.bind((address, port))
                except OSError:
                    return False
    return True


def is_bound(port, protocol):
    """Does a TCP socket listen on `port`, or is a UDP socket bound to it, on this host?

    Looks at the kernel's table instead of connecting: a server never sees a stray connection.
    Under canal the socket of that table is canald's.
    """
    wanted_state = {"tcp": "0A", "udp": "07"}[protocol]
    pattern = re.compile(rf"^ *\d+: [0-9A-F]+:{port:04X} \S+ {wanted_state} ", re.MULTILINE)
    return any(pattern.search(pathlib.Path(f"/proc/net/{table}").read_text())
               for table in (protocol, f"{protocol}6"))


def ipv6_works():
    """A kernel may not have it, and a container may have no ::1."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


def io_uring_works():
    """A kernel may not have it, and a container's filter may forbid it: canald's engine is epoll then."""
    libc = ctypes.CDLL(None)
    fd = libc.syscall(IO_URING_SETUP, 1, ctypes.create_string_buffer(IO_URING_PARAMS_LEN))
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def children(pid):
    """The pids of the children of `pid`."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return set(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return set()


def asleep(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


# --- files to transfer -----------------------------------------------------------------------

class Payload:
    """A file of known content."""

    PIECE_LEN = 16 << 20

    def __init__(self, path, length, seed):
        self.path = path
        self.length = length
        noise = random.Random(seed)
        with open(path, "wb") as file:
            for start in range(0, length, self.PIECE_LEN):
                file.write(noise.randbytes(min(self.PIECE_LEN, length - start)))
        path.chmod(0o644)
        self.sha256 = sha256(path)

    @property
    def name(self):
        return self.path.name

    def assert_equal(self, path):
        assert path.stat().st_size == self.length, f"{path}: {path.stat().st_size} bytes"
        assert sha256(path) == self.sha256, f"{path}: content differs"
