/* SPDX-License-Identifier: MIT */
/*
 * The loopback of a virtual machine: twin.c (which sockets), twin_io.c (their
 * connections and datagrams). Never on the local transport, where canald's
 * loopback is the program's own.
 */
#ifndef CANAL_TWIN_H
#define CANAL_TWIN_H

#include "internal.h"
#include "lock.h"

/* Kernel sockets that stand beside a canal socket: descriptors of the library's
 * own, non-blocking, -1 for none. */
#define TWIN_FDS 3
#define TWIN_LOOSE 2 /* bound to nothing: for datagrams that the others cannot send */

struct twin {
	uint32_t sock; /* number of the canal socket */
	uint32_t used;
	uint32_t turn; /* calls, so that neither side starves */
	int fd[TWIN_FDS];
};

extern uint32_t twin_count __attribute__((visibility("hidden")));

/* Whether any socket of this process has a twin. */
static inline bool twin_any(void)
{
	return unlikely(canal_read_once(&twin_count));
}

/* Whether loopback is not canald's here. */
static inline bool twin_apart(void)
{
	return unlikely(the_channel.apart);
}

/* The twin of a socket, or NULL. */
struct twin *twin_find(uint32_t sock);

static inline struct twin *twin_of(uint32_t sock)
{
	return twin_any() ? twin_find(sock) : NULL;
}

/* --- twin.c ------------------------------------------------------------ */

/* Loopback and link-local: these addresses are the guest's own. */
bool twin_owns(const struct canal_addr *a);
bool twin_is_wildcard(const struct canal_addr *a);

/* Gives the program a kernel socket in place of the canal one, in all descriptors
 * of this process, bound or connected to @addr. 0, or -errno of the kernel's. */
int twin_bind_there(struct sock_ref ref, const struct sockaddr *addr, socklen_t len);
int twin_connect_there(struct sock_ref ref, const struct sockaddr *addr, socklen_t len);

/* Sees to it that a socket that is bound to a wildcard has its twin. @backlog: of a
 * listener. -EADDRINUSE: the port is taken in the guest. */
int twin_make(struct sock_ref ref, const struct canal_addr *local, int backlog);
/* The twin of a datagram socket that is bound to nothing. */
struct twin *twin_make_loose(const struct canal_sock *s, uint32_t n);
/* The name of that, for a socket that has none from canald: false if there is none. */
bool twin_name(uint32_t sock, struct sockaddr *addr, socklen_t *len);
/* The socket is closed, or its bind() failed. */
void twin_drop(uint32_t sock);

/* Options: which ones the program set (all sockets), and the same for a twin. */
void twin_note(uint32_t sock, int level, int name);
void twin_note_none(uint32_t sock);
void twin_set_option(uint32_t sock, int level, int name, const void *value, socklen_t len);
void twin_shutdown(uint32_t sock, int how);

/* What epoll_ctl() did with the canal socket, for its twin. */
void twin_epoll(uint32_t sock, int epfd, int op, const struct epoll_event *ev);
void twin_after_fork(void);

/* --- twin_io.c --------------------------------------------------------- */

int twin_accept(int fd, struct sock_ref ref, struct sockaddr *addr, socklen_t *len, int flags);
ssize_t twin_recv(struct twin *t, struct canal_sock *s, struct msghdr *m, int flags);
/* A datagram to an address that twin_owns(). */
ssize_t twin_send(struct canal_sock *s, uint32_t n, const struct canal_addr *to,
		  const struct msghdr *m, int flags);

#endif
