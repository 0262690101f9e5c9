/* SPDX-License-Identifier: MIT */
/*
 * Calls that make no system call: run under strace, with marks that it shows
 * between which there must be nothing. A mark is a write to /dev/null.
 */
#include "calls.h"

#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

enum { CALLS = 1000, LEN = 64, JUMPS = 3 };

static int null_fd, mark_len;

static void mark(const char *text)
{
	char line[64];

	mark_len = snprintf(line, sizeof(line), "mark: %s", text);
	syscall(SYS_write, null_fd, line, mark_len);
}

static void say_done(const char *what, int count)
{
	say("%s: %s", what, count == CALLS ? "all" : "not all");
}

static sigjmp_buf back;

static void jump(int number)
{
	(void)number;
	siglongjmp(back, 1);
}

/* Who left a sleep by a jump is no sleeper, whom each call would have to wake. */
static void jump_out_of(int set)
{
	static volatile int jumps;
	struct epoll_event ev;

	signal(SIGALRM, jump);
	jumps = 0;
	if (sigsetjmp(back, 1))
		jumps++;
	if (jumps < JUMPS) {
		ualarm(20000, 0);
		(void)epoll_wait(set, &ev, 1, -1);
	}
	signal(SIGALRM, SIG_DFL);
	NEED(epoll_wait(set, &ev, 1, 20));
}

static void sends_and_recvs(const int *fd, const char *kind)
{
	static char data[LEN];
	struct epoll_event ev = { .events = EPOLLIN };
	struct pollfd p = { .fd = fd[1], .events = POLLIN };
	int set = NEED(epoll_create1(0)), done;

	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd[1], &ev));
	jump_out_of(set);
	/* Once before, so that chunks and wait slots are there. */
	send_all(fd[0], data, LEN);
	NEED(epoll_wait(set, &ev, 1, 5000));
	recv_all(fd[1], data, LEN);
	nap_ms(5);

	done = 0;
	mark("sends");
	for (int i = 0; i < CALLS; i++)
		done += send(fd[0], data, LEN, 0) == LEN;
	mark("end");
	say_done(kind, done);
	if (kind[0] == 's')
		wait_bytes(fd[1], CALLS * LEN);
	else
		nap_ms(100);
	done = 0;
	mark("polls");
	for (int i = 0; i < CALLS; i++)
		done += poll(&p, 1, -1) == 1;
	mark("end");
	say_done("polls", done);
	done = 0;
	mark("epoll_waits");
	for (int i = 0; i < CALLS; i++)
		done += epoll_wait(set, &ev, 1, -1) == 1;
	mark("end");
	say_done("epoll_waits", done);
	done = 0;
	mark("recvs");
	for (int i = 0; i < CALLS; i++)
		done += recv(fd[1], data, LEN, 0) == LEN;
	mark("end");
	say_done("recvs", done);
}

static void stream(void)
{
	int fd[2];

	stream_pair(fd);
	sends_and_recvs(fd, "stream");
}

static void dgram(void)
{
	int fd[2];

	dgram_pair(fd);
	sends_and_recvs(fd, "datagram");
}

static void run(void)
{
	null_fd = NEED(open("/dev/null", O_WRONLY));
	stream();
	dgram();
}

const struct call_case cases[] = { { "run", run } };
const size_t case_count = COUNT(cases);
