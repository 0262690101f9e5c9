/* SPDX-License-Identifier: MIT */
/*
 * A virtual machine that keeps all rules, beside one that keeps none: it sends what a
 * server on the host gives back, by FIFO and by reference, and compares each byte.
 * Until SIGTERM; then it prints how often.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <unistd.h>

#include "machine.h"

#define PART (48u << 10)
#define PARTS 8
#define HOST_ALIAS           \
	{                    \
		10, 77, 0, 1 \
	}
#define LIMIT_MS 60000

static uint8_t pattern(uint64_t round, uint32_t at)
{
	return (uint8_t)(round * 31 + at * 7 + (at >> 8));
}

static void send_fifo(struct guest *g, uint32_t n, uint64_t round)
{
	struct canal_fifo *tx = &guest_sock(g, n)->tx;
	uint8_t bytes[PART];

	for (uint32_t i = 0; i < PART; i++)
		bytes[i] = pattern(round, i);
	guest_put(g, n, bytes, PART);
	for (uint64_t until = now_ms() + LIMIT_MS; canal_load_acquire(&tx->head) != tx->tail;) {
		if (guest_closed(g) || now_ms() > until)
			fail("bytes are not sent");
		guest_kick(g);
		nap_us(50);
	}
}

static void send_reference(struct guest *g, uint32_t n, uint64_t round)
{
	uint64_t address = VA + 100 + round % 40 * 777;
	int32_t r;

	for (uint32_t i = 0; i < PART; i++)
		*machine_byte(g->machine, address + i) = pattern(round, i);
	machine_ref_post(g, CANAL_INR_SEND_REF, n, 2, address, PART, 0);
	r = machine_ref_wait(g, 2);
	if (r != (int32_t)PART)
		fail("SEND_REF: %d", r);
}

static void check(uint64_t round, uint32_t at, uint8_t byte)
{
	if (byte != pattern(round, at))
		fail("byte %u of round %llu is wrong", at, (unsigned long long)round);
}

/* What is in RX now; bytes. */
static uint32_t take_fifo(struct guest *g, uint32_t n, uint64_t round, uint32_t at)
{
	struct canal_fifo *rx = &guest_sock(g, n)->rx;
	const uint8_t *chunks = g->base + g->shape.rx.offset;
	uint64_t head = rx->head, tail = canal_load_acquire(&rx->tail);

	for (; head != tail; head++)
		check(round, at++,
		      chunks[(uint64_t)rx->chunk[head / CANAL_CHUNK % CANAL_FIFO_CHUNKS] *
				     CANAL_CHUNK +
			     head % CANAL_CHUNK]);
	head -= rx->head;
	canal_store_fence(&rx->head, tail);
	if (canal_take(&rx->want_room))
		post(g, CANAL_INR_RX, n, 0);
	return (uint32_t)head;
}

static uint32_t take_reference(struct guest *g, uint32_t n, uint64_t round, uint32_t at)
{
	const uint64_t address = VA + 256 * PAGE + 9;
	struct canal_fifo *rx = &guest_sock(g, n)->rx;
	int32_t r;

	machine_ref_post(g, CANAL_INR_RECV_REF, n, 2, address, PART - at, 0);
	r = machine_ref_wait(g, 2);
	if (r < 0 && r != -11) /* EAGAIN */
		fail("RECV_REF: %d", r);
	if (r < 0)
		return 0;
	canal_store_fence(&rx->head,
			  rx->head + ((struct canal_ref *)(void *)g->call[2].data)->taken);
	for (uint32_t i = 0; i < (uint32_t)r; i++)
		check(round, at + i, *machine_byte(g->machine, address + i));
	return (uint32_t)r;
}

static void receive(struct guest *g, uint32_t n, uint64_t round)
{
	uint64_t until = now_ms() + LIMIT_MS;

	for (uint32_t at = 0; at < PART;) {
		at += round % 4 < 2 ? take_fifo(g, n, round, at) : take_reference(g, n, round, at);
		if (guest_closed(g) || now_ms() > until)
			fail("%u bytes of %u came back", at, PART);
		nap_us(20);
	}
}

static void connection(struct guest *g, uint64_t round)
{
	const struct canal_addr to = { .family = AF_INET, .port = victim_port, .ip = HOST_ALIAS };
	uint32_t n = guest_socket(g, AF_INET, SOCK_STREAM);
	int error = guest_connect(g, n, to);

	if (error)
		fail("connect: %s", strerror(error));
	for (uint64_t i = round * PARTS; i < (round + 1) * PARTS; i++) {
		if (i % 2)
			send_reference(g, n, i);
		else
			send_fifo(g, n, i);
		receive(g, n, i);
	}
	close(g->fds[--g->fd_count]);
	machine_dummy(g, CANAL_MAIL_UNDUMMY, n, guest_sock(g, n)->generation);
}

static volatile sig_atomic_t ended;

static void end(int number)
{
	(void)number;
	ended = 1;
}

void run_honest(uint64_t seed)
{
	uint64_t rounds = 0;

	(void)seed;
	signal(SIGTERM, end);
	while (!ended) {
		struct guest g;

		alarm(240);
		machine_reset(the_machine);
		machine_guest_open(the_machine, &g, (uint32_t)(rounds % 3), 40);
		machine_translate(&g);
		for (int i = 0; i < 4; i++)
			connection(&g, rounds++);
		guest_close(&g);
	}
	printf("%llu rounds\n", (unsigned long long)rounds);
}
