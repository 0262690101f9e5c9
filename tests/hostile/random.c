/* SPDX-License-Identifier: MIT */
/* Without a plan: scribbling, fields that change while read, random requests, kicks. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "machine.h"

/* --- a guest that has something of everything --------------------------- */

struct furnished {
	struct guest g;
	uint32_t listener, a, b, udp;
};

static void add_waiter(struct guest *g, uint32_t slot)
{
	guest_waiter(g, slot);
	g->wait[slot].owner = g->client;
	g->wait[slot].sock = CANAL_NONE;
	g->wait[slot].armed = 1;
}

static void furnish(struct furnished *f)
{
	struct guest *g = &f->g;

	guest_open(g);
	for (uint32_t slot = 0; slot < 8; slot++)
		add_waiter(g, slot * 30);
	g->region->wait_used = 240;
	f->listener = guest_listener(g, 8);
	guest_pair(g, f->listener, &f->a, &f->b);
	f->udp = guest_socket(g, AF_INET, SOCK_DGRAM);
	guest_name(g, CANAL_INR_BIND, f->udp, loopback(0));
	for (uint32_t i = 0; i < 16; i++)
		post(g, CANAL_INR_SUBSCRIBE, i % 2 ? f->a : f->b, i, i % 4, EPOLLIN | EPOLLOUT);
	guest_sock(g, f->b)->rd_waiters = ~0ull;
	guest_put(g, f->a, "some bytes", 10);
	guest_put_dgram(g, f->udp,
			(struct canal_dgram){ .len = 5,
					      .addr = loopback(guest_sock(g, f->udp)->local.port) },
			"hello");
	guest_sync(g);
}

/* --- scribbling --------------------------------------------------------- */

#define SCRIBBLES 300000
#define SCRIBBLES_A_GUEST 3000

static uint64_t nasty(uint64_t *rnd)
{
	static const uint64_t values[] = {
		0,           1,          0xffffffff, 0x7fffffff,     0x80000000,         16384,
		32768,       1024,       65536,      CANAL_FIFO_MAX, CANAL_FIFO_MAX + 1, ~0ull,
		~0ull - 100, 1ull << 63, 1ull << 32
	};
	uint32_t which = random_below(rnd, 2 * ARRAY_LEN(values));

	return which < ARRAY_LEN(values) ? values[which] : random_next(rnd);
}

/* Where: one of the tables that are chosen by @mask, mostly in what is in use. */
static uint64_t place(struct guest *g, uint64_t *rnd, uint32_t mask)
{
	const struct canal_table *tables[] = { &g->shape.inr,  &g->shape.grant, &g->shape.wait,
					       &g->shape.call, &g->shape.set,   &g->shape.sub,
					       &g->shape.sock, &g->shape.sock,  &g->shape.sock,
					       &g->shape.tx,   &g->shape.rx };
	const struct canal_table *t;
	uint32_t n = random_below(rnd, ARRAY_LEN(tables) + 1), near;

	while (!(mask >> n & 1))
		n = (n + 1) % 12;
	if (n == ARRAY_LEN(tables)) /* the header, its lines that are not told once only */
		return offsetof(struct canal_region, broken) + random_below(rnd, 448) / 8 * 8;
	t = tables[n];
	near = random_below(rnd, 4) && t->count > 70 ? 70 : t->count;
	return t->offset + (uint64_t)random_below(rnd, near) * t->stride +
	       (t->stride >= 8 ? random_below(rnd, t->stride) / 8 * 8 : 0);
}

static void scribble(struct guest *g, uint64_t *rnd, uint32_t mask)
{
	uint64_t at = place(g, rnd, mask), value = nasty(rnd);

	if (random_below(rnd, 2))
		canal_write_once((uint64_t *)(void *)(g->base + (at & ~7ull)), value);
	else
		canal_write_once((uint32_t *)(void *)(g->base + (at & ~3ull)), (uint32_t)value);
}

#define RING_AND_HEADER 0x803u

/* Makes the host look at what was scribbled. */
static void stir(struct furnished *f, uint64_t *rnd, uint32_t mask)
{
	const uint32_t socks[] = { f->listener, f->a, f->b, f->udp };
	static const uint8_t ops[] = { CANAL_INR_TX,         CANAL_INR_TX,
				       CANAL_INR_RX,         CANAL_INR_SETSOCKOPT,
				       CANAL_INR_GETSOCKOPT, CANAL_INR_SHUTDOWN };

	guest_kick(&f->g);
	if (!(mask & RING_AND_HEADER))
		guest_post(&f->g, ops[random_below(rnd, ARRAY_LEN(ops) - !!random_below(rnd, 50))],
			   socks[random_below(rnd, 4)], random_below(rnd, 240), "", 1);
	if (!random_below(rnd, 3))
		nap_us(10);
}

void run_scribble(uint64_t seed)
{
	uint64_t rnd = seed, writes = 0;
	unsigned int guests = 0, closed = 0;

	while (writes < SCRIBBLES) {
		struct furnished f;
		/* all of it, or only some tables: so that others live longer */
		uint32_t mask = random_below(&rnd, 4) ? (uint32_t)random_next(&rnd) & 0xfff : 0xfff;

		if (random_below(&rnd, 3))
			mask &= ~RING_AND_HEADER;
		if (!mask)
			continue;
		furnish(&f);
		guests++;
		for (int i = 0; i < SCRIBBLES_A_GUEST; i++, writes++) {
			scribble(&f.g, &rnd, mask);
			if (i % 16)
				continue;
			stir(&f, &rnd, mask);
			if (i % 256 == 0 && guest_closed(&f.g))
				break;
		}
		closed += guest_closed(&f.g);
		guest_close(&f.g);
	}
	printf("%llu writes, %u guests, %u closed\n", (unsigned long long)writes, guests, closed);
}

/* --- fields that change while they are read ----------------------------- */

#define FLIP_MS 4000

struct flipper {
	struct furnished *f;
	uint64_t rnd;
	bool stop;
};

static void flip(uint32_t *at, uint32_t good, uint64_t *rnd)
{
	/* mostly good: the bad value should come between a check and a use */
	canal_write_once(at, (uint32_t)nasty(rnd));
	for (uint32_t i = random_below(rnd, 20); i; i--)
		canal_relax();
	canal_write_once(at, good);
	for (uint32_t i = random_below(rnd, 200); i; i--)
		canal_relax();
}

/* One chunk full of records, which stands at every place of TX of the datagram
 * socket. The first record that furnish() put there was of 40 bytes. */
#define RECORD_LEN (1024 - (uint32_t)sizeof(struct canal_dgram))
#define RECORDS (CANAL_CHUNK / 1024 - 1)

/* In the middle of the arena: guest_put() takes the first ones. */
static uint32_t middle_chunk(const struct guest *g)
{
	return g->shape.tx.count / 2;
}

static struct canal_dgram *record_at(struct guest *g, uint32_t n)
{
	return (void *)(g->base + g->shape.tx.offset + (uint64_t)middle_chunk(g) * CANAL_CHUNK +
			40 + 1024 * n);
}

static void *flip_main(void *arg)
{
	struct flipper *me = arg;
	struct guest *g = &me->f->g;

	while (!canal_read_once(&me->stop)) {
		uint32_t n = random_below(&me->rnd, 4);

		flip(&guest_sock(g, me->f->a)->tx.chunk[n], middle_chunk(g) + 100 + n, &me->rnd);
		flip(&record_at(g, random_below(&me->rnd, RECORDS))->len, RECORD_LEN, &me->rnd);
		flip(&g->call[2].len, 4, &me->rnd);
		flip(&g->call[2].out_max, 4, &me->rnd);
		flip(&g->call[2].name, SO_KEEPALIVE, &me->rnd);
		flip(&g->set[n].slot, 30, &me->rnd);
		flip(&g->wait[30].sock, me->f->b, &me->rnd);
		canal_write_once(&g->set[n].ready, (uint32_t)nasty(&me->rnd));
		canal_write_once(&g->sub[n].pending, 0);
		canal_write_once(&g->wait[30 * n].armed, 1);
		canal_write_once(&guest_sock(g, me->f->a)->wr_waiters, ~0ull);
	}
	return NULL;
}

static void flip_round(struct guest *g, struct furnished *f, uint64_t *rnd, uint64_t *tail)
{
	static const uint8_t ops[] = {
		CANAL_INR_SETSOCKOPT, CANAL_INR_GETSOCKOPT, CANAL_INR_QUEUE,
		CANAL_INR_OUTQ,       CANAL_INR_LINGER,     CANAL_INR_SETTLE
	};
	struct canal_fifo *tx = &guest_sock(g, f->a)->tx, *rx = &guest_sock(g, f->b)->rx;

	g->call[2].level = SOL_SOCKET;
	guest_post(g, ops[random_below(rnd, ARRAY_LEN(ops))], f->a, 2, "", 1);
	canal_store_release(&rx->head, canal_load_acquire(&rx->tail));
	post(g, CANAL_INR_RX, f->b, 0);
	if (tx->tail - tx->head < 100000)
		canal_store_fence(&tx->tail, tx->tail + 30000);
	post(g, CANAL_INR_TX, f->a, 0);
	/* the same record again and again, always in the one chunk */
	if (canal_load_acquire(&guest_sock(g, f->udp)->tx.head) == *tail) {
		*tail += 1024;
		canal_store_fence(&guest_sock(g, f->udp)->tx.tail, *tail);
	}
	post(g, CANAL_INR_TX, f->udp, 0);
	guest_kick(g);
}

static void flip_guest(uint64_t *rnd, uint64_t until)
{
	struct furnished f;
	struct flipper flippers[2] = { { &f, random_next(rnd), false },
				       { &f, random_next(rnd), false } };
	pthread_t threads[2];
	uint64_t tail;

	furnish(&f);
	tail = guest_sock(&f.g, f.udp)->tx.tail;
	for (uint32_t i = 0; i < CANAL_FIFO_CHUNKS; i++) {
		guest_sock(&f.g, f.udp)->tx.chunk[i] = middle_chunk(&f.g);
		guest_sock(&f.g, f.a)->tx.chunk[i] = middle_chunk(&f.g) + 100 + i;
	}
	for (uint32_t i = 0; i <= RECORDS; i++)
		*record_at(&f.g, i) = (struct canal_dgram){
			.len = RECORD_LEN,
			.addr = loopback(i % 2 ? guest_sock(&f.g, f.udp)->local.port : htons(9)),
		};
	for (int i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, flip_main, &flippers[i]))
			fail("pthread_create");
	while (now_ms() < until && !guest_closed(&f.g))
		flip_round(&f.g, &f, rnd, &tail);
	for (int i = 0; i < 2; i++) {
		canal_write_once(&flippers[i].stop, true);
		pthread_join(threads[i], NULL);
	}
	guest_close(&f.g);
}

void run_flip(uint64_t seed)
{
	uint64_t rnd = seed, until = now_ms() + FLIP_MS;
	unsigned int guests = 0;

	while (now_ms() < until) {
		flip_guest(&rnd, until);
		guests++;
	}
	printf("%u guests\n", guests);
}

/* --- random requests ---------------------------------------------------- */

#define REQUESTS 150000
#define REQUESTS_A_GUEST 8000
#define SOCKS 48

struct chaos {
	struct guest g;
	uint64_t rnd;
	uint32_t sock[SOCKS], type[SOCKS], generation[SOCKS];
	int near[SOCKS];
};

static uint32_t below(struct chaos *c, uint32_t limit)
{
	return random_below(&c->rnd, limit);
}

static struct canal_addr somewhere(struct chaos *c)
{
	struct canal_addr a = loopback(guest_sock(&c->g, c->sock[below(c, SOCKS)])->local.port);
	static const uint16_t refused[] = { 1, 2, 9 };

	switch (below(c, 12)) {
	case 0:
		return (struct canal_addr){ 0 };
	case 1:
		a.port = htons(refused[below(c, 3)]);
		return a;
	case 2:
		return (struct canal_addr){ .family = AF_INET6,
					    .port = a.port,
					    .ip = { [15] = 1 } };
	case 3:
		a.ip[3] = (uint8_t)below(c, 256);
		return a;
	case 4:
		return (struct canal_addr){ .family = (uint16_t)below(c, 50), .port = a.port };
	case 5:
		a.port = victim_port;
		return a;
	default:
		return a;
	}
}

/* A place to be bound: a port of the kernel's choice, or one that is taken. */
static struct canal_addr own_place(struct chaos *c)
{
	struct canal_addr a = loopback(below(c, 4) ? 0 : victim_port);

	if (!below(c, 4))
		memset(a.ip, 0, sizeof(a.ip));
	if (!below(c, 4))
		a = (struct canal_addr){ .family = AF_INET6,
					 .ip = { [15] = (uint8_t)below(c, 2) } };
	return a;
}

/* The socket of place @i goes away in one of several ways, and a new one comes. */
static void renew(struct chaos *c, uint32_t i)
{
	struct guest *g = &c->g;
	uint32_t number;

	if (c->near[i] >= 0) {
		guest_near_close(g, c->near[i], c->sock[i], c->generation[i]);
		if (below(c, 2))
			post(g, CANAL_INR_CLOSE, c->sock[i], 0);
	} else if (c->type[i]) {
		post(g, CANAL_INR_CLOSE, c->sock[i], 1);
	}
	c->near[i] = -1;
	c->type[i] = 0;
	number = guest_number_or_none(g);
	if (number == CANAL_NONE) /* the last request broke a rule */
		return;
	c->sock[i] = number;
	c->type[i] = below(c, 3) ? SOCK_STREAM : SOCK_DGRAM;
	c->generation[i] = guest_sock(g, c->sock[i])->generation;
	post(g, CANAL_INR_SOCKET, c->sock[i], below(c, 6) ? AF_INET : AF_INET6, c->type[i]);
	if (below(c, 8))
		c->near[i] = guest_near(g, c->sock[i], c->generation[i]);
}

static void send_some(struct chaos *c, uint32_t i)
{
	struct canal_sock *s = guest_sock(&c->g, c->sock[i]);
	uint32_t len = 1 + below(c, 3000);

	if (s->tx.tail - s->tx.head > 150000 || s->generation != c->generation[i])
		return;
	if (c->type[i] == SOCK_STREAM) {
		guest_put(&c->g, c->sock[i], NULL, len);
	} else {
		struct canal_addr to = somewhere(c);

		if (to.family != AF_INET && to.family != AF_INET6)
			to.family = 0;
		guest_put_dgram(&c->g, c->sock[i], (struct canal_dgram){ .len = len, .addr = to },
				NULL);
	}
}

/* Takes all of RX; of a listener, all that it has accepted. */
static void receive(struct chaos *c, uint32_t i)
{
	struct canal_sock *s = guest_sock(&c->g, c->sock[i]);

	if (s->generation != c->generation[i])
		return;
	if (s->state == CANAL_SOCK_LISTENING && canal_load_acquire(&s->rx.tail) - s->rx.head >= 8) {
		uint32_t place = below(c, SOCKS), n = guest_accept(&c->g, c->sock[i]);

		renew(c, place);
		if (below(c, 2) && n < c->g.shape.sock.count) { /* and is used without a dummy */
			post(&c->g, CANAL_INR_CLOSE, c->sock[place], 1);
			if (c->near[place] >= 0)
				guest_near_close(&c->g, c->near[place], c->sock[place],
						 c->generation[place]);
			c->near[place] = -1;
			c->sock[place] = n;
			c->type[place] = SOCK_STREAM;
			c->generation[place] = guest_sock(&c->g, n)->generation;
		}
		return;
	}
	canal_store_release(&s->rx.head, canal_load_acquire(&s->rx.tail));
	post(&c->g, CANAL_INR_RX, c->sock[i], 0);
}

static void option(struct chaos *c, uint32_t n)
{
	static const uint32_t levels[] = { SOL_SOCKET, SOL_SOCKET,   IPPROTO_TCP, IPPROTO_TCP,
					   IPPROTO_IP, IPPROTO_IPV6, IPPROTO_UDP, 255 };
	struct canal_call *call = &c->g.call[1 + below(c, 60)];
	uint32_t slot = (uint32_t)(call - c->g.call), value[6];

	call->level = levels[below(c, ARRAY_LEN(levels))];
	call->name = below(c, 75);
	call->len = below(c, 4) ? 4 : below(c, 300);
	call->out_max = below(c, 2000);
	for (int i = 0; i < 8; i++)
		((uint32_t *)(void *)call->data)[i] = below(c, 3) ? below(c, 3)
								  : (uint32_t)nasty(&c->rnd);
	value[0] = call->level;
	value[1] = call->name;
	value[2] = below(c, 3);
	if (!below(c, 3))
		guest_post(&c->g, CANAL_INR_SETSOCKOPT, n, CANAL_NONE, value, 12);
	else
		guest_post(&c->g, below(c, 2) ? CANAL_INR_SETSOCKOPT : CANAL_INR_GETSOCKOPT, n,
			   slot, "", 1);
}

static void resolve(struct chaos *c)
{
	uint32_t slot = 1 + below(c, 60);
	struct canal_resolve *q = (void *)c->g.call[slot].data;

	*q = (struct canal_resolve){ .flags = below(c, 2) ? 4 : (int)nasty(&c->rnd),
				     .family = (int)below(c, 12),
				     .node_len = 10,
				     .service_len = below(c, 2) ? 3 : (uint16_t)nasty(&c->rnd) };
	memcpy(q->text, "127.0.0.1\00080", 13);
	if (!below(c, 3))
		q->node_len = (uint16_t)nasty(&c->rnd);
	q->flags |= 4; /* AI_NUMERICHOST: no name server hears of this test */
	do
		c->g.call[slot].name = below(c, 2) ? below(c, 2) : nasty(&c->rnd);
	while (c->g.call[slot].name == CANAL_RESOLVE_ADDR ||
	       c->g.call[slot].name == CANAL_RESOLVE_DNS);
	guest_post(&c->g, CANAL_INR_RESOLVE, 0, slot, "", 1);
}

/* A transfer by reference, or the end of one; a slot has one at a time. */
static void reference(struct chaos *c, uint32_t n)
{
	static const uint8_t ops[] = { CANAL_INR_SEND_REF, CANAL_INR_RECV_REF };
	uint32_t slot = 100 + below(c, 20);

	if (!below(c, 3) || c->g.call[slot].state == CANAL_INR_REQUESTED)
		post(&c->g, CANAL_INR_REF_STOP, n, slot);
	else
		machine_ref_post(&c->g, ops[below(c, 2)], n, slot, VA + below(c, 4096) * 600,
				 1 + below(c, 200000), below(c, 2));
}

static void request(struct chaos *c)
{
	struct guest *g = &c->g;
	uint32_t i = below(c, SOCKS), n = c->sock[i];
	uint32_t slot = below(c, 3) ? CANAL_NONE : 1 + below(c, 60);
	struct canal_addr a;

	switch (below(c, 20)) {
	case 0:
	case 1:
		renew(c, i);
		break;
	case 2:
		a = own_place(c);
		guest_post(g, CANAL_INR_BIND, n, slot, &a, sizeof(a));
		break;
	case 3:
	case 4:
		guest_post(g, CANAL_INR_LISTEN, n, slot, (uint32_t[]){ below(c, 9) - 1 }, 4);
		break;
	case 5:
	case 6:
	case 7:
	case 8:
		a = somewhere(c);
		guest_post(g, CANAL_INR_CONNECT, n, slot, &a, sizeof(a));
		break;
	case 9:
		guest_post(g, CANAL_INR_SHUTDOWN, n, slot, (uint32_t[]){ below(c, 5) }, 4);
		break;
	case 10:
		guest_post(g, CANAL_INR_CLOSE, n, slot, (uint32_t[]){ !below(c, 30) }, 4);
		break;
	case 11:
		post(g, below(c, 2) ? CANAL_INR_TX : CANAL_INR_RX,
		     below(c, 4) ? n : below(c, g->shape.sock.count), 0);
		break;
	case 12:
	case 13:
		receive(c, i);
		break;
	case 14:
		option(c, n);
		break;
	case 15:
		post(g, CANAL_INR_SUBSCRIBE, n, below(c, 100), below(c, g->shape.set.count),
		     EPOLLIN | EPOLLOUT);
		break;
	case 16:
		post(g, CANAL_INR_UNSUBSCRIBE, 0, below(c, 100));
		break;
	case 17:
		resolve(c);
		break;
	case 18:
		reference(c, n);
		break;
	default:
		send_some(c, i);
	}
}

static uint32_t chaos_guest(uint64_t *seed)
{
	struct chaos c = { .rnd = random_next(seed) };
	uint32_t done = 0;

	guest_open(&c.g);
	memset(c.near, 0xff, sizeof(c.near));
	for (uint32_t i = 0; i < 60; i++)
		add_waiter(&c.g, 1 + i);
	c.g.region->wait_used = 61;
	if (c.g.machine)
		machine_translate(&c.g);
	for (uint32_t i = 0; i < SOCKS; i++)
		renew(&c, i);
	for (; done < REQUESTS_A_GUEST && !guest_closed(&c.g); done++) {
		request(&c);
		if (done % 64 == 0)
			guest_sync(&c.g);
	}
	if (done < REQUESTS_A_GUEST)
		fprintf(stderr, "closed after %u requests\n", done);
	guest_close(&c.g);
	for (uint32_t i = 0; i < SOCKS; i++)
		if (c.near[i] >= 0)
			close(c.near[i]);
	return done;
}

void run_requests(uint64_t seed)
{
	uint32_t total = 0, guests = 0;

	for (; total < REQUESTS && guests < 100; guests++)
		total += chaos_guest(&seed);
	printf("%u requests, %u guests\n", total, guests);
}

/* --- kicks -------------------------------------------------------------- */

#define STORM_MS 2000

static void *storm_main(void *arg)
{
	struct furnished *f = arg;
	uint64_t until = now_ms() + STORM_MS, kicks = 0;

	while (now_ms() < until && !guest_closed(&f->g)) {
		for (int i = 0; i < 100; i++, kicks++)
			guest_kick(&f->g);
		/* every sleeper wants every wake-up, and a port that is taken is tried again */
		for (uint32_t n = 0; n < f->g.shape.wait.count; n++)
			canal_write_once(&f->g.wait[n].armed, 1);
		canal_write_once(&guest_sock(&f->g, f->b)->rd_waiters, ~0ull);
	}
	return NULL;
}

void run_storm(uint64_t seed)
{
	struct furnished f;
	struct canal_addr taken;
	pthread_t threads[2];
	uint64_t until = now_ms() + STORM_MS, rounds = 0;
	uint32_t n;

	(void)seed;
	furnish(&f);
	taken = loopback(guest_sock(&f.g, f.listener)->local.port);
	n = guest_socket(&f.g, AF_INET, SOCK_STREAM);
	for (uint32_t slot = 0; slot < f.g.shape.wait.count; slot++)
		if (slot % 40 || slot >= 320)
			add_waiter(&f.g, slot);
	f.g.region->wait_used = f.g.shape.wait.count;
	for (int i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, storm_main, &f))
			fail("pthread_create");
	for (; now_ms() < until; rounds++) {
		for (int i = 0; i < 50; i++)
			post(&f.g, CANAL_INR_NOP, 0, 0);
		if (guest_name(&f.g, CANAL_INR_BIND, n, taken) != -EADDRINUSE)
			fail("two sockets of one port");
		post(&f.g, CANAL_INR_SHUTDOWN, f.b, 9);
		for (int i = 0; i < 64; i++)
			post(&f.g, CANAL_INR_SHUTDOWN, f.b, SHUT_RD);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	if (guest_closed(&f.g))
		fail("kicks closed the channel");
	guest_close(&f.g);
	printf("%llu rounds\n", (unsigned long long)rounds);
}
