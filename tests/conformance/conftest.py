# SPDX-License-Identifier: MIT
"""The fixtures of tests/system, for tests/conformance, in a network namespace of their own.

What a call says of an address that nothing leads to depends on the machine's routes: here are none but loopback's.
"""

import ctypes
import os
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "system")]

from fixtures import *  # noqa: F401,E402,F403

CLONE_NEWNET = 0x40000000


def pytest_sessionstart(session):
    session.config.own_network = (os.geteuid() == 0
                                  and ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0)
    if session.config.own_network:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
