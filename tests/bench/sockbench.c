/* SPDX-License-Identifier: MIT */
/*
 * sockbench: one plain sockets program, client and server, to be run natively
 * and under canal. It knows nothing of canal and needs only libc.
 *
 * Purpose
 *	Measure TCP_STREAM, TCP_RR, UDP_RR, TCP_CRR and a busy connection beside
 *	many idle ones. The words are those of netperf.
 *
 * Protocol
 *	TCP: the client's first 64 bytes (struct hello) name the mode and the
 *	options of the server's end. STREAM: bytes until EOF, then the server
 *	answers with a struct report, so the rate is that of the receiver. RR:
 *	size bytes each way, for ever. CRR: the hello is the request, the answer
 *	is size bytes, and the server closes first, as HTTP/1.0 does; so
 *	TIME_WAIT stays at the server and the client never runs out of ports.
 *	UDP: every datagram is echoed; a hello with MODE_END ends --once.
 *
 * Failure
 *	Any error ends the program with one line and status 1. alarm() bounds
 *	every loop and every blocking call: a run cannot hang.
 */
#include "sockbench.h"

#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct options opt = {
	.host = "127.0.0.1",
	.size = 64,
	.seconds = 2,
	.connections = 10000,
	.threads = 64,
};

/* What is sent; the contents do not matter. */
char payload[SIZE_MAX_LEN];

_Noreturn void die(const char *what)
{
	fprintf(stderr, "sockbench: %s: %s\n", what, strerror(errno));
	exit(1);
}

_Noreturn void die_text(const char *what)
{
	fprintf(stderr, "sockbench: %s\n", what);
	exit(1);
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static uint64_t timeval_ns(struct timeval tv)
{
	return (uint64_t)tv.tv_sec * NS_PER_S + (uint64_t)tv.tv_usec * 1000;
}

/* User and system time of this process so far. */
uint64_t cpu_ns(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return timeval_ns(ru.ru_utime) + timeval_ns(ru.ru_stime);
}

size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

double per_second(uint64_t count, uint64_t ns)
{
	return ns ? (double)count * (double)NS_PER_S / (double)ns : 0;
}

/* ---- sockets of both sides ---- */

void set_int(int fd, int level, int name, int value, const char *what)
{
	if (setsockopt(fd, level, name, &value, sizeof(value)))
		die(what);
}

void apply_buffers(int fd, int sndbuf, int rcvbuf)
{
	if (sndbuf > 0)
		set_int(fd, SOL_SOCKET, SO_SNDBUF, sndbuf, "SO_SNDBUF");
	if (rcvbuf > 0)
		set_int(fd, SOL_SOCKET, SO_RCVBUF, rcvbuf, "SO_RCVBUF");
}

void apply_tcp(int fd, bool nodelay, const char *congestion)
{
	if (nodelay)
		set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
	if (!congestion || !*congestion)
		return;
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, (socklen_t)strlen(congestion)))
		die("TCP_CONGESTION");
}

void apply_options(int fd)
{
	apply_buffers(fd, opt.sndbuf, opt.rcvbuf);
	if (!opt.udp)
		apply_tcp(fd, opt.nodelay, opt.congestion);
}

struct addrinfo *address(void)
{
	struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = opt.udp ? SOCK_DGRAM : SOCK_STREAM,
	};
	struct addrinfo *info;
	int error = getaddrinfo(opt.host, opt.port, &hints, &info);

	if (error)
		die_text(gai_strerror(error));
	return info;
}

int socket_of(const struct addrinfo *info, int flags)
{
	int fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC | flags,
			info->ai_protocol);

	if (fd < 0)
		die("socket");
	return fd;
}

/* The address is resolved once: TCP_CRR connects many thousand times. */
int client_connect(void)
{
	static struct addrinfo *info;
	int fd;

	if (!info)
		info = address();
	fd = socket_of(info, 0);
	apply_options(fd);
	if (connect(fd, info->ai_addr, info->ai_addrlen))
		die("connect");
	return fd;
}

void send_all(int fd, const void *data, size_t len)
{
	const char *from = data;

	while (len) {
		ssize_t n = send(fd, from, len, MSG_NOSIGNAL);

		if (n < 0)
			die("send");
		from += n;
		len -= (size_t)n;
	}
}

void recv_all(int fd, void *data, size_t len)
{
	char *to = data;

	while (len) {
		ssize_t n = recv(fd, to, len, 0);

		if (n < 0)
			die("recv");
		if (!n)
			die_text("recv: the server closed the connection");
		to += n;
		len -= (size_t)n;
	}
}

struct hello hello_of(enum mode mode)
{
	struct hello hello = {
		.magic = MAGIC,
		.mode = mode,
		.size = (uint32_t)opt.size,
		.nodelay = opt.nodelay,
		.sndbuf = opt.sndbuf,
		.rcvbuf = opt.rcvbuf,
	};

	if (opt.congestion)
		strncpy(hello.congestion, opt.congestion, sizeof(hello.congestion) - 1);
	return hello;
}

int client_open(enum mode mode)
{
	struct hello hello = hello_of(mode);
	int fd = client_connect();

	send_all(fd, &hello, sizeof(hello));
	return fd;
}

/* ---- command line ---- */

static const struct option long_options[] = {
	{ "host", required_argument, NULL, 'h' },
	{ "port", required_argument, NULL, 'p' },
	{ "size", required_argument, NULL, 's' },
	{ "seconds", required_argument, NULL, 't' },
	{ "connections", required_argument, NULL, 'c' },
	{ "threads", required_argument, NULL, 'T' },
	{ "limit", required_argument, NULL, 'l' },
	{ "sndbuf", required_argument, NULL, 'S' },
	{ "rcvbuf", required_argument, NULL, 'R' },
	{ "congestion", required_argument, NULL, 'C' },
	{ "busy", required_argument, NULL, 'b' },
	{ "tcp", no_argument, NULL, '4' },
	{ "udp", no_argument, NULL, 'u' },
	{ "once", no_argument, NULL, '1' },
	{ "epoll", no_argument, NULL, 'e' },
	{ "nodelay", no_argument, NULL, 'n' },
	{ "exchange", no_argument, NULL, 'x' },
	{ "step", no_argument, NULL, 'w' },
	{ NULL, 0, NULL, 0 },
};

static _Noreturn void usage(void)
{
	fputs("usage: sockbench server|stream|rr|crr|idle --port P [options]\n"
	      "  both    --host ADDRESS --udp --nodelay --congestion NAME\n"
	      "          --sndbuf N --rcvbuf N --limit S (give up after S seconds)\n"
	      "  server  --once --epoll --threads MAX (1: one connection at a time)\n"
	      "  client  --size N --seconds S\n"
	      "  idle    --connections N --busy rr|stream --exchange --step\n",
	      stderr);
	exit(2);
}

static double number(const char *text, double low, double high)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= low && value <= high)) {
		fprintf(stderr, "sockbench: %s: must be %.0f to %.0f\n", text, low, high);
		exit(2);
	}
	return value;
}

static void parse_flag(int c)
{
	switch (c) {
	case '4':
		opt.udp = false;
		break;
	case 'u':
		opt.udp = true;
		break;
	case '1':
		opt.once = true;
		break;
	case 'e':
		opt.epoll = true;
		break;
	case 'n':
		opt.nodelay = true;
		break;
	case 'x':
		opt.exchange = true;
		break;
	case 'w':
		opt.step = true;
		break;
	default:
		usage();
	}
}

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (c) {
		case 'h':
			opt.host = optarg;
			break;
		case 'p':
			opt.port = optarg;
			break;
		case 's':
			opt.size = (size_t)number(optarg, 1, SIZE_MAX_LEN);
			break;
		case 't':
			opt.seconds = number(optarg, 0, 3600);
			break;
		case 'c':
			opt.connections = (unsigned int)number(optarg, 0, 1e6);
			break;
		case 'T':
			opt.threads = (unsigned int)number(optarg, 1, 4096);
			break;
		case 'l':
			opt.limit = (unsigned int)number(optarg, 1, 86400);
			break;
		case 'S':
			opt.sndbuf = (int)number(optarg, 0, 1 << 30);
			break;
		case 'R':
			opt.rcvbuf = (int)number(optarg, 0, 1 << 30);
			break;
		case 'C':
			opt.congestion = optarg;
			break;
		case 'b':
			opt.busy_stream = !strcmp(optarg, "stream");
			break;
		default:
			parse_flag(c);
		}
	}
	if (optind != argc || !opt.port)
		usage();
	if (opt.udp && opt.size > 65507)
		die_text("--size: a UDP datagram has at most 65507 bytes");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} modes[] = {
		{ "server", run_server }, { "stream", run_stream }, { "rr", run_rr },
		{ "crr", run_crr },       { "idle", run_idle },
	};
	struct rlimit files;

	if (argc < 2)
		usage();
	parse(argc - 1, argv + 1);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	memset(payload, 'c', sizeof(payload));
	alarm(opt.limit ? opt.limit : 600 + 4 * (unsigned int)opt.seconds);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(argv[1], modes[i].name))
			return modes[i].run();
	usage();
}
