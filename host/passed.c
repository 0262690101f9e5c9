/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that the service manager hands over and keeps.
 *
 * Purpose: sockets that systemd listens on for canald, and what canald gave into its
 * descriptor store so that the next canald has it (sd_pid_notify_with_fds(3)).
 *
 * Invariants
 *  1. Each descriptor is taken at most once; passed_end() closes those that nobody
 *     wanted, and has the store forget them.
 *
 * Ownership and threads: the main thread.
 * Failure: without a service manager nothing is there, and nothing is kept.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "passed.h"

static struct {
	char **names;
	int count; /* of descriptors, from SD_LISTEN_FDS_START */
	bool *taken;
} passed;

void passed_begin(void)
{
	passed.count = sd_listen_fds_with_names(1, &passed.names);
	if (passed.count > 0)
		passed.taken = calloc((size_t)passed.count, sizeof(*passed.taken));
	if (!passed.taken)
		passed.count = 0;
}

static int take(int i)
{
	passed.taken[i] = true;
	return SD_LISTEN_FDS_START + i;
}

int passed_listener(const char *path)
{
	for (int i = 0; i < passed.count; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		if (passed.taken[i] || sd_is_socket_unix(fd, SOCK_STREAM, 1, path, 0) <= 0)
			continue;
		(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
		return take(i);
	}
	return -1;
}

int passed_stored(const char *name)
{
	for (int i = 0; i < passed.count; i++)
		if (!passed.taken[i] && strcmp(passed.names[i], name) == 0)
			return take(i);
	return -1;
}

void passed_store(const char *name, int fd)
{
	char text[128];

	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", name);
	(void)sd_pid_notify_with_fds(0, 0, text, &fd, 1);
}

void passed_forget(const char *name)
{
	(void)sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

void passed_end(void)
{
	for (int i = 0; i < passed.count; i++) {
		if (!passed.taken[i]) {
			passed_forget(passed.names[i]);
			close(SD_LISTEN_FDS_START + i);
		}
		free(passed.names[i]);
	}
	free(passed.names);
	free(passed.taken);
	memset(&passed, 0, sizeof(passed));
}
