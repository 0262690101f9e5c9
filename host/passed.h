/* SPDX-License-Identifier: MIT */
/* Descriptors that the service manager hands over and keeps: see passed.c. */
#ifndef CANAL_HOST_PASSED_H
#define CANAL_HOST_PASSED_H

#include <stdbool.h>

/* Before the first other descriptor that might be taken for one of them. */
void passed_begin(void);
/* A stream socket that listens at @path, or -1. */
int passed_listener(const char *path);
/* What was stored under @name, or -1; several may have one name. */
int passed_stored(const char *name);
/* Keeps a copy of @fd for the next canald / keeps none of that name. */
void passed_store(const char *name, int fd);
void passed_forget(const char *name);
/* Closes what nobody took. */
void passed_end(void);

#endif
