/* SPDX-License-Identifier: MIT */
/* poll and select: what is ready when, masks, limits, many descriptors. */
#include "conformance.h"

#include <sys/resource.h>
#include <sys/select.h>

static char data[65536];
#define ALL \
	(POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM | POLLRDBAND | POLLWRBAND)

static void look(const char *what, int fd)
{
	struct pollfd p = { .fd = fd, .events = ALL };
	int n = poll(&p, 1, 0);

	say("%s: %d %#x", what, n, p.revents);
}

static void stream_states(void)
{
	struct name name;
	int fd = NEED(socket(family, SOCK_STREAM, 0));

	look("new", fd);
	name = loopback(0);
	NEED(bind(fd, sa(&name), name.len));
	look("bound", fd);
	NEED(listen(fd, 3));
	look("listens", fd);
	fd = connected(1);
	look("connected", fd);
	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	look("bytes", fd);
	peer_must("shutdown 1 %d", SHUT_WR);
	wait_end(fd);
	look("end", fd);
	recv(fd, data, 10, 0);
	look("read", fd);
	shutdown(fd, SHUT_WR);
	look("both ends", fd);
}

static void dgram_states(void)
{
	int fd = NEED(socket(family, SOCK_DGRAM, 0));

	look("new", fd);
	fd = dgram_with(1);
	look("connected", fd);
	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	look("one", fd);
	recv(fd, data, 10, 0);
	look("none", fd);
	shutdown(fd, SHUT_RDWR);
	look("shut", fd);
}

static void odd_descriptors(void)
{
	int fd = connected(1);
	struct pollfd p[] = { { fd, POLLOUT, 7 },
			      { -1, POLLIN, 7 },
			      { 999, POLLIN, 7 },
			      { -5, 0, 7 },
			      { fd, 0, 7 } };

	TELL(poll(p, COUNT(p), 0));
	for (size_t i = 0; i < COUNT(p); i++)
		say("%#x", p[i].revents);
	TELL(poll(NULL, 0, 0));
	TELL(poll(p + 1, 1, 10));
	TELL(poll(p, 1, -1));
	TELL(poll(p, 1, -77));
}

static void mixed_kinds(void)
{
	int fd = connected(1), pipes[2];
	struct pollfd p[3];

	NEED(pipe(pipes));
	p[0] = (struct pollfd){ fd, POLLIN, 0 };
	p[1] = (struct pollfd){ pipes[0], POLLIN, 0 };
	p[2] = (struct pollfd){ pipes[1], POLLOUT, 0 };
	TELL(poll(p, 2, 20));
	TELL(poll(p, 3, 5000));
	NEED(write(pipes[1], "x", 1));
	TELL(poll(p, 2, 5000));
	say("%#x %#x", p[0].revents, p[1].revents);
	peer_must("send 1 0 x");
	wait_bytes(fd, 1);
	TELL(poll(p, 2, 5000));
	say("%#x %#x", p[0].revents, p[1].revents);
}

static void waits_for_either(void)
{
	int fd = connected(1), pipes[2];
	struct pollfd p[2];
	pid_t pid;

	NEED(pipe(pipes));
	p[0] = (struct pollfd){ fd, POLLIN, 0 };
	p[1] = (struct pollfd){ pipes[0], POLLIN, 0 };
	pid = fork();
	if (!pid) {
		nap_ms(40);
		(void)!write(pipes[1], "x", 1);
		_exit(0);
	}
	TELL(poll(p, 2, 5000));
	say("%#x %#x", p[0].revents, p[1].revents);
	say_child("child", pid);
	NEED(read(pipes[0], data, 1));
	peer_begin("send 1 0 x");
	TELL(poll(p, 2, 5000));
	say("%#x %#x", p[0].revents, p[1].revents);
	peer_answer();
}

static void select_three_sets(void)
{
	int fd = connected(1), other = connected(2);
	fd_set rd, wr, ex;
	struct timeval limit = { .tv_sec = 5 };

	FD_ZERO(&rd);
	FD_ZERO(&wr);
	FD_ZERO(&ex);
	FD_SET(fd, &rd);
	FD_SET(other, &rd);
	FD_SET(fd, &wr);
	FD_SET(fd, &ex);
	peer_must("send 2 0 abc");
	wait_bytes(other, 3);
	TELL(select((fd > other ? fd : other) + 1, &rd, &wr, &ex, &limit));
	say("%d %d %d %d", FD_ISSET(fd, &rd), FD_ISSET(other, &rd), FD_ISSET(fd, &wr),
	    FD_ISSET(fd, &ex));
	say("%s", limit.tv_sec >= 4 ? "time is left" : "no time left");
	TELL(select(-1, &rd, NULL, NULL, &limit));
	limit = (struct timeval){ 0, 20000 };
	FD_ZERO(&rd);
	FD_SET(fd, &rd);
	TELL(select(fd + 1, &rd, NULL, NULL, &limit));
	say("%d %ld", FD_ISSET(fd, &rd), (long)limit.tv_usec);
	limit = (struct timeval){ -1, 0 };
	TELL(select(fd + 1, &rd, NULL, NULL, &limit));
	limit = (struct timeval){ 0, 2000000 };
	FD_SET(other, &rd);
	TELL(select(other + 1, &rd, NULL, NULL, &limit));
	FD_SET(fd, &rd);
	close(fd);
	limit = (struct timeval){ 0, 0 };
	TELL(select(fd + 1, &rd, NULL, NULL, &limit));
}

static void select_to_1023(void)
{
	struct rlimit limit = { 1024, 1024 };
	int fd = connected(1);
	fd_set rd;

	(void)setrlimit(RLIMIT_NOFILE, &limit);
	if (dup2(fd, 1023) != 1023) {
		say_result("dup2", -1);
		return;
	}
	close(fd);
	FD_ZERO(&rd);
	FD_SET(1023, &rd);
	peer_must("send 1 0 abc");
	TELL(select(1024, &rd, NULL, NULL, NULL));
	say("%d", FD_ISSET(1023, &rd));
	say_bytes("recv", recv(1023, data, 10, 0), data);
	TELL(dup2(1023, 1024));
	TELL(fcntl(1023, F_DUPFD, 1024));
}

static void select_hangup(void)
{
	int fd = connected(1);
	fd_set rd, wr, ex;
	struct timeval limit = { .tv_sec = 5 };

	peer_must("reset 1");
	calls_wait(fd, 0);
	FD_ZERO(&rd);
	FD_ZERO(&wr);
	FD_ZERO(&ex);
	FD_SET(fd, &rd);
	FD_SET(fd, &wr);
	FD_SET(fd, &ex);
	TELL(select(fd + 1, &rd, &wr, &ex, &limit));
	say("%d %d %d", FD_ISSET(fd, &rd), FD_ISSET(fd, &wr), FD_ISSET(fd, &ex));
}

static void pselect_mask(void)
{
	int fd = connected(1);
	struct timespec soon = { .tv_nsec = 20000000 }, late = { .tv_sec = 5 };
	sigset_t all, none;
	fd_set rd;

	count_signal(SIGUSR1, 0);
	sigfillset(&all);
	sigemptyset(&none);
	NEED(sigprocmask(SIG_BLOCK, &all, NULL));
	raise(SIGUSR1);
	FD_ZERO(&rd);
	FD_SET(fd, &rd);
	TELL(pselect(fd + 1, &rd, NULL, NULL, &soon, NULL));
	say("signals %d", (int)signals_seen);
	FD_SET(fd, &rd);
	TELL(pselect(fd + 1, &rd, NULL, NULL, &late, &none));
	say("signals %d, %ld s", (int)signals_seen, (long)late.tv_sec);
}

static void ppoll_mask(void)
{
	int fd = connected(1);
	struct pollfd p = { fd, POLLIN, 0 };
	struct timespec soon = { .tv_nsec = 20000000 }, late = { .tv_sec = 5 }, bad = { 0, -1 };
	sigset_t all, none, now;

	count_signal(SIGUSR1, 0);
	sigfillset(&all);
	sigemptyset(&none);
	NEED(sigprocmask(SIG_BLOCK, &all, NULL));
	raise(SIGUSR1);
	TELL(ppoll(&p, 1, &soon, NULL));
	say("signals %d", (int)signals_seen);
	TELL(ppoll(&p, 1, &late, &none));
	say("signals %d", (int)signals_seen);
	NEED(sigprocmask(SIG_BLOCK, NULL, &now));
	say("%s", sigismember(&now, SIGUSR1) ? "blocked again" : "not blocked");
	TELL(ppoll(&p, 1, &bad, NULL));
	raise(SIGUSR1);
	peer_must("send 1 0 x");
	wait_bytes(fd, 1);
	TELL(ppoll(&p, 1, &late, &none));
	say("signals %d", (int)signals_seen);
}

static void many(void)
{
	struct pollfd p[60];

	for (int i = 0; i < 60; i++)
		p[i] = (struct pollfd){ connected(i), POLLIN, 0 };
	TELL(poll(p, 60, 0));
	for (int i = 0; i < 60; i += 7) {
		peer_must("send %d 0 x", i);
		wait_bytes(p[i].fd, 1);
	}
	TELL(poll(p, 60, 5000));
	for (int i = 0; i < 60; i++)
		if (p[i].revents)
			say("%d %#x", i, p[i].revents);
}

static void the_same_twice(void)
{
	int fd = connected(1);
	struct pollfd p[] = { { fd, POLLIN, 0 }, { fd, POLLOUT, 0 }, { fd, POLLIN | POLLOUT, 0 } };

	TELL(poll(p, 3, 0));
	peer_must("send 1 0 x");
	wait_bytes(fd, 1);
	TELL(poll(p, 3, 0));
	say("%#x %#x %#x", p[0].revents, p[1].revents, p[2].revents);
}

static void time_passes(void)
{
	int fd = connected(1);
	struct pollfd p = { fd, POLLIN, 0 };
	int64_t begin = now_ms();

	TELL(poll(&p, 1, 50));
	say("%s", now_ms() - begin >= 49 ? "not before its time" : "early");
}

static void writable_again(void)
{
	int fd = connected(1);

	(void)fill_up(fd, data, sizeof(data));
	look("full", fd);
	peer_must("recv 1 100 0");
	nap_ms(20);
	look("a little room", fd);
}

const struct call_case cases[] = {
	{ "stream_states", stream_states },
	{ "dgram_states", dgram_states },
	{ "odd_descriptors", odd_descriptors },
	{ "mixed_kinds", mixed_kinds },
	{ "waits_for_either", waits_for_either },
	{ "select_three_sets", select_three_sets },
	{ "select_to_1023", select_to_1023 },
	{ "select_hangup", select_hangup },
	{ "pselect_mask", pselect_mask },
	{ "ppoll_mask", ppoll_mask },
	{ "many", many },
	{ "the_same_twice", the_same_twice },
	{ "time_passes", time_passes },
	{ "writable_again", writable_again },
};
const size_t case_count = COUNT(cases);
