/* SPDX-License-Identifier: MIT */
/*
 * Transfers by reference, for stream.c alone: hybrid.c.
 */
#ifndef CANAL_HYBRID_H
#define CANAL_HYBRID_H

#include "data.h"

/* Whether @len bytes go by reference. Never on the local transport. */
static inline bool hybrid_pays(size_t len)
{
	return unlikely(len >= canal_read_once(&the_channel.ref_min));
}

/**
 * hybrid_send() - what canald takes out of the program's buffers itself
 * @generation: of the socket that was asked for: none goes to the next of its number
 * @at:       moves on by what went
 * @deadline: when to stop waiting, WAIT_FOREVER; 0: not at all
 * @ret_sent: grows by what went
 *
 * Return: 0: what is left is to be copied (or there is nothing left, or the socket
 * has failed); -EINTR, -EAGAIN, -EFAULT: the send ends with what it has.
 */
int hybrid_send(struct canal_sock *s, uint32_t n, uint32_t generation, struct cursor *at,
		size_t left, int64_t deadline, size_t *ret_sent);

/**
 * hybrid_recv() - what there is, into the program's buffers
 * @at:        moves on by what came
 * @ret_taken: bytes of it that were in RX: head is to be moved over them
 *
 * Context: under rx_lock.
 * Return: bytes; 0: it is to be copied; -EFAULT.
 */
int64_t hybrid_recv(struct canal_sock *s, uint32_t n, struct cursor *at, size_t most,
		    uint64_t *ret_taken);

#endif
