/* SPDX-License-Identifier: MIT */
/*
 * Requests that are each legal, in orders that no libcanal makes. None closes
 * the channel; a sanitizer, a hang or something left over is what would fail.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"

static const struct canal_addr nowhere; /* family 0: dissolve */

static void connect_post(struct guest *g, uint32_t n, struct canal_addr to)
{
	guest_post(g, CANAL_INR_CONNECT, n, CANAL_NONE, &to, sizeof(to));
}

static struct canal_addr name_of(struct guest *g, uint32_t n)
{
	return loopback(guest_sock(g, n)->local.port);
}

/* An address that does not answer: the connect stays under way. */
static struct canal_addr silent(void)
{
	return (struct canal_addr){ .family = AF_INET, .port = htons(9), .ip = { 192, 0, 2, 1 } };
}

/* Accepted, taken by number only, dissolved, and connected elsewhere. */
static void accepted_connects(struct guest *g)
{
	uint32_t l = guest_listener(g, 8), l2 = guest_listener(g, 1), a, b, fill;

	for (int how = 0; how < 3; how++) {
		a = guest_socket(g, AF_INET, SOCK_STREAM);
		if (guest_connect(g, a, name_of(g, l)))
			fail("connect");
		b = guest_accept(g, l);
		connect_post(g, b, nowhere);
		fill = guest_socket(g, AF_INET, SOCK_STREAM);
		connect_post(g, fill, name_of(g, l2));
		connect_post(g, b, how ? name_of(g, l2) : silent());
		guest_sync(g);
		if (how == 2)
			post(g, CANAL_INR_SHUTDOWN, l, SHUT_RD);
		post(g, CANAL_INR_CLOSE, b, 1);
		guest_sync(g);
	}
}

/* It waits for a listener that is full; then it goes elsewhere, and away. */
static void waiting_goes(struct guest *g)
{
	uint32_t l = guest_listener(g, 1), first = guest_socket(g, AF_INET, SOCK_STREAM);
	uint32_t value[6] = { SOL_SOCKET, SO_KEEPALIVE, 1 };

	connect_post(g, first, name_of(g, l));
	for (int how = 0; how < 4; how++) {
		uint32_t n = guest_number(g);

		post(g, CANAL_INR_SOCKET, n, AF_INET, SOCK_STREAM);
		connect_post(g, n, name_of(g, l));
		if (how & 1) { /* a kernel socket that is not connected, and looked at */
			guest_post(g, CANAL_INR_SETSOCKOPT, n, CANAL_NONE, value, sizeof(value));
			post(g, CANAL_INR_RX, n, 0);
			guest_sync(g);
			nap_us(2000);
		}
		if (how & 2) {
			connect_post(g, n, nowhere);
			connect_post(g, n, silent());
		}
		guest_sync(g);
		post(g, CANAL_INR_CLOSE, n, 1);
		guest_sync(g);
	}
	/* who still waits in the list of l gets its turn */
	guest_accept(g, l);
	post(g, CANAL_INR_RX, l, 0);
	guest_sync(g);
	post(g, CANAL_INR_SHUTDOWN, l, SHUT_RDWR);
	guest_sync(g);
}

/* It listens, is shut down, connects, and listens again. */
static void listener_connects(struct guest *g)
{
	uint32_t l = guest_listener(g, 4), l2 = guest_listener(g, 4);

	for (int i = 0; i < 3; i++) {
		uint32_t a = guest_socket(g, AF_INET, SOCK_STREAM);

		connect_post(g, a, name_of(g, l));
		post(g, CANAL_INR_SHUTDOWN, l, SHUT_RD);
		connect_post(g, l, name_of(g, l2));
		ask(g, CANAL_INR_LISTEN, l, 4);
		connect_post(g, l, nowhere);
		ask(g, CANAL_INR_LISTEN, l, (uint32_t)-1);
		guest_sync(g);
	}
}

/* Its bytes are on their way when it closes and the other end breaks off. */
static void closed_while_sending(struct guest *g)
{
	uint32_t l = guest_listener(g, 8), a, b;

	guest_pair(g, l, &a, &b);
	for (int i = 0; i < 12; i++) { /* more than RX of b holds */
		guest_put(g, a, NULL, 40000);
		guest_sync(g);
		nap_us(300);
	}
	/* dummies in order of making: ..., a, b */
	close(g->fds[g->fd_count - 2]);
	g->fds[g->fd_count - 2] = -1;
	post(g, CANAL_INR_CLOSE, a, 0);
	guest_sync(g);
	close(g->fds[g->fd_count - 1]);
	g->fds[g->fd_count - 1] = -1;
	post(g, CANAL_INR_CLOSE, b, 0);
	guest_sync(g);
}

static void bytes_after_the_end(struct guest *g)
{
	uint32_t l = guest_listener(g, 8), a, b;
	struct canal_fifo *rx;

	guest_pair(g, l, &a, &b);
	guest_put(g, a, "end", 3);
	post(g, CANAL_INR_SHUTDOWN, a, SHUT_WR);
	rx = &guest_sock(g, b)->rx;
	for (int i = 0; i < 1000 && !canal_load_acquire(&rx->closed); i++) {
		guest_sync(g);
		nap_us(100);
	}
	guest_put(g, a, "more", 4);
	for (int i = 0; i < 20; i++) {
		guest_sync(g);
		nap_us(100);
	}
	if (rx->tail != 3)
		fail("%llu bytes came where 3 and the end were sent", (unsigned long long)rx->tail);
}

/* Empty datagrams for a full RX: they have no bytes, but their records have. */
static void empty_datagrams(struct guest *g)
{
	uint32_t n = guest_socket(g, AF_INET, SOCK_DGRAM);
	struct canal_fifo *rx = &guest_sock(g, n)->rx;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint8_t name[16] = { AF_INET, 0, 0, 0, 127, 0, 0, 1 };
	static const uint8_t bytes[8000];

	if (guest_name(g, CANAL_INR_BIND, n, loopback(0)))
		fail("bind");
	memcpy(name + 2, &guest_sock(g, n)->local.port, 2);
	for (int i = 0; i < 40000; i++) {
		sendto(fd, bytes, i < 40 ? sizeof(bytes) : 0, MSG_DONTWAIT, (struct sockaddr *)name,
		       sizeof(name));
		if (i % 64 == 0)
			guest_sync(g);
	}
	close(fd);
	guest_sync(g);
	if (rx->tail - rx->head > rx->limit)
		fail("RX holds %llu bytes of %u", (unsigned long long)(rx->tail - rx->head),
		     rx->limit);
}

/* One who asks waits for the peer, any other is answered: canald waits for nobody. */
static void linger_asked(struct guest *g, uint32_t n, uint32_t generation)
{
	uint32_t open = guest_socket(g, AF_INET, SOCK_STREAM);
	uint32_t now = guest_sock(g, open)->generation;

	guest_post(g, CANAL_INR_LINGER, n, 2, &generation, sizeof(generation));
	if (guest_call(g, CANAL_INR_LINGER, n, 1, &generation, sizeof(generation)))
		fail("a second one who lingers");
	generation++;
	if (guest_call(g, CANAL_INR_LINGER, n, 1, &generation, sizeof(generation)) ||
	    guest_call(g, CANAL_INR_LINGER, open, 1, &now, sizeof(now)))
		fail("lingering for what is open, or long gone");
	if (guest_call(g, CANAL_INR_QUEUE, open, 1, "", 1) != -EAGAIN ||
	    guest_call(g, CANAL_INR_OUTQ, open, 1, "", 1))
		fail("the queues of a new socket");
}

/* More than canald notes are answered at once, and each is. */
static void settled(struct guest *g)
{
	for (int i = 0; i < 40; i++)
		guest_post(g, CANAL_INR_SETTLE, 0, 2 + i % 20, "", 1);
	for (int i = 0; i < 3; i++)
		if (guest_call(g, CANAL_INR_SETTLE, CANAL_NONE, 1, "", 1))
			fail("nothing settles");
	for (uint32_t i = 2; i < 22; i++)
		while (canal_load_acquire(&g->call[i].state) != CANAL_INR_COMPLETED)
			guest_sync(g);
	for (int i = 0; i < 10; i++) /* and who ends with some of them under way */
		guest_post(g, CANAL_INR_SETTLE, 0, 2 + i, "", 1);
}

/* A close() that waits would stop canald, or as long as a peer likes. */
static void lingers(struct guest *g)
{
	uint32_t l = guest_listener(g, 8), n = guest_socket(g, AF_INET, SOCK_STREAM);
	uint8_t name[16] = { AF_INET, 0, 0, 0, 127, 0, 0, 1 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = 4096;
	struct canal_addr to = loopback(0);
	struct canal_call *call = &g->call[1];
	socklen_t len = sizeof(name);
	uint32_t generation;
	uint64_t before;

	(void)l;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	if (bind(fd, (struct sockaddr *)name, len) || listen(fd, 8) ||
	    getsockname(fd, (struct sockaddr *)name, &len))
		fail("a listener: %s", strerror(errno));
	guest_keep(g, fd);
	memcpy(&to.port, name + 2, 2);
	if (guest_connect(g, n, to)) { /* a guest with addresses: by its host-alias */
		memcpy(to.ip, (uint8_t[4]){ 10, 77, 0, 1 }, 4);
		if (guest_connect(g, n, to))
			fail("connect");
	}
	*call = (struct canal_call){ .level = SOL_SOCKET, .name = SO_LINGER, .len = 8 };
	memcpy(call->data, (int[2]){ 1, 60 }, 8);
	if (ask(g, CANAL_INR_SETSOCKOPT, n, 0))
		fail("SO_LINGER");
	guest_put(g, n, NULL, 60000);
	for (int i = 0; i < 100; i++) {
		guest_sync(g);
		nap_us(200);
	}
	generation = guest_sock(g, n)->generation;
	post(g, CANAL_INR_SHUTDOWN, n, SHUT_WR);
	close(g->fds[g->fd_count - 2]);
	g->fds[g->fd_count - 2] = -1;
	post(g, CANAL_INR_CLOSE, n, 0);
	before = now_ms();
	guest_sync(g);
	if (now_ms() - before > 30000)
		fail("canald waited for a peer");
	linger_asked(g, n, generation);
}

/* The newest descriptor but @back is closed, without a word to canald. */
static void close_newest(struct guest *g, unsigned int back)
{
	int *fd = &g->fds[g->fd_count - 1 - back];

	close(*fd);
	*fd = -1;
}

/*
 * Its port is taken by a socket that is closed already, and so is it itself: canald
 * hears of both while it binds. Then somebody writes to that port.
 */
static void binds_what_is_closed(struct guest *g)
{
	static const uint32_t slow[6] = { 6 };

	for (int round = 0; round < 60; round++) {
		uint32_t writer = guest_socket(g, AF_INET, SOCK_DGRAM);
		uint32_t a = guest_socket(g, AF_INET, SOCK_DGRAM), b;
		uint32_t busy = guest_socket(g, AF_INET, SOCK_STREAM);
		struct canal_dgram record = { .len = 4 };

		if (guest_name(g, CANAL_INR_BIND, a, loopback(0)))
			fail("bind");
		record.addr = name_of(g, a);
		b = guest_socket(g, AF_INET, SOCK_DGRAM);
		guest_sync(g);
		g->call[2] = (struct canal_call){ .level = 6, .name = 13, .len = 4 };
		for (int i = 0; i < 60; i++) /* what keeps canald from hearing of it before */
			guest_post(g, CANAL_INR_SETSOCKOPT, busy, 2, slow, sizeof(slow));
		while (canal_load_acquire(&g->call[2].state) != CANAL_INR_COMPLETED)
			;
		guest_post(g, CANAL_INR_BIND, b, 1, &record.addr, sizeof(record.addr));
		close_newest(g, 0);
		close_newest(g, 2);
		guest_sync(g);
		guest_put_dgram(g, writer, record, "into");
		guest_sync(g);
	}
}

static void congestion(struct guest *g)
{
	uint32_t n = guest_socket(g, AF_INET, SOCK_STREAM);
	struct canal_call *call = &g->call[1];

	*call = (struct canal_call){ .level = 6, .name = 13, .len = 14 };
	memcpy(call->data, "no_such_module", 14);
	if (ask(g, CANAL_INR_SETSOCKOPT, n, 0) != -ENOENT)
		fail("an unknown congestion control was taken");
}

/* Bells for signals that nobody has, that somebody sleeps at, that go and come again. */
static void bells_for_anybody(struct guest *g)
{
	uint32_t l = guest_listener(g, 8), a, b;

	guest_pair(g, l, &a, &b);
	guest_waiter(g, 3);
	guest_waiter(g, 4);
	for (uint32_t i = 0; i < 200; i++) {
		post(g, CANAL_INR_ASYNC, i & 1 ? b : l, i % 7, i & 2 ? CANAL_NONE : i % 5);
		if (i % 11 == 0)
			g->wait[i % 7].serial++;
		if (i % 13 == 0)
			guest_waiter(g, 3);
		canal_arm(&g->wait[i % 7].armed);
		guest_sock(g, b)->rd_waiters = ~0ull;
		guest_sock(g, a)->tx.mark = guest_sock(g, a)->tx.tail + 1;
		guest_put(g, a, "bytes", 5);
		guest_sync(g);
		canal_store_release(&guest_sock(g, b)->rx.head,
				    canal_load_acquire(&guest_sock(g, b)->rx.tail));
	}
}

/* What its FIFO says of urgent data is a number, to be compared and no more. */
static void marks_anywhere(struct guest *g)
{
	static const uint64_t offsets[] = {
		0, 1, 2, 5, 6, 7, 100, CANAL_FIFO_MAX, 1ull << 63, ~0ull
	};
	uint32_t l = guest_listener(g, 8), a, b;

	guest_pair(g, l, &a, &b);
	for (unsigned int i = 0; i < 4 * ARRAY_LEN(offsets); i++) {
		struct canal_fifo *tx = &guest_sock(g, a)->tx, *rx = &guest_sock(g, b)->rx;
		uint64_t at = offsets[i % ARRAY_LEN(offsets)];

		guest_sock(g, b)->status = i & 1 ? CANAL_STATUS_INLINE : 0;
		tx->mark = (i & 2 ? tx->tail : 0) + at;
		rx->mark = rx->skip = rx->taken = ~at;
		guest_put(g, a, "marked", 6);
		while (canal_load_acquire(&tx->head) != tx->tail && !guest_closed(g))
			nap_us(100);
		if (i & 4)
			canal_store_release(&rx->head, canal_load_acquire(&rx->tail));
		post(g, CANAL_INR_RX, b, 0);
	}
	guest_sync(g);
}

static void region_is_sealed(struct guest *g)
{
	if (!ftruncate(g->region_fd, 0) || !ftruncate(g->region_fd, 4096) ||
	    !ftruncate(g->region_fd, (off_t)g->len * 2))
		fail("the region could be truncated");
	if (!fcntl(g->region_fd, F_ADD_SEALS, F_SEAL_WRITE))
		fail("the region could be sealed");
	/* allowed; what is gone reads as zeros */
	if (fallocate(g->region_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)g->shape.sock.offset, (off_t)(g->len - g->shape.sock.offset)))
		fail("fallocate: %s", strerror(errno));
	guest_sync(g);
}

#define CHAIN(what)         \
	{                   \
#what, what \
	}

static const struct {
	const char *name;
	void (*run)(struct guest *g);
} chains[] = {
	CHAIN(accepted_connects),
	CHAIN(waiting_goes),
	CHAIN(listener_connects),
	CHAIN(closed_while_sending),
	CHAIN(bytes_after_the_end),
	CHAIN(empty_datagrams),
	CHAIN(lingers),
	CHAIN(settled),
	CHAIN(binds_what_is_closed),
	CHAIN(congestion),
	CHAIN(marks_anywhere),
	CHAIN(bells_for_anybody),
	CHAIN(region_is_sealed),
};

void run_chains(uint64_t seed)
{
	(void)seed;
	for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
		struct guest g;

		if (only && strcmp(only, chains[i].name))
			continue;
		guest_open(&g);
		fprintf(stderr, "%s\n", chains[i].name);
		chains[i].run(&g);
		if (guest_closed(&g))
			fail("%s: the channel was closed", chains[i].name);
		guest_close(&g);
		printf("%s\n", chains[i].name);
	}
}
