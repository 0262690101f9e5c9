# SPDX-License-Identifier: MIT
"""Fixtures of the VM tests: real programs in a real guest, against this machine and other guests.

One `world` (canald and its guests, see world.py) for each module, which says in WORLD what it wants.
With --canal-off the guest uses a virtio-net card on a tap and its own kernel instead: a test of the test.

Environment: CANAL_BUILD names the build tree (default build/release); CANAL_VM_ACCEL is kvm or tcg.
"""

import pathlib
import sys
import tempfile

import pytest

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent),
                str(pathlib.Path(__file__).resolve().parents[1] / "system")]

import harness  # noqa: E402
from fixtures import (built, files_dir, free_port, pytest_collection_modifyitems, pytest_configure,  # noqa: E402, F401
                      pytest_runtest_call, pytest_runtest_makereport, pytest_runtest_setup, pytest_runtest_teardown,
                      session_dir, work_dir)
from world import GuestSide, World  # noqa: E402

BIG_LEN = 24 << 20


def pytest_addoption(parser):
    parser.addoption("--canal-off", action="store_true", help="guests with a network card instead of canal")
    parser.addoption("--keep", action="store_true", help="keep the working directory")


@pytest.fixture(scope="session")
def bin_dir():
    return built("canald", "canal-run", "guest-agent")


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
