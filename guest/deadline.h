/* SPDX-License-Identifier: MIT */
/*
 * Deadlines: what a program's timespec says, as a point of CLOCK_MONOTONIC and back.
 *
 * Purpose: poll, select and epoll_wait count what is left in one way.
 *
 * Ownership and threads: any thread. Failure: none can fail.
 */
#ifndef CANAL_GUEST_DEADLINE_H
#define CANAL_GUEST_DEADLINE_H

#include <time.h>

#include "guest.h"

#define NS_PER_S 1000000000LL

static inline bool timeout_is_valid(const struct timespec *timeout)
{
	return !timeout ||
	       (timeout->tv_sec >= 0 && timeout->tv_nsec >= 0 && timeout->tv_nsec < NS_PER_S);
}

static inline int64_t deadline_of(const struct timespec *timeout)
{
	if (!timeout || timeout->tv_sec > INT32_MAX)
		return WAIT_FOREVER;
	return wait_now() + timeout->tv_sec * NS_PER_S + timeout->tv_nsec;
}

/* What is left until @deadline, for the kernel; NULL: it never comes. */
static inline const struct timespec *time_left(int64_t deadline, struct timespec *ts)
{
	int64_t left;

	if (deadline == WAIT_FOREVER)
		return NULL;
	left = deadline - wait_now();
	if (left < 0)
		left = 0;
	ts->tv_sec = left / NS_PER_S;
	ts->tv_nsec = left % NS_PER_S;
	return ts;
}

#endif
