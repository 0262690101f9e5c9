/* SPDX-License-Identifier: MIT */
/*
 * A set's life, and the two descriptors by which it wakes.
 *
 * Purpose: an epoll instance gets its part in the region with its first canal socket,
 * shares it with forked children, and gives it back with its last process; or others
 * take over what a dead process left. The two descriptors are members of the kernel's
 * instance: the bell, which canald rings, and an eventfd, by which a thread nudges
 * another. What they bring is never shown to the program.
 *
 * Invariants
 *  1. A set is whoever's made `owner` its client number by compare-and-swap, and is
 *     free when that is 0 again (E2).
 *  2. Both descriptors are edge-triggered members of the kernel's instance: a
 *     wake-up is used up by being reported, not by being read.
 *
 * Ownership and threads: sets are made and left under the table's lock
 * (epoll_member.c); set_nudge(), set_settle() and set_strip() are for any thread.
 *
 * Failure: an eventfd that cannot be made costs other threads of the same set a
 * late wake-up, and is logged.
 */
#include <errno.h>
#include <sys/eventfd.h>

#include "epoll_set.h"
#include "lock.h"
#include "sys.h"

/* canal_wait.sock of a set's slot: no socket, and not "any". */
#define SLOT_OF_SET 0xfffffffeu
/* A nudge wakes one, and not surely one of those who slept before the set was made. */
#define ROUSE_SPARE 64
#define SLEEPERS_MAX 4096
/* For the next one to come, half of them yields and half short sleeps. */
#define ROUSE_LOOKS 64
#define ROUSE_NAP_NS 100000
/* Few enough that the bell never fills, which would cost its edge. */
#define DRAIN_EVERY 8

/* Their addresses are the kernel's tags for what is ours in its instance. */
static char tag_bell, tag_nudge;

static uint64_t tag_of(const char *tag)
{
	return (uint64_t)(uintptr_t)tag;
}

/* --- waking --------------------------------------------------------------- */

static int nudge_make(struct epoll_set *es, int epfd)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u64 = tag_of(&tag_nudge) };
	int fd = fd_move_high(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	int none = -1;

	if (fd < 0)
		return -1;
	if (!__atomic_compare_exchange_n(&es->nudge_fd, &none, fd, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST)) {
		fd_close_own(fd);
		return none;
	}
	if (real(epoll_ctl)(epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		guest_log("epoll: a wake-up could not be set up: error %d", errno);
	return fd;
}

/* No place to be cancelled at. */
static void nudge_add(int fd)
{
	static const uint64_t one = 1;
	long err = sys_call4(SYS_write, fd, &one, sizeof(one), 0);

	if (err < 0)
		guest_log("epoll: a wake-up failed: error %ld", -err);
}

void set_nudge(struct epoll_set *es, int epfd)
{
	int saved_errno = errno;
	int fd = canal_read_once(&es->nudge_fd);

	nudge_add(fd < 0 ? nudge_make(es, epfd) : fd);
	errno = saved_errno;
}

/*
 * Each passes it on, and stays awake until the next one has it: of those who sleep the
 * kernel wakes the one that fell asleep last, so who was woken would be again, and again.
 * The count is an end to it: one that was cancelled never comes.
 */
void set_rouse(struct epoll_set *es)
{
	uint32_t left = canal_read_once(&es->rouse), early = canal_read_once(&es->early);

	if (likely(!left) || !early)
		return;
	canal_write_once(&es->rouse, left - 1);
	nudge_add(es->nudge_fd);
	for (int i = 0; i < ROUSE_LOOKS && canal_read_once(&es->early) >= early; i++)
		i < ROUSE_LOOKS / 2 ? sys_yield() : (void)wait_nap(ROUSE_NAP_NS);
}

void set_settle(struct epoll_set *es)
{
	char bytes[256];

	while (sys_call4(SYS_read, es->bell_fd, bytes, sizeof(bytes), 0) == (long)sizeof(bytes))
		;
	if (es->nudge_fd >= 0)
		(void)sys_call4(SYS_read, es->nudge_fd, bytes, 8, 0);
}

int set_strip(struct epoll_set *es, struct epoll_event *ev, int count)
{
	int kept = 0;

	for (int i = 0; i < count; i++) {
		uint64_t tag = ev[i].data.u64;

		if (tag == tag_of(&tag_bell)) {
			if (ev[i].events & (EPOLLHUP | EPOLLERR))
				canal_write_once(&the_channel.dead, true);
			if (canal_fetch_add(&set_shared(es)->wakes, 1u) % DRAIN_EVERY ==
			    DRAIN_EVERY - 1)
				set_settle(es);
		} else if (tag == tag_of(&tag_nudge)) {
			set_rouse(es);
		} else {
			ev[kept++] = ev[i];
		}
	}
	return kept;
}

/* --- life ----------------------------------------------------------------- */

static void slot_free(const struct channel *ch, uint32_t n)
{
	canal_write_once(&ch->wait[n].armed, 0u);
	canal_store_release(&ch->wait[n].owner, 0u); /* E2 release: all of it is free */
}

static uint32_t set_claim(const struct channel *ch)
{
	for (uint32_t n = 0; n < ch->set_count; n++)
		if (!canal_read_once(&ch->set[n].owner) &&
		    canal_cas(&ch->set[n].owner, 0u, ch->client))
			return n;
	return CANAL_NONE;
}

static void set_init(struct canal_set *set, uint32_t slot)
{
	canal_write_once(&set->ready, 0u);
	set->slot = slot;
	set->lock = 0;
	set->sleepers = 0;
	set->members = 0;
	set->first = CANAL_NONE;
	set->last = CANAL_NONE;
	set->all = CANAL_NONE;
	set->flags = 0;
	set->serial++;
	canal_store_release(&set->refs, 1u); /* E2 release: the set before its use */
}

/* A wait slot, its bell an edge-triggered member of the kernel's instance. */
static int doorbell_make(struct epoll_set *es, int epfd, uint32_t *ret_slot)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u64 = tag_of(&tag_bell) };
	int saved_errno = errno;
	struct waiter w;
	int error = waiter_claim(&the_channel, true, &w);

	if (error < 0)
		return error;
	canal_write_once(&the_channel.wait[w.slot].sock, SLOT_OF_SET);
	if (real(epoll_ctl)(epfd, EPOLL_CTL_ADD, w.fd, &ev) < 0) {
		error = -errno;
		waiter_release(&the_channel, &w);
		errno = saved_errno;
		return error;
	}
	es->bell_fd = w.fd;
	*ret_slot = w.slot;
	return 0;
}

/* Who sleeps already has no part in the set: those come back, and sleep again as its sleepers. */
static void early_wake(struct epoll_set *es, int epfd)
{
	uint32_t early = canal_read_once(&es->early);

	if (!early)
		return;
	if (early > SLEEPERS_MAX)
		early = SLEEPERS_MAX;
	canal_write_once(&es->rouse, 2 * early + ROUSE_SPARE);
	set_nudge(es, epfd);
}

/**
 * set_make() - give an epoll instance its part in the region
 *
 * A forked child joins the channel first: what is claimed under client number 0
 * looks free to its siblings, and all of them get the same set.
 *
 * Context: under the table's lock. Return: 0, -ENOSPC when the region has no set
 * or wait slot left, or what joining or the making of the bell gave.
 */
int set_make(struct epoll_set *es, int epfd)
{
	struct channel *ch;
	uint32_t number, slot = 0;
	int error = channel_get(&ch);

	if (error < 0)
		return error;
	number = set_claim(ch);
	if (number == CANAL_NONE)
		return -ENOSPC;
	error = doorbell_make(es, epfd, &slot);
	if (error < 0) {
		canal_store_release(&ch->set[number].owner, 0u);
		return error;
	}
	set_init(&ch->set[number], slot);
	es->serial = ch->set[number].serial;
	es->client = ch->client;
	es->dead = false;
	/*
	 * E2 release: the set before its number; pairs with es_of() in epoll.c.
	 * E3 store-load: the number before the look for sleepers; pairs with early_wait()
	 */
	canal_store_fence(&es->number, number);
	if (es->nested)
		set_nest(es, epfd, SET_NESTED);
	if (es->polled)
		set_nest(es, epfd, SET_POLLED);
	early_wake(es, epfd);
	return 0;
}

bool set_share(struct epoll_set *es)
{
	struct canal_set *set = set_shared(es);
	uint32_t refs = canal_load_acquire(&set->refs);

	while (refs && canal_read_once(&set->serial) == es->serial) {
		if (canal_cas(&set->refs, refs, refs + 1)) {
			if (canal_read_once(&set->serial) != es->serial) {
				(void)canal_fetch_add(&set->refs, -1u);
				return false;
			}
			lock_take(&set->lock);
			set->flags |= SET_SHARED;
			lock_drop(&set->lock);
			return true;
		}
		refs = canal_load_acquire(&set->refs);
	}
	return false;
}

bool set_leave(struct epoll_set *es)
{
	return canal_fetch_add(&set_shared(es)->refs, -1u) == 1;
}

void set_free(uint32_t number)
{
	struct canal_set *set = &the_channel.set[number];

	if (set->slot != CANAL_NONE)
		slot_free(&the_channel, set->slot);
	canal_store_release(&set->owner, 0u); /* E2 release: all of it is free */
}

bool set_inherit(uint32_t number)
{
	struct canal_set *set = &the_channel.set[number];

	if (canal_read_once(&set->owner) != CANAL_NONE ||
	    !canal_cas(&set->owner, CANAL_NONE, the_channel.client))
		return false;
	canal_write_once(&set->slot, CANAL_NONE); /* the host has freed it */
	return true;
}

uint32_t set_high(void)
{
	uint32_t n = 0;

	/* The lowest free one is taken: what is beyond an unused one is unused. */
	while (n < the_channel.set_count && (canal_read_once(&the_channel.set[n].owner) ||
					     canal_read_once(&the_channel.set[n].serial)))
		n++;
	return n;
}

/*
 * Whether a subscription was this set's when its last process ended. One that
 * left an earlier use of the number may lie in the quarantine of a process that
 * lives.
 */
bool set_holds(uint32_t number, uint32_t n)
{
	const struct canal_sub *sub = &the_channel.sub[n];

	return canal_read_once(&sub->set) == number &&
	       (!(canal_read_once(&sub->flags) & SUB_DEAD) ||
		sub->seen_out == the_channel.set[number].serial);
}
