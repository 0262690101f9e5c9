/* SPDX-License-Identifier: MIT */
/*
 * The epoll engine: edge-triggered epoll, and one system call for each send
 * and receive. Works on every kernel.
 *
 * Invariants
 *  1. An event of the batch under way whose handle is unwatched is struck out,
 *     so no handle is called after unwatch(), freed or not.
 *  2. Operations are done when recv() and send() return.
 *
 * Ownership and threads: the poller's.
 *
 * Failure: a descriptor that epoll does not take gives -errno in watch().
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "urgent.h"

#define BATCH 256

struct engine {
	int fd;
	int next, count; /* of the batch under way: next to be reported */
	struct epoll_event batch[BATCH];
};

static int epoll_engine_open(struct engine **ret_engine)
{
	struct engine *e = calloc(1, sizeof(*e));
	int error;

	if (!e)
		return -ENOMEM;
	e->fd = epoll_create1(EPOLL_CLOEXEC);
	if (e->fd < 0) {
		error = -errno;
		free(e);
		return error;
	}
	*ret_engine = e;
	return 0;
}

static void epoll_engine_close(struct engine *e)
{
	close(e->fd);
	free(e);
}

static int epoll_engine_watch(struct engine *e, struct engine_handle *h, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events | EPOLLET, .data.ptr = h };

	if (epoll_ctl(e->fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	h->fd = fd;
	h->events = events;
	return 0;
}

static void epoll_engine_unwatch(struct engine *e, struct engine_handle *h)
{
	if (h->fd < 0)
		return;
	epoll_ctl(e->fd, EPOLL_CTL_DEL, h->fd, NULL);
	h->fd = -1;
	for (int i = e->next; i < e->count; i++)
		if (e->batch[i].data.ptr == h)
			e->batch[i].data.ptr = NULL;
}

/**
 * engine_recv_now() - one recvmsg, by a system call of its own
 *
 * Return: bytes or -errno.
 */
int engine_recv_now(struct engine_op *op)
{
	ssize_t len;

	urgent_guard(&op, 1);
	do
		len = recvmsg(op->fd, &op->msg, op->flags | MSG_DONTWAIT);
	while (len < 0 && errno == EINTR);
	urgent_guard(NULL, 0);
	return urgent_result(op, len < 0 ? -errno : (int)len);
}

/**
 * engine_send_now() - one sendmsg, by a system call of its own
 *
 * Return: bytes or -errno.
 */
int engine_send_now(struct engine_op *op)
{
	ssize_t len;

	do
		len = sendmsg(op->fd, &op->msg, op->flags | MSG_DONTWAIT | MSG_NOSIGNAL);
	while (len < 0 && errno == EINTR);
	return len < 0 ? -errno : (int)len;
}

static void epoll_engine_recv(struct engine *e, struct engine_op *op)
{
	(void)e;
	op->under_way = false;
	op->done(op, engine_recv_now(op));
}

static void epoll_engine_send(struct engine *e, struct engine_op *op)
{
	(void)e;
	op->under_way = false;
	op->done(op, engine_send_now(op));
}

static void epoll_engine_flush(struct engine *e)
{
	(void)e;
}

/* A kernel before 5.11 takes milliseconds only; the wait is rounded up. */
static int epoll_look(struct engine *e, int64_t timeout_ns)
{
	struct timespec ts = { timeout_ns / 1000000000, timeout_ns % 1000000000 };
	int count;

	if (timeout_ns <= 0)
		return epoll_wait(e->fd, e->batch, BATCH, timeout_ns ? -1 : 0);
	count = epoll_pwait2(e->fd, e->batch, BATCH, &ts, NULL);
	if (count < 0 && errno == ENOSYS)
		count = epoll_wait(e->fd, e->batch, BATCH, (int)((timeout_ns + 999999) / 1000000));
	return count;
}

/* What is left of the batch: event() may end in here again. */
static int report(struct engine *e)
{
	int reported = 0;

	while (e->next < e->count) {
		struct epoll_event *ev = &e->batch[e->next++];
		struct engine_handle *h = ev->data.ptr;

		if (!h)
			continue;
		h->event(h, ev->events);
		reported++;
	}
	return reported;
}

static int epoll_engine_wait(struct engine *e, int64_t timeout_ns)
{
	int reported = report(e);

	e->count = epoll_look(e, timeout_ns);
	e->next = 0;
	return reported + report(e);
}

const struct engine_ops engine_epoll = {
	.name = "epoll",
	.open = epoll_engine_open,
	.close = epoll_engine_close,
	.watch = epoll_engine_watch,
	.unwatch = epoll_engine_unwatch,
	.recv = epoll_engine_recv,
	.send = epoll_engine_send,
	.flush = epoll_engine_flush,
	.wait = epoll_engine_wait,
};
