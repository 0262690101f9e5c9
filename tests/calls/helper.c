/* SPDX-License-Identifier: MIT */
/*
 * What missed.c starts: linked statically, so that no library gets in, and dynamically.
 *
 *	helper echo FD		lines from FD come back in capitals, until the end
 *	helper plain FD		the same as they are
 *	helper say FD TEXT	writes TEXT and a line's end
 *	helper name FD		writes whether FD has a peer with a port
 *	helper late FD		waits with poll() for a line, echoes it, shuts down
 *	helper take FD		receives a descriptor from FD, a UNIX socket: echo there
 *	helper accept FD	accepts one connection and echoes there
 */
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
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

static int take(int from)
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
		return fail("recvmsg");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return echo(fd, toupper);
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
	return 2;
}
