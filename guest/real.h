/* SPDX-License-Identifier: MIT */
/*
 * The functions of libc that libcanal hides.
 *
 * Purpose: real(read)(fd, buf, len) calls libc's read for the price of one load
 * and an indirect call, at any time: each pointer begins at a stub that makes
 * the system call or finds the function first (init.c).
 *
 * Inside libcanal a bare read() is libcanal's own exported one, so everything
 * that means the kernel says real().
 */
#ifndef CANAL_REAL_H
#define CANAL_REAL_H

#include <fcntl.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#undef fread_unlocked /* a macro, too */
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

/* of liburing */
struct io_uring;
struct io_uring_params;
struct __res_state;
struct termios;
struct winsize;

struct real_calls {
#define RAW(type, name, params, args) type(*name) params;
#define CALL(type, name, params, args, missing) type(*name) params;
#include "intercept.def"
};

extern struct real_calls real_calls __attribute__((visibility("hidden")));

#define real(name) (real_calls.name)

#endif
