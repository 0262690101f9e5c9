/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: sockets as such.
 *
 * Purpose and rules: intercept.h.
 */
#include <sys/ioctl.h>

#include "intercept.h"

EXPORT int socket(int domain, int type, int protocol)
{
	TRACED(socket, domain, type, protocol);

	libcanal_init();
	if (!socket_serves(domain, type, protocol))
		return real(socket)(domain, type, protocol);
	return give(socket_open(domain, type, protocol));
}

EXPORT int bind(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
	TRACED(bind, fd, addr, len);

	struct sock_ref ref = control_of(fd);

	return ref.s ? give(socket_bind(ref, addr.__sockaddr__, len)) : real(bind)(fd, addr, len);
}

EXPORT int listen(int fd, int backlog)
{
	TRACED(listen, fd, backlog);

	struct sock_ref ref = control_of(fd);

	return ref.s ? give(socket_listen(ref, backlog)) : real(listen)(fd, backlog);
}

static int accepted(int fd, int ret, __SOCKADDR_ARG addr, socklen_t *len, int flags)
{
	if (unlikely(ret == -EHANDED) && handover_learn(fd))
		return real(accept4)(fd, addr, len, flags);
	if (unlikely(handover_always) && ret >= 0)
		(void)handover(ret);
	return give(ret);
}

EXPORT int accept(int fd, __SOCKADDR_ARG addr, socklen_t *len)
{
	TRACED(accept, fd, addr, len);

	struct sock_ref ref = control_of(fd);

	return ref.s ? accepted(fd, socket_accept(fd, ref, addr.__sockaddr__, len, 0), addr, len, 0)
		     : real(accept)(fd, addr, len);
}

EXPORT int accept4(int fd, __SOCKADDR_ARG addr, socklen_t *len, int flags)
{
	TRACED(accept4, fd, addr, len, flags);

	struct sock_ref ref = control_of(fd);

	return ref.s ? accepted(fd, socket_accept(fd, ref, addr.__sockaddr__, len, flags), addr,
				len, flags)
		     : real(accept4)(fd, addr, len, flags);
}

EXPORT int connect(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
	TRACED(connect, fd, addr, len);

	struct sock_ref ref = control_of(fd);

	int ret;

	if (!ref.s)
		return real(connect)(fd, addr, len);
	ret = socket_connect(ref, addr.__sockaddr__, len);
	if (unlikely(handover_always) && (ret == 0 || ret == -EINPROGRESS))
		(void)handover(fd);
	return give(ret);
}

EXPORT int shutdown(int fd, int how)
{
	TRACED(shutdown, fd, how);

	struct sock_ref ref = control_of(fd);

	/* behind what is in the dummy */
	if (handed_of(fd).s)
		return real(shutdown)(fd, how);
	return ref.s ? give(socket_shutdown(ref, how)) : real(shutdown)(fd, how);
}

EXPORT int getsockname(int fd, __SOCKADDR_ARG addr, socklen_t *len)
{
	TRACED(getsockname, fd, addr, len);

	struct sock_ref ref = control_of(fd);

	return ref.s ? give(socket_name(ref, addr.__sockaddr__, len))
		     : real(getsockname)(fd, addr, len);
}

EXPORT int getpeername(int fd, __SOCKADDR_ARG addr, socklen_t *len)
{
	TRACED(getpeername, fd, addr, len);

	struct sock_ref ref = control_of(fd);

	return ref.s ? give(socket_peer(ref, addr.__sockaddr__, len))
		     : real(getpeername)(fd, addr, len);
}

EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	TRACED(getsockopt, fd, level, name, value, len);

	struct sock_ref ref = control_of(fd);

	if (level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO) && handed_of(fd).s)
		return real(getsockopt)(fd, level, name, value, len);
	return ref.s ? give(option_get(ref, level, name, value, len))
		     : real(getsockopt)(fd, level, name, value, len);
}

EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	TRACED(setsockopt, fd, level, name, value, len);

	struct sock_ref ref = control_of(fd);

	/* the kernel's calls keep their own time limits */
	if (level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO) && handed_of(fd).s)
		return real(setsockopt)(fd, level, name, value, len);
	return ref.s ? give(option_set(ref, level, name, value, len))
		     : real(setsockopt)(fd, level, name, value, len);
}

EXPORT int sockatmark(int fd)
{
	TRACED(sockatmark, fd);

	struct sock_ref ref = sock_of(fd);
	int ret, at_mark = 0;

	if (!ref.s)
		return handed_of(fd).s ? 0 : real(sockatmark)(fd);
	ret = option_ioctl(fd, ref, SIOCATMARK, &at_mark);
	return give(ret < 0 ? ret : at_mark);
}

ALIAS(__connect, connect);
