/* SPDX-License-Identifier: MIT */
/* sockbench as a server: threads, epoll or UDP. See sockbench.c. */
#include "sockbench.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* ---- server: one connection as a small state machine ---- */

enum step {
	STEP_MORE,    /* wants to be called again when readable */
	STEP_BLOCKED, /* wants to be called again when writable */
	STEP_DONE,    /* close it */
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

bool would_block(void)
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
	ssize_t n =
		recv(c->fd, (char *)&c->hello + c->hello_len, sizeof(c->hello) - c->hello_len, 0);

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
	ssize_t n = recvfrom(fd, buffer, BUFFER_LEN, 0, (struct sockaddr *)&from, &from_len);

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

int run_server(void)
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
