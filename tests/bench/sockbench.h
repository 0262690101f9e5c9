/* SPDX-License-Identifier: MIT */
/* What the files of sockbench share: see sockbench.c. */
#ifndef SOCKBENCH_H
#define SOCKBENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUFFER_LEN (128 * 1024)
#define SIZE_MAX_LEN (16 * 1024 * 1024)
#define MAGIC 0x62636f73u
#define NS_PER_S 1000000000ull
#define WARMUP_COUNT 100
#define EVENT_COUNT 64

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

extern struct options opt;
/* What is sent; the contents do not matter. */
extern char payload[SIZE_MAX_LEN];

/* sockbench.c */
_Noreturn void die(const char *what);
_Noreturn void die_text(const char *what);
uint64_t now_ns(void);
uint64_t cpu_ns(void);
size_t min_size(size_t a, size_t b);
double per_second(uint64_t count, uint64_t ns);
void set_int(int fd, int level, int name, int value, const char *what);
void apply_buffers(int fd, int sndbuf, int rcvbuf);
void apply_tcp(int fd, bool nodelay, const char *congestion);
void apply_options(int fd);
struct addrinfo *address(void);
int socket_of(const struct addrinfo *info, int flags);
int client_connect(void);
void send_all(int fd, const void *data, size_t len);
void recv_all(int fd, void *data, size_t len);
struct hello hello_of(enum mode mode);
int client_open(enum mode mode);

/* sockbench_server.c */
bool would_block(void);
int run_server(void);

/* sockbench_client.c */
int run_stream(void);
int run_rr(void);
int run_crr(void);
int run_idle(void);

#endif
