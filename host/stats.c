/* SPDX-License-Identifier: MIT */
/*
 * What canalctl shows.
 *
 * Purpose: a poller takes a snapshot of its channels, which is plain copying;
 * the main thread makes JSON of it.
 *
 * Ownership and threads: snapshots are taken on the poller, all else is the
 * main thread's. Counters of a guest are read while nobody changes them.
 *
 * Failure: without memory a part is left out, or stats_status() gives NULL.
 */
#include <arpa/inet.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

struct socket_snapshot {
	uint32_t number;
	int type;
	const char *state;
	struct canal_addr local, peer;
	uint64_t txq, rxq;
	bool joined;
};

struct channel_snapshot {
	const struct guest *guest;
	char name[sizeof(((struct channel *)0)->name)];
	pid_t pid;
	uid_t uid;
	uint32_t processes, chunks;
	uint64_t shared_bytes;
	struct counters count;
	struct socket_snapshot *socks;
	uint32_t sock_count;
};

struct poller_snapshot {
	struct poller *poller;
	struct channel_snapshot *channels;
	uint32_t channel_count;
	uint64_t passes, sleeps;
};

/* --- on the poller ----------------------------------------------------- */

static const char *state_connected(const struct sock *s)
{
	bool sent_fin = s->tx_shut || s->tx_fin_sent;

	if (s->released)
		return "CLOSING";
	if (s->rx_eof)
		return sent_fin ? "LAST-ACK" : "CLOSE-WAIT";
	return sent_fin ? "FIN-WAIT" : "ESTAB";
}

/* In the words of ss(8). */
static const char *state_name(const struct sock *s)
{
	switch (s->state) {
	case CANAL_SOCK_LISTENING:
		return "LISTEN";
	case CANAL_SOCK_CONNECTING:
		return "SYN-SENT";
	case CANAL_SOCK_CONNECTED:
		return state_connected(s);
	case CANAL_SOCK_CLOSED:
		return "CLOSED";
	default:
		return s->type == SOCK_DGRAM && s->peer.family ? "ESTAB" : "UNCONN";
	}
}

/* How far @ahead is, as far as a guest's word goes. */
static uint64_t queued(uint64_t ahead, uint64_t behind)
{
	return ahead - behind <= CANAL_FIFO_MAX ? ahead - behind : 0;
}

static void snapshot_socket(struct socket_snapshot *to, const struct sock *s)
{
	to->number = s->number;
	to->type = s->type;
	to->state = state_name(s);
	to->local = s->local;
	to->peer = s->peer;
	to->txq = queued(canal_read_once(&s->shared->tx.tail), s->tx_head);
	to->rxq = queued(s->rx_tail, canal_read_once(&s->shared->rx.head));
	if (s->state == CANAL_SOCK_LISTENING)
		to->rxq /= sizeof(struct canal_accept);
	to->joined = s->joined;
}

/* TX chunks are the guest's: what its tables name is all that is known. */
static uint32_t tx_chunks(const struct sock *s)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < CANAL_FIFO_CHUNKS; i++)
		count += canal_read_once(&s->shared->tx.chunk[i]) != CANAL_NONE;
	return count;
}

static void snapshot_sockets(struct channel_snapshot *to, const struct channel *ch)
{
	to->socks = calloc(ch->sock_used, sizeof(*to->socks));
	for (uint32_t i = 0; to->socks && i < ch->shape.socks && to->sock_count < ch->sock_used;
	     i++) {
		if (!ch->socks[i])
			continue;
		snapshot_socket(&to->socks[to->sock_count++], ch->socks[i]);
		to->chunks += tx_chunks(ch->socks[i]);
	}
}

static void snapshot_channel(struct channel_snapshot *to, const struct channel *ch)
{
	struct cds_list_head *pos;
	struct stat st;

	to->guest = ch->guest;
	memcpy(to->name, ch->name, sizeof(to->name));
	to->pid = ch->pid;
	to->uid = ch->uid;
	to->count = ch->count;
	to->chunks = ch->rx_in_use;
	cds_list_for_each(pos, &ch->clients) to->processes++;
	if (fstat(ch->region_fd, &st) == 0)
		to->shared_bytes = (uint64_t)st.st_blocks * 512;
	snapshot_sockets(to, ch);
}

static void snapshot_poller(void *arg)
{
	struct poller_snapshot *to = arg;
	struct cds_list_head *pos;
	struct channel *ch;
	uint32_t count = 0;

	to->passes = to->poller->passes;
	to->sleeps = to->poller->sleeps;
	cds_list_for_each(pos, &to->poller->channels) count++;
	to->channels = calloc(count, sizeof(*to->channels));
	if (!to->channels)
		return;
	cds_list_for_each_entry(ch, &to->poller->channels, link)
		snapshot_channel(&to->channels[to->channel_count++], ch);
}

/* --- JSON -------------------------------------------------------------- */

static void set_number(json_t *object, const char *key, uint64_t number)
{
	json_object_set_new(object, key, json_integer((json_int_t)number));
}

json_t *stats_address(const struct canal_addr *a)
{
	char ip[INET6_ADDRSTRLEN], text[INET6_ADDRSTRLEN + 16];

	if (!a->family || !inet_ntop(a->family, a->ip, ip, sizeof(ip)))
		return json_string("*");
	snprintf(text, sizeof(text), a->family == AF_INET6 ? "[%s]:%u" : "%s:%u", ip,
		 ntohs(a->port));
	return json_string(text);
}

static json_t *stats_ip(const struct canal_addr *a)
{
	char ip[INET6_ADDRSTRLEN];

	return json_string(inet_ntop(a->family, a->ip, ip, sizeof(ip)) ? ip : "*");
}

static json_t *socket_json(const struct socket_snapshot *s)
{
	json_t *object = json_object();

	set_number(object, "id", s->number);
	json_object_set_new(object, "type", json_string(s->type == SOCK_DGRAM ? "udp" : "tcp"));
	json_object_set_new(object, "state", json_string(s->state));
	json_object_set_new(object, "local", stats_address(&s->local));
	json_object_set_new(object, "peer", stats_address(&s->peer));
	set_number(object, "txq", s->txq);
	set_number(object, "rxq", s->rxq);
	json_object_set_new(object, "joined", json_boolean(s->joined));
	return object;
}

static void counters_json(json_t *object, const struct counters *count)
{
	const struct {
		const char *key;
		uint64_t number;
	} list[] = {
		{ "tx_bytes", count->tx_bytes },   { "rx_bytes", count->rx_bytes },
		{ "tx_dgrams", count->tx_dgrams }, { "rx_dgrams", count->rx_dgrams },
		{ "rx_drops", count->rx_drops },   { "connections", count->connections },
		{ "joined", count->joined },       { "falls", count->falls },
		{ "handovers", count->handovers }, { "smuggled", count->smuggled },
		{ "inrs", count->inrs },           { "wakes", count->wakes },
	};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		set_number(object, list[i].key, list[i].number);
}

static void counters_add(struct counters *to, const struct counters *from)
{
	uint64_t *t = (uint64_t *)to;
	const uint64_t *f = (const uint64_t *)from;

	for (size_t i = 0; i < sizeof(*to) / sizeof(*t); i++)
		t[i] += f[i];
}

static json_t *channel_json(const struct channel_snapshot *ch)
{
	json_t *object = json_object(), *socks = json_array();

	json_object_set_new(object, "name", json_string(ch->guest ? ch->guest->name : ch->name));
	json_object_set_new(object, "command", json_string(ch->name));
	set_number(object, "pid", (uint64_t)ch->pid);
	set_number(object, "uid", ch->uid);
	set_number(object, "processes", ch->processes);
	set_number(object, "chunks", ch->chunks);
	set_number(object, "shared_bytes", ch->shared_bytes);
	counters_json(object, &ch->count);
	for (uint32_t i = 0; i < ch->sock_count; i++)
		json_array_append_new(socks, socket_json(&ch->socks[i]));
	json_object_set_new(object, "sockets", socks);
	return object;
}

static json_t *guest_json(struct guest *g)
{
	json_t *object = json_object(), *publish = json_array();
	struct publish_rule *rule;

	json_object_set_new(object, "name", json_string(g->name));
	json_object_set_new(object, "transport", json_string(guest_transport_name[g->transport]));
	json_object_set_new(object, "socket", json_string(g->socket_path));
	if (g->address.family)
		json_object_set_new(object, "address", stats_ip(&g->address));
	if (g->address6.family)
		json_object_set_new(object, "address6", stats_ip(&g->address6));
	set_number(object, "channels", canal_read_once(&g->channels));
	set_number(object, "denied", canal_read_once(&g->denied));
	cds_list_for_each_entry(rule, &g->publish, link)
		json_array_append_new(publish, json_string(rule->text));
	json_object_set_new(object, "publish", publish);
	return object;
}

static json_t *configured_json(void)
{
	json_t *list = json_array();
	struct guest *g;

	cds_list_for_each_entry(g, &guests, link) json_array_append_new(list, guest_json(g));
	return list;
}

static json_t *poller_json(const struct poller_snapshot *p)
{
	json_t *object = json_object();

	set_number(object, "number", p->poller->number);
	json_object_set_new(object, "cpu", json_integer(p->poller->cpu));
	set_number(object, "passes", p->passes);
	set_number(object, "sleeps", p->sleeps);
	set_number(object, "channels", p->channel_count);
	return object;
}

static json_t *broken_json(void)
{
	json_t *object = json_object();

	for (int i = BROKEN_NOT + 1; i < BROKEN_REASONS; i++)
		if (broken_count[i] && broken_name[i])
			set_number(object, broken_name[i], canal_read_once(&broken_count[i]));
	return object;
}

/* Adds what a poller has to the document, and to @total. */
static void add_poller(struct poller *p, json_t *list, json_t *list_guests, struct counters *total)
{
	struct poller_snapshot snapshot = { .poller = p };

	if (poller_call(p, snapshot_poller, &snapshot, true))
		return;
	json_array_append_new(list, poller_json(&snapshot));
	for (uint32_t i = 0; i < snapshot.channel_count; i++) {
		json_array_append_new(list_guests, channel_json(&snapshot.channels[i]));
		counters_add(total, &snapshot.channels[i].count);
		free(snapshot.channels[i].socks);
	}
	free(snapshot.channels);
}

static uint64_t uptime_s(void)
{
	static struct timespec start;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!start.tv_sec)
		start = now;
	return (uint64_t)(now.tv_sec - start.tv_sec);
}

void stats_start(void)
{
	uptime_s();
}

struct json_t *stats_status(void)
{
	json_t *status = json_object(), *list = json_array(), *list_guests = json_array(),
	       *totals = json_object();
	struct counters total = { 0 };

	json_object_set_new(status, "version", json_string(CANAL_VERSION));
	set_number(status, "pid", (uint64_t)getpid());
	json_object_set_new(status, "engine",
			    json_string(poller_count ? pollers[0].ops->name : "none"));
	json_object_set_new(status, "poll", json_string(poll_mode_name[settings.poll]));
	set_number(status, "uptime_s", uptime_s());
	/* what is gone first: a guest that goes meanwhile is missed, not counted twice */
	counters_add(&total, &total_gone);
	for (unsigned int i = 0; i < poller_count; i++)
		add_poller(&pollers[i], list, list_guests, &total);
	counters_json(totals, &total);
	json_object_set_new(status, "pollers", list);
	json_object_set_new(status, "guests", list_guests);
	json_object_set_new(status, "configured", configured_json());
	json_object_set_new(status, "total", totals);
	json_object_set_new(status, "broken", broken_json());
	return status;
}
