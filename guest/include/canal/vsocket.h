/* SPDX-License-Identifier: MIT */
/*
 * canal by source: sockets of the host for a program that asks for them.
 *
 *	#include <canal/vsocket.h>
 *
 *	int fd = socket(AF_VSOCKET, SOCK_STREAM, 0);
 *
 * cc $(pkg-config --cflags libcanal) program.c $(pkg-config --libs libcanal)
 *
 * The socket is one of canald's, found as canal-run finds it (CANAL_SOCKET, or
 * the default places). It is used like an AF_INET socket, with struct
 * sockaddr_in addresses of family AF_INET, and all calls of libc work on it:
 * read, poll, epoll, dup, fork. AF_VSOCKET6 is the same with sockaddr_in6. The
 * program's other sockets stay what they are.
 *
 * Without canald, socket() makes a plain socket of the kernel, or fails with
 * ENETDOWN when CANAL_FALLBACK is deny.
 */
#ifndef CANAL_VSOCKET_H
#define CANAL_VSOCKET_H

#ifdef __cplusplus
extern "C" {
#endif

/* Families that no kernel has. */
#define AF_VSOCKET 0x6361
#define AF_VSOCKET6 0x6366
#define PF_VSOCKET AF_VSOCKET
#define PF_VSOCKET6 AF_VSOCKET6

/**
 * canal_is_socket() - whether a descriptor is one of canal's sockets
 *
 * Return: 1 if it is, 0 if it is the kernel's or none.
 */
int canal_is_socket(int fd);

/**
 * canal_attach() - find out now whether there is a canald
 *
 * Without this call, the first socket does it.
 *
 * Return: 0, or -1 with errno.
 */
int canal_attach(void);

/**
 * canal_version() - of the library, as "0.1.0"
 */
const char *canal_version(void);

#ifdef __cplusplus
}
#endif

#endif
