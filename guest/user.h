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
#include <stdint.h>

/* 0 or -EFAULT. */
int user_readable(const void *at, size_t len);
int user_writable(void *at, size_t len);

/* What lies so far up the stack is the caller's, or his caller's. */
#define USER_STACK (256u << 10)
#define USER_PAGE 12

/*
 * The same for calls that a program makes often: what lies on this thread's stack is
 * not asked for, and the rest only when it begins in another page than in this
 * thread's last call here.
 */
#define USER_ONCE(check, at, len)                                                    \
	({                                                                           \
		static __thread uintptr_t user_page = -1ul;                          \
		const uintptr_t user_at = (uintptr_t)(at);                           \
		int user_error = 0;                                                  \
		if (user_at - (uintptr_t)__builtin_frame_address(0) >= USER_STACK && \
		    __builtin_expect(user_at >> USER_PAGE != user_page, 0)) {        \
			user_error = check(at, len);                                 \
			if (!user_error)                                             \
				user_page = user_at >> USER_PAGE;                    \
		}                                                                    \
		user_error;                                                          \
	})

#endif
