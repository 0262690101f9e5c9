/* SPDX-License-Identifier: MIT */
/* pool.h in one thread: each number once, warm ones first, never a stale head. */
#include "cmocka_begin.h"

#include <string.h>

#include "pool.h"

#define COUNT 4u
#define STRIDE 12u

struct fixture {
	uint64_t head;
	uint32_t used;
	uint32_t links[COUNT * STRIDE / sizeof(uint32_t)];
	struct canal_pool pool;
};

static int set_up(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	f.pool = (struct canal_pool){ &f.head, &f.used, COUNT, (uint8_t *)f.links, STRIDE };
	*state = &f;
	return 0;
}

static void fresh_numbers_come_in_order_and_once(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(canal_pool_take(&f->pool), i);
	assert_int_equal(canal_pool_take(&f->pool), CANAL_NONE);
	assert_int_equal(f->used, COUNT);
}

static void given_numbers_come_again_newest_first(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(canal_pool_take(&f->pool), 0);
	assert_int_equal(canal_pool_take(&f->pool), 1);
	assert_int_equal(canal_pool_take(&f->pool), 2);
	canal_pool_give(&f->pool, 1);
	canal_pool_give(&f->pool, 0);
	assert_int_equal(canal_pool_take(&f->pool), 0);
	assert_int_equal(canal_pool_take(&f->pool), 1);
	assert_int_equal(canal_pool_take(&f->pool), 3);
	assert_int_equal(canal_pool_take(&f->pool), CANAL_NONE);
	canal_pool_give(&f->pool, 3);
	assert_int_equal(canal_pool_take(&f->pool), 3);
}

static void empty_pool_has_nothing(void **state)
{
	struct fixture *f = *state;

	f->pool.count = 0;
	assert_int_equal(canal_pool_take(&f->pool), CANAL_NONE);
}

/* Somebody reads the head; meanwhile its number is taken and given back. */
static void head_read_before_a_take_is_stale_after_it(void **state)
{
	struct fixture *f = *state;
	uint64_t before;

	canal_pool_take(&f->pool);
	canal_pool_take(&f->pool);
	canal_pool_give(&f->pool, 0);
	canal_pool_give(&f->pool, 1);
	before = f->head;
	assert_int_equal(canal_pool_take(&f->pool), 1);
	assert_int_equal(canal_pool_take(&f->pool), 0);
	canal_pool_give(&f->pool, 1);
	assert_int_equal((uint32_t)f->head, (uint32_t)before);
	assert_true(f->head != before);
}

static void tag_wraps(void **state)
{
	struct fixture *f = *state;

	canal_pool_take(&f->pool);
	canal_pool_give(&f->pool, 0);
	f->head |= 0xffffffffull << 32;
	assert_int_equal(canal_pool_take(&f->pool), 0);
	assert_int_equal(f->head, 0);
	canal_pool_give(&f->pool, 0);
	assert_int_equal(canal_pool_take(&f->pool), 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup(name, set_up)
	const struct CMUnitTest tests[] = {
		CASE(fresh_numbers_come_in_order_and_once),
		CASE(given_numbers_come_again_newest_first),
		CASE(empty_pool_has_nothing),
		CASE(head_read_before_a_take_is_stale_after_it),
		CASE(tag_wraps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
