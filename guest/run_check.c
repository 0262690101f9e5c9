/* SPDX-License-Identifier: MIT */
/*
 * canal-run --check: what of a program would go past libcanal.
 *
 * Purpose: look at the program and at every library that the loader would load
 * with it: which functions of libc they call that act on sockets, and which of
 * those libcanal does not stand in front of; io_uring; Go inside a library; a
 * program that has such a function itself, which wins over libcanal's.
 *
 * Invariants
 *  1. Nothing of the program is run: the list of libraries comes from the
 *     loader, which is this machine's own and was asked to list only.
 *  2. libc's own objects are not looked at: their calls to the kernel are what
 *     libcanal stands in front of.
 *
 * Failure: a library that cannot be read is passed over, one that is not there
 * is noted.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"
#include "run_elf.h"

#define OBJECTS_MAX 1024

/* A function of libc (or beside it) that acts on sockets, and who has it here. */
struct function {
	const char *name;
	const char *what;  /* of what is done with a socket by it; NULL: as its name says */
	bool exported;     /* by libcanal */
	bool note;         /* it may be used for anything: told of the program only */
	char by[PATH_MAX]; /* the first object that calls it; empty: none */
};

static struct function functions[] = {
	{ .name = "accept" },
	{ .name = "accept4" },
	{ .name = "bind" },
	{ .name = "bindresvport" },
	{ .name = "connect" },
	{ .name = "epoll_create" },
	{ .name = "epoll_create1" },
	{ .name = "epoll_ctl" },
	{ .name = "epoll_pwait" },
	{ .name = "epoll_pwait2" },
	{ .name = "epoll_wait" },
	{ .name = "getaddrinfo" },
	{ .name = "getaddrinfo_a" },
	{ .name = "gethostbyaddr" },
	{ .name = "gethostbyaddr_r" },
	{ .name = "gethostbyname" },
	{ .name = "gethostbyname2" },
	{ .name = "gethostbyname2_r" },
	{ .name = "gethostbyname_r" },
	{ .name = "gethostent" },
	{ .name = "getnameinfo" },
	{ .name = "getpeername" },
	{ .name = "getsockname" },
	{ .name = "getsockopt" },
	{ .name = "listen" },
	{ .name = "pidfd_getfd" },
	{ .name = "poll" },
	{ .name = "ppoll" },
	{ .name = "pselect" },
	{ .name = "rcmd", .what = "names and ports below 1024, past libcanal" },
	{ .name = "rcmd_af", .what = "names and ports below 1024, past libcanal" },
	{ .name = "recv" },
	{ .name = "recvfrom" },
	{ .name = "recvmmsg" },
	{ .name = "recvmsg" },
	{ .name = "res_query" },
	{ .name = "__res_query" },
	{ .name = "res_search" },
	{ .name = "__res_search" },
	{ .name = "res_nquery" },
	{ .name = "__res_nquery" },
	{ .name = "res_nsearch" },
	{ .name = "__res_nsearch" },
	{ .name = "res_send" },
	{ .name = "__res_send" },
	{ .name = "res_nsend" },
	{ .name = "__res_nsend" },
	{ .name = "rresvport" },
	{ .name = "rresvport_af" },
	{ .name = "select" },
	{ .name = "send" },
	{ .name = "sendfile" },
	{ .name = "sendfile64" },
	{ .name = "sendmmsg" },
	{ .name = "sendmsg" },
	{ .name = "sendto" },
	{ .name = "setsockopt" },
	{ .name = "shutdown" },
	{ .name = "sockatmark" },
	{ .name = "socket" },
	{ .name = "splice" },
	{ .name = "vmsplice" },
	{ .name = "tee", .note = true },
	{ .name = "copy_file_range", .note = true },
	{ .name = "fdopen", .what = "stdio on a descriptor", .note = true },
	{ .name = "dprintf", .what = "stdio on a descriptor", .note = true },
	{ .name = "__dprintf_chk", .what = "stdio on a descriptor", .note = true },
	{ .name = "getifaddrs", .what = "the host's interfaces", .note = true },
	{ .name = "io_submit", .what = "asynchronous I/O of the kernel", .note = true },
	{ .name = "aio_read", .what = "asynchronous I/O", .note = true },
	{ .name = "syscall", .what = "any system call", .note = true },
};

#define FUNCTIONS (sizeof(functions) / sizeof(functions[0]))

struct look {
	struct run_remarks *remarks;
	const char *object; /* that is being looked at */
	bool is_program;
	bool uring;
};

/* --- remarks ------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void remark(struct run_remarks *to, bool missed,
							 const char *format, ...)
{
	char **more = reallocarray(to->line, to->count + 1, sizeof(*more));
	va_list args;

	if (!more)
		return;
	to->line = more;
	va_start(args, format);
	if (vasprintf(&to->line[to->count], format, args) >= 0) {
		to->count++;
		to->missed += missed;
	}
	va_end(args);
}

void run_remarks_free(struct run_remarks *remarks)
{
	for (size_t i = 0; i < remarks->count; i++)
		free(remarks->line[i]);
	free(remarks->line);
	*remarks = (struct run_remarks){ 0 };
}

/* --- the loader's list -------------------------------------------------------- */

/* Starts "LOADER PROGRAM" so that it lists and runs nothing; *ret_fd reads what it prints. */
static int list_start(const char *loader, const char *program, pid_t *ret_pid, int *ret_fd)
{
	char whole[PATH_MAX];
	/* $ORIGIN is the directory of the file itself, not of a symbolic link to it */
	const char *real = realpath(program, whole);
	char *argv[] = { (char *)(uintptr_t)loader, (char *)(uintptr_t)(real ? real : program),
			 NULL };
	posix_spawn_file_actions_t actions;
	int pipe_fd[2], error;

	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		return -errno;
	/* as ldd(1) does it; unlike --list it goes on behind one that is not there */
	if (setenv("LD_TRACE_LOADED_OBJECTS", "1", 1) < 0) {
		close(pipe_fd[0]);
		close(pipe_fd[1]);
		return -ENOMEM;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, pipe_fd[1], STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	error = -posix_spawn(ret_pid, loader, &actions, NULL, argv, environ);
	unsetenv("LD_TRACE_LOADED_OBJECTS");
	posix_spawn_file_actions_destroy(&actions);
	close(pipe_fd[1]);
	if (error)
		close(pipe_fd[0]);
	else
		*ret_fd = pipe_fd[0];
	return error;
}

/* The path of a line of the list, in place; NULL: none, or of libc's. */
static char *list_path(char *line)
{
	static const char *const libc[] = { "linux-vdso.so",  "ld-linux",   "libc.so.",
					    "libpthread.so.", "libresolv.", "librt.so.",
					    "libdl.so.",      "libanl.so.", "libcanal.so" };
	char *name = line + strspn(line, " \t"), *arrow = strstr(name, " => ");
	char *path = arrow ? arrow + 4 : name, *base;

	path[strcspn(path, " \n")] = '\0';
	base = strrchr(path, '/');
	if (!base)
		return NULL;
	for (size_t i = 0; i < sizeof(libc) / sizeof(libc[0]); i++)
		if (strncmp(base + 1, libc[i], strlen(libc[i])) == 0)
			return NULL;
	return path;
}

/* --- one object ------------------------------------------------------------------ */

static int by_name(const void *key, const void *function)
{
	return strcmp(key, ((const struct function *)function)->name);
}

static struct function *function_find(const char *name)
{
	return bsearch(name, functions, FUNCTIONS, sizeof(functions[0]), by_name);
}

static int in_order(const void *a, const void *b)
{
	return strcmp(((const struct function *)a)->name, ((const struct function *)b)->name);
}

/* libcanal hands sockets over to the kernel for it. */
static bool uring_served;

static void library_symbol(void *arg, const char *name, bool imported)
{
	struct function *f = imported ? NULL : function_find(name);

	(void)arg;
	if (!imported && strcmp(name, "io_uring_queue_init") == 0)
		uring_served = true;
	if (f)
		f->exported = true;
}

static void object_symbol(void *arg, const char *name, bool imported)
{
	struct look *look = arg;
	struct function *f = function_find(name);

	if (strncmp(name, "io_uring_", 9) == 0 && imported)
		look->uring = true;
	if (f && imported && !f->by[0] && (look->is_program || !f->note))
		snprintf(f->by, sizeof(f->by), "%s", look->object);
	if (f && !imported && f->exported && look->is_program)
		remark(look->remarks, true,
		       "%s has a function %s of its own, which is called in place of libcanal's",
		       look->object, name);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void object_look(struct look *look, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct elf_facts facts;

	if (fd < 0)
		return;
	look->object = base_name(path);
	look->uring = false;
	elf_symbols(fd, object_symbol, look);
	look->uring |= strncmp(look->object, "liburing.so", 11) == 0;
	if (look->uring && uring_served)
		remark(look->remarks, false,
		       "note: %s uses io_uring, for which sockets are handed to the kernel",
		       look->object);
	else if (look->uring)
		remark(look->remarks, true, "%s uses io_uring, whose I/O goes past libcanal",
		       look->object);
	if (elf_facts_read(fd, &facts) == 0 && facts.go)
		remark(look->remarks, true,
		       "%s has Go code, which calls the kernel past every library", look->object);
	if (elf_is_pascal(fd))
		remark(look->remarks, true,
		       "%s has Pascal code, whose units call the kernel past every library",
		       look->object);
	if (!look->uring && elf_syscalls(fd))
		remark(look->remarks, true, "%s makes system calls on sockets past every library",
		       look->object);
	close(fd);
}

/* --- all of them -------------------------------------------------------------------- */

static int objects_look(struct look *look, const char *loader, const char *program)
{
	char *line = NULL, *path;
	size_t room = 0;
	int fd = -1, status = 0, error;
	pid_t pid;
	FILE *list;

	error = list_start(loader, program, &pid, &fd);
	if (error)
		return error;
	list = fdopen(fd, "r");
	for (int i = 0; list && i < OBJECTS_MAX && getline(&line, &room, list) > 0; i++) {
		if (strstr(line, "=> not found")) {
			line[strcspn(line, "=")] = '\0';
			remark(look->remarks, false, "note: %sis not found",
			       line + strspn(line, " \t"));
		} else if ((path = list_path(line))) {
			object_look(look, path);
		}
	}
	free(line);
	if (list)
		fclose(list);
	else
		close(fd);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status)
		remark(look->remarks, false,
		       "note: the loader cannot load it, so its libraries were "
		       "not looked at");
	return 0;
}

static void functions_remark(struct run_remarks *remarks)
{
	for (size_t i = 0; i < FUNCTIONS; i++) {
		const struct function *f = &functions[i];

		if (!f->by[0] || f->exported)
			continue;
		if (f->what)
			remark(remarks, !f->note, "%s%s calls %s: %s", f->note ? "note: " : "",
			       f->by, f->name, f->what);
		else
			remark(remarks, !f->note, "%s%s calls %s, which libcanal does not serve",
			       f->note ? "note: " : "", f->by, f->name);
	}
}

int run_check(const char *program, const char *library, struct run_remarks *ret)
{
	struct look look = { .remarks = ret, .is_program = true };
	int fd = open(program, O_RDONLY | O_CLOEXEC), error;
	struct elf_facts facts;

	if (fd < 0 && errno != EACCES)
		return -errno;
	if (fd < 0) {
		remark(ret, false,
		       "note: it may be executed but not read, so it was not looked at");
		return 0;
	}
	error = elf_facts_read(fd, &facts);
	close(fd);
	if (error)
		return error;
	qsort(functions, FUNCTIONS, sizeof(functions[0]), in_order);
	fd = open(library, O_RDONLY | O_CLOEXEC);
	error = fd < 0 ? -errno : elf_symbols(fd, library_symbol, NULL);
	if (fd >= 0)
		close(fd);
	if (error)
		return error;
	object_look(&look, program);
	look.is_program = false;
	error = objects_look(&look, facts.loader, program);
	functions_remark(ret);
	return error;
}
