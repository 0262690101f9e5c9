/* SPDX-License-Identifier: MIT */
/* recvmsg(MSG_ERRQUEUE): errqueue.c. */
#ifndef CANAL_GUEST_ERRQUEUE_H
#define CANAL_GUEST_ERRQUEUE_H

#include <sys/socket.h>
#include <sys/types.h>

#include "wire.h"

/* One entry of socket @n's queue: bytes of its payload, or -EAGAIN, -EHANDED. */
ssize_t errqueue_recv(const struct canal_sock *s, uint32_t n, struct msghdr *m, int flags);

#endif
