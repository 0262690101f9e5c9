/* SPDX-License-Identifier: MIT */
/*
 * Sockets: made, named, connected, accepted (docs/wire.md, section 3).
 *
 * Purpose: the calls that change what a socket is. Most are one call to canald;
 * socket, accept, shutdown and the names need no answer.
 *
 * Invariants
 *  1. A number taken from the grant ring gets its INR_SOCKET and its dummy, or
 *     an INR_CLOSE that says there is no dummy (arg[0] = 1). What a dummy needs is
 *     there before the number is taken.
 *  2. A connection leaves a listener's FIFO only when there is a dummy for it:
 *     out of descriptors, it stays for the next accept. It is ours when `taken`
 *     says so, which the host may have swapped first: then it was refused.
 *  3. One connect() of a stream is under way at a time: whether, and which, is
 *     in status (sock_connecting()), changed under ctl_lock.
 *
 * Ownership and threads: any thread of any process of the channel.
 *
 * Failure: errnos of the kernel's calls; -ENETDOWN when canald is gone.
 */
#include <errno.h>
#include <netinet/in.h>

#include <canal/vsocket.h>

#include "addr.h"
#include "data.h"
#include "handover.h"
#include "internal.h"
#include "keep.h"
#include "sys.h"
#include "twin.h"
#include "user.h"

#define TYPE_FLAGS (SOCK_NONBLOCK | SOCK_CLOEXEC)
/* IPPROTO_MAX of Linux 6 */
#define PROTOCOL_MOST 263
#define GRANT_YIELDS 20
#define GRANT_SLEEP_NS 100000
#define GRANT_LIMIT_NS 1000000000LL

static bool nonblocking(const struct canal_sock *s)
{
	return data_nonblock(s, 0);
}

/* --- socket ------------------------------------------------------------ */

/* AF_VSOCKET asks for canal by name, in any program. */
static int domain_of(int domain)
{
	if (domain == AF_VSOCKET)
		return AF_INET;
	return domain == AF_VSOCKET6 ? AF_INET6 : domain;
}

/* Raw and packet sockets and other families were never canal's to serve. */
bool socket_serves(int domain, int type, int protocol)
{
	int kind = type & ~TYPE_FLAGS;

	(void)protocol;
	if (domain == AF_VSOCKET || domain == AF_VSOCKET6)
		return true;
	return libcanal_preloaded && (domain == AF_INET || domain == AF_INET6) &&
	       (kind == SOCK_STREAM || kind == SOCK_DGRAM);
}

static bool protocol_fits(int kind, int protocol)
{
	return protocol == 0 || (kind == SOCK_STREAM && protocol == IPPROTO_TCP) ||
	       (kind == SOCK_DGRAM && (protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE));
}

static bool grant_try(struct channel *ch, uint32_t *ret_n)
{
	struct canal_region *region = ch->region;
	uint64_t head = canal_load_acquire(&region->grant_head);

	/* G1 acquire: the grant and the reset socket before grant_tail */
	while (head < canal_load_acquire(&region->grant_tail)) {
		uint32_t n = canal_read_once(&ch->grant[head & (ch->grant_count - 1)]);

		if (canal_cas(&region->grant_head, head, head + 1)) {
			*ret_n = n;
			return n < ch->sock_count;
		}
		head = canal_load_acquire(&region->grant_head);
	}
	return false;
}

static void grant_pause(unsigned int tries)
{
	if (tries < GRANT_YIELDS)
		sys_yield();
	else
		(void)wait_nap(GRANT_SLEEP_NS);
}

/*
 * A free number; asks canald for more when the ring is empty. canald serves the
 * INR first and fills the ring then: two refusals later it had its chance.
 */
static int grant_take(struct channel *ch, uint32_t *ret_n)
{
	uint32_t refused = canal_read_once(&ch->region->grant_none);
	const struct canal_inr ask = {
		.op = CANAL_INR_NOP,
		.sock = CANAL_NONE,
		.slot = CANAL_NONE,
	};
	int64_t end;
	int ret;

	if (grant_try(ch, ret_n))
		return 0;
	end = wait_now() + GRANT_LIMIT_NS;
	ret = channel_post(ch, &ask);
	for (unsigned int tries = 0; ret == 0; tries++) {
		grant_pause(tries);
		if (grant_try(ch, ret_n))
			return 0;
		if (ch->dead)
			return -EPIPE;
		if (canal_read_once(&ch->region->grant_none) - refused >= 2 || wait_now() >= end)
			return -ENFILE;
	}
	return ret;
}

static void abandon(struct channel *ch, uint32_t n, uint32_t generation)
{
	const struct canal_inr inr = {
		.op = CANAL_INR_CLOSE,
		.sock = n,
		.slot = CANAL_NONE,
		.u.arg = { 1, generation },
	};

	(void)channel_post(ch, &inr);
}

/* Makes @ends the dummy of socket @n and puts it into the table. */
static int descriptor_make(struct channel *ch, uint32_t n, uint32_t generation, int domain,
			   int type, const struct dummy_ends *ends)
{
	struct sock_ref ref = {
		.s = channel_sock(ch, n),
		.n = n,
		.domain = domain,
		.type = type & ~TYPE_FLAGS,
	};
	int fd, ret;

	/* Before the dummy: a close of it gives the socket to somebody else. */
	if (type & SOCK_NONBLOCK)
		(void)canal_fetch_or(&ref.s->status, CANAL_STATUS_NONBLOCK);
	if (twin_apart())
		twin_note_none(n);
	fd = ch->via->dummy(ch, n, generation,
			    ref.type | (domain == AF_INET6 ? TRANSPORT_INET6 : 0), ends);
	if (fd < 0)
		return fd;
	ret = fd_install_socket(fd, ref);
	if (ret < 0) {
		real(close)(fd);
		return ret;
	}
	return fd;
}

static int open_in(struct channel *ch, int domain, int type, int protocol)
{
	struct canal_inr inr = { .op = CANAL_INR_SOCKET, .slot = CANAL_NONE };
	struct dummy_ends ends = { .far = -1 };
	uint32_t n, generation;
	int ret = ch->via->pair(ch, type & TYPE_FLAGS, false, &ends);

	if (ret < 0)
		return ret;
	ret = grant_take(ch, &n);
	if (ret < 0) {
		ch->via->unpair(&ends);
		return ret;
	}
	generation = canal_read_once(&channel_sock(ch, n)->generation);
	inr.sock = n;
	inr.u.arg[0] = domain;
	inr.u.arg[1] = type & ~TYPE_FLAGS;
	inr.u.arg[2] = protocol;
	inr.u.arg[3] = ends.stock;
	ret = channel_post(ch, &inr);
	if (ret < 0) {
		ch->via->unpair(&ends);
		return ret;
	}
	ends.told = true;
	ret = descriptor_make(ch, n, generation, domain, type, &ends);
	if (ret < 0)
		abandon(ch, n, generation);
	return ret;
}

/* The program's own limits: the kernel's socket would meet them too. */
static bool is_final(int ret)
{
	return ret >= 0 || ret == -EMFILE || ret == -ENOMEM;
}

int socket_open(int domain, int type, int protocol)
{
	int kind = type & ~TYPE_FLAGS;
	struct channel *ch;
	int ret;

	domain = domain_of(domain);
	/* io_uring accepts and connects past us */
	if (unlikely(handover_always) && fallback_ok())
		return fallback_socket(domain, type, protocol, EOPNOTSUPP);
	if (kind != SOCK_STREAM && kind != SOCK_DGRAM)
		return fallback_socket(domain, type, protocol, ESOCKTNOSUPPORT);
	if (protocol < 0 || protocol >= PROTOCOL_MOST)
		return -EINVAL;
	if (!protocol_fits(kind, protocol))
		return fallback_socket(domain, type, protocol, EPROTONOSUPPORT);
	ret = channel_get(&ch);
	if (ret == 0 && protocol == IPPROTO_UDPLITE && !canal_read_once(&ch->region->udplite))
		ret = -EPROTONOSUPPORT;
	if (ret == 0)
		ret = open_in(ch, domain, type, protocol);
	return is_final(ret) ? ret : fallback_socket(domain, type, protocol, -ret);
}

/* --- bind, listen ------------------------------------------------------ */

int socket_call(struct sock_ref ref, struct canal_inr *inr)
{
	struct call_args args = { .level = 0 };

	inr->sock = ref.n;
	return no_network(channel_call(&the_channel, inr, &args));
}

int socket_name_readable(const struct sockaddr *addr, socklen_t len)
{
	if (len > sizeof(struct sockaddr_storage))
		return -EINVAL;
	return user_readable(addr, len);
}

/*
 * Unlike connect and sendto, bind wants the socket's own family; AF_UNSPEC with
 * no address is an old way to say AF_INET.
 */
static int bind_address(struct canal_addr *a, const struct sockaddr *addr, socklen_t len,
			int domain)
{
	socklen_t least = domain == AF_INET ? sizeof(struct sockaddr_in) : ADDR_IN6_SHORT;
	const struct sockaddr_in *in = (const void *)addr;

	if (len < least)
		return -EINVAL;
	if (domain == AF_INET && addr->sa_family == AF_UNSPEC &&
	    in->sin_addr.s_addr == htonl(INADDR_ANY))
		return addr_from_in(a, addr, len, domain);
	if (addr->sa_family != domain)
		return -EAFNOSUPPORT;
	return addr_from_sockaddr(a, addr, len, domain);
}

static int bind_canal(struct sock_ref ref, struct canal_inr *inr)
{
	int ret = socket_call(ref, inr);

	if (ret == 0)
		(void)canal_fetch_or(&ref.s->status, CANAL_STATUS_BOUND);
	return ret;
}

/* A datagram socket of a virtual machine: the guest's own port first, where it is
 * known, for that is the one that can be given back. */
static int bind_both(struct sock_ref ref, struct canal_inr *inr)
{
	int ret = twin_make(ref, &inr->u.addr, 0);

	if (ret < 0)
		return ret;
	ret = bind_canal(ref, inr);
	if (ret == 0)
		(void)twin_make(ref, &ref.s->local, 0);
	else if (!(canal_read_once(&ref.s->status) & CANAL_STATUS_BOUND))
		twin_drop(ref.n);
	return ret;
}

int socket_bind(struct sock_ref ref, const struct sockaddr *addr, socklen_t len)
{
	struct canal_inr inr = { .op = CANAL_INR_BIND };
	int ret = socket_name_readable(addr, len);

	if (ret == 0)
		ret = bind_address(&inr.u.addr, addr, len, ref.domain);
	if (ret < 0)
		return ret;
	if (!twin_apart())
		return bind_canal(ref, &inr);
	if (twin_owns(&inr.u.addr) && !twin_is_wildcard(&inr.u.addr))
		return twin_bind_there(ref, addr, len);
	return ref.type == SOCK_DGRAM ? bind_both(ref, &inr) : bind_canal(ref, &inr);
}

/* The guest's loopback, and canal; -EADDRINUSE if either has somebody there. */
static int listen_both(struct sock_ref ref, struct canal_inr *inr)
{
	int backlog = (int)inr->u.arg[0];
	bool bound = canal_read_once(&ref.s->status) & CANAL_STATUS_BOUND;
	int ret = bound ? twin_make(ref, &ref.s->local, backlog) : 0;

	if (ret < 0)
		return ret;
	ret = socket_call(ref, inr);
	if (ret < 0)
		twin_drop(ref.n);
	else if (!bound)
		(void)twin_make(ref, &ref.s->local, backlog);
	return ret;
}

int socket_listen(struct sock_ref ref, int backlog)
{
	struct canal_inr inr = { .op = CANAL_INR_LISTEN, .u.arg = { backlog } };
	int ret;

	if (ref.type != SOCK_STREAM)
		return -EOPNOTSUPP;
	if (canal_read_once(&ref.s->status) & SOCK_CONNECT_BEGUN)
		return -EINVAL; /* until connect() has told how it ended */
	ret = twin_apart() ? listen_both(ref, &inr) : socket_call(ref, &inr);
	if (ret == 0) /* after a shutdown() of a listener it listens again */
		(void)canal_fetch_and(&ref.s->shut, ~(uint32_t)(SHUT_RD + 1));
	return ret;
}

/* Room for a name: at @addr, *@len bytes. */
static int name_check(struct sockaddr *addr, socklen_t *len)
{
	if (user_writable(len, sizeof(*len)))
		return -EFAULT;
	if ((int)*len < 0)
		return -EINVAL;
	return user_writable(
		addr, *len < sizeof(struct sockaddr_in6) ? *len : sizeof(struct sockaddr_in6));
}

/* --- accept ------------------------------------------------------------ */

static bool accept_pending(const struct canal_sock *s)
{
	return canal_load_acquire(&s->rx.tail) - canal_read_once(&s->rx.head) >=
	       sizeof(struct canal_accept);
}

static bool accept_refused(struct canal_sock *s)
{
	return canal_load_acquire(&s->state) != CANAL_SOCK_LISTENING ||
	       (canal_read_once(&s->shut) & 1) || canal_load_acquire(&s->rx.closed);
}

bool socket_acceptable(void *sock)
{
	struct canal_sock *s = sock;

	return accept_pending(s) || accept_refused(s);
}

/* Tells canald of room in a listener's FIFO when it waits for that. */
static void accept_consumed(struct channel *ch, struct sock_ref ref, uint64_t head)
{
	const struct canal_inr inr = {
		.op = CANAL_INR_RX,
		.sock = ref.n,
		.slot = CANAL_NONE,
	};
	uint64_t left = canal_read_once(&ref.s->rx.tail) - head;

	if (left <= canal_read_once(&ref.s->rx.limit) / 2 && canal_take(&ref.s->rx.want_room))
		(void)channel_post(ch, &inr);
}

static int accept_none(struct canal_sock *s)
{
	if (unlikely(sock_is_given(s)))
		return -EHANDED;
	if (accept_refused(s))
		return -EINVAL;
	return accept_pending(s) ? 0 : -EAGAIN;
}

/*
 * Under rx_lock: the oldest connection that can be had. Left over are those that
 * the host refused, and one of a process that died between the two stores.
 */
static int accept_oldest(struct channel *ch, struct sock_ref ref, struct canal_accept *ret_entry)
{
	struct canal_fifo *rx = &ref.s->rx;
	bool ours = false;

	while (!ours) {
		uint64_t head = rx->head;
		int ret = accept_none(ref.s);

		if (ret < 0)
			return ret;
		if (canal_fifo_peek(rx->chunk, &ch->rx, head, ret_entry, sizeof(*ret_entry)) < 0 ||
		    ret_entry->sock >= ch->sock_count)
			return -EPROTO;
		ours = canal_cas(&channel_sock(ch, ret_entry->sock)->taken,
				 CANAL_TAKEN(ret_entry->generation, 0),
				 CANAL_TAKEN(ret_entry->generation, ch->client));
		/* R2 release: the entry was read before head; a publication, so a fence */
		canal_store_fence(&rx->head, head + sizeof(*ret_entry));
		accept_consumed(ch, ref, head + sizeof(*ret_entry));
	}
	return 0;
}

/* Of all options these are the guest's business. */
static void options_inherit(struct canal_sock *to, const struct canal_sock *from)
{
	uint32_t kept = CANAL_STATUS_INLINE | CANAL_STATUS_INQ;

	(void)canal_fetch_or(&to->status, canal_read_once(&from->status) & kept);
	canal_write_once(&to->rcvtimeo_ns, canal_read_once(&from->rcvtimeo_ns));
	canal_write_once(&to->sndtimeo_ns, canal_read_once(&from->sndtimeo_ns));
	canal_write_once(&to->rcvlowat, canal_read_once(&from->rcvlowat));
	canal_write_once(&to->linger, canal_read_once(&from->linger));
}

static int accept_take(struct channel *ch, struct sock_ref ref, int flags, uint32_t *ret_n)
{
	struct canal_accept entry;
	struct dummy_ends ends;
	int ret = accept_none(ref.s);

	if (ret == 0)
		ret = ch->via->pair(ch, flags, true, &ends);
	if (ret < 0)
		return ret;
	lock_take(&ref.s->rx.rx_lock);
	ret = accept_oldest(ch, ref, &entry);
	lock_drop(&ref.s->rx.rx_lock);
	if (ret < 0) {
		ch->via->unpair(&ends);
		return ret;
	}
	*ret_n = entry.sock;
	options_inherit(channel_sock(ch, entry.sock), ref.s);
	ret = descriptor_make(ch, entry.sock, entry.generation, ref.domain, SOCK_STREAM | flags,
			      &ends);
	if (ret < 0)
		abandon(ch, entry.sock, entry.generation);
	return no_network(ret);
}

static int accept_loop(struct channel *ch, struct sock_ref ref, int flags, uint32_t *ret_n)
{
	int64_t deadline = data_deadline(&ref.s->rcvtimeo_ns);
	int ret = accept_take(ch, ref, flags, ret_n);

	while (ret == -EAGAIN && !nonblocking(ref.s)) {
		int waited = wait_socket(ch, ref.s, ref.n, WAIT_READ | WAIT_ONE, socket_acceptable,
					 ref.s, deadline);

		if (waited < 0)
			return no_network(waited);
		ret = accept_take(ch, ref, flags, ret_n);
	}
	return ret;
}

static int accept_wait(struct channel *ch, struct sock_ref ref, int flags, uint32_t *ret_n)
{
	int ret = accept_loop(ch, ref, flags, ret_n);

	keep_over();
	return ret;
}

static int accept_give(int fd, uint32_t n, struct sockaddr *addr, socklen_t *len)
{
	if (fd >= 0 && addr)
		addr_give(&channel_sock(&the_channel, n)->peer, addr, len);
	return fd;
}

int socket_accept_now(struct sock_ref ref, struct sockaddr *addr, socklen_t *len, int flags)
{
	uint32_t n = 0;
	int ret = accept_take(&the_channel, ref, flags, &n);

	return accept_give(no_network(ret), n, addr, len);
}

int socket_accept(int fd, struct sock_ref ref, struct sockaddr *addr, socklen_t *len, int flags)
{
	struct channel *ch;
	uint32_t n = 0;
	int ret;

	if (flags & ~TYPE_FLAGS)
		return -EINVAL;
	if (ref.type != SOCK_STREAM)
		return -EOPNOTSUPP;
	ret = addr ? name_check(addr, len) : 0;
	if (ret < 0)
		return ret;
	ret = channel_get(&ch);
	if (ret < 0)
		return no_network(ret);
	if (twin_of(ref.n))
		return twin_accept(fd, ref, addr, len, flags);
	ret = accept_wait(ch, ref, flags, &n);
	return accept_give(ret, n, addr, len);
}

/* --- shutdown, names --------------------------------------------------- */

/*
 * The bits are set in any case: they wake who is blocked, as in the kernel. But a
 * listener has none, before or after: canald wakes who accepts.
 */
int socket_shutdown(struct sock_ref ref, int how)
{
	struct canal_inr inr = {
		.op = CANAL_INR_SHUTDOWN,
		.sock = ref.n,
		.slot = CANAL_NONE,
		.u.arg = { how },
	};
	uint32_t state = canal_load_acquire(&ref.s->state);
	bool connected = ref.type == SOCK_DGRAM ? ref.s->peer.family != 0
						: state_is_connected(state);
	bool listens = state == CANAL_SOCK_LISTENING;
	int ret;

	if (how < SHUT_RD || how > SHUT_RDWR)
		return -EINVAL;
	if (ref.type == SOCK_STREAM && sock_is_connecting(ref.s)) {
		ret = socket_call(ref, &inr);
		if (ret) /* it is not any more: 1 */
			return ret < 0 ? ret : 0;
		connected = state_is_connected(canal_load_acquire(&ref.s->state));
	}
	if (canal_load_acquire(&ref.s->rx.closed) == CANAL_CLOSED_RESET ||
	    (ref.type == SOCK_STREAM && !canal_read_once(&ref.s->peer.family)))
		connected = false;
	if (!listens)
		(void)canal_fetch_or(&ref.s->shut, (uint32_t)how + 1);
	if (twin_any())
		twin_shutdown(ref.n, how);
	wait_arrival(&the_channel);
	/* When a listener is shut, nobody connects any more. */
	ret = listens ? socket_call(ref, &inr) : channel_post(&the_channel, &inr);
	if (ret < 0)
		return no_network(ret);
	if (canal_read_once(&ref.s->inward))
		inward_settle();
	if (listens && how != SHUT_WR) /* it is as if new */
		(void)canal_fetch_and(&ref.s->shut, ~(uint32_t)(SHUT_RDWR + 1));
	return connected || listens ? 0 : -ENOTCONN;
}

/* A connect() under way gives a name at once; canald may not have begun it yet. */
static void name_settle(struct canal_sock *s)
{
	for (unsigned int i = 0; sock_connecting(s) && !channel_gone(&the_channel); i++) {
		uint32_t state = canal_load_acquire(&s->state);

		if (state == CANAL_SOCK_CONNECTING || state == CANAL_SOCK_CLOSED)
			return;
		grant_pause(i);
	}
}

/*
 * A datagram socket has its port from the first datagram that it sends. While that is
 * on its way, canald is told to choose one now; if it has, it refuses.
 */
static void name_sender(struct sock_ref ref)
{
	struct canal_inr inr = {
		.op = CANAL_INR_BIND,
		.sock = ref.n,
		.u.addr = { .family = ref.s->domain },
	};

	if (ref.type != SOCK_DGRAM || ref.s->local.port || twin_apart())
		return;
	/* R2 acquire: head before the names, which are published before it */
	if (canal_load_acquire(&ref.s->tx.head) != canal_read_once(&ref.s->tx.tail))
		(void)channel_call(&the_channel, &inr, NULL);
}

int socket_name(struct sock_ref ref, struct sockaddr *addr, socklen_t *len)
{
	struct canal_addr local;
	int ret = name_check(addr, len);

	if (ret < 0)
		return ret;
	name_settle(ref.s);
	name_sender(ref);
	local = ref.s->local;
	if (twin_any() && !local.port && twin_name(ref.n, addr, len))
		return 0;
	if (!local.family)
		local = (struct canal_addr){ .family = ref.domain };
	addr_give(&local, addr, len);
	return 0;
}

int socket_peer(struct sock_ref ref, struct sockaddr *addr, socklen_t *len)
{
	struct canal_addr peer = ref.s->peer;
	int ret;

	if (!peer.family || (ref.type == SOCK_STREAM &&
			     (!state_is_connected(canal_load_acquire(&ref.s->state)) ||
			      canal_load_acquire(&ref.s->rx.closed) == CANAL_CLOSED_RESET)))
		return -ENOTCONN;
	ret = name_check(addr, len);
	if (ret < 0)
		return ret;
	addr_give(&peer, addr, len);
	return 0;
}
