// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel as a client of a channel: its wait slot, its INRs, and the two words
 * that lock a FIFO. For calls that come in through a dummy (canal_data.c).
 *
 * Purpose: does what libcanal does in the region, with memory that the programs of
 * the channel write at will. So every loop has an end that does not depend
 * on it, every number is checked against the private layout, and every wait can
 * be interrupted. A program that lies misleads itself.
 *
 * Invariants
 *  1. The kernel joins a channel on first need, as one client with one slot; all
 *     who sleep in the kernel share the slot, and all look again when it is woken.
 *  2. No lock of a FIFO is held across a wait, but for a page fault of the
 *     caller's own buffer.
 *
 * Ownership and threads: any process context. kernel_lock serialises the join.
 * Failure: -ENODEV, -ETIMEDOUT, -ERESTARTSYS; without a slot: short naps.
 */
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/sched/signal.h>
#include <linux/socket.h>

#include "canal.h"

/* Looks at a ring slot that others claim under our hands. */
#define CLAIM_TRIES 64
#define CLAIM_YIELDS 50
#define CLAIM_NAPS 20000 /* of a tenth of a millisecond */

#define LOCK_LOOKS 200
#define LOCK_YIELDS 1000
#define LOCK_DONTWAIT 3000

static void *table_at(const struct canal_channel *ch, const struct canal_table *t, u32 n)
{
	return (u8 *)ch->region + t->offset + (u64)n * t->stride;
}

/* @number was checked when the dummy was made. */
struct canal_sock *canal_data_sock(struct canal_channel *ch, u32 number)
{
	return table_at(ch, &ch->layout.sock, number);
}

/* --- joining ----------------------------------------------------------- */

static void joined(struct canal_request *request)
{
	struct canal_channel *ch = container_of(request, struct canal_channel, kernel_join);

	if (request->result > 0 && request->result < CANAL_CLIENT_MAX)
		WRITE_ONCE(ch->kernel_client, request->result);
	WRITE_ONCE(ch->kernel_busy, false);
	wake_up_all(&ch->kernel_wait);
	canal_channel_put(ch);
}

static void waiter_told(struct canal_request *request)
{
	canal_channel_put(container_of(request, struct canal_channel, kernel_waiter));
}

/* Under kernel_lock. An answer that was not waited for long enough may come yet. */
static int join(struct canal_channel *ch)
{
	long left;

	if (!ch->kernel_busy) {
		canal_channel_get(ch);
		canal_request_init(&ch->kernel_join, CANAL_MAIL_JOIN, true);
		strscpy(ch->kernel_join.mail.name, "kernel", sizeof(ch->kernel_join.mail.name));
		canal_request_about(&ch->kernel_join, ch, 0);
		ch->kernel_join.done = joined;
		ch->kernel_busy = true;
		canal_request_submit(ch->dev, &ch->kernel_join);
	}
	left = wait_event_killable_timeout(ch->kernel_wait, !READ_ONCE(ch->kernel_busy),
					   msecs_to_jiffies(canal_timeout_ms));
	if (left <= 0)
		return left ? (int)left : -ETIMEDOUT;
	return READ_ONCE(ch->kernel_client) ? 0 : -ENODEV;
}

/* A free wait slot, claimed as libcanal does; CANAL_NONE when there is none. */
static u32 slot_claim(struct canal_channel *ch)
{
	u32 i;

	for (i = 0; i < ch->layout.wait.count; i++) {
		struct canal_wait *wait = table_at(ch, &ch->layout.wait, i);

		if (i >= canal_read_once(&ch->region->wait_used))
			(void)canal_cas(&ch->region->wait_used, i, i + 1);
		if (canal_read_once(&wait->owner) ||
		    !canal_cas(&wait->owner, 0u, ch->kernel_client))
			continue;
		canal_write_once(&wait->sock, CANAL_NONE);
		canal_write_once(&wait->serial, canal_read_once(&wait->serial) + 1);
		canal_disarm(&wait->armed);
		return i;
	}
	return CANAL_NONE;
}

static void slot_announce(struct canal_channel *ch, u32 slot)
{
	struct canal_wait *wait = table_at(ch, &ch->layout.wait, slot);

	WRITE_ONCE(ch->kernel_slot, slot);
	canal_channel_get(ch);
	canal_request_init(&ch->kernel_waiter, CANAL_MAIL_WAITER, false);
	canal_request_about(&ch->kernel_waiter, ch, ch->kernel_client);
	ch->kernel_waiter.mail.sock = slot;
	ch->kernel_waiter.mail.generation = canal_read_once(&wait->serial);
	ch->kernel_waiter.done = waiter_told;
	canal_request_submit(ch->dev, &ch->kernel_waiter);
}

/**
 * canal_kernel_join() - makes the kernel a client of the channel, with a slot
 * @ch: the channel
 *
 * Context: process context; waits for canald the first time.
 * Return: 0 or -errno. There may be no slot all the same: canal_kernel_arm().
 */
int canal_kernel_join(struct canal_channel *ch)
{
	int err = 0;
	u32 slot;

	if (likely(READ_ONCE(ch->kernel_slot) != CANAL_NONE))
		return 0;
	if (canal_channel_gone(ch))
		return -ENODEV;
	if (mutex_lock_killable(&ch->kernel_lock))
		return -ERESTARTSYS;
	if (!ch->kernel_client)
		err = join(ch);
	if (!err && ch->kernel_slot == CANAL_NONE) {
		slot = slot_claim(ch);
		if (slot != CANAL_NONE)
			slot_announce(ch, slot);
	}
	mutex_unlock(&ch->kernel_lock);
	return err;
}

/* --- INRs -------------------------------------------------------------- */

/* canal_ring_claim() with an end. NULL: full, or others were faster all the time. */
static struct canal_inr *ring_claim(struct canal_channel *ch, u64 *ret_pos)
{
	u64 *tail = &ch->region->inr_tail;
	unsigned int i;

	for (i = 0; i < CLAIM_TRIES; i++) {
		u64 pos = canal_read_once(tail);
		struct canal_inr *slot =
			table_at(ch, &ch->layout.inr, pos & (ch->layout.inr.count - 1));
		/* Q2 acquire: the consumer's reads before our writes */
		u64 state = canal_load_acquire(&slot->state);

		if (canal_inr_pos(state) < pos)
			return NULL;
		if (state != canal_inr_state(pos, 0, CANAL_INR_FREE)) {
			(void)canal_cas(tail, pos, pos + 1);
			continue;
		}
		if (canal_cas(&slot->state, state,
			      canal_inr_state(pos, ch->kernel_client, CANAL_INR_CLAIMED))) {
			(void)canal_cas(tail, pos, pos + 1);
			*ret_pos = pos;
			return slot;
		}
	}
	return NULL;
}

static bool inr_try(struct canal_channel *ch, const struct canal_inr *inr)
{
	struct canal_inr *slot;
	bool posted = false;
	u64 pos;

	preempt_disable(); /* canald cannot go on without end past who has claimed */
	slot = ring_claim(ch, &pos);
	if (slot) {
		memcpy((u8 *)slot + sizeof(slot->state), (const u8 *)inr + sizeof(inr->state),
		       sizeof(*inr) - sizeof(inr->state));
		/* Q1 release inside. Taken back only from a processor stopped for seconds. */
		posted = canal_ring_publish(slot, pos, ch->kernel_client);
	}
	preempt_enable();
	if (!slot)
		canal_full_fence(); /* S1: the full ring before host_asleep */
	if (canal_take(&ch->region->host_asleep))
		canal_device_kick(ch->dev);
	return posted;
}

/**
 * canal_data_post() - posts an INR that nobody waits for
 * @ch:   the channel
 * @op:   enum canal_inr_op
 * @sock: number
 * @arg:  its first argument
 *
 * Context: process context, sleeps while the ring is full; ends with the channel,
 * or with the process.
 * Return: 0 or -errno: then it was not posted.
 */
int canal_data_post(struct canal_channel *ch, u32 op, u32 sock, u32 arg)
{
	struct canal_inr inr = { .op = op, .sock = sock, .slot = CANAL_NONE };
	unsigned int i;
	int err = 0;

	if (!READ_ONCE(ch->kernel_client))
		err = canal_kernel_join(ch);
	if (err)
		return err;
	inr.client = ch->kernel_client;
	inr.generation = canal_read_once(&canal_data_sock(ch, sock)->generation);
	inr.u.arg[0] = arg;
	for (i = 0; i < CLAIM_NAPS; i++) {
		if (canal_channel_gone(ch))
			return -ENODEV;
		if (inr_try(ch, &inr))
			return 0;
		if (fatal_signal_pending(current))
			return -EINTR;
		if (i < CLAIM_YIELDS)
			cond_resched();
		else
			usleep_range(100, 200);
	}
	return -ETIMEDOUT;
}

/* --- locks ------------------------------------------------------------- */

static u32 space_of(const struct pid_namespace *ns)
{
	return CANAL_LOCK_SPACE(ns->ns.inum);
}

/* What libcanal writes into a lock that the calling thread takes. */
static bool is_me(u32 holder)
{
	struct pid_namespace *ns = task_active_pid_ns(current);
	u32 space = CANAL_LOCK_SPACE_OF(holder);

	return !(holder & CANAL_LOCK_KERNEL) && (!space || space == space_of(ns)) &&
	       (holder & CANAL_LOCK_TID) == (u32)task_pid_nr_ns(current, ns);
}

/* The pid namespace of a holder: that of the channel or ours; NULL: another. */
static struct pid_namespace *holder_space(struct canal_channel *ch, u32 holder)
{
	struct pid_namespace *ours = task_active_pid_ns(current);
	u32 space = CANAL_LOCK_SPACE_OF(holder);

	if (!space || space == space_of(ch->pid_ns))
		return ch->pid_ns;
	return space == space_of(ours) ? ours : NULL;
}

/*
 * Of a holder of a lock. One of the kernel's lives. One that is ourselves is a thread
 * that had our number before this program was executed, or it is below a handler of
 * ours, which has been asked before.
 */
static bool holder_is_dead(struct canal_channel *ch, u32 holder)
{
	struct pid_namespace *ns = holder_space(ch, holder);
	struct task_struct *task;
	bool dead;

	if ((holder & CANAL_LOCK_KERNEL) || !ns)
		return false;
	if (is_me(holder))
		return true;
	rcu_read_lock();
	task = pid_task(find_pid_ns((pid_t)(holder & CANAL_LOCK_TID), ns), PIDTYPE_PID);
	dead = !task || READ_ONCE(task->exit_state);
	rcu_read_unlock();
	return dead;
}

/**
 * canal_kernel_lock() - takes tx_lock or rx_lock for the calling thread
 * @ch:    the channel
 * @lock:  the word: a thread's number as libcanal knows it, or CANAL_LOCK_KERNEL
 * @flags: MSG_DONTWAIT
 *
 * Context: process context, may sleep.
 * Return: 0; -EAGAIN when this very thread has it (we are in a signal handler on
 * top of libcanal; not so in a program that was executed since), or with MSG_DONTWAIT somebody else for long; -ERESTARTSYS;
 * -ENODEV.
 *
 * The caller may have no number that libcanal could look up: a descriptor can be
 * passed into another pid namespace. The mark says that it lives.
 */
int canal_kernel_lock(struct canal_channel *ch, u32 *lock, int flags)
{
	const u32 mark = CANAL_LOCK_KERNEL | (u32)task_pid_nr(current);
	unsigned int i;

	for (i = 0;; i++) {
		u32 holder = canal_read_once(lock);

		if (!i && holder && is_me(holder) && canal_channel_mapped(ch))
			return -EAGAIN;
		/* K1 acquire; the stores of a dead holder are all done */
		if (!holder ? canal_cas(lock, 0u, mark)
			    : i > LOCK_LOOKS && i % 64 == 0 && holder_is_dead(ch, holder) &&
				      canal_cas(lock, holder, mark))
			return 0;
		if (i < LOCK_LOOKS) {
			cpu_relax();
			continue;
		}
		if (canal_channel_gone(ch))
			return -ENODEV;
		if (signal_pending(current))
			return -ERESTARTSYS;
		if ((flags & MSG_DONTWAIT) && i > LOCK_DONTWAIT)
			return -EAGAIN;
		if (i < LOCK_YIELDS)
			cond_resched();
		else
			usleep_range(50, 100);
	}
}

void canal_kernel_unlock(u32 *lock)
{
	/* K1 release: what we stored */
	canal_store_release(lock, 0u);
}

/* --- sleeping ---------------------------------------------------------- */

/* Raises the flags of somebody who is about to look for the last time. False:
 * there is no slot, and nobody will wake him. */
bool canal_kernel_arm(struct canal_channel *ch, struct canal_sock *s)
{
	u32 slot = READ_ONCE(ch->kernel_slot);
	struct canal_wait *wait;

	if (slot == CANAL_NONE)
		return false;
	wait = table_at(ch, &ch->layout.wait, slot);
	canal_arm(&wait->armed);             /* S1 */
	canal_arm_bit(&s->rd_waiters, slot); /* S1 */
	canal_arm_bit(&s->wr_waiters, slot); /* S1 */
	return true;
}

/**
 * canal_kernel_sleep() - until ready(), a signal, or the end of the time
 * @ch:    the channel
 * @s:     the socket
 * @ready: looks at shared memory; arms what belongs to its FIFO itself
 * @arg:   for @ready
 * @timeo: jiffies that are left; MAX_SCHEDULE_TIMEOUT
 *
 * Context: process context, sleeps.
 * Return: 0, -EAGAIN at the end of the time, -ERESTARTSYS or -EINTR, -ENODEV.
 */
int canal_kernel_sleep(struct canal_channel *ch, struct canal_sock *s, bool (*ready)(void *arg),
		       void *arg, long *timeo)
{
	DEFINE_WAIT(wait);
	int err = canal_kernel_join(ch);
	bool armed;
	long nap;

	while (!err) {
		prepare_to_wait(&ch->kernel_wait, &wait, TASK_INTERRUPTIBLE);
		armed = canal_kernel_arm(ch, s);
		if (ready(arg))
			break;
		if (canal_channel_gone(ch))
			err = -ENODEV;
		else if (signal_pending(current))
			err = *timeo == MAX_SCHEDULE_TIMEOUT ? -ERESTARTSYS : -EINTR;
		else if (!*timeo)
			err = -EAGAIN;
		if (err)
			break;
		nap = armed ? *timeo : min(*timeo, 1l);
		if (*timeo == MAX_SCHEDULE_TIMEOUT)
			(void)schedule_timeout(nap);
		else
			*timeo -= nap - schedule_timeout(nap);
	}
	finish_wait(&ch->kernel_wait, &wait);
	return err;
}
