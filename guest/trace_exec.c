/* SPDX-License-Identifier: MIT */
/*
 * The traced calls that start programs, and those that go past libc.
 *
 * Purpose: as trace_calls.c. exec does not return, so its line is written before the
 * call, with "?" for its result, and a second one when it failed. Where a call goes is
 * said by whether the program will be under libcanal.
 *
 * Invariants: as in trace_calls.c; no allocation, as a forked child may trace.
 */
#include <limits.h>
#include <sys/syscall.h>

#include "exec.h"
#include "internal.h"
#include "trace.h"

extern int __vdprintf_chk(int fd, int flag, const char *format, va_list args);

#define A(pointer) ((long)(pointer))

/* --- exec ------------------------------------------------------------------ */

static void line(const char *name, const char *kinds, const long *args, enum trace_result how,
		 long ret, const char *path)
{
	struct trace t;

	trace_begin(&t, -1);
	t.path = path;
	trace_end(&t, name, kinds, args, how, ret);
}

static const char *way_of(const char *path, char *const envp[])
{
	return exec_covers(path, envp) ? "under canal" : "not under canal";
}

#define TRACE_EXEC(name, params, args, path, kinds, ...)       \
	int trace_##name params                                \
	{                                                      \
		const long list[] = { __VA_ARGS__ };           \
		const char *way = way_of(path, envp);          \
		int ret;                                       \
                                                               \
		line(#name, kinds, list, TRACE_VOID, 0, way);  \
		trace_skip = true;                             \
		ret = name args;                               \
		line(#name, kinds, list, TRACE_INT, ret, way); \
		return ret;                                    \
	}

/* Where execvp() would find it. */
static const char *found(const char *file, char *room)
{
	return exec_find(file, room, PATH_MAX) ? room : NULL;
}

#define FOUND(file) found(file, (char[PATH_MAX]){ 0 })

TRACE_EXEC(execve, (const char *path, char *const argv[], char *const envp[]), (path, argv, envp),
	   path, "z", A(path))
TRACE_EXEC(execvpe, (const char *file, char *const argv[], char *const envp[]), (file, argv, envp),
	   FOUND(file), "z", A(file))
TRACE_EXEC(fexecve, (int fd, char *const argv[], char *const envp[]), (fd, argv, envp), NULL, "d",
	   fd)
TRACE_EXEC(execveat, (int dir, const char *path, char *const argv[], char *const envp[], int flags),
	   (dir, path, argv, envp, flags), path, "dz", dir, A(path))

#define TRACE_START(type, how, name, params, args, way, kinds, ...) \
	type trace_##name params                                    \
	{                                                           \
		const long list[] = { __VA_ARGS__ };                \
		type ret;                                           \
                                                                    \
		trace_skip = true;                                  \
		ret = name args;                                    \
		line(#name, kinds, list, how, (long)ret, way);      \
		return ret;                                         \
	}

TRACE_START(int, TRACE_INT, posix_spawn,
	    (pid_t * pid, const char *path, const posix_spawn_file_actions_t *actions,
	     const posix_spawnattr_t *attr, char *const argv[], char *const envp[]),
	    (pid, path, actions, attr, argv, envp), way_of(path, envp), "z", A(path))
TRACE_START(int, TRACE_INT, posix_spawnp,
	    (pid_t * pid, const char *file, const posix_spawn_file_actions_t *actions,
	     const posix_spawnattr_t *attr, char *const argv[], char *const envp[]),
	    (pid, file, actions, attr, argv, envp), way_of(FOUND(file), envp), "z", A(file))
TRACE_START(int, TRACE_INT, system, (const char *command), (command), "libc", "z", A(command))
TRACE_START(FILE *, TRACE_POINTER, popen, (const char *command, const char *mode), (command, mode),
	    "libc", "zz", A(command), A(mode))
TRACE_START(int, TRACE_INT, daemon, (int stay, int keep), (stay, keep), "libc", "dd", stay, keep)

/* --- past libc --------------------------------------------------------------- */

#define TRACE_OURS(type, how, name, params, args, fd, kinds, ...)  \
	type trace_##name params                                   \
	{                                                          \
		const long list[] = { __VA_ARGS__ };               \
		struct trace t;                                    \
		type ret;                                          \
                                                                   \
		trace_begin(&t, fd);                               \
		t.quiet = t.path[0] == 'k';                        \
		trace_skip = true;                                 \
		ret = name args;                                   \
		trace_end(&t, #name, kinds, list, how, (long)ret); \
		return ret;                                        \
	}

TRACE_OURS(FILE *, TRACE_POINTER, fdopen, (int fd, const char *mode), (fd, mode), fd, "dz", fd,
	   A(mode))
TRACE_OURS(int, TRACE_INT, vdprintf, (int fd, const char *format, va_list args), (fd, format, args),
	   fd, "d.", fd, 0)
TRACE_OURS(int, TRACE_INT, __vdprintf_chk, (int fd, int flag, const char *format, va_list args),
	   (fd, flag, format, args), fd, "d.", fd, 0)

/* liburing's, which libcanal is not linked with. */
extern int io_uring_setup(unsigned int entries, struct io_uring_params *p);
extern int io_uring_queue_init(unsigned int entries, struct io_uring *ring, unsigned int flags);
extern int io_uring_queue_init_params(unsigned int entries, struct io_uring *ring,
				      struct io_uring_params *p);

TRACE_START(int, TRACE_INT, io_uring_setup, (unsigned int entries, struct io_uring_params *p),
	    (entries, p), "kernel", "n", entries)
TRACE_START(int, TRACE_INT, io_uring_queue_init,
	    (unsigned int entries, struct io_uring *ring, unsigned int flags),
	    (entries, ring, flags), "kernel", "n.d", entries, 0, (long)flags)
TRACE_START(int, TRACE_INT, io_uring_queue_init_params,
	    (unsigned int entries, struct io_uring *ring, struct io_uring_params *p),
	    (entries, ring, p), "kernel", "n", entries)

/* By number, which is liburing's way, too. */
void trace_ring_by_number(long ret, unsigned int entries)
{
	const long list[] = { entries };

	if (unlikely(trace_on))
		line("io_uring_setup", "n", list, TRACE_INT, ret, "kernel");
}
