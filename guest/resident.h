/* SPDX-License-Identifier: MIT */
/*
 * mlockall() of all but the region: resident.c.
 */
#ifndef CANAL_GUEST_RESIDENT_H
#define CANAL_GUEST_RESIDENT_H

/* 0 or -errno. */
int resident_all(int flags);

#endif
