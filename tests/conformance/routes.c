/* SPDX-License-Identifier: MIT */
/*
 * Where no way leads: connect() and datagrams to addresses that the routes of test_routes.py
 * refuse, at once or, when a neighbour does not answer, after a while.
 */
#include "conformance.h"

#include <arpa/inet.h>

/* As test_routes.py has them; the last is a neighbour that there is not. */
enum way { UNREACHABLE, PROHIBITED, BLACKHOLED, THROWN, SILENT, WAYS };

static const char *const way_name[WAYS] = { "unreachable", "prohibited", "blackholed", "thrown",
					    "silent" };

static struct name far(enum way way)
{
	static const char *const address[][WAYS] = {
		{ "203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4", "198.51.100.2" },
		{ "2001:db8:1::1", "2001:db8:1::2", "2001:db8:1::3", "2001:db8:1::4",
		  "2001:db8:2::2" },
	};
	struct name name = loopback(9);

	if (family == AF_INET)
		NEED(inet_pton(AF_INET, address[0][way],
			       &((struct sockaddr_in *)(void *)&name.ss)->sin_addr));
	else
		NEED(inet_pton(AF_INET6, address[1][way],
			       &((struct sockaddr_in6 *)(void *)&name.ss)->sin6_addr));
	return name;
}

static void say_error(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	NEED(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	say("SO_ERROR: %s", error ? strerrorname_np(error) : "none");
}

static int make(int type, bool nonblock)
{
	return NEED(socket(family, type | (nonblock ? SOCK_NONBLOCK : 0), 0));
}

/* --- refused at once ----------------------------------------------------- */

static void connect_at_once(bool nonblock)
{
	for (enum way way = UNREACHABLE; way < SILENT; way++) {
		int fd = make(SOCK_STREAM, nonblock);
		struct name name = far(way);

		say("%s", way_name[way]);
		TELL(connect(fd, sa(&name), name.len));
		say_error(fd);
		say_events("after", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
		TELL(connect(fd, sa(&name), name.len));
		close(fd);
	}
}

static void at_once_blocking(void)
{
	connect_at_once(false);
}

static void at_once_nonblocking(void)
{
	connect_at_once(true);
}

/* The socket is as good as new. */
static void at_once_then_elsewhere(void)
{
	struct name none = far(UNREACHABLE), name;
	int l = listener(&name), fd = make(SOCK_STREAM, false);

	TELL(connect(fd, sa(&none), none.len));
	TELL(connect(fd, sa(&name), name.len));
	close(NEED(accept(l, NULL, NULL)));
	wait_end(fd);
	say_error(fd);
}

static void datagram_connects_at_once(void)
{
	for (enum way way = UNREACHABLE; way < SILENT; way++) {
		int fd = make(SOCK_DGRAM, false);
		struct name name = far(way);

		say("%s", way_name[way]);
		TELL(connect(fd, sa(&name), name.len));
		TELL(send(fd, "x", 1, 0));
		say_error(fd);
		close(fd);
	}
}

static void datagram_sent_at_once(void)
{
	for (enum way way = UNREACHABLE; way < SILENT; way++) {
		int fd = make(SOCK_DGRAM, false);
		struct name name = far(way);

		say("%s", way_name[way]);
		TELL(sendto(fd, "x", 1, 0, sa(&name), name.len));
		close(fd);
	}
}

/* --- refused after a while ----------------------------------------------- */

/*
 * What is ready when the error was told. Of POLLERR it is not: Linux has it until the
 * message is taken from the socket's error queue, where some versions put it, unasked.
 */
static void say_told(int fd)
{
	say_events("told", events_now(fd, POLLIN | POLLOUT | POLLRDHUP) & ~POLLERR);
}

static void silent_blocking(void)
{
	int fd = make(SOCK_STREAM, false);
	struct name name = far(SILENT);

	TELL(connect(fd, sa(&name), name.len));
	say_error(fd);
	say_told(fd);
}

/* A non-blocking one that has failed by now. */
static int silent(void)
{
	int fd = make(SOCK_STREAM, true);
	struct name name = far(SILENT);

	TELL(connect(fd, sa(&name), name.len));
	say_events("after", calls_wait(fd, POLLIN | POLLOUT | POLLRDHUP));
	return fd;
}

static void silent_nonblocking(void)
{
	int fd = silent();

	say_error(fd);
	say_error(fd);
	say_told(fd);
}

static void silent_told_by_connect(void)
{
	struct name name = far(SILENT);
	int fd = silent();

	TELL(connect(fd, sa(&name), name.len));
	say_error(fd);
}

static void silent_told_by_send(void)
{
	int fd = silent();

	TELL(send(fd, "x", 1, MSG_NOSIGNAL));
	TELL(send(fd, "x", 1, MSG_NOSIGNAL));
	say_error(fd);
}

static void silent_told_by_recv(void)
{
	int fd = silent();
	char byte;

	TELL(recv(fd, &byte, 1, 0));
	TELL(recv(fd, &byte, 1, 0));
	say_error(fd);
}

static void silent_then_elsewhere(void)
{
	struct name name;
	int l = listener(&name), fd = silent();

	say_error(fd);
	set_nonblock(fd, false);
	TELL(connect(fd, sa(&name), name.len)); /* what came of the first is not told yet */
	TELL(connect(fd, sa(&name), name.len));
	close(NEED(accept(l, NULL, NULL)));
	wait_end(fd);
}

/* Only who asks for all errors is told of this one. */
static void datagram_to_silent(void)
{
	int fd = make(SOCK_DGRAM, true), on = 1;
	struct name name = far(SILENT);
	char byte;

	if (family == AF_INET)
		TELL(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof(on)));
	else
		TELL(setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof(on)));
	TELL(connect(fd, sa(&name), name.len));
	TELL(send(fd, "x", 1, 0));
	say_events("after", calls_wait(fd, POLLIN));
	TELL(recv(fd, &byte, 1, 0));
	TELL(recv(fd, &byte, 1, 0));
	say_error(fd);
}

const struct call_case cases[] = {
	{ "at_once_blocking", at_once_blocking },
	{ "at_once_nonblocking", at_once_nonblocking },
	{ "at_once_then_elsewhere", at_once_then_elsewhere },
	{ "datagram_connects_at_once", datagram_connects_at_once },
	{ "datagram_sent_at_once", datagram_sent_at_once },
	{ "silent_blocking", silent_blocking },
	{ "silent_nonblocking", silent_nonblocking },
	{ "silent_told_by_connect", silent_told_by_connect },
	{ "silent_told_by_send", silent_told_by_send },
	{ "silent_told_by_recv", silent_told_by_recv },
	{ "silent_then_elsewhere", silent_then_elsewhere },
	{ "datagram_to_silent", datagram_to_silent },
};
const size_t case_count = COUNT(cases);
