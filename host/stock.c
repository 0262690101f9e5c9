/* SPDX-License-Identifier: MIT */
/*
 * Socket pairs for dummies, made ahead.
 *
 * Purpose: a program's descriptor of a socket is the near end of a socket pair
 * that canald makes and hands out in advance, several at once: to ask for one and
 * wait would cost each socket() a round trip. The far end never leaves canald. So
 * nobody else can read from it, or hold the lock of who reads, and canald may
 * receive there on a poller (pump.c).
 *
 * Invariants
 *  1. A far end is in one slot of one process's stock, or is a socket's, or closed.
 *  2. What a guest wrote into a dummy may be descriptors, whose last close can
 *     wait for somebody: a far end is closed on a poller only when it is empty and
 *     nobody can write to it any more (far_end_close()).
 *  3. A stock ends with its process. Nobody looks at what is written into its near
 *     ends, and that may be the very connection whose end would end it.
 *
 * Ownership and threads: the poller that owns the channel.
 * Failure: -errno; the guest then makes the pair itself, and nothing is pumped.
 */
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

_Static_assert(CANAL_LOCAL_STOCK_SLOTS <= 64, "a bit of canal_local.token for each");

/* What a process has of near ends that are nobody's dummy yet. */
struct stock {
	struct client *client;
	struct engine_handle process; /* tells its end; fd -1: it has ended */
	int pidfd;
	struct far_end end[CANAL_LOCAL_STOCK_SLOTS];
};

/* --- closing ----------------------------------------------------------- */

/* The end is final after SHUT_RDWR, or hang-up: what is empty then stays so. */
void far_end_close(int fd)
{
	int queued = -1;

	fds_closed(fd);
	if (!shutdown(fd, SHUT_RDWR) && !ioctl(fd, SIOCINQ, &queued) && !queued)
		close(fd);
	else
		close_later(fd);
}

static void slot_close(struct far_end *end)
{
	if (end->fd >= 0)
		far_end_close(end->fd);
	end->fd = -1;
}

static void stock_empty(struct stock *stock)
{
	struct poller *p = stock->client->channel->poller;

	p->ops->unwatch(p->engine, &stock->process);
	if (stock->pidfd >= 0)
		close(stock->pidfd);
	stock->pidfd = -1;
	for (uint32_t i = 0; i < CANAL_LOCAL_STOCK_SLOTS; i++)
		slot_close(&stock->end[i]);
}

void stock_drop(struct client *c)
{
	if (!c->stock)
		return;
	stock_empty(c->stock);
	free(c->stock);
	c->stock = NULL;
}

/* What it asked for before may name what it had. */
static void process_ended(struct engine_handle *h, uint32_t events)
{
	struct stock *stock = caa_container_of(h, struct stock, process);
	struct channel *ch = stock->client->channel;
	uint32_t number = stock->client->number;
	struct client *c;

	(void)events;
	if (!ch->broken)
		channel_serve(ch, CHANNEL_INRS);
	/* its connection may have been heard to end, and with it went the stock */
	c = channel_client(ch, number);
	if (c && c->stock == stock)
		stock_empty(stock);
}

/* --- making ------------------------------------------------------------ */

/* NULL: it has none, and makes its dummies itself. */
static struct stock *stock_of(struct client *c)
{
	struct poller *p = c->channel->poller;
	struct stock *stock;

	if (c->stock)
		return c->stock;
	stock = calloc(1, sizeof(*stock));
	if (!stock)
		return NULL;
	for (uint32_t i = 0; i < CANAL_LOCAL_STOCK_SLOTS; i++)
		stock->end[i].fd = -1;
	stock->client = c;
	stock->process.event = process_ended;
	stock->process.fd = -1;
	stock->pidfd = c->pid > 0 ? (int)syscall(SYS_pidfd_open, c->pid, 0) : -1;
	if (stock->pidfd < 0 || p->ops->watch(p->engine, &stock->process, stock->pidfd, EPOLLIN)) {
		if (stock->pidfd >= 0)
			close(stock->pidfd);
		free(stock);
		return NULL;
	}
	c->stock = stock;
	return stock;
}

/* The guest's own descriptors ran out: it never had these. */
static void slots_lost(struct stock *stock, uint64_t lost)
{
	for (uint32_t i = 0; i < CANAL_LOCAL_STOCK_SLOTS; i++)
		if (lost >> i & 1)
			slot_close(&stock->end[i]);
}

/* The near end, or -errno. */
static int pair_make(struct far_end *far)
{
	struct stat st;
	int ends[2];

	if (fds_short())
		return -ENFILE;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return -errno;
	fds_opened(ends[1]);
	far->fd = ends[1];
	far->inode = fstat(ends[0], &st) ? 0 : st.st_ino;
	return ends[0];
}

static void pairs_make(struct stock *stock, uint32_t wanted, struct canal_local *answer, int *near)
{
	for (uint32_t i = 0; i < CANAL_LOCAL_STOCK_SLOTS && answer->number < wanted; i++) {
		int fd;

		if (stock->end[i].fd >= 0)
			continue;
		fd = pair_make(&stock->end[i]);
		if (fd < 0)
			return;
		near[answer->number++] = fd;
		answer->token |= 1ull << i;
	}
}

bool stock_has_room(const struct client *c)
{
	for (uint32_t i = 0; c->stock && i < CANAL_LOCAL_STOCK_SLOTS; i++)
		if (c->stock->end[i].fd < 0)
			return true;
	return !c->stock;
}

/*
 * Descriptors that are on their way count against canald's user, and when they are too
 * many no guest gets any: no more for one that has not taken the last.
 */
bool stock_takes_answers(const struct client *c)
{
	int queued;

	return !ioctl(c->fd, SIOCOUTQ, &queued) && !queued;
}

/* One packet back; without one the guest would wait. */
int stock_answer(struct client *c, const struct canal_local *asked)
{
	struct canal_local answer = {
		.magic = CANAL_LOCAL_MAGIC,
		.type = CANAL_LOCAL_STOCK,
		.version = CANAL_WIRE_VERSION,
	};
	struct stock *stock = stock_of(c);
	uint32_t wanted = asked->number < CANAL_LOCAL_FDS ? asked->number : CANAL_LOCAL_FDS;
	int near[CANAL_LOCAL_FDS], error;

	if (stock && stock->pidfd >= 0 && stock_takes_answers(c)) {
		slots_lost(stock, asked->token);
		pairs_make(stock, wanted, &answer, near);
	}
	error = local_send(c->fd, &answer, near, answer.number);
	for (uint32_t i = 0; i < answer.number; i++)
		close(near[i]);
	/* too many descriptors on their way, perhaps: it may have none, then */
	if (error && answer.number) {
		slots_lost(stock, answer.token);
		answer.number = 0;
		answer.token = 0;
		error = local_send(c->fd, &answer, NULL, 0);
	}
	return error;
}

bool stock_take(struct channel *ch, uint32_t client, uint32_t slot, struct far_end *ret_end)
{
	struct client *c = channel_client(ch, client);

	if (!c || !c->stock || slot >= CANAL_LOCAL_STOCK_SLOTS || c->stock->end[slot].fd < 0)
		return false;
	*ret_end = c->stock->end[slot];
	c->stock->end[slot].fd = -1;
	return true;
}

/* --- by inode ---------------------------------------------------------- */

static struct cds_list_head *bucket(struct poller *p, uint64_t inode)
{
	return &p->far_table[inode % FAR_BUCKETS];
}

void stock_enter(struct sock *s)
{
	cds_list_add(&s->far_link, bucket(s->channel->poller, s->far_inode));
}

void stock_leave(struct sock *s)
{
	if (s->far_link.next)
		cds_list_del(&s->far_link);
	s->far_link.next = NULL;
}

struct sock *stock_find_any(struct poller *p, uint64_t inode)
{
	struct sock *s;

	cds_list_for_each_entry(s, bucket(p, inode), far_link) if (s->far_inode == inode) return s;
	return NULL;
}

/* An inode that is open has one socket. */
struct sock *stock_find(struct channel *ch, uint64_t inode)
{
	struct sock *s = stock_find_any(ch->poller, inode);

	return s && s->channel == ch ? s : NULL;
}
