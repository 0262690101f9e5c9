/* SPDX-License-Identifier: MIT */
/*
 * Options and modes: getsockopt, setsockopt, ioctl, fcntl.
 *
 * Purpose: what the guest decides itself (time limits, non-blocking mode, what a
 * socket is) is answered from shared memory. All other options are canald's: it
 * sets them on the real socket.
 *
 * Invariants
 *  1. O_NONBLOCK is kept twice: in status, which all processes that share the
 *     socket look at, and on the dummy, for F_GETFL and for calls that slip by.
 *  2. An option whose value holds pointers, or that would change what canald
 *     itself reads from the socket, is refused here.
 *  3. Options that servers set on every connection are posted, not waited for.
 *
 * Ownership and threads: any thread. Failure: -errno, those of socket(7), tcp(7).
 */
#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "async.h"
#include "internal.h"
#include "sys.h"
#include "twin.h"
#include "user.h"

#define NS_PER_S 1000000000ull
#define NS_PER_US 1000ull
/* How long an option waits for datagrams in front of it. */
#define EARLIER_LOOKS 300
#define EARLIER_NAP_NS 500000
/* asm/socket.h: the 64-bit time limits of 32-bit programs, alike on 64-bit ones. */
#define RCVTIMEO_NEW 66
#define SNDTIMEO_NEW 67

/* --- time limits ------------------------------------------------------- */

/* The time limit that an option name means, or NULL. */
static uint64_t *timeout_of(struct canal_sock *s, int name)
{
	if (name == SO_RCVTIMEO || name == RCVTIMEO_NEW)
		return &s->rcvtimeo_ns;
	if (name == SO_SNDTIMEO || name == SNDTIMEO_NEW)
		return &s->sndtimeo_ns;
	return NULL;
}

static int timeout_set(uint64_t *limit, const void *value, socklen_t len)
{
	struct timeval tv;
	uint64_t ns;

	if (len < sizeof(tv))
		return -EINVAL;
	memcpy(&tv, value, sizeof(tv));
	if (tv.tv_usec < 0 || tv.tv_usec >= 1000000)
		return -EDOM;
	if (tv.tv_sec < 0)
		ns = 1; /* as good as none at all: Linux does the same */
	else if ((uint64_t)tv.tv_sec >= INT64_MAX / NS_PER_S - 1)
		ns = 0;
	else
		ns = (uint64_t)tv.tv_sec * NS_PER_S + (uint64_t)tv.tv_usec * NS_PER_US;
	canal_write_once(limit, ns);
	return 0;
}

/* --- how many bytes, and from where ------------------------------------- */

static void lowat_set(struct canal_sock *s, const void *value)
{
	int lowat;

	memcpy(&lowat, value, sizeof(lowat));
	canal_write_once(&s->rcvlowat, lowat < 0 ? INT_MAX : lowat ? (uint32_t)lowat : 1u);
	fd_slow_down(s);
}

static void peek_set(struct canal_sock *s, const void *value)
{
	int off;

	memcpy(&off, value, sizeof(off));
	canal_write_once(&s->peek_at,
			 off < 0 ? 0 : canal_read_once(&s->rx.head) + (uint64_t)off + 1);
}

static void inq_set(struct canal_sock *s, const void *value)
{
	int on;

	memcpy(&on, value, sizeof(on));
	if (on)
		(void)canal_fetch_or(&s->status, CANAL_STATUS_INQ);
	else
		(void)canal_fetch_and(&s->status, ~CANAL_STATUS_INQ);
}

/* A close() that resets has reset when it is over: it waits for canald, too, if not for long. */
static void linger_set(struct canal_sock *s, const void *value)
{
	struct linger linger;

	memcpy(&linger, value, sizeof(linger));
	canal_write_once(&s->linger, !linger.l_onoff       ? 0u
				     : linger.l_linger > 0 ? (uint32_t)linger.l_linger
							   : 1u);
}

/* What canald's kernel says of a new one: it may not know the option. */
static int option_noted(struct sock_ref ref, int level, int name, const void *value, int ret)
{
	if (!ret && level == IPPROTO_TCP && name == TCP_INQ)
		inq_set(ref.s, value);
	if (ret || level != SOL_SOCKET)
		return ret;
	if (name == SO_RCVLOWAT && ref.type == SOCK_STREAM)
		lowat_set(ref.s, value);
	if (name == SO_PEEK_OFF)
		peek_set(ref.s, value);
	if (name == SO_LINGER && ref.type == SOCK_STREAM)
		linger_set(ref.s, value);
	if ((name == SO_REUSEADDR || name == SO_REUSEPORT) && ref.type == SOCK_DGRAM)
		(void)canal_fetch_or(&ref.s->status, CANAL_STATUS_SHARES);
	return 0;
}

/* --- getsockopt -------------------------------------------------------- */

static int give_value(void *value, socklen_t *len, const void *from, socklen_t from_len)
{
	if (*len > from_len)
		*len = from_len;
	if (*len > sizeof(int) && user_writable(value, *len))
		return -EFAULT; /* the first int is */
	memcpy(value, from, *len);
	return 0;
}

static int give_int(void *value, socklen_t *len, int from)
{
	return give_value(value, len, &from, sizeof(from));
}

static int timeout_get(const uint64_t *limit, void *value, socklen_t *len)
{
	uint64_t ns = canal_read_once(limit);
	struct timeval tv = {
		.tv_sec = ns / NS_PER_S,
		.tv_usec = ns % NS_PER_S / NS_PER_US,
	};

	return give_value(value, len, &tv, sizeof(tv));
}

static int peek_get(const struct canal_sock *s, void *value, socklen_t *len)
{
	uint64_t at = canal_read_once(&s->peek_at), head = canal_read_once(&s->rx.head);

	return give_int(value, len, !at ? -1 : at - 1 < head ? 0 : (int)(at - 1 - head));
}

/* What the guest knows itself; -ENOPROTOOPT for all else. */
static int get_here(struct sock_ref ref, int name, void *value, socklen_t *len)
{
	const uint64_t *limit = timeout_of(ref.s, name);

	if (limit)
		return timeout_get(limit, value, len);
	switch (name) {
	case SO_ERROR:
		return give_int(value, len, canal_xchg(&ref.s->so_error, 0u));
	case SO_TYPE:
		return give_int(value, len, ref.type);
	case SO_DOMAIN:
		return give_int(value, len, ref.domain);
	case SO_PROTOCOL:
		/* a datagram socket may be one of UDP-Lite: the host knows */
		return ref.type == SOCK_STREAM ? give_int(value, len, IPPROTO_TCP) : -ENOPROTOOPT;
	case SO_OOBINLINE:
		return give_int(value, len,
				!!(canal_read_once(&ref.s->status) & CANAL_STATUS_INLINE));
	case SO_ACCEPTCONN:
		return give_int(value, len,
				canal_load_acquire(&ref.s->state) == CANAL_SOCK_LISTENING);
	default:
		return -ENOPROTOOPT;
	}
}

static int get_call(struct sock_ref ref, int level, int name, void *value, socklen_t *len)
{
	struct canal_inr inr = { .op = CANAL_INR_GETSOCKOPT, .sock = ref.n };
	uint32_t room = *len < CANAL_CALL_DATA ? *len : CANAL_CALL_DATA;
	uint8_t got[CANAL_CALL_DATA];
	struct call_args args = {
		.level = level,
		.name = name,
		.out = got,
		.out_len = &room,
	};
	int ret = channel_call(&the_channel, &inr, &args);

	if (ret < 0)
		return ret == -EPIPE ? -ENETDOWN : ret;
	*len = room;
	return give_value(value, len, got, room);
}

/*
 * 0, or the errno of a kernel that lacks it: filters and zero copy carry
 * pointers, kernel TLS and connection repair would change what canald reads.
 */
static int refuse(struct sock_ref ref, int level, int name)
{
	if (level == SOL_SOCKET)
		switch (name) {
		case SO_ATTACH_FILTER:
		case SO_ATTACH_BPF:
		case SO_ATTACH_REUSEPORT_CBPF:
		case SO_ATTACH_REUSEPORT_EBPF:
		case SO_ZEROCOPY:
		case SO_TIMESTAMPING:
			return -EOPNOTSUPP;
		}
	if (level == SOL_SOCKET && name == SO_PEEK_OFF && ref.type != SOCK_STREAM)
		return -EOPNOTSUPP;
	if (level == IPPROTO_TCP)
		switch (name) {
		case TCP_ULP:
			return -ENOENT;
		case TCP_REPAIR:
			return -EPERM;
		case TCP_ZEROCOPY_RECEIVE:
			return -EOPNOTSUPP;
		}
	return 0;
}

int option_get(struct sock_ref ref, int level, int name, void *value, socklen_t *len)
{
	int ret;

	if (user_writable(len, sizeof(*len)))
		return -EFAULT;
	if ((int)*len < 0)
		return -EINVAL;
	if (user_writable(value, *len < sizeof(int) ? *len : sizeof(int)))
		return -EFAULT;
	if (level == SOL_SOCKET) {
		ret = get_here(ref, name, value, len);
		if (ret != -ENOPROTOOPT)
			return ret;
	}
	ret = refuse(ref, level, name);
	if (!ret)
		ret = get_call(ref, level, name, value, len);
	return !ret && level == SOL_SOCKET && name == SO_PEEK_OFF ? peek_get(ref.s, value, len)
								  : ret;
}

/* --- setsockopt -------------------------------------------------------- */

static void option_status(struct canal_sock *s, uint32_t bit, bool on)
{
	if (on)
		(void)canal_fetch_or(&s->status, bit);
	else
		(void)canal_fetch_and(&s->status, ~bit);
}

/* Options that cannot fail with a proper value, and that are set per connection. */
static bool is_posted(struct sock_ref ref, int level, int name, socklen_t len)
{
	if (len < sizeof(int) || ref.type != SOCK_STREAM)
		return false;
	if (level == SOL_SOCKET)
		return name == SO_KEEPALIVE;
	return level == IPPROTO_TCP &&
	       (name == TCP_NODELAY || name == TCP_QUICKACK || name == TCP_CORK);
}

static int set_post(struct sock_ref ref, int level, int name, const void *value)
{
	struct canal_inr inr = {
		.op = CANAL_INR_SETSOCKOPT,
		.sock = ref.n,
		.slot = CANAL_NONE,
		.u.arg = { level, name },
	};
	int ret;

	memcpy(&inr.u.arg[2], value, sizeof(int));
	ret = channel_post(&the_channel, &inr);
	return ret == -EPIPE ? -ENETDOWN : ret;
}

static int set_call(struct sock_ref ref, int level, int name, const void *value, socklen_t len)
{
	struct canal_inr inr = { .op = CANAL_INR_SETSOCKOPT, .sock = ref.n };
	struct call_args args = { .level = level, .name = name, .in = value, .in_len = len };
	int ret;

	if (len > CANAL_CALL_DATA)
		return -EINVAL;
	ret = channel_call(&the_channel, &inr, &args);
	return ret == -EPIPE ? -ENETDOWN : ret;
}

/* Datagrams that were sent before go as the options were then. */
void option_earlier_sent(struct canal_sock *s)
{
	for (unsigned int i = 0; i < EARLIER_LOOKS && !channel_gone(&the_channel) &&
				 canal_load_acquire(&s->tx.head) != canal_read_once(&s->tx.tail);
	     i++)
		if (i < 100)
			sys_yield();
		else
			(void)wait_nap(EARLIER_NAP_NS);
}

/* The kernel looks at the length first. */
static bool wants_int(int level, int name)
{
	return level != IPPROTO_IP && !(level == SOL_SOCKET && name == SO_BINDTODEVICE) &&
	       !(level == IPPROTO_TCP && name == TCP_CONGESTION);
}

/* What Linux asks CAP_NET_ADMIN for: no guest has it on the host. */
static bool is_privileged(int level, int name)
{
	return level == SOL_SOCKET &&
	       (name == SO_SNDBUFFORCE || name == SO_RCVBUFFORCE || name == SO_MARK);
}

int option_set(struct sock_ref ref, int level, int name, const void *value, socklen_t len)
{
	uint64_t *limit = level == SOL_SOCKET ? timeout_of(ref.s, name) : NULL;
	int ret = is_privileged(level, name) ? -EPERM : refuse(ref, level, name);

	if (ret)
		return ret;
	if ((int)len < 0)
		return -EINVAL;
	if (user_readable(value, len))
		return len < sizeof(int) && wants_int(level, name) ? -EINVAL : -EFAULT;
	if (limit)
		return timeout_set(limit, value, len);
	if (twin_apart()) {
		twin_note(ref.n, level, name);
		twin_set_option(ref.n, level, name, value, len);
	}
	if (level == SOL_SOCKET && name == SO_OOBINLINE) {
		if (len < sizeof(int))
			return -EINVAL;
		option_status(ref.s, CANAL_STATUS_INLINE, *(const int *)value);
		return 0;
	}
	if (is_posted(ref, level, name, len))
		return set_post(ref, level, name, value);
	if (ref.type == SOCK_DGRAM)
		option_earlier_sent(ref.s);
	return option_noted(ref, level, name, value, set_call(ref, level, name, value, len));
}

/* --- ioctl ------------------------------------------------------------- */

/* FIONREAD: bytes of a stream, or the size of the next datagram. */
static int readable_bytes(struct sock_ref ref, int *ret_count)
{
	struct canal_sock *s = ref.s;
	uint64_t head = canal_read_once(&s->rx.head);
	uint64_t used = canal_load_acquire(&s->rx.tail) - head;
	struct canal_dgram record = { .len = 0 };

	if (canal_load_acquire(&ref.s->state) == CANAL_SOCK_LISTENING)
		return -EINVAL;
	if (ref.type == SOCK_STREAM) {
		uint64_t mark = canal_read_once(&s->rx.mark);

		/* what lies in front of an urgent byte that is left out */
		if (mark > head && mark <= head + used &&
		    !(canal_read_once(&s->status) & CANAL_STATUS_INLINE))
			used = mark - 1 - head;
		*ret_count = used;
		return 0;
	}
	if (used >= sizeof(record))
		(void)canal_fifo_peek(s->rx.chunk, &the_channel.rx, head, &record, sizeof(record));
	*ret_count = record.len;
	return 0;
}

/* What the peer has not acknowledged; of datagrams, and without canald, what is in TX. */
static int queued_bytes(struct sock_ref ref, bool unsent)
{
	struct canal_inr inr = { .op = CANAL_INR_OUTQ, .sock = ref.n, .u.arg = { unsent } };
	int ret = -EINVAL;

	if (ref.type == SOCK_STREAM && canal_load_acquire(&ref.s->state) == CANAL_SOCK_CONNECTED)
		ret = channel_call(&the_channel, &inr, NULL);
	if (ret >= 0)
		return ret;
	return (int)(canal_read_once(&ref.s->tx.tail) - canal_load_acquire(&ref.s->tx.head));
}

static int dummy_ioctl(int fd, unsigned long request, void *arg)
{
	int ret = real(ioctl)(fd, request, arg);

	return ret < 0 ? -errno : ret;
}

/* Questions about interfaces, routes and the like, which a UNIX socket cannot answer. */
static int network_ioctl(struct sock_ref ref, unsigned long request, void *arg)
{
	int fd, ret = interfaces_ioctl(request, arg);

	if (ret != INTERFACES_KERNEL)
		return ret;
	fd = real(socket)(ref.domain, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	ret = dummy_ioctl(fd, request, arg);
	real(close)(fd);
	return ret;
}

/* O_ASYNC or the owner of the dummy was set. */
static void signals_changed(int fd, struct sock_ref ref, int cmd)
{
	int flags = real(fcntl)(fd, F_GETFL, NULL);
	bool on = flags > 0 && (flags & O_ASYNC);
	bool was = canal_read_once(&ref.s->status) & CANAL_STATUS_ASYNC;

	if (cmd == F_SETFL && on == was)
		return;
	option_status(ref.s, CANAL_STATUS_ASYNC, on);
	async_change(fd, ref);
}

int option_ioctl(int fd, struct sock_ref ref, unsigned long request, void *arg)
{
	struct canal_sock *s = ref.s;

	switch (request) {
	case FIONREAD:
		wait_arrival_for(&the_channel, false);
		return user_writable(arg, sizeof(int)) ? -EFAULT : readable_bytes(ref, arg);
	case SIOCOUTQ:
	case SIOCOUTQNSD:
		if (canal_load_acquire(&s->state) == CANAL_SOCK_LISTENING)
			return -EINVAL;
		if (user_writable(arg, sizeof(int)))
			return -EFAULT;
		*(int *)arg = queued_bytes(ref, request == SIOCOUTQNSD);
		return 0;
	case SIOCATMARK:
		if (ref.type != SOCK_STREAM)
			return -ENOTTY;
		if (user_writable(arg, sizeof(int)))
			return -EFAULT;
		*(int *)arg = canal_fifo_at_mark(&s->rx, canal_read_once(&s->rx.head));
		return 0;
	case FIOASYNC:
	case FIOSETOWN:
	case SIOCSPGRP: {
		int ret = dummy_ioctl(fd, request, arg);

		if (ret >= 0)
			signals_changed(fd, ref, F_SETOWN);
		return ret;
	}
	case FIONBIO:
		if (user_readable(arg, sizeof(int)))
			return -EFAULT;
		option_status(s, CANAL_STATUS_NONBLOCK, *(int *)arg);
		return dummy_ioctl(fd, request, arg);
	}
	if (request >= SIOCADDRT && (request >> 8) == (SIOCADDRT >> 8))
		return network_ioctl(ref, request, arg);
	return dummy_ioctl(fd, request, arg);
}

/* --- fcntl ------------------------------------------------------------- */

int option_fcntl(int fd, struct sock_ref ref, int cmd, void *arg)
{
	int ret = real(fcntl)(fd, cmd, arg);

	if (ret < 0)
		return -errno;
	switch (cmd) {
	case F_SETFL:
		option_status(ref.s, CANAL_STATUS_NONBLOCK, (intptr_t)arg & O_NONBLOCK);
		signals_changed(fd, ref, cmd);
		break;
	case F_GETFL:
		ret &= ~O_NONBLOCK;
		if (canal_read_once(&ref.s->status) & CANAL_STATUS_NONBLOCK)
			ret |= O_NONBLOCK;
		break;
	case F_SETOWN:
	case F_SETOWN_EX:
	case F_SETSIG:
		signals_changed(fd, ref, cmd);
		break;
	}
	return ret;
}
