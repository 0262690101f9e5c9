# SPDX-License-Identifier: MIT
"""The fixtures of tests/system, for tests/conformance."""

import pathlib
import sys

sys.dont_write_bytecode = True
sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "system")]

from fixtures import *  # noqa: F401,E402,F403
