/* SPDX-License-Identifier: MIT */
/* Control messages of datagrams, out of and into a struct msghdr: control.c. */
#ifndef CANAL_GUEST_CONTROL_H
#define CANAL_GUEST_CONTROL_H

#include <sys/socket.h>

#include "wire.h"

struct control {
	_Alignas(8) canal_u8 data[CANAL_DGRAM_CONTROL_MAX];
	canal_u32 len; /* a multiple of CANAL_DGRAM_ALIGN */
};

/* What the program wants to send along. 0 or -errno, as Linux checks it. */
int control_pack(struct control *c, const struct msghdr *m, int domain);
/* The same of a stream: there is nothing to send. */
int control_check_stream(const struct msghdr *m);
/* What came along, as far as there is room: sets msg_controllen, and MSG_CTRUNC. */
void control_give(const struct control *c, struct msghdr *m);

#endif
