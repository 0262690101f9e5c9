/* SPDX-License-Identifier: MIT */
/*
 * notify.h in one thread. The last tests run every order of the steps of one
 * sleeper and one publisher: none loses the wake-up, and some order does when
 * the sleeper looks before it arms (the twin). What needs two processors, the
 * fences, is shown by tests/model/handshake.pml.
 */
#include "cmocka_begin.h"

#include "notify.h"

static void armed_flag_is_taken_once(void **state)
{
	uint32_t flag = 0;

	(void)state;
	assert_false(canal_take(&flag));
	canal_arm(&flag);
	assert_true(canal_take(&flag));
	assert_false(canal_take(&flag));
}

static void disarmed_flag_is_not_taken(void **state)
{
	uint32_t flag = 0;

	(void)state;
	canal_arm(&flag);
	canal_disarm(&flag);
	assert_false(canal_take(&flag));
}

static void flag_full_of_nonsense_is_one_wake_up(void **state)
{
	uint32_t flag = 0xdeadbeef;

	(void)state;
	assert_true(canal_take(&flag));
	assert_int_equal(flag, 0);
}

static void bits_are_taken_together(void **state)
{
	uint64_t word = 0;

	(void)state;
	assert_int_equal(canal_take_bits(&word), 0);
	canal_arm_bit(&word, 0);
	canal_arm_bit(&word, 63);
	canal_arm_bit(&word, 64 + 5);
	assert_true(canal_take_bits(&word) == (1ull | 1ull << 63 | 1ull << 5));
	assert_int_equal(word, 0);
}

/* One sleeper and one publisher that step by hand. */
struct play {
	uint32_t flag, data, seen;
	bool asleep, awake_again;
	bool look_first;
};

static void sleeper_step(struct play *p, int step)
{
	if ((step == 0) != p->look_first)
		canal_arm(&p->flag);
	else
		p->seen = p->data;
	if (step == 1) {
		p->asleep = !p->seen;
		if (p->seen)
			canal_disarm(&p->flag);
	}
}

static void publisher_step(struct play *p, int step)
{
	if (step == 0)
		canal_store_fence(&p->data, 1u);
	else
		p->awake_again = canal_take(&p->flag);
}

/* Two steps each, in the order that the bits of @order say. True: lost. */
static bool play(unsigned int order, bool look_first)
{
	struct play p = { .look_first = look_first };
	int sleeper = 0, publisher = 0;

	for (int i = 0; i < 4; i++) {
		if (order >> i & 1)
			sleeper_step(&p, sleeper++);
		else
			publisher_step(&p, publisher++);
	}
	return p.asleep && !p.awake_again;
}

static unsigned int lost(bool look_first)
{
	unsigned int count = 0;

	for (unsigned int order = 0; order < 16; order++)
		if (__builtin_popcount(order) == 2)
			count += play(order, look_first);
	return count;
}

static void no_order_of_steps_loses_a_wake_up(void **state)
{
	(void)state;
	assert_int_equal(lost(false), 0);
}

static void looking_before_arming_loses_it(void **state)
{
	(void)state;
	assert_true(lost(true) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(armed_flag_is_taken_once),
		cmocka_unit_test(disarmed_flag_is_not_taken),
		cmocka_unit_test(flag_full_of_nonsense_is_one_wake_up),
		cmocka_unit_test(bits_are_taken_together),
		cmocka_unit_test(no_order_of_steps_loses_a_wake_up),
		cmocka_unit_test(looking_before_arming_loses_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
