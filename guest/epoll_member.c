/* SPDX-License-Identifier: MIT */
/*
 * Members: which sockets are in which sets, as this process knows it.
 *
 * Purpose: find the subscription of a socket in a set at once; leave sets
 * without waiting for the host. Linux keys members by descriptor and open file,
 * and so does this: by number and socket, chained by socket.
 *
 * Invariants
 *  1. A subscription goes to quarantine with the position of its UNSUBSCRIBE. It
 *     is used again only when the host has passed that, and no list holds it.
 *  2. Members are copied by fork, and what they name is not: a member counts
 *     only if its subscription in the region still says the same. A child takes
 *     no part in a set of its parent before it uses it (member_adopt()), so that
 *     a child that only closes, or execs, leaves the parent's set alone.
 *  3. Quarantine belongs to the process that posted, known by its client number.
 *  4. SUBSCRIBE and UNSUBSCRIBE of one subscription are posted in order: under
 *     table_lock.
 *  5. A process that just ends leaves its sets behind, and subscriptions in
 *     them and in quarantine. The host marks such sets; who needs a set takes
 *     them over first (bury()).
 *  6. In a set that other processes use, a socket that they may have, too, stays
 *     a member when it is closed here, until it is gone everywhere: until its
 *     number has a new generation (parted()).
 *
 * Ownership and threads: everything here is private to the process, under
 * table_lock. epoll_wait does not come here.
 *
 * Failure: -ENOSPC when the region has no subscription, set or slot left, as
 * Linux beyond max_user_watches; -ENOMEM.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "epoll_set.h"
#include "lock.h"

#define SETS_MAX 4096 /* not more than fdtable.c counts */
#define SLAB_LEN 65536
/* Quarantine longer than this is looked through in earnest. */
#define QUARANTINE_LONG 64
/* A quarantined set that was taken over, with whatever subscriptions it has. */
#define SUB_ALL (CANAL_NONE - 1)

static uint32_t table_lock;
static struct epoll_set sets[SETS_MAX];
static uint32_t sets_high;      /* those from here on were never used */
static struct member **by_sock; /* channel.sock_count chains */
static struct member *free_members;
static struct member *jail_first, *jail_last; /* quarantine, oldest first */
static uint32_t jail_count;
static struct member *parted_first, *parted_last; /* see parted() */

void epoll_after_fork(void)
{
	canal_write_once(&table_lock, 0u);
	epoll_polls_after_fork();
	for (struct epoll_set *es = NULL; (es = member_set_next(es));) {
		canal_write_once(&es->early, 0u); /* threads that are not here */
		es->polled = false;
	}
}

static void fork_handler_set(void)
{
	(void)pthread_atfork(NULL, NULL, epoll_after_fork);
}

/* --- memory --------------------------------------------------------------- */

static void *pages(size_t len)
{
	int saved_errno = errno;
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	errno = saved_errno;
	return p == MAP_FAILED ? NULL : p;
}

static struct member *member_new(void)
{
	struct member *m = free_members;

	if (!m) {
		m = pages(SLAB_LEN);
		for (size_t i = 0; m && i < SLAB_LEN / sizeof(*m) - 1; i++)
			m[i].next = &m[i + 1];
	}
	if (m)
		free_members = m->next;
	return m;
}

static void member_free(struct member *m)
{
	m->next = free_members;
	free_members = m;
}

static bool table_make(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	if (by_sock)
		return true;
	(void)pthread_once(&once, fork_handler_set);
	by_sock = pages(the_channel.sock_count * sizeof(*by_sock));
	return by_sock;
}

static void sets_high_raise(uint32_t high)
{
	uint32_t seen = canal_read_once(&sets_high);

	while (seen < high && !canal_cas(&sets_high, seen, high))
		seen = canal_read_once(&sets_high);
}

struct epoll_set *member_set_take(uint32_t *ret_number)
{
	for (uint32_t i = 0; i < SETS_MAX; i++) {
		struct epoll_set *es = &sets[i];

		if (canal_read_once(&es->used) || !canal_cas(&es->used, 0u, 1u))
			continue;
		*es = (struct epoll_set){
			.number = CANAL_NONE,
			.used = 1,
			.bell_fd = -1,
			.nudge_fd = -1,
		};
		sets_high_raise(i + 1);
		*ret_number = i;
		return es;
	}
	return NULL;
}

struct epoll_set *member_set_next(struct epoll_set *es)
{
	for (es = es ? es + 1 : sets; es < sets + canal_read_once(&sets_high); es++)
		if (canal_read_once(&es->used))
			return es;
	return NULL;
}

/* Its number stays: a thread may still sleep in an epoll_wait on it. */
void member_set_give(struct epoll_set *es)
{
	canal_store_release(&es->used, 0u);
}

/* --- the table ------------------------------------------------------------ */

static bool member_holds(const struct member *m)
{
	const struct canal_sub *sub = &the_channel.sub[m->sub];

	return sub->set == m->es->number && sub->sock == m->sock && sub->fd == m->fd &&
	       sub->generation == m->generation && !(canal_read_once(&sub->flags) & SUB_DEAD);
}

static void member_insert(struct member *m)
{
	m->next = by_sock[m->sock];
	by_sock[m->sock] = m;
	m->es_prev = NULL;
	m->es_next = m->es->members;
	if (m->es_next)
		m->es_next->es_prev = m;
	m->es->members = m;
}

static void member_extract(struct member *m)
{
	struct member **at = &by_sock[m->sock];

	while (*at != m)
		at = &(*at)->next;
	*at = m->next;
	if (m->es_next)
		m->es_next->es_prev = m->es_prev;
	if (m->es_prev)
		m->es_prev->es_next = m->es_next;
	else
		m->es->members = m->es_next;
}

/* One that another process has made. */
static struct member *member_learn(struct epoll_set *es, uint32_t sock, int fd)
{
	uint32_t n = es->number == CANAL_NONE ? CANAL_NONE : set_find(es, sock, fd);
	struct member *m = n == CANAL_NONE || !table_make() ? NULL : member_new();
	const struct canal_sub *sub;

	if (!m)
		return NULL;
	sub = &the_channel.sub[n];
	m->sub = n;
	m->sock = sock;
	m->fd = fd;
	m->es = es;
	m->events = sub->events;
	m->data = sub->data;
	m->generation = sub->generation;
	member_insert(m);
	return m;
}

static struct member *member_find(struct epoll_set *es, uint32_t sock, int fd)
{
	struct member *m = by_sock ? by_sock[sock] : NULL;

	while (m && (m->es != es || m->fd != fd))
		m = m->next;
	if (!m)
		return member_learn(es, sock, fd);
	if (member_holds(m))
		return m;
	/* Another process has removed it, and perhaps added it again. */
	member_extract(m);
	member_free(m);
	return member_learn(es, sock, fd);
}

/* --- quarantine ----------------------------------------------------------- */

/* @m holds a subscription, or the set itself with sub = CANAL_NONE or SUB_ALL. */
static void jail(struct member *m, uint32_t set, uint64_t pos)
{
	m->set = set;
	m->client = the_channel.client;
	m->pos = pos;
	m->next = NULL;
	if (jail_first)
		jail_last->next = m;
	else
		jail_first = m;
	jail_last = m;
	jail_count++;
}

static bool jail_served(const struct member *m)
{
	if (!channel_passed(&the_channel, m->pos))
		return false;
	if (m->sub >= SUB_ALL || set_sub_settled(m->set, m->sub))
		return true;
	if (jail_count > QUARANTINE_LONG)
		set_sweep(m->set);
	return set_sub_settled(m->set, m->sub);
}

static void sub_give(uint32_t n)
{
	canal_write_once(&the_channel.sub[n].set, CANAL_NONE);
	canal_pool_give(&the_channel.sub_pool, n);
}

static uint32_t sub_high(void)
{
	uint32_t used = canal_read_once(the_channel.sub_pool.used);

	return used < the_channel.sub_pool.count ? used : the_channel.sub_pool.count;
}

/* The oldest one's subscription, if it may be used again. */
static uint32_t jail_release(void)
{
	while (jail_first) {
		struct member *m = jail_first;
		bool inherited = m->client != the_channel.client;
		uint32_t sub = m->sub, set = m->set;

		if (!inherited && !jail_served(m))
			return CANAL_NONE;
		jail_first = m->next;
		jail_count--;
		member_free(m);
		if (inherited)
			continue;
		if (sub < SUB_ALL)
			return sub;
		for (uint32_t n = 0; sub == SUB_ALL && n < sub_high(); n++)
			if (set_holds(set, n))
				sub_give(n);
		set_free(set);
	}
	return CANAL_NONE;
}

static uint64_t unsubscribe(uint32_t sub, uint32_t sock)
{
	struct canal_inr inr = {
		.op = CANAL_INR_UNSUBSCRIBE,
		.sock = sock,
		.slot = CANAL_NONE,
		.u.arg = { sub },
	};
	uint64_t pos;

	/* With canald gone it stays in quarantine for ever. */
	return channel_post_pos(&the_channel, &inr, &pos) < 0 ? UINT64_MAX / 2 : pos;
}

/* False, and @m is free: another process had it leave. */
static bool leave_set(struct member *m)
{
	bool ours = set_unlink(m->es, m);

	if (ours)
		jail(m, m->es->number, unsubscribe(m->sub, m->sock));
	else
		member_free(m);
	return ours;
}

/* Our socket is closed, but the set and perhaps the socket are others' too. */
static void part(struct member *m)
{
	m->next = NULL;
	if (parted_first)
		parted_last->next = m;
	else
		parted_first = m;
	parted_last = m;
}

static bool parted_is_gone(const struct member *m)
{
	return canal_read_once(&channel_sock(&the_channel, m->sock)->generation) != m->generation;
}

/* One look at the one that was looked at longest ago. */
static void parted(void)
{
	struct member *m = parted_first;

	if (!m)
		return;
	parted_first = m->next;
	if (set_is_foreign(m->es) || m->set != m->es->serial)
		member_free(m); /* our parent's, or the set is gone */
	else if (!parted_is_gone(m))
		part(m);
	else
		(void)leave_set(m);
}

/* Takes over a set that its processes left behind when they ended. */
static void bury(uint32_t set)
{
	struct member *m = member_new();
	uint64_t pos = 0;

	if (!m)
		return;
	if (!set_inherit(set)) {
		member_free(m);
		return;
	}
	for (uint32_t n = 0; n < sub_high(); n++)
		if (set_holds(set, n))
			pos = unsubscribe(n, the_channel.sub[n].sock);
	m->sub = SUB_ALL;
	jail(m, set, pos);
}

static void bury_all(void)
{
	for (uint32_t n = 0, high = set_high(); n < high; n++)
		if (canal_read_once(&the_channel.set[n].owner) == CANAL_NONE)
			bury(n);
}

static uint32_t sub_take(void)
{
	uint32_t n, spare;

	parted();
	parted(); /* twice: the list gets shorter although each close adds one */
	n = jail_release();
	spare = jail_count > QUARANTINE_LONG ? jail_release() : CANAL_NONE;
	if (spare != CANAL_NONE)
		sub_give(spare);
	if (n == CANAL_NONE)
		n = canal_pool_take(&the_channel.sub_pool);
	if (n == CANAL_NONE)
		bury_all();
	return n;
}

/* --- adding and removing -------------------------------------------------- */

/* Subscribes @m, which is complete but for the subscription. */
static int enter_set(struct member *m, int epfd)
{
	struct channel *ch = &the_channel;
	uint32_t n = sub_take();
	struct canal_inr inr = {
		.op = CANAL_INR_SUBSCRIBE,
		.sock = m->sock,
		.slot = CANAL_NONE,
		/* All events: a change later needs no INR. */
		.u.arg = { n, m->es->number,
			   EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET |
				   (m->events & EPOLLEXCLUSIVE) },
	};
	struct canal_sub *sub;
	bool nudge;

	if (n == CANAL_NONE)
		return -ENOSPC;
	m->sub = n;
	sub = &ch->sub[n];
	inr.u.arg[3] = canal_load_acquire(&channel_sock(ch, m->sock)->state) ==
		       CANAL_SOCK_CONNECTED;
	sub->sock = m->sock;
	sub->fd = m->fd;
	sub->events = m->events;
	sub->data = m->data;
	m->generation = canal_read_once(&channel_sock(ch, m->sock)->generation);
	sub->generation = m->generation;
	member_insert(m);
	nudge = set_link(m->es, n);
	(void)channel_post(ch, &inr); /* canald gone: the set tells */
	if (nudge)
		set_nudge(m->es, epfd);
	return 0;
}

static int make(struct epoll_set *es, int epfd)
{
	int error = set_make(es, epfd);
	uint32_t n;

	if (error && error != -ENOSPC)
		return error;
	bury_all(); /* not before: only now has the process joined */
	if (!error)
		return 0;
	while ((n = jail_release()) != CANAL_NONE)
		sub_give(n);
	return set_make(es, epfd);
}

static int add(struct epoll_set *es, int epfd, int fd, const struct epoll_event *ev)
{
	uint32_t sock = fd_table[fd].number;
	struct member *m;
	int error;

	if (!table_make())
		return -ENOMEM;
	if (member_find(es, sock, fd))
		return -EEXIST;
	error = es->number == CANAL_NONE ? make(es, epfd) : 0;
	if (error < 0)
		return error;
	m = member_new();
	if (!m)
		return -ENOMEM;
	m->sock = sock;
	m->fd = fd;
	m->es = es;
	m->events = ev->events | EPOLLERR | EPOLLHUP;
	m->data = ev->data.u64;
	error = enter_set(m, epfd);
	if (error < 0)
		member_free(m);
	return error;
}

int member_add(struct epoll_set *es, int epfd, int fd, const struct epoll_event *ev)
{
	int error;

	lock_take(&table_lock);
	error = add(es, epfd, fd, ev);
	lock_drop(&table_lock);
	return error;
}

int member_change(struct epoll_set *es, int epfd, int fd, const struct epoll_event *ev)
{
	struct member *m;
	bool nudge = false;
	int error = -ENOENT;

	lock_take(&table_lock);
	m = member_find(es, fd_table[fd].number, fd);
	if (m && ((m->events | ev->events) & EPOLLEXCLUSIVE)) {
		error = -EINVAL;
	} else if (m) {
		m->events = ev->events | EPOLLERR | EPOLLHUP;
		m->data = ev->data.u64;
		nudge = set_change(es, m->sub, m->events, m->data);
		error = 0;
	}
	lock_drop(&table_lock);
	if (nudge)
		set_nudge(es, epfd);
	return error;
}

int member_remove(struct epoll_set *es, int epfd, int fd)
{
	struct member *m;

	(void)epfd;
	lock_take(&table_lock);
	m = member_find(es, fd_table[fd].number, fd);
	if (m) {
		member_extract(m);
		(void)leave_set(m);
	}
	lock_drop(&table_lock);
	return m ? 0 : -ENOENT;
}

/* Out of one set, because the socket is closed or the set is dropped. False: it stays, as
 * others may have it. */
static bool forget(struct member *m)
{
	const struct epoll_set *es = m->es;

	member_extract(m);
	if (set_is_foreign(es) || !member_holds(m)) {
		member_free(m);
	} else if (canal_read_once(&set_shared(es)->refs) != 1 && !fd_is_private(m->sock)) {
		m->set = es->serial;
		part(m);
		return false;
	} else {
		(void)leave_set(m);
	}
	return true;
}

/* Of one that was to tell once, and has, nothing. */
static uint32_t wanted(const struct member *m)
{
	uint32_t now = canal_read_once(&the_channel.sub[m->sub].events);

	return now & EVENT_BITS ? m->events : m->events & ~EVENT_BITS;
}

uint32_t member_list(uint32_t sock, struct membership *ret_list, uint32_t max)
{
	uint32_t count = 0;

	if (!by_sock || sock >= the_channel.sock_count || !lock_enter(&table_lock))
		return 0;
	for (struct member *m = by_sock[sock]; m && count < max; m = m->next)
		if (!set_is_foreign(m->es) && member_holds(m))
			ret_list[count++] = (struct membership){ m->es, m->fd, wanted(m), m->data };
	lock_leave(&table_lock);
	return count;
}

bool member_forget(uint32_t sock)
{
	struct member *m, *next;
	bool stays = false;

	if (!by_sock || sock >= the_channel.sock_count || !by_sock[sock])
		return false;
	/* In a handler on top of a change: the host will drop it, we forget later. */
	if (!lock_enter(&table_lock))
		return false;
	for (m = by_sock[sock]; m; m = next) {
		next = m->next;
		stays |= !forget(m);
	}
	lock_leave(&table_lock);
	return stays;
}

/* --- fork and the end ----------------------------------------------------- */

/*
 * A set is used by its owner's descendants only, and so the parent would not hear
 * of what a child adds to a set that the child has made. Without room it does not.
 */
void member_foresee(struct epoll_set *es, int epfd)
{
	if (!lock_enter(&table_lock))
		return;
	if (es->number == CANAL_NONE)
		(void)set_make(es, epfd);
	lock_leave(&table_lock);
}

/* The parent has dropped the set in the region: the child makes its own. */
static int set_rebuild(struct epoll_set *es, int epfd)
{
	struct member *list = es->members, *m;
	int saved_errno = errno, error;

	(void)real(epoll_ctl)(epfd, EPOLL_CTL_DEL, es->bell_fd, NULL);
	errno = saved_errno;
	fd_close_own(es->bell_fd);
	for (m = list; m; m = m->es_next)
		member_extract(m);
	es->number = CANAL_NONE;
	error = make(es, epfd);
	while (list) {
		m = list;
		list = m->es_next;
		error = error ? error : enter_set(m, epfd);
		if (error)
			member_free(m);
	}
	return error;
}

int member_adopt(struct epoll_set *es, int epfd)
{
	struct channel *ch;
	int error = channel_get(&ch);

	if (error == -EPIPE) /* canald is gone: its sockets tell */
		error = 0;
	if (error < 0)
		return error;
	lock_take(&table_lock);
	if (set_is_foreign(es)) {
		if (set_share(es))
			es->client = the_channel.client;
		else
			error = set_rebuild(es, epfd);
	}
	lock_drop(&table_lock);
	return error;
}

/* Under the table's lock, when no process uses the set any more. */
static void set_end(struct epoll_set *es)
{
	struct canal_set *set = set_shared(es);
	struct member *m = member_new();
	uint64_t pos = 0;

	/* Without memory the region loses the rest until the channel ends. */
	for (; m && set->all != CANAL_NONE; m = member_new()) {
		m->es = es;
		m->sub = set->all;
		m->sock = the_channel.sub[m->sub].sock;
		m->generation = the_channel.sub[m->sub].generation;
		if (!leave_set(m))
			return; /* not ours to end: the lists are no good */
		pos = m->pos;
	}
	if (!m)
		return;
	set_sweep(es->number);
	m->sub = CANAL_NONE;
	jail(m, es->number, pos);
}

/* The last descriptor of an epoll instance is closed in this process. */
void member_drop_all(struct epoll_set *es)
{
	if (!lock_enter(&table_lock))
		return;
	while (es->members) {
		struct member *m = es->members;

		member_extract(m);
		member_free(m);
	}
	if (es->number != CANAL_NONE && !set_is_foreign(es) && set_leave(es))
		set_end(es);
	lock_leave(&table_lock);
	if (es->bell_fd >= 0)
		fd_close_own(es->bell_fd);
	if (es->nudge_fd >= 0)
		fd_close_own(es->nudge_fd);
	member_set_give(es);
}
