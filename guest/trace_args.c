/* SPDX-License-Identifier: MIT */
/*
 * Arguments of traced calls, read for people.
 *
 * Purpose: each letter of a call's description stands for one way to show an
 * argument, or two or four that belong together (the table at the end).
 *
 * Invariants: as in trace.c. What a call gives back is shown when it succeeded.
 */
#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/un.h>

#include "internal.h"
#include "trace.h"

#define LIST_MAX 16 /* of an array shown */

static const void *pointer(long arg)
{
	return (const void *)arg;
}

/* The pointer itself, where there is nothing to be read behind it. */
static void put_pointer(struct trace *t, long arg)
{
	if (arg)
		trace_hex(t, (unsigned long)arg);
	else
		trace_text(t, "NULL");
}

static void put_number(struct trace *t, const long *a, long ret)
{
	(void)ret;
	trace_number(t, a[0]);
}

static void put_int(struct trace *t, const long *a, long ret)
{
	(void)ret;
	trace_number(t, (int)a[0]);
}

static void put_buffer(struct trace *t, const long *a, long ret)
{
	(void)a;
	(void)ret;
	trace_text(t, "...");
}

static void put_string(struct trace *t, const long *a, long ret)
{
	(void)ret;
	trace_string(t, pointer(a[0]));
}

/* --- addresses ------------------------------------------------------------ */

static void put_ip(struct trace *t, int family, const void *ip, uint16_t port)
{
	char text[INET6_ADDRSTRLEN];

	inet_ntop(family, ip, text, sizeof(text));
	trace_text(t, family == AF_INET6 ? "[" : "");
	trace_text(t, text);
	trace_text(t, family == AF_INET6 ? "]:" : ":");
	trace_number(t, ntohs(port));
}

static void put_unix(struct trace *t, const struct sockaddr_un *un, size_t len)
{
	size_t max = len - offsetof(struct sockaddr_un, sun_path);

	trace_text(t, "unix:");
	for (size_t i = 0; i < max && (un->sun_path[i] || !i); i++)
		trace_char(t, un->sun_path[i] >= ' ' ? un->sun_path[i] : '@');
}

static void put_sockaddr(struct trace *t, long at, size_t len)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	} u = { .any.sa_family = 0 };

	if (len > sizeof(u))
		len = sizeof(u);
	if (len < sizeof(u.any.sa_family) || !trace_peek(&u, pointer(at), len))
		put_pointer(t, at);
	else if (u.any.sa_family == AF_INET && len >= sizeof(u.in))
		put_ip(t, AF_INET, &u.in.sin_addr, u.in.sin_port);
	else if (u.any.sa_family == AF_INET6 && len >= offsetof(struct sockaddr_in6, sin6_scope_id))
		put_ip(t, AF_INET6, &u.in6.sin6_addr, u.in6.sin6_port);
	else if (u.any.sa_family == AF_UNIX && len > offsetof(struct sockaddr_un, sun_path))
		put_unix(t, &u.un, len);
	else
		trace_named(t, trace_domains, u.any.sa_family);
}

static void put_address(struct trace *t, const long *a, long ret)
{
	(void)ret;
	put_sockaddr(t, a[0], (socklen_t)a[1]);
}

/* What the call filled in, if it did. */
static void put_address_out(struct trace *t, const long *a, long ret)
{
	socklen_t len;

	if (ret >= 0 && a[0] && trace_peek(&len, pointer(a[1]), sizeof(len)))
		put_sockaddr(t, a[0], len);
	else
		put_pointer(t, a[0]);
}

/* --- socket ----------------------------------------------------------------- */

static void put_domain(struct trace *t, const long *a, long ret)
{
	(void)ret;
	trace_named(t, trace_domains, a[0]);
}

static void put_sock_flags(struct trace *t, const long *a, long ret)
{
	(void)ret;
	trace_text(t, a[0] & SOCK_NONBLOCK ? "SOCK_NONBLOCK" : "");
	trace_text(t, (a[0] & SOCK_NONBLOCK) && (a[0] & SOCK_CLOEXEC) ? "|" : "");
	trace_text(t, a[0] & SOCK_CLOEXEC ? "SOCK_CLOEXEC" : "");
	if (!(a[0] & (SOCK_NONBLOCK | SOCK_CLOEXEC)))
		trace_number(t, a[0]);
}

static void put_type(struct trace *t, const long *a, long ret)
{
	trace_named(t, trace_types, a[0] & ~(SOCK_NONBLOCK | SOCK_CLOEXEC));
	if (a[0] & (SOCK_NONBLOCK | SOCK_CLOEXEC)) {
		trace_char(t, '|');
		put_sock_flags(t, a, ret);
	}
}

static void put_how(struct trace *t, const long *a, long ret)
{
	(void)ret;
	trace_named(t, trace_hows, a[0]);
}

static void put_msg_flags(struct trace *t, const long *a, long ret)
{
	(void)ret;
	trace_flags(t, trace_msg_flags, (unsigned int)a[0]);
}

/* --- options ------------------------------------------------------------------ */

static void put_option(struct trace *t, const long *a, long ret)
{
	static const struct {
		int level;
		const struct trace_name *names;
	} lists[] = {
		{ SOL_SOCKET, trace_socket_options }, { IPPROTO_TCP, trace_tcp_options },
		{ IPPROTO_IP, trace_ip_options },     { IPPROTO_IPV6, trace_ipv6_options },
		{ IPPROTO_UDP, trace_udp_options },
	};

	(void)ret;
	trace_named(t, trace_levels, a[0]);
	trace_text(t, ", ");
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		if (lists[i].level == a[0]) {
			trace_named(t, lists[i].names, a[1]);
			return;
		}
	}
	trace_number(t, a[1]);
}

static void put_bytes(struct trace *t, long at, size_t len)
{
	long pair[2];
	int value;

	if (len == sizeof(value) && trace_peek(&value, pointer(at), sizeof(value))) {
		trace_number(t, value);
	} else if (len == sizeof(pair) && trace_peek(pair, pointer(at), sizeof(pair))) {
		trace_char(t, '{'); /* struct timeval */
		trace_number(t, pair[0]);
		trace_text(t, ", ");
		trace_number(t, pair[1]);
		trace_char(t, '}');
	} else if (len == 2 * sizeof(int) && trace_peek(pair, pointer(at), len)) {
		trace_char(t, '{'); /* struct linger */
		trace_number(t, (int)pair[0]);
		trace_text(t, ", ");
		trace_number(t, (int)(pair[0] >> 32));
		trace_char(t, '}');
	} else {
		put_pointer(t, at);
		trace_text(t, ", ");
		trace_number(t, (long)len);
	}
}

static void put_value(struct trace *t, const long *a, long ret)
{
	(void)ret;
	put_bytes(t, a[0], (socklen_t)a[1]);
}

static void put_value_out(struct trace *t, const long *a, long ret)
{
	socklen_t len;

	if (ret >= 0 && trace_peek(&len, pointer(a[1]), sizeof(len)))
		put_bytes(t, a[0], len);
	else
		put_pointer(t, a[0]);
}

static void put_fcntl(struct trace *t, const long *a, long ret)
{
	(void)ret;
	trace_named(t, trace_fcntls, a[0]);
	if (a[0] == F_SETFL || a[0] == F_SETFD || a[0] == F_DUPFD || a[0] == F_DUPFD_CLOEXEC) {
		trace_text(t, ", ");
		trace_number(t, (int)a[1]);
	}
}

static void put_ioctl(struct trace *t, const long *a, long ret)
{
	int value;

	trace_named(t, trace_ioctls, a[0]);
	if (ret >= 0 && trace_peek(&value, pointer(a[1]), sizeof(value))) {
		trace_text(t, ", ");
		trace_number(t, value);
	}
}

/* --- pieces and messages ----------------------------------------------------- */

static void put_iov(struct trace *t, const long *a, long ret)
{
	struct iovec iov;
	size_t len = 0;

	(void)ret;
	for (int i = 0; i < (int)a[1] && i < IOV_MAX; i++) {
		if (!trace_peek(&iov, (const struct iovec *)pointer(a[0]) + i, sizeof(iov))) {
			put_pointer(t, a[0]);
			return;
		}
		len += iov.iov_len;
	}
	trace_char(t, '[');
	trace_number(t, (int)a[1]);
	trace_text(t, " of ");
	trace_number(t, (long)len);
	trace_char(t, ']');
}

static void put_message(struct trace *t, const struct msghdr *m)
{
	trace_char(t, '{');
	if (m->msg_name && m->msg_namelen) {
		put_sockaddr(t, (long)m->msg_name, m->msg_namelen);
		trace_text(t, ", ");
	}
	put_iov(t, (const long[]){ (long)m->msg_iov, (long)m->msg_iovlen }, 0);
	if (m->msg_controllen) {
		trace_text(t, ", control ");
		trace_number(t, (long)m->msg_controllen);
	}
	if (m->msg_flags) {
		trace_text(t, ", ");
		trace_flags(t, trace_msg_flags, (unsigned int)m->msg_flags);
	}
	trace_char(t, '}');
}

static void put_msghdr(struct trace *t, const long *a, long ret)
{
	struct msghdr m;

	(void)ret;
	if (trace_peek(&m, pointer(a[0]), sizeof(m)))
		put_message(t, &m);
	else
		put_pointer(t, a[0]);
}

/* One that was to be filled. */
static void put_msghdr_out(struct trace *t, const long *a, long ret)
{
	if (ret >= 0)
		put_msghdr(t, a, ret);
	else
		put_pointer(t, a[0]);
}

static void put_mmsghdr(struct trace *t, const long *a, long ret)
{
	struct mmsghdr m;
	long shown = ret > 0 && ret < LIST_MAX ? ret : 1;

	for (long i = 0; i < shown; i++) {
		if (!trace_peek(&m, (const struct mmsghdr *)pointer(a[0]) + i, sizeof(m))) {
			put_pointer(t, a[0]);
			break;
		}
		trace_text(t, i ? ", " : "[");
		put_message(t, &m.msg_hdr);
		if (i + 1 == shown)
			trace_char(t, ']');
	}
	trace_text(t, ", ");
	trace_number(t, (unsigned int)a[1]);
}

/* --- waiting -------------------------------------------------------------------- */

static void put_pollfds(struct trace *t, const long *a, long ret)
{
	long count = a[1] < LIST_MAX ? a[1] : LIST_MAX;
	struct pollfd p;

	trace_char(t, '[');
	for (long i = 0; i < count; i++) {
		if (!trace_peek(&p, (const struct pollfd *)pointer(a[0]) + i, sizeof(p)))
			break;
		trace_text(t, i ? ", " : "");
		trace_number(t, p.fd);
		trace_char(t, ' ');
		trace_flags(t, trace_poll_events, (unsigned short)p.events);
		if (ret > 0 && p.revents) {
			trace_char(t, '=');
			trace_flags(t, trace_poll_events, (unsigned short)p.revents);
		}
	}
	trace_text(t, a[1] > count ? ", ...], " : "], ");
	trace_number(t, a[1]);
}

static void put_set(struct trace *t, int n, long at)
{
	fd_set set;
	size_t len = (size_t)(n + NFDBITS - 1) / NFDBITS * sizeof(fd_mask);
	int shown = 0;

	if (!at || n < 0 || n > FD_SETSIZE || !trace_peek(&set, pointer(at), len)) {
		put_pointer(t, at);
		return;
	}
	trace_char(t, '[');
	for (int fd = 0; fd < n && shown < LIST_MAX; fd++) {
		if (!(((const fd_mask *)(const void *)&set)[fd / NFDBITS] >> fd % NFDBITS & 1))
			continue;
		trace_text(t, shown++ ? " " : "");
		trace_number(t, fd);
	}
	trace_char(t, ']');
}

/* Behind the call: those that are ready. */
static void put_sets(struct trace *t, const long *a, long ret)
{
	(void)ret;
	trace_number(t, (int)a[0]);
	for (int i = 1; i < 4; i++) {
		trace_text(t, ", ");
		put_set(t, (int)a[0], a[i]);
	}
}

static void put_epoll_op(struct trace *t, const long *a, long ret)
{
	(void)ret;
	trace_named(t, trace_epoll_ops, a[0]);
}

static void put_epoll_flags(struct trace *t, const long *a, long ret)
{
	(void)ret;
	if (a[0] == EPOLL_CLOEXEC)
		trace_text(t, "EPOLL_CLOEXEC");
	else
		trace_number(t, (int)a[0]);
}

static void put_event(struct trace *t, const long *a, long ret)
{
	struct epoll_event ev;

	(void)ret;
	if (!trace_peek(&ev, pointer(a[0]), sizeof(ev))) {
		put_pointer(t, a[0]);
		return;
	}
	trace_char(t, '{');
	trace_flags(t, trace_epoll_events, ev.events);
	trace_text(t, ", ");
	trace_hex(t, ev.data.u64);
	trace_char(t, '}');
}

static void put_events(struct trace *t, const long *a, long ret)
{
	trace_char(t, '[');
	for (long i = 0; i < ret && i < LIST_MAX; i++) {
		long at = a[0] + i * (long)sizeof(struct epoll_event);

		trace_text(t, i ? ", " : "");
		put_event(t, &at, 0);
	}
	trace_text(t, ret > LIST_MAX ? ", ...], " : "], ");
	trace_number(t, (int)a[1]);
}

/* struct timespec or timeval: seconds and parts. */
static void put_time(struct trace *t, const long *a, long ret)
{
	long pair[2];

	(void)ret;
	if (trace_peek(pair, pointer(a[0]), sizeof(pair)))
		put_bytes(t, a[0], sizeof(pair));
	else
		put_pointer(t, a[0]);
}

/* --- names ------------------------------------------------------------------------ */

static void put_hints(struct trace *t, const long *a, long ret)
{
	struct addrinfo hints;

	(void)ret;
	if (!trace_peek(&hints, pointer(a[0]), sizeof(hints))) {
		put_pointer(t, a[0]);
		return;
	}
	trace_char(t, '{');
	trace_named(t, trace_domains, hints.ai_family);
	trace_text(t, ", ");
	trace_named(t, trace_types, hints.ai_socktype);
	trace_text(t, ", ");
	trace_flags(t, trace_ai_flags, (unsigned int)hints.ai_flags);
	trace_char(t, '}');
}

static void put_addresses(struct trace *t, const long *a, long ret)
{
	struct addrinfo *next, ai;
	int count = 0;

	if (ret || !trace_peek(&next, pointer(a[0]), sizeof(next))) {
		trace_text(t, "...");
		return;
	}
	trace_char(t, '[');
	for (; next && count < LIST_MAX && trace_peek(&ai, next, sizeof(ai)); next = ai.ai_next) {
		trace_text(t, count++ ? " " : "");
		put_sockaddr(t, (long)ai.ai_addr, ai.ai_addrlen);
	}
	trace_char(t, ']');
}

/* An address alone, of the family that follows. */
static void put_address_of(struct trace *t, const long *a, long ret)
{
	char ip[16], text[INET6_ADDRSTRLEN];
	int family = (int)a[1];

	(void)ret;
	if ((family == AF_INET || family == AF_INET6) &&
	    trace_peek(ip, pointer(a[0]), family == AF_INET6 ? 16 : 4) &&
	    inet_ntop(family, ip, text, sizeof(text)))
		trace_text(t, text);
	else
		put_pointer(t, a[0]);
}

/* A name that was filled in, if it was. */
static void put_name_out(struct trace *t, const long *a, long ret)
{
	if (ret == 0)
		trace_string(t, pointer(a[0]));
	else
		put_pointer(t, a[0]);
}

/* --- the letters ------------------------------------------------------------------- */

static const struct kind {
	char letter;
	int takes; /* arguments */
	void (*put)(struct trace *t, const long *a, long ret);
} kinds[] = {
	{ 'd', 1, put_int },         /* descriptor, int */
	{ 'n', 1, put_number },      /* size_t, off_t */
	{ '.', 1, put_buffer },      /* a buffer: never what is in it */
	{ 'z', 1, put_string },      /* string */
	{ 'a', 2, put_address },     /* address, its length */
	{ 'A', 2, put_address_out }, /* the same to be filled */
	{ 'D', 1, put_domain },      /* AF_ */
	{ 'T', 1, put_type },        /* SOCK_ */
	{ 'c', 1, put_sock_flags },  /* SOCK_NONBLOCK, SOCK_CLOEXEC */
	{ 'h', 1, put_how },         /* SHUT_ */
	{ 'f', 1, put_msg_flags },   /* MSG_ */
	{ 'o', 2, put_option },      /* level, option */
	{ 'v', 2, put_value },       /* value, its length */
	{ 'V', 2, put_value_out },   /* the same to be filled */
	{ 'F', 2, put_fcntl },       /* command, argument */
	{ 'I', 2, put_ioctl },       /* request, argument */
	{ 'i', 2, put_iov },         /* pieces, how many */
	{ 'm', 1, put_msghdr },      /* message */
	{ 'r', 1, put_msghdr_out },  /* message to be filled */
	{ 'M', 2, put_mmsghdr },     /* messages, how many */
	{ 'p', 2, put_pollfds },     /* pollfds, how many */
	{ 's', 4, put_sets },        /* how many, three fd_sets */
	{ 'O', 1, put_epoll_op },    /* EPOLL_CTL_ */
	{ 'x', 1, put_epoll_flags }, /* EPOLL_CLOEXEC */
	{ 'e', 1, put_event },       /* event */
	{ 'E', 2, put_events },      /* events, room for so many */
	{ 't', 1, put_time },        /* timespec, timeval */
	{ 'H', 1, put_hints },       /* hints */
	{ 'b', 2, put_address_of },  /* bare address, family */
	{ 'Z', 1, put_name_out },    /* string to be filled */
	{ 'L', 1, put_addresses },   /* the list of getaddrinfo() */
};

static const struct kind *kind_of(char letter)
{
	const struct kind *kind = kinds;

	while (kind->letter != letter)
		kind++;
	return kind;
}

void trace_args(struct trace *t, const char *letters, const long *args, long ret)
{
	for (const char *letter = letters; *letter; letter++) {
		const struct kind *kind = kind_of(*letter);

		trace_text(t, letter == letters ? "" : ", ");
		kind->put(t, args, ret);
		args += kind->takes;
	}
}
