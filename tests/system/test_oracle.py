# SPDX-License-Identifier: MIT
"""What oracle.py lets pass, and what it does not."""

import pytest

from oracle import RUNS_MAX, Oracle, by_case

SAME = "== one\n1\nended: exit 0\n"


def text(two, end="exit 0"):
    return f"{SAME}== two\n{two}\nended: {end}\n"


def oracle(*runs):
    left = iter(runs)
    return Oracle("program", lambda: next(left))


def test_cases():
    assert by_case("== a\n1\n== b\n2 == 3\n") == {"a": "1\n", "b": "2 == 3\n"}
    assert by_case("no case\n") == {"": "no case\n"}


def test_equal_asks_once():
    kernel = oracle(text("x"))
    kernel.check(text("x"))
    assert len(kernel.runs) == 1


def test_what_the_kernel_never_does():
    kernel = oracle(*[text("x")] * RUNS_MAX)
    with pytest.raises(pytest.fail.Exception, match=r"(?s)== two.*-x.*\+y"):
        kernel.check(text("y"))
    assert len(kernel.runs) == RUNS_MAX
    assert kernel.wrong(by_case(text("y"))) == ["two"]  # asks no more


def test_what_the_kernel_does_too():
    kernel = oracle(text("x"), text("y"))
    with pytest.warns(UserWarning, match="two"):
        kernel.check(text("y"))
    with pytest.warns(UserWarning, match="two"):  # known by now
        kernel.check(text("y"))


def test_each_case_alone():
    """One case that varies does not excuse another one, nor halves of it that no run has together."""
    kernel = oracle(text("x"), text("y"), text("x"))
    with pytest.warns(UserWarning, match="two"):
        assert kernel.wrong(by_case(text("y").replace("1", "2"))) == ["one"]
    kernel = oracle(text("a\nb"), text("c\nd"), text("a\nb"))
    assert kernel.wrong(by_case(text("a\nd"))) == ["two"]


def test_crash_is_no_variation():
    kernel = oracle(text("x"), text("x", "signal SEGV"), text("x"))
    assert kernel.wrong(by_case(text("x", "signal SEGV"))) == ["two"]
    kernel = oracle(text("x", "signal SEGV"), text("x"))
    with pytest.warns(UserWarning):
        kernel.check(text("x"))


def test_missing_and_more():
    kernel = oracle(*[text("x")] * RUNS_MAX)
    assert kernel.wrong(by_case(SAME)) == ["two"]
    assert kernel.wrong(by_case(text("x") + "== three\n")) == ["three"]


def test_expected():
    kernel = oracle(text("x"))
    assert kernel.wrong(by_case(text("y")), {"two"}) == []
    assert kernel.differing(by_case(text("y"))) == ["two"]
