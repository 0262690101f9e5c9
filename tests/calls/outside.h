/* SPDX-License-Identifier: MIT */
/*
 * What missed.c, started.c and given.c share: sockets in the hands of others. A few bytes
 * in each direction tell whether they still work, helper.c is the program that gets them,
 * and a descriptor goes over a UNIX socket.
 */
#ifndef CALLS_OUTSIDE_H
#define CALLS_OUTSIDE_H

#include <stdbool.h>

/* Receives as many bytes as @text has, and tells whether they are the same. */
void expect(int fd, const char *text);
void put(int fd, const char *text);
/* Tells what recv() gives: 0 at the end. */
void expect_end(int fd);

/* helper.c beside this program: statically linked or not. */
const char *helper(bool is_static);

void send_fd(int to, int fd);
int receive_fd(int from);

#endif
