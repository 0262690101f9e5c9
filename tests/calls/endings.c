/* SPDX-License-Identifier: MIT */
/* How sockets end: shutdown and close, orderly, in the middle, and under who waits. */
#include "calls.h"

static void shutdown_refused(void)
{
	int fd = NEED(socket(family, SOCK_STREAM, 0)), udp = NEED(socket(family, SOCK_DGRAM, 0));
	int pair[2];

	TELL(shutdown(fd, SHUT_RDWR));
	TELL(shutdown(udp, SHUT_RDWR));
	stream_pair(pair);
	TELL(shutdown(pair[0], 7));
	TELL(shutdown(-1, SHUT_RD));
	TELL(shutdown(STDOUT_FILENO, SHUT_RD));
}

static void shutdown_ways(void)
{
	static const int ways[] = { SHUT_RD, SHUT_WR, SHUT_RDWR };

	for (size_t i = 0; i < COUNT(ways); i++) {
		int fd[2];
		char data[8];

		stream_pair(fd);
		say("how %d", ways[i]);
		TELL(shutdown(fd[0], ways[i]));
		if (ways[i] != SHUT_RD)
			calls_wait(fd[1], POLLIN);
		say_events("here", events_now(fd[0], POLLIN | POLLOUT | POLLRDHUP));
		say_events("there", events_now(fd[1], POLLIN | POLLOUT | POLLRDHUP));
		TELL(send(fd[0], "ab", 2, MSG_NOSIGNAL));
		if (ways[i] != SHUT_RDWR) {
			TELL(send(fd[1], "cde", 3, MSG_NOSIGNAL));
			wait_bytes(fd[0], 3);
		}
		TELL(recv(fd[0], data, sizeof(data), MSG_DONTWAIT));
		if (ways[i] == SHUT_RD)
			wait_bytes(fd[1], 2);
		TELL(recv(fd[1], data, sizeof(data), MSG_DONTWAIT));
		if (ways[i] == SHUT_RD)
			TELL(recv(fd[0], data, sizeof(data), 0));
		TELL(shutdown(fd[0], ways[i]));
		close(fd[0]);
		close(fd[1]);
	}
}

static void shutdown_half_close(void)
{
	static char data[100000];
	int fd[2];
	size_t got = 0;
	ssize_t part;

	stream_pair(fd);
	TELL(send(fd[0], data, sizeof(data), 0));
	TELL(shutdown(fd[0], SHUT_WR));
	while ((part = NEED(recv(fd[1], data, sizeof(data), 0))))
		got += part;
	say("got %zu, then the end", got);
	TELL(recv(fd[1], data, 1, 0));
	say_events("half", events_now(fd[1], POLLIN | POLLOUT | POLLRDHUP));
	TELL(send(fd[1], "answer", 6, 0));
	TELL(recv(fd[0], data, 6, MSG_WAITALL));
	TELL(close(fd[1]));
	TELL(recv(fd[0], data, 6, 0));
	say_events("both", events_now(fd[0], POLLIN | POLLOUT | POLLRDHUP));
}

static void *wait_in_accept(void *arg)
{
	int *fd = arg, ret = accept(*fd, NULL, NULL);

	return (void *)(intptr_t)(ret < 0 ? -errno : ret);
}

static void *wait_in_recv(void *arg)
{
	int *fd = arg;
	char byte;
	ssize_t ret = recv(*fd, &byte, 1, 0);

	return (void *)(intptr_t)(ret < 0 ? -errno : ret);
}

/* Blocks in @wait, shuts @fd down, and tells what both gave. */
static void wake_by_shutdown(void *(*wait)(void *), int *waits_on, int fd, int how)
{
	pthread_t thread;
	void *gave;

	pthread_create(&thread, NULL, wait, waits_on);
	nap_ms(20);
	TELL(shutdown(fd, how));
	pthread_join(thread, &gave);
	say("the call gave %ld", (long)(intptr_t)gave);
}

static void shutdown_wakes(void)
{
	struct name name;
	int fd = listener(&name), pair[2];

	wake_by_shutdown(wait_in_accept, &fd, fd, SHUT_RD);
	say_events("listener", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	stream_pair(pair);
	wake_by_shutdown(wait_in_recv, &pair[0], pair[0], SHUT_RD);
	stream_pair(pair);
	wake_by_shutdown(wait_in_recv, &pair[0], pair[1], SHUT_WR);
}

/* Closing with unread bytes resets. */
static void close_unread(void)
{
	int fd[2], error = -1;
	socklen_t len = sizeof(error);
	char data[8];

	stream_pair(fd);
	TELL(send(fd[0], "abc", 3, 0));
	wait_bytes(fd[1], 3);
	TELL(close(fd[1]));
	say_events("reset", calls_wait(fd[0], POLLIN | POLLRDHUP));
	TELL(recv(fd[0], data, sizeof(data), 0));
	TELL(recv(fd[0], data, sizeof(data), 0));
	TELL(send(fd[0], "x", 1, MSG_NOSIGNAL));
	TELL(getsockopt(fd[0], SOL_SOCKET, SO_ERROR, &error, &len));
	say("error %d", error);
	stream_pair(fd);
	TELL(send(fd[0], "abc", 3, 0));
	wait_bytes(fd[1], 3);
	TELL(close(fd[1]));
	calls_wait(fd[0], POLLIN | POLLRDHUP);
	TELL(getsockopt(fd[0], SOL_SOCKET, SO_ERROR, &error, &len));
	say("error %s", strerrorname_np(error));
	TELL(recv(fd[0], data, sizeof(data), 0));
	TELL(send(fd[0], "x", 1, MSG_NOSIGNAL));
}

/* Unread bytes reset also what was not sent yet. */
static void close_unread_and_full(void)
{
	static char data[16384];
	int fd[2];

	stream_pair(fd);
	TELL(send(fd[0], "abc", 3, 0));
	wait_bytes(fd[1], 3);
	set_nonblock(fd[1], true);
	for (int full = 0; full < 20;) {
		if (send(fd[1], data, sizeof(data), 0) > 0) {
			full = 0;
		} else {
			full++;
			nap_ms(1);
		}
	}
	TELL(close(fd[1]));
	while (recv(fd[0], data, sizeof(data), 0) > 0)
		;
	say("ended by %s", strerrorname_np(errno));
}

static void close_linger_zero(void)
{
	const struct linger reset = { .l_onoff = 1 };
	int fd[2];
	char data[8];

	stream_pair(fd);
	TELL(setsockopt(fd[1], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)));
	TELL(close(fd[1]));
	say_events("reset", calls_wait(fd[0], POLLIN | POLLRDHUP));
	TELL(recv(fd[0], data, sizeof(data), 0));
	TELL(recv(fd[0], data, sizeof(data), 0));
}

/* The first send into a closed connection is taken, the next fails. */
static void close_then_send(void)
{
	int fd[2];
	char data[8];

	stream_pair(fd);
	TELL(send(fd[1], "bye", 3, 0));
	TELL(close(fd[1]));
	TELL(recv(fd[0], data, 3, MSG_WAITALL));
	TELL(recv(fd[0], data, 3, 0));
	say_events("closed", events_now(fd[0], POLLIN | POLLOUT | POLLRDHUP));
	TELL(send(fd[0], "x", 1, MSG_NOSIGNAL));
	for (int i = 0; i < 5000 && !(events_now(fd[0], 0) & POLLHUP); i++)
		nap_ms(1);
	say_events("reset", events_now(fd[0], POLLIN | POLLOUT | POLLRDHUP));
	TELL(send(fd[0], "x", 1, MSG_NOSIGNAL));
	TELL(send(fd[0], "x", 1, MSG_NOSIGNAL));
	TELL(recv(fd[0], data, 3, 0));
}

/* Who was not accepted yet hears of the listener's end. */
static void close_listener(void)
{
	struct name name;
	int fd = listener(&name), c = NEED(socket(family, SOCK_STREAM, 0));
	char byte;

	NEED(connect(c, sa(&name), name.len));
	calls_wait(fd, POLLIN);
	TELL(close(fd));
	say_events("not accepted", calls_wait(c, POLLIN | POLLRDHUP));
	TELL(recv(c, &byte, 1, 0));
	close(c);
	c = NEED(socket(family, SOCK_STREAM, 0));
	TELL(connect(c, sa(&name), name.len));
}

static void close_sends_all(void)
{
	static uint8_t data[300000];
	struct timeval tv = { .tv_sec = 5 };
	uint64_t at = 0;
	int fd[2];
	pid_t pid;

	stream_pair(fd);
	pid = NEED(fork());
	if (!pid) {
		close(fd[1]);
		pattern_fill(data, sizeof(data), 0);
		send_all(fd[0], data, sizeof(data));
		_exit(0); /* what is in flight arrives all the same */
	}
	close(fd[0]);
	say_child("sender", pid);
	NEED(setsockopt(fd[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	for (;;) {
		ssize_t got = NEED(recv(fd[1], data, sizeof(data), 0));

		if (!got)
			break;
		if (!pattern_fits(data, got, at))
			say("wrong bytes at %llu", (unsigned long long)at);
		at += got;
	}
	say("got %llu bytes", (unsigned long long)at);
}

const struct call_case cases[] = {
	{ "shutdown_refused", shutdown_refused },
	{ "shutdown_ways", shutdown_ways },
	{ "shutdown_half_close", shutdown_half_close },
	{ "shutdown_wakes", shutdown_wakes },
	{ "close_unread", close_unread },
	{ "close_unread_and_full", close_unread_and_full },
	{ "close_linger_zero", close_linger_zero },
	{ "close_then_send", close_then_send },
	{ "close_listener", close_listener },
	{ "close_sends_all", close_sends_all },
};
const size_t case_count = COUNT(cases);
