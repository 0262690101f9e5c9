/* SPDX-License-Identifier: MIT */
/* Sockets in an io_uring of the program, which no library sees: one operation at a time. */
#ifndef CALLS_RING_H
#define CALLS_RING_H

#include <liburing.h>
#include <stdbool.h>

extern struct io_uring ring;

/* Makes it; false, and says so, where the kernel has none. */
bool ring_works(void);
/* What the operation that was prepared gave. */
int ring_wait(void);

#endif
