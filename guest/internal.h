/* SPDX-License-Identifier: MIT */
/*
 * What lies between the exported symbols (intercept*.c) and the functions that
 * do the work: descriptors, processes, sockets, options, names. Everything
 * returns 0 or more, or -errno.
 */
#ifndef CANAL_INTERNAL_H
#define CANAL_INTERNAL_H

#include <errno.h>
#include <stdio.h>

#include "guest.h"

/* --- init.c ----------------------------------------------------------- */

/* Whether the program was started under libcanal, so that its internet sockets
 * are ours; else only those of AF_VSOCKET are. */
extern bool libcanal_preloaded;

/* --- fdtable.c --------------------------------------------------------- */

/*
 * A socket of canal's as the exported functions pass it on. What it is comes
 * from the private table: canald may not have served its INR_SOCKET yet.
 */
struct sock_ref {
	struct canal_sock *s;
	uint32_t n;
	uint8_t domain; /* AF_INET or AF_INET6 */
	uint8_t type;   /* SOCK_STREAM or SOCK_DGRAM */
	uint8_t way;    /* the same, or with SOCK_SLOWLY */
};

/* Not the hot path's business: an option says how many bytes recv waits for, or stdio may
 * write to the socket, too (stdout and stderr). */
#define SOCK_SLOWLY 0x80

/* The socket behind a descriptor; s is NULL for every other one. */
static inline struct sock_ref sock_of(int fd)
{
	struct sock_ref ref = { .s = fd_sock(fd) };

	if (ref.s) {
		ref.n = fd_table[fd].number;
		ref.domain = fd_table[fd].flags >> 8;
		ref.way = fd_table[fd].flags & 0xff;
		ref.type = ref.way & ~SOCK_SLOWLY;
	}
	return ref;
}

int fd_install_socket(int fd, struct sock_ref ref);
/* From now on all descriptors of @s that this process has are SOCK_SLOWLY. */
void fd_slow_down(const struct canal_sock *s);
int fd_next(int fd);
int fd_next_own(int fd);

/* --- channel.c --------------------------------------------------------- */

/* Into the channel that has the dummy with this inode, if the process is in none. */
int channel_join_by(uint64_t inode);
/* The same for a process that has a channel already, but nothing in it, and one thread. */
int channel_change_by(uint64_t inode);
/* At the start: what exec_keep() found of the channel that this program had. */
void channel_continue(uint64_t id, uint64_t token);
/* In a forked child, before anything else of ours. */
void channel_after_fork(void);

/* --- fallback.c -------------------------------------------------------- */

bool fallback_ok(void);
void fallback_count(int why);
int fallback_socket(int domain, int type, int protocol, int why);
/* One line, once, that there is no canald. */
void fallback_complain(int why);

/* --- process.c --------------------------------------------------------- */

/* Of a child with memory of its own. */
void process_before_fork(void);
int process_close(int fd);
/* fclose: libc closes the descriptor past us. */
int process_fclose(FILE *f);
/* Forgets @fd, whose descriptor is already closed or about to be replaced. */
void process_drop(int fd);
/* The dummy @fd becomes a duplicate of @by, with @flags of dup3, and nothing of ours. */
void process_replace(int fd, int by, int flags);
int process_dup(int from);
int process_dup_over(int from, int to, int flags);
/* confine.c: before the program gives up rights that libcanal needs to join its channel
 * and to sleep. @attach: also when it has no channel yet. */
void confine_prepare(bool attach);
/* The same before a filter of system calls, which is in force from the next one on. */
void confine_filter(void);
int process_close_range(unsigned int first, unsigned int last, int flags);

/* --- socket.c; connect.c ------------------------------------------------ */

/* A channel that is dead, as the program sees it. */
static inline int no_network(int ret)
{
	return ret == -EPIPE ? -ENETDOWN : ret;
}

/* A request about @ref, waited for. 0 or -errno. */
int socket_call(struct sock_ref ref, struct canal_inr *inr);
/* As the kernel takes a name in, before it looks at it. 0 or -errno. */
int socket_name_readable(const struct sockaddr *addr, socklen_t len);

/* Whether socket(@domain, @type, @protocol) is canal's business. */
bool socket_serves(int domain, int type, int protocol);
int socket_open(int domain, int type, int protocol);
int socket_bind(struct sock_ref ref, const struct sockaddr *addr, socklen_t len);
int socket_listen(struct sock_ref ref, int backlog);
int socket_accept(int fd, struct sock_ref ref, struct sockaddr *addr, socklen_t *len, int flags);
/* The same for canal's connections alone, without waiting; and whether it would. */
int socket_accept_now(struct sock_ref ref, struct sockaddr *addr, socklen_t *len, int flags);
bool socket_acceptable(void *sock);
int socket_connect(struct sock_ref ref, const struct sockaddr *addr, socklen_t len);
/* The connect of a send with MSG_FASTOPEN; @addr is readable. */
int socket_fastopen(struct sock_ref ref, const struct sockaddr *addr, socklen_t len, int flags);
int socket_shutdown(struct sock_ref ref, int how);
int socket_name(struct sock_ref ref, struct sockaddr *addr, socklen_t *len);
int socket_peer(struct sock_ref ref, struct sockaddr *addr, socklen_t *len);

/* --- options.c --------------------------------------------------------- */

/* Waits a little until the datagrams that were sent before are on their way. */
void option_earlier_sent(struct canal_sock *s);
int option_get(struct sock_ref ref, int level, int name, void *value, socklen_t *len);
int option_set(struct sock_ref ref, int level, int name, const void *value, socklen_t len);
int option_ioctl(int fd, struct sock_ref ref, unsigned long request, void *arg);
int option_fcntl(int fd, struct sock_ref ref, int cmd, void *arg);

/* --- interfaces.c ------------------------------------------------------ */

struct ifaddrs;
int interfaces_list(struct ifaddrs **ret_list);
#define INTERFACES_KERNEL 1
int interfaces_ioctl(unsigned long request, void *arg);

#endif
