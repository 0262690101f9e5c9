/* SPDX-License-Identifier: MIT */
/*
 * The control socket: new guests, questions of canalctl, and the main thread.
 *
 * Purpose: listens on a UNIX socket (SOCK_SEQPACKET). The first packet of a
 * connection decides: '{' is a question in JSON, whose answer is sent in
 * packets of at most ANSWER_PACKET bytes before the connection is closed; all
 * else is the local transport (attach_local.c), and the connection is a
 * poller's from then on.
 *
 * Invariants
 *  1. At most FRESH_MAX connections are neither a guest nor gone. When one more
 *     comes the oldest goes; any that is silent for FRESH_S goes.
 *  2. The path is removed at the end only if it is still our own socket.
 *  3. Nothing here waits for a peer.
 *
 * Ownership and threads: the main thread. It waits for pollers (poller_call),
 * never they for it.
 *
 * Failure: what prevents the start is logged, with what to do. A connection
 * that fails is dropped; no descriptors left means a pause of a second.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syslog.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "paths.h"

#define FRESH_MAX 256u
#define FRESH_S 10
#define ANSWER_PACKET 65536u
#define LOCK_TRIES 20

struct poller *pollers;
unsigned int poller_count;

/* A connection that is not a guest (yet). */
struct fresh {
	struct cds_list_head link; /* control.fresh, the oldest first */
	int fd;
	time_t since_s;
	char *answer;
	size_t answer_len, answer_sent;
};

static struct {
	int listen_fd, epoll_fd, signal_fd, timer_fd;
	bool listening; /* watched; not while there are no descriptors left */
	bool stop;
	int path_fd; /* keeps the inode of our path from being given to another */
	struct cds_list_head fresh;
	unsigned int fresh_count;
	time_t idle_since_s;
} control = { .listen_fd = -1, .epoll_fd = -1, .signal_fd = -1, .timer_fd = -1, .path_fd = -1 };

static time_t now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static int watch(int op, int fd, uint32_t events, void *ptr)
{
	struct epoll_event ev = { .events = events, .data.ptr = ptr };

	return epoll_ctl(control.epoll_fd, op, fd, &ev) < 0 ? -errno : 0;
}

/* Ticks each second while anything has a time limit. */
static void timer_set(bool on)
{
	struct itimerspec spec = { .it_value.tv_sec = on, .it_interval.tv_sec = on };
	struct itimerspec old;

	timerfd_gettime(control.timer_fd, &old);
	if ((old.it_interval.tv_sec != 0) != on)
		timerfd_settime(control.timer_fd, 0, &spec, NULL);
}

static void timer_update(void)
{
	timer_set(control.fresh_count || settings.idle_exit_s || !control.listening);
}

/* --- connections ------------------------------------------------------- */

/* Forgets it; the descriptor is closed, or another's by now. */
static void fresh_forget(struct fresh *f, bool close_fd)
{
	epoll_ctl(control.epoll_fd, EPOLL_CTL_DEL, f->fd, NULL);
	if (close_fd)
		close_later(f->fd);
	cds_list_del(&f->link);
	control.fresh_count--;
	free(f->answer);
	free(f);
}

static void fresh_add(int fd)
{
	struct fresh *f;

	if (control.fresh_count == FRESH_MAX)
		fresh_forget(cds_list_first_entry(&control.fresh, struct fresh, link), true);
	f = calloc(1, sizeof(*f));
	if (!f || watch(EPOLL_CTL_ADD, fd, EPOLLIN, f)) {
		close(fd);
		free(f);
		return;
	}
	f->fd = fd;
	f->since_s = now_s();
	cds_list_add_tail(&f->link, &control.fresh);
	control.fresh_count++;
	timer_update();
}

static void listen_pause(bool pause)
{
	if (control.listening != pause)
		return;
	control.listening = !pause;
	watch(EPOLL_CTL_MOD, control.listen_fd, pause ? 0 : EPOLLIN, &control.listen_fd);
	timer_update();
}

/* One connection for each event, so that those that are there have their turn. */
static void listen_event(void)
{
	int fd = accept4(control.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0)
		fds_opened(fd);

	if (fd >= 0) {
		fresh_add(fd);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
		host_log_limited(LOG_ERR,
				 "cannot take in a new guest: %s: raise LimitNOFILE of "
				 "canald",
				 strerror(errno));
		listen_pause(true);
	}
}

/* --- canalctl ---------------------------------------------------------- */

static json_t *answer_error(const char *text)
{
	return json_pack("{s:s}", "error", text);
}

static bool peer_may_ask(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
	       (cred.uid == 0 || cred.uid == geteuid());
}

static json_t *answer_make(int fd, const char *question, size_t len)
{
	json_t *asked = json_loadb(question, len, 0, NULL), *answer;
	const char *cmd = json_string_value(json_object_get(asked, "cmd"));

	if (!cmd)
		answer = answer_error("expected {\"cmd\": ...}");
	else if (!peer_may_ask(fd))
		answer = answer_error("only root and the user that canald runs as may ask");
	else if (strcmp(cmd, "status") == 0)
		answer = stats_status();
	else
		answer = answer_error("unknown cmd: this canald knows status");
	json_decref(asked);
	return answer;
}

/* Sends what the peer has room for. False: all is sent, or nobody reads it. */
static bool answer_send(struct fresh *f)
{
	while (f->answer_sent < f->answer_len) {
		size_t len = f->answer_len - f->answer_sent;
		ssize_t sent;

		if (len > ANSWER_PACKET)
			len = ANSWER_PACKET;
		sent = send(f->fd, f->answer + f->answer_sent, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == EAGAIN;
		f->answer_sent += (size_t)sent;
	}
	return false;
}

/* False: the connection is to be closed. */
static bool question(struct fresh *f, const char *packet, size_t len)
{
	json_t *answer = answer_make(f->fd, packet, len);

	f->answer = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
	json_decref(answer);
	if (!f->answer)
		return false;
	f->answer_len = strlen(f->answer);
	f->since_s = now_s();
	cds_list_del(&f->link);
	cds_list_add_tail(&f->link, &control.fresh);
	return answer_send(f) && watch(EPOLL_CTL_MOD, f->fd, EPOLLOUT, f) == 0;
}

/* --- the first packet -------------------------------------------------- */

/* The poller may use the descriptor at once: it must be out of our loop before. */
static void fresh_hand_over(struct fresh *f, const char *packet, size_t len)
{
	int fd = f->fd;

	fresh_forget(f, false);
	if (!attach_local_first(fd, packet, len))
		close_later(fd);
}

static void fresh_first(struct fresh *f)
{
	char packet[4096];
	struct guest_fds none;
	int flags;
	ssize_t len = guest_recv(f->fd, packet, sizeof(packet), &none, &flags);

	if (len == -EAGAIN)
		return;
	if (len >= 0)
		guest_fds_close(&none);
	if (len <= 0)
		fresh_forget(f, true);
	else if (packet[0] != '{')
		fresh_hand_over(f, packet, (size_t)len);
	else if (!question(f, packet, (size_t)len))
		fresh_forget(f, true);
}

static void fresh_event(struct fresh *f)
{
	if (!f->answer)
		fresh_first(f);
	else if (!answer_send(f))
		fresh_forget(f, true);
}

/* --- time -------------------------------------------------------------- */

static void idle_check(time_t now)
{
	struct pollfd knock = { .fd = control.listen_fd, .events = POLLIN };

	if (!settings.idle_exit_s || canal_read_once(&channels_alive) || control.fresh_count ||
	    poll(&knock, 1, 0) > 0) {
		control.idle_since_s = now;
	} else if (now - control.idle_since_s >= settings.idle_exit_s) {
		host_log(LOG_INFO, "no guest for %d s: ending", settings.idle_exit_s);
		control.stop = true;
	}
}

static void timer_event(void)
{
	struct fresh *f, *next;
	time_t now = now_s();
	uint64_t ticks;

	(void)!read(control.timer_fd, &ticks, sizeof(ticks));
	cds_list_for_each_entry_safe(f, next, &control.fresh, link)
	{
		if (now - f->since_s < FRESH_S)
			break;
		fresh_forget(f, true);
	}
	listen_pause(false);
	idle_check(now);
	timer_update();
}

static void signal_event(void)
{
	struct signalfd_siginfo info;

	if (read(control.signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	host_log(LOG_INFO, "%s: ending", info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
	control.stop = true;
}

/* --- start ------------------------------------------------------------- */

static int path_address(const char *path, struct sockaddr_un *ret_address)
{
	size_t len = strlen(path);

	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (len >= sizeof(ret_address->sun_path)) {
		host_log(LOG_ERR,
			 "%s: longer than the path of a socket can be (%zu bytes): "
			 "choose another --socket",
			 path, sizeof(ret_address->sun_path) - 1);
		return -ENAMETOOLONG;
	}
	memcpy(ret_address->sun_path, path, len);
	return 0;
}

static void log_alive(const char *path, int fd)
{
	struct ucred cred = { .pid = 0 };
	socklen_t len = sizeof(cred);

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	host_log(LOG_ERR,
		 "%s: a canald is listening there already (pid %d); stop it or choose "
		 "another --socket",
		 path, (int)cred.pid);
}

/* Does somebody live at the path? 0 if not, -EADDRINUSE, -errno. */
static int path_probe(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error = 0;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	    errno == EAGAIN) {
		log_alive(address->sun_path, fd);
		error = -EADDRINUSE;
	} else if (errno == EPROTOTYPE) {
		host_log(LOG_ERR, "%s: another program is listening there; choose another --socket",
			 address->sun_path);
		error = -EADDRINUSE;
	} else if (errno != ECONNREFUSED && errno != ENOENT) {
		error = -errno;
		host_log(LOG_ERR, "%s: %s; choose another --socket", address->sun_path,
			 strerror(errno));
	}
	close(fd);
	return error;
}

/* Makes room at the path: removes a socket that nobody listens on any more. */
static int path_clear(const struct sockaddr_un *address)
{
	const char *path = address->sun_path;
	struct stat st;
	int error;

	if (lstat(path, &st) < 0)
		return 0; /* bind() says what is wrong, if anything is */
	if (!S_ISSOCK(st.st_mode)) {
		host_log(LOG_ERR,
			 "%s: exists and is not a socket; remove it or choose another "
			 "--socket",
			 path);
		return -EEXIST;
	}
	error = path_probe(address);
	if (!error && unlink(path) < 0 && errno != ENOENT) {
		error = -errno;
		host_log(LOG_ERR, "%s: left behind, but cannot be removed: %s", path,
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
 * Root's canald is everybody's: who a guest is comes from the kernel, and
 * children of a server that drop their privileges must be able to join.
 */
static int path_listen(const struct sockaddr_un *address)
{
	mode_t mask = umask(geteuid() == 0 ? 0111 : 0177);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ||
	    listen(fd, SOMAXCONN) < 0) {
		int error = -errno;

		host_log(LOG_ERR,
			 "%s: %s; choose a --socket in a directory that exists and is "
			 "yours",
			 address->sun_path, strerror(-error));
		if (fd >= 0)
			close(fd);
		umask(mask);
		return error;
	}
	umask(mask);
	control.listen_fd = fd;
	control.path_fd = open(address->sun_path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return 0;
}

static int path_claim(const char *path)
{
	struct sockaddr_un address;
	int error = path_address(path, &address), lock_fd;

	if (error)
		return error;
	lock_fd = path_lock(path);
	error = path_clear(&address);
	if (!error)
		error = path_listen(&address);
	if (lock_fd >= 0)
		close(lock_fd);
	return error;
}

static int loop_make(void)
{
	sigset_t signals;
	int error;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	control.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	control.signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	control.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (control.epoll_fd < 0 || control.signal_fd < 0 || control.timer_fd < 0)
		return -errno;
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	error = watch(EPOLL_CTL_ADD, control.listen_fd, EPOLLIN, &control.listen_fd);
	if (!error)
		error = watch(EPOLL_CTL_ADD, control.signal_fd, EPOLLIN, &control.signal_fd);
	if (!error)
		error = watch(EPOLL_CTL_ADD, control.timer_fd, EPOLLIN, &control.timer_fd);
	return error;
}

int control_start(void)
{
	int error = path_claim(settings.socket_path);

	CDS_INIT_LIST_HEAD(&control.fresh);
	if (error)
		return error;
	error = loop_make();
	if (error) {
		host_log(LOG_ERR, "cannot start: %s", strerror(-error));
		control_stop();
		control_remove();
		return error;
	}
	control.listening = true;
	return 0;
}

/* --- run and stop ------------------------------------------------------ */

static void dispatch(void *ptr)
{
	if (ptr == &control.listen_fd)
		listen_event();
	else if (ptr == &control.signal_fd)
		signal_event();
	else if (ptr == &control.timer_fd)
		timer_event();
	else
		fresh_event(ptr);
}

int control_run(void)
{
	struct epoll_event ev;

	control.idle_since_s = now_s();
	timer_update();
	while (!control.stop) {
		/* one at a time: serving one may end another */
		if (epoll_wait(control.epoll_fd, &ev, 1, -1) == 1)
			dispatch(ev.data.ptr);
		else if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static void close_if_open(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void control_stop(void)
{
	struct fresh *f, *next;

	cds_list_for_each_entry_safe(f, next, &control.fresh, link) fresh_forget(f, true);
	close_if_open(&control.listen_fd);
	close_if_open(&control.epoll_fd);
	close_if_open(&control.signal_fd);
	close_if_open(&control.timer_fd);
}

void control_remove(void)
{
	struct stat ours, st;

	if (control.path_fd >= 0 && fstat(control.path_fd, &ours) == 0 &&
	    lstat(settings.socket_path, &st) == 0 && st.st_dev == ours.st_dev &&
	    st.st_ino == ours.st_ino)
		unlink(settings.socket_path);
	close_if_open(&control.path_fd);
}
