# SPDX-License-Identifier: MIT
"""What others wrote, natively and under canal: their test suites, and programs at their hardest.

The fixtures are those of tests/system. --long has the lengths that take their time.
"""

import contextlib
import pathlib
import resource
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "system")]

import pytest  # noqa: E402

import fixtures  # noqa: E402
import harness  # noqa: E402
from fixtures import *  # noqa: F401,E402,F403

DESCRIPTORS = 65536


def pytest_addoption(parser):
    fixtures.pytest_addoption(parser)
    parser.addoption("--long", action="store_true", help="1 GB where it is 256 MB, and more of the rest")


def pytest_configure(config):
    fixtures.pytest_configure(config)
    with contextlib.suppress(ValueError):  # 5,000 clients, and 5,000 servers, have two each in canald
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


@pytest.fixture(scope="session")
def long(request):
    return request.config.getoption("long")


@pytest.fixture(scope="module")
def programs_of_module(session_dir):
    """For what a whole module needs: the programs end with it."""
    logs = pathlib.Path(tempfile.mkdtemp(prefix="module-", dir=session_dir))
    started = harness.Programs(logs)
    yield started
    started.close()


@pytest.fixture(scope="session")
def certificate(session_dir):
    """(key, certificate) for 127.0.0.1, signed by itself."""
    key, cert = session_dir / "tls.key", session_dir / "tls.crt"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2",
                    "-keyout", key, "-out", cert], env=harness.environment(), capture_output=True, check=True)
    key.chmod(0o644)
    return key, cert
