/* SPDX-License-Identifier: MIT */
/* The control connection: who may attach, what is sent there, and how it ends. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

/* --- attaching --------------------------------------------------------- */

/* A first packet that canald does not welcome: it is refused, or just dropped. */
static void first(const void *packet, size_t len, const int *fds, unsigned int fd_count)
{
	struct canal_local answer;
	int conn = conn_open(), got[2];

	if (conn_send(conn, packet, len, fds, fd_count))
		fail("a first packet cannot be sent");
	if (!conn_answer(conn, &answer, got))
		fail("a first packet was welcome that should not be");
	close(conn);
}

/* Something like canalctl's. Whatever the answer is, there is one. */
static void question(const char *text)
{
	int conn = conn_open();
	struct pollfd pfd = { .fd = conn, .events = POLLIN };

	conn_send(conn, text, strlen(text), NULL, 0);
	if (poll(&pfd, 1, LONGEST_MS) != 1)
		fail("no answer to %s", text);
	close(conn);
}

static void first_packets(void)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_HELLO);
	int fds[30];

	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = STDERR_FILENO;
	first("x", 1, NULL, 0);
	question("{");
	question("{\"cmd\":[[[[[[[[");
	question("{\"cmd\":{}}");
	first(&packet, 8, NULL, 0);
	first(&packet, sizeof(packet) - 1, fds, ARRAY_LEN(fds));
	packet.version++;
	first(&packet, sizeof(packet), NULL, 0);
	packet = packet_of(CANAL_LOCAL_DUMMY);
	first(&packet, sizeof(packet), fds, 1);
	packet = packet_of(CANAL_LOCAL_WELCOME);
	first(&packet, sizeof(packet), NULL, 0);
}

static void joins(void)
{
	struct guest g;
	uint64_t token;

	guest_open(&g);
	token = g.token;
	g.token ^= 1;
	if (guest_join(&g) != -ECONNREFUSED)
		fail("joined with a wrong token");
	g.token = 0;
	if (guest_join(&g) != -ECONNREFUSED)
		fail("joined without a token");
	g.token = token;
	g.channel_id += 1000000;
	if (guest_join(&g) != -ECONNREFUSED)
		fail("joined a channel that is not there");
	g.channel_id -= 1000000;
	for (int i = 0; i < 50; i++)
		if (guest_join(&g))
			fail("could not join");
	guest_sync(&g);
	guest_close(&g);
}

/* --- descriptors ------------------------------------------------------- */

static void tell(struct guest *g, uint16_t type, uint32_t number, uint32_t extra, int fd)
{
	struct canal_local packet = packet_of(type);

	packet.number = number;
	packet.extra = extra;
	conn_send(g->conn, &packet, sizeof(packet), &fd, 1);
}

/* Bells that are full, that block, that nobody hears, the wrong end of one. */
static void bells(void)
{
	struct guest g;
	int ends[2];
	char byte = 0;

	guest_open(&g);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends))
		fail("socketpair: %s", strerror(errno));
	guest_keep(&g, ends[0]);
	guest_keep(&g, ends[1]);
	tell(&g, CANAL_LOCAL_WAITER, 2, g.wait[2].serial, ends[1]);
	while (send(ends[1], &byte, 1, MSG_NOSIGNAL) == 1)
		;
	fcntl(ends[1], F_SETFL, 0);
	fcntl(ends[0], F_SETFL, 0);
	tell(&g, CANAL_LOCAL_WAITER, 3, g.wait[3].serial, ends[0]);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		fail("socketpair: %s", strerror(errno));
	close(ends[0]);
	tell(&g, CANAL_LOCAL_WAITER, 4, g.wait[4].serial, ends[1]);
	close(ends[1]);
	for (int i = 0; i < 300; i++)
		for (uint32_t slot = 2; slot < 5; slot++) {
			g.wait[slot].armed = 1;
			guest_call(&g, CANAL_INR_NOP, 0, slot, "", 1);
		}
	if (guest_closed(&g))
		fail("bells closed the channel");
	guest_close(&g);
}

/* Far ends of numbers that are others', not granted, or out of range. */
static void dummies(void)
{
	struct guest g;
	uint32_t n;
	int ends[2];

	guest_open(&g);
	n = guest_socket(&g, AF_INET, SOCK_STREAM);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		fail("socketpair: %s", strerror(errno));
	for (int i = 0; i < 50; i++) {
		tell(&g, CANAL_LOCAL_DUMMY, n, 1, ends[1]);
		tell(&g, CANAL_LOCAL_DUMMY, n, 77, ends[1]);
		tell(&g, CANAL_LOCAL_DUMMY, n + 1, 1, ends[1]);
		tell(&g, CANAL_LOCAL_DUMMY, 20000, 0, ends[1]);
		tell(&g, CANAL_LOCAL_DUMMY, CANAL_NONE, 0, ends[1]);
		tell(&g, CANAL_LOCAL_DUMMY, 0x80000000u, 1, ends[1]);
	}
	close(ends[0]);
	close(ends[1]);
	guest_sync(&g);
	if (guest_closed(&g))
		fail("dummies closed the channel");
	guest_close(&g);
}

/* What canald holds would keep itself open: nothing of it may stay. */
static void cycles(void)
{
	struct guest g;
	int ends[2];

	guest_open(&g);
	for (int i = 0; i < 3; i++) {
		uint32_t a = guest_number(&g), b = guest_number(&g);

		post(&g, CANAL_INR_SOCKET, a, AF_INET, SOCK_STREAM);
		post(&g, CANAL_INR_SOCKET, b, AF_INET, SOCK_STREAM);
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
			fail("socketpair: %s", strerror(errno));
		if (i == 0) /* both ends */
			tell(&g, CANAL_LOCAL_DUMMY, a, guest_sock(&g, a)->generation, ends[0]);
		else /* the other end, or the connection, in the queue */
			conn_send(ends[0], "x", 1, i == 1 ? &ends[0] : &g.conn, 1);
		tell(&g, CANAL_LOCAL_DUMMY, b, guest_sock(&g, b)->generation, ends[1]);
		if (i && !guest_closed(&g))
			conn_send(ends[0], "x", 1, &ends[0], 1);
		close(ends[0]);
		close(ends[1]);
		guest_sync(&g);
	}
	if (guest_closed(&g))
		fail("cycles closed the channel");
	guest_close(&g);
}

/* --- closing ------------------------------------------------------------ */

#define LINGER_SECONDS 60

/* What is sent, and how, so that canald has the last of it. */
enum closing { AS_DUMMY, AS_WAITER, TOO_MANY, BEHIND_A_DUMMY, UNREAD, BEFORE_HELLO, CLOSINGS };
static const char *const closing_name[CLOSINGS] = {
	"as a dummy", "as a waiter", "one too many", "behind a dummy", "unread", "before HELLO"
};

static int backlog_open(struct sockaddr_in *ret_name)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = 4096;
	socklen_t len = sizeof(*ret_name);

	*ret_name = (struct sockaddr_in){ .sin_family = AF_INET,
					  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	if (bind(fd, (struct sockaddr *)ret_name, len) || listen(fd, 64) ||
	    getsockname(fd, (struct sockaddr *)ret_name, &len))
		fail("a listener: %s", strerror(errno));
	return fd;
}

/*
 * A connection whose last close() waits, for as long as its owner likes: with
 * SO_LINGER, and bytes that nobody reads.
 */
static int lingering(const struct sockaddr_in *to)
{
	struct linger linger = { .l_onoff = 1, .l_linger = LINGER_SECONDS };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	static const uint8_t bytes[65536];

	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)))
		fail("connect: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	return fd;
}

/* Dies at once: a process that ends does not linger, so canald is the one. */
static void leave_closing(enum closing how, const struct sockaddr_in *to)
{
	struct canal_local packet =
		packet_of(how == AS_WAITER ? CANAL_LOCAL_WAITER : CANAL_LOCAL_DUMMY);
	unsigned int count = how == TOO_MANY ? 40 : 1;
	struct guest g;
	int fds[40], ends[2];

	guest_open(&g);
	for (unsigned int n = 0; n < count; n++)
		fds[n] = lingering(to);
	switch (how) {
	case BEHIND_A_DUMMY:
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
			fail("socketpair: %s", strerror(errno));
		packet.number = guest_number(&g);
		packet.extra = guest_sock(&g, packet.number)->generation;
		conn_send(ends[0], "x", 1, fds, 1);
		conn_send(g.conn, &packet, sizeof(packet), &ends[1], 1);
		break;
	case BEFORE_HELLO:
		conn_send(conn_open(), "x", 1, fds, 1);
		break;
	case UNREAD: /* the first packet closes the channel */
		conn_send(g.conn, "x", 1, NULL, 0);
		/* fall through */
	default:
		conn_send(g.conn, &packet, sizeof(packet), fds, count);
	}
	raise(SIGKILL);
}

/* Nothing that a guest sends makes canald wait when it is closed. */
static void closing(enum closing how)
{
	struct sockaddr_in name;
	int fd = backlog_open(&name), status;
	struct guest g;
	uint64_t before;
	pid_t pid;

	guest_open(&g);
	pid = fork();
	if (pid == 0)
		leave_closing(how, &name);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) ||
	    WTERMSIG(status) != SIGKILL)
		fail("lingering %s: status %d", closing_name[how], status);
	nap_us(20000);
	before = now_ms();
	for (int n = 0; n < 20; n++)
		guest_sync(&g);
	question("{\"cmd\":\"status\"}");
	if (now_ms() - before > LINGER_SECONDS * 1000 / 2)
		fail("canald waited %u ms: a lingering connection sent %s",
		     (unsigned int)(now_ms() - before), closing_name[how]);
	guest_close(&g);
	close(fd);
}

void run_control(uint64_t seed)
{
	(void)seed;
	first_packets();
	joins();
	bells();
	dummies();
	cycles();
	for (int how = 0; how < CLOSINGS; how++)
		closing(how);
	printf("ok\n");
}

/* --- many -------------------------------------------------------------- */

#define HELLOS 1000
#define SILENT 400

void run_flood(uint64_t seed)
{
	struct guest g;
	int conns[SILENT];

	(void)seed;
	for (int i = 0; i < HELLOS; i++) {
		guest_open(&g);
		guest_close(&g);
	}
	for (int i = 0; i < SILENT; i++)
		conns[i] = conn_open();
	guest_open(&g); /* there is still room for who has something to say */
	guest_sync(&g);
	for (int i = 0; i < 20000 && !guest_closed(&g); i++) {
		struct canal_local packet = packet_of(CANAL_LOCAL_DUMMY);

		packet.number = 30000;
		conn_send(g.conn, &packet, sizeof(packet), NULL, 0);
	}
	guest_wait_closed(&g, LONGEST_MS);
	guest_close(&g);
	for (int i = 0; i < SILENT; i++)
		close(conns[i]);
	printf("%d channels\n", HELLOS);
}

/* --- deaths ------------------------------------------------------------ */

enum death { DIE_CLAIMED, DIE_ASKING, DIE_TELLING, DIE_SENDING, DIE_JOINED, DEATHS };

static void die(enum death how, uint64_t *rnd)
{
	struct guest g;
	uint64_t pos = 0;
	uint32_t a, b;

	guest_open(&g);
	switch (how) {
	case DIE_CLAIMED: /* and what lies behind it */
		canal_ring_claim(g.inr, g.shape.inr.count, &g.region->inr_tail, g.client, &pos);
		for (int i = 0; i < 20; i++)
			post(&g, CANAL_INR_SOCKET, guest_number(&g), AF_INET, SOCK_STREAM);
		break;
	case DIE_ASKING:
		for (uint32_t i = random_below(rnd, 200); i; i--)
			post(&g, CANAL_INR_SOCKET, guest_number(&g), AF_INET, SOCK_STREAM);
		break;
	case DIE_TELLING:
		for (uint32_t i = random_below(rnd, 200); i; i--)
			guest_socket(&g, AF_INET, SOCK_STREAM);
		break;
	case DIE_SENDING:
		guest_pair(&g, guest_listener(&g, 8), &a, &b);
		for (uint32_t i = random_below(rnd, 12); i; i--)
			guest_put(&g, a, NULL, 30000);
		break;
	default:
		for (uint32_t i = random_below(rnd, 20); i; i--)
			if (guest_join(&g))
				fail("could not join");
		guest_listener(&g, 8);
	}
	raise(SIGKILL);
}

/*
 * A process that left the channel but kept the memory: it goes on asking. When
 * it is gone, too, nothing may be left.
 */
static void ghost(void)
{
	struct guest g;
	uint32_t numbers[40];

	guest_open(&g);
	guest_sync(&g);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		numbers[i] = guest_number(&g);
	/* a socket whose dummy stays keeps the channel */
	guest_socket(&g, AF_INET, SOCK_STREAM);
	guest_listener(&g, 8);
	guest_sync(&g);
	close(g.conn);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		post(&g, CANAL_INR_SOCKET, numbers[i], AF_INET, SOCK_STREAM);
		guest_kick(&g);
		nap_us(1000);
	}
	raise(SIGKILL);
}

static void child(enum death how, uint64_t seed)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		alarm(80);
		if (how == DEATHS)
			ghost();
		die(how, &seed);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) ||
	    WTERMSIG(status) != SIGKILL)
		fail("death %d: status %d", how, status);
}

void run_deaths(uint64_t seed)
{
	for (int i = 0; i < 8 * DEATHS; i++)
		child(i % DEATHS, random_next(&seed));
	for (int i = 0; i < 3; i++)
		child(DEATHS, 0);
	printf("ok\n");
}
