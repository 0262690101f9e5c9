# SPDX-License-Identifier: MIT
"""CPython's own tests of what uses sockets: what passes natively passes under canal.

Nothing is known in advance: each module runs natively and under canal, one after the other where a test may want a
port that the other run has, and the results are compared test by test.
"""

import json

import pytest

from harness import HERE, PYTHON

RUNNER = HERE.parent / "suites/programs/run_unittest.py"
# Module, resources that it may use, and how long it may take.
MODULES = {
    "test_asyncio": 400,
    "test_epoll": 60,
    "test_eintr": 120,
    "test_fork1": 60,
    "test_ftplib": 60,
    "test_httplib": 60,
    "test_httpservers": 60,
    "test_multiprocessing_fork": 300,
    "test_multiprocessing_forkserver": 600,
    "test_multiprocessing_main_handling": 120,
    "test_multiprocessing_spawn": 600,
    "test_poll": 60,
    "test_select": 60,
    "test_selectors": 60,
    "test_socket": 120,
    "test_socketserver+network": 60,
    "test_ssl": 120,
    "test_subprocess": 120,
    "test_timeout+network": 60,
}
LEFT_OUT = [
    "!*.ThreadedVSOCKSocketStreamTest.*",  # hangs natively where there is no vsock loopback
    "!*.TCPTimeoutTestCase.*",  # asks hosts of the Internet
]
TEST_SECONDS = 120
# Minutes, most of them asleep; no socket of theirs has a port of its own choice.
AT_ONCE = "test_multiprocessing"


class Results:
    """What each test of one run gave, in the words of run_unittest.py."""

    def __init__(self, path, program):
        self.program = program
        self.lines = {}
        for text in path.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            self.lines[line["id"]] = line

    def outcome(self, name):
        return self.lines.get(name, {"outcome": "did not run"})["outcome"]

    def names(self, outcome):
        return {name for name, line in self.lines.items() if line["outcome"] == outcome}

    def describe(self, name):
        return f"{name}: {self.outcome(name)}\n{self.lines.get(name, {}).get('text', '')}"


def start(side, work_dir, module):
    """One run in a directory of its own, with whatever end: a crash shows as tests that did not run."""
    cwd = work_dir / side.kind
    cwd.mkdir()
    return side.start([PYTHON, RUNNER, work_dir / f"{side.kind}.json", str(TEST_SECONDS), f"test.{module}", *LEFT_OUT],
                      env={"LC_ALL": "C.UTF-8", "TMPDIR": str(cwd)}, cwd=cwd)


def results(side, work_dir, module, program):
    program.wait(MODULES[module])
    report = work_dir / f"{side.kind}.json"
    assert report.exists(), program.describe()
    return Results(report, program)


@pytest.mark.canal_only
@pytest.mark.seconds(1300)
@pytest.mark.parametrize("module", MODULES)
def test_module(native, canal, work_dir, module):
    program = start(native, work_dir, module)
    other = start(canal, work_dir, module) if module.startswith(AT_ONCE) else None
    wanted = results(native, work_dir, module, program)
    assert wanted.outcome("all") == "complete", wanted.program.describe()
    passed = wanted.names("ok") | wanted.names("expected failure")
    assert passed or wanted.names("skipped"), wanted.program.describe()
    got = results(canal, work_dir, module, other or start(canal, work_dir, module))
    worse = [name for name in sorted(passed) if got.outcome(name) != wanted.outcome(name)]
    # what only canal has: errors of setUpClass and the like
    worse += sorted(got.names("failed") - wanted.names("failed") - set(worse))
    complete = got.outcome("all") == "complete"
    assert complete and not worse, "\n".join(
        [f"{len(worse)} of {len(passed)} differ from native", *map(got.describe, worse[:40]),
         "" if complete else got.program.describe()])
