/* SPDX-License-Identifier: MIT */
/*
 * The local transport, guest's side: packets on canald's UNIX socket.
 *
 * Purpose: HELLO and JOIN with their answer, and the two packets that carry
 * descriptors later: WAITER and DUMMY. docs/wire.md section 1.
 *
 * Invariants
 *  1. No call here goes through a symbol that libcanal exports (sys.h).
 *  2. Descriptors of our own lie where fd_move_high() puts them; only the near
 *     end of a dummy has a number of the program's.
 *  3. The far end of a wait slot's bell is canald's alone, so that its end is
 *     seen as end-of-file.
 *
 * Ownership and threads: packets are sent whole by any thread; attaching and
 * joining under channel.c's attach_lock.
 *
 * Failure: -errno; a connection that is gone makes the channel dead.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "guest.h"
#include "local.h"
#include "lock.h"
#include "stock.h"
#include "sys.h"
#include "transport.h"

#define WELCOME_SECONDS 10
#define CONN_TRIES 3

/* Where the channel was found: a child goes there to join. */
static struct sockaddr_un canald_addr;

static int own_fd(int fd)
{
	int saved = errno, high = fd_move_high(fd);

	errno = saved;
	return high;
}

/* --- packets ----------------------------------------------------------- */

union packet_control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(CANAL_LOCAL_FDS * sizeof(int))];
};

int packet_send(int conn, struct canal_local *p, int fd)
{
	union packet_control control = { .bytes = { 0 } };
	struct iovec iov = { p, sizeof(*p) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	long r;

	p->magic = CANAL_LOCAL_MAGIC;
	p->version = CANAL_WIRE_VERSION;
	if (fd >= 0) {
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(sizeof(fd));
	}
	for (;;) {
		r = sys_call4(SYS_sendmsg, conn, &m, MSG_NOSIGNAL, 0);
		/* Too many descriptors on their way: canald will take some. */
		if (r == -ETOOMANYREFS)
			(void)wait_nap(1000000);
		else if (r != -EINTR)
			return r < 0 ? (int)r : 0;
	}
}

/* One packet of canald with its descriptors; their number in *ret_count. */
int packet_receive(int conn, struct canal_local *p, int *fds, unsigned int *ret_count)
{
	union packet_control control;
	struct iovec iov = { p, sizeof(*p) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	unsigned int count = 0;
	long r;

	do
		r = sys_call4(SYS_recvmsg, conn, &m, MSG_CMSG_CLOEXEC, 0);
	while (r == -EINTR);
	if (r < 0)
		return r == -EAGAIN ? -ETIMEDOUT : (int)r;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (unsigned int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), count * sizeof(int));
	}
	*ret_count = count;
	if (r == 0)
		return -ECONNRESET;
	return (size_t)r == sizeof(*p) && p->magic == CANAL_LOCAL_MAGIC ? 0 : -EPROTO;
}

/* For packets that have no answer: a broken connection is the channel's end. */
static int packet_tell(struct channel *ch, struct canal_local *p, int fd)
{
	int err = packet_send(ch->control_fd, p, fd);

	if (err == -EPIPE || err == -ECONNRESET)
		canal_write_once(&ch->dead, true);
	return err;
}

/* --- attaching --------------------------------------------------------- */

static int conn_open(int *ret_fd)
{
	struct timeval patience = { .tv_sec = WELCOME_SECONDS };
	int fd = (int)sys_call4(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, 0);
	long r;

	if (fd < 0)
		return fd;
	fd = own_fd(fd);
	(void)sys_call6(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, (long)&patience,
			sizeof(patience), 0);
	do
		r = sys_call4(SYS_connect, fd, &canald_addr, sizeof(canald_addr), 0);
	while (r == -EINTR);
	if (r < 0 && r != -EISCONN) {
		fd_close_own(fd);
		return (int)r;
	}
	*ret_fd = fd;
	return 0;
}

static int refused(struct canal_local *answer)
{
	answer->text[CANAL_LOCAL_TEXT - 1] = '\0';
	if (answer->text[0]) /* else it is not worth a word */
		guest_log("canald at %s refused: %s", canald_addr.sun_path, answer->text);
	return answer->version == CANAL_WIRE_VERSION ? -ECONNREFUSED : -EPROTONOSUPPORT;
}

/* HELLO or JOIN and the answer. @count descriptors must come with it. */
static int conn_ask(int conn, struct canal_local *p, int *fds, unsigned int count)
{
	int got[CANAL_LOCAL_FDS];
	unsigned int got_count = 0;
	int err = packet_send(conn, p, -1);

	if (!err)
		err = packet_receive(conn, p, got, &got_count);
	if (!err && p->type == CANAL_LOCAL_REFUSED)
		err = refused(p);
	else if (!err && (p->type != CANAL_LOCAL_WELCOME || got_count != count || !p->client ||
			  p->client >= CANAL_CLIENT_MAX))
		err = -EPROTO;
	for (unsigned int i = 0; i < got_count; i++) {
		if (err)
			sys_close(got[i]);
		else
			fds[i] = got[i];
	}
	return err;
}

/*
 * A connection, with HELLO or JOIN answered. canald ends those that have not said
 * anything yet when too many come at once: who was slow to speak comes again.
 */
static int conn_begin(struct canal_local *p, int *fds, unsigned int count, int *ret_conn)
{
	int err = -EPIPE;

	for (int i = 0; i < CONN_TRIES && (err == -EPIPE || err == -ECONNRESET); i++) {
		struct canal_local asked = *p;

		err = conn_open(ret_conn);
		if (err)
			return err;
		err = conn_ask(*ret_conn, &asked, fds, count);
		if (err)
			fd_close_own(*ret_conn);
		else
			*p = asked;
	}
	return err;
}

static int begin(struct channel *ch, const char *path, struct canal_local *p)
{
	int fds[CANAL_LOCAL_FDS], conn, err;

	canald_addr.sun_family = AF_UNIX;
	(void)snprintf(canald_addr.sun_path, sizeof(canald_addr.sun_path), "%s", path);
	(void)snprintf(p->text, sizeof(p->text), "%s", program_invocation_short_name);
	err = conn_begin(p, fds, 2, &conn);
	if (err)
		return err;
	err = region_map(ch, fds[0], p->region_len);
	sys_close(fds[0]);
	if (err) {
		sys_close(fds[1]);
		fd_close_own(conn);
		return err;
	}
	ch->kick_fd = own_fd(fds[1]);
	ch->control_fd = conn;
	ch->id = p->channel_id;
	ch->token = p->token;
	ch->client = p->client;
	return 0;
}

static int local_attach(struct channel *ch, const char *path)
{
	struct canal_local p = { .type = CANAL_LOCAL_HELLO };

	return begin(ch, path, &p);
}

int attach_local_to(struct channel *ch, const char *path, uint64_t id, uint64_t token)
{
	struct canal_local p = {
		.type = CANAL_LOCAL_JOIN,
		.number = 1,
		.channel_id = id,
		.token = token,
	};

	return begin(ch, path, &p);
}

/* The inherited connection stays open, untouched: its end tells canald that the
 * parent and all that it forked are gone. */
static int local_join(struct channel *ch)
{
	struct canal_local p = { .type = CANAL_LOCAL_JOIN,
				 .channel_id = ch->id,
				 .token = ch->token };
	int conn, err = conn_begin(&p, NULL, 0, &conn);

	if (err) {
		canal_write_once(&ch->dead, true);
		return err;
	}
	ch->control_fd = conn;
	/* G2 release: the connection before the client number */
	canal_store_release(&ch->client, p.client);
	return 0;
}

/* --- later packets ----------------------------------------------------- */

static int local_waiter(struct channel *ch, uint32_t slot, bool nonblock, int *ret_fd)
{
	struct canal_local p = { .type = CANAL_LOCAL_WAITER, .number = slot };
	int ends[2], err;

	p.extra = canal_read_once(&ch->wait[slot].serial);
	err = (int)sys_call4(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
	if (err)
		return err;
	if (nonblock)
		(void)sys_call4(SYS_fcntl, ends[0], F_SETFL, O_NONBLOCK, 0);
	err = packet_tell(ch, &p, ends[1]);
	sys_close(ends[1]);
	if (err) {
		sys_close(ends[0]);
		return err;
	}
	*ret_fd = own_fd(ends[0]);
	return 0;
}

/* Out of the stock; or one that nothing is pumped through, where that cannot be: in a
 * handler on top of who is at the stock. */
static int local_pair(struct channel *ch, int flags, bool must, struct dummy_ends *ret_ends)
{
	int ends[2], err;

	(void)must;
	err = stock_take(ch, flags, ret_ends);
	if (err != -EAGAIN)
		return err;
	/* a program that another thread starts meanwhile must not keep the far end */
	err = (int)sys_call4(SYS_socketpair, AF_UNIX,
			     SOCK_STREAM | SOCK_CLOEXEC | (flags & SOCK_NONBLOCK), 0, ends);
	if (!err && !(flags & SOCK_CLOEXEC))
		(void)sys_call4(SYS_fcntl, ends[0], F_SETFD, 0, 0);
	if (!err)
		*ret_ends = (struct dummy_ends){ .near = ends[0], .far = ends[1], .flags = flags };
	return err;
}

static void local_unpair(const struct dummy_ends *ends)
{
	if (ends->stock)
		stock_return(ends);
	else
		sys_close(ends->far);
	sys_close(ends->near);
}

/* Which of our stock is the dummy of an accepted socket. */
static int local_name_dummy(struct channel *ch, uint32_t n, uint32_t generation,
			    const struct dummy_ends *ends)
{
	const struct canal_inr inr = {
		.op = CANAL_INR_DUMMY,
		.sock = n,
		.slot = CANAL_NONE,
		.u.arg = { ends->stock - 1, generation },
	};
	int err = ends->told ? 0 : channel_post(ch, &inr);

	if (err)
		sys_close(ends->near);
	return err ? err : ends->near;
}

static int local_dummy(struct channel *ch, uint32_t n, uint32_t generation, int kind,
		       const struct dummy_ends *ends)
{
	struct canal_local p = { .type = CANAL_LOCAL_DUMMY, .number = n, .extra = generation };
	int err;

	(void)kind;
	if (ends->stock)
		return local_name_dummy(ch, n, generation, ends);
	err = packet_tell(ch, &p, ends->far);
	sys_close(ends->far);
	if (err) {
		sys_close(ends->near);
		return err;
	}
	return ends->near;
}

static void local_kick(struct channel *ch)
{
	static const uint64_t one = 1;

	(void)sys_call4(SYS_write, ch->kick_fd, &one, sizeof(one), 0);
}

const struct transport transport_local = {
	.attach = local_attach,
	.join = local_join,
	.waiter = local_waiter,
	.pair = local_pair,
	.unpair = local_unpair,
	.dummy = local_dummy,
	.kick = local_kick,
};
