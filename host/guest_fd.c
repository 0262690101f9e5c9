/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that come from guests.
 *
 * Purpose: the last close() of a file can wait for its owner. A TCP socket with
 * SO_LINGER and bytes that nobody reads waits as long as it was told to, also in
 * the queue of a UNIX socket that is closed, or as one of those for which a
 * recvmsg() had no room. So every descriptor is received, and what is not
 * canald's to keep is closed by a thread that may wait.
 *
 * Invariants
 *  1. No other thread closes what a guest sent, except where nothing in it can
 *     wait: one end of a socket pair whose queue is empty for good.
 *  2. A close() under way is interrupted every CLOSE_NS, which ends any wait for
 *     a network peer.
 *
 * Ownership and threads: guest_recv() and close_later(), any thread.
 * Failure: without memory, or before closer_start(), the caller closes it. Where
 * canald has no descriptors left, the kernel closes what it cannot hand out.
 */
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syslog.h>
#include <time.h>
#include <unistd.h>

#include "host.h"

#define CLOSE_NS 2000000
#define STOP_NS 500000000

struct closing {
	struct cds_wfcq_node link;
	int fd;
};

static struct {
	struct cds_wfcq_head head;
	struct cds_wfcq_tail tail;
	sem_t waiting;
	pthread_t thread;
	timer_t timer;
	bool started;
} closer;

/* --- receiving --------------------------------------------------------- */

static void take_fds(struct guest_fds *fds, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(fds->fd + fds->count, CMSG_DATA(c), count * sizeof(int));
		fds->count += count;
	}
}

ssize_t guest_recv(int conn, void *buf, size_t len, struct guest_fds *fds, int *ret_flags)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(GUEST_FDS * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		/* not CMSG_SPACE: its padding would let one more in */
		.msg_controllen = CMSG_LEN(GUEST_FDS * sizeof(int)),
	};
	ssize_t got;

	fds->count = 0;
	do
		got = recvmsg(conn, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	take_fds(fds, &msg);
	if (msg.msg_flags & MSG_CTRUNC)
		host_log_limited(NULL, LOG_ERR,
				 "out of file descriptors: raise LimitNOFILE of canald");
	*ret_flags = msg.msg_flags;
	return got;
}

void guest_fds_close(struct guest_fds *fds)
{
	for (size_t i = 0; i < fds->count; i++)
		if (fds->fd[i] >= 0)
			close_later(fds->fd[i]);
	fds->count = 0;
}

/* --- closing ----------------------------------------------------------- */

void close_later(int fd)
{
	struct closing *c = closer.started ? malloc(sizeof(*c)) : NULL;

	if (!c) {
		close(fd);
		return;
	}
	c->fd = fd;
	cds_wfcq_node_init(&c->link);
	cds_wfcq_enqueue(&closer.head, &closer.tail, &c->link);
	sem_post(&closer.waiting);
}

static void tick(bool on)
{
	struct itimerspec spec = { .it_value.tv_nsec = on ? CLOSE_NS : 0,
				   .it_interval.tv_nsec = on ? CLOSE_NS : 0 };

	timer_settime(closer.timer, 0, &spec, NULL);
}

static void close_now(int fd)
{
	const struct linger none = { 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	close(fd);
}

/* Ends when it is woken for no descriptor. */
static void *closer_run(void *arg)
{
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
	struct cds_wfcq_node *node;

	(void)arg;
	pthread_setname_np(pthread_self(), "canald-close");
	event._sigev_un._tid = gettid();
	if (timer_create(CLOCK_MONOTONIC, &event, &closer.timer) < 0)
		host_log(LOG_WARNING, "no timer: closing what guests sent may wait for them");
	for (;;) {
		while (sem_wait(&closer.waiting) < 0)
			;
		node = cds_wfcq_dequeue_blocking(&closer.head, &closer.tail);
		if (!node)
			return NULL;
		tick(true);
		close_now(caa_container_of(node, struct closing, link)->fd);
		tick(false);
		free(caa_container_of(node, struct closing, link));
	}
}

/* Its only use is to interrupt. */
static void interrupted(int number)
{
	(void)number;
}

int closer_start(void)
{
	const struct sigaction action = { .sa_handler = interrupted };
	int error;

	sigaction(SIGUSR1, &action, NULL);
	cds_wfcq_init(&closer.head, &closer.tail);
	sem_init(&closer.waiting, 0, 0);
	error = -pthread_create(&closer.thread, NULL, closer_run, NULL);
	closer.started = !error;
	return error;
}

void closer_stop(void)
{
	struct timespec until;

	if (!closer.started)
		return;
	closer.started = false;
	sem_post(&closer.waiting);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += STOP_NS;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	if (pthread_timedjoin_np(closer.thread, NULL, &until))
		pthread_detach(closer.thread);
}
