#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The main job in a virtual machine: nginx, curl and ab, natively, through the guest's network card, and
through canal, in one table.

The guest is Debian's kernel and Debian's programs; its card is virtio-net on a tap. The three take turns.
nginx serves from inside the guest to ab outside, and curl inside fetches from nginx outside; every file is
compared by its SHA-256.

usage: demo_vm.py BUILD-DIRECTORY
"""

import collections
import contextlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

sys.dont_write_bytecode = True
TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "vm"), str(TESTS / "system")]

import harness  # noqa: E402
import image  # noqa: E402
import load  # noqa: E402
import servers  # noqa: E402
from both import PLACEMENTS, Both, Side  # noqa: E402
from demo import run  # noqa: E402
from world import wait_served  # noqa: E402

ROUNDS = 2
FILE_LEN = 32 << 20
PAGE_LEN = 4 << 10
REQUEST_COUNT = 2000
# Two nginx in one guest: that under canal, and that behind the card.
GUEST_PORTS = {"canal": 80, "virtio-tap": 8080}

# Title, how to print a figure, and whether more is better.
ROWS = {
    "download": ("curl inside: 32 MB from nginx outside, MB/s", "{:,.0f}", True),
    "kept": ("ab: requests/s of nginx inside, connections kept", "{:,.0f}", True),
    "new": ("ab: requests/s of nginx inside, a connection each", "{:,.0f}", True),
    "stream_64": ("TCP stream of 64 B sends, MB/s", "{:,.2f}", True),
    "stream_65536": ("TCP stream of 64 KiB sends, MB/s", "{:,.0f}", True),
    "round_trip": ("TCP round trip of 64 B, us", "{:,.1f}", False),
}
NGINX = """daemon off;
user nobody nogroup;
pid {dir}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 1000000;
{temp}
  server {{ listen {port}; root {dir}; }}
}}
"""
TEMP = "\n".join(f"  {kind}_temp_path {{dir}}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))


def say(text):
    print(text, flush=True)


class Contestant:
    """One placement: its nginx of each side, which go on, and what was measured."""

    def __init__(self, side, bin_dir, work_dir, files, ports, publish):
        self.side = side
        self.files = files
        self.both = side.both
        self.figures = collections.defaultdict(list)
        self.sockbench = bin_dir / "sockbench" if side.kind == "native" else "sockbench"
        self.copy = work_dir / "copy" if side.kind == "native" else "/tmp/copy"
        native = harness.Side("native", side.programs, None)
        work_dir = work_dir / side.kind
        work_dir.mkdir()
        self.web_port, self.bench_port = ports(), ports()
        listen = self.both.listen[side.kind]
        servers.nginx(native, work_dir, self.web_port, files.path, host=listen)
        native.start([bin_dir / "sockbench", "server", "--host", listen, "--port", str(self.bench_port)]
                     ).wait_printed("ready")
        self.native = native
        self.page_url = self._serve_inside(publish) if side.in_guest else servers.url(self.web_port, files.page.name)

    def _serve_inside(self, publish):
        """nginx in the guest; returns the URL of its page outside."""
        port = GUEST_PORTS[self.side.kind]
        directory = f"/tmp/{self.side.kind}"
        text = NGINX.replace("{temp}", TEMP).format(dir=directory, port=port)
        self.both.vm.sh(f"mkdir -p {directory}")
        self.both.vm.put(f"{directory}/nginx.conf", text.encode())
        self.both.vm.put(f"{directory}/{self.files.page.name}", self.files.page.path.read_bytes())
        program = self.side.start(["nginx", "-e", "stderr", "-p", directory, "-c", f"{directory}/nginx.conf"])
        host, port = ("127.0.0.1", publish) if self.side.is_canal else (self.both.card.guest, port)
        wait_served(program, lambda: harness.socket.create_connection((host, port), 5).close())
        return servers.url(port, self.files.page.name, host)

    def web(self):
        self._fetch(self.copy)
        self._compare()
        # What the guest's disk in memory costs is not the network's: the figure is of a second one.
        size, first, end = map(float, self._fetch("/dev/null").split())
        self.figures["download"].append(size / (end - first) / 1e6)
        self._ask("kept", "-k")
        self._ask("new")

    def _fetch(self, to):
        url = servers.url(self.web_port, self.files.big.name, self.both.host[self.side.kind])
        return self.side.run(["curl", "-sSf", "-o", str(to), "-w",
                              "%{size_download} %{time_starttransfer} %{time_total}\n", url]).stdout

    def _compare(self):
        if self.side.in_guest:
            digest = self.both.vm.run(["sha256sum", self.copy]).stdout.split()[0]
            assert digest == self.files.big.sha256, f"{self.side.kind}: another file arrived"
        else:
            self.files.big.assert_equal(self.copy)

    def _ask(self, row, *options):
        told = self.native.run(["ab", "-q", "-s", "120", "-n", str(REQUEST_COUNT), "-c", "16", *options, self.page_url], seconds=120)
        load.assert_ab_clean(told, REQUEST_COUNT)
        self.figures[row].append(float(re.search(r"Requests per second: +([\d.]+)", told.stdout).group(1)))

    def streams(self):
        for size in ("64", "65536"):
            self.figures[f"stream_{size}"].append(self._bench("stream", size)["bytes_per_second"] / 1e6)
        self.figures["round_trip"].append(self._bench("rr", "64")["mean_us"])

    def _bench(self, mode, size):
        told = self.side.run([self.sockbench, mode, "--host", self.both.host[self.side.kind], "--port",
                              str(self.bench_port), "--size", size, "--seconds", "1"])
        return json.loads(told.stdout)


class Files:
    def __init__(self, work_dir):
        self.path = work_dir / "files"
        self.path.mkdir()
        self.big = harness.Payload(self.path / "big.bin", FILE_LEN, seed=1)
        self.page = harness.Payload(self.path / "page.bin", PAGE_LEN, seed=2)


def print_table(contestants):
    say(f"\n{'':52}{'native':>10}{'virtio-net':>12}{'canal':>10}{'canal to virtio':>18}")
    for row, (title, form, more_is_better) in ROWS.items():
        native, card, canal = (statistics.median(each.figures[row]) for each in contestants)
        ratio = canal / card if more_is_better else card / canal
        word = "better" if ratio >= 1 else "worse"
        cells = [form.format(value) for value in (native, card, canal)]
        say(f"{title:52}{cells[0]:>10}{cells[1]:>12}{cells[2]:>10}{max(ratio, 1 / ratio):>10.1f}x {word}")


def print_how_to_go_on(bin_dir, accel):
    emulated = ("The guest is emulated (TCG), as there is no usable KVM here: what it computes is slow on every side, and "
                "what\ncanal saves is computing in the guest. " if accel == "tcg" else "")
    say(f"""
{emulated}Medians of {ROUNDS} short runs; tests/bench/vm measures properly. To go on:
  CANAL_BUILD={os.path.relpath(bin_dir.parent)} tests/vm/guest -- canal-run COMMAND...
      boots a guest and runs a program of this machine in it, under canal
  docs/vm.md
      for a guest of your own, with QEMU or libvirt""")


def demo(bin_dir, work_dir):
    say("Making the files to move, starting canald, and booting a guest with canal's device and a network card")
    files, ports = Files(work_dir), harness.Ports()
    publish = ports()
    with contextlib.ExitStack() as stack:
        programs = harness.Programs(work_dir)
        both = Both(bin_dir, work_dir, stack, publish=[f"127.0.0.1:{publish}:{GUEST_PORTS['canal']}"],
                    programs=["nginx", "curl"], files=[(bin_dir / "sockbench", "/usr/local/bin/sockbench")])
        stack.callback(programs.close)
        contestants = [Contestant(Side(placement, programs, both), bin_dir, work_dir, files, ports, publish)
                       for placement in PLACEMENTS]
        for number in range(1, ROUNDS + 1):
            for contestant in contestants:
                say(f"  round {number} of {ROUNDS}, {contestant.side.kind}: file, requests, streams")
                contestant.web()
                contestant.streams()
        say(f"The file arrived the same each time: sha256 {files.big.sha256}")
        say("\ncanalctl status, while nginx still runs in the guest:\n")
        subprocess.run([bin_dir / "canalctl", "--socket", both.canald.socket, "status"], check=True, timeout=10)
    print_table(contestants)
    print_how_to_go_on(bin_dir, both.vm.accel)


run(demo, [image.ImageError])
