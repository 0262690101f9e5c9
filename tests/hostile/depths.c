/* SPDX-License-Identifier: MIT */
/*
 * Requests in the middle of requests: while canald serves one it hears of packets,
 * ends and processes, and what it hears has more of them served.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

#define CONNS 96
#define PACKETS 120
#define WAIT_MS 30000

/* Processes of the channel, as canald sees it. */
struct crowd {
	struct guest g;
	uint32_t client[CONNS + 1]; /* the first has g.conn */
	int conn[CONNS + 1];
	uint32_t sock; /* some socket, with a dummy */
	uint32_t stream;
};

static void crowd_open(struct crowd *c, unsigned int count)
{
	guest_open(&c->g);
	c->client[0] = c->g.client;
	c->conn[0] = c->g.conn;
	for (unsigned int i = 1; i <= count; i++) {
		if (guest_join(&c->g))
			fail("JOIN");
		c->client[i] = c->g.client;
		c->conn[i] = c->g.fds[c->g.fd_count - 1];
	}
	c->g.client = c->client[0];
	c->sock = guest_socket(&c->g, AF_INET, SOCK_DGRAM);
	c->stream = guest_socket(&c->g, AF_INET, SOCK_STREAM);
	guest_sync(&c->g);
}

/* Requests that take a while: what follows, and what is sent meanwhile, is there at once. */
static void brake(struct crowd *c, int requests)
{
	for (int i = 0; i < requests; i++)
		post(&c->g, CANAL_INR_SETSOCKOPT, c->stream, IPPROTO_TCP, TCP_CONGESTION, 1);
}

/* Has the ring served, and is answered: there is no such socket. */
static void ask_kernel(const struct crowd *c, int conn)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_KERNEL);

	packet.number = c->sock;
	packet.extra = guest_sock(&c->g, c->sock)->generation + 1;
	if (conn_send(conn, &packet, sizeof(packet), NULL, 0))
		fail("KERNEL");
}

static void kernel_answered(int conn)
{
	struct pollfd pfd = { .fd = conn, .events = POLLIN };
	struct canal_local packet;

	if (poll(&pfd, 1, WAIT_MS) != 1)
		fail("a packet is not answered");
	if (recv(conn, &packet, sizeof(packet), 0) != sizeof(packet) || packet.number)
		fail("KERNEL gives what is not there");
}

/* One slot of the stock of that connection. */
static void ask_stock(int conn)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_STOCK);
	int fds[2];

	packet.number = 1;
	if (conn_send(conn, &packet, sizeof(packet), NULL, 0))
		fail("STOCK");
	(void)conn_answer(conn, &packet, fds);
	if (packet.number == 1)
		close(fds[0]);
}

/* What has canald hear the packets of client @number. */
static bool post_hear(struct crowd *c, uint32_t number)
{
	bool posted;

	c->g.client = number;
	posted = post(&c->g, CANAL_INR_ASYNC, c->sock, CANAL_NONE, CANAL_NONE);
	c->g.client = c->client[0];
	return posted;
}

/* Each bind has canald look what the kernel has to tell: packets, which have binds served. */
static void binds_in_packets(void)
{
	struct crowd c;
	struct canal_addr taken;
	uint32_t other;

	crowd_open(&c, CONNS);
	if (guest_name(&c.g, CANAL_INR_BIND, c.sock, loopback(0)))
		fail("bind");
	taken = loopback(guest_sock(&c.g, c.sock)->local.port);
	other = guest_socket(&c.g, AF_INET, SOCK_DGRAM);
	for (int round = 0; round < 20; round++) {
		brake(&c, 60);
		for (int i = 0; i < 300; i++)
			guest_post(&c.g, CANAL_INR_BIND, other, CANAL_NONE, &taken, sizeof(taken));
		for (int i = 0; i <= CONNS; i++)
			ask_kernel(&c, c.conn[i]);
		for (int i = 0; i <= CONNS; i++)
			kernel_answered(c.conn[i]);
		guest_sync(&c.g);
	}
	guest_close(&c.g);
}

/* A process that ends while canald serves what it asked for, or what its packets have served. */
static void ends_in_requests(void)
{
	for (int round = 0; round < 60; round++) {
		struct crowd c;

		crowd_open(&c, 1);
		if (round & 1)
			ask_stock(c.conn[1]);
		brake(&c, 60);
		for (int i = 0; i < 900 && post_hear(&c, c.client[1]); i++)
			;
		if (round & 2)
			ask_kernel(&c, c.conn[1]);
		shutdown(c.conn[1], SHUT_RDWR);
		guest_sync(&c.g);
		guest_close(&c.g);
	}
}

/* The same of one that is a process: its end is told, too. */
static void dies_in_requests(void)
{
	struct crowd c;

	crowd_open(&c, 0);
	for (int round = 0; round < 20; round++) {
		pid_t pid = fork();

		if (!pid) {
			if (guest_join(&c.g))
				_exit(1);
			ask_stock(c.g.fds[c.g.fd_count - 1]);
			brake(&c, 60);
			for (int i = 0; i < 900; i++)
				post(&c.g, CANAL_INR_ASYNC, c.sock, CANAL_NONE, CANAL_NONE);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		guest_sync(&c.g);
	}
	guest_close(&c.g);
}

/* Requests that have packets heard, which have requests served, and so on. */
static void ever_deeper(void)
{
	struct crowd c;

	crowd_open(&c, CONNS);
	brake(&c, 900);
	for (int i = 0; i < PACKETS * (CONNS + 1); i++)
		ask_kernel(&c, c.conn[i % (CONNS + 1)]);
	for (int i = 0; i < PACKETS * (CONNS + 1) && !guest_closed(&c.g);)
		i += post_hear(&c, c.client[i % (CONNS + 1)]);
	for (int i = 0; i < PACKETS * (CONNS + 1); i++)
		kernel_answered(c.conn[i % (CONNS + 1)]);
	guest_sync(&c.g);
	guest_close(&c.g);
}

static const struct {
	const char *name;
	void (*run)(void);
} depths[] = {
	{ "binds_in_packets", binds_in_packets },
	{ "ends_in_requests", ends_in_requests },
	{ "dies_in_requests", dies_in_requests },
	{ "ever_deeper", ever_deeper },
};

void run_depths(uint64_t seed)
{
	(void)seed;
	for (size_t i = 0; i < ARRAY_LEN(depths); i++) {
		if (only && strcmp(only, depths[i].name))
			continue;
		fprintf(stderr, "%s\n", depths[i].name);
		depths[i].run();
		printf("%s\n", depths[i].name);
	}
}
