# SPDX-License-Identifier: MIT
"""What each test of programs has: a time limit, and the programs' output in the report when it fails."""

import signal

import pytest

from harness import PATIENCE

TEST_SECONDS = 120


def _limited(item):
    """Raise in the test when it takes too long; the waits of a test have shorter limits."""
    marker = item.get_closest_marker("seconds")
    seconds = PATIENCE * (marker.args[0] if marker else TEST_SECONDS)

    def expire(_number, _frame):
        raise TimeoutError(f"the test took more than {seconds} s")
    previous = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    yield from _limited(item)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    yield from _limited(item)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    yield from _limited(item)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    programs = list(getattr(item.funcargs.get("programs"), "all", ()))
    canald = item.funcargs.get("canald")
    if canald:
        programs.append(canald.program)
    for program in programs:
        report.sections.append((program.name, program.describe()))
    world = item.funcargs.get("world")
    if world:
        report.sections += world.sections()
