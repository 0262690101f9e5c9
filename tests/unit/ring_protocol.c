/* SPDX-License-Identifier: MIT */
/*
 * ring.h, one step after the other in one thread: claim, publish, read, full, gone
 * past, stalled, taken back, and every state that no rule leads to.
 */
#include "cmocka_begin.h"

#include <string.h>

#include "ring.h"

#define COUNT 4u
#define CLIENT 7u

struct fixture {
	struct canal_inr ring[COUNT];
	uint64_t tail;
	struct canal_ring_reader reader;
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

static void publish(struct canal_inr *slot, uint64_t pos, uint32_t sock)
{
	slot->op = CANAL_INR_NOP;
	slot->sock = sock;
	assert_true(canal_ring_publish(slot, pos, CLIENT));
}

static void post(struct fixture *f, uint32_t sock)
{
	uint64_t pos = 0;
	struct canal_inr *slot = claim(f, &pos);

	assert_non_null(slot);
	publish(slot, pos, sock);
}

static enum canal_ring_look next(struct fixture *f, struct canal_inr *out)
{
	return canal_ring_next(f->ring, COUNT, &f->reader, out);
}

/* The next one is @sock, at position @pos. */
static void expect_at(struct fixture *f, uint32_t sock, uint64_t pos)
{
	struct canal_inr out;

	assert_int_equal(next(f, &out), CANAL_RING_GOT);
	assert_int_equal(out.sock, sock);
	assert_int_equal(canal_inr_client(out.state), CLIENT);
	assert_int_equal(canal_inr_pos(out.state), pos);
	assert_false(canal_ring_passed(f->ring, COUNT, pos));
	canal_ring_free(f->ring, COUNT, &f->reader, pos);
	assert_true(canal_ring_passed(f->ring, COUNT, pos));
}

static void expect(struct fixture *f, uint32_t sock)
{
	expect_at(f, sock, f->reader.pos);
}

static void expect_look(struct fixture *f, enum canal_ring_look look)
{
	struct canal_inr out;
	uint64_t pos = f->reader.pos;

	assert_int_equal(next(f, &out), look);
	assert_int_equal(f->reader.pos, look == CANAL_RING_LATER ? pos + 1 : pos);
}

static bool take_back(struct fixture *f, uint32_t i)
{
	return canal_ring_take_back(f->ring, COUNT, &f->reader, i, CLIENT);
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

static void claimed_slot_is_gone_past(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = 0;
	struct canal_inr *slot = claim(f, &pos);

	post(f, 2);
	expect_look(f, CANAL_RING_LATER);
	assert_int_equal(canal_ring_claimer(f->ring, COUNT, f->reader.late[0]), CLIENT);
	expect(f, 2);
	expect_look(f, CANAL_RING_EMPTY);
	publish(slot, pos, 1);
	assert_int_equal(canal_ring_claimer(f->ring, COUNT, f->reader.late[0]), CANAL_NONE);
	expect_at(f, 1, pos);
	assert_int_equal(f->reader.late_count, 0);
	expect_look(f, CANAL_RING_EMPTY);
}

/* Who publishes two INRs has them read in that order. */
static void late_one_comes_before_what_was_published_behind_it(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = 0;
	struct canal_inr *slot = claim(f, &pos);

	expect_look(f, CANAL_RING_LATER);
	publish(slot, pos, 1);
	post(f, 2);
	expect_at(f, 1, pos);
	expect(f, 2);
}

static void late_slots_may_be_published_in_any_order(void **state)
{
	struct fixture *f = *state;
	uint64_t pos[3];
	struct canal_inr *slot[3];

	for (uint32_t i = 0; i < 3; i++) {
		slot[i] = claim(f, &pos[i]);
		expect_look(f, CANAL_RING_LATER);
	}
	for (uint32_t i = 3; i-- > 0;) {
		publish(slot[i], pos[i], i);
		expect_at(f, i, pos[i]);
	}
	for (uint32_t i = 0; i < 3 * COUNT; i++) {
		post(f, i);
		expect(f, i);
	}
}

static void ring_stalls_a_whole_ring_later(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = 0, unused;
	struct canal_inr *slot = claim(f, &pos);

	expect_look(f, CANAL_RING_LATER);
	for (uint32_t i = 1; i < COUNT; i++) {
		post(f, i);
		expect(f, i);
	}
	assert_null(claim(f, &unused));
	expect_look(f, CANAL_RING_STALLED);
	publish(slot, pos, 0);
	expect_at(f, 0, pos);
	post(f, COUNT);
	expect(f, COUNT);
}

/* What is carried out has others read, and these come round to it. */
static void ring_ends_at_what_is_being_carried_out(void **state)
{
	struct fixture *f = *state;
	struct canal_inr out;
	uint64_t unused;

	post(f, 0);
	assert_int_equal(next(f, &out), CANAL_RING_GOT);
	for (uint32_t i = 1; i < COUNT; i++) {
		post(f, i);
		expect(f, i);
	}
	assert_null(claim(f, &unused));
	expect_look(f, CANAL_RING_EMPTY);
	canal_ring_free(f->ring, COUNT, &f->reader, canal_inr_pos(out.state));
	post(f, COUNT);
	expect(f, COUNT);
}

static void ring_stalls_with_too_many_late_slots(void **state)
{
	enum { MANY = 2 * CANAL_RING_LATE };
	static struct canal_inr ring[MANY];
	struct canal_ring_reader reader = { .pos = 0 };
	struct canal_inr *slot = NULL, out;
	uint64_t tail = 0, pos = 0;

	(void)state;
	canal_ring_init(ring, MANY);
	for (uint32_t i = 0; i <= CANAL_RING_LATE; i++) {
		slot = canal_ring_claim(ring, MANY, &tail, CLIENT, &pos);
		assert_non_null(slot);
		assert_int_equal(canal_ring_next(ring, MANY, &reader, &out),
				 i < CANAL_RING_LATE ? CANAL_RING_LATER : CANAL_RING_STALLED);
	}
	assert_int_equal(reader.pos, CANAL_RING_LATE);
	publish(slot, pos, 1);
	assert_int_equal(canal_ring_next(ring, MANY, &reader, &out), CANAL_RING_GOT);
	assert_int_equal(out.sock, 1);
}

static void nobody_has_claimed_in_an_empty_ring(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(canal_ring_claimer(f->ring, COUNT, f->reader.pos), CANAL_NONE);
}

static void slot_of_the_dead_is_taken_back(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = 0;

	assert_non_null(claim(f, &pos));
	post(f, 1);
	expect_look(f, CANAL_RING_LATER);
	assert_true(take_back(f, 0));
	assert_int_equal(f->reader.late_count, 0);
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
	expect_look(f, CANAL_RING_LATER);
	expect(f, 1);
}

static void hint_left_behind_a_slot_taken_back_is_moved_on(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = 0;

	assert_non_null(claim(f, &pos));
	f->tail = 0;
	expect_look(f, CANAL_RING_LATER);
	assert_true(take_back(f, 0));
	post(f, 1);
	expect(f, 1);
}

/* One whose slot was taken back learns of it, and claims another. */
static void publication_of_a_slot_taken_back_fails(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = 0, again = 0;
	struct canal_inr *slot = claim(f, &pos);

	expect_look(f, CANAL_RING_LATER);
	assert_true(take_back(f, 0));
	assert_false(canal_ring_publish(slot, pos, CLIENT));
	slot = claim(f, &again);
	assert_int_equal(again, pos + 1);
	publish(slot, again, 1);
	expect(f, 1);
	for (uint32_t i = 0; i < COUNT; i++) {
		post(f, i);
		expect(f, i);
	}
	assert_false(canal_ring_publish(&f->ring[0], pos, CLIENT));
	expect_look(f, CANAL_RING_EMPTY);
}

/* Published between the last look and the decision: it is not lost. */
static void published_slot_is_not_taken_back(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = 0;
	struct canal_inr *slot = claim(f, &pos);

	expect_look(f, CANAL_RING_LATER);
	publish(slot, pos, 1);
	assert_false(take_back(f, 0));
	expect_at(f, 1, pos);
}

static void bad_state_of_a_late_slot_is_bad(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = 0;
	struct canal_inr *slot = claim(f, &pos), out;
	const uint64_t bad[] = {
		canal_inr_state(0, CLIENT, CANAL_INR_FREE),
		canal_inr_state(0, CLIENT, 3),
		canal_inr_state(COUNT, CLIENT, CANAL_INR_READY),
	};

	post(f, 1);
	expect_look(f, CANAL_RING_LATER);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		slot->state = bad[i];
		assert_int_equal(next(f, &out), CANAL_RING_BAD);
		assert_int_equal(slot->state, bad[i]);
	}
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
		CASE(claimed_slot_is_gone_past),
		CASE(late_one_comes_before_what_was_published_behind_it),
		CASE(late_slots_may_be_published_in_any_order),
		CASE(ring_stalls_a_whole_ring_later),
		CASE(ring_ends_at_what_is_being_carried_out),
		CASE(ring_stalls_with_too_many_late_slots),
		CASE(nobody_has_claimed_in_an_empty_ring),
		CASE(slot_of_the_dead_is_taken_back),
		CASE(hint_left_behind_is_moved_on),
		CASE(hint_left_behind_a_slot_taken_back_is_moved_on),
		CASE(publication_of_a_slot_taken_back_fails),
		CASE(published_slot_is_not_taken_back),
		CASE(bad_state_of_a_late_slot_is_bad),
		CASE(states_that_no_rule_leads_to_are_bad),
		CASE(older_lap_is_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
