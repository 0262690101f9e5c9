# SPDX-License-Identifier: MIT
"""What a module of the VM tests runs in: canald, one or more guests, and how each reaches the other.

    this machine                                   guest vm1 (10.77.0.2)
    127.0.0.1:PORT   <──── the host alias ──────    10.77.0.1:PORT
    127.0.0.1:21234  ────── published ─────────>    0.0.0.0:80

With canal off the guest has a virtio-net card on a tap instead, and its own kernel's network: the
same tests, to see that it is canal that a failure is about.
"""

import contextlib
import pathlib
import time

import harness
import machine
import nic
import service

HERE = pathlib.Path(__file__).resolve().parent
SYSTEM_PROGRAMS = HERE.parent / "system" / "programs"
PYTHON = "/usr/bin/python3"
# Ports of guests that are published, for each protocol.
TCP_PORTS = (80, 5201, 6379, 7000, 7001, 7002, 11111)
UDP_PORTS = (5201, 7000, 11111)
UNPUBLISHED = 7999
PROGRAMS = ("python3", "curl", "wget", "nginx", "redis-server", "redis-cli", "redis-benchmark", "iperf3",
            "sockperf", "strace")
CANAL_GID = 110
# What the package's udev rule does.
OWN_DEVICE = f"#!/bin/sh\nchgrp {CANAL_GID} /dev/canal && chmod 660 /dev/canal\n"


def scripts():
    """The test programs in Python, at /t of a guest."""
    for directory in (SYSTEM_PROGRAMS, HERE / "programs"):
        for path in directory.glob("*.py"):
            yield path, f"/t/{path.name}"


class GuestSide:
    """Where a program runs: in a guest, under canal-run unless canal is off. As harness.Side."""

    kind = "guest"

    def __init__(self, vm, log_dir, canal):
        self.machine = vm
        self.log_dir = log_dir
        self.is_canal = canal
        self.started = []

    def _prepare(self, argv, env):
        if not self.is_canal:
            return list(argv), env or {}
        return ["canal-run", "--", *argv], {"CANAL_FALLBACK": "deny", **(env or {})}

    def start(self, argv, env=None, **options):
        argv, env = self._prepare(argv, env)
        program = self.machine.start_program(argv, env, log_dir=self.log_dir, **options)
        program.stdin_end()
        self.started.append(program)
        return program

    def run(self, argv, env=None, **options):
        argv, env = self._prepare(argv, env)
        return self.machine.run(argv, env, log_dir=self.log_dir, **options)

    def python(self, script, *arguments, start=False, **options):
        return (self.start if start else self.run)([PYTHON, f"/t/{script}", *map(str, arguments)], **options)

    def stop(self):
        for program in reversed(self.started):
            program.stop()
        self.started.clear()


class World:
    """One canald and its guests, for one module; see the picture above."""

    def __init__(self, bin_dir, work_dir, canal=True, guests=1, cpus=1, debug=False, reboots=False, memory_mib=512,
                 allow=(), free_port=None):
        self.bin_dir = bin_dir
        self.work_dir = work_dir
        self.canal = canal
        self.options = {"cpus": cpus, "debug": debug, "reboots": reboots, "memory_mib": memory_mib}
        self.names = [f"vm{number}" for number in range(1, guests + 1)]
        self.allow = allow
        self.ports = {}
        self.free_port = free_port
        self.canald = None
        self.card = None
        self.machines = {}
        self.stack = contextlib.ExitStack()
        self.logs = work_dir / "logs"
        self.logs.mkdir()

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_):
        self._end()

    def _start(self):
        self.config = self.work_dir / "canald.conf"
        if self.canal:
            self.config.write_text("".join(self._section(number, name) for number, name in enumerate(self.names)))
            self.start_canald()
        for name in self.names:
            self.add_machine(name)
        # Together: a boot is mostly one busy core.
        for vm in self.machines.values():
            vm.start()
        for vm in self.machines.values():
            vm.wait_ready()

    def _section(self, number, name):
        # One number for both protocols: iperf3 has only one for its streams and its datagrams.
        chosen = {port: self.free_port() for port in (*TCP_PORTS, *UDP_PORTS)}
        self.ports.update({(name, "tcp", port): chosen[port] for port in TCP_PORTS})
        self.ports.update({(name, "udp", port): chosen[port] for port in UDP_PORTS})
        rules = [f"127.0.0.1:{outside}:{port}" + ("/udp" if protocol == "udp" else "")
                 for (guest, protocol, port), outside in self.ports.items() if guest == name]
        return service.guest_section(name, self.work_dir, f"10.77.0.{number + 2}", publish=rules, allow=self.allow)

    def start_canald(self, **options):
        self.canald = service.VmCanald(self.bin_dir, self.work_dir, self.config, **options)

    def add_machine(self, name):
        if self.canal:
            guest = self.canald.guests[name]
            how = {"canal_socket": guest.socket, "memory": guest.memory}
            setup = OWN_DEVICE
        else:
            card = self.stack.enter_context(nic.virtio_tap(self.work_dir))
            self.card = self.card or card
            how, setup = {"nic": card.options}, card.setup
        files = [*scripts(), (self.bin_dir / "sockbench", "/usr/local/bin/sockbench")]
        abuse = self.bin_dir / "driver_abuse"
        if abuse.exists():
            files.append((abuse, "/usr/local/bin/driver_abuse"))
        self.machines[name] = machine.Machine(name, self.bin_dir, self.work_dir / name, files=files, setup=setup,
                                              programs=PROGRAMS, **how, **self.options)

    def _end(self):
        """Guests off, kernels looked at, canald cleanly down; all of it even if a part fails."""
        try:
            with contextlib.ExitStack() as ends:
                if self.canald:
                    ends.callback(self.canald.close)
                    ends.callback(self._stop_canald)
                for vm in self.machines.values():
                    ends.callback(vm.close)
        finally:
            self.stack.close()

    def _stop_canald(self):
        if not self.canald.program.ended():
            self.canald.stop()

    # --- addresses ---

    @property
    def host(self):
        """This machine's loopback (with canal off: its end of the card), as a guest sees it."""
        return service.HOST_ALIAS if self.canal else self.card.host

    @property
    def here(self):
        """Where a server of this machine listens, to be reached from a guest."""
        return "127.0.0.1" if self.canal else self.card.host

    def outside(self, port, name="vm1", protocol="tcp"):
        """(host, port) where this machine reaches what a guest serves at `port`."""
        return ("127.0.0.1", self.ports[name, protocol, port]) if self.canal else (self.card.guest, port)

    def url(self, port, path="", name="vm1"):
        return "http://{}:{}/{}".format(*self.outside(port, name), path)

    def address(self, name):
        return self.canald.guests[name].address

    # --- what went on ---

    def sections(self):
        """For the report of a test that failed."""
        found = []
        for vm in self.machines.values():
            found += [(program.name, program.describe()) for program in vm.all_programs[-6:]]
            found.append((f"guest {vm.name}", vm.describe()))
        if self.canald:
            found.append(("canald", self.canald.program.describe()))
        return found

    def wait_idle(self, seconds=20):
        """canald has nothing left of the guests' programs."""
        if self.canald:
            self.canald.wait_status(lambda status: not any(guest["sockets"] for guest in status["guests"]),
                                    "sockets are left", seconds)


def wait_served(program, connect, seconds=30):
    """Looks until `connect()` succeeds; fails when `program` ends first."""
    def served():
        try:
            connect()
            return True
        except OSError:
            time.sleep(harness.LOOK_MS / 1000)
            return False
    program.wait_until(served, "an answer from outside", seconds)
