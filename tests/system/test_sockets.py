# SPDX-License-Identifier: MIT
"""canalctl sockets: what ss(8) shows of a program natively it shows of the same program under canal."""

import contextlib
import json
import re
import socket
import subprocess
import threading

import pytest

import harness
from harness import HERE, PYTHON

pytestmark = pytest.mark.canal_only
STATES = HERE / "programs/states.py"
UNREAD = 1000


class Peer:
    """The kernel's end of the connections that states.py makes: the first byte says what it does."""

    def __init__(self):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.kept = []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                s, _ = self.server.accept()
                self.kept.append(s)
                threading.Thread(target=self.one, args=(s,), daemon=True).start()

    @staticmethod
    def one(s):
        with contextlib.suppress(OSError):
            told = s.recv(1)
            s.sendall(b".")
            if told == b"u":
                s.sendall(b"x" * UNREAD)
            elif told == b"c":
                s.shutdown(socket.SHUT_WR)
            elif told == b"f" and s.recv(1) == b"":
                s.sendall(b"!")

    def hang_up(self):
        """Nothing is taken any more: what was sent and not read is lost."""
        for s in self.kept:
            s.close()

    def close(self):
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.hang_up()
        self.thread.join(10)


@pytest.fixture
def peer():
    made = Peer()
    yield made
    made.close()


@pytest.fixture
def full():
    """A listener that takes no connection any more: a SYN to it is not answered."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        stack.enter_context(socket.create_connection(server.getsockname()))
        yield server.getsockname()[1]


def ss(pid):
    """What ss shows of a process: {(netid, local port): (state, recv_q, send_q, local, peer)}."""
    text = subprocess.run(["ss", "-tuanpH"], capture_output=True, text=True, check=True).stdout
    found = {}
    for line in text.splitlines():
        netid, state, recv_q, send_q, local, peer, *users = line.split()
        if f"pid={pid}," in " ".join(users):
            found[netid, int(local.rsplit(":", 1)[1])] = (state, int(recv_q), int(send_q), local, peer)
    return found


@pytest.fixture
def ask(bin_dir, canald):
    def run(*options, socket_path=canald.socket):
        reply = subprocess.run([bin_dir / "canalctl", "--socket", socket_path, "sockets", *options],
                               env=harness.environment(), capture_output=True, text=True, timeout=20 * harness.PATIENCE)
        assert reply.returncode == 0, reply.stderr
        return json.loads(reply.stdout)["sockets"] if "--json" in options else reply.stdout
    return run


def rows(ask, pid):
    """The same of canalctl."""
    return {(row["netid"], int(row["local"].rsplit(":", 1)[1])):
            (row["state"], row["recv_q"], row["send_q"], row["local"], row["peer"])
            for row in ask("--json") if row.get("pid") == pid}


def observe(side, look, peer, full, port, attempts=500):
    """Run states.py; what is there by name, with numbers of ports that differ from run to run left out."""
    program = side.start([PYTHON, STATES, port, peer.port, full], stdin=subprocess.PIPE)
    program.wait_until(lambda: program.stdout.endswith("\n"), "its sockets")
    names = json.loads(program.stdout)
    # Two that nobody accepts, from outside, and what arrives late: bytes are on their way.
    waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"a datagram", ("127.0.0.1", port))

    def seen():
        shown = look(program.pid)
        return {name: shown.get(("udp" if name.startswith("udp") else "tcp", number))
                for name, number in names.items()}

    def arrived():
        now = seen()
        return (all(now.values()) and now["listener"][1] == 2 and now["unread"][1] == UNREAD
                and now["udp"][1] > 0 and now["close-wait"][0] == "CLOSE-WAIT"
                and now["fin-wait"][0] == "FIN-WAIT-2")
    try:
        program.wait_until(arrived, f"what was expected; there is {seen()}")
    except AssertionError as error:
        raise AssertionError(f"{seen()}") from error
    now = seen()
    for s in waiting:
        s.close()
    program.popen.stdin.close()
    assert program.wait(20) == 0, program.describe()
    fixed = {port, port + 1, port + 2, peer.port, full}

    def plain(address):
        number = address.rsplit(":", 1)[1]
        return address if number == "*" or int(number) in fixed else re.sub(r":\d+$", ":PORT", address)
    return {name: (state, recv_q, send_q, plain(local), plain(peer))
            for name, (state, recv_q, send_q, local, peer) in now.items()}


@pytest.mark.ipv6
@pytest.mark.parametrize("options", [[], ["--engine", "epoll"]], ids=["io_uring", "epoll"])
def test_as_ss_shows_it(programs, canald, bin_dir, work_dir, free_port, peer, full, options):
    port = free_port()
    service = harness.Canald(bin_dir, work_dir, options)
    try:
        native = observe(harness.Side("native", programs, None), ss, peer, full, port)

        def look(pid):
            reply = subprocess.run([bin_dir / "canalctl", "-s", service.socket, "sockets", "-j"],
                                   capture_output=True, text=True, timeout=20 * harness.PATIENCE, check=True)
            return rows(lambda _: json.loads(reply.stdout)["sockets"], pid)
        canal = observe(harness.Side("canal", programs, service), look, peer, full, port)
        peer.hang_up()  # or the bytes that it does not read may be kept for it
        service.wait_no_leak()
        service.stop()
    finally:
        service.program.kill()
    # How much a buffer holds, and what a datagram costs there, is each side's own.
    for name, column in (("unsent", 2), ("udp", 1)):
        assert native[name][column] > 0 and canal[name][column] > 0
        for seen in (native, canal):
            seen[name] = (*seen[name][:column], "some", *seen[name][column + 1:])
    # Some kernels count a FIN that was not read as a byte.
    assert native["close-wait"][1] <= 1
    native["close-wait"] = (native["close-wait"][0], 0, *native["close-wait"][2:])
    assert canal == native


def test_joined(programs, canald, work_dir, free_port, ask):
    """Both ends under canal, in memory: the states are those that loopback would have."""
    port = free_port()
    side = harness.Side("canal", programs, canald)
    script = (
        "import socket, sys; l = socket.create_server(('127.0.0.1', int(sys.argv[1])));"
        "c = [socket.create_connection(('127.0.0.1', int(sys.argv[1]))) for _ in range(3)];"
        "a = [l.accept()[0] for _ in range(3)];"
        "c[0].sendall(b'x' * 300); c[1].shutdown(socket.SHUT_WR); a[1].recv(1);"
        "c[2].shutdown(socket.SHUT_WR); a[2].shutdown(socket.SHUT_WR); a[2].recv(1); c[2].recv(1);"
        "print([s.getsockname()[1] for s in c], flush=True); sys.stdin.read()")
    program = side.start([PYTHON, "-c", script, port], stdin=subprocess.PIPE)
    program.wait_until(lambda: program.stdout.endswith("\n"), "its sockets")
    numbers = json.loads(program.stdout)

    def seen():
        shown = {(row["local"], row["peer"]): row for row in ask("--json", "-t")
                 if row.get("pid") == program.pid}
        out = []
        for number in numbers:
            out.append([shown.get((f"127.0.0.1:{a}", f"127.0.0.1:{b}"))
                        for a, b in ((number, port), (port, number))])
        return out
    program.wait_until(lambda: all(all(pair) for pair in seen())
                       and seen()[0][1]["recv_q"] == 300, "300 bytes to read")
    pairs = seen()
    assert [[row["state"] for row in pair] for pair in pairs] == [
        ["ESTAB", "ESTAB"], ["FIN-WAIT-2", "CLOSE-WAIT"], ["UNCONN", "UNCONN"]]
    assert all(row["joined"] for pair in pairs for row in pair)
    program.popen.stdin.close()
    assert program.wait(20) == 0, program.describe()


def test_who_holds_it(programs, canald, free_port, ask):
    """The process that made or took a socket, by its own name, and its relatives when it is gone."""
    port = free_port()
    script = (
        "import os, socket, sys; l = socket.create_server(('127.0.0.1', int(sys.argv[1])));"
        "pid = os.fork();\n"
        "if pid == 0:\n"
        " open('/proc/self/comm', 'w').write('a child')\n"
        " s = socket.create_server(('127.0.0.1', int(sys.argv[1]) + 1))\n"
        " print(os.getpid(), flush=True)\n"
        " sys.stdin.read(); os._exit(0)\n"
        "os.waitpid(pid, 0)")
    program = harness.Side("canal", programs, canald).start([PYTHON, "-c", script, port],
                                                             stdin=subprocess.PIPE)
    program.wait_until(lambda: program.stdout.endswith("\n"), "a child")
    child = int(program.stdout)
    mine = {row["local"]: (row["program"], row["pid"]) for row in ask("--json", "-l")
            if row.get("pid") in (child, program.pid)}
    assert mine == {f"127.0.0.1:{port}": ("python3", program.pid),
                    f"127.0.0.1:{port + 1}": ("a child", child)}
    program.popen.stdin.close()
    assert program.wait(20) == 0, program.describe()


@pytest.mark.ipv6
def test_filters_and_table(programs, canald, free_port, ask):
    port = free_port()
    script = (
        "import socket, sys; p = int(sys.argv[1]); l = socket.create_server(('127.0.0.1', p), backlog=100);"
        "m = socket.create_server(('::1', p), family=socket.AF_INET6);"
        "c = socket.create_connection(('127.0.0.1', p)); u = socket.socket(type=socket.SOCK_DGRAM);"
        "u.bind(('127.0.0.1', p)); print('ready', flush=True); sys.stdin.read()")
    program = harness.Side("canal", programs, canald).start([PYTHON, "-c", script, port],
                                                             stdin=subprocess.PIPE)
    program.wait_printed("ready")

    def shown(*options):
        return sorted((row["netid"], row["state"], row["family"]) for row in ask("--json", *options)
                      if row.get("pid") == program.pid)
    listen, listen6 = ("tcp", "LISTEN", "inet"), ("tcp", "LISTEN", "inet6")
    estab, udp = ("tcp", "ESTAB", "inet"), ("udp", "UNCONN", "inet")
    program.wait_until(lambda: estab in shown(), "connection")
    everything = sorted({listen, listen6, estab, udp})
    assert sorted(set(shown())) == everything
    assert sorted(set(shown("-tuanp"))) == everything
    assert shown("-l") == sorted([listen, listen6, udp])
    assert shown("-lt") == sorted([listen, listen6])
    assert shown("-u") == [udp]
    assert shown("-6") == [listen6]
    assert shown("--listening", "--tcp", "--ipv4") == [listen]
    head, *lines = ask("-lt4").splitlines()
    assert re.split(r"\s{2,}", head) == ["Netid", "State", "Recv-Q", "Send-Q", "Local Address:Port",
                                         "Peer Address:Port", "Guest", "Process"]
    line = next(line for line in lines if f"pid={program.pid}" in line)
    assert line.split() == ["tcp", "LISTEN", "1", "100", f"127.0.0.1:{port}", "0.0.0.0:*", "-",
                            f"python3,pid={program.pid}"], line
    program.popen.stdin.close()
    assert program.wait(20) == 0, program.describe()


def test_guests(programs, bin_dir, work_dir):
    """A guest's own addresses, and only the sockets of the one asked for."""
    config = work_dir / "canald.conf"
    config.write_text("".join(f"[guest {name}]\nsocket = {work_dir}/{name}.sock\naddress = {address}\n"
                              for name, address in (("web1", "10.77.0.2"), ("web2", "10.77.0.3"))))
    service = harness.Canald(bin_dir, work_dir, ["--config", config])
    script = ("import socket, sys; l = socket.create_server(('', 80));"
              "l2 = socket.create_server((sys.argv[1], 81)); print('ready', flush=True); sys.stdin.read()")

    def canalctl(*options):
        return subprocess.run([bin_dir / "canalctl", "-s", service.socket, "sockets", *options],
                              capture_output=True, text=True, timeout=20 * harness.PATIENCE)
    try:
        running = {}
        for name, address in (("web1", "10.77.0.2"), ("web2", "10.77.0.3")):
            running[name] = programs.start(
                [bin_dir / "canal-run", "-s", work_dir / f"{name}.sock", "--", PYTHON, "-c", script,
                 address], harness.environment(CANAL_FALLBACK="deny"), stdin=subprocess.PIPE)
            running[name].wait_printed("ready")
        both = json.loads(canalctl("--json").stdout)["sockets"]
        assert sorted((row["guest"], row["local"]) for row in both) == [
            ("web1", "0.0.0.0:80"), ("web1", "10.77.0.2:81"),
            ("web2", "0.0.0.0:80"), ("web2", "10.77.0.3:81")]
        assert json.loads(canalctl("-j46tu").stdout)["sockets"] == both
        assert json.loads(canalctl("-j6").stdout)["sockets"] == []
        twice = canalctl("--guest", "web1", "--guest", "web2")
        assert twice.returncode == 2 and "there can be one" in twice.stderr
        one = json.loads(canalctl("--json", "--guest", "web2").stdout)["sockets"]
        assert [row for row in both if row["guest"] == "web2"] == one
        assert {row["pid"] for row in one} == {running["web2"].pid}
        nobody = canalctl("--guest", "web3")
        assert nobody.returncode == 1 and "web3" in nobody.stderr and not nobody.stdout
        assert "which has web1, web2" in nobody.stderr, nobody.stderr
        for program in running.values():
            program.popen.stdin.close()
            assert program.wait(20) == 0, program.describe()
        service.wait_no_leak()
        service.stop()
    finally:
        service.program.kill()


def test_ten_thousand(programs, canald, free_port, ask):
    """All of them, each once; and a transfer goes on meanwhile."""
    count = 10000
    script = (
        "import resource, socket, sys; n = int(sys.argv[1]);"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (n + 500, n + 500));"
        "s = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(n)];"
        "a, b = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM);"
        "b.bind(('127.0.0.1', 0)); a.connect(b.getsockname()); print('ready', flush=True)\n"
        "b.settimeout(10)\n"
        "import threading; end = threading.Event()\n"
        "threading.Thread(target=lambda: (sys.stdin.read(), end.set())).start()\n"
        "rounds = 0\n"
        "while not end.is_set():\n"
        " a.send(b'x'); b.recv(1); rounds += 1\n"
        "print('rounds', rounds)")
    program = harness.Side("canal", programs, canald).start([PYTHON, "-c", script, count],
                                                             stdin=subprocess.PIPE)
    program.wait_printed("ready", 60)
    numbers = [row["id"] for row in ask("--json", "-u") if row.get("pid") == program.pid]
    assert len(numbers) == len(set(numbers)) == count + 2
    assert len(ask("-u").splitlines()) >= count + 3
    program.popen.stdin.close()
    assert program.wait(60) == 0, program.describe()
    assert re.search(r"rounds [1-9]", program.stdout), program.describe()


@pytest.mark.parametrize("words,wanted", [
    (["s"], {"status", "sockets"}), (["sockets", "--g"], {"--guest"}), (["status", "--g"], set()),
    (["--json", "p"], {"ports"}), (["sockets", "--json", "--ipv"], {"--ipv4", "--ipv6"})])
def test_completion(words, wanted):
    script = (f"source {HERE.parents[1]}/host/canalctl.bash; COMP_WORDS=(canalctl \"$@\"); COMP_CWORD=$#;"
              "_canalctl; printf '%s\\n' \"${COMPREPLY[@]}\"")
    told = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, timeout=10,
                          check=True)
    assert set(told.stdout.split()) == wanted and not told.stderr
