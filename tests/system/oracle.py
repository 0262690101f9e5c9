# SPDX-License-Identifier: MIT
"""What programs of cases print natively, and where a run under canal is another one.

Such a program prints "== NAME" in front of what each of its cases observed; the cases of tests/calls and of
tests/conformance are run so. A case that observes a race of the kernel's or of libc's own may print one thing
natively now and another thing the next time. So a case that differs is asked for natively once more, and once
more; the run under canal stays the one that it is.

Invariants:
  1. What canal printed for a case is right only if one native run printed exactly that for the same case.
  2. A case that ended by a signal under canal, where the first native run ended otherwise, is wrong in any event.
  3. A case that is right by a later native run only is told: who reads the tests' output sees which one varies.
"""

import difflib
import re
import warnings

import pytest

RUNS_MAX = 3


def by_case(text):
    """{name: what it printed}, in the order of the cases; what stands in front of the first, or of none, is ""."""
    front, *cases = re.split(r"^== ", text, flags=re.M)
    found = {"": front} if front else {}
    found.update((name, told) for name, _, told in (case.partition("\n") for case in cases))
    return found


def shown(native, told, names):
    """The lines of these cases, with what differs."""
    def lines(run, name):
        return run.get(name, "(did not run)").splitlines()

    def diff(name):
        return list(difflib.unified_diff(lines(native, name), lines(told, name), n=3, lineterm=""))[2:]
    return "\n".join(line for name in names for line in (f"== {name}: native -, canal +", *diff(name)))


class Oracle:
    """The native runs of one program, of which there are as few as are needed. `run()` gives what it printed."""

    def __init__(self, what, run):
        self.what = what
        self.run = run
        self.runs = [by_case(run())]

    @property
    def native(self):
        """The first one."""
        return self.runs[0]

    def differing(self, told):
        """The cases that `told`, of a run under canal, has other words for than the first native run."""
        return [name for name in {**self.native, **told} if self.native.get(name) != told.get(name)]

    def wrong(self, told, expected=()):
        """Those of them that no native run has these words for, but the `expected` ones."""
        differ = [name for name in self.differing(told) if name not in expected]
        left = self._unknown(differ, told)
        while left and len(self.runs) < RUNS_MAX:
            self.runs.append(by_case(self.run()))
            left = self._unknown(left, told)
        varies = [name for name in differ if name not in left]
        if varies:
            warnings.warn(f"{self.what}: natively these differ from run to run: {', '.join(varies)}", stacklevel=2)
        return left

    def _unknown(self, names, told):
        return [name for name in names if re.search(r"^ended: signal", told.get(name, ""), re.M)
                or not any(name in run and run[name] == told.get(name) for run in self.runs[1:])]

    def check(self, told, expected=()):
        """Fails with the lines that are wrong; `told` is the text of a run under canal."""
        told = by_case(told)
        wrong = self.wrong(told, expected)
        if wrong:
            pytest.fail(f"{self.what}: natively otherwise in {len(self.runs)} runs\n{shown(self.native, told, wrong)}",
                        pytrace=False)
