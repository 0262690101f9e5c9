/* SPDX-License-Identifier: MIT */
/*
 * What the two halves of the configuration reader share: config.c has the file and
 * the [canald] section, config_guest.c the [guest NAME] sections.
 */
#ifndef CANAL_HOST_CONFIG_H
#define CANAL_HOST_CONFIG_H

#include <stdio.h>

#include "guest.h"

/* Each returns 0 or -EINVAL. */
typedef int (*set_fn)(struct settings *s, const char *value);
typedef int (*guest_set_fn)(struct guest *g, const char *value);

/* One of the two functions is there. */
struct key {
	const char *name;
	const char *expected;
	set_fn set;
	guest_set_fn guest_set;
	bool repeats;
};

/* A file that is being read. */
struct reading {
	const char *path;
	FILE *file;
	FILE *report; /* where faults go; NULL: the log */
	struct settings s;
	struct cds_list_head guests;
	struct guest *guest; /* whose section this is; NULL: none, or a bad one */
	uint32_t given;      /* of guest_keys: which it has */
	unsigned int line, faults;
};

extern const struct key guest_keys[];

__attribute__((format(printf, 2, 3))) void config_fault(struct reading *r, const char *fmt, ...);
/* - and _ are the same in a key. */
bool config_is_key(const char *known, const char *name);
int config_number(const char *value, unsigned long min, unsigned long max,
		  unsigned long *ret_number);

/* A line [guest NAME]. */
void config_guest_begin(struct reading *r, const char *name);
/* One of guest_keys, in the section of r->guest. */
void config_guest_key(struct reading *r, const struct key *key, const char *value);
/* At the end: what is missing, and what two guests cannot both have. */
void config_guests_check(struct reading *r);

#endif
