# SPDX-License-Identifier: MIT
"""What a guest boots: Debian's own kernel, and an initramfs of this machine's own programs.

Nothing is installed: the kernel's package is unpacked below build/vm, and the initramfs holds the
guest's agent, busybox for the shell, the programs that were asked for with the libraries that they
need, canal's guest side, and the modules that make the two serial ports (and canal's) work.

Both are cached below build/vm; two runs at once are kept apart by a lock.
"""

import contextlib
import fcntl
import functools
import os
import pathlib
import re
import shutil
import stat
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "vm"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
MODULES = ("virtio_pci", "virtio_console", "virtio_net")
BUSYBOX = "/bin/busybox"
# As Debian has them since bookworm: the others lead to /usr.
DIRECTORIES = ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/local/bin", "etc/guest", "root",
               "dev", "proc", "sys", "tmp", "run", "var/log", "var/lib", "var/tmp")
LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "var/run": "/run"}
ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n"
              "nobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n",
    "group": "root:x:0:\ncanal:x:110:user,nobody\nuser:x:1000:\nother:x:1001:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost guest\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    "host.conf": "multi on\n",
}
COPIED = ("/etc/services", "/etc/protocols", "/etc/mime.types", "/etc/ssl/openssl.cnf")


MEMORY_LEN = 2 << 30  # of all guests of a test at once


def memory_dir():
    """Where the files of guests' memory lie: /dev/shm, unless it is a container's small one."""
    shm = os.statvfs("/dev/shm")
    return "/dev/shm" if shm.f_bavail * shm.f_frsize >= MEMORY_LEN else "/tmp"


class ImageError(Exception):
    """What cannot be built, and what to do about it."""


def command(*argv, cwd=None):
    done = subprocess.run([str(arg) for arg in argv], cwd=cwd, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise ImageError(f"{' '.join(map(str, argv))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def locked(name):
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- kernel ---------------------------------------------------------------------------------

class Kernel:
    """Debian's kernel, unpacked: `image` to boot, `modules` in the order of their needs."""

    def __init__(self, directory):
        self.directory = directory
        self.image = next(directory.glob("boot/vmlinuz-*"))
        self.release = self.image.name.removeprefix("vmlinuz-")
        self.config = (directory / "boot" / f"config-{self.release}").read_text()
        self.module_dir = directory / "lib" / "modules" / self.release / "kernel"

    @functools.cached_property
    def module_paths(self):
        return {path.stem.replace("-", "_"): path for path in self.module_dir.rglob("*.ko")}

    def modules(self, names):
        """The files of the modules `names`, each after those that it depends on."""
        found = {}

        def add(name):
            path = self.module_paths.get(name)
            if name in found or path is None:  # None: built in
                return
            for needed in module_needs(path):
                add(needed)
            found[name] = path
        for name in names:
            add(name)
        return list(found.values())

    @property
    def headers(self):
        return pathlib.Path("/usr/src") / f"linux-headers-{self.release}"


def module_needs(path):
    match = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
    names = match.group(1).decode() if match else ""
    return [name.replace("-", "_") for name in names.split(",") if name]


def kernel_package():
    """The package to boot: what CANAL_VM_KERNEL says, else the one of the cloud headers that are installed."""
    chosen = os.environ.get("CANAL_VM_KERNEL")
    if chosen:
        return chosen
    with_headers = sorted(pathlib.Path("/usr/src").glob("linux-headers-*-cloud-amd64"))
    if with_headers:
        return with_headers[-1].name.replace("headers", "image", 1)
    found = re.findall(r"Depends: (linux-image-\S+)", command("apt-cache", "depends", KERNEL_PACKAGE))
    if not found:
        raise ImageError(f"{KERNEL_PACKAGE}: apt does not know it; run apt-get update")
    return found[0]


def kernel_unpack(package, directory):
    """Downloads and unpacks; a directory that is there is whole."""
    work = directory.with_suffix(".new")
    shutil.rmtree(work, ignore_errors=True)
    (work / "deb").mkdir(parents=True)
    try:
        command("apt-get", "-o", "APT::Sandbox::User=root", "download", package, cwd=work / "deb")
    except ImageError as error:
        said = [line for line in str(error).splitlines() if line.startswith("E: ")] or [str(error)]
        raise ImageError(f"{package}, the guest's kernel, cannot be downloaded: {said[0]}\nThe first guest needs the "
                         f"network, or this package's .deb in /var/cache/apt/archives; later ones have it below {CACHE}."
                         ) from error
    command("dpkg-deb", "-x", next((work / "deb").glob("*.deb")), work)
    shutil.rmtree(work / "deb")
    work.rename(directory)


def kernel():
    with locked("kernel"):
        package = kernel_package()
        directory = CACHE / package.replace("linux-image", "kernel", 1)
        if not directory.exists():
            kernel_unpack(package, directory)
        return Kernel(directory)


# --- canal.ko -------------------------------------------------------------------------------

def newest(paths):
    return max((path.stat().st_mtime for path in paths), default=0)


def driver(for_kernel, source=ROOT):
    """canal.ko for that kernel, built from a copy of the sources; made anew when one is newer."""
    sources = [path for part in ("driver", "common") for path in (source / part).rglob("*")
               if path.suffix in (".c", ".h") or path.name in ("Kbuild", "Makefile")]
    if not any(path.name in ("Kbuild", "Makefile") and path.parent.name == "driver" for path in sources):
        raise ImageError("driver/ holds no driver: nothing to build")
    if not for_kernel.headers.exists():
        raise ImageError(f"{for_kernel.headers} is missing: run tests/lib/install vm")
    with locked("driver"):
        work = CACHE / f"driver-{for_kernel.release}"
        module = work / "driver" / "canal.ko"
        if module.exists() and module.stat().st_mtime > newest(sources):
            return module
        shutil.rmtree(work, ignore_errors=True)
        for path in sources:
            target = work / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        command("make", "-s", "-C", for_kernel.headers, f"M={work / 'driver'}", "modules")
        return module


# --- libraries ------------------------------------------------------------------------------

def is_elf(path):
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


@functools.cache
def libraries(path):
    """The shared libraries that an ELF file needs, by the paths where its loader looks for them."""
    done = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False)
    return tuple(re.findall(r"(?:=> )?(/\S+) \(0x", done.stdout))


def program(name):
    """The path of a program of this machine, or None."""
    path = name if "/" in name else shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return path if path and os.path.isfile(path) else None


# --- initramfs ------------------------------------------------------------------------------

class Entry:
    """A file of the archive; `content` is bytes, or the path of the file that holds them."""

    def __init__(self, mode, content=b"", device=0, owner=(0, 0), mtime=0):
        self.mode = mode
        self.content = content
        self.device = device
        self.owner = owner
        self.mtime = mtime

    def data(self):
        return self.content.read_bytes() if isinstance(self.content, pathlib.Path) else self.content


class Initramfs:
    """Entries of a cpio archive ("newc"), written in one go."""

    def __init__(self):
        self.entries = {}
        for name in DIRECTORIES:
            self.directory(name)
        for name, target in LINKS.items():
            self.link(name, target)
        for name in ("tmp", "var/tmp"):
            self.entries[name] = Entry(stat.S_IFDIR | 0o1777)
        self.entries["dev/console"] = Entry(stat.S_IFCHR | 0o600, device=os.makedev(5, 1))
        self.entries["dev/null"] = Entry(stat.S_IFCHR | 0o666, device=os.makedev(1, 3))

    def _parents(self, name):
        for parent in reversed(pathlib.PurePath(name).parents):
            if str(parent) not in (".", *LINKS):
                self.entries.setdefault(str(parent), Entry(stat.S_IFDIR | 0o755))

    def directory(self, name):
        self._parents(name)
        self.entries.setdefault(name, Entry(stat.S_IFDIR | 0o755))

    def link(self, name, target):
        self._parents(name)
        self.entries[name] = Entry(stat.S_IFLNK | 0o777, target.encode())

    def text(self, name, text, mode=0o644):
        self._parents(name)
        self.entries[name] = Entry(stat.S_IFREG | mode, text.encode())

    def file(self, source, name=None):
        """A file of this machine with its libraries; `name` in the guest (default: the same path)."""
        source = pathlib.Path(source)
        name = place(name or str(source))
        self._parents(name)
        real = source.resolve()
        found = real.stat()
        # Python holds the time of a module against its compiled form.
        self.entries[name] = Entry(stat.S_IFREG | stat.S_IMODE(found.st_mode) | 0o444, real, mtime=int(found.st_mtime))
        if is_elf(real) and real.suffix != ".ko":
            for library in libraries(real):
                if place(library) not in self.entries:
                    self.file(library)

    def tree(self, source, name=None, skip=lambda path: False):
        """A directory of this machine with all that is below it."""
        source = pathlib.Path(source)
        name = pathlib.PurePath(place(name or str(source)))
        for path in sorted(source.rglob("*")):
            if skip(path):
                continue
            inside = str(name / path.relative_to(source))
            if path.is_symlink() and not path.is_file():
                continue
            if path.is_dir():
                self.directory(inside)
            elif path.is_file():
                self.file(path, inside)

    def write(self, path):
        with open(path, "wb") as out:
            for number, (name, entry) in enumerate(sorted(self.entries.items()), 1):
                cpio_entry(out, number, name, entry)
            cpio_entry(out, 0, "TRAILER!!!", Entry(0))


def place(name):
    """A path inside the guest as the archive has it: without "/" and past the links to /usr."""
    name = os.path.normpath(name).lstrip("/")
    first, _, rest = name.partition("/")
    return f"{LINKS[first]}/{rest}" if first in LINKS and rest else name


def cpio_entry(out, number, name, entry):
    data = entry.data()
    fields = (number, entry.mode, *entry.owner, 1, entry.mtime, len(data), 0, 0, os.major(entry.device),
              os.minor(entry.device), len(name.encode()) + 1, 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    for part in (header + name.encode() + b"\0", data):
        out.write(part)
        out.write(b"\0" * (-len(part) % 4))


def busybox(archive):
    if not os.path.exists(BUSYBOX):
        raise ImageError(f"{BUSYBOX} is missing: run tests/lib/install vm")
    archive.file(BUSYBOX, "/usr/bin/busybox")
    for applet in command(BUSYBOX, "--list").split():
        if applet != "busybox":
            archive.link(f"usr/bin/{applet}", "busybox")


def python(archive):
    """Python's interpreter with its library, less what no test uses."""
    real = pathlib.Path("/usr/bin/python3").resolve()
    unused = re.compile(r"/(test|tests|idlelib|lib2to3|tkinter|turtledemo|ensurepip|distutils|pydoc_data"
                        r"|dist-packages|config-\d[^/]*)(/|$)|(_test|_codecs_(cn|hk|iso2022|jp|kr|tw))[^/]*\.so$")
    archive.file(real)
    archive.link("usr/bin/python3", real.name)
    archive.tree(f"/usr/lib/{real.name}", skip=lambda path: unused.search(str(path)) or ".opt-" in path.name)


def agent(archive, bin_dir, name, for_kernel, with_canal=False):
    """The agent as the file `name`, and the modules that it loads."""
    built = bin_dir / "guest-agent"
    if not built.exists():
        raise ImageError(f"{built} is missing: build the tests")
    archive.file(built, name)
    modules = for_kernel.modules(MODULES)
    for found in modules:
        archive.file(found, f"/lib/modules/{found.name}")
    loaded = [found.name for found in modules] + (["canal.ko"] if with_canal else [])
    archive.text("etc/guest/modules", "".join(f"/lib/modules/{found}\n" for found in loaded))


def canal(archive, bin_dir, module):
    archive.file(bin_dir / "canal-run", "/usr/local/bin/canal-run")
    library = next(path for path in (bin_dir.parent / "lib").glob("libcanal.so*") if not path.is_symlink())
    for name in (library.name, "libcanal.so", "libcanal.so.0"):  # "../lib" beside canal-run
        archive.file(library, f"/usr/local/lib/{name}")
    archive.file(module, "/lib/modules/canal.ko")


def initramfs(path, for_kernel, bin_dir, files=(), programs=(), trees=(), setup=None, module=None):
    """Writes the archive that a guest boots from.

    `files`: pairs of a path here and one in the guest; `programs`: kept at their paths; `trees`:
    directories, kept at theirs; `setup`: a shell script that runs before any command; `module`:
    canal.ko, loaded last, with canal's guest side.
    """
    archive = Initramfs()
    for name, text in ETC.items():
        archive.text(f"etc/{name}", text)
    for name in COPIED:
        if os.path.exists(name):
            archive.file(name)
    busybox(archive)
    agent(archive, bin_dir, "/init", for_kernel, with_canal=module is not None)
    if module:
        canal(archive, bin_dir, module)
    if setup:
        archive.text("etc/guest/setup", setup, 0o755)
    for name in programs:
        python(archive) if os.path.basename(name) == "python3" else archive.file(program(name))
    for source in trees:
        archive.tree(source)
    for source, name in files:
        archive.file(source, name)
    archive.write(path)
