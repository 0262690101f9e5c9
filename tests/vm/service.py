# SPDX-License-Identifier: MIT
"""A canald that serves virtual machines, its configuration, and what a service manager does for it.

canald gives its service manager what must outlive it (FDSTORE=1), and the next canald gets it back
(LISTEN_FDS): a guest's device and its canald stay connected over a restart. The manager here is
systemd's part of that and nothing else, see sd_notify(3) and sd_listen_fds(3).
"""

import configparser
import contextlib
import os
import pathlib
import signal
import socket
import threading

import harness
import image

HOST_ALIAS = "10.77.0.1"
FD_FIRST = 3
# Puts descriptors where sd_listen_fds() looks for them, and becomes canald.
LAUNCH = f"""
import fcntl, os, sys
fds = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 100) for fd in sys.argv[1].split(",") if fd]
for number, fd in enumerate(fds, {FD_FIRST}):
    os.dup2(fd, number)
if fds:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"""


class VmGuest:
    """What the configuration says of one guest."""

    def __init__(self, name, path, memory, address):
        self.name = name
        self.socket = pathlib.Path(path)
        self.memory = pathlib.Path(memory)
        self.address = address


def guest_section(name, work_dir, address="10.77.0.2", alias=HOST_ALIAS, publish=(), allow=(), **more):
    """The lines of one guest; sockets and memory lie where the test can clean them up."""
    lines = [f"[guest {name}]", "transport = vm", f"socket = {work_dir / (name + '.sock')}",
             f"memory = {image.memory_dir()}/{work_dir.name}-{name}.ram", f"address = {address}"]
    lines += [f"host-alias = {alias}"] if alias else []
    lines += [f"publish = {rule}" for rule in publish]
    lines += [f"allow = {rule}" for rule in allow]
    lines += [f"{key.replace('_', '-')} = {value}" for key, value in more.items()]
    return "\n".join(lines) + "\n"


def guests(path):
    """The virtual machines of a configuration file, in its order."""
    sections = configparser.ConfigParser(strict=False, delimiters=("=",), comment_prefixes=(";", "#"),
                                         inline_comment_prefixes=(";",), interpolation=None)
    sections.read(path)
    found = []
    for title in sections.sections():
        section = sections[title]
        if title.startswith("guest ") and section.get("transport", "local").strip() == "vm":
            for key in ("socket", "memory"):
                if key not in section:
                    raise image.ImageError(f"{path}: [{title}]: no {key}")
            found.append(VmGuest(title.removeprefix("guest ").strip(), section["socket"], section["memory"],
                                 section.get("address", "").strip()))
    return found


class Manager:
    """Takes canald's notifications and keeps its descriptors, by name."""

    def __init__(self, path):
        self.path = path
        self.stored = []  # (name, descriptor), in their order
        self.ready = threading.Event()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.socket.bind(str(path))
        self.thread = threading.Thread(target=self._listen, name="service manager", daemon=True)
        self.thread.start()

    def _listen(self):
        while True:
            data, fds, _flags, _address = socket.recv_fds(self.socket, 65536, 253)
            if not data:
                return
            lines = dict(line.partition("=")[::2] for line in data.decode().splitlines())
            name = lines.get("FDNAME", "stored")
            if "FDSTOREREMOVE" in lines:
                self._remove(name)
            if "FDSTORE" in lines:
                self.stored += [(name, fd) for fd in fds]
                fds = []
            for fd in fds:
                os.close(fd)
            if lines.get("READY") == "1":
                self.ready.set()

    def _remove(self, name):
        for stored in [entry for entry in self.stored if entry[0] == name]:
            self.stored.remove(stored)
            os.close(stored[1])

    def forget(self):
        for _, fd in self.stored:
            os.close(fd)
        self.stored.clear()

    def close(self):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.path))
        self.thread.join(5)
        self.socket.close()
        self.forget()
        self.path.unlink(missing_ok=True)


class VmCanald(harness.Canald):
    """canald with a configuration of its own, and a service manager through its restarts."""

    def __init__(self, bin_dir, work_dir, config, options=()):
        self.bin_dir = bin_dir
        self.work_dir = work_dir
        self.socket = work_dir / "canald.sock"
        self.options = options
        self.config = pathlib.Path(config)
        self.guests = {guest.name: guest for guest in guests(self.config)}
        self.starts = 0
        self.manager = Manager(work_dir / "manager.sock")
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self):
        self.manager.ready.clear()
        stored = self.manager.stored
        fds = [fd for _, fd in stored]
        self.starts += 1
        self.program = harness.Program(
            [harness.PYTHON, "-c", LAUNCH, ",".join(map(str, fds)), ":".join(name for name, _ in stored),
             self.bin_dir / "canald", "--socket", self.socket, "--config", self.config, *self.options],
            self.work_dir, harness.environment(NOTIFY_SOCKET=str(self.manager.path)), f"canald-{self.starts}",
            pass_fds=fds)
        self.program.wait_until(self.manager.ready.is_set, "READY=1")
        self.fd_count = len(self.fds())

    def restart(self, number=signal.SIGKILL):
        """Ends canald by a signal and starts the next, which gets what this one gave away."""
        self.program.send_signal(number)
        self.program.wait(harness.STOP_SECONDS)
        if number == signal.SIGKILL:
            self.socket.unlink(missing_ok=True)
        self.start()

    def close(self):
        """The end of it all, however far it came."""
        if getattr(self, "program", None):
            self.program.kill()
        self.manager.close()
        for guest in self.guests.values():
            guest.memory.unlink(missing_ok=True)
