/* SPDX-License-Identifier: MIT */
/*
 * Names of the constants that stand in traced calls.
 */
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>

#include "canal/vsocket.h"
#include "trace.h"

#define NAME(name)          \
	{                   \
		name, #name \
	}

const struct trace_name trace_domains[] = {
	NAME(AF_UNSPEC), NAME(AF_UNIX),  NAME(AF_INET),    NAME(AF_INET6),    NAME(AF_NETLINK),
	NAME(AF_PACKET), NAME(AF_VSOCK), NAME(AF_VSOCKET), NAME(AF_VSOCKET6), { 0, NULL },
};

const struct trace_name trace_types[] = {
	NAME(SOCK_STREAM), NAME(SOCK_DGRAM),  NAME(SOCK_RAW), NAME(SOCK_SEQPACKET),
	NAME(SOCK_RDM),    NAME(SOCK_PACKET), { 0, NULL },
};

const struct trace_name trace_levels[] = {
	NAME(SOL_SOCKET),  NAME(IPPROTO_IP),  NAME(IPPROTO_IPV6), NAME(IPPROTO_TCP),
	NAME(IPPROTO_UDP), NAME(IPPROTO_RAW), { 0, NULL },
};

const struct trace_name trace_socket_options[] = {
	NAME(SO_REUSEADDR),
	NAME(SO_REUSEPORT),
	NAME(SO_TYPE),
	NAME(SO_ERROR),
	NAME(SO_DONTROUTE),
	NAME(SO_BROADCAST),
	NAME(SO_SNDBUF),
	NAME(SO_RCVBUF),
	NAME(SO_SNDBUFFORCE),
	NAME(SO_RCVBUFFORCE),
	NAME(SO_KEEPALIVE),
	NAME(SO_OOBINLINE),
	NAME(SO_NO_CHECK),
	NAME(SO_PRIORITY),
	NAME(SO_LINGER),
	NAME(SO_PASSCRED),
	NAME(SO_PEERCRED),
	NAME(SO_RCVLOWAT),
	NAME(SO_SNDLOWAT),
	NAME(SO_RCVTIMEO),
	NAME(SO_SNDTIMEO),
	NAME(SO_BINDTODEVICE),
	NAME(SO_ATTACH_FILTER),
	NAME(SO_DETACH_FILTER),
	NAME(SO_TIMESTAMP),
	NAME(SO_TIMESTAMPNS),
	NAME(SO_TIMESTAMPING),
	NAME(SO_ACCEPTCONN),
	NAME(SO_PEERSEC),
	NAME(SO_MARK),
	NAME(SO_PROTOCOL),
	NAME(SO_DOMAIN),
	NAME(SO_RXQ_OVFL),
	NAME(SO_PEEK_OFF),
	NAME(SO_BUSY_POLL),
	NAME(SO_INCOMING_CPU),
	NAME(SO_ZEROCOPY),
	NAME(SO_COOKIE),
	NAME(SO_TXTIME),
	NAME(SO_MAX_PACING_RATE),
	NAME(SO_ATTACH_BPF),
	NAME(SO_ATTACH_REUSEPORT_CBPF),
	NAME(SO_ATTACH_REUSEPORT_EBPF),
	{ 0, NULL },
};

const struct trace_name trace_tcp_options[] = {
	NAME(TCP_NODELAY),
	NAME(TCP_MAXSEG),
	NAME(TCP_CORK),
	NAME(TCP_KEEPIDLE),
	NAME(TCP_KEEPINTVL),
	NAME(TCP_KEEPCNT),
	NAME(TCP_SYNCNT),
	NAME(TCP_LINGER2),
	NAME(TCP_DEFER_ACCEPT),
	NAME(TCP_WINDOW_CLAMP),
	NAME(TCP_INFO),
	NAME(TCP_QUICKACK),
	NAME(TCP_CONGESTION),
	NAME(TCP_USER_TIMEOUT),
	NAME(TCP_FASTOPEN),
	NAME(TCP_FASTOPEN_CONNECT),
	NAME(TCP_ULP),
	NAME(TCP_REPAIR),
	NAME(TCP_NOTSENT_LOWAT),
	NAME(TCP_TIMESTAMP),
	NAME(TCP_SAVE_SYN),
	NAME(TCP_SAVED_SYN),
	NAME(TCP_ZEROCOPY_RECEIVE),
	NAME(TCP_INQ),
	NAME(TCP_MD5SIG),
	{ 0, NULL },
};

const struct trace_name trace_ip_options[] = {
	NAME(IP_TOS),
	NAME(IP_TTL),
	NAME(IP_OPTIONS),
	NAME(IP_HDRINCL),
	NAME(IP_PKTINFO),
	NAME(IP_RECVERR),
	NAME(IP_RECVTTL),
	NAME(IP_RECVTOS),
	NAME(IP_MTU_DISCOVER),
	NAME(IP_MTU),
	NAME(IP_FREEBIND),
	NAME(IP_TRANSPARENT),
	NAME(IP_MULTICAST_IF),
	NAME(IP_MULTICAST_TTL),
	NAME(IP_MULTICAST_LOOP),
	NAME(IP_ADD_MEMBERSHIP),
	NAME(IP_DROP_MEMBERSHIP),
	NAME(IP_BIND_ADDRESS_NO_PORT),
	NAME(IP_UNICAST_IF),
	NAME(IP_MULTICAST_ALL),
	{ 0, NULL },
};

const struct trace_name trace_ipv6_options[] = {
	NAME(IPV6_V6ONLY),         NAME(IPV6_UNICAST_HOPS),
	NAME(IPV6_MULTICAST_IF),   NAME(IPV6_MULTICAST_HOPS),
	NAME(IPV6_MULTICAST_LOOP), NAME(IPV6_JOIN_GROUP),
	NAME(IPV6_LEAVE_GROUP),    NAME(IPV6_RECVPKTINFO),
	NAME(IPV6_PKTINFO),        NAME(IPV6_RECVERR),
	NAME(IPV6_RECVHOPLIMIT),   NAME(IPV6_RECVTCLASS),
	NAME(IPV6_TCLASS),         NAME(IPV6_MTU),
	NAME(IPV6_MTU_DISCOVER),   NAME(IPV6_DONTFRAG),
	NAME(IPV6_FREEBIND),       NAME(IPV6_TRANSPARENT),
	NAME(IPV6_ADDRFORM),       { 0, NULL },
};

const struct trace_name trace_udp_options[] = {
	NAME(UDP_CORK),
	NAME(UDP_ENCAP),
	NAME(UDP_NO_CHECK6_TX),
	NAME(UDP_NO_CHECK6_RX),
	NAME(UDP_SEGMENT),
	NAME(UDP_GRO),
	{ 0, NULL },
};

const struct trace_name trace_msg_flags[] = {
	NAME(MSG_OOB),        NAME(MSG_PEEK),     NAME(MSG_DONTROUTE), NAME(MSG_CTRUNC),
	NAME(MSG_TRUNC),      NAME(MSG_DONTWAIT), NAME(MSG_EOR),       NAME(MSG_WAITALL),
	NAME(MSG_CONFIRM),    NAME(MSG_ERRQUEUE), NAME(MSG_NOSIGNAL),  NAME(MSG_MORE),
	NAME(MSG_WAITFORONE), NAME(MSG_ZEROCOPY), NAME(MSG_FASTOPEN),  NAME(MSG_CMSG_CLOEXEC),
	{ 0, NULL },
};

const struct trace_name trace_hows[] = {
	NAME(SHUT_RD),
	NAME(SHUT_WR),
	NAME(SHUT_RDWR),
	{ 0, NULL },
};

const struct trace_name trace_fcntls[] = {
	NAME(F_DUPFD),      NAME(F_DUPFD_CLOEXEC), NAME(F_GETFD),     NAME(F_SETFD),
	NAME(F_GETFL),      NAME(F_SETFL),         NAME(F_GETOWN),    NAME(F_SETOWN),
	NAME(F_GETSIG),     NAME(F_SETSIG),        NAME(F_GETOWN_EX), NAME(F_SETOWN_EX),
	NAME(F_GETPIPE_SZ), NAME(F_SETPIPE_SZ),    { 0, NULL },
};

const struct trace_name trace_ioctls[] = {
	NAME(FIONBIO),      NAME(FIONREAD),    NAME(FIOASYNC),    NAME(FIOCLEX),
	NAME(FIONCLEX),     NAME(SIOCOUTQ),    NAME(SIOCOUTQNSD), NAME(SIOCATMARK),
	NAME(FIOSETOWN),    NAME(FIOGETOWN),   NAME(SIOCSPGRP),   NAME(SIOCGPGRP),
	NAME(SIOCGSTAMP),   NAME(SIOCGIFCONF), NAME(SIOCGIFADDR), NAME(SIOCGIFFLAGS),
	NAME(SIOCGIFINDEX), NAME(TCGETS),      { 0, NULL },
};

const struct trace_name trace_epoll_ops[] = {
	NAME(EPOLL_CTL_ADD),
	NAME(EPOLL_CTL_DEL),
	NAME(EPOLL_CTL_MOD),
	{ 0, NULL },
};

const struct trace_name trace_epoll_events[] = {
	NAME(EPOLLIN),      NAME(EPOLLPRI),       NAME(EPOLLOUT),    NAME(EPOLLERR),
	NAME(EPOLLHUP),     NAME(EPOLLRDHUP),     NAME(EPOLLRDNORM), NAME(EPOLLRDBAND),
	NAME(EPOLLWRNORM),  NAME(EPOLLWRBAND),    NAME(EPOLLMSG),    NAME(EPOLLET),
	NAME(EPOLLONESHOT), NAME(EPOLLEXCLUSIVE), NAME(EPOLLWAKEUP), { 0, NULL },
};

const struct trace_name trace_poll_events[] = {
	NAME(POLLIN),     NAME(POLLPRI),   NAME(POLLOUT),    NAME(POLLERR),    NAME(POLLHUP),
	NAME(POLLNVAL),   NAME(POLLRDHUP), NAME(POLLRDNORM), NAME(POLLRDBAND), NAME(POLLWRNORM),
	NAME(POLLWRBAND), NAME(POLLMSG),   { 0, NULL },
};

const struct trace_name trace_ai_flags[] = {
	NAME(AI_PASSIVE),  NAME(AI_CANONNAME),  NAME(AI_NUMERICHOST), NAME(AI_V4MAPPED),
	NAME(AI_ALL),      NAME(AI_ADDRCONFIG), NAME(AI_NUMERICSERV), NAME(AI_IDN),
	NAME(AI_CANONIDN), { 0, NULL },
};

const struct trace_name trace_eais[] = {
	NAME(EAI_BADFLAGS),   NAME(EAI_NONAME),     NAME(EAI_AGAIN),       NAME(EAI_FAIL),
	NAME(EAI_FAMILY),     NAME(EAI_SOCKTYPE),   NAME(EAI_SERVICE),     NAME(EAI_MEMORY),
	NAME(EAI_SYSTEM),     NAME(EAI_OVERFLOW),   NAME(EAI_NODATA),      NAME(EAI_ADDRFAMILY),
	NAME(EAI_INPROGRESS), NAME(EAI_CANCELED),   NAME(EAI_NOTCANCELED), NAME(EAI_ALLDONE),
	NAME(EAI_INTR),       NAME(EAI_IDN_ENCODE), { 0, NULL },
};

void trace_named(struct trace *t, const struct trace_name *names, long number)
{
	for (; names->text; names++) {
		if (names->number == number) {
			trace_text(t, names->text);
			return;
		}
	}
	trace_number(t, number);
}

void trace_flags(struct trace *t, const struct trace_name *names, unsigned long flags)
{
	bool first = true;

	for (; names->text; names++) {
		unsigned long bits = (unsigned long)names->number & 0xffffffffu;

		if (!bits || (flags & bits) != bits)
			continue;
		trace_text(t, first ? "" : "|");
		trace_text(t, names->text);
		flags &= ~bits;
		first = false;
	}
	if (flags || first) {
		trace_text(t, first ? "" : "|");
		if (flags)
			trace_hex(t, flags);
		else
			trace_char(t, '0');
	}
}
