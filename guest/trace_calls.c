/* SPDX-License-Identifier: MIT */
/*
 * The traced calls: one function for each that is exported.
 *
 * Purpose: trace_NAME() makes the call again, past TRACED() (trace.h), and writes
 * its line. FOR_US says of calls that every program makes on files, too, that
 * they are traced on canal's descriptors alone: strace(1) shows the others.
 *
 * Invariants: errno behind the call is what the call left.
 */
#include <netinet/in.h>
#include <resolv.h>

#include "internal.h"
#include "trace.h"

extern int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t room);

/* Milliseconds and the like need no letter of their own: 'd' shows an int. */
#define EVER(fd) trace_begin(&t, fd)
#define FOR_US(fd) (trace_begin(&t, fd), t.quiet = t.path[0] == 'k')

/* The result is a descriptor, which is canal's or not. */
#define MAKES (trace_begin(&t, -1), t.makes = true)
#define NAMES (trace_begin(&t, -1), t.names = true)

#define TRACE(type, how, name, params, args, begin, kinds, ...)    \
	type trace_##name params                                   \
	{                                                          \
		const long list[] = { __VA_ARGS__ };               \
		struct trace t;                                    \
		type ret;                                          \
                                                                   \
		begin;                                             \
		trace_skip = true;                                 \
		ret = name args;                                   \
		trace_end(&t, #name, kinds, list, how, (long)ret); \
		return ret;                                        \
	}

#define A(pointer) ((long)(pointer))
#define SOCKADDR(addr) ((long)(addr).__sockaddr__)

/* --- sockets --------------------------------------------------------------- */

TRACE(int, TRACE_INT, socket, (int domain, int type, int protocol), (domain, type, protocol), MAKES,
      "DTd", domain, type, protocol)
TRACE(int, TRACE_INT, bind, (int fd, __CONST_SOCKADDR_ARG addr, socklen_t len), (fd, addr, len),
      EVER(fd), "da", fd, SOCKADDR(addr), len)
TRACE(int, TRACE_INT, listen, (int fd, int backlog), (fd, backlog), EVER(fd), "dd", fd, backlog)
TRACE(int, TRACE_INT, accept, (int fd, __SOCKADDR_ARG addr, socklen_t *len), (fd, addr, len),
      EVER(fd), "dA", fd, SOCKADDR(addr), A(len))
TRACE(int, TRACE_INT, accept4, (int fd, __SOCKADDR_ARG addr, socklen_t *len, int flags),
      (fd, addr, len, flags), EVER(fd), "dAc", fd, SOCKADDR(addr), A(len), flags)
TRACE(int, TRACE_INT, connect, (int fd, __CONST_SOCKADDR_ARG addr, socklen_t len), (fd, addr, len),
      EVER(fd), "da", fd, SOCKADDR(addr), len)
TRACE(int, TRACE_INT, shutdown, (int fd, int how), (fd, how), EVER(fd), "dh", fd, how)
TRACE(int, TRACE_INT, getsockname, (int fd, __SOCKADDR_ARG addr, socklen_t *len), (fd, addr, len),
      EVER(fd), "dA", fd, SOCKADDR(addr), A(len))
TRACE(int, TRACE_INT, getpeername, (int fd, __SOCKADDR_ARG addr, socklen_t *len), (fd, addr, len),
      EVER(fd), "dA", fd, SOCKADDR(addr), A(len))
TRACE(int, TRACE_INT, getsockopt, (int fd, int level, int name, void *value, socklen_t *len),
      (fd, level, name, value, len), EVER(fd), "doV", fd, level, name, A(value), A(len))
TRACE(int, TRACE_INT, setsockopt, (int fd, int level, int name, const void *value, socklen_t len),
      (fd, level, name, value, len), EVER(fd), "dov", fd, level, name, A(value), len)
TRACE(int, TRACE_INT, sockatmark, (int fd), (fd), EVER(fd), "d", fd)

/* --- bytes ------------------------------------------------------------------- */

TRACE(ssize_t, TRACE_INT, read, (int fd, void *buf, size_t len), (fd, buf, len), FOR_US(fd), "d.n",
      fd, 0, A(len))
TRACE(ssize_t, TRACE_INT, write, (int fd, const void *buf, size_t len), (fd, buf, len), FOR_US(fd),
      "d.n", fd, 0, A(len))
TRACE(ssize_t, TRACE_INT, readv, (int fd, const struct iovec *iov, int count), (fd, iov, count),
      FOR_US(fd), "di", fd, A(iov), count)
TRACE(ssize_t, TRACE_INT, writev, (int fd, const struct iovec *iov, int count), (fd, iov, count),
      FOR_US(fd), "di", fd, A(iov), count)
TRACE(ssize_t, TRACE_INT, send, (int fd, const void *buf, size_t len, int flags),
      (fd, buf, len, flags), EVER(fd), "d.nf", fd, 0, A(len), flags)
TRACE(ssize_t, TRACE_INT, recv, (int fd, void *buf, size_t len, int flags), (fd, buf, len, flags),
      EVER(fd), "d.nf", fd, 0, A(len), flags)
TRACE(ssize_t, TRACE_INT, sendto,
      (int fd, const void *buf, size_t len, int flags, __CONST_SOCKADDR_ARG addr,
       socklen_t addr_len),
      (fd, buf, len, flags, addr, addr_len), EVER(fd), "d.nfa", fd, 0, A(len), flags,
      SOCKADDR(addr), addr_len)
TRACE(ssize_t, TRACE_INT, recvfrom,
      (int fd, void *buf, size_t len, int flags, __SOCKADDR_ARG addr, socklen_t *addr_len),
      (fd, buf, len, flags, addr, addr_len), EVER(fd), "d.nfA", fd, 0, A(len), flags,
      SOCKADDR(addr), A(addr_len))
TRACE(ssize_t, TRACE_INT, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags),
      EVER(fd), "dmf", fd, A(m), flags)
TRACE(ssize_t, TRACE_INT, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags), EVER(fd),
      "drf", fd, A(m), flags)
TRACE(int, TRACE_INT, sendmmsg, (int fd, struct mmsghdr *m, unsigned int count, int flags),
      (fd, m, count, flags), EVER(fd), "dMf", fd, A(m), count, flags)
TRACE(int, TRACE_INT, recvmmsg,
      (int fd, struct mmsghdr *m, unsigned int count, int flags, struct timespec *timeout),
      (fd, m, count, flags, timeout), EVER(fd), "dMft", fd, A(m), count, flags, A(timeout))
TRACE(ssize_t, TRACE_INT, pread, (int fd, void *buf, size_t len, off_t at), (fd, buf, len, at),
      FOR_US(fd), "d.nn", fd, 0, A(len), at)
TRACE(ssize_t, TRACE_INT, pwrite, (int fd, const void *buf, size_t len, off_t at),
      (fd, buf, len, at), FOR_US(fd), "d.nn", fd, 0, A(len), at)
TRACE(ssize_t, TRACE_INT, preadv, (int fd, const struct iovec *iov, int count, off_t at),
      (fd, iov, count, at), FOR_US(fd), "din", fd, A(iov), count, at)
TRACE(ssize_t, TRACE_INT, pwritev, (int fd, const struct iovec *iov, int count, off_t at),
      (fd, iov, count, at), FOR_US(fd), "din", fd, A(iov), count, at)
TRACE(ssize_t, TRACE_INT, preadv2,
      (int fd, const struct iovec *iov, int count, off_t at, int flags),
      (fd, iov, count, at, flags), FOR_US(fd), "dind", fd, A(iov), count, at, flags)
TRACE(ssize_t, TRACE_INT, pwritev2,
      (int fd, const struct iovec *iov, int count, off_t at, int flags),
      (fd, iov, count, at, flags), FOR_US(fd), "dind", fd, A(iov), count, at, flags)
TRACE(ssize_t, TRACE_INT, sendfile, (int out, int in, off_t *at, size_t len), (out, in, at, len),
      FOR_US(fd_lookup(out) ? out : in), "dd.n", out, in, 0, A(len))
TRACE(ssize_t, TRACE_INT, splice,
      (int in, off64_t *in_at, int out, off64_t *out_at, size_t len, unsigned int flags),
      (in, in_at, out, out_at, len, flags), FOR_US(fd_lookup(in) ? in : out), "d.d.nd", in, 0, out,
      0, A(len), flags)

/* --- descriptors and processes --------------------------------------------- */

TRACE(int, TRACE_INT, close, (int fd), (fd), FOR_US(fd), "d", fd)
TRACE(int, TRACE_INT, dup, (int fd), (fd), FOR_US(fd), "d", fd)
TRACE(int, TRACE_INT, dup2, (int from, int to), (from, to), FOR_US(fd_lookup(from) ? from : to),
      "dd", from, to)
TRACE(int, TRACE_INT, dup3, (int from, int to, int flags), (from, to, flags),
      FOR_US(fd_lookup(from) ? from : to), "ddd", from, to, flags)
TRACE(int, TRACE_INT, close_range, (unsigned int first, unsigned int last, int flags),
      (first, last, flags), EVER(-1), "nnd", first, last, flags)
TRACE(int, TRACE_INT, fclose, (FILE * f), (f), FOR_US(fileno(f)), "d", fileno(f))
TRACE(int, TRACE_INT, fcntl, (int fd, int cmd, void *arg), (fd, cmd, arg), FOR_US(fd), "dF", fd,
      cmd, A(arg))
TRACE(int, TRACE_INT, ioctl, (int fd, unsigned long request, void *arg), (fd, request, arg),
      FOR_US(fd), "dI", fd, A(request), A(arg))
TRACE(pid_t, TRACE_INT, fork, (void), (), EVER(-1), "", 0)
TRACE(pid_t, TRACE_INT, _Fork, (void), (), EVER(-1), "", 0)

/* As intercept_fd.c has it: a fork. */
pid_t trace_vfork(void)
{
	return trace_fork();
}

void trace_closefrom(int low)
{
	const long list[] = { low };
	struct trace t;

	trace_begin(&t, -1);
	trace_skip = true;
	closefrom(low);
	trace_end(&t, "closefrom", "d", list, TRACE_VOID, 0);
}

/* --- waiting ------------------------------------------------------------------- */

#define POLLED(fds, count) \
	(trace_begin(&t, -1), t.path = ready_poll_ours(fds, count) ? "canal" : t.path)
#define SELECTED(n, rd, wr, ex) \
	(trace_begin(&t, -1), t.path = ready_select_ours(n, rd, wr, ex) ? "canal" : t.path)

TRACE(int, TRACE_INT, poll, (struct pollfd * fds, nfds_t count, int timeout), (fds, count, timeout),
      POLLED(fds, count), "pd", A(fds), A(count), timeout)
TRACE(int, TRACE_INT, ppoll,
      (struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask),
      (fds, count, timeout, mask), POLLED(fds, count), "pt", A(fds), A(count), A(timeout))
TRACE(int, TRACE_INT, select, (int n, fd_set *rd, fd_set *wr, fd_set *ex, struct timeval *timeout),
      (n, rd, wr, ex, timeout), SELECTED(n, rd, wr, ex), "st", n, A(rd), A(wr), A(ex), A(timeout))
TRACE(int, TRACE_INT, pselect,
      (int n, fd_set *rd, fd_set *wr, fd_set *ex, const struct timespec *timeout,
       const sigset_t *mask),
      (n, rd, wr, ex, timeout, mask), SELECTED(n, rd, wr, ex), "st", n, A(rd), A(wr), A(ex),
      A(timeout))
TRACE(int, TRACE_INT, epoll_create, (int size), (size), MAKES, "d", size)
TRACE(int, TRACE_INT, epoll_create1, (int flags), (flags), MAKES, "x", flags)
TRACE(int, TRACE_INT, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *ev),
      (epfd, op, fd, ev), EVER(fd), "dOde", epfd, op, fd, A(ev))
TRACE(int, TRACE_INT, epoll_wait, (int epfd, struct epoll_event *ev, int max, int timeout),
      (epfd, ev, max, timeout), EVER(epfd), "dEd", epfd, A(ev), max, timeout)
TRACE(int, TRACE_INT, epoll_pwait,
      (int epfd, struct epoll_event *ev, int max, int timeout, const sigset_t *mask),
      (epfd, ev, max, timeout, mask), EVER(epfd), "dEd", epfd, A(ev), max, timeout)
TRACE(int, TRACE_INT, epoll_pwait2,
      (int epfd, struct epoll_event *ev, int max, const struct timespec *timeout,
       const sigset_t *mask),
      (epfd, ev, max, timeout, mask), EVER(epfd), "dEt", epfd, A(ev), max, A(timeout))

/* --- names ------------------------------------------------------------------------ */

TRACE(int, TRACE_EAI, getaddrinfo,
      (const char *node, const char *service, const struct addrinfo *hints,
       struct addrinfo **list_),
      (node, service, hints, list_), NAMES, "zzHL", A(node), A(service), A(hints), A(list_))
TRACE(int, TRACE_INT, getifaddrs, (struct ifaddrs * *list_), (list_), NAMES, "")
TRACE(struct hostent *, TRACE_POINTER, gethostbyname, (const char *name), (name), NAMES, "z",
      A(name))
TRACE(struct hostent *, TRACE_POINTER, gethostbyname2, (const char *name, int family),
      (name, family), NAMES, "zD", A(name), family)
TRACE(int, TRACE_INT, gethostbyname_r,
      (const char *name, struct hostent *h, char *buf, size_t len, struct hostent **result,
       int *h_error),
      (name, h, buf, len, result, h_error), NAMES, "z", A(name))
TRACE(int, TRACE_INT, gethostbyname2_r,
      (const char *name, int family, struct hostent *h, char *buf, size_t len,
       struct hostent **result, int *h_error),
      (name, family, h, buf, len, result, h_error), NAMES, "zD", A(name), family)
TRACE(struct hostent *, TRACE_POINTER, gethostbyaddr,
      (const void *addr, socklen_t addr_len, int family), (addr, addr_len, family), NAMES, "bD",
      A(addr), family, family)
TRACE(int, TRACE_INT, gethostbyaddr_r,
      (const void *addr, socklen_t addr_len, int family, struct hostent *h, char *buf, size_t len,
       struct hostent **result, int *h_error),
      (addr, addr_len, family, h, buf, len, result, h_error), NAMES, "bD", A(addr), family, family)
TRACE(int, TRACE_EAI, getnameinfo,
      (const struct sockaddr *addr, socklen_t addr_len, char *host, socklen_t host_len,
       char *service, socklen_t service_len, int flags),
      (addr, addr_len, host, host_len, service, service_len, flags), NAMES, "aZZd", A(addr),
      addr_len, A(host), A(service), flags)
TRACE(int, TRACE_EAI, getaddrinfo_a,
      (int mode, struct gaicb **list_, int count, struct sigevent *sig), (mode, list_, count, sig),
      EVER(-1), "d.d", mode, 0, count)
TRACE(int, TRACE_EAI, gai_suspend,
      (const struct gaicb *const *list_, int count, const struct timespec *timeout),
      (list_, count, timeout), EVER(-1), ".dt", 0, count, A(timeout))
TRACE(int, TRACE_EAI, gai_cancel, (struct gaicb * one), (one), EVER(-1), ".", 0)

/* --- DNS ------------------------------------------------------------------------------ */

TRACE(int, TRACE_INT, res_query,
      (const char *name, int class, int type, unsigned char *answer, int room),
      (name, class, type, answer, room), NAMES, "zdd", A(name), class, type)
TRACE(int, TRACE_INT, res_search,
      (const char *name, int class, int type, unsigned char *answer, int room),
      (name, class, type, answer, room), NAMES, "zdd", A(name), class, type)
TRACE(int, TRACE_INT, res_querydomain,
      (const char *name, const char *domain, int class, int type, unsigned char *answer, int room),
      (name, domain, class, type, answer, room), NAMES, "zzdd", A(name), A(domain), class, type)
TRACE(int, TRACE_INT, res_send,
      (const unsigned char *query, int len, unsigned char *answer, int room),
      (query, len, answer, room), NAMES, ".d", 0, len)
TRACE(int, TRACE_INT, res_nquery,
      (struct __res_state * state, const char *name, int class, int type, unsigned char *answer,
       int room),
      (state, name, class, type, answer, room), NAMES, "zdd", A(name), class, type)
TRACE(int, TRACE_INT, res_nsearch,
      (struct __res_state * state, const char *name, int class, int type, unsigned char *answer,
       int room),
      (state, name, class, type, answer, room), NAMES, "zdd", A(name), class, type)
TRACE(int, TRACE_INT, res_nquerydomain,
      (struct __res_state * state, const char *name, const char *domain, int class, int type,
       unsigned char *answer, int room),
      (state, name, domain, class, type, answer, room), NAMES, "zzdd", A(name), A(domain), class,
      type)
TRACE(int, TRACE_INT, res_nsend,
      (struct __res_state * state, const unsigned char *query, int len, unsigned char *answer,
       int room),
      (state, query, len, answer, room), NAMES, ".d", 0, len)
