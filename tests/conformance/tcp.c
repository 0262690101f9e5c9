/* SPDX-License-Identifier: MIT */
/* What only TCP has: fast open, deferred accept, dual stack, TCP_INFO, control messages. */
#include "conformance.h"

#include <netinet/tcp.h>

#ifndef TCP_CM_INQ
#define TCP_CM_INQ TCP_INQ
#endif

static char data[256];

static void fastopen_server(void)
{
	struct name name = loopback(0);
	int fd = NEED(socket(family, SOCK_STREAM, 0)), queue = 5, got;

	TELL(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof(queue)));
	NEED(bind(fd, sa(&name), name.len));
	TELL(listen(fd, 4));
	name = local_name(fd);
	peer_must("connect 1 %d %d", family, port_of(&name));
	got = NEED(accept(fd, NULL, NULL));
	peer_must("send 1 0 abc");
	say_bytes("recv", recv(got, data, 10, 0), data);
}

static void fastopen_sendto(void)
{
	struct name name = peer_name(peer_must("listen 62 %d 4", family));
	int fd = NEED(socket(family, SOCK_STREAM, 0));

	TELL(sendto(fd, "hello", 5, MSG_FASTOPEN, sa(&name), name.len));
	peer_must("accept 62 1");
	peer_tell("recv 1 5 %d", MSG_WAITALL);
	TELL(send(fd, "more", 4, 0));
	peer_tell("recv 1 4 %d", MSG_WAITALL);
	TELL(sendto(fd, "again", 5, MSG_FASTOPEN, sa(&name), name.len));
	TELL(sendto(fd, "again", 5, MSG_FASTOPEN, NULL, 0));
}

static void fastopen_refused(void)
{
	struct name name = peer_name(peer_must("bind 62 %d", family));
	int fd = NEED(socket(family, SOCK_STREAM, 0));

	TELL(sendto(fd, "hello", 5, MSG_FASTOPEN | MSG_NOSIGNAL, sa(&name), name.len));
	fd = NEED(socket(family, SOCK_STREAM, 0));
	TELL(sendto(fd, "hello", 5, MSG_FASTOPEN | MSG_NOSIGNAL, NULL, 0));
	TELL(sendto(fd, "hello", 5, MSG_FASTOPEN | MSG_NOSIGNAL, sa(&name), 3));
}

static void fastopen_sendmsg(void)
{
	struct name name = peer_name(peer_must("listen 62 %d 4", family));
	struct iovec iov[2] = { { "hel", 3 }, { "lo", 2 } };
	struct msghdr m = {
		.msg_iov = iov, .msg_iovlen = 2, .msg_name = &name.ss, .msg_namelen = name.len
	};
	int fd = NEED(socket(family, SOCK_STREAM, 0));

	TELL(sendmsg(fd, &m, MSG_FASTOPEN));
	peer_must("accept 62 1");
	peer_tell("recv 1 5 %d", MSG_WAITALL);
}

static void fastopen_connect(void)
{
	struct name name = peer_name(peer_must("listen 62 %d 4", family));
	int fd = NEED(socket(family, SOCK_STREAM, 0)), on = 1, got = 0;
	socklen_t len = sizeof(got);

	TELL(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)));
	TELL(getsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &got, &len));
	say("%d", got);
	TELL(connect(fd, sa(&name), name.len));
	TELL(send(fd, "hello", 5, 0));
	peer_must("accept 62 1");
	peer_tell("recv 1 5 %d", MSG_WAITALL);
}

#define DEFERRED 30

/* Whoever takes a connection that was held back for its first bytes finds them. */
static void deferred_accept(void)
{
	struct name name = loopback(0);
	int fd = NEED(socket(family, SOCK_STREAM, 0)), seconds = 5, got, found = 0;

	TELL(setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds)));
	NEED(bind(fd, sa(&name), name.len));
	NEED(listen(fd, 4));
	name = local_name(fd);
	peer_must("connect 1 %d %d", family, port_of(&name));
	NEED(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 300));
	say_events("connected", events_now(fd, POLLIN));
	peer_must("send 1 0 abc");
	say_events("bytes", calls_wait(fd, POLLIN));
	got = NEED(accept(fd, NULL, NULL));
	say_bytes("recv", recv(got, data, 10, MSG_DONTWAIT), data);
	for (int i = 0; i < DEFERRED; i++) {
		peer_must("close 1");
		NEED(close(got));
		peer_must("connect 1 %d %d", family, port_of(&name));
		peer_must("send 1 0 abc");
		got = NEED(accept(fd, NULL, NULL));
		found += recv(got, data, 10, MSG_DONTWAIT) == 3;
	}
	say("%d of %d with bytes", found, DEFERRED);
}

static int dual(bool only, struct name *ret_name)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6 };
	int fd = NEED(socket(AF_INET6, SOCK_STREAM, 0)), value = only;

	NEED(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &value, sizeof(value)));
	NEED(bind(fd, (void *)&any, sizeof(any)));
	NEED(listen(fd, 4));
	*ret_name = local_name(fd);
	return fd;
}

static void dual_stack(void)
{
	struct name name, peer_of = { .len = sizeof(peer_of.ss) };
	int fd = dual(false, &name), got;

	TELL(peer("connect 1 %d %d", AF_INET, port_of(&name)));
	got = NEED(accept(fd, sa(&peer_of), &peer_of.len));
	say_name("peer", &peer_of);
	peer_of = local_name(got);
	say_name("local", &peer_of);
	TELL(peer("connect 2 %d %d", AF_INET6, port_of(&name)));
	got = NEED(accept(fd, NULL, NULL));
	peer_of = local_name(got);
	say_name("local", &peer_of);
}

static void dual_stack_off(void)
{
	struct name name;
	int fd = dual(true, &name);

	(void)fd;
	TELL(peer("connect 1 %d %d", AF_INET, port_of(&name)));
	TELL(peer("connect 2 %d %d", AF_INET6, port_of(&name)));
}

#define ANOTHER_PORT 16

static void dual_stack_in_use(void)
{
	struct name name;
	int ret = -1;
	int fd = dual(false, &name), other = NEED(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port_of(&name)) };

	TELL(bind(other, (void *)&any, sizeof(any)));
	/* a port that is free over IPv6 may be one of an old connection over IPv4 */
	for (int i = 0; i < ANOTHER_PORT && ret; i++) {
		close(fd);
		fd = dual(true, &name);
		any.sin_port = htons(port_of(&name));
		errno = 0;
		ret = bind(other, (void *)&any, sizeof(any));
	}
	say_result("bind beside IPv6 only", ret);
}

static void mapped_connect(void)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6 };
	int port = peer_must("listen 62 %d 4", AF_INET),
	    fd = NEED(socket(AF_INET6, SOCK_STREAM, 0)), on = 1;
	struct name name;

	to.sin6_addr.s6_addr[10] = to.sin6_addr.s6_addr[11] = 0xff;
	to.sin6_addr.s6_addr[12] = 127;
	to.sin6_addr.s6_addr[15] = 1;
	to.sin6_port = htons(port);
	TELL(connect(fd, (void *)&to, sizeof(to)));
	name = local_name(fd);
	say_name("local", &name);
	fd = NEED(socket(AF_INET6, SOCK_STREAM, 0));
	NEED(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)));
	TELL(connect(fd, (void *)&to, sizeof(to)));
}

static void inq_control(void)
{
	char control[64];
	struct iovec iov = { data, 2 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	int fd = connected(1), on = 1;
	struct cmsghdr *c;

	TELL(setsockopt(fd, IPPROTO_TCP, TCP_INQ, &on, sizeof(on)));
	peer_must("send 1 0 abcdef");
	wait_bytes(fd, 6);
	TELL(recvmsg(fd, &m, 0));
	c = CMSG_FIRSTHDR(&m);
	say("%s", c ? "control" : "no control");
	if (c)
		say("%d/%d %d", c->cmsg_level, c->cmsg_type, *(int *)(void *)CMSG_DATA(c));
}

static void keepalive_ends_nothing(void)
{
	int fd = connected(1), one = 1;

	TELL(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)));
	TELL(setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &one, sizeof(one)));
	TELL(setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &one, sizeof(one)));
	peer_must("send 1 0 abc");
	say_bytes("recv", recv(fd, data, 10, 0), data);
}

static void backlog_full(void)
{
	struct name name = loopback(0);
	int fd = NEED(socket(family, SOCK_STREAM, 0)), i, connecting[4];

	NEED(bind(fd, sa(&name), name.len));
	NEED(listen(fd, 1));
	name = local_name(fd);
	for (i = 0; i < 4; i++) {
		connecting[i] = NEED(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
		if (connect(connecting[i], sa(&name), name.len) && errno != EINPROGRESS)
			break;
	}
	calls_wait(connecting[0], POLLOUT);
	/* who is not connected by then waits for a second at least: its SYN was dropped */
	for (i = 1; i < 3; i++)
		NEED(poll(&(struct pollfd){ .fd = connecting[i], .events = POLLOUT }, 1, 400));
	for (i = 0; i < 4; i++)
		say_events("connects", events_now(connecting[i], POLLOUT));
}

static void ports_of_host(void)
{
	int fd = NEED(socket(family, SOCK_STREAM, 0));
	struct name name = loopback(1);

	TELL(bind(fd, sa(&name), name.len));
	TELL(listen(fd, 3));
	TELL(peer("connect 1 %d 1", family));
}

const struct call_case cases[] = {
	{ "fastopen_server", fastopen_server },
	{ "fastopen_sendto", fastopen_sendto },
	{ "fastopen_refused", fastopen_refused },
	{ "fastopen_sendmsg", fastopen_sendmsg },
	{ "fastopen_connect", fastopen_connect },
	{ "deferred_accept", deferred_accept },
	{ "dual_stack", dual_stack },
	{ "dual_stack_off", dual_stack_off },
	{ "dual_stack_in_use", dual_stack_in_use },
	{ "mapped_connect", mapped_connect },
	{ "inq_control", inq_control },
	{ "keepalive_ends_nothing", keepalive_ends_nothing },
	{ "backlog_full", backlog_full },
	{ "ports_of_host", ports_of_host },
};
const size_t case_count = COUNT(cases);
