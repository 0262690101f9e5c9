/* SPDX-License-Identifier: MIT */
/*
 * Listeners, datagram sockets, and sockets that are not connected yet, in the hands of
 * code that no library sees: statically linked programs, io_uring, stdio. Runs with
 * CANAL_FALLBACK=allow, as the kernel's sockets are what such code gets.
 */
#include "calls.h"
#include "outside.h"
#include "ring.h"

#include <spawn.h>
#include <sys/epoll.h>
#include <sys/un.h>

extern char **environ;

static char data[512];

/* --- what the cases share ---------------------------------------------- */

/* The helper, with @fd and one more argument. */
static pid_t start(const char *what, int fd, int argument)
{
	pid_t pid = NEED(fork());
	char number[12], other[12];

	if (pid)
		return pid;
	NEED(fcntl(fd, F_SETFD, 0));
	snprintf(number, sizeof(number), "%d", fd);
	snprintf(other, sizeof(other), "%d", argument);
	execl(helper(true), "helper", what, number, other, NULL);
	_exit(99);
}

static int dial(struct name *name)
{
	int fd = NEED(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));

	NEED(connect(fd, sa(name), name->len));
	return fd;
}

/* It ends with its last process, if not at the same moment. */
static void until_refused(struct name *name)
{
	for (int64_t end = now_ms() + 5000; now_ms() < end; nap_ms(1)) {
		int fd = NEED(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));

		if (connect(fd, sa(name), name->len) < 0 && errno == ECONNREFUSED) {
			say("refused");
			return;
		}
		close(fd);
	}
	say("never refused");
}

static void say_who(int c)
{
	char text[64];

	snprintf(text, sizeof(text), "family %d port", family);
	expect(c, text);
	say("end %zd", recv(c, data, sizeof(data), 0));
	close(c);
}

static void ask(int from, struct name *to, const char *text)
{
	struct name name = { .len = sizeof(name.ss) };
	ssize_t got;

	NEED(sendto(from, text, strlen(text), 0, sa(to), to->len));
	got = NEED(recvfrom(from, data, sizeof(data) - 1, 0, sa(&name), &name.len));
	data[got] = '\0';
	say("%s, from there %d", data, port_of(&name) == port_of(to));
}

/* --- listeners --------------------------------------------------------- */

static void listens(void)
{
	struct name name;
	int fd = listener(&name), c;
	pid_t pid = start("accept", fd, 0);

	close(fd);
	c = dial(&name);
	put(c, "listened");
	expect(c, "LISTENED");
	close(c);
	say_child("helper", pid);
	until_refused(&name);
}

/* They wait in the backlog while the program changes: with bytes, and closed already. */
static void backlog(void)
{
	struct name name;
	int fd = listener(&name), c[2];
	pid_t pid[2];

	for (int i = 0; i < 2; i++)
		c[i] = dial(&name);
	put(c[0], "early");
	put(c[1], "gone");
	NEED(shutdown(c[1], SHUT_WR));
	calls_wait(fd, POLLIN);
	pid[0] = start("accept", fd, 0);
	expect(c[0], "EARLY");
	pid[1] = start("accept", fd, 0);
	expect(c[1], "GONE");
	say("end %zd", recv(c[1], data, sizeof(data), 0));
	put(c[0], "more");
	expect(c[0], "MORE");
	close(c[0]);
	for (int i = 0; i < 2; i++)
		say_child("helper", pid[i]);
}

#define MORE 4

/* More than have room in the backlog: they go on waiting, and are accepted in the end. */
static void backlog_full(void)
{
	struct name name;
	int fd = listener(&name), c[MORE];
	pid_t pid[MORE];

	NEED(listen(fd, 1));
	for (int i = 0; i < MORE; i++) {
		c[i] = NEED(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
		if (connect(c[i], sa(&name), name.len) && errno != EINPROGRESS)
			say("connect: %s", strerrorname_np(errno));
	}
	calls_wait(fd, POLLIN);
	for (int i = 0; i < MORE; i++)
		pid[i] = start("accept", fd, 0);
	for (int i = 0; i < MORE; i++) {
		calls_wait(c[i], POLLOUT);
		set_nonblock(c[i], false);
		put(c[i], "early");
		expect(c[i], "EARLY");
		close(c[i]);
	}
	for (int i = 0; i < MORE; i++)
		say_child("helper", pid[i]);
}

static void addresses(void)
{
	struct name name;
	int fd = listener(&name);
	pid_t pid = start("who", fd, 0);

	say_who(dial(&name));
	say_child("helper", pid);
}

/* The parent has it still, and accepts when the child is done. */
static void parent_too(void)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 7 };
	struct name name, peer = { .len = sizeof(peer.ss) };
	int fd = listener(&name), set = NEED(epoll_create1(0)), a, c, one = 1;
	socklen_t len = sizeof(one);
	pid_t pid;

	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev));
	set_nonblock(fd, true);
	pid = start("who", fd, 0);
	say_who(dial(&name));
	say_child("helper", pid);
	TELL(accept(fd, NULL, NULL));
	TELL(epoll_wait(set, &ev, 1, 0));
	c = dial(&name);
	ev.data.u32 = 0;
	TELL(epoll_wait(set, &ev, 1, 5000));
	say("data %u", ev.data.u32);
	say_events("listener", calls_wait(fd, POLLIN));
	a = NEED(accept(fd, sa(&peer), &peer.len));
	say_name("peer", &peer);
	put(a, "parent's");
	expect(c, "parent's");
	TELL(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &one, &len));
	say("listens %d", one);
	TELL(listen(fd, 3));
	close(fd);
	close(c);
	until_refused(&name);
}

static void *sleep_in_accept(void *arg)
{
	return (void *)(intptr_t)accept(*(int *)arg, NULL, NULL);
}

static void *sleep_in_poll(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };

	return (void *)(intptr_t)poll(&p, 1, 10000);
}

/* Another thread sleeps on it while it changes hands: a program takes it, and ends. */
static void *woken(void *(*sleeper)(void *), int fd, struct name *name, int *ret_c)
{
	pthread_t thread;
	void *ret;

	NEED(-pthread_create(&thread, NULL, sleeper, &fd));
	nap_ms(20);
	say_child("helper", start("have", fd, 0));
	*ret_c = dial(name);
	pthread_join(thread, &ret);
	return ret;
}

static void accept_sleeper(void)
{
	struct name name;
	int fd = listener(&name), c, a;

	a = NEED((int)(intptr_t)woken(sleep_in_accept, fd, &name, &c));
	put(a, "woken");
	expect(c, "woken");
}

static void poll_sleeper(void)
{
	struct name name;
	int fd = listener(&name), c;

	say("polled %d", (int)(intptr_t)woken(sleep_in_poll, fd, &name, &c));
	put(NEED(accept(fd, NULL, NULL)), "woken");
	expect(c, "woken");
}

static void spawned(void)
{
	posix_spawn_file_actions_t actions;
	char *argv[] = { "helper", "who", "0", NULL };
	struct name name;
	int fd = listener(&name), c, a;
	pid_t pid;

	NEED(fcntl(fd, F_SETFD, FD_CLOEXEC));
	NEED(-posix_spawn_file_actions_init(&actions));
	NEED(-posix_spawn_file_actions_adddup2(&actions, fd, 0));
	NEED(-posix_spawn(&pid, helper(true), &actions, NULL, argv, environ));
	say_who(dial(&name));
	say_child("helper", pid);
	c = dial(&name);
	a = NEED(accept(fd, NULL, NULL));
	say("on exec %d", fcntl(fd, F_GETFD));
	put(c, "still here");
	expect(a, "still here");
}

/* To a program that asks for it over a UNIX socket. */
static void sent_away(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int u = NEED(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), fd, way, c, a;
	char text[32];
	struct name name;
	pid_t pid;

	snprintf(text, sizeof(text), "canal-given-%d", getpid());
	memcpy(un.sun_path + 1, text, strlen(text));
	NEED(bind(u, (struct sockaddr *)&un, sizeof(un)));
	NEED(listen(u, 1));
	pid = NEED(fork());
	if (!pid) {
		execl(helper(true), "helper", "fetch", text, NULL);
		_exit(99);
	}
	way = NEED(accept(u, NULL, NULL));
	fd = listener(&name);
	send_fd(way, fd);
	say_who(dial(&name));
	say_child("helper", pid);
	c = dial(&name);
	a = NEED(accept(fd, NULL, NULL));
	put(c, "ours still");
	expect(a, "ours still");
}

/* --- datagrams --------------------------------------------------------- */

/* By the helper, which has @to for one datagram. */
static void answered(int from, int to, struct name *there, const char *text)
{
	pid_t pid = start("answer", to, 0);

	ask(from, there, text);
	say_child("helper", pid);
}

static void datagrams(void)
{
	struct name here, there;
	int from = dgram_bound(&here), to = dgram_bound(&there);
	pid_t pid;

	NEED(fcntl(from, F_SETFD, FD_CLOEXEC)); /* it stays canald's */
	answered(from, to, &there, "first");
	pid = start("answer", to, 0);
	close(to);
	ask(from, &there, "second");
	say_child("helper", pid);
}

static void datagrams_to_parent(void)
{
	struct name here, there, name = { .len = sizeof(name.ss) };
	int from = dgram_bound(&here), to = dgram_bound(&there);

	NEED(fcntl(from, F_SETFD, FD_CLOEXEC)); /* it stays canald's */
	answered(from, to, &there, "to the child");
	NEED(sendto(from, "to the parent", 13, 0, sa(&there), there.len));
	say_events("parent", calls_wait(to, POLLIN));
	TELL(recvfrom(to, data, sizeof(data), 0, sa(&name), &name.len));
	say("from %d", port_of(&name) == port_of(&here));
	TELL(sendto(to, "back", 4, 0, sa(&name), name.len));
	TELL(recv(from, data, sizeof(data), 0));
	TELL(connect(to, sa(&name), name.len));
	TELL(send(to, "peer", 4, 0));
	TELL(recv(from, data, sizeof(data), 0));
}

static void *sleep_in_recv(void *arg)
{
	char text[64];

	return (void *)(intptr_t)recv(*(int *)arg, text, sizeof(text), 0);
}

static void dgram_sleeper(void)
{
	struct name here, there;
	int from = dgram_bound(&here), to = dgram_bound(&there);
	pthread_t thread;
	void *ret;

	NEED(-pthread_create(&thread, NULL, sleep_in_recv, &to));
	nap_ms(20);
	say_child("helper", start("have", to, 0));
	NEED(sendto(from, "awake", 5, 0, sa(&there), there.len));
	pthread_join(thread, &ret);
	say("received %ld", (long)(intptr_t)ret);
}

static void dgram_stdio(void)
{
	char line[64];
	int fd[2];
	FILE *f;

	dgram_pair(fd);
	f = fdopen(fd[0], "r+");
	fprintf(f, "a line\n");
	fflush(f);
	say("%zd", recv(fd[1], data, sizeof(data), 0));
	send_all(fd[1], "an answer\n", 10);
	say("%s", fgets(line, sizeof(line), f));
	fclose(f);
}

/* --- not connected yet --------------------------------------------------- */

static void dials(void)
{
	struct name name;
	int l = listener(&name), fd = NEED(socket(family, SOCK_STREAM, 0)), a;
	int on = 1;
	pid_t pid;

	NEED(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
	pid = start("dial", fd, port_of(&name));
	a = NEED(accept(l, NULL, NULL));
	expect(a, "dialled");
	say_child("helper", pid);
	put(fd, "from the parent");
	expect(a, "from the parent");
	close(fd);
	say("end %zd", recv(a, data, sizeof(data), 0));
}

/* --- io_uring ------------------------------------------------------------ */

static void ring_accepts(void)
{
	struct name name;
	int l = listener(&name), c = dial(&name), a;

	calls_wait(l, POLLIN);
	if (!ring_works())
		return;
	io_uring_prep_accept(io_uring_get_sqe(&ring), l, NULL, NULL, 0);
	a = NEED(ring_wait());
	put(c, "by the ring");
	io_uring_prep_recv(io_uring_get_sqe(&ring), a, data, sizeof(data), 0);
	say("received %d", ring_wait());
	io_uring_prep_send(io_uring_get_sqe(&ring), a, "back", 4, 0);
	say("sent %d", ring_wait());
	expect(c, "back");
	io_uring_prep_poll_add(io_uring_get_sqe(&ring), a, POLLIN);
	put(c, "x");
	say("polled %d", ring_wait() & POLLIN);
	io_uring_prep_read(io_uring_get_sqe(&ring), a, data, sizeof(data), 0);
	say("read %d", ring_wait());
}

static void ring_connects(void)
{
	struct name name;
	int l = listener(&name), fd = NEED(socket(family, SOCK_STREAM, 0)), a;

	if (!ring_works())
		return;
	io_uring_prep_connect(io_uring_get_sqe(&ring), fd, sa(&name), name.len);
	say("connected %d", ring_wait());
	a = NEED(accept(l, NULL, NULL));
	put(fd, "connected");
	expect(a, "connected");
	io_uring_prep_write(io_uring_get_sqe(&ring), fd, "written", 7, 0);
	say("written %d", ring_wait());
	expect(a, "written");
}

static void ring_datagrams(void)
{
	struct name here, there, name = { .len = sizeof(name.ss) };
	int from = dgram_bound(&here), to = dgram_bound(&there);
	struct iovec iov = { data, sizeof(data) };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_name = sa(&name), .msg_namelen = name.len
	};

	if (!ring_works())
		return;
	NEED(sendto(from, "datagram", 8, 0, sa(&there), there.len));
	io_uring_prep_recvmsg(io_uring_get_sqe(&ring), to, &m, 0);
	say("received %d", ring_wait());
	say("from %d", port_of(&name) == port_of(&here));
	iov.iov_len = 4;
	io_uring_prep_sendmsg(io_uring_get_sqe(&ring), to, &m, 0);
	say("sent %d", ring_wait());
	TELL(recv(from, data, sizeof(data), 0));
}

const struct call_case cases[] = {
	{ "listens", listens },
	{ "backlog", backlog },
	{ "backlog_full", backlog_full },
	{ "addresses", addresses },
	{ "parent_too", parent_too },
	{ "accept_sleeper", accept_sleeper },
	{ "poll_sleeper", poll_sleeper },
	{ "spawned", spawned },
	{ "sent_away", sent_away },
	{ "datagrams", datagrams },
	{ "datagrams_to_parent", datagrams_to_parent },
	{ "dgram_sleeper", dgram_sleeper },
	{ "dgram_stdio", dgram_stdio },
	{ "dials", dials },
	{ "ring_accepts", ring_accepts },
	{ "ring_connects", ring_connects },
	{ "ring_datagrams", ring_datagrams },
};
const size_t case_count = COUNT(cases);
