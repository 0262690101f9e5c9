/* SPDX-License-Identifier: MIT */
/*
 * exec and what starts programs (exec.c), behind intercept_exec.c.
 */
#ifndef CANAL_EXEC_H
#define CANAL_EXEC_H

#include <spawn.h>
#include <stdbool.h>
#include <stddef.h>

/* At the start: what of the environment a program needs that is started under libcanal. */
void exec_keep(void);
/* What CANAL_SOCKET says, or said before the program cleared its environment; NULL: nothing. */
const char *exec_socket(void);

/* Entries that exec_environment() may add to an environment. */
#define EXEC_KEPT 5
#define EXEC_ADDED (EXEC_KEPT + 1)
#define EXEC_CHANNEL_LEN 64
size_t exec_count(char *const envp[]);
/* @envp with what a program that cleared it took away, and without LD_PRELOAD for one of
 * another C library, in @room of exec_count() + EXEC_ADDED + 1 entries; or @envp itself.
 * @path: of the program, NULL: not known. @channel: EXEC_CHANNEL_LEN, for one that executes
 * itself: it stays in its channel; NULL: a child. */
char *const *exec_environment(const char *path, char *const envp[], char **room, char *channel);

/* The sockets that @path will inherit: all that are not closed on exec, and those that
 * @actions (may be NULL) mention. @path NULL: not known. */
void exec_sockets(const char *path, char *const envp[], const posix_spawn_file_actions_t *actions);
/* Whether the new program will be under libcanal, as the same user. */
bool exec_covers(const char *path, char *const envp[]);
/* exec_cover.c: whether libcanal will be in the program, if LD_PRELOAD says so. */
bool exec_is_covered(const char *program);
/* Whether LD_PRELOAD of libcanal would keep it from starting: it is of another C library. */
bool exec_is_foreign(const char *program);
/* Where execvp() would find @name; false: nowhere. */
bool exec_find(const char *name, char *path, size_t len);

#endif
