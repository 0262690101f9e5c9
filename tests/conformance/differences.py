# SPDX-License-Identifier: MIT
"""Cases that differ, and why: (subject, case, outside | inside | both[, family]): reason.

Each reason has a line in docs/compatibility.md. The test fails when a case does not differ any more, unless it is
one that differs as canald is in time.
"""

LATER = "an error of the way is told by a later call"
JOIN = "a connection that the switch joined has no TCP of its own"

SOMETIMES = {"backlog_full"}

BY_REASON = {
    "ready members in the order of their numbers": {"epolls": ["order_of_arrival"]},
    "a canal socket cannot be mapped": {"moving": ["tee_and_others"]},
    "canald accepts before the program does": {"tcp": ["backlog_full"]},
}

DIFFERENCES = {
    **{(subject, case, "both"): reason for reason, subjects in BY_REASON.items()
       for subject, cases in subjects.items() for case in cases},
    ("connect", "rebind_after_close", "inside"): JOIN,
    ("tcp", "deferred_accept", "inside"): JOIN,
    ("options", "inherited_by_accept", "inside"): JOIN,
    ("options", "tcp_options_connected", "inside"): JOIN,
    # of one family
    ("connect", "broadcast_address", "both", "4"): LATER,
    ("dgram", "broadcast_not_allowed", "both", "4"): LATER,
    ("dgram", "unreachable_at_once", "both", "4"): LATER,
    ("options", "kept_by_connect", "inside", "6"): JOIN,
    # of test_routes.py
    ("routes", "datagram_sent_at_once", "outside"): LATER,
}
