/* SPDX-License-Identifier: MIT */
/*
 * Locks in the region, and who is taken for dead.
 *
 * Purpose: the slow part of lock.h. Who waits for a lock looks, yields, and asks now
 * and then whether its holder still lives; a dead one's lock is taken over.
 *
 * Ownership and threads: any thread of any process that has the channel. What is
 * thread-local here is forgotten in a forked child.
 *
 * Failure: a holder in another pid namespace cannot be asked for: it counts as dead
 * after STRANGE_NS.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "guest.h"
#include "lock.h"
#include "sys.h"

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

uint32_t lock_forks;
TLS uint32_t lock_self;

/* The pid namespace of this process, as CANAL_LOCK_SPACE; 1: it cannot be asked. */
static uint32_t own_space;
#define SPACE_UNKNOWN 1u

void lock_before_fork(void)
{
	(void)canal_fetch_add(&lock_forks, 1u);
}

void lock_after_fork(void)
{
	lock_self = 0;
	own_space = 0;
}

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

		if (holder == me) {
			if (!lock_is_fifo(lock) || lock_in_handler())
				return false;
			lock_taken_over(lock);
			return true;
		}
		/* K1 acquire */
		if (!holder && canal_cas(lock, 0u, me))
			return true;
		/* K1 acquire; a dead holder's stores are all done */
		if (holder && i > LOCK_LOOKS && i % LOCK_YIELDS == 0 &&
		    holder_is_dead(holder, me, &strange) && canal_cas(lock, holder, me)) {
			lock_taken_over(lock);
			return true;
		}
		if (i < LOCK_LOOKS)
			canal_relax();
		else if (i < LOCK_LOOKS + 16 * LOCK_YIELDS)
			sys_yield();
		else
			(void)wait_nap(LOCK_NAP_NS);
	}
}

/* One who holds it already goes on, as it cannot wait for itself: a handler on top of the
 * holder, or, where the lock is no FIFO's, code behind a jump out of one. */
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

	if (canal_read_once(lock) == me && canal_cas(lock, me, 0u))
		lock_taken_over(lock);
}
