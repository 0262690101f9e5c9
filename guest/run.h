/* SPDX-License-Identifier: MIT */
/*
 * canal-run: its three parts. main() in canal-run.c alone prints and exits; the
 * others return and leave one line in struct run_reason that says why not.
 */
#ifndef CANAL_RUN_H
#define CANAL_RUN_H

#include <stddef.h>

struct run_reason {
	char text[1024];
};

__attribute__((format(printf, 2, 3))) void run_because(struct run_reason *reason,
						       const char *format, ...);

/* run_cover.c */
int run_cover_check(const char *path, struct run_reason *ret_reason);

/* run_private.c */
int run_canald_probe(const char *socket_path);
int run_private_start(const char *canald, char *ret_path, size_t path_len,
		      struct run_reason *ret_reason);

#endif
