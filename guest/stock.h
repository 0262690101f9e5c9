/* SPDX-License-Identifier: MIT */
/*
 * Between attach_local.c and stock.c: packets, and near ends that canald made.
 */
#ifndef CANAL_STOCK_H
#define CANAL_STOCK_H

#include "guest.h"
#include "local.h"

/* attach_local.c: one packet, with or without a descriptor (-1); 0 or -errno. */
int packet_send(int conn, struct canal_local *p, int fd);
/* One packet of canald with its descriptors, CANAL_LOCAL_FDS at most. */
int packet_receive(int conn, struct canal_local *p, int *fds, unsigned int *ret_count);

/* stock.c: a near end at the lowest free number. -EAGAIN: not in a handler on top of
 * somebody who is at the stock, or canald has none to give. */
int stock_take(struct channel *ch, int flags, struct dummy_ends *ret_ends);
/* The kernel's socket in place of the dummy of socket @n, closed on exec; or -errno. */
int stock_kernel(struct channel *ch, uint32_t n, uint32_t generation);
/* It was not used, and will be closed. */
void stock_return(const struct dummy_ends *ends);
/* In a forked child: what is left is the parent's. */
void stock_after_fork(void);

#endif
