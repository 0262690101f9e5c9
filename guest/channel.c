/* SPDX-License-Identifier: MIT */
/*
 * The channel of this process: attached once, shared with forked children.
 *
 * Purpose: finds canald on first need, posts INRs, waits for the results of
 * those that are calls, and kicks the poller when it sleeps.
 *
 * Invariants
 *  1. the_channel.client is stored last: whoever sees it non-zero sees a
 *     complete channel (G2).
 *  2. A forked child has client 0 until it has joined, and posts nothing before.
 *  3. `dead` never goes back: objects point into the one region for ever.
 *
 * Ownership and threads: any thread; attach_lock covers attaching and joining.
 * No memory is allocated after attaching.
 *
 * Failure: no canald: -errno of the attempt, repeated for a second without
 * asking again. canald gone: -EPIPE.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>

#include "async.h"
#include "exec.h"
#include "handover.h"
#include "internal.h"
#include "lock.h"
#include "paths.h"
#include "resolve.h"
#include "stock.h"
#include "sys.h"
#include "twin.h"

#define ATTACH_RETRY_NS 1000000000LL
/* Looks at a full ring, with a yield each, before sleeping between them. */
#define RING_FULL_YIELDS 64
#define RING_FULL_NAP_NS 50000

struct channel the_channel;

static uint32_t attach_lock; /* private to the process */
static int64_t attach_failed_at;
static int attach_failure;
/* The channel of this very program before it executed itself; 0: none. */
static uint64_t own_id, own_token;

/* --- attaching --------------------------------------------------------- */

/* Asks the kernel to include this process in the host's heavy fences (S2), which
 * do not reach into a virtual machine. */
static void channel_register(struct channel *ch)
{
	ch->light = ch->region && ch->region->heavy && !ch->via->apart &&
		    !sys_call4(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0, 0);
}

static int channel_attach_by(const struct transport *via, const char *path, struct channel *ch)
{
	*ch = (struct channel){ .via = via, .ref_min = SIZE_MAX, .apart = via->apart };
#ifdef CANAL_TEST_APART
	ch->apart = true;
#endif
	return via->attach(ch, path);
}

static int channel_attach_to(struct channel *ch, uint64_t id, uint64_t token)
{
	char path[CANAL_PATHS_LEN];
	int err = canal_paths_find(exec_socket(), path, sizeof(path));

	*ch = (struct channel){ .via = &transport_local, .ref_min = SIZE_MAX };
	err = err ? err : attach_local_to(ch, path, id, token);
	if (!err)
		lock_before_fork(); /* others have it, too */
	return err;
}

static int channel_attach_local(struct channel *ch)
{
	char path[CANAL_PATHS_LEN];
	uint64_t id = own_id;
	int err;

	own_id = 0;
	if (id && !channel_attach_to(ch, id, own_token))
		return 0;
	err = canal_paths_find(exec_socket(), path, sizeof(path));
	return err ? err : channel_attach_by(&transport_local, path, ch);
}

/* Under attach_lock: from now on it is the process's. */
static void channel_begin(struct channel *ch)
{
	uint32_t client = ch->client;

	channel_register(ch);
	ch->client = 0;
	ch->uid = (uint32_t)sys_call2(SYS_geteuid, 0, 0);
	ch->pid = (uint32_t)sys_call2(SYS_getpid, 0, 0);
	the_channel = *ch;
	/* G2 release: the channel before its client number */
	canal_store_release(&the_channel.client, client);
}

/* CANAL_SOCKET says where; else a virtual machine's device, if it serves us. */
static int channel_attach(void)
{
	struct channel ch = { .client = 0 };
	int err = -ENODEV;

	if (!exec_socket() && attach_vm_present())
		err = channel_attach_by(&transport_vm, TRANSPORT_VM_DEVICE, &ch);
	if (err)
		err = channel_attach_local(&ch);
	if (!err)
		channel_begin(&ch);
	return err;
}

void channel_continue(uint64_t id, uint64_t token)
{
	own_id = id;
	own_token = token;
}

int channel_join_by(uint64_t inode)
{
	struct channel ch = { .client = 0 };
	int saved = errno, err = 0;

	lock_take(&attach_lock);
	if (!the_channel.region) {
		err = channel_attach_to(&ch, 0, inode);
		if (!err)
			channel_begin(&ch);
	}
	lock_drop(&attach_lock);
	errno = saved;
	return err;
}

/* What a forked child forgets, and the connection. The old region stays mapped: a
 * handler may be on top of who looks at it. */
static void channel_leave(void)
{
	int control = the_channel.control_fd, kick = the_channel.kick_fd;

	wait_leave();
	stock_after_fork();
	canal_write_once(&the_channel.client, 0);
	fd_close_own(control);
	fd_close_own(kick);
}

int channel_change_by(uint64_t inode)
{
	struct channel ch;
	int saved = errno, err;

	lock_take(&attach_lock);
	err = channel_attach_to(&ch, 0, inode);
	if (!err) {
		channel_leave();
		channel_begin(&ch);
	}
	lock_drop(&attach_lock);
	errno = saved;
	return err;
}

/* Under attach_lock. */
static int channel_attach_or_join(void)
{
	int err;

	if (canal_load_acquire(&the_channel.client))
		return 0;
	if (the_channel.region)
		return the_channel.via->join(&the_channel);
	if (attach_failure && wait_now() - attach_failed_at < ATTACH_RETRY_NS)
		return attach_failure;
	err = channel_attach();
	attach_failed_at = wait_now();
	attach_failure = err;
	return err;
}

static __attribute__((noinline)) int channel_get_slow(struct channel **ret_ch)
{
	int saved = errno, err;
	bool entered;

	lock_take(&attach_lock);
	entered = fd_room_enter();
	err = channel_attach_or_join();
	fd_room_leave(entered);
	lock_drop(&attach_lock);
	errno = saved; /* stat and access of the search */
	if (!err && channel_gone(&the_channel))
		err = -EPIPE;
	if (!err)
		*ret_ch = &the_channel;
	return err;
}

int channel_get(struct channel **ret_ch)
{
	/* G2 acquire: a client number before the channel it belongs to */
	if (unlikely(!canal_load_acquire(&the_channel.client)) || channel_gone(&the_channel))
		return channel_get_slow(ret_ch);
	*ret_ch = &the_channel;
	return 0;
}

void channel_after_fork(void)
{
	canal_write_once(&attach_lock, 0);
	channel_register(&the_channel);
	wait_after_fork();
	stock_after_fork();
	twin_after_fork();
	handover_after_fork();
	async_after_fork();
	fd_room_after_fork();
	order_after_fork();
	later_after_fork();
	canal_write_once(&the_channel.client, 0);
}

/* --- posting ----------------------------------------------------------- */

void channel_kick(struct channel *ch)
{
	if (canal_take(&ch->region->host_asleep))
		ch->via->kick(ch);
}

/* A free slot of the ring; waits while it is full. NULL: the channel is dead. */
static struct canal_inr *channel_claim(struct channel *ch, uint64_t *ret_pos)
{
	for (unsigned int tries = 0; !channel_gone(ch); tries++) {
		struct canal_inr *slot = canal_ring_claim(
			ch->inr, ch->inr_count, &ch->region->inr_tail, ch->client, ret_pos);

		if (likely(slot))
			return slot;
		canal_full_fence(); /* S1: the full ring before host_asleep */
		channel_kick(ch);
		if (tries < RING_FULL_YIELDS)
			sys_yield();
		else
			(void)wait_nap(RING_FULL_NAP_NS);
	}
	return NULL;
}

int channel_post_pos(struct channel *ch, const struct canal_inr *inr, uint64_t *ret_pos)
{
	uint32_t generation = 0;
	struct canal_inr *slot;

	/* before the claim: who has the socket now has it here still */
	if (inr->sock < ch->sock_count)
		generation = canal_read_once(&channel_sock(ch, inr->sock)->generation);
	do {
		slot = channel_claim(ch, ret_pos);
		if (!slot)
			return -EPIPE;
		/* All but the state, which is the ring's. */
		memcpy((uint8_t *)slot + sizeof(slot->state),
		       (const uint8_t *)inr + sizeof(inr->state),
		       sizeof(*inr) - sizeof(inr->state));
		canal_write_once(&slot->client, (canal_u16)ch->client);
		canal_write_once(&slot->generation, generation);
		/* Q1 release inside. Taken back only from who was stopped for seconds. */
	} while (unlikely(!canal_ring_publish(slot, *ret_pos, ch->client)));
	channel_kick(ch);
	return 0;
}

int channel_post(struct channel *ch, const struct canal_inr *inr)
{
	uint64_t pos;

	if (unlikely(!canal_load_acquire(&ch->client))) {
		int err = channel_get(&ch);

		if (err)
			return err;
	}
	return channel_post_pos(ch, inr, &pos);
}

bool channel_passed(const struct channel *ch, uint64_t pos)
{
	return canal_ring_passed(ch->inr, ch->inr_count, pos);
}

/* --- calls ------------------------------------------------------------- */

static bool call_done(void *arg)
{
	struct canal_call *call = arg;

	/* C1 acquire: COMPLETED before the result; pairs with the host */
	return canal_load_acquire(&call->state) == CANAL_INR_COMPLETED;
}

static void call_fill(struct canal_call *call, const struct call_args *args)
{
	call->result = 0;
	call->level = args->level;
	call->name = args->name;
	call->len = args->in_len;
	call->out_max = args->out_len ? *args->out_len : 0;
	if (args->in_len)
		memcpy(call->data, args->in, args->in_len);
	/* Published by Q1 of the INR; nobody looks at it before. */
	canal_write_once(&call->state, CANAL_INR_REQUESTED);
}

static int call_take(struct canal_call *call, const struct call_args *args)
{
	uint32_t len = call->len;

	if (args->out && args->out_len) {
		if (len > CANAL_CALL_DATA)
			len = CANAL_CALL_DATA;
		if (len < *args->out_len)
			*args->out_len = len;
		memcpy(args->out, call->data, *args->out_len);
	}
	canal_write_once(&call->state, CANAL_CALL_IDLE);
	return call->result;
}

/* Posts the INR of a call that is filled in; 0 or -errno. */
static int call_post(struct channel *ch, struct canal_inr *inr, const struct waiter *w,
		     const struct call_args *args)
{
	call_fill(&ch->call[w->slot], args);
	inr->slot = w->slot;
	return channel_post(ch, inr);
}

int channel_call(struct channel *ch, struct canal_inr *inr, struct call_args *args)
{
	struct call_args none = { .level = 0 };
	struct waiter spare, *w;
	int err;

	if (!args)
		args = &none;
	if (args->in_len > CANAL_CALL_DATA)
		return -EINVAL;
	err = waiter_borrow(ch, &spare, &w);
	if (err)
		return err;
	err = call_post(ch, inr, w, args);
	if (!err)
		err = wait_slot(ch, w, call_done, &ch->call[w->slot]);
	if (!err)
		err = call_take(&ch->call[w->slot], args);
	waiter_return(ch, w);
	return err;
}

int channel_call_until(struct channel *ch, struct canal_inr *inr, struct call_args *args,
		       int64_t deadline)
{
	struct waiter spare, *w;
	int err;

	if (args->in_len > CANAL_CALL_DATA)
		return -EINVAL;
	err = waiter_borrow(ch, &spare, &w);
	if (err)
		return err;
	err = call_post(ch, inr, w, args);
	if (err) {
		canal_write_once(&ch->call[w->slot].state, CANAL_CALL_IDLE);
		waiter_return(ch, w);
		return err;
	}
	do
		err = wait_slot_until(ch, w, call_done, &ch->call[w->slot], deadline);
	while (err == -EINTR);
	if (!err)
		err = call_take(&ch->call[w->slot], args);
	waiter_abandon(ch, w);
	return err;
}
