/* SPDX-License-Identifier: MIT */
/*
 * What `canalctl ports` shows: the port map, and what is published.
 *
 * Purpose: the guests' poller takes a snapshot, which is plain copying; the main
 * thread makes JSON of it. A rule that leads to nobody now is shown as well.
 *
 * Ownership and threads: snapshots are taken on the poller, all else is the main
 * thread's. What a rule says is fixed while canald runs.
 *
 * Failure: without memory a part is left out, or stats_ports() gives NULL.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "portmap.h"
#include "publish.h"
#include "vnet.h"

struct port_row {
	uint32_t guest;
	int type;
	struct canal_addr addr;
	bool v6only, listening;
	uint64_t queue;
	uint32_t backlog;
	pid_t pid;
	char command[sizeof(((struct channel *)0)->name)];
};

struct publish_row {
	const struct publish *publish; /* its fixed part */
	bool open, serving;
	int error;
};

struct snapshot {
	struct port_row *ports;
	struct publish_row *published;
	size_t port_count, port_room, publish_count, publish_room;
};

/* --- on the poller ----------------------------------------------------- */

static void *row_add(void **rows, size_t *count, size_t *room, size_t size)
{
	if (*count == *room) {
		size_t more = *room ? *room * 2 : 64;
		void *bigger = realloc(*rows, more * size);

		if (!bigger)
			return NULL;
		*rows = bigger;
		*room = more;
	}
	return memset((char *)*rows + size * (*count)++, 0, size);
}

/* Connections that wait, or bytes of datagrams; as far as a guest's word goes. */
static uint64_t queue_of(const struct sock *s)
{
	uint64_t len = s->rx_tail - canal_read_once(&s->shared->rx.head);

	if (len > CANAL_FIFO_MAX)
		return 0;
	return s->type == SOCK_STREAM ? len / sizeof(struct canal_accept) : len;
}

static bool port_look(const struct port *port, void *arg)
{
	const struct sock *s = port->want.owner;
	struct snapshot *to = arg;
	struct port_row *row;

	if (port->want.state == PORT_CLIENT)
		return true;
	row = row_add((void **)&to->ports, &to->port_count, &to->port_room, sizeof(*row));
	if (!row)
		return false;
	row->guest = port->want.guest;
	row->type = port->want.type;
	row->addr = port->want.addr;
	row->v6only = port->want.v6only;
	row->listening = port->want.state == PORT_LISTENING;
	row->queue = row->listening || row->type == SOCK_DGRAM ? queue_of(s) : 0;
	row->backlog = row->listening ? (uint32_t)s->backlog : 0;
	row->pid = s->channel->pid;
	memcpy(row->command, s->channel->name, sizeof(row->command));
	return true;
}

static void publish_look(const struct publish *p, struct snapshot *to)
{
	struct publish_row *row = row_add((void **)&to->published, &to->publish_count,
					  &to->publish_room, sizeof(*row));

	if (!row)
		return;
	row->publish = p;
	row->open = p->fd >= 0;
	row->serving = p->serving;
	row->error = p->error;
}

static void snapshot_take(void *arg)
{
	struct publish_rule *rule;
	struct snapshot *to = arg;
	struct guest *g;

	portmap_read_lock();
	portmap_each(port_look, to);
	portmap_read_unlock();
	cds_list_for_each_entry(g, &guests, link)
	{
		cds_list_for_each_entry(rule, &g->publish, link)
		{
			for (const struct publish *p = rule->open; p; p = p->next)
				publish_look(p, to);
		}
	}
}

/* --- JSON -------------------------------------------------------------- */

static const struct guest *guest_of(uint32_t number)
{
	struct guest *g;

	cds_list_for_each_entry(g, &guests, link) if (g->number == number) return g;
	return NULL;
}

/* Is that the one which gets what comes there? */
static bool leads(const struct publish_row *p, const struct port_row *row)
{
	const struct publish_rule *rule = p->publish->rule;
	bool dual = row->addr.family == AF_INET6 && !row->v6only && addr_any(&row->addr);

	return p->serving && p->publish->guest->number == row->guest && rule->type == row->type &&
	       rule->guest_port == row->addr.port && !addr_loopback(&row->addr) &&
	       (row->addr.family == p->publish->host.family || dual);
}

static json_t *published_json(const struct snapshot *from, const struct port_row *row)
{
	json_t *list = json_array();

	for (size_t i = 0; i < from->publish_count; i++)
		if (leads(&from->published[i], row))
			json_array_append_new(list,
					      stats_address(&from->published[i].publish->host));
	return list;
}

static json_t *row_json(const char *guest, int type, const struct canal_addr *addr,
			const char *state)
{
	json_t *object = json_object();

	json_object_set_new(object, "guest", json_string(guest));
	json_object_set_new(object, "proto", json_string(type == SOCK_STREAM ? "tcp" : "udp"));
	json_object_set_new(object, "local", stats_address(addr));
	json_object_set_new(object, "port", json_integer(ntohs(addr->port)));
	json_object_set_new(object, "state", json_string(state));
	return object;
}

static json_t *port_json(const struct snapshot *from, const struct port_row *row)
{
	const struct guest *g = guest_of(row->guest);
	const char *state = row->listening            ? "LISTEN"
			    : row->type == SOCK_DGRAM ? "UNCONN"
						      : "BOUND";
	json_t *object = row_json(g ? g->name : "-", row->type, &row->addr, state);

	json_object_set_new(object, "published", published_json(from, row));
	json_object_set_new(object, "queue", json_integer((json_int_t)row->queue));
	json_object_set_new(object, "backlog", json_integer((json_int_t)row->backlog));
	json_object_set_new(object, "command", json_string(row->command));
	json_object_set_new(object, "pid", json_integer(row->pid));
	return object;
}

/* A rule that leads to nobody: in the guest nobody listens, or another has the port. */
static json_t *unserved_json(const struct publish_row *p)
{
	const struct publish_rule *rule = p->publish->rule;
	struct canal_addr own = vnet_own(p->publish->guest, p->publish->host.family);
	json_t *object, *list = json_array();

	own.port = rule->guest_port;
	object = row_json(p->publish->guest->name, rule->type, &own,
			  p->open && !p->error ? "CLOSED" : "TAKEN");
	json_array_append_new(list, stats_address(&p->publish->host));
	json_object_set_new(object, "published", list);
	json_object_set_new(object, "queue", json_integer(0));
	json_object_set_new(object, "backlog", json_integer(0));
	if (p->error)
		json_object_set_new(object, "error", json_string(strerror(-p->error)));
	return object;
}

static json_t *snapshot_json(const struct snapshot *from)
{
	json_t *answer = json_object(), *list = json_array();

	for (size_t i = 0; i < from->port_count; i++)
		json_array_append_new(list, port_json(from, &from->ports[i]));
	for (size_t i = 0; i < from->publish_count; i++)
		if (!from->published[i].serving)
			json_array_append_new(list, unserved_json(&from->published[i]));
	json_object_set_new(answer, "ports", list);
	return answer;
}

struct json_t *stats_ports(void)
{
	struct snapshot snapshot = { .ports = NULL };
	json_t *answer;

	if (!cds_list_empty(&guests)) {
		struct guest *first = cds_list_first_entry(&guests, struct guest, link);

		poller_call(first->poller, snapshot_take, &snapshot, true);
	}
	answer = snapshot_json(&snapshot);
	free(snapshot.ports);
	free(snapshot.published);
	return answer;
}
