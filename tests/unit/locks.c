/* SPDX-License-Identifier: MIT */
/*
 * guest/lock.h within one thread: locks in each other, a signal handler on top of a
 * holder, and a holder that a jump out of a handler left behind.
 *
 * Each test ends with no lock held.
 */
#include "cmocka_begin.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"
#include "lock.h"
#include "ring.h"

#define SOCKS 64u

static struct canal_region region;
static struct canal_inr ring[2 * SOCKS]; /* canald is told of a lock that was taken over */
static struct canal_sock socks[SOCKS];
#define first (socks[0].tx.tx_lock)
#define second (socks[0].rx.rx_lock)
static sigjmp_buf back;

static void on_signal(void (*handler)(int))
{
	const struct sigaction action = { .sa_handler = handler };

	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
}

static int set_up(void **state)
{
	(void)state;
	memset(socks, 0, sizeof(socks));
	region.inr_tail = 0;
	canal_ring_init(ring, 2 * SOCKS);
	the_channel.region = &region;
	the_channel.inr = ring;
	the_channel.inr_count = 2 * SOCKS;
	the_channel.sock = (uint8_t *)socks;
	the_channel.sock_stride = sizeof(socks[0]);
	the_channel.sock_count = SOCKS;
	the_channel.client = 1;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return first || second;
}

static void locks_nest(void **state)
{
	(void)state;
	assert_true(lock_enter(&first));
	assert_int_equal(first, lock_me());
	lock_take(&second);
	assert_int_equal(second, lock_me());
	lock_drop(&second);
	assert_int_equal(second, 0);
	assert_int_equal(first, lock_me());
	lock_leave(&first);
}

static void locks_are_given_back_in_any_order(void **state)
{
	(void)state;
	lock_take(&first);
	lock_take(&second);
	lock_drop(&first);
	assert_int_equal(first, 0);
	assert_int_equal(second, lock_me());
	lock_drop(&second);
}

static void nobody_is_in_a_handler(void **state)
{
	(void)state;
	assert_false(lock_in_handler());
}

static void a_lock_is_tried(void **state)
{
	(void)state;
	assert_true(lock_try(&first));
	assert_false(lock_try(&first));
	lock_drop(&first);
	second = 12345;
	assert_false(lock_try(&second));
	second = 0;
}

/* --- on top of the holder ----------------------------------------------- */

static volatile sig_atomic_t entered;

static void enter_in_handler(int number)
{
	(void)number;
	entered = lock_enter(&first);
	lock_take(&second);
	lock_drop(&second);
}

static void handler_is_told_and_takes_nothing_away(void **state)
{
	(void)state;
	on_signal(enter_in_handler);
	assert_true(lock_enter(&first));
	entered = 1;
	raise(SIGUSR1);
	assert_false(entered);
	assert_int_equal(first, lock_me());
	assert_int_equal(second, 0);
	lock_leave(&first);
}

static void handler_on_a_stack_of_its_own_is_told(void **state)
{
	stack_t ss = { .ss_size = (size_t)SIGSTKSZ, .ss_sp = malloc((size_t)SIGSTKSZ) };
	const struct sigaction action = { .sa_handler = enter_in_handler, .sa_flags = SA_ONSTACK };

	(void)state;
	assert_non_null(ss.ss_sp);
	assert_int_equal(sigaltstack(&ss, NULL), 0);
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	assert_true(lock_enter(&first));
	entered = 1;
	raise(SIGUSR1);
	assert_false(entered);
	assert_int_equal(first, lock_me());
	lock_leave(&first);
	ss.ss_flags = SS_DISABLE;
	assert_int_equal(sigaltstack(&ss, NULL), 0);
	free(ss.ss_sp);
}

/* --- left behind ----------------------------------------------------------- */

static void jump_out(int number)
{
	(void)number;
	siglongjmp(back, 1);
}

static __attribute__((noinline)) void hold_and_jump(uint32_t *lock)
{
	if (sigsetjmp(back, 1))
		return;
	lock_take(lock);
	raise(SIGUSR1);
	fail_msg("did not jump");
}

static void lock_of_a_jump_is_taken_over(void **state)
{
	(void)state;
	on_signal(jump_out);
	hold_and_jump(&first);
	assert_int_equal(first, lock_me());
	assert_true(lock_enter(&first));
	lock_leave(&first);
}

static void locks_of_many_jumps_are_taken_over(void **state)
{
	(void)state;
	on_signal(jump_out);
	for (uint32_t i = 0; i < SOCKS; i++)
		hold_and_jump(&socks[i].rx.rx_lock);
	for (uint32_t i = 0; i < SOCKS; i++) {
		uint32_t *lock = &socks[i].rx.rx_lock;

		assert_true(lock_enter(lock));
		assert_int_equal(*lock, lock_me());
		lock_leave(lock);
		assert_int_equal(ring[i].op, CANAL_INR_RX);
		assert_int_equal(ring[i].sock, i);
	}
}

/* A lock of this process, which its holder may come for once more. */
static void other_locks_are_not_taken_over(void **state)
{
	uint32_t own = lock_me();

	(void)state;
	assert_false(lock_enter(&own));
	assert_int_equal(own, lock_me());
}

/* --- other threads --------------------------------------------------------- */

static void *thread_jumps(void *unused)
{
	(void)unused;
	assert_false(lock_in_handler());
	hold_and_jump(&first);
	assert_true(lock_enter(&first));
	lock_leave(&first);
	on_signal(enter_in_handler);
	lock_take(&first);
	entered = 1;
	raise(SIGUSR1);
	assert_false(entered);
	lock_drop(&first);
	return NULL;
}

static void it_is_the_same_in_any_thread(void **state)
{
	pthread_t thread;

	(void)state;
	on_signal(jump_out);
	assert_int_equal(pthread_create(&thread, NULL, thread_jumps, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(locks_nest),
		CASE(locks_are_given_back_in_any_order),
		CASE(nobody_is_in_a_handler),
		CASE(a_lock_is_tried),
		CASE(handler_is_told_and_takes_nothing_away),
		CASE(handler_on_a_stack_of_its_own_is_told),
		CASE(lock_of_a_jump_is_taken_over),
		CASE(locks_of_many_jumps_are_taken_over),
		CASE(other_locks_are_not_taken_over),
		CASE(it_is_the_same_in_any_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
