/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that come from other programs, and go to them (adopt.c): after exec, and
 * over UNIX sockets.
 */
#ifndef CANAL_ADOPT_H
#define CANAL_ADOPT_H

#include <sys/socket.h>

/* Makes @fd a socket of canal's if it is the dummy of one. */
void adopt(int fd);
/* What this program was started with. */
void adopt_inherited(void);

/* A program that canald does not know may have @fd soon: unless it adopts it in @ms
 * milliseconds, it is handed over. */
void adopt_pass(int fd, unsigned int ms);

/* A message that goes to or came from a descriptor of the kernel's (@via). */
void rights_sent(int via, const struct msghdr *m);
void rights_received(const struct msghdr *m);

#endif
