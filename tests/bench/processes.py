# SPDX-License-Identifier: MIT
"""Start, watch and end the programs of a benchmark.

Every program runs in its own process group, which is ended by its id, and dies
with this script (PR_SET_PDEATHSIG). Ends are waited for on a pidfd, lines on a
pipe, canald on its READY=1: nothing here polls by sleeping.
"""

import ctypes
import os
import select
import signal
import socket
import subprocess
import tempfile
import time

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A program did not do what it should; the text says which and why."""


def _prepare_child(cpu):
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})


class Process:
    """One child; use as a context manager, so that it is always ended."""

    def __init__(self, argv, env=None, pass_stdin=False, cpu=None):
        self.argv = [str(a) for a in argv]
        self.name = os.path.basename(self.argv[0])
        self.status = None
        self.cpu_seconds = 0.0
        self._pending = b""
        self._stderr = tempfile.TemporaryFile()
        self._popen = subprocess.Popen(
            self.argv, env=env, stdout=subprocess.PIPE, stderr=self._stderr,
            stdin=subprocess.PIPE if pass_stdin else subprocess.DEVNULL,
            start_new_session=True, preexec_fn=lambda: _prepare_child(cpu))
        self.pid = self._popen.pid
        self.pidfd = os.pidfd_open(self.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def errors(self):
        """The last lines that the program wrote to standard error."""
        self._stderr.seek(0)
        text = self._stderr.read().decode(errors="replace").strip()
        return " | ".join(text.splitlines()[-4:])

    def failed(self, what):
        return Failed(f"{' '.join(self.argv)}: {what}: {self.errors()}")

    def line(self, timeout):
        """The next line of standard output; None at its end."""
        end = time.monotonic() + timeout
        out = self._popen.stdout
        while b"\n" not in self._pending:
            left = end - time.monotonic()
            if left <= 0 or not select.select([out], [], [], left)[0]:
                raise self.failed(f"silent for {timeout:.0f} s")
            data = os.read(out.fileno(), 65536)
            if not data:
                return None
            self._pending += data
        line, self._pending = self._pending.split(b"\n", 1)
        return line.decode(errors="replace")

    def answer(self):
        """Let a program go on that waits for a line (sockbench --step)."""
        self._popen.stdin.write(b"\n")
        self._popen.stdin.flush()

    def wait(self, timeout):
        """Return: True when the program has ended; its CPU time is known then."""
        if self.status is not None:
            return True
        if not select.select([self.pidfd], [], [], timeout)[0]:
            return False
        _, status, usage = os.wait4(self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)
        self._popen.returncode = self.status
        self.cpu_seconds = usage.ru_utime + usage.ru_stime
        return True

    def stop(self, timeout=20):
        """End the program: SIGTERM, and SIGKILL for its group if that fails."""
        if self.status is None and not self.wait(0):
            os.kill(self.pid, signal.SIGTERM)
            if not self.wait(timeout):
                os.killpg(self.pid, signal.SIGKILL)
                self.wait(timeout)
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Canald(Process):
    """canald in the foreground on a socket of its own."""

    def __init__(self, binary, directory, extra=()):
        self.socket = os.path.join(directory, "canald.sock")
        notify_path = os.path.join(directory, "notify.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(notify_path)
            env = dict(os.environ, NOTIFY_SOCKET=notify_path)
            super().__init__([binary, "--socket", self.socket, *extra], env=env)
            try:
                self._wait_ready(notify, 30)
            except BaseException:
                self.stop()
                raise

    def _wait_ready(self, notify, timeout):
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            ready = select.select([notify, self.pidfd], [], [], max(left, 0))[0]
            if not ready:
                raise self.failed(f"no READY=1 within {timeout} s")
            if notify in ready:
                if "READY=1" in notify.recv(4096).decode().splitlines():
                    return
            elif self.pidfd in ready:
                raise self.failed("ended before it was ready")

    def alive(self):
        return not self.wait(0)

    def cpu(self):
        """CPU seconds of all its threads so far; 0 once it has ended."""
        return cpu_of(self.pid)


def cpu_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def meminfo(name):
    """Bytes of one line of /proc/meminfo."""
    with open("/proc/meminfo") as lines:
        for line in lines:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return 0


class SyscallCounter:
    """Counts the system calls of a command: perf (no slowdown) or strace -c."""

    def __init__(self, directory):
        self._file = os.path.join(directory, "syscalls")
        self._count = 0
        self.tool = "perf" if self._perf_works() else "strace"

    @staticmethod
    def _perf_works():
        try:
            return subprocess.run(
                ["perf", "stat", "-e", "raw_syscalls:sys_enter", "true"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                check=False).returncode == 0
        except FileNotFoundError:
            return False

    def wrap(self, argv):
        """Return: the command to run instead, and the file of its count."""
        self._count += 1
        path = f"{self._file}.{self._count}"
        if self.tool == "perf":
            return ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter",
                    "-o", path, "--", *argv], path
        return ["strace", "-c", "-f", "-o", path, *argv], path

    def read(self, path):
        with open(path) as lines:
            for line in lines:
                if self.tool == "perf" and "raw_syscalls:sys_enter" in line:
                    return int(line.split(",")[0])
                if self.tool == "strace" and line.rstrip().endswith(" total"):
                    return int(line.split()[3])
        raise Failed(f"{self.tool} left no count in {path}")
