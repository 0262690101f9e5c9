/* SPDX-License-Identifier: MIT */
/*
 * canal-run: its parts. main() in canal-run.c alone prints and exits; the
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

/* canal-run.c: looks a command up as execvp() does. 0, or -errno of execve(). */
int run_command_find(const char *name, char *path, size_t path_len);

/* run_cover.c */
int run_cover_check(const char *path, char *ret_program, struct run_reason *ret_reason);

/* run_check.c: what is to be said of a program that can be covered. */
struct run_remarks {
	size_t count;
	size_t missed; /* of these, what goes past libcanal; the others are only notes */
	char **line;
};

/* @program: run_cover_check(); @library: libcanal.so. 0 or -errno. */
int run_check(const char *program, const char *library, struct run_remarks *ret);
void run_remarks_free(struct run_remarks *remarks);

/* run_private.c */
int run_canald_probe(const char *socket_path);
int run_private_start(const char *canald, char *ret_path, size_t path_len,
		      struct run_reason *ret_reason);

#endif
