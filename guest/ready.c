/* SPDX-License-Identifier: MIT */
/*
 * Waiting for many at once: poll, and what select makes of it, over canal sockets, kernel
 * descriptors and sets.
 *
 * Purpose: select is turned into an array of struct pollfd (select.c), so that there is
 * one way to wait. Canal sockets are looked at in shared memory; everything else is
 * gathered for one real ppoll, in which the thread also sleeps, with the bell of
 * its wait slot at the end of the array. Before all that comes a look in one pass, which
 * is enough where all are canal's and one is ready (look_plainly(), ready.h).
 *
 * Invariants
 *  1. Only canal descriptors, and one is ready: no system call.
 *  2. Before the real ppoll the thread is armed, its bit is in the waiter words of
 *     every canal socket, and all have been looked at once more (S1).
 *  3. Bits are not taken back: another slot may have the same bit.
 *  4. The mask of ppoll and pselect is in force exactly while the kernel sleeps.
 *
 * Ownership and threads: any thread; nothing here outlives a call.
 *
 * Failure: as Linux. When canald is gone, canal sockets say POLLERR and POLLHUP. A
 * thread that gets no wait slot looks every now and then.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "deadline.h"
#include "epoll_set.h"
#include "handover.h"
#include "keep.h"
#include "ready.h"
#include "twin.h"

/* Looking at more than these is slower than sleeping. */
#define SPIN_SOCKETS 16

/* One call. */
struct look {
	int64_t nap;        /* the last one of who has no wait slot */
	struct pollfd *fds; /* the program's, or made from its sets */
	uint32_t count;
	bool select;
	uint32_t canal_count, set_count, kernel_count;
	uint32_t twin_count;          /* of kernel_count: twins of canal sockets */
	uint32_t only;                /* number of the only canal socket, or CANAL_NONE */
	uint32_t only_at;             /* where in fds it is */
	struct canal_sock *only_sock; /* it is waited for also when its number is closed */
	uint32_t only_generation;
	struct pollfd *kernel; /* of fds what is not canal's, and twins; room for the bell */
	uint32_t *index;       /* where in fds each of those is */
	uint32_t room;         /* entries of these two, but for the bell */
	int kernel_ready;      /* what the last real ppoll returned */
	uint32_t handovers;    /* handover_count when it was sorted */
	bool changed;          /* a canal socket became the kernel's since */
};

struct pollfd_room {
	struct pollfd kernel[READY_FEW + 1];
	uint32_t index[READY_FEW];
};

/* --- looking -------------------------------------------------------------- */

/* Entry @k of the kernel's part belongs to a canal socket. */
static bool is_twin(const struct look *l, uint32_t k)
{
	return l->twin_count && fd_sock(l->fds[l->index[k]].fd);
}

/* What the last real ppoll found of twins, behind a look at the canal sockets. */
static int take_twins(struct look *l)
{
	int ready = 0;

	for (uint32_t k = 0; l->kernel_ready > 0 && k < l->kernel_count; k++) {
		struct pollfd *to = &l->fds[l->index[k]];
		short got;

		if (!is_twin(l, k) || !(l->kernel[k].revents & POLLIN))
			continue;
		got = to->events & (POLLIN | POLLRDNORM) & interest(l->select, to);
		ready += got && !to->revents;
		to->revents |= got;
	}
	return ready;
}

static bool is_kernels(const struct look *l, uint32_t i)
{
	for (uint32_t k = 0; k < l->kernel_count; k++)
		if (l->index[k] == i)
			return true;
	return false;
}

/*
 * Of what was sorted as canal's, something is no more. Another thread may be in the
 * middle of a handover, and not have counted it yet; or it closed the descriptor, and
 * who waits for that goes on waiting.
 */
static __attribute__((noinline)) bool has_changed(const struct look *l)
{
	int saved = errno;
	bool changed = false;

	for (uint32_t i = 0; i < l->count && !changed; i++) {
		int fd = l->fds[i].fd;

		changed = fd >= 0 && !fd_sock(fd) && !is_kernels(l, i) &&
			  real(fcntl)(fd, F_GETFD, NULL) >= 0;
	}
	errno = saved;
	return changed;
}

/* The canal socket of an entry, or NULL. */
static inline struct canal_sock *sock_at(const struct look *l, uint32_t i)
{
	if (l->only == CANAL_NONE || i != l->only_at)
		return fd_sock(l->fds[i].fd);
	return canal_read_once(&l->only_sock->generation) == l->only_generation ? l->only_sock
										: NULL;
}

static int look_canal(struct look *l)
{
	uint32_t seen = 0;
	int ready = 0;

	for (uint32_t i = 0; i < l->count; i++) {
		struct pollfd *p = &l->fds[i];
		struct canal_sock *s = sock_at(l, i);

		if (!s)
			continue;
		seen++;
		p->revents = (short)ready_events(s, (uint16_t)p->events) & interest(l->select, p);
		/* Whoever is woken by a socket that was closed looks for it by its number. */
		if (p->revents && fd_sock(p->fd) != s)
			p->revents = l->select ? 0 : POLLNVAL;
		ready += p->revents != 0;
	}
	if (unlikely(seen != l->canal_count))
		l->changed = has_changed(l);
	return unlikely(l->twin_count) ? ready + take_twins(l) : ready;
}

/* What is canal's, and what the kernel's, has changed. */
static bool is_stale(const struct look *l)
{
	if (unlikely(canal_read_once(&handover_met)))
		handover_sweep();
	return unlikely(l->changed || canal_read_once(&handover_count) != l->handovers);
}

static bool canal_is_ready(void *arg)
{
	struct look *l = arg;

	return look_canal(l) > 0 || l->changed || canal_read_once(&handover_met);
}

/* The twins of a canal socket, if it is to tell of what comes. */
static void sort_twins(struct look *l, uint32_t i)
{
	const struct pollfd *p = &l->fds[i];
	const struct twin *t = twin_of(fd_table[p->fd].number);

	if (!t || !(p->events & (POLLIN | POLLRDNORM)))
		return;
	for (unsigned int which = 0; which < TWIN_FDS; which++) {
		if (t->fd[which] < 0 || l->kernel_count == l->room)
			continue;
		l->kernel[l->kernel_count] = (struct pollfd){ t->fd[which], POLLIN, 0 };
		l->index[l->kernel_count++] = i;
		l->twin_count++;
	}
}

/* Splits the array; once, unless a socket is handed over meanwhile. */
static void sort_out(struct look *l)
{
	l->canal_count = l->set_count = l->kernel_count = l->twin_count = 0;
	l->handovers = canal_read_once(&handover_count);
	l->changed = false;
	l->only = CANAL_NONE;
	for (uint32_t i = 0; i < l->count; i++) {
		struct pollfd *p = &l->fds[i];

		p->revents = 0;
		if (p->fd < 0)
			continue;
		if (fd_sock(p->fd)) {
			l->only = l->canal_count++ ? CANAL_NONE : fd_table[p->fd].number;
			l->only_at = i;
			if (twin_any())
				sort_twins(l, i);
			continue;
		}
		l->set_count += epoll_is_ours(p->fd);
		l->kernel[l->kernel_count] = *p;
		l->index[l->kernel_count++] = i;
	}
	if (l->only != CANAL_NONE) {
		l->only_sock = channel_sock(&the_channel, l->only);
		l->only_generation = canal_read_once(&l->only_sock->generation);
	}
}

static int call_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		      const sigset_t *mask)
{
	int saved_errno = errno;
	int n = real(ppoll)(fds, count, timeout, mask);

	if (n < 0)
		n = -errno;
	errno = saved_errno;
	return n;
}

/*
 * A set is readable if its canal part has something, or the kernel says so and
 * still says so when our own wake-ups are out of the way.
 */
static short set_events(struct pollfd *p)
{
	static const struct timespec now = { 0 };

	if (!(p->events & (POLLIN | POLLRDNORM)))
		return p->revents;
	if (epoll_peek(p->fd, SET_LOOK))
		return p->revents | (p->events & (POLLIN | POLLRDNORM));
	if (!(p->revents & (POLLIN | POLLRDNORM)))
		return p->revents;
	epoll_settle(p->fd);
	if (epoll_peek(p->fd, SET_LOOK))
		return p->events & (POLLIN | POLLRDNORM);
	p->revents = 0;
	(void)call_ppoll(p, 1, &now, NULL);
	return p->revents;
}

/* What the last real ppoll found: number of ready entries or -errno. */
static int take_kernel(struct look *l)
{
	int ready = 0;

	if (l->kernel_ready <= 0 && !l->set_count)
		return 0;
	for (uint32_t k = 0; k < l->kernel_count; k++) {
		struct pollfd *from = &l->kernel[k], *to = &l->fds[l->index[k]];
		short got;

		if (is_twin(l, k))
			continue;
		got = epoll_is_ours(from->fd) ? set_events(from) : from->revents;
		if (l->select && (got & POLLNVAL))
			return -EBADF;
		to->revents = got & interest(l->select, to);
		ready += to->revents != 0;
		/* Hung up, and select was not asked for that: it would wake us for ever. */
		if (got && !to->revents)
			from->fd = -1;
	}
	return ready;
}

/* Of so many looks that find a canal socket ready, one looks at twins alone, too. */
#define TWIN_EVERY 16

/* Whether the kernel has nothing but twins, and canal has something. */
static bool kernel_can_wait(struct look *l)
{
	static __thread uint32_t looks;

	l->kernel_ready = 0;
	return l->twin_count && l->twin_count == l->kernel_count && ++looks % TWIN_EVERY &&
	       look_canal(l) > 0;
}

/* Everything, now. */
static int look_all(struct look *l)
{
	static const struct timespec now = { 0 };
	int kernel = 0;

	if (l->kernel_count && !kernel_can_wait(l)) {
		l->kernel_ready = call_ppoll(l->kernel, l->kernel_count, &now, NULL);
		kernel = l->kernel_ready < 0 ? l->kernel_ready : take_kernel(l);
	}
	return kernel < 0 ? kernel : look_canal(l) + kernel;
}

/* --- sleeping ------------------------------------------------------------- */

static void arm_sockets(const struct look *l, uint32_t slot)
{
	for (uint32_t i = 0; i < l->count; i++) {
		struct canal_sock *s = sock_at(l, i);
		short events = l->fds[i].events;

		if (!s)
			continue;
		if (events & (POLLOUT | POLLWRNORM | POLLWRBAND))
			canal_arm_bit(&s->wr_waiters, slot); /* S1 */
		/* Errors wake both. */
		if (!(events & (POLLOUT | POLLWRNORM | POLLWRBAND)) ||
		    (events & ~(POLLOUT | POLLWRNORM | POLLWRBAND)))
			canal_arm_bit(&s->rd_waiters, slot); /* S1 */
	}
}

/* Sets are told that somebody waits for them; true if one is ready. */
static bool tell_sets(const struct look *l, enum set_when when)
{
	bool ready = false;

	for (uint32_t k = 0; l->set_count && k < l->kernel_count; k++)
		if (epoll_is_ours(l->kernel[k].fd))
			ready |= epoll_peek(l->kernel[k].fd, when);
	return ready;
}

/* Empties the bell that the real ppoll found readable, or finds canald gone. */
static void read_bell(struct channel *ch, const struct pollfd *p)
{
	int saved_errno = errno;
	char bytes[64];

	if (p->revents && real(read)(p->fd, bytes, sizeof(bytes)) == 0)
		canal_write_once(&ch->dead, true);
	errno = saved_errno;
}

/*
 * Sleeps, armed, unless something is ready. Return: as look_all(), but 0 also means a
 * wake-up for nothing, then *ret_again is set.
 */
static int sleep_armed(struct look *l, struct channel *ch, const struct waiter *w, int64_t deadline,
		       const sigset_t *mask, bool *ret_again)
{
	struct canal_wait *wait = &ch->wait[w->slot];
	struct pollfd *bell = &l->kernel[l->kernel_count];
	struct timespec ts;
	bool found;
	int n;

	/* That of a canald that is gone would wake for ever who asks for nothing that is. */
	*bell = (struct pollfd){ .fd = canal_read_once(&ch->dead) ? -1 : w->fd, .events = POLLIN };
	canal_write_once(&wait->sock, l->set_count ? CANAL_NONE : l->only);
	canal_arm(&wait->armed); /* S1 */
	arm_sockets(l, w->slot);
	found = tell_sets(l, SET_BEFORE_SLEEP);
	found |= canal_is_ready(l);
	if (!found) {
		wait_trim(ch);
		l->kernel_ready =
			call_ppoll(l->kernel, l->kernel_count + 1, time_left(deadline, &ts), mask);
		read_bell(ch, bell);
	}
	canal_disarm(&wait->armed);
	(void)tell_sets(l, SET_AFTER_SLEEP);
	*ret_again = found || l->kernel_ready > 0;
	if (found)
		return look_all(l);
	n = l->kernel_ready < 0 ? 0 : take_kernel(l);
	if (n >= 0)
		n += look_canal(l);
	return n || l->kernel_ready >= 0 ? n : l->kernel_ready;
}

/* Without a wait slot: naps in the real ppoll, and looks in between. */
static int sleep_poorly(struct look *l, int64_t deadline, const sigset_t *mask, bool *ret_again)
{
	int64_t now = wait_now();
	int64_t nap = l->nap = wait_longer(l->nap);
	int64_t until = deadline - now > nap ? now + nap : deadline;
	struct timespec ts;
	int n;

	l->kernel_ready = call_ppoll(l->kernel, l->kernel_count, time_left(until, &ts), mask);
	n = l->kernel_ready < 0 ? l->kernel_ready : take_kernel(l);
	*ret_again = until != deadline;
	return n < 0 ? n : n + look_canal(l);
}

static int sleep_once(struct look *l, int64_t deadline, const sigset_t *mask, bool *ret_again)
{
	struct channel *ch = &the_channel;
	struct waiter spare, *w;
	int n;

	if (channel_gone(ch))
		canal_write_once(&ch->dead, true);
	if (waiter_borrow(ch, &spare, &w) < 0)
		return sleep_poorly(l, deadline, mask, ret_again);
	if (w != &spare && l->only != CANAL_NONE)
		keep_begin(w->slot, l->only);
	n = sleep_armed(l, ch, w, deadline, mask, ret_again);
	waiter_return(ch, w);
	return n;
}

/* --- the whole call ------------------------------------------------------- */

static __attribute__((noinline)) int wait_all(struct look *l, int64_t deadline,
					      const sigset_t *mask)
{
	bool again;
	int n;

	if (l->canal_count <= SPIN_SOCKETS && wait_spin(&the_channel, canal_is_ready, l)) {
		n = look_all(l);
		if (n || is_stale(l))
			return n ? n : -EHANDED;
	}
	do {
		again = false;
		n = is_stale(l) ? -EHANDED : sleep_once(l, deadline, mask, &again);
	} while (!n && again && !is_stale(l));
	return !n && again ? -EHANDED : n;
}

/* @l->kernel and @l->index have room for all. */
static int look_and_wait(struct look *l, const struct timespec *timeout, const sigset_t *mask)
{
	static const struct timespec now = { 0 };
	bool waits = !timeout || timeout->tv_sec || timeout->tv_nsec;
	int64_t deadline = 0;
	int n;

	do {
		sort_out(l);
		wait_arrival_for(&the_channel, waits);
		n = look_all(l);
		if (n >= 0 && is_stale(l)) /* others that are ready do not hide it for ever */
			n = -EHANDED;
		if (!n && waits) {
			deadline = deadline ? deadline : deadline_of(timeout);
			n = wait_all(l, deadline, mask);
		}
	} while (n == -EHANDED);
	if (n || waits)
		return n;
	/* A signal that only the mask lets through ends even a call that waits not. */
	n = mask ? call_ppoll(l->kernel, 0, &now, mask) : 0;
	return n < 0 ? n : 0;
}

static uint32_t twins_among(const struct look *l)
{
	uint32_t count = 0;

	for (uint32_t i = 0; twin_any() && i < l->count; i++)
		if (fd_sock(l->fds[i].fd) && twin_of(fd_table[l->fds[i].fd].number))
			count += TWIN_FDS;
	return count;
}

int ready_wait(const struct ready_list *list, bool select, const struct timespec *timeout,
	       const sigset_t *mask)
{
	struct look l = { .fds = list->fds, .count = list->count, .select = select };
	struct pollfd_room room;
	void *pages = NULL;
	size_t len;
	int n;

	l.room = l.count + twins_among(&l);
	len = (l.room + 1) * (sizeof(*l.kernel) + sizeof(*l.index));
	if (l.room <= READY_FEW) {
		l.kernel = room.kernel;
		l.index = room.index;
		n = look_and_wait(&l, timeout, mask);
		keep_over();
		return n;
	}
	pages = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED)
		return -ENOMEM;
	l.kernel = pages;
	l.index = (uint32_t *)(void *)(l.kernel + l.room + 1);
	n = look_and_wait(&l, timeout, mask);
	keep_over();
	munmap(pages, len);
	return n;
}

int ready_poll_now(struct pollfd *fds, nfds_t count)
{
	return likely(count <= READY_FEW) ? look_plainly(fds, (uint32_t)count, false) : 0;
}

int ready_poll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
	       const sigset_t *mask)
{
	const struct ready_list list = { fds, (uint32_t)count };
	struct rlimit limit;

	if (!timeout_is_valid(timeout))
		return -EINVAL;
	if (count > READY_FEW && (getrlimit(RLIMIT_NOFILE, &limit) < 0 || count > limit.rlim_cur))
		return -EINVAL;
	return ready_wait(&list, false, timeout, mask);
}

bool ready_poll_ours(const struct pollfd *fds, nfds_t count)
{
	for (nfds_t i = 0; i < count; i++)
		if (fd_sock(fds[i].fd) || epoll_watched(fds[i].fd))
			return true;
	return false;
}
