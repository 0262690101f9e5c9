/* SPDX-License-Identifier: MIT */
/*
 * SIGIO and SIGURG: async.c tells how.
 */
#ifndef CANAL_GUEST_ASYNC_H
#define CANAL_GUEST_ASYNC_H

#include "internal.h"

/* Sockets of which this process has bells. */
extern uint32_t async_count __attribute__((visibility("hidden")));

/* O_ASYNC, owner or signal of the dummy at @fd may have changed. */
void async_change(int fd, struct sock_ref ref);
/* This process has no descriptor of the socket any more. */
void async_forget(uint32_t number);
/* In a forked child. */
void async_after_fork(void);

#endif
