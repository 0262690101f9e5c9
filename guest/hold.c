/* SPDX-License-Identifier: MIT */
/*
 * Signals of a call that has moved bytes.
 *
 * Purpose: a send or recv that the kernel has carried out in part ends with that part
 * when a signal comes, wherever in the call it comes, with SA_RESTART or without. Here a
 * call looks and copies in the program, where a handler runs at once and leaves no
 * trace. So from its first bytes on, or before if it is long, a call that will have to
 * sleep holds the thread's signals back, and lets them in for the sleep alone
 * (ppoll(2)), which they end.
 *
 * Invariants
 *  1. While a handler runs, nothing is held: it is let in by a sleep, which has put
 *     this thread's note aside. So a handler may make calls, and may jump out.
 *  2. What a fault raises is never held, nor are the C library's own two signals.
 *
 * Ownership and threads: each thread for itself.
 *
 * Failure: behind a filter of system calls (confine.h) nothing is held: a signal that
 * does not find the thread asleep does not end the call.
 */
#include "hold.h"

#include "guest.h"
#include "lock.h"
#include "sys.h"

#define KERNEL_SET 8 /* bytes of the kernel's sigset_t */
#define BIT(number) (1ull << ((number)-1))
/* glibc's SIGCANCEL and SIGSETXID: those who send them wait for the handler. */
#define LIBRARY (BIT(32) | BIT(33))
#define FAULTS                                                                                 \
	(BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGFPE) | BIT(SIGILL) | BIT(SIGTRAP) | BIT(SIGSYS) | \
	 BIT(SIGABRT))

static TLS bool holding;
static TLS sigset_t before; /* of which the kernel knows the first bytes */

bool hold_begin(void)
{
	static const uint64_t held = ~(FAULTS | LIBRARY);

	if (holding || sys_filtered ||
	    sys_call4(SYS_rt_sigprocmask, SIG_BLOCK, &held, &before, KERNEL_SET))
		return false;
	holding = true;
	return true;
}

void hold_end(void)
{
	holding = false;
	(void)sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, &before, 0, KERNEL_SET);
}

bool hold_is_on(void)
{
	return holding;
}

const sigset_t *hold_sleeps(sigset_t *room)
{
	if (!holding)
		return NULL;
	*room = before;
	holding = false;
	return room;
}

void hold_slept(const sigset_t *mask)
{
	if (!mask)
		return;
	before = *mask;
	holding = true;
}

bool handlers_restart(void)
{
	struct sigaction action;

	for (int number = 1; number < NSIG; number++)
		if (!sigaction(number, NULL, &action) && action.sa_handler != SIG_DFL &&
		    action.sa_handler != SIG_IGN && !(action.sa_flags & SA_RESTART))
			return false;
	return true;
}
