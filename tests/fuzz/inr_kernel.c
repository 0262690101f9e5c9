/* SPDX-License-Identifier: MIT */
/*
 * The kernel of inr.c: system calls and an engine that do what the input says.
 *
 * The linker puts the wrappers below in the place of the calls (--wrap). Each gives an
 * error that canald must bear, or something that looks like success: a descriptor, a
 * name, no bytes. An operation of the engine is checked when it begins and when it ends:
 * it touches only the arena of its channel.
 */
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "fuzz.h"
#include "inr.h"

#define GOES_WELL 0x6f
#define PORT_FIRST 10000

/*
 * What the kernel does comes from the end of the input, so that the commands
 * stay what they are, whatever is served in between. Past the end all goes well.
 */
uint8_t choice(uint8_t limit)
{
	uint8_t byte = input.len ? input.data[--input.len] : GOES_WELL;

	return quiet ? 0 : byte % limit;
}

/* --- system calls ------------------------------------------------------ */

int __wrap_socket(int domain, int type, int protocol);
int __wrap_bind(int fd, const struct sockaddr *a, socklen_t len);
int __wrap_listen(int fd, int backlog);
int __wrap_connect(int fd, const struct sockaddr *a, socklen_t len);
int __wrap_accept4(int fd, struct sockaddr *a, socklen_t *len, int flags);
int __wrap_shutdown(int fd, int how);
int __wrap_setsockopt(int fd, int level, int name, const void *val, socklen_t len);
int __wrap_getsockopt(int fd, int level, int name, void *val, socklen_t *len);
int __wrap_getsockname(int fd, struct sockaddr *a, socklen_t *len);
int __wrap_getpeername(int fd, struct sockaddr *a, socklen_t *len);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);

int make_fd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	fuzz_check(fd >= 0);
	return fd;
}

static int name_of(int fd, struct sockaddr *a, socklen_t *len);

static int outcome(const int *errors, uint8_t count)
{
	uint8_t n = choice(4 * count);

	if (n >= count || !errors[n])
		return 0;
	errno = errors[n];
	return -1;
}

#define OUTCOME(...) \
	outcome((const int[]){ 0, __VA_ARGS__ }, sizeof((int[]){ 0, __VA_ARGS__ }) / sizeof(int))

int __wrap_socket(int domain, int type, int protocol)
{
	(void)domain, (void)type, (void)protocol;
	return OUTCOME(EMFILE) ? -1 : make_fd();
}

int __wrap_bind(int fd, const struct sockaddr *a, socklen_t len)
{
	(void)fd, (void)a, (void)len;
	return OUTCOME(EADDRINUSE, EINVAL);
}

int __wrap_listen(int fd, int backlog)
{
	(void)fd, (void)backlog;
	return OUTCOME(EADDRINUSE);
}

int __wrap_connect(int fd, const struct sockaddr *a, socklen_t len)
{
	(void)fd, (void)a, (void)len;
	return OUTCOME(EINPROGRESS, EINPROGRESS, ECONNREFUSED, EPROTO);
}

int __wrap_accept4(int fd, struct sockaddr *a, socklen_t *len, int flags)
{
	(void)flags;
	if (quiet || choice(3)) {
		errno = choice(8) ? EAGAIN : ECONNABORTED;
		return -1;
	}
	if (a)
		name_of(fd, a, len);
	return make_fd();
}

int __wrap_shutdown(int fd, int how)
{
	(void)fd, (void)how;
	return 0;
}

int __wrap_setsockopt(int fd, int level, int name, const void *val, socklen_t len)
{
	(void)fd, (void)level, (void)name;
	for (socklen_t i = 0; i < len; i++)
		(void)*((const volatile uint8_t *)val + i);
	return OUTCOME(EINVAL, EPROTO);
}

int __wrap_getsockopt(int fd, int level, int name, void *val, socklen_t *len)
{
	(void)fd, (void)level, (void)name;
	if (OUTCOME(EINVAL))
		return -1;
	memset(val, 0, *len);
	if (*len >= sizeof(int)) {
		int value = choice(8) ? 0 : choice(255);

		memcpy(val, &value, sizeof(value));
	}
	return 0;
}

/* Each descriptor has a port of its own, the same in each run of an input. */
static int name_of(int fd, struct sockaddr *a, socklen_t *len)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)(PORT_FIRST + fd - first_fd)),
				  .sin_addr.s_addr =
					  htonl(choice(4) ? INADDR_LOOPBACK : INADDR_ANY) };

	memset(a, 0, *len);
	memcpy(a, &in, *len < sizeof(in) ? *len : sizeof(in));
	*len = sizeof(in);
	return 0;
}

int __wrap_getsockname(int fd, struct sockaddr *a, socklen_t *len)
{
	return name_of(fd, a, len);
}

int __wrap_getpeername(int fd, struct sockaddr *a, socklen_t *len)
{
	if (choice(2)) {
		errno = ENOTCONN;
		return -1;
	}
	return name_of(fd, a, len);
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	(void)count, (void)timeout;
	fds->revents = choice(2) ? POLLHUP : 0;
	return !!fds->revents;
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
	(void)fd, (void)flags;
	msg->msg_controllen = 0;
	errno = EAGAIN;
	return quiet || !choice(16) ? 0 : -1;
}

/* --- an engine --------------------------------------------------------- */

static int fake_watch(struct engine *e, struct engine_handle *h, int fd, uint32_t events)
{
	if (e->handle_count == HANDLES || (!choice(32) && !quiet && choice(2)))
		return -ENOMEM;
	h->fd = fd;
	h->events = events;
	h->id = e->handle_count;
	e->handles[e->handle_count++] = h;
	return 0;
}

static void fake_unwatch(struct engine *e, struct engine_handle *h)
{
	if (h->fd < 0)
		return;
	fuzz_check(h->id < e->handle_count && e->handles[h->id] == h);
	e->handles[h->id] = e->handles[--e->handle_count];
	e->handles[h->id]->id = h->id;
	h->fd = -1;
}

static bool inside(const struct canal_arena *a, const struct iovec *piece)
{
	const uint8_t *from = piece->iov_base;
	uint64_t len = (uint64_t)a->count << CANAL_CHUNK_SHIFT;

	return from >= a->base && from <= a->base + len && piece->iov_len <= len &&
	       (uint64_t)(from - a->base) <= len - piece->iov_len;
}

static void check_op(const struct engine_op *op, bool sends)
{
	const struct sock *s = sends ? caa_container_of(op, struct sock, tx_op)
				     : caa_container_of(op, struct sock, rx_op);

	fuzz_check(op->msg.msg_iovlen <= ENGINE_IOV);
	for (size_t i = 0; i < op->msg.msg_iovlen; i++)
		fuzz_check(inside(sends ? &s->channel->tx : &s->channel->rx, &op->msg.msg_iov[i]));
}

static uint64_t op_len(const struct engine_op *op)
{
	uint64_t len = 0;

	for (size_t i = 0; i < op->msg.msg_iovlen; i++)
		len += op->msg.msg_iov[i].iov_len;
	return len;
}

/* What the kernel says to it. */
static int op_result(const struct engine_op *op)
{
	static const int errors[] = { EAGAIN, EAGAIN, EINTR, ENOBUFS, ECONNRESET, EPIPE, EPROTO };
	uint64_t len = op_len(op);
	uint8_t n = choice(24);

	if (quiet)
		return -EPIPE;
	if (n < sizeof(errors) / sizeof(errors[0]))
		return -errors[n];
	if (n == 8)
		return 0;
	return n < 12 && len ? (int)(fuzz_number(&input) % len) : (int)len;
}

static void op_finish(struct engine_op *op, bool sends)
{
	int res = op_result(op);

	check_op(op, sends);
	op->under_way = false;
	op->msg.msg_flags = res >= 0 && choice(16) == 1 ? MSG_TRUNC : 0;
	if (!sends && res > 0) {
		if (op->msg.msg_name)
			name_of(op->fd, op->msg.msg_name, &op->msg.msg_namelen);
		memset(op->msg.msg_iov[0].iov_base, 0x5a, 1);
	}
	op->done(op, res);
}

static void op_start(struct engine *e, struct engine_op *op, bool sends)
{
	check_op(op, sends);
	if (e->op_count == OPS || choice(2)) {
		op_finish(op, sends);
		return;
	}
	op->under_way = true;
	e->op_sends[e->op_count] = sends;
	e->ops[e->op_count++] = op;
}

static void fake_recv(struct engine *e, struct engine_op *op)
{
	op_start(e, op, false);
}

static void fake_send(struct engine *e, struct engine_op *op)
{
	op_start(e, op, true);
}

static void fake_flush(struct engine *e)
{
	while (e->op_count) {
		struct engine_op *op = e->ops[--e->op_count];

		op_finish(op, e->op_sends[e->op_count]);
	}
}

static void ready(struct engine *e)
{
	struct engine_handle *h;
	uint8_t bits = fuzz_byte(&input);
	uint32_t events = 0;

	if (!e->handle_count)
		return;
	h = e->handles[fuzz_byte(&input) % e->handle_count];
	events |= bits & 1 ? EPOLLIN : 0;
	events |= bits & 2 ? EPOLLOUT : 0;
	events |= bits & 4 ? EPOLLRDHUP : 0;
	events |= (bits & 0x18) == 0x18 ? EPOLLHUP : 0;
	events |= (bits & 0x60) == 0x60 ? EPOLLERR : 0;
	events &= h->events | EPOLLHUP | EPOLLERR;
	if (events)
		h->event(h, events);
}

/* Also from within an event. */
static int fake_wait(struct engine *e, int64_t timeout_ns)
{
	uint8_t count = choice(4);

	fuzz_check(!timeout_ns);
	fake_flush(e);
	for (uint8_t i = 0; i < count; i++)
		ready(e);
	return count;
}

const struct engine_ops fake_ops = {
	.name = "fake",
	.watch = fake_watch,
	.unwatch = fake_unwatch,
	.recv = fake_recv,
	.send = fake_send,
	.flush = fake_flush,
	.wait = fake_wait,
};
