/* SPDX-License-Identifier: MIT */
/* Who waits in a call keeps the socket open, whoever closes its descriptor: keep.c. */
#ifndef CANAL_GUEST_KEEP_H
#define CANAL_GUEST_KEEP_H

#include <stdint.h>

#include "lock.h"

/* This thread's wait slot plus 1, since it began to sleep in the call under way. */
extern __thread uint32_t keep_slot __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Before it sleeps on socket @n, with its own wait slot. */
void keep_begin(uint32_t slot, uint32_t n);
void keep_end(void);
/* Before the last descriptor @fd of socket @n is closed. */
void keep_open(int fd, uint32_t n);
/* In a forked child: its parent's threads wait there. */
void keep_after_fork(void);

/* A call is over, behind its last look at the socket. */
static inline void keep_over(void)
{
	if (unlikely(keep_slot))
		keep_end();
}

#endif
