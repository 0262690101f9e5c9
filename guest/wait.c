/* SPDX-License-Identifier: MIT */
/*
 * Waiting: look, yield, sleep; and the locks, which only look and yield.
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
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "guest.h"
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
/* Between looks of one who has no slot. */
#define POOR_NAP_NS 200000
/* Between searches for chunks that lie idle, while there are none. */
#define SCAVENGE_NS 10000000
/* A thread remembers this many sockets for the trim. */
#define NOTED 16
/* wait_arrival(): looks, the second half of them with a yield, and bytes worth them. */
#define ARRIVAL_LOOKS 400
#define ARRIVAL_MOST 4096
/* Slots whose bells a forked child closes; the wire has no more. */
#define WAIT_SLOTS 1024
/* Handlers on top of each other whose slots are given back when one jumps out. */
#define SPARES 4
/* Slots that rest at once. */
#define PARKED 64

#define TLS __thread __attribute__((tls_model("initial-exec")))

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
static TLS struct canal_sock *noted[NOTED];
static TLS uint32_t noted_count;
TLS bool wait_has_inward; /* of those some were, when they were noted */

/* Read ends of this process's threads, by slot, plus 1; for wait_after_fork(). */
static int slot_fd[WAIT_SLOTS];

/* The pid namespace of this process, as CANAL_LOCK_SPACE; 1: it cannot be asked. */
static uint32_t own_space;
#define SPACE_UNKNOWN 1u

static pthread_once_t exit_key_once = PTHREAD_ONCE_INIT;
static pthread_key_t exit_key;

int64_t wait_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
}

int wait_nap(int64_t ns)
{
	struct timespec t = { .tv_sec = ns / NSEC_PER_SEC, .tv_nsec = ns % NSEC_PER_SEC };

	return (int)sys_call2(SYS_nanosleep, &t, 0);
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

uint32_t lock_forks;

void lock_before_fork(void)
{
	(void)canal_fetch_add(&lock_forks, 1u);
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
	lock_self = 0;
	own_space = 0;
}

void wait_leave(void)
{
	wait_after_fork();
	noted_count = 0;
	wait_has_inward = false;
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
	if (!yields || spin_crowded)
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

/* Sleeps until a byte comes; a cancellation point, as the program's call is. */
static int bell_sleep(struct channel *ch, int fd, int64_t deadline)
{
	char bytes[64];
	int saved = errno, err = 0;

	if (deadline != WAIT_FOREVER) {
		int64_t left = deadline - wait_now();
		struct timespec t = { .tv_sec = left / NSEC_PER_SEC,
				      .tv_nsec = left % NSEC_PER_SEC };
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int n = left > 0 ? real(ppoll)(&p, 1, &t, NULL) : 0;

		if (n <= 0)
			err = n ? -errno : -EAGAIN;
	}
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

/* For who gets no wait slot. */
static int sleep_poorly(struct channel *ch, bool (*ready)(void *), void *arg, int64_t deadline)
{
	int err = 0;

	while (!ready(arg) && !err) {
		if (channel_gone(ch))
			err = -EPIPE;
		else if (deadline != WAIT_FOREVER && wait_now() >= deadline)
			err = -EAGAIN;
		else
			err = wait_nap(POOR_NAP_NS);
	}
	return ready(arg) ? 0 : err;
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
	return err && ready(arg) ? 0 : err;
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
	return err && ready(arg) ? 0 : err;
}

/* --- trimming ---------------------------------------------------------- */

/* Gives the chunks of a table to the pool; whether there were any. Under tx_lock. */
static bool table_empty(struct channel *ch, struct canal_fifo *f)
{
	bool found = false;

	for (uint32_t i = 0; i < CANAL_FIFO_CHUNKS; i++) {
		uint32_t id = canal_read_once(&f->chunk[i]);

		if (id >= ch->tx.count)
			continue;
		canal_write_once(&f->chunk[i], CANAL_NONE);
		canal_pool_give(&ch->tx_pool, id);
		found = true;
	}
	return found;
}

/* The same of a FIFO that is empty, and goes on. */
static bool trim_table(struct channel *ch, struct canal_fifo *f)
{
	bool found = table_empty(ch, f);

	canal_write_once(&f->reclaim, f->tail & ~(uint64_t)(CANAL_CHUNK - 1));
	return found;
}

/* It is nobody's now, or not yet. */
static bool sock_ended(uint32_t state)
{
	return state == CANAL_SOCK_FREE || state == CANAL_SOCK_GRANTED ||
	       state == CANAL_SOCK_CLOSED;
}

/*
 * Whether there is nothing more to do for @s, which may be closed by now and its
 * number in other hands. The host resets no socket while a lock of it is held;
 * one that ended keeps its chunks for the next of that number.
 */
static bool trim_socket(struct channel *ch, struct canal_sock *s)
{
	struct canal_fifo *f = &s->tx;
	uint32_t state;
	bool done;

	if (!lock_try(&f->tx_lock))
		return false;
	/* F1 store-load: the lock before the state; pairs with number_locked() */
	state = canal_load_acquire(&s->state);
	done = sock_ended(state);
	/* R2 acquire: the host has read all before we give the chunk away */
	if (!done && canal_load_acquire(&f->head) == f->tail) {
		(void)trim_table(ch, f);
		done = true;
	}
	lock_drop(&f->tx_lock);
	return done;
}

/* The chunks of a socket that ended, or whose FIFO is empty. */
static bool scavenge_socket(struct channel *ch, struct canal_sock *s)
{
	struct canal_fifo *f = &s->tx;
	bool found = false;
	uint32_t state;

	if (!lock_try(&f->tx_lock))
		return false;
	/* F1 store-load: the lock before the state; pairs with number_locked() */
	state = canal_load_acquire(&s->state);
	/* R2 acquire: the host has read all before we give the chunk away */
	if (sock_ended(state))
		found = table_empty(ch, f);
	else if (canal_load_acquire(&f->head) == f->tail)
		found = trim_table(ch, f);
	lock_drop(&f->tx_lock);
	return found;
}

bool wait_scavenge(struct channel *ch)
{
	static int64_t last;
	static uint32_t cursor;
	uint32_t n = canal_read_once(&cursor);
	int64_t now = wait_now();
	bool found = false;

	if (now - canal_read_once(&last) < SCAVENGE_NS)
		return false;
	for (uint32_t i = 0; i < ch->sock_count && !found; i++) {
		struct canal_sock *s = channel_sock(ch, ++n % ch->sock_count);

		/* a number that was never used has no generation */
		found = canal_read_once(&s->generation) && scavenge_socket(ch, s);
	}
	canal_write_once(&cursor, n);
	if (!found)
		canal_write_once(&last, now);
	return found;
}

/* A handler may note on top of us: at worst a socket is forgotten, and its
 * chunk stays until it is used again. */
void wait_note_tx(struct canal_sock *s)
{
	uint32_t count = noted_count < NOTED ? noted_count : NOTED;

	if (canal_read_once(&s->inward))
		wait_has_inward = true;
	for (uint32_t i = 0; i < count; i++)
		if (noted[i] == s)
			return;
	if (count < NOTED) {
		noted[count] = s;
		noted_count = count + 1;
		return;
	}
	/* The oldest goes, with its chunk if that is free by now. */
	(void)trim_socket(&the_channel, noted[0]);
	memmove(noted, noted + 1, (NOTED - 1) * sizeof(noted[0]));
	noted[NOTED - 1] = s;
}

void wait_trim(struct channel *ch)
{
	uint32_t count = noted_count, kept = 0;

	noted_count = 0;
	for (uint32_t i = 0; i < count; i++)
		if (!trim_socket(ch, noted[i]))
			noted[kept++] = noted[i];
	noted_count = kept;
	if (!kept)
		wait_has_inward = false;
}

static bool is_arriving(const struct canal_sock *s)
{
	uint64_t sent = canal_read_once(&s->tx.tail) - canal_load_acquire(&s->tx.head);

	return sent && sent <= ARRIVAL_MOST;
}

void wait_inward(const struct channel *ch)
{
	/* a socket that was sent on since the last trim is noted: that took a chunk */
	for (uint32_t i = 0; i < noted_count; i++) {
		const struct canal_sock *s = noted[i];

		if (!canal_read_once(&s->inward))
			continue;
		for (int j = 0; j < ARRIVAL_LOOKS && is_arriving(s) && !channel_gone(ch); j++)
			j < ARRIVAL_LOOKS / 2 ? canal_relax() : sys_yield();
	}
}

/* --- locks ------------------------------------------------------------- */

/* Looks before the first yield; yields before asking whether the holder lives. */
#define LOCK_LOOKS 200
#define LOCK_YIELDS 64
#define LOCK_NAP_NS 50000
#define STRANGE_NS 3000000000

/* A holder in another pid namespace. */
struct strange {
	uint32_t holder;
	int64_t since;
};

TLS uint32_t lock_self;

static uint32_t space_learn(void)
{
	struct stat st;
	uint32_t space = canal_read_once(&own_space);
	int saved = errno;

	if (space)
		return space;
	space = !sys_filtered && stat("/proc/self/ns/pid", &st) == 0 ? CANAL_LOCK_SPACE(st.st_ino)
								     : SPACE_UNKNOWN;
	canal_write_once(&own_space, space);
	errno = saved;
	return space;
}

uint32_t lock_learn_self(void)
{
	uint32_t tid = (uint32_t)sys_call2(SYS_gettid, 0, 0);

	lock_self = (tid & CANAL_LOCK_TID) | CANAL_LOCK_SPACE_OF(space_learn());
	return lock_self;
}

/* A process that was killed and that nobody has waited for is dead, too. */
static bool thread_is_zombie(uint32_t tid)
{
	char path[32], text[512];
	const char *name_end;
	long fd, got;

	(void)snprintf(path, sizeof(path), "/proc/%u/stat", tid);
	fd = sys_call4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	got = sys_call4(SYS_read, fd, text, sizeof(text) - 1, 0);
	sys_close((int)fd);
	text[got > 0 ? got : 0] = '\0';
	name_end = strrchr(text, ')');
	return name_end && (!strncmp(name_end, ") Z", 3) || !strncmp(name_end, ") X", 3));
}

static bool thread_is_dead(uint32_t tid)
{
	return sys_call2(SYS_tkill, tid, 0) == -ESRCH || thread_is_zombie(tid);
}

/* In which pid namespace nobody here can ask: by the time that it has held the lock, as
 * no copy takes that long. */
static bool stranger_is_dead(uint32_t holder, struct strange *strange)
{
	int64_t now = wait_now();

	if (strange->holder != holder)
		*strange = (struct strange){ .holder = holder, .since = now };
	return now - strange->since > STRANGE_NS;
}

static bool holder_is_dead(uint32_t holder, uint32_t me, struct strange *strange)
{
	uint32_t space = CANAL_LOCK_SPACE_OF(holder), own = CANAL_LOCK_SPACE_OF(me);

	if (holder & CANAL_LOCK_KERNEL)
		return false; /* it lets go soon */
	if (space && own && space != own)
		return stranger_is_dead(holder, strange);
	return thread_is_dead(holder & CANAL_LOCK_TID);
}

bool lock_contend(uint32_t *lock, uint32_t me)
{
	struct strange strange = { .holder = 0 };

	for (uint32_t i = 0;; i++) {
		uint32_t holder = canal_read_once(lock);

		if (holder == me)
			return false;
		/* K1 acquire; a dead holder's stores are all done */
		if (!holder ? canal_cas(lock, 0u, me)
			    : i > LOCK_LOOKS && i % LOCK_YIELDS == 0 &&
				      holder_is_dead(holder, me, &strange) &&
				      canal_cas(lock, holder, me))
			return true;
		if (i < LOCK_LOOKS)
			canal_relax();
		else if (i < LOCK_LOOKS + 16 * LOCK_YIELDS)
			sys_yield();
		else
			(void)wait_nap(LOCK_NAP_NS);
	}
}

/* One who holds it already (a handler on top of the holder, or code after a
 * jump out of one) goes on: it cannot wait for itself. */
void lock_take(uint32_t *lock)
{
	(void)lock_enter(lock);
}

bool lock_try(uint32_t *lock)
{
	return !canal_read_once(lock) && canal_cas(lock, 0u, lock_me());
}

void lock_drop(uint32_t *lock)
{
	lock_leave(lock);
}

void lock_forget(uint32_t *lock)
{
	uint32_t me = lock_me();

	if (canal_read_once(lock) == me)
		(void)canal_cas(lock, me, 0u);
}
