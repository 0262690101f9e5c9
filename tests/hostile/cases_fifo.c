/* SPDX-License-Identifier: MIT */
/* Positions, chunks and records of a FIFO that break one rule each: see cases.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#include "cases.h"

#define FAR_AWAY (1u << 30)

static void tx_tail(struct guest *g, uint32_t n, uint64_t tail)
{
	canal_store_fence(&guest_sock(g, n)->tx.tail, tail);
	post(g, CANAL_INR_TX, n, 0);
}

/* A TCP connection that the kernel carries. */
static uint32_t kernel_stream(struct guest *g)
{
	uint32_t n = guest_socket(g, AF_INET, SOCK_STREAM);
	struct canal_addr to = loopback(0);
	socklen_t len = 16;
	uint8_t name[16] = { AF_INET, 0, 0, 0, 127, 0, 0, 1 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)name, len) || listen(fd, 8) ||
	    getsockname(fd, (struct sockaddr *)name, &len))
		fail("a listener: %s", strerror(errno));
	guest_keep(g, fd);
	memcpy(&to.port, name + 2, 2);
	if (guest_connect(g, n, to))
		fail("a connection to our own kernel listener failed");
	fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		fail("accept: %s", strerror(errno));
	guest_keep(g, fd);
	return n;
}

static void tail_runs_away(struct guest *g)
{
	tx_tail(g, kernel_stream(g), CANAL_FIFO_MAX + 1);
}

static void tail_goes_back(struct guest *g)
{
	uint32_t a, b;

	guest_pair(g, guest_listener(g, 8), &a, &b);
	guest_put(g, a, NULL, 100);
	/* only what was consumed can be taken back */
	guest_wait_taken(g, a);
	tx_tail(g, a, 99);
}

static void tail_of_a_datagram_socket(struct guest *g)
{
	tx_tail(g, guest_socket(g, AF_INET, SOCK_DGRAM), ~0ull);
}

static void tail_while_closing(struct guest *g)
{
	uint32_t a, b;

	guest_pair(g, guest_listener(g, 8), &a, &b);
	guest_sync(g);
	canal_store_fence(&guest_sock(g, a)->tx.tail, ~0ull);
	close(g->fds[g->fd_count - 2]);
	g->fds[g->fd_count - 2] = -1;
}

static void chunk_out_of_range(struct guest *g)
{
	uint32_t n = kernel_stream(g);

	guest_sock(g, n)->tx.chunk[0] = g->shape.tx.count;
	tx_tail(g, n, 1);
}

static void chunk_second_bad(struct guest *g)
{
	uint32_t n = kernel_stream(g);

	guest_sock(g, n)->tx.chunk[0] = 0;
	guest_sock(g, n)->tx.chunk[1] = FAR_AWAY;
	tx_tail(g, n, CANAL_CHUNK + 1);
}

static void chunk_none_joined(struct guest *g)
{
	uint32_t a, b;

	guest_pair(g, guest_listener(g, 8), &a, &b);
	guest_sock(g, a)->tx.chunk[0] = CANAL_NONE;
	tx_tail(g, a, 100);
}

static void chunk_of_a_header(struct guest *g)
{
	uint32_t n = guest_socket(g, AF_INET, SOCK_DGRAM);

	guest_sock(g, n)->tx.chunk[0] = 0x80000000u;
	tx_tail(g, n, 64);
}

static void chunk_of_a_payload(struct guest *g)
{
	uint32_t n = guest_socket(g, AF_INET, SOCK_DGRAM);
	struct canal_dgram record = { .len = CANAL_CHUNK, .addr = loopback(htons(9)) };

	memcpy(g->base + g->shape.tx.offset, &record, sizeof(record));
	guest_sock(g, n)->tx.chunk[0] = 0;
	guest_sock(g, n)->tx.chunk[1] = CANAL_NONE - 1;
	tx_tail(g, n, sizeof(record) + CANAL_CHUNK);
}

/* The head of a connection's RX, to be looked at when bytes come for it, and so at @before, too. */
static void rx_head(struct guest *g, uint64_t before, uint64_t head)
{
	uint32_t a, b;

	guest_pair(g, guest_listener(g, 8), &a, &b);
	if (before) {
		guest_put(g, a, NULL, (uint32_t)before);
		guest_wait_taken(g, a);
		guest_sock(g, b)->rx.head = before;
		post(g, CANAL_INR_RX, b, 0);
		guest_put(g, a, NULL, 1);
		guest_wait_taken(g, a);
	}
	canal_store_fence(&guest_sock(g, b)->rx.head, head);
	guest_put(g, a, NULL, 1);
}

static void head_ahead(struct guest *g)
{
	rx_head(g, 0, 1);
}

static void head_far_ahead(struct guest *g)
{
	rx_head(g, 0, 1ull << 40);
}

/* "Behind" tail by less than a FIFO, if only differences count. */
static void head_wraps(struct guest *g)
{
	rx_head(g, 0, (uint64_t)-100);
}

static void head_goes_back(struct guest *g)
{
	rx_head(g, 3 * CANAL_CHUNK, 0);
}

static void head_of_a_listener(struct guest *g)
{
	uint32_t l = guest_listener(g, 8), a = guest_socket(g, AF_INET, SOCK_STREAM);
	struct canal_addr to = loopback(guest_sock(g, l)->local.port);

	canal_store_fence(&guest_sock(g, l)->rx.head, ~0ull);
	guest_post(g, CANAL_INR_CONNECT, a, CANAL_NONE, &to, sizeof(to));
}

/* Half of an entry is taken; then somebody connects by the kernel. */
static void head_within_an_entry(struct guest *g)
{
	uint32_t l = guest_listener(g, 8), a = guest_socket(g, AF_INET, SOCK_STREAM);
	uint16_t port = guest_sock(g, l)->local.port;
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = port,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (guest_connect(g, a, loopback(port)))
		fail("connect");
	canal_store_fence(&guest_sock(g, l)->rx.head, sizeof(struct canal_accept) / 2);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
		fail("connect: %s", strerror(errno));
	guest_keep(g, fd);
}

static void head_of_a_datagram_socket(struct guest *g)
{
	uint32_t n = guest_socket(g, AF_INET, SOCK_DGRAM);
	struct canal_dgram record = { .len = 5 };

	if (guest_name(g, CANAL_INR_BIND, n, loopback(0)))
		fail("bind");
	record.addr = loopback(guest_sock(g, n)->local.port);
	canal_store_fence(&guest_sock(g, n)->rx.head, 1ull << 63);
	guest_put_dgram(g, n, record, "hello");
}

static void record_short(struct guest *g)
{
	uint32_t n = guest_socket(g, AF_INET, SOCK_DGRAM);

	guest_sock(g, n)->tx.chunk[0] = 0;
	tx_tail(g, n, sizeof(struct canal_dgram) - 1);
}

static void record_lies(struct guest *g, uint32_t len)
{
	uint32_t n = guest_socket(g, AF_INET, SOCK_DGRAM);
	struct canal_dgram *record = (void *)(g->base + g->shape.tx.offset);

	*record = (struct canal_dgram){ .len = len, .addr = loopback(htons(9)) };
	guest_sock(g, n)->tx.chunk[0] = 0;
	guest_sock(g, n)->tx.chunk[1] = 1;
	tx_tail(g, n, 100);
}

static void record_longer(struct guest *g)
{
	record_lies(g, 69);
}

static void record_huge(struct guest *g)
{
	record_lies(g, 65536);
}

static void record_wraps(struct guest *g)
{
	record_lies(g, 0xffffffffu);
}

static void record_of_family(struct guest *g)
{
	struct canal_dgram record = { .len = 4, .addr = { .family = AF_PACKET } };

	guest_put_dgram(g, guest_socket(g, AF_INET, SOCK_DGRAM), record, "abcd");
}

const struct hostile_case fifo_cases[] = {
	CASE(tail_runs_away, "tx-position"),
	CASE(tail_goes_back, "tx-position"),
	CASE(tail_of_a_datagram_socket, "tx-position"),
	CASE(tail_while_closing, "tx-position"),
	CASE(chunk_out_of_range, "tx-chunk"),
	CASE(chunk_second_bad, "tx-chunk"),
	CASE(chunk_none_joined, "tx-chunk"),
	CASE(chunk_of_a_header, "tx-chunk"),
	CASE(chunk_of_a_payload, "tx-chunk"),
	CASE(head_ahead, "rx-position"),
	CASE(head_far_ahead, "rx-position"),
	CASE(head_wraps, "rx-position"),
	CASE(head_goes_back, "rx-position"),
	CASE(head_of_a_listener, "rx-position"),
	CASE(head_within_an_entry, "rx-position"),
	CASE(head_of_a_datagram_socket, "rx-position"),
	CASE(record_short, "dgram-length"),
	CASE(record_longer, "dgram-length"),
	CASE(record_huge, "dgram-length"),
	CASE(record_wraps, "dgram-length"),
	CASE(record_of_family, "bad-address"),
	{ NULL },
};
