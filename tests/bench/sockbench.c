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
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_LEN	(128 * 1024)
#define SIZE_MAX_LEN	(16 * 1024 * 1024)
#define MAGIC		0x62636f73u
#define NS_PER_S	1000000000ull
#define WARMUP_COUNT	100
#define EVENT_COUNT	64

enum mode {
	MODE_STREAM = 1,
	MODE_RR,
	MODE_CRR,
	MODE_END,
};

struct hello {
	uint32_t magic;
	uint32_t mode;
	uint32_t size;
	uint32_t nodelay;
	int32_t sndbuf;
	int32_t rcvbuf;
	char congestion[16];
	char pad[24];
};
_Static_assert(sizeof(struct hello) == 64, "hello is 64 bytes");

struct report {
	uint64_t bytes;
	uint64_t ns;
	uint64_t recv_count;
	uint64_t cpu_ns;
};

struct options {
	const char *host;
	const char *port;
	bool udp;
	bool once;
	bool epoll;
	bool exchange;
	bool step;
	bool busy_stream;
	bool nodelay;
	int sndbuf;
	int rcvbuf;
	const char *congestion;
	size_t size;
	double seconds;
	unsigned int connections;
	unsigned int threads;
	unsigned int limit;
};

static struct options opt = {
	.host = "127.0.0.1",
	.size = 64,
	.seconds = 2,
	.connections = 10000,
	.threads = 64,
};

/* What is sent; the contents do not matter. */
static char payload[SIZE_MAX_LEN];

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "sockbench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static _Noreturn void die_text(const char *what)
{
	fprintf(stderr, "sockbench: %s\n", what);
	exit(1);
}

static uint64_t now_ns(void)
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
static uint64_t cpu_ns(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return timeval_ns(ru.ru_utime) + timeval_ns(ru.ru_stime);
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static double per_second(uint64_t count, uint64_t ns)
{
	return ns ? (double)count * (double)NS_PER_S / (double)ns : 0;
}

/* ---- sockets of both sides ---- */

static void set_int(int fd, int level, int name, int value, const char *what)
{
	if (setsockopt(fd, level, name, &value, sizeof(value)))
		die(what);
}

static void apply_buffers(int fd, int sndbuf, int rcvbuf)
{
	if (sndbuf > 0)
		set_int(fd, SOL_SOCKET, SO_SNDBUF, sndbuf, "SO_SNDBUF");
	if (rcvbuf > 0)
		set_int(fd, SOL_SOCKET, SO_RCVBUF, rcvbuf, "SO_RCVBUF");
}

static void apply_tcp(int fd, bool nodelay, const char *congestion)
{
	if (nodelay)
		set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
	if (!congestion || !*congestion)
		return;
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion,
		       (socklen_t)strlen(congestion)))
		die("TCP_CONGESTION");
}

static void apply_options(int fd)
{
	apply_buffers(fd, opt.sndbuf, opt.rcvbuf);
	if (!opt.udp)
		apply_tcp(fd, opt.nodelay, opt.congestion);
}

static struct addrinfo *address(void)
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

static int socket_of(const struct addrinfo *info, int flags)
{
	int fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC | flags,
			info->ai_protocol);

	if (fd < 0)
		die("socket");
	return fd;
}

/* The address is resolved once: TCP_CRR connects many thousand times. */
static int client_connect(void)
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

static void send_all(int fd, const void *data, size_t len)
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

static void recv_all(int fd, void *data, size_t len)
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

static struct hello hello_of(enum mode mode)
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
		strncpy(hello.congestion, opt.congestion,
			sizeof(hello.congestion) - 1);
	return hello;
}

static int client_open(enum mode mode)
{
	struct hello hello = hello_of(mode);
	int fd = client_connect();

	send_all(fd, &hello, sizeof(hello));
	return fd;
}

/* ---- server: one connection as a small state machine ---- */

enum step {
	STEP_MORE,	/* wants to be called again when readable */
	STEP_BLOCKED,	/* wants to be called again when writable */
	STEP_DONE,	/* close it */
};

/**
 * struct conn - one accepted connection; owned by one thread
 * @hello_len: bytes of @hello that have arrived
 * @got_len: bytes of the current RR request that have arrived
 * @owed_len: bytes still to send: of @report when @closing a stream
 * @closing: done as soon as nothing is owed
 * @watch_out: registered for EPOLLOUT, not EPOLLIN
 */
struct conn {
	int fd;
	struct hello hello;
	size_t hello_len;
	size_t got_len;
	size_t owed_len;
	bool closing;
	bool watch_out;
	uint64_t start_ns;
	uint64_t start_cpu_ns;
	struct report report;
};

static atomic_uint idle_count = 1;
static atomic_uint thread_count = 1;

static bool would_block(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static enum step conn_begin(struct conn *c)
{
	struct hello *h = &c->hello;

	h->congestion[sizeof(h->congestion) - 1] = '\0';
	if (h->magic != MAGIC || h->size > SIZE_MAX_LEN || !h->size)
		return STEP_DONE;
	apply_buffers(c->fd, h->sndbuf, h->rcvbuf);
	apply_tcp(c->fd, h->nodelay, h->congestion);
	c->start_ns = now_ns();
	c->start_cpu_ns = cpu_ns();
	if (h->mode == MODE_CRR) {
		c->owed_len = h->size;
		c->closing = true;
	}
	return STEP_MORE;
}

static enum step conn_hello(struct conn *c)
{
	ssize_t n = recv(c->fd, (char *)&c->hello + c->hello_len,
			 sizeof(c->hello) - c->hello_len, 0);

	if (n < 0)
		return would_block() ? STEP_MORE : STEP_DONE;
	if (!n)
		return STEP_DONE;
	c->hello_len += (size_t)n;
	return c->hello_len == sizeof(c->hello) ? conn_begin(c) : STEP_MORE;
}

static void conn_finish_stream(struct conn *c)
{
	c->report.ns = now_ns() - c->start_ns;
	c->report.cpu_ns = cpu_ns() - c->start_cpu_ns;
	c->owed_len = sizeof(c->report);
	c->closing = true;
}

static enum step conn_stream(struct conn *c, char *buffer)
{
	ssize_t n = recv(c->fd, buffer, BUFFER_LEN, 0);

	if (n < 0)
		return would_block() ? STEP_MORE : STEP_DONE;
	c->report.recv_count++;
	c->report.bytes += (size_t)n;
	if (!n)
		conn_finish_stream(c);
	return STEP_MORE;
}

static enum step conn_rr(struct conn *c, char *buffer)
{
	size_t want = min_size(c->hello.size - c->got_len, BUFFER_LEN);
	ssize_t n = recv(c->fd, buffer, want, 0);

	if (n < 0)
		return would_block() ? STEP_MORE : STEP_DONE;
	if (!n)
		return STEP_DONE;
	c->got_len += (size_t)n;
	if (c->got_len == c->hello.size) {
		c->got_len = 0;
		c->owed_len = c->hello.size;
	}
	return STEP_MORE;
}

static enum step conn_flush(struct conn *c)
{
	while (c->owed_len) {
		const char *from = payload;
		ssize_t n;

		if (c->hello.mode == MODE_STREAM)
			from = (char *)&c->report + sizeof(c->report) - c->owed_len;
		n = send(c->fd, from, c->owed_len, MSG_NOSIGNAL);
		if (n < 0)
			return would_block() ? STEP_BLOCKED : STEP_DONE;
		c->owed_len -= (size_t)n;
	}
	return c->closing ? STEP_DONE : STEP_MORE;
}

/* One receive, and the answer to it if that completed a request. */
static enum step conn_step(struct conn *c, char *buffer)
{
	enum step step;

	if (c->owed_len)
		return conn_flush(c);
	if (c->hello_len < sizeof(c->hello))
		step = conn_hello(c);
	else if (c->hello.mode == MODE_STREAM)
		step = conn_stream(c, buffer);
	else
		step = conn_rr(c, buffer);
	return step == STEP_MORE && c->owed_len ? conn_flush(c) : step;
}

static char *buffer_new(void)
{
	char *buffer = malloc(BUFFER_LEN);

	if (!buffer)
		die("malloc");
	memset(buffer, 0, BUFFER_LEN);
	return buffer;
}

static _Noreturn void server_exit(void)
{
	printf("{\"mode\": \"server\", \"cpu_seconds\": %.3f}\n",
	       (double)cpu_ns() / (double)NS_PER_S);
	exit(0);
}

static int server_listen(int flags)
{
	struct addrinfo *info = address();
	int fd = socket_of(info, flags);

	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
	apply_options(fd);
	if (bind(fd, info->ai_addr, info->ai_addrlen))
		die("bind");
	if (!opt.udp && listen(fd, SOMAXCONN))
		die("listen");
	freeaddrinfo(info);
	puts("ready");
	fflush(stdout);
	return fd;
}

/* ---- server: threads ---- */

static void *thread_serve(void *arg);

static void thread_spawn(void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	atomic_fetch_add(&idle_count, 1);
	atomic_fetch_add(&thread_count, 1);
	if (pthread_create(&thread, &attr, thread_serve, arg))
		die_text("pthread_create failed");
	pthread_attr_destroy(&attr);
}

/*
 * Each thread accepts for itself; whoever takes the last idle place starts a
 * successor. No thread is made per connection, which would hide what TCP_CRR
 * is to show.
 */
static void *thread_serve(void *arg)
{
	int listener = *(int *)arg;
	char *buffer = buffer_new();

	for (;;) {
		struct conn c = { .fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC) };

		if (c.fd < 0)
			die("accept");
		if (atomic_fetch_sub(&idle_count, 1) == 1 &&
		    atomic_load(&thread_count) < opt.threads && !opt.once)
			thread_spawn(arg);
		while (conn_step(&c, buffer) != STEP_DONE)
			;
		close(c.fd);
		if (opt.once)
			server_exit();
		atomic_fetch_add(&idle_count, 1);
	}
	return NULL;
}

/* ---- server: epoll ---- */

static void watch(int epfd, int op, struct conn *c, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = c };

	if (epoll_ctl(epfd, op, c->fd, &event))
		die("epoll_ctl");
}

static void epoll_accept(int epfd, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct conn *c;

	if (fd < 0) {
		if (would_block())
			return;
		die("accept");
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		die("calloc");
	c->fd = fd;
	watch(epfd, EPOLL_CTL_ADD, c, EPOLLIN);
}

static void epoll_conn(int epfd, struct conn *c, char *buffer)
{
	enum step step = conn_step(c, buffer);

	if (step == STEP_DONE) {
		close(c->fd);
		free(c);
		if (opt.once)
			server_exit();
		return;
	}
	if ((step == STEP_BLOCKED) == c->watch_out)
		return;
	c->watch_out = step == STEP_BLOCKED;
	watch(epfd, EPOLL_CTL_MOD, c, c->watch_out ? EPOLLOUT : EPOLLIN);
}

static void epoll_serve(int listener)
{
	struct conn self = { .fd = listener };
	struct epoll_event events[EVENT_COUNT];
	char *buffer = buffer_new();
	int epfd = epoll_create1(EPOLL_CLOEXEC);

	if (epfd < 0)
		die("epoll_create1");
	watch(epfd, EPOLL_CTL_ADD, &self, EPOLLIN);
	for (;;) {
		int count = epoll_wait(epfd, events, EVENT_COUNT, -1);

		if (count < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr == &self)
				epoll_accept(epfd, listener);
			else
				epoll_conn(epfd, events[i].data.ptr, buffer);
		}
	}
}

/* ---- server: UDP ---- */

static bool udp_is_end(const char *buffer, ssize_t len)
{
	struct hello hello;

	if (len != sizeof(hello))
		return false;
	memcpy(&hello, buffer, sizeof(hello));
	return hello.magic == MAGIC && hello.mode == MODE_END;
}

static void udp_echo(int fd, char *buffer)
{
	struct sockaddr_storage from;
	socklen_t from_len = sizeof(from);
	ssize_t n = recvfrom(fd, buffer, BUFFER_LEN, 0,
			     (struct sockaddr *)&from, &from_len);

	if (n < 0) {
		if (would_block() || errno == ECONNREFUSED)
			return;
		die("recvfrom");
	}
	if (opt.once && udp_is_end(buffer, n))
		server_exit();
	if (sendto(fd, buffer, (size_t)n, 0, (struct sockaddr *)&from, from_len) < 0 &&
	    !would_block() && errno != ECONNREFUSED)
		die("sendto");
}

static void udp_serve(int fd)
{
	char *buffer = buffer_new();
	struct epoll_event event = { .events = EPOLLIN };
	int epfd = -1;

	if (opt.epoll) {
		epfd = epoll_create1(EPOLL_CLOEXEC);
		if (epfd < 0 || epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event))
			die("epoll");
	}
	for (;;) {
		if (opt.epoll && epoll_wait(epfd, &event, 1, -1) < 0 && errno != EINTR)
			die("epoll_wait");
		udp_echo(fd, buffer);
	}
}

static int run_server(void)
{
	int fd = server_listen(opt.epoll ? SOCK_NONBLOCK : 0);

	if (opt.udp)
		udp_serve(fd);
	else if (opt.epoll)
		epoll_serve(fd);
	else
		thread_serve(&fd);
	return 0;
}

/* ---- client: latency histogram ---- */

#define SUB_BITS	6
#define SUB_COUNT	(1u << SUB_BITS)

/* Log-linear: 64 steps in each power of two, so at most 1.6 % wrong. */
static uint64_t histogram[64 * SUB_COUNT];

static unsigned int bucket_of(uint64_t ns)
{
	unsigned int shift;

	if (ns < SUB_COUNT)
		return (unsigned int)ns;
	shift = 63u - (unsigned int)__builtin_clzll(ns) - SUB_BITS;
	return (shift + 1) * SUB_COUNT + (unsigned int)((ns >> shift) - SUB_COUNT);
}

static double bucket_us(unsigned int bucket)
{
	unsigned int shift = bucket / SUB_COUNT;
	uint64_t low = bucket % SUB_COUNT;

	if (shift)
		low = (low + SUB_COUNT) << (shift - 1);
	return (double)low / 1000;
}

static double percentile_us(uint64_t count, double part)
{
	uint64_t want = (uint64_t)((double)count * part), seen = 0;

	for (unsigned int i = 0; i < 58 * SUB_COUNT; i++) {
		seen += histogram[i];
		if (seen > want)
			return bucket_us(i);
	}
	return 0;
}

/* ---- client: the work ---- */

struct result {
	uint64_t count;		/* sends, or round trips */
	uint64_t ns;
	uint64_t lost;
	struct report server;
};

static uint64_t deadline_ns(void)
{
	return now_ns() + (uint64_t)(opt.seconds * (double)NS_PER_S);
}

static struct result do_stream(void)
{
	/* The clock is looked at every 256 calls or 1 MiB, whichever is less. */
	size_t batch = min_size(256, 1 + (1 << 20) / opt.size);
	struct result r = { 0 };
	int fd = client_open(MODE_STREAM);
	uint64_t start = now_ns(), end = deadline_ns();

	do {
		for (size_t i = 0; i < batch; i++) {
			ssize_t n = send(fd, payload, opt.size, MSG_NOSIGNAL);

			if (n != (ssize_t)opt.size) {
				if (n < 0)
					die("send");
				send_all(fd, payload, opt.size - (size_t)n);
			}
		}
		r.count += batch;
	} while (now_ns() < end);
	if (shutdown(fd, SHUT_WR))
		die("shutdown");
	r.ns = now_ns() - start;
	recv_all(fd, &r.server, sizeof(r.server));
	close(fd);
	if (r.server.bytes != r.count * opt.size)
		die_text("stream: the receiver did not get what was sent");
	return r;
}

/* Return: false when a datagram was lost (a timeout), never for TCP. */
static bool exchange(int fd, char *buffer)
{
	if (!opt.udp) {
		send_all(fd, payload, opt.size);
		recv_all(fd, buffer, opt.size);
		return true;
	}
	if (send(fd, payload, opt.size, 0) < 0)
		die("send");
	if (recv(fd, buffer, opt.size, 0) >= 0)
		return true;
	if (!would_block())
		die("recv");
	return false;
}

static int rr_open(void)
{
	struct timeval timeout = { .tv_sec = 1 };
	int fd;

	if (!opt.udp)
		return client_open(MODE_RR);
	fd = client_connect();
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)))
		die("SO_RCVTIMEO");
	return fd;
}

static struct result do_rr(void)
{
	static char buffer[SIZE_MAX_LEN];
	struct result r = { 0 };
	int fd = rr_open();
	uint64_t start, end, last;

	for (int i = 0; i < WARMUP_COUNT; i++)
		exchange(fd, buffer);
	memset(histogram, 0, sizeof(histogram));
	start = last = now_ns();
	end = deadline_ns();
	while (last < end) {
		bool ok = exchange(fd, buffer);
		uint64_t now = now_ns();

		if (ok)
			histogram[bucket_of(now - last)]++;
		r.count += ok;
		r.lost += !ok;
		last = now;
	}
	r.ns = last - start;
	if (opt.udp) {
		struct hello bye = hello_of(MODE_END);

		(void)!send(fd, &bye, sizeof(bye), 0);
	}
	close(fd);
	return r;
}

static struct result do_crr(void)
{
	static char buffer[SIZE_MAX_LEN];
	struct result r = { 0 };
	uint64_t start = now_ns(), end = deadline_ns(), last = start;

	memset(histogram, 0, sizeof(histogram));
	while (last < end) {
		int fd = client_open(MODE_CRR);
		uint64_t now;

		recv_all(fd, buffer, opt.size);
		if (recv(fd, buffer, 1, 0) != 0)
			die_text("crr: no end of file after the answer");
		close(fd);
		now = now_ns();
		histogram[bucket_of(now - last)]++;
		r.count++;
		last = now;
	}
	r.ns = last - start;
	return r;
}

/* ---- client: output ---- */

static void print_head(const char *mode)
{
	printf("{\"mode\": \"%s\", \"size\": %zu, ", mode, opt.size);
}

static void print_tail(void)
{
	printf("\"cpu_seconds\": %.3f}\n", (double)cpu_ns() / (double)NS_PER_S);
	fflush(stdout);
}

static int run_stream(void)
{
	struct result r = do_stream();

	print_head("TCP_STREAM");
	printf("\"seconds\": %.3f, \"bytes\": %llu, \"bytes_per_second\": %.0f, "
	       "\"sends\": %llu, \"sends_per_second\": %.0f, \"recvs\": %llu, "
	       "\"server_cpu_seconds\": %.3f, ",
	       (double)r.server.ns / (double)NS_PER_S,
	       (unsigned long long)r.server.bytes,
	       per_second(r.server.bytes, r.server.ns),
	       (unsigned long long)r.count, per_second(r.count, r.ns),
	       (unsigned long long)r.server.recv_count,
	       (double)r.server.cpu_ns / (double)NS_PER_S);
	print_tail();
	return 0;
}

static int print_transactions(const char *mode, struct result r)
{
	print_head(mode);
	printf("\"seconds\": %.3f, \"transactions\": %llu, "
	       "\"transactions_per_second\": %.1f, \"mean_us\": %.3f, "
	       "\"p50_us\": %.3f, \"p99_us\": %.3f, \"lost\": %llu, ",
	       (double)r.ns / (double)NS_PER_S, (unsigned long long)r.count,
	       per_second(r.count, r.ns),
	       r.count ? (double)r.ns / 1000 / (double)r.count : 0,
	       percentile_us(r.count, 0.5), percentile_us(r.count, 0.99),
	       (unsigned long long)r.lost);
	print_tail();
	return 0;
}

static int run_rr(void)
{
	return print_transactions(opt.udp ? "UDP_RR" : "TCP_RR", do_rr());
}

static int run_crr(void)
{
	return print_transactions("TCP_CRR", do_crr());
}

/* ---- client: idle connections beside a busy one ---- */

/* With --step a caller can look at memory here; it answers with one line. */
static void phase(const char *name)
{
	char line[16];

	if (!opt.step)
		return;
	printf("phase %s\n", name);
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		die_text("--step: end of input");
}

static double busy_rate(void)
{
	struct result r = opt.busy_stream ? do_stream() : do_rr();

	if (opt.busy_stream)
		return per_second(r.server.bytes, r.server.ns);
	return per_second(r.count, r.ns);
}

static void idle_open(int *fds)
{
	struct hello hello = hello_of(MODE_RR);
	char answer[1];

	hello.size = sizeof(answer);
	for (unsigned int i = 0; i < opt.connections; i++) {
		fds[i] = client_connect();
		if (!opt.exchange)
			continue;
		send_all(fds[i], &hello, sizeof(hello));
		send_all(fds[i], payload, sizeof(answer));
		recv_all(fds[i], answer, sizeof(answer));
	}
}

static int run_idle(void)
{
	int *fds = calloc(opt.connections, sizeof(*fds));
	double before, with, after, without;

	if (!fds)
		die("calloc");
	before = busy_rate();
	phase("before");
	idle_open(fds);
	phase("opened");
	with = busy_rate();
	phase("with");
	for (unsigned int i = 0; i < opt.connections; i++)
		close(fds[i]);
	phase("closed");
	after = busy_rate();
	without = (before + after) / 2;
	free(fds);
	print_head("IDLE");
	printf("\"busy\": \"%s\", \"connections\": %u, \"before\": %.1f, "
	       "\"with\": %.1f, \"after\": %.1f, \"ratio\": %.4f, ",
	       opt.busy_stream ? "TCP_STREAM" : "TCP_RR", opt.connections,
	       before, with, after, without > 0 ? with / without : 0);
	print_tail();
	return 0;
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
	case '4': opt.udp = false; break;
	case 'u': opt.udp = true; break;
	case '1': opt.once = true; break;
	case 'e': opt.epoll = true; break;
	case 'n': opt.nodelay = true; break;
	case 'x': opt.exchange = true; break;
	case 'w': opt.step = true; break;
	default: usage();
	}
}

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (c) {
		case 'h': opt.host = optarg; break;
		case 'p': opt.port = optarg; break;
		case 's': opt.size = (size_t)number(optarg, 1, SIZE_MAX_LEN); break;
		case 't': opt.seconds = number(optarg, 0, 3600); break;
		case 'c': opt.connections = (unsigned int)number(optarg, 0, 1e6); break;
		case 'T': opt.threads = (unsigned int)number(optarg, 1, 4096); break;
		case 'l': opt.limit = (unsigned int)number(optarg, 1, 86400); break;
		case 'S': opt.sndbuf = (int)number(optarg, 0, 1 << 30); break;
		case 'R': opt.rcvbuf = (int)number(optarg, 0, 1 << 30); break;
		case 'C': opt.congestion = optarg; break;
		case 'b': opt.busy_stream = !strcmp(optarg, "stream"); break;
		default: parse_flag(c);
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
		{ "server", run_server }, { "stream", run_stream },
		{ "rr", run_rr }, { "crr", run_crr }, { "idle", run_idle },
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
