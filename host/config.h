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

#define KEYS_MAX 16

/* A file that is being read. */
struct reading {
	const char *path;
	FILE *report; /* where faults go; NULL: the log */
	struct settings s;
	struct cds_list_head guests;
	const struct section *section; /* NULL: none, or a bad one */
	struct guest *guest;           /* whose section it is; NULL: [canald]'s */
	unsigned int given[KEYS_MAX];  /* in which line this section has a key; 0: it has not */
	bool passing;                  /* keys without a section: the fault was reported */
	unsigned int canald_line;      /* [canald]; 0: not there */
	unsigned int line, faults;
};

extern const struct key guest_keys[];

__attribute__((format(printf, 2, 3))) void config_fault(struct reading *r, const char *fmt, ...);
/* - and _ are the same in a key. */
bool config_is_key(const char *known, const char *name);
int config_number(const char *value, unsigned long min, unsigned long max,
		  unsigned long *ret_number);

/* A line [guest NAME]. NULL: that is no name, as was reported. */
struct guest *config_guest_begin(struct reading *r, const char *name);
/* One of guest_keys, in the section of r->guest. 0 or -EINVAL. */
int config_guest_key(struct reading *r, const struct key *key, const char *value);
/* At the end: what is missing, and what two guests cannot both have. */
void config_guests_check(struct reading *r);

#endif
