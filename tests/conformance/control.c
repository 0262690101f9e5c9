/* SPDX-License-Identifier: MIT */
/* Control messages of datagrams, both ways; the error queue; multicast. */
#include "conformance.h"

#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <net/if.h>

static char data[256], control[512];
static struct name from;

static struct msghdr got;
static struct iovec iov;

static long receive(int fd, int flags)
{
	iov = (struct iovec){ data, sizeof(data) };
	from.len = sizeof(from.ss);
	got = (struct msghdr){ .msg_iov = &iov,
			       .msg_iovlen = 1,
			       .msg_control = control,
			       .msg_controllen = sizeof(control),
			       .msg_name = &from.ss,
			       .msg_namelen = sizeof(from.ss) };
	return recvmsg(fd, &got, flags);
}

static void say_address(const char *what, const void *address)
{
	char text[INET6_ADDRSTRLEN];

	say("%s %s", what, inet_ntop(family, address, text, sizeof(text)));
}

static void say_pktinfo(const struct cmsghdr *c)
{
	struct in_pktinfo in;
	struct in6_pktinfo in6;

	if (c->cmsg_level == IPPROTO_IP) {
		memcpy(&in, CMSG_DATA(c), sizeof(in));
		say("interface %s",
		    (unsigned)in.ipi_ifindex == if_nametoindex("lo") ? "lo" : "other");
		say_address("spec", &in.ipi_spec_dst);
		say_address("to", &in.ipi_addr);
	} else {
		memcpy(&in6, CMSG_DATA(c), sizeof(in6));
		say("interface %s", in6.ipi6_ifindex == if_nametoindex("lo") ? "lo" : "other");
		say_address("to", &in6.ipi6_addr);
	}
}

static void say_error(const struct cmsghdr *c)
{
	struct sock_extended_err e;

	memcpy(&e, CMSG_DATA(c), sizeof(e));
	say("error %s origin %u type %u code %u info %u", strerrorname_np(e.ee_errno), e.ee_origin,
	    e.ee_type, e.ee_code, e.ee_info);
	say("offender family %d",
	    SO_EE_OFFENDER((struct sock_extended_err *)(void *)CMSG_DATA(c))->sa_family);
}

/* Values that differ from run to run are not printed. */
static void say_control(void)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&got); c; c = CMSG_NXTHDR(&got, c)) {
		bool time = c->cmsg_level == SOL_SOCKET;
		int value = 0;

		say("control %d/%d length %zu", c->cmsg_level, c->cmsg_type, (size_t)c->cmsg_len);
		if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) ||
		    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)) {
			say_pktinfo(c);
			continue;
		}
		if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
		    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR)) {
			say_error(c);
			continue;
		}
		if (time)
			continue;
		memcpy(&value, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0) == 1 ? 1 : sizeof(value));
		say("value %d", value);
	}
	say("flags %#x", got.msg_flags);
}

static void set(int fd, int level, int name, int value)
{
	errno = 0;
	say_result("set", setsockopt(fd, level, name, &value, sizeof(value)));
}

static int hearing(void)
{
	struct name here;
	int fd = dgram_bound(&here);

	peer_must("udp 1 %d", family);
	peer_must("connectto 1 %d %d", family, port_of(&here));
	return fd;
}

static void hear(int fd)
{
	peer_must("send 1 0 abc");
	say_bytes("recvmsg", receive(fd, 0), data);
	say_control();
}

static void none_asked_for(void)
{
	hear(hearing());
}

static void pktinfo(void)
{
	int fd = hearing();

	if (family == AF_INET)
		set(fd, IPPROTO_IP, IP_PKTINFO, 1);
	else
		set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	hear(fd);
	if (family == AF_INET)
		set(fd, IPPROTO_IP, IP_PKTINFO, 0);
	else
		set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 0);
	hear(fd);
}

static void pktinfo_of_wildcard(void)
{
	struct name name = { .ss.ss_family = family };
	int fd = NEED(socket(family, SOCK_DGRAM, 0));

	NEED(bind(fd, sa(&name),
		  family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)));
	name = local_name(fd);
	if (family == AF_INET)
		set(fd, IPPROTO_IP, IP_PKTINFO, 1);
	else
		set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	peer_must("udp 1 %d", family);
	peer_must("sendto 1 %d %d abc", family, port_of(&name));
	say_bytes("recvmsg", receive(fd, 0), data);
	say_control();
}

static void tos_heard(void)
{
	int fd = hearing();

	if (family == AF_INET) {
		set(fd, IPPROTO_IP, IP_RECVTOS, 1);
		peer_must("setopt 1 %d %d 0x28", IPPROTO_IP, IP_TOS);
	} else {
		set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
		peer_must("setopt 1 %d %d 0x28", IPPROTO_IPV6, IPV6_TCLASS);
	}
	hear(fd);
}

static void ttl_heard(void)
{
	int fd = hearing();

	if (family == AF_INET) {
		set(fd, IPPROTO_IP, IP_RECVTTL, 1);
		peer_must("setopt 1 %d %d 7", IPPROTO_IP, IP_TTL);
	} else {
		set(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
		peer_must("setopt 1 %d %d 7", IPPROTO_IPV6, IPV6_UNICAST_HOPS);
	}
	hear(fd);
}

static void timestamp(void)
{
	int fd = hearing();

	set(fd, SOL_SOCKET, SO_TIMESTAMP, 1);
	hear(fd);
}

static void timestamp_ns(void)
{
	int fd = hearing();

	set(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
	hear(fd);
}

static void several_at_once(void)
{
	int fd = hearing();

	set(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
	if (family == AF_INET) {
		set(fd, IPPROTO_IP, IP_RECVTOS, 1);
		set(fd, IPPROTO_IP, IP_RECVTTL, 1);
		set(fd, IPPROTO_IP, IP_PKTINFO, 1);
	} else {
		set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
		set(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
		set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	}
	hear(fd);
}

static void room_too_small(void)
{
	int fd = hearing();

	if (family == AF_INET)
		set(fd, IPPROTO_IP, IP_PKTINFO, 1);
	else
		set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	for (size_t room = 0; room <= CMSG_SPACE(12); room += 8) {
		peer_must("send 1 0 abc");
		iov = (struct iovec){ data, sizeof(data) };
		got = (struct msghdr){ .msg_iov = &iov,
				       .msg_iovlen = 1,
				       .msg_control = control,
				       .msg_controllen = room };
		NEED(recvmsg(fd, &got, 0));
		say("room %zu: %zu flags %#x", room, (size_t)got.msg_controllen, got.msg_flags);
	}
	peer_must("send 1 0 abc");
	TELL(recv(fd, data, sizeof(data), 0));
}

static void peeked(void)
{
	int fd = hearing();

	if (family == AF_INET)
		set(fd, IPPROTO_IP, IP_PKTINFO, 1);
	else
		set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	peer_must("send 1 0 abc");
	say_bytes("peek", receive(fd, MSG_PEEK), data);
	say_control();
	say_bytes("recvmsg", receive(fd, 0), data);
	say_control();
}

/* --- sending ----------------------------------------------------------- */

static struct msghdr out;

static struct cmsghdr *control_for(int level, int type, size_t len)
{
	struct cmsghdr *c;

	memset(control, 0, sizeof(control));
	iov = (struct iovec){ "hello", 5 };
	out = (struct msghdr){ .msg_iov = &iov,
			       .msg_iovlen = 1,
			       .msg_control = control,
			       .msg_controllen = CMSG_SPACE(len) };
	c = CMSG_FIRSTHDR(&out);
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	return c;
}

static void send_value(int fd, int level, int type, int value)
{
	struct cmsghdr *c = control_for(level, type, sizeof(value));

	memcpy(CMSG_DATA(c), &value, sizeof(value));
	say_result("sendmsg", sendmsg(fd, &out, 0));
}

static void tos_sent(void)
{
	struct name here;
	int to = dgram_bound(&here), fd = NEED(socket(family, SOCK_DGRAM, 0));

	if (family == AF_INET)
		set(to, IPPROTO_IP, IP_RECVTOS, 1);
	else
		set(to, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	NEED(connect(fd, sa(&here), here.len));
	if (family == AF_INET)
		send_value(fd, IPPROTO_IP, IP_TOS, 0x10);
	else
		send_value(fd, IPPROTO_IPV6, IPV6_TCLASS, 0x10);
	say_bytes("recvmsg", receive(to, 0), data);
	say_control();
}

static void ttl_sent(void)
{
	struct name here;
	int to = dgram_bound(&here), fd = NEED(socket(family, SOCK_DGRAM, 0));

	if (family == AF_INET)
		set(to, IPPROTO_IP, IP_RECVTTL, 1);
	else
		set(to, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
	NEED(connect(fd, sa(&here), here.len));
	if (family == AF_INET)
		send_value(fd, IPPROTO_IP, IP_TTL, 9);
	else
		send_value(fd, IPPROTO_IPV6, IPV6_HOPLIMIT, 9);
	say_bytes("recvmsg", receive(to, 0), data);
	say_control();
}

static void source_chosen(void)
{
	struct name here;
	int to = dgram_bound(&here), fd = NEED(socket(family, SOCK_DGRAM, 0));
	struct in_pktinfo info = { .ipi_spec_dst.s_addr = htonl(0x7f000005) };

	if (family != AF_INET)
		return;
	NEED(connect(fd, sa(&here), here.len));
	memcpy(CMSG_DATA(control_for(IPPROTO_IP, IP_PKTINFO, sizeof(info))), &info, sizeof(info));
	say_result("sendmsg", sendmsg(fd, &out, 0));
	say_bytes("recvmsg", receive(to, 0), data);
	say_name("from", &from);
}

static void control_refused(void)
{
	int fd = dgram_with(1);
	struct cmsghdr *c;

	send_value(fd, IPPROTO_IP, 99, 1);
	send_value(fd, IPPROTO_IPV6, 99, 1);
	send_value(fd, SOL_SOCKET, 99, 1);
	send_value(fd, IPPROTO_UDP, 99, 1);
	send_value(fd, IPPROTO_IP, IP_TTL, 300);
	c = control_for(IPPROTO_IP, IP_TOS, 4);
	c->cmsg_len = 3;
	say_result("short", sendmsg(fd, &out, 0));
	c->cmsg_len = 1000;
	say_result("long", sendmsg(fd, &out, 0));
}

static void control_of_stream(void)
{
	int fd = connected(1);

	send_value(fd, IPPROTO_IP, IP_TTL, 9);
	send_value(fd, SOL_SOCKET, 99, 9);
	peer_tell("waitbytes 1 5");
	peer_tell("recv 1 100 0");
}

/* --- the error queue --------------------------------------------------- */

static struct name nobody(void)
{
	struct name name = peer_name(peer_must("udp 60 %d", family));

	peer_must("close 60");
	wait_port_free(name, SOCK_DGRAM);
	return name;
}

static void recverr(int fd, int on)
{
	if (family == AF_INET)
		set(fd, IPPROTO_IP, IP_RECVERR, on);
	else
		set(fd, IPPROTO_IPV6, IPV6_RECVERR, on);
}

static void queue_empty(void)
{
	int fd = dgram_with(1), stream = connected(2);

	say_result("recvmsg", receive(fd, MSG_ERRQUEUE));
	say_result("recv", recv(stream, data, 1, MSG_ERRQUEUE));
	recverr(fd, 1);
	say_result("recvmsg", receive(fd, MSG_ERRQUEUE));
}

static void queue_refused(void)
{
	struct name name = nobody();
	int fd = NEED(socket(family, SOCK_DGRAM, 0));

	recverr(fd, 1);
	NEED(connect(fd, sa(&name), name.len));
	TELL(send(fd, "hello", 5, 0));
	say_events("refused", calls_wait(fd, 0));
	say_bytes("queue", receive(fd, MSG_ERRQUEUE), data);
	say_name("name", &(struct name){ .ss = from.ss, .len = got.msg_namelen });
	say_control();
	say_events("taken", events_now(fd, POLLIN | POLLOUT));
	say_result("again", receive(fd, MSG_ERRQUEUE));
	say_result("send", send(fd, "x", 1, 0));
}

static void queue_of_unconnected(void)
{
	struct name name = nobody();
	int fd = NEED(socket(family, SOCK_DGRAM, 0));

	recverr(fd, 1);
	TELL(sendto(fd, "hello", 5, 0, sa(&name), name.len));
	say_events("refused", calls_wait(fd, 0));
	say_result("recv", recv(fd, data, 1, MSG_DONTWAIT));
	say_events("error taken", events_now(fd, POLLIN | POLLOUT));
	say_bytes("queue", receive(fd, MSG_ERRQUEUE), data);
	say("%s", port_of(&from) == port_of(&name) ? "whom it was sent to" : "another");
	say_events("queue taken", events_now(fd, POLLIN | POLLOUT));
}

static void queue_truncated(void)
{
	struct name name = nobody();
	int fd = NEED(socket(family, SOCK_DGRAM, 0));

	recverr(fd, 1);
	NEED(connect(fd, sa(&name), name.len));
	TELL(send(fd, "hello", 5, 0));
	calls_wait(fd, 0);
	TELL(recv(fd, data, 2, MSG_ERRQUEUE));
	TELL(recv(fd, data, 2, MSG_ERRQUEUE));
}

/* --- multicast --------------------------------------------------------- */

static struct name group(int port)
{
	struct name name = loopback(port);

	if (family == AF_INET)
		((struct sockaddr_in *)(void *)&name.ss)->sin_addr.s_addr = htonl(0xefc0ffee);
	else
		NEED(inet_pton(AF_INET6, "ff01::4242",
			       &((struct sockaddr_in6 *)(void *)&name.ss)->sin6_addr));
	return name;
}

static int join(int fd, bool in)
{
	struct name name = group(0);
	struct ip_mreq v4 = { .imr_multiaddr = ((struct sockaddr_in *)(void *)&name.ss)->sin_addr,
			      .imr_interface.s_addr = htonl(INADDR_LOOPBACK) };
	struct ipv6_mreq v6 = {
		.ipv6mr_multiaddr = ((struct sockaddr_in6 *)(void *)&name.ss)->sin6_addr,
		.ipv6mr_interface = if_nametoindex("lo"),
	};

	if (family == AF_INET)
		return setsockopt(fd, IPPROTO_IP, in ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, &v4,
				  sizeof(v4));
	return setsockopt(fd, IPPROTO_IPV6, in ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, &v6,
			  sizeof(v6));
}

static int wildcard(struct name *ret_name)
{
	struct name name = { .ss.ss_family = family };
	int fd = NEED(socket(family, SOCK_DGRAM, 0));

	NEED(bind(fd, sa(&name),
		  family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)));
	*ret_name = local_name(fd);
	return fd;
}

static int by_loopback(int fd)
{
	struct in_addr lo = { htonl(INADDR_LOOPBACK) };
	int index = if_nametoindex("lo");

	if (family == AF_INET)
		return setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &lo, sizeof(lo));
	return setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof(index));
}

static void multicast_joined(void)
{
	struct name here, to;
	int fd = wildcard(&here), by = NEED(socket(family, SOCK_DGRAM, 0));

	if (family != AF_INET) /* an interface without a route to such groups */
		return;
	to = group(port_of(&here));
	TELL(join(fd, true));
	TELL(by_loopback(by));
	TELL(sendto(by, "hello", 5, 0, sa(&to), to.len));
	say_events("arrived", calls_wait(fd, POLLIN));
	say_bytes("recv", receive(fd, MSG_DONTWAIT), data);
	TELL(join(fd, true));
	TELL(join(fd, false));
	TELL(join(fd, false));
}

static void multicast_to_two(void)
{
	struct name here, to;
	int a = NEED(socket(family, SOCK_DGRAM, 0)), b = NEED(socket(family, SOCK_DGRAM, 0)),
	    on = 1;
	struct name any = { .ss.ss_family = family };
	socklen_t len = family == AF_INET ? sizeof(struct sockaddr_in)
					  : sizeof(struct sockaddr_in6);

	if (family != AF_INET) /* an interface without a route to such groups */
		return;
	NEED(setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	NEED(setsockopt(b, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	NEED(bind(a, sa(&any), len));
	here = local_name(a);
	NEED(bind(b, sa(&here), len));
	TELL(join(a, true));
	TELL(join(b, true));
	to = group(port_of(&here));
	TELL(by_loopback(b));
	TELL(sendto(b, "hello", 5, 0, sa(&to), to.len));
	calls_wait(a, POLLIN);
	say_bytes("first", recv(a, data, sizeof(data), 0), data);
	say_bytes("second", recv(b, data, sizeof(data), 0), data);
}

static void multicast_without_loop(void)
{
	struct name here, to;
	int fd = wildcard(&here), by = NEED(socket(family, SOCK_DGRAM, 0)), off = 0, got_value = -1;
	socklen_t len = sizeof(got_value);

	if (family != AF_INET) /* an interface without a route to such groups */
		return;
	to = group(port_of(&here));
	TELL(join(fd, true));
	TELL(by_loopback(by));
	if (family == AF_INET)
		TELL(setsockopt(by, IPPROTO_IP, IP_MULTICAST_LOOP, &off, sizeof(off)));
	else
		TELL(setsockopt(by, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, &off, sizeof(off)));
	if (family == AF_INET)
		TELL(getsockopt(by, IPPROTO_IP, IP_MULTICAST_LOOP, &got_value, &len));
	say("%d %u", got_value, len);
	TELL(sendto(by, "hello", 5, 0, sa(&to), to.len));
	say_events("arrived", calls_wait(fd, POLLIN));
}

static void multicast_bad(void)
{
	int fd = NEED(socket(AF_INET, SOCK_DGRAM, 0));
	struct ip_mreq bad = { .imr_multiaddr.s_addr = htonl(0x0a000001) };
	struct ip_mreqn far = { .imr_multiaddr.s_addr = htonl(0xefc0ffee), .imr_ifindex = 12345 };

	TELL(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &bad, sizeof(bad)));
	TELL(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &bad, 4));
	TELL(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &far, sizeof(far)));
	TELL(setsockopt(fd, IPPROTO_IP, IP_DROP_MEMBERSHIP, &bad, sizeof(bad)));
	TELL(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &(int){ 300 }, sizeof(int)));
	TELL(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &(int){ 3 }, sizeof(int)));
	fd = NEED(socket(AF_INET, SOCK_STREAM, 0));
	TELL(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &bad, sizeof(bad)));
}

static void multicast_source(void)
{
	struct name here, to;
	struct ip_mreq_source m = { .imr_multiaddr.s_addr = htonl(0xefc0ffee),
				    .imr_interface.s_addr = htonl(INADDR_LOOPBACK),
				    .imr_sourceaddr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd, by;

	if (family != AF_INET)
		return;
	fd = wildcard(&here);
	by = NEED(socket(family, SOCK_DGRAM, 0));
	to = group(port_of(&here));
	TELL(setsockopt(fd, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &m, sizeof(m)));
	TELL(by_loopback(by));
	TELL(sendto(by, "hello", 5, 0, sa(&to), to.len));
	say_events("arrived", calls_wait(fd, POLLIN));
	TELL(setsockopt(fd, IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP, &m, sizeof(m)));
}

static void dual_stack_pktinfo(void)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6 };
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(any);
	int fd = NEED(socket(AF_INET6, SOCK_DGRAM, 0)), by = NEED(socket(AF_INET, SOCK_DGRAM, 0));

	NEED(bind(fd, (void *)&any, sizeof(any)));
	NEED(getsockname(fd, (void *)&any, &len));
	to.sin_port = any.sin6_port;
	set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	set(fd, IPPROTO_IP, IP_PKTINFO, 1);
	NEED(sendto(by, "hello", 5, 0, (void *)&to, sizeof(to)));
	say_bytes("recvmsg", receive(fd, 0), data);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&got); c; c = CMSG_NXTHDR(&got, c))
		say("control %d/%d length %zu", c->cmsg_level, c->cmsg_type, (size_t)c->cmsg_len);
	say_name("from", &(struct name){ .ss = from.ss, .len = got.msg_namelen });
}

const struct call_case cases[] = {
	{ "none_asked_for", none_asked_for },
	{ "pktinfo", pktinfo },
	{ "pktinfo_of_wildcard", pktinfo_of_wildcard },
	{ "tos_heard", tos_heard },
	{ "ttl_heard", ttl_heard },
	{ "timestamp", timestamp },
	{ "timestamp_ns", timestamp_ns },
	{ "several_at_once", several_at_once },
	{ "room_too_small", room_too_small },
	{ "peeked", peeked },
	{ "tos_sent", tos_sent },
	{ "ttl_sent", ttl_sent },
	{ "source_chosen", source_chosen },
	{ "control_refused", control_refused },
	{ "control_of_stream", control_of_stream },
	{ "queue_empty", queue_empty },
	{ "queue_refused", queue_refused },
	{ "queue_of_unconnected", queue_of_unconnected },
	{ "queue_truncated", queue_truncated },
	{ "multicast_joined", multicast_joined },
	{ "multicast_to_two", multicast_to_two },
	{ "multicast_without_loop", multicast_without_loop },
	{ "multicast_bad", multicast_bad },
	{ "multicast_source", multicast_source },
	{ "dual_stack_pktinfo", dual_stack_pktinfo },
};
const size_t case_count = COUNT(cases);
