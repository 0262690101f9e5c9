# SPDX-License-Identifier: MIT
"""What others wrote, natively and under canal: their test suites, and programs at their hardest.

The fixtures are those of tests/system. --long has the lengths that take their time.
"""

import pathlib
import sys

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "system")]

import pytest  # noqa: E402

import fixtures  # noqa: E402
from fixtures import *  # noqa: F401,E402,F403


def pytest_addoption(parser):
    fixtures.pytest_addoption(parser)
    parser.addoption("--long", action="store_true", help="1 GB where it is 256 MB, and more of the rest")


@pytest.fixture(scope="session")
def long(request):
    return request.config.getoption("long")
