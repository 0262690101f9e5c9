# SPDX-License-Identifier: MIT
"""Programs by how they are started: by shells, wrappers and confinements, and of another C library."""

import pytest

from harness import HERE

SOURCE = HERE.parent / "suites/programs/watched.c"
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
