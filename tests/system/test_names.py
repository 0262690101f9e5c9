# SPDX-License-Identifier: MIT
"""Names: the guest's own files, then canald; the same answers as natively.

The programs, canald and a name server run in a network namespace that has nothing but a loopback,
with files of their own below /etc:

    canal-run PROGRAM ── canald ── 127.0.0.1:53 name_server.py
       /etc of the guest    /etc of canald
"""

import re
import subprocess

import pytest

import harness
from harness import PYTHON
from oracle import Oracle

pytestmark = pytest.mark.canal_only
SERVER = harness.HERE / "programs/name_server.py"
SECONDS = 60
RESOLV = "nameserver 127.0.0.1\nsearch example.test\noptions ndots:1 "
# Where each name has an answer it may take its time; one that has none costs this much.
PATIENT, QUICK = "timeout:10 attempts:2\n", "timeout:4 attempts:1\n"
HOSTS = "127.0.0.1 localhost\n::1 localhost\n"
GUEST_HOSTS = HOSTS + "192.0.2.77 mine mine-too mine.example.test\n2001:db8::77 mine\n203.0.113.9 named\n"
SERVICES = "http 80/tcp\nhttps 443/tcp\ncanal-test 7777/tcp\ncanal-test 7778/udp\n"
UNSHARE = ["unshare", "--map-root-user", "--mount", "--net", "sh", "-c"]


class Lan:
    """Namespaces with a name server; `prefix()` leads a command into them, with files of its own."""

    def __init__(self, programs, work_dir, patience):
        self.programs, self.work_dir = programs, work_dir
        self.server = programs.start(
            [*UNSHARE, f'ip link set lo up && mount --bind "$1" /etc/resolv.conf && exec {PYTHON} "$2"',
             "sh", self.file("resolv.conf", RESOLV + patience), SERVER])
        self.server.wait_printed("ready\n")

    def file(self, name, text):
        path = self.work_dir / name
        path.write_text(text)
        return path

    def prefix(self, **files):
        """hosts="..." is seen as /etc/hosts, and so on."""
        text = "".join(f"mount --bind {self.file(f'{name}.{abs(hash(content))}', content)} /etc/{path} && "
                       for name, content in files.items()
                       for path in [{"nsswitch": "nsswitch.conf"}.get(name, name)])
        return ["nsenter", "--target", self.server.pid, "--user", "--mount", "--net",
                "--preserve-credentials", "unshare", "--mount", "sh", "-c", text + 'exec "$@"', "sh"]

    def asked(self):
        """Names that the server was asked for."""
        return [line.split()[1] for line in self.server.stdout.splitlines() if " " in line]


@pytest.fixture
def lan(request, programs, work_dir):
    if subprocess.run([*UNSHARE, "ip link set lo up"], capture_output=True, timeout=10).returncode:
        pytest.skip("no namespaces can be made here")
    return Lan(programs, work_dir, PATIENT if request.node.get_closest_marker("patient") else QUICK)


@pytest.fixture
def service(lan, bin_dir, work_dir):
    made = []

    def start(options=(), **files):
        files = {"hosts": HOSTS, "services": SERVICES, "nsswitch": "hosts: files dns\n", **files}
        canald = harness.Canald(bin_dir, work_dir, options, prefix=lan.prefix(**files))
        made.append(canald)
        return canald
    yield start
    try:
        for canald in made:
            if canald.program.returncode is None:
                canald.wait_no_leak()
                canald.stop()
    finally:
        for canald in made:
            canald.program.kill()


def guest(canald, argv, prefix, **env):
    env = {"CANAL_FALLBACK": "deny", **env}
    return [*prefix, "env", *(f"{name}={value}" for name, value in env.items()), *canald.wrap(argv)]


def natively(programs, argv):
    """What a program prints without canal; libc's own crash is one of the things that may differ from run to run."""
    def run():
        program = programs.run(argv, seconds=SECONDS, status=None)
        program.crash_is_its_own = True
        return program.stdout
    return Oracle(" ".join(map(str, argv[-3:])), run)


NSSWITCHES = pytest.mark.parametrize("nsswitch", ["hosts: files dns", "hosts: dns files", "hosts: files",
                                                  "passwd: files\nhosts:\tfiles [NOTFOUND=return] dns"])


@pytest.mark.patient
@pytest.mark.seconds(240)
@NSSWITCHES
def test_as_natively(lan, service, programs, bin_dir, nsswitch):
    """Every function that looks names up, natively and under canal, with the same files."""
    canald = service()
    prefix = lan.prefix(hosts=GUEST_HOSTS, services=SERVICES, nsswitch=nsswitch + "\n")
    argv = [bin_dir / "calls_resolver", "4"]
    native = natively(programs, [*prefix, *argv])
    canal = programs.run(guest(canald, argv, prefix), seconds=SECONDS)
    assert "8 of 8 threads" in canal.stdout or nsswitch.endswith((": files", "[NOTFOUND=return] dns"))
    native.check(canal.stdout)


LOOK_UP = """
import socket, sys
for name in sys.argv[1:]:
    try: print(name, sorted({ai[4][0] for ai in socket.getaddrinfo(name, None)}), flush=True)
    except socket.gaierror as error: print(name, error.errno - 0 and socket.gaierror.__name__, flush=True)
"""


def test_whose_files_count(lan, service, programs):
    """The guest's before canald's, and each for what the other has not; nobody is asked for what is there."""
    canald = service(hosts=HOSTS + "203.0.113.1 host-only mine\n")
    prefix = lan.prefix(hosts=GUEST_HOSTS, nsswitch="hosts: files dns\n")
    program = programs.run(guest(canald, [PYTHON, "-c", LOOK_UP, "mine", "host-only", "one", "nowhere"], prefix,
                                 CANAL_LOG=f"debug:{lan.work_dir}/trace"), seconds=SECONDS)
    assert program.stdout.splitlines() == [
        "mine ['192.0.2.77', '2001:db8::77']", "host-only ['203.0.113.1']", "one ['192.0.2.1']",
        "nowhere gaierror"]
    assert not {"mine", "mine.example.test", "host-only.example.test"} & set(lan.asked())
    trace = (lan.work_dir / "trace").read_text()
    assert re.search(r'getaddrinfo\("mine".* = 0 \[files\]', trace)
    assert re.search(r'getaddrinfo\("one".*192\.0\.2\.1:0.* = 0 \[canald\]', trace)
    assert re.search(r'getaddrinfo\("nowhere".* = EAI_NONAME \[canald\]', trace)


def test_addresses_of_a_guest(lan, service, programs):
    """AI_ADDRCONFIG asks what the guest has, not what its host has."""
    path = lan.work_dir / "v4.sock"
    config = lan.file("canald.conf", f"[guest v4]\nsocket = {path}\naddress = 10.77.0.2\n")
    canald = service(["--config", config])
    script = ("import socket; print(sorted({ai[4][0] for ai in socket.getaddrinfo('both', 80,"
              "flags=socket.AI_ADDRCONFIG)}), sorted({ai[4][0] for ai in socket.getaddrinfo('both', 80)}))")
    command = [canald.bin_dir / "canal-run", "--socket", path, "--", PYTHON, "-c", script]
    program = programs.run([*lan.prefix(), *command], seconds=SECONDS)
    assert program.stdout == "['192.0.2.2'] ['192.0.2.2', '2001:db8::2']\n"


SLOW = """
import socket, sys, threading
def ask(i):
    try: socket.getaddrinfo(f"silent{i}.example.test", None)
    except socket.gaierror: pass
threads = [threading.Thread(target=ask, args=(i,)) for i in range(int(sys.argv[1]))]
for t in threads: t.start()
for t in threads: t.join()
print("done")
"""


def test_slow_names_of_one_guest(lan, service, programs):
    """They do not hold up another's."""
    paths = {name: lan.work_dir / f"{name}.sock" for name in ("slow", "quick")}
    config = lan.file("canald.conf", "".join(f"[guest {name}]\nsocket = {path}\naddress = 10.77.0.{i}\n"
                                               for i, (name, path) in enumerate(paths.items(), 2)))
    canald = service(["--config", config])

    def run(name, *argv):
        return [*lan.prefix(), canald.bin_dir / "canal-run", "--socket", paths[name], "--", PYTHON, "-c", *argv]
    slow = programs.start(run("slow", SLOW, 6))
    slow.wait_until(lambda: len({name for name in lan.asked() if "silent" in name}) >= 2, "questions")
    quick = programs.run(run("quick", LOOK_UP, "one.example.test"), seconds=SECONDS)
    assert quick.stdout == "one.example.test ['192.0.2.1']\n"
    assert not slow.stdout, "the slow ones were done first: nothing was shown"
    assert slow.wait(SECONDS) == 0, slow.describe()


def test_cancellation(lan, service, programs, bin_dir):
    """A thread that waits for a name can be cancelled, and the next question has its own answer."""
    canald = service()
    prefix = lan.prefix(hosts=GUEST_HOSTS)
    argv = [bin_dir / "calls_resolver", "4", "cancelled"]
    native = natively(programs, [*prefix, *argv])
    canal = programs.run(guest(canald, argv, prefix), seconds=SECONDS)
    assert canal.stdout == "2 of 2 cancelled\n  192.0.2.1\n" * 2
    native.check(canal.stdout)


@NSSWITCHES
def test_cancellation_at_once(lan, service, programs, bin_dir, nsswitch):
    """At whatever point a thread was in its question, the next one finds nothing that it kept."""
    canald = service()
    prefix = lan.prefix(hosts=GUEST_HOSTS, nsswitch=nsswitch + "\n")
    argv = [bin_dir / "calls_resolver", "4", "cancelled_at_once"]
    native = natively(programs, [*prefix, *argv])
    native.check(programs.run(guest(canald, argv, prefix), seconds=SECONDS).stdout)


def test_background_of_child(lan, service, programs, bin_dir):
    """A child of one who waits for eight names in the background has a name looked up there, too.

    Natively it depends on the moment: glibc gives the child's thread the stack of a thread of its parent, with that
    one's resolver and its socket, and whichever of the two receives the answer first has it.
    """
    canald = service()
    argv = [bin_dir / "calls_resolver", "4", "background_of_child"]
    canal = programs.run(guest(canald, argv, lan.prefix(hosts=GUEST_HOSTS)), seconds=SECONDS)
    assert canal.stdout.splitlines() == [
        "getaddrinfo_a(GAI_NOWAIT, list, 8, NULL) = 0",
        "getaddrinfo_a(GAI_WAIT, (struct gaicb *[]){ &one }, 1, NULL) = 0",
        "  family 2 type 1 protocol 6 length 16 192.0.2.1 0 flags 0 name -", "child: exit 0"]


def test_without_canald(lan, service, programs):
    """Allowed: libc asks, as natively. Denied: the guest's files alone."""
    canald = service()
    script = LOOK_UP.replace("for name", "print('ready', flush=True)\nfor name") \
        .replace("    try", "    sys.stdin.readline()\n    try")
    prefix = lan.prefix(hosts=GUEST_HOSTS, nsswitch="hosts: files dns\n")
    running = {}
    for fallback in ("allow", "deny"):
        command = guest(canald, [PYTHON, "-c", script, "one", "mine", "one"], prefix, CANAL_FALLBACK=fallback)
        running[fallback] = programs.start(command, stdin=subprocess.PIPE)
        running[fallback].wait_printed("ready\n")
        running[fallback].popen.stdin.write(b"\n")
        running[fallback].popen.stdin.flush()
        running[fallback].wait_printed("one ['192.0.2.1']\n")
    canald.program.kill()
    for fallback, program in running.items():
        program.popen.stdin.write(b"\n\n")
        program.popen.stdin.close()
        assert program.wait(SECONDS) == 0, program.describe()
        assert program.stdout.splitlines()[2:] == [
            "mine ['192.0.2.77', '2001:db8::77']",
            "one ['192.0.2.1']" if fallback == "allow" else "one gaierror"], program.describe()
