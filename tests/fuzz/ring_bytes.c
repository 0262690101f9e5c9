/* SPDX-License-Identifier: MIT */
/*
 * The consumer of ring.h on arbitrary bytes: a guest that writes what it likes
 * into the ring, between any two looks.
 *
 * The consumer's position moves by one with GOT and LATER and else not at all; it
 * writes nothing but the state of slots that it frees; what it hands out says the next
 * position or a late one. The ring is allocated to its exact size: ASan sees any
 * step outside.
 */
#include "fuzz.h"
#include "ring.h"

#define COUNT 8u
#define LOOKS 32

static void only_this_slot_changed(const struct canal_inr *ring, const struct canal_inr *before,
				   uint64_t pos)
{
	for (uint32_t i = 0; i < COUNT; i++) {
		if (i == (pos & (COUNT - 1)))
			fuzz_check(!memcmp(&ring[i].op, &before[i].op,
					   sizeof(ring[i]) - sizeof(ring[i].state)));
		else
			fuzz_check(!memcmp(&ring[i], &before[i], sizeof(ring[i])));
	}
}

static bool was_late(const struct canal_ring_reader *r, uint64_t pos)
{
	for (uint32_t i = 0; i < r->late_count; i++)
		if (r->late[i] == pos)
			return true;
	return false;
}

static void check_reader(const struct canal_ring_reader *r)
{
	fuzz_check(r->late_count <= CANAL_RING_LATE);
	for (uint32_t i = 0; i < r->late_count; i++)
		fuzz_check(r->late[i] < r->pos && r->pos - r->late[i] <= COUNT &&
			   (!i || r->late[i] > r->late[i - 1]));
}

static void look_once(struct canal_inr *ring, struct canal_ring_reader *r)
{
	struct canal_ring_reader at = *r;
	struct canal_inr before[COUNT], out;
	uint64_t pos = at.pos;

	memcpy(before, ring, sizeof(before));
	switch (canal_ring_next(ring, COUNT, r, &out)) {
	case CANAL_RING_GOT:
		pos = canal_inr_pos(out.state);
		fuzz_check(was_late(&at, pos) ? r->pos == at.pos : r->pos == pos + 1);
		fuzz_check(pos == at.pos || was_late(&at, pos));
		fuzz_check(canal_inr_client(out.state) < 1u << 14);
		canal_ring_free(ring, COUNT, r, pos);
		break;
	case CANAL_RING_LATER:
		fuzz_check(r->pos == at.pos + 1 && was_late(r, at.pos));
		break;
	case CANAL_RING_STALLED:
		fuzz_check(r->pos == at.pos && r->late_count);
		pos = r->late[0];
		if (canal_ring_take_back(ring, COUNT, r, 0, canal_ring_claimer(ring, COUNT, pos)))
			fuzz_check(r->late_count == at.late_count - 1);
		break;
	case CANAL_RING_EMPTY:
	case CANAL_RING_BAD:
		fuzz_check(r->pos == at.pos);
		fuzz_check(!memcmp(ring, before, sizeof(before)));
		break;
	default:
		fuzz_check(!"a look that does not exist");
	}
	check_reader(r);
	only_this_slot_changed(ring, before, pos);
}

/* Half of the guest's writes are states that might be believed. */
static void scribble(struct canal_inr *ring, uint64_t pos, struct fuzz_input *in)
{
	struct canal_inr *slot = &ring[(pos + fuzz_byte(in) % 2) & (COUNT - 1)];
	uint8_t how = fuzz_byte(in);

	if (how & 1)
		slot->state = fuzz_number(in);
	else
		slot->state = canal_inr_state(pos + (how >> 1) % 3 * COUNT, how >> 4, how >> 6);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_input in = { data, len };
	struct canal_inr *ring = malloc(COUNT * sizeof(*ring));
	struct canal_ring_reader r = { .pos = fuzz_number(&in) & 0xffffffffffffull };

	if (!ring)
		abort();
	fuzz_take(&in, ring, COUNT * sizeof(*ring));
	for (int i = 0; i < LOOKS && in.len; i++) {
		scribble(ring, r.late_count && in.data[0] & 1 ? r.late[0] : r.pos, &in);
		look_once(ring, &r);
	}
	free(ring);
	return 0;
}
