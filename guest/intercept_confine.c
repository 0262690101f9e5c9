/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: how programs confine themselves (confine.c).
 *
 * Purpose and rules: intercept.h.
 */
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "intercept.h"
#include "limit_as.h"
#include "resident.h"
#include "sys.h"
#include "user.h"

EXPORT int chroot(const char *path)
{
	libcanal_init();
	confine_prepare(true);
	return real(chroot)(path);
}

static int of_program(int resource, const struct rlimit *to, struct rlimit *old)
{
	int err;

	if (resource == RLIMIT_NOFILE && to)
		confine_prepare(false);
	if (resource == RLIMIT_NOFILE && to && !old)
		return fd_room_limit(to);
	if (resource != RLIMIT_AS || !libcanal_preloaded)
		return (int)give(sys_call4(SYS_prlimit64, 0, resource, to, old));
	err = to ? user_readable(to, sizeof(*to)) : 0;
	if (!err && old)
		err = user_writable(old, sizeof(*old));
	if (!err && to)
		confine_prepare(true); /* then little of what the kernel gives is left */
	return (int)give(err ? err : limit_as(to, old));
}

EXPORT int setrlimit(__rlimit_resource_t resource, const struct rlimit *to)
{
	libcanal_init();
	return of_program((int)resource, to, NULL);
}

/* libcanal_init() itself comes here. */
EXPORT int getrlimit(__rlimit_resource_t resource, struct rlimit *got)
{
	return of_program((int)resource, NULL, got);
}

EXPORT int prlimit(pid_t pid, __rlimit_resource_t resource, const struct rlimit *to,
		   struct rlimit *old)
{
	libcanal_init();
	if (pid && pid != (pid_t)sys_call2(SYS_getpid, 0, 0))
		return real(prlimit)(pid, (int)resource, to, old);
	return of_program((int)resource, to, old);
}

_Static_assert(sizeof(struct rlimit) == sizeof(struct rlimit64), "setrlimit64 is setrlimit");

EXPORT int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *to)
{
	return setrlimit(resource, (const struct rlimit *)(const void *)to);
}

EXPORT int getrlimit64(__rlimit_resource_t resource, struct rlimit64 *got)
{
	return getrlimit(resource, (struct rlimit *)(void *)got);
}

EXPORT int prlimit64(pid_t pid, __rlimit_resource_t resource, const struct rlimit64 *to,
		     struct rlimit64 *old)
{
	return prlimit(pid, resource, (const struct rlimit *)(const void *)to,
		       (struct rlimit *)(void *)old);
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

EXPORT int mlockall(int flags)
{
	libcanal_init();
	/* a region that is mapped later would be made and locked whole */
	if (flags & MCL_FUTURE)
		confine_prepare(true);
	return (int)give(resident_all(flags));
}
