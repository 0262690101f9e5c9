/* SPDX-License-Identifier: MIT */
/*
 * Sets: the part of an epoll instance that lies in the region.
 *
 * Purpose: who is ready, in which order, and who must be woken for it. The host
 * pushes subscriptions (docs/wire.md, section 7); here they are taken, looked at
 * and listed. A fork shares all of it.
 *
 * Invariants
 *  1. A subscription that is not in the ready list and not in set.ready has
 *     pending 0, or it is muted and nobody wants to hear of it. So the next push
 *     tells of it: to leave the ready list is to clear pending first, and to look
 *     at the socket afterwards (P1).
 *  2. Only the owner of pending == 1 may clear it: the host's push passes it to
 *     whoever takes it from set.ready, SUB_MUTED says that the guest has it.
 *  3. When a thread sleeps in the set, either armed is up, or a wake-up (a byte
 *     in the bell, a count in the eventfd) is on its way that nobody has seen
 *     yet, or the thread that saw it has not left set_collect() yet.
 *
 * Ownership and threads: all lists, flags and `sleepers` under set.lock, by any
 * thread of any process that has the set. Only one set is ever locked.
 *
 * Failure: nothing here fails; who must be woken and cannot be is told of in the log
 * (set_nudge(), epoll_life.c).
 */
#include "epoll_set.h"

static struct canal_sub *sub_at(uint32_t n)
{
	return &the_channel.sub[n];
}

static uint32_t number_of(const struct canal_set *set)
{
	return (uint32_t)(set - the_channel.set);
}

static uint32_t *armed_of(const struct canal_set *set)
{
	return &the_channel.wait[set->slot].armed;
}

/* --- lists, under the set's lock ------------------------------------------ */

static void ready_append(struct canal_set *set, uint32_t n)
{
	sub_at(n)->ready_next = CANAL_NONE;
	sub_at(n)->flags |= SUB_LISTED;
	if (set->first == CANAL_NONE)
		set->first = n;
	else
		sub_at(set->last)->ready_next = n;
	set->last = n;
}

static uint32_t ready_pop(struct canal_set *set)
{
	uint32_t n = set->first;

	set->first = sub_at(n)->ready_next;
	sub_at(n)->flags &= ~SUB_LISTED;
	return n;
}

static void all_insert(struct canal_set *set, uint32_t n)
{
	struct canal_sub *sub = sub_at(n);

	sub->all_prev = CANAL_NONE;
	sub->all_next = set->all;
	if (set->all != CANAL_NONE)
		sub_at(set->all)->all_prev = n;
	set->all = n;
	set->members++;
}

static void all_remove(struct canal_set *set, uint32_t n)
{
	struct canal_sub *sub = sub_at(n);

	if (sub->all_prev == CANAL_NONE)
		set->all = sub->all_next;
	else
		sub_at(sub->all_prev)->all_next = sub->all_next;
	if (sub->all_next != CANAL_NONE)
		sub_at(sub->all_next)->all_prev = sub->all_prev;
	set->members--;
}

/* --- pushes --------------------------------------------------------------- */

static bool is_disabled(const struct canal_sub *sub)
{
	return !(sub->events & EVENT_BITS);
}

/* From here on the host may push it again. */
static void unmute(struct canal_sub *sub)
{
	if (!(sub->flags & SUB_MUTED))
		return;
	sub->flags &= ~SUB_MUTED;
	/* P1 full fence: pending before the look at the socket that follows */
	(void)canal_xchg(&sub->pending, 0u);
}

/* Nobody wants to hear of it. If the host was faster, its push will be muted. */
static void mute(struct canal_sub *sub)
{
	if (!(sub->flags & SUB_MUTED) && !canal_xchg(&sub->pending, 1u))
		sub->flags |= SUB_MUTED;
}

/* Takes over the pending of a push; true if it is to be listed. */
static bool push_accept(struct canal_set *set, struct canal_sub *sub)
{
	bool list;

	if (sub->set != number_of(set)) {
		(void)canal_xchg(&sub->pending, 0u);
		return false;
	}
	list = !(sub->flags & (SUB_DEAD | SUB_LISTED)) && !is_disabled(sub);
	/* E1 release: we are done with it; pairs with set_sub_settled() */
	canal_store_release(&sub->flags, sub->flags | SUB_MUTED);
	return list;
}

/* Moves what the host pushed, oldest first, to the end of the ready list. */
static void pushes_take(struct canal_set *set)
{
	uint32_t chain = CANAL_NONE, next, n;

	if (!canal_read_once(&set->ready))
		return;
	/* L1 acquire: the links before the head; pairs with the host's push */
	n = canal_xchg(&set->ready, 0u);
	for (; n && n <= the_channel.sub_pool.count; n = next) {
		next = canal_read_once(&sub_at(n - 1)->next);
		if (!push_accept(set, sub_at(n - 1)))
			continue;
		sub_at(n - 1)->ready_next = chain;
		chain = n - 1;
	}
	for (; chain != CANAL_NONE; chain = next) {
		next = sub_at(chain)->ready_next;
		ready_append(set, chain);
	}
}

/* --- looking -------------------------------------------------------------- */

/* What else makes an edge: ends, connects, and the events that were seen. */
static uint32_t seen_state(const struct canal_sock *s, uint32_t got)
{
	return (canal_read_once(&s->rx.closed) & 3) | (canal_read_once(&s->shut) & 3) << 2 |
	       (canal_read_once(&s->connects) & 0xff) << 4 | (got & 0xffff) << 12;
}

/**
 * look_edge() - EPOLLET: what to report, 0 if nothing happened since the last look
 *
 * A push alone is no edge: the host pushes a new subscription once in any case,
 * and one push may be left over from what an earlier look has seen already.
 */
static uint32_t look_edge(struct canal_sub *sub, struct canal_sock *s)
{
	uint32_t in, out, state, got;
	bool edge;

	unmute(sub);
	in = (uint32_t)canal_load_acquire(&s->rx.tail);
	out = (uint32_t)canal_load_acquire(&s->tx.head);
	got = ready_events(s, sub->events);
	state = seen_state(s, got) << SUB_SEEN_SHIFT;
	edge = (sub->flags & SUB_FORCED) || (got & (EPOLLERR | EPOLLHUP)) || in != sub->seen_in ||
	       out != sub->seen_out || state != (sub->flags & ~15u);
	sub->seen_in = in;
	sub->seen_out = out;
	sub->flags = (sub->flags & 15u) | state;
	return edge ? got : 0;
}

static uint32_t look_level(struct canal_sub *sub, struct canal_sock *s)
{
	uint32_t got = ready_events(s, sub->events);

	if (got || !(sub->flags & SUB_MUTED))
		return got;
	unmute(sub);
	return ready_events(s, sub->events);
}

static uint32_t look(struct canal_sub *sub)
{
	struct canal_sock *s = channel_sock(&the_channel, sub->sock);

	if ((sub->flags & SUB_DEAD) || is_disabled(sub) ||
	    canal_read_once(&s->generation) != sub->generation)
		return 0;
	return sub->events & EPOLLET ? look_edge(sub, s) : look_level(sub, s);
}

/* After its event was stored: where the subscription goes. */
static void reported(struct canal_set *set, uint32_t n)
{
	struct canal_sub *sub = sub_at(n);

	sub->flags &= ~SUB_FORCED;
	if (sub->events & EPOLLONESHOT) {
		sub->events &= ~EVENT_BITS;
		mute(sub);
	} else if (!(sub->events & EPOLLET)) {
		ready_append(set, n);
		/* Sleepers must hear of what comes while we are busy with this. */
		if (set->sleepers)
			unmute(sub);
	}
}

/* Goes once over the ready list. *ret_more: there was no room for all. */
static int ready_walk(struct canal_set *set, struct epoll_event *ev, int max, bool *ret_more)
{
	uint32_t stop = set->last, n = CANAL_NONE;
	int count = 0;

	while (set->first != CANAL_NONE && n != stop && count < max) {
		uint32_t got;

		n = ready_pop(set);
		got = look(sub_at(n));
		if (!got)
			continue;
		ev[count].events = got;
		ev[count++].data.u64 = sub_at(n)->data;
		reported(set, n);
	}
	*ret_more = set->first != CANAL_NONE && n != stop;
	return count;
}

/* True if the first of the list is ready; removes those before it that are not. */
static bool ready_first(struct canal_set *set)
{
	while (set->first != CANAL_NONE) {
		struct canal_sub *sub = sub_at(set->first);

		if (look(sub)) {
			if (sub->events & EPOLLET)
				sub->flags |= SUB_FORCED;
			return true;
		}
		(void)ready_pop(set);
	}
	return false;
}

/* --- waking --------------------------------------------------------------- */

/**
 * pass_on() - before the lock is dropped: what others need who wait here
 * @more: something is ready that the caller does not take
 *
 * Whoever was woken had taken the one armed flag of all sleepers: it is raised
 * again for those that sleep on.
 *
 * Return: true if the caller must nudge.
 */
static bool pass_on(struct canal_set *set, bool more)
{
	uint32_t *armed = armed_of(set);

	if (!set->sleepers && !(set->flags & SET_WATCHED)) {
		if (canal_read_once(armed))
			canal_disarm(armed);
		return false;
	}
	if (!canal_read_once(armed))
		canal_arm(armed); /* S1: before the look at set->ready */
	return more || canal_read_once(&set->ready) ||
	       ((set->flags & SET_WATCHED) && set->first != CANAL_NONE);
}

/* --- collecting ----------------------------------------------------------- */

static void sleep_count(struct canal_set *set, enum set_when when)
{
	if (when == SET_AFTER_SLEEP && set->sleepers)
		set->sleepers--;
	if (when != SET_BEFORE_SLEEP)
		return;
	set->sleepers++;
	canal_arm(armed_of(set)); /* S1: before the look at set->ready */
}

int set_collect(struct epoll_set *es, int epfd, struct epoll_event *ev, int max, enum set_when when)
{
	struct canal_set *set = set_shared(es);
	bool more, nudge = false;
	int count;

	lock_take(&set->lock);
	sleep_count(set, when);
	pushes_take(set);
	count = ready_walk(set, ev, max, &more);
	if (count && when == SET_BEFORE_SLEEP)
		set->sleepers--;
	/* Level-triggered ones stay: another thread may serve them, as in Linux. */
	if (count && set->sleepers && set->first != CANAL_NONE)
		more = true;
	if (count || when != SET_BEFORE_SLEEP)
		nudge = pass_on(set, more);
	lock_drop(&set->lock);
	if (nudge)
		set_nudge(es, epfd);
	return count;
}

void set_sleeper_gone(uint32_t number, uint32_t serial)
{
	struct canal_set *set = &the_channel.set[number];

	lock_take(&set->lock);
	if (set->serial == serial && set->sleepers)
		set->sleepers--;
	lock_drop(&set->lock);
}

bool set_peek(struct epoll_set *es, int epfd, enum set_when when)
{
	struct canal_set *set = set_shared(es);
	bool ready, nudge = false;

	lock_take(&set->lock);
	sleep_count(set, when);
	pushes_take(set);
	ready = ready_first(set);
	if (when != SET_BEFORE_SLEEP)
		nudge = pass_on(set, ready && set->sleepers);
	lock_drop(&set->lock);
	if (nudge)
		set_nudge(es, epfd);
	return ready;
}

void set_nest(struct epoll_set *es, int epfd, uint32_t flag)
{
	struct canal_set *set = set_shared(es);
	bool nudge;

	lock_take(&set->lock);
	set->flags |= flag;
	pushes_take(set);
	(void)ready_first(set); /* what is left in the list is ready */
	nudge = pass_on(set, false);
	lock_drop(&set->lock);
	if (nudge)
		set_nudge(es, epfd);
}

void set_polls_over(struct epoll_set *es)
{
	struct canal_set *set = set_shared(es);

	lock_take(&set->lock);
	set->flags &= ~SET_POLLED;
	lock_drop(&set->lock);
	es->polled = false;
}

bool set_is_idle(struct epoll_set *es)
{
	struct canal_set *set = set_shared(es);
	bool ready;

	lock_take(&set->lock);
	pushes_take(set);
	ready = ready_first(set);
	lock_drop(&set->lock);
	return !ready;
}

/* canald is gone: every member says so. */
void set_enlist_all(struct epoll_set *es)
{
	struct canal_set *set = set_shared(es);

	lock_take(&set->lock);
	pushes_take(set);
	for (uint32_t n = set->all; n != CANAL_NONE; n = sub_at(n)->all_next) {
		sub_at(n)->flags |= SUB_FORCED;
		if (!(sub_at(n)->flags & SUB_LISTED))
			ready_append(set, n);
	}
	lock_drop(&set->lock);
}

/* --- membership ----------------------------------------------------------- */

/*
 * Puts a new or changed subscription where it belongs. While nobody sleeps the next
 * collect looks at it. A sleeper does not: then the look is made here.
 */
static bool enlist(struct canal_set *set, uint32_t n)
{
	struct canal_sub *sub = sub_at(n);

	sub->flags |= SUB_FORCED;
	if (set->sleepers || (set->flags & SET_WATCHED)) {
		if (!look(sub)) {
			unmute(sub);
			return false;
		}
		sub->flags |= SUB_FORCED;
	}
	if (!(sub->flags & SUB_LISTED))
		ready_append(set, n);
	return pass_on(set, set->sleepers);
}

uint32_t set_find(const struct epoll_set *es, uint32_t sock, int fd)
{
	uint32_t generation = canal_read_once(&channel_sock(&the_channel, sock)->generation), n;
	struct canal_set *set = set_shared(es);

	if (!(canal_read_once(&set->flags) & SET_SHARED))
		return CANAL_NONE;
	lock_take(&set->lock);
	for (n = set->all; n != CANAL_NONE; n = sub_at(n)->all_next)
		if (sub_at(n)->sock == sock && sub_at(n)->fd == fd &&
		    sub_at(n)->generation == generation)
			break;
	lock_drop(&set->lock);
	return n;
}

bool set_link(struct epoll_set *es, uint32_t n)
{
	struct canal_set *set = set_shared(es);
	bool nudge;

	sub_at(n)->set = es->number;
	sub_at(n)->flags = SUB_MUTED;
	canal_write_once(&sub_at(n)->pending, 1u);
	lock_take(&set->lock);
	all_insert(set, n);
	nudge = enlist(set, n);
	lock_drop(&set->lock);
	return nudge;
}

bool set_change(struct epoll_set *es, uint32_t n, uint32_t events, uint64_t data)
{
	struct canal_set *set = set_shared(es);
	bool nudge;

	lock_take(&set->lock);
	sub_at(n)->events = events;
	sub_at(n)->data = data;
	nudge = enlist(set, n);
	lock_drop(&set->lock);
	return nudge;
}

bool set_unlink(struct epoll_set *es, const struct member *m)
{
	struct canal_set *set = set_shared(es);
	struct canal_sub *sub = sub_at(m->sub);
	bool ours;

	lock_take(&set->lock);
	ours = sub->set == es->number && sub->sock == m->sock && sub->generation == m->generation &&
	       !(sub->flags & SUB_DEAD);
	if (ours) {
		all_remove(set, m->sub);
		sub->events = 0;
		sub->flags |= SUB_DEAD;
		sub->seen_out = set->serial; /* for set_holds() */
	}
	lock_drop(&set->lock);
	return ours;
}

bool set_sub_settled(uint32_t number, uint32_t n)
{
	struct canal_sub *sub = sub_at(n);
	uint32_t pending = canal_read_once(&sub->pending);
	/* E1 acquire: the collector is done with it; pairs with push_accept() */
	uint32_t flags = canal_load_acquire(&sub->flags);

	return sub->set != number || (!(flags & SUB_LISTED) && (!pending || (flags & SUB_MUTED)));
}

/* Gets dead subscriptions out of the lists of a set that nobody collects from. */
void set_sweep(uint32_t number)
{
	struct canal_set *set = &the_channel.set[number];
	uint32_t left = CANAL_NONE;

	if (!lock_try(&set->lock))
		return;
	pushes_take(set);
	for (uint32_t n = set->last; set->first != CANAL_NONE && left != n;) {
		left = ready_pop(set);
		if (!(sub_at(left)->flags & SUB_DEAD))
			ready_append(set, left);
	}
	lock_drop(&set->lock);
}
