/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: how programs confine themselves (confine.c).
 *
 * Purpose and rules: intercept.h.
 */
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "intercept.h"
#include "sys.h"

EXPORT int chroot(const char *path)
{
	libcanal_init();
	confine_prepare(true);
	return real(chroot)(path);
}

static int limit(int resource, const struct rlimit *to)
{
	libcanal_init();
	if (resource != RLIMIT_NOFILE)
		return real(setrlimit)(resource, to);
	confine_prepare(false);
	return fd_room_limit(to);
}

EXPORT int setrlimit(__rlimit_resource_t resource, const struct rlimit *to)
{
	return limit((int)resource, to);
}

_Static_assert(sizeof(struct rlimit) == sizeof(struct rlimit64), "setrlimit64 is setrlimit");

EXPORT int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *to)
{
	return limit((int)resource, (const struct rlimit *)(const void *)to);
}

EXPORT int prlimit(pid_t pid, __rlimit_resource_t resource, const struct rlimit *to,
		   struct rlimit *was)
{
	libcanal_init();
	if (resource == RLIMIT_NOFILE && to)
		confine_prepare(false);
	return real(prlimit)(pid, (int)resource, to, was);
}

EXPORT int prlimit64(pid_t pid, __rlimit_resource_t resource, const struct rlimit64 *to,
		     struct rlimit64 *was)
{
	return prlimit(pid, resource, (const struct rlimit *)(const void *)to,
		       (struct rlimit *)(void *)was);
}

/* glibc, too, takes four arguments, however many there are. */
EXPORT int prctl(int option, ...)
{
	unsigned long arg[4];
	bool filtered = sys_filtered; /* by an earlier call */
	va_list list;
	int ret;

	va_start(list, option);
	for (int i = 0; i < 4; i++)
		arg[i] = va_arg(list, unsigned long);
	va_end(list);
	libcanal_init();
	if (option == PR_SET_NO_NEW_PRIVS)
		confine_prepare(false);
	if (option == PR_SET_SECCOMP)
		confine_filter();
	ret = real(prctl)(option, arg[0], arg[1], arg[2], arg[3]);
	if (ret < 0)
		sys_filtered = filtered;
	return ret;
}
