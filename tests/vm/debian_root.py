# SPDX-License-Identifier: MIT
"""A guest that is a whole small Debian, with systemd as its init and canal installed as by its packages.

The root is made by mmdebstrap once and kept below build/vm; it runs from memory, as any guest here. The agent
is one of its services.
"""

import os
import pathlib
import re
import stat
import tarfile
import tempfile

import image

PACKAGES = ("systemd", "systemd-sysv", "dbus", "udev", "adduser", "curl", "liburcu8", "liburing2",
            "libjansson4", "libelf1", "libsystemd0")
UNNEEDED = re.compile(r"^(usr/share/(doc|man|locale|info|i18n|zoneinfo)|var/cache/apt|var/lib/apt/lists|usr/include)/")
SERVICE = """[Unit]
Description=Runs what the tests send
[Service]
Type=exec
ExecStart=/usr/local/sbin/guest-agent
[Install]
WantedBy=multi-user.target
"""
MEMORY_MIB = 1280


def root_tar():
    """The root's archive, made when it is not there or other packages are wanted."""
    with image.locked("root"):
        path = image.CACHE / "root.tar"
        wanted = image.CACHE / "root.packages"
        if path.exists() and wanted.exists() and wanted.read_text().split() == list(PACKAGES):
            return path
        image.command("mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", path)
        wanted.write_text("\n".join(PACKAGES))
        return path


class Root(image.Initramfs):
    """The archive of a root, to which more is added before it is written."""

    def __init__(self, tar_path):
        super().__init__()
        self.entries.clear()
        with tarfile.open(tar_path) as tar:
            for member in tar:
                self._take(tar, member)

    def _take(self, tar, member):
        name = member.name.removeprefix("./").rstrip("/")
        if not name or name == "." or UNNEEDED.match(name + "/") or member.isdev():
            return
        kinds = {member.isdir: stat.S_IFDIR, member.issym: stat.S_IFLNK, member.isreg: stat.S_IFREG}
        kind = next((kind for test, kind in kinds.items() if test()), stat.S_IFREG)  # else a hard link: a copy
        content = b""
        if member.issym():
            content = member.linkname.encode()
        elif kind == stat.S_IFREG:
            content = tar.extractfile(member).read()
        self.entries[name] = image.Entry(kind | member.mode, content, owner=(member.uid, member.gid),
                                         mtime=int(member.mtime))

    def install(self, build_dir):
        """What `cmake --install` installs."""
        with tempfile.TemporaryDirectory(prefix="canal-root-") as directory:
            image.command("env", f"DESTDIR={directory}", "cmake", "--install", build_dir)
            for path in sorted(pathlib.Path(directory).rglob("*")):
                name = image.place(str(path.relative_to(directory)))
                if path.is_symlink():
                    self.link(name, str(path.readlink()))
                elif path.is_file():
                    self._parents(name)
                    self.entries[name] = image.Entry(stat.S_IFREG | stat.S_IMODE(path.stat().st_mode), path.read_bytes())


def write(path, for_kernel, bin_dir, texts=()):
    """Writes the archive to boot from. `texts`: pairs of a path in the guest and a text."""
    root = Root(root_tar())
    root.entries["dev/console"] = image.Entry(stat.S_IFCHR | 0o600, device=os.makedev(5, 1))
    root.link("init", "/sbin/init")
    image.agent(root, bin_dir, "/usr/local/sbin/guest-agent", for_kernel)
    root.file(image.BUSYBOX, "/usr/local/bin/busybox")
    root.text("etc/systemd/system/guest-agent.service", SERVICE)
    root.link("etc/systemd/system/multi-user.target.wants/guest-agent.service", "/etc/systemd/system/guest-agent.service")
    root.text("etc/hostname", "guest\n")
    root.text("etc/ld.so.preload", "")
    root.install(bin_dir.parent)
    for name, text in texts:
        root.text(name.lstrip("/"), text)
    root.write(path)
