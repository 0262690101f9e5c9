/* SPDX-License-Identifier: MIT */
/*
 * A guest made by hand: attaches like libcanal and then does as it likes.
 *
 *	guest.c		attaching, posting, filling FIFOs
 *	cases*.c	one broken rule at a time, each with the reason that must follow
 *	chains.c	legal requests in orders that no libcanal makes
 *	random.c	scribbling, flipping fields, random requests, kicks
 *	control.c	the control connection and its descriptors
 *	depths.c	requests in the middle of requests
 *	machine*.c	the same as a virtual machine, and its lies: machine.h
 *	stock.c		dummies that canald made, and what is written into them
 *	hostile.c	which of them to run
 *
 * Random numbers come from a seed. Every wait has a limit; a test that cannot
 * go on ends the program with a message.
 */
#ifndef CANAL_TEST_GUEST_H
#define CANAL_TEST_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "local.h"
#include "notify.h"
#include "order.h"
#include "ring.h"
#include "wire.h"

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define FDS_MAX 4096
/* Guards against hangs, nothing else: how long canald may take to do what it must. */
#define LONGEST_MS 60000

struct machine; /* machine.h */

struct guest {
	struct machine *machine; /* whose channel @number it is; NULL: a process */
	uint32_t number;
	int conn, region_fd, kick;
	uint8_t *base;
	uint64_t len;
	struct canal_region *region;
	struct canal_region shape; /* as it was: the copy in the region is scribbled over */
	struct canal_inr *inr;
	struct canal_wait *wait;
	struct canal_call *call;
	struct canal_set *set;
	struct canal_sub *sub;
	uint64_t channel_id, token;
	uint32_t client;
	uint32_t chunks;  /* TX chunks used */
	int fds[FDS_MAX]; /* near ends and pipes, closed with the guest */
	unsigned int fd_count;
};

extern const char *socket_path;
extern char *only;           /* the case to run; NULL: all */
extern uint16_t victim_port; /* network order; 0: there is none */

__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *fmt, ...);

/* xorshift64*, never the same number twice in a row. */
uint64_t random_next(uint64_t *state);
static inline uint32_t random_below(uint64_t *state, uint32_t limit)
{
	return (uint32_t)((random_next(state) >> 32) % limit);
}

uint64_t now_ms(void);
void nap_us(unsigned int us);

/* --- attaching --- */

/* Connected to canald, as a process is or with a socket of another type. */
int conn_open(void);
int conn_dial(int type);
/* Sends what it is given, with descriptors; 0 or -errno. */
int conn_send(int conn, const void *packet, size_t len, const int *fds, unsigned int fd_count);
/* One message, and what descriptors came with it; its length, 0 at the end, or -errno. */
ssize_t conn_receive(int conn, void *packet, size_t len, int fds[CANAL_LOCAL_FDS],
		     unsigned int *ret_count);
/* WELCOME or REFUSED; 0 or -errno (-ECONNRESET: closed without answer). */
int conn_answer(int conn, struct canal_local *packet, int fds[2]);
struct canal_local packet_of(uint16_t type);

/* Finds the tables of a region that is mapped. */
void guest_place(struct guest *g);
void guest_open(struct guest *g);
void guest_close(struct guest *g);
/* Another process of the channel: its own connection and client number. */
int guest_join(struct guest *g);
/* Has canald closed the channel? */
bool guest_closed(const struct guest *g);
void guest_wait_closed(const struct guest *g, unsigned int ms);
void guest_keep(struct guest *g, int fd);

/* --- asking --- */

void guest_kick(const struct guest *g);
/* False when the ring is full. */
bool guest_post(struct guest *g, uint8_t op, uint32_t sock, uint32_t slot, const void *args,
		size_t len);
/* Posts and waits for the answer in @slot; INT32_MIN: the channel was closed. */
int32_t guest_call(struct guest *g, uint8_t op, uint32_t sock, uint32_t slot, const void *args,
		   size_t len);
#define post(g, op, sock, ...) guest_post(g, op, sock, CANAL_NONE, (uint32_t[6]){ __VA_ARGS__ }, 24)
#define ask(g, op, sock, ...) guest_call(g, op, sock, 1, (uint32_t[6]){ __VA_ARGS__ }, 24)
/* Everything before was served. */
void guest_sync(struct guest *g);

/* --- sockets --- */

struct canal_sock *guest_sock(const struct guest *g, uint32_t n);
uint32_t guest_number(struct guest *g);
/* The same where a rule may have been broken: CANAL_NONE when the channel was closed. */
uint32_t guest_number_or_none(struct guest *g);
/* The near end of a dummy whose far end canald got; and its end. */
int guest_near(struct guest *g, uint32_t n, uint32_t generation);
void guest_near_close(struct guest *g, int fd, uint32_t n, uint32_t generation);
void guest_dummy(struct guest *g, uint32_t n);
/* A bell for that wait slot's use. */
void guest_waiter(struct guest *g, uint32_t slot);
/* A number, INR_SOCKET and a dummy. */
uint32_t guest_socket(struct guest *g, int domain, int type);
struct canal_addr loopback(uint16_t port);
int32_t guest_name(struct guest *g, uint8_t op, uint32_t n, struct canal_addr to);
/* Waits until a connect() is over: 0 or a positive errno. */
int guest_connect(struct guest *g, uint32_t n, struct canal_addr to);
/* A listener on a port of its own. */
uint32_t guest_listener(struct guest *g, int backlog);
/* The next accepted socket; CANAL_NONE when there is none after a while. */
uint32_t guest_accept(struct guest *g, uint32_t listener);
/* Puts bytes into TX as the rules want it. */
void guest_put(struct guest *g, uint32_t n, const void *bytes, uint32_t len);
void guest_put_dgram(struct guest *g, uint32_t n, struct canal_dgram record, const void *bytes);
/* Waits until canald has taken all of TX: an answer says nothing of bytes that were put before it was asked for. */
void guest_wait_taken(struct guest *g, uint32_t n);
void guest_pair(struct guest *g, uint32_t listener, uint32_t *ret_a, uint32_t *ret_b);

/* --- the parts --- */

void run_cases(uint64_t seed);
void run_stalled(uint64_t seed);
void run_chains(uint64_t seed);
void run_scribble(uint64_t seed);
void run_flip(uint64_t seed);
void run_requests(uint64_t seed);
void run_storm(uint64_t seed);
void run_control(uint64_t seed);
void run_flood(uint64_t seed);
void run_deaths(uint64_t seed);
void run_lies(uint64_t seed);
void run_bells(uint64_t seed);
void run_mailbox(uint64_t seed);
void run_vanish(uint64_t seed);
void run_steal(uint64_t seed);
void run_kept(uint64_t seed);
void run_refs(uint64_t seed);
void run_honest(uint64_t seed);
void run_stock(uint64_t seed);
void run_depths(uint64_t seed);

#endif
