# SPDX-License-Identifier: MIT
"""Runs the cases of a subject with their peer."""

import socket

import harness
from differences import SOMETIMES
from oracle import Oracle, by_case

RUN_SECONDS = 120


def run_pair(programs, sides, canald, bin_dir, subject, family):
    """What the subject printed; `sides` says where it and its peer are."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        def start(kind, name, end, argv):
            side = harness.Side(kind, programs, canald if kind == "canal" else None)
            return side.start([bin_dir / name, *argv], {"CONFORMANCE_PEER": str(end.fileno()), "CASE_SECONDS": "100",
                                                                "CASE_WAIT_MS": "5000"},
                              pass_fds=(end.fileno(),))
        peer = start(sides[1], "conformance_peer", theirs, [])
        program = start(sides[0], f"conformance_{subject}", ours, [family])
        ours.close()
        theirs.close()
        program.wait(RUN_SECONDS)
        peer.wait(10)
    assert program.returncode == 0, program.describe()
    return program.stdout


def natively(programs, bin_dir, subject, family):
    """What the subject prints with its peer, both native."""
    return Oracle(f"{subject} {family}",
                  lambda: run_pair(programs, ("native", "native"), None, bin_dir, subject, family))


def compare(native, told, expected):
    """Fails when `told` differs elsewhere than in the `expected` cases, or not in all of them."""
    native.check(told, expected)
    missing = set(expected) - SOMETIMES - set(native.differing(by_case(told)))
    assert not missing, f"no difference any more: take it off differences.py: {missing}"
