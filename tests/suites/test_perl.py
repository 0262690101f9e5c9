# SPDX-License-Identifier: MIT
"""Perl's IO::Socket and its kin, natively and under canal. (Debian ships none of Perl's own tests of them.)"""

from harness import HERE

PROGRAM = HERE.parent / "suites/programs/sockets.pl"


def test_sockets(canal, native):
    wanted = native.run(["perl", PROGRAM])
    told = canal.run(["perl", PROGRAM], status=None)
    assert told.returncode == 0 and told.stdout == wanted.stdout, told.describe()
