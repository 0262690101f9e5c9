/* SPDX-License-Identifier: MIT */
/*
 * portmap.h under load: readers look while one thread takes ports and gives them back.
 *
 * A port that is always there is always found; one that comes and goes is found whole
 * (its owner says which it is) or not at all, and is freed only behind the readers:
 * an entry's memory is overwritten before it is given back, and AddressSanitizer sees
 * who looks later still.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "order.h"
#include "portmap.h"

#define READERS 3
#define ROUNDS 60000u
#define GUESTS 4u
#define PORTS 8u /* of each guest; the first is always there */

static bool stop;
static uint64_t looks, hits;

static struct port_want want_of(uint32_t guest, uint16_t port)
{
	return (struct port_want){
		.guest = guest,
		.type = SOCK_STREAM,
		.addr = { .family = AF_INET, .port = htons(port) },
		.owner = (void *)(uintptr_t)(guest << 16 | port),
	};
}

__attribute__((noreturn)) static void fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	_Exit(1);
}

static bool check_entry(const struct port *p, void *arg)
{
	uintptr_t owner = p->want.guest << 16 | ntohs(p->want.addr.port);

	(void)arg;
	if ((uintptr_t)p->want.owner != owner)
		fail("an entry is torn");
	return true;
}

static void look(uint32_t guest, uint16_t port)
{
	const struct canal_addr to = { .family = AF_INET,
				       .ip = { 10, 0, 0, 1 },
				       .port = htons(port) };
	const struct port *p;

	portmap_read_lock();
	p = portmap_find(guest, SOCK_STREAM, &to, 0);
	if (p)
		check_entry(p, NULL);
	if (p && (p->want.guest != guest || p->want.addr.port != to.port))
		fail("somebody else's port was found");
	if (!p && port == 1)
		fail("a port that is always there was not found");
	portmap_read_unlock();
	canal_fetch_add(&looks, 1);
	canal_fetch_add(&hits, p != NULL);
}

static void *reader(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;

	portmap_thread_begin();
	while (!canal_read_once(&stop)) {
		unsigned int r = (unsigned int)rand_r(&seed);

		look(1 + r % GUESTS, (uint16_t)(1 + r / GUESTS % PORTS));
		if (r % 256)
			continue;
		portmap_read_lock();
		portmap_each(check_entry, NULL);
		portmap_read_unlock();
	}
	portmap_thread_end();
	return NULL;
}

static struct port *begin(uint32_t guest, uint16_t port)
{
	struct port_want w = want_of(guest, port);
	struct port *p;

	if (portmap_add(&p, &w) || portmap_listen(p))
		fail("a free port cannot be had");
	return p;
}

static void update(void)
{
	struct port *ports[GUESTS + 1][PORTS + 1] = { { NULL } };
	unsigned int seed = 1;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		unsigned int r = (unsigned int)rand_r(&seed);
		uint32_t guest = 1 + r % GUESTS;
		uint16_t port = (uint16_t)(2 + r / GUESTS % (PORTS - 1));
		struct port **p = &ports[guest][port];

		if (*p)
			portmap_del(*p);
		*p = *p ? NULL : begin(guest, port);
	}
}

int main(void)
{
	pthread_t threads[READERS];

	if (portmap_start())
		fail("no memory");
	for (uint32_t guest = 1; guest <= GUESTS; guest++)
		begin(guest, 1);
	for (uintptr_t i = 0; i < READERS; i++)
		if (pthread_create(&threads[i], NULL, reader, (void *)(i + 1)))
			fail("no thread");
	while (!canal_read_once(&hits)) /* they look */
		sched_yield();
	update();
	canal_write_once(&stop, true);
	for (int i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	portmap_stop();
	printf("%llu looks, %llu hits, %u updates\n", (unsigned long long)looks,
	       (unsigned long long)hits, ROUNDS);
	return 0;
}
