#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The main job: nginx, curl and ab, natively and under canal, in one table.

The programs are Debian's own, the same binaries on both sides. The sides take turns, so that
whatever else the machine does hits both. Files are compared by their SHA-256, and under canal
canald's counters must have grown by what was moved.

usage: demo.py BUILD-DIRECTORY
"""

import collections
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))

import harness  # noqa: E402
import load  # noqa: E402
import servers  # noqa: E402

ROUNDS = 3
FILE_LEN = 100 << 20
PAGE_LEN = 4 << 10
REQUEST_COUNT = 20000

# Title, how to print a figure, and whether more is better.
ROWS = {
    "download": ("curl: 100 MB from nginx, MB/s", "{:,.0f}", True),
    "upload": ("curl: 100 MB to nginx, MB/s", "{:,.0f}", True),
    "kept": ("ab: requests/s, connections kept", "{:,.0f}", True),
    "new": ("ab: requests/s, a connection each", "{:,.0f}", True),
    "cpu": ("CPU seconds of all that (canald too)", "{:.2f}", False),
    "stream_64": ("TCP stream of 64 B sends, MB/s", "{:,.0f}", True),
    "stream_65536": ("TCP stream of 64 KiB sends, MB/s", "{:,.0f}", True),
    "round_trip": ("TCP round trip of 64 B, us", "{:.1f}", False),
}


def say(text):
    print(text, flush=True)


class Files:
    def __init__(self, work_dir):
        self.path = work_dir / "files"
        self.path.mkdir()
        self.big = harness.Payload(self.path / "big.bin", FILE_LEN, seed=1)
        self.page = harness.Payload(self.path / "page.bin", PAGE_LEN, seed=2)


class Contestant:
    """One side: its servers, which go on, and what was measured of them."""

    def __init__(self, side, bin_dir, work_dir, files, ports):
        self.side = side
        self.files = files
        self.figures = collections.defaultdict(list)
        self.traffic = harness.Traffic(side.canald, 2 if side.is_canal else 0)
        self.sockbench = bin_dir / "sockbench"
        self.sockbench_port = str(ports())
        self.web_port = ports()
        self.copy = work_dir / "copy"
        self.uploaded = work_dir / "upload" / "copy"
        self.nginx = servers.nginx(side, work_dir, self.web_port, files.path)
        side.start([self.sockbench, "server", "--port", self.sockbench_port]).wait_printed("ready")

    def web(self):
        before = self.cpu_seconds()
        with self.traffic(2 * (FILE_LEN + REQUEST_COUNT * PAGE_LEN)):
            self.download()
            self.upload()
            self.ask("kept", "-k")
            self.ask("new")
        self.figures["cpu"].append(self.cpu_seconds() - before)

    def streams(self):
        self.figures["stream_64"].append(self.bench("stream", "64")["bytes_per_second"] / 1e6)
        self.figures["stream_65536"].append(self.bench("stream", "65536")["bytes_per_second"] / 1e6)
        self.figures["round_trip"].append(self.bench("rr", "64")["mean_us"])

    def download(self):
        url = servers.url(self.web_port, self.files.big.name)
        self.curl("download", "--output", self.copy, url)
        self.files.big.assert_equal(self.copy)

    def upload(self):
        url = servers.url(self.web_port, "upload/copy")
        self.curl("upload", "--upload-file", self.files.big.path, url)
        self.files.big.assert_equal(self.uploaded)

    def curl(self, row, *arguments):
        program = self.side.run(["curl", "--silent", "--show-error", "--fail", "--write-out",
                                 f"%{{speed_{row}}}\\n", *arguments])
        self.figures[row].append(float(program.stdout.split()[-1]) / 1e6)

    def ask(self, row, *options):
        program = self.side.run(["ab", "-q", "-s", "120", "-n", str(REQUEST_COUNT), "-c", "16", *options,
                                 servers.url(self.web_port, self.files.page.name)])
        load.assert_ab_clean(program, REQUEST_COUNT)
        rate = re.search(r"Requests per second: +([\d.]+)", program.stdout).group(1)
        self.figures[row].append(float(rate))

    def bench(self, mode, size):
        program = self.side.run([self.sockbench, mode, "--port", self.sockbench_port,
                                 "--size", size, "--seconds", "1"])
        return json.loads(program.stdout)

    def cpu_seconds(self):
        """Of the clients that have ended, this side's nginx, and canald."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        sessions = [self.nginx.pid]
        if self.side.is_canal:
            sessions.append(self.side.canald.program.pid)
        return ended.ru_utime + ended.ru_stime + sum(map(session_cpu_seconds, sessions))


def session_cpu_seconds(session):
    """Of all processes that still run in a session."""
    ticks = 0
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def compete(contestants, files, canald):
    for number in range(1, ROUNDS + 1):
        for contestant in contestants:
            say(f"  round {number} of {ROUNDS}, {contestant.side.kind}: files, requests, streams")
            contestant.web()
            contestant.streams()
    say(f"The 100 MB arrived the same each time: sha256 {files.big.sha256}")
    say("\ncanalctl status, while nginx still runs:\n")
    subprocess.run([canald.bin_dir / "canalctl", "--socket", canald.socket, "status"],
                   check=True, timeout=10)


def print_table(native, canal):
    say(f"\n{'':38}{'native':>10}{'canal':>10}{'canal is':>16}")
    for row, (title, form, more_is_better) in ROWS.items():
        before, after = (statistics.median(side.figures[row]) for side in (native, canal))
        ratio = after / before if more_is_better else before / after
        word = "better" if ratio >= 1 else "worse"
        say(f"{title:38}{form.format(before):>10}{form.format(after):>10}"
            f"{max(ratio, 1 / ratio):>8.2f}x {word}")


def print_how_to_go_on(bin_dir):
    say(f"""
Medians of {ROUNDS} short runs; tests/bench/run measures properly. To go on:
  {bin_dir}/canal-run COMMAND...
      runs any program under canal; the first starts a canald of your own, which ends when idle
  {bin_dir}/canalctl status
      shows what runs there, at any time
  man -l docs/man/canald.8
      for a canald that you start and configure yourself""")


def demo(bin_dir, work_dir):
    say("Making the files to move, starting canald, and nginx on both sides")
    files = Files(work_dir)
    ports = harness.Ports()
    dirs = {name: work_dir / name for name in ("canald", "native", "canal")}
    for path in dirs.values():
        path.mkdir()
    canald = harness.Canald(bin_dir, dirs["canald"])
    programs = harness.Programs(work_dir)
    try:
        native, canal = (
            Contestant(harness.Side(kind, programs, canald if kind == "canal" else None), bin_dir,
                       dirs[kind], files, ports) for kind in ("native", "canal"))
        compete((native, canal), files, canald)
        programs.close()
        canald.wait_no_leak()
        canald.stop()
    finally:
        programs.close()
        canald.program.kill()
    print_table(native, canal)
    print_how_to_go_on(os.path.relpath(bin_dir))


def run(demo, failures=()):
    """DEMO with the build named on the command line and a directory of its own; whatever it starts ends with it."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        asked = sys.argv[1:] in (["-h"], ["--help"])
        print(sys.modules["__main__"].__doc__.strip(), file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)
    bin_dir = pathlib.Path(sys.argv[1]).resolve() / "bin"
    # A signal becomes an exception.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    work_dir = pathlib.Path(tempfile.mkdtemp(prefix="canal-demo-", dir="/tmp"))
    work_dir.chmod(0o755)
    try:
        demo(bin_dir, work_dir)
    except (AssertionError, OSError, subprocess.SubprocessError, *failures) as failure:
        sys.exit(f"tests/demo: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        shutil.rmtree(work_dir)


if __name__ == "__main__":
    run(demo)
