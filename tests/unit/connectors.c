/* SPDX-License-Identifier: MIT */
/*
 * Connectors that wait for a listener's room, and an accept() at the worst moment:
 * between canald's look that finds RX full and the one behind its fence. canald runs
 * without a thread; its heavy fence (S2) is where the guest of this test acts.
 */
#include "cmocka_begin.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sock.h"

#define CLIENT 1u

long __wrap_syscall(long number, ...);

static struct poller poller;
static struct channel *ch;
static struct canal_sock *accepts_in_fence; /* a listener; NULL: nobody does */

/* --- a poller without a kernel ------------------------------------------ */

static int fake_watch(struct engine *e, struct engine_handle *h, int fd, uint32_t events)
{
	(void)e, (void)events;
	h->fd = fd;
	return 0;
}

static void fake_unwatch(struct engine *e, struct engine_handle *h)
{
	(void)e;
	h->fd = -1;
}

static void fake_flush(struct engine *e)
{
	(void)e;
}

static const struct engine_ops fake_ops = {
	.name = "fake",
	.watch = fake_watch,
	.unwatch = fake_unwatch,
	.flush = fake_flush,
};

/* --- the guest ----------------------------------------------------------- */

/* Takes the oldest entry. It has not looked yet whether canald wants to hear of it. */
static void take_entry(struct canal_sock *l)
{
	assert_true(l->rx.tail - l->rx.head >= sizeof(struct canal_accept));
	canal_store_fence(&l->rx.head, l->rx.head + sizeof(struct canal_accept));
}

long __wrap_syscall(long number, ...)
{
	if (number != SYS_membarrier) {
		errno = ENOSYS;
		return -1;
	}
	if (accepts_in_fence)
		take_entry(accepts_in_fence);
	accepts_in_fence = NULL;
	return 0;
}

static void request(uint8_t op, uint32_t n, const void *args, size_t len)
{
	struct canal_inr inr = {
		.state = canal_inr_state(0, CLIENT, CANAL_INR_READY),
		.op = op,
		.client = CLIENT,
		.sock = n,
		.slot = CANAL_NONE,
		.generation = ch->generation[n],
	};

	memcpy(&inr.u, args, len);
	request_serve(ch, &inr);
	assert_false(ch->broken);
}

#define ask(op, n, ...) request(op, n, (uint32_t[6]){ __VA_ARGS__ }, 6 * sizeof(uint32_t))

static uint32_t stream(void)
{
	uint32_t n = ch->grant[ch->region->grant_head++ % CHANNEL_GRANTS];

	ask(CANAL_INR_SOCKET, n, AF_INET, SOCK_STREAM);
	return n;
}

static uint32_t listener(uint32_t backlog)
{
	const struct canal_addr any = { .family = AF_INET, .ip = { 127, 0, 0, 1 } };
	uint32_t n = stream();

	request(CANAL_INR_BIND, n, &any, sizeof(any));
	ask(CANAL_INR_LISTEN, n, backlog);
	assert_int_equal(channel_shared(ch, n)->state, CANAL_SOCK_LISTENING);
	return n;
}

static struct canal_sock *connector(uint32_t l)
{
	uint32_t n = stream();

	request(CANAL_INR_CONNECT, n, &channel_shared(ch, l)->local, sizeof(struct canal_addr));
	return channel_shared(ch, n);
}

/* The other half of an accept(): INR_RX, if canald wants it. */
static bool tells_room(uint32_t l)
{
	if (!canal_take(&channel_shared(ch, l)->rx.want_room))
		return false;
	ask(CANAL_INR_RX, l, 0);
	return true;
}

/* --- the cases ------------------------------------------------------------ */

static int setup(void **state)
{
	const struct channel_origin origin = {
		.transport = &transport_local,
		.shape = &shape_local,
		.pid = 1,
		.name = "test",
	};
	struct client *c;

	(void)state;
	settings.log_level = -1;
	settings.join = settings.heavy = true;
	settings.max_sockets = 2 * CHANNEL_GRANTS;
	memset(&poller, 0, sizeof(poller));
	poller_init(&poller);
	poller.ops = &fake_ops;
	poller.now_ns = 1000000000;
	assert_int_equal(channel_create(&ch, &origin), 0);
	assert_int_equal(channel_attach(ch, &poller), 0);
	assert_int_equal(channel_add_client(ch, eventfd(0, EFD_CLOEXEC), 1, 0, &c), 0);
	assert_int_equal(c->number, CLIENT);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	channel_end(ch);
	poller_pass(&poller);
	assert_true(cds_list_empty(&poller.channels));
	poller.now_ns += 10000000000;
	portpool_trim(&poller);
	return 0;
}

static void the_one_who_waits_is_next(void **state)
{
	uint32_t l = listener(1);
	struct canal_sock *first = connector(l), *waits = connector(l);

	(void)state;
	assert_int_equal(first->state, CANAL_SOCK_CONNECTED);
	assert_int_equal(waits->state, CANAL_SOCK_CONNECTING);
	take_entry(channel_shared(ch, l));
	assert_true(tells_room(l));
	assert_int_equal(waits->state, CANAL_SOCK_CONNECTED);
}

static void another_finds_room_at_that_moment(void **state)
{
	uint32_t l = listener(1);
	struct canal_sock *first = connector(l), *waits = connector(l), *lucky;

	(void)state;
	assert_int_equal(first->state, CANAL_SOCK_CONNECTED);
	assert_int_equal(waits->state, CANAL_SOCK_CONNECTING);
	accepts_in_fence = channel_shared(ch, l);
	lucky = connector(l);
	assert_null(accepts_in_fence);
	assert_int_equal(lucky->state, CANAL_SOCK_CONNECTED);
	/* the accept() that made the room, and the one that takes the lucky one */
	(void)tells_room(l);
	take_entry(channel_shared(ch, l));
	(void)tells_room(l);
	assert_int_equal(waits->state, CANAL_SOCK_CONNECTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_one_who_waits_is_next, setup, teardown),
		cmocka_unit_test_setup_teardown(another_finds_room_at_that_moment, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
