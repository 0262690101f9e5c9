/* SPDX-License-Identifier: MIT */
/* poll, ppoll, select, pselect: alone, with pipes, with time limits and masks. */
#include "calls.h"

#include <sys/select.h>

static char data[64];
static volatile sig_atomic_t alarms;

static void count_alarm(int number)
{
	(void)number;
	alarms++;
}

static void poll_states(void)
{
	struct name name;
	int fd[2], listening = listener(&name), fresh = NEED(socket(family, SOCK_STREAM, 0));
	int udp = NEED(socket(family, SOCK_DGRAM, 0));
	const short all = POLLIN | POLLPRI | POLLOUT | POLLRDHUP;

	stream_pair(fd);
	say_events("fresh", events_now(fresh, all));
	say_events("udp", events_now(udp, all));
	say_events("listener", events_now(listening, all));
	say_events("connected", events_now(fd[0], all));
	say_events("nothing asked", events_now(fd[0], 0));
	say_events("normal", events_now(fd[0], POLLRDNORM | POLLWRNORM) & POLLWRNORM ? POLLOUT : 0);
	send_all(fd[1], "x", 1);
	wait_bytes(fd[0], 1);
	say_events("readable", events_now(fd[0], all));
	say_events("only out", events_now(fd[0], POLLOUT));
	NEED(shutdown(fd[1], SHUT_WR));
	for (int i = 0; i < 1000 && !(events_now(fd[0], POLLRDHUP) & POLLRDHUP); i++)
		nap_ms(1);
	say_events("half", events_now(fd[0], all));
	say_events("half, in", events_now(fd[0], POLLIN));
	TELL(recv(fd[0], data, sizeof(data), 0));
	say_events("at the end", events_now(fd[0], all));
	close(fd[0]);
	say_events("closed", events_now(fd[0], all));
	say_events("negative", events_now(-1, all));
}

static void poll_limits(void)
{
	static const int limits[] = { 0, 1, 30 };
	struct timespec ts = { .tv_nsec = 30000000 };
	struct pollfd p = { .events = POLLIN };
	int64_t begin;
	int fd[2];

	stream_pair(fd);
	p.fd = fd[0];
	for (size_t i = 0; i < COUNT(limits); i++) {
		begin = now_ms();
		TELL(poll(&p, 1, limits[i]));
		begin = now_ms() - begin;
		say("%d ms: %s", limits[i],
		    begin >= limits[i] && begin < limits[i] + 5000 ? "in time" : "not in time");
	}
	begin = now_ms();
	TELL(ppoll(&p, 1, &ts, NULL));
	begin = now_ms() - begin;
	say("%s", begin >= 30 && begin < 5000 ? "in time" : "not in time");
	ts.tv_nsec = 1000000000;
	TELL(ppoll(&p, 1, &ts, NULL));
	ts.tv_nsec = 0;
	ts.tv_sec = -1;
	TELL(ppoll(&p, 1, &ts, NULL));
	TELL(poll(NULL, 0, 5));
}

static int slow_fd;

static void *write_soon(void *arg)
{
	(void)arg;
	nap_ms(15);
	(void)!write(slow_fd, "soon", 4);
	return NULL;
}

/* Sockets and pipes in one array; whichever is ready wakes. */
static void poll_mixed(void)
{
	int fd[2], pipes[2], udp[2], *from[] = { &fd[1], &pipes[1], &udp[1] };

	stream_pair(fd);
	dgram_pair(udp);
	NEED(pipe(pipes));
	for (int i = 0; i < 3; i++) {
		struct pollfd p[] = {
			{ .fd = fd[0], .events = POLLIN },    { .fd = -1, .events = POLLIN },
			{ .fd = pipes[0], .events = POLLIN }, { .fd = udp[0], .events = POLLIN },
			{ .fd = 777, .events = 0 },
		};
		pthread_t thread;

		TELL(poll(p, 4, 0));
		slow_fd = *from[i];
		pthread_create(&thread, NULL, write_soon, NULL);
		TELL(poll(p, 4, 5000));
		for (int j = 0; j < 4; j++)
			say_events("each", p[j].revents);
		pthread_join(thread, NULL);
		TELL(read(i == 1 ? pipes[0] : i == 2 ? udp[0] : fd[0], data, sizeof(data)));
		TELL(poll(p, 5, 0));
		say_events("not a descriptor", p[4].revents);
	}
}

static void poll_many(void)
{
	enum { PAIRS = 100 };
	static struct pollfd p[PAIRS * 3 + 1];
	int fd[PAIRS][2], pipes[PAIRS][2];
	pthread_t thread;

	for (int i = 0; i < PAIRS; i++) {
		stream_pair(fd[i]);
		NEED(pipe(pipes[i]));
		p[i * 3] = (struct pollfd){ .fd = fd[i][0], .events = POLLIN };
		p[i * 3 + 1] = (struct pollfd){ .fd = pipes[i][0], .events = POLLIN };
		p[i * 3 + 2] = (struct pollfd){ .fd = fd[i][1], .events = POLLIN };
	}
	TELL(poll(p, PAIRS * 3, 0));
	for (int i = 0; i < PAIRS; i += 33) {
		slow_fd = fd[i][i & 1];
		pthread_create(&thread, NULL, write_soon, NULL);
		TELL(poll(p, PAIRS * 3, 5000));
		pthread_join(thread, NULL);
		for (int j = 0; j < PAIRS * 3; j++)
			if (p[j].revents)
				say("index %d", j);
		TELL(read(fd[i][!(i & 1)], data, sizeof(data)));
	}
}

struct sets {
	fd_set rd, wr, ex;
};

static void sets_fill(struct sets *s, int fd, const int *pipes)
{
	FD_ZERO(&s->rd);
	FD_ZERO(&s->wr);
	FD_ZERO(&s->ex);
	FD_SET(fd, &s->rd);
	FD_SET(pipes[0], &s->rd);
	FD_SET(fd, &s->wr);
	FD_SET(pipes[1], &s->wr);
	FD_SET(fd, &s->ex);
}

static void sets_show(const struct sets *s, int fd, const int *pipes)
{
	say("rd %d %d wr %d %d ex %d", !!FD_ISSET(fd, &s->rd), !!FD_ISSET(pipes[0], &s->rd),
	    !!FD_ISSET(fd, &s->wr), !!FD_ISSET(pipes[1], &s->wr), !!FD_ISSET(fd, &s->ex));
}

static void select_sets(void)
{
	struct timeval tv = { 0 };
	int fd[2], pipes[2], top;
	struct sets s;

	stream_pair(fd);
	NEED(pipe(pipes));
	top = (pipes[1] > fd[1] ? pipes[1] : fd[1]) + 1;
	sets_fill(&s, fd[0], pipes);
	TELL(select(top, &s.rd, &s.wr, &s.ex, NULL));
	sets_show(&s, fd[0], pipes);
	sets_fill(&s, fd[0], pipes);
	TELL(select(top, &s.rd, NULL, NULL, &tv));
	sets_show(&s, fd[0], pipes);
	send_all(fd[1], "x", 1);
	wait_bytes(fd[0], 1);
	sets_fill(&s, fd[0], pipes);
	TELL(select(top, &s.rd, &s.wr, &s.ex, &tv));
	sets_show(&s, fd[0], pipes);
	sets_fill(&s, fd[0], pipes);
	TELL(select(fd[0], &s.rd, NULL, NULL, &tv)); /* too few looked at */
	(void)!write(pipes[1], "y", 1);
	sets_fill(&s, fd[0], pipes);
	TELL(select(top, &s.rd, NULL, &s.ex, NULL));
	sets_show(&s, fd[0], pipes);
	sets_fill(&s, fd[0], pipes);
	close(fd[1]);
	calls_wait(fd[0], POLLRDHUP);
	TELL(recv(fd[0], data, sizeof(data), 0));
	TELL(select(top, &s.rd, &s.wr, &s.ex, NULL));
	sets_show(&s, fd[0], pipes);
	sets_fill(&s, fd[0], pipes);
	FD_SET(60, &s.rd);
	TELL(select(61, &s.rd, NULL, NULL, &tv));
	TELL(select(-1, &s.rd, NULL, NULL, &tv));
	sets_fill(&s, fd[0], pipes);
	tv.tv_sec = -1;
	TELL(select(top, &s.rd, NULL, NULL, &tv));
}

static void select_limits(void)
{
	struct timeval tv = { .tv_usec = 30000 };
	struct timespec ts = { .tv_nsec = 30000000 };
	int64_t begin = now_ms();
	pthread_t thread;
	int fd[2];
	fd_set rd;

	stream_pair(fd);
	FD_ZERO(&rd);
	FD_SET(fd[0], &rd);
	TELL(select(fd[0] + 1, &rd, NULL, NULL, &tv));
	say("%s, left %ld.%06ld", now_ms() - begin >= 30 ? "waited" : "did not wait",
	    (long)tv.tv_sec, (long)tv.tv_usec);
	FD_SET(fd[0], &rd);
	begin = now_ms();
	TELL(pselect(fd[0] + 1, &rd, NULL, NULL, &ts, NULL));
	say("%s, left %ld", now_ms() - begin >= 30 ? "waited" : "did not wait", ts.tv_nsec);
	FD_SET(fd[0], &rd);
	tv.tv_sec = 60;
	slow_fd = fd[1];
	pthread_create(&thread, NULL, write_soon, NULL);
	TELL(select(fd[0] + 1, &rd, NULL, NULL, &tv));
	say("left: %s", tv.tv_sec >= 20 && tv.tv_sec < 60 ? "most of it" : "something else");
	pthread_join(thread, NULL);
	FD_SET(fd[0], &rd);
	tv = (struct timeval){ .tv_sec = 0 };
	TELL(select(fd[0] + 1, &rd, NULL, NULL, &tv));
}

/* A signal that is blocked but for the time of the call. */
static void masks(void)
{
	struct sigaction action = { .sa_handler = count_alarm };
	struct timespec ts = { .tv_sec = 5 };
	sigset_t block, none;
	struct pollfd p = { .events = POLLIN };
	fd_set rd;
	int fd[2];

	stream_pair(fd);
	p.fd = fd[0];
	sigaction(SIGUSR1, &action, NULL);
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, NULL);
	raise(SIGUSR1);
	say("signals %d", alarms);
	TELL(ppoll(&p, 1, &ts, &none));
	say("signals %d", alarms);
	raise(SIGUSR1);
	FD_ZERO(&rd);
	FD_SET(fd[0], &rd);
	TELL(pselect(fd[0] + 1, &rd, NULL, NULL, &ts, &none));
	say("signals %d", alarms);
	/* Pending, and the call is ready at once. */
	raise(SIGUSR1);
	send_all(fd[1], "x", 1);
	wait_bytes(fd[0], 1);
	say("%s", ppoll(&p, 1, &ts, &none) == 1 || errno == EINTR ? "ready or interrupted" : "?");
	TELL(ppoll(&p, 1, &ts, &block));
	sigprocmask(SIG_SETMASK, NULL, &none);
	say("blocked again: %d", sigismember(&none, SIGUSR1));
}

static void *count_until_end(void *arg)
{
	int *fd = arg, count = 0;

	for (;;) {
		struct pollfd p = { .fd = *fd, .events = POLLIN };
		ssize_t got;

		if (poll(&p, 1, 5000) != 1) {
			say("lost a wake-up");
			return NULL;
		}
		got = recv(*fd, data, sizeof(data), 0);
		if (got <= 0)
			break;
		count += got;
	}
	say("counted %d", count);
	return NULL;
}

/* One thread polls, the other sends a byte at a time, now fast, now slowly. */
static void ping_pong(void)
{
	pthread_t thread;
	int fd[2];

	stream_pair(fd);
	pthread_create(&thread, NULL, count_until_end, &fd[0]);
	for (int i = 0; i < 3000; i++) {
		send_all(fd[1], "b", 1);
		if (i % 100 == 0)
			nap_ms(1);
	}
	close(fd[1]);
	pthread_join(thread, NULL);
}

/* Asking for room on a full stream, while another thread drains it. */
static void writable_again(void)
{
	static char block[65536];
	uint64_t sent = 0, got = 0;
	int fd[2];

	stream_pair(fd);
	set_nonblock(fd[0], true);
	for (int round = 0; round < 200; round++) {
		ssize_t part = send(fd[0], block, sizeof(block), 0);

		if (part > 0) {
			sent += part;
			continue;
		}
		if (!(events_now(fd[0], POLLOUT) & POLLOUT)) {
			while (!(events_now(fd[0], POLLOUT) & POLLOUT) && got < sent)
				got += NEED(recv(fd[1], block, sizeof(block), 0));
			say_events("room", calls_wait(fd[0], POLLOUT));
			break;
		}
	}
}

const struct call_case cases[] = {
	{ "poll_states", poll_states },
	{ "poll_limits", poll_limits },
	{ "poll_mixed", poll_mixed },
	{ "poll_many", poll_many },
	{ "select_sets", select_sets },
	{ "select_limits", select_limits },
	{ "masks", masks },
	{ "ping_pong", ping_pong },
	{ "writable_again", writable_again },
};
const size_t case_count = COUNT(cases);
