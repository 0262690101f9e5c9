/* SPDX-License-Identifier: MIT */
/*
 * What started.c and given.c start: linked statically, so that no library gets in, and dynamically.
 *
 *	helper echo FD		lines from FD come back in capitals, until the end
 *	helper plain FD		the same as they are
 *	helper say FD TEXT	writes TEXT and a line's end
 *	helper name FD		writes whether FD has a peer with a port
 *	helper late FD		waits with poll() for a line, echoes it, shuts down
 *	helper take FD		receives a descriptor from FD, a UNIX socket: echo there
 *	helper fetch NAME	the same from an abstract UNIX socket, and then as who
 *	helper accept FD	accepts one connection and echoes there
 *	helper limited FD	the same, and before it RLIMIT_AS as it finds it
 *	helper who FD		accepts one, once poll() says so, and tells who it is
 *	helper answer FD	sends one datagram back to where it came from
 *	helper activated FD	the same if LISTEN_PID and LISTEN_FDS say so
 *	helper have FD		ends
 *	helper dial FD PORT	connects FD to a port of 127.0.0.1 or ::1, says so there
 */
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static int fail(const char *what)
{
	fprintf(stderr, "helper: %s: %s\n", what, strerror(errno));
	return 1;
}

static int plain(int byte)
{
	return byte;
}

static int echo(int fd, int (*how)(int))
{
	char text[256];
	ssize_t got;

	while ((got = read(fd, text, sizeof(text))) > 0) {
		for (ssize_t i = 0; i < got; i++)
			text[i] = (char)how((unsigned char)text[i]);
		if (write(fd, text, (size_t)got) != got)
			return fail("write");
	}
	return got < 0 ? fail("read") : 0;
}

static int name(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	const char *text = "no\n";

	if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0 && ss.ss_family == AF_INET)
		text = ((struct sockaddr_in *)&ss)->sin_port ? "port\n" : "no port\n";
	if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0 && ss.ss_family == AF_INET6)
		text = ((struct sockaddr_in6 *)&ss)->sin6_port ? "port\n" : "no port\n";
	return write(fd, text, strlen(text)) < 0 ? fail("write") : 0;
}

static int late(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char text[256];
	ssize_t got;

	if (poll(&p, 1, 10000) != 1 || !(p.revents & POLLIN))
		return fail("poll for bytes");
	got = read(fd, text, sizeof(text));
	p.events = POLLOUT;
	if (got <= 0 || poll(&p, 1, 10000) != 1 || !(p.revents & POLLOUT))
		return fail("poll for room");
	if (write(fd, text, (size_t)got) != got)
		return fail("write");
	p.events = POLLIN;
	if (shutdown(fd, SHUT_WR) || poll(&p, 1, 10000) != 1)
		return fail("shutdown");
	return read(fd, text, sizeof(text)) == 0 ? 0 : fail("the end");
}

static int receive(int from)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	int fd;

	if (recvmsg(from, &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

static int take(int from)
{
	int fd = receive(from);

	return fd < 0 ? fail("recvmsg") : echo(fd, toupper);
}

static int who(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct sockaddr_storage ss = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof(ss);
	int c;

	if (poll(&p, 1, 10000) != 1 || !(p.revents & POLLIN))
		return fail("poll for a connection");
	c = accept4(fd, (struct sockaddr *)&ss, &len, SOCK_CLOEXEC);
	if (c < 0)
		return fail("accept4");
	return dprintf(c, "family %d %s\n", ss.ss_family,
		       ((struct sockaddr_in *)&ss)->sin_port ? "port" : "no port") < 0;
}

static int fetch(const char *name)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(un.sun_path + 1, name, sizeof(un.sun_path) - 2);
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)))
		return fail("connect");
	fd = receive(fd);
	return fd < 0 ? fail("recvmsg") : who(fd);
}

static int activated(int fd)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	socklen_t len = sizeof(int);
	int listens = 0;

	if (!pid || atoi(pid) != getpid() || !count || atoi(count) != 1)
		return fail("LISTEN_PID, LISTEN_FDS");
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) || !listens)
		return fail("SO_ACCEPTCONN");
	return echo(accept(fd, NULL, NULL), toupper);
}

static int answer(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	char text[256];
	ssize_t got = recvfrom(fd, text, sizeof(text), 0, (struct sockaddr *)&ss, &len);

	if (got < 0)
		return fail("recvfrom");
	for (ssize_t i = 0; i < got; i++)
		text[i] = (char)toupper((unsigned char)text[i]);
	return sendto(fd, text, (size_t)got, 0, (struct sockaddr *)&ss, len) == got
		       ? 0
		       : fail("sendto");
}

static int dial(int fd, int port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((in_port_t)port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
				    .sin6_addr = IN6ADDR_LOOPBACK_INIT,
				    .sin6_port = htons((in_port_t)port) };
	int domain = 0;
	socklen_t len = sizeof(domain);
	bool is4;

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len))
		return fail("getsockopt");
	is4 = domain == AF_INET;
	if (connect(fd, is4 ? (struct sockaddr *)&in : (struct sockaddr *)&in6,
		    is4 ? sizeof(in) : sizeof(in6)))
		return fail("connect");
	return write(fd, "dialled", 7) == 7 ? 0 : fail("write");
}

static int limited(int fd)
{
	int c = accept(fd, NULL, NULL);
	struct rlimit limit;

	if (getrlimit(RLIMIT_AS, &limit) ||
	    dprintf(c, "%lu of %lu\n", limit.rlim_cur, limit.rlim_max) < 0)
		return fail("getrlimit");
	return echo(c, toupper);
}

int main(int argc, char **argv)
{
	int fd = argc > 2 ? atoi(argv[2]) : -1;

	if (argc < 3)
		return 2;
	if (!strcmp(argv[1], "echo"))
		return echo(fd, toupper);
	if (!strcmp(argv[1], "plain"))
		return echo(fd, plain);
	if (!strcmp(argv[1], "say"))
		return dprintf(fd, "%s\n", argv[3]) < 0 ? fail("dprintf") : 0;
	if (!strcmp(argv[1], "name"))
		return name(fd);
	if (!strcmp(argv[1], "late"))
		return late(fd);
	if (!strcmp(argv[1], "take"))
		return take(fd);
	if (!strcmp(argv[1], "accept"))
		return echo(accept(fd, NULL, NULL), toupper);
	if (!strcmp(argv[1], "limited"))
		return limited(fd);
	if (!strcmp(argv[1], "fetch"))
		return fetch(argv[2]);
	if (!strcmp(argv[1], "activated"))
		return activated(fd);
	if (!strcmp(argv[1], "have"))
		return 0;
	if (!strcmp(argv[1], "who"))
		return who(fd);
	if (!strcmp(argv[1], "answer"))
		return answer(fd);
	if (!strcmp(argv[1], "dial") && argc > 3)
		return dial(fd, atoi(argv[3]));
	return 2;
}
