/* SPDX-License-Identifier: MIT */
/* Datagrams: connected and not, truncation, empty ones, errors. */
#include "calls.h"

static char big[70000];

static void wait_readable(int fd)
{
	if (!(calls_wait(fd, POLLIN) & POLLIN))
		say("nothing to read");
}

static void unconnected(void)
{
	struct name a, b, from = { .len = sizeof(from.ss) };
	int fd = dgram_bound(&a), to = dgram_bound(&b);
	char data[64] = "";

	say_events("new", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	TELL(send(fd, "x", 1, 0));
	TELL(sendto(fd, "x", 1, 0, NULL, 0));
	TELL(getpeername(fd, sa(&from), &from.len));
	TELL(recv(fd, data, 1, MSG_DONTWAIT));
	TELL(sendto(fd, "hello", 5, 0, sa(&b), b.len));
	from.len = sizeof(from.ss);
	TELL(recvfrom(to, data, sizeof(data), 0, sa(&from), &from.len));
	say_name("from", &from);
	TELL(port_of(&from) == port_of(&a));
	say("%s", data);
	TELL(sendto(to, "back", 4, 0, sa(&from), from.len));
	TELL(read(fd, data, sizeof(data)));
	TELL(sendto(fd, "x", 1, 0, sa(&b), 3));
	a.ss.ss_family = AF_UNIX;
	TELL(sendto(fd, "x", 1, 0, sa(&a), a.len));
	b = loopback(0);
	TELL(sendto(fd, "x", 1, 0, sa(&b), b.len));
}

/* A socket gets its port with the first datagram. */
static void unbound(void)
{
	struct name b, from = { .len = sizeof(from.ss) }, mine;
	int fd = NEED(socket(family, SOCK_DGRAM, 0)), to = dgram_bound(&b);
	char data[8];

	mine = local_name(fd);
	say_name("before", &mine);
	for (int i = 0; i < 3; i++) {
		TELL(sendto(fd, "abc", 3, 0, sa(&b), b.len));
		from.len = sizeof(from.ss);
		TELL(recvfrom(to, data, sizeof(data), 0, sa(&from), &from.len));
		mine = local_name(fd);
		TELL(port_of(&mine) == port_of(&from));
	}
	say_name("after", &mine);
	TELL(sendto(to, "de", 2, 0, sa(&from), from.len));
	TELL(recv(fd, data, sizeof(data), 0));
}

static void connected(void)
{
	struct name other, got = { .len = sizeof(got.ss) }, mine;
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	int fd[2], third = dgram_bound(&other);
	char data[64];

	dgram_pair(fd);
	TELL(getpeername(fd[0], sa(&got), &got.len));
	mine = local_name(fd[1]);
	TELL(port_of(&mine) == port_of(&got));
	TELL(send(fd[0], "abc", 3, 0));
	TELL(recv(fd[1], data, sizeof(data), 0));
	TELL(write(fd[1], "defg", 4));
	TELL(read(fd[0], data, sizeof(data)));
	/* Only the peer is heard. */
	TELL(sendto(third, "nobody", 6, 0, sa(&mine), mine.len));
	TELL(send(fd[0], "peer", 4, 0));
	TELL(recv(fd[1], data, sizeof(data), 0));
	nap_ms(10);
	TELL(recv(fd[1], data, sizeof(data), MSG_DONTWAIT));
	/* A name goes past the connection. */
	TELL(sendto(fd[0], "third", 5, 0, sa(&other), other.len));
	TELL(recv(third, data, sizeof(data), 0));
	TELL(connect(fd[0], sa(&other), other.len));
	TELL(send(fd[0], "again", 5, 0));
	TELL(recv(third, data, sizeof(data), 0));
	TELL(connect(fd[0], &none, sizeof(none)));
	got.len = sizeof(got.ss);
	TELL(getpeername(fd[0], sa(&got), &got.len));
	TELL(send(fd[0], "x", 1, 0));
}

static void truncation(void)
{
	char a[4] = "", b[3] = "";
	struct iovec iov[] = { { a, 4 }, { b, 3 } };
	struct name from;
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2, .msg_name = &from.ss };
	int fd[2];

	dgram_pair(fd);
	for (int i = 0; i < 6; i++)
		NEED(send(fd[0], "0123456789", 10, 0));
	wait_readable(fd[1]);
	TELL(recv(fd[1], a, 4, 0));
	say("%.4s", a);
	wait_readable(fd[1]);
	TELL(recv(fd[1], a, 4, MSG_TRUNC));
	wait_readable(fd[1]);
	TELL(recv(fd[1], a, 4, MSG_TRUNC | MSG_PEEK));
	TELL(recv(fd[1], a, 4, MSG_PEEK));
	TELL(recv(fd[1], a, 0, 0));
	for (int i = 0; i < 2; i++) {
		wait_readable(fd[1]);
		m.msg_namelen = sizeof(from.ss);
		TELL(recvmsg(fd[1], &m, i ? MSG_TRUNC : 0));
		say("%.4s %.3s flags %x name %u", a, b, m.msg_flags, m.msg_namelen);
	}
	wait_readable(fd[1]);
	TELL(recv(fd[1], a, 4, MSG_WAITALL));
	TELL(recv(fd[1], a, 4, MSG_DONTWAIT));
}

static void empty(void)
{
	struct name from = { .len = sizeof(from.ss) };
	char data[8];
	int fd[2], count = -1;

	dgram_pair(fd);
	TELL(send(fd[0], "", 0, 0));
	TELL(send(fd[0], "ab", 2, 0));
	TELL(write(fd[0], "", 0));
	TELL(writev(fd[0], NULL, 0));
	say_events("arrived", calls_wait(fd[1], POLLIN));
	TELL(ioctl(fd[1], FIONREAD, &count));
	say("%d", count);
	TELL(recvfrom(fd[1], data, sizeof(data), 0, sa(&from), &from.len));
	say_name("from", &from);
	wait_readable(fd[1]);
	TELL(ioctl(fd[1], FIONREAD, &count));
	say("%d", count);
	TELL(recv(fd[1], data, sizeof(data), 0));
	wait_readable(fd[1]);
	TELL(read(fd[1], data, 0)); /* takes nothing */
	say_events("still there", events_now(fd[1], POLLIN));
	TELL(recv(fd[1], data, 0, 0)); /* takes the empty one */
	TELL(recv(fd[1], data, 8, MSG_DONTWAIT));
}

/* The largest that fits, and one more. */
static void sizes(void)
{
	static char back[70000];
	const int most = family == AF_INET ? 65507 : 65527;
	const int len[] = { 1, 7, 8, 9, 1472, 9000, 16383, 16384, 16385, 40000, most - 1, most };
	int fd[2];

	pattern_fill((uint8_t *)big, sizeof(big), 0);
	dgram_pair(fd);
	for (size_t i = 0; i < COUNT(len); i++) {
		ssize_t sent = send(fd[0], big, len[i], 0), got;

		wait_readable(fd[1]);
		got = recv(fd[1], back, sizeof(back), 0);
		say("%d: sent %zd got %zd %s", len[i], sent, got,
		    got > 0 && !memcmp(big, back, got) ? "equal" : "different");
	}
	TELL(send(fd[0], big, most + 1, 0));
	TELL(send(fd[0], big, sizeof(big), 0));
	TELL(recv(fd[1], back, 1, MSG_DONTWAIT));
}

static void many_messages(void)
{
	char text[8][16];
	struct iovec out[8], in[8];
	struct mmsghdr mo[8], mi[8];
	struct name to, from[8];
	struct timespec none = { 0 };
	int fd = NEED(socket(family, SOCK_DGRAM, 0)), at = dgram_bound(&to), count = 0;

	for (int i = 0; i < 8; i++) {
		out[i] = (struct iovec){ "message" + i % 4, 7 - i % 4 };
		in[i] = (struct iovec){ text[i], sizeof(text[i]) };
		mo[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &out[i],
						       .msg_iovlen = 1,
						       .msg_name = &to.ss,
						       .msg_namelen = to.len } };
		mi[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &in[i],
						       .msg_iovlen = 1,
						       .msg_name = &from[i].ss,
						       .msg_namelen = sizeof(from[i].ss) } };
	}
	TELL(recvmmsg(at, mi, 8, MSG_DONTWAIT, NULL));
	TELL(sendmmsg(fd, mo, 8, 0));
	say("lengths %u %u", mo[0].msg_len, mo[7].msg_len);
	while (count < 8) {
		int got = NEED(recvmmsg(at, mi + count, 8 - count, MSG_WAITFORONE, NULL));

		for (int i = 0; i < got; i++, count++)
			say("%.*s name %u flags %x", (int)mi[count].msg_len, text[count],
			    mi[count].msg_hdr.msg_namelen, mi[count].msg_hdr.msg_flags);
	}
	TELL(sendmmsg(fd, mo, 1, 0));
	wait_readable(at);
	TELL(recvmmsg(at, mi, 8, 0, &none));
	mo[2].msg_hdr.msg_name = NULL;
	TELL(sendmmsg(fd, mo, 8, 0)); /* stops at the third */
	mo[0].msg_hdr.msg_name = NULL;
	TELL(sendmmsg(fd, mo, 8, 0));
}

/* Nobody at that port: the next call hears of it, if the socket is connected. */
static void refused(void)
{
	struct name name;
	int fd = NEED(socket(family, SOCK_DGRAM, 0)), error = -1, gone = dgram_bound(&name);
	socklen_t len = sizeof(error);
	char byte;

	close(gone);
	nap_ms(10);
	TELL(sendto(fd, "x", 1, 0, sa(&name), name.len));
	nap_ms(10);
	TELL(recv(fd, &byte, 1, MSG_DONTWAIT));
	TELL(connect(fd, sa(&name), name.len));
	TELL(send(fd, "x", 1, 0));
	say_events("refused", calls_wait(fd, POLLIN));
	TELL(recv(fd, &byte, 1, MSG_DONTWAIT));
	TELL(recv(fd, &byte, 1, MSG_DONTWAIT));
	TELL(send(fd, "x", 1, 0));
	say_events("refused", calls_wait(fd, POLLIN));
	TELL(send(fd, "x", 1, 0)); /* fails, and sends nothing */
	TELL(send(fd, "x", 1, 0));
	say_events("refused", calls_wait(fd, POLLIN));
	TELL(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	say("error %s", strerrorname_np(error));
}

static void shut(void)
{
	char byte;
	int fd[2];

	dgram_pair(fd);
	NEED(send(fd[0], "a", 1, 0));
	wait_readable(fd[1]);
	TELL(shutdown(fd[1], SHUT_RD));
	say_events("read", events_now(fd[1], POLLIN | POLLOUT | POLLRDHUP));
	TELL(recv(fd[1], &byte, 1, 0));
	TELL(recv(fd[1], &byte, 1, 0));
	TELL(shutdown(fd[0], SHUT_WR));
	say_events("write", events_now(fd[0], POLLIN | POLLOUT | POLLRDHUP));
	TELL(send(fd[0], "a", 1, MSG_NOSIGNAL));
}

/* What overflows is lost, the rest arrives whole and in order. */
static void overflow(void)
{
	static char back[1400];
	int fd[2], got = 0, last = -1, ordered = 1, sent = 0;

	dgram_pair(fd);
	set_nonblock(fd[0], true);
	for (int i = 0; i < 3000; i++) {
		memcpy(big, &i, sizeof(i));
		if (send(fd[0], big, sizeof(back), 0) != sizeof(back))
			NEED(poll(&(struct pollfd){ .fd = fd[0], .events = POLLOUT }, 1, 1000));
	}
	set_nonblock(fd[0], false);
	for (;;) { /* until one that was sent behind them arrives; it may be lost, too */
		struct pollfd p = { .fd = fd[1], .events = POLLIN };
		int i;

		if (poll(&p, 1, sent ? 300 : 0) == 0) {
			sent = NEED(send(fd[0], "after", 5, 0)) == 5;
			continue;
		}
		if (NEED(recv(fd[1], back, sizeof(back), 0)) == 5)
			break;
		memcpy(&i, back, sizeof(i));
		ordered = ordered && i > last;
		last = i;
		got++;
	}
	say("some: %s, all: %s, %s", got > 20 ? "yes" : "no", got == 3000 ? "yes" : "no",
	    ordered ? "in order" : "not in order");
}

static void bound_twice(void)
{
	struct name name;
	int first = dgram_bound(&name), fd = NEED(socket(family, SOCK_DGRAM, 0)), one = 1;

	TELL(bind(fd, sa(&name), name.len));
	TELL(listen(fd, 5));
	TELL(accept(fd, NULL, NULL));
	TELL(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	TELL(setsockopt(first, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	TELL(bind(fd, sa(&name), name.len));
}

/* A socket of the name @at, which others have, too. */
static int shared(const struct name *at)
{
	int fd = NEED(socket(family, SOCK_DGRAM, 0));

	NEED(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)));
	NEED(bind(fd, (const struct sockaddr *)(const void *)&at->ss, at->len));
	return fd;
}

static void say_who(int from, const struct name *to, const int *fds, int count)
{
	struct pollfd p[3];
	char data[8];

	for (int i = 0; i < count; i++)
		p[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	NEED(sendto(from, "data", 4, 0, (const struct sockaddr *)(const void *)&to->ss, to->len));
	NEED(poll(p, (nfds_t)count, 5000));
	for (int i = 0; i < count; i++)
		if (p[i].revents)
			say("heard by %d: %zd", i, recv(fds[i], data, sizeof(data), MSG_DONTWAIT));
}

/* A server that has a socket for each client, all at one port: the first of each is heard
 * by the youngest, what follows by the one that was connected to him. */
static void of_one_port(void)
{
	struct name at = loopback(0), a, b;
	int one = dgram_bound(&a), two = dgram_bound(&b), fds[3];

	fds[0] = shared(&at);
	at = local_name(fds[0]);
	say_who(one, &at, fds, 1);
	NEED(connect(fds[0], sa(&a), a.len));
	fds[1] = shared(&at);
	for (int i = 0; i < 3; i++) {
		say_who(one, &at, fds, 2);
		say_who(two, &at, fds, 2);
	}
	NEED(connect(fds[1], sa(&b), b.len));
	fds[2] = shared(&at);
	say_who(one, &at, fds, 3);
	say_who(two, &at, fds, 3);
	TELL(send(fds[1], "back", 4, 0));
	TELL(recv(two, &(char[8]){ 0 }, 8, 0));
	close(fds[1]);
	say_who(two, &at, (int[]){ fds[0], fds[2] }, 2);
}

const struct call_case cases[] = {
	{ "unconnected", unconnected },
	{ "unbound", unbound },
	{ "connected", connected },
	{ "truncation", truncation },
	{ "empty", empty },
	{ "sizes", sizes },
	{ "many_messages", many_messages },
	{ "refused", refused },
	{ "shut", shut },
	{ "overflow", overflow },
	{ "bound_twice", bound_twice },
	{ "of_one_port", of_one_port },
};
const size_t case_count = COUNT(cases);
