/* SPDX-License-Identifier: MIT */
/*
 * What libcanal says: CANAL_LOG=LEVEL[:FILE].
 */
#ifndef CANAL_GUEST_LOG_H
#define CANAL_GUEST_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level {
	LEVEL_QUIET = 0, /* nothing */
	LEVEL_WARN,      /* what the user can do something about */
	LEVEL_INFO,      /* also what went to the kernel, and why */
	LEVEL_DEBUG,     /* also each call: trace.h */
};
extern enum log_level log_level;

/* Reads the environment's @text; NULL: the default. */
void log_init(const char *text);

/* One line in one write; @line has room for one more byte. */
void log_line(char *line, size_t len);

void guest_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same from LEVEL_INFO on. */
void guest_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
