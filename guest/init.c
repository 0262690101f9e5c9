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
bool sys_valgrind;

/* 0, the id of the thread that initialises, or INIT_DONE. */
static uint32_t init_state;
#define INIT_DONE UINT32_MAX
static bool libc_has_begun;

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

/*
 * Valgrind's own question to itself: rotations of a register by a whole turn, which no compiler
 * writes, and an exchange of another with itself. A processor does nothing.
 */
static bool on_valgrind(void)
{
#if defined(__x86_64__) && !defined(__ILP32__)
	static const uint64_t running[6] = { 0x1001 };
	uint64_t answer = 0;

	__asm__ volatile("rolq $3, %%rdi\n\trolq $13, %%rdi\n\trolq $61, %%rdi\n\t"
			 "rolq $51, %%rdi\n\txchgq %%rbx, %%rbx"
			 : "+d"(answer)
			 : "a"(running)
			 : "cc", "memory");
	return answer != 0;
#else
	return false;
#endif
}

static void init_once(void)
{
	sys_valgrind = on_valgrind();
	real_find();
	read_environment();
	pthread_atfork(process_before_fork, NULL, channel_after_fork);
	exec_keep();
	if (libcanal_preloaded)
		adopt_inherited();
}

/*
 * Not pthread_once(): a sanitizer's runtime calls libc while it initialises itself, that is
 * us, and its own pthread_once() stands in front of libc's and is not ready then.
 */
static __attribute__((noinline)) void init_slow(void)
{
	uint32_t me = (uint32_t)sys_call2(SYS_gettid, 0, 0);

	while (!canal_cas(&init_state, 0u, me)) {
		uint32_t by = canal_read_once(&init_state);

		if (by == me || by == INIT_DONE) /* on top of ourselves; by another thread */
			return;
		sys_yield();
	}
	/* a runtime's malloc() asks for something before libc has begun: too early for the rest */
	if (!environ && !libc_has_begun) {
		real_find();
		canal_write_once(&init_state, 0u);
		return;
	}
	init_once();
	/* K1 release: all of it before the word that says so */
	canal_store_release(&init_state, INIT_DONE);
}

void libcanal_init(void)
{
	/* K1 acquire: what another thread initialised; pairs with init_slow() */
	if (unlikely(canal_load_acquire(&init_state) != INIT_DONE))
		init_slow();
}

/* Before the constructors of the program and of the libraries that need us. */
static void __attribute__((constructor)) load(void)
{
	int saved_errno = errno;

	libc_has_begun = true;
	libcanal_init();
	errno = saved_errno;
}
