/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: loading libraries.
 *
 * Purpose and rules: intercept.h. Where the loader looks for a library depends on who calls
 * it, which it reads from the stack: so all but what concerns us goes on to the loader
 * without a return to us. With a path the caller does not matter.
 */
#include <dlfcn.h>
#include <string.h>

#include "deepbind.h"
#include "intercept.h"

#ifdef __clang__
#define GO_ON __attribute__((musttail)) return
#define GOES_ON
#else
#define GO_ON return
#define GOES_ON __attribute__((optimize("O2")))
#endif

static __attribute__((noinline)) void *deepbound(const char *file, int mode)
{
	void *handle = real(dlopen)(file, mode);

	if (handle)
		deepbind_take(handle);
	return handle;
}

EXPORT GOES_ON void *dlopen(const char *file, int mode)
{
	if (unlikely(mode & RTLD_DEEPBIND) && file && strchr(file, '/') && !strchr(file, '$'))
		GO_ON deepbound(file, mode);
	GO_ON real(dlopen)(file, mode);
}
