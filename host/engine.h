/* SPDX-License-Identifier: MIT */
/*
 * The engine: how a poller talks to the kernel about its sockets.
 *
 * Purpose: one small interface, two implementations: io_uring, which gathers
 * the sends and receives of a pass into one system call, and epoll with
 * non-blocking calls, which makes them one by one.
 *
 * Rules
 *  1. Readiness is edge-triggered: after watch() and after each new event the
 *     kernel's view is reported once; the owner goes on until -EAGAIN.
 *  2. recv() and send() never block (MSG_DONTWAIT). done() is called exactly
 *     once for each, before the call returns or in the next flush(). After
 *     flush() no operation is under way: an owner may be freed then.
 *  3. A guarded recv() is ended by SIGURG: it has taken nothing, and gives -EINTR.
 *  4. No callback is made for a handle after unwatch().
 *  5. event() may call wait(), which first reports what the outer one has found and
 *     not yet reported; then that one has nothing left.
 *
 * Ownership and threads: an engine belongs to one poller's thread.
 */
#ifndef CANAL_ENGINE_H
#define CANAL_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct engine;

/* Something whose descriptor is watched; lies in its owner. */
struct engine_handle {
	int fd;          /* -1: not watched */
	uint32_t id;     /* the engine's own */
	uint32_t events; /* what was asked for; the engine's own */
	/* @events: EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR */
	void (*event)(struct engine_handle *h, uint32_t events);
};

#define ENGINE_IOV 20

/* One recvmsg or sendmsg; lies in its owner. */
struct engine_op {
	int fd;
	int flags; /* MSG_* besides MSG_DONTWAIT and MSG_NOSIGNAL */
	struct msghdr msg;
	struct iovec iov[ENGINE_IOV];
	/* @res: bytes or -errno; msg_flags and msg_namelen are filled */
	void (*done)(struct engine_op *op, int res);
	bool under_way;
	bool guarded;    /* a receive that SIGURG ends (urgent.h): -EINTR */
	uint32_t looked; /* urgent_signals that its owner knows of */
};

struct engine_ops {
	const char *name;
	/* 0 or -errno: the kernel does not allow it. */
	int (*open)(struct engine **ret_engine);
	void (*close)(struct engine *e);
	/* @events: EPOLLIN | EPOLLOUT | EPOLLRDHUP as wanted; hang-up and error
	 * are always reported. h->fd is set by the engine. 0 or -errno. */
	int (*watch)(struct engine *e, struct engine_handle *h, int fd, uint32_t events);
	void (*unwatch)(struct engine *e, struct engine_handle *h);
	void (*recv)(struct engine *e, struct engine_op *op);
	void (*send)(struct engine *e, struct engine_op *op);
	/* Finishes every recv() and send(). */
	void (*flush)(struct engine *e);
	/* Reports readiness. @timeout_ns: 0 looks only, -1 waits for ever.
	 * Return: events reported. May be interrupted by a signal. */
	int (*wait)(struct engine *e, int64_t timeout_ns);
};

extern const struct engine_ops engine_epoll, engine_uring;

/* engine_epoll.c: one operation by a system call of its own; done() is not
 * called. Bytes or -errno. */
int engine_recv_now(struct engine_op *op);
int engine_send_now(struct engine_op *op);

#endif
