# SPDX-License-Identifier: MIT
"""Runs the cases of a subject with their peer, and tells where two runs differ."""

import difflib
import socket

import harness

RUN_SECONDS = 120


def run_pair(programs, sides, canald, bin_dir, subject, family):
    """What the subject printed; `sides` says where it and its peer are."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        def start(kind, name, end, argv):
            side = harness.Side(kind, programs, canald if kind == "canal" else None)
            return side.start([bin_dir / name, *argv], {"CONFORMANCE_PEER": str(end.fileno()), "CASE_SECONDS": "30",
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


def by_case(text):
    """{name: what it printed}, in the order of the cases."""
    cases = (case.partition("\n") for case in text.split("== ")[1:])
    return {name: told for name, _, told in cases}


def differing(native, told):
    return [name for name in native if native[name] != told.get(name)]


def shown(native, told, names):
    """The lines of these cases, with what differs."""
    def diff(name):
        return difflib.unified_diff(native[name].splitlines(), told.get(name, "(did not run)").splitlines(),
                                    "native", "canal", n=3, lineterm="")
    return "\n".join(line for name in names for line in (f"== {name}", *list(diff(name))[3:]))
