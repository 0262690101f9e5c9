/* SPDX-License-Identifier: MIT */
/*
 * A private canald for a user who has none.
 *
 * Purpose
 *	Start canald in the user's own directory, detached from the caller, and
 *	return when it serves. It ends by itself when its last guest has been gone
 *	for a while.
 *
 * Invariants
 *	1. One at a time: whoever starts holds a lock file in that directory, and
 *	   looks again under the lock whether somebody was faster.
 *	2. canald inherits nothing: no descriptor (a pipe of the caller's would
 *	   never see its end), no terminal, no session, no signal settings, no
 *	   preloaded library. Nor is it a child of the command, which would be
 *	   told of its death.
 *	3. Either canald said READY=1, or none that was started here goes on.
 *
 * Failure
 *	-errno and one line that says why, with the end of canald's own log where
 *	canald had something to say.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "paths.h"
#include "run.h"

#define READY_MS 10000
#define IDLE_EXIT_S "60"
#define NAME_LEN 32 /* of the longest name of a file in the directory */

struct place {
	char dir[CANAL_PATHS_LEN - NAME_LEN];
	char socket[CANAL_PATHS_LEN];
	char notify[CANAL_PATHS_LEN];
	char log[CANAL_PATHS_LEN];
	char log_before[CANAL_PATHS_LEN];
	char lock[CANAL_PATHS_LEN];
};

/* What the starting process tells the waiting one; an exec that works says nothing more. */
struct birth {
	pid_t pid;
	int error;
};

static int socket_address(const char *path, struct sockaddr_un *ret_address)
{
	size_t len = strlen(path);

	if (len >= sizeof(ret_address->sun_path))
		return -ENAMETOOLONG;
	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(ret_address->sun_path, path, len);
	return 0;
}

/**
 * run_canald_probe() - does a canald answer at @socket_path?
 *
 * Return: 0 or -errno; a queue that is full is an answer.
 */
int run_canald_probe(const char *socket_path)
{
	struct sockaddr_un address;
	int error = socket_address(socket_path, &address);
	int fd;

	if (error)
		return error;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno != EAGAIN)
		error = -errno;
	close(fd);
	return error;
}

static int place_names(struct place *place)
{
	int error = canal_paths_private_dir(place->dir, sizeof(place->dir));

	if (error)
		return error;
	snprintf(place->notify, sizeof(place->notify), "%s/notify.sock", place->dir);
	snprintf(place->log, sizeof(place->log), "%s/canald.log", place->dir);
	snprintf(place->log_before, sizeof(place->log_before), "%s/canald.log.1", place->dir);
	snprintf(place->lock, sizeof(place->lock), "%s/lock", place->dir);
	return canal_paths_socket_in(place->dir, place->socket, sizeof(place->socket));
}

static int place_make(struct place *place, struct run_reason *ret_reason)
{
	int error = place_names(place);

	if (error) {
		run_because(ret_reason,
			    "its directory has no name: %s: set XDG_RUNTIME_DIR, or give --socket",
			    strerror(-error));
		return error;
	}
	if (mkdir(place->dir, 0700) < 0 && errno != EEXIST) {
		error = -errno;
		run_because(ret_reason,
			    "%s: %s: correct or unset XDG_RUNTIME_DIR, or give --socket",
			    place->dir, strerror(-error));
		return error;
	}
	if (!canal_paths_is_private(place->dir)) {
		run_because(ret_reason,
			    "%s: not a directory that this user owns and others cannot write to; "
			    "remove it, or set XDG_RUNTIME_DIR",
			    place->dir);
		return -EPERM;
	}
	return 0;
}

static int lock_take(const struct place *place, struct run_reason *ret_reason)
{
	int fd = open(place->lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int error;

	if (fd >= 0 && flock(fd, LOCK_EX) == 0)
		return fd;
	error = -errno;
	if (fd >= 0)
		close(fd);
	run_because(ret_reason, "%s: %s", place->lock, strerror(-error));
	return error;
}

static int notify_open(const struct place *place, struct run_reason *ret_reason)
{
	struct sockaddr_un address;
	int error = socket_address(place->notify, &address);
	int fd = error ? -1 : socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	unlink(place->notify);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	error = error ? error : -errno;
	if (fd >= 0)
		close(fd);
	run_because(ret_reason, "%s: %s", place->notify, strerror(-error));
	return error;
}

/* Standard input and output to nowhere, errors to the log, all else closed by exec. */
static int descriptors_detach(const struct place *place)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	int log_fd = open(place->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (null_fd < 0 || log_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 ||
	    dup2(null_fd, STDOUT_FILENO) < 0 || dup2(log_fd, STDERR_FILENO) < 0 ||
	    close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return -errno;
	return 0;
}

static void signals_reset(void)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Becomes canald. Returns only when it cannot. */
static int canald_become(const char *canald, const struct place *place)
{
	int error = descriptors_detach(place);

	if (error)
		return error;
	signals_reset();
	umask(077);
	unsetenv("LD_PRELOAD");
	if (setenv("NOTIFY_SOCKET", place->notify, 1) < 0 || chdir("/") < 0)
		return -errno;
	/* what the system's canald is configured for is not this one's to do */
	execl(canald, "canald", "--config", "/dev/null", "--socket", place->socket, "--idle-exit",
	      IDLE_EXIT_S, (char *)NULL);
	return -errno;
}

/* In the middle process: the process between canald and the command, so that they are no relatives. */
__attribute__((noreturn)) static void canald_spawn(const char *canald, const struct place *place,
						   int birth_fd)
{
	struct birth birth = { 0 };

	setsid();
	birth.pid = fork();
	if (birth.pid > 0)
		_exit(0);
	if (birth.pid < 0) {
		birth.error = -errno;
	} else {
		birth.pid = getpid();
		if (write(birth_fd, &birth, sizeof(birth)) == sizeof(birth))
			birth.error = canald_become(canald, place);
	}
	(void)!write(birth_fd, &birth, sizeof(birth));
	_exit(127);
}

/* Returns the pid of a process that has become canald, or -errno. */
static pid_t canald_start(const char *canald, const struct place *place)
{
	struct birth birth = { .error = -EIO };
	pid_t middle;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	rename(place->log, place->log_before);
	middle = fork();
	if (middle < 0) {
		birth.error = -errno;
	} else if (middle == 0) {
		canald_spawn(canald, place, fds[1]);
	} else {
		close(fds[1]);
		fds[1] = -1;
		while (waitpid(middle, NULL, 0) < 0 && errno == EINTR)
			;
		/* The last word counts: at first the pid, then perhaps why exec failed. */
		while (read(fds[0], &birth, sizeof(birth)) == sizeof(birth))
			;
	}
	close(fds[0]);
	if (fds[1] >= 0)
		close(fds[1]);
	return birth.error ? birth.error : birth.pid;
}

static bool says_ready(int notify_fd)
{
	static const char ready[] = "READY=1";
	char text[4096];
	ssize_t len = recv(notify_fd, text, sizeof(text) - 1, 0);
	char *line, *rest = text;

	text[len < 0 ? 0 : len] = '\0';
	while ((line = strsep(&rest, "\n")))
		if (strcmp(line, ready) == 0)
			return true;
	return false;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Returns 0 when canald is ready, -ECHILD when it has died, -ETIMEDOUT. */
static int ready_wait(int notify_fd, int canald_fd)
{
	int64_t deadline = now_ms() + READY_MS;
	struct pollfd fds[] = {
		{ .fd = notify_fd, .events = POLLIN },
		{ .fd = canald_fd, .events = POLLIN },
	};

	for (;;) {
		int64_t left = deadline - now_ms();

		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(fds, 2, (int)left) < 0 && errno != EINTR)
			return -errno;
		if (fds[0].revents && says_ready(notify_fd))
			return 0;
		if (fds[1].revents)
			return -ECHILD;
	}
}

/* The last line that canald wrote to its log, without the priority ("<3>") in front of it. */
static void log_end(const char *path, char *line, size_t line_len)
{
	char *text = NULL;
	size_t text_len = 0;
	FILE *log = fopen(path, "re");

	line[0] = '\0';
	while (log && getline(&text, &text_len, log) > 0) {
		const char *start = text[0] == '<' && text[1] && text[2] == '>' ? text + 3 : text;

		snprintf(line, line_len, "%.*s", (int)strcspn(start, "\n"), start);
	}
	free(text);
	if (log)
		fclose(log);
}

static void ready_explain(int error, const char *canald, const struct place *place,
			  struct run_reason *ret_reason)
{
	char last[512];

	log_end(place->log, last, sizeof(last));
	if (error == -ECHILD && last[0])
		run_because(ret_reason, "%s ended while it started: %s (all of it in %s)", canald,
			    last, place->log);
	else if (error == -ECHILD)
		run_because(ret_reason, "%s ended while it started and said nothing", canald);
	else if (error == -ETIMEDOUT)
		run_because(ret_reason, "%s was not ready after %d s, see %s", canald,
			    READY_MS / 1000, place->log);
	else
		run_because(ret_reason, "%s: %s", canald, strerror(-error));
}

static int canald_run(const char *canald, const struct place *place, int notify_fd)
{
	pid_t pid = canald_start(canald, place);
	int canald_fd, error;

	if (pid < 0)
		return pid;
	canald_fd = pidfd_open(pid, 0);
	if (canald_fd < 0)
		return errno == ESRCH ? -ECHILD : -errno;
	error = ready_wait(notify_fd, canald_fd);
	if (error)
		pidfd_send_signal(canald_fd, SIGTERM, NULL, 0);
	close(canald_fd);
	return error;
}

/* With the lock held. */
static int canald_ensure(const char *canald, const struct place *place,
			 struct run_reason *ret_reason)
{
	int error, notify_fd;

	error = run_canald_probe(place->socket);
	if (!error)
		return 0;
	if (error == -ECONNREFUSED) /* a canald that was killed left it behind */
		unlink(place->socket);
	notify_fd = notify_open(place, ret_reason);
	if (notify_fd < 0)
		return notify_fd;
	error = canald_run(canald, place, notify_fd);
	if (error)
		ready_explain(error, canald, place, ret_reason);
	unlink(place->notify);
	close(notify_fd);
	return error;
}

/**
 * run_private_start() - see to it that a private canald of this user runs
 * @canald: the program
 * @ret_path: where it listens
 *
 * Return: 0, or -errno with a line in @ret_reason.
 */
int run_private_start(const char *canald, char *ret_path, size_t path_len,
		      struct run_reason *ret_reason)
{
	struct place place;
	int error, lock_fd;

	error = place_make(&place, ret_reason);
	if (error)
		return error;
	lock_fd = lock_take(&place, ret_reason);
	if (lock_fd < 0)
		return lock_fd;
	error = canald_ensure(canald, &place, ret_reason);
	close(lock_fd);
	if (!error)
		snprintf(ret_path, path_len, "%s", place.socket);
	return error;
}
