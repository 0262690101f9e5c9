/* SPDX-License-Identifier: MIT */
/*
 * CANAL_LOG=debug: each call that libcanal stands in front of, in a line.
 *
 *	[1234 1234] connect(5, 10.0.0.7:80) = -1 EINPROGRESS [canal]
 *
 * Purpose: an exported function begins with TRACED(), which costs a compare and
 * a branch where nothing is traced. Where it is, trace_NAME() (trace_calls.c)
 * takes the call, makes it again past TRACED(), and writes the line.
 *
 * Ownership and threads: trace_on is stored once, before the program runs. The
 * rest is the thread's own. A signal handler between the raising of trace_skip
 * and TRACED() makes its first call untraced, and the interrupted one traced
 * twice; nothing worse.
 */
#ifndef CANAL_GUEST_TRACE_H
#define CANAL_GUEST_TRACE_H

#include <stdbool.h>
#include <stddef.h>

#include "lock.h"
#include "real.h"

extern bool trace_on __attribute__((visibility("hidden")));
/* The next call of this thread is the one that is being traced. */
extern __thread bool trace_skip __attribute__((tls_model("initial-exec"), visibility("hidden")));
/* What is to be said of the call besides where it went. */
extern __thread const char *trace_said
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

#define TRACED(name, ...)                                         \
	do {                                                      \
		if (unlikely(trace_on)) {                         \
			if (!trace_skip)                          \
				return trace_##name(__VA_ARGS__); \
			trace_skip = false;                       \
		}                                                 \
	} while (0)

static inline void trace_note(const char *text)
{
	if (unlikely(trace_on))
		trace_said = text;
}

/* --- a line (trace.c) ---------------------------------------------------- */

#define TRACE_LINE 1024

struct trace {
	char line[TRACE_LINE];
	size_t len;
	const char *path; /* where it goes: "canal", "kernel", ... */
	int fd;           /* the descriptor that it is about; -1 */
	int saved_errno;
	bool quiet; /* none of our business: no line */
	bool makes; /* the result is a descriptor, and says where it went */
	bool names; /* a name: who answers is said by who does */
};

void trace_char(struct trace *t, char c);
void trace_text(struct trace *t, const char *text);
void trace_number(struct trace *t, long number);
void trace_hex(struct trace *t, unsigned long number);
/* Reads the program's memory, wherever that is: false for a bad pointer. */
bool trace_peek(void *to, const void *from, size_t len);
/* A string of the program's, quoted. */
void trace_string(struct trace *t, const char *from);

/* Before the call; @fd: what it is about, or -1. */
void trace_begin(struct trace *t, int fd);
/* Behind it: writes the line, @how says how the result reads. */
enum trace_result { TRACE_INT, TRACE_EAI, TRACE_POINTER, TRACE_VOID };
void trace_end(struct trace *t, const char *name, const char *kinds, const long *args,
	       enum trace_result how, long ret);

/* --- arguments (trace_args.c) --------------------------------------------- */

/* Adds the arguments, by a letter for each: see there. */
void trace_args(struct trace *t, const char *kinds, const long *args, long ret);

/* --- names of constants (trace_names.c) ----------------------------------- */

struct trace_name {
	long number;
	const char *text;
};

extern const struct trace_name trace_domains[], trace_types[], trace_levels[],
	trace_socket_options[], trace_tcp_options[], trace_ip_options[], trace_ipv6_options[],
	trace_udp_options[], trace_msg_flags[], trace_hows[], trace_fcntls[], trace_ioctls[],
	trace_epoll_ops[], trace_epoll_events[], trace_poll_events[], trace_ai_flags[],
	trace_eais[];

/* The name of one of them, or the number. */
void trace_named(struct trace *t, const struct trace_name *names, long number);
/* Those of its bits, and what is left over. */
void trace_flags(struct trace *t, const struct trace_name *names, unsigned long flags);

/* --- the calls (trace_calls.c) --------------------------------------------- */

#define RAW(type, name, params, args) type trace_##name params;
#define CALL(type, name, params, args, missing) type trace_##name params;
#include "intercept.def"
void trace_closefrom(int low);
pid_t trace_vfork(void);
/* trace_exec.c */
void trace_ring_by_number(long ret, unsigned int entries);

#endif
