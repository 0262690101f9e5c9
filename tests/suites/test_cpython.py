# SPDX-License-Identifier: MIT
"""CPython's own tests of what uses sockets: what passes natively passes under canal.

Nothing is known in advance: each module runs natively and under canal, one after the other where a test may want a
port that the other run has, and the results are compared test by test. Modules that mostly sleep run side by side, and
before the others, which have the machine for themselves: they measure time.
"""

import concurrent.futures
import json
import pathlib
import tempfile

import pytest

import harness
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
    "test_subprocess": 240,
    "test_timeout+network": 60,
}
LEFT_OUT = [
    "!*.ThreadedVSOCKSocketStreamTest.*",  # hangs natively where there is no vsock loopback
    "!*.TCPTimeoutTestCase.*",  # asks hosts of the Internet
]
TEST_SECONDS = 200
# Minutes, most of them asleep; no socket of theirs has a port of its own choice. The longest begin.
TOGETHER = [f"test_multiprocessing_{how}" for how in ("spawn", "forkserver", "fork", "main_handling")]
AT_A_TIME = 4


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


def both_at_once(canald, work_dir, module):
    """The two halves of a module of TOGETHER."""
    programs = harness.Programs(work_dir)
    try:
        sides = [harness.Side(kind, programs, canald) for kind in ("native", "canal")]
        started = [start(side, work_dir, module) for side in sides]
        return [results(side, work_dir, module, program) for side, program in zip(sides, started)]
    finally:
        programs.close()


@pytest.fixture(scope="module")
def together(request, canald, session_dir):
    """What the modules of TOGETHER that were chosen give, each when it is done."""
    chosen = {item.callspec.params.get("module") for item in request.session.items if hasattr(item, "callspec")}
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {module: pool.submit(both_at_once, canald,
                                   pathlib.Path(tempfile.mkdtemp(prefix="together-", dir=session_dir)), module)
               for module in TOGETHER if module in chosen}


@pytest.mark.canal_only
@pytest.mark.seconds(1300)
@pytest.mark.parametrize("module", TOGETHER)
def test_module_with_others(together, module):
    compare(*together[module].result())


@pytest.mark.canal_only
@pytest.mark.seconds(1300)
@pytest.mark.parametrize("module", [module for module in MODULES if module not in TOGETHER])
def test_module(native, canal, work_dir, module):
    wanted = results(native, work_dir, module, start(native, work_dir, module))
    compare(wanted, results(canal, work_dir, module, start(canal, work_dir, module)))


def compare(wanted, got):
    assert wanted.outcome("all") == "complete", wanted.program.describe()
    passed = wanted.names("ok") | wanted.names("expected failure")
    assert passed or wanted.names("skipped"), wanted.program.describe()
    worse = [name for name in sorted(passed) if got.outcome(name) != wanted.outcome(name)]
    # what only canal has: errors of setUpClass and the like
    worse += sorted(got.names("failed") - wanted.names("failed") - set(worse))
    complete = got.outcome("all") == "complete"
    assert complete and not worse, "\n".join(
        [f"{len(worse)} of {len(passed)} differ from native", *map(got.describe, worse[:40]),
         "" if complete else got.program.describe()])
