/* SPDX-License-Identifier: MIT */
/*
 * The io_uring engine: readiness from multishot polls, without a system call
 * while there is none; the sends and receives of a pass in one system call.
 *
 * Each watched handle has a slot in a private table. A completion names slot
 * and generation, never the handle, because the owner may free that right
 * after unwatch() while completions are still on their way.
 *
 * Invariants
 *  1. A slot's generation changes when it is unwatched: what arrives late finds
 *     another one and is dropped.
 *  2. unwatch() returns when the kernel has let go of the file, so that a
 *     close() after it is the last one (a port becomes free, a FIN is sent).
 *  3. Operations are made with MSG_DONTWAIT, which the kernel completes while
 *     it takes them in. They are under way inside flush() only.
 *  4. flush() calls no event(): readiness that it finds waits for wait().
 *
 * Ownership and threads: the poller's. The ring is made disabled and belongs to
 * the thread that first uses it.
 *
 * Failure: where the kernel does not allow io_uring, open() says so. A poll
 * that cannot be set up is reported as EPOLLERR.
 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine.h"
#include "urgent.h"

#define ENTRIES 1024u
#define CQ_ENTRIES 8192u
/* This many operations or fewer are cheaper as plain system calls. */
#define DIRECT_OPS 4u
#define REMOVE_TRIES 100

/* What a completion is for: the low bits of user_data. */
#define TAG_POLL 0u   /* generation << 34 | slot << 2 */
#define TAG_OP 1u     /* struct engine_op * */
#define TAG_REMOVE 2u /* nobody asks */
#define TAG_MASK 3u
#define SLOT_BITS 32
#define GENERATION_MASK ((1u << 30) - 1)

#define NO_SLOT UINT32_MAX

struct slot {
	struct engine_handle *handle; /* NULL: free, or free once it is not ready */
	uint32_t generation;
	uint32_t events; /* found, not yet reported */
	uint32_t next;   /* in the ready list, or of the free ones */
	bool ready;      /* in the ready list */
	bool armed;      /* the kernel has the poll, or will */
};

struct engine {
	struct io_uring ring;
	bool enabled;
	struct slot *slots;
	uint32_t slot_count, slot_free;
	uint32_t ready_first, ready_last, ready_count;
	struct engine_op *ops[ENTRIES]; /* queued, not yet submitted */
	bool op_sends[ENTRIES];
	uint32_t op_count, ops_in_kernel;
};

/* --- the ring ---------------------------------------------------------- */

static int ring_open(struct io_uring *ring)
{
	static const unsigned int flags[] = {
		/* completion work is done when we ask, and the ring says if there is any */
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	int error = -ENOSYS;

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		struct io_uring_params params = {
			.flags = flags[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE |
				 IORING_SETUP_CLAMP,
			.cq_entries = CQ_ENTRIES,
		};

		error = io_uring_queue_init_params(ENTRIES, ring, &params);
		if (error != -EINVAL)
			break;
	}
	if (error)
		return error;
	if ((ring->features & IORING_FEAT_EXT_ARG) && (ring->features & IORING_FEAT_NODROP))
		return 0;
	io_uring_queue_exit(ring);
	return -EOPNOTSUPP;
}

/* liburing 2.3 has a function for this, but does not export it. */
static int ring_start(struct io_uring *ring)
{
	return syscall(__NR_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
		       0) < 0
		       ? -errno
		       : 0;
}

/* On the thread that the ring is to belong to. */
static void ring_enable(struct engine *e)
{
	if (e->enabled)
		return;
	e->enabled = true;
	ring_start(&e->ring);
	io_uring_register_ring_fd(&e->ring);
}

/* A free SQE; what is queued goes to the kernel when there is none. */
static struct io_uring_sqe *ring_sqe(struct engine *e)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&e->ring);

	while (!sqe) {
		ring_enable(e);
		io_uring_submit(&e->ring);
		sqe = io_uring_get_sqe(&e->ring);
	}
	return sqe;
}

static unsigned int ring_flags(struct engine *e)
{
	return IO_URING_READ_ONCE(*e->ring.sq.kflags);
}

/* True when only a system call brings what is ready into the CQ. */
static bool ring_needs_kernel(struct engine *e)
{
	return io_uring_sq_ready(&e->ring) ||
	       (ring_flags(e) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}

/* --- slots ------------------------------------------------------------- */

static int slots_grow(struct engine *e)
{
	uint32_t count = e->slot_count ? 2 * e->slot_count : 256;
	struct slot *slots = reallocarray(e->slots, count, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	memset(slots + e->slot_count, 0, (count - e->slot_count) * sizeof(*slots));
	for (uint32_t i = count; i-- > e->slot_count;) {
		slots[i].next = e->slot_free;
		e->slot_free = i;
	}
	e->slots = slots;
	e->slot_count = count;
	return 0;
}

static uint64_t slot_data(const struct engine *e, uint32_t n)
{
	return (uint64_t)e->slots[n].generation << (SLOT_BITS + 2) | (uint64_t)n << 2 | TAG_POLL;
}

static void slot_release(struct engine *e, uint32_t n)
{
	e->slots[n].next = e->slot_free;
	e->slot_free = n;
}

static void slot_arm(struct engine *e, uint32_t n)
{
	struct slot *s = &e->slots[n];
	struct io_uring_sqe *sqe = ring_sqe(e);

	io_uring_prep_poll_multishot(sqe, s->handle->fd, s->handle->events);
	io_uring_sqe_set_data64(sqe, slot_data(e, n));
	s->armed = true;
}

/* Puts it into the ready list, for the next wait(). */
static void slot_ready(struct engine *e, uint32_t n, uint32_t events)
{
	struct slot *s = &e->slots[n];

	s->events |= events;
	if (s->ready)
		return;
	s->ready = true;
	s->next = NO_SLOT;
	if (e->ready_count++)
		e->slots[e->ready_last].next = n;
	else
		e->ready_first = n;
	e->ready_last = n;
}

static uint32_t slot_pop(struct engine *e)
{
	uint32_t n = e->ready_first;

	e->ready_first = e->slots[n].next;
	e->ready_count--;
	e->slots[n].ready = false;
	return n;
}

/* --- completions ------------------------------------------------------- */

static void poll_done(struct engine *e, uint64_t data, int res, bool more)
{
	uint32_t n = (uint32_t)(data >> 2);
	struct slot *s = &e->slots[n];
	uint32_t events;

	if (n >= e->slot_count || !s->handle || data != slot_data(e, n))
		return;
	events = res < 0 ? EPOLLERR : (uint32_t)res & (s->handle->events | EPOLLERR | EPOLLHUP);
	if (events)
		slot_ready(e, n, events);
	if (more)
		return;
	s->armed = false;
	if (res >= 0)
		slot_arm(e, n);
}

static void op_done(struct engine *e, struct engine_op *op, int res)
{
	e->ops_in_kernel--;
	op->under_way = false;
	op->done(op, urgent_result(op, res));
}

/*
 * Takes in what is in the CQ. done() may queue operations, but nothing in here
 * calls the kernel, except when a poll must be armed again and the SQ is full.
 */
static unsigned int ring_reap(struct engine *e)
{
	struct io_uring_cqe *cqes[64];
	unsigned int count, total = 0;

	while ((count = io_uring_peek_batch_cqe(&e->ring, cqes, 64)) > 0) {
		struct io_uring_cqe copies[64];

		for (unsigned int i = 0; i < count; i++)
			copies[i] = *cqes[i];
		io_uring_cq_advance(&e->ring, count);
		total += count;
		for (unsigned int i = 0; i < count; i++) {
			uint64_t data = copies[i].user_data;

			if ((data & TAG_MASK) == TAG_OP)
				op_done(e, (void *)(uintptr_t)(data & ~(uint64_t)TAG_MASK),
					copies[i].res);
			else if ((data & TAG_MASK) == TAG_POLL)
				poll_done(e, data, copies[i].res,
					  copies[i].flags & IORING_CQE_F_MORE);
		}
	}
	return total;
}

/* --- the engine -------------------------------------------------------- */

/* Does a multishot poll really work here? */
static int ring_probe(void)
{
	struct __kernel_timespec second = { .tv_sec = 1 };
	int fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC), error;
	struct io_uring_cqe *cqe;
	struct io_uring ring;

	if (fd < 0)
		return -errno;
	error = ring_open(&ring);
	if (!error) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

		io_uring_prep_poll_multishot(sqe, fd, EPOLLIN);
		ring_start(&ring);
		error = io_uring_submit_and_wait_timeout(&ring, &cqe, 1, &second, NULL);
		if (error >= 0)
			error = cqe->res < 0                     ? cqe->res
				: cqe->flags & IORING_CQE_F_MORE ? 0
								 : -EOPNOTSUPP;
		io_uring_queue_exit(&ring);
	}
	close(fd);
	return error;
}

static int uring_open(struct engine **ret_engine)
{
	struct engine *e;
	int error = ring_probe();

	if (error)
		return error;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->slot_free = NO_SLOT;
	error = slots_grow(e);
	if (!error)
		error = ring_open(&e->ring);
	if (error) {
		free(e->slots);
		free(e);
		return error;
	}
	*ret_engine = e;
	return 0;
}

static void uring_close(struct engine *e)
{
	io_uring_queue_exit(&e->ring);
	free(e->slots);
	free(e);
}

static int uring_watch(struct engine *e, struct engine_handle *h, int fd, uint32_t events)
{
	struct slot *s;
	int error;

	if (e->slot_free == NO_SLOT) {
		error = slots_grow(e);
		if (error)
			return error;
	}
	h->id = e->slot_free;
	h->fd = fd;
	h->events = events;
	s = &e->slots[h->id];
	e->slot_free = s->next;
	s->handle = h;
	s->events = 0;
	slot_arm(e, h->id);
	return 0;
}

/*
 * A poll that is not removed would keep the file open beyond close(). It is
 * cancelled and not POLL_REMOVEd, which refuses a poll that is just reporting.
 * The kernel does only so much completion work in one call: it says if more is
 * left.
 */
static void poll_remove(struct engine *e, uint64_t data)
{
	struct io_uring_sqe *sqe = ring_sqe(e);
	int tries = REMOVE_TRIES;

	io_uring_prep_cancel64(sqe, data, 0);
	io_uring_sqe_set_data64(sqe, TAG_REMOVE);
	ring_enable(e);
	do
		io_uring_submit_and_get_events(&e->ring);
	while (ring_flags(e) & IORING_SQ_TASKRUN && --tries);
}

static void uring_unwatch(struct engine *e, struct engine_handle *h)
{
	uint64_t data;
	struct slot *s;
	bool armed;

	if (h->fd < 0)
		return;
	s = &e->slots[h->id];
	data = slot_data(e, h->id);
	armed = s->armed;
	h->fd = -1;
	s->handle = NULL;
	s->armed = false;
	s->generation = (s->generation + 1) & GENERATION_MASK;
	if (!s->ready)
		slot_release(e, h->id);
	if (armed)
		poll_remove(e, data);
}

static void op_queue(struct engine *e, struct engine_op *op, bool sends)
{
	if (e->op_count == ENTRIES) {
		/* too many for one pass: this one is made at once */
		op->under_way = false;
		op->done(op, sends ? engine_send_now(op) : engine_recv_now(op));
		return;
	}
	op->under_way = true;
	e->op_sends[e->op_count] = sends;
	e->ops[e->op_count++] = op;
}

static void uring_recv(struct engine *e, struct engine_op *op)
{
	op_queue(e, op, false);
}

static void uring_send(struct engine *e, struct engine_op *op)
{
	op_queue(e, op, true);
}

static void op_prepare(struct engine *e, struct engine_op *op, bool sends)
{
	struct io_uring_sqe *sqe = ring_sqe(e);
	unsigned int flags = (unsigned int)op->flags | MSG_DONTWAIT;

	if (sends)
		io_uring_prep_sendmsg(sqe, op->fd, &op->msg, flags | MSG_NOSIGNAL);
	else
		io_uring_prep_recvmsg(sqe, op->fd, &op->msg, flags);
	io_uring_sqe_set_data64(sqe, (uintptr_t)op | TAG_OP);
	e->ops_in_kernel++;
}

static void ops_direct(struct engine *e, uint32_t count)
{
	struct engine_op *ops[DIRECT_OPS];
	bool sends[DIRECT_OPS];

	memcpy(ops, e->ops, count * sizeof(ops[0]));
	memcpy(sends, e->op_sends, count * sizeof(sends[0]));
	e->op_count = 0;
	for (uint32_t i = 0; i < count; i++) {
		ops[i]->under_way = false;
		ops[i]->done(ops[i], sends[i] ? engine_send_now(ops[i]) : engine_recv_now(ops[i]));
	}
}

static void ops_submit(struct engine *e)
{
	urgent_guard(e->ops, e->op_count);
	for (uint32_t i = 0; i < e->op_count; i++)
		op_prepare(e, e->ops[i], e->op_sends[i]);
	e->op_count = 0;
	/* with DEFER_TASKRUN, readiness comes along for the same price */
	io_uring_submit_and_get_events(&e->ring);
	ring_reap(e);
	while (e->ops_in_kernel) {
		io_uring_submit_and_wait(&e->ring, 1);
		ring_reap(e);
	}
	urgent_guard(NULL, 0);
}

static void uring_flush(struct engine *e)
{
	while (e->op_count) {
		ring_enable(e);
		if (e->op_count <= DIRECT_OPS)
			ops_direct(e, e->op_count);
		else
			ops_submit(e);
	}
}

/* Waits for at least one completion. */
static void ring_sleep(struct engine *e, int64_t timeout_ns)
{
	struct __kernel_timespec ts = {
		.tv_sec = timeout_ns / 1000000000,
		.tv_nsec = timeout_ns % 1000000000,
	};
	struct io_uring_cqe *cqe;

	io_uring_submit_and_wait_timeout(&e->ring, &cqe, 1, timeout_ns < 0 ? NULL : &ts, NULL);
}

/* Those that become ready meanwhile are left to the next wait(), which an event() may
 * be: then it has taken these. */
static int report(struct engine *e)
{
	int reported = 0;

	for (uint32_t left = e->ready_count; left && e->ready_count; left--) {
		uint32_t n = slot_pop(e);
		struct slot *s = &e->slots[n];
		struct engine_handle *h = s->handle;
		uint32_t events = s->events;

		s->events = 0;
		if (!h) {
			slot_release(e, n);
			continue;
		}
		h->event(h, events);
		reported++;
	}
	return reported;
}

static int uring_wait(struct engine *e, int64_t timeout_ns)
{
	ring_enable(e);
	uring_flush(e);
	ring_reap(e);
	if (timeout_ns && !e->ready_count)
		ring_sleep(e, timeout_ns);
	else if (ring_needs_kernel(e))
		io_uring_submit_and_get_events(&e->ring);
	ring_reap(e);
	return report(e);
}

const struct engine_ops engine_uring = {
	.name = "io_uring",
	.open = uring_open,
	.close = uring_close,
	.watch = uring_watch,
	.unwatch = uring_unwatch,
	.recv = uring_recv,
	.send = uring_send,
	.flush = uring_flush,
	.wait = uring_wait,
};
