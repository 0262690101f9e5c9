/* SPDX-License-Identifier: MIT */
/*
 * Libraries that are loaded with RTLD_DEEPBIND: deepbind.c.
 */
#ifndef CANAL_DEEPBIND_H
#define CANAL_DEEPBIND_H

/* Has the library of @handle, and what was loaded with it, call us where it would call libc. */
void deepbind_take(void *handle);

#endif
