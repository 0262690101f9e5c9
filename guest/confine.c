/* SPDX-License-Identifier: MIT */
/*
 * Programs that confine themselves.
 *
 * Purpose: a forked child joins its parent's channel when it needs to, and a thread
 * gets its wait slot when it first sleeps. Both take a connection to canald, which is
 * too late once the program cannot reach canald's socket (chroot), may open no
 * descriptor (RLIMIT_NOFILE), or is killed for calling socket() (seccomp). So it is
 * done just before. What the filters of programs let through, because a loop over a
 * socket needs it, is all that libcanal calls from then on: read, write, close, ppoll
 * and epoll_wait, nanosleep, gettid. sched_yield is not among them.
 *
 * Ownership and threads: any thread; it prepares itself and its process, not the other
 * threads.
 *
 * Failure: none; the program is told what the kernel says to its own call.
 */
#include "internal.h"
#include "lock.h"
#include "sys.h"

bool sys_filtered;

/*
 * A process that never had a channel may still want one, behind its chroot; what limits
 * or filters itself will not open sockets any more.
 */
void confine_prepare(bool attach)
{
	int saved = errno;
	struct channel *ch;
	struct waiter *w;

	(void)lock_me();
	if ((attach ? libcanal_preloaded : the_channel.region != NULL) && !channel_get(&ch))
		(void)waiter_get(ch, &w);
	errno = saved;
}

void confine_filter(void)
{
	confine_prepare(false);
	sys_filtered = true;
}
