/* SPDX-License-Identifier: MIT */
/*
 * SIGIO and SIGURG: O_ASYNC, F_SETOWN, F_SETSIG.
 *
 * Purpose: these are kept by the dummy, as the kernel does it, so that all of them
 * read back as they were set. But nothing arrives in a dummy. So a socket with an
 * owner gets bells of its own: one that is O_ASYNC with the dummy's owner and signal,
 * and one for urgent data, whose signal is SIGURG. canald rings them; the kernel sends
 * the signal, with the rights of who set the owner. canald sends none.
 *
 * si_fd is the number by which O_ASYNC was set. For a bell to have the number of the
 * dummy, it is set by a child that shares our memory and not our descriptors.
 *
 * Invariants
 *  1. Bells are those of the process that set something last; they end with it.
 *  2. Under the lock nothing waits but a call to canald.
 *
 * Ownership and threads: a private table; any thread. A signal handler on top of its
 * holder changes nothing.
 * Failure: without a wait slot or a descriptor no signal comes; what fcntl was asked
 * for is done all the same.
 */
#define _GNU_SOURCE
#include "async.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>

#include "data.h"
#include "sys.h"

#define SOCKETS 512
#define STACK 4096

/* A socket and its bells; client 0: none. */
struct belled {
	uint32_t number;
	bool used;
	struct waiter io, urgent;
};

static struct belled table[SOCKETS];
uint32_t async_count;
static uint32_t table_lock;

/* What the dummy says. */
struct wish {
	struct f_owner_ex owner;
	int number; /* of the signal; 0: SIGIO */
	bool io, urgent;
};

static int plain_fcntl(int fd, int cmd, uintptr_t arg)
{
	return (int)sys_call4(SYS_fcntl, fd, cmd, arg, 0);
}

static struct wish wish_of(int fd, struct sock_ref ref)
{
	struct wish w = { .owner.pid = 0 };
	int flags = plain_fcntl(fd, F_GETFL, 0);
	int number = plain_fcntl(fd, F_GETSIG, 0);

	if (flags < 0 || plain_fcntl(fd, F_GETOWN_EX, (uintptr_t)&w.owner) < 0 || !w.owner.pid)
		return (struct wish){ .io = false };
	w.number = number > 0 ? number : 0;
	w.io = flags & O_ASYNC;
	w.urgent = ref.type == SOCK_STREAM;
	return w;
}

/* --- O_ASYNC by another number ----------------------------------------- */

struct renamed {
	int bell, fd, flags;
};

/* In a child with descriptors of its own, in our memory and on our thread's data. */
static int set_renamed(void *arg)
{
	const struct renamed *r = arg;

	if (sys_call4(SYS_dup3, r->bell, r->fd, 0, 0) < 0)
		return 1;
	return sys_call4(SYS_fcntl, r->fd, F_SETFL, r->flags | O_ASYNC, 0) < 0;
}

static bool set_in_child(struct renamed *r)
{
	_Alignas(16) uint8_t stack[STACK];
	uint64_t all = ~0ull, before;
	int status = 1;
	pid_t pid;

	(void)sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof(all));
	pid = real(clone)(set_renamed, stack + sizeof(stack), CLONE_VM | CLONE_VFORK, r, NULL, NULL,
			  NULL);
	while (pid > 0 && sys_call4(SYS_wait4, pid, &status, __WCLONE, 0) == -EINTR)
		;
	(void)sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, &before, 0, sizeof(all));
	return pid > 0 && !status;
}

static void set_async(int bell, int fd)
{
	struct renamed r = { .bell = bell, .fd = fd, .flags = plain_fcntl(bell, F_GETFL, 0) };

	if (sys_filtered || !set_in_child(&r))
		(void)plain_fcntl(bell, F_SETFL, (unsigned int)r.flags | O_ASYNC);
}

/* --- bells ------------------------------------------------------------- */

static void bell_drop(struct waiter *w)
{
	if (w->client)
		waiter_release(&the_channel, w);
}

/* There is one if @wanted, and if one is to be had. */
static void bell_set(struct waiter *w, bool wanted, int fd, const struct f_owner_ex *owner,
		     int number)
{
	bool is_new = !w->client;

	if (!wanted || (is_new && waiter_claim(&the_channel, true, w)))
		return;
	(void)plain_fcntl(w->fd, F_SETOWN_EX, (uintptr_t)owner);
	(void)plain_fcntl(w->fd, F_SETSIG, (unsigned int)number);
	if (is_new)
		set_async(w->fd, fd);
}

static uint32_t bell_slot(const struct waiter *w, bool wanted)
{
	return wanted && w->client ? w->slot : CANAL_NONE;
}

/* --- the table --------------------------------------------------------- */

static struct belled *find(uint32_t number)
{
	for (size_t i = 0; i < SOCKETS; i++)
		if (table[i].used && table[i].number == number)
			return &table[i];
	return NULL;
}

static struct belled *add(struct sock_ref ref)
{
	for (size_t i = 0; i < SOCKETS; i++)
		if (!table[i].used) {
			table[i] = (struct belled){ .number = ref.n, .used = true };
			async_count++;
			return &table[i];
		}
	return NULL;
}

static void drop(struct belled *e)
{
	bell_drop(&e->io);
	bell_drop(&e->urgent);
	e->used = false;
	async_count--;
}

static void change_locked(int fd, struct sock_ref ref)
{
	struct wish w = wish_of(fd, ref);
	struct belled *e = find(ref.n);
	struct canal_inr inr = { .op = CANAL_INR_ASYNC, .sock = ref.n };

	if (!e && !w.io && !w.urgent)
		return;
	if (!e)
		e = add(ref);
	if (!e)
		return;
	bell_set(&e->io, w.io, fd, &w.owner, w.number);
	bell_set(&e->urgent, w.urgent, fd, &w.owner, SIGURG);
	inr.u.arg[0] = bell_slot(&e->io, w.io);
	inr.u.arg[1] = bell_slot(&e->urgent, w.urgent);
	(void)channel_call(&the_channel, &inr, NULL);
	if (!w.io)
		bell_drop(&e->io);
	if (!w.urgent)
		bell_drop(&e->urgent);
	if (!w.io && !w.urgent)
		drop(e);
}

void async_change(int fd, struct sock_ref ref)
{
	int saved = errno;

	if (lock_enter(&table_lock)) {
		change_locked(fd, ref);
		lock_leave(&table_lock);
	}
	errno = saved;
}

void async_forget(uint32_t number)
{
	struct belled *e;

	if (!lock_enter(&table_lock))
		return;
	e = find(number);
	if (e)
		drop(e);
	lock_leave(&table_lock);
}

/* The parent's bells are the parent's. */
void async_after_fork(void)
{
	for (size_t i = 0; async_count && i < SOCKETS; i++) {
		if (!table[i].used)
			continue;
		if (table[i].io.client)
			fd_close_own(table[i].io.fd);
		if (table[i].urgent.client)
			fd_close_own(table[i].urgent.fd);
		table[i] = (struct belled){ .used = false };
	}
	async_count = 0;
	canal_write_once(&table_lock, 0u);
}
