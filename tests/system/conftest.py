# SPDX-License-Identifier: MIT
"""Real programs, natively and under canal: see fixtures.py."""

from fixtures import *  # noqa: F401,F403
