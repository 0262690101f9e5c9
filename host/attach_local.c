/* SPDX-License-Identifier: MIT */
/*
 * The local transport: processes of this machine, over a UNIX socket.
 *
 * Purpose: HELLO makes a channel, JOIN adds a process to one, WAITER and DUMMY
 * bring the descriptors that the channel needs, STOCK asks for some (docs/wire.md,
 * section 1).
 *
 * Invariants
 *  1. Who a process is comes from SO_PEERCRED, what it may join from a token
 *     that only its relatives have seen.
 *  2. A descriptor that came with a packet is handed on or closed, whatever
 *     the packet says.
 *  3. What a guest sends is one end of a UNIX socket pair, and canald does no
 *     more than send to it, without waiting, and look whether it hangs up. A
 *     pipe would not do: its lock can be held by who reads it.
 *  4. No file is asked anything that its file system answers (fstat, open): that
 *     may be the guest's own (FUSE), and never answer.
 *  5. Such an end holds no descriptors in its queue, and gets none: among
 *     them could be what keeps the guest's connection or the dummy itself open
 *     for ever.
 *
 * Ownership and threads: attach_local_first() runs in the main thread; the rest
 * on the poller that owns the channel.
 *
 * Failure: a process that cannot be taken in is told why (REFUSED). One that
 * breaks the rules loses its channel (bad-control).
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syslog.h>
#include <sys/un.h>
#include <unistd.h>

#include "guest.h"

/* Packets of one client in one go; then others have their turn. */
#define PACKETS_MAX 256

/* Room for the descriptors of a packet, aligned as the kernel wants it. */
union control {
	struct cmsghdr header;
	char room[CMSG_SPACE(CANAL_LOCAL_FDS * sizeof(int))];
};

/* --- sending ----------------------------------------------------------- */

int local_send(int fd, const struct canal_local *packet, const int *fds, size_t fd_count)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)packet, .iov_len = sizeof(*packet) };
	union control control = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd_count) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

__attribute__((format(printf, 2, 3))) static void refuse(int fd, const char *fmt, ...)
{
	struct canal_local packet = {
		.magic = CANAL_LOCAL_MAGIC,
		.type = CANAL_LOCAL_REFUSED,
		.version = CANAL_WIRE_VERSION,
	};
	va_list args;

	va_start(args, fmt);
	vsnprintf(packet.text, sizeof(packet.text), fmt, args);
	va_end(args);
	local_send(fd, &packet, NULL, 0);
	host_log_limited(NULL, LOG_NOTICE, "a guest was refused: %s", packet.text);
}

static void refuse_quietly(int fd)
{
	const struct canal_local packet = {
		.magic = CANAL_LOCAL_MAGIC,
		.type = CANAL_LOCAL_REFUSED,
		.version = CANAL_WIRE_VERSION,
	};

	local_send(fd, &packet, NULL, 0);
}

static int welcome(const struct client *c, bool with_fds)
{
	const struct channel *ch = c->channel;
	const int fds[] = { ch->region_fd, ch->kick_fd };
	struct canal_local packet = {
		.magic = CANAL_LOCAL_MAGIC,
		.type = CANAL_LOCAL_WELCOME,
		.version = CANAL_WIRE_VERSION,
		.channel_id = ch->id,
		.token = ch->token,
		.region_len = ch->region_len,
		.client = c->number,
	};

	return local_send(c->fd, &packet, fds, with_fds ? 2 : 0);
}

/* --- a channel and its processes --------------------------------------- */

/*
 * To shut a UNIX socket down again, in the direction in which it is shut down already,
 * changes nothing and signals all the same; and it does not fill up.
 */
static bool local_wake(struct channel *ch, uint32_t slot)
{
	uint8_t how = ch->wait_signals[slot];

	if (how) {
		(void)shutdown(ch->wait_fd[slot], how == RING_HUP ? SHUT_RDWR : SHUT_WR);
		return true;
	}
	return send(ch->wait_fd[slot], "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != EAGAIN;
}

/* Its processes see the end of their connections; then of their bells, too. */
static void local_broken(struct channel *ch)
{
	struct client *c;

	cds_list_for_each_entry(c, &ch->clients, link) shutdown(c->fd, SHUT_RDWR);
}

static void local_left(struct client *c)
{
	struct poller *p = c->channel->poller;

	p->ops->unwatch(p->engine, &c->control);
	close_later(c->fd); /* packets that were not read may hold descriptors */
}

static void local_release(struct channel *ch)
{
	if (ch->base)
		munmap(ch->base, ch->region_len);
	if (ch->region_fd >= 0)
		close(ch->region_fd);
	if (ch->kick_fd >= 0)
		close(ch->kick_fd);
}

const struct transport transport_local = {
	.name = "local",
	.fences = true,
	.wake = local_wake,
	.broken = local_broken,
	.hear = attach_local_packets,
	.left = local_left,
	.release = local_release,
};

/* --- a new process ----------------------------------------------------- */

/* What the main thread asks of a poller. */
struct joining {
	int fd;
	struct guest *guest; /* on whose socket it came; NULL: the main one */
	struct ucred cred;
	struct poller *poller;
	struct channel *channel;    /* HELLO: new */
	uint64_t channel_id, token; /* JOIN */
	bool with_fds;              /* JOIN of a program that was exec'd: has no region */
	int error;
};

/* On the poller: one more process. On failure the fd is still the caller's. */
static int joining_client(struct joining *j, struct channel *ch, bool with_fds)
{
	struct client *c;
	int error = channel_add_client(ch, j->fd, j->cred.pid, j->cred.uid, &c);

	if (error)
		return error;
	error = welcome(c, with_fds);
	if (error) {
		/* it is gone already: so is the client, with its fd */
		host_log(LOG_DEBUG, "guest=%s pid=%d: left before it was welcome: %s", ch->name,
			 (int)j->cred.pid, strerror(-error));
		channel_drop_client(c);
	}
	return 0;
}

/* On the poller. */
static void joining_hello(void *arg)
{
	struct joining *j = arg;
	struct channel *ch = j->channel;

	CDS_INIT_LIST_HEAD(&ch->link);
	j->error = channel_attach(ch, j->poller);
	if (!j->error)
		j->error = joining_client(j, ch, true);
	if (j->error)
		channel_reap(ch);
}

/* By number; or by a dummy that the process has, who may be of another program. */
static struct channel *joining_channel(const struct joining *j)
{
	struct channel *ch, *next;
	struct sock *s;

	if (j->channel_id)
		return poller_find_channel(j->poller, j->channel_id);
	if (!j->with_fds || !j->token)
		return NULL;
	s = stock_find_any(j->poller, j->token);
	if (!s) /* what names the dummy may still lie in a ring */
		cds_list_for_each_entry_safe(ch, next, &j->poller->channels, link) if (!ch->orphan)
			channel_serve(ch, CHANNEL_INRS);
	s = s ? s : stock_find_any(j->poller, j->token);
	return s ? s->channel : NULL;
}

/*
 * A child may have another uid than its parent only where the parent was root:
 * servers drop their privileges in a child. Who only has a dummy of the channel may
 * have got that one alone: it must be the same user, who could trace the others.
 */
static bool joining_may(const struct joining *j, const struct channel *ch)
{
	if (!j->channel_id)
		return ch->uid == j->cred.uid;
	return ch->token == j->token && (!ch->uid || ch->uid == j->cred.uid);
}

/* On the poller. */
static void joining_join(void *arg)
{
	struct joining *j = arg;
	struct channel *ch = joining_channel(j);

	if (!ch || ch->broken || ch->guest != j->guest) {
		j->error = -ENOENT;
		return;
	}
	if (!joining_may(j, ch)) {
		j->error = -EACCES;
		return;
	}
	j->error = joining_client(j, ch, j->with_fds);
}

struct counting {
	struct poller *poller;
	unsigned int count;
};

static void channels_count(void *arg)
{
	struct counting *counting = arg;
	struct cds_list_head *pos;

	cds_list_for_each(pos, &counting->poller->channels) counting->count++;
}

static struct poller *poller_least(void)
{
	struct poller *least = pollers;
	unsigned int least_count = UINT_MAX;

	for (unsigned int i = 0; poller_count > 1 && i < poller_count; i++) {
		struct counting counting = { .poller = &pollers[i] };

		poller_call(counting.poller, channels_count, &counting, true);
		if (counting.count < least_count) {
			least = counting.poller;
			least_count = counting.count;
		}
	}
	return least;
}

/* A program's name, without what would spoil a log. */
static void name_copy(char *to, size_t to_len, const char *from, size_t from_len)
{
	size_t i;

	for (i = 0; i + 1 < to_len && i < from_len && from[i]; i++)
		to[i] = isgraph((unsigned char)from[i]) && from[i] != '"' ? from[i] : '_';
	to[i] = '\0';
	if (!i)
		snprintf(to, to_len, "unnamed");
}

/* False, after telling why: no more guests, or no more channels of this one. */
static bool may_begin(const struct joining *j)
{
	if (canal_read_once(&channels_alive) >= settings.max_channels) {
		refuse(j->fd,
		       "this canald has %u guests already: raise max_channels in its "
		       "configuration",
		       settings.max_channels);
		return false;
	}
	if (j->guest && j->guest->max_channels &&
	    canal_read_once(&j->guest->channels) >= j->guest->max_channels) {
		refuse(j->fd,
		       "guest %s has %u programs already: raise its max-channels in "
		       "canald's configuration",
		       j->guest->name, j->guest->max_channels);
		return false;
	}
	return true;
}

static bool hello(struct joining *j, const struct canal_local *packet)
{
	char name[sizeof(((struct channel *)0)->name)];
	struct channel_shape shape = shape_local;
	const struct channel_origin origin = {
		.transport = &transport_local,
		.guest = j->guest,
		.shape = &shape,
		.uid = j->cred.uid,
		.pid = j->cred.pid,
		.name = name,
	};
	int error;

	if (!may_begin(j))
		return false;
	if (j->guest && j->guest->chunks)
		shape.chunks = j->guest->chunks;
	name_copy(name, sizeof(name), packet->text, sizeof(packet->text));
	error = channel_create(&j->channel, &origin);
	if (!error) {
		j->poller = j->guest ? j->guest->poller : poller_least();
		error = poller_call(j->poller, joining_hello, j, true);
		if (!error)
			error = j->error;
	}
	if (!error)
		return true;
	refuse(j->fd, "canald cannot make a channel: %s", strerror(-error));
	return false;
}

static bool join(struct joining *j, const struct canal_local *packet)
{
	j->channel_id = packet->channel_id;
	j->token = packet->token;
	j->with_fds = packet->number == 1;
	j->error = -ENOENT;
	for (unsigned int i = 0; i < poller_count && j->error == -ENOENT; i++) {
		j->poller = &pollers[i];
		if (poller_call(j->poller, joining_join, j, true))
			break;
	}
	if (j->error == 0)
		return true;
	if (packet->number == 1) /* it has another way to go on */
		refuse_quietly(j->fd);
	else if (j->error == -ENOENT)
		refuse(j->fd, "canald does not know the channel to join: was it restarted?");
	else if (j->error == -EACCES)
		refuse(j->fd, "a channel can be joined only by processes of its own user");
	else
		refuse(j->fd, "canald cannot take in this process: %s", strerror(-j->error));
	return false;
}

bool attach_local_first(int fd, struct guest *g, const void *data, size_t len)
{
	struct joining j = { .fd = fd, .guest = g };
	socklen_t cred_len = sizeof(j.cred);
	struct canal_local packet = { 0 };

	memcpy(&packet, data, len < sizeof(packet) ? len : sizeof(packet));
	if (len < offsetof(struct canal_local, number) || packet.magic != CANAL_LOCAL_MAGIC)
		return false;
	if (packet.version != CANAL_WIRE_VERSION) {
		refuse(fd,
		       "this canald speaks wire version %u, libcanal version %u: install the "
		       "same release",
		       CANAL_WIRE_VERSION, packet.version);
		return false;
	}
	if (len != sizeof(packet) ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &j.cred, &cred_len) < 0)
		return false;
	if (packet.type == CANAL_LOCAL_HELLO)
		return hello(&j, &packet);
	return packet.type == CANAL_LOCAL_JOIN && join(&j, &packet);
}

/* --- a process that is there ------------------------------------------- */

/* A packet and what came with it. */
struct arrived {
	struct canal_local packet;
	struct guest_fds fds;
	bool cut; /* canald has no descriptor left for those of the packet */
};

/* Its length, 0 at the end, -EPROTO for one that is not whole, -errno. */
static int packet_receive(int fd, struct arrived *a)
{
	int flags;
	ssize_t len = guest_recv(fd, &a->packet, sizeof(a->packet), &a->fds, &flags);

	if (len <= 0)
		return (int)len;
	a->cut = flags & MSG_CTRUNC;
	return (size_t)len != sizeof(a->packet) || (flags & MSG_TRUNC) ? -EPROTO : (int)len;
}

static int socket_option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -1 : value;
}

/* Connected, and not by way of a name, as one end of a pair is. */
static bool is_connected(int fd)
{
	struct sockaddr_un peer;
	socklen_t len = sizeof(peer);

	return !getpeername(fd, (struct sockaddr *)&peer, &len) &&
	       len == offsetof(struct sockaddr_un, sun_path);
}

/*
 * One end of a pair: only that hangs up when its other end is closed. SHUT_RD
 * makes the queue's end final, and if both ends of a pair are sent here, they
 * hang up. Nothing in here takes a lock that the guest could hold: to receive
 * would (its reader's), so what is queued is not emptied but refused.
 */
static bool is_pair_end(int fd)
{
	return socket_option(fd, SO_DOMAIN) == AF_UNIX &&
	       socket_option(fd, SO_TYPE) == SOCK_STREAM && !shutdown(fd, SHUT_RD) &&
	       is_connected(fd);
}

/* Bytes come with descriptors only by sendmsg(): no bytes, no descriptors. */
static bool is_empty(int fd)
{
	int queued;

	return !ioctl(fd, SIOCINQ, &queued) && !queued;
}

/* Takes the one descriptor of a packet: -EPROTO, or -EAGAIN when it is no use. */
static int pair_end_take(struct arrived *a)
{
	int fd;

	if (a->fds.count != 1 || !is_pair_end(a->fds.fd[0]))
		return -EPROTO;
	if (!is_empty(a->fds.fd[0]))
		return -EAGAIN;
	fd = a->fds.fd[0];
	a->fds.fd[0] = -1;
	fds_opened(fd);
	return fd;
}

static int waiter(struct client *c, struct arrived *a)
{
	int fd = pair_end_take(a);

	if (fd >= 0)
		channel_add_waiter(c, a->packet.number, a->packet.extra, fd);
	return fd < 0 ? fd : 0;
}

/* A program that wrote into a dummy past libcanal, before canald had its far end,
 * loses that socket: its bytes came before those in the FIFO, or after. */
static int dummy(struct client *c, struct arrived *a)
{
	int fd = pair_end_take(a);

	if (fd >= 0)
		channel_add_dummy(c->channel, a->packet.number, a->packet.extra, fd);
	return fd < 0 ? fd : 0;
}

/* A process waits for the answer: one that does not read what it asked for gets no
 * more. */
static int stock(struct client *c, const struct canal_local *asked)
{
	struct channel *ch = c->channel;
	int error;

	/* a slot is free again when the INR that named it was served */
	if (!stock_has_room(c))
		channel_serve(ch, CHANNEL_INRS);
	if (ch->broken) /* and perhaps the client is gone */
		return 0;
	error = stock_answer(c, asked);
	return error && error != -EPIPE && error != -ECONNRESET ? -EPROTO : 0;
}

/* The same, and what it names may still lie in the ring. */
static int kernel(struct client *c, const struct canal_local *asked)
{
	struct channel *ch = c->channel;
	int error;

	channel_serve(ch, CHANNEL_INRS);
	if (ch->broken)
		return 0;
	error = give_answer(c, asked);
	return error && error != -EPIPE && error != -ECONNRESET ? -EPROTO : 0;
}

/* Not the guest's fault. A socket whose far end was lost has nobody to close it. */
static void packet_cut(struct channel *ch, const struct canal_local *packet)
{
	if (packet->type == CANAL_LOCAL_DUMMY && packet->number < ch->shape.socks &&
	    ch->generation[packet->number] == packet->extra && ch->socks[packet->number])
		sock_release(ch->socks[packet->number]);
}

static int packet_serve(struct client *c, struct arrived *a)
{
	if (a->packet.magic != CANAL_LOCAL_MAGIC || a->packet.version != CANAL_WIRE_VERSION)
		return -EPROTO;
	if (a->cut) {
		packet_cut(c->channel, &a->packet);
		return 0;
	}
	switch (a->packet.type) {
	case CANAL_LOCAL_WAITER:
		return waiter(c, a);
	case CANAL_LOCAL_DUMMY:
		return dummy(c, a);
	case CANAL_LOCAL_STOCK:
		return a->fds.count ? -EPROTO : stock(c, &a->packet);
	case CANAL_LOCAL_KERNEL:
		return a->fds.count ? -EPROTO : kernel(c, &a->packet);
	default:
		return -EPROTO;
	}
}

/* What it asked for before it ended may name its stock, which ends with it. */
static void client_ended(struct client *c)
{
	struct channel *ch = c->channel;

	if (c->stock && !ch->broken)
		channel_serve(ch, CHANNEL_INRS);
	if (!ch->broken) /* else it was dropped with the others */
		channel_drop_client(c);
}

enum packet { PACKET_SERVED, PACKET_NONE, PACKET_LAST };

/* PACKET_LAST: the client is gone, or goes with its channel. */
static enum packet packet_next(struct client *c)
{
	struct channel *ch = c->channel;
	struct arrived a;
	int r = packet_receive(c->fd, &a);

	if (r == -EAGAIN)
		return PACKET_NONE;
	if (r > 0 && a.cut && a.packet.type == CANAL_LOCAL_WAITER)
		r = -EPIPE; /* nobody could wake it: better to be told */
	else if (r > 0 && !ch->broken)
		r = packet_serve(c, &a);
	else if (r > 0)
		r = 0;
	else if (r != -EPROTO)
		r = -EPIPE;
	guest_fds_close(&a.fds);
	if (r == -EPIPE) {
		client_ended(c);
		return PACKET_LAST;
	}
	if (r < 0 && r != -EAGAIN)
		channel_break(ch, BROKEN_CONTROL);
	return ch->broken ? PACKET_LAST : PACKET_SERVED;
}

/*
 * Readiness is told at its edges: who stops early must ask to be told again. A packet
 * may have requests served, which have packets heard: the same client's wait for us,
 * who have the client in hand, and go on.
 */
void attach_local_packets(struct client *c)
{
	struct poller *p = c->channel->poller;
	enum packet last = PACKET_SERVED;
	int fd = c->fd;

	if (c->hearing)
		return;
	c->hearing = true;
	for (int i = 0; i < PACKETS_MAX && last == PACKET_SERVED; i++)
		last = packet_next(c);
	if (last == PACKET_LAST)
		return;
	c->hearing = false;
	if (last == PACKET_NONE)
		return;
	p->ops->unwatch(p->engine, &c->control);
	if (p->ops->watch(p->engine, &c->control, fd, EPOLLIN | EPOLLRDHUP))
		channel_drop_client(c);
}
