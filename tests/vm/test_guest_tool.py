# SPDX-License-Identifier: MIT
"""tests/vm/guest, the tool: exit status, output, files, network cards, and what it says of bad input."""

import http.server
import os
import shutil
import subprocess
import threading

import pytest

import harness
import image

TOOL = image.ROOT / "tests/vm/guest"
pytestmark = pytest.mark.canal_only


def guest(bin_dir, *argv, status=0):
    done = subprocess.run([TOOL, *map(str, argv)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110 * harness.PATIENCE,
                          env={**os.environ, "CANAL_BUILD": str(bin_dir.parent)})
    assert done.returncode == status, f"{done.returncode}: {done.stdout}\n{done.stderr}"
    return done


@pytest.fixture
def web_port():
    """A server on this machine's loopback that answers with one line."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"hello\n")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_output_and_status_come_out(bin_dir, tmp_path):
    """A program and a file of the host's; what it prints on either stream; how it ends."""
    note = tmp_path / "note"
    note.write_text("from the host\n")
    done = guest(bin_dir, "--file", note, "--", "sh", "-c", "cat /note; ls /sys/class/net; echo bad >&2; exit 7", status=7)
    assert done.stdout.splitlines() == ["from the host", "lo"]
    assert "bad" in done.stderr.splitlines()


def test_as_it_comes_reaches_the_hosts_loopback(bin_dir, web_port):
    assert guest(bin_dir, "--", "canal-run", "curl", "-sS", f"http://10.77.0.1:{web_port}/").stdout == "hello\n"


def test_plain_atomics_are_told(bin_dir):
    """What QEMU emulates for one processor alone are no atomic instructions: events may be lost."""
    done = guest(bin_dir, "--accel", "tcg", "--only-cpu", "--kernel-log", "-", "--", "ls", "/dev/canal")
    assert "emulated with one processor" in done.stderr, done.stderr


@pytest.mark.parametrize("kind, host", [("slirp", "10.0.2.2"), ("passt", "10.79.0.1")])
def test_cards(bin_dir, web_port, kind, host):
    """The guest's own kernel, by a card: what canal is compared with."""
    if kind == "passt" and not (shutil.which("passt") and
                                subprocess.run(["ip", "route", "show", "default"], capture_output=True).stdout):
        pytest.skip("passt wants an interface with a default route")
    told = guest(bin_dir, "--nic", kind, "--", "curl", "-sS", f"http://{host}:{web_port}/")
    assert told.stdout == "hello\n"


def test_a_tap_of_its_own(bin_dir):
    """Another address in every run, which the guest's setup has given to eth0."""
    if os.geteuid():
        pytest.skip("only root makes a tap device")
    told = guest(bin_dir, "--nic", "virtio-tap", "--", "sh", "-c", "ip addr show dev eth0; ip route")
    assert " inet 10.78." in told.stdout and "default via 10.78." in told.stdout


@pytest.mark.parametrize("argv, said", [
    (["--", "no-such-program"], "no-such-program"),
    (["--file", "/no/such/file", "--", "true"], "/no/such/file"),
    (["--config", "/no/such/conf", "--", "true"], "/no/such/conf"),
    (["--env", "NAME", "--", "true"], "expected NAME=VALUE"),
    (["--cpus", "0", "--", "true"], "--cpus 0"),
    (["--memory-size", "1", "--", "true"], "--memory-size 1"),
    (["--nic", "carrier-pigeon", "--", "true"], "carrier-pigeon"),
])
def test_bad_input_is_named(bin_dir, argv, said):
    done = subprocess.run([TOOL, *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110 * harness.PATIENCE,
                          env={**os.environ, "CANAL_BUILD": str(bin_dir.parent)})
    assert done.returncode != 0
    assert said in done.stderr and "Traceback" not in done.stderr, done.stderr
