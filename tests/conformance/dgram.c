/* SPDX-License-Identifier: MIT */
/* Datagrams: connect and disconnect, truncation, errors, segments, queues. */
#include "conformance.h"

#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <netinet/udp.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

static char data[70000];

static void say_error(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	NEED(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	say("SO_ERROR: %s", error ? strerrorname_np(error) : "none");
}

static int udp(void)
{
	return NEED(socket(family, SOCK_DGRAM, 0));
}

static struct name no_name(void)
{
	struct name none = { .ss.ss_family = AF_UNSPEC, .len = sizeof(struct sockaddr) };

	return none;
}

/* A port that nobody has any more. */
static struct name nobody(void)
{
	struct name name = peer_name(peer_must("udp 60 %d", family));

	peer_must("close 60");
	wait_port_free(name, SOCK_DGRAM);
	return name;
}

static void talk(void)
{
	int fd = dgram_with(1);

	TELL(send(fd, "hello", 5, 0));
	peer_tell("recvfrom 1");
	peer_tell("send 1 0 world");
	say_bytes("recv", recv(fd, data, sizeof(data), 0), data);
}

static void truncated(void)
{
	struct iovec iov = { data, 3 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fd = dgram_with(1);

	for (int i = 0; i < 4; i++)
		peer_must("send 1 0 abcdef");
	TELL(recv(fd, data, 3, 0));
	TELL(recv(fd, data, 3, MSG_TRUNC));
	TELL(recvmsg(fd, &m, 0));
	say("flags %#x", m.msg_flags);
	TELL(recvmsg(fd, &m, MSG_TRUNC | MSG_PEEK));
	say("flags %#x", m.msg_flags);
	TELL(recv(fd, data, 10, MSG_PEEK));
	TELL(recv(fd, data, 10, MSG_WAITALL));
	TELL(recv(fd, data, 10, MSG_DONTWAIT));
}

static void empty(void)
{
	struct iovec none = { data, 0 };
	int fd = dgram_with(1);

	TELL(send(fd, "", 0, 0));
	TELL(send(fd, NULL, 0, 0));
	TELL(write(fd, "", 0));
	TELL(writev(fd, &none, 1));
	TELL(writev(fd, &none, 0));
	TELL(send(fd, "last", 4, 0));
	for (int i = 0; i < 4; i++)
		if (peer_tell("recvfrom 1") == 4)
			break;
}

static void empty_received(void)
{
	struct name here, there;
	int fd = dgram_bound(&here), from = dgram_bound(&there), count = -1;

	NEED(sendto(from, "", 0, 0, sa(&here), here.len));
	say_events("empty one", calls_wait(fd, POLLIN));
	NEED(ioctl(fd, FIONREAD, &count));
	say("waiting %d", count);
	TELL(read(fd, data, 0));
	TELL(recv(fd, data, 10, MSG_PEEK));
	TELL(recv(fd, data, 10, 0));
	TELL(recv(fd, data, 10, MSG_DONTWAIT));
	NEED(sendto(from, "", 0, 0, sa(&here), here.len));
	calls_wait(fd, POLLIN);
	TELL(recv(fd, NULL, 0, 0));
	TELL(recv(fd, data, 10, MSG_DONTWAIT));
}

static void one_from_many_pieces(void)
{
	static struct iovec iov[1024];
	int fd = dgram_with(1);

	for (int i = 0; i < 1024; i++)
		iov[i] = (struct iovec){ (char *)(uintptr_t) "abcdefgh" + i % 8, i % 2 };
	TELL(writev(fd, iov, 1024));
	say_result("length", peer("recvfrom 1"));
	peer_must("send 1 0 abcdefghijkl");
	for (int i = 0; i < 1024; i++)
		iov[i] = (struct iovec){ data + 2 * i, i % 3 };
	calls_wait(fd, POLLIN);
	say_result("readv", readv(fd, iov, 1024));
	TELL(recv(fd, data, 10, MSG_DONTWAIT));
}

static void too_long(void)
{
	int fd = dgram_with(1), big = 1 << 20;
	struct iovec iov[2] = { { data, 40000 }, { data, 40000 } };

	NEED(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &big, sizeof(big)));
	TELL(send(fd, data, 65536, 0));
	TELL(send(fd, data, 65535, 0));
	TELL(send(fd, data, family == AF_INET ? 65508 : 65528, 0));
	TELL(send(fd, data, family == AF_INET ? 65507 : 65527, 0));
	say_result("length", peer("recvfrom 1"));
	TELL(writev(fd, iov, 2));
}

static void not_connected(void)
{
	struct name none = { .len = sizeof(none.ss) };
	int fd = udp();

	TELL(send(fd, "x", 1, 0));
	TELL(write(fd, "x", 1));
	TELL(send(fd, "", 0, 0));
	TELL(recv(fd, data, 1, MSG_DONTWAIT));
	TELL(getpeername(fd, sa(&none), &none.len));
	none = local_name(fd);
	say_name("unbound", &none);
	say_events("new", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	TELL(shutdown(fd, SHUT_RD));
	TELL(listen(fd, 1));
	TELL(accept(fd, NULL, NULL));
}

static void named_by_send(void)
{
	struct name to = peer_name(peer_must("udp 1 %d", family)), here;
	int fd = udp();

	TELL(sendto(fd, "hello", 5, 0, sa(&to), to.len));
	peer_tell("recvfrom 1");
	here = local_name(fd);
	say_name("local", &here);
}

/* The port is there when sendto() is over, whoever sends when. */
static void named_at_once(void)
{
	struct name to = peer_name(peer_must("udp 1 %d", family)), here;
	int named = 0;

	for (int i = 0; i < 20; i++) {
		int fd = udp();

		NEED(sendto(fd, "hello", 5, 0, sa(&to), to.len));
		here = local_name(fd);
		named += port_of(&here) != 0;
		close(fd);
	}
	say("%d of 20 named", named);
	say_name("local", &here);
}

static void sendto_while_connected(void)
{
	struct name other = peer_name(peer_must("udp 2 %d", family));
	int fd = dgram_with(1);

	TELL(sendto(fd, "there", 5, 0, sa(&other), other.len));
	peer_tell("recvfrom 2");
	TELL(send(fd, "here", 4, 0));
	peer_tell("recvfrom 1");
	TELL(sendto(fd, "nameless", 8, 0, NULL, 0));
	peer_tell("recvfrom 1");
}

static void connected_hears_peer_only(void)
{
	int fd = dgram_with(1);
	struct name here = local_name(fd);

	peer_must("udp 2 %d", family);
	peer_must("sendto 2 %d %d other", family, port_of(&here));
	peer_must("send 1 0 peer");
	say_bytes("recv", recv(fd, data, sizeof(data), 0), data);
	TELL(recv(fd, data, 10, MSG_DONTWAIT));
}

static void queued_before_connect_stays(void)
{
	struct name here, there = peer_name(peer_must("udp 1 %d", family));
	int fd = dgram_bound(&here);

	peer_must("udp 2 %d", family);
	peer_must("sendto 2 %d %d early", family, port_of(&here));
	wait_bytes(fd, 5);
	TELL(connect(fd, sa(&there), there.len));
	say_bytes("recv", recv(fd, data, sizeof(data), MSG_DONTWAIT), data);
}

static void disconnected(void)
{
	struct name none = no_name(), name = { .len = sizeof(name.ss) };
	int fd = dgram_with(1);

	TELL(connect(fd, sa(&none), none.len));
	TELL(getpeername(fd, sa(&name), &name.len));
	name = local_name(fd);
	say_name("local", &name);
	TELL(send(fd, "x", 1, 0));
	TELL(connect(fd, sa(&none), none.len));
}

static void disconnected_unbound(void)
{
	struct name none = no_name(), name = peer_name(peer_must("udp 1 %d", family));
	int fd = udp();

	TELL(connect(fd, sa(&name), name.len));
	name = local_name(fd);
	say_name("connected", &name);
	TELL(connect(fd, sa(&none), none.len));
	name = local_name(fd);
	say_name("unbound again", &name);
}

static void connected_again(void)
{
	struct name other = peer_name(peer_must("udp 2 %d", family));
	int fd = dgram_with(1);

	TELL(connect(fd, sa(&other), other.len));
	TELL(send(fd, "other", 5, 0));
	peer_tell("recvfrom 2");
}

static void refused_told_once(void)
{
	struct name name = nobody();
	int fd = udp();

	TELL(connect(fd, sa(&name), name.len));
	TELL(send(fd, "x", 1, 0));
	say_events("refused", calls_wait(fd, 0));
	TELL(recv(fd, data, 10, MSG_DONTWAIT));
	TELL(recv(fd, data, 10, MSG_DONTWAIT));
	TELL(send(fd, "x", 1, 0));
	calls_wait(fd, 0);
	TELL(send(fd, "x", 1, 0));
	TELL(send(fd, "x", 1, 0));
	calls_wait(fd, 0);
	say_error(fd);
	say_error(fd);
}

static void refused_unconnected_is_silent(void)
{
	struct name name = nobody(), here;
	int fd = dgram_bound(&here);

	TELL(sendto(fd, "x", 1, 0, sa(&name), name.len));
	nap_ms(50);
	say_error(fd);
	TELL(sendto(fd, "x", 1, 0, sa(&name), name.len));
}

static void shut(void)
{
	int fd = dgram_with(1);

	TELL(shutdown(fd, SHUT_WR));
	TELL(send(fd, "x", 1, 0));
	say_events("shut", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	TELL(shutdown(fd, SHUT_RD));
	TELL(recv(fd, data, 10, 0));
	say_events("shut", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
}

static void shut_still_hears(void)
{
	int fd = dgram_with(1);

	TELL(shutdown(fd, SHUT_RD));
	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	say_bytes("recv", recv(fd, data, 10, 0), data);
	say_bytes("recv", recv(fd, data, 10, 0), data);
}

static void flags(void)
{
	int fd = dgram_with(1);

	TELL(send(fd, "x", 1, MSG_OOB));
	TELL(recv(fd, data, 1, MSG_OOB | MSG_DONTWAIT));
	TELL(recv(fd, data, 1, MSG_ERRQUEUE));
	TELL(send(fd, "abc", 3, MSG_CONFIRM | MSG_DONTROUTE | MSG_EOR | MSG_NOSIGNAL));
	peer_tell("recvfrom 1");
	TELL(send(fd, "def", 3, 0x10000000));
	peer_tell("recvfrom 1");
}

static void more_makes_one(void)
{
	int fd = dgram_with(1);

	TELL(send(fd, "abc", 3, MSG_MORE));
	TELL(send(fd, "def", 3, MSG_MORE));
	TELL(send(fd, "ghi", 3, 0));
	peer_tell("recvfrom 1");
}

static void cork_makes_one(void)
{
	int fd = dgram_with(1), on = 1, off = 0;

	TELL(setsockopt(fd, IPPROTO_UDP, UDP_CORK, &on, sizeof(on)));
	TELL(send(fd, "abc", 3, 0));
	TELL(send(fd, "def", 3, 0));
	TELL(setsockopt(fd, IPPROTO_UDP, UDP_CORK, &off, sizeof(off)));
	peer_tell("recvfrom 1");
}

static void segment_option(void)
{
	int fd = dgram_with(1), size = 3, got = 0;
	socklen_t len = sizeof(got);

	TELL(setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)));
	TELL(getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &got, &len));
	say("size %d", got);
	TELL(send(fd, "abcdefgh", 8, 0));
	for (int i = 0; i < 3; i++)
		peer_tell("recvfrom 1");
	size = -1;
	TELL(setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)));
	size = 100000;
	TELL(setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)));
}

static long send_segments(int fd, const char *text, uint16_t size)
{
	char control[CMSG_SPACE(sizeof(size))] = "";
	struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = IPPROTO_UDP;
	c->cmsg_type = UDP_SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof(size));
	memcpy(CMSG_DATA(c), &size, sizeof(size));
	return sendmsg(fd, &m, 0);
}

static void segment_control(void)
{
	int fd = dgram_with(1);

	say_result("sendmsg", send_segments(fd, "abcdefgh", 4));
	peer_tell("recvfrom 1");
	peer_tell("recvfrom 1");
	say_result("sendmsg", send_segments(fd, "abc", 4));
	peer_tell("recvfrom 1");
}

static void gro(void)
{
	char control[64];
	struct iovec iov = { data, sizeof(data) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct name here, there;
	int fd = dgram_bound(&here), from = dgram_bound(&there), on = 1;
	struct cmsghdr *c;
	long got;

	TELL(setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)));
	NEED(connect(from, sa(&here), here.len));
	say_result("sendmsg", send_segments(from, "abcdefghij", 4));
	calls_wait(fd, POLLIN);
	got = recvmsg(fd, &m, 0);
	say_bytes("recvmsg", got, data);
	c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO)
		say("segments of %d", *(int *)(void *)CMSG_DATA(c));
}

static void many_in_order(void)
{
	int fd = dgram_with(1);
	char text[16];

	for (int i = 0; i < 50; i++) {
		int len = snprintf(text, sizeof(text), "n%d", i);

		NEED(send(fd, text, len, 0));
	}
	for (int i = 0; i < 50; i++) {
		snprintf(text, sizeof(text), "n%d", i);
		if (peer("recvfrom 1") < 0 || strcmp(peer_text, text))
			say("%s instead of %s", peer_text, text);
	}
}

static void queue_sizes(void)
{
	int fd = dgram_with(1), count = -1;

	peer_must("send 1 0 abc");
	peer_must("send 1 0 defgh");
	calls_wait(fd, POLLIN);
	NEED(ioctl(fd, FIONREAD, &count));
	say("first %d", count);
	recv(fd, data, 1, 0);
	calls_wait(fd, POLLIN);
	NEED(ioctl(fd, FIONREAD, &count));
	say("second %d", count);
	recv(fd, data, 1, 0);
	NEED(ioctl(fd, FIONREAD, &count));
	say("none %d", count);
	NEED(ioctl(fd, TIOCOUTQ, &count));
	say("out %d", count);
	TELL(ioctl(fd, SIOCATMARK, &count));
}

/* Not more, and not fewer, though they need not have come together. */
static int receive_three(int fd, struct mmsghdr *got)
{
	int count = 0;

	while (count < 3 && calls_wait(fd, POLLIN))
		count += NEED(recvmmsg(fd, got + count, 4 - count, MSG_DONTWAIT, NULL));
	return count;
}

static void mmsg(void)
{
	struct iovec iov[3] = { { "a", 1 }, { "bc", 2 }, { "def", 3 } };
	struct iovec in[4] = {
		{ data, 10 }, { data + 10, 1 }, { data + 20, 10 }, { data + 30, 10 }
	};
	struct mmsghdr out[3] = { 0 }, got[4] = { 0 };
	struct name here, there;
	int fd = dgram_bound(&here), from = dgram_bound(&there);
	struct timespec limit = { .tv_nsec = 30000000 };

	for (int i = 0; i < 3; i++) {
		out[i].msg_hdr.msg_iov = &iov[i];
		out[i].msg_hdr.msg_iovlen = 1;
		out[i].msg_hdr.msg_name = &here.ss;
		out[i].msg_hdr.msg_namelen = here.len;
	}
	for (int i = 0; i < 4; i++) {
		got[i].msg_hdr.msg_iov = &in[i];
		got[i].msg_hdr.msg_iovlen = 1;
	}
	TELL(sendmmsg(from, out, 3, 0));
	say("%u %u %u", out[0].msg_len, out[1].msg_len, out[2].msg_len);
	say("%d", receive_three(fd, got));
	say("%u %u/%#x %u", got[0].msg_len, got[1].msg_len, got[1].msg_hdr.msg_flags,
	    got[2].msg_len);
	TELL(recvmmsg(fd, got, 4, MSG_DONTWAIT, &limit));
	NEED(sendto(from, "x", 1, 0, sa(&here), here.len));
	TELL(recvmmsg(fd, got, 4, MSG_WAITFORONE, NULL));
	/* what is left of the time */
	NEED(sendto(from, "x", 1, 0, sa(&here), here.len));
	limit = (struct timespec){ .tv_sec = 100 };
	TELL(recvmmsg(fd, got, 1, 0, &limit));
	say("%d %d", limit.tv_sec >= 50 && limit.tv_sec < 100, limit.tv_nsec < 1000000000);
	limit = (struct timespec){ .tv_nsec = 1 };
	NEED(sendto(from, "x", 1, 0, sa(&here), here.len));
	TELL(recvmmsg(fd, got, 4, 0, &limit));
	say("%ld.%09ld", (long)limit.tv_sec, limit.tv_nsec);
	limit = (struct timespec){ .tv_nsec = 1000000000 };
	TELL(recvmmsg(fd, got, 4, 0, &limit));
}

static void mmsg_stops_at_error(void)
{
	struct iovec iov = { "a", 1 };
	struct name bad = loopback(0);
	struct mmsghdr out[3] = { 0 };
	int fd = dgram_with(1);

	for (int i = 0; i < 3; i++) {
		out[i].msg_hdr.msg_iov = &iov;
		out[i].msg_hdr.msg_iovlen = 1;
	}
	out[1].msg_hdr.msg_name = &bad.ss;
	out[1].msg_hdr.msg_namelen = bad.len;
	TELL(sendmmsg(fd, out, 3, 0));
	TELL(sendmmsg(fd, out + 1, 2, 0));
}

static void source_name(void)
{
	struct name here, name = { .len = sizeof(name.ss) };
	int fd = dgram_bound(&here), port = peer_must("udp 1 %d", family);
	socklen_t lens[] = { 0, 4, 100 };

	peer_must("sendto 1 %d %d abc", family, port_of(&here));
	TELL(recvfrom(fd, data, 10, 0, sa(&name), &name.len));
	say_name("from", &name);
	say("%s", port_of(&name) == port ? "its port" : "another port");
	for (size_t i = 0; i < COUNT(lens); i++) {
		memset(&name, 0x55, sizeof(name));
		name.len = lens[i];
		peer_must("sendto 1 %d %d abc", family, port_of(&here));
		TELL(recvfrom(fd, data, 10, 0, sa(&name), &name.len));
		say("%u %#x", name.len, name.ss.ss_family);
	}
}

static void bound_by_two(void)
{
	struct name name;
	int a = dgram_bound(&name), b = udp(), c = udp(), on = 1;

	TELL(bind(b, sa(&name), name.len));
	NEED(setsockopt(b, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	TELL(bind(b, sa(&name), name.len));
	NEED(setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	TELL(bind(b, sa(&name), name.len));
	NEED(setsockopt(c, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)));
	TELL(bind(c, sa(&name), name.len));
}

static void reuseaddr_last_hears(void)
{
	struct name name = loopback(0);
	int a = udp(), b = udp(), on = 1;

	NEED(setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	NEED(setsockopt(b, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	NEED(bind(a, sa(&name), name.len));
	name = local_name(a);
	NEED(bind(b, sa(&name), name.len));
	peer_must("udp 1 %d", family);
	peer_must("sendto 1 %d %d abc", family, port_of(&name));
	TELL(poll((struct pollfd[]){ { a, POLLIN, 0 }, { b, POLLIN, 0 } }, 2, 5000));
	say_events("first", events_now(a, POLLIN));
	say_events("second", events_now(b, POLLIN));
}

static void to_itself(void)
{
	struct name name;
	int fd = dgram_bound(&name);

	TELL(connect(fd, sa(&name), name.len));
	TELL(send(fd, "me", 2, 0));
	say_bytes("recv", recv(fd, data, 10, 0), data);
}

static void broadcast_not_allowed(void)
{
	struct name to = loopback(9);
	int fd = udp(), on = 1;

	if (family != AF_INET)
		return;
	((struct sockaddr_in *)(void *)&to.ss)->sin_addr.s_addr = htonl(0x7fffffff);
	TELL(sendto(fd, "x", 1, 0, sa(&to), to.len));
	TELL(connect(fd, sa(&to), to.len));
	TELL(setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)));
	TELL(sendto(fd, "x", 1, 0, sa(&to), to.len));
	TELL(connect(fd, sa(&to), to.len));
}

static void unreachable_at_once(void)
{
	struct name to = loopback(9);
	int fd = udp();

	if (family != AF_INET)
		return;
	((struct sockaddr_in *)(void *)&to.ss)->sin_addr.s_addr = htonl(0x0a636363);
	TELL(sendto(fd, "x", 1, 0, sa(&to), to.len));
	say_error(fd);
	TELL(connect(fd, sa(&to), to.len));
}

static void receive_timeout(void)
{
	const struct timeval limit = { .tv_usec = 30000 };
	int fd = dgram_with(1);
	int64_t begin = now_ms();

	NEED(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
	TELL(recv(fd, data, 10, 0));
	say("%s", now_ms() - begin >= 29 ? "not before its time" : "early");
}

const struct call_case cases[] = {
	{ "talk", talk },
	{ "truncated", truncated },
	{ "empty", empty },
	{ "empty_received", empty_received },
	{ "one_from_many_pieces", one_from_many_pieces },
	{ "too_long", too_long },
	{ "not_connected", not_connected },
	{ "named_by_send", named_by_send },
	{ "named_at_once", named_at_once },
	{ "sendto_while_connected", sendto_while_connected },
	{ "connected_hears_peer_only", connected_hears_peer_only },
	{ "queued_before_connect_stays", queued_before_connect_stays },
	{ "disconnected", disconnected },
	{ "disconnected_unbound", disconnected_unbound },
	{ "connected_again", connected_again },
	{ "refused_told_once", refused_told_once },
	{ "refused_unconnected_is_silent", refused_unconnected_is_silent },
	{ "shut", shut },
	{ "shut_still_hears", shut_still_hears },
	{ "flags", flags },
	{ "more_makes_one", more_makes_one },
	{ "cork_makes_one", cork_makes_one },
	{ "segment_option", segment_option },
	{ "segment_control", segment_control },
	{ "gro", gro },
	{ "many_in_order", many_in_order },
	{ "queue_sizes", queue_sizes },
	{ "mmsg", mmsg },
	{ "mmsg_stops_at_error", mmsg_stops_at_error },
	{ "source_name", source_name },
	{ "bound_by_two", bound_by_two },
	{ "reuseaddr_last_hears", reuseaddr_last_hears },
	{ "to_itself", to_itself },
	{ "broadcast_not_allowed", broadcast_not_allowed },
	{ "unreachable_at_once", unreachable_at_once },
	{ "receive_timeout", receive_timeout },
};
const size_t case_count = COUNT(cases);
