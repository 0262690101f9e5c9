# SPDX-License-Identifier: MIT
"""canal-run --check: whether a command can be covered, said in advance, and nothing of it is run."""

import os
import random
import shutil
import struct
import subprocess

import pytest

import harness

pytestmark = pytest.mark.canal_only
COVERED, REMARKS, NOT_COVERED = 0, 1, 2
EMPTY = "int main(void) { return 0; }"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root's rights on files")


@pytest.fixture
def check(bin_dir, programs):
    def run(command, status, *things):
        program = programs.run([bin_dir / "canal-run", "--check", command], status=None, seconds=20)
        assert program.returncode == status, program.describe()
        said = program.stdout if status < 100 else program.stderr
        first = said.splitlines()[0]
        assert str(command) in first and ("can be covered" in first) == (status in (COVERED, REMARKS))
        for thing in things:
            assert thing in said, program.describe()
        return said
    return run


@pytest.fixture
def compiled(work_dir):
    def compile_c(text, *options, name="program"):
        path = work_dir / name
        source = work_dir / f"{name}.c"
        source.write_text(text)
        subprocess.run(["cc", "-o", path, source, *options], check=True, timeout=60)
        return path
    return compile_c


# --- covered -------------------------------------------------------------------------------------

def test_plain_program(check, compiled):
    said = check(compiled("#include <sys/socket.h>\nint main(void) { return socket(2, 1, 0) < 0; }"), COVERED)
    assert len(said.splitlines()) == 1


def test_by_name(check):
    said = check("true", COVERED)
    assert said.startswith(shutil.which("true", path=harness.PATH))


def test_nothing_is_run(check, compiled, work_dir):
    library = compiled(f'#include <stdio.h>\n__attribute__((constructor)) void f(void) '
                       f'{{ fopen("{work_dir}/ran", "w"); }}\nvoid g(void) {{ }}', "-shared", "-fPIC",
                       name="libconstructor.so")
    check(compiled(f"void g(void); __attribute__((constructor)) static void f(void) {{ g(); }}\n{EMPTY}",
                   library, f"-Wl,-rpath,{work_dir}"), COVERED)
    assert not (work_dir / "ran").exists()


@pytest.mark.parametrize("head,interpreter", [
    ("#!/bin/sh -e", "/bin/sh"), ("#! /usr/bin/env cat", "cat"), ("#!/usr/bin/env -S cat -u", "cat"),
    ("#!/usr/bin/env A=b cat", "cat"), ("#!/usr/bin/env", "env")])
def test_script(check, work_dir, head, interpreter):
    path = work_dir / "script"
    path.write_text(head + "\n")
    path.chmod(0o755)
    found = shutil.which(interpreter, path=harness.PATH)
    assert f"(its interpreter is {found})" in check(path, COVERED)


def test_script_of_a_script(check, work_dir):
    inner, outer = work_dir / "inner", work_dir / "outer"
    inner.write_text("#!/bin/sh\n")
    outer.write_text(f"#!{inner}\n")
    for path in (inner, outer):
        path.chmod(0o755)
    assert "its interpreter is /bin/sh" in check(outer, COVERED)


# --- covered, with remarks -------------------------------------------------------------------------

def test_function_that_is_not_served(check, compiled):
    path = compiled("#include <fcntl.h>\n#include <sys/uio.h>\n"
                    "int main(void) { struct iovec i = { 0 }; return vmsplice(1, &i, 1, 0); }",
                    "-D_GNU_SOURCE")
    check(path, REMARKS, "program calls vmsplice, which libcanal does not serve")


def test_function_in_a_library(check, compiled, work_dir):
    library = compiled("int vmsplice(); int g(void) { return vmsplice(); }", "-shared", "-fPIC",
                       name="libsplice.so")
    path = compiled("int g(void); int main(void) { return g(); }", library, f"-Wl,-rpath,{work_dir}")
    check(path, REMARKS, "libsplice.so calls vmsplice")


def test_function_of_its_own(check, compiled):
    path = compiled("int send(void) { return 0; }\nint main(void) { return send(); }", "-rdynamic",
                    "-fno-builtin")
    check(path, REMARKS, "program has a function send of its own")


@pytest.mark.parametrize("number", ["__NR_sendto", "__NR_io_uring_enter"])
def test_system_calls_of_its_own(check, compiled, number):
    path = compiled("#include <asm/unistd.h>\nint main(void) { long r;\n#ifdef __x86_64__\n"
                    f'asm volatile("mov %1, %%eax; syscall" : "=a"(r) : "i"({number}) : "rcx", "r11");\n'
                    "#else\n"
                    f'asm volatile("mov w8, %1; svc 0" : "=r"(r) : "i"({number}) : "x8");\n'
                    "#endif\nreturn (int)r; }")
    check(path, REMARKS, "makes system calls on sockets")


def test_pascal(check, compiled):
    path = compiled(f'__attribute__((section(".fpcdata"), used)) static char data[64];\n{EMPTY}')
    check(path, REMARKS, "program has Pascal code")


def test_io_uring(check, compiled, work_dir):
    library = compiled("void io_uring_queue_init(void) { }", "-shared", "-fPIC", name="liburing.so.2")
    path = compiled("void io_uring_queue_init(void); int main(void) { io_uring_queue_init(); return 0; }",
                    library, f"-Wl,-rpath,{work_dir}")
    check(path, COVERED, "note: program uses io_uring")


def test_library_beside_the_program(check, compiled, work_dir):
    """$ORIGIN is the program's directory, not that of a symbolic link to it, as /usr/bin/java is one."""
    compiled("int helper(void) { return 0; }", "-shared", "-fPIC", name="libhelper.so")
    program = compiled("int helper(void); int main(void) { return helper(); }", f"-L{work_dir}", "-lhelper",
                       "-Wl,-rpath,$ORIGIN")
    elsewhere = work_dir / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "program").symlink_to(program)
    assert "not found" not in check(elsewhere / "program", COVERED)


def test_library_that_is_not_there(check, compiled, work_dir):
    library = compiled("void g(void) { }", "-shared", "-fPIC", "-Wl,-soname,libgone.so",
                       name="libgone.so")
    path = compiled("void g(void); int main(void) { g(); return 0; }", library, "-L.")
    library.unlink()
    check(path, COVERED, "libgone.so is not found")


# --- not covered --------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [["-static"], ["-static-pie", "-fPIE"]])
def test_static(check, compiled, options):
    check(compiled(EMPTY, *options), NOT_COVERED, "statically linked")


@pytest.mark.parametrize("section", ['.note.go.buildid,"a",@note', '.gopclntab,"a"'])
def test_go(check, compiled, section):
    """What tells a Go program from others, also where one of the two was stripped."""
    path = compiled(f"asm(\".section {section.replace(chr(34), chr(92) + chr(34))}\\n"
                    f".long 4, 4, 4\\n.asciz \\\"Go\\\"\\n.byte 0\\n.long 0\\n.text\");\n{EMPTY}")
    check(path, NOT_COVERED, "Go")


@as_root
@pytest.mark.parametrize("mode,word", [(0o4755, "setuid"), (0o2755, "setgid")])
def test_identity(check, compiled, mode, word):
    path = compiled(EMPTY)
    os.chown(path, 65534, 65534)
    path.chmod(mode)
    check(path, NOT_COVERED, word)


@as_root
def test_capabilities(check, compiled):
    path = compiled(EMPTY)
    try:
        os.setxattr(path, "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))
    except OSError as error:
        pytest.skip(f"no file capabilities here: {error}")
    check(path, NOT_COVERED, "capabilities")


@pytest.mark.parametrize("elf_class,machine,name", [(2, 183, "arm64"), (1, 3, "i386")])
def test_other_machine(check, work_dir, elf_class, machine, name):
    path = work_dir / "other"
    path.write_bytes(struct.pack("<4sBBBB8xHHI", b"\x7fELF", elf_class, 1, 1, 0, 2, machine, 1) + bytes(44))
    path.chmod(0o755)
    check(path, NOT_COVERED, "not an ELF program for this machine", name)


@pytest.mark.parametrize("loader", ["/lib/ld-musl-x86_64.so.1", "/nowhere/ld-linux-x86-64.so.2"])
def test_other_loader(check, compiled, loader):
    check(compiled(EMPTY, f"-Wl,-dynamic-linker,{loader}"), NOT_COVERED, loader)


def test_object_file(check, compiled):
    path = compiled(EMPTY, "-c")
    path.chmod(0o755)
    check(path, NOT_COVERED, "not a program")
    check(compiled("void f(void) {}", "-shared", "-fPIC"), NOT_COVERED, "not a program")


def test_cut_off(check, compiled):
    path = compiled(EMPTY)
    path.write_bytes(path.read_bytes()[:100])
    check(path, NOT_COVERED, "broken")


@pytest.mark.parametrize("text,words", [
    ("#!/nowhere/interpreter\n", "/nowhere/interpreter"), ("#!{self}\n", "without end"),
    ("#!/usr/bin/env -i cat\n", "clears the environment"),
    ("no script\0\n", "neither"), ("#!/bin/sh\r\n", "carriage return"), ("#!{plain}\n", "Permission denied")])
def test_bad_script(bin_dir, check, work_dir, text, words):
    """Of which canal-run says the same."""
    path = work_dir / "script"
    (work_dir / "plain").touch(mode=0o644)
    path.write_text(text.format(self=path, plain=work_dir / "plain"))
    path.chmod(0o755)
    check(path, NOT_COVERED, words)
    run = subprocess.run([bin_dir / "canal-run", path], capture_output=True, text=True, timeout=20 * harness.PATIENCE)
    assert run.returncode == 126 and words in run.stderr


@pytest.mark.parametrize("text", ["echo $0", "", "#!\n"])
def test_script_without_interpreter(bin_dir, check, work_dir, canald, text):
    """It is the shell's, as execvp(3) has it."""
    path = work_dir / "script"
    path.write_text(text)
    path.chmod(0o755)
    assert "(its interpreter is /bin/sh)" in check(path, COVERED)
    run = subprocess.run([bin_dir / "canal-run", "--socket", canald.socket, path, "more"], capture_output=True, text=True,
                         timeout=20 * harness.PATIENCE)
    assert (run.returncode, run.stdout) == (0, f"{path}\n" if text.startswith("echo") else ""), run


@as_root
@pytest.mark.parametrize("mode,status,words", [(0o4711, NOT_COVERED, "setuid"), (0o711, COVERED, "not looked at")])
def test_not_readable(bin_dir, compiled, work_dir, mode, status, words):
    """A program that may be executed and not read: by another user, because root reads all."""
    path = compiled(EMPTY)
    path.chmod(mode)
    work_dir.chmod(0o711)
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", bin_dir / "canal-run", "--check", path],
                          capture_output=True, text=True, timeout=20 * harness.PATIENCE)
    assert done.returncode == status and words in done.stdout, done


def test_script_of_a_static_program(check, compiled, work_dir):
    path = work_dir / "script"
    path.write_text(f"#!{compiled(EMPTY, '-static')}\n")
    path.chmod(0o755)
    check(path, NOT_COVERED, "its interpreter is", "statically linked")


def test_not_executable(check, work_dir):
    path = work_dir / "plain"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o644)
    check(path, 126)
    check(work_dir / "missing", 127)


def test_broken_files(bin_dir, compiled, work_dir):
    """Any bytes at all: an answer, and never a crash."""
    good = compiled(EMPTY).read_bytes()
    noise = random.Random(1)
    path = work_dir / "broken"
    for i in range(150):
        data = bytearray(good[:noise.randrange(len(good))] if i % 3 == 0 else good)
        for _ in range(noise.choice((1, 4, 64))):
            at = noise.randrange(min(len(data), 1024) if i % 2 else len(data)) if data else 0
            data[at:at + 1] = noise.randbytes(1)
        path.write_bytes(data)
        path.chmod(0o755)
        done = subprocess.run([bin_dir / "canal-run", "--check", path], capture_output=True, timeout=20 * harness.PATIENCE)
        assert done.returncode in (0, 1, 2, 125), (i, done)
