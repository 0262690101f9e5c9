# SPDX-License-Identifier: MIT
"""Fixtures of the VM tests: real programs in a real guest, against this machine and other guests.

One `world` (canald and its guests, see world.py) for each module, which says in WORLD what it wants.
With --canal-off the guest uses a virtio-net card on a tap and its own kernel instead: a test of the test.

Environment: CANAL_BUILD names the build tree (default build/release); CANAL_VM_ACCEL is kvm or tcg.
"""

import os
import pathlib
import shutil
import sys
import tempfile

import pytest

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent),
                str(pathlib.Path(__file__).resolve().parents[1] / "system")]

import harness  # noqa: E402
import image  # noqa: E402
from limits import (TEST_SECONDS, pytest_runtest_call, pytest_runtest_makereport,  # noqa: E402, F401
                    pytest_runtest_setup, pytest_runtest_teardown)
from world import GuestSide, World  # noqa: E402

BIG_LEN = 24 << 20


def pytest_addoption(parser):
    parser.addoption("--canal-off", action="store_true", help="guests with a network card instead of canal")
    parser.addoption("--keep", action="store_true", help="keep the working directory")


def pytest_configure(config):
    config.addinivalue_line("markers", f"seconds(n): longest run of a test (default {TEST_SECONDS})")
    config.addinivalue_line("markers", "canal_only: has no meaning with --canal-off")


def pytest_collection_modifyitems(config, items):
    if config.getoption("canal_off"):
        skip = pytest.mark.skip(reason="--canal-off")
        for item in items:
            if item.get_closest_marker("canal_only"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def bin_dir():
    path = pathlib.Path(os.environ.get("CANAL_BUILD", image.ROOT / "build/release")).resolve() / "bin"
    missing = [name for name in ("canald", "canal-run", "guest-agent") if not (path / name).exists()]
    if missing:
        pytest.exit(f"no {', '.join(missing)} in {path}: build the release preset, or set CANAL_BUILD", returncode=2)
    return path


@pytest.fixture(scope="session")
def session_dir(request):
    """Short (UNIX socket paths) and readable by servers that drop their privileges."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="canal-vm-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    if not request.config.getoption("keep"):
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def free_port():
    return harness.Ports()


@pytest.fixture(scope="session")
def files_dir(session_dir):
    path = session_dir / "files"
    path.mkdir()
    path.chmod(0o755)
    return path


@pytest.fixture(scope="session")
def big_file(files_dir):
    return harness.Payload(files_dir / "big.bin", BIG_LEN, seed=1)


@pytest.fixture(scope="session")
def small_file(files_dir):
    return harness.Payload(files_dir / "small.bin", 4096, seed=2)


@pytest.fixture(scope="module")
def world(request, bin_dir, session_dir, free_port):
    wanted = getattr(request.module, "WORLD", {})
    work_dir = pathlib.Path(tempfile.mkdtemp(prefix="w-", dir=session_dir))
    work_dir.chmod(0o755)
    with World(bin_dir, work_dir, not request.config.getoption("canal_off"), free_port=free_port, **wanted) as found:
        yield found


@pytest.fixture
def work_dir(session_dir):
    path = pathlib.Path(tempfile.mkdtemp(prefix="test-", dir=session_dir))
    path.chmod(0o755)
    return path


@pytest.fixture
def quiet(world):
    """When all programs of a test have ended, here and in the guests, canald has nothing left of them."""
    yield
    world.wait_idle()


@pytest.fixture
def programs(work_dir, quiet):
    """Programs of this machine."""
    logs = work_dir / "logs"
    logs.mkdir()
    started = harness.Programs(logs)
    yield started
    started.close()


@pytest.fixture
def native(programs):
    """This machine, without canal."""
    return harness.Side("native", programs, None)


@pytest.fixture
def local(programs, world):
    """A local guest: a program of this machine under canal."""
    return harness.Side("canal", programs, world.canald)


@pytest.fixture
def sides(world, quiet):
    """A side in each guest, by name; what a test started there ends with it."""
    found = {name: GuestSide(vm, world.logs, world.canal) for name, vm in world.machines.items()}
    yield found
    for side in found.values():
        side.stop()
    for vm in world.machines.values():
        vm.assert_clean()


@pytest.fixture
def guest(sides):
    """Programs in the first guest."""
    return sides["vm1"]
