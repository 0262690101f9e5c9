/* SPDX-License-Identifier: MIT */
/*
 * Calls to be counted: callcount CALL COUNT [SOCKETS].
 *
 * Purpose: makes COUNT times the one call CALL on connected sockets of its own, where it
 * finds bytes, room or events; measured() has nothing but that call in it, and
 * tests/bench/instructions has valgrind count what is spent there. What has to go before
 * or behind (sending what is received, and the reverse) is done in between.
 *
 * Failure: any call that does not give what it should ends the program with 1.
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define LEN 64
#define BATCH 100
#define MOST 64

static int near[MOST], far[MOST], set;
static unsigned int sockets = 1;
static struct pollfd fds[MOST];
static char bytes[LEN];

enum need { NOTHING, BYTES, ROOM, EVENT };

static long by_send(void)
{
	return send(near[0], bytes, LEN, 0);
}

static long by_recv(void)
{
	return recv(near[0], bytes, LEN, 0);
}

static long by_write(void)
{
	return write(near[0], bytes, LEN);
}

static long by_read(void)
{
	return read(near[0], bytes, LEN);
}

static long by_sendmsg(void)
{
	struct iovec iov = { bytes, LEN };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	return sendmsg(near[0], &m, 0);
}

static long by_recvmsg(void)
{
	struct iovec iov = { bytes, LEN };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	return recvmsg(near[0], &m, 0);
}

static long by_poll(void)
{
	return poll(fds, sockets, -1);
}

static long by_select(void)
{
	fd_set rd;

	FD_ZERO(&rd);
	for (unsigned int i = 0; i < sockets; i++)
		FD_SET(near[i], &rd);
	return select(near[sockets - 1] + 1, &rd, NULL, NULL, NULL);
}

static long by_epoll_wait(void)
{
	struct epoll_event ev[8];

	return epoll_wait(set, ev, 8, -1);
}

static long by_epoll_none(void)
{
	struct epoll_event ev[8];

	return epoll_wait(set, ev, 8, 0);
}

static const struct call {
	const char *name;
	long (*make)(void);
	enum need need;
	long gives;
} calls[] = {
	{ "send", by_send, ROOM, LEN },
	{ "recv", by_recv, BYTES, LEN },
	{ "write", by_write, ROOM, LEN },
	{ "read", by_read, BYTES, LEN },
	{ "sendmsg", by_sendmsg, ROOM, LEN },
	{ "recvmsg", by_recvmsg, BYTES, LEN },
	{ "poll", by_poll, EVENT, 1 },
	{ "select", by_select, EVENT, 1 },
	{ "epoll_wait", by_epoll_wait, EVENT, 1 },
	{ "epoll_wait_none", by_epoll_none, NOTHING, 0 },
};

/* What valgrind counts. */
static __attribute__((noinline)) void measured(const struct call *c, unsigned int count)
{
	while (count--)
		if (c->make() != c->gives)
			err(1, "%s", c->name);
}

static void pair(int listener, const struct sockaddr_in *to, unsigned int i)
{
	struct epoll_event ev = { .events = EPOLLIN };

	near[i] = socket(AF_INET, SOCK_STREAM, 0);
	if (near[i] < 0 || connect(near[i], (const struct sockaddr *)to, sizeof(*to)) < 0)
		err(1, "connect");
	far[i] = accept(listener, NULL, NULL);
	if (far[i] < 0 || epoll_ctl(set, EPOLL_CTL_ADD, near[i], &ev) < 0)
		err(1, "accept");
	fds[i] = (struct pollfd){ .fd = near[i], .events = POLLIN };
}

static void set_up(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	set = epoll_create1(0);
	if (bind(listener, (struct sockaddr *)&at, len) < 0 || listen(listener, MOST) < 0 ||
	    getsockname(listener, (struct sockaddr *)&at, &len) < 0 || set < 0)
		err(1, "listen");
	for (unsigned int i = 0; i < sockets; i++)
		pair(listener, &at, i);
}

/* Moves one batch from one end to the other, and waits until all is there. */
static void fill(int from, int to, unsigned int count)
{
	unsigned int there = 0;

	for (unsigned int i = 0; i < count; i++)
		if (send(from, bytes, LEN, 0) != LEN)
			err(1, "send");
	while (there < count * LEN)
		if (ioctl(to, FIONREAD, &there) < 0)
			err(1, "FIONREAD");
}

static void drain(int from, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (recv(from, bytes, LEN, MSG_WAITALL) != LEN)
			err(1, "recv");
}

int main(int argc, char **argv)
{
	const struct call *c = calls;
	unsigned int count;

	if (argc < 3)
		errx(2, "usage: callcount CALL COUNT [SOCKETS]");
	while (strcmp(c->name, argv[1]))
		if (++c == calls + sizeof(calls) / sizeof(*calls))
			errx(2, "%s: no such call", argv[1]);
	count = (unsigned int)atoi(argv[2]) / BATCH;
	if (argc > 3)
		sockets = (unsigned int)atoi(argv[3]);
	if (!sockets || sockets > MOST)
		errx(2, "1 to %d sockets", MOST);
	set_up();
	if (c->need == EVENT)
		fill(far[sockets - 1], near[sockets - 1], 1);
	measured(c, c->need == BYTES ? 0 : 1);
	if (c->need == ROOM)
		drain(far[0], 1);
	while (count--) {
		if (c->need == BYTES)
			fill(far[0], near[0], BATCH);
		measured(c, BATCH);
		if (c->need == ROOM)
			drain(far[0], BATCH);
	}
	return 0;
}
