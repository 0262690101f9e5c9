/* SPDX-License-Identifier: MIT */
/* The case's side of the peer, and what cases share; see conformance.h. */
#include "conformance.h"

#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#define ANSWER_MS 25000
#define WAIT_MS 5000

char peer_text[4096];
static char last_command[512];

/* --- the peer ---------------------------------------------------------- */

static int peer_fd(void)
{
	static int fd = -1;
	const char *number = getenv("CONFORMANCE_PEER");

	if (fd >= 0)
		return fd;
	if (!number) {
		fprintf(stderr, "CONFORMANCE_PEER is not set: see test_conformance.py\n");
		exit(2);
	}
	fd = atoi(number);
	return fd;
}

static void send_command(const char *format, va_list args)
{
	int len = vsnprintf(last_command, sizeof(last_command), format, args);

	if (write(peer_fd(), last_command, len) != len) {
		perror("conformance: peer");
		exit(2);
	}
}

void peer_begin(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	send_command(format, args);
	va_end(args);
}

long peer_answer(void)
{
	struct pollfd p = { .fd = peer_fd(), .events = POLLIN };
	char line[8192];
	long result;
	int error, at = 0;
	ssize_t len;

	while (poll(&p, 1, ANSWER_MS) < 0 && errno == EINTR)
		;
	len = recv(p.fd, line, sizeof(line) - 1, MSG_DONTWAIT);
	if (len <= 0) {
		say("the peer does not answer: %s", last_command);
		exit(2);
	}
	line[len] = '\0';
	if (sscanf(line, "%ld %d %n", &result, &error, &at) < 2) {
		say("the peer does not know: %s", last_command);
		exit(2);
	}
	snprintf(peer_text, sizeof(peer_text), "%s", line + at);
	errno = error;
	return result;
}

long peer(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	send_command(format, args);
	va_end(args);
	return peer_answer();
}

long peer_must(const char *format, ...)
{
	va_list args;
	long result;

	va_start(args, format);
	send_command(format, args);
	va_end(args);
	result = peer_answer();
	if (result >= 0)
		return result;
	say("peer: %s: %s", last_command, strerrorname_np(errno));
	exit(1);
}

/* The first word of the command is printed: others may be ports. */
long peer_tell(const char *format, ...)
{
	char what[64] = "peer: ";
	va_list args;
	long result;

	va_start(args, format);
	send_command(format, args);
	va_end(args);
	result = peer_answer();
	sscanf(last_command, "%40s", what + strlen(what));
	say_bytes(what, result, peer_text);
	return result;
}

/* calls.c calls it in front of each case. */
void case_begin(void)
{
	(void)peer("begin");
}

/* --- connections ------------------------------------------------------- */

struct name peer_name(int port)
{
	return loopback(port);
}

int connected(int slot)
{
	struct name name = peer_name(peer_must("listen 63 %d 16", family));
	int fd = NEED(socket(family, SOCK_STREAM, 0));

	NEED(connect(fd, sa(&name), name.len));
	peer_must("accept 63 %d", slot);
	peer_must("close 63");
	return fd;
}

int accepted(int slot)
{
	struct name name;
	int listening = listener(&name), fd;

	peer_must("connect %d %d %d", slot, family, port_of(&name));
	fd = NEED(accept(listening, NULL, NULL));
	close(listening);
	return fd;
}

int dgram_with(int slot)
{
	struct name here, there = peer_name(peer_must("udp %d %d", slot, family));
	int fd = dgram_bound(&here);

	NEED(connect(fd, sa(&there), there.len));
	peer_must("connectto %d %d %d", slot, family, port_of(&here));
	return fd;
}

/* --- telling ----------------------------------------------------------- */

void say_result(const char *what, long result)
{
	if (result == -1)
		say("%s: -1 %s", what, errno ? strerrorname_np(errno) : "");
	else
		say("%s: %ld", what, result);
}

void say_bytes(const char *what, long result, const char *data)
{
	if (result < 0)
		say_result(what, result);
	else
		say("%s: %ld bytes %.*s", what, result, (int)strnlen(data, result), data);
}

void say_epoll(const char *what, uint32_t events)
{
	static const struct bit_name names[] = {
		{ EPOLLIN, "IN" },         { EPOLLPRI, "PRI" },       { EPOLLOUT, "OUT" },
		{ EPOLLERR, "ERR" },       { EPOLLHUP, "HUP" },       { EPOLLRDNORM, "RDNORM" },
		{ EPOLLRDBAND, "RDBAND" }, { EPOLLWRNORM, "WRNORM" }, { EPOLLWRBAND, "WRBAND" },
		{ EPOLLMSG, "MSG" },       { EPOLLRDHUP, "RDHUP" },
	};

	say_bits(what, names, COUNT(names), events);
}

/* --- waiting ----------------------------------------------------------- */

/* Room that does not come for so long does not come at all: the peer does not read. */
#define STUCK_MS 200

void wait_stuck(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	while (NEED(poll(&p, 1, STUCK_MS)) && !(p.revents & (POLLERR | POLLHUP)))
		nap_ms(1);
}

long fill_up(int fd, const void *block, size_t len)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	long sent = 0, before, part;

	/* again until none went: what is free may be too little to be called writable */
	do {
		before = sent;
		while ((part = send(fd, block, len, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
			sent += part;
	} while (errno == EAGAIN && (NEED(poll(&p, 1, STUCK_MS)) || sent != before));
	return sent;
}

/*
 * The peer's close() may be over before canald has served it. What canald is asked here
 * is served in its order, so who is bound there and closed it here is gone for who sends next.
 */
void wait_port_free(struct name name, int type)
{
	for (int64_t end = now_ms() + WAIT_MS; now_ms() < end; nap_ms(1)) {
		int fd = NEED(socket(family, type, 0));
		bool free = !bind(fd, sa(&name), name.len);

		close(fd);
		if (free)
			return;
	}
	say("in vain: a port that is free");
}

void wait_end(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };

	if (poll(&p, 1, 5000) != 1)
		say("the end does not come");
}

void wait_for(bool (*done)(void *), void *arg, const char *what)
{
	for (int64_t end = now_ms() + WAIT_MS; now_ms() < end; nap_ms(1))
		if (done(arg))
			return;
	say("in vain: %s", what);
}

/* S in /proc: also under canal, where a thread looks some time before it sleeps. */
static bool asleep(void *arg)
{
	char path[64], text[256] = "";
	const char *end;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", *(pid_t *)arg); /* of a thread, too */
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return true;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	end = strrchr(text, ')');
	return end && end[1] && end[2] == 'S';
}

/* Twice, for a thread may sleep for a moment on its way. */
void wait_asleep(pid_t tid)
{
	wait_for(asleep, &tid, "a thread asleep");
	nap_ms(3);
	wait_for(asleep, &tid, "a thread asleep");
}

volatile sig_atomic_t signals_seen;

static void counter(int number)
{
	(void)number;
	signals_seen++;
}

void count_signal(int number, int flags)
{
	struct sigaction action = { .sa_handler = counter, .sa_flags = flags };

	sigemptyset(&action.sa_mask);
	NEED(sigaction(number, &action, NULL));
}
