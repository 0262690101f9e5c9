# SPDX-License-Identifier: MIT
"""What connect() says where no way leads: natively, and under canal.

    here ── routes that refuse: unreachable, prohibit, blackhole, throw
      └── canal-far0, a link: .1 is here, .2 nowhere, which shows when nobody answers who has it ── canal-far1

The network is that of the session (conftest.py), and as it was when this is over.
"""

import subprocess

import pytest

from cases import compare, natively, run_pair
from differences import DIFFERENCES

FAMILIES = {"4": ("203.0.113.{}/32", "198.51.100.1/24", "arp_cache"),
            "6": ("2001:db8:1::{}/128", "2001:db8:2::1/64", "ndisc_cache")}
KINDS = ("unreachable", "prohibit", "blackhole", "throw")
LINK = "canal-far0"
pytestmark = pytest.mark.seconds(280)
# One question, and 50 ms for the answer.
PATIENCE = ("retrans", "50", "mcast_probes", "1")


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10)


def make_family(family):
    far, here, cache = FAMILIES[family]
    ip("address", "add", here, "dev", LINK, *(["nodad"] if family == "6" else []))
    ip("ntable", "change", "name", cache, "dev", LINK, *PATIENCE)
    for number, kind in enumerate(KINDS, 1):
        ip(f"-{family}", "route", "add", kind, far.format(number))


@pytest.fixture(scope="module")
def routes(request):
    """Makes them, one family after the other."""
    if not request.config.own_network:
        pytest.skip("no network namespace of its own: that is for root to make")
    try:
        ip("link", "add", LINK, "type", "veth", "peer", "name", "canal-far1")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no link can be made here: {getattr(error, 'stderr', error)}")
    made = set()

    def have(family):
        if family in made:
            return
        try:
            make_family(family)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no routes can be made here: {error.stderr}")
        made.add(family)
    try:
        for name in (LINK, "canal-far1"):
            ip("link", "set", name, "up")
        yield have
    finally:
        ip("link", "del", LINK)
        for family in made:
            for number, kind in enumerate(KINDS, 1):
                ip(f"-{family}", "route", "del", kind, FAMILIES[family][0].format(number))


@pytest.mark.parametrize("family", FAMILIES)
def test_equal(routes, canald, programs, bin_dir, family):
    routes(family)
    native = natively(programs, bin_dir, "routes", family)
    assert "EHOSTUNREACH" in native.native["silent_nonblocking"], native.native["silent_nonblocking"]
    kind = "canal" if canald else "native"
    told = run_pair(programs, (kind, "native"), canald, bin_dir, "routes", family)
    expected = {name for of, name, *_ in DIFFERENCES if of == "routes" and canald}
    compare(native, told, expected)
