/* SPDX-License-Identifier: MIT */
/*
 * Where canald listens, when nobody says so.
 *
 * Purpose
 *	One search order for libcanal, canal-run and canalctl: --socket, else
 *	$CANAL_SOCKET, else the first of the default places that exists:
 *
 *	0. $XDG_RUNTIME_DIR/canal/canald.sock	private, of this user
 *	1. /run/canal/canald.sock		the system's
 *	2. /tmp/canal-$UID/canald.sock		private, where XDG_RUNTIME_DIR is not set
 *
 * Invariants
 *	1. A private place counts only if its directory belongs to this user and
 *	   nobody else may write to it: anyone can create a name in /tmp, and who
 *	   owns canald's socket reads the traffic.
 *	2. Nothing here allocates or takes a lock: libcanal calls it anywhere.
 *
 * Failure
 *	0 or -errno. Environment variables of a program that runs with another
 *	user's privileges are not believed (secure_getenv).
 */
#ifndef CANAL_PATHS_H
#define CANAL_PATHS_H

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CANAL_PATHS_SYSTEM_DIR "/run/canal"
#define CANAL_PATHS_SOCKET "canald.sock"
#define CANAL_PATHS_PLACES 3

/* The longest path that an AF_UNIX address holds, with its NUL. */
#define CANAL_PATHS_LEN sizeof(((struct sockaddr_un *)0)->sun_path)

/**
 * canal_paths_dir() - directory of one of the default places
 * @place: 0 to CANAL_PATHS_PLACES - 1
 *
 * Return: 0, -ENOENT if the place has no name here, -ENAMETOOLONG.
 */
static inline int canal_paths_dir(unsigned int place, char *dir, size_t dir_len)
{
	const char *runtime_dir = secure_getenv("XDG_RUNTIME_DIR");
	int len;

	if (place == 0) {
		if (!runtime_dir || runtime_dir[0] != '/')
			return -ENOENT;
		len = snprintf(dir, dir_len, "%s/canal", runtime_dir);
	} else if (place == 1) {
		len = snprintf(dir, dir_len, CANAL_PATHS_SYSTEM_DIR);
	} else {
		len = snprintf(dir, dir_len, "/tmp/canal-%u", (unsigned int)geteuid());
	}
	return len >= 0 && (size_t)len < dir_len ? 0 : -ENAMETOOLONG;
}

/**
 * canal_paths_private_dir() - where a private canald of this user belongs
 */
static inline int canal_paths_private_dir(char *dir, size_t dir_len)
{
	int error = canal_paths_dir(0, dir, dir_len);

	return error == -ENOENT ? canal_paths_dir(CANAL_PATHS_PLACES - 1, dir, dir_len) : error;
}

/**
 * canal_paths_is_private() - is @dir this user's own, with no other to write to it?
 */
static inline bool canal_paths_is_private(const char *dir)
{
	struct stat st;

	return lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
	       !(st.st_mode & (S_IWGRP | S_IWOTH));
}

/**
 * canal_paths_socket_in() - the name of canald's socket in @dir
 */
static inline int canal_paths_socket_in(const char *dir, char *path, size_t path_len)
{
	int len = snprintf(path, path_len, "%s/" CANAL_PATHS_SOCKET, dir);

	return len >= 0 && (size_t)len < path_len ? 0 : -ENAMETOOLONG;
}

/**
 * canal_paths_place() - canald's socket in one of the default places
 *
 * Return: 0 if something is there (it need not answer), else -errno.
 */
static inline int canal_paths_place(unsigned int place, char *path, size_t path_len)
{
	char dir[CANAL_PATHS_LEN];
	int error = canal_paths_dir(place, dir, sizeof(dir));

	if (!error)
		error = canal_paths_socket_in(dir, path, path_len);
	if (error)
		return error;
	if (access(path, F_OK) < 0)
		return -errno;
	return place == 1 || canal_paths_is_private(dir) ? 0 : -EPERM;
}

/**
 * canal_paths_not_socket() - what is at @path, if it is anything but a socket
 *
 * Return: such as "a directory"; NULL: a socket, or nothing that can be seen.
 */
static inline const char *canal_paths_not_socket(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0 || S_ISSOCK(st.st_mode))
		return NULL;
	return S_ISDIR(st.st_mode) ? "a directory" : "a file";
}

/**
 * canal_paths_given() - the socket that CANAL_SOCKET names, or NULL
 */
static inline const char *canal_paths_given(void)
{
	const char *path = secure_getenv("CANAL_SOCKET");

	return path && path[0] ? path : NULL;
}

/**
 * canal_paths_find() - canald's socket for this process
 * @given: what --socket says, or NULL
 *
 * When nothing exists anywhere, @path names the place where a private canald
 * would be, so that an error can name it.
 *
 * Return: 0 or -ENAMETOOLONG; @path is set on 0 only.
 */
static inline int canal_paths_find(const char *given, char *path, size_t path_len)
{
	char dir[CANAL_PATHS_LEN];
	int error;

	if (!given)
		given = canal_paths_given();
	if (given) {
		int len = snprintf(path, path_len, "%s", given);

		return len >= 0 && (size_t)len < path_len ? 0 : -ENAMETOOLONG;
	}
	for (unsigned int place = 0; place < CANAL_PATHS_PLACES; place++)
		if (canal_paths_place(place, path, path_len) == 0)
			return 0;
	error = canal_paths_private_dir(dir, sizeof(dir));
	return error ? error : canal_paths_socket_in(dir, path, path_len);
}

#endif
