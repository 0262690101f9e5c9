/* SPDX-License-Identifier: MIT */
/*
 * A program with both ends of a connection.
 *
 * Purpose: over loopback the kernel has done all that a call means for the other end
 * before it returns: the end of a stream is there when close() is over, a connection
 * to a closed port has been refused when a non-blocking connect() is. Programs that talk
 * to themselves count on that, tests above all, and across threads. So a call that ends
 * such a connection, or begins one over loopback, waits until canald has done it. What
 * is sent is looked for by who finds nothing else, without asking (trim.c). The close()
 * of a listener waits, too: who is told of it, wherever he is, is refused, or has the port.
 *
 * Ownership and threads: any thread, with no lock held.
 * Failure: without a wait slot, or without canald, nothing waits.
 */
#include "guest.h"

#include <string.h>

bool addr_is_loopback(const struct canal_addr *addr)
{
	static const uint8_t v6[16] = { [15] = 1 }, v4_in_6[13] = { [10] = 0xff, 0xff, 127 };

	if (addr->family == AF_INET)
		return addr->ip[0] == 127;
	return !memcmp(addr->ip, v6, sizeof(v6)) || !memcmp(addr->ip, v4_in_6, sizeof(v4_in_6));
}

void inward_settle(void)
{
	struct canal_inr inr = { .op = CANAL_INR_SETTLE, .sock = CANAL_NONE };

	if (!channel_gone(&the_channel))
		(void)channel_call(&the_channel, &inr, NULL);
}
