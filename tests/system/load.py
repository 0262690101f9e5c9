# SPDX-License-Identifier: MIT
"""What the load generators say: parse it, and fail on any request that went wrong."""

import re


def _figure(pattern, program, default=None):
    match = re.search(pattern, program.stdout)
    if match is None and default is not None:
        return default
    assert match, f"no {pattern!r} in the output: {program.describe()}"
    return int(match.group(1))


def assert_ab_clean(program, request_count):
    """Every request was answered with 200 and the same length. Returns the bytes received."""
    assert _figure(r"Complete requests: +(\d+)", program) == request_count, program.describe()
    assert _figure(r"Failed requests: +(\d+)", program) == 0, program.describe()
    assert "Non-2xx responses" not in program.stdout, program.describe()
    return _figure(r"Total transferred: +(\d+) bytes", program)


def assert_wrk_clean(program):
    """No socket error, no other status than 2xx. Returns the number of requests."""
    assert "Socket errors" not in program.stdout, program.describe()
    assert "Non-2xx" not in program.stdout, program.describe()
    count = _figure(r"(\d+) requests in ", program)
    assert count > 0, program.describe()
    return count


def assert_h2load_clean(program, request_count):
    assert _figure(r"(\d+) succeeded", program) == request_count, program.describe()
    for fault in ("failed", "errored", "timeout"):
        assert _figure(rf"(\d+) {fault}", program) == 0, program.describe()
    assert _figure(r"status codes: (\d+) 2xx", program) == request_count, program.describe()
