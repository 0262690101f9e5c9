/* SPDX-License-Identifier: MIT */
/* getsockopt and setsockopt: read back, before and after connect, and what is refused. */
#include "conformance.h"

#include <linux/capability.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/syscall.h>

/* Linux has them in headers that do not go together with the above. */
#ifndef SO_INCOMING_NAPI_ID
#define SO_INCOMING_NAPI_ID 56
#endif

static void set(const char *what, int fd, int level, int name, int value)
{
	char text[80];

	snprintf(text, sizeof(text), "%s := %d", what, value);
	errno = 0;
	say_result(text, setsockopt(fd, level, name, &value, sizeof(value)));
}

static void get(const char *what, int fd, int level, int name)
{
	int value = 0x5a5a5a5a;
	socklen_t len = sizeof(value);

	errno = 0;
	if (getsockopt(fd, level, name, &value, &len) < 0)
		say_result(what, -1);
	else
		say("%s = %d, %u bytes", what, len == 1 ? *(uint8_t *)&value : value, len);
}

#define SET(fd, level, name, value) set(#name, fd, level, name, value)
#define GET(fd, level, name) get(#name, fd, level, name)
#define BOTH(fd, level, name, value) (SET(fd, level, name, value), GET(fd, level, name))

static void socket_options(int fd)
{
	BOTH(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	BOTH(fd, SOL_SOCKET, SO_KEEPALIVE, 5);
	BOTH(fd, SOL_SOCKET, SO_REUSEADDR, 3);
	BOTH(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	BOTH(fd, SOL_SOCKET, SO_BROADCAST, 1);
	BOTH(fd, SOL_SOCKET, SO_DONTROUTE, 1);
	BOTH(fd, SOL_SOCKET, SO_DONTROUTE, 0);
	BOTH(fd, SOL_SOCKET, SO_OOBINLINE, 1);
	BOTH(fd, SOL_SOCKET, SO_PRIORITY, 4);
	BOTH(fd, SOL_SOCKET, SO_RCVLOWAT, 10);
	BOTH(fd, SOL_SOCKET, SO_SNDLOWAT, 10);
	BOTH(fd, SOL_SOCKET, SO_SNDBUF, 40000);
	BOTH(fd, SOL_SOCKET, SO_RCVBUF, 40000);
	BOTH(fd, SOL_SOCKET, SO_SNDBUF, 1);
	BOTH(fd, SOL_SOCKET, SO_RCVBUF, 1);
	BOTH(fd, SOL_SOCKET, SO_TIMESTAMP, 1);
	BOTH(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
	BOTH(fd, SOL_SOCKET, SO_NO_CHECK, 1);
	BOTH(fd, SOL_SOCKET, SO_BUSY_POLL, 0);
	BOTH(fd, SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1);
	BOTH(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
}

static void socket_options_new(void)
{
	socket_options(NEED(socket(family, SOCK_STREAM, 0)));
}

static void socket_options_connected(void)
{
	socket_options(connected(1));
}

static void socket_options_dgram(void)
{
	socket_options(NEED(socket(family, SOCK_DGRAM, 0)));
}

static void socket_facts(void)
{
	struct name name;
	int fd[] = { NEED(socket(family, SOCK_STREAM, 0)), NEED(socket(family, SOCK_DGRAM, 0)),
		     listener(&name), connected(1) };

	for (size_t i = 0; i < COUNT(fd); i++) {
		GET(fd[i], SOL_SOCKET, SO_TYPE);
		GET(fd[i], SOL_SOCKET, SO_PROTOCOL);
		GET(fd[i], SOL_SOCKET, SO_DOMAIN);
		GET(fd[i], SOL_SOCKET, SO_ACCEPTCONN);
		GET(fd[i], SOL_SOCKET, SO_ERROR);
		SET(fd[i], SOL_SOCKET, SO_TYPE, 1);
		SET(fd[i], SOL_SOCKET, SO_PROTOCOL, 1);
		SET(fd[i], SOL_SOCKET, SO_DOMAIN, 1);
		SET(fd[i], SOL_SOCKET, SO_ERROR, 1);
		SET(fd[i], SOL_SOCKET, SO_ACCEPTCONN, 1);
	}
}

static void linger_read_back(void)
{
	struct linger l = { 1, 7 }, got = { 0 };
	int fd = NEED(socket(family, SOCK_STREAM, 0));
	socklen_t len = sizeof(got);

	TELL(getsockopt(fd, SOL_SOCKET, SO_LINGER, &got, &len));
	say("%d %d %u", got.l_onoff, got.l_linger, len);
	TELL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	TELL(getsockopt(fd, SOL_SOCKET, SO_LINGER, &got, &len));
	say("%d %d", got.l_onoff, got.l_linger);
	l.l_linger = -1;
	TELL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	TELL(getsockopt(fd, SOL_SOCKET, SO_LINGER, &got, &len));
	say("%d %s", got.l_onoff, got.l_linger > 1000 ? "long" : "short");
	TELL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, 4));
	len = 4;
	TELL(getsockopt(fd, SOL_SOCKET, SO_LINGER, &got, &len));
	say("%u", len);
}

static void time_limits_read_back(void)
{
	struct timeval tv[] = { { 0, 0 },       { 1, 500000 }, { -1, 0 },
				{ 0, 1000000 }, { 0, -1 },     { 1L << 30, 0 } };
	int fd = NEED(socket(family, SOCK_STREAM, 0));

	for (size_t i = 0; i < COUNT(tv); i++) {
		struct timeval got = { 77, 77 };
		socklen_t len = sizeof(got);

		TELL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv[i], sizeof(tv[i])));
		TELL(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &got, &len));
		say("%ld.%06ld %u", (long)got.tv_sec, (long)got.tv_usec, len);
		TELL(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv[i], sizeof(tv[i])));
		TELL(getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &got, &len));
		say("%ld.%06ld %u", (long)got.tv_sec, (long)got.tv_usec, len);
	}
	TELL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv[1], 8));
}

static void tcp_options(int fd)
{
	BOTH(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	BOTH(fd, IPPROTO_TCP, TCP_NODELAY, 0);
	BOTH(fd, IPPROTO_TCP, TCP_CORK, 1);
	BOTH(fd, IPPROTO_TCP, TCP_CORK, 0);
	BOTH(fd, IPPROTO_TCP, TCP_KEEPIDLE, 60);
	BOTH(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
	BOTH(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
	BOTH(fd, IPPROTO_TCP, TCP_KEEPIDLE, 0);
	BOTH(fd, IPPROTO_TCP, TCP_KEEPIDLE, 40000);
	BOTH(fd, IPPROTO_TCP, TCP_KEEPINTVL, -1);
	BOTH(fd, IPPROTO_TCP, TCP_KEEPCNT, 200);
	BOTH(fd, IPPROTO_TCP, TCP_SYNCNT, 2);
	BOTH(fd, IPPROTO_TCP, TCP_SYNCNT, 0);
	BOTH(fd, IPPROTO_TCP, TCP_LINGER2, 10);
	BOTH(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 1);
	BOTH(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, 20000);
	BOTH(fd, IPPROTO_TCP, TCP_QUICKACK, 0);
	BOTH(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 5000);
	BOTH(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, -1);
	BOTH(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 10000);
	BOTH(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1);
	BOTH(fd, IPPROTO_TCP, TCP_SAVE_SYN, 1);
	BOTH(fd, IPPROTO_TCP, TCP_INQ, 1);
	BOTH(fd, IPPROTO_TCP, TCP_FASTOPEN, 4);
	BOTH(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 0);
	BOTH(fd, IPPROTO_TCP, TCP_MAXSEG, 1000);
	BOTH(fd, IPPROTO_TCP, TCP_MAXSEG, 1);
	BOTH(fd, IPPROTO_TCP, 99, 1);
}

static void tcp_options_new(void)
{
	tcp_options(NEED(socket(family, SOCK_STREAM, 0)));
}

static void tcp_options_connected(void)
{
	tcp_options(connected(1));
}

static void tcp_options_of_dgram(void)
{
	int fd = NEED(socket(family, SOCK_DGRAM, 0));

	BOTH(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	BOTH(fd, IPPROTO_UDP, 99, 1);
	fd = NEED(socket(family, SOCK_STREAM, 0));
	BOTH(fd, IPPROTO_UDP, 1, 1);
}

static void ip_options(int fd)
{
	BOTH(fd, IPPROTO_IP, IP_TOS, 0x10);
	BOTH(fd, IPPROTO_IP, IP_TOS, 0x1ff);
	BOTH(fd, IPPROTO_IP, IP_TTL, 33);
	BOTH(fd, IPPROTO_IP, IP_TTL, 0);
	BOTH(fd, IPPROTO_IP, IP_TTL, 256);
	BOTH(fd, IPPROTO_IP, IP_TTL, -1);
	BOTH(fd, IPPROTO_IP, IP_RECVTOS, 1);
	BOTH(fd, IPPROTO_IP, IP_RECVTTL, 1);
	BOTH(fd, IPPROTO_IP, IP_RECVERR, 1);
	BOTH(fd, IPPROTO_IP, IP_PKTINFO, 1);
	BOTH(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
	BOTH(fd, IPPROTO_IP, IP_MTU_DISCOVER, 99);
	BOTH(fd, IPPROTO_IP, IP_MULTICAST_TTL, 3);
	BOTH(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 0);
	BOTH(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	BOTH(fd, IPPROTO_IP, IP_FREEBIND, 1);
	BOTH(fd, IPPROTO_IP, IP_RECVORIGDSTADDR, 1);
	BOTH(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	BOTH(fd, IPPROTO_IP, IP_MINTTL, 0);
	BOTH(fd, IPPROTO_IP, IP_CHECKSUM, 1);
	BOTH(fd, IPPROTO_IP, IP_PASSSEC, 0);
	BOTH(fd, IPPROTO_IP, IP_UNICAST_IF, 0);
	BOTH(fd, IPPROTO_IP, 199, 1);
}

static void ip_options_stream(void)
{
	ip_options(NEED(socket(family, SOCK_STREAM, 0)));
}

static void ip_options_dgram(void)
{
	ip_options(NEED(socket(family, SOCK_DGRAM, 0)));
}

static void ip_options_bytes(void)
{
	int fd = NEED(socket(family, SOCK_DGRAM, 0));
	unsigned char byte = 0x18;
	socklen_t len = 1;

	TELL(setsockopt(fd, IPPROTO_IP, IP_TOS, &byte, 1));
	byte = 0;
	TELL(getsockopt(fd, IPPROTO_IP, IP_TOS, &byte, &len));
	say("%#x %u", byte, len);
	byte = 9;
	TELL(setsockopt(fd, IPPROTO_IP, IP_TTL, &byte, 1));
	GET(fd, IPPROTO_IP, IP_TTL);
	TELL(setsockopt(fd, IPPROTO_IP, IP_TTL, &byte, 0));
}

static void ipv6_options(int fd)
{
	BOTH(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	BOTH(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 33);
	BOTH(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, -1);
	BOTH(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256);
	BOTH(fd, IPPROTO_IPV6, IPV6_TCLASS, 0x20);
	BOTH(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	BOTH(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	BOTH(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
	BOTH(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
	BOTH(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
	BOTH(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 3);
	BOTH(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0);
	BOTH(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
	BOTH(fd, IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0);
	BOTH(fd, IPPROTO_IPV6, 72 /* IPV6_ADDR_PREFERENCES */, 2);
	BOTH(fd, IPPROTO_IPV6, 199, 1);
}

static void ipv6_options_stream(void)
{
	ipv6_options(NEED(socket(family, SOCK_STREAM, 0)));
}

static void ipv6_options_dgram(void)
{
	ipv6_options(NEED(socket(family, SOCK_DGRAM, 0)));
}

static void inherited_by_accept(void)
{
	struct name name;
	int fd = listener(&name), got;

	SET(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	SET(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	SET(fd, IPPROTO_TCP, TCP_KEEPIDLE, 77);
	SET(fd, SOL_SOCKET, SO_RCVLOWAT, 5);
	SET(fd, SOL_SOCKET, SO_OOBINLINE, 1);
	SET(fd, SOL_SOCKET, SO_PRIORITY, 3);
	SET(fd, IPPROTO_IP, IP_TOS, 0x10);
	SET(fd, IPPROTO_IP, IP_TTL, 44);
	peer_must("connect 1 %d %d", family, port_of(&name));
	got = NEED(accept(fd, NULL, NULL));
	GET(got, IPPROTO_TCP, TCP_NODELAY);
	GET(got, SOL_SOCKET, SO_KEEPALIVE);
	GET(got, IPPROTO_TCP, TCP_KEEPIDLE);
	GET(got, SOL_SOCKET, SO_RCVLOWAT);
	GET(got, SOL_SOCKET, SO_OOBINLINE);
	GET(got, SOL_SOCKET, SO_PRIORITY);
	GET(got, SOL_SOCKET, SO_REUSEADDR);
	GET(got, IPPROTO_IP, IP_TTL);
	GET(got, SOL_SOCKET, SO_ACCEPTCONN);
}

static void kept_by_connect(void)
{
	struct name name = peer_name(peer_must("listen 62 %d 4", family));
	int fd = NEED(socket(family, SOCK_STREAM, 0));

	SET(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	SET(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	SET(fd, SOL_SOCKET, SO_SNDBUF, 30000);
	SET(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 3000);
	SET(fd, IPPROTO_IP, IP_TOS, 0x10);
	NEED(connect(fd, sa(&name), name.len));
	GET(fd, IPPROTO_TCP, TCP_NODELAY);
	GET(fd, SOL_SOCKET, SO_KEEPALIVE);
	GET(fd, SOL_SOCKET, SO_SNDBUF);
	GET(fd, IPPROTO_TCP, TCP_USER_TIMEOUT);
	GET(fd, IPPROTO_IP, IP_TOS);
	SET(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
}

static void tcp_info(void)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);
	struct name name;
	int fd = NEED(socket(family, SOCK_STREAM, 0));

#define STATE(what)                                                                    \
	(len = sizeof(info), NEED(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len)), \
	 say("%s: state %u %u bytes", what, info.tcpi_state, len))
	STATE("new");
	fd = listener(&name);
	STATE("listener");
	fd = connected(1);
	STATE("connected");
	peer_must("close 1");
	wait_end(fd);
	STATE("ended by the peer");
	len = 1;
	TELL(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	say("%u", len);
}

static void congestion(void)
{
	char name[32] = "";
	socklen_t len = sizeof(name);
	int fd = NEED(socket(family, SOCK_STREAM, 0));

	TELL(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
	say("%s %u", name, len);
	TELL(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	len = sizeof(name);
	TELL(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
	say("%s %u", name, len);
	len = 3;
	TELL(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
	say("%u", len);
	TELL(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "nothere", 7));
	TELL(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "", 0));
}

static void lengths(void)
{
	int fd = connected(1), value = 1;
	socklen_t lens[] = { 0, 1, 2, 3, 4, 8, (socklen_t)-1 };

	for (size_t i = 0; i < COUNT(lens); i++) {
		int got[4] = { 0x55555555, 0x55555555 };
		socklen_t len = lens[i];

		say("length %d", (int)len);
		TELL(getsockopt(fd, SOL_SOCKET, SO_TYPE, got, &len));
		say("%#x %d", got[0], (int)len);
		len = lens[i];
		TELL(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, got, &len));
		len = lens[i];
		TELL(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, got, &len));
		say("%d", (int)len);
		if (lens[i] <= 4) {
			TELL(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, lens[i]));
			TELL(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, lens[i]));
		}
	}
	TELL(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, (socklen_t)-1));
}

static void unknown_levels(void)
{
	int fd = NEED(socket(family, SOCK_STREAM, 0)), udp = NEED(socket(family, SOCK_DGRAM, 0));
	static const int levels[] = { 2, 50, 132, 255, 270, 282, 1000, -1 };

	for (size_t i = 0; i < COUNT(levels); i++) {
		say("level %d", levels[i]);
		BOTH(fd, levels[i], 1, 1);
		BOTH(udp, levels[i], 1, 1);
	}
	BOTH(fd, SOL_SOCKET, 9999, 1);
	BOTH(udp, SOL_SOCKET, 9999, 1);
	BOTH(fd, SOL_SOCKET, -1, 1);
}

static void device(void)
{
	char name[IFNAMSIZ] = "";
	socklen_t len = sizeof(name);
	int fd = NEED(socket(family, SOCK_DGRAM, 0));

	TELL(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len));
	say("'%s' %u", name, len);
	TELL(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "nothere0", 9));
	TELL(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
	len = sizeof(name);
	TELL(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len));
	say("'%s' %u", name, len);
}

static void addresses_of_host(void)
{
	int fd = NEED(socket(family, SOCK_DGRAM, 0));
	struct ifreq request = { .ifr_name = "lo" };

	TELL(ioctl(fd, SIOCGIFFLAGS, &request));
	say("%s", request.ifr_flags & IFF_LOOPBACK ? "loopback" : "not loopback");
	TELL(ioctl(fd, SIOCGIFINDEX, &request));
	strcpy(request.ifr_name, "nothere0");
	TELL(ioctl(fd, SIOCGIFFLAGS, &request));
	TELL(ioctl(fd, 0x12345678, &request));
	TELL(ioctl(fd, 0x5401, &request));
}

static void queues_of_stream(void)
{
	int fd = connected(1), count = -1;
	struct name name;
	int listening = listener(&name), fresh = NEED(socket(family, SOCK_STREAM, 0));

	TELL(ioctl(fd, SIOCOUTQ, &count));
	say("out %d", count);
	TELL(ioctl(fd, SIOCOUTQNSD, &count));
	say("not sent %d", count);
	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	TELL(ioctl(fd, SIOCINQ, &count));
	say("in %d", count);
	peer_must("close 1");
	wait_end(fd);
	TELL(ioctl(fd, SIOCINQ, &count));
	say("in %d", count);
	TELL(ioctl(listening, SIOCINQ, &count));
	TELL(ioctl(listening, SIOCOUTQ, &count));
	TELL(ioctl(fresh, SIOCINQ, &count));
	say("in %d", count);
	TELL(ioctl(fresh, SIOCOUTQ, &count));
	say("out %d", count);
}

static void out_queue_counts_what_the_peer_has_not(void)
{
	static char block[1 << 20];
	int fd = connected(1), count = -1;
	long sent;

	sent = fill_up(fd, block, sizeof(block));
	NEED(ioctl(fd, SIOCOUTQ, &count));
	say("%s", count > 0 && count <= sent ? "some" : "none, or too many");
	say("%s",
	    sent - count == peer_must("inq 1") ? "the rest is there" : "the rest is not there");
}

/* Programs that ask for more than they may have expect to hear so, and go on. */
static void privileged(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct had[2], has[2];
	int fd[] = { NEED(socket(AF_INET, SOCK_STREAM, 0)), NEED(socket(AF_INET, SOCK_DGRAM, 0)) };

	NEED(syscall(SYS_capget, &head, had));
	memcpy(has, had, sizeof(has));
	has[0].effective &= ~(1u << CAP_NET_ADMIN | 1u << CAP_NET_RAW);
	NEED(syscall(SYS_capset, &head, has));
	for (size_t i = 0; i < COUNT(fd); i++) {
		set("SO_SNDBUFFORCE", fd[i], SOL_SOCKET, SO_SNDBUFFORCE, 1 << 20);
		set("SO_RCVBUFFORCE", fd[i], SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20);
		set("SO_MARK", fd[i], SOL_SOCKET, SO_MARK, 1);
	}
	set("TCP_REPAIR", fd[0], IPPROTO_TCP, TCP_REPAIR, 1);
	NEED(syscall(SYS_capset, &head, had));
}

static void modes(void)
{
	int fd = connected(1), on = 1;

	say("%#x", fcntl(fd, F_GETFL));
	TELL(ioctl(fd, FIONBIO, &on));
	say("%#x", fcntl(fd, F_GETFL));
	on = 0;
	TELL(ioctl(fd, FIONBIO, &on));
	say("%#x", fcntl(fd, F_GETFL));
	TELL(fcntl(fd, F_SETFL, O_NONBLOCK | O_APPEND | O_RDONLY));
	say("%#x", fcntl(fd, F_GETFL));
	TELL(fcntl(fd, F_SETFL, 0));
	say("%#x", fcntl(fd, F_GETFL));
	TELL(fcntl(fd, F_SETFL, O_DIRECT));
	TELL(fcntl(fd, F_SETFD, FD_CLOEXEC));
	TELL(fcntl(fd, F_GETFD));
	TELL(fcntl(fd, 9999));
	TELL(fcntl(fd, F_GETPIPE_SZ));
	TELL(fcntl(fd, F_GETLEASE));
}

const struct call_case cases[] = {
	{ "socket_options_new", socket_options_new },
	{ "socket_options_connected", socket_options_connected },
	{ "socket_options_dgram", socket_options_dgram },
	{ "socket_facts", socket_facts },
	{ "linger_read_back", linger_read_back },
	{ "time_limits_read_back", time_limits_read_back },
	{ "tcp_options_new", tcp_options_new },
	{ "tcp_options_connected", tcp_options_connected },
	{ "tcp_options_of_dgram", tcp_options_of_dgram },
	{ "ip_options_stream", ip_options_stream },
	{ "ip_options_dgram", ip_options_dgram },
	{ "ip_options_bytes", ip_options_bytes },
	{ "ipv6_options_stream", ipv6_options_stream },
	{ "ipv6_options_dgram", ipv6_options_dgram },
	{ "inherited_by_accept", inherited_by_accept },
	{ "kept_by_connect", kept_by_connect },
	{ "tcp_info", tcp_info },
	{ "congestion", congestion },
	{ "lengths", lengths },
	{ "unknown_levels", unknown_levels },
	{ "device", device },
	{ "addresses_of_host", addresses_of_host },
	{ "queues_of_stream", queues_of_stream },
	{ "out_queue_counts_what_the_peer_has_not", out_queue_counts_what_the_peer_has_not },
	{ "privileged", privileged },
	{ "modes", modes },
};
const size_t case_count = COUNT(cases);
