/* SPDX-License-Identifier: MIT */
/*
 * Messages: one line each, to standard error.
 *
 * Purpose: say things once, in a form that fits where they go. The journal is
 * told the priority (sd-daemon.h); a terminal or a file gets plain text. What
 * a guest can trigger goes through host_log_limited().
 *
 * Ownership and threads: any thread. A line is one write().
 *
 * Failure: a line that cannot be written is lost.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "host.h"

#define LIMITED_PER_S 10
#define BUDGETS 128

/* True when standard error is the journal: it says so by device and inode. */
static bool log_to_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

static void log_write(int priority, const char *fmt, va_list args)
{
	static int journal = -1;
	char line[1024];
	int head, len;

	if (journal < 0)
		journal = log_to_journal();
	head = journal ? snprintf(line, sizeof(line), "<%d>", priority)
		       : snprintf(line, sizeof(line), "canald: ");
	len = vsnprintf(line + head, sizeof(line) - (size_t)head - 1, fmt, args);
	if (len < 0)
		return;
	len += head;
	if ((size_t)len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len++] = '\n';
	(void)!write(STDERR_FILENO, line, (size_t)len);
}

void host_log(int priority, const char *fmt, ...)
{
	va_list args;

	if (priority > settings.log_level)
		return;
	va_start(args, fmt);
	log_write(priority, fmt, args);
	va_end(args);
}

static struct budget {
	unsigned int count, missed;
	time_t second;
} budgets[BUDGETS];

/*
 * One guest's lines never take the place of another's; two may share by chance. What a
 * name says is the guest's choice, and may be another's: where it lies is not.
 */
static struct budget *budget_of(const char *guest)
{
	uint64_t hash = (uintptr_t)guest * 0x9e3779b97f4a7c15ull;

	return &budgets[guest ? 1 + (hash >> 32) % (BUDGETS - 1) : 0];
}

/* Counts a limited line. True: it may go out; @ret_missed others did not. */
static bool log_allowed(struct budget *b, unsigned int *ret_missed)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct timespec now;
	bool allowed;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	pthread_mutex_lock(&lock);
	*ret_missed = 0;
	if (now.tv_sec != b->second) {
		b->second = now.tv_sec;
		*ret_missed = b->missed;
		b->count = b->missed = 0;
	}
	allowed = b->count < LIMITED_PER_S;
	if (allowed)
		b->count++;
	else
		b->missed++;
	pthread_mutex_unlock(&lock);
	return allowed;
}

void host_log_limited(const char *guest, int priority, const char *fmt, ...)
{
	unsigned int missed;
	va_list args;

	if (priority > settings.log_level || !log_allowed(budget_of(guest), &missed))
		return;
	if (missed)
		host_log(priority, "guest=%s: %u more messages were suppressed",
			 guest ? guest : "?", missed);
	va_start(args, fmt);
	log_write(priority, fmt, args);
	va_end(args);
}
