/* SPDX-License-Identifier: MIT */
/* portmap.h in one thread: who may have a port beside whom, and who gets what comes. */
#include "cmocka_begin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "portmap.h"

static struct canal_addr address(const char *ip, uint16_t port)
{
	struct canal_addr a = { .family = strchr(ip, ':') ? AF_INET6 : AF_INET,
				.port = htons(port) };

	assert_int_equal(inet_pton(a.family, ip, a.ip), 1);
	return a;
}

static struct port_want want(uint32_t guest, int type, const char *ip, uint16_t port)
{
	return (struct port_want){ .guest = guest, .type = type, .addr = address(ip, port) };
}

static struct port *add(const struct port_want *w)
{
	struct port *p = NULL;

	assert_int_equal(portmap_add(&p, w), 0);
	return p;
}

static int add_error(const struct port_want *w)
{
	struct port *p;

	return portmap_add(&p, w);
}

static const struct port *find(uint32_t guest, int type, const char *ip, uint16_t port)
{
	struct canal_addr to = address(ip, port);
	const struct port *p;

	portmap_read_lock();
	p = portmap_find(guest, type, &to, 0);
	portmap_read_unlock();
	return p;
}

static int set_up(void **state)
{
	(void)state;
	return portmap_start();
}

static int tear_down(void **state)
{
	(void)state;
	portmap_stop();
	return 0;
}

static void guests_and_protocols_are_apart(void **state)
{
	struct port_want w = want(1, SOCK_STREAM, "0.0.0.0", 80);
	struct port *p[3];

	(void)state;
	p[0] = add(&w);
	assert_int_equal(add_error(&w), -EADDRINUSE);
	w.guest = 2;
	p[1] = add(&w);
	w.type = SOCK_DGRAM;
	p[2] = add(&w);
	for (int i = 0; i < 3; i++)
		assert_int_equal(portmap_listen(p[i]), 0);
	assert_ptr_equal(find(1, SOCK_STREAM, "10.0.0.1", 80), p[0]);
	assert_ptr_equal(find(2, SOCK_STREAM, "10.0.0.1", 80), p[1]);
	assert_ptr_equal(find(2, SOCK_DGRAM, "10.0.0.1", 80), p[2]);
	assert_null(find(1, SOCK_DGRAM, "10.0.0.1", 80));
	assert_null(find(3, SOCK_STREAM, "10.0.0.1", 80));
	assert_null(find(1, SOCK_STREAM, "10.0.0.1", 81));
}

static void wildcard_stands_in_the_way(void **state)
{
	struct port_want one = want(1, SOCK_STREAM, "10.0.0.1", 80);
	struct port_want other = want(1, SOCK_STREAM, "10.0.0.2", 80);
	struct port_want any = want(1, SOCK_STREAM, "0.0.0.0", 80);
	struct port_want any6 = want(1, SOCK_STREAM, "::", 80);

	(void)state;
	add(&one);
	add(&other);
	assert_int_equal(add_error(&any), -EADDRINUSE);
	assert_int_equal(add_error(&any6), -EADDRINUSE); /* takes IPv4 as well */
	any6.v6only = true;
	add(&any6);
}

static void port_is_free_again(void **state)
{
	struct port_want w = want(1, SOCK_STREAM, "0.0.0.0", 80);

	(void)state;
	portmap_del(add(&w));
	portmap_del(add(&w));
}

static void sharing_is_as_in_linux(void **state)
{
	struct port_want w = want(1, SOCK_STREAM, "0.0.0.0", 80), dgram = w;
	struct port *a, *b;

	(void)state;
	w.reuseaddr = true;
	a = add(&w);
	b = add(&w);
	assert_int_equal(portmap_listen(a), 0);
	assert_int_equal(portmap_listen(b), -EADDRINUSE);
	assert_int_equal(add_error(&w), -EADDRINUSE); /* a listens */
	portmap_unlisten(a);
	assert_int_equal(portmap_listen(b), 0);
	portmap_del(a);
	portmap_del(b);
	w.reuseaddr = false;
	w.reuseport = true;
	assert_int_equal(portmap_listen(add(&w)), 0);
	assert_int_equal(portmap_listen(add(&w)), 0);
	dgram.type = SOCK_DGRAM;
	dgram.reuseaddr = true;
	add(&dgram);
	add(&dgram);
	dgram.reuseaddr = false;
	assert_int_equal(add_error(&dgram), -EADDRINUSE);
}

static void best_fit_gets_it(void **state)
{
	struct port_want any = want(1, SOCK_DGRAM, "0.0.0.0", 53);
	struct port_want one = want(1, SOCK_DGRAM, "10.0.0.1", 53);
	struct port_want any6 = want(1, SOCK_DGRAM, "::", 53);
	struct port *p_any, *p_one, *p_any6;

	(void)state;
	any.reuseaddr = one.reuseaddr = any6.reuseaddr = true;
	p_any6 = add(&any6);
	assert_ptr_equal(find(1, SOCK_DGRAM, "10.0.0.9", 53), p_any6);
	p_any = add(&any);
	p_one = add(&one);
	assert_ptr_equal(find(1, SOCK_DGRAM, "10.0.0.1", 53), p_one);
	assert_ptr_equal(find(1, SOCK_DGRAM, "10.0.0.9", 53), p_any);
	assert_ptr_equal(find(1, SOCK_DGRAM, "fd00::1", 53), p_any6);
}

static void only_who_listens_is_found(void **state)
{
	struct port_want w = want(1, SOCK_STREAM, "0.0.0.0", 80);
	struct port *p;

	(void)state;
	p = add(&w);
	assert_null(find(1, SOCK_STREAM, "10.0.0.1", 80));
	assert_int_equal(portmap_listen(p), 0);
	assert_int_equal(portmap_listen(p), 0);
	assert_ptr_equal(find(1, SOCK_STREAM, "10.0.0.1", 80), p);
	portmap_unlisten(p);
	assert_null(find(1, SOCK_STREAM, "10.0.0.1", 80));
}

static void sharers_have_their_turn(void **state)
{
	struct port_want w = want(1, SOCK_STREAM, "0.0.0.0", 80);
	const struct canal_addr to = address("10.0.0.1", 80);
	const struct port *found[3];

	(void)state;
	w.reuseport = true;
	for (int i = 0; i < 3; i++)
		assert_int_equal(portmap_listen(add(&w)), 0);
	portmap_read_lock();
	for (uint32_t i = 0; i < 3; i++)
		found[i] = portmap_find(1, SOCK_STREAM, &to, i);
	assert_ptr_equal(portmap_find(1, SOCK_STREAM, &to, 3), found[0]);
	portmap_read_unlock();
	assert_true(found[0] != found[1] && found[1] != found[2] && found[0] != found[2]);
}

static bool skip_odd(const struct port_want *w)
{
	return ntohs(w->addr.port) % 2;
}

static void any_port_is_a_free_one(void **state)
{
	struct port_want w = want(1, SOCK_STREAM, "0.0.0.0", 0);
	struct port_want first = want(1, SOCK_STREAM, "0.0.0.0", 32770);
	uint16_t cursor = 0;
	struct port *p;
	int r = 0, count = 0;

	(void)state;
	add(&first);
	assert_int_equal(portmap_add_any(&p, &w, &cursor, skip_odd), 0);
	assert_int_equal(ntohs(p->want.addr.port), 32768);
	assert_int_equal(portmap_add_any(&p, &w, &cursor, skip_odd), 0);
	assert_int_equal(ntohs(p->want.addr.port), 32772);
	portmap_del(p);
	assert_int_equal(portmap_add_any(&p, &w, &cursor, NULL), 0);
	assert_int_equal(ntohs(p->want.addr.port), 32773); /* the longest unused first */
	for (; !r; count++)
		r = portmap_add_any(&p, &w, &cursor, NULL);
	assert_int_equal(r, -EADDRNOTAVAIL);
	assert_int_equal(count - 1, 60999 - 32768 + 1 - 3);
}

static bool count_one(const struct port *p, void *arg)
{
	(void)p;
	++*(int *)arg;
	return true;
}

static void all_are_listed(void **state)
{
	int count = 0;

	(void)state;
	for (uint32_t g = 1; g <= 10; g++) {
		for (uint16_t port = 1; port <= 10; port++) {
			struct port_want w = want(g, SOCK_STREAM, "0.0.0.0", port);

			add(&w);
		}
	}
	portmap_read_lock();
	portmap_each(count_one, &count);
	portmap_read_unlock();
	assert_int_equal(count, 100);
}

/* With SO_REUSEPORT as many as like share a port; but a chain is walked by others. */
static void many_share_a_port(void **state)
{
	struct port_want w = want(1, SOCK_DGRAM, "0.0.0.0", 80);
	struct port *ports[300];
	uint32_t count = 0;
	int r = 0;

	(void)state;
	w.reuseport = true;
	while (count < 300 && !(r = portmap_add(&ports[count], &w)))
		count++;
	assert_int_equal(r, -ENOBUFS);
	assert_int_equal(count, 256);
	portmap_del(ports[--count]);
	assert_int_equal(portmap_add(&ports[count], &w), 0);
	count++;
	while (count)
		portmap_del(ports[--count]);
}

/* bind(0) gives what nobody has, also when all the others are taken. */
static void last_free_port(void **state)
{
	static struct port *ports[65536];
	struct port_want w = want(1, SOCK_STREAM, "127.0.0.1", 0);
	struct port_want other = want(1, SOCK_STREAM, "10.0.0.1", 40000);
	struct port *p, *elsewhere;
	uint16_t cursor = 0;
	uint32_t count = 0;

	(void)state;
	elsewhere = add(&other);
	while (!portmap_add_any(&ports[count], &w, &cursor, NULL))
		count++;
	assert_int_equal(count, 60999 - 32768); /* all but the one on another address */
	assert_int_equal(portmap_add_any(&p, &w, &cursor, NULL), -EADDRNOTAVAIL);
	w.type = SOCK_DGRAM; /* another protocol, another guest */
	p = NULL;
	assert_int_equal(portmap_add_any(&p, &w, &cursor, NULL), 0);
	portmap_del(p);
	w.type = SOCK_STREAM;
	w.guest = 2;
	assert_int_equal(portmap_add_any(&p, &w, &cursor, NULL), 0);
	portmap_del(p);
	w.guest = 1;
	portmap_del(elsewhere);
	assert_int_equal(portmap_add_any(&p, &w, &cursor, NULL), 0);
	assert_int_equal(ntohs(p->want.addr.port), 40000);
	portmap_del(p);
	while (count)
		portmap_del(ports[--count]);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(many_share_a_port),
		CASE(last_free_port),
		CASE(guests_and_protocols_are_apart),
		CASE(wildcard_stands_in_the_way),
		CASE(port_is_free_again),
		CASE(sharing_is_as_in_linux),
		CASE(best_fit_gets_it),
		CASE(only_who_listens_is_found),
		CASE(sharers_have_their_turn),
		CASE(any_port_is_a_free_one),
		CASE(all_are_listed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
