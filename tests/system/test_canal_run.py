# SPDX-License-Identifier: MIT
"""The three commands: canal-run is transparent, and each refuses in one line what cannot work."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import threading

import pytest

import harness
import servers
from harness import PYTHON

pytestmark = pytest.mark.canal_only

# A refusal tells what to do: one of these words, whatever the sentence.
REMEDY = re.compile(r"\b(try|use|see|start|stop|run|choose|pick|remove|check|give|set|install|rebuild"
                    r"|raise|expected|known|must|needs?|usage|instead|without|correct|shorter|at most)\b|--help", re.I)
SECONDS = 10
MANUAL = pathlib.Path(__file__).resolve().parents[2] / "docs" / "man"
# It works everywhere: else a line of canald tells that io_uring does not work here.
EPOLL = ["--engine", "epoll"]


def assert_refused(program, *things):
    """Ended with a status other than zero and one line that names the things and a remedy."""
    assert program.returncode not in (None, 0), program.describe()
    assert program.returncode > 0, program.describe()
    lines = program.stderr.splitlines()
    assert len(lines) == 1, program.describe()
    for thing in things:
        assert str(thing) in lines[0], program.describe()
    assert REMEDY.search(lines[0]), f"no remedy: {program.describe()}"
    assert not program.stdout, program.describe()


@pytest.fixture
def compiled(work_dir):
    """Compile a C text to a file in work_dir."""
    def compile_c(name, text, *options):
        path = work_dir / name
        subprocess.run(["cc", "-x", "c", "-o", path, *options, "-"], input=text.encode(),
                       check=True, timeout=60)
        return path
    return compile_c


def hang_up_once(listener, real):
    """Ends who says HELLO, and has the next one come to the canald at `real`. Who says nothing only looks."""
    while True:
        with listener.accept()[0] as conn:
            if conn.recv(4096):
                os.link(real, f"{listener.getsockname()}.new")
                os.rename(f"{listener.getsockname()}.new", listener.getsockname())
                return


def test_canald_that_hangs_up_is_asked_again(canal, work_dir):
    path = work_dir / "once.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=hang_up_once, args=(listener, canal.canald.socket), daemon=True)
        thread.start()
        program = canal.programs.run([canal.canald.bin_dir / "canal-run", "--socket", path, "--", PYTHON, "-c",
                                      "import socket; socket.create_server(('127.0.0.1', 0)); print('served')"],
                                     harness.environment(CANAL_FALLBACK="deny"), seconds=SECONDS)
        thread.join(SECONDS)
    assert program.stdout == "served\n", program.describe()
    assert not program.stderr, program.describe()


# --- transparent ------------------------------------------------------------------------------

@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_exit_status(canal, status):
    canal.run(["sh", "-c", f"exit {status}"], status=status, seconds=SECONDS)


@pytest.mark.parametrize("name", ["TERM", "KILL", "USR1"])
def test_death_by_signal(canal, name):
    number = signal.Signals[f"SIG{name}"]
    canal.run(["sh", "-c", f"kill -{name} $$"], status=-number, seconds=SECONDS)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGWINCH"])
def test_signals_reach_program(canal, name):
    script = (f"import signal, sys; wanted = [signal.{name}];"
              "signal.pthread_sigmask(signal.SIG_BLOCK, wanted); print('ready', flush=True);"
              "sys.exit(40 + (signal.sigtimedwait(wanted, 20) is not None))")
    program = canal.start([PYTHON, "-c", script])
    program.wait_printed("ready")
    program.send_signal(signal.Signals[name])
    assert program.wait(SECONDS) == 41, program.describe()


def test_arguments_stay_as_they_are(canal):
    arguments = ["--socket", "a b", "", "--", "-x", "*", "ä\n"]
    script = "import json, sys; json.dump(sys.argv[1:], sys.stdout)"
    program = canal.run([PYTHON, "-c", script, *arguments], seconds=SECONDS)
    assert json.loads(program.stdout) == arguments


def test_double_dash_is_optional(programs, canald, bin_dir):
    program = programs.run([bin_dir / "canal-run", "--socket", canald.socket,
                            "echo", "--socket", "x"], seconds=SECONDS)
    assert program.stdout == "--socket x\n"


def test_standard_streams(canal, work_dir):
    (work_dir / "in").write_text("passed through\n")
    with open(work_dir / "in", "rb") as stdin:
        program = canal.run(["sh", "-c", "cat; echo error >&2"], stdin=stdin, seconds=SECONDS)
    assert program.stdout == "passed through\n"
    assert program.stderr == "error\n"


def test_environment_and_directory(canal, work_dir):
    program = canal.run(["sh", "-c", 'echo "$MARK $PWD"'], env={"MARK": "a b"}, cwd=work_dir,
                        seconds=SECONDS)
    assert program.stdout == f"a b {work_dir}\n"


def test_existing_preload_is_kept(canal, compiled):
    """Both libraries are in the program, and in a program that it executes."""
    marker = compiled("libmarker.so", "int canal_test_marker;", "-shared", "-fPIC")
    program = canal.run(["sh", "-c", "cat /proc/self/maps; exit 0"],
                        env={"LD_PRELOAD": str(marker)}, seconds=SECONDS)
    assert "libmarker.so" in program.stdout
    assert "libcanal.so" in program.stdout


def test_script_is_covered(canal, canald, work_dir, programs, native, files_dir, small_files,
                           free_port):
    """A script runs by its interpreter, and the programs that it starts are covered too."""
    port = free_port()
    servers.nginx(native, work_dir, port, files_dir)
    script = work_dir / "script"
    script.write_text('#!/bin/sh\ncurl --silent --fail --output "$1" "$2"\n')
    script.chmod(0o755)
    before = canald.status()["total"]["connections"]
    canal.run([script, work_dir / "copy", servers.url(port, small_files[0].name)])
    small_files[0].assert_equal(work_dir / "copy")
    canald.wait_status(lambda status: status["total"]["connections"] > before,
                       "the script's curl did not go through canald")


# --- what canal-run refuses ---------------------------------------------------------------------

def test_static_binary(canal, compiled):
    path = compiled("static-program", "int main(void) { return 0; }", "-static")
    assert_refused(canal.run([path], status=None, seconds=SECONDS), path, "static")


def test_static_pie_binary(canal, compiled):
    path = compiled("static-program", "int main(void) { return 0; }", "-static-pie", "-fPIE")
    assert_refused(canal.run([path], status=None, seconds=SECONDS), path, "static")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_setuid_binary(canal, compiled):
    path = compiled("setuid-program", "int main(void) { return 0; }")
    os.chown(path, 65534, 65534)
    path.chmod(0o4755)
    assert_refused(canal.run([path], status=None, seconds=SECONDS), path, "set")


@pytest.mark.parametrize("elf_class,machine", [(2, 183), (1, 3)], ids=["aarch64", "i386"])
def test_binary_of_other_machine(canal, work_dir, elf_class, machine):
    path = work_dir / "other-machine"
    path.write_bytes(struct.pack("<4sBBBB8xHHI", b"\x7fELF", elf_class, 1, 1, 0, 2, machine, 1)
                     + bytes(40))
    path.chmod(0o755)
    assert_refused(canal.run([path], status=None, seconds=SECONDS), path)


def test_neither_elf_nor_script(canal, work_dir):
    path = work_dir / "noise"
    path.write_bytes(b"\x01\x02\x03 noise\n" * 10)
    path.chmod(0o755)
    assert_refused(canal.run([path], status=None, seconds=SECONDS), path)


def test_script_without_its_interpreter(canal, work_dir):
    """It cannot be run without canal-run either, and that is not what is said."""
    path = work_dir / "script"
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    program = canal.run([path], status=126, seconds=SECONDS)
    assert_refused(program, path, "/no/such/interpreter", "cannot be run")
    assert "without canal-run" not in program.stderr, program.describe()


@pytest.mark.parametrize("kind,status", [("missing", 127), ("directory", 126), ("plain", 126)])
def test_command_that_cannot_run(canal, work_dir, kind, status):
    """The statuses that a shell uses."""
    path = work_dir / kind
    if kind == "directory":
        path.mkdir()
    elif kind == "plain":
        path.write_text("no permission to execute")
        path.chmod(0o644)
    assert_refused(canal.run([path], status=status, seconds=SECONDS), path)


def test_command_not_on_path(canal):
    assert_refused(canal.run(["no-such-command-here"], status=127, seconds=SECONDS),
                   "no-such-command-here")


@pytest.mark.parametrize("kind", ["missing", "file", "directory", "abandoned", "stream"])
def test_no_canald(programs, bin_dir, work_dir, kind):
    """A socket path that nobody serves: neither run natively nor wait."""
    path = work_dir / "none.sock"
    if kind == "file":
        path.touch()
    elif kind == "directory":
        path.mkdir()
    elif kind == "abandoned":
        with harness.socket.socket(harness.socket.AF_UNIX,
                                   harness.socket.SOCK_SEQPACKET) as abandoned:
            abandoned.bind(str(path))
    with contextlib.ExitStack() as stack:
        if kind == "stream":
            other = stack.enter_context(socket.socket(socket.AF_UNIX))
            other.bind(str(path))
            other.listen()
        for command in ([bin_dir / "canal-run", "--socket", path, "--", "echo", "not reached"],
                        [bin_dir / "canalctl", "--socket", path, "status"]):
            program = programs.run(command, status=None, seconds=SECONDS)
            assert_refused(program, path)
            assert ("no socket" in program.stderr) == (kind in ("file", "directory")), program.describe()
            assert ("another program's" in program.stderr) == (kind == "stream"), program.describe()


# --- options ------------------------------------------------------------------------------------

@pytest.mark.parametrize("command,thing", [
    (["canal-run", "--bogus"], "--bogus"),
    (["canal-run"], "canal-run"),
    (["canal-run", "--socket"], "--socket"),
    (["canal-run", "--socket", "/tmp/x"], "canal-run"),
    (["canald", "--bogus"], "--bogus"),
    (["canald", "--socket"], "--socket"),
    (["canald", "surplus"], "surplus"),
    (["canald", "--engine", "steam", "--socket", "WORK/s"], "steam"),
    (["canald", *EPOLL, "--socket", "WORK/missing/s"], "missing/s"),
    (["canald", "--socket", f"WORK/{'x' * 120}"], "xxx"),
    (["canald", "--config", "WORK/missing.conf", "--socket", "WORK/s"], "missing.conf"),
    (["canald", "--config", "WORK", "--socket", "WORK/s"], "WORK"),
    (["canalctl", "--bogus"], "--bogus"),
    (["canalctl"], "canalctl"),
    (["canalctl", "dance"], "dance"),
    (["canalctl", "status", "--bogus"], "--bogus"),
    (["canalctl", "sockets", "-q"], "canalctl sockets --help"),
    (["canald", "--no-join=1"], "--no-join=1: takes no value"),
    (["canald", "--help=1"], "--help=1: takes no value"),
    (["canalctl", "--json=1", "status"], "--json=1: takes no value"),
    (["canalctl", "--json", "-jx", "status"], "-x: no such option"),
    (["canal-run", "--check=1", "true"], "--check=1: takes no value"),
    (["canald", "--socket", ""], "--socket"),
    (["canalctl", "--socket", "", "status"], "needs a path"),
    (["canal-run", "--socket", "", "true"], "needs a path"),
    (["prlimit", "--nofile=4", "BIN/canald", *EPOLL, "--socket", "WORK/s"], "LimitNOFILE"),
], ids=lambda value: "-".join(value)[:40].replace("/", "_") if isinstance(value, list) else "")
def test_bad_command_line(programs, bin_dir, work_dir, command, thing):
    """One line; nothing half-started; no socket left behind."""
    command = [word.replace("WORK", str(work_dir)).replace("BIN", str(bin_dir)) for word in command]
    if command[0].startswith("canal"):
        command[0] = bin_dir / command[0]
    program = programs.run(command, status=None, seconds=SECONDS)
    assert_refused(program, thing.replace("WORK", str(work_dir)))
    assert not (work_dir / "s").exists()


@pytest.mark.parametrize("name,section", [("canald", 8), ("canal-run", 1), ("canalctl", 1)])
def test_options_of_manual(programs, bin_dir, name, section):
    """The manual page has each option that --help has, and no other."""
    pages = [programs.run([bin_dir / name, "--help"], seconds=SECONDS).stdout]
    if name == "canalctl":
        pages += [programs.run([bin_dir / name, word, "--help"], seconds=SECONDS).stdout
                  for word in ("status", "sockets", "ports")]
    helped = {word for page in pages for line in page.splitlines() if re.match(r"  +-", line)
              for word in re.findall(r"--[a-z][a-z0-9-]*", line)}
    manual = (MANUAL / f"{name}.{section}").read_text()
    described = {f"--{word}" for line in manual.splitlines() if line.startswith(".It Fl")
                 for word in re.findall(r"Fl -([a-z][a-z0-9-]*)", line)}
    assert sorted(described) == sorted(helped)


def test_keys_of_manual(programs, bin_dir, work_dir):
    """canald.conf(5) has each key that canald says it knows, and no other."""
    config = work_dir / "canald.conf"
    config.write_text("[canald]\nxxxxxxxxxxxx = 1\n[guest a]\nxxxxxxxxxxxx = 1\n")
    told = programs.run([bin_dir / "canald", "--check", config], status=1).stdout.splitlines()
    manual = (MANUAL / "canald.conf.5").read_text()
    parts = manual.split(".Ss ")
    for line, part in zip(told, parts[1:3]):
        known = line.split("known are ")[1].split(", ")
        described = [word for row in part.splitlines() if row.startswith(".It Cm") for word in row[7:].split(" , ")]
        assert sorted(known) == sorted(described)


@pytest.mark.parametrize("name", ["canald", "canal-run", "canalctl"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version(programs, bin_dir, name, option):
    program = programs.run([bin_dir / name, option], seconds=SECONDS)
    assert name in program.stdout and not program.stderr, program.describe()


@pytest.mark.parametrize("name,status", [("canald", 1), ("canal-run", 125), ("canalctl", 1)])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_output_that_is_lost(bin_dir, name, status, option):
    with open("/dev/full", "w", encoding="ascii") as full:
        program = subprocess.run([bin_dir / name, option], stdout=full, stderr=subprocess.PIPE, text=True,
                                 timeout=SECONDS, check=False)
    assert program.returncode == status
    assert program.stderr == f"{name}: standard output: No space left on device\n"


@pytest.mark.parametrize("text", ["[canald\n", "[canald]\npoll = sideways\n",
                                  "[canald]\nno_such_key = 1\n"],
                         ids=["syntax", "value", "key"])
def test_bad_config(programs, bin_dir, work_dir, text):
    """The line names the file."""
    config = work_dir / "canald.conf"
    config.write_text(text)
    program = programs.run([bin_dir / "canald", "--config", config, "--socket", work_dir / "s"],
                           status=None, seconds=SECONDS)
    assert_refused(program, config)
    assert not (work_dir / "s").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_config_without_permission(programs, bin_dir, work_dir):
    config = work_dir / "canald.conf"
    config.touch(mode=0o600)
    program = programs.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                            bin_dir / "canald", "--config", config, "--socket", "/tmp/unused.sock"],
                           status=None, seconds=SECONDS)
    assert_refused(program, config, "ermission")


# --- the socket path ----------------------------------------------------------------------------

def test_socket_path_of_living_canald(programs, canald, bin_dir):
    second = programs.run([bin_dir / "canald", *EPOLL, "--socket", canald.socket], status=None,
                          seconds=SECONDS)
    assert_refused(second, canald.socket)
    assert "guests" in canald.status(), "the first canald still answers"


def test_socket_path_of_other_file(programs, bin_dir, work_dir):
    """A file that is no socket is never removed."""
    path = work_dir / "precious"
    path.write_text("kept")
    assert_refused(programs.run([bin_dir / "canald", *EPOLL, "--socket", path], status=None,
                                seconds=SECONDS), path)
    assert path.read_text() == "kept"


def test_socket_path_of_dead_canald(bin_dir, work_dir):
    """A socket that a killed canald left behind is no obstacle."""
    first = harness.Canald(bin_dir, work_dir)
    first.program.kill()
    second = harness.Canald(bin_dir, work_dir)
    try:
        assert second.status()["guests"] == []
        second.stop()
    finally:
        second.program.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_socket_directory_without_permission(programs, bin_dir, work_dir):
    path = work_dir / "closed"
    path.mkdir(mode=0o700)
    program = programs.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                            bin_dir / "canald", *EPOLL, "--socket", path / "s"], status=None,
                           seconds=SECONDS)
    assert_refused(program, path / "s")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_canald_ends_cleanly(bin_dir, work_dir, number):
    service = harness.Canald(bin_dir, work_dir)
    try:
        service.program.stop(number=number)
        assert service.program.returncode == 0, service.program.describe()
        assert not service.socket.exists()
    finally:
        service.program.kill()


# --- a private canald, started when needed ------------------------------------------------------

no_system_canald = pytest.mark.skipif(os.path.exists("/run/canal/canald.sock"),
                                      reason="the system's canald would be taken")


def private_canalds(bin_dir, runtime_dir):
    """The pids of canalds that were started with this XDG_RUNTIME_DIR."""
    mark = f"XDG_RUNTIME_DIR={runtime_dir}".encode()
    program = (bin_dir / "canald").resolve()
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "exe").resolve() == program and \
                    mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


@pytest.fixture
def private(programs, bin_dir, work_dir):
    """Run a command of canal for a user whose runtime directory is new."""
    runtime_dir = work_dir / "run"
    runtime_dir.mkdir(mode=0o700)
    env = harness.environment(XDG_RUNTIME_DIR=str(runtime_dir), CANAL_FALLBACK="deny")

    def start(name, *arguments, **options):
        return programs.start([bin_dir / name, *arguments], env, **options)
    start.pids = lambda: private_canalds(bin_dir, runtime_dir)
    yield start
    programs.close()
    for pid in start.pids():
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        poller = harness.select.poll()
        poller.register(pidfd, harness.select.POLLIN)
        if not poller.poll(SECONDS * 1000):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


@pytest.fixture
def web(native, work_dir, files_dir, free_port):
    port = free_port()
    servers.nginx(native, work_dir, port, files_dir)
    return port


GET_AND_STAY = ("import sys, urllib.request;"
                "urllib.request.urlopen(sys.argv[1], timeout=20).read();"
                "print('ready', flush=True); sys.stdin.read()")


@no_system_canald
def test_private_canald_on_demand(private, web, small_files):
    """The first canal-run starts it, the next ones and canalctl find it."""
    url = servers.url(web, small_files[0].name)
    first = private("canal-run", PYTHON, "-c", GET_AND_STAY, url, stdin=subprocess.PIPE)
    first.wait_printed("ready")
    pids = private.pids()
    assert len(pids) == 1, pids
    second = private("canal-run", "--", PYTHON, "-c", GET_AND_STAY, url, stdin=subprocess.PIPE)
    second.wait_printed("ready")
    assert private.pids() == pids
    told = private("canalctl", "status", "--json")
    assert told.wait(SECONDS) == 0, told.describe()
    status = json.loads(told.stdout)
    assert {first.pid, second.pid} <= {guest["pid"] for guest in status["guests"]}
    assert status["total"]["connections"] >= 2
    assert status["total"]["rx_bytes"] >= 2 * small_files[0].length
    for program in (first, second):
        program.popen.stdin.close()
        assert program.wait(SECONDS) == 0, program.describe()


@no_system_canald
def test_private_canald_started_once(private, web, small_files):
    """Several programs at once agree on one canald."""
    url = servers.url(web, small_files[0].name)
    started = [private("canal-run", PYTHON, "-c", GET_AND_STAY, url, stdin=subprocess.PIPE)
               for _ in range(6)]
    for program in started:
        program.wait_printed("ready")
    assert len(private.pids()) == 1, private.pids()
    for program in started:
        program.popen.stdin.close()
        assert program.wait(SECONDS) == 0, program.describe()


@no_system_canald
def test_private_canald_is_not_heard(private, work_dir):
    """The program's own output is all there is, and its end is not delayed by canald."""
    program = private("canal-run", "echo", "only this")
    assert program.wait(SECONDS) == 0, program.describe()
    assert program.stdout == "only this\n"
    assert program.stderr == ""
