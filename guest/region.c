/* SPDX-License-Identifier: MIT */
/*
 * The region as this process sees it.
 *
 * Purpose: map it and find its tables by the header, whichever transport it came
 * by. Counts and offsets are the header's: a virtual machine's region is smaller
 * than a local one.
 *
 * Ownership and threads: under channel.c's attach_lock, once.
 *
 * Failure: -EPROTO and -EPROTONOSUPPORT for what is no region of this version.
 */
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

#include "guest.h"
#include "internal.h"
#include "sys.h"
#include "transport.h"

#define PAGE 4096ull

#define TABLE(ch, which) ((void *)((uint8_t *)(ch)->region + (ch)->region->which.offset))

static void region_tables(struct channel *ch)
{
	struct canal_region *r = ch->region;

	ch->inr = TABLE(ch, inr);
	ch->inr_count = r->inr.count;
	ch->grant = TABLE(ch, grant);
	ch->grant_count = r->grant.count;
	ch->wait = TABLE(ch, wait);
	ch->wait_count = r->wait.count;
	ch->call = TABLE(ch, call);
	ch->set = TABLE(ch, set);
	ch->set_count = r->set.count;
	ch->sub = TABLE(ch, sub);
	ch->sock = TABLE(ch, sock);
	ch->sock_count = r->sock.count;
	ch->sock_stride = r->sock.stride;
	ch->tx = (struct canal_arena){ TABLE(ch, tx), r->tx.count };
	ch->rx = (struct canal_arena){ TABLE(ch, rx), r->rx.count };
	ch->tx_pool = (struct canal_pool){ .head = &r->tx_free,
					   .used = &r->tx_used,
					   .count = r->tx.count,
					   .link = TABLE(ch, tx_next),
					   .stride = r->tx_next.stride };
	ch->sub_pool = (struct canal_pool){ .head = &r->sub_free,
					    .used = &r->sub_used,
					    .count = r->sub.count,
					    .link = (uint8_t *)ch->sub +
						    offsetof(struct canal_sub, free_next),
					    .stride = r->sub.stride };
}

static int no_room(uint64_t len)
{
	static uint32_t told;

	if (!canal_xchg(&told, 1u))
		guest_log("no room for %llu MB in the address space of this program: raise its "
			  "limit (ulimit -v)",
			  (unsigned long long)len >> 20);
	return -ENOMEM;
}

/* A core file of a program has nothing of its sockets in the kernel either; and to look at
 * pages that nobody has used yet makes them, all 550 MB. */
static void leave_out_of_cores(const struct canal_region *r, uint64_t len)
{
	uint64_t head = (sizeof(*r) + PAGE - 1) / PAGE * PAGE;

	if (head < len)
		(void)sys_call4(SYS_madvise, (const uint8_t *)r + head, len - head, MADV_DONTDUMP,
				0);
}

int region_map(struct channel *ch, int fd, uint64_t len)
{
	struct canal_region *r;

	if (len < sizeof(*r))
		return -EPROTO;
	r = (void *)sys_call6(SYS_mmap, 0, (long)len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if ((unsigned long)r == -(unsigned long)ENOMEM)
		return no_room(len);
	if ((unsigned long)r > -4096UL)
		return (int)(long)r;
	if (r->magic != CANAL_WIRE_MAGIC || r->version != CANAL_WIRE_VERSION ||
	    r->region_len != len) {
		(void)sys_call2(SYS_munmap, r, len);
		return -EPROTONOSUPPORT;
	}
	ch->region = r;
	region_tables(ch);
	leave_out_of_cores(r, len);
	return 0;
}
