/* SPDX-License-Identifier: MIT */
/* getsockopt, setsockopt, ioctl, fcntl, and time limits. */
#include "calls.h"

#include <linux/sockios.h>

struct option {
	const char *text;
	int level, name, value;
};

#define OPTION(level, name, value)        \
	{                                 \
#name, level, name, value \
	}

static const struct option stream_options[] = {
	OPTION(SOL_SOCKET, SO_REUSEADDR, 1),
	OPTION(SOL_SOCKET, SO_REUSEPORT, 1),
	OPTION(SOL_SOCKET, SO_KEEPALIVE, 1),
	OPTION(SOL_SOCKET, SO_OOBINLINE, 1),
	OPTION(SOL_SOCKET, SO_BROADCAST, 1),
	OPTION(SOL_SOCKET, SO_DONTROUTE, 1),
	OPTION(SOL_SOCKET, SO_PRIORITY, 3),
	OPTION(SOL_SOCKET, SO_RCVLOWAT, 2),
	OPTION(SOL_SOCKET, SO_SNDBUF, 20000),
	OPTION(SOL_SOCKET, SO_RCVBUF, 20000),
	OPTION(IPPROTO_TCP, TCP_NODELAY, 1),
	OPTION(IPPROTO_TCP, TCP_CORK, 1),
	OPTION(IPPROTO_TCP, TCP_MAXSEG, 1000),
	OPTION(IPPROTO_TCP, TCP_KEEPIDLE, 77),
	OPTION(IPPROTO_TCP, TCP_KEEPINTVL, 7),
	OPTION(IPPROTO_TCP, TCP_KEEPCNT, 5),
	OPTION(IPPROTO_TCP, TCP_SYNCNT, 3),
	OPTION(IPPROTO_TCP, TCP_LINGER2, 9),
	OPTION(IPPROTO_TCP, TCP_DEFER_ACCEPT, 3),
	OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT, 4000),
	OPTION(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 5000),
	OPTION(IPPROTO_IP, IP_TOS, 0x10),
	OPTION(IPPROTO_IP, IP_TTL, 33),
};

static const struct option dgram_options[] = {
	OPTION(SOL_SOCKET, SO_REUSEADDR, 1),     OPTION(SOL_SOCKET, SO_BROADCAST, 1),
	OPTION(SOL_SOCKET, SO_SNDBUF, 30000),    OPTION(SOL_SOCKET, SO_RCVBUF, 30000),
	OPTION(IPPROTO_IP, IP_TOS, 0x10),        OPTION(IPPROTO_IP, IP_TTL, 33),
	OPTION(IPPROTO_IP, IP_MULTICAST_TTL, 3),
};

static const struct option v6_options[] = {
	OPTION(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 44),
	OPTION(IPPROTO_IPV6, IPV6_TCLASS, 8),
};

static void show(int fd, const struct option *o)
{
	int value = -1;
	socklen_t len = sizeof(value);

	if (getsockopt(fd, o->level, o->name, &value, &len) < 0)
		say("%s: %s", o->text, strerrorname_np(errno));
	else
		say("%s: %d length %u", o->text, value, len);
}

/* Fresh, set, and set anew. */
static void set_and_show(int fd, const struct option *list, size_t count, bool fresh)
{
	for (size_t i = 0; i < count; i++) {
		const struct option *o = &list[i];
		int zero = 0;

		if (fresh)
			show(fd, o);
		if (setsockopt(fd, o->level, o->name, &o->value, sizeof(o->value)) < 0)
			say("set %s: %s", o->text, strerrorname_np(errno));
		show(fd, o);
		if (o->value == 1) {
			NEED(setsockopt(fd, o->level, o->name, &zero, sizeof(zero)));
			show(fd, o);
			NEED(setsockopt(fd, o->level, o->name, &o->value, sizeof(o->value)));
		}
	}
}

static void before_connect(void)
{
	struct name name;
	int listening = listener(&name), fd = NEED(socket(family, SOCK_STREAM, 0));

	set_and_show(fd, stream_options, COUNT(stream_options), true);
	if (family == AF_INET6)
		set_and_show(fd, v6_options, COUNT(v6_options), true);
	say("connected");
	NEED(connect(fd, sa(&name), name.len));
	NEED(accept(listening, NULL, NULL));
	for (size_t i = 0; i < COUNT(stream_options); i++)
		if (stream_options[i].name != TCP_MAXSEG)
			show(fd, &stream_options[i]);
}

static void after_connect(void)
{
	int fd[2];

	stream_pair(fd);
	for (int i = 0; i < 2; i++) {
		say("end %d", i);
		for (size_t j = 0; j < COUNT(stream_options); j++) {
			const struct option *o = &stream_options[j];

			/* The kernel has tuned these for its own connection. */
			if (o->name != TCP_MAXSEG && o->name != SO_SNDBUF && o->name != SO_RCVBUF)
				set_and_show(fd[i], o, 1, o->name != SO_REUSEADDR);
		}
		if (family == AF_INET6)
			set_and_show(fd[i], v6_options, COUNT(v6_options), true);
	}
}

/* What an accepted socket has from its listener. */
static void inherited(void)
{
	static const struct option list[] = {
		OPTION(SOL_SOCKET, SO_KEEPALIVE, 1),         OPTION(SOL_SOCKET, SO_OOBINLINE, 1),
		OPTION(SOL_SOCKET, SO_SNDBUF, 40000),        OPTION(SOL_SOCKET, SO_RCVBUF, 50000),
		OPTION(IPPROTO_TCP, TCP_NODELAY, 1),         OPTION(IPPROTO_TCP, TCP_KEEPIDLE, 60),
		OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT, 5000), OPTION(IPPROTO_IP, IP_TTL, 55),
		OPTION(SOL_SOCKET, SO_RCVLOWAT, 4),
	};
	struct timeval tv = { .tv_sec = 7, .tv_usec = 500000 };
	struct linger linger = { 1, 4 };
	socklen_t len = sizeof(tv);
	struct name name;
	int fd = listener(&name), c = NEED(socket(family, SOCK_STREAM, 0)), a;

	for (size_t i = 0; i < COUNT(list); i++)
		NEED(setsockopt(fd, list[i].level, list[i].name, &list[i].value, sizeof(int)));
	NEED(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	NEED(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	NEED(connect(c, sa(&name), name.len));
	a = NEED(accept(fd, NULL, NULL));
	for (size_t i = 0; i < COUNT(list); i++)
		show(a, &list[i]);
	TELL(getsockopt(a, SOL_SOCKET, SO_RCVTIMEO, &tv, &len));
	say("time limit %ld.%06ld", (long)tv.tv_sec, (long)tv.tv_usec);
	len = sizeof(linger);
	TELL(getsockopt(a, SOL_SOCKET, SO_LINGER, &linger, &len));
	say("linger %d %d", linger.l_onoff, linger.l_linger);
}

static void of_dgram(void)
{
	int fd = NEED(socket(family, SOCK_DGRAM, 0)), pair[2];

	set_and_show(fd, dgram_options, COUNT(dgram_options), true);
	dgram_pair(pair);
	set_and_show(pair[0], dgram_options, COUNT(dgram_options), true);
	if (family == AF_INET6)
		set_and_show(fd, v6_options, COUNT(v6_options), true);
}

static void what_it_is(void)
{
	static const struct option list[] = {
		OPTION(SOL_SOCKET, SO_TYPE, 0),     OPTION(SOL_SOCKET, SO_DOMAIN, 0),
		OPTION(SOL_SOCKET, SO_PROTOCOL, 0), OPTION(SOL_SOCKET, SO_ACCEPTCONN, 0),
		OPTION(SOL_SOCKET, SO_ERROR, 0),
	};
	struct name name;
	int fd[5], one = 1;

	fd[0] = NEED(socket(family, SOCK_STREAM, 0));
	fd[1] = NEED(socket(family, SOCK_DGRAM, 0));
	fd[2] = listener(&name);
	stream_pair(fd + 3);
	for (size_t i = 0; i < COUNT(fd); i++)
		for (size_t j = 0; j < COUNT(list); j++)
			show(fd[i], &list[j]);
	TELL(setsockopt(fd[0], SOL_SOCKET, SO_TYPE, &one, sizeof(one)));
	TELL(setsockopt(fd[0], SOL_SOCKET, SO_ERROR, &one, sizeof(one)));
}

static void odd_arguments(void)
{
	int fd = NEED(socket(family, SOCK_STREAM, 0)), udp = NEED(socket(family, SOCK_DGRAM, 0));
	struct linger linger = { 1, 5 };
	unsigned char small[16];
	char text[16] = "";
	int one = 1;
	socklen_t len;

	TELL(setsockopt(fd, SOL_SOCKET, 9999, &one, sizeof(one)));
	TELL(getsockopt(fd, SOL_SOCKET, 9999, &one, (len = sizeof(one), &len)));
	TELL(setsockopt(fd, 9999, 1, &one, sizeof(one)));
	TELL(getsockopt(fd, 9999, 1, &one, (len = sizeof(one), &len)));
	TELL(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, 1));
	TELL(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, 1));
	TELL(setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){ -5 }, sizeof(int)));
	TELL(setsockopt(udp, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
	TELL(getsockopt(udp, IPPROTO_TCP, TCP_NODELAY, &one, (len = sizeof(one), &len)));
	memset(small, 0x5a, sizeof(small));
	TELL(getsockopt(fd, SOL_SOCKET, SO_TYPE, small, (len = 1, &len)));
	say("length %u: %d %d", len, small[0], small[1] == 0x5a);
	TELL(getsockopt(fd, SOL_SOCKET, SO_TYPE, small, (len = 16, &len)));
	say("length %u", len);
	TELL(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, small, (len = 16, &len)));
	say("length %u", len);
	TELL(getsockopt(fd, SOL_SOCKET, SO_TYPE, small, (len = -1, &len)));
	TELL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	memset(&linger, 0, sizeof(linger));
	TELL(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, (len = sizeof(linger), &len)));
	say("linger %d %d", linger.l_onoff, linger.l_linger);
	TELL(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	TELL(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, text, (len = sizeof(text), &len)));
	say("%s length %u", text, len);
	TELL(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "nonesuch", 8));
	TELL(getsockopt(-1, SOL_SOCKET, SO_TYPE, &one, &len));
	TELL(setsockopt(STDOUT_FILENO, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)));
	TELL(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)));
}

static void connection_info(void)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	int fd[2], value = -1;

	stream_pair(fd);
	for (int i = 0; i < 2; i++) {
		TELL(getsockopt(fd[i], IPPROTO_TCP, TCP_INFO, &info, (len = sizeof(info), &len)));
		say("state %d", info.tcpi_state);
		TELL(getsockopt(fd[i], IPPROTO_TCP, TCP_MAXSEG, &value,
				(len = sizeof(value), &len)));
		say("has a segment size: %s", value > 0 ? "yes" : "no");
	}
}

/* --- time limits ------------------------------------------------------- */

static void say_limit(int fd, int name)
{
	struct timeval tv = { -1, -1 };
	socklen_t len = sizeof(tv);

	TELL(getsockopt(fd, SOL_SOCKET, name, &tv, &len));
	say("%ld.%06ld length %u", (long)tv.tv_sec, (long)tv.tv_usec, len);
}

static void time_limits(void)
{
	static const struct timeval none = { 0 }, some = { .tv_sec = 3, .tv_usec = 500000 };
	static const struct timeval odd = { .tv_usec = 1000000 }, short_one = { .tv_usec = 60000 };
	struct name name;
	int fd = NEED(socket(family, SOCK_STREAM, 0)), pair[2], listening = listener(&name);
	int64_t begin;
	char byte;

	say_limit(fd, SO_RCVTIMEO);
	say_limit(fd, SO_SNDTIMEO);
	TELL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &some, sizeof(some)));
	say_limit(fd, SO_RCVTIMEO);
	say_limit(fd, SO_SNDTIMEO);
	TELL(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &some, sizeof(some)));
	say_limit(fd, SO_SNDTIMEO);
	TELL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none)));
	say_limit(fd, SO_RCVTIMEO);
	TELL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &odd, sizeof(odd)));
	TELL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &some, 4));
	stream_pair(pair);
	TELL(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &short_one, sizeof(short_one)));
	begin = now_ms();
	TELL(recv(pair[0], &byte, 1, 0));
	say("waited: %s", now_ms() - begin >= 55 && now_ms() - begin < 5000 ? "yes" : "no");
	begin = now_ms();
	TELL(recv(pair[0], &byte, 1, MSG_PEEK));
	say("waited: %s", now_ms() - begin >= 55 && now_ms() - begin < 5000 ? "yes" : "no");
	TELL(setsockopt(listening, SOL_SOCKET, SO_RCVTIMEO, &short_one, sizeof(short_one)));
	begin = now_ms();
	TELL(accept(listening, NULL, NULL));
	say("waited: %s", now_ms() - begin >= 55 && now_ms() - begin < 5000 ? "yes" : "no");
	dgram_pair(pair);
	TELL(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &short_one, sizeof(short_one)));
	begin = now_ms();
	TELL(recv(pair[0], &byte, 1, 0));
	say("waited: %s", now_ms() - begin >= 55 && now_ms() - begin < 5000 ? "yes" : "no");
}

static void time_limit_of_send(void)
{
	static const struct timeval limit = { .tv_usec = 60000 };
	static char data[1 << 20];
	int fd[2];
	ssize_t ret;
	int64_t begin;

	stream_pair(fd);
	NEED(setsockopt(fd[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)));
	for (int i = 0; i < 100; i++) {
		begin = now_ms();
		ret = send(fd[0], data, sizeof(data), 0);
		if (ret < 0) {
			calls_tell("send", ret);
			break;
		}
	}
	say("%s", now_ms() - begin >= 55 ? "waited" : "did not wait");
	TELL(send(fd[0], data, sizeof(data), 0));
}

/* A connect() that its limit cuts short goes on by itself. */
static void time_limit_of_connect(void)
{
	static const struct timeval limit = { .tv_usec = 500000 };
	struct name name = loopback(0);
	int fd = NEED(socket(family, SOCK_STREAM, 0)), c, ret = 0;

	NEED(bind(fd, sa(&name), name.len));
	NEED(listen(fd, 0));
	name = local_name(fd);
	for (int i = 0; i < 32 && ret == 0; i++) {
		c = NEED(socket(family, SOCK_STREAM, 0));
		NEED(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)));
		ret = connect(c, sa(&name), name.len);
	}
	calls_tell("connect", ret);
	TELL(connect(c, sa(&name), name.len));
}

/* --- ioctl ------------------------------------------------------------- */

static void ioctl_calls(void)
{
	struct name name;
	int fd[2], value = -1, one = 1, zero = 0, listening = listener(&name);
	char data[16];

	stream_pair(fd);
	TELL(ioctl(fd[0], FIONREAD, &value));
	say("%d", value);
	send_all(fd[1], "0123456789", 10);
	wait_bytes(fd[0], 10);
	TELL(ioctl(fd[0], FIONREAD, &value));
	say("%d", value);
	TELL(recv(fd[0], data, 3, 0));
	TELL(ioctl(fd[0], SIOCINQ, &value));
	say("%d", value);
	for (int i = 0; i < 1000; i++, nap_ms(1)) {
		NEED(ioctl(fd[1], SIOCOUTQ, &value));
		if (!value)
			break;
	}
	say("out %d", value);
	TELL(ioctl(fd[1], SIOCOUTQNSD, &value));
	say("not sent %d", value);
	TELL(ioctl(listening, FIONREAD, &value));
	TELL(ioctl(fd[0], FIONBIO, &one));
	TELL(fcntl(fd[0], F_GETFL) & O_NONBLOCK);
	TELL(recv(fd[0], data, sizeof(data), 0));
	TELL(recv(fd[0], data, sizeof(data), 0));
	TELL(ioctl(fd[0], FIONBIO, &zero));
	TELL(fcntl(fd[0], F_GETFL) & O_NONBLOCK);
	TELL(ioctl(fd[0], FIOCLEX));
	TELL(fcntl(fd[0], F_GETFD));
	TELL(ioctl(fd[0], FIONCLEX));
	TELL(fcntl(fd[0], F_GETFD));
	TELL(ioctl(fd[0], SIOCATMARK, &value));
	say("%d", value);
	TELL(ioctl(fd[0], TCGETS, data));
	dgram_pair(fd);
	TELL(ioctl(fd[0], FIONREAD, &value));
	say("%d", value);
	NEED(send(fd[1], "abc", 3, 0));
	NEED(send(fd[1], "defgh", 5, 0));
	calls_wait(fd[0], POLLIN);
	TELL(ioctl(fd[0], FIONREAD, &value));
	say("%d", value);
}

/* Bytes that nobody takes stay in the queue of the sender, at last. */
static void out_queue(void)
{
	static char data[1 << 16];
	int fd[2], value = 0;

	stream_pair(fd);
	set_nonblock(fd[0], true);
	for (int i = 0; i < 100; i++) {
		while (send(fd[0], data, sizeof(data), 0) > 0)
			;
		nap_ms(1);
	}
	TELL(ioctl(fd[0], SIOCOUTQ, &value));
	say("some: %s", value > 0 ? "yes" : "no");
}

/* --- fcntl ------------------------------------------------------------- */

static void fcntl_calls(void)
{
	int fd[2], copy;
	char byte;

	stream_pair(fd);
	TELL(fcntl(fd[0], F_GETFL) & (O_NONBLOCK | O_ACCMODE | O_APPEND));
	TELL(fcntl(fd[0], F_SETFL, O_NONBLOCK));
	TELL(fcntl(fd[0], F_GETFL) & (O_NONBLOCK | O_ACCMODE));
	TELL(recv(fd[0], &byte, 1, 0));
	/* The mode belongs to the socket, not to the descriptor. */
	copy = NEED(dup(fd[0]));
	TELL(fcntl(copy, F_GETFL) & O_NONBLOCK);
	TELL(fcntl(copy, F_SETFL, 0));
	TELL(fcntl(fd[0], F_GETFL) & O_NONBLOCK);
	TELL(recv(fd[0], &byte, 1, MSG_DONTWAIT));
	/* FD_CLOEXEC belongs to the descriptor. */
	TELL(fcntl(fd[0], F_SETFD, FD_CLOEXEC));
	TELL(fcntl(fd[0], F_GETFD));
	TELL(fcntl(copy, F_GETFD));
	TELL(fcntl(fd[0], F_SETOWN, getpid()));
	TELL(fcntl(fd[0], F_GETOWN) == getpid());
	TELL(fcntl(fd[0], 12345, 0));
	TELL(fcntl(-1, F_GETFL));
	TELL(lseek(fd[0], 0, SEEK_CUR));
	TELL(isatty(fd[0]));
	TELL(fsync(fd[0]));
	TELL(ftruncate(fd[0], 0));
}

const struct call_case cases[] = {
	{ "before_connect", before_connect },
	{ "after_connect", after_connect },
	{ "inherited", inherited },
	{ "of_dgram", of_dgram },
	{ "what_it_is", what_it_is },
	{ "odd_arguments", odd_arguments },
	{ "connection_info", connection_info },
	{ "time_limits", time_limits },
	{ "time_limit_of_send", time_limit_of_send },
	{ "time_limit_of_connect", time_limit_of_connect },
	{ "ioctl_calls", ioctl_calls },
	{ "out_queue", out_queue },
	{ "fcntl_calls", fcntl_calls },
};
const size_t case_count = COUNT(cases);
