/* SPDX-License-Identifier: MIT */
/* Attaching by hand, posting INRs, filling FIFOs: see guest.h. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"

#define ANSWER_MS LONGEST_MS

const char *socket_path;
char *only;
uint16_t victim_port;

void fail(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	_exit(1);
}

uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void nap_us(unsigned int us)
{
	struct timespec t = { .tv_nsec = (long)us * 1000 };

	nanosleep(&t, NULL);
}

/* --- attaching --------------------------------------------------------- */

int conn_dial(int type)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		fail("%s: cannot be connected: %s", socket_path, strerror(errno));
	return fd;
}

int conn_open(void)
{
	return conn_dial(SOCK_SEQPACKET);
}

int conn_send(int conn, const void *packet, size_t len, const int *fds, unsigned int fd_count)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(64 * sizeof(int))];
	} control = { .room = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)packet, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd_count) {
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
	}
	return sendmsg(conn, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

struct canal_local packet_of(uint16_t type)
{
	return (struct canal_local){ .magic = CANAL_LOCAL_MAGIC,
				     .type = type,
				     .version = CANAL_WIRE_VERSION };
}

ssize_t conn_receive(int conn, void *packet, size_t len, int fds[CANAL_LOCAL_FDS],
		     unsigned int *ret_count)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(CANAL_LOCAL_FDS * sizeof(int))];
	} control;
	struct iovec iov = { packet, len };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	struct pollfd pfd = { .fd = conn, .events = POLLIN };
	const struct cmsghdr *c;
	ssize_t got;

	*ret_count = 0;
	if (poll(&pfd, 1, ANSWER_MS) != 1)
		fail("canald does not answer");
	got = recvmsg(conn, &msg, MSG_CMSG_CLOEXEC);
	if (got <= 0)
		return got ? -errno : 0;
	c = CMSG_FIRSTHDR(&msg);
	if (c) {
		*ret_count = (unsigned int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), *ret_count * sizeof(int));
	}
	return got;
}

int conn_answer(int conn, struct canal_local *packet, int fds[2])
{
	int came[CANAL_LOCAL_FDS];
	unsigned int count;
	ssize_t len = conn_receive(conn, packet, sizeof(*packet), came, &count);

	for (unsigned int i = 0; i < 2; i++)
		fds[i] = i < count ? came[i] : -1;
	if (len <= 0)
		return len ? (int)len : -ECONNRESET;
	if (len != sizeof(*packet))
		fail("an answer of %zd bytes", len);
	return packet->type == CANAL_LOCAL_WELCOME ? 0 : -ECONNREFUSED;
}

void guest_keep(struct guest *g, int fd)
{
	if (g->fd_count == FDS_MAX)
		fail("too many descriptors in this test");
	g->fds[g->fd_count++] = fd;
}

static void *table(const struct guest *g, const struct canal_table *t)
{
	return g->base + t->offset;
}

void guest_place(struct guest *g)
{
	g->region = (void *)g->base;
	g->shape = *g->region;
	g->inr = table(g, &g->shape.inr);
	g->wait = table(g, &g->shape.wait);
	g->call = table(g, &g->shape.call);
	g->set = table(g, &g->shape.set);
	g->sub = table(g, &g->shape.sub);
}

void guest_open(struct guest *g)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_HELLO);
	int fds[2], error;

	if (the_machine) {
		machine_guest_open(the_machine, g, 0, 3);
		return;
	}
	memset(g, 0, sizeof(*g));
	g->conn = conn_open();
	snprintf(packet.text, sizeof(packet.text), "hostile");
	error = conn_send(g->conn, &packet, sizeof(packet), NULL, 0);
	if (!error)
		error = conn_answer(g->conn, &packet, fds);
	if (error)
		fail("HELLO: %s: %.200s", strerror(-error), packet.text);
	g->region_fd = fds[0];
	g->kick = fds[1];
	g->client = packet.client;
	g->channel_id = packet.channel_id;
	g->token = packet.token;
	g->len = packet.region_len;
	g->base = mmap(NULL, g->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
		       g->region_fd, 0);
	if (g->base == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	guest_place(g);
}

void guest_close(struct guest *g)
{
	for (unsigned int i = 0; i < g->fd_count; i++)
		close(g->fds[i]);
	if (g->machine)
		machine_guest_close(g);
	munmap(g->base, g->len);
	if (g->machine)
		return;
	close(g->region_fd);
	close(g->kick);
	close(g->conn);
}

int guest_join(struct guest *g)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_JOIN);
	int conn = conn_open(), fds[2], error;

	packet.channel_id = g->channel_id;
	packet.token = g->token;
	error = conn_send(conn, &packet, sizeof(packet), NULL, 0);
	if (!error)
		error = conn_answer(conn, &packet, fds);
	if (error) {
		close(conn);
		return error;
	}
	g->client = packet.client;
	guest_keep(g, conn);
	return 0;
}

bool guest_closed(const struct guest *g)
{
	struct pollfd pfd = { .fd = g->conn, .events = POLLRDHUP };

	return g->machine ? machine_guest_closed(g) : poll(&pfd, 1, 0) == 1;
}

void guest_wait_closed(const struct guest *g, unsigned int ms)
{
	struct pollfd pfd = { .fd = g->conn, .events = POLLRDHUP };
	uint64_t until = now_ms() + ms;

	while (g->machine && !guest_closed(g) && now_ms() < until)
		nap_us(1000);
	if (g->machine ? !guest_closed(g) : poll(&pfd, 1, (int)ms) != 1)
		fail("the channel was not closed");
}

/* --- asking ------------------------------------------------------------ */

void guest_kick(const struct guest *g)
{
	uint64_t one = 1;

	(void)!write(g->kick, &one, sizeof(one));
}

bool guest_post(struct guest *g, uint8_t op, uint32_t sock, uint32_t slot, const void *args,
		size_t len)
{
	uint64_t pos = 0;
	struct canal_inr *inr =
		canal_ring_claim(g->inr, g->shape.inr.count, &g->region->inr_tail, g->client, &pos);

	if (!inr)
		return false;
	inr->op = op;
	inr->client = (uint16_t)g->client;
	inr->sock = sock;
	inr->slot = slot;
	inr->generation = sock < g->shape.sock.count ? guest_sock(g, sock)->generation : 0;
	memset(&inr->u, 0, sizeof(inr->u));
	memcpy(&inr->u, args, len);
	canal_ring_publish(inr, pos, g->client);
	if (canal_xchg(&g->region->host_asleep, 0u))
		guest_kick(g);
	return true;
}

int32_t guest_call(struct guest *g, uint8_t op, uint32_t sock, uint32_t slot, const void *args,
		   size_t len)
{
	struct canal_call *call = &g->call[slot];
	uint64_t until = now_ms() + ANSWER_MS;

	canal_store_release(&call->state, CANAL_INR_REQUESTED);
	while (!guest_post(g, op, sock, slot, args, len)) {
		if (guest_closed(g))
			return INT32_MIN;
		guest_kick(g);
		nap_us(100);
	}
	for (unsigned int looks = 0; canal_load_acquire(&call->state) != CANAL_INR_COMPLETED;
	     looks++) {
		if (looks % 16)
			continue;
		if (guest_closed(g))
			return INT32_MIN;
		if (now_ms() > until)
			fail("a call (op %u) is not answered", op);
		guest_kick(g);
		nap_us(50);
	}
	return call->result;
}

void guest_sync(struct guest *g)
{
	guest_call(g, CANAL_INR_NOP, 0, 0, "", 1);
}

/* --- sockets ----------------------------------------------------------- */

struct canal_sock *guest_sock(const struct guest *g, uint32_t n)
{
	return (struct canal_sock *)(void *)(g->base + g->shape.sock.offset) + n;
}

uint32_t guest_number_or_none(struct guest *g)
{
	uint32_t *grant = table(g, &g->shape.grant), n;
	uint64_t until = now_ms() + ANSWER_MS, head = g->region->grant_head;

	while (canal_load_acquire(&g->region->grant_tail) == head) {
		if (guest_closed(g))
			return CANAL_NONE;
		if (now_ms() > until)
			fail("no number for a socket");
		post(g, CANAL_INR_NOP, 0, 0);
		nap_us(100);
	}
	n = grant[head % g->shape.grant.count];
	canal_store_release(&g->region->grant_head, head + 1);
	return n;
}

uint32_t guest_number(struct guest *g)
{
	uint32_t n = guest_number_or_none(g);

	if (n == CANAL_NONE)
		fail("no number for a socket: the channel was closed");
	return n;
}

int guest_near(struct guest *g, uint32_t n, uint32_t generation)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_DUMMY);
	int ends[2];

	if (g->machine) {
		machine_dummy(g, CANAL_MAIL_DUMMY, n, generation);
		return eventfd(0, EFD_CLOEXEC); /* stands for it */
	}
	packet.number = n;
	packet.extra = generation;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		fail("socketpair: %s", strerror(errno));
	conn_send(g->conn, &packet, sizeof(packet), &ends[1], 1);
	close(ends[1]);
	return ends[0];
}

void guest_near_close(struct guest *g, int fd, uint32_t n, uint32_t generation)
{
	close(fd);
	if (g->machine)
		machine_dummy(g, CANAL_MAIL_UNDUMMY, n, generation);
}

void guest_dummy(struct guest *g, uint32_t n)
{
	guest_keep(g, guest_near(g, n, guest_sock(g, n)->generation));
}

void guest_waiter(struct guest *g, uint32_t slot)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_WAITER);
	int ends[2];

	if (g->machine) {
		machine_waiter(g, slot, g->wait[slot].serial);
		return;
	}
	packet.number = slot;
	packet.extra = g->wait[slot].serial;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends))
		fail("socketpair: %s", strerror(errno));
	conn_send(g->conn, &packet, sizeof(packet), &ends[1], 1);
	close(ends[1]);
	guest_keep(g, ends[0]);
}

uint32_t guest_socket(struct guest *g, int domain, int type)
{
	uint32_t n = guest_number(g);

	post(g, CANAL_INR_SOCKET, n, (uint32_t)domain, (uint32_t)type);
	guest_dummy(g, n);
	return n;
}

struct canal_addr loopback(uint16_t port)
{
	return (struct canal_addr){ .family = AF_INET, .port = port, .ip = { 127, 0, 0, 1 } };
}

int32_t guest_name(struct guest *g, uint8_t op, uint32_t n, struct canal_addr to)
{
	return guest_call(g, op, n, 1, &to, sizeof(to));
}

int guest_connect(struct guest *g, uint32_t n, struct canal_addr to)
{
	struct canal_sock *s = guest_sock(g, n);
	uint32_t before = canal_read_once(&s->connects);
	uint64_t until = now_ms() + ANSWER_MS;

	guest_post(g, CANAL_INR_CONNECT, n, CANAL_NONE, &to, sizeof(to));
	while (canal_load_acquire(&s->connects) == before) {
		if (guest_closed(g) || now_ms() > until)
			fail("a connect is not over");
		guest_kick(g);
		nap_us(100);
	}
	return (int)canal_xchg(&s->so_error, 0u);
}

uint32_t guest_listener(struct guest *g, int backlog)
{
	uint32_t n = guest_socket(g, AF_INET, SOCK_STREAM);
	int32_t r = guest_name(g, CANAL_INR_BIND, n, loopback(0));

	if (!r)
		r = ask(g, CANAL_INR_LISTEN, n, (uint32_t)backlog);
	if (r)
		fail("listen: %d", r);
	return n;
}

uint32_t guest_accept(struct guest *g, uint32_t listener)
{
	struct canal_fifo *rx = &guest_sock(g, listener)->rx;
	struct canal_accept entry;
	uint64_t until = now_ms() + ANSWER_MS, head = rx->head;
	uint8_t *chunks = table(g, &g->shape.rx);
	uint32_t chunk;

	while (canal_load_acquire(&rx->tail) == head) {
		if (guest_closed(g) || now_ms() > until)
			return CANAL_NONE;
		guest_kick(g);
		nap_us(100);
	}
	chunk = canal_read_once(&rx->chunk[head / CANAL_CHUNK % CANAL_FIFO_CHUNKS]);
	if (chunk >= g->shape.rx.count) /* not a listener any more */
		return CANAL_NONE;
	memcpy(&entry, chunks + (uint64_t)chunk * CANAL_CHUNK + head % CANAL_CHUNK, sizeof(entry));
	canal_store_release(&rx->head, head + sizeof(entry));
	if (canal_take(&rx->want_room))
		post(g, CANAL_INR_RX, listener, 0);
	return entry.sock;
}

/* Chunks of its own behind [tail, tail + len), then the bytes. */
static void put(struct guest *g, struct canal_fifo *tx, uint64_t *pos, const void *bytes,
		uint32_t len)
{
	const uint8_t *from = bytes;
	uint8_t *chunks = table(g, &g->shape.tx);

	for (uint32_t i = 0; i < len; i++, ++*pos) {
		uint32_t *entry = &tx->chunk[*pos / CANAL_CHUNK % CANAL_FIFO_CHUNKS];

		if (*entry >= g->shape.tx.count)
			*entry = g->chunks++ % g->shape.tx.count;
		chunks[(uint64_t)*entry * CANAL_CHUNK + *pos % CANAL_CHUNK] = from ? from[i] : 0;
	}
}

static void put_done(struct guest *g, uint32_t n, uint64_t tail)
{
	struct canal_fifo *tx = &guest_sock(g, n)->tx;

	canal_store_fence(&tx->tail, tail);
	canal_take(&tx->idle);
	post(g, CANAL_INR_TX, n, 0);
}

void guest_put(struct guest *g, uint32_t n, const void *bytes, uint32_t len)
{
	uint64_t pos = guest_sock(g, n)->tx.tail;

	put(g, &guest_sock(g, n)->tx, &pos, bytes, len);
	put_done(g, n, pos);
}

void guest_put_dgram(struct guest *g, uint32_t n, struct canal_dgram record, const void *bytes)
{
	struct canal_fifo *tx = &guest_sock(g, n)->tx;
	uint64_t pos = tx->tail, end = pos + sizeof(record) + ((record.len + 7ull) & ~7ull);

	put(g, tx, &pos, &record, sizeof(record));
	put(g, tx, &pos, bytes, (uint32_t)(end - pos));
	put_done(g, n, end);
}

void guest_wait_taken(struct guest *g, uint32_t n)
{
	struct canal_fifo *tx = &guest_sock(g, n)->tx;
	uint64_t until = now_ms() + ANSWER_MS;

	while (canal_load_acquire(&tx->head) != tx->tail) {
		if (guest_closed(g) || now_ms() > until)
			fail("what was put is not taken");
		guest_kick(g);
		nap_us(100);
	}
}

void guest_pair(struct guest *g, uint32_t listener, uint32_t *ret_a, uint32_t *ret_b)
{
	*ret_a = guest_socket(g, AF_INET, SOCK_STREAM);
	if (guest_connect(g, *ret_a, loopback(guest_sock(g, listener)->local.port)))
		fail("a connection to our own listener failed");
	*ret_b = guest_accept(g, listener);
	if (*ret_b == CANAL_NONE)
		fail("nothing to accept");
	guest_dummy(g, *ret_b);
}
