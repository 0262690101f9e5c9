/* SPDX-License-Identifier: MIT */
/*
 * The consumer of ring.h on arbitrary bytes: a guest that writes what it likes
 * into the ring, between any two looks.
 *
 * The consumer's position moves by one with GOT and skip and else not at all; it
 * writes nothing but the state of the slot at its position; what it hands out
 * says that position. The ring is allocated to its exact size: ASan sees any
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

static void look_once(struct canal_inr *ring, uint64_t *pos)
{
	struct canal_inr before[COUNT], out;
	uint64_t at = *pos;
	uint32_t staller = canal_ring_staller(ring, COUNT, at);

	memcpy(before, ring, sizeof(before));
	switch (canal_ring_consume(ring, COUNT, pos, &out)) {
	case CANAL_RING_GOT:
		fuzz_check(*pos == at + 1);
		fuzz_check(canal_inr_pos(out.state) == at);
		fuzz_check(canal_inr_client(out.state) < 1u << 14);
		break;
	case CANAL_RING_STALLED:
		fuzz_check(*pos == at);
		fuzz_check(staller == canal_inr_client(ring[at & (COUNT - 1)].state));
		canal_ring_skip(ring, COUNT, pos);
		fuzz_check(*pos == at + 1);
		break;
	case CANAL_RING_EMPTY:
	case CANAL_RING_BAD:
		fuzz_check(*pos == at);
		fuzz_check(!memcmp(ring, before, sizeof(before)));
		break;
	default:
		fuzz_check(!"a look that does not exist");
	}
	only_this_slot_changed(ring, before, at);
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
	uint64_t pos = fuzz_number(&in) & 0xffffffffffffull;

	if (!ring)
		abort();
	fuzz_take(&in, ring, COUNT * sizeof(*ring));
	for (int i = 0; i < LOOKS && in.len; i++) {
		scribble(ring, pos, &in);
		look_once(ring, &pos);
	}
	free(ring);
	return 0;
}
