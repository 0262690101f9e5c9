/* SPDX-License-Identifier: MIT */
/*
 * A channel: one region, the processes that use it, and what they may touch.
 *
 * Purpose: takes processes in and lets them go, and closes the channel of a guest that
 * breaks the rules. region.c has its memory, ring_serve.c its INR ring, grant.c its
 * socket numbers.
 *
 * Invariants
 *  1. A channel is freed only when it has neither clients nor sockets.
 *
 * Ownership and threads: channel_create() in any thread; all else on the poller.
 * Failure: a guest's fault ends in channel_break() and touches nobody else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syslog.h>
#include <unistd.h>

#include "guest.h"

const char *const broken_name[BROKEN_REASONS] = {
	[BROKEN_NOT] = "none",
	[BROKEN_RING_STATE] = "ring-state",
	[BROKEN_OP] = "bad-op",
	[BROKEN_SOCKET] = "bad-socket",
	[BROKEN_SLOT] = "bad-slot",
	[BROKEN_SUBSCRIPTION] = "bad-subscription",
	[BROKEN_TX_POSITION] = "tx-position",
	[BROKEN_TX_CHUNK] = "tx-chunk",
	[BROKEN_RX_POSITION] = "rx-position",
	[BROKEN_DGRAM_LENGTH] = "dgram-length",
	[BROKEN_CLIENT] = "bad-client",
	[BROKEN_ADDRESS] = "bad-address",
	[BROKEN_CONTROL] = "bad-control",
	[BROKEN_MAIL] = "bad-mail",
	[BROKEN_EXTENT] = "bad-extent",
	[BROKEN_EXTENT_LIMIT] = "extent-limit",
	[BROKEN_BELLS] = "bell-storm",
};

uint64_t broken_count[BROKEN_REASONS];
uint64_t channels_alive;
struct counters total_gone;

/* --- making and freeing ------------------------------------------------ */

static uint32_t sockets_limit(const struct channel *ch)
{
	uint32_t limit = settings.max_sockets;

	if (ch->guest && ch->guest->max_sockets)
		limit = ch->guest->max_sockets;
	return limit && limit < ch->shape.socks ? limit : ch->shape.socks;
}

static int tables_create(struct channel *ch)
{
	uint32_t limit = sockets_limit(ch);

	ch->free_socks = malloc(ch->shape.socks * sizeof(*ch->free_socks));
	ch->socks = calloc(ch->shape.socks, sizeof(*ch->socks));
	ch->rx_free = malloc(ch->shape.chunks * sizeof(*ch->rx_free));
	ch->wait_fd = malloc(ch->shape.waits * sizeof(*ch->wait_fd));
	ch->wait_client = calloc(ch->shape.waits, sizeof(*ch->wait_client));
	ch->wait_serial = calloc(ch->shape.waits, sizeof(*ch->wait_serial));
	ch->wait_signals = calloc(ch->shape.waits, sizeof(*ch->wait_signals));
	ch->wait_owed = calloc(ch->shape.waits, sizeof(*ch->wait_owed));
	ch->subs = calloc(ch->shape.subs, sizeof(*ch->subs));
	ch->generation = calloc(ch->shape.socks, sizeof(*ch->generation));
	ch->granted = calloc(ch->shape.socks, sizeof(*ch->granted));
	ch->early_far = calloc(ch->shape.socks, sizeof(*ch->early_far));
	if (!ch->generation || !ch->granted || !ch->early_far || !ch->free_socks || !ch->socks ||
	    !ch->rx_free || !ch->wait_fd || !ch->wait_client || !ch->wait_serial ||
	    !ch->wait_signals || !ch->wait_owed || !ch->subs)
		return -ENOMEM;
	memset(ch->wait_fd, 0xff, ch->shape.waits * sizeof(*ch->wait_fd));
	for (uint32_t i = 0; i < limit; i++)
		ch->free_socks[i] = limit - 1 - i;
	ch->free_count = limit;
	return 0;
}

static void channel_free(struct channel *ch)
{
	for (uint32_t i = 0; ch->wait_fd && i < ch->wait_high; i++)
		if (ch->wait_fd[i] >= 0)
			close(ch->wait_fd[i]);
	ch->transport->release(ch);
	resolve_forget(ch);
	free(ch->client);
	free(ch->free_socks);
	free(ch->socks);
	free(ch->rx_free);
	free(ch->wait_fd);
	free(ch->wait_client);
	free(ch->wait_serial);
	free(ch->wait_signals);
	free(ch->wait_owed);
	free(ch->subs);
	free(ch->generation);
	free(ch->granted);
	for (uint32_t i = 0; ch->early_far && i < ch->shape.socks; i++)
		if (ch->early_far[i] > 0)
			close(ch->early_far[i] - 1);
	free(ch->early_far);
	ref_free(ch);
	free(ch);
}

int channel_create(struct channel **ret_ch, const struct channel_origin *from)
{
	static uint64_t last_id;
	struct channel *ch = calloc(1, sizeof(*ch));
	int r;

	if (!ch)
		return -ENOMEM;
	ch->transport = from->transport;
	ch->guest = from->guest;
	ch->shape = *from->shape;
	ch->region_fd = ch->kick_fd = ch->kick.fd = -1;
	ch->uid = from->uid;
	ch->pid = from->pid;
	ch->id = canal_fetch_add(&last_id, 1) + 1;
	strncpy(ch->name, from->name, sizeof(ch->name) - 1);
	CDS_INIT_LIST_HEAD(&ch->clients);
	CDS_INIT_LIST_HEAD(&ch->farless);
	CDS_INIT_LIST_HEAD(&ch->spared);
	CDS_INIT_LIST_HEAD(&ch->link);
	r = ch->guest && !guest_enter(ch->guest) ? -EUSERS : 0;
	if (r) {
		free(ch);
		return r;
	}
	if (getrandom(&ch->token, sizeof(ch->token), 0) < 0)
		r = -errno;
	if (!r)
		r = tables_create(ch);
	if (!r && !from->base)
		r = region_create(ch);
	if (r) {
		if (ch->guest)
			guest_leave(ch->guest, &ch->count);
		channel_free(ch);
		return r;
	}
	if (from->base) {
		ch->base = from->base;
		region_begin(ch);
	}
	canal_fetch_add(&channels_alive, 1);
	*ret_ch = ch;
	return 0;
}

/*
 * The kick only ends the poller's sleep; the pass after it finds the work. It
 * is never read: the guest shares the open file and could make a read block.
 */
static void channel_kicked(struct engine_handle *h, uint32_t events)
{
	(void)h;
	(void)events;
}

int channel_attach(struct channel *ch, struct poller *p)
{
	int r;

	ch->poller = p;
	ch->kick.event = channel_kicked;
	r = ch->kick_fd < 0 ? 0 : p->ops->watch(p->engine, &ch->kick, ch->kick_fd, EPOLLIN);
	if (r)
		return r;
	cds_list_add_tail(&ch->link, &p->channels);
	canal_write_once(&p->channel_count, p->channel_count + 1);
	channel_grant(ch);
	return 0;
}

static void add_counters(struct counters *to, const struct counters *from)
{
	uint64_t *t = (uint64_t *)to;
	const uint64_t *f = (const uint64_t *)from;

	for (size_t i = 0; i < sizeof(*to) / sizeof(*t); i++)
		canal_fetch_add(&t[i], f[i]);
}

bool channel_reap(struct channel *ch)
{
	if (!cds_list_empty(&ch->clients) || ch->sock_used)
		return false;
	if (!cds_list_empty(&ch->link)) {
		cds_list_del(&ch->link);
		canal_write_once(&ch->poller->channel_count, ch->poller->channel_count - 1);
	}
	if (ch->kick_fd >= 0)
		ch->poller->ops->unwatch(ch->poller->engine, &ch->kick);
	add_counters(&total_gone, &ch->count);
	if (ch->guest)
		guest_leave(ch->guest, &ch->count);
	host_log(LOG_DEBUG, "guest=%s pid=%d: channel %llu freed", ch->name, (int)ch->pid,
		 (unsigned long long)ch->id);
	channel_free(ch);
	canal_fetch_add(&channels_alive, (uint64_t)-1);
	return true;
}

struct channel *poller_find_channel(struct poller *p, uint64_t id)
{
	struct channel *ch;

	cds_list_for_each_entry(ch, &p->channels, link) if (ch->id == id) return ch;
	return NULL;
}

/* --- processes --------------------------------------------------------- */

static void client_event(struct engine_handle *h, uint32_t events)
{
	(void)events;
	attach_local_packets(caa_container_of(h, struct client, control));
}

struct client *channel_client(struct channel *ch, uint32_t number)
{
	return number < ch->client_room ? ch->client[number] : NULL;
}

/* A place for that number: a machine may have all, and names any in each request. */
static bool client_place(struct channel *ch, uint32_t number)
{
	uint32_t room = ch->client_room ? ch->client_room : 8;
	struct client **more;

	if (number < ch->client_room)
		return true;
	while (room <= number)
		room *= 2;
	more = reallocarray(ch->client, room, sizeof(struct client *));
	if (!more)
		return false;
	memset(more + ch->client_room, 0, (room - ch->client_room) * sizeof(struct client *));
	ch->client = more;
	ch->client_room = room;
	return true;
}

/*
 * The number that nobody has had for longest: by the time that it comes round
 * again, nothing of its last process is left in the ring. 0: all are taken.
 */
static uint32_t client_number(struct channel *ch)
{
	for (uint32_t i = 1; i < CANAL_CLIENT_MAX; i++) {
		uint32_t n = ch->last_client % (CANAL_CLIENT_MAX - 1) + 1;

		ch->last_client = n;
		if (n > ch->client_high)
			ch->client_high = n;
		if (!channel_has_client(ch, n))
			return n;
	}
	return 0;
}

int channel_add_client(struct channel *ch, int fd, pid_t pid, uid_t uid, struct client **ret_client)
{
	uint32_t number = client_number(ch);
	struct client *c;
	int r;

	if (!number)
		return -EUSERS;
	c = client_place(ch, number) ? calloc(1, sizeof(*c)) : NULL;
	if (!c)
		return -ENOMEM;
	c->number = number;
	c->pid = pid;
	c->uid = uid;
	c->channel = ch;
	c->control.event = client_event;
	c->fd = fd;
	r = fd < 0 ? 0
		   : ch->poller->ops->watch(ch->poller->engine, &c->control, fd,
					    EPOLLIN | EPOLLRDHUP);
	if (r) {
		free(c);
		return r;
	}
	cds_list_add_tail(&c->link, &ch->clients);
	ch->client[number] = c;
	ch->client_alive[number / 64] |= 1ull << number % 64;
	ch->orphan = false;
	*ret_client = c;
	return 0;
}

static void drop_waiter(struct channel *ch, uint32_t slot)
{
	if (ch->wait_fd[slot] >= 0) {
		close(ch->wait_fd[slot]);
		fds_closed(ch->wait_fd[slot]);
	}
	ch->wait_fd[slot] = -1;
}

/*
 * The slots of a process that is gone are free again. A slot may have its bell
 * and be another's already, or be its own and never have had a bell.
 */
static void release_waiters(struct channel *ch, uint32_t client)
{
	uint32_t used = canal_read_once(&ch->region->wait_used);

	if (used < ch->wait_high)
		used = ch->wait_high;
	for (uint32_t i = 0; i < used && i < ch->shape.waits; i++) {
		if (ch->wait_client[i] == client)
			drop_waiter(ch, i);
		if (canal_read_once(&ch->wait[i].owner) != client)
			continue;
		canal_write_once(&ch->wait[i].armed, 0u);
		canal_store_release(&ch->wait[i].owner, 0u);
	}
}

/*
 * Sets are shared with descendants only, and those keep the connection of their
 * parent open: now nobody has them. A guest that needs a set clears them away.
 */
static void release_sets(struct channel *ch, uint32_t client)
{
	for (uint32_t i = 0; i < ch->shape.sets; i++) {
		uint32_t owner = canal_read_once(&ch->set[i].owner);

		if (!owner && !canal_read_once(&ch->set[i].serial))
			return; /* the lowest free one is taken: nor were the rest used */
		if (owner == client)
			canal_store_release(&ch->set[i].owner, CANAL_NONE);
	}
}

/* The listener lives on in a program that was exec'd, and may be adopted there. */
static bool waits_in_listener(const struct sock *s)
{
	return s->listener && s->listener->far_fd != -1;
}

/*
 * What only lived in the channel ends with its last process: connections that
 * were never taken from a listener go with the listener, sockets whose far end
 * never arrived have nobody who could close them.
 */
static void release_sockets(struct channel *ch)
{
	for (uint32_t i = 0; i < ch->shape.socks && ch->sock_used; i++)
		if (ch->socks[i] && ch->socks[i]->far_fd == -1 && !ch->socks[i]->released &&
		    !waits_in_listener(ch->socks[i]))
			sock_release(ch->socks[i]);
}

/*
 * Who was killed under the lock of a FIFO may have taken the flag by which we asked to be
 * told, and told nothing: nobody else would. The lock is his until another one comes.
 */
static void look_for_untold(struct channel *ch)
{
	uint32_t left = ch->sock_used;

	for (uint32_t i = 0; i < ch->shape.socks && left; i++) {
		struct sock *s = ch->socks[i];

		left -= s != NULL;
		if (!s || s->dead || s->given)
			continue;
		if (canal_read_once(&s->shared->tx.tx_lock))
			sock_mark_tx(s);
		if (canal_read_once(&s->shared->rx.rx_lock))
			sock_rx_resume(s);
	}
}

void channel_drop_client(struct client *c)
{
	struct channel *ch = c->channel;

	ch->transport->left(c);
	cds_list_del(&c->link);
	stock_drop(c);
	ch->client[c->number] = NULL;
	ch->client_alive[c->number / 64] &= ~(1ull << c->number % 64);
	linger_drop_client(ch, c->number);
	settle_drop_client(ch, c->number);
	ring_drop_client(ch, c->number);
	release_waiters(ch, c->number);
	release_sets(ch, c->number);
	if (!ch->broken) {
		sock_release_farless(ch, c->number);
		look_for_untold(ch);
	}
	free(c);
	if (cds_list_empty(&ch->clients)) {
		ch->orphan = true;
		if (ch->broken)
			return;
		channel_serve(ch, CHANNEL_INRS);
		release_sockets(ch);
	}
}

void channel_add_waiter(struct client *c, uint32_t slot, uint32_t serial, int fd)
{
	struct channel *ch = c->channel;

	/* Late: the slot is in the next hands, whose bell may be here already. */
	bool late = slot < ch->shape.waits && serial != canal_read_once(&ch->wait[slot].serial);

	if (slot >= ch->shape.waits)
		channel_break(ch, BROKEN_SLOT);
	if (slot >= ch->shape.waits || late) {
		if (fd >= 0)
			close(fd);
		return;
	}
	drop_waiter(ch, slot);
	ch->wait_fd[slot] = fd;
	ch->wait_serial[slot] = serial;
	ch->wait_signals[slot] = 0;
	ch->wait_client[slot] = c->number;
	if (slot >= ch->wait_high)
		ch->wait_high = slot + 1;
	if (ch->wait_owed[slot]) {
		ch->wait_owed[slot] = 0;
		wake_slot(ch, slot);
	}
}

/* --- a guest that breaks the rules ------------------------------------- */

/*
 * The guest's processes see the end of their control connection and of the
 * bells of their wait slots, and region.broken.
 */
void channel_break(struct channel *ch, enum broken why)
{
	if (ch->broken)
		return;
	ch->broken = true;
	ch->poller->work++; /* the next pass tears it down: no sleep before */
	canal_fetch_add(&broken_count[why], 1);
	canal_write_once(&ch->region->broken, (uint32_t)why);
	host_log_limited(ch->name, LOG_WARNING, "guest=%s pid=%d: channel closed: %s", ch->name,
			 (int)ch->pid, broken_name[why]);
	ch->transport->broken(ch);
}

void channel_tear_down(struct channel *ch)
{
	struct client *c, *next;

	for (uint32_t i = 0; i < ch->shape.socks && ch->sock_used; i++)
		if (ch->socks[i] && !ch->socks[i]->dead)
			sock_destroy(ch->socks[i]);
	cds_list_for_each_entry_safe(c, next, &ch->clients, link) channel_drop_client(c);
}

void channel_end(struct channel *ch)
{
	ch->broken = true;
	channel_tear_down(ch);
}

void channel_hear(struct channel *ch, uint32_t number)
{
	struct client *c = channel_client(ch, number);

	/* what is heard may be requests, which hear: one in the other is deep enough */
	if (!c || ch->hearing)
		return;
	ch->hearing = true;
	ch->transport->hear(c);
	ch->hearing = false;
}
