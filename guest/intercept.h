/* SPDX-License-Identifier: MIT */
/*
 * What the files of exported symbols share.
 *
 * Purpose: intercept*.c are the border between the program, which wants -1 and
 * errno, and libcanal, which speaks 0 or -errno. They dispatch by descriptor and
 * do nothing else: a descriptor that is not ours goes to the kernel at once.
 *
 * Invariants: errno is set here alone, and never on success.
 */
#ifndef CANAL_INTERCEPT_H
#define CANAL_INTERCEPT_H

#include <errno.h>

#include "handover.h"
#include "internal.h"
#include "trace.h"

#ifdef _FILE_OFFSET_BITS
#error "the names of the 64-bit variants must not be redirected here"
#endif
_Static_assert(sizeof(off_t) == sizeof(off64_t), "pread and pread64 are one function");

#define EXPORT __attribute__((visibility("default")))

/* One more name of an exported function. */
#define ALIAS(name, of) \
	extern __typeof__(of) name __attribute__((alias(#of), copy(of), visibility("default")))

/* -errno becomes -1 and errno. */
static inline ssize_t give(ssize_t ret)
{
	if (ret >= 0)
		return ret;
	errno = -ret;
	return -1;
}

/* intercept_io.c: -1 and errno, or -EHANDED as it is, when that call of @fd is the
 * kernel's from now on. */
ssize_t give_failure(int fd, ssize_t ret);

/* What a data call of ours gave; where it is found out that the socket was handed
 * over, @kernel is the call to be made. */
#define GIVE_IO(fd, ret, kernel)                       \
	({                                             \
		ssize_t ret_ = (ret);                  \
		if (unlikely(ret_ < 0)) {              \
			ret_ = give_failure(fd, ret_); \
			if (ret_ == -EHANDED)          \
				ret_ = (kernel);       \
		}                                      \
		ret_;                                  \
	})

/* intercept_fd.c; glibc has it since 2.36. */
extern int pidfd_getfd(int pidfd, int fd, unsigned int flags);

/* intercept_fork.c: SYS_clone with arguments @a; -1 and errno. */
long clone_by_number(long *a);
/* The same of SYS_clone3. */
long clone3_by_number(long *a);

/* intercept_stdio.c: hands @s over if stdio has written to it, past us: what write() gives
 * it from now on is to come behind that. */
void stdio_precedes(const struct canal_sock *s);

static inline bool is_stream(struct sock_ref ref)
{
	return ref.type == SOCK_STREAM;
}

#endif
