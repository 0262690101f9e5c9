# SPDX-License-Identifier: MIT
"""Cases that differ, and why: (subject, case, outside | inside | both): reason.

Each has a line in docs/compatibility.md. The test fails when one does not differ any more.
"""

DIFFERENCES = {
}
