# SPDX-License-Identifier: MIT
"""A virtual machine: QEMU around a guest of image.py, and commands that run inside.

    machine.py ── socketpair ── virtserialport "agent" ── agent.c ── the command
                  socketpair ── virtserialport "kmsg"  ── /dev/kmsg
                  socketpair ── serial port            ── the console: oopses, and what came before

Invariants:
  1. No network card is needed to command a guest; QEMU's end closes both sockets, so nothing waits
     for a guest that is gone.
  2. One thread of a Machine reads its three sockets to their end and writes what came to files;
     waits look at those files and at QEMU's pidfd, always with a deadline.
  3. The guest's memory is a file, below /dev/shm if it has room, that goes with the Machine.
"""

import contextlib
import functools
import os
import pathlib
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

import harness  # noqa: E402
import image  # noqa: E402

BOOT_SECONDS = 90
PROBE_SECONDS = 10
FRAME = struct.Struct("<4I")
FRAME_MAGIC = 0x6C61634E
RUN, SIGNAL, STDIN, PUT, OFF, PING = 1, 2, 3, 4, 5, 6
READY, OUT, ERR, EXIT, PONG = 16, 17, 18, 19, 20
POWER_OFF, RESTART = 0x4321FEDC, 0x01234567  # of reboot(2)
PUT_LEN = 512 << 10
GUEST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/"
# What a healthy kernel never says. A stall is a warning, too, but not under an emulator.
FAULT = re.compile(r"WARNING: |BUG: |BUG at |Oops: |general protection fault|Kernel panic|unable to handle"
                   r"|INFO: task .* blocked|possible (?:circular|recursive) locking|KASAN|KFENCE|Bad page"
                   r"|bad page state|scheduling while atomic|sleeping function called|refcount_t: "
                   r"|list_(?:add|del) corruption|Redzone|Poison|Object padding|\[ cut here \]|segfault at"
                   r"|trap invalid opcode|Out of memory: |page allocation failure|nobody cared")
KERNEL_OPTIONS = ("console=ttyS0 loglevel=5 panic=-1 oops=panic rcupdate.rcu_cpu_stall_timeout=180 "
                  "watchdog_thresh=60 tsc=reliable random.trust_cpu=on")
# What Debian's kernels can check of themselves; a kernel without one of them takes no notice.
DEBUG_OPTIONS = " slub_debug=FZPU page_poison=1 kfence.sample_interval=10"


class GuestError(AssertionError):
    """The machine, not the command, failed."""


# --- acceleration -----------------------------------------------------------------------------

def kvm_boots(for_kernel):
    """Does Debian's kernel come up under KVM? Without a root it panics, and QEMU ends."""
    probe = subprocess.Popen(
        ["qemu-system-x86_64", *base_options("kvm"), "-kernel", str(for_kernel.image), "-append", "panic=-1",
         "-no-reboot", "-m", "256M"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        return probe.wait(PROBE_SECONDS) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        if probe.poll() is None:
            probe.kill()
            probe.wait()


def kvm_works(for_kernel):
    """KVM that is really there: some machines have a /dev/kvm that runs nothing."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    if not re.search(r"\b(vmx|svm)\b", pathlib.Path("/proc/cpuinfo").read_text()):
        return False
    return kvm_boots(for_kernel)


def accelerator(for_kernel):
    """"kvm" or "tcg"; CANAL_VM_ACCEL decides, else what was found out since this machine started."""
    forced = os.environ.get("CANAL_VM_ACCEL")
    if forced:
        return forced
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with image.locked("accel"):
        answer = image.CACHE / "accel"
        if answer.exists() and answer.read_text().startswith(boot):
            return answer.read_text().split()[1]
        found = "kvm" if kvm_works(for_kernel) else "tcg"
        answer.write_text(f"{boot} {found}\n")
        return found


@functools.cache
def clock_options(accel, bin_dir):
    """Kernel options: how fast an emulated time-stamp counter counts. A kernel that measures it while this machine is busy
    may find a seventh of it, and its seconds are as short: all limits inside the guest with them."""
    if accel == "kvm":
        return ""
    tool = bin_dir / "tsc_khz"
    if not tool.exists():
        raise image.ImageError(f"{tool} is missing: build the tests")
    return f" tsc_early_khz={image.command(tool).strip()}"


def base_options(accel):
    cpu = "host" if accel == "kvm" else "max"
    return ["-accel", accel, "-cpu", cpu, "-nodefaults", "-no-user-config", "-display", "none",
            "-rtc", "base=utc"]


def processors(count, parallel):
    """QEMU's emulator makes atomic instructions and fences of a guest that can have only one processor plain ones:
    for canald, which works on the same memory beside it, they must be real ones. A second that is never there does."""
    return f"{count},maxcpus={max(count, 2)}" if parallel else str(count)


# --- commands -----------------------------------------------------------------------------------

class GuestProgram(harness.Program):
    """A program inside the guest; looks like one of the host's."""

    def __init__(self, machine, argv, log_dir, env, name, uid=0):
        # Not harness.Program's: nothing is started on this side but a pipe that stands for its end.
        self.argv = [str(arg) for arg in argv]
        self.name = name
        self.machine = machine
        self.out_path = log_dir / f"{name}.out"
        self.err_path = log_dir / f"{name}.err"
        self.status = None
        self.tee = None  # files for standard output and error, to show what comes as it comes
        self.out_file = open(self.out_path, "wb", buffering=0)
        self.err_file = open(self.err_path, "wb", buffering=0)
        self.pidfd, self._end = os.pipe2(os.O_CLOEXEC)  # readable, by its end, once ended
        self.pid = machine.register(self)
        strings = [*self.argv, *(f"{key}={value}" for key, value in env.items())]
        payload = struct.pack("<2I", uid, len(self.argv)) + b"".join(text.encode() + b"\0" for text in strings)
        machine.send(RUN, self.pid, payload)

    @property
    def returncode(self):
        return self.status

    def on_output(self, is_error, data):
        (self.err_file if is_error else self.out_file).write(data)
        if self.tee:
            self.tee[is_error].write(data)
            self.tee[is_error].flush()

    def on_exit(self, wait_status):
        self.status = os.waitstatus_to_exitcode(wait_status)
        if self._end is not None:
            os.close(self._end)
            self._end = None

    def on_lost(self):
        """The machine ended first."""
        if self._end is not None:
            os.close(self._end)
            self._end = None

    def send_signal(self, number, group=False):
        with contextlib.suppress(GuestError):
            self.machine.send(SIGNAL, self.pid, struct.pack("<2I", number, group))

    def stdin(self, data):
        for start in range(0, len(data), PUT_LEN):
            self.machine.send(STDIN, self.pid, data[start:start + PUT_LEN])

    def stdin_end(self):
        self.machine.send(STDIN, self.pid)

    def wait(self, seconds):
        in_time = self.ended(seconds * harness.PATIENCE * 1000)
        self._end_group()
        assert in_time, f"still running after {seconds * harness.PATIENCE} s: {self.describe()}"
        assert self.status is not None, f"the guest ended first: {self.describe()}{self.machine.describe()}"
        return self.status

    def wait_listening(self, port, protocol="tcp", seconds=30):
        """The wildcard's or the loopback's twin in the guest's own tables, or canald's listener."""
        self.wait_until(lambda: self.machine.listens(port, protocol), f"{protocol} listener on {port}", seconds)

    def _end_group(self):
        if self.pidfd is None:
            return
        self.send_signal(signal.SIGKILL, group=True)
        if not self.ended(harness.STOP_SECONDS * 1000):
            self.on_lost()
        os.close(self.pidfd)
        self.pidfd = None
        # The files stay open: children that left the group may print for a while.


class Machine:
    """One guest, from boot to its end. `with Machine(...) as machine: machine.run([...])`"""

    def __init__(self, name, bin_dir, work_dir, memory_mib=512, cpus=1, canal_socket=None, memory=None,
                 nic=(), reboots=False, debug=False, accel=None, initrd=None, parallel=True, **contents):
        """`canal_socket` and `memory` are the guest's of canald's configuration; None: no canal.
        `contents`: see image.initramfs(); not with an `initrd` that was made before.
        `parallel`: see processors().
        """
        self.name = name
        self.bin_dir = bin_dir
        self.work_dir = work_dir
        self.kernel = image.kernel()
        self.accel = accel or accelerator(self.kernel)
        self.canal_socket = canal_socket
        self.memory_path = pathlib.Path(memory) if memory else None
        self.memory_is_ours = memory is None
        self.options = {"memory_mib": memory_mib, "cpus": cpus, "nic": nic, "reboots": reboots, "debug": debug,
                        "parallel": parallel}
        self.programs = {}
        self.all_programs = []
        self.next_id = 1
        self.lock = threading.Lock()
        self.boots = 0
        self.problems = ""
        self.pongs = {}
        self.changed = threading.Condition()
        self.qemu = None
        work_dir.mkdir(parents=True, exist_ok=True)
        self.initrd = initrd or work_dir / "initrd"
        if not initrd:
            contents["module"] = image.driver(self.kernel) if canal_socket else None
            image.initramfs(self.initrd, self.kernel, bin_dir, **contents)

    # --- start and end ---

    def __enter__(self):
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def start(self):
        """Starts QEMU: a machine that was killed may be started again."""
        if self.memory_path is None:
            handle, path = tempfile.mkstemp(prefix="canal-vm-", suffix=".ram", dir=image.memory_dir())
            os.close(handle)
            self.memory_path = pathlib.Path(path)
        pairs = {port: socket.socketpair() for port in ("agent", "kmsg", "console")}
        try:
            self.qemu = harness.Program(
                self.qemu_argv({port: pair[1].fileno() for port, pair in pairs.items()}), self.work_dir,
                harness.environment(), f"qemu-{self.name}",
                pass_fds=[pair[1].fileno() for pair in pairs.values()])
        finally:
            for pair in pairs.values():
                pair[1].close()
        self.sockets = {port: pair[0] for port, pair in pairs.items()}
        self.boots = 0
        self.reader = threading.Thread(target=self._read, name=f"guest {self.name}", daemon=True)
        self.reader.start()

    def qemu_argv(self, fds):
        options = self.options
        argv = ["qemu-system-x86_64", *base_options(self.accel), "-smp", processors(options["cpus"], options["parallel"]),
                "-m", f"{options['memory_mib']}M",
                "-object", f"memory-backend-file,id=ram,size={options['memory_mib']}M,"
                           f"mem-path={self.memory_path},share=on",
                "-machine", "q35,memory-backend=ram",
                "-kernel", self.kernel.image, "-initrd", self.initrd,
                "-append", KERNEL_OPTIONS + clock_options(self.accel, self.bin_dir) + (DEBUG_OPTIONS if options["debug"] else ""),
                "-device", "virtio-serial-pci,id=serial"]
        for port in ("agent", "kmsg"):
            argv += ["-chardev", f"socket,id={port},fd={fds[port]}",
                     "-device", f"virtserialport,bus=serial.0,chardev={port},name={port}"]
        argv += ["-chardev", f"socket,id=console,fd={fds['console']}", "-serial", "chardev:console"]
        if self.canal_socket:
            argv += ["-chardev", f"socket,id=canal,path={self.canal_socket}",
                     "-device", "ivshmem-doorbell,id=canal0,chardev=canal,vectors=1"]
        argv += [] if options["reboots"] else ["-no-reboot"]
        return [*argv, *options["nic"]]

    def wait_ready(self, boots=1, seconds=BOOT_SECONDS):
        self.qemu.wait_until(lambda: self.boots >= boots, f"guest {self.name}", seconds)
        self._forget_memory()  # QEMU has it; a file without a name goes with QEMU
        if self.problems:
            raise GuestError(f"guest {self.name} came up with problems: {self.problems}{self.describe()}")

    def close(self):
        """Turns the guest off and looks at what its kernel said."""
        if self.qemu:
            with contextlib.suppress(GuestError):
                self.send(OFF, 0, struct.pack("<I", POWER_OFF))
            self.qemu.ended(harness.STOP_SECONDS * 1000)
        self.kill()
        self.assert_clean()

    def kill(self):
        if self.qemu:
            self.kill_qemu()
        self._forget_memory()

    def _forget_memory(self):
        if self.memory_is_ours and self.memory_path:
            self.memory_path.unlink(missing_ok=True)
            self.memory_path = None

    def kill_qemu(self):
        """As by kill -9: start() boots the same guest again."""
        self.qemu.kill()
        self.reader.join(10)

    def power(self, how):
        """Reboots (RESTART) or turns the guest off (POWER_OFF), without asking its programs."""
        self.send(OFF, 0, struct.pack("<I", how))

    # --- frames ---

    def send(self, kind, number=0, payload=b""):
        try:
            with self.lock:
                self.sockets["agent"].sendall(FRAME.pack(FRAME_MAGIC, kind, number, len(payload)) + payload)
        except OSError as error:
            raise GuestError(f"guest {self.name} is gone: {error}{self.describe()}") from error

    def _read(self):
        handlers = {"agent": self._on_agent, "kmsg": self._kmsg_appender(),
                    "console": self._appender("console")}
        self._received = b""
        poller = select.poll()
        by_fd = {}
        for port, sock in self.sockets.items():
            by_fd[sock.fileno()] = (sock, handlers[port])
            poller.register(sock, select.POLLIN)
        while by_fd:
            for fd, _ in poller.poll():
                sock, handler = by_fd[fd]
                data = b""
                with contextlib.suppress(OSError):
                    data = sock.recv(1 << 20)
                if data:
                    handler(data)
                else:
                    poller.unregister(fd)
                    del by_fd[fd]
        self._on_end()

    def _kmsg_appender(self):
        """Turns records of /dev/kmsg into lines as dmesg shows them."""
        write = self._appender("kernel")
        rest = b""

        def append(data):
            nonlocal rest
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                head, found, text = line.partition(b";")
                fields = head.split(b",")
                if found and len(fields) > 2 and fields[2].isdigit():
                    seconds, micros = divmod(int(fields[2]), 1000000)
                    write(b"[%5d.%06d] %s\n" % (seconds, micros, text))
        return append

    def _appender(self, name):
        file = open(self.work_dir / f"{name}-{self.name}.log", "ab", buffering=0)
        return file.write

    def _on_end(self):
        for sock in self.sockets.values():
            sock.close()
        for program in list(self.programs.values()):
            program.on_lost()
        self.programs.clear()
        with self.changed:
            self.changed.notify_all()

    def _on_agent(self, data):
        self._received += data
        while len(self._received) >= FRAME.size:
            magic, kind, number, length = FRAME.unpack_from(self._received)
            if magic != FRAME_MAGIC:  # the rest of an earlier life
                self._received = self._received[1:]
                continue
            if len(self._received) < FRAME.size + length:
                return
            payload = self._received[FRAME.size:FRAME.size + length]
            self._received = self._received[FRAME.size + length:]
            self._on_frame(kind, number, payload)

    def _on_frame(self, kind, number, payload):
        if kind == READY:
            for program in list(self.programs.values()):
                program.on_lost()
            self.programs.clear()
            self.problems = payload.decode(errors="replace")
            self.boots += 1
        elif kind == PONG:
            with self.changed:
                self.pongs[number] = struct.unpack("<I", payload)[0]
                self.changed.notify_all()
        elif number in self.programs:
            program = self.programs[number]
            if kind == EXIT:
                program.on_exit(struct.unpack("<I", payload)[0])
            else:
                program.on_output(kind == ERR, payload)

    # --- commands ---

    def register(self, program):
        with self.lock:
            number = self.next_id
            self.next_id += 1
            self.programs[number] = program
        self.all_programs.append(program)
        return number

    def environment(self, **extra):
        return {"PATH": GUEST_PATH, "LC_ALL": "C", "HOME": "/root", "PYTHONDONTWRITEBYTECODE": "1", **extra}

    def start_program(self, argv, env=None, log_dir=None, uid=0):
        name = f"{self.name}-{self.next_id:03d}-{os.path.basename(str(argv[0]))}"
        return GuestProgram(self, argv, log_dir or self.work_dir, self.environment(**(env or {})), name, uid)

    def run(self, argv, env=None, seconds=60, status=0, log_dir=None, uid=0, stdin=None):
        program = self.start_program(argv, env, log_dir, uid)
        if stdin:
            program.stdin(stdin)
        program.stdin_end()
        program.wait(seconds)
        if status is not None:
            assert program.returncode == status, program.describe()
        return program

    def sh(self, script, **options):
        return self.run(["sh", "-c", script], **options)

    def put(self, path, data, mode=0o644, seconds=60):
        """Writes a file in the guest."""
        for start in range(0, max(len(data), 1), PUT_LEN):
            with self.lock:
                number = self.next_id
                self.next_id += 1
            piece = struct.pack("<I", mode if start == 0 else 0) + path.encode() + b"\0" + data[start:start + PUT_LEN]
            self.send(PUT, number, piece)
            with self.changed:
                assert self.changed.wait_for(lambda: number in self.pongs or self.qemu.ended(),
                                             seconds * harness.PATIENCE), \
                    f"guest {self.name} does not answer{self.describe()}"
            error = self.pongs.get(number)
            assert error == 0, f"{path} in guest {self.name}: {error and os.strerror(error)}"

    def listens(self, port, protocol):
        state = {"tcp": "0A", "udp": "07"}[protocol]
        table = self.sh(f"cat /proc/net/{protocol} /proc/net/{protocol}6").stdout
        return re.search(rf"^ *\d+: [0-9A-F]+:{port:04X} \S+ {state} ", table, re.M) is not None

    # --- what the kernel said ---

    def log(self, name):
        path = self.work_dir / f"{name}-{self.name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def kernel_log(self):
        return self.log("kernel")

    def faults(self):
        return [line for name in ("kernel", "console") for line in self.log(name).splitlines()
                if FAULT.search(line)]

    def assert_clean(self):
        faults = self.faults()
        if faults:
            raise GuestError(f"the kernel of guest {self.name} complained: " + "\n".join(faults[:10]) +
                             self.describe())

    def describe(self):
        qemu = self.qemu.describe() if self.qemu else ""
        return (f"\n--- guest {self.name}: kernel\n{self.kernel_log[-harness.LOG_TAIL:]}"
                f"\n--- guest {self.name}: console\n{self.log('console')[-harness.LOG_TAIL:]}\n{qemu}")
