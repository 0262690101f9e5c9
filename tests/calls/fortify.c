/* SPDX-License-Identifier: MIT */
/*
 * Compiled with _FORTIFY_SOURCE: calls whose buffer the compiler knows go to
 * __recv_chk and its like, and one that would overflow ends the program.
 */
#include "calls.h"

#include <sys/select.h>

/* So that the compiler cannot see that it fits, and calls the checked function. */
static volatile size_t length;

static void checked_calls(void)
{
	struct pollfd p[2];
	struct name from = { .len = sizeof(from.ss) };
	struct timespec ts = { 0 };
	struct timeval tv = { 0 };
	char data[16];
	fd_set rd;
	int fd[2], udp[2];

	stream_pair(fd);
	dgram_pair(udp);
	send_all(fd[0], "0123456789abcdefghij", 20);
	wait_bytes(fd[1], 20);
	length = 4;
	TELL(read(fd[1], data, length));
	say("%.4s", data);
	TELL(recv(fd[1], data, length, 0));
	say("%.4s", data);
	TELL(recvfrom(fd[1], data, length, 0, NULL, NULL));
	say("%.4s", data);
	TELL(pread(fd[1], data, length, 0));
	send_all(udp[0], "datagram", 8);
	TELL(recvfrom(udp[1], data, length, 0, sa(&from), &from.len));
	say("%.4s", data);
	say_name("from", &from);
	p[0] = (struct pollfd){ .fd = fd[1], .events = POLLIN };
	p[1] = (struct pollfd){ .fd = fd[0], .events = POLLIN };
	length = 2;
	TELL(poll(p, length, 1000));
	say_events("first", p[0].revents);
	TELL(ppoll(p, length, &ts, NULL));
	say_events("second", p[1].revents);
	FD_ZERO(&rd);
	FD_SET(fd[1], &rd); /* by way of __fdelt_chk */
	TELL(select(fd[1] + 1, &rd, NULL, NULL, &tv));
	TELL(!!FD_ISSET(fd[1], &rd));
}

static void overflow(int call)
{
	struct pollfd p[1] = { { .fd = 0 } };
	char data[4];
	int fd[2];

	stream_pair(fd);
	send_all(fd[0], "0123456789", 10);
	dup2(NEED(open("/dev/null", O_WRONLY)), STDERR_FILENO);
	length = 10;
	if (call == 0)
		TELL(read(fd[1], data, length));
	else if (call == 1)
		TELL(recv(fd[1], data, length, 0));
	else if (call == 2)
		TELL(recvfrom(fd[1], data, length, 0, NULL, NULL));
	else
		TELL(poll(p, length, 0));
}

static void overflows(void)
{
	for (int i = 0; i < 4; i++) {
		pid_t pid = NEED(fork());

		if (!pid) {
			overflow(i);
			_exit(0);
		}
		say_child("overflow", pid);
	}
}

const struct call_case cases[] = {
	{ "checked_calls", checked_calls },
	{ "overflows", overflows },
};
const size_t case_count = COUNT(cases);
