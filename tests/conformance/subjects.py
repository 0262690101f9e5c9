# SPDX-License-Identifier: MIT
"""The programs conformance_SUBJECT, and the families that each runs over."""

SUBJECTS = {
    "async": ["4"],
    "bad": ["4"],
    "blocked": ["4"],
    "connect": ["4", "6"],
    "control": ["4", "6"],
    "dgram": ["4", "6"],
    "early": ["4"],
    "endings": ["4"],
    "epolls": ["4"],
    "life": ["4"],
    "moving": ["4"],
    "oob": ["4"],
    "options": ["4", "6"],
    "ready": ["4"],
    "stdio": ["4"],
    "stream": ["4", "6"],
    "tcp": ["4", "6"],
}
