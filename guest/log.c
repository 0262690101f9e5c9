/* SPDX-License-Identifier: MIT */
/*
 * What libcanal tells its user: lines, on stderr or in a file.
 *
 * Purpose: one line "libcanal: ..." per thing that the user can do something
 * about; CANAL_LOG says how much more, and where to. CANAL_LOG=debug traces
 * calls (trace.c).
 *
 * Invariants
 *  1. No allocation, no lock, no stdio, errno left alone: lines come from signal
 *     handlers and forked children too. A line is one write.
 *  2. Never into a connection of the program, which stderr may be when a server
 *     was started by inetd, nor into a file of the program's that has got the
 *     number of ours: each line is written to what was opened at the start, or
 *     nowhere.
 *
 * Failure: what cannot be written is lost.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "guest.h"
#include "internal.h"
#include "log.h"
#include "sys.h"

#define LOG_LINE 512

enum log_level log_level = LEVEL_WARN;

/* Where lines go: a descriptor of our own, and what it is; or the program's stderr. */
static struct {
	int fd; /* -1: stderr */
	dev_t device;
	ino_t inode;
	char path[PATH_MAX]; /* empty: no file */
	bool nowhere;
} to = { .fd = -1 };

/* --- where to ---------------------------------------------------------- */

static bool is_ours(void)
{
	struct stat st;

	return to.fd >= 0 && sys_call2(SYS_fstat, to.fd, &st) == 0 && st.st_dev == to.device &&
	       st.st_ino == to.inode;
}

/* Owns @fd. */
static int take(int fd)
{
	struct stat st;

	if (fd < 0)
		return fd;
	fd = fd_move_high(fd);
	if (sys_call2(SYS_fstat, fd, &st) < 0)
		return -1;
	to.device = st.st_dev;
	to.inode = st.st_ino;
	canal_write_once(&to.fd, fd);
	return fd;
}

static int file_open(void)
{
	int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY;

	return take((int)sys_call4(SYS_openat, AT_FDCWD, to.path, flags, 0600));
}

/* A descriptor that the program closed past us (a raw system call) comes back. */
static int log_fd(void)
{
	if (is_ours())
		return to.fd;
	return to.path[0] ? file_open() : -1;
}

/* Lines end here, not in what somebody else hears: no connection but the journal's. */
static bool is_for_people(int fd)
{
	struct sockaddr_un peer;
	socklen_t len = sizeof(peer);
	struct stat st;

	if (fd_lookup(fd) || sys_call2(SYS_fstat, fd, &st) < 0)
		return false;
	if (!S_ISSOCK(st.st_mode))
		return true;
	return !real(getpeername)(fd, (struct sockaddr *)&peer, &len) &&
	       peer.sun_family == AF_UNIX && len > offsetof(struct sockaddr_un, sun_path);
}

void log_line(char *line, size_t len)
{
	int fd = STDERR_FILENO;

	if (to.path[0] || to.nowhere || canal_read_once(&to.fd) >= 0)
		fd = log_fd();
	else if (fd_lookup(fd))
		fd = -1;
	line[len] = '\n';
	if (fd >= 0)
		(void)sys_call4(SYS_write, fd, line, len + 1, 0);
}

/* --- messages ---------------------------------------------------------- */

__attribute__((format(printf, 1, 0))) static void message(const char *fmt, va_list args)
{
	char line[LOG_LINE] = "libcanal: ";
	const int prefix = sizeof("libcanal: ") - 1;
	int saved_errno = errno;
	int len = vsnprintf(line + prefix, sizeof(line) - prefix - 1, fmt, args);

	if (len < 0)
		len = 0;
	if (len > (int)sizeof(line) - prefix - 2)
		len = sizeof(line) - prefix - 2;
	log_line(line, prefix + len);
	errno = saved_errno;
}

void guest_log(const char *fmt, ...)
{
	va_list args;

	if (log_level < LEVEL_WARN)
		return;
	va_start(args, fmt);
	message(fmt, args);
	va_end(args);
}

void guest_info(const char *fmt, ...)
{
	va_list args;

	if (log_level < LEVEL_INFO)
		return;
	va_start(args, fmt);
	message(fmt, args);
	va_end(args);
}

/* --- CANAL_LOG ---------------------------------------------------------- */

/* Appends to the path; false when that is full. */
static bool path_add(size_t *len, const char *text, size_t text_len)
{
	if (text_len >= sizeof(to.path) - *len)
		return false;
	memcpy(to.path + *len, text, text_len);
	*len += text_len;
	to.path[*len] = '\0';
	return true;
}

/* "%p" is the process; a relative path is made one that outlives chdir(). */
static bool path_make(const char *name)
{
	size_t len = 0;
	char pid[16];
	bool fits = true;

	if (name[0] != '/') {
		if (sys_call2(SYS_getcwd, to.path, sizeof(to.path) - 1) < 0)
			return false;
		len = strlen(to.path);
		fits = path_add(&len, "/", 1);
	}
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	for (; fits && *name; name++) {
		if (name[0] == '%' && name[1] == 'p') {
			fits = path_add(&len, pid, strlen(pid));
			name++;
		} else {
			fits = path_add(&len, name, 1);
		}
	}
	return fits;
}

static void file_set(const char *name)
{
	int fd = path_make(name) ? file_open() : -ENAMETOOLONG;

	if (fd >= 0)
		return;
	to.path[0] = '\0';
	guest_log("CANAL_LOG: %s: %s: give it a file that can be written; logging to standard "
		  "error",
		  name, strerror(-fd));
}

/* The program may close or redirect its own stderr; a trace goes on. */
static void stderr_keep(void)
{
	if (is_for_people(STDERR_FILENO))
		(void)take((int)sys_call4(SYS_fcntl, STDERR_FILENO, F_DUPFD_CLOEXEC, 0, 0));
	else
		to.nowhere = true;
}

static bool level_read(const char *text, size_t len)
{
	static const char *const names[] = { "quiet", "warn", "info", "debug" };

	for (int i = LEVEL_QUIET; i <= LEVEL_DEBUG; i++) {
		if (strlen(names[i]) == len && strncmp(names[i], text, len) == 0) {
			log_level = i;
			return true;
		}
	}
	return false;
}

void log_init(const char *text)
{
	size_t len = text ? strcspn(text, ":") : 0;
	bool known = !text || !text[0] || level_read(text, len);

	if (text && text[len] && text[len + 1])
		file_set(text + len + 1);
	else if (log_level == LEVEL_DEBUG)
		stderr_keep();
	if (!known)
		guest_log("CANAL_LOG=%s: the levels are quiet, warn, info and debug; taking warn",
			  text);
}
