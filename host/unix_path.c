/* SPDX-License-Identifier: MIT */
/*
 * UNIX sockets at paths: the main one, and one for each guest that has its own.
 *
 * Purpose: listens at a path where perhaps a dead canald left a socket behind, and
 * never takes one away on which somebody lives.
 *
 * Invariants
 *  1. The path is removed at the end only if it is still our own socket.
 *
 * Ownership and threads: the main thread.
 *
 * Failure: -errno after one line that says what to do.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syslog.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "paths.h"
#include "sock.h"

#define LOCK_TRIES 20

static int path_address(const struct unix_path *u, struct sockaddr_un *ret_address)
{
	size_t len = strlen(u->path);

	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (len >= sizeof(ret_address->sun_path)) {
		host_log(LOG_ERR, "%s: longer than the path of a socket can be (%zu bytes): %s",
			 u->path, sizeof(ret_address->sun_path) - 1, u->remedy);
		return -ENAMETOOLONG;
	}
	memcpy(ret_address->sun_path, u->path, len);
	return 0;
}

static void log_alive(const struct unix_path *u, int fd)
{
	struct ucred cred = { .pid = 0 };
	socklen_t len = sizeof(cred);

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	host_log(LOG_ERR, "%s: a canald is listening there already (pid %d); stop it or %s",
		 u->path, (int)cred.pid, u->remedy);
}

static void log_no_listener(const struct unix_path *u, int error)
{
	const char *remedy = fds_remedy(error);

	if (remedy[0])
		host_log(LOG_ERR, "%s: %s%s", u->path, strerror(-error), remedy);
	else
		host_log(LOG_ERR, "%s: %s; %s in a directory that exists and is yours", u->path,
			 strerror(-error), u->remedy);
}

/* Does somebody live at the path? 0 if not, -EADDRINUSE, -errno. */
static int path_probe(const struct unix_path *u, const struct sockaddr_un *address, int type)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error = 0;

	if (fd < 0) {
		error = -errno;
		log_no_listener(u, error);
		return error;
	}
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	    errno == EAGAIN) {
		log_alive(u, fd);
		error = -EADDRINUSE;
	} else if (errno == EPROTOTYPE) {
		host_log(LOG_ERR, "%s: another program is listening there; %s", u->path, u->remedy);
		error = -EADDRINUSE;
	} else if (errno != ECONNREFUSED && errno != ENOENT) {
		error = -errno;
		host_log(LOG_ERR, "%s: %s; %s", u->path, strerror(errno), u->remedy);
	}
	close(fd);
	return error;
}

/* Makes room at the path: removes a socket that nobody listens on any more. */
static int path_clear(const struct unix_path *u, const struct sockaddr_un *address, int type)
{
	struct stat st;
	int error;

	if (lstat(u->path, &st) < 0)
		return 0; /* bind() says what is wrong, if anything is */
	if (!S_ISSOCK(st.st_mode)) {
		host_log(LOG_ERR, "%s: exists and is not a socket; remove it or %s", u->path,
			 u->remedy);
		return -EEXIST;
	}
	error = path_probe(u, address, type);
	if (!error && unlink(u->path) < 0 && errno != ENOENT) {
		error = -errno;
		host_log(LOG_ERR, "%s: left behind, but cannot be removed: %s", u->path,
			 strerror(errno));
	}
	return error;
}

/*
 * Who starts holds the directory locked, so that of two who find a dead socket
 * the second does not remove that of the first. Anybody else may hold such a
 * lock, so it is not waited for long. A descriptor to be closed, or -1.
 */
static int path_lock(const char *path)
{
	const char *slash = strrchr(path, '/');
	const struct timespec moment = { .tv_nsec = 50000000 };
	char dir[CANAL_PATHS_LEN] = ".";
	int fd;

	if (slash)
		snprintf(dir, sizeof(dir), "%.*s", slash == path ? 1 : (int)(slash - path), path);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; fd >= 0 && i < LOCK_TRIES && flock(fd, LOCK_EX | LOCK_NB) < 0; i++)
		nanosleep(&moment, NULL);
	return fd;
}

/*
 * Root's canald is everybody's, and so is what listens in the system's directory:
 * who a guest is comes from the kernel, and children of a server that drop their
 * privileges must be able to join.
 */
static mode_t default_mode(const char *path)
{
	bool system = strncmp(path, CANAL_PATHS_SYSTEM_DIR "/", sizeof(CANAL_PATHS_SYSTEM_DIR)) ==
		      0;

	return geteuid() == 0 || system ? 0666 : 0600;
}

static int path_listen(struct unix_path *u, const struct sockaddr_un *address, int type,
		       mode_t mode)
{
	mode_t mask = umask(~(mode ? mode : default_mode(u->path)) & 0777);
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error = 0;

	if (fd < 0 || bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ||
	    listen(fd, SOMAXCONN) < 0) {
		error = -errno;
		log_no_listener(u, error);
	}
	umask(mask);
	if (error) {
		if (fd >= 0)
			close(fd);
		return error;
	}
	u->fd = fd;
	u->path_fd = open(u->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return 0;
}

int unix_path_claim(struct unix_path *u, int type, mode_t mode)
{
	struct sockaddr_un address;
	int error = path_address(u, &address), lock_fd;

	u->fd = u->path_fd = -1;
	if (error)
		return error;
	lock_fd = path_lock(u->path);
	error = path_clear(u, &address, type);
	if (!error)
		error = path_listen(u, &address, type, mode);
	if (lock_fd >= 0)
		close(lock_fd);
	return error;
}

static void close_if_open(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void unix_path_close(struct unix_path *u)
{
	close_if_open(&u->fd);
}

void unix_path_remove(struct unix_path *u)
{
	struct stat ours, st;

	if (u->path_fd >= 0 && fstat(u->path_fd, &ours) == 0 && lstat(u->path, &st) == 0 &&
	    st.st_dev == ours.st_dev && st.st_ino == ours.st_ino)
		unlink(u->path);
	close_if_open(&u->path_fd);
}
