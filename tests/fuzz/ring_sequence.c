/* SPDX-License-Identifier: MIT */
/*
 * A ring as a sequence of what producers and the consumer do, against a plain
 * array that holds one entry for each position ever claimed.
 *
 * Up to four producers hold a claimed slot each; the input says who claims,
 * publishes, dies, or dies before it could move the hint, when the consumer
 * looks, and when it learns who is dead.
 */
#include "fuzz.h"
#include "ring.h"

#define COUNT 4u
#define PRODUCERS 4u
#define STEPS 512u

enum fate { NONE, CLAIMED, PUBLISHED, DEAD, OVER };

struct producer {
	struct canal_inr *slot; /* claimed, or NULL */
	uint64_t pos;
};

struct world {
	struct canal_inr ring[COUNT];
	uint64_t tail, claimed;
	struct canal_ring_reader reader;
	uint64_t read[PRODUCERS + 1]; /* the last position read, + 1, of each */
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
	fuzz_check(!p->slot == (w->claimed >= COUNT && w->fates[w->claimed - COUNT] != OVER));
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
	fuzz_check(canal_ring_publish(p->slot, p->pos, number + 1));
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

static bool is_late(const struct world *w, uint64_t pos)
{
	for (uint32_t i = 0; i < w->reader.late_count; i++)
		if (w->reader.late[i] == pos)
			return true;
	return false;
}

/* The oldest claim that is not over, and that the reader has come to. */
static void check_stalled(const struct world *w)
{
	fuzz_check(w->reader.late_count && w->reader.pos - w->reader.late[0] == COUNT);
	for (uint32_t i = 0; i < w->reader.late_count; i++)
		fuzz_check(w->fates[w->reader.late[i]] == CLAIMED ||
			   w->fates[w->reader.late[i]] == DEAD);
}

static void consume(struct world *w)
{
	struct canal_inr out;
	uint64_t at = w->reader.pos, pos;

	switch (canal_ring_next(w->ring, COUNT, &w->reader, &out)) {
	case CANAL_RING_GOT:
		pos = canal_inr_pos(out.state);
		fuzz_check(w->fates[pos] == PUBLISHED);
		fuzz_check(out.sock == w->socks[pos]);
		fuzz_check(canal_inr_client(out.state) == w->clients[pos]);
		fuzz_check(!is_late(w, pos));
		fuzz_check(pos >= w->read[w->clients[pos]]);
		w->read[w->clients[pos]] = pos + 1;
		canal_ring_free(w->ring, COUNT, &w->reader, pos);
		w->fates[pos] = OVER;
		break;
	case CANAL_RING_EMPTY:
		fuzz_check(w->fates[at] == NONE);
		for (uint64_t i = 0; i < w->claimed; i++)
			fuzz_check(w->fates[i] != PUBLISHED);
		break;
	case CANAL_RING_LATER:
		fuzz_check(w->fates[at] == CLAIMED || w->fates[at] == DEAD);
		fuzz_check(canal_ring_claimer(w->ring, COUNT, at) == w->clients[at]);
		fuzz_check(is_late(w, at));
		break;
	case CANAL_RING_STALLED:
		check_stalled(w);
		break;
	default:
		fuzz_check(!"no rule led to this state");
	}
}

/* The consumer learns who is dead. */
static void bury(struct world *w)
{
	for (uint32_t i = w->reader.late_count; i-- > 0;) {
		uint64_t pos = w->reader.late[i];

		if (w->fates[pos] == PUBLISHED)
			fuzz_check(!canal_ring_take_back(w->ring, COUNT, &w->reader, i,
							 w->clients[pos]));
		if (w->fates[pos] != DEAD)
			continue;
		fuzz_check(canal_ring_take_back(w->ring, COUNT, &w->reader, i, w->clients[pos]));
		w->fates[pos] = OVER;
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

		switch (what % 6) {
		case 0:
			claim(&w, number);
			break;
		case 1:
			publish(&w, number, i);
			break;
		case 2:
			die(&w, number, what & 0x80);
			break;
		case 3:
			bury(&w);
			break;
		default:
			consume(&w);
		}
	}
	return 0;
}
