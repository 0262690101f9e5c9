# SPDX-License-Identifier: MIT
"""Programs by how they are built and started: libraries that are bound deep, another C library, wrappers and confinements."""

import pytest

import harness

from harness import HERE, PYTHON

PROGRAMS = HERE.parent / "suites/programs"
SOURCE, DEEP = PROGRAMS / "watched.c", PROGRAMS / "deep.c"
ALLOW = {"CANAL_FALLBACK": "allow"}


@pytest.fixture(scope="module")
def musl(session_dir, programs_of_module):
    path = session_dir / "watched-musl"
    programs_of_module.run(["musl-gcc", "-o", path, SOURCE])
    return path


def test_musl(canal, musl):
    """canal-run says that it cannot be covered, and runs it if it may."""
    told = canal.run([musl, "5"], status=None)
    if canal.is_canal:
        assert told.returncode == 126 and "its loader is" in told.stderr, told.describe()
    told = canal.run([musl, "5"], env=ALLOW)
    assert told.stdout == "fine\n", told.describe()


@pytest.mark.parametrize("how", ["execve", "execvp", "posix_spawn", "posix_spawnp", "system", "subprocess"])
def test_musl_child(canal, musl, how):
    """What a covered program starts of another C library runs, without canal."""
    calls = {
        "execve": "os.execve(path, [path, '5'], os.environ)",
        "execvp": "os.execvp(path, [path, '5'])",
        "posix_spawn": "os.waitpid(os.posix_spawn(path, [path, '5'], os.environ), 0)",
        "posix_spawnp": "os.waitpid(os.posix_spawnp(path, [path, '5'], os.environ), 0)",
        "system": "os.system(path + ' 5')",
        "subprocess": "subprocess.run([path, '5'])",
    }
    told = canal.run(["python3", "-c", f"import os, subprocess\npath = '{musl}'\n{calls[how]}"])
    assert told.stdout == "fine\n" and not told.stderr, told.describe()


@pytest.fixture(scope="module", params=["lazy", "now"])
def deep(request, session_dir, programs_of_module):
    directory = session_dir / f"deep-{request.param}"
    directory.mkdir()
    programs_of_module.run(["gcc", "-O1", "-shared", "-fPIC", "-DLIBRARY", f"-Wl,-z,{request.param},-z,relro",
                            "-o", directory / "libdeep.so", DEEP])
    programs_of_module.run(["gcc", "-O1", "-Wl,-rpath,$ORIGIN,--enable-new-dtags", "-o", directory / "deep", DEEP])
    return directory


def test_deepbind(canal, canald, deep):
    """A library that is loaded with RTLD_DEEPBIND, as PHP loads its own, calls canal's functions instead of libc's,
    and its own where it has them."""
    with harness.Traffic(canald, 2 if canald else 0)(2, connections=2):
        told = canal.run([deep / "deep", deep / "libdeep.so"])
    assert told.stdout == "own 77\nsent 1\npassed 1\nback 1 x\n", told.describe()


def test_runpath(canal, deep):
    """A library without a path is found where the program says that it is: the loader sees who calls."""
    told = canal.run([deep / "deep", "libdeep.so"])
    assert told.stdout == "own -1\nsent 1\npassed 1\nback 1 x\n", told.describe()


def test_strict(canal, canald, session_dir, programs_of_module):
    """Behind SECCOMP_MODE_STRICT a connection goes on, with read() and write() alone."""
    program = session_dir / "strict"
    programs_of_module.run(["gcc", "-O1", "-o", program, PROGRAMS / "strict.c"])
    with harness.Traffic(canald, 2 if canald else 0)(500 * 4096, connections=2):
        told = canal.run([program])
    assert told.stdout == "ended 0\n", told.describe()


WRAPPERS = {
    "bwrap": ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all"],
    "cleared": ["env", "-i"],
    "closed": ["sh", "-c", 'exec "$@" <&-', "sh"],
    "gone": ["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh"],
    "namespaces": ["unshare", "--user", "--net", "--mount", "--pid", "--fork"],
    "nobody": ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
    "privileges": ["setpriv", "--no-new-privs"],
    "script": ["script", "--quiet", "--return", "/dev/null", "--command"],
    "session": ["setsid", "--wait", "nohup", "nice", "timeout", "200"],
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapper(canal, native, canald, session_dir, programs_of_module, work_dir, wrapper):
    """What starts a program in other circumstances leaves it under canal."""
    program = session_dir / "watched"
    if not program.exists():
        programs_of_module.run(["gcc", "-O1", "-pthread", "-o", program, SOURCE])
    if canald and wrapper == "nobody":
        canald.socket.chmod(0o666)
    before = WRAPPERS[wrapper]
    command = [*before, f"{program} 5"] if wrapper == "script" else [*before, program, "5"]
    if native.run([*before, "true"], cwd=work_dir, status=None).returncode:
        pytest.skip(f"{before[0]} does not work here")
    with harness.Traffic(canald, 2 if canald else 0)(5 * 1000 * 2, connections=2):
        told = canal.run(command, cwd=work_dir)
    assert told.stdout.strip() == "fine", told.describe()


@pytest.mark.parametrize("when", ["early", "late"])
def test_resident(canal, canald, native, when):
    """A program that locks its memory has its own in it, and not the 556 MB that it shares with canald."""
    argv = [PYTHON, PROGRAMS / "resident.py", when]
    natively = native.run(argv, status=None)
    if natively.returncode:
        pytest.skip(natively.stderr)
    with harness.Traffic(canald, 2 if canald else 0)(100_000, connections=4):
        told = canal.run(argv)
    for mine, theirs in zip(map(int, told.stdout.split()), map(int, natively.stdout.split())):
        assert theirs * 0.7 < mine < theirs + (100 << 10), (told.stdout, natively.stdout)
