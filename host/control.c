/* SPDX-License-Identifier: MIT */
/*
 * The control sockets: new guests, questions of canalctl, and the main thread.
 *
 * Purpose: listens on UNIX sockets (SOCK_SEQPACKET): the main one, and one for
 * each guest of the local transport that the configuration names. On which of them
 * somebody connects says which guest he is. The first packet of a
 * connection decides: '{' is a question in JSON, whose answer is sent in
 * packets of at most ANSWER_PACKET bytes before the connection is closed; all
 * else is the local transport (attach_local.c), and the connection is a
 * poller's from then on.
 *
 * Invariants
 *  1. At most FRESH_MAX connections are neither a guest nor gone. When one more
 *     comes the oldest goes; any that is silent for FRESH_S goes.
 *  2. Nothing here waits for a peer.
 *
 * Ownership and threads: the main thread. It waits for pollers (poller_call),
 * never they for it.
 *
 * Failure: what prevents the start is logged, with what to do. A connection
 * that fails is dropped; no descriptors left means a pause of a second.
 */
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syslog.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define FRESH_MAX 256u
#define FRESH_S 10
#define ANSWER_PACKET 65536u

struct poller *pollers;
unsigned int poller_count;

/* Where somebody may connect. */
struct listener {
	struct cds_list_head link; /* control.listeners, the main one first */
	struct unix_path at;
	struct guest *guest; /* NULL: the main socket */
};

/* A connection that is not a guest (yet). */
struct fresh {
	struct cds_list_head link; /* control.fresh, the oldest first */
	struct guest *guest;       /* on whose socket; NULL: the main one */
	int fd;
	time_t since_s;
	char *answer;
	size_t answer_len, answer_sent;
};

static struct {
	struct cds_list_head listeners;
	int epoll_fd, signal_fd, timer_fd, watchdog_fd;
	bool listening; /* watched; not while there are no descriptors left */
	bool stop;
	struct cds_list_head fresh;
	unsigned int fresh_count;
	time_t idle_since_s;
} control = {
	.listeners = CDS_LIST_HEAD_INIT(control.listeners),
	.epoll_fd = -1,
	.signal_fd = -1,
	.timer_fd = -1,
	.watchdog_fd = -1,
};

time_t control_now_s(void)
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

int control_watch(int op, int fd, uint32_t events, void *ptr)
{
	return watch(op, fd, events, ptr);
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
	bool vms = ivshmem_tick(control_now_s());

	timer_set(control.fresh_count || settings.idle_exit_s || !control.listening || vms);
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

static void fresh_add(int fd, struct guest *g)
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
	f->guest = g;
	f->since_s = control_now_s();
	cds_list_add_tail(&f->link, &control.fresh);
	control.fresh_count++;
	timer_update();
}

static void listen_pause(bool pause)
{
	struct listener *l;

	if (control.listening != pause)
		return;
	control.listening = !pause;
	cds_list_for_each_entry(l, &control.listeners, link)
		watch(EPOLL_CTL_MOD, l->at.fd, pause ? 0 : EPOLLIN, l);
	ivshmem_pause(pause);
	timer_update();
}

void control_pause(void)
{
	listen_pause(true);
}

/* One connection for each event, so that those that are there have their turn. */
static void listen_event(const struct listener *l)
{
	int fd = accept4(l->at.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0)
		fds_opened(fd);

	if (fd >= 0) {
		fresh_add(fd, l->guest);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
		host_log_limited(NULL, LOG_ERR,
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

static json_t *answer_make(const struct fresh *f, const char *question, size_t len)
{
	json_t *asked = json_loadb(question, len, 0, NULL), *answer;
	const char *cmd = json_string_value(json_object_get(asked, "cmd"));

	if (!cmd)
		answer = answer_error("expected {\"cmd\": ...}");
	else if (f->guest)
		answer = answer_error("this is the socket of a guest: ask at canald's own");
	else if (!peer_may_ask(f->fd))
		answer = answer_error("only root and the user that canald runs as may ask");
	else if (strcmp(cmd, "status") == 0)
		answer = stats_status();
	else if (strcmp(cmd, "ports") == 0)
		answer = stats_ports();
	else if (strcmp(cmd, "sockets") == 0)
		answer = stats_sockets(asked);
	else
		answer = answer_error("unknown cmd: this canald knows status, ports and sockets");
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
	json_t *answer = answer_make(f, packet, len);

	f->answer = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
	json_decref(answer);
	if (!f->answer)
		return false;
	f->answer_len = strlen(f->answer);
	f->since_s = control_now_s();
	cds_list_del(&f->link);
	cds_list_add_tail(&f->link, &control.fresh);
	return answer_send(f) && watch(EPOLL_CTL_MOD, f->fd, EPOLLOUT, f) == 0;
}

/* --- the first packet -------------------------------------------------- */

/* The poller may use the descriptor at once: it must be out of our loop before. */
static void fresh_hand_over(struct fresh *f, const char *packet, size_t len)
{
	struct guest *g = f->guest;
	int fd = f->fd;

	fresh_forget(f, false);
	if (!attach_local_first(fd, g, packet, len))
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

static bool somebody_knocks(void)
{
	struct listener *l;

	cds_list_for_each_entry(l, &control.listeners, link)
	{
		struct pollfd knock = { .fd = l->at.fd, .events = POLLIN };

		if (poll(&knock, 1, 0) > 0)
			return true;
	}
	return false;
}

static void idle_check(time_t now)
{
	if (!settings.idle_exit_s || canal_read_once(&channels_alive) || control.fresh_count ||
	    somebody_knocks()) {
		control.idle_since_s = now;
	} else if (now - control.idle_since_s >= settings.idle_exit_s) {
		host_log(LOG_INFO, "no guest for %d s: ending", settings.idle_exit_s);
		control.stop = true;
	}
}

static void timer_event(void)
{
	struct fresh *f, *next;
	time_t now = control_now_s();
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

/* @g NULL: the main one. */
static int listener_add(const char *path, struct guest *g)
{
	struct listener *l = calloc(1, sizeof(*l));
	int error;

	if (!l)
		return -ENOMEM;
	strcpy(l->at.path, path);
	l->at.remedy = g ? "choose another socket for that guest" : "choose another --socket";
	l->guest = g;
	error = unix_path_claim(&l->at, SOCK_SEQPACKET, g ? g->socket_mode : 0);
	if (error) {
		free(l);
		return error;
	}
	cds_list_add_tail(&l->link, &control.listeners);
	return 0;
}

static int listeners_make(void)
{
	int error = listener_add(settings.socket_path, NULL);
	struct guest *g;

	cds_list_for_each_entry(g, &guests, link)
	{
		if (!error && g->transport == GUEST_LOCAL)
			error = listener_add(g->socket_path, g);
	}
	return error;
}

static int listeners_watch(void)
{
	struct listener *l;
	int error = 0;

	cds_list_for_each_entry(l, &control.listeners, link)
	{
		if (!error)
			error = watch(EPOLL_CTL_ADD, l->at.fd, EPOLLIN, l);
	}
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
	error = listeners_watch();
	if (!error)
		error = watch(EPOLL_CTL_ADD, control.signal_fd, EPOLLIN, &control.signal_fd);
	if (!error)
		error = watch(EPOLL_CTL_ADD, control.timer_fd, EPOLLIN, &control.timer_fd);
	return error;
}

int control_start(void)
{
	int error;

	CDS_INIT_LIST_HEAD(&control.fresh);
	error = listeners_make();
	if (!error) {
		error = loop_make();
		if (error)
			host_log(LOG_ERR, "cannot start: %s%s", strerror(-error),
				 fds_remedy(error));
	}
	if (error) {
		control_stop();
		control_remove();
		return error;
	}
	control.listening = true;
	return 0;
}

/* --- run and stop ------------------------------------------------------ */

static struct listener *listener_at(const void *ptr)
{
	struct listener *l;

	cds_list_for_each_entry(l, &control.listeners, link) if (l == ptr) return l;
	return NULL;
}

static void dispatch(void *ptr)
{
	if (ptr == &control.signal_fd)
		signal_event();
	else if (ptr == &control.timer_fd)
		timer_event();
	else if (ptr == &control.watchdog_fd)
		watchdog_tick();
	else if (listener_at(ptr))
		listen_event(ptr);
	else if (ivshmem_event(ptr))
		timer_update();
	else
		fresh_event(ptr);
}

int control_run(void)
{
	struct epoll_event ev;

	control.idle_since_s = control_now_s();
	control.watchdog_fd = watchdog_start();
	if (control.watchdog_fd >= 0)
		watch(EPOLL_CTL_ADD, control.watchdog_fd, EPOLLIN, &control.watchdog_fd);
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
	struct listener *l;

	cds_list_for_each_entry_safe(f, next, &control.fresh, link) fresh_forget(f, true);
	cds_list_for_each_entry(l, &control.listeners, link) unix_path_close(&l->at);
	watchdog_stop();
	control.watchdog_fd = -1;
	close_if_open(&control.epoll_fd);
	close_if_open(&control.signal_fd);
	close_if_open(&control.timer_fd);
}

void control_remove(void)
{
	struct listener *l, *next;

	cds_list_for_each_entry_safe(l, next, &control.listeners, link)
	{
		unix_path_remove(&l->at);
		cds_list_del(&l->link);
		free(l);
	}
}
