/* SPDX-License-Identifier: MIT */
/*
 * RX chunks: the memory that the host produces into.
 *
 * Purpose: hands out chunk numbers of a channel's RX table. Everything here is
 * private to canald; the guest never has a say in it.
 *
 * Invariants
 *  1. A number is in the free stack, or at or above rx_fresh (never used), or in
 *     the rx_chunk table of exactly one socket.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: arena_take() returns CANAL_NONE when all chunks are in use.
 */
#include "sock.h"

uint32_t arena_take(struct channel *ch)
{
	uint32_t chunk;

	if (ch->rx_free_count)
		chunk = ch->rx_free[--ch->rx_free_count];
	else if (ch->rx_fresh < ch->shape.chunks)
		chunk = ch->rx_fresh++;
	else
		return CANAL_NONE;
	ch->rx_in_use++;
	return chunk;
}

void arena_give(struct channel *ch, uint32_t chunk)
{
	ch->rx_free[ch->rx_free_count++] = chunk;
	ch->rx_in_use--;
}
