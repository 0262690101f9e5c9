/* SPDX-License-Identifier: MIT */
/* Bytes over a stream: every call that moves them, flags, amounts, back-pressure. */
#include "calls.h"

#include <sys/mman.h>
#include <sys/sendfile.h>

/* --- every call -------------------------------------------------------- */

static struct msghdr message(struct iovec *iov, int count)
{
	return (struct msghdr){ .msg_iov = iov, .msg_iovlen = count };
}

static void show(int fd, size_t len)
{
	char data[64] = "";

	recv_all(fd, data, len);
	say("arrived: %s", data);
}

static void send_calls(void)
{
	struct iovec iov[] = { { "ab", 2 }, { NULL, 0 }, { "cde", 3 }, { "f", 1 } };
	struct msghdr m = message(iov, COUNT(iov));
	struct mmsghdr mm[] = { { .msg_hdr = message(iov, 1) }, { .msg_hdr = m } };
	static struct iovec many[1025];
	struct name name = loopback(1);
	int fd[2];
	volatile int count = -1; /* for gcc a constant would be an error */

	stream_pair(fd);
	TELL(write(fd[0], "write", 5));
	show(fd[1], 5);
	TELL(send(fd[0], "send", 4, 0));
	show(fd[1], 4);
	TELL(sendto(fd[0], "sendto", 6, 0, NULL, 0));
	show(fd[1], 6);
	TELL(writev(fd[0], iov, COUNT(iov)));
	show(fd[1], 6);
	TELL(sendmsg(fd[0], &m, 0));
	show(fd[1], 6);
	TELL(sendmmsg(fd[0], mm, 2, 0));
	say("lengths %u %u", mm[0].msg_len, mm[1].msg_len);
	show(fd[1], 8);
	TELL(pwritev2(fd[0], iov, COUNT(iov), -1, 0));
	show(fd[1], 6);
	TELL(write(fd[0], "", 0));
	TELL(send(fd[0], "", 0, 0));
	TELL(writev(fd[0], iov, 0));
	TELL(writev(fd[0], many, count));
	TELL(writev(fd[0], many, COUNT(many)));
	TELL(pwrite(fd[0], "x", 1, 0));
	TELL(sendmmsg(fd[0], mm, 0, 0));
	TELL(sendto(fd[0], "named", 5, 0, sa(&name), name.len)); /* a stream ignores the name */
	show(fd[1], 5);
	TELL(send(fd[0], "more", 4, MSG_MORE));
	TELL(send(fd[0], "last", 4, MSG_EOR | MSG_CONFIRM));
	show(fd[1], 8);
}

static void recv_calls(void)
{
	char data[64], a[2], b[3], c[64];
	struct iovec iov[] = { { a, 2 }, { NULL, 0 }, { b, 3 }, { c, sizeof(c) } };
	struct msghdr m = message(iov, COUNT(iov));
	struct mmsghdr mm[3] = { { .msg_hdr = message(iov, 1) },
				 { .msg_hdr = message(iov + 2, 1) },
				 { .msg_hdr = message(iov + 3, 1) } };
	struct timespec limit = { .tv_sec = 1 };
	struct name name;
	int fd[2];
	volatile int count = -1;

	stream_pair(fd);
#define ARRIVES(text) (send_all(fd[0], text, strlen(text)), wait_bytes(fd[1], strlen(text)))
	ARRIVES("read");
	TELL(read(fd[1], data, sizeof(data)));
	ARRIVES("recv");
	TELL(recv(fd[1], data, sizeof(data), 0));
	ARRIVES("recvfrom");
	memset(&name, 0x5a, sizeof(name));
	name.len = sizeof(name.ss);
	TELL(recvfrom(fd[1], data, 4, 0, sa(&name), &name.len));
	say("name length %u", name.len);
	TELL(recvfrom(fd[1], data, 9, 0, NULL, NULL));
	ARRIVES("abcdefgh");
	TELL(readv(fd[1], iov, COUNT(iov)));
	say("%.2s %.3s %.3s", a, b, c);
	ARRIVES("ijklmnop");
	m.msg_name = &name.ss;
	m.msg_namelen = sizeof(name.ss);
	m.msg_control = data;
	m.msg_controllen = sizeof(data);
	m.msg_flags = 0x1234;
	TELL(recvmsg(fd[1], &m, 0));
	say("%.2s %.3s %.3s name %u control %zu flags %x", a, b, c, m.msg_namelen,
	    (size_t)m.msg_controllen, m.msg_flags);
	ARRIVES("qrstuvw");
	TELL(recvmmsg(fd[1], mm, 3, MSG_DONTWAIT, NULL));
	say("%.2s %.3s %.2s lengths %u %u %u", a, b, c, mm[0].msg_len, mm[1].msg_len,
	    mm[2].msg_len);
	ARRIVES("xy");
	TELL(recvmmsg(fd[1], mm, 3, MSG_WAITFORONE, NULL));
	TELL(recvmmsg(fd[1], mm, 3, MSG_DONTWAIT, &limit));
	ARRIVES("preadv2");
	TELL(preadv2(fd[1], iov, COUNT(iov), -1, 0));
	TELL(preadv2(fd[1], iov, COUNT(iov), -1, RWF_NOWAIT));
	TELL(pread(fd[1], data, 1, 0));
	TELL(readv(fd[1], iov, count));
	ARRIVES("z");
	TELL(read(fd[1], data, 0));
	TELL(recv(fd[1], data, 0, 0));
	TELL(readv(fd[1], iov, 0));
	TELL(read(fd[1], data, 1));
	set_nonblock(fd[1], true);
	TELL(read(fd[1], data, 0));
	TELL(recv(fd[1], data, 1, MSG_OOB));
	TELL(recv(fd[1], data, 1, MSG_ERRQUEUE));
}

static void wrong_descriptors(void)
{
	struct iovec iov = { "x", 1 };
	struct msghdr m = message(&iov, 1);
	char data[4];
	int fd[2];

	TELL(send(-1, "x", 1, 0));
	TELL(recv(-1, data, 1, 0));
	TELL(send(STDOUT_FILENO, "x", 1, 0));
	TELL(recv(STDOUT_FILENO, data, 1, 0));
	TELL(sendmsg(STDOUT_FILENO, &m, 0));
	TELL(recvmsg(9999, &m, 0));
	stream_pair(fd);
	close(fd[0]);
	TELL(write(fd[0], "x", 1));
	TELL(read(fd[0], data, 1));
	TELL(writev(fd[0], &iov, 1));
	TELL(poll(&(struct pollfd){ .fd = fd[0], .events = POLLIN }, 1, 0));
}

/* --- flags ------------------------------------------------------------- */

static void peek(void)
{
	char data[16] = "";
	int fd[2];

	stream_pair(fd);
	TELL(recv(fd[1], data, 4, MSG_PEEK | MSG_DONTWAIT));
	send_all(fd[0], "peeked", 6);
	TELL(recv(fd[1], data, 4, MSG_PEEK));
	wait_bytes(fd[1], 6);
	TELL(recv(fd[1], data, sizeof(data), MSG_PEEK));
	say("%.6s", data);
	TELL(recv(fd[1], data, 2, 0));
	TELL(recv(fd[1], data, sizeof(data), MSG_PEEK | MSG_DONTWAIT));
	say("%.4s", data);
	send_all(fd[0], "more", 4);
	TELL(recv(fd[1], data, 8, MSG_PEEK | MSG_WAITALL));
	say("%.8s", data);
	TELL(recv(fd[1], data, sizeof(data), 0));
	close(fd[0]);
	TELL(recv(fd[1], data, sizeof(data), MSG_PEEK));
}

static void *send_slowly(void *arg)
{
	int *fd = arg;

	for (int i = 0; i < 5; i++) {
		nap_ms(5);
		send_all(*fd, "0123456789", 10);
	}
	return NULL;
}

static void wait_all(void)
{
	struct timeval limit = { .tv_usec = 50000 };
	char data[128];
	pthread_t thread;
	int fd[2];

	stream_pair(fd);
	pthread_create(&thread, NULL, send_slowly, &fd[0]);
	TELL(recv(fd[1], data, 50, MSG_WAITALL));
	pthread_join(thread, NULL);
	send_all(fd[0], "abc", 3);
	wait_bytes(fd[1], 3);
	TELL(recv(fd[1], data, 50, MSG_WAITALL | MSG_DONTWAIT));
	TELL(setsockopt(fd[1], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
	send_all(fd[0], "abcd", 4);
	wait_bytes(fd[1], 4);
	TELL(recv(fd[1], data, 50, MSG_WAITALL));
	TELL(recv(fd[1], data, 50, MSG_WAITALL));
	send_all(fd[0], "abcde", 5);
	close(fd[0]);
	wait_bytes(fd[1], 5);
	TELL(recv(fd[1], data, 50, MSG_WAITALL));
	TELL(recv(fd[1], data, 50, MSG_WAITALL));
}

static void truncate_flag(void)
{
	char data[16] = "unchanged";
	int fd[2];

	stream_pair(fd);
	send_all(fd[0], "0123456789", 10);
	wait_bytes(fd[1], 10);
	TELL(recv(fd[1], data, 4, MSG_TRUNC)); /* thrown away */
	say("%.9s", data);
	TELL(recv(fd[1], data, sizeof(data), 0));
	say("%.6s", data);
}

static volatile sig_atomic_t pipes;

static void count_pipe(int number)
{
	(void)number;
	pipes++;
}

static void sigpipe(void)
{
	struct iovec iov = { "x", 1 };
	struct msghdr m = message(&iov, 1);
	struct mmsghdr mm = { .msg_hdr = m };
	int fd[2];
	pid_t pid;

	signal(SIGPIPE, count_pipe);
	stream_pair(fd);
	TELL(shutdown(fd[0], SHUT_WR));
	TELL(send(fd[0], "x", 1, MSG_NOSIGNAL));
	say("signals %d", pipes);
	TELL(send(fd[0], "x", 1, 0));
	say("signals %d", pipes);
	TELL(write(fd[0], "x", 1));
	say("signals %d", pipes);
	TELL(writev(fd[0], &iov, 1));
	say("signals %d", pipes);
	TELL(sendmsg(fd[0], &m, 0));
	say("signals %d", pipes);
	TELL(sendmsg(fd[0], &m, MSG_NOSIGNAL));
	TELL(sendmmsg(fd[0], &mm, 1, 0));
	say("signals %d", pipes);
	TELL(write(fd[0], "", 0));
	say("signals %d", pipes);
	signal(SIGPIPE, SIG_IGN);
	TELL(write(fd[0], "x", 1));
	signal(SIGPIPE, SIG_DFL);
	pid = NEED(fork());
	if (!pid) {
		(void)!write(fd[0], "x", 1);
		_exit(1);
	}
	say_child("writer", pid);
}

/* --- amounts ----------------------------------------------------------- */

struct transfer {
	int fd;
	uint64_t len;
	size_t piece;
};

static void *send_pattern(void *arg)
{
	const struct transfer *t = arg;
	uint8_t *data = malloc(t->piece);

	for (uint64_t at = 0; at < t->len; at += t->piece) {
		size_t part = t->len - at < t->piece ? t->len - at : t->piece;

		pattern_fill(data, part, at);
		send_all(t->fd, data, part);
	}
	free(data);
	NEED(shutdown(t->fd, SHUT_WR));
	return NULL;
}

/* Pieces of all sizes around every border there may be. */
static void odd_sizes(void)
{
	static const size_t sizes[] = { 1,      2,      3,      63,      64,     65,
					1000,   1447,   1448,   4095,    4096,   4097,
					16383,  16384,  16385,  32767,   32768,  32769,
					65535,  65536,  65537,  131071,  131073, 262143,
					262144, 262145, 524287, 1048575, 1048576 };
	static uint8_t data[1048576];

	for (size_t i = 0; i < COUNT(sizes); i++) {
		size_t out = sizes[i], in = sizes[COUNT(sizes) - 1 - i];
		struct transfer t = { .piece = out };
		uint64_t at = 0;
		pthread_t thread;
		ssize_t got;
		int fd[2];

		t.len = out * 7 < 1 << 20 ? out * 7 + 1 : 1048577;
		stream_pair(fd);
		t.fd = fd[i % 2];
		pthread_create(&thread, NULL, send_pattern, &t);
		while ((got = NEED(recv(fd[!(i % 2)], data, in, 0)))) {
			if (!pattern_fits(data, got, at))
				say("pieces of %zu: wrong before %llu", out,
				    (unsigned long long)(at + got));
			at += got;
		}
		pthread_join(thread, NULL);
		say("sent by %zu, read by %zu: %llu bytes", out, in, (unsigned long long)at);
		close(fd[0]);
		close(fd[1]);
	}
}

/* Both directions at once, scattered. */
static void both_ways(void)
{
	static uint8_t a[100003], b[77777], c[1];
	struct iovec iov[] = { { a, sizeof(a) }, { b, sizeof(b) }, { c, sizeof(c) } };
	const uint64_t len = 4 << 20;
	struct transfer t[2];
	pthread_t thread[2];
	int fd[2];

	stream_pair(fd);
	for (int i = 0; i < 2; i++) {
		t[i] = (struct transfer){ .fd = fd[i], .len = len, .piece = 50001 + i };
		pthread_create(&thread[i], NULL, send_pattern, &t[i]);
	}
	for (uint64_t at[2] = { 0, 0 }, i = 0; at[0] < len || at[1] < len; i = !i) {
		ssize_t got = at[i] < len ? NEED(readv(fd[i], iov, COUNT(iov))) : 0;
		uint64_t end = at[i] + got;

		for (size_t j = 0; j < COUNT(iov) && at[i] < end; j++) {
			size_t part = end - at[i] < iov[j].iov_len ? end - at[i] : iov[j].iov_len;

			if (!pattern_fits(iov[j].iov_base, part, at[i]))
				say("wrong before %llu", (unsigned long long)(at[i] + part));
			at[i] += part;
		}
	}
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	say("all read");
}

/* --- back-pressure ----------------------------------------------------- */

static void back_pressure(void)
{
	static uint8_t data[65536];
	uint64_t sent = 0, got = 0;
	bool full = false;
	ssize_t part;
	int fd[2];

	stream_pair(fd);
	set_nonblock(fd[0], true);
	for (;;) {
		pattern_fill(data, sizeof(data), sent);
		part = send(fd[0], data, sizeof(data), 0);
		if (part > 0)
			sent += part;
		else if (full)
			break;
		else
			full = !NEED(
				poll(&(struct pollfd){ .fd = fd[0], .events = POLLOUT }, 1, 50));
	}
	TELL(send(fd[0], data, 1, MSG_NOSIGNAL));
	say("more than 100 kB in flight: %s", sent > 100000 ? "yes" : "no");
	say_events("full", events_now(fd[0], POLLIN | POLLOUT));
	while (got < sent) {
		part = NEED(recv(fd[1], data, sizeof(data), 0));
		if (!pattern_fits(data, part, got))
			say("wrong before %llu", (unsigned long long)(got + part));
		got += part;
	}
	say_events("drained", calls_wait(fd[0], POLLOUT));
	TELL(send(fd[0], "x", 1, 0));
	TELL(recv(fd[1], data, 1, 0));
}

static void *drain_later(void *arg)
{
	static uint8_t data[65536];
	int *fd = arg;
	uint64_t at = 0;
	ssize_t got;

	nap_ms(30);
	while ((got = NEED(recv(*fd, data, sizeof(data), 0)))) {
		if (!pattern_fits(data, got, at))
			say("wrong before %llu", (unsigned long long)(at + got));
		at += got;
	}
	return (void *)(uintptr_t)at;
}

/* One blocking call sends all of it, whatever the FIFO holds. */
static void one_large_send(void)
{
	const size_t len = 12 << 20;
	uint8_t *data = malloc(len);
	pthread_t thread;
	void *drained;
	int fd[2];

	pattern_fill(data, len, 0);
	stream_pair(fd);
	pthread_create(&thread, NULL, drain_later, &fd[1]);
	TELL(send(fd[0], data, len, 0));
	TELL(shutdown(fd[0], SHUT_WR));
	pthread_join(thread, &drained);
	say("drained %llu", (unsigned long long)(uintptr_t)drained);
	free(data);
}

/* --- files and pipes --------------------------------------------------- */

static int file_of(size_t len)
{
	int fd = NEED(memfd_create("calls", MFD_CLOEXEC));
	uint8_t *data = malloc(len);

	pattern_fill(data, len, 0);
	NEED(write(fd, data, len));
	NEED(lseek(fd, 0, SEEK_SET));
	free(data);
	return fd;
}

static void expect_pattern(int fd, size_t len, uint64_t at)
{
	uint8_t *data = malloc(len);

	recv_all(fd, data, len);
	say("%zu bytes are %s", len, pattern_fits(data, len, at) ? "right" : "wrong");
	free(data);
}

static void send_file(void)
{
	int file = file_of(100000), fd[2], pipes[2];
	off_t at = 1000;

	stream_pair(fd);
	NEED(pipe(pipes));
	TELL(sendfile(fd[0], file, NULL, 30000));
	expect_pattern(fd[1], 30000, 0);
	TELL(lseek(file, 0, SEEK_CUR));
	TELL(sendfile(fd[0], file, &at, 5000));
	expect_pattern(fd[1], 5000, 1000);
	say("offset %ld", (long)at);
	TELL(lseek(file, 0, SEEK_CUR));
	TELL(sendfile(fd[0], file, NULL, 1 << 20));
	expect_pattern(fd[1], 70000, 30000);
	TELL(sendfile(fd[0], file, NULL, 10));
	at = 200000;
	TELL(sendfile(fd[0], file, &at, 10));
	at = 0;
	TELL(sendfile(fd[0], file, &at, 0));
	TELL(sendfile(fd[0], fd[1], NULL, 10));
	TELL(sendfile(fd[0], -1, NULL, 10));
	shutdown(fd[0], SHUT_WR);
	signal(SIGPIPE, SIG_IGN);
	at = 0;
	TELL(sendfile(fd[0], file, &at, 10));
}

static void *send_whole_file(void *arg)
{
	int *fd = arg, file = file_of(3000001);
	off_t at = 0;

	while (at < 3000001)
		NEED(sendfile(*fd, file, &at, 3000001 - at));
	close(file);
	NEED(shutdown(*fd, SHUT_WR));
	return NULL;
}

static void send_file_large(void)
{
	pthread_t thread;
	int fd[2];
	char byte;

	for (int nonblock = 0; nonblock < 2; nonblock++) {
		stream_pair(fd);
		pthread_create(&thread, NULL, send_whole_file, &fd[0]);
		expect_pattern(fd[1], 3000001, 0);
		TELL(recv(fd[1], &byte, 1, 0));
		pthread_join(thread, NULL);
	}
}

static void splice_calls(void)
{
	int fd[2], pipes[2];
	uint8_t *data = malloc(60000);
	off64_t at = 0;
	char text[16];

	stream_pair(fd);
	NEED(pipe(pipes));
	TELL(write(pipes[1], "from pipe", 9));
	TELL(splice(pipes[0], NULL, fd[0], NULL, 100, 0));
	recv_all(fd[1], text, 9);
	say("%.9s", text);
	send_all(fd[0], "to pipe", 7);
	wait_bytes(fd[1], 7);
	TELL(splice(fd[1], NULL, pipes[1], NULL, 100, 0));
	TELL(read(pipes[0], text, sizeof(text)));
	say("%.7s", text);
	TELL(splice(fd[1], NULL, fd[0], NULL, 100, 0));
	TELL(splice(fd[1], &at, pipes[1], NULL, 100, 0));
	set_nonblock(fd[1], true);
	TELL(splice(fd[1], NULL, pipes[1], NULL, 100, 0));
	TELL(splice(pipes[0], NULL, fd[0], NULL, 100, SPLICE_F_NONBLOCK));
	set_nonblock(fd[1], false);
	/* A stream through a pipe into another one. */
	pattern_fill(data, 60000, 0);
	send_all(fd[0], data, 60000);
	for (size_t done = 0; done < 60000;) {
		ssize_t got = NEED(splice(fd[1], NULL, pipes[1], NULL, 60000 - done,
					  SPLICE_F_MOVE | SPLICE_F_MORE));

		for (ssize_t put = 0; put < got;)
			put += NEED(splice(pipes[0], NULL, fd[1], NULL, got - put, SPLICE_F_MOVE));
		done += got;
	}
	expect_pattern(fd[0], 60000, 0);
	close(fd[0]);
	TELL(splice(fd[1], NULL, pipes[1], NULL, 100, 0));
	free(data);
}

/* --- urgent data is not canal's ------------------------------------------ */

static void at_mark(void)
{
	int fd[2];

	stream_pair(fd);
	TELL(sockatmark(fd[0]));
	send_all(fd[1], "x", 1);
	wait_bytes(fd[0], 1);
	TELL(sockatmark(fd[0]));
	TELL(sockatmark(STDOUT_FILENO));
}

const struct call_case cases[] = {
	{ "send_calls", send_calls },
	{ "recv_calls", recv_calls },
	{ "wrong_descriptors", wrong_descriptors },
	{ "peek", peek },
	{ "wait_all", wait_all },
	{ "truncate_flag", truncate_flag },
	{ "sigpipe", sigpipe },
	{ "odd_sizes", odd_sizes },
	{ "both_ways", both_ways },
	{ "back_pressure", back_pressure },
	{ "one_large_send", one_large_send },
	{ "send_file", send_file },
	{ "send_file_large", send_file_large },
	{ "splice_calls", splice_calls },
	{ "at_mark", at_mark },
};
const size_t case_count = COUNT(cases);
