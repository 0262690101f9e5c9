/* SPDX-License-Identifier: MIT */
/*
 * Loopback and link-local addresses of a virtual machine: its own kernel's.
 *
 * Purpose: canald's loopback is another machine's. A socket that is bound or
 * connected to such an address becomes a kernel socket in place: same numbers,
 * same options. One that is bound to the wildcard stays canal's and gets twins
 * beside it, kernel sockets on the same port of loopback; calls that wait for
 * something to come wait for both.
 *
 * Invariants
 *  1. A twin is bound to 127.0.0.1 or ::1 and never to the wildcard: canal opens
 *     nothing to a network card that the guest may have.
 *  2. A twin's descriptors are the library's own. A forked child has them too;
 *     each process drops them with its last descriptor of the socket.
 *  3. In an epoll instance a twin is a member where the canal socket is, with the
 *     same data.
 *  4. A kernel socket takes the place of a canal one only when the bind() or
 *     connect() that it is for has not failed.
 *
 * Ownership and threads: private to the process, twins under twin_lock; to look
 * one up takes no lock. A program that closes a socket while another thread waits
 * on it gets what it would from the kernel: the number may mean something else.
 *
 * Failure: no loopback in the guest (lo is down, no IPv6): no twin. No twin left:
 * the same.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/time.h>

#include "addr.h"
#include "epoll_set.h"
#include "twin.h"

#define TWINS_MAX 4096
#define SOCKETS_MAX 65536
#define MEMBERSHIPS 16
#define NS_PER_S 1000000000ull
#define NS_PER_US 1000ull

uint32_t twin_count;

static uint32_t twin_lock;
static struct twin twins[TWINS_MAX];
static uint16_t twin_at[SOCKETS_MAX];     /* by socket: index in twins plus 1 */
static uint64_t options_set[SOCKETS_MAX]; /* by socket: bits of replayed[] */

void twin_after_fork(void)
{
	canal_write_once(&twin_lock, 0u);
}

/* --- addresses --------------------------------------------------------- */

static bool owns_ipv4(const uint8_t *ip)
{
	static const uint8_t any[4];

	return ip[0] == 127 || (ip[0] == 169 && ip[1] == 254) || !memcmp(ip, any, sizeof(any));
}

/* To send to "any" is to send to loopback. */
bool twin_owns(const struct canal_addr *a)
{
	if (a->family == AF_INET)
		return owns_ipv4(a->ip);
	if (a->family != AF_INET6)
		return false;
	if (addr_is_mapped(a))
		return owns_ipv4(a->ip + 12);
	return twin_is_wildcard(a) || (a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80) ||
	       !memcmp(a->ip, &in6addr_loopback, sizeof(in6addr_loopback));
}

bool twin_is_wildcard(const struct canal_addr *a)
{
	static const uint8_t zero[16];

	if (addr_is_mapped(a))
		return !memcmp(a->ip + 12, zero, 4);
	return !memcmp(a->ip, zero, a->family == AF_INET ? 4 : 16);
}

/* --- options ----------------------------------------------------------- */

/* What a kernel socket is given of those that the program has set. */
static const struct {
	uint16_t level, name;
	bool doubled; /* reads back as twice what was set */
} replayed[] = {
	{ SOL_SOCKET, SO_REUSEADDR, false },
	{ SOL_SOCKET, SO_REUSEPORT, false },
	{ SOL_SOCKET, SO_KEEPALIVE, false },
	{ SOL_SOCKET, SO_LINGER, false },
	{ SOL_SOCKET, SO_SNDBUF, true },
	{ SOL_SOCKET, SO_RCVBUF, true },
	{ SOL_SOCKET, SO_BROADCAST, false },
	{ SOL_SOCKET, SO_OOBINLINE, false },
	{ SOL_SOCKET, SO_PRIORITY, false },
	{ SOL_SOCKET, SO_TIMESTAMP, false },
	{ SOL_SOCKET, SO_RCVLOWAT, false },
	{ SOL_SOCKET, SO_DONTROUTE, false },
	{ IPPROTO_TCP, TCP_NODELAY, false },
	{ IPPROTO_TCP, TCP_QUICKACK, false },
	{ IPPROTO_TCP, TCP_SYNCNT, false },
	{ IPPROTO_TCP, TCP_LINGER2, false },
	{ IPPROTO_TCP, TCP_NOTSENT_LOWAT, false },
	{ IPPROTO_TCP, TCP_WINDOW_CLAMP, false },
	{ IPPROTO_TCP, TCP_KEEPIDLE, false },
	{ IPPROTO_TCP, TCP_KEEPINTVL, false },
	{ IPPROTO_TCP, TCP_KEEPCNT, false },
	{ IPPROTO_TCP, TCP_CORK, false },
	{ IPPROTO_TCP, TCP_DEFER_ACCEPT, false },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, false },
	{ IPPROTO_TCP, TCP_MAXSEG, false },
	{ IPPROTO_TCP, TCP_CONGESTION, false },
	{ IPPROTO_IP, IP_TOS, false },
	{ IPPROTO_IP, IP_TTL, false },
	{ IPPROTO_IP, IP_PKTINFO, false },
	{ IPPROTO_IP, IP_RECVTTL, false },
	{ IPPROTO_IP, IP_RECVTOS, false },
	{ IPPROTO_IP, IP_MULTICAST_TTL, false },
	{ IPPROTO_IP, IP_MULTICAST_LOOP, false },
	{ IPPROTO_IPV6, IPV6_V6ONLY, false },
	{ IPPROTO_IPV6, IPV6_UNICAST_HOPS, false },
	{ IPPROTO_IPV6, IPV6_TCLASS, false },
	{ IPPROTO_IPV6, IPV6_RECVPKTINFO, false },
	{ IPPROTO_IPV6, IPV6_RECVHOPLIMIT, false },
};

#define REPLAYED (sizeof(replayed) / sizeof(replayed[0]))
_Static_assert(REPLAYED <= 64, "a bit for each");

void twin_note(uint32_t sock, int level, int name)
{
	for (uint32_t i = 0; i < REPLAYED; i++)
		if (replayed[i].level == level && replayed[i].name == name && sock < SOCKETS_MAX)
			(void)canal_fetch_or(&options_set[sock], 1ull << i);
}

void twin_note_none(uint32_t sock)
{
	if (sock < SOCKETS_MAX)
		canal_write_once(&options_set[sock], 0ull);
}

static void replay_one(struct sock_ref ref, int fd, uint32_t i)
{
	uint8_t value[64];
	socklen_t len = sizeof(value);
	int number;

	if (option_get(ref, replayed[i].level, replayed[i].name, value, &len) < 0)
		return;
	if (replayed[i].doubled && len == sizeof(number)) {
		memcpy(&number, value, sizeof(number));
		number /= 2;
		memcpy(value, &number, sizeof(number));
	}
	(void)real(setsockopt)(fd, replayed[i].level, replayed[i].name, value, len);
}

static void replay_timeout(int fd, int name, uint64_t ns)
{
	const struct timeval tv = { .tv_sec = ns / NS_PER_S, .tv_usec = ns % NS_PER_S / NS_PER_US };

	if (ns)
		(void)real(setsockopt)(fd, SOL_SOCKET, name, &tv, sizeof(tv));
}

static void replay(struct sock_ref ref, int fd)
{
	uint64_t set = ref.n < SOCKETS_MAX ? canal_read_once(&options_set[ref.n]) : 0;

	for (uint32_t i = 0; i < REPLAYED; i++)
		if (set >> i & 1)
			replay_one(ref, fd, i);
	replay_timeout(fd, SO_RCVTIMEO, canal_read_once(&ref.s->rcvtimeo_ns));
	replay_timeout(fd, SO_SNDTIMEO, canal_read_once(&ref.s->sndtimeo_ns));
}

/* --- members of epoll instances ---------------------------------------- */

/* The program's number of an epoll instance; -1: it is closed. */
static int epoll_number(const struct epoll_set *es)
{
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1))
		if (fd_table[fd].kind == FD_EPOLL && fd_table[fd].object == es)
			return fd;
	return -1;
}

/* A kernel socket has room always: only what comes is asked for. */
#define TWIN_EVENTS (EPOLLIN | EPOLLRDNORM | EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP)

static void epoll_all(const struct twin *t, int epfd, int op, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events & TWIN_EVENTS, .data.u64 = data };

	for (unsigned int i = 0; i < TWIN_FDS; i++)
		if (t->fd[i] >= 0)
			epoll_twin(epfd, op, t->fd[i], &ev);
}

void twin_epoll(uint32_t sock, int epfd, int op, const struct epoll_event *ev)
{
	const struct twin *t = twin_of(sock);

	if (t)
		epoll_all(t, epfd, op, ev ? ev->events : 0, ev ? ev->data.u64 : 0);
}

/* The same for all instances that the socket is in. */
static void epoll_everywhere(const struct twin *t, int op)
{
	struct membership in[MEMBERSHIPS];
	uint32_t count = member_list(t->sock, in, MEMBERSHIPS);

	for (uint32_t i = 0; i < count; i++) {
		int epfd = epoll_number(in[i].es);

		if (epfd >= 0)
			epoll_all(t, epfd, op, in[i].events, in[i].data);
	}
}

/* --- in place ---------------------------------------------------------- */

/* All descriptors of this process that mean @ref mean @kernel from now on. */
static void take_place(struct sock_ref ref, int kernel)
{
	struct membership in[MEMBERSHIPS];
	uint32_t count = member_list(ref.n, in, MEMBERSHIPS);

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		int flags;

		if (fd_sock(fd) != ref.s)
			continue;
		flags = real(fcntl)(fd, F_GETFD, NULL);
		(void)process_dup_over(kernel, fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
	}
	for (uint32_t i = 0; i < count; i++) {
		struct epoll_event ev = { .events = in[i].events, .data.u64 = in[i].data };
		int epfd = epoll_number(in[i].es);

		if (epfd >= 0)
			(void)epoll_change(epfd, EPOLL_CTL_ADD, in[i].fd, &ev);
	}
	real(close)(kernel);
}

/* A kernel socket with what the program has made of @ref so far; -errno. */
static int kernel_socket(struct sock_ref ref, int flags)
{
	int fd = real(socket)(ref.domain, ref.type | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		return -errno;
	replay(ref, fd);
	return fd;
}

static int kernel_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	return real(bind)(fd, addr, len) < 0 ? -errno : 0;
}

static int nonblock_flag(struct sock_ref ref)
{
	return canal_read_once(&ref.s->status) & CANAL_STATUS_NONBLOCK ? SOCK_NONBLOCK : 0;
}

int twin_bind_there(struct sock_ref ref, const struct sockaddr *addr, socklen_t len)
{
	int saved = errno, fd, ret;

	if (canal_read_once(&ref.s->status) & CANAL_STATUS_BOUND)
		return -EINVAL;
	fd = kernel_socket(ref, nonblock_flag(ref));
	ret = fd < 0 ? fd : kernel_bind(fd, addr, len);
	if (ret == 0)
		take_place(ref, fd);
	else if (fd >= 0)
		real(close)(fd);
	errno = saved;
	return ret;
}

/* The port that the program chose goes with it, if it is not of a network. */
static int bind_again(struct sock_ref ref, int fd)
{
	struct canal_addr local = ref.s->local;
	struct sockaddr_storage ss;
	socklen_t len;

	if (!(canal_read_once(&ref.s->status) & CANAL_STATUS_BOUND) || !twin_is_wildcard(&local))
		return 0;
	twin_drop(ref.n);
	len = addr_to_sockaddr(&local, &ss);
	return kernel_bind(fd, (struct sockaddr *)&ss, len);
}

static int connect_kernel(int fd, const struct sockaddr *addr, socklen_t len)
{
	return real(connect)(fd, addr, len) < 0 ? -errno : 0;
}

int twin_connect_there(struct sock_ref ref, const struct sockaddr *addr, socklen_t len)
{
	int saved = errno, fd = kernel_socket(ref, nonblock_flag(ref));
	int ret = fd < 0 ? fd : bind_again(ref, fd);

	if (ret == 0 || fd >= 0)
		ret = ret ? ret : connect_kernel(fd, addr, len);
	/* Under way: it goes on behind the program's descriptor. */
	if (ret == 0 || ret == -EINPROGRESS || ret == -EINTR)
		take_place(ref, fd);
	else if (fd >= 0)
		real(close)(fd);
	errno = saved;
	return ret;
}

/* --- twins ------------------------------------------------------------- */

struct twin *twin_find(uint32_t sock)
{
	uint16_t at = sock < SOCKETS_MAX ? canal_load_acquire(&twin_at[sock]) : 0;

	return at ? &twins[at - 1] : NULL;
}

/* Under twin_lock: one without sockets yet. */
static struct twin *twin_take(uint32_t sock)
{
	for (uint32_t i = 0; sock < SOCKETS_MAX && i < TWINS_MAX; i++) {
		if (twins[i].used)
			continue;
		twins[i] = (struct twin){ .sock = sock, .used = 1, .fd = { -1, -1, -1 } };
		return &twins[i];
	}
	return NULL;
}

static void twin_close(struct twin *t)
{
	for (unsigned int i = 0; i < TWIN_FDS; i++)
		if (t->fd[i] >= 0)
			fd_close_own(t->fd[i]);
	t->used = 0;
}

/* Under twin_lock: from now on others find it. */
static void twin_show(struct twin *t)
{
	canal_store_release(&twin_at[t->sock], (uint16_t)(t - twins + 1));
	(void)canal_fetch_add(&twin_count, 1u);
	epoll_everywhere(t, EPOLL_CTL_ADD);
}

void twin_drop(uint32_t sock)
{
	struct twin *t;
	int saved = errno;

	if (!twin_any() || !lock_enter(&twin_lock))
		return;
	t = twin_find(sock);
	if (t) {
		/* A child may have it, too: the kernel would go on watching it. */
		epoll_everywhere(t, EPOLL_CTL_DEL);
		canal_write_once(&twin_at[sock], 0);
		(void)canal_fetch_add(&twin_count, -1u);
		twin_close(t);
	}
	lock_leave(&twin_lock);
	errno = saved;
}

/* One kernel socket of @t, bound to @ip; -EADDRINUSE; 0 also where there is no such
 * address. */
static int twin_add(struct twin *t, unsigned int which, struct sock_ref ref,
		    struct canal_addr *loopback, int backlog)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(loopback, &ss);
	int fd = kernel_socket(ref, SOCK_NONBLOCK), one = 1, ret;

	if (fd < 0)
		return 0;
	if (ref.type == SOCK_STREAM) /* canald judges about the port's last user */
		(void)real(setsockopt)(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	ret = kernel_bind(fd, (struct sockaddr *)&ss, len);
	if (!ret && ref.type == SOCK_STREAM && real(listen)(fd, backlog) < 0)
		ret = -errno;
	if (ret) {
		real(close)(fd);
		return ret == -EADDRINUSE ? ret : 0;
	}
	t->fd[which] = fd_move_high(fd);
	return 0;
}

static bool only_ipv6(struct sock_ref ref)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return option_get(ref, IPPROTO_IPV6, IPV6_V6ONLY, &value, &len) == 0 && value;
}

static int twin_fill(struct twin *t, struct sock_ref ref, const struct canal_addr *local,
		     int backlog)
{
	struct canal_addr a = { .family = ref.domain, .port = local->port };
	const uint32_t v4 = htonl(INADDR_LOOPBACK);
	int ret;

	if (ref.domain == AF_INET) {
		memcpy(a.ip, &v4, 4);
		return twin_add(t, 0, ref, &a, backlog);
	}
	memcpy(a.ip, &in6addr_loopback, 16);
	ret = addr_is_mapped(local) ? 0 : twin_add(t, 0, ref, &a, backlog);
	if (ret || only_ipv6(ref))
		return ret;
	memset(a.ip, 0, 10);
	memset(a.ip + 10, 0xff, 2);
	memcpy(a.ip + 12, &v4, 4);
	return twin_add(t, 1, ref, &a, backlog);
}

static void listen_again(const struct twin *t, int backlog)
{
	for (unsigned int i = 0; i < TWIN_FDS; i++)
		if (t->fd[i] >= 0)
			(void)real(listen)(t->fd[i], backlog);
}

static int make(struct sock_ref ref, const struct canal_addr *local, int backlog)
{
	struct twin *t = twin_find(ref.n);
	int ret;

	if (t) {
		if (ref.type == SOCK_STREAM)
			listen_again(t, backlog);
		return 0;
	}
	t = twin_take(ref.n);
	if (!t)
		return 0;
	ret = twin_fill(t, ref, local, backlog);
	if (ret || (t->fd[0] < 0 && t->fd[1] < 0))
		twin_close(t);
	else
		twin_show(t);
	return ret;
}

int twin_make(struct sock_ref ref, const struct canal_addr *local, int backlog)
{
	int saved = errno, ret;

	if (!local->port || !twin_is_wildcard(local))
		return 0;
	lock_take(&twin_lock);
	ret = make(ref, local, backlog);
	lock_drop(&twin_lock);
	errno = saved;
	return ret;
}

static void loosen(struct twin *t, const struct canal_sock *s)
{
	const struct sock_ref ref = {
		.s = (struct canal_sock *)(uintptr_t)s,
		.n = t->sock,
		.domain = s->domain,
		.type = SOCK_DGRAM,
	};
	int fd = kernel_socket(ref, SOCK_NONBLOCK);

	if (fd >= 0)
		t->fd[TWIN_LOOSE] = fd_move_high(fd);
}

struct twin *twin_make_loose(const struct canal_sock *s, uint32_t n)
{
	struct twin *t;
	int saved = errno;

	lock_take(&twin_lock);
	t = twin_find(n);
	if (t && t->fd[TWIN_LOOSE] < 0) {
		loosen(t, s);
		epoll_everywhere(t, EPOLL_CTL_ADD); /* those that are in it stay */
	} else if (!t) {
		t = twin_take(n);
		if (t)
			loosen(t, s);
		if (t && t->fd[TWIN_LOOSE] < 0) {
			twin_close(t);
			t = NULL;
		}
		if (t)
			twin_show(t);
	}
	lock_drop(&twin_lock);
	errno = saved;
	return t;
}

bool twin_name(uint32_t sock, struct sockaddr *addr, socklen_t *len)
{
	const struct twin *t = twin_of(sock);
	int saved = errno;
	bool told = t && t->fd[TWIN_LOOSE] >= 0 &&
		    real(getsockname)(t->fd[TWIN_LOOSE], addr, len) == 0;

	errno = saved;
	return told;
}

/* --- later ------------------------------------------------------------- */

void twin_set_option(uint32_t sock, int level, int name, const void *value, socklen_t len)
{
	const struct twin *t = twin_of(sock);
	int saved = errno;

	for (unsigned int i = 0; t && i < TWIN_FDS; i++)
		if (t->fd[i] >= 0)
			(void)real(setsockopt)(t->fd[i], level, name, value, len);
	errno = saved;
}

void twin_shutdown(uint32_t sock, int how)
{
	const struct twin *t = twin_of(sock);
	int saved = errno;

	for (unsigned int i = 0; t && i < TWIN_FDS; i++)
		if (t->fd[i] >= 0)
			(void)real(shutdown)(t->fd[i], how);
	errno = saved;
}
