/* SPDX-License-Identifier: MIT */
/* Dummies that canald made, and what a guest can write into them. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "guest.h"

#define WAIT_MS 30000

struct stock {
	int fd[CANAL_LOCAL_STOCK_SLOTS]; /* by slot; -1: none */
};

/* One packet of canald, and its descriptors in @fds; how many, -1: there is none. */
static int packet_take(struct guest *g, struct canal_local *packet, int fds[CANAL_LOCAL_FDS])
{
	unsigned int count;
	ssize_t len = conn_receive(g->conn, packet, sizeof(*packet), fds, &count);

	return len == sizeof(*packet) ? (int)count : -1;
}

/* Asks for @wanted near ends; how many came. */
static unsigned int stock_ask(struct guest *g, struct stock *s, uint32_t wanted, uint64_t lost)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_STOCK);
	int fds[CANAL_LOCAL_FDS], came;
	unsigned int used = 0;

	packet.number = wanted;
	packet.token = lost;
	if (conn_send(g->conn, &packet, sizeof(packet), NULL, 0) ||
	    (came = packet_take(g, &packet, fds)) < 0)
		fail("STOCK has no answer");
	if (packet.number != (uint32_t)came)
		fail("STOCK gave %u, and %d descriptors", packet.number, came);
	for (uint32_t i = 0; i < CANAL_LOCAL_STOCK_SLOTS; i++)
		if (packet.token >> i & 1)
			s->fd[i] = fds[used++];
	return used;
}

static void stock_close(struct stock *s)
{
	for (uint32_t i = 0; i < CANAL_LOCAL_STOCK_SLOTS; i++) {
		if (s->fd[i] >= 0)
			close(s->fd[i]);
		s->fd[i] = -1;
	}
}

static void stock_open(struct guest *g, struct stock *s)
{
	guest_open(g);
	memset(s, 0xff, sizeof(*s));
	stock_ask(g, s, 8, 0);
}

/* A connected socket whose dummy is @slot; its peer is left alone. */
static uint32_t stream(struct guest *g, uint32_t listener, uint32_t slot)
{
	uint32_t n = guest_number(g);

	post(g, CANAL_INR_SOCKET, n, AF_INET, SOCK_STREAM, 0, slot + 1);
	if (guest_connect(g, n, loopback(guest_sock(g, listener)->local.port)))
		fail("no connection");
	return n;
}

static void send_rights(int to, int fd)
{
	(void)conn_send(to, "x", 1, &fd, 1);
}

/* The far end is closed: the dummy hangs up. */
static void wait_hangup(int fd)
{
	struct pollfd pfd = { .fd = fd };

	if (poll(&pfd, 1, WAIT_MS) != 1)
		fail("a dummy with a descriptor in it is still there");
}

/* What would keep itself open: the dummy in its own queue. Then the connection. */
static void cycles(void)
{
	struct guest g;
	struct stock s;
	uint32_t l;

	stock_open(&g, &s);
	l = guest_listener(&g, 8);
	(void)stream(&g, l, 0);
	send_rights(s.fd[0], s.fd[0]);
	wait_hangup(s.fd[0]);
	(void)stream(&g, l, 1);
	send_rights(s.fd[1], g.conn);
	wait_hangup(s.fd[1]);
	/* behind bytes; and in one that is nobody's */
	(void)stream(&g, l, 2);
	(void)!write(s.fd[2], "bytes", 5);
	send_rights(s.fd[2], s.fd[2]);
	wait_hangup(s.fd[2]);
	send_rights(s.fd[3], s.fd[3]);
	send_rights(s.fd[4], g.conn);
	stock_close(&s);
	guest_close(&g);
}

/* The same while nothing can be moved, because nobody reads at the other end. */
static void cycle_blocked(void)
{
	static const char bytes[4096];
	struct guest g;
	struct stock s;

	stock_open(&g, &s);
	(void)stream(&g, guest_listener(&g, 8), 0);
	for (int idle = 0; idle < 200;) {
		if (send(s.fd[0], bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			idle = 0;
		else
			idle++;
		nap_us(500);
	}
	/* it is full: room for one more byte, a little later perhaps */
	for (int i = 0; i < 100; i++) {
		int size = 4 << 20;

		setsockopt(s.fd[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		send_rights(s.fd[0], s.fd[0]);
		nap_us(100);
	}
	wait_hangup(s.fd[0]);
	stock_close(&s);
	guest_close(&g);
}

/* Bytes for what takes none. */
static void bytes_for_nobody(void)
{
	struct guest g;
	struct stock s;
	uint32_t n;

	stock_open(&g, &s);
	n = guest_number(&g);
	post(&g, CANAL_INR_SOCKET, n, AF_INET, SOCK_DGRAM, 0, 1);
	(void)!write(s.fd[0], "bytes", 5);
	n = guest_number(&g);
	post(&g, CANAL_INR_SOCKET, n, AF_INET, SOCK_STREAM, 0, 2);
	(void)!write(s.fd[1], "bytes", 5);
	if (ask(&g, CANAL_INR_LISTEN, n, 4))
		fail("listen");
	for (int i = 0; i < 1000; i++)
		(void)send(s.fd[1], "bytes", 5, MSG_DONTWAIT | MSG_NOSIGNAL);
	ask(&g, CANAL_INR_HANDOVER, n, 0);
	guest_sync(&g);
	if (guest_closed(&g))
		fail("bytes closed the channel");
	stock_close(&s);
	guest_close(&g);
}

/* Slots that hold nothing, or are somebody's already; requests of everything. */
static void slots(uint64_t seed)
{
	struct guest g;
	struct stock s;
	uint32_t n, l, handed;

	stock_open(&g, &s);
	for (int i = 0; i < 40; i++)
		stock_ask(&g, &s, (uint32_t)random_next(&seed), random_next(&seed));
	stock_ask(&g, &s, 16, ~0ull);
	for (uint32_t slot = 0; slot < 3; slot++) {
		n = guest_number(&g);
		post(&g, CANAL_INR_SOCKET, n, AF_INET, SOCK_STREAM, 0,
		     slot == 2 ? 0xffffffffu : 33 + slot);
		post(&g, CANAL_INR_DUMMY, n, slot, guest_sock(&g, n)->generation);
		post(&g, CANAL_INR_DUMMY, n, slot, 77);
		post(&g, CANAL_INR_DUMMY, n, 0xfffffff0u, 1);
	}
	guest_sync(&g); /* they take what is in the slots now */
	stock_ask(&g, &s, 16, ~0ull);
	l = guest_listener(&g, 8);
	handed = stream(&g, l, 0);
	for (int i = 0; i < 200; i++) {
		n = random_below(&seed, 64);
		ask(&g, CANAL_INR_HANDOVER, i % 2 ? handed : n, 0);
		ask(&g, CANAL_INR_ADOPT, CANAL_NONE, random_below(&seed, 1 << 24), 0);
		post(&g, CANAL_INR_PASSED, i % 3 ? handed : n, random_below(&seed, 50));
		if (guest_closed(&g))
			fail("a request closed the channel");
	}
	stock_close(&s);
	guest_close(&g);
}

/* Handed over with a head that is not true: that is a rule. */
static void wrong_head(void)
{
	struct guest g;
	struct stock s;
	uint32_t n;

	stock_open(&g, &s);
	n = stream(&g, guest_listener(&g, 8), 0);
	guest_sock(&g, n)->rx.head = 1ull << 40;
	post(&g, CANAL_INR_HANDOVER, n, 0);
	guest_wait_closed(&g, WAIT_MS);
	stock_close(&s);
	guest_close(&g);
}

/* Handed over, with bytes that nobody has read, and then dissolved: it begins anew. */
static void dissolved(void)
{
	static const struct canal_addr nowhere; /* family 0 */
	struct guest g;
	struct stock s;
	uint32_t l, n, peer;
	char bytes[4096];

	stock_open(&g, &s);
	l = guest_listener(&g, 8);
	n = stream(&g, l, 0);
	peer = guest_accept(&g, l);
	guest_dummy(&g, peer);
	if (ask(&g, CANAL_INR_HANDOVER, n, 0))
		fail("a handover");
	for (int i = 0; i < 20; i++) { /* more than the dummy holds */
		const struct canal_fifo *tx = &guest_sock(&g, peer)->tx;

		if (tx->tail - canal_load_acquire(&tx->head) < 100000)
			guest_put(&g, peer, NULL, 60000);
		guest_sync(&g);
		nap_us(1000);
	}
	guest_post(&g, CANAL_INR_CONNECT, n, CANAL_NONE, &nowhere, sizeof(nowhere));
	guest_sync(&g);
	while (recv(s.fd[0], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	if (!ask(&g, CANAL_INR_LISTEN, n, 4))
		fail("one that was handed over listens");
	if (guest_connect(&g, n, loopback(guest_sock(&g, l)->local.port)))
		fail("connecting anew");
	peer = guest_accept(&g, l);
	guest_put(&g, peer, "again", 5);
	while (recv(s.fd[0], bytes, sizeof(bytes), MSG_DONTWAIT) < 0)
		guest_sync(&g); /* which fails when canald stands still */
	if (memcmp(bytes, "again", 5))
		fail("bytes of the connection before");
	stock_close(&s);
	guest_close(&g);
}

/* Its last descriptor was closed with bytes in it; then it is asked to be another. */
static void closed_and_dissolved(void)
{
	static const struct canal_addr nowhere; /* family 0 */
	static const char bytes[4096];

	for (int how = 0; how < 3; how++) {
		struct guest g;
		struct stock s;
		uint32_t n;

		stock_open(&g, &s);
		n = stream(&g, guest_listener(&g, 8), 0);
		for (int idle = 0; idle < 100; idle++) {
			while (send(s.fd[0], bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
				idle = 0;
			nap_us(500);
		}
		close(s.fd[0]);
		s.fd[0] = -1;
		for (int i = 0; i < 10; i++) { /* canald hears of it */
			guest_sync(&g);
			nap_us(500);
		}
		if (how == 0)
			guest_post(&g, CANAL_INR_CONNECT, n, CANAL_NONE, &nowhere, sizeof(nowhere));
		else if (how == 1)
			post(&g, CANAL_INR_SHUTDOWN, n, SHUT_RDWR);
		guest_sync(&g);
		stock_close(&s);
		guest_close(&g); /* of which nothing is left, or the test says so */
	}
}

/* A lock that nobody gives back, and somebody who writes. */
static void locked(void)
{
	struct guest g;
	struct stock s;
	uint32_t n;

	stock_open(&g, &s);
	n = stream(&g, guest_listener(&g, 8), 0);
	guest_sock(&g, n)->rx.rx_lock = 12345;
	for (int i = 0; i < 100; i++) {
		(void)send(s.fd[0], "bytes", 5, MSG_DONTWAIT | MSG_NOSIGNAL);
		nap_us(200);
	}
	ask(&g, CANAL_INR_HANDOVER, n, 0);
	stock_close(&s);
	guest_close(&g);
}

/* Questions whose answers nobody reads: no poller waits for that. */
static void unread(void)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_STOCK);
	struct guest g;

	guest_open(&g);
	packet.number = 1;
	for (int i = 0; i < 2000 && !guest_closed(&g); i++)
		if (send(g.conn, &packet, sizeof(packet), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			nap_us(100);
	guest_close(&g);
}

/* The kernel's socket of @n; -1: none. */
static int kernel_of(struct guest *g, uint32_t n, uint32_t generation)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_KERNEL);
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { &packet, sizeof(packet) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	int fd = -1;

	packet.number = n;
	packet.extra = generation;
	if (conn_send(g->conn, &packet, sizeof(packet), NULL, 0) ||
	    recvmsg(g->conn, &msg, MSG_CMSG_CLOEXEC) != sizeof(packet))
		fail("KERNEL has no answer");
	if (CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/* A socket that both have, made to wait in each call: no call is made on it. */
static void shared_kernel(uint64_t seed)
{
	const uint8_t calls[] = { CANAL_INR_BIND,     CANAL_INR_LISTEN,     CANAL_INR_CONNECT,
				  CANAL_INR_SHUTDOWN, CANAL_INR_SETSOCKOPT, CANAL_INR_GETSOCKOPT,
				  CANAL_INR_HANDOVER };
	const struct linger linger = { .l_onoff = 1, .l_linger = 60 };
	struct canal_dgram record = { .len = 4 };
	struct guest g;
	struct stock s;
	uint32_t l, d;
	int fd[2];

	stock_open(&g, &s);
	l = guest_listener(&g, 8);
	(void)stream(&g, l, 0); /* nobody accepts it: it is connected once more */
	d = guest_number(&g);
	post(&g, CANAL_INR_SOCKET, d, AF_INET, SOCK_DGRAM, 0, 2);
	guest_sync(&g);
	if (kernel_of(&g, l, guest_sock(&g, l)->generation + 1) >= 0 ||
	    kernel_of(&g, 0xfffffff0u, 0) >= 0)
		fail("KERNEL gives what is not there");
	fd[0] = kernel_of(&g, l, guest_sock(&g, l)->generation);
	fd[1] = kernel_of(&g, d, guest_sock(&g, d)->generation);
	for (int i = 0; i < 2; i++) {
		if (fd[i] < 0) /* a guest with addresses gets none */
			continue;
		fcntl(fd[i], F_SETFL, 0);
		setsockopt(fd[i], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	}
	guest_put_dgram(&g, d, record, "late");
	for (int i = 0; i < 200; i++) {
		uint32_t n = random_below(&seed, 2) ? l : d;

		ask(&g, calls[random_below(&seed, sizeof(calls))], n, 1, 2, 3, 4);
		post(&g, i % 2 ? CANAL_INR_TX : CANAL_INR_RX, n, 0);
		if (guest_closed(&g))
			fail("a request closed the channel");
	}
	guest_sync(&g);
	close(fd[0]);
	close(fd[1]);
	stock_close(&s);
	guest_close(&g);
}

/* One whose connect() failed was canald's to be signalled for: SIGKILL, as we would have it. */
static void signals_of_kernel(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct guest g;
	struct stock s;
	uint32_t l, n;
	int fd;

	stock_open(&g, &s);
	l = guest_listener(&g, 8);
	n = guest_number(&g);
	post(&g, CANAL_INR_SOCKET, n, AF_INET, SOCK_STREAM, 0, 1);
	if (!guest_connect(&g, n, loopback(htons(1))))
		fail("somebody listens at port 1");
	fd = kernel_of(&g, n, guest_sock(&g, n)->generation);
	if (fd >= 0) { /* a guest with addresses gets none */
		to.sin_port = guest_sock(&g, l)->local.port;
		fcntl(fd, F_SETSIG, SIGKILL);
		fcntl(fd, F_SETFL, O_ASYNC);
		if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
			fail("connect: %s", strerror(errno));
		(void)send(fd, "x", 1, MSG_OOB | MSG_NOSIGNAL);
		close(fd);
	}
	guest_sync(&g);
	stock_close(&s);
	guest_close(&g);
}

/* What is on its way to one who does not read is no more than one answer's. */
static void on_their_way(void)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_STOCK);
	struct guest g;
	int fds[CANAL_LOCAL_FDS], count, queued = 1, total = 0;

	guest_open(&g);
	packet.number = CANAL_LOCAL_FDS;
	packet.token = ~0ull;
	for (int i = 0; i < 20; i++)
		if (conn_send(g.conn, &packet, sizeof(packet), NULL, 0))
			fail("STOCK");
	while (ioctl(g.conn, SIOCOUTQ, &queued) || queued)
		nap_us(100);
	for (int i = 0; i < 20; i++) {
		count = packet_take(&g, &packet, fds);
		if (count < 0)
			fail("a STOCK has no answer");
		for (int k = 0; k < count; k++)
			close(fds[k]);
		total += i < 19 ? count : 0; /* the last may be answered just now */
	}
	if (total > CANAL_LOCAL_FDS)
		fail("%d descriptors on their way", total);
	guest_close(&g);
}

void run_stock(uint64_t seed)
{
	for (int i = 0; i < 3; i++) {
		cycles();
		cycle_blocked();
		bytes_for_nobody();
		slots(seed + (uint64_t)i);
		wrong_head();
		dissolved();
		closed_and_dissolved();
		locked();
		unread();
		on_their_way();
		shared_kernel(seed + (uint64_t)i);
		signals_of_kernel();
	}
}
