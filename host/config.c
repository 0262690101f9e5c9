/* SPDX-License-Identifier: MIT */
/*
 * Settings: from the configuration file and from the command line.
 *
 * Purpose: one table of keys, with their meaning and what they expect, serves
 * both. The file is an INI file (ini.c); each section has a table of keys of its
 * own: those of [guest NAME] are in config_guest.c.
 *
 * Invariants
 *  1. Every fault of a file is reported, as FILE:LINE: what was expected.
 *     Of one that is no text the first is enough.
 *  2. A file with a fault changes nothing.
 *
 * Ownership and threads: the main thread, before any other runs.
 *
 * Failure: -EINVAL for a file with faults, -errno for one that cannot be read.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "config.h"
#include "ini.h"

struct settings settings = {
	.cpus = { [0 ... SETTINGS_POLLERS - 1] = -1 },
	.log_level = LOG_INFO,
	.max_sockets = CHANNEL_SOCKS_MAX,
	.max_channels = 1024,
	.max_closing = 16384,
	.close_timeout_s = 200,
	.spin_looks = SPIN_LOOKS_AUTO,
	.guest_fallback = true,
	.join = true,
};

/* --- values ------------------------------------------------------------ */

int config_number(const char *value, unsigned long min, unsigned long max,
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

	if (config_number(value, min, max, &number))
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
static int cpus_add(const char *part, cpu_set_t *allowed, int *cpus, unsigned int *count)
{
	unsigned long first, last;
	char text[32], *dash;

	if (strlen(part) >= sizeof(text))
		return -EINVAL;
	strcpy(text, part);
	dash = strchr(text, '-');
	if (dash)
		*dash = '\0';
	if (config_number(text, 0, CPU_SETSIZE - 1, &first) ||
	    config_number(dash ? dash + 1 : text, first, CPU_SETSIZE - 1, &last))
		return -EINVAL;
	for (; first <= last; first++) {
		if (!CPU_ISSET(first, allowed) || *count == SETTINGS_POLLERS)
			return -EINVAL;
		CPU_CLR(first, allowed); /* each once */
		cpus[(*count)++] = (int)first;
	}
	return 0;
}

/* One poller for each, where no number of pollers is set. */
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
	s->cpu_count = count;
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

static int set_max_closing(struct settings *s, const char *value)
{
	return u32_parse(value, 1, 1u << 20, &s->max_closing);
}

static int set_close_timeout(struct settings *s, const char *value)
{
	return u32_parse(value, 1, 86400, &s->close_timeout_s);
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

	if (config_number(value, 0, INT_MAX / 1000, &seconds))
		return -EINVAL;
	s->idle_exit_s = (int)seconds;
	return 0;
}

/* --- keys -------------------------------------------------------------- */

static const struct key canald_keys[] = {
	{ "socket", "the path of a socket, at most 107 bytes", set_socket, NULL, false },
	{ "engine", "io_uring, epoll or auto", set_engine, NULL, false },
	{ "poll", "always, adaptive or never", set_poll, NULL, false },
	{ "cpu", "CPUs that this process may run on, each once, such as 0,2-3", set_cpu, NULL,
	  false },
	{ "pollers", "a number from 1 to 64", set_pollers, NULL, false },
	{ "max_sockets", "a number from 64 to 32768", set_max_sockets, NULL, false },
	{ "max_channels", "a number from 1 to 1048576", set_max_channels, NULL, false },
	{ "max_closing", "a number from 1 to 1048576", set_max_closing, NULL, false },
	{ "close_timeout", "seconds, 1 to 86400", set_close_timeout, NULL, false },
	{ "spin_looks", "a number from 0 to 1000000", set_spin_looks, NULL, false },
	{ "fallback", "allow or deny", set_fallback, NULL, false },
	{ "join", "yes or no", set_join, NULL, false },
	{ "log_level", "emerg, alert, crit, err, warning, notice, info or debug", set_log_level,
	  NULL, false },
	{ "idle_exit", "seconds, 0 for never", set_idle_exit, NULL, false },
	{ 0 },
};

/* [guest] is followed by a name. */
static const struct section {
	const char *name;
	const struct key *keys;
} section_canald = { "canald", canald_keys }, section_guest = { "guest", guest_keys };

bool config_is_key(const char *known, const char *name)
{
	for (; *known && *name; known++, name++)
		if (*known != *name &&
		    !((*known == '-' || *known == '_') && (*name == '-' || *name == '_')))
			return false;
	return !*known && !*name;
}

static const struct key *key_find(const struct key *keys, const char *name)
{
	for (; keys->name; keys++)
		if (config_is_key(keys->name, name))
			return keys;
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

void config_fault(struct reading *r, const char *fmt, ...)
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

static void fault_key(struct reading *r, const char *name)
{
	const struct section *section = r->section;
	const char *nearest = key_nearest(section->keys, name);
	char known[512];

	keys_list(section->keys, known, sizeof(known));
	if (nearest)
		config_fault(r, "unknown key '%.64s' in [%s]: did you mean '%s'? known are %s",
			     name, section->name, nearest, known);
	else
		config_fault(r, "unknown key '%.64s' in [%s]: known are %s", name, section->name,
			     known);
}

static void canald_begin(struct reading *r)
{
	if (r->canald_line)
		config_fault(r, "[canald] is there already, in line %u: expected one",
			     r->canald_line);
	r->canald_line = r->line;
	r->section = &section_canald;
}

/* What stands in a section that is wrong itself is passed over. */
static void section_begin(struct reading *r, const char *name)
{
	size_t len = strlen(section_guest.name);

	r->section = NULL;
	r->guest = NULL;
	r->passing = true;
	memset(r->given, 0, sizeof(r->given));
	if (strcmp(name, section_canald.name) == 0) {
		canald_begin(r);
	} else if (strncmp(name, section_guest.name, len) == 0 && strchr(" \t", name[len])) {
		r->guest = config_guest_begin(r, name + len + strspn(name + len, " \t"));
		r->section = r->guest ? &section_guest : NULL;
	} else {
		config_fault(r, "unknown section [%.64s]: expected [canald] or [guest NAME]", name);
	}
}

static void key_set(struct reading *r, const char *name, const char *value)
{
	const struct key *key = key_find(r->section->keys, name);
	unsigned int *given;

	if (!key) {
		fault_key(r, name);
		return;
	}
	given = &r->given[key - r->section->keys];
	if (*given && !key->repeats)
		config_fault(r, "%s is given twice: expected once, and line %u has it", key->name,
			     *given);
	else if (r->guest ? config_guest_key(r, key, value) : key->set(&r->s, value))
		config_fault(r, "%s = %.256s: expected %s", key->name, value, key->expected);
	if (!*given)
		*given = r->line;
}

static void key_take(struct reading *r, const char *name, const char *value)
{
	if (r->section) {
		key_set(r, name, value);
	} else if (!r->passing) {
		r->passing = true;
		config_fault(r, "no section: put [canald] or [guest NAME] above '%.64s'", name);
	}
}

static void line_take(struct reading *r, enum ini_kind kind, const struct ini *ini)
{
	switch (kind) {
	case INI_SECTION:
		section_begin(r, ini->name);
		break;
	case INI_KEY:
		key_take(r, ini->name, ini->value);
		break;
	case INI_LONG:
		config_fault(r, "longer than %d bytes: expected [section] or key = value",
			     INI_LINE - 1);
		break;
	case INI_BINARY:
		config_fault(r, "a control character: expected text");
		break;
	default:
		config_fault(r, "%.64s: expected [section] or key = value, and nothing behind it",
			     ini->name);
		r->passing = true; /* it may have been meant to open a section */
		r->section = ini->name[0] == '[' ? NULL : r->section;
	}
}

static int lines_take(struct reading *r, FILE *file)
{
	struct ini ini = { .file = file };
	enum ini_kind kind;

	errno = 0;
	do {
		kind = ini_next(&ini);
		r->line = ini.line;
		if (kind != INI_END)
			line_take(r, kind, &ini);
	} while (kind != INI_END && kind != INI_BINARY);
	if (ferror(file))
		return errno ? -errno : -EIO; /* of the read: a directory, say */
	if (kind == INI_END)
		config_guests_check(r);
	return r->faults ? -EINVAL : 0;
}

static int reading_run(struct reading *r)
{
	FILE *file = fopen(r->path, "re");
	int error;

	if (!file)
		return -errno;
	error = lines_take(r, file);
	fclose(file);
	return error;
}

int config_read(struct settings *s, const char *path)
{
	struct reading r = { .path = path, .s = *s };
	int error;

	CDS_INIT_LIST_HEAD(&r.guests);
	error = reading_run(&r);
	if (error == 0) {
		*s = r.s;
		guests_free(&guests);
		cds_list_splice(&r.guests, &guests);
		return 0;
	}
	guests_free(&r.guests);
	if (error != -EINVAL)
		host_log(LOG_ERR, "%s: %s: give --config a file that can be read", path,
			 strerror(-error));
	return error;
}

int config_check(const char *path)
{
	struct reading r = { .path = path, .report = stdout, .s = settings };
	int error;

	CDS_INIT_LIST_HEAD(&r.guests);
	error = reading_run(&r);
	guests_free(&r.guests);
	if (error == 0)
		printf("%s: ok\n", path);
	else if (error != -EINVAL)
		printf("%s: %s: expected a file that can be read\n", path, strerror(-error));
	return error;
}
