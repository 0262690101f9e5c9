/* SPDX-License-Identifier: MIT */
/*
 * The cases of tests/conformance: one observation each, with the other end of the
 * connection in a process of its own, the peer.
 *
 * A case commands the peer by lines (peer.c tells which there are): peer() sends
 * one and waits for the answer. Sockets of the peer have numbers, 0 to 63, that
 * the case chooses; all are closed before the next case.
 *
 * A case prints what it saw, as in tests/calls: no ports, descriptors or times.
 */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include "calls.h"

#include <limits.h>

/* The result of a command, errno set when it is -1. */
long peer(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same; the case ends here when it is -1. */
long peer_must(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What came with the last answer: bytes that the peer received. */
extern char peer_text[4096];
/* Prints "peer: COMMAND = result". */
long peer_tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Sends a command without waiting: peer_answer() is to follow. */
void peer_begin(const char *format, ...) __attribute__((format(printf, 1, 2)));
long peer_answer(void);

/* A stream that we connected; its other end is socket @slot of the peer. */
int connected(int slot);
/* The same, connected by the peer, accepted here. */
int accepted(int slot);
/* A datagram socket here, connected to one of the peer's and that to ours. */
int dgram_with(int slot);

/* "127.0.0.1" and the port of a socket of the peer. */
struct name peer_name(int port);

/* Prints "WHAT: n bytes TEXT", or the error. */
void say_bytes(const char *what, long result, const char *data);
/* Prints result or errno of something computed before. */
void say_result(const char *what, long result);
/* epoll events by name, in the order of their bits. */
void say_epoll(const char *what, uint32_t events);
/* Sends until nothing finds room, not in between nor behind; the bytes. */
long fill_up(int fd, const void *block, size_t len);
/* Waits until a thread that sends without end is stuck in that. */
void wait_stuck(int fd);
/* The port of @name, which a socket of the peer had, is free: who is sent to there is nobody. */
void wait_port_free(struct name name, int type);
/* Waits until @fd hears nothing more: the peer's end or reset has arrived. */
void wait_end(int fd);
/* Waits (5 s) until @done says so. */
void wait_for(bool (*done)(void *), void *arg, const char *what);
/* Waits until thread @tid, or the first one of a child, sleeps in the kernel. */
void wait_asleep(pid_t tid);
/* A signal handler that counts, without SA_RESTART unless @flags says so. */
extern volatile sig_atomic_t signals_seen;
void count_signal(int number, int flags);

#endif
