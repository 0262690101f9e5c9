# SPDX-License-Identifier: MIT
"""The Debian packages: built by cpack, installed by dpkg into a small Debian, looked at, and removed.

The Debian is a directory that mmdebstrap fills once, with dkms, a compiler and the headers of Debian's cloud
kernel, and that is kept as an archive below build/packages. Needs root, for that.

Environment: CANAL_SOURCE is the source tree (default: this one).
"""

import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

SOURCE = pathlib.Path(os.environ.get("CANAL_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
CACHE = SOURCE / "build" / "packages"
BUILD = SOURCE / "build" / "package"
# What the packages depend on, and what looks at them.
INCLUDED = ("dkms", "linux-headers-cloud-amd64", "udev", "systemd", "pkg-config", "libc6-dev", "liburcu8", "liburing2",
            "libjansson4", "libsystemd0")
UNNEEDED = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/man/*")
PACKAGES = ("canal-guest", "canal-host", "canal-dkms")
PROGRAM = """
#include <canal/vsocket.h>
#include <stdio.h>
#include <sys/socket.h>
int main(void) { printf("%d\\n", socket(AF_VSOCKET, SOCK_STREAM, 0) >= 0); return 0; }
"""


def command(*argv, status=0, **options):
    done = subprocess.run([str(arg) for arg in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False, **options)
    assert status is None or done.returncode == status, f"{argv}: exit {done.returncode}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def debs():
    """The packages by name, built anew."""
    for old in BUILD.glob("*.deb"):
        old.unlink()
    command("cmake", "--preset", "package", cwd=SOURCE)
    command("cmake", "--build", "--preset", "package", "--parallel", os.cpu_count(), cwd=SOURCE)
    command("cpack", cwd=BUILD)
    found = {path.name.split("_")[0]: path for path in BUILD.glob("*.deb")}
    assert sorted(found) == sorted(PACKAGES)
    return found


def root_tar():
    """The archive of the Debian, made when it is not there or other packages are wanted."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "root.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path, wanted = CACHE / "root.tar", CACHE / "root.packages"
        if not (path.exists() and wanted.exists() and wanted.read_text().split() == list(INCLUDED)):
            options = [f"--dpkgopt=path-exclude={pattern}" for pattern in UNNEEDED]
            command("mmdebstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}", *options, "bookworm", path)
            wanted.write_text("\n".join(INCLUDED))
        return path


class Root:
    def __init__(self, path):
        self.path = path

    def run(self, *argv, **options):
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        return command("unshare", "--mount", "--pid", "--fork", "--kill-child", f"--root={self.path}", "--mount-proc", *argv,
                       env=env, **options)

    def __truediv__(self, name):
        return self.path / name.lstrip("/")

    @property
    def kernels(self):
        return [path.parent.name for path in (self / "lib/modules").glob("*/build")]


@pytest.fixture(scope="module")
def root():
    if os.geteuid() != 0:
        pytest.skip("needs root")
    path = pathlib.Path(tempfile.mkdtemp(prefix="canal-packages-"))
    try:
        path.chmod(0o755)
        command("tar", "-xf", root_tar(), "-C", path)
        # Manual pages of canal are looked at; those of others were left out.
        shutil.rmtree(path / "etc/dpkg/dpkg.cfg.d", ignore_errors=True)
        if not (path / "dev/fd").exists():
            (path / "dev/fd").symlink_to("/proc/self/fd")
        yield Root(path)
    finally:
        shutil.rmtree(path)


@pytest.fixture(scope="module")
def installed(root, debs):
    for path in debs.values():
        shutil.copy(path, root / "tmp")
    told = root.run("sh", "-c", "dpkg -i /tmp/*.deb")
    for path in debs.values():
        (root / "tmp" / path.name).unlink()
    return told


def field(path, name):
    return command("dpkg-deb", "-f", path, name).strip()


def test_fields(debs):
    assert field(debs["canal-dkms"], "Architecture") == "all"
    assert "dkms" in field(debs["canal-dkms"], "Depends")
    assert re.search(r"libc6 .*", field(debs["canal-guest"], "Depends"))
    for needed in ("liburing2", "liburcu8", "libsystemd0", "libjansson4"):
        assert needed in field(debs["canal-host"], "Depends")
    for name, path in debs.items():
        assert field(path, "Maintainer") and field(path, "Description")
        assert f"./usr/share/doc/{name}/copyright\n" in command("dpkg-deb", "-c", path)


def test_all_is_configured(root, installed):
    told = root.run("dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *PACKAGES)
    assert told.splitlines() == sorted(f"{name} installed" for name in PACKAGES), installed


def test_module_is_built(root, installed):
    """For the kernel whose headers are installed, although another one runs."""
    assert root.kernels
    for release in root.kernels:
        module = root / f"lib/modules/{release}/updates/dkms/canal.ko"
        assert module.exists(), installed + root.run("sh", "-c", "cat /var/lib/dkms/canal/*/build/make.log", status=None)
        assert f"vermagic:       {release} " in root.run("modinfo", f"/lib/modules/{release}/updates/dkms/canal.ko")
    assert "installed" in root.run("dkms", "status", "canal")
    # What loads it when the device is there.
    alias = root.run("modinfo", "-F", "alias", f"/lib/modules/{root.kernels[0]}/updates/dkms/canal.ko")
    assert "pci:v00001AF4d00001110" in alias


@pytest.mark.usefixtures("installed")
def test_device_has_its_group(root):
    assert re.search(r"^canal:", (root / "etc/group").read_text(), re.M)
    assert 'GROUP="canal"' in (root / "usr/lib/udev/rules.d/60-canal.rules").read_text()


@pytest.mark.usefixtures("installed")
def test_service_has_its_user(root):
    assert re.search(r"^canal:", (root / "etc/passwd").read_text(), re.M)
    assert "ok" in root.run("sh", "-c", "systemd-analyze verify --man=no canald.service >&2 && echo ok")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("page", ["man1/canal-run.1", "man1/canalctl.1", "man5/canald.conf.5", "man7/libcanal.7",
                                  "man8/canald.8"])
def test_manual_pages(root, page):
    assert (root / f"usr/share/man/{page}").exists() or (root / f"usr/share/man/{page}.gz").exists()


@pytest.mark.usefixtures("installed")
def test_programs_run(root):
    """They find their libraries, and canal-run the one that it preloads."""
    assert "usage" in root.run("canal-run", "--help").lower()
    assert "usage" in root.run("canald", "--help").lower()
    assert "usage" in root.run("canalctl", "--help").lower()
    told = root.run("canal-run", "sh", "-c", "echo $LD_PRELOAD", status=None)
    assert "libcanal.so" in told or "canald" in told, told


@pytest.mark.usefixtures("installed")
def test_program_is_built_against_it(root):
    (root / "tmp/program.c").write_text(PROGRAM)
    root.run("sh", "-c", "cc $(pkg-config --cflags libcanal) -o /tmp/program /tmp/program.c $(pkg-config --libs libcanal)")
    assert "libcanal.so" in root.run("sh", "-c", "ldd /tmp/program | grep -v 'not found'")
    assert re.fullmatch(r"[01]\n", root.run("/tmp/program"))


@pytest.mark.usefixtures("installed")
def test_all_is_removed(root):
    """Last: nothing stays but what an administrator may have changed."""
    root.run("dpkg", "--purge", *PACKAGES)
    for name in ("usr/bin/canald", "usr/bin/canal-run", "usr/lib/udev/rules.d/60-canal.rules", "var/lib/dkms/canal"):
        assert not (root / name).exists(), name
    assert not list((root / "usr/src").glob("canal-*"))
    assert not list((root / "lib/modules").glob("*/updates/dkms/canal.ko"))
