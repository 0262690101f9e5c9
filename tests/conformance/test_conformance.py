# SPDX-License-Identifier: MIT
"""What a program sees of its sockets: natively, under canal with its peer outside, and both under canal.

Each subject is a program of many cases (conformance.h), and each case prints what it observed. The
outputs must be equal to the native one, case by case, but for those in `differences.py`, which must differ.
"""

import functools

import pytest

import harness
from cases import by_case, differing, run_pair, shown
from differences import DIFFERENCES
from subjects import SUBJECTS

SIDES = {"outside": ("canal", "native"), "inside": ("canal", "canal")}
pytestmark = pytest.mark.seconds(280)
# The native outputs of a machine where the cases make sense.
LEAST_CASES = 3


@pytest.fixture(scope="module")
def native_output(bin_dir, session_dir):
    """What a subject prints natively: it runs once."""
    logs = session_dir / "native"
    logs.mkdir()
    programs = harness.Programs(logs)

    @functools.cache
    def run(subject, family):
        return by_case(run_pair(programs, ("native", "native"), None, bin_dir, subject, family))
    yield run
    programs.close()


@pytest.mark.parametrize("where", SIDES)
@pytest.mark.parametrize("subject,family", [(subject, family) for subject, families in SUBJECTS.items()
                                            for family in families])
def test_equal(canald, programs, native_output, bin_dir, where, subject, family):
    native = native_output(subject, family)
    assert len(native) >= LEAST_CASES
    kinds = ("native", "native") if canald is None else SIDES[where]
    told = by_case(run_pair(programs, kinds, canald, bin_dir, subject, family))
    expected = {name for of, name, which, *only in DIFFERENCES
                if of == subject and which in (where, "both") and only in ([], [family]) and canald}
    differ = set(differing(native, told))
    wrong = [name for name in native if name in differ - expected]
    if wrong:
        pytest.fail(shown(native, told, wrong), pytrace=False)
    assert not expected - differ, f"no difference any more: take it off differences.py: {expected - differ}"


def test_enough(native_output):
    """The number that this part promises."""
    count = sum(len(native_output(subject, family)) for subject, families in SUBJECTS.items()
                for family in families[:1])
    print(f"{count} cases")
    assert count >= 250


def test_differences_exist(native_output):
    for subject, name, which, *_ in DIFFERENCES:
        if subject not in SUBJECTS:  # of a test of its own
            continue
        assert name in native_output(subject, SUBJECTS[subject][0]), f"{subject}: no case {name}"
        assert which in ("outside", "inside", "both")
