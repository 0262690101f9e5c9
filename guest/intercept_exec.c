/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: what starts programs.
 *
 * Purpose and rules: intercept.h. exec.c sees to the environment and to the sockets
 * that the program inherits. Arguments are counted on the stack: nothing is allocated
 * between fork and exec.
 */
#include <alloca.h>
#include <limits.h>
#include <pty.h>
#include <utmp.h>

#include "exec.h"
#include "intercept.h"

extern char **environ;

#define ON_STACK(count) alloca((count) * sizeof(char *))
#define WITH_ENVIRONMENT(path, envp, name)     \
	char name##_channel[EXEC_CHANNEL_LEN]; \
	char *const *name = exec_environment(  \
		path, envp, ON_STACK(exec_count(envp) + EXEC_ADDED + 1), name##_channel)
/* A child's: not what goes on in this process's channel. */
#define WITH_CHILD_ENVIRONMENT(path, envp, name) \
	char *const *name =                      \
		exec_environment(path, envp, ON_STACK(exec_count(envp) + EXEC_ADDED + 1), NULL)

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	TRACED(execve, path, argv, envp);

	WITH_ENVIRONMENT(path, envp, kept);

	exec_sockets(path, kept, NULL);
	return real(execve)(path, argv, kept);
}

EXPORT int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	TRACED(execvpe, file, argv, envp);

	char found[PATH_MAX], *path = exec_find(file, found, sizeof(found)) ? found : NULL;
	WITH_ENVIRONMENT(path, envp, kept);

	exec_sockets(path, kept, NULL);
	return real(execvpe)(file, argv, kept);
}

EXPORT int execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	TRACED(fexecve, fd, argv, envp);

	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	WITH_ENVIRONMENT(path, envp, kept);

	exec_sockets(path, kept, NULL);
	return real(fexecve)(fd, argv, kept);
}

EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	TRACED(execveat, dir, path, argv, envp, flags);

	const char *known = path[0] == '/' ? path : NULL;
	WITH_ENVIRONMENT(known, envp, kept);

	exec_sockets(known, kept, NULL);
	return real(execveat)(dir, path, argv, kept, flags);
}

/* --- arguments in a row ------------------------------------------------ */

/* With the one that is named, and the NULL. */
static size_t arguments(va_list args)
{
	size_t count = 2;

	while (va_arg(args, char *))
		count++;
	return count;
}

static void gather(char **argv, const char *first, va_list args)
{
	*argv++ = (char *)(uintptr_t)first;
	while ((*argv = va_arg(args, char *)))
		argv++;
}

#define GATHERED(name, first)                    \
	va_list args, again;                     \
	va_start(args, first);                   \
	va_copy(again, args);                    \
	char **name = ON_STACK(arguments(args)); \
	gather(name, first, again);              \
	va_end(args)

EXPORT int execl(const char *path, const char *arg, ...)
{
	GATHERED(argv, arg);
	va_end(again);
	return execve(path, argv, environ);
}

EXPORT int execlp(const char *file, const char *arg, ...)
{
	GATHERED(argv, arg);
	va_end(again);
	return execvpe(file, argv, environ);
}

EXPORT int execle(const char *path, const char *arg, ...)
{
	char *const *envp;

	GATHERED(argv, arg);
	envp = va_arg(again, char *const *);
	va_end(again);
	return execve(path, argv, envp);
}

/* --- a child and a program at once ------------------------------------- */

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	TRACED(posix_spawn, pid, path, actions, attr, argv, envp);

	WITH_CHILD_ENVIRONMENT(path, envp, kept);

	exec_sockets(path, kept, actions);
	return real(posix_spawn)(pid, path, actions, attr, argv, kept);
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	TRACED(posix_spawnp, pid, file, actions, attr, argv, envp);

	char found[PATH_MAX], *path = exec_find(file, found, sizeof(found)) ? found : NULL;
	WITH_CHILD_ENVIRONMENT(path, envp, kept);

	exec_sockets(path, kept, actions);
	return real(posix_spawnp)(pid, file, actions, attr, argv, kept);
}

EXPORT int system(const char *command)
{
	TRACED(system, command);

	if (command)
		exec_sockets("/bin/sh", environ, NULL);
	return real(system)(command);
}

EXPORT FILE *popen(const char *command, const char *mode)
{
	TRACED(popen, command, mode);

	exec_sockets("/bin/sh", environ, NULL);
	return real(popen)(command, mode);
}

/* 0, 1 and 2 were replaced where we do not see it. */
static void drop_standard(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		process_drop(fd);
}

EXPORT int daemon(int stay, int keep)
{
	TRACED(daemon, stay, keep);

	int ret = real(daemon)(stay, keep);

	if (!ret && !keep)
		drop_standard();
	return ret;
}

EXPORT int login_tty(int fd)
{
	int ret = real(login_tty)(fd);

	if (!ret)
		drop_standard();
	return ret;
}

EXPORT int forkpty(int *master, char *name, const struct termios *t, const struct winsize *size)
{
	pid_t pid = real(forkpty)(master, name, t, size);

	if (!pid)
		drop_standard();
	return pid;
}
