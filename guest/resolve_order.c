/* SPDX-License-Identifier: MIT */
/*
 * Names: who is asked, and in which order.
 *
 * Purpose: the line "hosts:" of the guest's /etc/nsswitch.conf says whether its
 * own /etc/hosts counts, and whether anybody else does. libc reads the files as
 * ever (it is told to, by __nss_configure_lookup(), and to do nothing else);
 * canald takes the place of dns, mdns, resolve and whatever else asks others.
 *
 * Invariants
 *  1. Only a program that was started under canal and has a canald is told so:
 *     its lookups go one way, never partly past canald.
 *  2. When canald goes and CANAL_FALLBACK allows the kernel's sockets, libc gets
 *     the whole line back.
 *
 * Ownership and threads: any thread; the change is made under a lock, and made
 * twice at most in a process's life.
 *
 * Failure: a file that is not there or says nothing is "files dns".
 */
#include <nss.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "resolve.h"
#include "trace.h"

#define NSSWITCH "/etc/nsswitch.conf"
#define LINE_DEFAULT "files dns"
#define LINE_MAX_LEN 512

static struct {
	pthread_mutex_t lock;
	bool read;
	bool narrowed; /* libc looks at the files alone */
	char whole[LINE_MAX_LEN], local[LINE_MAX_LEN];
	struct names_order order;
} names = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- nsswitch.conf ---------------------------------------------------------- */

/* Services that look at nothing but this machine. */
static bool is_local(const char *service)
{
	return strcmp(service, "files") == 0 || strcmp(service, "myhostname") == 0 ||
	       strcmp(service, "compat") == 0 || strcmp(service, "db") == 0;
}

static void line_take(const char *text)
{
	size_t len = strcspn(text, "\n"); /* as glibc: a comment is a line of its own */

	if (len < sizeof(names.whole) && strspn(text, " \t") < len)
		snprintf(names.whole, sizeof(names.whole), "%.*s", (int)len, text);
}

static void file_read(void)
{
	FILE *f = fopen(NSSWITCH, "re");
	char *line = NULL, *text;
	size_t room = 0;

	while (f && getline(&line, &room, f) > 0) {
		text = line + strspn(line, " \t");
		if (strncmp(text, "hosts:", 6) == 0)
			line_take(text + 6);
	}
	free(line);
	if (f)
		fclose(f);
}

static void local_add(const char *word)
{
	size_t len = strlen(names.local);

	snprintf(names.local + len, sizeof(names.local) - len, "%s%s", len ? " " : "", word);
}

/* "files mdns4_minimal [NOTFOUND=return] dns": which come when. */
static void order_make(void)
{
	struct names_order *order = &names.order;
	char line[LINE_MAX_LEN], *rest = line, *word;
	bool stopped = false;

	memcpy(line, names.whole, sizeof(line));
	while (!stopped && (word = strsep(&rest, " \t"))) {
		if (!word[0])
			continue;
		if (word[0] == '[') /* of canald's services each is the last anyhow */
			stopped = order->files && !order->ask &&
				  strcasestr(word, "NOTFOUND=return");
		else if (!is_local(word))
			order->ask = true;
		else
			local_add(word);
		if (strcmp(word, "files") == 0 || strcmp(word, "compat") == 0) {
			order->files = true;
			order->files_first = !order->ask;
		}
	}
	order->ours = true;
}

/* Under the lock. */
static void order_read(void)
{
	if (names.read)
		return;
	strcpy(names.whole, LINE_DEFAULT);
	file_read();
	order_make();
	names.read = true;
}

void order_after_fork(void)
{
	/* another thread of the parent may have had it */
	names.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

/* --- libc --------------------------------------------------------------------- */

/* Under the lock: libc looks at the files alone, or does everything. */
static void libc_set(bool narrow)
{
	int saved_errno = errno;

	if (names.narrowed == narrow)
		return;
	if (__nss_configure_lookup("hosts", narrow ? names.local[0] ? names.local : "files"
						   : names.whole) == 0)
		canal_write_once(&names.narrowed, narrow);
	errno = saved_errno;
}

struct names_order names_order(void)
{
	struct names_order order = { .ours = false };
	struct channel *ch;
	int error, cancel;

	if (!libcanal_preloaded)
		return order;
	/* A thread that ended at one of these files would keep the lock. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	error = -channel_get(&ch);
	if (!error && channel_gone(ch))
		error = EPIPE;
	pthread_mutex_lock(&names.lock);
	if (!error || !fallback_ok() || names.narrowed)
		order_read();
	if (error && fallback_ok()) {
		if (names.narrowed)
			libc_set(false);
	} else {
		libc_set(true);
		order = names.order;
		order.error = error;
		order.apart = !error && ch->apart;
	}
	pthread_mutex_unlock(&names.lock);
	pthread_setcancelstate(cancel, &cancel);
	return order;
}

void names_answered(const char *who)
{
	trace_note(who);
}
