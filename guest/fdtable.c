/* SPDX-License-Identifier: MIT */
/*
 * Which descriptors are canal's, and which are the library's own.
 *
 * Purpose: a look-up that costs a compare and a load (fd_lookup, fd_sock), the
 * count of descriptors per socket and set, and the numbers of descriptors that
 * the program must neither see nor close.
 *
 * Invariants
 *  1. The table never moves. It is reserved once, as long as the hard limit of
 *     descriptors allows at most; only touched pages cost memory.
 *  2. An entry's kind is stored last and cleared first: who sees a kind sees the
 *     object that belongs to it.
 *  3. The count of an object is the number of entries that name it.
 *
 * Ownership and threads: private to the process, copied by fork as the
 * descriptors are. Any thread may install and remove; two that race over the
 * same number race over the descriptor too, as in the kernel.
 *
 * Failure: -ENFILE for a number beyond the table: that descriptor stays the
 * kernel's.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "guest.h"
#include "internal.h"
#include "lock.h"
#include "sys.h"

#define FD_MAX (1u << 20)
#define FD_SOCKETS_MAX (1u << 16)
#define FD_SETS_MAX (1u << 12)
/* Our own descriptors lie just below this, out of select()'s and most people's way. */
#define FD_OWN_BELOW 4096
#define FD_OWN_ROOM 96

struct fd_entry *fd_table;
uint32_t fd_table_len;

static uint32_t used_len; /* every entry from here on is FD_NONE */
static uint32_t sock_refs[FD_SOCKETS_MAX];
static uint32_t set_refs[FD_SETS_MAX];
static uint32_t sock_forks[FD_SOCKETS_MAX]; /* lock_forks when its first number came */
static uint64_t own_map[FD_MAX / 64];
static uint32_t own_lowest = FD_MAX;

static void table_make(void)
{
	struct rlimit limit = { 0 };
	uint32_t count = FD_MAX;
	void *table;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < FD_MAX)
		count = limit.rlim_max;
	table = mmap(NULL, count * sizeof(struct fd_entry), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table == MAP_FAILED)
		return;
	fd_table = table;
	/* The table before its length: fd_lookup() depends on it by control. */
	canal_store_release(&fd_table_len, count);
}

static uint32_t *refs_of(enum fd_kind kind, uint32_t number)
{
	if (kind == FD_SOCKET || kind == FD_HANDED)
		return number < FD_SOCKETS_MAX ? &sock_refs[number] : NULL;
	return number < FD_SETS_MAX ? &set_refs[number] : NULL;
}

static void grow_to(uint32_t *high, uint32_t value)
{
	uint32_t seen = canal_read_once(high);

	while (seen < value && !canal_cas(high, seen, value))
		seen = canal_read_once(high);
}

/* stdout or stderr is on it, so that stdio may write to it. */
static bool is_stdio(const void *sock)
{
	return fd_sock(STDOUT_FILENO) == sock || fd_sock(STDERR_FILENO) == sock;
}

/*
 * An entry that is still there belongs to a descriptor that was closed where
 * libcanal could not see it (fclose): it is dropped first.
 */
static int install(int fd, const struct fd_entry *what)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	uint32_t *refs = refs_of(what->kind, what->number);
	struct fd_entry *entry;

	pthread_once(&once, table_make);
	if (!refs || (uint32_t)fd >= fd_table_len)
		return -ENFILE;
	process_drop(fd);
	entry = &fd_table[fd];
	entry->object = what->object;
	entry->number = what->number;
	entry->flags = what->flags;
	if (!canal_fetch_add(refs, 1u) && what->kind != FD_EPOLL)
		canal_write_once(&sock_forks[what->number], canal_read_once(&lock_forks));
	grow_to(&used_len, (uint32_t)fd + 1);
	/* The entry before its kind. */
	canal_store_release(&entry->kind, what->kind);
	if ((fd == STDOUT_FILENO || fd == STDERR_FILENO) && what->kind == FD_SOCKET)
		fd_slow_down(what->object);
	return 0;
}

/* From now on @fd means @object. */
int fd_install(int fd, enum fd_kind kind, void *object, uint32_t number)
{
	const struct fd_entry what = { .object = object, .number = number, .kind = kind };

	return install(fd, &what);
}

int fd_install_socket(int fd, struct sock_ref ref)
{
	const struct fd_entry what = {
		.object = ref.s,
		.number = ref.n,
		.kind = FD_SOCKET,
		.flags = ref.domain << 8 | ref.type |
			 (canal_read_once(&ref.s->rcvlowat) > 1 || is_stdio(ref.s) ? SOCK_SLOWLY
										   : 0),
	};

	return install(fd, &what);
}

void fd_slow_down(const struct canal_sock *s)
{
	uint32_t len = canal_read_once(&used_len);

	for (uint32_t fd = 0; fd < len; fd++)
		if (fd_sock((int)fd) == s)
			(void)canal_fetch_or(&fd_table[fd].flags, (uint16_t)SOCK_SLOWLY);
}

bool fd_remove(int fd)
{
	struct fd_entry *entry = &fd_table[fd];
	uint16_t kind = canal_xchg(&entry->kind, (uint16_t)FD_NONE);

	if (kind == FD_NONE)
		return false;
	return canal_fetch_add(refs_of(kind, entry->number), -1u) == 1;
}

bool fd_is_private(uint32_t sock)
{
	return sock < FD_SOCKETS_MAX &&
	       canal_read_once(&sock_forks[sock]) == canal_read_once(&lock_forks);
}

void fd_copy(int from, int to)
{
	const struct fd_entry *entry = fd_lookup(from);
	struct fd_entry what;

	if (!entry)
		return;
	what = *entry;
	(void)install(to, &what);
}

/* The first number at or above @fd that is in the table as ours; -1 if none. */
int fd_next(int fd)
{
	uint32_t len = canal_read_once(&used_len);

	for (uint32_t i = fd; i < len; i++)
		if (fd_table[i].kind != FD_NONE)
			return i;
	return -1;
}

/* The first of the library's own descriptors at or above @fd; -1 if none. */
int fd_next_own(int fd)
{
	uint32_t i = canal_read_once(&own_lowest);

	if (i < (uint32_t)fd)
		i = fd;
	while (i < FD_MAX) {
		uint64_t word = canal_read_once(&own_map[i / 64]) >> (i % 64);

		if (word)
			return i + __builtin_ctzll(word);
		i = (i / 64 + 1) * 64;
	}
	return -1;
}

bool fd_is_ours(int fd)
{
	return (uint32_t)fd >= canal_read_once(&own_lowest) && (uint32_t)fd < FD_MAX &&
	       (canal_read_once(&own_map[fd / 64]) >> (fd % 64) & 1);
}

static void own_add(int fd)
{
	uint32_t lowest = canal_read_once(&own_lowest);

	if ((uint32_t)fd >= FD_MAX)
		return;
	(void)canal_fetch_or(&own_map[fd / 64], 1ull << (fd % 64));
	while ((uint32_t)fd < lowest && !canal_cas(&own_lowest, lowest, (uint32_t)fd))
		lowest = canal_read_once(&own_lowest);
}

/* --- room beyond the program's limit ------------------------------------ */

/*
 * The soft limit of descriptors is the program's, and the hard one may be higher:
 * there the library has room. The limit is raised for a moment, by one thread.
 */
static uint32_t room_lock;
static struct rlimit room_was; /* while it is raised */
static bool room_raised;

static bool limit_set(const struct rlimit *to)
{
	return sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, to, 0) == 0;
}

/* Under the lock. */
static void raise_limit(void)
{
	struct rlimit to;

	if (sys_filtered || sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &room_was))
		return;
	to = room_was;
	to.rlim_cur = to.rlim_max < FD_OWN_BELOW ? to.rlim_max : FD_OWN_BELOW;
	room_raised = to.rlim_cur > room_was.rlim_cur && limit_set(&to);
}

static void lower_limit(void)
{
	if (room_raised)
		(void)limit_set(&room_was);
	room_raised = false;
}

bool fd_room_enter(void)
{
	if (!lock_enter(&room_lock))
		return false;
	raise_limit();
	return true;
}

void fd_room_leave(bool entered)
{
	if (!entered)
		return;
	lower_limit();
	lock_leave(&room_lock);
}

int fd_room_limit(const struct rlimit *to)
{
	bool locked = lock_enter(&room_lock);
	int ret = real(setrlimit)(RLIMIT_NOFILE, to);

	if (locked)
		lock_leave(&room_lock);
	return ret;
}

void fd_room_after_fork(void)
{
	lower_limit();
	canal_write_once(&room_lock, 0u);
}

static int dup_high(int fd)
{
	struct rlimit limit = { .rlim_cur = FD_OWN_BELOW };
	long below = FD_OWN_BELOW, from;
	int moved = -1;

	(void)sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &limit);
	if (limit.rlim_cur < (rlim_t)below)
		below = (long)limit.rlim_cur;
	from = below > 2 * FD_OWN_ROOM ? below - FD_OWN_ROOM : below * 3 / 4;
	for (; moved < 0 && from > fd; from /= 2)
		moved = (int)sys_call4(SYS_fcntl, fd, F_DUPFD_CLOEXEC, from, 0);
	return moved;
}

/**
 * fd_move_high() - hide a descriptor from the program
 * @fd: one that the library has just opened
 *
 * Return: its new number (the old one when there is no room above), marked as
 * the library's own and closed on exec.
 */
int fd_move_high(int fd)
{
	bool entered;
	int moved;

	if (fd < 0)
		return fd;
	entered = fd_room_enter();
	moved = dup_high(fd);
	fd_room_leave(entered);
	if (moved < 0) {
		(void)sys_call4(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC, 0);
		moved = fd;
	} else {
		sys_close(fd);
	}
	own_add(moved);
	return moved;
}

void fd_close_own(int fd)
{
	if (fd < 0)
		return;
	if (fd < (int)FD_MAX)
		(void)canal_fetch_and(&own_map[fd / 64], ~(1ull << (fd % 64)));
	sys_close(fd); /* no place to be cancelled at */
}
