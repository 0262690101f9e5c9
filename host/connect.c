/* SPDX-License-Identifier: MIT */
/*
 * connect(): by the kernel, by the switch, among guests with addresses; and undone.
 *
 * Purpose: what became of it is stored in the shared socket, then counted in
 * canal_sock.connects: that tells who waits.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: errors of the kernel go to the guest as they are.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "sock.h"

void sock_connected(struct sock *s, int err)
{
	struct canal_sock *shared = s->shared;

	if (err) {
		sock_unwatch(s);
		canal_write_once(&shared->so_error, (uint32_t)-err);
		if (s->channel->guest)
			vsock_unname(s);
		sock_set_state(s, CANAL_SOCK_FAILED);
	} else {
		s->channel->count.connections++;
		sock_set_state(s, CANAL_SOCK_CONNECTED);
		if (s->tx_shut || s->far_ready)
			sock_mark_tx(s); /* its end goes out, or what waits in its dummy */
	}
	/* N1 release: outcome before the count; a publication */
	canal_store_fence(&shared->connects, shared->connects + 1);
	wake_socket(s, EPOLLIN | EPOLLOUT | (err ? EPOLLERR | EPOLLHUP : 0));
}

void sock_connect_finished(struct sock *s)
{
	const struct sockaddr none = { .sa_family = AF_UNSPEC };
	int err = 0;
	socklen_t len = sizeof(err);

	getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	if (err) /* else its next connect() would fail for this one */
		connect(s->fd, &none, sizeof(none));
	else
		sock_publish_names(s);
	sock_connected(s, -err);
	if (err)
		s->rx_hup = false;
	else
		sock_mark_rx(s);
}

/* The guest holds the locks of both FIFOs. */
static void fifos_renew(struct sock *s)
{
	sock_rx_drop(s);
	s->tx_head = s->rx_tail = s->rx_reclaim = s->rx_backed = s->handed_head = 0;
	s->rx_parked = s->handed_full = false;
	canal_fifo_reset(&s->shared->tx, s->tx_limit);
	canal_fifo_reset(&s->shared->rx, s->rx_limit);
}

/* connect(AF_UNSPEC) on a stream: breaks off, and it may connect anew. */
static int dissolve(struct sock *s)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	if (s->state != CANAL_SOCK_CONNECTED && s->state != CANAL_SOCK_CONNECTING && !s->broken_off)
		return 0;
	sock_unwatch(s);
	sock_unmark_rx(s);
	sock_unmark_tx(s);
	ref_end(s, -ECONNRESET);
	switch_detach(s);
	listen_taken(s);
	if (s->fd >= 0)
		connect(s->fd, &none, sizeof(none));
	memset(&s->peer, 0, sizeof(s->peer));
	if (s->channel->guest)
		vsock_unname(s);
	s->rx_eof = s->tx_shut = s->tx_fin_sent = s->peer_gone = s->tx_blocked = false;
	s->rx_hup = s->rx_shut = s->broken_off = false;
	s->urgent = s->urgent_early = false;
	s->urgent_mark = s->urgent_sent = 0;
	s->urgent_untold = false;
	fifos_renew(s);
	sock_publish_names(s);
	sock_set_state(s, CANAL_SOCK_OPEN);
	return 0;
}

static void connect_told(struct sock *s, int err)
{
	if (err)
		canal_write_once(&s->shared->so_error, (uint32_t)-err);
	/* N1 release: outcome before the count; a publication */
	canal_store_fence(&s->shared->connects, s->shared->connects + 1);
	wake_socket(s, EPOLLIN | EPOLLOUT);
}

/* It has its name, and nothing was wrong at once: for who waits for that. */
void sock_connecting(struct sock *s)
{
	sock_set_state(s, CANAL_SOCK_CONNECTING);
	canal_full_fence();
	wake_socket(s, EPOLLOUT);
}

static int connect_kernel(struct sock *s)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&s->asked, &ss);
	int r = sock_kernel(s);

	if (r)
		return r;
	urgent_watch(s);
	if (connect(s->fd, (struct sockaddr *)&ss, len) && errno != EINPROGRESS)
		return -errno;
	sock_publish_names(s);
	sock_connecting(s);
	return sock_watch(s);
}

void sock_connect_kernel(struct sock *s)
{
	int r = connect_kernel(s);

	if (r)
		sock_connected(s, r);
}

static int connect_stream(struct sock *s, const struct canal_addr *a)
{
	struct sockaddr_storage ss;

	if (!a->family)
		return dissolve(s);
	if (s->state != CANAL_SOCK_OPEN && s->state != CANAL_SOCK_FAILED)
		return -EISCONN;
	if (!addr_to_sockaddr(a, &ss))
		return -EAFNOSUPPORT;
	s->rx_hup = false;
	s->asked = *a;
	s->state = CANAL_SOCK_CONNECTING;
	if (s->channel->guest)
		return vsock_connect_stream(s, a);
	if (settings.join && switch_connect(s, a))
		return 0;
	return connect_kernel(s);
}

static int connect_dgram(struct sock *s, const struct canal_addr *a)
{
	struct sockaddr_storage ss = { .ss_family = AF_UNSPEC };
	socklen_t len = a->family ? addr_to_sockaddr(a, &ss) : sizeof(struct sockaddr);
	int r;

	if (s->channel->guest)
		return vsock_connect_dgram(s, a);
	r = sock_kernel(s);
	if (r)
		return r;
	if (!len)
		return -EAFNOSUPPORT;
	if (connect(s->fd, (struct sockaddr *)&ss, len))
		return -errno;
	memset(&s->peer, 0, sizeof(s->peer));
	sock_publish_names(s);
	s->bound = s->local.port;
	switch_bound(s);
	return 0;
}

int sock_connect(struct sock *s, const struct canal_addr *a)
{
	int r;

	if (s->type == SOCK_DGRAM)
		return connect_dgram(s, a);
	r = connect_stream(s, a);
	if (!a->family || r == -EISCONN)
		connect_told(s, r);
	else if (r)
		sock_connected(s, r);
	return r;
}
