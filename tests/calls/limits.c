/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of a program that has few: its own limit is the only one that it meets,
 * whatever the library beneath it has open.
 */
#include "calls.h"

#include <sys/epoll.h>
#include <sys/resource.h>

#define FEW 20

static char data[64];

/* The soft limit alone: the hard one is the library's, too. */
static void limit_to(rlim_t count)
{
	struct rlimit limit;

	NEED(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = count;
	NEED(setrlimit(RLIMIT_NOFILE, &limit));
}

static void say_limit(void)
{
	struct rlimit limit;

	NEED(getrlimit(RLIMIT_NOFILE, &limit));
	say("limit %ld", (long)limit.rlim_cur);
}

/* Only the standard three are open. */
void case_begin(void)
{
	for (int fd = 3; fd < 256; fd++)
		close(fd);
}

/* Opens sockets until there are no more: how many, and the last errno. */
static int use_up(int type)
{
	int fd, count = 0;

	while ((fd = socket(family, type, 0)) >= 0)
		count++;
	say("%d sockets, then %s", count, strerrorname_np(errno));
	return count;
}

static void from_the_start(void)
{
	limit_to(FEW);
	use_up(SOCK_STREAM);
	TELL(dup(0));
	close(FEW - 1);
	TELL(socket(family, SOCK_DGRAM, 0));
	say_limit();
}

static void later(void)
{
	int fd[2];

	stream_pair(fd);
	limit_to(FEW);
	use_up(SOCK_DGRAM);
	send_all(fd[0], "still", 5);
	recv_all(fd[1], data, 5);
	say("%.5s", data);
	say_limit();
}

/* Below the numbers of what is open, the program's and the library's. */
static void below_all(void)
{
	struct pollfd p = { .events = POLLIN };
	int fd[2];

	stream_pair(fd);
	limit_to(1);
	TELL(socket(family, SOCK_STREAM, 0));
	p.fd = fd[1];
	TELL(poll(&p, 1, 0));
	send_all(fd[0], "bytes", 5);
	TELL(poll(&p, 1, 5000));
	recv_all(fd[1], data, 5);
	TELL(close(fd[0]));
	TELL(recv(fd[1], data, sizeof(data), 0));
}

static void *receive(void *arg)
{
	char byte;

	return (void *)(intptr_t)recv(*(int *)arg, &byte, 1, 0);
}

/* Threads that sleep for the first time when no descriptor is left. */
static void sleepers(void)
{
	int fd[2][2];
	pthread_t thread[2];
	void *got;

	limit_to(FEW);
	stream_pair(fd[0]);
	dgram_pair(fd[1]);
	use_up(SOCK_STREAM);
	for (int i = 0; i < 2; i++)
		NEED(-pthread_create(&thread[i], NULL, receive, &fd[i][1]));
	nap_ms(20);
	for (int i = 0; i < 2; i++) {
		send_all(fd[i][0], "x", 1);
		pthread_join(thread[i], &got);
		say("received %ld", (long)(intptr_t)got);
	}
}

static void accepts(void)
{
	struct name name;
	int l, c, a;

	limit_to(FEW);
	l = listener(&name);
	c = NEED(socket(family, SOCK_STREAM, 0));
	NEED(connect(c, sa(&name), name.len));
	use_up(SOCK_STREAM);
	calls_wait(l, POLLIN);
	TELL(accept(l, NULL, NULL));
	close(FEW - 1);
	a = accept(l, NULL, NULL);
	say("lowest %d", a == FEW - 1);
	send_all(c, "after all", 9);
	recv_all(a, data, 9);
	say("%.9s", data);
}

/* A child has the limit, and joins with it. */
static void children(void)
{
	int fd[2];
	pid_t pid;

	limit_to(FEW);
	stream_pair(fd);
	use_up(SOCK_STREAM);
	pid = NEED(fork());
	if (!pid) {
		recv_all(fd[1], data, 2);
		send_all(fd[1], "ok", 2);
		close(FEW - 1);
		TELL(socket(family, SOCK_STREAM, 0));
		use_up(SOCK_STREAM);
		exit(0);
	}
	send_all(fd[0], "go", 2);
	recv_all(fd[0], data, 2);
	say_child("child", pid);
}

static void epolls(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int fd[2], set;

	limit_to(FEW);
	stream_pair(fd);
	set = NEED(epoll_create1(0));
	use_up(SOCK_STREAM);
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd[1], &ev));
	TELL(epoll_wait(set, &ev, 1, 0));
	send_all(fd[0], "x", 1);
	TELL(epoll_wait(set, &ev, 1, 5000));
}

/* More than the library's numbers: they are not the program's to lose. */
static void many(void)
{
	struct rlimit limit;
	int count = 0;

	NEED(getrlimit(RLIMIT_NOFILE, &limit));
	NEED(socket(family, SOCK_STREAM, 0));
	limit.rlim_cur = 3000;
	TELL(prlimit(0, RLIMIT_NOFILE, &limit, NULL));
	while (dup(0) >= 0)
		count++;
	say("%d more", count);
}

const struct call_case cases[] = {
	{ "from_the_start", from_the_start },
	{ "later", later },
	{ "below_all", below_all },
	{ "sleepers", sleepers },
	{ "accepts", accepts },
	{ "children", children },
	{ "epolls", epolls },
	{ "many", many },
};
const size_t case_count = COUNT(cases);
