/* SPDX-License-Identifier: MIT */
/*
 * connect(): begun, waited for, undone.
 *
 * Purpose: one connect() is under way at a time (ctl_lock), however many callers ask
 * for it, and its result is told to one of them, as the kernel does.
 *
 * Ownership and threads: any thread.
 *
 * Failure: errnos of the kernel's call; -ENETDOWN when canald is gone.
 */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>

#include "addr.h"
#include "data.h"
#include "handover.h"
#include "internal.h"
#include "keep.h"
#include "twin.h"

/* A non-blocking connect() waits for the host so long at most. */
#define SERVED_LIMIT_NS 100000000LL

static bool connect_ended(void *arg)
{
	return !sock_connecting(arg);
}

/* Under ctl_lock: from now on sock_connecting(), until canald has an answer. */
static void connect_mark(struct canal_sock *s)
{
	uint32_t odd = canal_load_acquire(&s->connects) & 1 ? SOCK_CONNECT_ODD : 0;

	(void)canal_fetch_and(&s->status, ~SOCK_CONNECT_ODD);
	(void)canal_fetch_or(&s->status, SOCK_CONNECT_BEGUN | odd);
}

/* How it ended: told to one caller, as the kernel does. */
static int connect_result(struct canal_sock *s)
{
	uint32_t status = canal_fetch_and(&s->status, ~SOCK_CONNECT_BEGUN);
	uint32_t error;

	if (state_is_connected(canal_load_acquire(&s->state)))
		return 0;
	error = status & SOCK_CONNECT_BEGUN ? canal_xchg(&s->so_error, 0u) : 0;
	return error ? -(int)error : -ECONNABORTED;
}

/* Under ctl_lock. 1: a connect() is under way now, whoever began it. */
static int connect_begin(struct channel *ch, struct sock_ref ref, struct canal_inr *inr,
			 bool nonblock)
{
	uint32_t state = canal_load_acquire(&ref.s->state);
	int ret;

	if (sock_connecting(ref.s))
		return nonblock ? -EALREADY : 1;
	if (canal_read_once(&ref.s->status) & SOCK_CONNECT_BEGUN)
		return connect_result(ref.s);
	/* also one that was reset: it is so until it is dissolved */
	if (state_is_connected(state) || state == CANAL_SOCK_LISTENING ||
	    state == CANAL_SOCK_CLOSED)
		return -EISCONN;
	connect_mark(ref.s);
	ret = channel_post(ch, inr);
	if (ret < 0) {
		(void)canal_fetch_and(&ref.s->status, ~SOCK_CONNECT_BEGUN);
		return no_network(ret);
	}
	return nonblock ? -EINPROGRESS : 1;
}

/* @late: what to say when the time limit ends before the connect() does. */
static int connect_wait(struct channel *ch, struct sock_ref ref, int late)
{
	int ret = wait_socket(ch, ref.s, ref.n, WAIT_READ | WAIT_WRITE, connect_ended, ref.s,
			      data_deadline(&ref.s->sndtimeo_ns));

	if (ret == -EAGAIN)
		ret = late;
	else
		ret = ret < 0 ? no_network(ret) : connect_result(ref.s);
	keep_over();
	return ret;
}

/* The host has made the kernel's call. */
static bool connect_served(void *arg)
{
	const struct canal_sock *s = arg;

	return !sock_connecting(s) || canal_load_acquire(&s->state) == CANAL_SOCK_CONNECTING;
}

/*
 * What is wrong before a packet leaves (no route, no port) is told at once. What the
 * network says is told as if it came later, however fast it was.
 */
static int connect_at_once(struct channel *ch, struct sock_ref ref, const struct canal_addr *to)
{
	uint32_t error;

	(void)wait_socket(ch, ref.s, ref.n, WAIT_WRITE, connect_served, ref.s,
			  wait_now() + SERVED_LIMIT_NS);
	keep_over();
	if (sock_connecting(ref.s) && addr_is_loopback(to))
		inward_settle();
	if (sock_connecting(ref.s) || canal_load_acquire(&ref.s->state) != CANAL_SOCK_FAILED)
		return -EINPROGRESS;
	error = canal_read_once(&ref.s->so_error);
	if (!error || error == ECONNREFUSED || error == ECONNRESET || error == ETIMEDOUT)
		return -EINPROGRESS;
	return connect_result(ref.s);
}

static int connect_stream(struct channel *ch, struct sock_ref ref, struct canal_inr *inr,
			  bool nonblock)
{
	bool joins;
	int ret;

	lock_take(&ref.s->ctl_lock);
	joins = sock_connecting(ref.s);
	ret = connect_begin(ch, ref, inr, nonblock);
	lock_drop(&ref.s->ctl_lock);
	if (ret == -EINPROGRESS)
		return connect_at_once(ch, ref, &inr->u.addr);
	return ret == 1 ? connect_wait(ch, ref, joins ? -EALREADY : -EINPROGRESS) : ret;
}

/* AF_UNSPEC: whatever it was connected to, it is not any more. */
static int dissolve_stream(struct channel *ch, struct sock_ref ref, struct canal_inr *inr)
{
	int cancel, ret;

	lock_take(&ref.s->ctl_lock);
	connect_mark(ref.s);
	/* Both FIFOs begin anew: nobody may be at them. canald answers at once. */
	lock_take(&ref.s->tx.tx_lock);
	lock_take(&ref.s->rx.rx_lock);
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	ret = channel_post(ch, inr);
	while (ret == 0 || ret == -EINTR) { /* not without canald's answer */
		ret = wait_socket(ch, ref.s, ref.n, WAIT_READ | WAIT_WRITE, connect_ended, ref.s,
				  WAIT_FOREVER);
		if (ret == 0)
			break;
	}
	(void)pthread_setcancelstate(cancel, NULL);
	(void)canal_fetch_and(&ref.s->status, ~SOCK_CONNECT_BEGUN);
	(void)canal_xchg(&ref.s->so_error, 0u);
	canal_write_once(&ref.s->shut, 0u);
	lock_drop(&ref.s->rx.rx_lock);
	lock_drop(&ref.s->tx.tx_lock);
	lock_drop(&ref.s->ctl_lock);
	keep_over();
	return no_network(ret);
}

/* Nothing that a kernel socket in its place would not know of. */
static bool connect_is_new(struct sock_ref ref)
{
	uint32_t state = canal_load_acquire(&ref.s->state);

	return ref.type == SOCK_DGRAM || (!sock_connecting(ref.s) && !state_is_connected(state) &&
					  state != CANAL_SOCK_LISTENING);
}

static int connect_to(struct sock_ref ref, const struct sockaddr *addr, socklen_t len,
		      bool nonblock)
{
	struct canal_inr inr = {
		.op = CANAL_INR_CONNECT,
		.sock = ref.n,
		.slot = CANAL_NONE,
	};
	bool stream = ref.type == SOCK_STREAM;
	struct channel *ch;
	int ret = channel_get(&ch);

	if (ret < 0)
		return no_network(ret);
	ret = socket_name_readable(addr, len);
	if (ret == 0)
		ret = addr_family(addr, len);
	if (ret < 0)
		return ret;
	if (!stream) /* or errors of those would be this connection's */
		option_earlier_sent(ref.s);
	if (ret == AF_UNSPEC)
		return stream ? dissolve_stream(ch, ref, &inr) : socket_call(ref, &inr);
	if (stream && ret != ref.domain)
		return len < sizeof(struct sockaddr_in) ? -EINVAL : -EAFNOSUPPORT;
	ret = addr_from_sockaddr(&inr.u.addr, addr, len, ref.domain);
	if (ret < 0)
		return ret;
	if (twin_apart() && twin_owns(&inr.u.addr) && connect_is_new(ref))
		return twin_connect_there(ref, addr, len);
	return stream ? connect_stream(ch, ref, &inr, nonblock) : socket_call(ref, &inr);
}

int socket_connect(struct sock_ref ref, const struct sockaddr *addr, socklen_t len)
{
	return connect_to(ref, addr, len, data_nonblock(ref.s, 0));
}

int socket_fastopen(struct sock_ref ref, const struct sockaddr *addr, socklen_t len, int flags)
{
	int family = addr_family(addr, len);

	if (family == AF_UNSPEC)
		return -EOPNOTSUPP;
	if (state_is_connected(canal_load_acquire(&ref.s->state)))
		return -EISCONN;
	return family < 0 ? family : connect_to(ref, addr, len, data_nonblock(ref.s, flags));
}
