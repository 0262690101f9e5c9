/* SPDX-License-Identifier: MIT */
/*
 * What the programs of tests/calls share: cases that tell what they observe.
 *
 * A program runs each of its cases in a process of its own and prints what every
 * call gave. tests/system/test_calls.py runs it natively and under canal, and the
 * two outputs must be equal. So a case prints nothing that differs from run to run:
 * no port numbers, no descriptors, no times; and it waits until what it looks at
 * has arrived (calls_wait()).
 */
#ifndef CALLS_H
#define CALLS_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct call_case {
	const char *name;
	void (*run)(void);
	bool only_named; /* not among those that are run without a name */
};

/* Each program has these. */
extern const struct call_case cases[];
extern const size_t case_count;

/* Runs in front of each case where a program has it. */
void case_begin(void) __attribute__((weak));

/* AF_INET or AF_INET6, as the command line has it. */
extern int family;

struct name {
	struct sockaddr_storage ss;
	socklen_t len;
};

/* Prints the call, its result, and errno by name when it is -1; gives the result. */
#define TELL(...) (errno = 0, calls_tell(#__VA_ARGS__, (long)(__VA_ARGS__)))
long calls_tell(const char *text, long result);

/* What must work for the case to make sense: else the case ends here. */
#define NEED(...) calls_need(#__VA_ARGS__, __LINE__, (long)(__VA_ARGS__))
long calls_need(const char *text, int line, long result);

/* Prints a line. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Bits by name, and whether there are others. */
struct bit_name {
	uint32_t bit;
	const char *name;
};
void say_bits(const char *what, const struct bit_name *names, size_t count, uint32_t bits);
/* Poll events by name. */
void say_events(const char *what, int events);
/* "127.0.0.1", and whether there is a port. */
void say_name(const char *what, const struct name *name);

struct name loopback(int port);
int port_of(const struct name *name);
struct name local_name(int fd);
static inline struct sockaddr *sa(struct name *name)
{
	return (struct sockaddr *)(void *)&name->ss;
}

/* A stream socket on the loopback address, listening. */
int listener(struct name *ret_name);
/* fd[0]: connected by connect(), fd[1]: by accept(). */
void stream_pair(int fd[2]);
/* Two datagram sockets, bound and connected to each other. */
void dgram_pair(int fd[2]);
/* A datagram socket, bound. */
int dgram_bound(struct name *ret_name);

/* Waits (5 s) for any of @events or an error; gives what poll() said, 0: nothing. */
int calls_wait(int fd, short events);
/* What poll() says of @events right now. */
int events_now(int fd, short events);
/* Waits until FIONREAD says @len at least. */
void wait_bytes(int fd, int len);
void send_all(int fd, const void *data, size_t len);
void recv_all(int fd, void *data, size_t len);
void set_nonblock(int fd, bool on);
void nap_ms(int ms);
int64_t now_ms(void);
/* Reaps the child and tells how it ended. */
void say_child(const char *what, pid_t pid);
/* Bytes that tell where in a stream they belong. */
void pattern_fill(uint8_t *data, size_t len, uint64_t at);
bool pattern_fits(const uint8_t *data, size_t len, uint64_t at);

#endif
