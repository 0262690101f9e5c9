/* SPDX-License-Identifier: MIT */
/*
 * The life of a socket: open, bind, shut down, close; connect.c has the connect.
 *
 * Purpose: turns what the guest asks for into what the kernel (or the switch)
 * does, and says in the shared socket what became of it.
 *
 * A socket ends in two steps. sock_release(): the last descriptor is closed in
 * the guest; bytes already accepted are still sent, as a kernel does. Then
 * sock_destroy(): everything is given back. Its memory is freed by the poller
 * after the next engine flush, when no operation can refer to it.
 *
 * Invariants
 *  1. channel.socks[number] is this socket from sock_new() to sock_destroy().
 *  2. A joined socket has no watched kernel descriptor.
 *  3. state is private; shared->state is a copy for the guest.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: errors of the kernel go to the guest as they are.
 */
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sock.h"

/* Looks at what the kernel has to tell, at most, before a bind is tried again. */
#define HEAR_ROUNDS 16
/* What is heard may be requests, which bind: so many in one another. */
#define HEAR_DEPTH 4

void sock_set_state(struct sock *s, enum canal_sock_state state)
{
	s->state = state;
	if (state == CANAL_SOCK_CONNECTED && (s->handed || s->handing))
		state = CANAL_SOCK_HANDED;
	if (state == CANAL_SOCK_OPEN && s->given)
		state = CANAL_SOCK_GIVEN;
	/* N1 release: names before the state; pairs with the guest's look */
	canal_store_release(&s->shared->state, (uint32_t)state);
}

/* --- making ------------------------------------------------------------ */

static void far_event(struct engine_handle *h, uint32_t events)
{
	struct sock *s = caa_container_of(h, struct sock, far);

	if (s->far_ours)
		pump_event(s, events);
	else if (events & (EPOLLHUP | EPOLLERR))
		sock_release(s);
}

/* Nobody reads any more who would meet the error. */
static void reset_after_end(struct sock *s)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (!s->broken_off && !getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len) && err)
		sock_fail(s, -err, CANAL_CLOSED_RESET);
}

static void kernel_event(struct engine_handle *h, uint32_t events)
{
	struct sock *s = caa_container_of(h, struct sock, kernel);

	if (s->lingering) {
		linger_look(s);
		return;
	}
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		s->rx_hup = true; /* also when it has just connected: not told again */
	if (s->state == CANAL_SOCK_CONNECTING) {
		if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
			sock_connect_finished(s);
		return;
	}
	if (events & EPOLLERR)
		errqueue_event(s);
	if (events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		s->own_ready = true;
		sock_mark_rx(s);
	}
	if (s->rx_parked && (events & EPOLLPRI) && s->urgent_looked != urgent_signals)
		urgent_early(s);
	if (s->rx_eof && (events & (EPOLLHUP | EPOLLERR))) {
		reset_after_end(s);
		sock_ended(s);
	}
	if ((events & (EPOLLOUT | EPOLLERR)) && s->tx_blocked) {
		s->tx_blocked = false;
		sock_mark_tx(s);
	}
}

struct sock *sock_new(struct channel *ch, uint32_t number, int domain, int type)
{
	struct sock *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->channel = ch;
	s->shared = channel_shared(ch, number);
	s->number = number;
	s->domain = domain;
	s->type = type;
	s->fd = s->far_fd = s->kernel.fd = s->far.fd = -1;
	s->on_event.slot = s->on_urgent.slot = CANAL_NONE;
	s->pool_port.fd = PORT_NONE;
	s->kernel.event = kernel_event;
	s->far.event = far_event;
	s->tx_limit = DEFAULT_TX_LIMIT;
	s->rx_limit = DEFAULT_RX_LIMIT;
	s->rx_slice = CANAL_CHUNK;
	s->local.family = (uint16_t)domain;
	memset(s->rx_chunk, 0xff, sizeof(s->rx_chunk));
	CDS_INIT_LIST_HEAD(&s->subs);
	CDS_INIT_LIST_HEAD(&s->refs);
	CDS_INIT_LIST_HEAD(&s->pending);
	CDS_INIT_LIST_HEAD(&s->accepted);
	s->shared->domain = (uint8_t)domain;
	s->shared->type = (uint8_t)type;
	s->protocol = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
	s->shared->protocol = (uint16_t)s->protocol;
	s->shared->tx.limit = s->tx_limit;
	s->shared->rx.limit = s->rx_limit;
	s->shared->local = s->local;
	cds_list_add(&s->farless_link, &ch->farless);
	ch->socks[number] = s;
	ch->sock_used++;
	sock_set_state(s, CANAL_SOCK_OPEN);
	return s;
}

bool udplite_works(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDPLITE);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool is_served(const struct channel *ch, int domain, int type, int protocol)
{
	if (domain != AF_INET && domain != AF_INET6)
		return false;
	if (type == SOCK_DGRAM && protocol == IPPROTO_UDPLITE)
		return settings.udplite && !ch->guest;
	return (type == SOCK_STREAM && (!protocol || protocol == IPPROTO_TCP)) ||
	       (type == SOCK_DGRAM && (!protocol || protocol == IPPROTO_UDP));
}

int sock_open(struct channel *ch, const struct canal_inr *inr)
{
	int domain = (int)inr->u.arg[0], type = (int)inr->u.arg[1];
	int protocol = (int)inr->u.arg[2];
	uint32_t n = inr->sock;
	struct far_end far;
	struct sock *s;

	if (n >= ch->shape.socks || !ch->granted[n] || !is_served(ch, domain, type, protocol))
		return RULE_BROKEN;
	ch->granted[n] = 0;
	s = sock_new(ch, n, domain, type);
	if (!s)
		return -ENOMEM;
	s->maker = inr->client;
	if (protocol) {
		s->protocol = protocol;
		s->shared->protocol = (uint16_t)protocol;
	}
	if (inr->u.arg[3]) {
		if (stock_take(ch, inr->client, inr->u.arg[3] - 1, &far))
			sock_set_far_ours(s, &far);
		else
			sock_release(s); /* who had it is gone, and so is the near end */
	} else if (ch->early_far[n] == FD_GONE) {
		ch->early_far[n] = 0;
		sock_release(s);
	} else if (ch->early_far[n]) {
		sock_set_far(s, ch->early_far[n] == FD_REMOTE ? FD_REMOTE : ch->early_far[n] - 1);
		ch->early_far[n] = 0;
	} else if (!channel_has_client(ch, inr->client)) {
		sock_release(s);
	}
	channel_grant(ch);
	return 0;
}

int sock_watch(struct sock *s)
{
	struct poller *p = s->channel->poller;

	if (s->kernel.fd >= 0)
		return 0;
	return p->ops->watch(p->engine, &s->kernel, s->fd,
			     EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP);
}

void sock_unwatch(struct sock *s)
{
	struct poller *p = s->channel->poller;

	if (s->kernel.fd >= 0)
		p->ops->unwatch(p->engine, &s->kernel);
}

/* A datagram socket hears from the kernel at once; a stream when it connects. */
int sock_kernel(struct sock *s)
{
	int r;

	if (s->fd >= 0)
		return 0;
	s->fd = socket(s->domain, s->type | SOCK_NONBLOCK | SOCK_CLOEXEC, s->protocol);
	if (s->fd < 0)
		return -errno;
	fds_opened(s->fd);
	inherit_apply(s);
	if (s->type == SOCK_STREAM)
		return 0;
	r = sock_watch(s);
	if (r) {
		close(s->fd);
		s->fd = -1;
	}
	return r;
}

int sock_adopt_kernel(struct sock *s, int fd)
{
	s->fd = fd;
	return sock_watch(s);
}

/* --- names ------------------------------------------------------------- */

void sock_share_names(struct sock *s)
{
	s->shared->local = s->local;
	s->shared->peer = s->peer;
}

void sock_publish_names(struct sock *s)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (s->channel->guest) { /* they are its own already */
		sock_share_names(s);
		return;
	}
	if (s->fd >= 0 && !getsockname(s->fd, (struct sockaddr *)&ss, &len))
		addr_from_sockaddr(&s->local, &ss);
	len = sizeof(ss);
	if (s->fd >= 0 && !getpeername(s->fd, (struct sockaddr *)&ss, &len))
		addr_from_sockaddr(&s->peer, &ss);
	sock_share_names(s);
}

/*
 * The port may be held by a socket that the guest has closed already: what the
 * kernel has told us about far ends is heard first, then bind is tried again.
 */
void sock_hear_closes(struct poller *p)
{
	if (p->hearing == HEAR_DEPTH)
		return;
	p->hearing++;
	/* bounded: a guest that kicks without end always has an event */
	for (int i = 0; i < HEAR_ROUNDS && p->ops->wait(p->engine, 0) > 0; i++)
		;
	vms_hear(p);
	p->hearing--;
}

int sock_bind(struct sock *s, const struct canal_addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	int r;

	if (s->channel->guest)
		return vsock_bind(s, a);
	if (!len)
		return -EAFNOSUPPORT;
	if (!privilege_port(s->channel->uid, a->port))
		return -EACCES;
	/* one that is joined has no port of the kernel's to say so */
	if (s->type == SOCK_STREAM && s->state == CANAL_SOCK_CONNECTED)
		return -EINVAL;
	r = sock_kernel(s);
	if (r)
		return r;
	r = bind(s->fd, (struct sockaddr *)&ss, len) ? -errno : 0;
	if (r == -EADDRINUSE && a->port && !s->channel->orphan) {
		sock_hear_closes(s->channel->poller);
		r = bind(s->fd, (struct sockaddr *)&ss, len) ? -errno : 0;
	}
	if (r)
		return r;
	s->bound = true;
	sock_publish_names(s);
	switch_bound(s);
	return 0;
}

/* --- ending ------------------------------------------------------------ */

/* Something asynchronous broke the socket: the guest learns it once. */
void sock_fail(struct sock *s, int err, uint32_t closed)
{
	canal_write_once(&s->shared->so_error, (uint32_t)-err);
	if (closed) {
		s->broken_off = true;
		/* N1 release: error before the end */
		canal_store_release(&s->shared->tx.closed, closed);
		canal_store_release(&s->shared->rx.closed, closed);
		sock_set_state(s, CANAL_SOCK_CLOSED);
		sock_unmark_rx(s);
		ref_end(s, err);
	}
	canal_full_fence();
	wake_socket(s, EPOLLIN | EPOLLOUT | EPOLLERR | (closed ? EPOLLHUP : 0));
	if (!closed)
		return;
	pump_rx(s);
	if (s->far_gone) { /* it lived for what its dummy still had */
		s->tx_blocked = false;
		sock_mark_tx(s);
	}
}

/* As inet_shutdown() does: it is as if new, and its connect() fails. 1: so it is. */
static int connect_cancel(struct sock *s)
{
	const struct sockaddr none = { .sa_family = AF_UNSPEC };

	switch_detach(s);
	if (s->fd >= 0)
		connect(s->fd, &none, sizeof(none));
	sock_connected(s, -ECONNRESET);
	return 1;
}

/* SHUT_WR waits for the bytes in TX: stream_tx() and switch_tx() see to it. */
int sock_shutdown(struct sock *s, int how)
{
	if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
		return -EINVAL;
	if (s->type == SOCK_STREAM && s->state == CANAL_SOCK_CONNECTING)
		return connect_cancel(s);
	if (how != SHUT_WR)
		s->rx_shut = true;
	if (s->state == CANAL_SOCK_LISTENING) {
		if (how != SHUT_WR)
			listen_stop(s);
		return 0;
	}
	/* The kernel still takes what the peer sends after SHUT_RD, and gives it
	 * out: it is not told, since canald would read an end there. */
	if (how != SHUT_RD) {
		ref_end_sends(s, -EPIPE);
		s->tx_shut = true;
		sock_mark_tx(s);
	}
	canal_full_fence();
	wake_quietly(s, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
	return 0;
}

/* Closing with bytes unread resets the connection, as Linux does. */
static bool sock_unread(struct sock *s)
{
	return s->type == SOCK_STREAM && (s->rx_tail != sock_rx_head(s) || s->far_unread);
}

/* Whether closing it is a reset: SO_LINGER with no time. */
bool sock_resets(struct sock *s)
{
	struct linger linger = { 0 };
	socklen_t len = sizeof(linger);

	return s->lingers && !sock_kernel(s) &&
	       !getsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger, &len) && linger.l_onoff &&
	       !linger.l_linger;
}

/*
 * With SO_LINGER close() waits, also that of a non-blocking socket: the poller
 * would wait for a peer. A linger time of 0 is a reset, and does not wait.
 */
static void linger_off(int fd)
{
	struct linger linger = { 0 };
	socklen_t len = sizeof(linger);

	if (!getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len) && linger.l_linger) {
		linger.l_onoff = 0;
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	}
}

static void kernel_close(struct sock *s)
{
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };

	if (s->fd < 0)
		return;
	sock_unwatch(s);
	if (s->given) { /* its other users may have made it one whose close waits */
		fds_closed(s->fd);
		close_later(s->fd);
		s->fd = -1;
		return;
	}
	if (s->state == CANAL_SOCK_CONNECTED && (s->cut || sock_unread(s)))
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	else if (s->lingers)
		linger_off(s->fd);
	close(s->fd);
	fds_closed(s->fd);
	s->fd = -1;
}

static void far_close(struct sock *s)
{
	struct poller *p = s->channel->poller;

	if (s->far.fd >= 0)
		p->ops->unwatch(p->engine, &s->far);
	stock_leave(s);
	pump_end(s);
	if (s->far_fd >= 0 && s->far_ours && !s->far_clean) {
		far_end_close(s->far_fd);
	} else if (s->far_fd >= 0) {
		close(s->far_fd);
		fds_closed(s->far_fd);
	}
	s->far_fd = -1;
}

static void drop_subs(struct sock *s)
{
	struct sub *sub, *next;

	cds_list_for_each_entry_safe(sub, next, &s->subs, link) sub_drop(sub);
}

static void farless_leave(struct sock *s)
{
	if (!s->farless_link.next)
		return;
	cds_list_del(&s->farless_link);
	s->farless_link.next = NULL;
}

void sock_destroy(struct sock *s)
{
	struct channel *ch = s->channel;

	if (s->dead)
		return;
	s->dead = true;
	linger_end(s);
	closing_end(s);
	ref_end(s, -EBADF);
	listen_stop(s);
	listen_taken(s);
	switch_detach(s);
	kernel_close(s);
	if (s->channel->guest)
		vsock_end(s);
	inherit_drop(s);
	far_close(s);
	farless_leave(s);
	drop_subs(s);
	sock_unmark_tx(s);
	sock_unmark_rx(s);
	sock_unstarve(s);
	wake_no_more(s);
	sock_rx_drop(s);
	sock_set_state(s, CANAL_SOCK_CLOSED);
	/* a thread may sleep in a call on what another one closed */
	canal_full_fence();
	wake_quietly(s, EPOLLIN | EPOLLOUT);
	ch->socks[s->number] = NULL;
	ch->sock_used--;
	channel_give_number(ch, s->number);
	cds_list_add_tail(&s->dead_link, &ch->poller->dead);
}

void sock_release(struct sock *s)
{
	uint64_t avail = 0;

	if (s->released || s->dead)
		return;
	s->released = true;
	ref_end(s, -EBADF);
	far_close(s);
	farless_leave(s);
	drop_subs(s);
	sock_unmark_rx(s);
	if (s->state == CANAL_SOCK_LISTENING)
		listen_stop(s);
	/* Bytes that nobody will read make it a reset, with what is in TX. */
	if (!s->broken_off && !s->channel->broken && !sock_unread(s) &&
	    (s->state == CANAL_SOCK_CONNECTED || s->type == SOCK_DGRAM) &&
	    sock_tx_avail(s, &avail)) {
		linger_begin(s);
		if (avail)
			sock_mark_tx(s); /* sock_drained() follows */
		if (avail ? closing_begin(s) : linger_hold(s))
			return;
	}
	sock_destroy(s);
}

/* TX is empty: what waited for that is done now. */
void sock_drained(struct sock *s)
{
	if (s->released) {
		if (!s->lingering && !linger_hold(s))
			sock_destroy(s);
	} else if (s->tx_shut && !s->tx_fin_sent && s->state == CANAL_SOCK_CONNECTED) {
		s->tx_fin_sent = true;
		if (s->joined)
			switch_fin(s);
		else if (s->fd >= 0)
			shutdown(s->fd, s->rx_shut ? SHUT_RDWR : SHUT_WR);
		sock_ended(s);
	}
}

static bool kernel_closed(const struct sock *s)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	return !getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len) &&
	       info.tcpi_state == TCP_CLOSE;
}

/* When both ends have ended, and the peer knows, the socket is connected no more. */
void sock_ended(struct sock *s)
{
	if (s->rx_eof && s->tx_fin_sent &&
	    (s->joined || s->peer_gone || s->fd < 0 || kernel_closed(s)))
		s->shared->peer.family = 0;
}

/* --- the far end of the dummy ------------------------------------------ */

/* What of POLLHUP and POLLERR is so. */
static short far_hung_up(const struct sock *s)
{
	struct pollfd pfd = { .fd = s->far_fd };

	return s->far_fd >= 0 && poll(&pfd, 1, 0) == 1 ? pfd.revents & (POLLHUP | POLLERR) : 0;
}

void sock_set_far(struct sock *s, int fd)
{
	struct poller *p = s->channel->poller;

	if (s->far_fd != -1 || s->released) {
		if (fd >= 0)
			close(fd);
		return;
	}
	listen_taken(s);
	farless_leave(s);
	s->far_fd = fd;
	if (fd == FD_REMOTE)
		return;
	if (s->close_hint && far_hung_up(s)) {
		sock_release(s);
		return;
	}
	/* hang-up is always told, and nothing else is of interest */
	if (p->ops->watch(p->engine, &s->far, fd, 0))
		sock_release(s);
}

void sock_set_far_ours(struct sock *s, const struct far_end *end)
{
	struct poller *p = s->channel->poller;

	if (s->far_fd != -1 || s->released) {
		far_end_close(end->fd);
		return;
	}
	listen_taken(s);
	farless_leave(s);
	s->far_fd = end->fd;
	s->far_inode = end->inode;
	s->far_ours = true;
	stock_enter(s);
	if (p->ops->watch(p->engine, &s->far, s->far_fd, EPOLLIN | EPOLLRDHUP))
		sock_release(s);
}

/* Which process owes the far end; 0: none, it lies in a listener's RX. */
static uint32_t far_owed_by(const struct sock *s)
{
	return s->was_accepted ? (uint32_t)canal_read_once(&s->shared->taken) : s->maker;
}

/* Releases what comes before the first listener, which takes others along. */
static bool farless_release_some(struct channel *ch, uint32_t client)
{
	struct sock *s, *next;

	cds_list_for_each_entry_safe(s, next, &ch->farless, farless_link)
	{
		bool listens = s->state == CANAL_SOCK_LISTENING;

		if (far_owed_by(s) != client)
			continue;
		sock_release(s);
		if (listens)
			return true;
	}
	return false;
}

void sock_release_farless(struct channel *ch, uint32_t client)
{
	while (farless_release_some(ch, client))
		;
}

void sock_close_hint(struct sock *s, uint32_t client, bool never)
{
	short events;

	if (s->far_fd == -1 && never) {
		sock_release(s);
		return;
	}
	if (s->far_fd == -1) {
		s->close_hint = true;
		channel_hear(s->channel, client);
		return;
	}
	if (s->far_fd == FD_REMOTE) {
		channel_hear(s->channel, client);
		return;
	}
	events = far_hung_up(s);
	if (events && s->far_ours)
		pump_event(s, (uint32_t)events);
	else if (events)
		sock_release(s);
}
