/* SPDX-License-Identifier: MIT */
/*
 * epoll: one descriptor, two watchers.
 *
 * Purpose: the program holds the kernel's epoll descriptor. What is not canal's is
 * a member of the kernel's instance; canal's sockets are members of a set in the
 * region, made when the first is added. epoll_wait asks both, and sleeps in the
 * kernel's, in which the bell of the set's wait slot is a member too.
 *
 * Invariants
 *  1. A call that finds a canal socket ready makes no system call, except that
 *     every few calls it looks at the kernel's members, so that they cannot
 *     starve.
 *  2. Nothing is reported from the kernel's instance that the program did not put
 *     there (set_strip()).
 *  3. A thread that leaves has seen to the others that sleep (pass_on() in
 *     epoll_set.c).
 *
 * Ownership and threads: any thread; locks in epoll_set.c and epoll_member.c.
 *
 * Failure: as Linux. When canald is gone, all canal members report EPOLLERR and
 * EPOLLHUP.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "deadline.h"
#include "epoll_set.h"
#include "handover.h"
#include "sys.h"
#include "twin.h"
#include "user.h"

#define NS_PER_MS 1000000LL
/* With so much canal traffic, how often to look at the kernel's members. */
#define KERNEL_EVERY 16
#define KERNEL_EVERY_NARROW 4 /* where one look takes few events */
#define NARROW 8
/* How often a program that only asks, and never waits, finds out of canald's end. */
#define ALIVE_EVERY 4096

#define EXCLUSIVE_OK \
	(EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE)

static struct epoll_set *es_of(int epfd)
{
	const struct fd_entry *entry = fd_lookup(epfd);

	return entry && entry->kind == FD_EPOLL ? entry->object : NULL;
}

/* It has a set in the region. */
static bool is_shared(const struct epoll_set *es)
{
	/* E2 acquire: the number before the set; pairs with set_make() */
	return es && canal_load_acquire(&es->number) != CANAL_NONE;
}

/* --- life ----------------------------------------------------------------- */

int epoll_make(int epfd)
{
	uint32_t number;
	struct epoll_set *es = member_set_take(&number);
	int error;

	if (!es)
		return -ENFILE;
	error = fd_install(epfd, FD_EPOLL, es, number);
	if (error < 0)
		member_set_give(es);
	return error;
}

bool epoll_forget(int fd)
{
	return member_forget(fd_table[fd].number);
}

void epoll_drop(int epfd, bool last)
{
	if (last)
		member_drop_all(fd_table[epfd].object);
}

/* --- epoll_ctl ------------------------------------------------------------ */

static int mentions(const char *text, long len)
{
	int count = 0;

	for (long i = 0; i + 4 < len; i++)
		count += !memcmp(text + i, "tfd:", 4);
	return count;
}

/* Members that the kernel's instance had before we looked after it. */
static void count_kernel(struct epoll_set *es, int epfd)
{
	static const char prefix[] = "/proc/self/fdinfo/";
	char path[sizeof(prefix) + 12], text[512];
	char *end = path + sizeof(path) - 1;
	long fd, len;

	*end = '\0';
	for (unsigned int n = (unsigned int)epfd; n || !*end; n /= 10)
		*--end = (char)('0' + n % 10);
	end -= sizeof(prefix) - 1;
	memcpy(end, prefix, sizeof(prefix) - 1);
	fd = sys_call4(SYS_openat, AT_FDCWD, end, O_RDONLY | O_CLOEXEC, 0);
	len = fd < 0 ? -1 : sys_call4(SYS_read, fd, text, sizeof(text), 0);
	if (fd >= 0)
		sys_close((int)fd);
	/* Rather a look too many: more than fits counts as more to come. */
	es->kernel = len < 0 || len == sizeof(text) ? 1u << 30 : (uint32_t)mentions(text, len);
}

static void tell_end(struct epoll_set *es)
{
	if (es->dead || !channel_gone(&the_channel))
		return;
	canal_write_once(&the_channel.dead, true);
	es->dead = true;
	set_enlist_all(es);
}

static void nest(struct epoll_set *inner, int inner_fd)
{
	inner->nested_fd = inner_fd;
	inner->nested = true;
	if (is_shared(inner) && !(set_is_foreign(inner) && member_adopt(inner, inner_fd) < 0))
		set_nest(inner, inner_fd, SET_NESTED);
}

/*
 * A set that is watched is readable for the kernel while something in it is ready.
 * What a program reads does not come by there: it is made unreadable when somebody
 * is about to look. An edge that was not told is kept, and none is made.
 */
static void nest_refresh(struct epoll_set *inner)
{
	int inner_fd = inner->nested_fd;

	if (es_of(inner_fd) != inner || !is_shared(inner) ||
	    (set_is_foreign(inner) && member_adopt(inner, inner_fd) < 0))
		return;
	tell_end(inner);
	if (!set_is_idle(inner))
		return;
	set_settle(inner);
	(void)set_peek(inner, inner_fd, SET_LOOK); /* what came meanwhile */
}

/* All of them: sets in sets may hold more. */
static __attribute__((noinline)) void nests_refresh(void)
{
	struct epoll_set *es = NULL;

	while ((es = member_set_next(es)))
		if (es->nested)
			nest_refresh(es);
}

static int kernel_change(struct epoll_set *es, int epfd, int op, int fd, struct epoll_event *ev)
{
	struct epoll_set *inner = es_of(fd);
	int saved_errno = errno, error = 0;

	if (fd_is_ours(fd))
		return -EBADF;
	if (real(epoll_ctl)(epfd, op, fd, ev) < 0) {
		error = -errno;
		errno = saved_errno;
		return error;
	}
	if (es && op != EPOLL_CTL_DEL && (ev->events & (EPOLLET | EPOLLONESHOT)))
		es->edges = true;
	if (es && op == EPOLL_CTL_ADD)
		(void)canal_fetch_add(&es->kernel, 1u);
	else if (es && op == EPOLL_CTL_DEL && canal_read_once(&es->kernel))
		(void)canal_fetch_add(&es->kernel, -1u);
	if (inner && op == EPOLL_CTL_ADD) {
		nest(inner, fd);
		if (es)
			es->nests = true;
	}
	return 0;
}

static int check_event(int op, const struct epoll_event *ev)
{
	if (op == EPOLL_CTL_DEL)
		return 0;
	if (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD)
		return -EINVAL;
	if (!ev)
		return -EFAULT;
	if (!(ev->events & EPOLLEXCLUSIVE))
		return 0;
	return op == EPOLL_CTL_MOD || (ev->events & ~(uint32_t)EXCLUSIVE_OK) ? -EINVAL : 0;
}

int epoll_change(int epfd, int op, int fd, struct epoll_event *ev)
{
	struct epoll_set *es = es_of(epfd);
	int error;

	if (!es || !fd_sock(fd))
		return kernel_change(es, epfd, op, fd, ev);
	error = check_event(op, ev);
	if (!error && is_shared(es) && set_is_foreign(es))
		error = member_adopt(es, epfd);
	if (error)
		return error;
	if (!is_shared(es) && op == EPOLL_CTL_ADD)
		count_kernel(es, epfd);
	if (op == EPOLL_CTL_ADD)
		error = member_add(es, epfd, fd, ev);
	else if (op == EPOLL_CTL_MOD)
		error = member_change(es, epfd, fd, ev);
	else
		error = member_remove(es, epfd, fd);
	if (!error && twin_any())
		twin_epoll(fd_table[fd].number, epfd, op, ev);
	return error;
}

/* What a child adds is told to its parent, too, so that both need the same set. */
void epoll_before_fork(void)
{
	int saved_errno = errno;

	if (!canal_read_once(&the_channel.client) || channel_gone(&the_channel))
		return;
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		struct epoll_set *es = es_of(fd);

		if (!es || is_shared(es))
			continue;
		count_kernel(es, fd);
		member_foresee(es, fd);
	}
	errno = saved_errno;
}

void epoll_twin(int epfd, int op, int fd, struct epoll_event *ev)
{
	struct epoll_set *es = es_of(epfd);
	int saved_errno = errno;

	if (es && op == EPOLL_CTL_ADD)
		canal_write_once(&es->twins, 1u);
	(void)real(epoll_ctl)(epfd, op, fd, ev);
	errno = saved_errno;
}

/* --- the kernel's part ---------------------------------------------------- */

static int call_kernel(int epfd, struct epoll_event *ev, int max, const struct timespec *timeout,
		       const sigset_t *mask)
{
	static bool missing; /* epoll_pwait2, before Linux 5.11 */
	int64_t ms;

	if (!timeout)
		return real(epoll_pwait)(epfd, ev, max, -1, mask);
	if (!timeout->tv_sec && !timeout->tv_nsec)
		return real(epoll_pwait)(epfd, ev, max, 0, mask);
	if (!missing && !sys_valgrind) { /* which has not heard of it, and says so */
		int n = real(epoll_pwait2)(epfd, ev, max, timeout, mask);

		if (n >= 0 || errno != ENOSYS)
			return n;
		missing = true;
	}
	ms = timeout->tv_sec > 2000000
		     ? INT32_MAX
		     : timeout->tv_sec * 1000 + (timeout->tv_nsec + NS_PER_MS - 1) / NS_PER_MS;
	return real(epoll_pwait)(epfd, ev, max, (int)ms, mask);
}

static int kernel_wait(int epfd, struct epoll_event *ev, int max, const struct timespec *timeout,
		       const sigset_t *mask)
{
	int saved_errno = errno;
	int n = call_kernel(epfd, ev, max, timeout, mask);

	if (n < 0)
		n = -errno;
	errno = saved_errno;
	return n;
}

/* One look, without what is ours. */
static int kernel_look(struct epoll_set *es, int epfd, struct epoll_event *ev, int max)
{
	static const struct timespec now = { 0 };
	int n, kept;

	do {
		n = kernel_wait(epfd, ev, max, &now, NULL);
		kept = n > 0 ? set_strip(es, ev, n) : n;
	} while (n == max && !kept);
	return kept;
}

static bool has_kernel(const struct epoll_set *es)
{
	const struct canal_set *set = set_shared(es);

	/* Other processes add to the kernel's instance unseen. */
	return canal_read_once(&es->kernel) || canal_read_once(&set->flags) & SET_WATCHED ||
	       canal_read_once(&set->refs) > 1;
}

/* Whether the kernel's members are to be looked at before canal's. */
static bool kernel_due(struct epoll_set *es, int max)
{
	uint32_t calls = canal_read_once(&es->calls) + 1;

	canal_write_once(&es->calls, calls);
	if (!has_kernel(es) && !canal_read_once(&es->twins))
		return calls % ALIVE_EVERY == 0;
	return calls % (max < NARROW ? KERNEL_EVERY_NARROW : KERNEL_EVERY) == 0 ||
	       canal_read_once(&set_shared(es)->flags) & SET_WATCHED;
}

/* --- epoll_wait ----------------------------------------------------------- */

/*
 * Both parts, without waiting: the number of events or -errno. @waits: a wait follows
 * if there is none. That looks at the kernel's, too, so that twins alone, of sockets
 * that mostly have nothing there, are not worth a look of their own.
 */
static int look_once(struct epoll_set *es, int epfd, struct epoll_event *ev, int max, bool waits)
{
	bool due = kernel_due(es, max);
	int kernel = 0, canal;

	if (due)
		kernel = kernel_look(es, epfd, ev, max > 1 ? max / 2 : 1);
	if (kernel < 0)
		return kernel;
	tell_end(es);
	canal = set_collect(es, epfd, ev + kernel, max - kernel, SET_LOOK);
	if (kernel || canal || due || !(has_kernel(es) || (es->twins && !waits)))
		return kernel + canal;
	kernel = kernel_look(es, epfd, ev, max);
	if (kernel < 0)
		return kernel;
	/* It may have taken the bell's edge from who sleeps: what rang is for us. */
	return kernel + set_collect(es, epfd, ev + kernel, max - kernel, SET_LOOK);
}

static bool is_pushed(void *arg)
{
	const struct canal_set *set = arg;

	return canal_read_once(&set->ready);
}

/* This thread's sleep in a set, and where on its stack; where 0: none. */
struct asleep {
	uintptr_t where;
	uint32_t number, serial;
};

static __thread struct asleep asleep __attribute__((tls_model("initial-exec")));

/* Who is here now is not on top of that sleep, if there was one: it was left. */
static void asleep_check(const void *here)
{
	struct asleep was = asleep;

	if (likely(!was.where) || !wait_is_left(was.where, here))
		return;
	asleep.where = 0;
	set_sleeper_gone(was.number, was.serial);
}

void epoll_thread_ends(void)
{
	struct asleep was = asleep;

	asleep.where = 0;
	if (was.where && the_channel.region && !channel_gone(&the_channel))
		set_sleeper_gone(was.number, was.serial);
}

/* Not inlined: in the frame of its caller it would lie anywhere, above asleep_check()'s too. */
static __attribute__((noinline)) int kernel_sleep(struct epoll_set *es, int epfd,
						  struct epoll_event *ev, int max, int64_t deadline,
						  const sigset_t *mask)
{
	const struct asleep outer = asleep; /* of whom this handler interrupted */
	struct timespec ts;
	int n;

	asleep = (struct asleep){ .where = (uintptr_t)&ts,
				  .number = canal_read_once(&es->number),
				  .serial = canal_read_once(&set_shared(es)->serial) };
	n = kernel_wait(epfd, ev, max, time_left(deadline, &ts), mask);
	asleep = outer;
	return n;
}

/**
 * sleep_once() - sleep until something may be ready
 * @ret_again: set when the wake-up was for nothing
 *
 * Return: events, 0 at the deadline, or -errno. Events are told in preference to a
 * signal that came with them.
 */
static int sleep_once(struct epoll_set *es, int epfd, struct epoll_event *ev, int max,
		      int64_t deadline, const sigset_t *mask, bool *ret_again)
{
	uint32_t number = canal_read_once(&es->number);
	int canal, n, kernel;

	asleep_check(&n);
	wait_hear_exit();
	tell_end(es);
	canal = set_collect(es, epfd, ev, max, SET_BEFORE_SLEEP);
	if (canal)
		return canal;
	/* those become members of the kernel's instance */
	if (unlikely(canal_read_once(&handover_met)))
		handover_sweep();
	wait_trim(&the_channel);
	n = kernel_sleep(es, epfd, ev, max, deadline, mask);
	kernel = n > 0 ? set_strip(es, ev, n) : 0;
	if (canal_read_once(&es->number) != number)
		return kernel ? kernel : -EBADF; /* closed under us */
	tell_end(es);
	canal = set_collect(es, epfd, ev + kernel, max - kernel, SET_AFTER_SLEEP);
	*ret_again = n > 0;
	return kernel + canal ? kernel + canal : n < 0 ? n : 0;
}

static __attribute__((noinline)) int wait_both(struct epoll_set *es, int epfd,
					       struct epoll_event *ev, int max, int64_t deadline,
					       const sigset_t *mask)
{
	bool again = false;
	int n;

	if (wait_spin(&the_channel, is_pushed, set_shared(es))) {
		n = set_collect(es, epfd, ev, max, SET_LOOK);
		if (n)
			return n;
	}
	do {
		again = false;
		n = sleep_once(es, epfd, ev, max, deadline, mask, &again);
	} while (!n && again);
	return n;
}

/*
 * A bell may ring late in a set that is watched, for what nobody has to hear of: then
 * the kernel says no more once that set was looked at. Who is told once is not asked twice.
 */
static int nests_wait(const struct epoll_set *es, int epfd, struct epoll_event *ev, int max,
		      const struct timespec *timeout, const sigset_t *mask)
{
	static const struct timespec now = { 0 };
	int64_t deadline = deadline_of(timeout);
	struct timespec ts;
	int n;

	do {
		n = kernel_wait(epfd, ev, max, time_left(deadline, &ts), mask);
		if (n <= 0 || es->edges)
			return n;
		nests_refresh();
		n = kernel_wait(epfd, ev, max, &now, NULL);
	} while (!n && !is_shared(es));
	return n;
}

static int unshared_wait(const struct epoll_set *es, int epfd, struct epoll_event *ev, int max,
			 const struct timespec *timeout, const sigset_t *mask)
{
	return es && es->nests && timeout_is_valid(timeout)
		       ? nests_wait(es, epfd, ev, max, timeout, mask)
		       : kernel_wait(epfd, ev, max, timeout, mask);
}

/*
 * A wait before the set has its part in the region: no bell is for it. Who makes that
 * part, as another thread adds the first canal socket, wakes those who are here.
 *
 * Return: as epoll_wait(), or 0 before its time with a set that is shared now.
 */
static int early_wait(struct epoll_set *es, int epfd, struct epoll_event *ev, int max,
		      const struct timespec *timeout, const sigset_t *mask)
{
	int n = 0;

	/* E3 store-load: counted before the look at the number; pairs with set_make() */
	(void)canal_fetch_add(&es->early, 1u);
	if (!is_shared(es))
		n = unshared_wait(es, epfd, ev, max, timeout, mask);
	if (canal_read_once(&es->early)) /* not closed under us */
		(void)canal_fetch_add(&es->early, -1u);
	if (likely(!is_shared(es)))
		return n;
	set_rouse(es);
	return n > 0 ? set_strip(es, ev, n) : n;
}

int epoll_collect(int epfd, struct epoll_event *ev, int max, const struct timespec *timeout,
		  const sigset_t *mask)
{
	struct epoll_set *es = es_of(epfd);
	bool waits = !timeout || timeout->tv_sec || timeout->tv_nsec;
	struct timespec left;
	int64_t deadline;
	int n;

	if (unlikely(es && es->nests))
		nests_refresh();
	if (!is_shared(es)) {
		if (!es || !waits || !timeout_is_valid(timeout))
			return unshared_wait(es, epfd, ev, max, timeout, mask);
		deadline = deadline_of(timeout);
		n = early_wait(es, epfd, ev, max, timeout, mask);
		if (n || !is_shared(es))
			return n;
		timeout = time_left(deadline, &left);
		waits = !timeout || timeout->tv_sec || timeout->tv_nsec;
	}
	if (max <= 0 || (size_t)max > INT_MAX / sizeof(*ev) || !timeout_is_valid(timeout))
		return -EINVAL;
	if (USER_ONCE(user_writable, ev, sizeof(*ev)))
		return -EFAULT;
	if (set_is_foreign(es)) {
		n = member_adopt(es, epfd);
		if (n < 0)
			return n;
	}
	if (unlikely(es->polled) && epoll_polls_over())
		set_polls_over(es);
	wait_arrival_for(&the_channel, waits);
	for (;;) {
		n = look_once(es, epfd, ev, max, waits);
		if (likely(!canal_read_once(&handover_met)))
			break;
		handover_sweep(); /* those are the kernel's members from now on */
		if (n)
			break;
	}
	if (n || !waits)
		return n;
	return wait_both(es, epfd, ev, max, deadline_of(timeout), mask);
}

/* --- watched by others ---------------------------------------------------- */

bool epoll_is_ours(int fd)
{
	return is_shared(es_of(fd));
}

/* Calls of poll and select with an instance that has no part in the region; too high for
 * good if one was cancelled. */
static uint32_t early_polls;
__thread bool epoll_watching; /* this thread is in one */

bool epoll_watched(int fd)
{
	struct epoll_set *es = es_of(fd);

	if (es && !is_shared(es)) {
		if (!epoll_watching)
			(void)canal_fetch_add(&early_polls, 1u);
		epoll_watching = true;
		/* E3 store-load: count and mark before the look at the number; pairs with
		 * set_make() */
		canal_store_fence(&es->polled, true);
	}
	return is_shared(es);
}

void epoll_unwatch(void)
{
	epoll_watching = false;
	(void)canal_fetch_add(&early_polls, -1u);
}

bool epoll_polls_over(void)
{
	return !canal_read_once(&early_polls);
}

void epoll_polls_after_fork(void)
{
	canal_write_once(&early_polls, 0u);
	epoll_watching = false;
}

bool epoll_peek(int epfd, enum set_when when)
{
	struct epoll_set *es = es_of(epfd);

	if (!is_shared(es) || (set_is_foreign(es) && member_adopt(es, epfd) < 0))
		return false;
	tell_end(es);
	return set_peek(es, epfd, when);
}

void epoll_settle(int epfd)
{
	struct epoll_set *es = es_of(epfd);

	if (is_shared(es))
		set_settle(es);
}
