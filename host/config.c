/* SPDX-License-Identifier: MIT */
/*
 * Settings: from the configuration file and from the command line.
 *
 * Purpose: one table of keys, with their meaning and what they expect, serves
 * both. The file is an INI file; each section has a table of keys of its own.
 *
 * Invariants
 *  1. Every fault of a file is reported, as FILE:LINE: what was expected.
 *  2. A file with a fault changes nothing.
 *
 * Ownership and threads: the main thread, before any other runs.
 *
 * Failure: -EINVAL for a file with faults, -errno for one that cannot be read.
 */
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "host.h"

struct settings settings = {
	.cpus = { [0 ... SETTINGS_POLLERS - 1] = -1 },
	.pollers = 1,
	.log_level = LOG_INFO,
	.max_sockets = CHANNEL_SOCKS_MAX,
	.max_channels = 1024,
	.spin_looks = SPIN_LOOKS_AUTO,
	.guest_fallback = true,
	.join = true,
};

/* --- values ------------------------------------------------------------ */

/* Each returns 0 or -EINVAL. */
typedef int (*set_fn)(struct settings *s, const char *value);

static int number_parse(const char *value, unsigned long min, unsigned long max,
			unsigned long *ret_number)
{
	unsigned long number;
	char *end;

	errno = 0;
	number = strtoul(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end || errno || number < min || number > max)
		return -EINVAL;
	*ret_number = number;
	return 0;
}

static int u32_parse(const char *value, uint32_t min, uint32_t max, uint32_t *ret_number)
{
	unsigned long number;

	if (number_parse(value, min, max, &number))
		return -EINVAL;
	*ret_number = (uint32_t)number;
	return 0;
}

static int bool_parse(const char *value, bool *ret_bool)
{
	static const char *const words[] = { "no", "yes", "false", "true", "off", "on", "0", "1" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(value, words[i]) == 0) {
			*ret_bool = i % 2;
			return 0;
		}
	}
	return -EINVAL;
}

static int set_socket(struct settings *s, const char *value)
{
	if (!value[0] || strlen(value) >= sizeof(s->socket_path))
		return -EINVAL;
	strcpy(s->socket_path, value);
	return 0;
}

static int set_engine(struct settings *s, const char *value)
{
	if (strcmp(value, "io_uring") == 0)
		s->engine = &engine_uring;
	else if (strcmp(value, "epoll") == 0)
		s->engine = &engine_epoll;
	else if (strcmp(value, "auto") == 0)
		s->engine = NULL;
	else
		return -EINVAL;
	return 0;
}

const char *const poll_mode_name[3] = {
	[POLL_ADAPTIVE] = "adaptive",
	[POLL_ALWAYS] = "always",
	[POLL_NEVER] = "never",
};

static int set_poll(struct settings *s, const char *value)
{
	for (unsigned int i = 0; i < 3; i++) {
		if (strcmp(value, poll_mode_name[i]) == 0) {
			s->poll = (enum poll_mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int set_pollers(struct settings *s, const char *value)
{
	return u32_parse(value, 1, SETTINGS_POLLERS, &s->pollers);
}

/* One "N" or "N-M" of a list of CPUs that this process may run on. */
static int cpus_add(const char *part, const cpu_set_t *allowed, int *cpus, unsigned int *count)
{
	unsigned long first, last;
	char text[32], *dash;

	if (strlen(part) >= sizeof(text))
		return -EINVAL;
	strcpy(text, part);
	dash = strchr(text, '-');
	if (dash)
		*dash = '\0';
	if (number_parse(text, 0, CPU_SETSIZE - 1, &first) ||
	    number_parse(dash ? dash + 1 : text, first, CPU_SETSIZE - 1, &last))
		return -EINVAL;
	for (; first <= last; first++) {
		if (!CPU_ISSET(first, allowed) || *count == SETTINGS_POLLERS)
			return -EINVAL;
		cpus[(*count)++] = (int)first;
	}
	return 0;
}

/* Gives one poller to each CPU; a number of pollers that is set later wins. */
static int set_cpu(struct settings *s, const char *value)
{
	int cpus[SETTINGS_POLLERS], error = 0;
	char *copy = strdup(value), *rest = copy, *part;
	unsigned int count = 0;
	cpu_set_t allowed;

	if (!copy || sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		error = -EINVAL;
	while (!error && (part = strsep(&rest, ",")))
		error = cpus_add(part, &allowed, cpus, &count);
	free(copy);
	if (error)
		return error;
	for (unsigned int i = 0; i < SETTINGS_POLLERS; i++)
		s->cpus[i] = i < count ? cpus[i] : -1;
	s->pollers = count;
	return 0;
}

static int set_max_sockets(struct settings *s, const char *value)
{
	return u32_parse(value, CHANNEL_GRANTS, CHANNEL_SOCKS_MAX, &s->max_sockets);
}

static int set_max_channels(struct settings *s, const char *value)
{
	return u32_parse(value, 1, 1u << 20, &s->max_channels);
}

static int set_spin_looks(struct settings *s, const char *value)
{
	return u32_parse(value, 0, 1000000, &s->spin_looks);
}

static int set_fallback(struct settings *s, const char *value)
{
	if (strcmp(value, "allow") == 0)
		s->guest_fallback = true;
	else if (strcmp(value, "deny") == 0)
		s->guest_fallback = false;
	else
		return -EINVAL;
	return 0;
}

static int set_join(struct settings *s, const char *value)
{
	return bool_parse(value, &s->join);
}

static int set_log_level(struct settings *s, const char *value)
{
	static const char *const levels[] = { "emerg",   "alert",  "crit", "err",
					      "warning", "notice", "info", "debug" };

	for (int i = 0; i < 8; i++) {
		if (strcmp(value, levels[i]) == 0) {
			s->log_level = i;
			return 0;
		}
	}
	return -EINVAL;
}

static int set_idle_exit(struct settings *s, const char *value)
{
	unsigned long seconds;

	if (number_parse(value, 0, INT_MAX / 1000, &seconds))
		return -EINVAL;
	s->idle_exit_s = (int)seconds;
	return 0;
}

/* --- keys -------------------------------------------------------------- */

struct key {
	const char *name;
	const char *expected;
	set_fn set;
};

static const struct key canald_keys[] = {
	{ "socket", "the path of a socket, at most 107 bytes", set_socket },
	{ "engine", "io_uring, epoll or auto", set_engine },
	{ "poll", "always, adaptive or never", set_poll },
	{ "cpu", "CPUs that this process may run on, such as 0,2-3", set_cpu },
	{ "pollers", "a number from 1 to 64", set_pollers },
	{ "max_sockets", "a number from 64 to 32768", set_max_sockets },
	{ "max_channels", "a number from 1 to 1048576", set_max_channels },
	{ "spin_looks", "a number from 0 to 1000000", set_spin_looks },
	{ "fallback", "allow or deny", set_fallback },
	{ "join", "yes or no", set_join },
	{ "log_level", "emerg, alert, crit, err, warning, notice, info or debug", set_log_level },
	{ "idle_exit", "seconds, 0 for never", set_idle_exit },
	{ 0 },
};

/* Sections that a file may have; the name of one may be followed by a word. */
static const struct section {
	const char *name;
	const struct key *keys;
} sections[] = {
	{ "canald", canald_keys },
	{ 0 },
};

static const struct key *key_find(const struct key *keys, const char *name)
{
	for (; keys->name; keys++)
		if (strcmp(keys->name, name) == 0)
			return keys;
	return NULL;
}

static const struct section *section_find(const char *name)
{
	for (const struct section *section = sections; section->name; section++)
		if (strcmp(section->name, name) == 0)
			return section;
	return NULL;
}

/* How many letters must be changed, added or left out (Levenshtein). */
static unsigned int distance(const char *a, const char *b)
{
	unsigned int row[33], width = (unsigned int)strlen(b);

	if (width > 32)
		return UINT_MAX;
	for (unsigned int j = 0; j <= width; j++)
		row[j] = j;
	for (unsigned int i = 0; a[i]; i++) {
		unsigned int corner = row[0]++;

		for (unsigned int j = 0; j < width; j++) {
			unsigned int best = corner + (a[i] != b[j]);

			corner = row[j + 1];
			if (best > row[j] + 1)
				best = row[j] + 1;
			if (best > corner + 1)
				best = corner + 1;
			row[j + 1] = best;
		}
	}
	return row[width];
}

static const char *key_nearest(const struct key *keys, const char *name)
{
	const char *nearest = NULL;
	unsigned int best = UINT_MAX;

	for (; keys->name; keys++) {
		unsigned int d = distance(keys->name, name);

		if (d < best) {
			best = d;
			nearest = keys->name;
		}
	}
	return best <= 3 ? nearest : NULL;
}

static void keys_list(const struct key *keys, char *text, size_t text_len)
{
	size_t len = 0;

	text[0] = '\0';
	for (; keys->name && len < text_len; keys++)
		len += (size_t)snprintf(text + len, text_len - len, "%s%s", len ? ", " : "",
					keys->name);
}

int config_set(struct settings *s, const char *name, const char *value, const char **ret_expected)
{
	const struct key *key = key_find(canald_keys, name);

	if (!key)
		return -ENOENT;
	*ret_expected = key->expected;
	return key->set(s, value);
}

/* --- files ------------------------------------------------------------- */

struct reading {
	const char *path;
	FILE *file;
	FILE *report; /* where faults go; NULL: the log */
	struct settings s;
	unsigned int line, faults;
};

__attribute__((format(printf, 2, 3))) static void fault(struct reading *r, const char *fmt, ...)
{
	char text[640];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	r->faults++;
	if (r->report)
		fprintf(r->report, "%s:%u: %s\n", r->path, r->line, text);
	else
		host_log(LOG_ERR, "%s:%u: %s", r->path, r->line, text);
}

static void fault_key(struct reading *r, const struct section *section, const char *name)
{
	const char *nearest = key_nearest(section->keys, name);
	char known[512];

	keys_list(section->keys, known, sizeof(known));
	if (nearest)
		fault(r, "unknown key '%s' in [%s]: did you mean '%s'? known are %s", name,
		      section->name, nearest, known);
	else
		fault(r, "unknown key '%s' in [%s]: known are %s", name, section->name, known);
}

/* fgets() for inih, which does not tell its handler the line. */
static char *reading_line(char *text, int text_len, void *data)
{
	struct reading *r = data;

	if (!fgets(text, text_len, r->file))
		return NULL;
	r->line++;
	if (!strchr(text, '\n') && !feof(r->file)) {
		int c;

		fault(r, "line longer than %d bytes: split it", text_len - 2);
		while ((c = getc(r->file)) != EOF && c != '\n')
			;
		text[0] = '\0';
	}
	return text;
}

static int reading_key(void *data, const char *section_name, const char *name, const char *value)
{
	const struct section *section = section_find(section_name);
	struct reading *r = data;
	const struct key *key;

	if (!section) {
		fault(r,
		      section_name[0] ? "unknown section [%s] of '%s': expected [canald]"
				      : "no section%s: put [canald] above '%s'",
		      section_name, name);
		return 1;
	}
	key = key_find(section->keys, name);
	if (!key)
		fault_key(r, section, name);
	else if (key->set(&r->s, value))
		fault(r, "%s = %s: expected %s", name, value, key->expected);
	return 1;
}

static int reading_run(struct reading *r)
{
	int first_bad;

	r->file = fopen(r->path, "re");
	if (!r->file)
		return -errno;
	first_bad = ini_parse_stream(reading_line, r, reading_key, r);
	if (ferror(r->file))
		first_bad = -1;
	fclose(r->file);
	if (first_bad > 0) {
		r->line = (unsigned int)first_bad;
		fault(r, "expected [section] or key = value");
	}
	return first_bad < 0 ? -EIO : r->faults ? -EINVAL : 0;
}

int config_read(struct settings *s, const char *path)
{
	struct reading r = { .path = path, .s = *s };
	int error = reading_run(&r);

	if (error == 0)
		*s = r.s;
	else if (error != -EINVAL)
		host_log(LOG_ERR, "%s: %s: give --config a file that can be read", path,
			 strerror(-error));
	return error;
}

int config_check(const char *path)
{
	struct reading r = { .path = path, .report = stdout, .s = settings };
	int error = reading_run(&r);

	if (error == 0)
		printf("%s: ok\n", path);
	else if (error != -EINVAL)
		printf("%s: %s\n", path, strerror(-error));
	return error;
}
