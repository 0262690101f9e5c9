/* SPDX-License-Identifier: MIT */
/*
 * Pointers of the program that may lead nowhere.
 *
 * Purpose: calls that are not about bytes (addresses, options, sets, events) give
 * EFAULT as the kernel does. The kernel is asked, by calls that touch a word and
 * change nothing; the first and the last word of a range stand for all of it.
 *
 * Ownership and threads: any thread; async-signal-safe.
 */
#ifndef CANAL_GUEST_USER_H
#define CANAL_GUEST_USER_H

#include <stddef.h>

/* 0 or -EFAULT. */
int user_readable(const void *at, size_t len);
int user_writable(void *at, size_t len);

/*
 * The same for calls that a program makes often, with the same pointer as a rule:
 * asked again only when it is another one than in this thread's last call here.
 */
#define USER_ONCE(check, at, len)                      \
	({                                             \
		static __thread const void *user_seen; \
		int user_error = 0;                    \
		if ((at) != user_seen) {               \
			user_error = check(at, len);   \
			if (!user_error)               \
				user_seen = (at);      \
		}                                      \
		user_error;                            \
	})

#endif
