/* SPDX-License-Identifier: MIT */
/*
 * The other end of the cases: does what the lines on descriptor CONFORMANCE_PEER
 * say, and answers each with "RESULT ERRNO TEXT".
 *
 * Purpose: a process of its own, native or under canal, so that a case can be run
 * with its peer outside or inside. One command at a time; each may wait 5 s.
 *
 * Sockets have numbers chosen by who commands. "begin" closes all of them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOTS 64
#define WAIT_S 5

static struct slot {
	int fd;
	uint64_t sent, taken; /* pattern bytes so far */
} slots[SLOTS];

static char text[4096]; /* of the answer */
static long arg[8];
static char word[2048];
static char bulk[1 << 20];

/* As calls.c has it. */
static uint8_t pattern_at(uint64_t at)
{
	return (uint8_t)(at * 131 + (at >> 8) * 7 + (at >> 16));
}

static struct slot *slot(long n)
{
	return &slots[n >= 0 && n < SLOTS ? n : 0];
}

static int fd_of(long n)
{
	return slot(n)->fd;
}

static long set_slot(long n, int fd)
{
	const struct timeval limit = { .tv_sec = WAIT_S };
	struct slot *s = slot(n);

	if (fd < 0)
		return -1;
	if (s->fd >= 0)
		close(s->fd);
	*s = (struct slot){ .fd = fd };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return 0;
}

/* --- names ------------------------------------------------------------- */

static struct sockaddr_storage name;

static struct sockaddr *loopback(long family, long port, socklen_t *ret_len)
{
	struct sockaddr_in6 *in6 = (void *)&name;
	struct sockaddr_in *in = (void *)&name;

	memset(&name, 0, sizeof(name));
	name.ss_family = family;
	if (family == AF_INET6) {
		in6->sin6_port = htons(port);
		in6->sin6_addr = in6addr_loopback;
	} else {
		in->sin_port = htons(port);
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	}
	*ret_len = family == AF_INET6 ? sizeof(*in6) : sizeof(*in);
	return (void *)&name;
}

static long port_of(int fd)
{
	socklen_t len = sizeof(name);

	if (getsockname(fd, (void *)&name, &len))
		return -1;
	return ntohs(((struct sockaddr_in *)(void *)&name)->sin_port);
}

/* A socket bound to a free port of the loopback address. Its port. */
static long bound(long n, long family, int type)
{
	int fd = socket(family, type | SOCK_CLOEXEC, 0);
	socklen_t len;
	struct sockaddr *at = loopback(family, 0, &len);

	if (set_slot(n, fd) < 0 || bind(fd, at, len))
		return -1;
	return port_of(fd);
}

/* --- commands ---------------------------------------------------------- */

static long do_begin(void)
{
	for (int i = 0; i < SLOTS; i++) {
		if (slots[i].fd >= 0)
			close(slots[i].fd);
		slots[i].fd = -1;
	}
	return 0;
}

static long do_listen(void)
{
	long port = bound(arg[0], arg[1], SOCK_STREAM);

	return port < 0 || listen(fd_of(arg[0]), (int)arg[2]) ? -1 : port;
}

/* A socket that may be given options before "relisten". */
static long do_bind(void)
{
	return bound(arg[0], arg[1], SOCK_STREAM);
}

static long do_relisten(void)
{
	return listen(fd_of(arg[0]), (int)arg[1]);
}

static long do_accept(void)
{
	return set_slot(arg[1], accept4(fd_of(arg[0]), NULL, NULL, SOCK_CLOEXEC));
}

static long do_connect(void)
{
	int fd = socket(arg[1], SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len;
	struct sockaddr *to = loopback(arg[1], arg[2], &len);

	return set_slot(arg[0], fd) < 0 ? -1 : connect(fd, to, len);
}

static long do_udp(void)
{
	return bound(arg[0], arg[1], SOCK_DGRAM);
}

static long do_connectto(void)
{
	socklen_t len;
	struct sockaddr *to = loopback(arg[1], arg[2], &len);

	return connect(fd_of(arg[0]), to, len);
}

static long do_sendto(void)
{
	socklen_t len;
	struct sockaddr *to = loopback(arg[1], arg[2], &len);

	return sendto(fd_of(arg[0]), word, strlen(word), 0, to, len);
}

/* A datagram's length and bytes, and its flags. */
static long do_recvfrom(void)
{
	ssize_t got = recv(fd_of(arg[0]), bulk, sizeof(bulk), 0);

	snprintf(text, sizeof(text), "%.*s", got > 0 && got < 2048 ? (int)got : 0, bulk);
	return got;
}

static long do_send(void)
{
	return send(fd_of(arg[0]), word, strlen(word), (int)arg[1] | MSG_NOSIGNAL);
}

/* Pattern bytes, all of them. */
static long do_fill(void)
{
	struct slot *s = slot(arg[0]);
	uint64_t end = s->sent + (uint64_t)arg[1];

	while (s->sent < end) {
		size_t len = end - s->sent < sizeof(bulk) ? end - s->sent : sizeof(bulk);
		ssize_t put;

		for (size_t i = 0; i < len; i++)
			bulk[i] = (char)pattern_at(s->sent + i);
		put = send(s->fd, bulk, len, MSG_NOSIGNAL);
		if (put < 0)
			return -1;
		s->sent += put;
	}
	return arg[1];
}

static long do_recv(void)
{
	ssize_t got = recv(fd_of(arg[0]), text, arg[1] < 2048 ? arg[1] : 2048, (int)arg[2]);

	text[got > 0 ? got : 0] = '\0';
	return got;
}

/* Pattern bytes: how many were right. */
static long take(struct slot *s, uint64_t most)
{
	uint64_t done = 0;

	while (done < most) {
		size_t len = most - done < sizeof(bulk) ? most - done : sizeof(bulk);
		ssize_t got = recv(s->fd, bulk, len, 0);

		if (got < 0)
			return -1;
		if (!got)
			break;
		for (ssize_t i = 0; i < got; i++)
			if ((uint8_t)bulk[i] != pattern_at(s->taken + i)) {
				errno = EBADMSG;
				return -1;
			}
		s->taken += got;
		done += got;
	}
	return done;
}

static long do_take(void)
{
	return take(slot(arg[0]), arg[1]);
}

/* To the end: how many pattern bytes. */
static long do_drain(void)
{
	return take(slot(arg[0]), UINT64_MAX);
}

static long do_close(void)
{
	struct slot *s = slot(arg[0]);
	int fd = s->fd;

	s->fd = -1;
	return close(fd);
}

static long do_reset(void)
{
	const struct linger linger = { .l_onoff = 1 };

	setsockopt(fd_of(arg[0]), SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	return do_close();
}

static long do_shutdown(void)
{
	return shutdown(fd_of(arg[0]), (int)arg[1]);
}

static long do_setopt(void)
{
	int value = (int)arg[3];

	return setsockopt(fd_of(arg[0]), (int)arg[1], (int)arg[2], &value, sizeof(value));
}

static long do_getopt(void)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(fd_of(arg[0]), (int)arg[1], (int)arg[2], &value, &len) ? -1 : value;
}

/*
 * The kernel sets the error of a reset before it sets the end, and poll() may look in between.
 * FIONREAD takes the socket's lock, so that both are there behind it.
 */
static long do_wait(void)
{
	struct pollfd p = { .fd = fd_of(arg[0]), .events = (short)arg[1] };
	int n = poll(&p, 1, WAIT_S * 1000), count;

	if (n > 0 && p.revents & POLLERR) {
		(void)ioctl(p.fd, FIONREAD, &count);
		n = poll(&p, 1, 0);
	}
	return n <= 0 ? n : p.revents;
}

static long do_inq(void)
{
	int count = 0;

	return ioctl(fd_of(arg[0]), FIONREAD, &count) ? -1 : count;
}

/* Until so many bytes wait. */
static long do_waitbytes(void)
{
	for (int i = 0; i < WAIT_S * 1000; i++) {
		if (do_inq() >= arg[1])
			return do_inq();
		usleep(1000);
	}
	return do_inq();
}

static long do_mark(void)
{
	return sockatmark(fd_of(arg[0]));
}

static const struct command {
	const char *name;
	long (*run)(void);
	const char *form; /* d: a number, s: a word */
} commands[] = {
	{ "begin", do_begin, "" },
	{ "listen", do_listen, "ddd" },       /* slot family backlog: port */
	{ "bind", do_bind, "dd" },            /* slot family: port */
	{ "relisten", do_relisten, "dd" },    /* slot backlog */
	{ "accept", do_accept, "dd" },        /* listener slot */
	{ "connect", do_connect, "ddd" },     /* slot family port */
	{ "udp", do_udp, "dd" },              /* slot family: port */
	{ "connectto", do_connectto, "ddd" }, /* slot family port */
	{ "sendto", do_sendto, "ddds" },      /* slot family port text */
	{ "recvfrom", do_recvfrom, "d" },     /* slot: length, text */
	{ "send", do_send, "dds" },           /* slot flags text */
	{ "fill", do_fill, "dd" },            /* slot bytes */
	{ "recv", do_recv, "ddd" },           /* slot most flags: length, text */
	{ "take", do_take, "dd" },            /* slot bytes */
	{ "drain", do_drain, "d" },           /* slot: bytes */
	{ "close", do_close, "d" },
	{ "reset", do_reset, "d" },
	{ "shutdown", do_shutdown, "dd" }, /* slot how */
	{ "setopt", do_setopt, "dddd" },   /* slot level name value */
	{ "getopt", do_getopt, "ddd" },    /* slot level name: value */
	{ "wait", do_wait, "dd" },         /* slot events: revents */
	{ "inq", do_inq, "d" },
	{ "waitbytes", do_waitbytes, "dd" }, /* slot least */
	{ "mark", do_mark, "d" },
};

static bool parse(char *line, const char *form)
{
	char *rest = line, *part;
	int n = 0;

	(void)strtok_r(rest, " ", &rest);
	for (; *form; form++) {
		part = strtok_r(NULL, " ", &rest);
		if (!part)
			return false;
		if (*form == 'd')
			arg[n++] = strtol(part, NULL, 0);
		else
			snprintf(word, sizeof(word), "%s", part);
	}
	return true;
}

/* NULL: there is no such command. */
static const struct command *find(const char *line)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		size_t len = strlen(commands[i].name);

		if (!strncmp(line, commands[i].name, len) && (!line[len] || line[len] == ' '))
			return &commands[i];
	}
	return NULL;
}

int main(void)
{
	const char *number = getenv("CONFORMANCE_PEER");
	int control = number ? atoi(number) : -1;
	char line[4096], answer[8192];
	ssize_t len;

	for (int i = 0; i < SLOTS; i++)
		slots[i].fd = -1;
	while ((len = recv(control, line, sizeof(line) - 1, 0)) > 0) {
		const struct command *c;
		long result;

		line[len] = '\0';
		text[0] = '\0';
		c = find(line);
		if (!c || !parse(line, c->form)) {
			len = snprintf(answer, sizeof(answer), "?");
		} else {
			errno = 0;
			result = c->run();
			len = snprintf(answer, sizeof(answer), "%ld %d %s", result,
				       result < 0 ? errno : 0, text);
		}
		if (send(control, answer, len, MSG_NOSIGNAL) != len)
			return 1;
	}
	return 0;
}
