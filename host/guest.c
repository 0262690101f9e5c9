/* SPDX-License-Identifier: MIT */
/*
 * Guests that the configuration names: see guest.h.
 *
 * Ownership and threads: the main thread, but for guest_enter() and guest_leave().
 * Failure: what a guest publishes and cannot have is logged and left out; without
 * memory canald does not start.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syslog.h>

#include "portmap.h"
#include "publish.h"

struct cds_list_head guests = CDS_LIST_HEAD_INIT(guests);

const char *const guest_transport_name[2] = {
	[GUEST_LOCAL] = "local",
	[GUEST_VM] = "vm",
};

struct guest *guest_new(const char *name)
{
	struct guest *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	strncpy(g->name, name, sizeof(g->name) - 1);
	g->listen_fd = -1;
	CDS_INIT_LIST_HEAD(&g->publish);
	CDS_INIT_LIST_HEAD(&g->allow);
	return g;
}

void guest_free(struct guest *g)
{
	struct publish_rule *rule, *next;
	struct allow_rule *allow, *next_allow;

	cds_list_for_each_entry_safe(rule, next, &g->publish, link) free(rule);
	cds_list_for_each_entry_safe(allow, next_allow, &g->allow, link) free(allow);
	free(g);
}

void guests_free(struct cds_list_head *list)
{
	struct guest *g, *next;

	cds_list_for_each_entry_safe(g, next, list, link) guest_free(g);
	CDS_INIT_LIST_HEAD(list);
}

struct guest *guest_find(struct cds_list_head *list, const char *name)
{
	struct guest *g;

	cds_list_for_each_entry(g, list, link) if (strcmp(g->name, name) == 0) return g;
	return NULL;
}

/* The last one: plain guests fill the others as well. */
static struct poller *guests_poller(void)
{
	return &pollers[poller_count - 1];
}

int guests_start(void)
{
	struct guest *g;
	uint32_t number = 0;
	int error = 0;

	cds_list_for_each_entry(g, &guests, link)
	{
		g->number = ++number;
		g->poller = guests_poller();
		if (!error)
			error = publish_open(g);
	}
	if (error)
		host_log(LOG_ERR, "what guests publish: %s", strerror(-error));
	return error;
}

void guests_stop(void)
{
	struct guest *g;

	cds_list_for_each_entry(g, &guests, link) publish_close(g);
	guests_free(&guests);
}

bool guest_enter(struct guest *g)
{
	uint32_t most = g->max_channels ? g->max_channels : settings.max_channels;

	if (canal_fetch_add(&g->channels, 1) < most)
		return true;
	canal_fetch_add(&g->channels, (uint32_t)-1);
	return false;
}

void guest_leave(struct guest *g, const struct counters *count)
{
	const uint64_t *from = (const uint64_t *)count;
	uint64_t *to = (uint64_t *)&g->gone;

	for (size_t i = 0; i < sizeof(*count) / sizeof(*from); i++)
		canal_fetch_add(&to[i], from[i]);
	canal_fetch_add(&g->channels, (uint32_t)-1);
}
