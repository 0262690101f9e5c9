/* SPDX-License-Identifier: MIT */
/*
 * The port map: whose a port is, in the address spaces of all guests.
 *
 * Purpose: (guest, protocol, address, port) -> the socket that has it (vCanal
 * 3.3). Each guest may listen on port 80. A hash table of liburcu: readers take
 * no lock and write nothing that another reads.
 *
 * All addresses of a port are in one chain, found by (guest, protocol, port): to
 * say whether a port is free, or who is the best match for a destination, the
 * wildcard addresses have to be seen beside the others. A chain has as many
 * entries as there are sockets on that port, which is one or two.
 *
 * Invariants
 *  1. Two entries overlap only where both sockets said that they may share the
 *     port, by the rules of Linux for SO_REUSEADDR and SO_REUSEPORT.
 *  2. An entry is freed a grace period after it was taken out.
 *  3. No thread but the one that changes the map follows `owner`.
 *  4. A port that is looked for is found in a bitmap, and a chain has at most SHARE_MAX
 *     entries: a guest with very many sockets does not make others wait.
 *
 * Ownership and threads: changed by one thread, the poller of the guests; read by
 * any that called portmap_thread_begin().
 *
 * Failure: -EADDRINUSE, as bind() and listen() say it; -ENOMEM.
 */

#include <urcu.h> /* liburcu-memb */

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "order.h"
#include "portmap.h"

/* Chains; the table never resizes, which would need a thread of its own. */
#define BUCKETS 8192u

/* Linux' own range, so that a guest sees what it would see there. */
#define EPHEMERAL_FIRST 32768u
#define EPHEMERAL_LAST 60999u

/* Sockets that share a port of a guest (SO_REUSEPORT), at most. */
#define SHARE_MAX 256u

static struct cds_lfht *map;

/* Which ports of a guest somebody has, of one protocol; of the thread that changes. */
struct space {
	uint64_t has[65536 / 64];
};

static struct space **spaces; /* by guest and protocol */
static size_t space_count;

/* --- names ------------------------------------------------------------- */

static unsigned long hash_of(uint32_t guest, int type, uint16_t port)
{
	uint64_t h = (uint64_t)guest << 32 | (uint64_t)(uint32_t)type << 16 | port;

	h ^= h >> 31;
	h *= 0x9e3779b97f4a7c15ull;
	return (unsigned long)(h ^ h >> 29);
}

static int same_port(struct cds_lfht_node *node, const void *key)
{
	const struct port *p = caa_container_of(node, struct port, node);
	const struct port_want *want = key;

	return p->want.guest == want->guest && p->want.type == want->type &&
	       p->want.addr.port == want->addr.port;
}

static bool ip_any(const struct canal_addr *a)
{
	static const uint8_t zero[16];

	return !memcmp(a->ip, zero, a->family == AF_INET ? 4 : 16);
}

static bool ip_same(const struct canal_addr *a, const struct canal_addr *b)
{
	return a->family == b->family && !memcmp(a->ip, b->ip, a->family == AF_INET ? 4 : 16);
}

/* [::] that takes IPv4 as well. */
static bool dual(const struct port_want *w)
{
	return w->addr.family == AF_INET6 && !w->v6only && ip_any(&w->addr);
}

/* How well @w fits a destination: 0 not at all. */
static int fit(const struct port_want *w, const struct canal_addr *to)
{
	if (ip_same(&w->addr, to))
		return 3;
	if (w->addr.family == to->family)
		return ip_any(&w->addr) ? 2 : 0;
	return to->family == AF_INET && dual(w) ? 1 : 0;
}

static bool overlap(const struct port_want *a, const struct port_want *b)
{
	if (a->addr.family == b->addr.family)
		return ip_any(&a->addr) || ip_any(&b->addr) || ip_same(&a->addr, &b->addr);
	return dual(a) || dual(b);
}

/* --- reading ----------------------------------------------------------- */

void portmap_thread_begin(void)
{
	rcu_register_thread();
}

void portmap_thread_end(void)
{
	rcu_unregister_thread();
}

void portmap_read_lock(void)
{
	rcu_read_lock();
}

void portmap_read_unlock(void)
{
	rcu_read_unlock();
}

void portmap_each_at(uint32_t guest, int type, uint16_t port,
		     bool (*each)(const struct port *p, void *arg), void *arg)
{
	const struct port_want key = { .guest = guest, .type = type, .addr.port = port };
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	if (!map)
		return;
	cds_lfht_lookup(map, hash_of(guest, type, port), same_port, &key, &iter);
	while ((node = cds_lfht_iter_get_node(&iter)) &&
	       each(caa_container_of(node, struct port, node), arg))
		cds_lfht_next_duplicate(map, same_port, &key, &iter);
}

void portmap_each(bool (*each)(const struct port *p, void *arg), void *arg)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	if (!map)
		return;
	cds_lfht_first(map, &iter);
	while ((node = cds_lfht_iter_get_node(&iter)) &&
	       each(caa_container_of(node, struct port, node), arg))
		cds_lfht_next(map, &iter);
}

struct finding {
	const struct canal_addr *to;
	const struct port *best;
	int best_fit;
	uint32_t equals; /* fit as well as the best */
	uint32_t pass;   /* of those, how many to pass over */
	portmap_suits *suits;
	const void *arg;
};

static int fit_of(const struct port *p, const struct canal_addr *to)
{
	uint32_t state = canal_read_once((const uint32_t *)&p->want.state);

	if (p->want.type == SOCK_STREAM && state != PORT_LISTENING)
		return 0;
	return fit(&p->want, to);
}

/* 0: not at all. */
static int rank_of(const struct port *p, const struct finding *f)
{
	int how = fit_of(p, f->to), more = how && f->suits ? f->suits(p, f->arg) : 0;

	return how && more >= 0 ? 2 * how + more : 0;
}

static bool find_best(const struct port *p, void *arg)
{
	struct finding *f = arg;
	int how = rank_of(p, f);

	if (how > f->best_fit) {
		f->best = p;
		f->best_fit = how;
		f->equals = 0;
	}
	f->equals += how && how == f->best_fit;
	return true;
}

static bool find_nth(const struct port *p, void *arg)
{
	struct finding *f = arg;

	if (rank_of(p, f) != f->best_fit)
		return true;
	f->best = p;
	return f->pass-- > 0;
}

const struct port *portmap_find(uint32_t guest, int type, const struct canal_addr *to,
				uint32_t spread)
{
	return portmap_find_suiting(guest, type, to, spread, NULL, NULL);
}

const struct port *portmap_find_suiting(uint32_t guest, int type, const struct canal_addr *to,
					uint32_t spread, portmap_suits *suits, const void *arg)
{
	struct finding f = { .to = to, .suits = suits, .arg = arg };

	portmap_each_at(guest, type, to->port, find_best, &f);
	if (f.equals < 2)
		return f.best;
	f.pass = spread % f.equals;
	portmap_each_at(guest, type, to->port, find_nth, &f);
	return f.best;
}

/* --- changing ---------------------------------------------------------- */

/* May @a have it, where @b has it already? */
static bool may_share(const struct port_want *a, const struct port_want *b)
{
	if (a->reuseport && b->reuseport)
		return true;
	if (!a->reuseaddr || !b->reuseaddr)
		return false;
	return a->type == SOCK_DGRAM || b->state != PORT_LISTENING;
}

struct claiming {
	const struct port_want *want;
	const struct port *self;
	uint32_t count; /* of those it was held against */
	bool taken;
};

static bool claim_look(const struct port *p, void *arg)
{
	struct claiming *c = arg;

	c->count++;
	c->taken = p != c->self && overlap(&p->want, c->want) && !may_share(c->want, &p->want);
	return !c->taken;
}

static struct claiming claim(const struct port_want *want, const struct port *self)
{
	struct claiming c = { .want = want, .self = self };

	rcu_read_lock();
	portmap_each_at(want->guest, want->type, want->addr.port, claim_look, &c);
	rcu_read_unlock();
	return c;
}

/* Without memory there is none: then the map alone says what is free. */
static struct space *space_of(const struct port_want *want, bool make)
{
	size_t n = (size_t)want->guest * 2 + (want->type == SOCK_DGRAM);

	if (n >= space_count && make) {
		struct space **more = reallocarray(spaces, n + 2, sizeof(struct space *));

		if (!more)
			return NULL;
		memset(more + space_count, 0, (n + 2 - space_count) * sizeof(struct space *));
		spaces = more;
		space_count = n + 2;
	}
	if (n >= space_count)
		return NULL;
	if (!spaces[n] && make)
		spaces[n] = calloc(1, sizeof(struct space));
	return spaces[n];
}

static bool space_has(const struct port_want *want)
{
	const struct space *s = space_of(want, false);
	uint16_t port = ntohs(want->addr.port);

	return s && s->has[port / 64] >> port % 64 & 1;
}

static void space_set(const struct port_want *want, bool has)
{
	struct space *s = space_of(want, has);
	uint16_t port = ntohs(want->addr.port);

	if (s && has)
		s->has[port / 64] |= 1ull << port % 64;
	else if (s)
		s->has[port / 64] &= ~(1ull << port % 64);
}

int portmap_add(struct port **ret_port, const struct port_want *want)
{
	struct claiming c = claim(want, NULL);
	struct port *p;

	if (c.taken)
		return -EADDRINUSE;
	if (c.count >= SHARE_MAX)
		return -ENOBUFS;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->want = *want;
	cds_lfht_node_init(&p->node);
	rcu_read_lock();
	cds_lfht_add(map, hash_of(want->guest, want->type, want->addr.port), &p->node);
	rcu_read_unlock();
	space_set(want, true);
	*ret_port = p;
	return 0;
}

int portmap_add_any(struct port **ret_port, struct port_want *want, uint16_t *cursor,
		    bool (*skip)(const struct port_want *want))
{
	for (uint32_t i = EPHEMERAL_FIRST; i <= EPHEMERAL_LAST; i++) {
		int r;

		*cursor = *cursor < EPHEMERAL_FIRST || *cursor >= EPHEMERAL_LAST
				  ? (uint16_t)EPHEMERAL_FIRST
				  : (uint16_t)(*cursor + 1);
		want->addr.port = htons(*cursor);
		if (space_has(want) || (skip && skip(want)))
			continue;
		r = portmap_add(ret_port, want);
		if (r != -EADDRINUSE)
			return r;
	}
	return -EADDRNOTAVAIL;
}

static void port_free(struct rcu_head *rcu)
{
	free(caa_container_of(rcu, struct port, rcu));
}

void portmap_del(struct port *p)
{
	struct port_want want = p->want;

	rcu_read_lock();
	cds_lfht_del(map, &p->node);
	rcu_read_unlock();
	if (!claim(&want, p).count)
		space_set(&want, false);
	call_rcu(&p->rcu, port_free);
}

static void set_state(struct port *p, enum port_state state)
{
	canal_write_once((uint32_t *)&p->want.state, (uint32_t)state);
}

int portmap_listen(struct port *p)
{
	if (claim(&p->want, p).taken)
		return -EADDRINUSE;
	set_state(p, PORT_LISTENING);
	return 0;
}

void portmap_unlisten(struct port *p)
{
	set_state(p, PORT_BOUND);
}

/* --- start and stop ---------------------------------------------------- */

/* The thread that frees is made here: from a poller it would have its CPU. */
int portmap_start(void)
{
	portmap_thread_begin();
	map = cds_lfht_new(BUCKETS, BUCKETS, BUCKETS, 0, NULL);
	if (map && get_default_call_rcu_data())
		return 0;
	portmap_stop();
	return -ENOMEM;
}

static bool drop(const struct port *p, void *arg)
{
	(void)arg;
	portmap_del((struct port *)(uintptr_t)p);
	return true;
}

void portmap_stop(void)
{
	if (map) {
		rcu_read_lock();
		portmap_each(drop, NULL);
		rcu_read_unlock();
		rcu_barrier();
		cds_lfht_destroy(map, NULL);
	}
	map = NULL;
	for (size_t i = 0; i < space_count; i++)
		free(spaces[i]);
	free(spaces);
	spaces = NULL;
	space_count = 0;
	portmap_thread_end();
}
