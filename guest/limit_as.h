/* SPDX-License-Identifier: MIT */
/*
 * RLIMIT_AS without libcanal's own mappings (limit_as.c).
 */
#ifndef CANAL_LIMIT_AS_H
#define CANAL_LIMIT_AS_H

#include <sys/resource.h>

/*
 * prlimit(0, RLIMIT_AS, @to, @old) of a program: as if libcanal were not there. Either
 * may be NULL. 0 or -errno; @old is set on 0 only.
 */
int limit_as(const struct rlimit *to, struct rlimit *old);

#endif
