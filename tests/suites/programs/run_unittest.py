# SPDX-License-Identifier: MIT
"""run_unittest.py REPORT SECONDS MODULE[+RESOURCE...] [PATTERN...]: runs a module of unittest.

REPORT gets what each test gave: a line of JSON when it begins ("begun") and one when it ends, with
its id, the outcome, and what it said. A test that takes more than SECONDS ends the program, with the
stacks of all threads on standard error; its "begun" is then the last line. A PATTERN (fnmatch, of
ids) that begins with ! leaves tests out, others choose. RESOURCEs are those of `python -m test -u`.

It does what `python -m test` does around a module, without that program's own timing and output.
"""

import faulthandler
import fnmatch
import json
import sys
import traceback
import unittest


class Report(unittest.TestResult):
    def __init__(self, file, seconds):
        super().__init__()
        self.file = file
        self.seconds = seconds
        self.outcome = None

    def write(self, **line):
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()

    def startTest(self, test):
        super().startTest(test)
        self.outcome = ("ok", "")
        self.write(id=test.id(), outcome="begun")
        faulthandler.dump_traceback_later(self.seconds, exit=True)

    def stopTest(self, test):
        faulthandler.cancel_dump_traceback_later()
        self.write(id=test.id(), outcome=self.outcome[0], text=self.outcome[1])
        self.outcome = None
        super().stopTest(test)

    def note(self, test, outcome, text):
        if self.outcome is None:  # setUpModule, setUpClass and their ends
            self.write(id=test.id(), outcome=outcome, text=text)
        elif self.outcome[0] in ("ok", outcome):
            self.outcome = (outcome, self.outcome[1] + text)
        elif outcome != "skipped":
            self.outcome = ("failed", self.outcome[1] + text)

    def said(self, err):
        return "".join(traceback.format_exception(*err))

    def addError(self, test, err):
        self.note(test, "failed", self.said(err))

    def addFailure(self, test, err):
        self.note(test, "failed", self.said(err))

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.note(test, "failed", f"{subtest.id()}:\n{self.said(err)}")

    def addSkip(self, test, reason):
        self.note(test, "skipped", reason)

    def addExpectedFailure(self, test, err):
        self.note(test, "expected failure", "")

    def addUnexpectedSuccess(self, test):
        self.note(test, "unexpected success", "")


def each(tests):
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from each(test)
        else:
            yield test


def chosen(tests, patterns):
    left_out = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]

    def is_chosen(test):
        return (any(fnmatch.fnmatchcase(test.id(), pattern) for pattern in wanted)
                and not any(fnmatch.fnmatchcase(test.id(), pattern) for pattern in left_out))
    return unittest.TestSuite(filter(is_chosen, each(tests)))


def main(path, seconds, module, *patterns):
    # as python -m test does: tests hold what they find in these against a default of their own
    from test import support
    module, *support.use_resources = module.split("+")
    support.verbose = 0
    faulthandler.enable(all_threads=True)
    with open(path, "w", encoding="utf-8") as file:
        report = Report(file, float(seconds))
        try:
            tests = unittest.defaultTestLoader.loadTestsFromName(module)
        except unittest.SkipTest as reason:
            report.write(id=module, outcome="skipped", text=str(reason))
        else:
            tests = chosen(tests, patterns)  # nothing else holds a test that has run
            tests.run(report)
            support.reap_children()
        report.write(id="all", outcome="complete", text="")


if __name__ == "__main__":
    main(*sys.argv[1:])
