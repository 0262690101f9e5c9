/* SPDX-License-Identifier: MIT */
/*
 * Waiting: look, yield, sleep.
 *
 * Purpose: docs/wire.md section 6. A thread that has to wait looks at shared
 * memory a bounded number of times. Then it arms its wait slot, looks once more
 * and reads from the slot's bell, into which canald writes one byte.
 *
 * Invariants
 *  1. The bits in rd_waiters and wr_waiters are never taken back here: a thread
 *     whose slot has the same number modulo 64 may rely on them. A bit that
 *     stays costs canald one look.
 *  2. One sleep per slot at a time. A signal handler that waits on top of a
 *     sleep has a slot of its own (waiter_borrow()).
 *  3. A byte in the bell means "look again", no more: bytes may be stale.
 *
 * Ownership and threads: a slot belongs to a thread from its first sleep to its
 * exit. What is thread-local here is forgotten in a forked child.
 *
 * Failure: no slot or no bell left: short naps instead. End-of-file on the bell:
 * canald is gone, the channel is dead, -EPIPE.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "guest.h"
#include "hold.h"
#include "keep.h"
#include "lock.h"
#include "sys.h"

#define NSEC_PER_SEC 1000000000LL
/* Yields after the looks, with a look each. */
#define SPIN_YIELDS 30
#define CROWDED_NS 100000
#define CROWDED_WAITS 256
/* Every so many waits spin to the full, to see whether it pays again. */
#define SPIN_PROBE 16
/* Between looks of one who has no slot: at first, and at most. A thousand of them that looked
 * as often as at first would leave nobody else a core. */
#define POOR_NAP_NS 200000
#define POOR_NAP_MOST_NS 20000000
/* Slots whose bells a forked child closes; the wire has no more. */
#define WAIT_SLOTS 1024
/* Handlers on top of each other whose slots are given back when one jumps out. */
#define SPARES 4
/* Slots that rest at once. */
#define PARKED 64

static TLS struct waiter own_waiter; /* client 0: none */
static TLS uintptr_t own_busy;       /* where on the stack its user is; 0: nobody */
/* Slots that handlers have on top of that. */
static TLS struct {
	uintptr_t where;
	struct waiter w;
} spares[SPARES];
static TLS uint32_t spin_looks; /* 0: not yet asked */
static TLS uint32_t spin_waits;
static TLS uint32_t spin_crowded; /* waits to go without yields */

/* Read ends of this process's threads, by slot, plus 1; for wait_after_fork(). */
static int slot_fd[WAIT_SLOTS];

static pthread_once_t exit_key_once = PTHREAD_ONCE_INIT;
static pthread_key_t exit_key;

int64_t wait_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
}

int64_t wait_longer(int64_t nap)
{
	if (!nap)
		return POOR_NAP_NS;
	return nap + nap / 2 < POOR_NAP_MOST_NS ? nap + nap / 2 : POOR_NAP_MOST_NS;
}

int wait_nap(int64_t ns)
{
	struct timespec t = { .tv_sec = ns / NSEC_PER_SEC, .tv_nsec = ns % NSEC_PER_SEC };
	sigset_t room;
	const sigset_t *mask = hold_sleeps(&room);
	long err = mask ? sys_call6(SYS_ppoll, 0, 0, (long)&t, (long)mask, 8, 0)
			: sys_call2(SYS_nanosleep, &t, 0);

	hold_slept(mask);
	return (int)err;
}

/* --- wait slots -------------------------------------------------------- */

static int slot_claim(struct channel *ch, uint32_t *ret_slot)
{
	uint32_t *used = &ch->region->wait_used;

	for (uint32_t i = 0; i < ch->wait_count; i++) {
		struct canal_wait *wait = &ch->wait[i];

		/* Grown by us or by somebody else: slot i counts now. */
		if (i >= canal_read_once(used))
			(void)canal_cas(used, i, i + 1);
		if (canal_read_once(&wait->owner) || !canal_cas(&wait->owner, 0u, ch->client))
			continue;
		canal_write_once(&wait->sock, CANAL_NONE);
		/* The host still has the bell of the use before. */
		canal_write_once(&wait->serial, wait->serial + 1);
		canal_disarm(&wait->armed);
		canal_write_once(&ch->call[i].state, CANAL_CALL_IDLE);
		*ret_slot = i;
		return 0;
	}
	return -ENFILE;
}

static void slot_free(struct channel *ch, uint32_t slot)
{
	canal_disarm(&ch->wait[slot].armed);
	/* K1 release: the next owner finds the slot as we left it */
	canal_store_release(&ch->wait[slot].owner, 0u);
}

/*
 * Slots whose question was given up, by time or cancellation, while canald was
 * still looking for the answer: they are nobody's until that has come, as it
 * would be written over the next one's question. (slot << 32 | fd + 1)
 */
static uint64_t parked[PARKED];

static void park(const struct waiter *w)
{
	for (int i = 0; i < PARKED; i++)
		if (canal_cas(&parked[i], 0ull, (uint64_t)w->slot << 32 | (uint32_t)(w->fd + 1)))
			return;
	/* So many: that one stays taken. */
}

static bool question_open(const struct channel *ch, uint32_t slot)
{
	/* C1 acquire: COMPLETED before the slot is another's; pairs with the host */
	return canal_load_acquire(&ch->call[slot].state) == CANAL_INR_REQUESTED;
}

static void unpark(struct channel *ch)
{
	for (int i = 0; i < PARKED; i++) {
		uint64_t one = canal_read_once(&parked[i]);
		struct waiter w = { .slot = one >> 32, .fd = (int)(uint32_t)one - 1 };

		if (one && !question_open(ch, w.slot) && canal_cas(&parked[i], one, 0ull))
			waiter_release(ch, &w);
	}
}

void waiter_abandon(struct channel *ch, struct waiter *w)
{
	if (!question_open(ch, w->slot)) {
		waiter_return(ch, w);
		return;
	}
	park(w);
	if (w == &own_waiter) {
		canal_write_once(&slot_fd[w->slot % WAIT_SLOTS], 0);
		own_busy = 0;
	}
	w->client = 0;
}

/* The program has used up its descriptors; what it waits with is the library's. */
static int waiter_beyond(struct channel *ch, bool nonblock, struct waiter *w)
{
	bool entered = fd_room_enter();
	int err = ch->via->waiter(ch, w->slot, nonblock, &w->fd);

	fd_room_leave(entered);
	return err;
}

int waiter_claim(struct channel *ch, bool nonblock, struct waiter *ret_w)
{
	struct waiter w = { .client = 0 };
	int err;

	unpark(ch);

	if (unlikely(!canal_load_acquire(&ch->client))) {
		err = channel_get(&ch);
		if (err)
			return err;
	}
	err = slot_claim(ch, &w.slot);
	if (err)
		return err;
	err = ch->via->waiter(ch, w.slot, nonblock, &w.fd);
	if (unlikely(err == -EMFILE))
		err = waiter_beyond(ch, nonblock, &w);
	if (err) {
		slot_free(ch, w.slot);
		return err;
	}
	w.client = ch->client;
	*ret_w = w;
	return 0;
}

void waiter_release(struct channel *ch, struct waiter *w)
{
	int saved = errno;

	slot_free(ch, w->slot);
	fd_close_own(w->fd);
	w->client = 0;
	errno = saved;
}

/* The thread ends. */
static void own_release(void *unused)
{
	(void)unused;
	keep_over(); /* cancelled in a call */
	epoll_thread_ends();
	if (!own_waiter.client || own_waiter.client != the_channel.client)
		return;
	wait_trim(&the_channel);
	if (question_open(&the_channel, own_waiter.slot)) { /* it was cancelled */
		waiter_abandon(&the_channel, &own_waiter);
		return;
	}
	canal_write_once(&slot_fd[own_waiter.slot % WAIT_SLOTS], 0);
	waiter_release(&the_channel, &own_waiter);
	own_busy = 0;
}

static void exit_key_make(void)
{
	(void)pthread_key_create(&exit_key, own_release);
}

void wait_hear_exit(void)
{
	pthread_once(&exit_key_once, exit_key_make);
	(void)pthread_setspecific(exit_key, &own_waiter);
}

static __attribute__((noinline)) int own_claim(struct channel *ch)
{
	int err = waiter_claim(ch, false, &own_waiter);

	if (err)
		return err;
	canal_write_once(&slot_fd[own_waiter.slot % WAIT_SLOTS], own_waiter.fd + 1);
	wait_hear_exit();
	return 0;
}

int waiter_get(struct channel *ch, struct waiter **ret_w)
{
	if (unlikely(!own_waiter.client)) {
		int err = own_claim(ch);

		if (err)
			return err;
	}
	*ret_w = &own_waiter;
	return 0;
}

/* --- jumps out of a sleep ---------------------------------------------- */

bool wait_is_left(uintptr_t where, const void *here)
{
	stack_t ss = { .ss_flags = 0 };

	if ((uintptr_t)here < where || sys_filtered)
		return false;
	/* a handler's own stack may lie above what it interrupted */
	return sys_call2(SYS_sigaltstack, 0, &ss) == 0 && !(ss.ss_flags & SS_ONSTACK);
}

/* Of a sleep that nobody is in any more. */
static void slot_left(struct channel *ch, struct waiter *w)
{
	canal_disarm(&ch->wait[w->slot].armed);
	if (question_open(ch, w->slot))
		waiter_abandon(ch, w);
}

static void spares_left(struct channel *ch, const void *here)
{
	for (int i = 0; i < SPARES; i++) {
		struct waiter w = spares[i].w;

		if (!spares[i].where || !wait_is_left(spares[i].where, here))
			continue;
		spares[i].where = 0;
		if (w.client == canal_read_once(&ch->client))
			waiter_abandon(ch, &w);
	}
}

static int spare_claim(struct channel *ch, struct waiter *spare)
{
	int err;

	spares_left(ch, spare);
	err = waiter_claim(ch, false, spare);
	for (int i = 0; !err && i < SPARES; i++) {
		if (spares[i].where)
			continue;
		spares[i].w = *spare;
		spares[i].where = (uintptr_t)spare;
		break;
	}
	return err;
}

int waiter_borrow(struct channel *ch, struct waiter *spare, struct waiter **ret_w)
{
	int err;

	if (unlikely(own_busy)) {
		if (!wait_is_left(own_busy, spare)) {
			*ret_w = spare;
			return spare_claim(ch, spare);
		}
		slot_left(ch, &own_waiter);
		spares_left(ch, spare);
	}
	own_busy = (uintptr_t)spare; /* first: a handler between the two takes a spare */
	err = waiter_get(ch, ret_w);
	if (err)
		own_busy = 0;
	return err;
}

void waiter_return(struct channel *ch, struct waiter *w)
{
	if (likely(w == &own_waiter)) {
		own_busy = 0;
		return;
	}
	for (int i = 0; i < SPARES; i++)
		if (spares[i].where == (uintptr_t)w)
			spares[i].where = 0;
	waiter_release(ch, w);
}

void wait_after_fork(void)
{
	for (uint32_t i = 0; i < WAIT_SLOTS; i++) {
		if (!slot_fd[i])
			continue;
		fd_close_own(slot_fd[i] - 1);
		slot_fd[i] = 0;
	}
	for (int i = 0; i < PARKED; i++) {
		if (parked[i])
			fd_close_own((int)(uint32_t)parked[i] - 1);
		parked[i] = 0;
	}
	keep_after_fork();
	own_waiter.client = 0;
	own_busy = 0;
	memset(spares, 0, sizeof(spares));
	lock_after_fork();
}

void wait_leave(void)
{
	wait_after_fork();
	trim_forget();
}

/* --- spinning ---------------------------------------------------------- */

/*
 * A yield that takes long ran somebody else for his whole slice: there are more
 * runnable threads than cores. Who yields then waits for slices, while who
 * sleeps is put in front when he is woken.
 */
static bool yield_crowded(int64_t *now)
{
	int64_t before = *now;

	sys_yield();
	*now = wait_now();
	return *now - before > CROWDED_NS;
}

static bool spin(uint32_t looks, uint32_t yields, bool (*ready)(void *), void *arg)
{
	int64_t now;

	for (uint32_t i = 0; i < looks; i++) {
		if (ready(arg))
			return true;
		canal_relax();
	}
	/* behind a filter there is no yield, nor the clock: SECCOMP_MODE_STRICT takes that, too */
	if (!yields || spin_crowded || sys_filtered)
		return ready(arg);
	now = wait_now();
	for (uint32_t i = 0; i < yields; i++) {
		if (ready(arg))
			return true;
		if (yield_crowded(&now)) {
			spin_crowded = CROWDED_WAITS;
			break;
		}
	}
	return ready(arg);
}

/*
 * Spinning that found nothing halves what the thread spends on the next one,
 * down to a sixteenth and one yield; spinning that paid, and every sixteenth
 * wait, restores it.
 */
bool wait_spin(const struct channel *ch, bool (*ready)(void *), void *arg)
{
	uint32_t most = canal_read_once(&ch->region->spin_looks);
	uint32_t looks = spin_looks;
	bool paid;

	if (spin_crowded)
		spin_crowded--;
	if (!looks || looks > most || spin_waits++ % SPIN_PROBE == 0)
		looks = most;
	paid = spin(looks, most ? 1 + SPIN_YIELDS * looks / most : 0, ready, arg);
	spin_looks = paid ? most : looks / 2 > most / 16 ? looks / 2 : most / 16;
	if (!spin_looks)
		spin_looks = 1;
	return paid;
}

/* --- sleeping ---------------------------------------------------------- */

static int bell_read(struct channel *ch, long got)
{
	if (got > 0)
		return 0;
	if (got < 0 && got != -ENODEV)
		return (int)got;
	/* canald had the only write end; or the device of the virtual machine is gone */
	canal_write_once(&ch->dead, true);
	return -EPIPE;
}

/* Until there is a byte in the bell, the deadline, or a signal that is let in. */
static int bell_poll(int fd, int64_t deadline, const sigset_t *mask)
{
	int64_t left = deadline == WAIT_FOREVER ? 0 : deadline - wait_now();
	struct timespec t = { .tv_sec = left / NSEC_PER_SEC, .tv_nsec = left % NSEC_PER_SEC };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n = left >= 0 ? real(ppoll)(&p, 1, deadline == WAIT_FOREVER ? NULL : &t, mask) : 0;

	return n > 0 ? 0 : n ? -errno : -EAGAIN;
}

/* Sleeps until a byte comes; a cancellation point, as the program's call is. */
static int bell_sleep(struct channel *ch, int fd, int64_t deadline)
{
	sigset_t room;
	const sigset_t *mask = hold_sleeps(&room);
	char bytes[64];
	int saved = errno, err = 0;

	if (deadline != WAIT_FOREVER || mask)
		err = bell_poll(fd, deadline, mask);
	hold_slept(mask);
	if (!err) {
		ssize_t got = real(read)(fd, bytes, sizeof(bytes));

		err = bell_read(ch, got < 0 ? -errno : got);
	}
	errno = saved;
	return err;
}

/* One armed sleep. 0: ready or woken, look again. */
static int sleep_once(struct channel *ch, struct canal_sock *s, const struct waiter *w, int words,
		      bool (*ready)(void *), void *arg, int64_t deadline)
{
	struct canal_wait *slot = &ch->wait[w->slot];
	int err = 0;

	if (words & WAIT_ONE)
		canal_arm_one(&slot->armed); /* S1 */
	else
		canal_arm(&slot->armed); /* S1 */
	if (words & WAIT_READ)
		canal_arm_bit(&s->rd_waiters, w->slot); /* S1 */
	if (words & WAIT_WRITE)
		canal_arm_bit(&s->wr_waiters, w->slot); /* S1 */
	if (!ready(arg))
		err = bell_sleep(ch, w->fd, deadline);
	canal_disarm(&slot->armed);
	return err;
}

/* Readiness comes before the reason to end; but a handler that was let in (hold.h) has
 * run, and nobody will hear of it later. */
static int wait_result(int err, bool (*ready)(void *), void *arg)
{
	return err && !(err == -EINTR && hold_is_on()) && ready(arg) ? 0 : err;
}

static int nap_until(int64_t nap, int64_t deadline)
{
	int64_t left = deadline == WAIT_FOREVER ? nap : deadline - wait_now();

	return wait_nap(left < 0 ? 0 : left < nap ? left : nap);
}

/* For who gets no wait slot. */
static int sleep_poorly(struct channel *ch, bool (*ready)(void *), void *arg, int64_t deadline)
{
	int64_t nap = 0;
	int err = 0;

	while (!ready(arg) && !err) {
		if (channel_gone(ch))
			err = -EPIPE;
		else if (deadline != WAIT_FOREVER && wait_now() >= deadline)
			err = -EAGAIN;
		else
			err = nap_until(nap = wait_longer(nap), deadline);
	}
	return wait_result(err, ready, arg);
}

int wait_socket(struct channel *ch, struct canal_sock *s, uint32_t number, int words,
		bool (*ready)(void *), void *arg, int64_t deadline)
{
	struct waiter spare, *w;
	int err = 0;

	if (wait_spin(ch, ready, arg))
		return 0;
	wait_trim(ch);
	if (waiter_borrow(ch, &spare, &w))
		return sleep_poorly(ch, ready, arg, deadline);
	canal_write_once(&ch->wait[w->slot].sock, number);
	if (w == &own_waiter)
		keep_begin(w->slot, number);
	while (!ready(arg) && !err)
		err = channel_gone(ch) ? -EPIPE : sleep_once(ch, s, w, words, ready, arg, deadline);
	waiter_return(ch, w);
	return wait_result(err, ready, arg);
}

int wait_socket_on(struct channel *ch, struct canal_sock *s, uint32_t number, int words,
		   bool (*ready)(void *), void *arg, int64_t deadline)
{
	bool holds = hold_begin();
	int err = wait_socket(ch, s, number, words, ready, arg, deadline);

	if (holds)
		hold_end();
	return err;
}

int wait_slot(struct channel *ch, struct waiter *w, bool (*ready)(void *), void *arg)
{
	struct canal_wait *slot = &ch->wait[w->slot];
	char bytes[64];
	int err = 0;

	if (wait_spin(ch, ready, arg))
		return 0;
	canal_write_once(&slot->sock, CANAL_NONE);
	while (!ready(arg) && !err) {
		if (channel_gone(ch))
			return -EPIPE;
		canal_arm(&slot->armed); /* S1 */
		if (!ready(arg)) {
			err = bell_read(ch, sys_call4(SYS_read, w->fd, bytes, sizeof(bytes), 0));
			if (err == -EINTR)
				err = 0;
		}
		canal_disarm(&slot->armed);
	}
	return ready(arg) ? 0 : err;
}

int wait_slot_until(struct channel *ch, struct waiter *w, bool (*ready)(void *), void *arg,
		    int64_t deadline)
{
	int err = 0;

	if (wait_spin(ch, ready, arg))
		return 0;
	wait_trim(ch);
	canal_write_once(&ch->wait[w->slot].sock, CANAL_NONE);
	while (!ready(arg) && !err)
		err = channel_gone(ch) ? -EPIPE : sleep_once(ch, NULL, w, 0, ready, arg, deadline);
	return wait_result(err, ready, arg);
}
