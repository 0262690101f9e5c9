/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: ways to the kernel past the functions of libc.
 *
 * Purpose and rules: intercept.h. syscall() of a call that libcanal stands in front
 * of is that call; io_uring makes its system calls where nobody sees them, so the
 * sockets are handed over.
 */
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "intercept.h"
#include "sys.h"

/* --- io_uring ---------------------------------------------------------- */

/* liburing's, which make their system calls by themselves: found behind us. */
struct io_uring;
struct io_uring_params;
extern int io_uring_setup(unsigned int entries, struct io_uring_params *p);
extern int io_uring_queue_init(unsigned int entries, struct io_uring *ring, unsigned int flags);
extern int io_uring_queue_init_params(unsigned int entries, struct io_uring *ring,
				      struct io_uring_params *p);

EXPORT int io_uring_setup(unsigned int entries, struct io_uring_params *p)
{
	TRACED(io_uring_setup, entries, p);

	handover_all();
	return real(io_uring_setup)(entries, p);
}

EXPORT int io_uring_queue_init(unsigned int entries, struct io_uring *ring, unsigned int flags)
{
	TRACED(io_uring_queue_init, entries, ring, flags);

	handover_all();
	return real(io_uring_queue_init)(entries, ring, flags);
}

EXPORT int io_uring_queue_init_params(unsigned int entries, struct io_uring *ring,
				      struct io_uring_params *p)
{
	TRACED(io_uring_queue_init_params, entries, ring, p);

	handover_all();
	return real(io_uring_queue_init_params)(entries, ring, p);
}

/* --- syscall() --------------------------------------------------------- */

#define P(n) ((void *)(uintptr_t)a[n])
#define I(n) ((int)a[n])
#define U(n) ((unsigned int)a[n])

/* sigmask of pselect6: a pointer to the mask and its length. */
static long call_pselect(const long *a)
{
	const sigset_t *const *mask = P(5);

	return pselect(I(0), P(1), P(2), P(3), P(4), mask ? *mask : NULL);
}

#ifdef SYS_io_uring_setup
static long ring_by_number(const long *a)
{
	long ret;

	handover_all();
	ret = give(sys_call6(SYS_io_uring_setup, a[0], a[1], a[2], a[3], a[4], a[5]));
	trace_ring_by_number(ret, U(0));
	return ret;
}
#endif

/* clang-format off */
/*
 * What starts with a descriptor of ours, or makes or watches such. False: none of our
 * business.
 */
static bool route_fd(long number, const long *a, long *ret)
{
	switch (number) {
	case SYS_read: *ret = read(I(0), P(1), (size_t)a[2]); return true;
	case SYS_write: *ret = write(I(0), P(1), (size_t)a[2]); return true;
	case SYS_readv: *ret = readv(I(0), P(1), I(2)); return true;
	case SYS_writev: *ret = writev(I(0), P(1), I(2)); return true;
	case SYS_preadv2: *ret = preadv2(I(0), P(1), I(2), a[3], I(5)); return true;
	case SYS_pwritev2: *ret = pwritev2(I(0), P(1), I(2), a[3], I(5)); return true;
	case SYS_sendto: *ret = sendto(I(0), P(1), (size_t)a[2], I(3), P(4), U(5)); return true;
	case SYS_recvfrom: *ret = recvfrom(I(0), P(1), (size_t)a[2], I(3), P(4), P(5)); return true;
	case SYS_sendmsg: *ret = sendmsg(I(0), P(1), I(2)); return true;
	case SYS_recvmsg: *ret = recvmsg(I(0), P(1), I(2)); return true;
	case SYS_sendmmsg: *ret = sendmmsg(I(0), P(1), U(2), I(3)); return true;
	case SYS_recvmmsg: *ret = recvmmsg(I(0), P(1), U(2), I(3), P(4)); return true;
	case SYS_close: *ret = close(I(0)); return true;
	case SYS_dup: *ret = dup(I(0)); return true;
	case SYS_fcntl: *ret = fcntl(I(0), I(1), P(2)); return true;
	case SYS_ioctl: *ret = ioctl(I(0), (unsigned long)a[1], P(2)); return true;
	case SYS_connect: *ret = connect(I(0), P(1), U(2)); return true;
	case SYS_bind: *ret = bind(I(0), P(1), U(2)); return true;
	case SYS_listen: *ret = listen(I(0), I(1)); return true;
	case SYS_accept: *ret = accept(I(0), P(1), P(2)); return true;
	case SYS_accept4: *ret = accept4(I(0), P(1), P(2), I(3)); return true;
	case SYS_shutdown: *ret = shutdown(I(0), I(1)); return true;
	case SYS_getsockname: *ret = getsockname(I(0), P(1), P(2)); return true;
	case SYS_getpeername: *ret = getpeername(I(0), P(1), P(2)); return true;
	case SYS_getsockopt: *ret = getsockopt(I(0), I(1), I(2), P(3), P(4)); return true;
	case SYS_setsockopt: *ret = setsockopt(I(0), I(1), I(2), P(3), U(4)); return true;
	case SYS_epoll_ctl: *ret = epoll_ctl(I(0), I(1), I(2), P(3)); return true;
	case SYS_epoll_pwait: *ret = epoll_pwait(I(0), P(1), I(2), I(3), P(4)); return true;
#ifdef SYS_epoll_wait
	case SYS_epoll_wait: *ret = epoll_wait(I(0), P(1), I(2), I(3)); return true;
#endif
#ifdef SYS_epoll_pwait2
	case SYS_epoll_pwait2: *ret = epoll_pwait2(I(0), P(1), I(2), P(3), P(4)); return true;
#endif
	default: return false;
	}
}

/* The same for what names descriptors otherwise, or takes them along. */
static bool route_other(long number, long *a, long *ret)
{
	switch (number) {
	case SYS_clone: *ret = clone_by_number(a); return true;
#ifdef SYS_clone3
	case SYS_clone3: *ret = clone3_by_number(a); return true;
#endif
	case SYS_sendmsg: *ret = sendmsg(I(0), P(1), I(2)); return true;
	case SYS_recvmsg: *ret = recvmsg(I(0), P(1), I(2)); return true;
	case SYS_close: *ret = close(I(0)); return true;
	case SYS_socket: *ret = socket(I(0), I(1), I(2)); return true;
	case SYS_dup3: *ret = dup3(I(0), I(1), I(2)); return true;
#ifdef SYS_dup2
	case SYS_dup2: *ret = dup2(I(0), I(1)); return true;
#endif
	case SYS_splice: *ret = splice(I(0), P(1), I(2), P(3), (size_t)a[4], U(5)); return true;
	case SYS_sendfile: *ret = sendfile(I(0), I(1), P(2), (size_t)a[3]); return true;
#ifdef SYS_poll
	case SYS_poll: *ret = poll(P(0), (nfds_t)a[1], I(2)); return true;
	case SYS_select: *ret = select(I(0), P(1), P(2), P(3), P(4)); return true;
#endif
	case SYS_ppoll: *ret = ppoll(P(0), (nfds_t)a[1], P(2), P(3)); return true;
	case SYS_pselect6: *ret = call_pselect(a); return true;
	case SYS_epoll_create1: *ret = epoll_create1(I(0)); return true;
#ifdef SYS_close_range
	case SYS_close_range: *ret = close_range(U(0), U(1), I(2)); return true;
#endif
#ifdef SYS_pidfd_getfd
	case SYS_pidfd_getfd: *ret = pidfd_getfd(I(0), I(1), U(2)); return true;
#endif
	case SYS_chroot: *ret = chroot(P(0)); return true;
	case SYS_prctl: *ret = prctl(I(0), a[1], a[2], a[3], a[4]); return true;
	case SYS_seccomp: confine_filter(); return false;
	case SYS_execve: *ret = execve(P(0), P(1), P(2)); return true;
	case SYS_execveat: *ret = execveat(I(0), P(1), P(2), P(3), I(4)); return true;
	case SYS_prlimit64: *ret = prlimit(I(0), I(1), P(2), P(3)); return true;
#ifdef SYS_fork
	case SYS_fork: *ret = fork(); return true;
	case SYS_vfork: *ret = vfork(); return true;
	case SYS_epoll_create: *ret = epoll_create(I(0)); return true;
	case SYS_setrlimit: *ret = setrlimit(I(0), P(1)); return true;
	case SYS_getrlimit: *ret = getrlimit(I(0), P(1)); return true;
#endif
#ifdef SYS_io_uring_setup
	case SYS_io_uring_setup: *ret = ring_by_number(a); return true;
#endif
	default: return false;
	}
}
/* clang-format on */

EXPORT long syscall(long number, ...)
{
	long a[6], ret;
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if ((fd_lookup(I(0)) && route_fd(number, a, &ret)) || route_other(number, a, &ret))
		return ret;
	return give(sys_call6(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}
