/* SPDX-License-Identifier: MIT */
/* epoll: triggers, sets in sets, one socket in several, threads, children. */
#include "conformance.h"

#include <sys/epoll.h>

static char data[65536];

static int set_of(int fd, uint32_t events)
{
	int set = NEED(epoll_create1(EPOLL_CLOEXEC));
	struct epoll_event event = { .events = events, .data.u64 = 42 };

	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	return set;
}

static void look(const char *what, int set, int timeout)
{
	struct epoll_event got[4];
	int n;

	errno = 0;
	n = epoll_wait(set, got, 4, timeout);
	say_result(what, n);
	for (int i = 0; i < n; i++)
		say_epoll("  events", got[i].events);
}

static int change(int set, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.u64 = 43 };

	return epoll_ctl(set, EPOLL_CTL_MOD, fd, &event);
}

static void level(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLIN);

	look("none", set, 0);
	peer_must("send 1 0 abc");
	look("bytes", set, 5000);
	look("still", set, 0);
	recv(fd, data, 1, 0);
	look("some left", set, 0);
	recv(fd, data, 10, 0);
	look("read", set, 0);
}

static void edge(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLIN | EPOLLET);

	peer_must("send 1 0 abc");
	look("bytes", set, 5000);
	look("told", set, 0);
	recv(fd, data, 1, 0);
	look("some left", set, 0);
	peer_must("send 1 0 def");
	look("more", set, 5000);
	look("told", set, 0);
	peer_must("close 1");
	look("end", set, 5000);
	look("told", set, 0);
}

static void edge_in_and_out(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLIN | EPOLLOUT | EPOLLET);

	look("new", set, 5000);
	look("told", set, 0);
	peer_must("send 1 0 abc");
	look("bytes", set, 5000);
	look("told", set, 0);
	TELL(change(set, fd, EPOLLIN | EPOLLOUT | EPOLLET));
	look("changed", set, 0);
}

static void edge_out_again(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLOUT | EPOLLET);
	struct epoll_event got;

	look("new", set, 5000);
	(void)fill_up(fd, data, sizeof(data));
	(void)epoll_wait(set, &got, 1, 0); /* room that came while it was filled */
	look("full", set, 0);
	peer_begin("recv 1 1 0");
	peer_answer();
	peer_must("close 1"); /* unread bytes: a reset */
	look("reset", set, 5000);
}

static void oneshot(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLIN | EPOLLONESHOT);

	peer_must("send 1 0 abc");
	look("bytes", set, 5000);
	look("told", set, 0);
	peer_must("send 1 0 def");
	wait_bytes(fd, 6);
	look("more", set, 0);
	TELL(change(set, fd, EPOLLIN | EPOLLONESHOT));
	look("armed", set, 0);
	look("told", set, 0);
	peer_must("reset 1");
	calls_wait(fd, 0);
	nap_ms(20);
	look("reset", set, 0);
	TELL(change(set, fd, EPOLLIN | EPOLLONESHOT));
	look("armed", set, 5000);
}

static void rdhup(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLIN | EPOLLRDHUP);

	peer_must("shutdown 1 %d", SHUT_WR);
	look("end", set, 5000);
	TELL(change(set, fd, EPOLLIN));
	look("not asked", set, 0);
	TELL(change(set, fd, EPOLLRDHUP));
	look("only", set, 0);
	TELL(change(set, fd, EPOLLOUT));
	look("out", set, 0);
}

static void hangup_unasked(void)
{
	int fd = connected(1), set = set_of(fd, 0);

	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	look("bytes", set, 0);
	peer_must("reset 1");
	look("reset", set, 5000);
	look("still", set, 0);
}

static void all_kinds(void)
{
	int fd = connected(1);
	int set = set_of(fd, EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDNORM | EPOLLRDBAND |
				     EPOLLWRNORM | EPOLLWRBAND | EPOLLMSG | EPOLLRDHUP);

	look("new", set, 0);
	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	look("bytes", set, 0);
	peer_must("close 1");
	wait_end(fd);
	look("end", set, 0);
}

static void two_sets(void)
{
	int fd = connected(1), a = set_of(fd, EPOLLIN), b = set_of(fd, EPOLLIN | EPOLLET);

	peer_must("send 1 0 abc");
	look("level", a, 5000);
	look("edge", b, 5000);
	look("level", a, 0);
	look("edge", b, 0);
	TELL(epoll_ctl(a, EPOLL_CTL_DEL, fd, NULL));
	peer_must("send 1 0 def");
	look("edge", b, 5000);
	look("left", a, 0);
}

static void nested(void)
{
	int fd = connected(1), inner = set_of(fd, EPOLLIN), outer = set_of(inner, EPOLLIN);

	look("none", outer, 0);
	peer_must("send 1 0 abc");
	look("outer", outer, 5000);
	look("inner", inner, 0);
	look("outer", outer, 0);
	recv(fd, data, 10, 0);
	look("outer", outer, 0);
	say_events("poll", events_now(outer, POLLIN));
}

static void nested_edge(void)
{
	int fd = connected(1), inner = set_of(fd, EPOLLIN),
	    outer = set_of(inner, EPOLLIN | EPOLLET);

	peer_must("send 1 0 abc");
	look("outer", outer, 5000);
	look("told", outer, 0);
	look("inner", inner, 0);
}

static void nested_blocked(void)
{
	int fd = connected(1), inner = set_of(fd, EPOLLIN), middle = set_of(inner, EPOLLIN);
	int outer = set_of(middle, EPOLLIN);

	peer_begin("send 1 0 abc");
	look("outer", outer, 5000);
	peer_answer();
	say_events("poll", calls_wait(middle, POLLIN));
}

static void loop_refused(void)
{
	int a = NEED(epoll_create1(0)), b = set_of(a, EPOLLIN);
	struct epoll_event event = { .events = EPOLLIN };

	TELL(epoll_ctl(a, EPOLL_CTL_ADD, a, &event));
	TELL(epoll_ctl(a, EPOLL_CTL_ADD, b, &event));
}

static void control_errors(void)
{
	int fd = connected(1), set = NEED(epoll_create1(0));
	struct epoll_event event = { .events = EPOLLIN };
	volatile int minus = -1;

	TELL(epoll_ctl(set, EPOLL_CTL_MOD, fd, &event));
	TELL(epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	TELL(epoll_ctl(set, 77, fd, &event));
	TELL(epoll_ctl(fd, EPOLL_CTL_ADD, set, &event));
	TELL(epoll_ctl(-1, EPOLL_CTL_ADD, fd, &event));
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, -1, &event));
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, 999, &event));
	TELL(epoll_wait(fd, &event, 1, 0));
	TELL(epoll_wait(set, &event, 0, 0));
	TELL(epoll_wait(set, &event, minus, 0));
	TELL(epoll_create(0));
	TELL(epoll_create(-1));
	TELL(epoll_create1(77));
}

static void exclusive_rules(void)
{
	int fd = connected(1), set = NEED(epoll_create1(0)), inner = NEED(epoll_create1(0));
	struct epoll_event event = { .events = EPOLLIN | EPOLLEXCLUSIVE };

	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	TELL(epoll_ctl(set, EPOLL_CTL_MOD, fd, &event));
	event.events = EPOLLIN;
	TELL(epoll_ctl(set, EPOLL_CTL_MOD, fd, &event));
	TELL(epoll_ctl(set, EPOLL_CTL_DEL, fd, &event));
	event.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT;
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	event.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLRDHUP;
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	event.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLET | EPOLLOUT | EPOLLWAKEUP;
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	event.events = EPOLLIN | EPOLLEXCLUSIVE;
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, inner, &event));
}

static void exclusive_hears(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLIN | EPOLLEXCLUSIVE);

	peer_must("send 1 0 abc");
	look("bytes", set, 5000);
	look("still", set, 0);
}

static void closed_leaves(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLIN | EPOLLOUT);

	look("open", set, 0);
	close(fd);
	look("closed", set, 0);
	fd = connected(2);
	TELL(change(set, fd, EPOLLIN));
}

static void duplicate_keeps(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLIN), other = NEED(dup(fd));

	peer_must("send 1 0 abc");
	look("open", set, 5000);
	close(fd);
	look("its duplicate is open", set, 0);
	close(other);
	look("closed", set, 0);
}

static void duplicate_twice(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLIN), other = NEED(dup(fd));
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	TELL(epoll_ctl(set, EPOLL_CTL_ADD, other, &event));
	peer_must("send 1 0 abc");
	calls_wait(set, POLLIN);
	nap_ms(20); /* one comes behind the other */
	look("both", set, 5000);
	look("one", set, 0);
}

static void duplicate_of_set(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLIN), other = NEED(dup(set));

	peer_must("send 1 0 abc");
	look("first", set, 5000);
	close(set);
	look("second", other, 0);
}

static void listener_and_connects(void)
{
	struct name name;
	int fd = listener(&name), set = set_of(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP);

	look("none", set, 0);
	peer_must("connect 1 %d %d", family, port_of(&name));
	look("one", set, 5000);
	close(NEED(accept(fd, NULL, NULL)));
	look("accepted", set, 0);
}

static void connecting(void)
{
	struct name name = peer_name(peer_must("listen 62 %d 4", family));
	int fd = NEED(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
	int set = set_of(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);

	look("new", set, 0);
	TELL(connect(fd, sa(&name), name.len));
	look("connected", set, 5000);
	look("told", set, 0);
}

static void connect_refused(void)
{
	struct name name = peer_name(peer_must("bind 62 %d", family));
	int fd = NEED(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0)), set;

	TELL(connect(fd, sa(&name), name.len));
	set = set_of(fd, EPOLLOUT);
	look("refused", set, 5000);
	look("still", set, 0);
}

static void never_connected(void)
{
	int fd = NEED(socket(family, SOCK_STREAM, 0)), set = set_of(fd, EPOLLIN | EPOLLOUT);
	int udp = NEED(socket(family, SOCK_DGRAM, 0)), other = set_of(udp, EPOLLIN | EPOLLOUT);

	look("stream", set, 0);
	look("datagram", other, 0);
}

static void across_fork(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLIN);
	pid_t pid = fork();

	if (!pid) {
		look("child", set, 5000);
		say_bytes("child", recv(fd, data, 3, 0), data);
		_exit(0);
	}
	peer_must("send 1 0 abcdef");
	say_child("child", pid);
	look("parent", set, 5000);
	say_bytes("parent", recv(fd, data, 10, 0), data);
}

static void child_adds(void)
{
	int fd = connected(1), set = NEED(epoll_create1(0));
	pid_t pid = fork();

	if (!pid) {
		struct epoll_event event = { .events = EPOLLIN };

		TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
		_exit(0);
	}
	say_child("child", pid);
	peer_must("send 1 0 abc");
	look("parent", set, 5000);
}

/* What a child has added is there for the parent, too. */
static void child_added(void)
{
	int fd = connected(1), set = NEED(epoll_create1(0));
	struct epoll_event event = { .events = EPOLLOUT };
	pid_t pid = fork();

	if (!pid) {
		NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
		_exit(0);
	}
	say_child("child", pid);
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	event.events = EPOLLIN;
	TELL(epoll_ctl(set, EPOLL_CTL_MOD, fd, &event));
	peer_must("send 1 0 abc");
	look("changed", set, 5000);
	TELL(epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	TELL(epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
	look("removed", set, 0);
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	look("added", set, 5000);
}

static void child_of_child(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLIN);
	pid_t pid = fork(), other;

	if (!pid) {
		other = fork();
		if (!other) {
			look("grandchild", set, 5000);
			_exit(0);
		}
		say_child("grandchild", other);
		_exit(0);
	}
	peer_must("send 1 0 abc");
	say_child("child", pid);
}

static void nanoseconds(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLIN);
	struct timespec limits[] = {
		{ 0, 1 }, { 0, 30000000 }, { 0, 1000000000 }, { -1, 0 }, { 0, -1 }
	};
	struct epoll_event got;

	for (size_t i = 0; i < COUNT(limits); i++) {
		struct timespec begin, end;
		int64_t took;

		clock_gettime(CLOCK_MONOTONIC, &begin);
		TELL(epoll_pwait2(set, &got, 1, &limits[i], NULL));
		clock_gettime(CLOCK_MONOTONIC, &end);
		took = (end.tv_sec - begin.tv_sec) * 1000000000LL + end.tv_nsec - begin.tv_nsec;
		if (limits[i].tv_nsec > 0 && limits[i].tv_nsec < 1000000000)
			say("%s", took >= limits[i].tv_nsec ? "not before its time" : "early");
	}
	peer_must("send 1 0 abc");
	TELL(epoll_pwait2(set, &got, 1, NULL, NULL));
}

static void mask_in_wait(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLIN);
	struct epoll_event got;
	sigset_t all, none;

	count_signal(SIGUSR1, 0);
	sigfillset(&all);
	sigemptyset(&none);
	NEED(sigprocmask(SIG_BLOCK, &all, NULL));
	raise(SIGUSR1);
	TELL(epoll_pwait(set, &got, 1, 0, &all));
	say("signals %d", (int)signals_seen);
	TELL(epoll_pwait(set, &got, 1, 5000, &none));
	say("signals %d", (int)signals_seen);
	raise(SIGUSR1);
	peer_must("send 1 0 abc");
	calls_wait(set, POLLIN);
	TELL(epoll_pwait(set, &got, 1, 5000, &none));
	say("signals %d", (int)signals_seen);
}

static void data_comes_back(void)
{
	int fd = connected(1), set = set_of(fd, EPOLLOUT);
	struct epoll_event got = { 0 };

	NEED(epoll_wait(set, &got, 1, 5000));
	say("%llu", (unsigned long long)got.data.u64);
	NEED(change(set, fd, EPOLLOUT));
	NEED(epoll_wait(set, &got, 1, 5000));
	say("%llu", (unsigned long long)got.data.u64);
}

/* One event of many at a time: each has its turn. */
static void turns(void)
{
	int set = NEED(epoll_create1(0)), fd[5];
	int seen[5] = { 0 };

	for (int i = 0; i < 5; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };

		fd[i] = connected(i);
		NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd[i], &event));
		peer_must("send %d 0 x", i);
		wait_bytes(fd[i], 1);
	}
	for (int i = 0; i < 10; i++) {
		struct epoll_event got;

		NEED(epoll_wait(set, &got, 1, 5000));
		seen[got.data.u32]++;
	}
	say("%d %d %d %d %d", seen[0], seen[1], seen[2], seen[3], seen[4]);
}

static void order_of_arrival(void)
{
	int set = NEED(epoll_create1(0)), fd[4];
	struct epoll_event got[4];

	for (int i = 0; i < 4; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };

		fd[i] = connected(i);
		NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd[i], &event));
	}
	for (int i = 0; i < 4; i++) {
		static const int order[] = { 2, 0, 3, 1 };

		peer_must("send %d 0 x", order[i]);
		wait_bytes(fd[order[i]], 1);
	}
	TELL(epoll_wait(set, got, 4, 5000));
	say("%u %u %u %u", got[0].data.u32, got[1].data.u32, got[2].data.u32, got[3].data.u32);
}

const struct call_case cases[] = {
	{ "level", level },
	{ "edge", edge },
	{ "edge_in_and_out", edge_in_and_out },
	{ "edge_out_again", edge_out_again },
	{ "oneshot", oneshot },
	{ "rdhup", rdhup },
	{ "hangup_unasked", hangup_unasked },
	{ "all_kinds", all_kinds },
	{ "two_sets", two_sets },
	{ "nested", nested },
	{ "nested_edge", nested_edge },
	{ "nested_blocked", nested_blocked },
	{ "loop_refused", loop_refused },
	{ "control_errors", control_errors },
	{ "exclusive_rules", exclusive_rules },
	{ "exclusive_hears", exclusive_hears },
	{ "closed_leaves", closed_leaves },
	{ "duplicate_keeps", duplicate_keeps },
	{ "duplicate_twice", duplicate_twice },
	{ "duplicate_of_set", duplicate_of_set },
	{ "listener_and_connects", listener_and_connects },
	{ "connecting", connecting },
	{ "connect_refused", connect_refused },
	{ "never_connected", never_connected },
	{ "across_fork", across_fork },
	{ "child_adds", child_adds },
	{ "child_added", child_added },
	{ "child_of_child", child_of_child },
	{ "nanoseconds", nanoseconds },
	{ "mask_in_wait", mask_in_wait },
	{ "data_comes_back", data_comes_back },
	{ "turns", turns },
	{ "order_of_arrival", order_of_arrival },
};
const size_t case_count = COUNT(cases);
