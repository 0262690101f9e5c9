/* SPDX-License-Identifier: MIT */
/*
 * What comes by canal or by the guest's own loopback, to one socket.
 *
 * Purpose: accept and receive from a canal socket and its twins (twin.c), whoever
 * has something first. Canal is asked first, because that costs no system call;
 * every few calls the twins are, so that neither starves.
 *
 * Ownership and threads: any thread, no lock. Twins never block: of two threads
 * that want the same datagram one waits on.
 *
 * Failure: as the kernel's calls. A wait that a signal interrupts goes on if all
 * handlers of the process ask for that (SA_RESTART): the kernel does not restart a
 * wait for several descriptors by itself.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "addr.h"
#include "data.h"
#include "hold.h"
#include "twin.h"

/* Of so many calls one asks the twins first. */
#define TWIN_EVERY 16
#define NS_PER_S 1000000000LL

static bool twins_first(struct twin *t)
{
	return canal_fetch_add(&t->turn, 1u) % TWIN_EVERY == TWIN_EVERY - 1;
}

/* --- waiting ----------------------------------------------------------- */

/* Until canal or a twin has something for @fd: 0, -EAGAIN at the deadline, -EINTR;
 * -ENETDOWN when canald is gone, although the guest's own side goes on. */
static int wait_either(int fd, int64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int ret;

	if (channel_gone(&the_channel)) /* which poll() tells at once, again and again */
		return -ENETDOWN;
	do {
		int64_t left = deadline == WAIT_FOREVER ? 0 : deadline - wait_now();
		const struct timespec ts = { .tv_sec = left / NS_PER_S,
					     .tv_nsec = left % NS_PER_S };

		if (left < 0)
			return -EAGAIN;
		ret = ready_poll(&p, 1, deadline == WAIT_FOREVER ? NULL : &ts, NULL);
	} while (ret == -EINTR && deadline == WAIT_FOREVER && handlers_restart());
	if (ret == 0)
		return -EAGAIN;
	return ret < 0 ? ret : 0;
}

/* A descriptor of this process that means the socket. */
static int number_of(const struct canal_sock *s)
{
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1))
		if (fd_sock(fd) == s)
			return fd;
	return -1;
}

/* --- connections ------------------------------------------------------- */

static int twins_accept(const struct twin *t, struct sockaddr *addr, socklen_t *len, int flags)
{
	int saved = errno, ret = -EAGAIN;

	for (unsigned int i = 0; i < TWIN_FDS && ret == -EAGAIN; i++) {
		if (t->fd[i] < 0)
			continue;
		ret = real(accept4)(t->fd[i], addr, len, flags);
		if (ret < 0)
			ret = -errno;
	}
	errno = saved;
	return ret;
}

static int accept_once(struct twin *t, struct sock_ref ref, struct sockaddr *addr, socklen_t *len,
		       int flags, bool spin)
{
	int ret = twins_first(t) ? twins_accept(t, addr, len, flags) : -EAGAIN;

	if (ret == -EAGAIN)
		ret = socket_accept_now(ref, addr, len, flags);
	if (ret == -EAGAIN && spin && wait_spin(&the_channel, socket_acceptable, ref.s))
		ret = socket_accept_now(ref, addr, len, flags);
	return ret == -EAGAIN ? twins_accept(t, addr, len, flags) : ret;
}

int twin_accept(int fd, struct sock_ref ref, struct sockaddr *addr, socklen_t *len, int flags)
{
	struct twin *t = twin_find(ref.n);
	bool nonblock = data_nonblock(ref.s, 0);
	int64_t deadline = 0;
	int ret;

	for (;;) {
		ret = accept_once(t, ref, addr, len, flags, !nonblock);
		if (ret != -EAGAIN || nonblock)
			return ret;
		if (!deadline)
			deadline = data_deadline(&ref.s->rcvtimeo_ns);
		ret = wait_either(fd, deadline);
		if (ret < 0)
			return ret;
	}
}

/* --- datagrams --------------------------------------------------------- */

static ssize_t twins_recv(const struct twin *t, struct msghdr *m, int flags)
{
	int saved = errno;
	ssize_t ret = -EAGAIN;

	for (unsigned int i = 0; i < TWIN_FDS && ret == -EAGAIN; i++) {
		if (t->fd[i] < 0)
			continue;
		ret = real(recvmsg)(t->fd[i], m, flags | MSG_DONTWAIT);
		if (ret < 0)
			ret = -errno;
	}
	errno = saved;
	return ret;
}

static ssize_t recv_once(struct twin *t, struct canal_sock *s, struct msghdr *m, int flags,
			 bool spin)
{
	ssize_t ret = twins_first(t) ? twins_recv(t, m, flags) : -EAGAIN;

	if (ret == -EAGAIN)
		ret = dgram_recv_canal(s, t->sock, m, flags | MSG_DONTWAIT);
	if (ret == -EAGAIN && spin && wait_spin(&the_channel, dgram_arrived, s))
		ret = dgram_recv_canal(s, t->sock, m, flags | MSG_DONTWAIT);
	return ret == -EAGAIN ? twins_recv(t, m, flags) : ret;
}

ssize_t twin_recv(struct twin *t, struct canal_sock *s, struct msghdr *m, int flags)
{
	bool nonblock = data_nonblock(s, flags);
	int64_t deadline = 0;
	ssize_t ret;

	for (;;) {
		ret = recv_once(t, s, m, flags, !nonblock);
		if (ret != -EAGAIN || nonblock || (flags & MSG_ERRQUEUE))
			return ret;
		if (!deadline)
			deadline = data_deadline(&s->rcvtimeo_ns);
		ret = wait_either(number_of(s), deadline);
		if (ret < 0)
			return ret;
	}
}

/* The one that is bound to the loopback of @to; else one that is bound to nothing. */
static int sender(const struct twin *t, const struct canal_addr *to)
{
	static const uint8_t v4_loopback = 127;
	bool mapped = addr_is_mapped(to);
	uint8_t first = mapped ? to->ip[12] : to->ip[0];

	if (!t)
		return -1;
	if (to->family == AF_INET)
		return first == v4_loopback ? t->fd[0] : -1;
	if (mapped)
		return first == v4_loopback ? t->fd[1] : -1;
	return memcmp(to->ip, &in6addr_loopback, 16) ? -1 : t->fd[0];
}

ssize_t twin_send(struct canal_sock *s, uint32_t n, const struct canal_addr *to,
		  const struct msghdr *m, int flags)
{
	struct twin *t = twin_of(n);
	int fd = sender(t, to), saved = errno;
	ssize_t ret;

	if (fd < 0) {
		if (!t || t->fd[TWIN_LOOSE] < 0)
			t = twin_make_loose(s, n);
		fd = t ? t->fd[TWIN_LOOSE] : -1;
	}
	if (fd < 0)
		return -ENETUNREACH;
	ret = real(sendmsg)(fd, m, flags);
	if (ret < 0)
		ret = -errno;
	errno = saved;
	return ret;
}
