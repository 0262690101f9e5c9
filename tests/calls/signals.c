/* SPDX-License-Identifier: MIT */
/* Signals that come while a call is blocked, with SA_RESTART and without. */
#include "calls.h"

#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>

static char block[1 << 20];
static volatile sig_atomic_t caught;
static int answer_fd = -1; /* the handler sends there, the second time */
static timer_t timer;

static void handle(int number)
{
	(void)number;
	caught++;
	if (caught == 2 && answer_fd >= 0)
		(void)!send(answer_fd, "y", 1, MSG_NOSIGNAL);
}

/* Signals this thread every 15 ms from now on. */
static void begin(int flags, int fd)
{
	const struct sigaction action = { .sa_handler = handle, .sa_flags = flags };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID,
				  .sigev_signo = SIGUSR1,
				  ._sigev_un._tid = gettid() };
	const struct itimerspec every = { { 0, 15000000 }, { 0, 15000000 } };

	caught = 0;
	answer_fd = fd;
	sigaction(SIGUSR1, &action, NULL);
	NEED(timer_create(CLOCK_MONOTONIC, &event, &timer));
	NEED(timer_settime(timer, 0, &every, NULL));
}

static void say_caught(void)
{
	NEED(timer_delete(timer));
	if (answer_fd >= 0)
		say("went on after a signal: %s", caught >= 2 ? "yes" : "no");
	else
		say("caught a signal: %s", caught ? "yes" : "no");
}

static void recv_interrupted(void)
{
	char byte;
	int fd[2];

	stream_pair(fd);
	begin(0, -1);
	TELL(recv(fd[0], &byte, 1, 0));
	say_caught();
	begin(0, -1);
	TELL(read(fd[0], &byte, 1));
	say_caught();
	begin(0, -1);
	TELL(recv(fd[0], &byte, 1, MSG_PEEK));
	say_caught();
}

static void recv_restarted(void)
{
	char byte;
	int fd[2];

	stream_pair(fd);
	begin(SA_RESTART, fd[1]);
	TELL(recv(fd[0], &byte, 1, 0));
	say_caught();
}

/* With a time limit a call is never restarted. */
static void recv_limited(void)
{
	const struct timeval limit = { .tv_sec = 3 };
	char byte;
	int fd[2];

	stream_pair(fd);
	NEED(setsockopt(fd[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
	begin(SA_RESTART, fd[1]);
	TELL(recv(fd[0], &byte, 1, 0));
	say_caught();
}

static void recv_partial(void)
{
	char bytes[10];
	int fd[2];

	stream_pair(fd);
	send_all(fd[1], "abc", 3);
	wait_bytes(fd[0], 3);
	begin(0, -1);
	TELL(recv(fd[0], bytes, sizeof(bytes), MSG_WAITALL));
	say_caught();
}

static void send_interrupted(void)
{
	ssize_t sent = 0, part;
	int fd[2];

	stream_pair(fd);
	begin(0, -1);
	part = send(fd[0], block, sizeof(block), 0); /* some of it may fit */
	while (part > 0) {
		sent += part;
		part = send(fd[0], block, sizeof(block), 0);
	}
	calls_tell("send", part);
	say("some was sent: %s", sent ? "yes" : "no");
	say_caught();
}

static void accept_interrupted(void)
{
	struct name name;
	int fd = listener(&name);

	begin(0, -1);
	TELL(accept(fd, NULL, NULL));
	say_caught();
}

static void *dial_later(void *arg)
{
	struct name *name = arg;
	sigset_t all;
	int fd;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	nap_ms(40);
	fd = NEED(socket(family, SOCK_STREAM, 0));
	NEED(connect(fd, sa(name), name->len));
	return NULL;
}

static void accept_restarted(void)
{
	struct name name;
	pthread_t thread;
	int fd = listener(&name);

	pthread_create(&thread, NULL, dial_later, &name);
	begin(SA_RESTART, -1);
	TELL(accept(fd, NULL, NULL) >= 0);
	say_caught();
	pthread_join(thread, NULL);
}

static void dgram_interrupted(void)
{
	char byte;
	int fd[2];

	dgram_pair(fd);
	begin(0, -1);
	TELL(recv(fd[0], &byte, 1, 0));
	say_caught();
	begin(SA_RESTART, fd[1]);
	TELL(recv(fd[0], &byte, 1, 0));
	say_caught();
}

/* Waiting for many is never restarted. */
static void waits_interrupted(void)
{
	static const int flags[] = { 0, SA_RESTART };
	struct epoll_event ev = { .events = EPOLLIN };
	int fd[2], set = NEED(epoll_create1(0));
	fd_set rd;

	stream_pair(fd);
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &ev));
	for (size_t i = 0; i < COUNT(flags); i++) {
		begin(flags[i], -1);
		TELL(poll(&(struct pollfd){ .fd = fd[0], .events = POLLIN }, 1, 5000));
		say_caught();
		begin(flags[i], -1);
		TELL(poll(&(struct pollfd){ .fd = fd[0], .events = POLLIN }, 1, -1));
		say_caught();
		FD_ZERO(&rd);
		FD_SET(fd[0], &rd);
		begin(flags[i], -1);
		TELL(select(fd[0] + 1, &rd, NULL, NULL, &(struct timeval){ .tv_sec = 5 }));
		say_caught();
		begin(flags[i], -1);
		TELL(epoll_wait(set, &ev, 1, 5000));
		say_caught();
		begin(flags[i], -1);
		TELL(epoll_wait(set, &ev, 1, -1));
		say_caught();
	}
}

/* A handler that uses sockets itself, without waiting. */
static int handler_fd[2];

static void exchange_in_handler(int number)
{
	char byte;

	(void)number;
	caught++;
	(void)!send(handler_fd[0], "h", 1, MSG_DONTWAIT);
	(void)!recv(handler_fd[1], &byte, 1, MSG_DONTWAIT);
}

static void sockets_in_handler(void)
{
	const struct sigaction action = { .sa_handler = exchange_in_handler,
					  .sa_flags = SA_RESTART };
	const struct itimerval every = { { 0, 1000 }, { 0, 1000 } }, none = { 0 };
	int64_t begun = now_ms();
	int fd[2], exchanged = 0;
	char byte;

	stream_pair(fd);
	stream_pair(handler_fd);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	for (; now_ms() < begun + (exchanged > 10 && caught > 5 ? 100 : 10000); exchanged++) {
		send_all(fd[0], "m", 1);
		recv_all(fd[1], &byte, 1);
	}
	setitimer(ITIMER_REAL, &none, NULL);
	say("exchanged: %s, handled: %s", exchanged > 10 ? "yes" : "no", caught > 5 ? "yes" : "no");
}

/* --- wherever a signal comes ---------------------------------------------- */

#define ANYWHERE 300

/* Signals this thread once, soon: the n-th time a little later. */
static void signal_soon(int n)
{
	const struct itimerspec soon = { .it_value = { 0, 20000 + n * 7919 % 100 * 1000 } };

	NEED(timer_settime(timer, 0, &soon, NULL));
}

static void signals_go_to(void (*handler)(int))
{
	const struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID,
				  .sigev_signo = SIGUSR1,
				  ._sigev_un._tid = gettid() };

	caught = 0;
	sigaction(SIGUSR1, &action, NULL);
	NEED(timer_create(CLOCK_MONOTONIC, &event, &timer));
}

static int handler_listener;
static struct name handler_name;
static volatile sig_atomic_t handler_failed;

/* All of it is async-signal-safe, and half of it waits. */
static void connect_in_handler(int number)
{
	char byte = 0;
	int fd[2];

	(void)number;
	fd[0] = socket(family, SOCK_STREAM, 0);
	if (connect(fd[0], sa(&handler_name), handler_name.len))
		handler_failed++;
	fd[1] = accept(handler_listener, NULL, NULL);
	if (send(fd[1], "c", 1, MSG_NOSIGNAL) != 1 || recv(fd[0], &byte, 1, 0) != 1 || byte != 'c')
		handler_failed++;
	if (shutdown(fd[0], SHUT_RDWR) || recv(fd[1], &byte, 1, 0))
		handler_failed++;
	close(fd[0]);
	close(fd[1]);
	caught++;
}

static void waits_in_handler(void)
{
	int fd[2];
	char byte;

	handler_listener = listener(&handler_name);
	stream_pair(fd);
	signals_go_to(connect_in_handler);
	for (int i = 0; i < ANYWHERE; i++) {
		signal_soon(i);
		while (caught == i) {
			send_all(fd[0], "m", 1);
			recv_all(fd[1], &byte, 1);
		}
	}
	say("handled %d, failed %d", (int)caught, (int)handler_failed);
}

/* --- jumps out of a handler ---------------------------------------------- */

static sigjmp_buf back;

static void jump(int number)
{
	(void)number;
	siglongjmp(back, 1);
}

static int jump_fd[2], jump_set;

static void sleep_somehow(int how)
{
	struct pollfd p = { .fd = jump_fd[0], .events = POLLIN };
	struct epoll_event ev;
	char byte;

	if (how == 0)
		(void)!recv(jump_fd[0], &byte, 1, 0);
	else if (how == 1)
		(void)poll(&p, 1, -1);
	else
		(void)epoll_wait(jump_set, &ev, 1, -1);
}

/* More often than there are places to sleep, if each jump took one along. */
static void jump_out(int how, int times)
{
	const struct itimerspec soon = { .it_value = { 0, 500000 } };
	static volatile int jumps;

	for (jumps = 0; jumps < times;) {
		if (sigsetjmp(back, 1)) {
			jumps++;
			continue;
		}
		NEED(timer_settime(timer, 0, &soon, NULL));
		sleep_somehow(how);
	}
}

/* Out of the middle of calls that do not sleep, too; the sockets go on. */
static void jumped_out_anywhere(void)
{
	static volatile int jumps;
	char bytes[64];
	int fd[2];

	stream_pair(fd);
	signals_go_to(jump);
	for (jumps = 0; jumps < ANYWHERE;) {
		if (sigsetjmp(back, 1)) {
			jumps++;
			continue;
		}
		signal_soon(jumps);
		for (;;) {
			(void)!send(fd[0], "j", 1, MSG_DONTWAIT);
			(void)!recv(fd[1], bytes, sizeof(bytes), MSG_DONTWAIT);
		}
	}
	NEED(shutdown(fd[0], SHUT_WR) + 1);
	while (recv(fd[1], bytes, sizeof(bytes), 0) > 0)
		;
	TELL(recv(fd[1], bytes, sizeof(bytes), 0));
	TELL(send(fd[1], "back", 4, 0));
	TELL(recv(fd[0], bytes, 4, MSG_WAITALL));
	stream_pair(fd);
	TELL(send(fd[0], "more", 4, 0));
	TELL(recv(fd[1], bytes, 4, MSG_WAITALL));
}

static void *wake_later(void *arg)
{
	nap_ms(10);
	send_all(*(int *)arg, "x", 1);
	return NULL;
}

static void jumped_out(void)
{
	const struct sigaction action = { .sa_handler = jump };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID,
				  .sigev_signo = SIGUSR1,
				  ._sigev_un._tid = gettid() };
	struct epoll_event ev = { .events = EPOLLIN };
	pthread_t thread;
	char byte;

	stream_pair(jump_fd);
	jump_set = NEED(epoll_create1(0));
	NEED(epoll_ctl(jump_set, EPOLL_CTL_ADD, jump_fd[0], &ev));
	sigaction(SIGUSR1, &action, NULL);
	NEED(timer_create(CLOCK_MONOTONIC, &event, &timer));
	for (int how = 0; how < 3; how++) {
		jump_out(how, how ? 300 : 1200);
		NEED(-pthread_create(&thread, NULL, wake_later, &jump_fd[1]));
		sleep_somehow(how);
		pthread_join(thread, NULL);
		if (how)
			TELL(recv(jump_fd[0], &byte, 1, MSG_DONTWAIT));
	}
	/* a number of the library's among the lowest would be one that leaked */
	say("lowest %d", dup(0) < 32);
}

static void *wait_in_set(void *arg)
{
	struct epoll_event ev;

	(void)arg;
	(void)epoll_wait(jump_set, &ev, 1, -1);
	return NULL;
}

static void sleepers_cancelled(void)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	pthread_t thread[8];
	void *ret;
	int cancelled = 0;
	char byte;

	stream_pair(jump_fd);
	jump_set = NEED(epoll_create1(0));
	NEED(epoll_ctl(jump_set, EPOLL_CTL_ADD, jump_fd[0], &ev));
	for (int i = 0; i < 8; i++)
		NEED(-pthread_create(&thread[i], NULL, wait_in_set, NULL));
	nap_ms(20);
	for (int i = 0; i < 8; i++) {
		pthread_cancel(thread[i]);
		pthread_join(thread[i], &ret);
		cancelled += ret == PTHREAD_CANCELED;
	}
	say("cancelled %d", cancelled);
	for (int i = 0; i < 3; i++) {
		NEED(-pthread_create(&thread[0], NULL, wake_later, &jump_fd[1]));
		TELL(epoll_wait(jump_set, &ev, 1, 5000));
		TELL(recv(jump_fd[0], &byte, 1, 0));
		TELL(epoll_wait(jump_set, &ev, 1, 0));
		pthread_join(thread[0], NULL);
	}
}

const struct call_case cases[] = {
	{ "recv_interrupted", recv_interrupted },
	{ "recv_restarted", recv_restarted },
	{ "recv_limited", recv_limited },
	{ "recv_partial", recv_partial },
	{ "send_interrupted", send_interrupted },
	{ "accept_interrupted", accept_interrupted },
	{ "accept_restarted", accept_restarted },
	{ "dgram_interrupted", dgram_interrupted },
	{ "waits_interrupted", waits_interrupted },
	{ "sockets_in_handler", sockets_in_handler },
	{ "waits_in_handler", waits_in_handler },
	{ "jumped_out", jumped_out },
	{ "jumped_out_anywhere", jumped_out_anywhere },
	{ "sleepers_cancelled", sleepers_cancelled },
};
const size_t case_count = COUNT(cases);
