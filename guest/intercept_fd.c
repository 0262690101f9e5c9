/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: descriptors.
 *
 * Purpose and rules: intercept.h.
 */
#include <stdarg.h>

#include "adopt.h"
#include "intercept.h"

EXPORT int close(int fd)
{
	TRACED(close, fd);

	if (!fd_lookup(fd) && !fd_is_ours(fd))
		return real(close)(fd);
	return give(process_close(fd));
}

EXPORT int dup(int fd)
{
	TRACED(dup, fd);
	return fd_lookup(fd) ? give(process_dup(fd)) : real(dup)(fd);
}

/* The cheap way is for programs that have nothing of ours. */
EXPORT int dup2(int from, int to)
{
	TRACED(dup2, from, to);

	if (!canal_read_once(&fd_table_len) && !fd_is_ours(to))
		return real(dup2)(from, to);
	return give(process_dup_over(from, to, -1));
}

EXPORT int dup3(int from, int to, int flags)
{
	TRACED(dup3, from, to, flags);

	if (!canal_read_once(&fd_table_len) && !fd_is_ours(to))
		return real(dup3)(from, to, flags);
	if (flags < 0 || from == to) {
		errno = EINVAL;
		return -1;
	}
	return give(process_dup_over(from, to, flags));
}

EXPORT int fclose(FILE *f)
{
	TRACED(fclose, f);
	return process_fclose(f);
}

/* Another process's descriptor: as one that came by SCM_RIGHTS. */
EXPORT int pidfd_getfd(int pidfd, int fd, unsigned int flags)
{
	int ret = real(pidfd_getfd)(pidfd, fd, flags);

	if (ret >= 0)
		adopt(ret);
	return ret;
}

EXPORT int close_range(unsigned int first, unsigned int last, int flags)
{
	TRACED(close_range, first, last, flags);
	return give(process_close_range(first, last, flags));
}

EXPORT void closefrom(int low)
{
	TRACED(closefrom, low);
	(void)process_close_range(low < 0 ? 0 : low, ~0u, 0);
}

EXPORT int fcntl(int fd, int cmd, ...)
{
	struct sock_ref ref = sock_of(fd);
	va_list args;
	void *arg;
	int ret;

	va_start(args, cmd);
	arg = va_arg(args, void *);
	va_end(args);
	TRACED(fcntl, fd, cmd, arg);
	if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) {
		ret = real(fcntl)(fd, cmd, arg);
		if (ret >= 0)
			fd_copy(fd, ret);
		return ret;
	}
	if (!ref.s || cmd == F_GETOWN) /* a group of processes is a number below 0 */
		return real(fcntl)(fd, cmd, arg);
	return give(option_fcntl(fd, ref, cmd, arg));
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	struct sock_ref ref = sock_of(fd);
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	TRACED(ioctl, fd, request, arg);
	return ref.s ? give(option_ioctl(fd, ref, request, arg)) : real(ioctl)(fd, request, arg);
}

ALIAS(__close, close);
ALIAS(__dup2, dup2);
ALIAS(__fcntl, fcntl);
ALIAS(fcntl64, fcntl);
