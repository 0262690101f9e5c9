/* SPDX-License-Identifier: MIT */
/*
 * The functions of <canal/vsocket.h>, for programs that ask for canal by source.
 *
 * Purpose: what socket(AF_VSOCKET) cannot tell. Such programs link libcanal, so
 * that its exported symbols stand before libc's as under LD_PRELOAD; their other
 * sockets stay the kernel's (socket_serves()).
 */
#include <canal/vsocket.h>
#include <errno.h>

#include "internal.h"

#ifndef CANAL_VERSION
#define CANAL_VERSION "unknown"
#endif

#define PUBLIC __attribute__((visibility("default")))

PUBLIC int canal_is_socket(int fd)
{
	return fd_sock(fd) != NULL;
}

PUBLIC int canal_attach(void)
{
	struct channel *ch;
	int ret;

	libcanal_init();
	ret = channel_get(&ch);
	if (ret == 0)
		return 0;
	errno = -ret;
	return -1;
}

PUBLIC const char *canal_version(void)
{
	return CANAL_VERSION;
}
