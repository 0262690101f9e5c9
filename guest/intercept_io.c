/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: bytes in and out.
 *
 * Purpose and rules: intercept.h. read, write, send and recv on a stream are the
 * hot path: one look at the table, one iovec on the stack, and the FIFO.
 */
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "adopt.h"
#include "control.h"
#include "deadline.h"
#include "errqueue.h"
#include "hold.h"
#include "intercept.h"
#include "user.h"

/* No buffer is so long: addresses of programs end there. */
#define USER_MOST (1ul << 47)
#define MMSG_MAX 1024 /* the kernel's own limit for one call */

/* In the callers: a call of a few bytes would pay for each function in between. */
#define HOT static inline __attribute__((always_inline))

ssize_t give_failure(int fd, ssize_t ret)
{
	return ret == -EHANDED && handover_learn(fd) ? ret : give(ret);
}

/* --- one buffer -------------------------------------------------------- */

/* Apart, so that a stream's call does not fill a msghdr. */
static __attribute__((noinline)) ssize_t other_send_iov(struct sock_ref ref,
							const struct iovec *iov, size_t count,
							int flags)
{
	/* the iovec is only read */
	const struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count };

	if (!is_stream(ref))
		return dgram_send(ref.s, ref.n, &m, flags);
	stdio_precedes(ref.s);
	return stream_send(ref.s, ref.n, iov, (int)count, flags);
}

static __attribute__((noinline)) ssize_t other_recv_iov(struct sock_ref ref,
							const struct iovec *iov, size_t count,
							int flags)
{
	struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count };

	return is_stream(ref) ? stream_recv_slowly(ref.s, ref.n, iov, (int)count, flags)
			      : dgram_recv(ref.s, ref.n, &m, flags);
}

/* Behind the call its arguments are in @iov, so that no register has to keep them. */
static inline ssize_t io_send(struct sock_ref ref, const struct iovec *iov, int flags)
{
	return ref.way == SOCK_STREAM ? stream_send(ref.s, ref.n, iov, 1, flags)
				      : other_send_iov(ref, iov, 1, flags);
}

static inline ssize_t io_recv(struct sock_ref ref, const struct iovec *iov, int flags)
{
	return ref.way == SOCK_STREAM ? stream_recv(ref.s, ref.n, iov, 1, flags)
				      : other_recv_iov(ref, iov, 1, flags);
}

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
	TRACED(read, fd, buf, len);

	struct sock_ref ref = sock_of(fd);
	struct iovec iov = { buf, len };

	if (!ref.s)
		return real(read)(fd, buf, len);
	/* Unlike recv(), which waits and takes a datagram. */
	return len ? GIVE_IO(fd, io_recv(ref, &iov, 0), real(read)(fd, iov.iov_base, iov.iov_len))
		   : 0;
}

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
	TRACED(write, fd, buf, len);

	struct sock_ref ref = sock_of(fd);
	struct iovec iov = { (void *)(uintptr_t)buf, len };

	if (!ref.s)
		return real(write)(fd, buf, len);
	return GIVE_IO(fd, io_send(ref, &iov, 0), real(write)(fd, iov.iov_base, iov.iov_len));
}

EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	TRACED(send, fd, buf, len, flags);

	struct sock_ref ref = sock_of(fd);
	struct iovec iov = { (void *)(uintptr_t)buf, len };

	if (!ref.s)
		return real(send)(fd, buf, len, flags);
	return GIVE_IO(fd, io_send(ref, &iov, flags),
		       real(send)(fd, iov.iov_base, iov.iov_len, flags));
}

EXPORT ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	TRACED(recv, fd, buf, len, flags);

	struct sock_ref ref = sock_of(fd);
	struct iovec iov = { buf, len };

	if (!ref.s)
		return real(recv)(fd, buf, len, flags);
	return GIVE_IO(fd, io_recv(ref, &iov, flags),
		       real(recv)(fd, iov.iov_base, iov.iov_len, flags));
}

/* --- vectors ----------------------------------------------------------- */

/* As the kernel: too many pieces, or more bytes than a result can tell. The total. */
HOT ssize_t check_iov(const struct iovec *iov, int count)
{
	size_t total = 0;

	if (count < 0 || count > IOV_MAX)
		return -EINVAL;
	if (!iov && count)
		return -EFAULT;
	for (int i = 0; i < count; i++) {
		if (iov[i].iov_len > SSIZE_MAX)
			return -EINVAL;
		if (iov[i].iov_len >= USER_MOST)
			return -EFAULT;
		total += iov[i].iov_len;
	}
	return total;
}

HOT ssize_t send_iov(struct sock_ref ref, const struct iovec *iov, int count, int flags)
{
	ssize_t ret = check_iov(iov, count);

	if (ret < 0)
		return ret;
	if (ref.way == SOCK_STREAM)
		return stream_send(ref.s, ref.n, iov, count, flags);
	return other_send_iov(ref, iov, (size_t)count, flags);
}

HOT ssize_t recv_iov(struct sock_ref ref, const struct iovec *iov, int count, int flags)
{
	ssize_t ret = check_iov(iov, count);

	if (ret < 0)
		return ret;
	if (ref.way == SOCK_STREAM)
		return stream_recv(ref.s, ref.n, iov, count, flags);
	return other_recv_iov(ref, iov, (size_t)count, flags);
}

/* readv and writev do nothing for no bytes, where recvmsg and sendmsg wait or
 * move an empty datagram. */
static ssize_t file_writev(struct sock_ref ref, const struct iovec *iov, int count, int flags)
{
	ssize_t ret = count > 0 && count <= IOV_MAX
			      ? USER_ONCE(user_readable, iov, (size_t)count * sizeof(*iov))
			      : 0;

	if (ret == 0)
		ret = check_iov(iov, count);
	return ret > 0 ? send_iov(ref, iov, count, flags) : ret;
}

static ssize_t file_readv(struct sock_ref ref, const struct iovec *iov, int count, int flags)
{
	ssize_t ret = count > 0 && count <= IOV_MAX
			      ? USER_ONCE(user_readable, iov, (size_t)count * sizeof(*iov))
			      : 0;

	if (ret == 0)
		ret = check_iov(iov, count);
	return ret > 0 ? recv_iov(ref, iov, count, flags) : ret;
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int count)
{
	TRACED(readv, fd, iov, count);

	struct sock_ref ref = sock_of(fd);

	if (!ref.s)
		return real(readv)(fd, iov, count);
	return GIVE_IO(fd, file_readv(ref, iov, count, 0), real(readv)(fd, iov, count));
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int count)
{
	TRACED(writev, fd, iov, count);

	struct sock_ref ref = sock_of(fd);

	if (!ref.s)
		return real(writev)(fd, iov, count);
	return GIVE_IO(fd, file_writev(ref, iov, count, 0), real(writev)(fd, iov, count));
}

/* --- messages ---------------------------------------------------------- */

/* A stream has no control messages to send, but wrong ones are told. */
HOT ssize_t send_stream(struct sock_ref ref, const struct msghdr *m, int flags)
{
	int ret = m->msg_controllen ? control_check_stream(m) : 0;

	return ret < 0 ? ret : send_iov(ref, m->msg_iov, m->msg_iovlen, flags);
}

/*
 * MSG_FASTOPEN: a connect, and bytes behind it. That is what Linux does, too, as long as
 * it has no cookie of that server's.
 */
static __attribute__((noinline)) ssize_t send_connecting(int fd, struct sock_ref ref,
							 const struct msghdr *m, int flags)
{
	const struct msghdr plain = { .msg_iov = m->msg_iov, .msg_iovlen = m->msg_iovlen };
	ssize_t ret = socket_fastopen(ref, m->msg_name, m->msg_namelen, flags);

	flags &= ~MSG_FASTOPEN;
	if (ret < 0)
		return ret;
	if (fd_sock(fd) == ref.s)
		return send_iov(ref, m->msg_iov, (int)m->msg_iovlen, flags);
	/* it went to the loopback of a virtual machine's guest */
	ret = real(sendmsg)(fd, &plain, flags);
	return ret < 0 ? -errno : ret;
}

HOT ssize_t io_sendmsg(struct sock_ref ref, const struct msghdr *m, int flags)
{
	if (m->msg_iovlen > IOV_MAX)
		return -EMSGSIZE;
	if (m->msg_controllen && user_readable(m->msg_control, m->msg_controllen))
		return -EFAULT;
	if (is_stream(ref))
		return send_stream(ref, m, flags);
	return dgram_send(ref.s, ref.n, m, flags);
}

/* Of one message at a time: what the pointers in it lead to. */
HOT int message_check(const struct msghdr *m)
{
	if (m->msg_iovlen > IOV_MAX)
		return -EMSGSIZE;
	return USER_ONCE(user_readable, m->msg_iov, m->msg_iovlen * sizeof(*m->msg_iov));
}

HOT ssize_t one_sendmsg(int fd, struct sock_ref ref, const struct msghdr *m, int flags)
{
	int ret = USER_ONCE(user_readable, m, sizeof(*m));

	if (!ret)
		ret = message_check(m);
	if (!ret && m->msg_name && (int)m->msg_namelen < 0)
		ret = -EINVAL;
	if (!ret && m->msg_name && m->msg_namelen)
		ret = USER_ONCE(user_readable, m->msg_name, m->msg_namelen);
	if (unlikely(flags & MSG_FASTOPEN) && !ret && m->msg_name && is_stream(ref))
		return send_connecting(fd, ref, m, flags);
	return ret < 0 ? ret : io_sendmsg(ref, m, flags);
}

/* A stream has no addresses, no control messages and no flags to tell. */
/* TCP_INQ: what is there still, or that the end is. */
static __attribute__((noinline)) void give_inq(const struct canal_sock *s, struct msghdr *m)
{
	struct control control = { .len = CMSG_SPACE(sizeof(int)) };
	struct cmsghdr *c = (void *)control.data;
	int count = (int)(canal_load_acquire(&s->rx.tail) - canal_read_once(&s->rx.head));

	if (!(canal_read_once(&s->status) & CANAL_STATUS_INQ)) {
		m->msg_controllen = 0;
		return;
	}
	if (!count && canal_load_acquire(&s->rx.closed) == CANAL_CLOSED_EOF)
		count = 1;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	c->cmsg_level = IPPROTO_TCP;
	c->cmsg_type = TCP_CM_INQ;
	memcpy(CMSG_DATA(c), &count, sizeof(count));
	control_give(&control, m);
}

HOT ssize_t io_recvmsg(struct sock_ref ref, struct msghdr *m, int flags)
{
	ssize_t ret;

	if (m->msg_iovlen > IOV_MAX)
		return -EMSGSIZE;
	if (flags & MSG_ERRQUEUE)
		return errqueue_recv(ref.s, ref.n, m, flags);
	if (!is_stream(ref))
		return dgram_recv(ref.s, ref.n, m, flags);
	ret = recv_iov(ref, m->msg_iov, m->msg_iovlen, flags);
	if (ret >= 0) {
		m->msg_namelen = 0;
		m->msg_flags = flags & (MSG_CMSG_CLOEXEC | MSG_OOB);
		if (unlikely(m->msg_controllen))
			give_inq(ref.s, m);
		if ((flags & MSG_OOB) && !ret)
			m->msg_flags |= MSG_TRUNC;
	}
	return ret;
}

HOT ssize_t one_recvmsg(struct sock_ref ref, struct msghdr *m, int flags)
{
	int ret = USER_ONCE(user_writable, m, sizeof(*m));

	if (!ret)
		ret = message_check(m);
	if (!ret && m->msg_name && (int)m->msg_namelen < 0)
		ret = -EINVAL;
	if (!ret && m->msg_name && !is_stream(ref))
		ret = USER_ONCE(user_writable, m->msg_name, m->msg_namelen);
	return ret < 0 ? ret : io_recvmsg(ref, m, flags);
}

/* --- with addresses ---------------------------------------------------- */

/* A dummy has another kind of address than its socket. */
static ssize_t kernel_sendto(int fd, const void *buf, size_t len, int flags,
			     __CONST_SOCKADDR_ARG addr, socklen_t addr_len)
{
	return addr.__sockaddr__ && handed_of(fd).s
		       ? real(send)(fd, buf, len, flags)
		       : real(sendto)(fd, buf, len, flags, addr, addr_len);
}

/* Neither addresses nor control messages are for a dummy. What goes elsewhere may
 * take sockets of ours along. */
static ssize_t kernel_sendmsg(int fd, const struct msghdr *m, int flags)
{
	struct msghdr plain = { 0 };

	if (USER_ONCE(user_readable, m, sizeof(*m)))
		return real(sendmsg)(fd, m, flags); /* the kernel says what is wrong with it */
	plain.msg_iov = m->msg_iov;
	plain.msg_iovlen = m->msg_iovlen;
	if ((m->msg_name || m->msg_controllen) && handed_of(fd).s)
		m = &plain;
	else if (m->msg_controllen)
		rights_sent(fd, m);
	return real(sendmsg)(fd, m, flags);
}

static ssize_t kernel_recvmsg(int fd, struct msghdr *m, int flags)
{
	ssize_t ret = real(recvmsg)(fd, m, flags);

	if (ret >= 0 && m->msg_controllen)
		rights_received(m);
	return ret;
}

EXPORT ssize_t sendto(int fd, const void *buf, size_t len, int flags, __CONST_SOCKADDR_ARG addr,
		      socklen_t addr_len)
{
	TRACED(sendto, fd, buf, len, flags, addr, addr_len);

	struct sock_ref ref = sock_of(fd);
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	struct msghdr m = {
		.msg_name = (void *)(uintptr_t)addr.__sockaddr__,
		.msg_namelen = addr.__sockaddr__ ? addr_len : 0,
		.msg_iov = &iov,
		.msg_iovlen = 1,
	};

	if (!ref.s)
		return kernel_sendto(fd, buf, len, flags, addr, addr_len);
	if (m.msg_name &&
	    (addr_len > sizeof(struct sockaddr_storage) || (!addr_len && !is_stream(ref))))
		return give(-EINVAL);
	if (m.msg_name && USER_ONCE(user_readable, addr.__sockaddr__, addr_len))
		return give(-EFAULT);
	if (!is_stream(ref))
		return GIVE_IO(fd, dgram_send(ref.s, ref.n, &m, flags),
			       real(sendto)(fd, buf, len, flags, addr, addr_len));
	if (unlikely(flags & MSG_FASTOPEN) && m.msg_name)
		return give(send_connecting(fd, ref, &m, flags));
	return GIVE_IO(fd, io_send(ref, &iov, flags), real(send)(fd, buf, len, flags));
}

EXPORT ssize_t recvfrom(int fd, void *buf, size_t len, int flags, __SOCKADDR_ARG addr,
			socklen_t *addr_len)
{
	TRACED(recvfrom, fd, buf, len, flags, addr, addr_len);

	struct sock_ref ref = sock_of(fd);
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t ret;

	if (!ref.s)
		return real(recvfrom)(fd, buf, len, flags, addr, addr_len);
	if (addr.__sockaddr__ && USER_ONCE(user_writable, addr_len, sizeof(*addr_len)))
		return give(-EFAULT);
	if (addr.__sockaddr__ && (int)*addr_len < 0)
		return give(-EINVAL);
	if (addr.__sockaddr__ && USER_ONCE(user_writable, addr.__sockaddr__, *addr_len))
		return give(-EFAULT);
	if (addr.__sockaddr__) {
		m.msg_name = addr.__sockaddr__;
		m.msg_namelen = *addr_len;
	}
	ret = io_recvmsg(ref, &m, flags);
	if (ret >= 0 && addr.__sockaddr__)
		*addr_len = m.msg_namelen;
	return GIVE_IO(fd, ret, real(recvfrom)(fd, buf, len, flags, addr, addr_len));
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	TRACED(sendmsg, fd, m, flags);

	struct sock_ref ref = sock_of(fd);

	if (!ref.s)
		return kernel_sendmsg(fd, m, flags);
	return GIVE_IO(fd, one_sendmsg(fd, ref, m, flags), kernel_sendmsg(fd, m, flags));
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	TRACED(recvmsg, fd, m, flags);

	struct sock_ref ref = sock_of(fd);

	if (!ref.s)
		return kernel_recvmsg(fd, m, flags);
	return GIVE_IO(fd, one_recvmsg(ref, m, flags), kernel_recvmsg(fd, m, flags));
}

/* --- many messages ----------------------------------------------------- */

static bool sent_partly(const struct msghdr *m, ssize_t sent)
{
	size_t left = (size_t)sent;

	for (size_t i = 0; i < m->msg_iovlen; i++) {
		if (m->msg_iov[i].iov_len > left)
			return true;
		left -= m->msg_iov[i].iov_len;
	}
	return false;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *m, unsigned int count, int flags)
{
	TRACED(sendmmsg, fd, m, count, flags);

	struct sock_ref ref = sock_of(fd);
	unsigned int done;
	ssize_t ret = 0;

	if (!ref.s) {
		for (unsigned int i = 0; i < count && !user_readable(&m[i], sizeof(m[i])); i++)
			if (m[i].msg_hdr.msg_controllen)
				rights_sent(fd, &m[i].msg_hdr);
		return real(sendmmsg)(fd, m, count, flags);
	}
	if (count > MMSG_MAX)
		count = MMSG_MAX;
	if (USER_ONCE(user_writable, m, count * sizeof(*m)))
		return give(-EFAULT);
	for (done = 0; done < count; done++) {
		ret = one_sendmsg(fd, ref, &m[done].msg_hdr, flags);
		if (ret < 0)
			break;
		m[done].msg_len = ret;
		flags |= MSG_BEGUN;
		if (sent_partly(&m[done].msg_hdr, ret)) { /* what follows may not overtake it */
			done++;
			break;
		}
	}
	return done ? (int)done : GIVE_IO(fd, ret, real(sendmmsg)(fd, m, count, flags));
}

static int kernel_recvmmsg(int fd, struct mmsghdr *m, unsigned int count, int flags,
			   struct timespec *timeout)
{
	int ret = real(recvmmsg)(fd, m, count, flags, timeout);

	for (int i = 0; i < ret; i++)
		if (m[i].msg_hdr.msg_controllen)
			rights_received(&m[i].msg_hdr);
	return ret;
}

/* The time limit is looked at after each message only, as in the kernel. */
EXPORT int recvmmsg(int fd, struct mmsghdr *m, unsigned int count, int flags,
		    struct timespec *timeout)
{
	TRACED(recvmmsg, fd, m, count, flags, timeout);

	struct sock_ref ref = sock_of(fd);
	int64_t end = WAIT_FOREVER;
	unsigned int done = 0;
	ssize_t ret = 0;

	if (!ref.s)
		return kernel_recvmmsg(fd, m, count, flags, timeout);
	if (count > MMSG_MAX)
		count = MMSG_MAX;
	if (USER_ONCE(user_writable, m, count * sizeof(*m)))
		return give(-EFAULT);
	if (timeout && USER_ONCE(user_writable, timeout, sizeof(*timeout)))
		return give(-EFAULT);
	if (!timeout_is_valid(timeout))
		return give(-EINVAL);
	if (timeout)
		end = deadline_of(timeout);
	while (done < count) {
		ret = one_recvmsg(ref, &m[done].msg_hdr, flags & ~MSG_WAITFORONE);
		if (ret < 0)
			break;
		m[done++].msg_len = ret;
		flags |= flags & MSG_WAITFORONE ? MSG_DONTWAIT : MSG_BEGUN;
		if (timeout && wait_now() >= end)
			break;
	}
	if (done && timeout)
		(void)time_left(end, timeout);
	return done ? (int)done : GIVE_IO(fd, ret, real(recvmmsg)(fd, m, count, flags, timeout));
}

/* --- at an offset: a socket has none ----------------------------------- */

EXPORT ssize_t pread(int fd, void *buf, size_t len, off_t at)
{
	TRACED(pread, fd, buf, len, at);
	return fd_sock(fd) ? give(-ESPIPE) : real(pread)(fd, buf, len, at);
}

EXPORT ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
	TRACED(pwrite, fd, buf, len, at);
	return fd_sock(fd) ? give(-ESPIPE) : real(pwrite)(fd, buf, len, at);
}

EXPORT ssize_t preadv(int fd, const struct iovec *iov, int count, off_t at)
{
	TRACED(preadv, fd, iov, count, at);
	return fd_sock(fd) ? give(-ESPIPE) : real(preadv)(fd, iov, count, at);
}

EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t at)
{
	TRACED(pwritev, fd, iov, count, at);
	return fd_sock(fd) ? give(-ESPIPE) : real(pwritev)(fd, iov, count, at);
}

static int from_rwf(int flags)
{
	return flags & RWF_NOWAIT ? MSG_DONTWAIT : 0;
}

EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int count, off_t at, int flags)
{
	TRACED(preadv2, fd, iov, count, at, flags);

	struct sock_ref ref = sock_of(fd);

	if (!ref.s)
		return real(preadv2)(fd, iov, count, at, flags);
	return GIVE_IO(fd, at == -1 ? file_readv(ref, iov, count, from_rwf(flags)) : -ESPIPE,
		       real(preadv2)(fd, iov, count, at, flags));
}

EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t at, int flags)
{
	TRACED(pwritev2, fd, iov, count, at, flags);

	struct sock_ref ref = sock_of(fd);

	if (!ref.s)
		return real(pwritev2)(fd, iov, count, at, flags);
	return GIVE_IO(fd, at == -1 ? file_writev(ref, iov, count, from_rwf(flags)) : -ESPIPE,
		       real(pwritev2)(fd, iov, count, at, flags));
}

/* --- the names that _FORTIFY_SOURCE calls ------------------------------ */

/* These end the program when the buffer is too small; libc's own say so best. */
extern ssize_t __read_chk(int fd, void *buf, size_t len, size_t room);
extern ssize_t __pread_chk(int fd, void *buf, size_t len, off_t at, size_t room);
extern ssize_t __recv_chk(int fd, void *buf, size_t len, size_t room, int flags);
extern ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t room, int flags,
			      __SOCKADDR_ARG addr, socklen_t *addr_len);

EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t room)
{
	return len > room ? real(__read_chk)(fd, buf, len, room) : read(fd, buf, len);
}

EXPORT ssize_t __pread_chk(int fd, void *buf, size_t len, off_t at, size_t room)
{
	return len > room ? real(__pread_chk)(fd, buf, len, at, room) : pread(fd, buf, len, at);
}

EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t room, int flags)
{
	return len > room ? real(__recv_chk)(fd, buf, len, room, flags) : recv(fd, buf, len, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t len, size_t room, int flags,
			      __SOCKADDR_ARG addr, socklen_t *addr_len)
{
	return len > room ? real(__recvfrom_chk)(fd, buf, len, room, flags, addr, addr_len)
			  : recvfrom(fd, buf, len, flags, addr, addr_len);
}

ALIAS(__read, read);
ALIAS(__write, write);
ALIAS(__send, send);
ALIAS(pread64, pread);
ALIAS(__pread64, pread);
ALIAS(__pread64_chk, __pread_chk);
ALIAS(pwrite64, pwrite);
ALIAS(__pwrite64, pwrite);
ALIAS(preadv64, preadv);
ALIAS(pwritev64, pwritev);
ALIAS(preadv64v2, preadv2);
ALIAS(pwritev64v2, pwritev2);
