/* SPDX-License-Identifier: MIT */
/*
 * A ring as a sequence of what producers and the consumer do, against a plain
 * array that holds one entry for each position ever claimed.
 *
 * Up to four producers hold a claimed slot each; the input says who claims,
 * publishes, dies, or dies before it could move the hint, and when the consumer
 * looks.
 */
#include "fuzz.h"
#include "ring.h"

#define COUNT 4u
#define PRODUCERS 4u
#define STEPS 512u

enum fate { NONE, CLAIMED, PUBLISHED, DEAD };

struct producer {
	struct canal_inr *slot; /* claimed, or NULL */
	uint64_t pos;
};

struct world {
	struct canal_inr ring[COUNT];
	uint64_t tail, pos, claimed;
	struct producer producers[PRODUCERS];
	enum fate fates[STEPS + 1];
	uint32_t socks[STEPS + 1];
	uint32_t clients[STEPS + 1];
};

static void claim(struct world *w, uint32_t number)
{
	struct producer *p = &w->producers[number];

	if (p->slot)
		return;
	p->slot = canal_ring_claim(w->ring, COUNT, &w->tail, number + 1, &p->pos);
	fuzz_check(!p->slot == (w->claimed - w->pos == COUNT));
	if (!p->slot)
		return;
	fuzz_check(p->pos == w->claimed);
	fuzz_check(p->slot == &w->ring[p->pos % COUNT]);
	w->clients[p->pos] = number + 1;
	w->fates[w->claimed++] = CLAIMED;
}

static void publish(struct world *w, uint32_t number, uint32_t sock)
{
	struct producer *p = &w->producers[number];

	if (!p->slot)
		return;
	p->slot->sock = sock;
	canal_ring_publish(p->slot, p->pos, number + 1);
	w->fates[p->pos] = PUBLISHED;
	w->socks[p->pos] = sock;
	p->slot = NULL;
}

static void die(struct world *w, uint32_t number, bool hint_left)
{
	struct producer *p = &w->producers[number];

	if (!p->slot)
		return;
	if (hint_left && w->tail == p->pos + 1)
		w->tail = p->pos;
	w->fates[p->pos] = DEAD;
	p->slot = NULL;
}

static void consume(struct world *w)
{
	struct canal_inr out;
	uint64_t at = w->pos;

	switch (canal_ring_consume(w->ring, COUNT, &w->pos, &out)) {
	case CANAL_RING_GOT:
		fuzz_check(w->fates[at] == PUBLISHED);
		fuzz_check(out.sock == w->socks[at]);
		fuzz_check(canal_inr_client(out.state) == w->clients[at]);
		break;
	case CANAL_RING_EMPTY:
		fuzz_check(w->fates[at] == NONE);
		break;
	case CANAL_RING_STALLED:
		fuzz_check(w->fates[at] == CLAIMED || w->fates[at] == DEAD);
		fuzz_check(canal_ring_staller(w->ring, COUNT, at) == w->clients[at]);
		if (w->fates[at] == DEAD)
			canal_ring_skip(w->ring, COUNT, &w->pos);
		break;
	default:
		fuzz_check(!"no rule led to this state");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct world w;
	struct fuzz_input in = { data, len };

	memset(&w, 0, sizeof(w));
	canal_ring_init(w.ring, COUNT);
	for (uint32_t i = 0; i < STEPS && in.len; i++) {
		uint8_t what = fuzz_byte(&in);
		uint32_t number = what >> 4 & (PRODUCERS - 1);

		switch (what % 5) {
		case 0:
			claim(&w, number);
			break;
		case 1:
			publish(&w, number, i);
			break;
		case 2:
			die(&w, number, what & 0x80);
			break;
		default:
			consume(&w);
		}
	}
	return 0;
}
