/* SPDX-License-Identifier: MIT */
/*
 * One broken rule at a time. Each case breaks its rule as a guest that has just attached,
 * and canald must close the channel for the reason that the case names.
 *
 *	cases.c		the ring, who asks, numbers; runs them all
 *	cases_fifo.c	positions, chunks, records
 *	cases_packet.c	the control connection
 */
#ifndef CANAL_TEST_CASES_H
#define CANAL_TEST_CASES_H

#include "guest.h"

struct hostile_case {
	const char *name, *reason;
	void (*run)(struct guest *g);
};

#define CASE(what, why)          \
	{                        \
#what, why, what \
	}

/* Each ends with one that has no name. */
extern const struct hostile_case fifo_cases[], packet_cases[];

#endif
