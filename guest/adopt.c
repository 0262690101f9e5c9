/* SPDX-License-Identifier: MIT */
/*
 * Sockets that change programs.
 *
 * Purpose: a descriptor that a program inherits over exec, or receives from a UNIX
 * socket, may be the dummy of a canal socket. Which one, canald knows by its inode.
 * So a program under libcanal asks, joins the channel if it is in none, and goes on
 * with the socket as if it had made it.
 *
 * Invariants
 *  1. Only what looks like a dummy is asked about: one end of a stream pair.
 *  2. Who passes a socket on says so first (INR_PASSED): one that nobody adopts is
 *     handed over by canald after a while, and works for any program then.
 *  3. From then on locks may be contended by processes that are no children.
 *
 * Ownership and threads: any thread.
 * Failure: a descriptor that cannot be adopted (another channel, while there is
 * something in ours; another user, a dummy that canald did not make) stays the
 * kernel's, and is handed over.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "adopt.h"
#include "async.h"
#include "epoll_set.h"
#include "handover.h"
#include "lock.h"
#include "sys.h"
#include "user.h"

/* How long a program that received a socket has time to say so. */
#define PASSED_MS 200

/* --- coming ------------------------------------------------------------ */

static bool option_is(int fd, int name, int value)
{
	int got = -1;
	socklen_t len = sizeof(got);

	return real(getsockopt)(fd, SOL_SOCKET, name, &got, &len) == 0 && got == value;
}

/* A socket pair's end has no name, nor has its other end. */
static bool is_unnamed(int fd)
{
	struct sockaddr_un name;
	socklen_t len = sizeof(name);

	return real(getpeername)(fd, (struct sockaddr *)&name, &len) == 0 &&
	       len == offsetof(struct sockaddr_un, sun_path);
}

/* The inode of what may be a dummy, or 0. */
static uint64_t dummy_inode(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
		return 0;
	return option_is(fd, SO_DOMAIN, AF_UNIX) && option_is(fd, SO_TYPE, SOCK_STREAM) &&
			       is_unnamed(fd)
		       ? st.st_ino
		       : 0;
}

/* The socket's number, or -errno. */
static int ask(struct channel *ch, uint64_t inode)
{
	struct canal_inr inr = {
		.op = CANAL_INR_ADOPT,
		.sock = CANAL_NONE,
		.u.arg = { (uint32_t)inode, (uint32_t)(inode >> 32) },
	};
	int n = channel_call(ch, &inr, NULL);

	return n >= 0 && (uint32_t)n >= ch->sock_count ? -EPROTO : n;
}

static void adopt_as(struct channel *ch, int fd, uint32_t n)
{
	struct canal_sock *s = channel_sock(ch, n);
	const struct sock_ref ref = { .s = s, .n = n, .domain = s->domain, .type = s->type };

	lock_before_fork(); /* no thread has it to itself any more */
	lock_forget(&s->tx.tx_lock);
	lock_forget(&s->rx.rx_lock);
	lock_forget(&s->ctl_lock);
	(void)fd_install_socket(fd, ref);
	lock_before_fork(); /* nor was it made here: fd_is_private() */
	if (canal_read_once(&s->status) & CANAL_STATUS_ASYNC)
		async_change(fd, ref);
	if (handover_always)
		(void)handover(fd);
}

/* Now: it may have had others, which __libc_single_threaded does not forgive. */
static bool has_one_thread(void)
{
	struct stat st;

	return stat("/proc/self/task", &st) == 0 && st.st_nlink == 3;
}

/*
 * A program that asks its predecessor for listeners has often made a socket by then,
 * to see what the kernel can do, and so has a channel.
 */
static bool may_change(void)
{
	if (the_channel.via != &transport_local || !has_one_thread())
		return false;
	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1))
		if (fd_lookup(fd)->kind != FD_EPOLL || epoll_is_ours(fd))
			return false;
	return true;
}

void adopt(int fd)
{
	int saved = errno, n = -ENOENT;
	struct channel *ch;
	uint64_t inode;

	if (fd_lookup(fd) || fd_is_ours(fd))
		return;
	inode = dummy_inode(fd);
	if (inode && (the_channel.region || channel_join_by(inode) == 0) && channel_get(&ch) == 0 &&
	    ch->via == &transport_local)
		n = ask(ch, inode);
	if (n < 0 && inode && may_change() && channel_change_by(inode) == 0 &&
	    channel_get(&ch) == 0)
		n = ask(ch, inode);
	if (n >= 0)
		adopt_as(ch, fd, (uint32_t)n);
	errno = saved;
}

struct dirent_of_kernel {
	uint64_t inode;
	int64_t next;
	uint16_t len;
	uint8_t type;
	char name[];
};

/* Descriptors by /proc, with those that closefrom() leaves open by name only. */
static void adopt_listed(int dir)
{
	_Alignas(struct dirent_of_kernel) char list[1024];
	long got;

	while ((got = sys_call4(SYS_getdents64, dir, list, sizeof(list), 0)) > 0) {
		for (long at = 0; at < got;) {
			const struct dirent_of_kernel *d = (const void *)(list + at);

			if (d->name[0] != '.' && atoi(d->name) != dir)
				adopt(atoi(d->name));
			at += d->len;
		}
	}
}

void adopt_inherited(void)
{
	int dir = (int)sys_call4(SYS_openat, AT_FDCWD, "/proc/self/fd",
				 O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	if (dir < 0) {
		for (int fd = 0; fd < 64; fd++)
			adopt(fd);
		return;
	}
	adopt_listed(dir);
	sys_close(dir);
}

/* --- going ------------------------------------------------------------- */

void adopt_pass(int fd, unsigned int ms)
{
	struct canal_inr inr = {
		.op = CANAL_INR_PASSED,
		.slot = CANAL_NONE,
		.u.arg = { ms },
	};
	struct sock_ref ref = sock_of(fd);
	struct channel *ch;
	int saved = errno;

	if (!ref.s || channel_get(&ch) < 0 || ch->via != &transport_local)
		return;
	lock_before_fork();
	inr.sock = ref.n;
	(void)channel_post(ch, &inr);
	errno = saved;
}

/* What rights_each() came by. */
static __thread bool rights_met;

/* --- messages ---------------------------------------------------------- */

static void rights_each(const struct msghdr *m, void (*act)(int fd))
{
	struct msghdr copy = *m; /* CMSG_NXTHDR is not for const */

	for (struct cmsghdr *c = CMSG_FIRSTHDR(&copy); c; c = CMSG_NXTHDR(&copy, c)) {
		const char *end = (const char *)copy.msg_control + copy.msg_controllen;
		size_t count;

		if (c->cmsg_len > (size_t)(end - (const char *)c))
			return; /* the kernel says so */
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
		    c->cmsg_len < CMSG_LEN(0))
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			act(fd);
		}
	}
}

static void pass_soon(int fd)
{
	if (fd_sock(fd))
		adopt_pass(fd, PASSED_MS);
}

/* Before it goes, so that what goes is what that program can use. */
static void pass_handed(int fd)
{
	if (fd_sock(fd) && handover(fd) < 0)
		adopt_pass(fd, PASSED_MS);
}

static void note_socket(int fd)
{
	if (fd_sock(fd))
		rights_met = true;
}

/* Whether @word is in the file. */
static bool file_has(const char *path, const char *word)
{
	char text[4096];
	size_t keep = strlen(word) - 1, have = 0;
	bool found = false;
	long got;
	int fd = (int)sys_call4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return false;
	while (!found && (got = sys_call4(SYS_read, fd, text + have, sizeof(text) - have, 0)) > 0) {
		have += (size_t)got;
		found = memmem(text, have, word, keep + 1);
		if (have > keep) {
			memmove(text, text + have - keep, keep);
			have = keep;
		}
	}
	sys_close(fd);
	return found;
}

/*
 * Whether who connected to the UNIX socket @via, or listened there, is without libcanal.
 * Of a socket pair it is who made it, whoever has it by now: nothing is known then.
 */
static bool goes_outside(int via)
{
	struct ucred cred = { .pid = 0 };
	socklen_t len = sizeof(cred);
	char path[32];

	if (real(getsockopt)(via, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || cred.pid <= 0 ||
	    cred.pid == (pid_t)sys_call2(SYS_getpid, 0, 0))
		return false;
	(void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)cred.pid);
	return !file_has(path, "libcanal.so");
}

void rights_sent(int via, const struct msghdr *m)
{
	int saved = errno;

	if (!canal_read_once(&fd_table_len) || user_readable(m->msg_control, m->msg_controllen))
		return;
	rights_met = false;
	rights_each(m, note_socket);
	if (rights_met)
		rights_each(m, goes_outside(via) ? pass_handed : pass_soon);
	errno = saved;
}

static void received(int fd)
{
	/* what was there under this number was closed where we could not see it */
	process_drop(fd);
	adopt(fd);
}

void rights_received(const struct msghdr *m)
{
	if (libcanal_preloaded || the_channel.region)
		rights_each(m, received);
}
