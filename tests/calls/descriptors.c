/* SPDX-License-Identifier: MIT */
/* dup and its relatives, onto and from everything, closed in any order. */
#include "calls.h"

#include <linux/close_range.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static char data[64];

static void exchange(int from, int to)
{
	send_all(from, "exchange", 8);
	recv_all(to, data, 8);
	say("%.8s", data);
}

static void dup_calls(void)
{
	int fd[2], copy[6];

	stream_pair(fd);
	copy[0] = NEED(dup(fd[0]));
	copy[1] = NEED(dup2(fd[0], 100));
	copy[2] = NEED(dup3(fd[0], 101, O_CLOEXEC));
	copy[3] = NEED(fcntl(fd[0], F_DUPFD, 200));
	copy[4] = NEED(fcntl(fd[0], F_DUPFD_CLOEXEC, 200));
	copy[5] = NEED(dup2(copy[4], 102));
	say("%d %d %d %d %d", copy[1], copy[2], copy[3], copy[4], copy[5]);
	for (size_t i = 0; i < COUNT(copy); i++) {
		TELL(fcntl(copy[i], F_GETFD));
		exchange(copy[i], fd[1]);
		exchange(fd[1], copy[i]);
	}
	close(fd[0]);
	for (size_t i = 0; i < COUNT(copy); i++) {
		exchange(copy[i], fd[1]);
		close(copy[i]);
	}
	TELL(recv(fd[1], data, 1, 0));
}

static void dup_refused(void)
{
	int fd[2];

	stream_pair(fd);
	TELL(dup(-1));
	TELL(dup2(-1, fd[0]));
	TELL(dup2(fd[0], -1));
	TELL(dup2(fd[0], 1 << 30));
	TELL(dup2(fd[0], fd[0]) == fd[0]);
	TELL(dup3(fd[0], fd[0], 0));
	TELL(dup3(fd[0], 100, O_NONBLOCK));
	TELL(dup2(555, 555));
	TELL(fcntl(fd[0], F_DUPFD, -1));
	TELL(fcntl(fd[0], F_DUPFD, 1 << 30));
	exchange(fd[0], fd[1]); /* dup2(-1) has not closed it */
}

/* The socket that a number had before ends as by close(). */
static void dup_onto_socket(void)
{
	int a[2], b[2], pipes[2];

	stream_pair(a);
	stream_pair(b);
	NEED(pipe(pipes));
	TELL(dup2(a[0], b[0]) == b[0]);
	TELL(recv(b[1], data, 1, 0)); /* b[0] is closed */
	exchange(b[0], a[1]);
	close(a[0]);
	exchange(a[1], b[0]);
	/* A pipe onto a socket, a socket onto a pipe. */
	TELL(dup2(pipes[1], b[0]) == b[0]);
	TELL(recv(a[1], data, 1, 0));
	TELL(write(b[0], "pipe", 4));
	TELL(read(pipes[0], data, 4));
	TELL(send(b[0], "x", 1, 0));
	TELL(dup2(a[1], pipes[0]) == pipes[0]);
	TELL(read(pipes[0], data, 4));
	TELL(dup3(b[1], pipes[0], O_CLOEXEC) == pipes[0]);
	TELL(getsockopt(pipes[0], SOL_SOCKET, SO_TYPE, data, &(socklen_t){ 4 }));
}

static void dup_onto_standard(void)
{
	int fd[2], saved = NEED(dup(STDOUT_FILENO));
	FILE *none;

	stream_pair(fd);
	fflush(stdout);
	NEED(dup2(fd[0], STDOUT_FILENO));
	(void)!write(STDOUT_FILENO, "to the socket", 13);
	NEED(dup2(saved, STDOUT_FILENO));
	recv_all(fd[1], data, 13);
	say("%.13s", data);
	NEED(dup2(fd[1], STDIN_FILENO));
	send_all(fd[0], "input", 5);
	TELL(read(STDIN_FILENO, data, sizeof(data)));
	close(fd[1]);
	close(STDIN_FILENO);
	TELL(recv(fd[0], data, 1, 0));
	none = fopen("/dev/null", "r");
	say("again a file: %s", none && fileno(none) == STDIN_FILENO ? "yes" : "no");
}

/* Whichever goes last: until then the connection lives, then it ends. */
static void close_in_any_order(void)
{
	static const int orders[][4] = {
		{ 0, 1, 2, 3 },
		{ 3, 2, 1, 0 },
		{ 1, 3, 0, 2 },
		{ 2, 0, 3, 1 },
	};

	for (size_t i = 0; i < COUNT(orders); i++) {
		int fd[2], copy[4];

		stream_pair(fd);
		copy[0] = fd[0];
		for (int j = 1; j < 4; j++)
			copy[j] = NEED(dup(copy[j - 1]));
		for (int j = 0; j < 4; j++) {
			exchange(copy[orders[i][j]], fd[1]);
			say_events("alive", events_now(fd[1], POLLIN | POLLRDHUP));
			NEED(close(copy[orders[i][j]]));
		}
		TELL(recv(fd[1], data, 1, 0));
		close(fd[1]);
	}
}

static void close_many(void)
{
	struct name name;
	int fd[2], listening, copy;

	stream_pair(fd);
	NEED(dup2(fd[0], 3)); /* the lowest */
	if (fd[0] != 3)
		close(fd[0]);
	fd[0] = 3;
	listening = listener(&name);
	copy = NEED(dup2(fd[1], 300));
	TELL(close_range(3, 299, CLOSE_RANGE_CLOEXEC));
	TELL(fcntl(fd[0], F_GETFD));
	exchange(fd[0], fd[1]);
	TELL(close_range(fd[0] + 1, 299, 0));
	TELL(fcntl(listening, F_GETFD));
	exchange(fd[0], copy);
	TELL(close_range(3, 299, 1u << 7));
	exchange(fd[0], copy);
	TELL(close_range(fd[0], fd[0], 0));
	TELL(recv(copy, data, 1, 0));
	closefrom(3);
	TELL(fcntl(copy, F_GETFD));
	/* What canal has of its own still works. */
	stream_pair(fd);
	exchange(fd[0], fd[1]);
}

static void dup_of_listener(void)
{
	struct name name;
	int fd = listener(&name), copy = NEED(dup(fd)), c = NEED(socket(family, SOCK_STREAM, 0)), a;

	close(fd);
	NEED(connect(c, sa(&name), name.len));
	a = NEED(accept(copy, NULL, NULL));
	exchange(c, a);
	close(copy);
	close(c);
	c = NEED(socket(family, SOCK_STREAM, 0));
	TELL(connect(c, sa(&name), name.len));
}

/* In a loop, as a server does all day: nothing may be left over each time. */
static void open_and_close(void)
{
	struct name name;
	int fd = listener(&name), low = NEED(dup(0));

	close(low);
	for (int i = 0; i < 2000; i++) {
		int c = NEED(socket(family, SOCK_STREAM, 0)), a;

		NEED(connect(c, sa(&name), name.len));
		a = NEED(accept(fd, NULL, NULL));
		if (i % 3 == 0) {
			send_all(c, "ping", 4);
			recv_all(a, data, 4);
			send_all(a, "pong", 4);
		}
		/* Of every third one, bytes are left unread. */
		close(i % 2 ? a : c);
		close(i % 2 ? c : a);
	}
	TELL(dup(0) == low);
	say("2000 connections");
	for (int i = 0; i < 2000; i++)
		NEED(close(NEED(socket(family, i % 2 ? SOCK_DGRAM : SOCK_STREAM, 0))));
	say("2000 sockets");
}

/* As many at once as the limit of descriptors allows. */
static void out_of_descriptors(void)
{
	const struct rlimit limit = { 200, 200 };
	struct name name;
	int fd, c, low, count = 0;

	NEED(setrlimit(RLIMIT_NOFILE, &limit));
	fd = listener(&name);
	/* Under canal a descriptor may need a second one for a moment. */
	low = NEED(dup(0));
	NEED(dup(0));
	c = NEED(socket(family, SOCK_STREAM, 0));
	while (socket(family, SOCK_STREAM, 0) >= 0)
		count++;
	TELL(socket(family, SOCK_STREAM, 0));
	TELL(socket(family, SOCK_DGRAM, 0));
	say("some: %s", count > 100 ? "yes" : "no");
	TELL(connect(c, sa(&name), name.len));
	TELL(accept(fd, NULL, NULL));
	/* It is there still when there is room again. */
	close(low);
	close(low + 1);
	TELL(accept(fd, NULL, NULL) == low);
}

static int open_of(pid_t pid)
{
	return (int)NEED(syscall(SYS_pidfd_open, pid, 0));
}

/* By pidfd_getfd(): one's own, and one that only a child has. */
static void fetched(void)
{
	int fd[2], own[2], way[2], other, got;
	pid_t pid;

	stream_pair(own);
	got = NEED(pidfd_getfd(open_of(getpid()), own[0], 0));
	TELL(send(got, "own", 3, 0));
	recv_all(own[1], data, 3);
	close(own[0]);
	TELL(send(got, "still", 5, 0));
	recv_all(own[1], data, 5);
	TELL(pidfd_getfd(open_of(getpid()), 77, 0));
	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, way));
	pid = NEED(fork());
	if (!pid) {
		stream_pair(fd);
		send_all(fd[0], "before", 6);
		send_all(way[1], fd, sizeof(fd));
		recv_all(fd[1], data, 6 + 5);
		_exit(memcmp(data, "beforeafter", 11) != 0);
	}
	recv_all(way[0], fd, sizeof(fd));
	other = NEED(pidfd_getfd(open_of(pid), fd[0], 0));
	TELL(send(other, "after", 5, 0));
	say_child("child", pid);
}

const struct call_case cases[] = {
	{ "fetched", fetched },
	{ "dup_calls", dup_calls },
	{ "dup_refused", dup_refused },
	{ "dup_onto_socket", dup_onto_socket },
	{ "dup_onto_standard", dup_onto_standard },
	{ "close_in_any_order", close_in_any_order },
	{ "close_many", close_many },
	{ "dup_of_listener", dup_of_listener },
	{ "open_and_close", open_and_close },
	{ "out_of_descriptors", out_of_descriptors },
};
const size_t case_count = COUNT(cases);
