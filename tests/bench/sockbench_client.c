/* SPDX-License-Identifier: MIT */
/* sockbench as a client: the measurements. See sockbench.c. */
#include "sockbench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- client: latency histogram ---- */

#define SUB_BITS 6
#define SUB_COUNT (1u << SUB_BITS)

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
	uint64_t count; /* sends, or round trips */
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

int run_stream(void)
{
	struct result r = do_stream();

	print_head("TCP_STREAM");
	printf("\"seconds\": %.3f, \"bytes\": %llu, \"bytes_per_second\": %.0f, "
	       "\"sends\": %llu, \"sends_per_second\": %.0f, \"recvs\": %llu, "
	       "\"server_cpu_seconds\": %.3f, ",
	       (double)r.server.ns / (double)NS_PER_S, (unsigned long long)r.server.bytes,
	       per_second(r.server.bytes, r.server.ns), (unsigned long long)r.count,
	       per_second(r.count, r.ns), (unsigned long long)r.server.recv_count,
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
	       per_second(r.count, r.ns), r.count ? (double)r.ns / 1000 / (double)r.count : 0,
	       percentile_us(r.count, 0.5), percentile_us(r.count, 0.99),
	       (unsigned long long)r.lost);
	print_tail();
	return 0;
}

int run_rr(void)
{
	return print_transactions(opt.udp ? "UDP_RR" : "TCP_RR", do_rr());
}

int run_crr(void)
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

int run_idle(void)
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
	       opt.busy_stream ? "TCP_STREAM" : "TCP_RR", opt.connections, before, with, after,
	       without > 0 ? with / without : 0);
	print_tail();
	return 0;
}
