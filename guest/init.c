/* SPDX-License-Identifier: MIT */
/*
 * First use: the real functions of libc, and the environment.
 *
 * Purpose: fill real_calls, read CANAL_FALLBACK and CANAL_LOG, find out whether
 * the program was started under libcanal or asked for it by source.
 *
 * Invariants
 *  1. Every pointer of real_calls can be called at any time. Those that a malloc
 *     may need below dlsym() are raw system calls at first.
 *  2. Nothing here attaches a channel, unless the program inherited a socket of
 *     canal's: one without sockets costs nothing.
 *
 * Ownership and threads: pointers are stored whole and always with the same
 * value, so that finding them twice at once does no harm; the rest runs once.
 *
 * Failure: a function that this libc lacks fails with ENOSYS when it is called.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "adopt.h"
#include "exec.h"
#include "guest.h"
#include "internal.h"
#include "lock.h"
#include "sys.h"
#include "trace.h"

bool fallback_allowed = true;
bool libcanal_preloaded;

static void real_find(void);

/* As libc's syscall(), which is ours by name. */
static long early(long number, ...)
{
	long a[3], ret;
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 3; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	ret = sys_call4(number, a[0], a[1], a[2], 0);
	if (ret >= 0)
		return ret;
	errno = (int)-ret;
	return -1;
}

#define ARGUMENTS(...) __VA_ARGS__
#define RAW(type, name, params, args)                           \
	static type early_##name params                         \
	{                                                       \
		return (type)early(SYS_##name, ARGUMENTS args); \
	}
#define CALL(type, name, params, args, missing)      \
	static type early_##name params              \
	{                                            \
		real_find();                         \
		if (real_calls.name != early_##name) \
			return real_calls.name args; \
		errno = ENOSYS;                      \
		return missing;                      \
	}
#include "intercept.def"

struct real_calls real_calls = {
#define RAW(type, name, params, args) .name = early_##name,
#define CALL(type, name, params, args, missing) .name = early_##name,
#include "intercept.def"
};

static const struct {
	const char *name;
	size_t offset;
} real_names[] = {
#define RAW(type, name, params, args) { #name, offsetof(struct real_calls, name) },
#define CALL(type, name, params, args, missing) { #name, offsetof(struct real_calls, name) },
#include "intercept.def"
};

static void real_find(void)
{
	int saved_errno = errno;

	for (size_t i = 0; i < sizeof(real_names) / sizeof(real_names[0]); i++) {
		void *found = dlsym(RTLD_NEXT, real_names[i].name);

		if (found)
			memcpy((char *)&real_calls + real_names[i].offset, &found, sizeof(found));
	}
	errno = saved_errno;
}

static void read_environment(void)
{
	const char *fallback = secure_getenv("CANAL_FALLBACK");
	const char *preload = getenv("LD_PRELOAD");

	log_init(secure_getenv("CANAL_LOG"));
	trace_on = log_level >= LEVEL_DEBUG;
	libcanal_preloaded = preload && strstr(preload, "libcanal.so");
	if (!fallback || !fallback[0] || strcmp(fallback, "allow") == 0)
		return;
	fallback_allowed = false;
	if (strcmp(fallback, "deny") != 0)
		guest_log("CANAL_FALLBACK=%s: neither allow nor deny; taking deny", fallback);
}

static void init_once(void)
{
	real_find();
	read_environment();
	pthread_atfork(process_before_fork, NULL, channel_after_fork);
	exec_keep();
	if (libcanal_preloaded)
		adopt_inherited();
}

void libcanal_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init_once);
}

/* Before the constructors of the program and of the libraries that need us. */
static void __attribute__((constructor)) load(void)
{
	int saved_errno = errno;

	libcanal_init();
	errno = saved_errno;
}
