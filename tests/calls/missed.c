/* SPDX-License-Identifier: MIT */
/*
 * Sockets in the hands of code of this program that no library sees: stdio, raw system
 * calls, constructors of other libraries.
 */
#include "calls.h"
#include "early.h"
#include "outside.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

static char data[65536];

/* --- what the cases share ---------------------------------------------- */

/* Past every library. */
static long raw(long number, long x, long y, long z)
{
#if defined(__x86_64__)
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(number), "D"(x), "S"(y), "d"(z)
			 : "rcx", "r11", "memory");
	return ret;
#else
	return syscall(number, x, y, z);
#endif
}

/* --- stdio ------------------------------------------------------------- */

static void stdio_talk(void)
{
	char line[64];
	FILE *a, *b;
	int fd[2];

	stream_pair(fd);
	a = fdopen(fd[0], "r+");
	b = fdopen(fd[1], "r+");
	for (int i = 0; i < 3; i++) {
		fprintf(a, "question %d\n", i);
		fflush(a);
		say("%s", fgets(line, sizeof(line), b));
		fprintf(b, "answer %d\n", i);
		fflush(b);
		say("%s", fgets(line, sizeof(line), a));
	}
	fclose(a);
	say("%s", fgets(line, sizeof(line), b) ? "more" : "end");
	fclose(b);
}

/* What was on its way before goes first, in both directions. */
static void stdio_after_calls(void)
{
	char line[64];
	int fd[2];
	FILE *f;

	stream_pair(fd);
	put(fd[0], "from call\n");
	put(fd[1], "waiting\n");
	wait_bytes(fd[0], 8);
	f = fdopen(dup(fd[0]), "r+");
	fprintf(f, "from stdio\n");
	fflush(f);
	put(fd[0], "from call again\n");
	expect(fd[1], "from call\nfrom stdio\nfrom call again\n");
	say("%s", fgets(line, sizeof(line), f));
	put(fd[1], "once more\n");
	expect(fd[0], "once more\n");
	fclose(f);
	put(fd[0], "the descriptor lives\n");
	expect(fd[1], "the descriptor lives\n");
}

static void printed(void)
{
	int fd[2];

	stream_pair(fd);
	TELL(dprintf(fd[0], "%d and %s\n", 42, "text"));
	expect(fd[1], "42 and text\n");
}

/* --- names and options of what was handed over -------------------------- */

static void still_a_socket(void)
{
	int fd[2], value = 0;
	socklen_t len = sizeof(value);
	struct name name;

	stream_pair(fd);
	NEED(fdopen(fd[0], "r+") ? 0 : -1);
	name.len = sizeof(name.ss);
	NEED(getpeername(fd[0], sa(&name), &name.len));
	say_name("peer", &name);
	name = local_name(fd[0]);
	say_name("local", &name);
	TELL(getsockopt(fd[0], SOL_SOCKET, SO_TYPE, &value, &len));
	say("stream %d", value == SOCK_STREAM);
	value = 1;
	TELL(setsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, &value, sizeof(value)));
	value = 0;
	TELL(getsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, &value, &len));
	say("nodelay %d", value);
	TELL(connect(fd[0], sa(&name), name.len));
	TELL(sendto(fd[0], "x", 1, 0, sa(&name), name.len));
	TELL(shutdown(fd[0], SHUT_WR));
	expect(fd[1], "x");
	expect_end(fd[1]);
}

static void waits(void)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 3 };
	int fd[2], set = NEED(epoll_create1(0));

	stream_pair(fd);
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &ev));
	NEED(fdopen(fd[0], "r+") ? 0 : -1);
	say_events("nothing", events_now(fd[0], POLLIN | POLLOUT));
	TELL(epoll_wait(set, &ev, 1, 0));
	put(fd[1], "x");
	say_events("bytes", calls_wait(fd[0], POLLIN));
	ev.data.u32 = 0;
	TELL(epoll_wait(set, &ev, 1, 5000));
	say("data %u", ev.data.u32);
	expect(fd[0], "x");
	NEED(shutdown(fd[1], SHUT_WR));
	say_events("end", calls_wait(fd[0], POLLRDHUP | POLLIN));
	expect_end(fd[0]);
}

/* Another thread sleeps in each of the calls when the socket changes hands. */
static int sleeper_fd;

static void *sleep_in_recv(void *arg)
{
	*(ssize_t *)arg = recv(sleeper_fd, data, 1, 0);
	return NULL;
}

static void *sleep_in_poll(void *arg)
{
	struct pollfd p = { .fd = sleeper_fd, .events = POLLIN };

	*(ssize_t *)arg = poll(&p, 1, 10000);
	return NULL;
}

static void sleepers(void)
{
	void *(*const in[])(void *) = { sleep_in_recv, sleep_in_poll };

	for (size_t i = 0; i < COUNT(in); i++) {
		ssize_t result = -2;
		pthread_t thread;
		int fd[2];

		stream_pair(fd);
		sleeper_fd = fd[0];
		pthread_create(&thread, NULL, in[i], &result);
		nap_ms(20);
		NEED(fdopen(dup(fd[0]), "r+") ? 0 : -1);
		put(fd[1], "x");
		pthread_join(thread, NULL);
		say("result %zd", result);
	}
}

/* More than all buffers on the way hold, both directions. */
static void bulk(void)
{
	enum { LEN = 4 << 20 };
	int fd[2];
	FILE *f;
	pid_t pid;

	stream_pair(fd);
	f = fdopen(fd[0], "r+");
	pid = NEED(fork());
	if (!pid) {
		uint8_t piece[10000];
		uint64_t at = 0;

		fclose(f);
		while (at < LEN) {
			ssize_t got = NEED(recv(fd[1], piece, sizeof(piece), 0));

			if (!got || !pattern_fits(piece, (size_t)got, at))
				_exit(1);
			send_all(fd[1], piece, (size_t)got);
			at += (uint64_t)got;
		}
		_exit(0);
	}
	close(fd[1]);
	if (!NEED(fork())) {
		for (uint64_t at = 0; at < LEN; at += 8192) {
			pattern_fill((uint8_t *)data, 8192, at);
			if (fwrite(data, 1, 8192, f) != 8192)
				_exit(1);
		}
		fflush(f);
		_exit(0);
	}
	for (uint64_t at = 0; at < LEN; at += 8192) {
		if (fread(data, 1, 8192, f) != 8192 || !pattern_fits((uint8_t *)data, 8192, at)) {
			say("wrong at %llu", (unsigned long long)at);
			break;
		}
	}
	say_child("echo", pid);
	NEED(wait(NULL));
}

/* --- system calls ------------------------------------------------------ */

static void by_number(void)
{
	int fd[2];

	stream_pair(fd);
	TELL(syscall(SYS_write, fd[0], "number", 6));
	expect(fd[1], "number");
	put(fd[1], "back");
	wait_bytes(fd[0], 4);
	TELL(syscall(SYS_read, fd[0], data, 64));
	TELL(syscall(SYS_write, -1, "x", 1));
	TELL(syscall(SYS_close, fd[0]));
	expect_end(fd[1]);
}

/* Nobody can see these. */
static void by_instruction(void)
{
	int fd[2];

	stream_pair(fd);
	say("write %ld", raw(SYS_write, fd[0], (long)"raw", 3));
	expect(fd[1], "raw");
	put(fd[1], "answer");
	say("read %ld", raw(SYS_read, fd[0], (long)data, 64));
	say("%.6s", data);
	put(fd[0], "call");
	expect(fd[1], "call");
	say("write %ld", raw(SYS_write, fd[0], (long)"last", 4));
	say("close %ld", raw(SYS_close, fd[0], 0, 0));
	expect(fd[1], "last");
	expect_end(fd[1]);
}

static bool set_hears(int set, int fd)
{
	struct epoll_event got[4];
	int count = epoll_wait(set, got, 4, 0);

	for (int i = 0; i < count; i++)
		if (got[i].data.fd == fd)
			return true;
	return false;
}

static bool poll_hears(int busy, int fd)
{
	struct pollfd p[] = { { .fd = busy, .events = POLLIN }, { .fd = fd, .events = POLLIN } };

	return poll(p, 2, -1) > 0 && p[1].revents;
}

/* Another socket, which is always ready, hides nothing, nor does a look that does not wait. */
static void beside_busy(void)
{
	int busy[2], fd[2], set = NEED(epoll_create1(0));
	int64_t until = now_ms() + 5000;
	bool by_set = false, by_poll = false;

	stream_pair(busy);
	stream_pair(fd);
	for (int i = 0; i < 2; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.fd = i ? fd[0] : busy[0] };

		NEED(epoll_ctl(set, EPOLL_CTL_ADD, event.data.fd, &event));
	}
	put(busy[1], "here");
	wait_bytes(busy[0], 4);
	say("write %ld", raw(SYS_write, fd[0], (long)"raw", 3));
	expect(fd[1], "raw");
	put(fd[1], "answer");
	while (!by_poll && now_ms() < until)
		by_poll = poll_hears(busy[0], fd[0]);
	while (!by_set && now_ms() < until)
		by_set = set_hears(set, fd[0]);
	say("poll %d set %d", by_poll, by_set);
	expect(fd[0], "answer");
}

/* What a set has told once it does not tell again because the kernel has it now. */
static void told_once(void)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT }, got;
	int fd[2], set = NEED(epoll_create1(0));

	stream_pair(fd);
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &event));
	put(fd[1], "x");
	TELL(epoll_wait(set, &got, 1, 5000));
	say("write %ld", raw(SYS_write, fd[0], (long)"raw", 3));
	expect(fd[1], "raw");
	expect(fd[0], "x");
	put(fd[1], "more");
	wait_bytes(fd[0], 4);
	TELL(epoll_wait(set, &got, 1, 0));
	TELL(epoll_ctl(set, EPOLL_CTL_MOD, fd[0], &event));
	TELL(epoll_wait(set, &got, 1, 5000));
}

/* The set alone. */
static void looked_for(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	int fd[2], set = NEED(epoll_create1(0));
	int64_t until = now_ms() + 5000;

	stream_pair(fd);
	event.data.fd = fd[0];
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &event));
	say("write %ld", raw(SYS_write, fd[0], (long)"raw", 3));
	expect(fd[1], "raw");
	put(fd[1], "answer");
	while (!set_hears(set, fd[0]) && now_ms() < until)
		;
	say("%s", now_ms() < until ? "heard" : "not heard");
	expect(fd[0], "answer");
}

/* --- before libcanal, and without its environment ------------------------ */

static void constructors(void)
{
	say("pair %d, flags %d, wrote %ld, got %ld, closed %d, again %d", early.pair, early.flags,
	    early.wrote, early.got, early.closed, early.again);
}

/* What a program forgets of its environment, libcanal knows. */
static void cleared(void)
{
	int fd[2];

	NEED(clearenv());
	stream_pair(fd);
	put(fd[0], "here");
	expect(fd[1], "here");
}

const struct call_case cases[] = {
	{ "stdio_talk", stdio_talk },
	{ "stdio_after_calls", stdio_after_calls },
	{ "printed", printed },
	{ "still_a_socket", still_a_socket },
	{ "waits", waits },
	{ "sleepers", sleepers },
	{ "bulk", bulk },
	{ "by_number", by_number },
	{ "by_instruction", by_instruction },
	{ "beside_busy", beside_busy },
	{ "looked_for", looked_for },
	{ "told_once", told_once },
	{ "constructors", constructors },
	{ "cleared", cleared },
};
const size_t case_count = COUNT(cases);
