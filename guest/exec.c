/* SPDX-License-Identifier: MIT */
/*
 * Starting programs.
 *
 * Purpose: a program that is started under libcanal shall be under libcanal too, even
 * where its parent clears the environment, and go on with the sockets that it
 * inherits. Those of a program that cannot be covered are handed over first.
 *
 * Invariants
 *  1. No allocation, and no lock but those of a call to canald: a child between
 *     fork and exec may do no more.
 *  2. A program that takes LD_PRELOAD away, and nothing else, means it. One that
 *     takes away CANAL_SOCKET as well (or never had it) has cleared everything.
 *
 * Ownership and threads: any thread; what is kept is written once.
 * Failure: the environment stays as it was given; sockets that cannot be handed over
 * stay dummies.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adopt.h"
#include "common/paths.h"
#include "exec.h"
#include "handover.h"
#include "sys.h"

#define LIBRARY "libcanal.so"
#define KEPT_LEN 4096
/* How long a program has from its start until libcanal in it has looked around. */
#define START_MS 2000
#define CHANNEL "CANAL_CHANNEL" /* id:token, for the program itself only */

enum { KEPT_PRELOAD, KEPT_SOCKET };
static const char *const kept_name[EXEC_KEPT] = {
	[KEPT_PRELOAD] = "LD_PRELOAD",
	[KEPT_SOCKET] = "CANAL_SOCKET",
	"CANAL_FALLBACK",
	"CANAL_LOG",
	"CANAL_REF_MIN",
};
static char *kept[EXEC_KEPT]; /* "NAME=value" */

/* --- environment ------------------------------------------------------- */

static void keep_channel(void)
{
	const char *text = secure_getenv(CHANNEL);
	unsigned long long id, token;

	if (text && sscanf(text, "%llx:%llx", &id, &token) == 2)
		channel_continue(id, token);
	if (text)
		(void)unsetenv(CHANNEL);
}

void exec_keep(void)
{
	static char room[KEPT_LEN];
	size_t used = 0;

	keep_channel();

	for (unsigned int i = 0; i < EXEC_KEPT; i++) {
		const char *value = secure_getenv(kept_name[i]);
		int len;

		if (!value)
			continue;
		len = snprintf(room + used, sizeof(room) - used, "%s=%s", kept_name[i], value);
		if (len < 0 || (size_t)len >= sizeof(room) - used)
			continue;
		kept[i] = room + used;
		used += (size_t)len + 1;
	}
}

const char *exec_socket(void)
{
	const char *given = canal_paths_given();

	if (given || !kept[KEPT_SOCKET])
		return given;
	given = strchr(kept[KEPT_SOCKET], '=') + 1;
	return given[0] ? given : NULL;
}

size_t exec_count(char *const envp[])
{
	size_t count = 0;

	while (envp && envp[count])
		count++;
	return count;
}

static const char *find(char *const envp[], const char *name)
{
	size_t len = strlen(name);

	for (; envp && *envp; envp++)
		if (!strncmp(*envp, name, len) && (*envp)[len] == '=')
			return *envp + len + 1;
	return NULL;
}

static bool is_cleared(char *const envp[])
{
	return libcanal_preloaded && kept[KEPT_PRELOAD] && !find(envp, "LD_PRELOAD") &&
	       !find(envp, "CANAL_SOCKET");
}

/* A process that executes itself (a new configuration) goes on; a child that runs the
 * same program begins anew. */
static bool is_itself(const char *path)
{
	struct stat self, other;

	return path && the_channel.region && the_channel.pid == (uint32_t)getpid() &&
	       the_channel.via == &transport_local &&
	       the_channel.uid == (uint32_t)sys_call2(SYS_geteuid, 0, 0) &&
	       stat("/proc/self/exe", &self) == 0 && stat(path, &other) == 0 &&
	       self.st_dev == other.st_dev && self.st_ino == other.st_ino;
}

/* Without LD_PRELOAD. */
static char *const *without_preload(char *const envp[], char **room)
{
	size_t count = 0;

	for (; *envp; envp++)
		if (strncmp(*envp, "LD_PRELOAD=", strlen("LD_PRELOAD=")) != 0)
			room[count++] = *envp;
	room[count] = NULL;
	return room;
}

char *const *exec_environment(const char *path, char *const envp[], char **room, char *channel)
{
	const char *preload = libcanal_preloaded ? find(envp, "LD_PRELOAD") : NULL;
	bool cleared = is_cleared(envp), itself = channel && is_itself(path);
	size_t count = exec_count(envp);

	if (path && (cleared || (preload && strstr(preload, LIBRARY))) && exec_is_foreign(path))
		return preload ? without_preload(envp, room) : envp;
	if (!cleared && !itself)
		return envp;
	if (count)
		memcpy(room, envp, count * sizeof(*room));
	for (unsigned int i = 0; cleared && i < EXEC_KEPT; i++)
		if (kept[i] && !find(envp, kept_name[i]))
			room[count++] = kept[i];
	if (itself) {
		(void)snprintf(channel, EXEC_CHANNEL_LEN, CHANNEL "=%llx:%llx",
			       (unsigned long long)the_channel.id,
			       (unsigned long long)the_channel.token);
		room[count++] = channel;
	}
	room[count] = NULL;
	return room;
}

/* --- sockets ----------------------------------------------------------- */

/* Whether the new program will be under libcanal, as the same user. */
bool exec_covers(const char *path, char *const envp[])
{
	/* what exec_environment() puts back counts, too */
	const char *preload = is_cleared(envp) ? kept[0] : find(envp, "LD_PRELOAD");

	return path && preload && strstr(preload, LIBRARY) &&
	       (!the_channel.region || the_channel.uid == (uint32_t)sys_call2(SYS_geteuid, 0, 0)) &&
	       exec_is_covered(path);
}

/* glibc's posix_spawn_file_actions_t, of which its header does not tell all. */
struct spawn_action {
	enum { SPAWN_CLOSE, SPAWN_DUP2, SPAWN_OPEN } tag;
	union {
		struct {
			int fd, newfd;
		} dup2;
		struct {
			int fd;
			char *path;
			int flags;
			mode_t mode;
		} open;
	} u;
};

static bool is_mentioned(const posix_spawn_file_actions_t *actions, int fd)
{
	const struct spawn_action *list = actions ? (const void *)actions->__actions : NULL;

	for (int i = 0; list && i < actions->__used; i++)
		if (list[i].tag == SPAWN_DUP2 && list[i].u.dup2.fd == fd)
			return true;
	return false;
}

static bool is_inherited(const posix_spawn_file_actions_t *actions, int fd)
{
	int flags = real(fcntl)(fd, F_GETFD, NULL);

	return (flags >= 0 && !(flags & FD_CLOEXEC)) || is_mentioned(actions, fd);
}

/* As who looks through PATH by himself finds out: nothing will be started. */
static bool is_absent(const char *path)
{
	return path && path[0] == '/' &&
	       sys_call4(SYS_faccessat, AT_FDCWD, path, F_OK, 0) == -ENOENT;
}

void exec_sockets(const char *path, char *const envp[], const posix_spawn_file_actions_t *actions)
{
	int covered = -1, saved = errno;

	for (int fd = fd_next(0); fd >= 0; fd = fd_next(fd + 1)) {
		if (!fd_sock(fd) || !is_inherited(actions, fd))
			continue;
		if (covered < 0 && is_absent(path))
			break;
		if (covered < 0)
			covered = exec_covers(path, envp);
		if (covered || handover(fd) < 0)
			adopt_pass(fd, START_MS);
	}
	errno = saved;
}

bool exec_find(const char *name, char *path, size_t len)
{
	const char *dirs = getenv("PATH");

	if (strchr(name, '/'))
		return (size_t)snprintf(path, len, "%s", name) < len;
	for (const char *dir = dirs ? dirs : "/bin:/usr/bin", *end;; dir = end + 1) {
		end = strchrnul(dir, ':');
		if ((size_t)snprintf(path, len, "%.*s%s%s", (int)(end - dir), dir,
				     end == dir ? "" : "/", name) < len &&
		    access(path, X_OK) == 0)
			return true;
		if (!*end)
			return false;
	}
}
