# SPDX-License-Identifier: MIT
"""A program that is watched: by sanitizers compiled into it, valgrind, debuggers and tracers.

Each tells of its own errors by the exit status, so a false alarm fails as much as a crash. That the
program's connection is canald's is read from canald.
"""

import shutil

import pytest

import harness
from harness import HERE

SOURCE = HERE.parent / "suites/programs/watched.c"
SUPPRESSIONS = HERE.parents[1] / "guest/valgrind.supp"
COUNT, LENGTH = 50, 1000


@pytest.fixture(scope="module")
def build(session_dir, programs_of_module):
    """The program by `compiler` with `flags`, compiled once."""
    made = {}

    def compiled(compiler, *flags):
        key = (compiler, flags)
        if key not in made:
            path = session_dir / f"watched-{len(made)}"
            programs_of_module.run([compiler, "-g", "-O1", "-pthread", *flags, "-o", path, SOURCE])
            made[key] = path
        return made[key]
    return compiled


@pytest.fixture
def run(canal, canald, work_dir):
    """Runs the program under canal, behind what watches it."""
    def one(program, before=(), **options):
        with harness.Traffic(canald, 2 if canald else 0)(COUNT * LENGTH * 2, connections=2):
            told = canal.run([*before, program, str(COUNT)], cwd=work_dir, seconds=120, **options)
        assert "fine\n" in told.stdout, told.describe()
        return told
    return one


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("kind", ["address", "leak", "thread", "undefined"])
def test_sanitizer(build, run, work_dir, compiler, kind):
    env = {}
    if (compiler, kind) == ("clang", "thread"):  # its runtime is part of the program, and asks it alone
        (work_dir / "suppressions").write_text("called_from_lib:libcanal.so\n")
        env["TSAN_OPTIONS"] = f"suppressions={work_dir}/suppressions"
    told = run(build(compiler, f"-fsanitize={kind}"), env=env)
    assert not told.stderr, told.describe()


def test_sanitizer_finds(build, canal):
    """What is received into a buffer that is too small is told, as natively."""
    told = canal.run([build("gcc", "-fsanitize=address"), "over"], status=1)
    assert "heap-buffer-overflow" in told.stderr and "WRITE of size 101" in told.stderr, told.describe()
    told.crash_is_its_own = True


@pytest.mark.parametrize("tool", ["memcheck", "helgrind", "drd"])
def test_valgrind(build, run, tool):
    told = run(build("gcc"), ["valgrind", "--quiet", f"--tool={tool}", "--error-exitcode=9", f"--suppressions={SUPPRESSIONS}"])
    assert not told.stderr, told.describe()


def test_strace(build, run, work_dir):
    run(build("gcc"), ["strace", "-f", "-o", work_dir / "calls"])
    assert "exited with 0" in (work_dir / "calls").read_text()


def test_gdb(build, run, work_dir):
    """Steps out of a send, and writes a core file, which has nothing of what is shared with canald."""
    script = ["set pagination off", "break send", "run", "delete", "finish", "generate-core-file core", "continue"]
    told = run(build("gcc"), ["gdb", "-quiet", "-batch", *(word for line in script for word in ("-ex", line)), "--args"])
    assert "Value returned is $1 = 1000" in told.stdout and "exited normally" in told.stdout, told.describe()
    assert (work_dir / "core").stat().st_size < 200 << 20


def test_gdb_attach(build, canal, native, free_port, work_dir):
    """A server is stopped in accept(), looked at, dumped, and goes on."""
    if not shutil.which("gcore"):
        pytest.skip("no gcore")
    port = free_port()
    server = canal.start(["python3", "-m", "http.server", "--bind", "127.0.0.1", str(port)], cwd=work_dir)
    server.wait_listening(port)
    url = f"http://127.0.0.1:{port}/"
    for _ in range(2):
        native.run(["curl", "--silent", "--fail", url])
        told = native.run(["gcore", "-o", work_dir / "core", str(server.pid)])
        assert "Saved corefile" in told.stdout, told.describe()
    native.run(["curl", "--silent", "--fail", url])
    assert (work_dir / f"core.{server.pid}").stat().st_size < 200 << 20
