/* SPDX-License-Identifier: MIT */
/*
 * What libcanal tells its user: lines on stderr, and few of them.
 *
 * Purpose: one line "libcanal: ..." per thing that the user can do something
 * about. CANAL_LOG=quiet says nothing, CANAL_LOG=debug also tells what went
 * to the kernel.
 *
 * Invariants: no allocation, no lock, no stdio; never into a canal socket, which
 * stderr may be when a server was started by inetd.
 *
 * Failure: what cannot be written is lost.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "guest.h"
#include "internal.h"

#define LOG_LINE 512

static bool log_quiet;
bool log_debug;

void log_init(const char *level)
{
	log_quiet = level && strcmp(level, "quiet") == 0;
	log_debug = level && strcmp(level, "debug") == 0;
}

void guest_log(const char *fmt, ...)
{
	char line[LOG_LINE] = "libcanal: ";
	const int prefix = sizeof("libcanal: ") - 1;
	int saved_errno = errno;
	va_list args;
	int len;

	if (log_quiet || fd_lookup(STDERR_FILENO))
		return;
	va_start(args, fmt);
	len = vsnprintf(line + prefix, sizeof(line) - prefix - 1, fmt, args);
	va_end(args);
	if (len < 0)
		len = 0;
	if (len > (int)sizeof(line) - prefix - 2)
		len = sizeof(line) - prefix - 2;
	line[prefix + len] = '\n';
	if (real(write)(STDERR_FILENO, line, prefix + len + 1) < 0)
		errno = saved_errno;
	errno = saved_errno;
}
