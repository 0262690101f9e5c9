/* SPDX-License-Identifier: MIT */
/*
 * A library whose constructor runs before libcanal's, and makes calls that libcanal
 * stands in front of (as libcap-ng's does). missed.c tells what they gave.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "early.h"

__attribute__((visibility("default"))) struct early early;

static void __attribute__((constructor)) begin(void)
{
	char byte = 'x';
	struct iovec iov = { &byte, 1 };
	int pair[2];

	early.pair = socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	early.flags = fcntl(pair[0], F_GETFD);
	early.wrote = write(pair[0], &byte, 1) + writev(pair[0], &iov, 1);
	early.got = read(pair[1], &byte, 1) + readv(pair[1], &iov, 1);
	early.closed = close(pair[0]) + close(pair[1]);
	early.again = close(pair[1]);
}
