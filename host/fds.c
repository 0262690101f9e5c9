/* SPDX-License-Identifier: MIT */
/*
 * Descriptors are finite.
 *
 * Purpose: a canald that runs out of descriptors could no longer hear of far
 * ends, or take in a guest. So no new socket is begun while few are left:
 * listeners leave connections in the kernel, socket() in a guest gives ENFILE.
 *
 * The kernel gives the lowest free number, so the last number seen tells how
 * many are in use, and needs no count.
 *
 * Ownership and threads: all pollers; a stale value only shifts the limit.
 * Failure: none.
 */
#include <errno.h>
#include <sys/resource.h>

#include "sock.h"

/* For what is not a socket: guests, wait slots, status questions. */
#define RESERVE 512

static uint32_t limit = UINT32_MAX, last;

void fds_start(void)
{
	struct rlimit most;

	if (!getrlimit(RLIMIT_NOFILE, &most) && most.rlim_cur < UINT32_MAX)
		limit = (uint32_t)most.rlim_cur;
	limit -= limit > 4 * RESERVE ? RESERVE : limit / 8;
}

void fds_opened(int fd)
{
	canal_write_once(&last, (uint32_t)fd);
}

void fds_closed(int fd)
{
	if ((uint32_t)fd < canal_read_once(&last))
		canal_write_once(&last, (uint32_t)fd);
}

bool fds_short(void)
{
	return canal_read_once(&last) >= limit;
}

const char *fds_remedy(int error)
{
	return error == -EMFILE || error == -ENFILE ? ": raise LimitNOFILE of canald (ulimit -n)"
						    : "";
}
