/* SPDX-License-Identifier: MIT */
/*
 * getsockopt and setsockopt.
 *
 * Purpose: the kernel socket keeps the options, also of a joined connection: it
 * is made when the first option needs it. A guest gets the options that cannot
 * reach beyond its own connection, no others.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: -ENOPROTOOPT for what is not in the list, else what the kernel says.
 */
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sock.h"

/* <linux/udp.h> does not go together with <netinet/udp.h>. */
#ifndef UDPLITE_SEND_CSCOV
#define UDPLITE_SEND_CSCOV 10
#define UDPLITE_RECV_CSCOV 11
#endif

/* Linux has these in headers that do not go together with the above. */
#ifndef IPV6_ADDR_PREFERENCES
#define IPV6_ADDR_PREFERENCES 72
#endif

static bool allowed_socket(int name)
{
	switch (name) {
	case SO_DEBUG:
	case SO_REUSEADDR:
	case SO_TYPE:
	case SO_ERROR:
	case SO_DONTROUTE:
	case SO_BROADCAST:
	case SO_SNDBUF:
	case SO_RCVBUF:
	case SO_KEEPALIVE:
	case SO_LINGER:
	case SO_REUSEPORT:
	case SO_RCVLOWAT:
	case SO_SNDLOWAT:
	case SO_PEERCRED:
	case SO_TIMESTAMP:
	case SO_ACCEPTCONN:
	case SO_PROTOCOL:
	case SO_DOMAIN:
	case SO_MAX_PACING_RATE:
	case SO_INCOMING_CPU:
	case SO_COOKIE:
	case SO_PRIORITY:
	case SO_BUSY_POLL:
	case SO_PEEK_OFF:
	case SO_MEMINFO:
	case SO_TIMESTAMPNS:
	case SO_BINDTODEVICE:
	case SO_RXQ_OVFL:
	case SO_NO_CHECK:
	case SO_SELECT_ERR_QUEUE:
	case SO_INCOMING_NAPI_ID:
		return true;
	default:
		return false;
	}
}

static bool allowed_tcp(int name)
{
	switch (name) {
	case TCP_ULP:
	case TCP_REPAIR:
	case TCP_REPAIR_QUEUE:
	case TCP_REPAIR_OPTIONS:
	case TCP_REPAIR_WINDOW:
	case TCP_MD5SIG:
	case TCP_MD5SIG_EXT:
	case TCP_ZEROCOPY_RECEIVE:
		return false;
	default:
		return name > 0 && name < 64;
	}
}

static bool allowed_ip(int name)
{
	switch (name) {
	case IP_TOS:
	case IP_TTL:
	case IP_MTU_DISCOVER:
	case IP_MTU:
	case IP_RECVERR:
	case IP_RECVTOS:
	case IP_RECVTTL:
	case IP_PKTINFO:
	case IP_MULTICAST_IF:
	case IP_MULTICAST_TTL:
	case IP_MULTICAST_LOOP:
	case IP_ADD_MEMBERSHIP:
	case IP_DROP_MEMBERSHIP:
	case IP_BIND_ADDRESS_NO_PORT:
	case IP_MINTTL:
	case IP_MULTICAST_ALL:
	case IP_ADD_SOURCE_MEMBERSHIP:
	case IP_DROP_SOURCE_MEMBERSHIP:
	case IP_BLOCK_SOURCE:
	case IP_UNBLOCK_SOURCE:
	case MCAST_JOIN_GROUP:
	case MCAST_LEAVE_GROUP:
	case IP_RECVORIGDSTADDR:
	case IP_FREEBIND:
	case IP_CHECKSUM:
	case IP_UNICAST_IF:
	case IP_PASSSEC:
		return true;
	default:
		return false;
	}
}

static bool allowed_ipv6(int name)
{
	switch (name) {
	case IPV6_V6ONLY:
	case IPV6_UNICAST_HOPS:
	case IPV6_TCLASS:
	case IPV6_RECVTCLASS:
	case IPV6_MTU_DISCOVER:
	case IPV6_MTU:
	case IPV6_RECVERR:
	case IPV6_RECVPKTINFO:
	case IPV6_RECVHOPLIMIT:
	case IPV6_MULTICAST_IF:
	case IPV6_MULTICAST_HOPS:
	case IPV6_MULTICAST_LOOP:
	case IPV6_JOIN_GROUP:
	case IPV6_LEAVE_GROUP:
	case IPV6_ADDR_PREFERENCES:
	case IPV6_DONTFRAG:
	case IPV6_AUTOFLOWLABEL:
	case IPV6_MULTICAST_ALL:
	case IPV6_FREEBIND:
	case MCAST_JOIN_GROUP:
	case MCAST_LEAVE_GROUP:
		return true;
	default:
		return false;
	}
}

/* A guest with an address of its own is not on the host's links. */
static bool joins_group(int level, int name)
{
	switch (name) {
	case IP_ADD_MEMBERSHIP:
	case IP_DROP_MEMBERSHIP:
	case IP_MULTICAST_IF:
	case IP_ADD_SOURCE_MEMBERSHIP:
	case IP_DROP_SOURCE_MEMBERSHIP:
	case IP_BLOCK_SOURCE:
	case IP_UNBLOCK_SOURCE:
	case IP_UNICAST_IF:
		return level == IPPROTO_IP;
	case IPV6_JOIN_GROUP:
	case IPV6_LEAVE_GROUP:
	case IPV6_MULTICAST_IF:
		return level == IPPROTO_IPV6;
	default:
		return name == MCAST_JOIN_GROUP || name == MCAST_LEAVE_GROUP;
	}
}

static bool allowed(const struct sock *s, int level, int name)
{
	switch (level) {
	case SOL_SOCKET:
		return allowed_socket(name);
	case IPPROTO_TCP:
		return s->type == SOCK_STREAM && allowed_tcp(name);
	case IPPROTO_UDP:
		return s->type == SOCK_DGRAM &&
		       (name == UDP_SEGMENT || name == UDP_CORK || name == UDP_GRO);
	case IPPROTO_UDPLITE:
		return s->protocol == IPPROTO_UDPLITE &&
		       (name == UDPLITE_SEND_CSCOV || name == UDPLITE_RECV_CSCOV);
	case IPPROTO_IP:
		return allowed_ip(name);
	case IPPROTO_IPV6:
		return s->domain == AF_INET6 && allowed_ipv6(name);
	default:
		return false;
	}
}

/*
 * As root, canald would have the kernel load the module of any name, and wait
 * for it; and it would get any algorithm where a guest may have only some.
 */
static bool congestion_allowed(const struct sock *s, const char *val, uint32_t len)
{
	const char *path = s->channel->uid ? "/proc/sys/net/ipv4/tcp_allowed_congestion_control"
					   : "/proc/sys/net/ipv4/tcp_available_congestion_control";
	char line[1024] = "", name[17] = "", *word, *rest;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);

	if (fd >= 0)
		close(fd);
	memcpy(name, val, len < 16 ? len : 16);
	for (word = got < 0 ? NULL : strtok_r(line, " \n", &rest); word;
	     word = strtok_r(NULL, " \n", &rest))
		if (strcmp(word, name) == 0)
			return true;
	return false;
}

static uint32_t clamp_limit(int bytes)
{
	return bytes < (int)CANAL_CHUNK ? CANAL_CHUNK
	       : bytes > (int)MAX_LIMIT ? MAX_LIMIT
					: (uint32_t)bytes;
}

/* The FIFOs follow the buffers that the guest asked for. */
static void follow_buffers(struct sock *s, int name)
{
	int bytes = 0;
	socklen_t len = sizeof(bytes);

	if (getsockopt(s->fd, SOL_SOCKET, name, &bytes, &len))
		return;
	if (name == SO_SNDBUF)
		s->heir_tx_limit = clamp_limit(bytes);
	else
		s->heir_rx_limit = clamp_limit(bytes);
	if (s->state == CANAL_SOCK_LISTENING)
		return;
	if (name == SO_SNDBUF)
		s->shared->tx.limit = s->tx_limit = s->heir_tx_limit;
	else
		s->shared->rx.limit = s->rx_limit = s->heir_rx_limit;
}

/* As tcp_set_rcvlowat(): twice what the guest waits for. */
static void follow_lowat(struct sock *s)
{
	uint32_t limit = s->rcvlowat > INT_MAX / 2 ? MAX_LIMIT : clamp_limit(2 * s->rcvlowat);

	if (s->type != SOCK_STREAM ||
	    limit <= (s->heir_rx_limit ? s->heir_rx_limit : DEFAULT_RX_LIMIT))
		return;
	s->heir_rx_limit = limit;
	if (s->state != CANAL_SOCK_LISTENING)
		s->shared->rx.limit = s->rx_limit = limit;
}

int sock_setopt(struct sock *s, int level, int name, const void *val, uint32_t len)
{
	int r;

	if (!allowed(s, level, name))
		return -ENOPROTOOPT;
	if (s->channel->guest && joins_group(level, name))
		return -ENODEV;
	if (s->channel->guest && level == SOL_SOCKET && name == SO_BINDTODEVICE)
		return -EPERM;
	if (level == IPPROTO_TCP && name == TCP_CONGESTION && !len)
		return -EINVAL;
	if (level == IPPROTO_TCP && name == TCP_CONGESTION && !congestion_allowed(s, val, len))
		return -ENOENT;
	/* canald itself wants to hear of each byte */
	if (level == SOL_SOCKET && name == SO_RCVLOWAT) {
		if (len < sizeof(s->rcvlowat))
			return -EINVAL;
		memcpy(&s->rcvlowat, val, sizeof(s->rcvlowat));
		s->rcvlowat = s->rcvlowat < 0 ? INT_MAX : s->rcvlowat ? s->rcvlowat : 1;
		follow_lowat(s);
		return 0;
	}
	r = sock_kernel(s);
	if (r)
		return r;
	if (level == SOL_SOCKET && name == SO_LINGER)
		s->lingers = true;
	if (setsockopt(s->fd, level, name, val, len))
		return -errno;
	if (level == SOL_SOCKET && name == SO_REUSEPORT) {
		s->shares = true;
		privilege_own(s);
	}
	if (level == IPPROTO_TCP && name == TCP_DEFER_ACCEPT)
		s->deferred = true; /* that it may be off again costs one receive */
	inherit_note(s, level, name, val, len);
	errqueue_option(s, level, name);
	if (level == IPPROTO_UDP && (name == UDP_CORK || name == UDP_SEGMENT))
		s->by_kernel = true; /* the switch knows nothing of these */
	if (s->type == SOCK_DGRAM && !s->channel->guest && dgram_control_option(level, name) &&
	    dgram_control_have(s))
		s->hears_control = true; /* also when it was turned off: none come then */
	if (level == SOL_SOCKET && (name == SO_SNDBUF || name == SO_RCVBUF))
		follow_buffers(s, name);
	if (s->channel->guest)
		vsock_option(s);
	if (s->hashed)
		s->type == SOCK_DGRAM ? switch_bound(s) : switch_listen(s);
	return 0;
}

/* Linux tells a level that it does not know from an option, for AF_INET. */
static bool known_level(const struct sock *s, int level)
{
	return level == SOL_SOCKET || level == IPPROTO_IP || level == s->protocol;
}

/* The kernel's socket knows nothing of a connection in memory. */
static uint8_t joined_state(const struct sock *s)
{
	if (s->tx_fin_sent)
		return s->rx_eof ? TCP_LAST_ACK : TCP_FIN_WAIT2;
	return s->rx_eof ? TCP_CLOSE_WAIT : TCP_ESTABLISHED;
}

int sock_getopt(struct sock *s, int level, int name, void *val, uint32_t *len)
{
	socklen_t n = *len;
	int r;

	if (!allowed(s, level, name))
		return s->domain == AF_INET && !known_level(s, level) ? -EOPNOTSUPP : -ENOPROTOOPT;
	r = sock_kernel(s);
	if (r)
		return r;
	if (getsockopt(s->fd, level, name, val, &n))
		return -errno;
	if (level == SOL_SOCKET && name == SO_RCVLOWAT && s->rcvlowat && n == sizeof(s->rcvlowat))
		memcpy(val, &s->rcvlowat, n);
	*len = n;
	if ((s->joined || s->peer_gone) && level == IPPROTO_TCP && name == TCP_INFO && n)
		*(uint8_t *)val = joined_state(s); /* tcpi_state */
	/* in a guest's address space no kernel socket listens */
	if (s->channel->guest && level == SOL_SOCKET && name == SO_ACCEPTCONN && n)
		*(uint8_t *)val = s->state == CANAL_SOCK_LISTENING;
	return 0;
}
