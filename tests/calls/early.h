/* SPDX-License-Identifier: MIT */
/* What the calls of early.c's constructor gave. */
#ifndef CALLS_EARLY_H
#define CALLS_EARLY_H

struct early {
	int pair, flags, closed, again;
	long wrote, got;
};

extern struct early early;

#endif
