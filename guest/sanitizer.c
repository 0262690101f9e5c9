/* SPDX-License-Identifier: MIT */
/*
 * Programs that are compiled with a sanitizer.
 *
 * Purpose: a runtime of AddressSanitizer that is a library wants to be the first of all, and
 * ends the program when a preloaded one is before it. Nothing of what it fears is the case:
 * libcanal has no function that it stands in front of but those of sockets, calls the
 * runtime's next, and copies by the runtime's memcpy. So it is told not to mind.
 * ThreadSanitizer knows nothing of what canald does to memory that it shares with us, and
 * takes each copy there for a race.
 *
 * Invariants: a program that has such a function itself is asked, and not we.
 * Ownership and threads: called by the runtime, before anything else of the program.
 * Failure: none.
 */
#include "intercept.h"

EXPORT const char *__asan_default_options(void);

EXPORT const char *__asan_default_options(void)
{
	return "verify_asan_link_order=0";
}

EXPORT const char *__tsan_default_suppressions(void);

EXPORT const char *__tsan_default_suppressions(void)
{
	return "called_from_lib:libcanal.so\n";
}
