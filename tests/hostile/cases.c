/* SPDX-License-Identifier: MIT */
/*
 * One broken rule at a time. Each case attaches, breaks its rule, and expects
 * that canald closes the channel. What it prints, name and reason, is held
 * against what canald has counted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"

#define CLOSED_MS 5000
#define FAR_AWAY (1u << 30)

/* --- the ring ---------------------------------------------------------- */

static void op_unknown(struct guest *g)
{
	post(g, CANAL_INR_OPS, 0, 0);
}

static void op_high(struct guest *g)
{
	post(g, 255, CANAL_NONE, 0);
}

static void set_state(struct guest *g, uint64_t state)
{
	uint64_t pos = g->region->inr_tail;
	struct canal_inr *inr = &g->inr[pos % g->shape.inr.count];

	memset((uint8_t *)inr + sizeof(inr->state), 0, sizeof(*inr) - sizeof(inr->state));
	inr->slot = CANAL_NONE;
	inr->client = (uint16_t)g->client;
	canal_store_fence(&inr->state, state);
	guest_kick(g);
}

static void phase_unknown(struct guest *g)
{
	set_state(g, canal_inr_state(g->region->inr_tail, g->client, 3));
}

static void position_next(struct guest *g)
{
	set_state(g, canal_inr_state(g->region->inr_tail + 1, g->client, CANAL_INR_READY));
}

static void position_back(struct guest *g)
{
	guest_sync(g);
	set_state(g, canal_inr_state(g->region->inr_tail - 1, g->client, CANAL_INR_READY));
}

static void state_ones(struct guest *g)
{
	set_state(g, ~0ull);
}

static void grant_ahead(struct guest *g)
{
	g->region->grant_head = g->region->grant_tail + 1;
	guest_kick(g);
}

static void grant_back(struct guest *g)
{
	g->region->grant_head -= 1;
	guest_kick(g);
}

/* --- who asks ---------------------------------------------------------- */

static void client_zero(struct guest *g)
{
	g->client = 0;
	post(g, CANAL_INR_NOP, 0, 0);
}

static void client_unknown(struct guest *g)
{
	g->client += 1;
	post(g, CANAL_INR_NOP, 0, 0);
}

static void client_differs(struct guest *g)
{
	uint64_t pos = 0;
	struct canal_inr *inr =
		canal_ring_claim(g->inr, g->shape.inr.count, &g->region->inr_tail, g->client, &pos);

	inr->op = CANAL_INR_NOP;
	inr->slot = CANAL_NONE;
	inr->client = (uint16_t)(g->client + 1);
	canal_ring_publish(inr, pos, g->client);
	guest_kick(g);
}

static void claim_unknown(struct guest *g)
{
	set_state(g, canal_inr_state(g->region->inr_tail, CANAL_CLIENT_MAX - 1, CANAL_INR_CLAIMED));
}

static void claim_nobody(struct guest *g)
{
	set_state(g, canal_inr_state(g->region->inr_tail, 0, CANAL_INR_CLAIMED));
}

/* --- numbers ----------------------------------------------------------- */

static void bind_out_of_range(struct guest *g)
{
	struct canal_addr to = loopback(0);

	guest_post(g, CANAL_INR_BIND, g->shape.sock.count, 1, &to, sizeof(to));
}

static void connect_none(struct guest *g)
{
	struct canal_addr to = loopback(0);

	guest_post(g, CANAL_INR_CONNECT, CANAL_NONE, CANAL_NONE, &to, sizeof(to));
}

static void tx_out_of_range(struct guest *g)
{
	post(g, CANAL_INR_TX, 0x80000000u, 0);
}

static void socket_not_granted(struct guest *g)
{
	post(g, CANAL_INR_SOCKET, g->shape.sock.count - 1, AF_INET, SOCK_STREAM);
}

static void socket_out_of_range(struct guest *g)
{
	post(g, CANAL_INR_SOCKET, g->shape.sock.count, AF_INET, SOCK_STREAM);
}

static void socket_twice(struct guest *g)
{
	uint32_t n = guest_socket(g, AF_INET, SOCK_STREAM);

	post(g, CANAL_INR_SOCKET, n, AF_INET, SOCK_STREAM);
}

static void socket_of_family(struct guest *g)
{
	post(g, CANAL_INR_SOCKET, guest_number(g), AF_UNIX, SOCK_STREAM);
}

static void socket_of_type(struct guest *g)
{
	post(g, CANAL_INR_SOCKET, guest_number(g), AF_INET, SOCK_RAW, 1);
}

static void socket_of_protocol(struct guest *g)
{
	post(g, CANAL_INR_SOCKET, guest_number(g), AF_INET, SOCK_STREAM, 132);
}

static void getsockopt_nowhere(struct guest *g)
{
	post(g, CANAL_INR_GETSOCKOPT, guest_socket(g, AF_INET, SOCK_STREAM), 0);
}

static void queue_nowhere(struct guest *g)
{
	post(g, CANAL_INR_QUEUE, guest_socket(g, AF_INET, SOCK_DGRAM), 0);
}

static void outq_nowhere(struct guest *g)
{
	post(g, CANAL_INR_OUTQ, guest_socket(g, AF_INET, SOCK_STREAM), 0);
}

static void linger_nowhere(struct guest *g)
{
	post(g, CANAL_INR_LINGER, guest_socket(g, AF_INET, SOCK_STREAM), 0);
}

static void slot_out_of_range(struct guest *g)
{
	guest_post(g, CANAL_INR_NOP, 0, g->shape.wait.count, "", 1);
}

static void async_out_of_range(struct guest *g)
{
	post(g, CANAL_INR_ASYNC, guest_socket(g, AF_INET, SOCK_STREAM), g->shape.wait.count,
	     CANAL_NONE);
}

static void async_high(struct guest *g)
{
	post(g, CANAL_INR_ASYNC, guest_socket(g, AF_INET, SOCK_STREAM), CANAL_NONE, CANAL_NONE - 1);
}

static void slot_high(struct guest *g)
{
	guest_post(g, CANAL_INR_RESOLVE, 0, 0x80000000u, "", 1);
}

static void resolve_nowhere(struct guest *g)
{
	post(g, CANAL_INR_RESOLVE, 0, 0);
}

/* Questions that make no sense have an answer that says so; it is the end that breaks a rule. */
static void names_wrong(struct guest *g)
{
	static const struct {
		uint32_t kind, len;
		uint8_t first[4];
	} wrong[] = {
		{ CANAL_RESOLVE_LIST, 0, { 0 } },
		{ CANAL_RESOLVE_HOST, 0, { 0 } },
		{ CANAL_RESOLVE_ADDR, 23, { AF_INET } },
		{ CANAL_RESOLVE_ADDR, 24, { AF_UNIX } },
		{ CANAL_RESOLVE_DNS, 11, { 0 } },
		{ CANAL_RESOLVE_DNS, CANAL_CALL_DATA + 1, { 0 } },
		{ CANAL_RESOLVE_DNS, 0xffffffff, { 0 } },
		{ CANAL_RESOLVE_DNS, 40, { 0, 0, 0x80 } }, /* an answer */
		{ CANAL_RESOLVE_DNS, 40, { 0, 0, 0x28 } }, /* an update */
		{ CANAL_RESOLVE_KINDS, 40, { 0 } },
		{ 0xffffffff, 40, { 0 } },
	};

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct canal_call *call = &g->call[1];

		memset(call->data, 0, sizeof(call->data));
		memcpy(call->data, wrong[i].first, sizeof(wrong[i].first));
		call->name = wrong[i].kind;
		call->len = wrong[i].len;
		if (guest_call(g, CANAL_INR_RESOLVE, 0, 1, "", 1) > -1000)
			fail("question %zu was not refused", i);
	}
	post(g, CANAL_INR_OPS, 0, 0);
}

static void sub_out_of_range(struct guest *g)
{
	post(g, CANAL_INR_SUBSCRIBE, guest_socket(g, AF_INET, SOCK_STREAM), g->shape.sub.count, 0,
	     1);
}

static void set_out_of_range(struct guest *g)
{
	post(g, CANAL_INR_SUBSCRIBE, guest_socket(g, AF_INET, SOCK_STREAM), 0, g->shape.set.count,
	     1);
}

static void unsub_out_of_range(struct guest *g)
{
	post(g, CANAL_INR_UNSUBSCRIBE, 0, CANAL_NONE);
}

/* --- FIFOs ------------------------------------------------------------- */

static void tx_tail(struct guest *g, uint32_t n, uint64_t tail)
{
	canal_store_fence(&guest_sock(g, n)->tx.tail, tail);
	post(g, CANAL_INR_TX, n, 0);
}

static uint32_t kernel_stream(struct guest *g);

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
	while (canal_load_acquire(&guest_sock(g, a)->tx.head) != 100)
		guest_sync(g);
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

/* The head of a connection's RX, to be looked at when bytes come for it. */
static void rx_head(struct guest *g, uint64_t before, uint64_t head)
{
	uint32_t a, b;

	guest_pair(g, guest_listener(g, 8), &a, &b);
	if (before) {
		guest_put(g, a, NULL, (uint32_t)before);
		guest_sync(g);
		guest_sock(g, b)->rx.head = before;
		post(g, CANAL_INR_RX, b, 0);
		guest_put(g, a, NULL, 1);
		guest_sync(g);
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

/* --- control packets --------------------------------------------------- */

static void tell(struct guest *g, struct canal_local packet, int fd)
{
	conn_send(g->conn, &packet, sizeof(packet), &fd, fd >= 0);
	if (fd >= 0)
		close(fd);
}

static void packet_garbage(struct guest *g)
{
	uint8_t bytes[sizeof(struct canal_local)];

	memset(bytes, 0xa5, sizeof(bytes));
	conn_send(g->conn, bytes, sizeof(bytes), NULL, 0);
}

static void packet_truncated(struct guest *g)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_DUMMY);

	conn_send(g->conn, &packet, sizeof(packet) - 1, NULL, 0);
}

static void packet_long(struct guest *g)
{
	static const uint8_t zeros[8192];

	conn_send(g->conn, zeros, sizeof(zeros), NULL, 0);
}

static void packet_version(struct guest *g)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_DUMMY);

	packet.version++;
	tell(g, packet, -1);
}

static void packet_type(struct guest *g)
{
	tell(g, packet_of(99), -1);
}

static void hello_again(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_HELLO), -1);
}

static void waiter_without_fd(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_WAITER), -1);
}

static void fds(struct guest *g, uint16_t type, unsigned int count)
{
	struct canal_local packet = packet_of(type);
	int many[64];

	for (unsigned int i = 0; i < count; i++)
		many[i] = g->kick;
	conn_send(g->conn, &packet, sizeof(packet), many, count);
}

static void fds_three(struct guest *g)
{
	fds(g, CANAL_LOCAL_WAITER, 3);
}

static void fds_many(struct guest *g)
{
	fds(g, CANAL_LOCAL_DUMMY, 64);
}

static void waiter_of_a_file(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_WAITER), memfd_create("x", MFD_CLOEXEC));
}

static void waiter_of_a_socket(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_WAITER), socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

/* A FIFO that somebody's file system has a name for. */
static void waiter_of_a_fifo(struct guest *g)
{
	char dir[] = "/tmp/canal-hostile-XXXXXX", path[64];
	int fd;

	if (!mkdtemp(dir))
		fail("mkdtemp: %s", strerror(errno));
	snprintf(path, sizeof(path), "%s/fifo", dir);
	if (mkfifo(path, 0600) || (fd = open(path, O_RDWR | O_CLOEXEC)) < 0)
		fail("mkfifo: %s", strerror(errno));
	tell(g, packet_of(CANAL_LOCAL_WAITER), fd);
	unlink(path);
	rmdir(dir);
}

static void dummy_of_a_file(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_DUMMY), memfd_create("x", MFD_CLOEXEC));
}

static void dummy_of_family(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_DUMMY), socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static void dummy_of_type(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_DUMMY), socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

/* It would keep the guest's connection open when the guest is gone. */
static void dummy_of_our_connection(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_DUMMY), dup(g->conn));
}

static void dummy_that_listens(struct guest *g)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint16_t family = AF_UNIX;

	if (bind(fd, (struct sockaddr *)&family, sizeof(family)) || listen(fd, 8))
		fail("listen: %s", strerror(errno));
	tell(g, packet_of(CANAL_LOCAL_DUMMY), fd);
}

static void waiter_out_of_range(struct guest *g)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_WAITER);
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		fail("socketpair");
	guest_keep(g, ends[0]);
	packet.number = g->shape.wait.count;
	tell(g, packet, ends[1]);
}

/* Who reads a pipe can hold its lock for as long as he likes. */
static void waiter_is_a_pipe(struct guest *g)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		fail("pipe2");
	guest_keep(g, ends[0]);
	tell(g, packet_of(CANAL_LOCAL_WAITER), ends[1]);
}

/* It could listen as soon as it is canald's, and would then never hang up. */
static void dummy_is_not_connected(struct guest *g)
{
	sa_family_t family = AF_UNIX;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&family, sizeof(family)))
		fail("bind: %s", strerror(errno));
	tell(g, packet_of(CANAL_LOCAL_DUMMY), fd);
}

/* --- all --------------------------------------------------------------- */

#define CASE(what, why)          \
	{                        \
#what, why, what \
	}

static const struct {
	const char *name, *reason;
	void (*run)(struct guest *g);
} cases[] = {
	CASE(op_unknown, "bad-op"),
	CASE(op_high, "bad-op"),
	CASE(phase_unknown, "ring-state"),
	CASE(position_next, "ring-state"),
	CASE(position_back, "ring-state"),
	CASE(state_ones, "ring-state"),
	CASE(grant_ahead, "ring-state"),
	CASE(grant_back, "ring-state"),
	CASE(client_zero, "bad-client"),
	CASE(client_unknown, "bad-client"),
	CASE(client_differs, "bad-client"),
	CASE(claim_unknown, "bad-client"),
	CASE(claim_nobody, "bad-client"),
	CASE(bind_out_of_range, "bad-socket"),
	CASE(connect_none, "bad-socket"),
	CASE(tx_out_of_range, "bad-socket"),
	CASE(socket_not_granted, "bad-socket"),
	CASE(socket_out_of_range, "bad-socket"),
	CASE(socket_twice, "bad-socket"),
	CASE(socket_of_family, "bad-socket"),
	CASE(socket_of_type, "bad-socket"),
	CASE(socket_of_protocol, "bad-socket"),
	CASE(getsockopt_nowhere, "bad-socket"),
	CASE(queue_nowhere, "bad-socket"),
	CASE(outq_nowhere, "bad-socket"),
	CASE(linger_nowhere, "bad-socket"),
	CASE(slot_out_of_range, "bad-slot"),
	CASE(slot_high, "bad-slot"),
	CASE(async_out_of_range, "bad-slot"),
	CASE(async_high, "bad-slot"),
	CASE(resolve_nowhere, "bad-slot"),
	CASE(names_wrong, "bad-op"),
	CASE(waiter_out_of_range, "bad-slot"),
	CASE(sub_out_of_range, "bad-subscription"),
	CASE(set_out_of_range, "bad-subscription"),
	CASE(unsub_out_of_range, "bad-subscription"),
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
	CASE(packet_garbage, "bad-control"),
	CASE(packet_truncated, "bad-control"),
	CASE(packet_long, "bad-control"),
	CASE(packet_version, "bad-control"),
	CASE(packet_type, "bad-control"),
	CASE(hello_again, "bad-control"),
	CASE(waiter_without_fd, "bad-control"),
	CASE(waiter_is_a_pipe, "bad-control"),
	CASE(dummy_is_not_connected, "bad-control"),
	CASE(fds_three, "bad-control"),
	CASE(fds_many, "bad-control"),
	CASE(waiter_of_a_file, "bad-control"),
	CASE(waiter_of_a_socket, "bad-control"),
	CASE(waiter_of_a_fifo, "bad-control"),
	CASE(dummy_of_a_file, "bad-control"),
	CASE(dummy_of_family, "bad-control"),
	CASE(dummy_of_type, "bad-control"),
	CASE(dummy_of_our_connection, "bad-control"),
	CASE(dummy_that_listens, "bad-control"),
};

void run_cases(uint64_t seed)
{
	(void)seed;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct guest g;

		if (only && strcmp(only, cases[i].name))
			continue;
		guest_open(&g);
		fprintf(stderr, "%s\n", cases[i].name);
		cases[i].run(&g);
		guest_wait_closed(&g, CLOSED_MS);
		guest_close(&g);
		printf("%s %s\n", cases[i].name, cases[i].reason);
	}
}

/* A slot that is claimed and never filled, by a process that lives. */
void run_stalled(uint64_t seed)
{
	struct guest g;
	uint64_t pos = 0;

	(void)seed;
	guest_open(&g);
	canal_ring_claim(g.inr, g.shape.inr.count, &g.region->inr_tail, g.client, &pos);
	guest_kick(&g);
	if (guest_closed(&g))
		fail("closed at once");
	guest_wait_closed(&g, 10000);
	guest_close(&g);
	printf("stalled ring-stalled\n");
}
