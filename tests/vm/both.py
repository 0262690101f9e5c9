# SPDX-License-Identifier: MIT
"""One guest with two ways out, to compare them in one boot: a virtio-net card, on a tap or another, and canal."""

import re

import harness
import machine
import nic
import service
from world import OWN_DEVICE

CARD = "virtio-tap"
PLACEMENTS = ("native", CARD, "canal")
# The kernel's own histograms count: strace would slow down what it looks at.
COUNT = """cd /sys/kernel/tracing || exit
bell=$(grep -o 'doorbell_ring[^[:space:]]*' /proc/kallsyms | head -1)
echo "p:canal/bell canal:$bell" > kprobe_events &&
echo 'hist:keys=common_type' > events/canal/bell/trigger &&
echo 'hist:keys=common_type if comm == "{comm}"' > events/raw_syscalls/sys_enter/trigger"""


class Both:
    """canald, the guest vm1 and its card; `stack` ends them.

    `host`: how a client of each placement names this machine; `listen`: where the server for it listens.
    """

    def __init__(self, bin_dir, work_dir, stack, settings="", publish=(), cpus=1, memory_mib=512, kind=CARD,
                 **contents):
        card = stack.enter_context(nic.KINDS[kind](work_dir))
        self.card = card
        self.counting = False
        self.host = {"native": "127.0.0.1", kind: card.host, "canal": service.HOST_ALIAS}
        self.listen = {"native": "127.0.0.1", kind: card.host if kind == CARD else "127.0.0.1", "canal": "127.0.0.1"}
        config = work_dir / "canald.conf"
        config.write_text(settings + service.guest_section("vm1", work_dir, publish=publish))
        self.canald = service.VmCanald(bin_dir, work_dir, config)
        stack.callback(self.canald.close)
        stack.callback(self.canald.program.stop)
        guest = self.canald.guests["vm1"]
        self.vm = stack.enter_context(machine.Machine(
            "vm1", bin_dir, work_dir / "vm1", memory_mib, cpus, guest.socket, guest.memory, nic=card.options,
            setup=card.setup + OWN_DEVICE.split("\n", 1)[1], **contents))

    def counts(self, comm):
        """Since the guest booted: system calls of programs named `comm`, doorbells, interrupts of the device."""
        if not self.counting:
            self.vm.sh(COUNT.format(comm=comm))
            self.counting = True
        told = self.vm.sh("cat /sys/kernel/tracing/events/raw_syscalls/sys_enter/hist /sys/kernel/tracing/events/canal/bell/hist; "
                          "grep canal /proc/interrupts || true").stdout
        calls, bells = (int(hits) for hits in re.findall(r"Hits: (\d+)", told))
        interrupts = sum(int(number) for line in told.splitlines() if "canal" in line and ":" in line.split()[0]
                         for number in line.split()[1:] if number.isdigit())
        return calls, bells, interrupts


class Side(harness.Side):
    """Programs of one placement: on this machine, or in the guest with or without canal."""

    def __init__(self, placement, programs, both, env=None):
        super().__init__(placement, programs, both.canald)
        self.both = both
        self.env = {"CANAL_FALLBACK": "deny", **(env or {})} if placement == "canal" else {}

    @property
    def in_guest(self):
        return self.kind != "native"

    def command(self, argv):
        return [*(["canal-run", "--"] if self.is_canal else []), *argv]

    def start(self, argv, **options):
        if not self.in_guest:
            return self.programs.start(argv, **options)
        program = self.both.vm.start_program(self.command(argv), self.env, **options)
        program.stdin_end()
        return program

    def run(self, argv, **options):
        if not self.in_guest:
            return self.programs.run(argv, **options)
        return self.both.vm.run(self.command(argv), self.env, **options)
