# SPDX-License-Identifier: MIT
"""What a program sees of its sockets: natively, under canal with its peer outside, and both under canal.

Each subject is a program of many cases (conformance.h), and each case prints what it observed. The
outputs must be equal to the native one, case by case, but for those in `differences.py`, which must differ.
"""

import functools

import pytest

import harness
from cases import compare, natively, run_pair
from differences import DIFFERENCES
from subjects import SUBJECTS

SIDES = {"outside": ("canal", "native"), "inside": ("canal", "canal")}
pytestmark = pytest.mark.seconds(280)
# The native outputs of a machine where the cases make sense.
LEAST_CASES = 3


@pytest.fixture(scope="module")
def oracle(bin_dir, session_dir):
    """What a subject prints natively: it runs once, if nothing differs."""
    logs = session_dir / "native"
    logs.mkdir()
    programs = harness.Programs(logs)
    yield functools.cache(lambda subject, family: natively(programs, bin_dir, subject, family))
    programs.close()


@pytest.mark.parametrize("where", SIDES)
@pytest.mark.parametrize("subject,family", [(subject, family) for subject, families in SUBJECTS.items()
                                            for family in families])
def test_equal(canald, programs, oracle, bin_dir, where, subject, family):
    native = oracle(subject, family)
    assert len(native.native) >= LEAST_CASES
    kinds = ("native", "native") if canald is None else SIDES[where]
    told = run_pair(programs, kinds, canald, bin_dir, subject, family)
    expected = {name for of, name, which, *only in DIFFERENCES
                if of == subject and which in (where, "both") and only in ([], [family]) and canald}
    compare(native, told, expected)


def test_enough(oracle):
    """The number that this part promises."""
    count = sum(len(oracle(subject, family).native) for subject, families in SUBJECTS.items()
                for family in families[:1])
    print(f"{count} cases")
    assert count >= 250


def test_differences_exist(oracle):
    for subject, name, which, *_ in DIFFERENCES:
        if subject not in SUBJECTS:  # of a test of its own
            continue
        assert name in oracle(subject, SUBJECTS[subject][0]).native, f"{subject}: no case {name}"
        assert which in ("outside", "inside", "both")
