/* SPDX-License-Identifier: MIT */
/*
 * What `canalctl sockets` shows: every socket, in the words of ss(8).
 *
 * Purpose: the pollers copy what they know of their sockets, a few in each pass,
 * and ask the kernel for its queues; the main thread finds the programs' names
 * and makes JSON of it.
 *
 * Invariants
 *  1. A poller looks at SOCKETS_A_PASS sockets and SLOTS_A_PASS numbers in one
 *     pass, however many there are, and allocates nothing.
 *  2. Where it goes on is said by number, not by pointer: channels and sockets
 *     come and go between two passes. Channels are taken in the order of their
 *     ids, so none is shown twice.
 *
 * Ownership and threads: rows are filled on the poller while the main thread
 * waits, all else is the main thread's.
 *
 * Failure: without memory the list is cut short, or stats_sockets() gives NULL.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <jansson.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "guest.h"

#define SOCKETS_A_PASS 32u
#define SLOTS_A_PASS 4096u

struct row {
	const struct guest *guest;
	const char *state;
	uint64_t recv_q, send_q;
	struct canal_addr local, peer;
	uint32_t number;
	int domain, type;
	pid_t pid;
	uid_t uid;
	bool v6only, joined;
	bool foreign; /* the pid means nothing in this machine */
	char program[sizeof(((struct channel *)0)->name)];
};

/* Which sockets are asked for. */
struct filter {
	const char *guest;
	bool listening, stream, dgram;
	int family; /* 0: both */
};

struct gathering {
	struct poller *poller;
	struct filter filter;
	struct row *rows;
	size_t count, room;
	/* where to go on */
	uint64_t channel_id;
	uint32_t number;
	bool done;
	/* whose pid was looked up last */
	uint64_t client_channel;
	uint32_t client_number;
	struct client client;
};

/* --- on the poller: one socket ------------------------------------------- */

/* How far @ahead is, as far as a guest's word goes. */
static uint64_t queued(uint64_t ahead, uint64_t behind)
{
	return ahead - behind <= CANAL_FIFO_MAX ? ahead - behind : 0;
}

/* The kernel has a socket that carries what this one does. */
static bool kernel_carries(const struct sock *s)
{
	return s->fd >= 0 && !s->joined && !s->given;
}

/* This side has ended, at least towards canald. */
static const char *state_closing(const struct sock *s, bool heard_fin)
{
	if (heard_fin)
		return s->joined && s->tx_fin_sent ? "UNCONN" : "LAST-ACK";
	return s->joined && s->tx_fin_sent ? "FIN-WAIT-2" : "FIN-WAIT-1";
}

static const char *state_connected(const struct sock *s, int kernel)
{
	static const char *const later[] = {
		[TCP_FIN_WAIT1] = "FIN-WAIT-1", [TCP_FIN_WAIT2] = "FIN-WAIT-2",
		[TCP_TIME_WAIT] = "TIME-WAIT",  [TCP_CLOSE] = "UNCONN",
		[TCP_LAST_ACK] = "LAST-ACK",    [TCP_CLOSING] = "CLOSING",
	};
	bool heard_fin = s->rx_eof || kernel == TCP_CLOSE_WAIT;

	if (s->broken_off)
		return "UNCONN";
	if (kernel > 0 && kernel <= TCP_CLOSING && later[kernel])
		return later[kernel];
	if (s->tx_shut || s->released)
		return state_closing(s, heard_fin);
	return heard_fin ? "CLOSE-WAIT" : "ESTAB";
}

static const char *state_name(const struct sock *s, int kernel)
{
	switch (s->state) {
	case CANAL_SOCK_LISTENING:
		return "LISTEN";
	case CANAL_SOCK_CONNECTING:
		return "SYN-SENT";
	case CANAL_SOCK_CONNECTED:
		return state_connected(s, kernel);
	default:
		return s->type == SOCK_DGRAM && s->peer.family ? "ESTAB" : "UNCONN";
	}
}

static uint64_t kernel_queue(int fd, unsigned long request)
{
	int len;

	return ioctl(fd, request, &len) == 0 && len > 0 ? (uint64_t)len : 0;
}

/* Connections that nobody accepted, here and in the kernel, and how many may wait. */
static void row_listener(struct row *row, const struct sock *s, const struct tcp_info *info)
{
	row->recv_q /= sizeof(struct canal_accept);
	row->recv_q += info->tcpi_unacked;
	row->send_q = (uint64_t)s->backlog;
}

static void row_queues(struct row *row, const struct sock *s, const struct tcp_info *info)
{
	row->recv_q = queued(s->rx_tail, canal_read_once(&s->shared->rx.head));
	row->send_q = queued(canal_read_once(&s->shared->tx.tail), s->tx_head);
	if (s->state == CANAL_SOCK_LISTENING) {
		row_listener(row, s, info);
	} else if (s->state == CANAL_SOCK_CONNECTING) {
		row->send_q += 1; /* the SYN, as ss counts it */
	} else if (kernel_carries(s)) {
		row->recv_q += kernel_queue(s->fd, SIOCINQ);
		row->send_q += kernel_queue(s->fd, SIOCOUTQ);
	}
}

/* Who made or took it; if that process is gone, one that may have inherited it.
 * pid 0: nobody yet, it waits to be accepted. */
static const struct client *row_client(struct gathering *to, const struct sock *s)
{
	const struct channel *ch = s->channel;
	uint32_t number = s->was_accepted ? (uint32_t)canal_read_once(&s->shared->taken) : s->maker;
	struct client *c;

	if (to->client_channel == ch->id && to->client_number == number)
		return &to->client;
	to->client_channel = ch->id;
	to->client_number = number;
	to->client = (struct client){ .pid = s->listener && !number ? 0 : ch->pid, .uid = ch->uid };
	if (!to->client.pid)
		return &to->client;
	cds_list_for_each_entry(c, &ch->clients, link)
	{
		if (c->number == number || !to->client.number)
			to->client = *c;
	}
	return &to->client;
}

static void row_fill(struct gathering *to, const struct sock *s)
{
	struct row *row = &to->rows[to->count++];
	const struct client *client = row_client(to, s);
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	if (s->type == SOCK_STREAM && kernel_carries(s) &&
	    getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		info.tcpi_state = 0;
	*row = (struct row){
		.guest = s->channel->guest,
		.state = state_name(s, info.tcpi_state),
		.local = s->local,
		.peer = s->state == CANAL_SOCK_CONNECTING ? s->asked : s->peer,
		.number = s->number,
		.domain = s->domain,
		.type = s->type,
		.pid = client->pid,
		.uid = client->uid,
		.v6only = s->v6only,
		.joined = s->joined,
		.foreign = s->channel->vm,
	};
	memcpy(row->program, s->channel->name, sizeof(row->program));
	row_queues(row, s, &info);
}

/* --- on the poller: a slice ----------------------------------------------- */

static bool wanted(const struct filter *f, const struct sock *s)
{
	bool waits = s->state == CANAL_SOCK_LISTENING || (s->type == SOCK_DGRAM && !s->peer.family);

	return (s->type == SOCK_DGRAM ? f->dgram : f->stream) && (waits || !f->listening) &&
	       (!f->family || f->family == s->domain);
}

static bool channel_wanted(const struct filter *f, const struct channel *ch)
{
	return !f->guest || (ch->guest && strcmp(ch->guest->name, f->guest) == 0);
}

/* The channel to look at: the one with the lowest id from @id on. */
static const struct channel *channel_from(const struct gathering *to, uint64_t id)
{
	const struct channel *ch, *next = NULL;

	cds_list_for_each_entry(ch, &to->poller->channels, link)
	{
		if (ch->id >= id && (!next || ch->id < next->id) && channel_wanted(&to->filter, ch))
			next = ch;
	}
	return next;
}

static void slice(void *arg)
{
	struct gathering *to = arg;
	const struct channel *ch = channel_from(to, to->channel_id);
	size_t end = to->count + SOCKETS_A_PASS;

	to->done = !ch;
	if (!ch)
		return;
	if (ch->id != to->channel_id)
		to->number = 0;
	to->channel_id = ch->id;
	for (uint32_t i = 0; i < SLOTS_A_PASS && to->number < ch->shape.socks && to->count < end;
	     i++, to->number++) {
		const struct sock *s = ch->socks[to->number];

		if (s && !s->dead && wanted(&to->filter, s))
			row_fill(to, s);
	}
	if (to->number == ch->shape.socks) {
		to->channel_id++;
		to->number = 0;
	}
}

/* --- names of programs ------------------------------------------------------ */

/* The process's own name now: it may have executed another program since it came. */
static void program_name(struct row *row)
{
	char path[32], name[sizeof(row->program)];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)row->pid);
	f = row->foreign || !row->pid ? NULL : fopen(path, "re");
	if (!f)
		return;
	if (fgets(name, sizeof(name), f)) {
		name[strcspn(name, "\n")] = '\0';
		for (char *c = name; *c; c++)
			*c = isprint((unsigned char)*c) ? *c : '?';
		memcpy(row->program, name, sizeof(name));
	}
	fclose(f);
}

static void program_names(struct gathering *to, size_t from)
{
	for (size_t i = from; i < to->count; i++) {
		struct row *row = &to->rows[i], *before = i ? row - 1 : NULL;

		if (before && before->pid == row->pid && before->foreign == row->foreign &&
		    before->guest == row->guest)
			memcpy(row->program, before->program, sizeof(row->program));
		else
			program_name(row);
	}
}

/* --- JSON -------------------------------------------------------------------- */

/* As ss has it: '*' for no port, and for the address of both families. */
static json_t *address_json(const struct row *row, const struct canal_addr *a)
{
	static const uint8_t any[16];
	uint16_t family = a->family ? a->family : (uint16_t)row->domain;
	char ip[INET6_ADDRSTRLEN], port[8] = "*", text[INET6_ADDRSTRLEN + 16];
	const void *from = a->family ? a->ip : any;

	inet_ntop(family, from, ip, sizeof(ip));
	if (a->family && a->port)
		snprintf(port, sizeof(port), "%u", ntohs(a->port));
	if (family == AF_INET6 && !row->v6only && memcmp(from, any, sizeof(any)) == 0)
		snprintf(text, sizeof(text), "*:%s", port);
	else
		snprintf(text, sizeof(text), family == AF_INET6 ? "[%s]:%s" : "%s:%s", ip, port);
	return json_string(text);
}

/* Without a program and a pid where no process has it yet. */
static json_t *row_json(const struct row *row)
{
	json_t *object = json_pack("{s:s, s:s, s:I, s:I, s:o, s:o, s:s, s:I, s:I, s:b}", "netid",
				   row->type == SOCK_DGRAM ? "udp" : "tcp", "state", row->state,
				   "recv_q", (json_int_t)row->recv_q, "send_q",
				   (json_int_t)row->send_q, "local", address_json(row, &row->local),
				   "peer", address_json(row, &row->peer), "family",
				   row->domain == AF_INET6 ? "inet6" : "inet", "uid",
				   (json_int_t)row->uid, "id", (json_int_t)row->number, "joined",
				   row->joined);

	if (row->guest)
		json_object_set_new(object, "guest", json_string(row->guest->name));
	if (row->pid) {
		json_object_set_new(object, "program", json_string(row->program));
		json_object_set_new(object, "pid", json_integer(row->pid));
	}
	return object;
}

/* --- the question ------------------------------------------------------------ */

static bool room_make(struct gathering *to)
{
	size_t room = to->room ? to->room * 2 : 16 * SOCKETS_A_PASS;
	struct row *more;

	if (to->room - to->count >= SOCKETS_A_PASS)
		return true;
	more = reallocarray(to->rows, room, sizeof(*more));
	if (!more)
		return false;
	to->rows = more;
	to->room = room;
	return true;
}

static void gather_poller(struct gathering *to, struct poller *p)
{
	to->poller = p;
	to->channel_id = 0;
	to->number = 0;
	to->done = false;
	while (!to->done && room_make(to)) {
		size_t before = to->count;

		if (poller_call(p, slice, to, true))
			return;
		program_names(to, before);
	}
}

static struct filter filter_read(const struct json_t *asked)
{
	bool tcp = json_is_true(json_object_get(asked, "tcp"));
	bool udp = json_is_true(json_object_get(asked, "udp"));
	const char *family = json_string_value(json_object_get(asked, "family"));

	return (struct filter){
		.guest = json_string_value(json_object_get(asked, "guest")),
		.listening = json_is_true(json_object_get(asked, "listening")),
		.stream = tcp || !udp,
		.dgram = udp || !tcp,
		.family = !family                        ? 0
			  : strcmp(family, "inet6") == 0 ? AF_INET6
							 : AF_INET,
	};
}

/* With those that there are, as many as fit a line. */
static json_t *no_such_guest(const char *name)
{
	char list[512] = "";
	size_t len = 0;
	struct guest *g;

	cds_list_for_each_entry(g, &guests, link)
	{
		if (len + strlen(g->name) + 3 > sizeof(list))
			break;
		len += (size_t)sprintf(list + len, "%s%s", len ? ", " : "", g->name);
	}
	return json_sprintf("%s: no such guest in canald's configuration, which has %s", name,
			    len ? list : "none");
}

struct json_t *stats_sockets(const struct json_t *asked)
{
	struct gathering to = { .filter = filter_read(asked) };
	json_t *answer = json_object(), *list = json_array();

	if (to.filter.guest && !guest_find(&guests, to.filter.guest)) {
		json_object_set_new(answer, "error", no_such_guest(to.filter.guest));
		json_decref(list);
		return answer;
	}
	for (unsigned int i = 0; i < poller_count; i++)
		gather_poller(&to, &pollers[i]);
	for (size_t i = 0; i < to.count; i++)
		json_array_append_new(list, row_json(&to.rows[i]));
	json_object_set_new(answer, "sockets", list);
	free(to.rows);
	return answer;
}
