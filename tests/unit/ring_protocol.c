/* SPDX-License-Identifier: MIT */
/*
 * ring.h, one step after the other in one thread: claim, publish, consume, full,
 * stalled, skipped, and every state that no rule leads to.
 */
#include "cmocka_begin.h"

#include <string.h>

#include "ring.h"

#define COUNT 4u
#define CLIENT 7u

struct fixture {
	struct canal_inr ring[COUNT];
	uint64_t tail;
	uint64_t pos;
};

static int set_up(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	canal_ring_init(f.ring, COUNT);
	*state = &f;
	return 0;
}

static struct canal_inr *claim(struct fixture *f, uint64_t *pos)
{
	return canal_ring_claim(f->ring, COUNT, &f->tail, CLIENT, pos);
}

static void post(struct fixture *f, uint32_t sock)
{
	uint64_t pos = 0;
	struct canal_inr *slot = claim(f, &pos);

	assert_non_null(slot);
	slot->op = CANAL_INR_NOP;
	slot->sock = sock;
	canal_ring_publish(slot, pos, CLIENT);
}

static enum canal_ring_look consume(struct fixture *f, struct canal_inr *out)
{
	return canal_ring_consume(f->ring, COUNT, &f->pos, out);
}

static void expect(struct fixture *f, uint32_t sock)
{
	struct canal_inr out;
	uint64_t pos = f->pos;

	assert_int_equal(consume(f, &out), CANAL_RING_GOT);
	assert_int_equal(out.sock, sock);
	assert_int_equal(canal_inr_client(out.state), CLIENT);
	assert_int_equal(canal_inr_pos(out.state), pos);
	assert_int_equal(f->pos, pos + 1);
}

static void expect_look(struct fixture *f, enum canal_ring_look look)
{
	struct canal_inr out;
	uint64_t pos = f->pos;

	assert_int_equal(consume(f, &out), look);
	assert_int_equal(f->pos, pos);
}

static void state_holds_what_was_put_in(void **state)
{
	uint64_t s = canal_inr_state(0xabcdef012345ull, CANAL_CLIENT_MAX, CANAL_INR_READY);

	(void)state;
	assert_int_equal(canal_inr_pos(s), 0xabcdef012345ull);
	assert_int_equal(canal_inr_client(s), CANAL_CLIENT_MAX);
	assert_int_equal(s & CANAL_INR_PHASE, CANAL_INR_READY);
}

static void new_ring_is_empty(void **state)
{
	expect_look(*state, CANAL_RING_EMPTY);
}

static void published_inrs_come_out_in_order(void **state)
{
	for (uint32_t i = 0; i < 5 * COUNT; i++) {
		post(*state, 2 * i);
		post(*state, 2 * i + 1);
		expect(*state, 2 * i);
		expect(*state, 2 * i + 1);
	}
	expect_look(*state, CANAL_RING_EMPTY);
}

static void full_ring_gives_no_slot(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = 0;

	for (uint32_t i = 0; i < COUNT; i++)
		post(f, i);
	assert_null(claim(f, &pos));
	assert_int_equal(f->tail, COUNT);
	expect(f, 0);
	post(f, COUNT);
	assert_null(claim(f, &pos));
	for (uint32_t i = 1; i <= COUNT; i++)
		expect(f, i);
	expect_look(f, CANAL_RING_EMPTY);
}

static void claimed_slot_stalls_until_published(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = 0;
	struct canal_inr *slot = claim(f, &pos);

	post(f, 2);
	expect_look(f, CANAL_RING_STALLED);
	assert_int_equal(canal_ring_staller(f->ring, COUNT, f->pos), CLIENT);
	slot->sock = 1;
	canal_ring_publish(slot, pos, CLIENT);
	assert_int_equal(canal_ring_staller(f->ring, COUNT, f->pos), CANAL_NONE);
	expect(f, 1);
	expect(f, 2);
}

static void nobody_stalls_an_empty_ring(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(canal_ring_staller(f->ring, COUNT, f->pos), CANAL_NONE);
}

static void slot_of_the_dead_is_skipped(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = 0;

	assert_non_null(claim(f, &pos));
	post(f, 1);
	expect_look(f, CANAL_RING_STALLED);
	canal_ring_skip(f->ring, COUNT, &f->pos);
	assert_int_equal(f->pos, 1);
	expect(f, 1);
	for (uint32_t i = 0; i < 2 * COUNT; i++) {
		post(f, i);
		expect(f, i);
	}
}

/* Killed between the compare-and-swaps of the slot and of the hint. */
static void hint_left_behind_is_moved_on(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = 0;

	assert_non_null(claim(f, &pos));
	f->tail = 0;
	post(f, 1);
	assert_int_equal(f->tail, 2);
	canal_ring_skip(f->ring, COUNT, &f->pos);
	expect(f, 1);
}

static void hint_left_behind_a_whole_skip_is_moved_on(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = 0;

	assert_non_null(claim(f, &pos));
	f->tail = 0;
	canal_ring_skip(f->ring, COUNT, &f->pos);
	post(f, 1);
	expect(f, 1);
}

/* One that was declared dead and publishes after all breaks the ring, visibly. */
static void publication_after_skip_is_bad(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = 0;
	struct canal_inr *slot = claim(f, &pos);

	canal_ring_skip(f->ring, COUNT, &f->pos);
	canal_ring_publish(slot, pos, CLIENT);
	for (uint32_t i = 1; i < COUNT; i++) {
		post(f, i);
		expect(f, i);
	}
	expect_look(f, CANAL_RING_BAD);
}

static void states_that_no_rule_leads_to_are_bad(void **state)
{
	struct fixture *f = *state;
	const uint64_t bad[] = {
		canal_inr_state(0, CLIENT, 3),                   /* no such phase */
		canal_inr_state(1, CLIENT, CANAL_INR_READY),     /* not its slot */
		canal_inr_state(COUNT, CLIENT, CANAL_INR_READY), /* next lap */
		canal_inr_state(COUNT, 0, CANAL_INR_FREE),       /* next lap */
		canal_inr_state(0xffffffffffffull, CLIENT, CANAL_INR_READY),
		UINT64_MAX,
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		f->ring[0].state = bad[i];
		expect_look(f, CANAL_RING_BAD);
		assert_int_equal(f->ring[0].state, bad[i]);
	}
}

static void older_lap_is_bad(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < COUNT; i++) {
		post(f, i);
		expect(f, i);
	}
	f->ring[0].state = canal_inr_state(0, CLIENT, CANAL_INR_READY);
	expect_look(f, CANAL_RING_BAD);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup(name, set_up)
	const struct CMUnitTest tests[] = {
		CASE(state_holds_what_was_put_in),
		CASE(new_ring_is_empty),
		CASE(published_inrs_come_out_in_order),
		CASE(full_ring_gives_no_slot),
		CASE(claimed_slot_stalls_until_published),
		CASE(nobody_stalls_an_empty_ring),
		CASE(slot_of_the_dead_is_skipped),
		CASE(hint_left_behind_is_moved_on),
		CASE(hint_left_behind_a_whole_skip_is_moved_on),
		CASE(publication_after_skip_is_bad),
		CASE(states_that_no_rule_leads_to_are_bad),
		CASE(older_lap_is_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
