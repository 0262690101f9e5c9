/* SPDX-License-Identifier: MIT */
/*
 * A program that opts in by source: sockets of AF_VSOCKET are canal's, all others
 * the kernel's. Linked with libcanal, run without LD_PRELOAD. Tells what it sees,
 * then keeps its sockets until its standard input ends.
 */
#include <arpa/inet.h>
#include <canal/vsocket.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union name {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static int checked(int result, const char *what)
{
	if (result >= 0)
		return result;
	printf("%s: %s\n", what, strerror(errno));
	exit(1);
}

static union name loopback(int family, socklen_t *len)
{
	union name name = { .sa.sa_family = family };

	if (family == AF_INET6)
		name.in6.sin6_addr = in6addr_loopback;
	else
		name.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	*len = family == AF_INET6 ? sizeof(name.in6) : sizeof(name.in);
	return name;
}

static void exchange(int from, int to, int type)
{
	char data[16] = "";
	struct pollfd p = { .fd = to, .events = POLLIN };

	checked(send(from, "exchange", 8, 0), "send");
	checked(poll(&p, 1, 5000), "poll");
	checked(recv(to, data, sizeof(data), type == SOCK_STREAM ? 0 : MSG_TRUNC), "recv");
	printf("  %s\n", data);
}

/* Two that are connected, made by socket(@domain); addresses are of @family. */
static void pair(const char *what, int domain, int family, int type)
{
	socklen_t len;
	union name name = loopback(family, &len);
	int fd[3] = { -1, -1, -1 }, value = -1;

	fd[0] = checked(socket(domain, type | SOCK_CLOEXEC, 0), "socket");
	fd[1] = checked(socket(domain, type, 0), "socket");
	checked(bind(fd[0], &name.sa, len), "bind");
	checked(getsockname(fd[0], &name.sa, &len), "getsockname");
	if (type == SOCK_STREAM)
		checked(listen(fd[0], 5), "listen");
	checked(connect(fd[1], &name.sa, len), "connect");
	fd[2] = type == SOCK_STREAM ? checked(accept(fd[0], NULL, NULL), "accept") : dup(fd[0]);
	checked(getsockopt(fd[2], SOL_SOCKET, SO_DOMAIN, &value, &(socklen_t){ sizeof(value) }),
		"getsockopt");
	printf("%s: canal %d %d %d, named as %d, is %d\n", what, canal_is_socket(fd[0]),
	       canal_is_socket(fd[1]), canal_is_socket(fd[2]), name.sa.sa_family, value);
	exchange(fd[1], fd[2], type);
	if (type == SOCK_STREAM)
		exchange(fd[2], fd[1], type);
}

int main(void)
{
	char byte;

	printf("version: %s\n", canal_version());
	printf("attached: %d\n", canal_attach());
	pair("canal's stream", AF_VSOCKET, AF_INET, SOCK_STREAM);
	pair("canal's stream, IPv6", AF_VSOCKET6, AF_INET6, SOCK_STREAM);
	pair("canal's datagrams", AF_VSOCKET, AF_INET, SOCK_DGRAM);
	pair("plain stream", AF_INET, AF_INET, SOCK_STREAM);
	pair("plain stream, IPv6", AF_INET6, AF_INET6, SOCK_STREAM);
	pair("plain datagrams", AF_INET, AF_INET, SOCK_DGRAM);
	printf("standard input: canal %d\n", canal_is_socket(0));
	printf("ready\n");
	fflush(stdout);
	return read(0, &byte, 1) == 0 ? 0 : 1;
}
