// SPDX-License-Identifier: GPL-2.0
/*
 * The descriptor that a program holds for a canal socket: a real socket.
 *
 * Purpose: it stands for the socket in close, dup, fork, exec, SCM_RIGHTS and
 * fstat; its last close tells canald. Code that libcanal does not see (a raw
 * system call, stdio, a static helper after exec) reads, writes and polls it, and
 * acts on the same FIFOs (canal_data.c).
 *
 * Invariants
 *  1. sk_protocol stays 0 and no number of libcanal's domain is entered anywhere:
 *     the kernel's own users of internet sockets (l2tp, sunrpc, sockmap) look
 *     for IPPROTO_* and let go. The object is as large as struct inet_sock,
 *     for those that only look at the family (audit).
 *  2. SOL_SOCKET options go to the kernel's own struct sock: they are kept there
 *     and change nothing about the socket of the host.
 *
 * Ownership and threads: the socket holds the channel as a user; the UNDUMMY
 * request lives in the socket's state, which goes when canald has it.
 */
#include <linux/file.h>
#include <linux/in6.h>
#include <linux/ipv6.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/sockios.h>
#include <linux/uaccess.h>
#include <net/inet_sock.h>
#include <net/sock.h>

#include <asm/ioctls.h>

#include "canal.h"

#define TYPE_FLAGS (SOCK_NONBLOCK | SOCK_CLOEXEC)

/* What outlives the socket until canald knows of its end. */
struct dummy {
	struct canal_channel *ch;
	u32 number;
	struct canal_request made, gone;
};

struct dummy_sock {
	struct inet_sock inet; /* must be first; only its struct sock is used */
	struct dummy *dummy;
};

static struct dummy *dummy_of(struct socket *sock)
{
	return container_of(sock->sk, struct dummy_sock, inet.sk)->dummy;
}

/* --- operations -------------------------------------------------------- */

static void dummy_told(struct canal_request *request)
{
	struct dummy *d = container_of(request, struct dummy, gone);

	canal_channel_unuse(d->ch);
	canal_channel_put(d->ch);
	kfree(d);
}

static int dummy_release(struct socket *sock)
{
	struct sock *sk = sock->sk;
	struct dummy *d;

	if (!sk)
		return 0;
	d = dummy_of(sock);
	sock_orphan(sk);
	sock->sk = NULL;
	sock_put(sk);
	canal_request_submit(d->ch->dev, &d->gone);
	return 0;
}

/* canald stores domain and type when it has seen INR_SOCKET. */
static void dummy_settle(struct socket *sock)
{
	struct dummy *d = dummy_of(sock);
	struct canal_sock *s = canal_data_sock(d->ch, d->number);
	u8 domain = READ_ONCE(s->domain), type = READ_ONCE(s->type);

	/* N1 acquire: state before what hangs on it; pairs with sock_set_state() */
	if (canal_load_acquire(&s->state) <= CANAL_SOCK_GRANTED)
		return;
	if (domain == AF_INET || domain == AF_INET6)
		sock->sk->sk_family = domain;
	if (type == SOCK_STREAM || type == SOCK_DGRAM)
		sock->sk->sk_type = sock->type = type;
}

static bool dummy_nonblock(const struct socket *sock, int flags)
{
	return (flags & MSG_DONTWAIT) || (sock->file && (sock->file->f_flags & O_NONBLOCK));
}

static int dummy_sendmsg(struct socket *sock, struct msghdr *msg, size_t len)
{
	struct dummy *d = dummy_of(sock);
	int r;

	if (dummy_nonblock(sock, msg->msg_flags))
		msg->msg_flags |= MSG_DONTWAIT;
	r = canal_data_send(d->ch, d->number, msg);
	if (r == -EPIPE && sock->type != SOCK_DGRAM && !(msg->msg_flags & MSG_NOSIGNAL))
		send_sig(SIGPIPE, current, 0);
	return r;
}

static int dummy_recvmsg(struct socket *sock, struct msghdr *msg, size_t len, int flags)
{
	struct dummy *d = dummy_of(sock);

	if (dummy_nonblock(sock, flags))
		flags |= MSG_DONTWAIT;
	return canal_data_recv(d->ch, d->number, msg, flags);
}

static __poll_t dummy_poll(struct file *file, struct socket *sock, poll_table *table)
{
	struct dummy *d = dummy_of(sock);
	int err;

	poll_wait(file, &d->ch->kernel_wait, table);
	dummy_settle(sock);
	/* For the kernel's own SO_ERROR. It is not taken here: libcanal may ask. */
	err = canal_data_error(d->ch, d->number);
	if (err)
		WRITE_ONCE(sock->sk->sk_err, -err);
	return canal_data_poll(d->ch, d->number);
}

static int dummy_shutdown(struct socket *sock, int how)
{
	struct dummy *d = dummy_of(sock);

	return canal_data_shutdown(d->ch, d->number, how);
}

static int dummy_getname(struct socket *sock, struct sockaddr *name, int peer)
{
	struct dummy *d = dummy_of(sock);

	return canal_data_name(d->ch, d->number, peer, name);
}

static int dummy_ioctl(struct socket *sock, unsigned int cmd, unsigned long arg)
{
	struct dummy *d = dummy_of(sock);
	int len;

	if (cmd != FIONREAD && cmd != SIOCOUTQ && cmd != SIOCATMARK)
		return -ENOIOCTLCMD;
	if (cmd == SIOCATMARK)
		len = canal_data_at_mark(d->ch, d->number);
	else
		len = canal_data_queued(d->ch, d->number, cmd == SIOCOUTQ);
	return len < 0 ? len : put_user(len, (int __user *)arg);
}

/* SOL_SOCKET does not come here: the kernel answers that from struct sock. */
static int dummy_setsockopt(struct socket *sock, int level, int name, sockptr_t value,
			    unsigned int len)
{
	return -ENOPROTOOPT;
}

static int dummy_getsockopt(struct socket *sock, int level, int name, char __user *value,
			    int __user *len)
{
	return -ENOPROTOOPT;
}

static const struct proto_ops dummy_ops = {
	.family = PF_UNSPEC,
	.owner = THIS_MODULE,
	.release = dummy_release,
	.bind = sock_no_bind,
	.connect = sock_no_connect,
	.socketpair = sock_no_socketpair,
	.accept = sock_no_accept,
	.getname = dummy_getname,
	.poll = dummy_poll,
	.ioctl = dummy_ioctl,
	.listen = sock_no_listen,
	.shutdown = dummy_shutdown,
	.setsockopt = dummy_setsockopt,
	.getsockopt = dummy_getsockopt,
	.sendmsg = dummy_sendmsg,
	.recvmsg = dummy_recvmsg,
	.mmap = sock_no_mmap,
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
	.sendpage = sock_no_sendpage,
#endif
};

static struct proto dummy_proto = {
	.name = "CANAL",
	.owner = THIS_MODULE,
	.obj_size = sizeof(struct dummy_sock),
};

int canal_sock_register(void)
{
	return proto_register(&dummy_proto, 1);
}

void canal_sock_unregister(void)
{
	proto_unregister(&dummy_proto);
}

/* --- making one -------------------------------------------------------- */

static struct dummy *dummy_new(struct canal_channel *ch, u32 client, const struct canal_dummy *arg)
{
	struct dummy *d = kzalloc(sizeof(*d), GFP_KERNEL_ACCOUNT);

	if (!d)
		return NULL;
	d->ch = canal_channel_get(ch);
	canal_channel_use(ch);
	d->number = arg->sock;
	canal_request_init(&d->made, CANAL_MAIL_DUMMY, false);
	canal_request_init(&d->gone, CANAL_MAIL_UNDUMMY, false);
	canal_request_about(&d->made, ch, client);
	canal_request_about(&d->gone, ch, 0);
	d->made.mail.sock = d->gone.mail.sock = arg->sock;
	d->made.mail.generation = d->gone.mail.generation = arg->generation;
	d->gone.done = dummy_told;
	return d;
}

static void dummy_free(struct dummy *d)
{
	canal_channel_unuse(d->ch);
	canal_channel_put(d->ch);
	kfree(d);
}

static int dummy_sock(struct dummy *d, u32 flags, struct socket **ret_sock)
{
	int family = flags & CANAL_DUMMY_INET6 ? AF_INET6 : AF_INET;
	int type = flags & CANAL_DUMMY_TYPE ?: SOCK_STREAM;
	struct socket *sock;
	struct sock *sk;
	int err = sock_create_lite(family, type, 0, &sock);

	if (err)
		return err;
	sk = sk_alloc(current->nsproxy->net_ns, family, GFP_KERNEL, &dummy_proto, 0);
	if (!sk) {
		sock_release(sock);
		return -ENOMEM;
	}
	sock_init_data(sock, sk);
	container_of(sk, struct dummy_sock, inet.sk)->dummy = d;
	__module_get(THIS_MODULE); /* sock_release() puts it */
	sock->ops = &dummy_ops;
	dummy_settle(sock);
	*ret_sock = sock;
	return 0;
}

/**
 * canal_dummy_create() - the descriptor of a socket
 * @ch:       the channel
 * @client:   number of the calling process
 * @arg:      what the program asked; its fd is set
 * @ret_file: the file
 *
 * Context: process context; may wait for canald to take requests.
 * Return: 0, with a number and a file that belong together.
 */
int canal_dummy_create(struct canal_channel *ch, u32 client, struct canal_dummy *arg,
		       struct file **ret_file)
{
	struct socket *sock;
	struct file *file;
	struct dummy *d;
	int fd, err;

	if (arg->sock >= ch->layout.sock.count ||
	    (arg->flags & ~(TYPE_FLAGS | CANAL_DUMMY_TYPE | CANAL_DUMMY_INET6)) ||
	    (arg->flags & CANAL_DUMMY_TYPE) > SOCK_DGRAM)
		return -EINVAL;
	err = canal_device_throttle(ch->dev);
	if (err)
		return err;
	d = dummy_new(ch, client, arg);
	if (!d)
		return -ENOMEM;
	err = dummy_sock(d, arg->flags, &sock);
	if (err) {
		dummy_free(d);
		return err;
	}
	canal_request_submit(ch->dev, &d->made);
	/* From here on its release undoes all. */
	fd = get_unused_fd_flags(arg->flags & SOCK_CLOEXEC);
	if (fd < 0) {
		sock_release(sock);
		return fd;
	}
	file = sock_alloc_file(sock, arg->flags & SOCK_NONBLOCK, NULL);
	if (IS_ERR(file)) { /* which has released it */
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	arg->fd = fd;
	*ret_file = file;
	return 0;
}
