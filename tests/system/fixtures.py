# SPDX-License-Identifier: MIT
"""Fixtures of the tests of programs, natively and under canal; a conftest.py imports all of them.

A test that takes `server` and `client` runs three times: server under canal, client under canal,
both. With --canal-off it runs once with both ends native: a test of the test.

Environment: CANAL_BUILD names the build tree (default build/release).
"""

import os
import pathlib
import shutil
import sys
import tempfile

import pytest

sys.dont_write_bytecode = True

import harness
from limits import (TEST_SECONDS, pytest_runtest_call, pytest_runtest_makereport,  # noqa: F401
                    pytest_runtest_setup, pytest_runtest_teardown)

COMBINATIONS = [("canal", "native"), ("native", "canal"), ("canal", "canal")]
SMALL_COUNT = 200
BIG_LEN = 100 << 20
SMALL_LEN = 64 << 10


def pytest_addoption(parser):
    parser.addoption("--canal-off", action="store_true", help="run everything natively")
    parser.addoption("--engine", choices=("io_uring", "epoll"), help="engine of canald (its default)")
    parser.addoption("--keep", action="store_true", help="keep the working directory")


def pytest_configure(config):
    config.addinivalue_line("markers", f"seconds(n): longest run of a test (default {TEST_SECONDS})")
    config.addinivalue_line("markers", "canal_only: has no meaning with --canal-off")
    config.addinivalue_line("markers", "ipv6: has no meaning without ::1, as what has it or family 6 as a parameter")
    config.addinivalue_line("markers", "patient: its name server may take its time (test_names.py)")


def pytest_generate_tests(metafunc):
    off = metafunc.config.getoption("canal_off")
    if "sides" in metafunc.fixturenames:
        pairs = [("native", "native")] if off else COMBINATIONS
        metafunc.parametrize("sides", pairs, ids=[f"{a}_server-{b}_client" for a, b in pairs])
    if "middle" in metafunc.fixturenames:
        kinds = ["native"] if off else ["native", "canal"]
        metafunc.parametrize("middle_kind", kinds, ids=[f"{kind}_middle" for kind in kinds])


def wants_ipv6(item):
    params = getattr(item, "callspec", None) and item.callspec.params.values()
    return item.get_closest_marker("ipv6") or "::1" in (params or ()) or "6" in (params or ())


def pytest_collection_modifyitems(config, items):
    if not harness.ipv6_works():
        skip6 = pytest.mark.skip(reason="no IPv6 here")
        for item in filter(wants_ipv6, items):
            item.add_marker(skip6)
    if config.getoption("canal_off"):
        skip = pytest.mark.skip(reason="--canal-off")
        for item in items:
            if item.get_closest_marker("canal_only"):
                item.add_marker(skip)


# --- session ----------------------------------------------------------------------------------

@pytest.fixture(scope="session")
def canal_off(request):
    return request.config.getoption("canal_off")


def built(*names):
    """The directory of the build's programs, where `names` must be."""
    root = harness.HERE.parents[1]
    path = pathlib.Path(os.environ.get("CANAL_BUILD", root / "build/release")).resolve() / "bin"
    missing = [name for name in names if not (path / name).exists()]
    if missing:
        pytest.exit(f"no {', '.join(missing)} in {path}: build the release preset, set CANAL_BUILD, "
                    "or pass --canal-off", returncode=2)
    return path


@pytest.fixture(scope="session")
def bin_dir():
    return built("canald", "canal-run", "canalctl")


@pytest.fixture(scope="session")
def session_dir(request):
    """Short (UNIX socket paths) and readable by servers that drop their privileges."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="canal-system-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    if not request.config.getoption("keep"):
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def canald(request, canal_off, session_dir):
    """The canald that all tests share; None with --canal-off."""
    if canal_off:
        yield None
        return
    engine = request.config.getoption("engine")
    options = ["--engine", engine] if engine else []
    work_dir = session_dir / "canald"
    work_dir.mkdir()
    service = harness.Canald(request.getfixturevalue("bin_dir"), work_dir, options)
    try:
        yield service
        service.wait_no_leak()
        service.stop()
    finally:
        service.program.kill()


@pytest.fixture(scope="module", autouse=True)
def no_leak(canald):
    """When the programs of a module have ended, canald holds nothing of them."""
    yield
    if canald:
        canald.wait_no_leak()


@pytest.fixture(scope="session")
def free_port():
    return harness.Ports()


@pytest.fixture(scope="session")
def files_dir(session_dir):
    path = session_dir / "files"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def big_file(files_dir):
    return harness.Payload(files_dir / "big.bin", BIG_LEN, seed=1)


@pytest.fixture(scope="session")
def small_files(files_dir):
    """small-1.bin to small-200.bin, each different, of lengths around 64 KiB."""
    return [harness.Payload(files_dir / f"small-{number}.bin", SMALL_LEN - 100 + number, seed=number)
            for number in range(1, SMALL_COUNT + 1)]


# --- each test ----------------------------------------------------------------------------------

@pytest.fixture
def service(bin_dir, work_dir):
    """A canald of the test's own, which may be stopped."""
    canald = harness.Canald(bin_dir, work_dir)
    try:
        yield canald
        canald.wait_no_leak()
        canald.stop()
    finally:
        canald.program.kill()


@pytest.fixture
def work_dir(request, session_dir):
    path = pathlib.Path(tempfile.mkdtemp(prefix="test-", dir=session_dir))
    path.chmod(0o755)
    yield path
    if not request.config.getoption("keep"):
        shutil.rmtree(path)


@pytest.fixture
def programs(work_dir):
    logs = work_dir / "logs"
    logs.mkdir()
    started = harness.Programs(logs)
    yield started
    started.close()


@pytest.fixture
def server(sides, programs, canald):
    return harness.Side(sides[0], programs, canald)


@pytest.fixture
def client(sides, programs, canald):
    return harness.Side(sides[1], programs, canald)


@pytest.fixture
def middle(middle_kind, programs, canald):
    """A program between client and server: a proxy."""
    return harness.Side(middle_kind, programs, canald)


@pytest.fixture
def canal(programs, canald):
    """A side that is always under canal (native with --canal-off)."""
    return harness.Side("canal" if canald else "native", programs, canald)


@pytest.fixture
def native(programs):
    return harness.Side("native", programs, None)


@pytest.fixture
def traffic(server, client, canald):
    return harness.Traffic(canald, server.is_canal + client.is_canal)
