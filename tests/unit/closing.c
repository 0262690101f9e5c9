/* SPDX-License-Identifier: MIT */
/*
 * Streams that were closed while bytes were to be sent, and whose peer takes nothing:
 * how long they stay, and how many, and how often the kernel is asked. canald runs without a thread, at times that the
 * test chooses; the peers are sockets of the kernel.
 */
#include "cmocka_begin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sock.h"

#define CLIENT 1u
#define NS_PER_S 1000000000ull
#define BYTES 1000
#define WAIT_MS 10000

int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len);

static int looks; /* TCP_INFO of a socket */
static struct poller poller;
static struct channel *ch, *other;
static int listening;
static struct canal_addr at;

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	looks += level == IPPROTO_TCP && name == TCP_INFO;
	return __real_getsockopt(fd, level, name, value, len);
}

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

/* --- the guests ----------------------------------------------------------- */

static void request(struct channel *of, uint8_t op, uint32_t n, const void *args, size_t len)
{
	struct canal_inr inr = {
		.state = canal_inr_state(0, CLIENT, CANAL_INR_READY),
		.op = op,
		.client = CLIENT,
		.sock = n,
		.slot = CANAL_NONE,
		.generation = of->generation[n],
	};

	memcpy(&inr.u, args, len);
	request_serve(of, &inr);
	assert_false(of->broken);
}

static uint32_t stream(struct channel *of)
{
	const uint32_t args[6] = { AF_INET, SOCK_STREAM };
	uint32_t n = of->grant[of->region->grant_head++ % CHANNEL_GRANTS];

	request(of, CANAL_INR_SOCKET, n, args, sizeof(args));
	return n;
}

/* A stream with bytes in TX, and its other end, which may be slow. */
static struct sock *sending(struct channel *of, int *ret_peer)
{
	uint32_t n = stream(of);
	struct sock *s;

	request(of, CANAL_INR_CONNECT, n, &at, sizeof(at));
	s = of->socks[n];
	*ret_peer = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	assert_true(*ret_peer >= 0);
	sock_connect_finished(s);
	assert_int_equal(s->state, CANAL_SOCK_CONNECTED);
	s->shared->tx.tail = BYTES;
	return s;
}

static bool is_there(struct channel *of, uint32_t n)
{
	return of->socks[n] != NULL;
}

static void at_second(uint64_t second)
{
	poller.now_ns = second * NS_PER_S;
	closing_tick(&poller);
}

static void assert_reset(int peer)
{
	struct pollfd p = { .fd = peer, .events = POLLRDHUP };
	char c[4096];
	ssize_t got;

	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	while ((got = recv(peer, c, sizeof(c), 0)) > 0)
		;
	assert_int_equal(got, -1);
	assert_int_equal(errno, ECONNRESET);
	close(peer);
}

static void wait_bytes(int peer, int least)
{
	struct pollfd p = { .fd = -1 };
	int there = 0;

	for (int i = 0; i < WAIT_MS && there < least; i++) {
		assert_int_equal(ioctl(peer, FIONREAD, &there), 0);
		poll(&p, 1, there < least);
	}
	assert_true(there >= least);
}

/* --- the cases ------------------------------------------------------------ */

static struct channel *guest_of(uid_t uid)
{
	const struct channel_origin origin = {
		.transport = &transport_local,
		.shape = &shape_local,
		.uid = uid,
		.pid = 1,
		.name = "test",
	};
	struct channel *made;
	struct client *c;

	assert_int_equal(channel_create(&made, &origin), 0);
	assert_int_equal(channel_attach(made, &poller), 0);
	assert_int_equal(channel_add_client(made, eventfd(0, EFD_CLOEXEC), 1, uid, &c), 0);
	assert_int_equal(c->number, CLIENT);
	return made;
}

static int setup(void **state)
{
	struct sockaddr_in name = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(name);

	(void)state;
	settings.log_level = -1;
	settings.join = false;
	settings.max_closing = 2;
	settings.close_timeout_s = 200;
	settings.max_sockets = 2 * CHANNEL_GRANTS;
	memset(&poller, 0, sizeof(poller));
	poller_init(&poller);
	poller.ops = &fake_ops;
	poller.now_ns = 1000 * NS_PER_S;
	ch = guest_of(1);
	other = guest_of(2);
	listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listening, (struct sockaddr *)&name, len), 0);
	assert_int_equal(listen(listening, 8), 0);
	assert_int_equal(getsockname(listening, (struct sockaddr *)&name, &len), 0);
	at = (struct canal_addr){ .family = AF_INET, .port = name.sin_port };
	memcpy(at.ip, &name.sin_addr, sizeof(name.sin_addr));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	channel_end(ch);
	channel_end(other);
	assert_true(cds_list_empty(&poller.closing));
	assert_true(cds_list_empty(&poller.closing_owners));
	poller_pass(&poller);
	assert_true(cds_list_empty(&poller.channels));
	close(listening);
	return 0;
}

static void reset_when_nothing_moves(void **state)
{
	int peer;
	struct sock *s = sending(ch, &peer);
	uint32_t n = s->number;

	(void)state;
	sock_release(s);
	assert_true(is_there(ch, n));
	at_second(1001);
	at_second(1100);
	at_second(1199);
	assert_true(is_there(ch, n));
	at_second(1200);
	assert_false(is_there(ch, n));
	assert_reset(peer);
}

static void stays_while_bytes_leave_it(void **state)
{
	int peer;
	struct sock *s = sending(ch, &peer);
	uint32_t n = s->number;

	(void)state;
	sock_release(s);
	at_second(1150);
	s->tx_bytes += 10;
	at_second(1190);
	at_second(1300);
	at_second(1389);
	assert_true(is_there(ch, n));
	at_second(1390);
	assert_false(is_there(ch, n));
	assert_reset(peer);
}

/* The kernel takes nothing more from TX for long: it has much of its own. */
static void stays_while_the_kernel_gets_rid_of_it(void **state)
{
	static char block[1 << 20];
	int peer, few = 20000;
	struct sock *s = sending(ch, &peer);
	uint32_t n = s->number;
	ssize_t got = 0;

	(void)state;
	while (send(s->fd, block, sizeof(block), MSG_DONTWAIT) > 0)
		;
	wait_bytes(peer, few);
	sock_release(s);
	at_second(1100); /* and is asked what it has */
	for (ssize_t part; got < 40 * few; got += part) {
		part = recv(peer, block, sizeof(block), 0);
		assert_true(part > 0);
	}
	at_second(1200);
	assert_true(is_there(ch, n));
	while (recv(peer, block, sizeof(block), MSG_DONTWAIT) > 0)
		;
	close(peer);
}

/* The kernel tells of it, and canald asks now and then only. */
static void lingering_is_seldom_looked_at(void **state)
{
	const struct linger linger = { .l_onoff = 1, .l_linger = 60 };
	static char block[1 << 20];
	int peer;
	struct sock *s = sending(ch, &peer);
	uint32_t n = s->number;

	(void)state;
	while (send(s->fd, block, sizeof(block), MSG_DONTWAIT) > 0)
		;
	s->shared->tx.tail = 0;
	assert_int_equal(sock_setopt(s, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	sock_release(s);
	assert_true(s->lingering);
	looks = 0;
	for (int i = 0; i < 1180; i++) {
		poller.now_ns += NS_PER_S / 20;
		linger_tick(&poller);
	}
	assert_true(is_there(ch, n));
	assert_in_range(looks, 10, 30);
	poller.now_ns += NS_PER_S;
	linger_tick(&poller);
	assert_false(is_there(ch, n));
	close(peer);
}

static void so_many_of_one_guest(void **state)
{
	struct sock *s[4];
	uint32_t n[4];
	int peer[4];

	(void)state;
	for (int i = 0; i < 4; i++) {
		s[i] = sending(i == 3 ? other : ch, &peer[i]);
		n[i] = s[i]->number;
		sock_release(s[i]);
	}
	assert_true(is_there(ch, n[0]));
	assert_true(is_there(ch, n[1]));
	assert_false(is_there(ch, n[2]));
	assert_reset(peer[2]);
	assert_true(is_there(other, n[3])); /* which is another user's */
	sock_destroy(s[0]);
	s[2] = sending(ch, &peer[2]);
	n[2] = s[2]->number;
	sock_release(s[2]);
	assert_true(is_there(ch, n[2]));
	for (int i = 0; i < 4; i++)
		close(peer[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(reset_when_nothing_moves, setup, teardown),
		cmocka_unit_test_setup_teardown(stays_while_bytes_leave_it, setup, teardown),
		cmocka_unit_test_setup_teardown(stays_while_the_kernel_gets_rid_of_it, setup,
						teardown),
		cmocka_unit_test_setup_teardown(lingering_is_seldom_looked_at, setup, teardown),
		cmocka_unit_test_setup_teardown(so_many_of_one_guest, setup, teardown),
	};

	return cmocka_run_group_tests_name("closing", tests, NULL, NULL);
}
