/* SPDX-License-Identifier: MIT */
/*
 * The memory of a channel: its layout, and where canald has it mapped.
 *
 * Invariants
 *  1. No offset or count is ever read back from the region: the layout is made of
 *     constants, and a guest that writes over it misleads itself.
 *  2. The memory cannot shrink under canald: its file is sealed.
 *
 * Ownership and threads: any thread, before anybody else knows the channel.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"
#include "sock.h"

const struct channel_shape shape_local = {
	.waits = CHANNEL_WAITS_MAX,
	.sets = 1024,
	.subs = 65536,
	.socks = CHANNEL_SOCKS_MAX,
	.chunks = 16384,
};

static uint64_t layout_table(struct canal_table *t, uint64_t *end, uint32_t count, uint32_t stride,
			     uint64_t align)
{
	t->offset = (*end + align - 1) & ~(align - 1);
	t->count = count;
	t->stride = stride;
	*end = t->offset + (uint64_t)count * stride;
	return t->offset;
}

/* Fills @r with the shape of a region; the region's length. */
static uint64_t layout_fill(struct canal_region *r, const struct channel_shape *shape)
{
	uint64_t end = sizeof(*r);

	layout_table(&r->inr, &end, CHANNEL_INRS, sizeof(struct canal_inr), 4096);
	layout_table(&r->grant, &end, CHANNEL_GRANTS, sizeof(uint32_t), 64);
	layout_table(&r->wait, &end, shape->waits, sizeof(struct canal_wait), 64);
	layout_table(&r->call, &end, shape->waits, sizeof(struct canal_call), 64);
	layout_table(&r->set, &end, shape->sets, sizeof(struct canal_set), 64);
	layout_table(&r->sub, &end, shape->subs, sizeof(struct canal_sub), 64);
	layout_table(&r->sock, &end, shape->socks, sizeof(struct canal_sock), 64);
	layout_table(&r->tx_next, &end, shape->chunks, sizeof(uint32_t), 64);
	layout_table(&r->tx, &end, shape->chunks, CANAL_CHUNK, 1u << 21);
	layout_table(&r->rx, &end, shape->chunks, CANAL_CHUNK, 1u << 21);
	return end;
}

static int region_map(struct channel *ch, uint64_t len)
{
	ch->region_fd = memfd_create("canal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (ch->region_fd < 0)
		return -errno;
	if (ftruncate(ch->region_fd, (off_t)len) ||
	    fcntl(ch->region_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	ch->base = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			ch->region_fd, 0);
	if (ch->base == MAP_FAILED) {
		ch->base = NULL;
		return -errno;
	}
	ch->region_len = len;
	return 0;
}

/* Pointers into the mapping, from a layout that the guest cannot change. */
static void region_place(struct channel *ch, const struct canal_region *shape)
{
	ch->region = (struct canal_region *)(void *)ch->base;
	ch->inr = (struct canal_inr *)(void *)(ch->base + shape->inr.offset);
	ch->grant = (uint32_t *)(void *)(ch->base + shape->grant.offset);
	ch->wait = (struct canal_wait *)(void *)(ch->base + shape->wait.offset);
	ch->call = (struct canal_call *)(void *)(ch->base + shape->call.offset);
	ch->set = (struct canal_set *)(void *)(ch->base + shape->set.offset);
	ch->sub = (struct canal_sub *)(void *)(ch->base + shape->sub.offset);
	ch->sock = ch->base + shape->sock.offset;
	ch->tx = (struct canal_arena){ ch->base + shape->tx.offset, ch->shape.chunks };
	ch->rx = (struct canal_arena){ ch->base + shape->rx.offset, ch->shape.chunks };
}

uint64_t region_length(const struct channel_shape *shape)
{
	struct canal_region layout;

	return layout_fill(&layout, shape);
}

/* The paper's 100 looks, where guest, poller and peer each have a core. */
static uint32_t spin_looks(const struct channel *ch)
{
	if (settings.spin_looks != SPIN_LOOKS_AUTO)
		return settings.spin_looks;
	if (ch->transport->spin_looks)
		return ch->transport->spin_looks;
	return sysconf(_SC_NPROCESSORS_ONLN) > 2 ? 100 : 20;
}

void region_begin(struct channel *ch)
{
	struct canal_region layout = {
		.magic = CANAL_WIRE_MAGIC,
		.version = CANAL_WIRE_VERSION,
		.header_len = sizeof(layout),
		.channel_id = ch->id,
		.spin_looks = spin_looks(ch),
		.fallback = settings.guest_fallback,
		/* membarrier reaches no core of a virtual machine (S2) */
		.heavy = settings.heavy && ch->transport->fences,
		/* the port map of a guest's own addresses has TCP and UDP */
		.udplite = settings.udplite && !ch->guest,
	};

	if (ch->guest) {
		layout.own[0] = ch->guest->address;
		layout.own[1] = ch->guest->address6;
	}
	layout.region_len = ch->region_len = layout_fill(&layout, &ch->shape);
	region_place(ch, &layout);
	memcpy(ch->region, &layout, sizeof(layout));
	canal_ring_init(ch->inr, CHANNEL_INRS);
}

int region_create(struct channel *ch)
{
	int r = region_map(ch, region_length(&ch->shape));

	if (r)
		return r;
	ch->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (ch->kick_fd < 0)
		return -errno;
	region_begin(ch);
	return 0;
}
