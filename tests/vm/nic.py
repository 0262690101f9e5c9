# SPDX-License-Identifier: MIT
"""Network cards for a guest, to compare canal with: none is the default everywhere else.

    slirp       QEMU's own user network: no privileges, the host's loopback at 10.0.2.2
    passt       the same by passt(1): the host's loopback at the host's default gateway's address
    virtio-tap  a tap device of the host: root only, the host at the address of `host`

Whoever makes a card ends it: they are context managers.
"""

import contextlib
import itertools
import os
import pathlib
import shutil
import subprocess
import tempfile

import harness
import image

CARDS = itertools.count()
DEVICE = ["-device", "virtio-net-pci,netdev=net0,romfile="]
UP = "#!/bin/sh\nset -e\nip link set eth0 up\nip addr add {guest}/{bits} dev eth0\nip route add default via {gateway}\n"


class Nic:
    """QEMU's `options`, the guest's `setup` script, and the addresses of both ends."""

    def __init__(self, options=(), setup=None, host=None, guest=None):
        self.options = list(options)
        self.setup = setup
        self.host = host
        self.guest = guest


@contextlib.contextmanager
def none(_work_dir):
    yield Nic()


@contextlib.contextmanager
def slirp(_work_dir):
    yield Nic(["-netdev", "user,id=net0,restrict=off", *DEVICE],
              UP.format(guest="10.0.2.15", bits=24, gateway="10.0.2.2"), "10.0.2.2", "10.0.2.15")


@contextlib.contextmanager
def passt(work_dir):
    if not shutil.which("passt"):
        raise image.ImageError("passt is missing: apt-get install passt")
    with tempfile.TemporaryDirectory(prefix="canal-passt-") as place:
        if os.geteuid() == 0:  # then passt becomes nobody before it makes its socket
            shutil.chown(place, "nobody")
        path = pathlib.Path(place, "passt.sock")
        program = harness.Program(
            ["passt", "--foreground", "--socket", path, "--address", "10.79.0.2", "--netmask", "24",
             "--gateway", "10.79.0.1", "--no-dhcp", "--no-dhcpv6", "--no-ra"],
            work_dir, harness.environment(), "passt")
        try:
            program.wait_until(path.exists, "passt's socket")
            yield Nic(["-netdev", f"stream,id=net0,server=off,addr.type=unix,addr.path={path}", *DEVICE],
                      UP.format(guest="10.79.0.2", bits=24, gateway="10.79.0.1"), "10.79.0.1", "10.79.0.2")
        finally:
            program.stop()


def ip(*words):
    subprocess.run(["ip", *words], check=True, stdin=subprocess.DEVNULL)


@contextlib.contextmanager
def virtio_tap(_work_dir):
    if os.geteuid() != 0:
        raise image.ImageError("--nic virtio-tap makes a tap device: run it as root, or use passt")
    number = next(CARDS)
    net = (os.getpid() + number) % 256
    name, host, guest = f"canal{os.getpid() % 1000000}.{number}", f"10.78.{net}.1", f"10.78.{net}.2"
    ip("tuntap", "add", "dev", name, "mode", "tap")
    try:
        ip("addr", "add", f"{host}/24", "dev", name)
        ip("link", "set", name, "up")
        yield Nic(["-netdev", f"tap,id=net0,ifname={name},script=no,downscript=no", *DEVICE],
                  UP.format(guest=guest, bits=24, gateway=host), host, guest)
    finally:
        ip("link", "delete", name)


KINDS = {"none": none, "slirp": slirp, "passt": passt, "virtio-tap": virtio_tap}
