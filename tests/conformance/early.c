/* SPDX-License-Identifier: MIT */
/* Who sleeps in a set, or watches it, before a socket is in it. */
#include "conformance.h"

#include <stdatomic.h>
#include <sys/epoll.h>

struct early {
	pthread_t thread;
	int set;
	int (*wait)(int set);
	atomic_int tid;
	atomic_bool done;
	int got;
};

static int wait_in_epoll(int set)
{
	struct epoll_event got = { 0 };
	int n = epoll_wait(set, &got, 1, 20000);

	return n == 1 ? (int)got.data.u64 : -n;
}

static int wait_in_poll(int set)
{
	struct pollfd p = { .fd = set, .events = POLLIN };

	return poll(&p, 1, 20000) == 1 ? p.revents : -1;
}

static int wait_in_select(int set)
{
	fd_set in;

	FD_ZERO(&in);
	FD_SET(set, &in);
	return select(set + 1, &in, NULL, NULL, &(struct timeval){ .tv_sec = 20 });
}

static void *early_wait(void *arg)
{
	struct early *e = arg;

	e->tid = gettid();
	e->got = e->wait(e->set);
	e->done = true;
	return NULL;
}

static bool early_runs(void *arg)
{
	return ((struct early *)arg)->tid;
}

static void early_begin(struct early *e, int set, int (*wait)(int set))
{
	*e = (struct early){ .set = set, .wait = wait };
	NEED(-pthread_create(&e->thread, NULL, early_wait, e));
	wait_for(early_runs, e, "thread");
	wait_asleep(e->tid);
}

static int early_end(struct early *e)
{
	pthread_join(e->thread, NULL);
	return e->got;
}

static bool early_one_more(void *arg)
{
	struct early *e = arg;

	for (int i = 0; i < 3; i++)
		if (e[i].done && e[i].tid) {
			e[i].tid = 0;
			return true;
		}
	return false;
}

/* Three threads sleep in an empty set; each edge is for one of them. */
static void sleepers_first(void)
{
	int fd = connected(1), set = NEED(epoll_create1(0));
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u64 = 42 };
	struct early e[3];

	for (int i = 0; i < 3; i++)
		early_begin(&e[i], set, wait_in_epoll);
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	for (int i = 0; i < 3; i++) {
		peer_must("send 1 0 x");
		wait_for(early_one_more, e, "one more");
	}
	for (int i = 0; i < 3; i++)
		say("%d", early_end(&e[i]));
}

/* An event loop whose thread runs before there is a listener, which comes by a duplicate. */
static void sleeper_before_listener(void)
{
	int set = NEED(epoll_create1(0)), copy = NEED(fcntl(set, F_DUPFD_CLOEXEC, 3));
	struct name name;
	int listening;
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u64 = 42 };
	struct early e;

	early_begin(&e, set, wait_in_epoll);
	listening = listener(&name);
	NEED(epoll_ctl(copy, EPOLL_CTL_ADD, listening, &event));
	peer_must("connect 1 %d %d", AF_INET, port_of(&name));
	say("%d", early_end(&e));
}

static void early_watches(int (*wait)(int set))
{
	int fd = connected(1), set = NEED(epoll_create1(0));
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 42 };
	struct early e;

	early_begin(&e, set, wait);
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	peer_must("send 1 0 x");
	say("%d", early_end(&e));
	say_result("in it", epoll_wait(set, &event, 1, 0));
	say_epoll("  events", event.events);
}

static void poll_before_member(void)
{
	early_watches(wait_in_poll);
}

static void select_before_member(void)
{
	early_watches(wait_in_select);
}

static int eventfds(void)
{
	char path[64], text[64];
	int count = 0;

	for (int fd = 0; fd < 4096; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		memset(text, 0, sizeof(text));
		if (readlink(path, text, sizeof(text) - 1) > 0)
			count += strstr(text, "eventfd") != NULL;
	}
	return count;
}

static int polls_for_a_moment(int set)
{
	struct pollfd p = { .fd = set, .events = POLLIN };

	return poll(&p, 1, 20);
}

/*
 * Who polled an empty set, and is not there any more, needs no wake-up in the kernel:
 * nothing is made for it.
 */
static void polls_that_are_over(void)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 42 };
	int fd = connected(1), set = NEED(epoll_create1(0)), before = eventfds();
	struct early e;
	char c;

	TELL(poll(&(struct pollfd){ .fd = set, .events = POLLIN }, 1, 0));
	early_begin(&e, set, polls_for_a_moment);
	say("%d", early_end(&e));
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	for (int i = 0; i < 3; i++) {
		peer_must("send 1 0 x");
		TELL(epoll_wait(set, &event, 1, 5000));
		TELL(epoll_wait(set, &event, 1, 0));
		TELL(poll(&(struct pollfd){ .fd = set, .events = POLLIN }, 1, 0));
		TELL(recv(fd, &c, 1, 0));
		TELL(epoll_wait(set, &event, 1, 0));
	}
	say("new eventfds: %d", eventfds() - before);
}

/* It sleeps in the kernel still, and others take what comes. */
static void poll_that_goes_on(void)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 42 };
	int fd = connected(1), other = connected(2), set = NEED(epoll_create1(0));
	struct early e;

	early_begin(&e, set, wait_in_poll);
	event.events = 0;
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, other, &event));
	for (int i = 0; i < 3; i++)
		TELL(epoll_wait(set, &event, 1, 0));
	event.events = EPOLLIN;
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	TELL(epoll_wait(set, &event, 1, 0));
	peer_must("send 1 0 x");
	say("%d", early_end(&e));
}

const struct call_case cases[] = {
	{ "sleepers_first", sleepers_first },
	{ "sleeper_before_listener", sleeper_before_listener },
	{ "poll_before_member", poll_before_member },
	{ "select_before_member", select_before_member },
	{ "polls_that_are_over", polls_that_are_over },
	{ "poll_that_goes_on", poll_that_goes_on },
};
const size_t case_count = COUNT(cases);
