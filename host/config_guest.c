/* SPDX-License-Identifier: MIT */
/*
 * The [guest NAME] sections of the configuration file.
 *
 * Purpose: one table of keys, as in config.c; and when the file was read, whether
 * the guests go together: no two may have the same socket, address, RAM file or
 * published port.
 *
 * Invariants
 *  1. A conflict is reported at the line of the later one, and names the earlier.
 *
 * Ownership and threads: the main thread, before any other runs.
 *
 * Failure: -EINVAL of a set function is reported with what was expected.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "vnet.h"

#define PAGE_BYTES 4096ul
#define RULES_MAX 100 /* published by one guest: two host sockets each, PUBLISH_MAX */
#define CHUNKS_MAX 16384ul

/* --- values ------------------------------------------------------------ */

static int text_copy(char *to, size_t to_len, const char *value)
{
	if (!value[0] || strlen(value) >= to_len)
		return -EINVAL;
	strcpy(to, value);
	return 0;
}

static int set_transport(struct guest *g, const char *value)
{
	for (unsigned int i = 0; i < 2; i++) {
		if (strcmp(value, guest_transport_name[i]) == 0) {
			g->transport = (enum guest_transport)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int set_socket(struct guest *g, const char *value)
{
	return text_copy(g->socket_path, sizeof(g->socket_path), value);
}

static int set_socket_mode(struct guest *g, const char *value)
{
	char *end;
	unsigned long mode = strtoul(value, &end, 8);

	if (!isdigit((unsigned char)value[0]) || *end || !mode || mode > 0777)
		return -EINVAL;
	g->socket_mode = (mode_t)mode;
	return 0;
}

static int set_memory(struct guest *g, const char *value)
{
	return value[0] == '/' ? text_copy(g->memory_path, sizeof(g->memory_path), value) : -EINVAL;
}

static int ip_parse(const char *text, struct canal_addr *ret)
{
	struct canal_addr a = { .family = AF_INET };

	if (inet_pton(AF_INET, text, a.ip) != 1) {
		a.family = AF_INET6;
		if (inet_pton(AF_INET6, text, a.ip) != 1)
			return -EINVAL;
	}
	*ret = a;
	return 0;
}

/* One that names a single machine, wherever it is. */
static bool is_machine(const struct canal_addr *a)
{
	return addr_plain(a).family == a->family && !addr_any(a) && !addr_loopback(a) &&
	       !vnet_is_stand_in(a) && !vnet_is_special(a);
}

static int machine_parse(const char *value, int family, struct canal_addr *ret)
{
	struct canal_addr a;

	if (ip_parse(value, &a) || (family && a.family != family) || !is_machine(&a))
		return -EINVAL;
	*ret = a;
	return 0;
}

static int set_address(struct guest *g, const char *value)
{
	return machine_parse(value, AF_INET, &g->address);
}

static int set_address6(struct guest *g, const char *value)
{
	return machine_parse(value, AF_INET6, &g->address6);
}

static int set_alias(struct guest *g, const char *value)
{
	struct canal_addr a, *to;

	if (machine_parse(value, 0, &a))
		return -EINVAL;
	to = a.family == AF_INET ? &g->alias : &g->alias6;
	if (to->family)
		return -EINVAL;
	*to = a;
	return 0;
}

static int port_parse(const char *text, uint16_t *ret_port)
{
	unsigned long port;

	if (config_number(text, 1, 65535, &port))
		return -EINVAL;
	*ret_port = htons((uint16_t)port);
	return 0;
}

/* The same address without the brackets of an IPv6 one. */
static int host_parse(char *text, struct canal_addr *ret)
{
	size_t len = strlen(text);
	bool brackets = len > 2 && text[0] == '[' && text[len - 1] == ']';

	if (brackets) {
		text[len - 1] = '\0';
		text++;
	}
	if (ip_parse(text, ret) || addr_plain(ret).family != ret->family)
		return -EINVAL;
	return brackets == (ret->family == AF_INET6) ? 0 : -EINVAL;
}

/* "8080:80", "127.0.0.1:8443:443", "[::1]:8443:443", each perhaps with "/udp". */
static int rule_parse(char *text, struct publish_rule *rule)
{
	char *slash = strchr(text, '/'), *guest_port, *host_port;

	rule->type = SOCK_STREAM;
	if (slash) {
		*slash = '\0';
		if (strcmp(slash + 1, "udp") == 0)
			rule->type = SOCK_DGRAM;
		else if (strcmp(slash + 1, "tcp") != 0)
			return -EINVAL;
	}
	guest_port = strrchr(text, ':');
	if (!guest_port || port_parse(guest_port + 1, &rule->guest_port))
		return -EINVAL;
	*guest_port = '\0';
	host_port = strrchr(text, ':');
	if (!host_port)
		return port_parse(text, &rule->host_port);
	*host_port = '\0';
	if (port_parse(host_port + 1, &rule->host_port))
		return -EINVAL;
	return host_parse(text, &rule->host);
}

static unsigned int count(struct cds_list_head *list)
{
	struct cds_list_head *pos;
	unsigned int n = 0;

	cds_list_for_each(pos, list) n++;
	return n;
}

static int set_publish(struct guest *g, const char *value)
{
	struct publish_rule *rule = calloc(1, sizeof(*rule));
	char text[GUEST_RULE_TEXT];

	if (!rule || text_copy(text, sizeof(text), value) || rule_parse(text, rule) ||
	    count(&g->publish) >= RULES_MAX) {
		free(rule);
		return -EINVAL;
	}
	strcpy(rule->text, value);
	rule->guest = g;
	cds_list_add_tail(&rule->link, &g->publish);
	return 0;
}

/* "10.0.0.0/8", "192.0.2.7:443", "2001:db8::/32", "[2001:db8::]/32:443", "10.0.0.0/8:53" */
static int net_parse(char *text, struct allow_rule *rule)
{
	char *close = strchr(text, ']'), *slash = strchr(text, '/');
	char *port = strchr(close ? close : slash ? slash : text, ':');
	bool bare6 = !close && strchr(text, ':') != strrchr(text, ':');
	unsigned long bits;

	if (port && !(bare6 && !slash)) {
		*port = '\0';
		if (port_parse(port + 1, &rule->net.port))
			return -EINVAL;
	}
	if (slash)
		*slash = '\0';
	close = strchr(text, ']');
	if (text[0] == '[' && close && !close[1]) {
		*close = '\0';
		text++;
	}
	bits = rule->net.port;
	/* what a guest names is made plain first: a mapped one would never be met */
	if (ip_parse(text, &rule->net) || addr_plain(&rule->net).family != rule->net.family)
		return -EINVAL;
	rule->net.port = (uint16_t)bits;
	bits = rule->net.family == AF_INET ? 32 : 128;
	if (slash && config_number(slash + 1, 0, bits, &bits))
		return -EINVAL;
	rule->bits = (unsigned int)bits;
	return 0;
}

static int set_allow(struct guest *g, const char *value)
{
	struct allow_rule *rule = calloc(1, sizeof(*rule));
	char text[GUEST_RULE_TEXT];

	if (!rule || text_copy(text, sizeof(text), value) || net_parse(text, rule)) {
		free(rule);
		return -EINVAL;
	}
	cds_list_add_tail(&rule->link, &g->allow);
	return 0;
}

static int set_max_sockets(struct guest *g, const char *value)
{
	unsigned long n;

	if (config_number(value, CHANNEL_GRANTS, CHANNEL_SOCKS_MAX, &n))
		return -EINVAL;
	g->max_sockets = (uint32_t)n;
	return 0;
}

static int set_max_channels(struct guest *g, const char *value)
{
	unsigned long n;

	if (config_number(value, 1, 1u << 20, &n))
		return -EINVAL;
	g->max_channels = (uint32_t)n;
	return 0;
}

/* Bytes, such as 64M. */
static int bytes_parse(const char *value, unsigned long *ret)
{
	static const char units[] = "KMG";
	const char *unit;
	char text[32];
	unsigned long n;
	size_t len = strlen(value), shift = 0;

	if (!len || len >= sizeof(text))
		return -EINVAL;
	strcpy(text, value);
	unit = strchr(units, toupper((unsigned char)text[len - 1]));
	if (unit) {
		shift = 10 * (size_t)(unit - units + 1);
		text[len - 1] = '\0';
	}
	if (config_number(text, 0, ULONG_MAX >> 31, &n))
		return -EINVAL;
	*ret = n << shift;
	return 0;
}

static int set_channel_memory(struct guest *g, const char *value)
{
	unsigned long bytes;

	if (bytes_parse(value, &bytes) || bytes < 2ul << 20 || bytes > CHUNKS_MAX * 2 * CANAL_CHUNK)
		return -EINVAL;
	g->chunks = (uint32_t)(bytes / (2 * CANAL_CHUNK));
	return 0;
}

static int set_pin_memory(struct guest *g, const char *value)
{
	unsigned long bytes;

	if (bytes_parse(value, &bytes) || bytes < PAGE_BYTES || bytes / PAGE_BYTES > UINT32_MAX)
		return -EINVAL;
	g->pins = (uint32_t)(bytes / PAGE_BYTES);
	return 0;
}

/* --- keys -------------------------------------------------------------- */

const struct key guest_keys[] = {
	{ "transport", "local or vm", NULL, set_transport, false },
	{ "socket", "the path of a socket, at most 107 bytes", NULL, set_socket, false },
	{ "socket-mode", "permissions such as 0660", NULL, set_socket_mode, false },
	{ "memory", "the whole path of the file that is the guest's RAM", NULL, set_memory, false },
	{ "address", "an IPv4 address of one machine, not link-local, such as 10.77.0.2", NULL,
	  set_address, false },
	{ "address6", "an IPv6 address of one machine, not link-local, such as fd77::2", NULL,
	  set_address6, false },
	{ "publish",
	  "[ADDRESS:]PORT:PORT[/udp] with ports from 1 to 65535, such as 8080:80, "
	  "[::1]:8443:443 or 5353:53/udp, at most 100 times",
	  NULL, set_publish, true },
	{ "host-alias",
	  "an address of one machine, not link-local, such as 10.77.0.1, at most one of IPv4 "
	  "and one of IPv6",
	  NULL, set_alias, true },
	{ "allow", "ADDRESS[/BITS][:PORT], such as 10.0.0.0/8, 192.0.2.7:443 or [fd00::]/8:53",
	  NULL, set_allow, true },
	{ "max-sockets", "a number from 64 to 32768", NULL, set_max_sockets, false },
	{ "max-channels", "a number from 1 to 1048576", NULL, set_max_channels, false },
	{ "channel-memory", "bytes from 2M to 512M", NULL, set_channel_memory, false },
	{ "pin-memory", "bytes, at least 4K, such as 64M", NULL, set_pin_memory, false },
	{ 0 },
};

/* --- a section --------------------------------------------------------- */

static bool name_valid(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i]))
			return false;
	return len > 0 && len < GUEST_NAME;
}

struct guest *config_guest_begin(struct reading *r, const char *name)
{
	const struct guest *before = guest_find(&r->guests, name);
	struct guest *g;

	if (!name_valid(name)) {
		config_fault(r,
			     "[guest %.64s]: expected a name of at most %d letters, digits, '.', "
			     "'_' and '-'",
			     name, GUEST_NAME - 1);
		return NULL;
	}
	if (before)
		config_fault(r, "[guest %s]: there is one of that name already, in line %u", name,
			     before->line);
	g = guest_new(name);
	if (!g) {
		config_fault(r, "[guest %s]: %s", name, strerror(ENOMEM));
		return NULL;
	}
	g->line = r->line;
	cds_list_add_tail(&g->link, &r->guests);
	return g;
}

int config_guest_key(struct reading *r, const struct key *key, const char *value)
{
	int error = key->guest_set(r->guest, value);

	if (!error && key->guest_set == set_publish)
		cds_list_entry(r->guest->publish.prev, struct publish_rule, link)->line = r->line;
	return error;
}

/* --- guests together --------------------------------------------------- */

static void missing(struct reading *r, const struct guest *g, const char *what)
{
	config_fault(r, "[guest %s]: %s", g->name, what);
}

/* @faultless: what is missing is not perhaps there, but wrong. */
static void check_one(struct reading *r, const struct guest *g, bool faultless)
{
	r->line = g->line;
	if (g->socket_path[0] && strcmp(g->socket_path, r->s.socket_path) == 0)
		missing(r, g, "has the socket of [canald]: expected one of its own");
	if (!faultless)
		return;
	if (!g->socket_path[0])
		missing(r, g, "has no socket: expected socket = PATH");
	if (!g->address.family && !g->address6.family)
		missing(r, g, "has no address: expected address = ADDRESS, such as 10.77.0.2");
	if (g->transport == GUEST_VM && !g->memory_path[0])
		missing(r, g, "is a virtual machine without memory: expected memory = PATH");
	if (g->transport == GUEST_LOCAL && g->memory_path[0])
		missing(r, g, "has memory, but no virtual machine: expected transport = vm");
}

static bool same_address(const struct canal_addr *a, const struct canal_addr *b)
{
	return a->family && addr_same_ip(a, b);
}

static void check_address(struct reading *r, const struct guest *g, const struct guest *before)
{
	if (same_address(&g->address, &before->address))
		missing(r, g, "has the address of another guest: expected one of its own");
	if (same_address(&g->address6, &before->address6))
		missing(r, g, "has the address6 of another guest: expected one of its own");
}

static void check_two(struct reading *r, const struct guest *g, const struct guest *before)
{
	r->line = g->line;
	if (g->socket_path[0] && strcmp(g->socket_path, before->socket_path) == 0)
		config_fault(r, "[guest %s]: socket %s is that of guest %s (line %u)", g->name,
			     g->socket_path, before->name, before->line);
	if (g->memory_path[0] && strcmp(g->memory_path, before->memory_path) == 0)
		config_fault(r, "[guest %s]: memory %s is that of guest %s (line %u)", g->name,
			     g->memory_path, before->name, before->line);
	check_address(r, g, before);
}

/* An alias hides whatever has its address. */
static void check_alias(struct reading *r, const struct guest *g, const struct guest *other)
{
	const struct canal_addr *alias[] = { &g->alias, &g->alias6 };

	r->line = g->line;
	for (unsigned int i = 0; i < 2; i++) {
		if (same_address(alias[i], &other->address) ||
		    same_address(alias[i], &other->address6))
			config_fault(r,
				     "[guest %s]: host-alias is the address of guest %s (line %u): "
				     "expected one that no guest has",
				     g->name, other->name, other->line);
	}
}

/* May both be bound on the host? */
static bool rules_clash(const struct publish_rule *a, const struct publish_rule *b)
{
	if (a->type != b->type || a->host_port != b->host_port)
		return false;
	if (!a->host.family || !b->host.family)
		return true;
	return a->host.family == b->host.family &&
	       (addr_any(&a->host) || addr_any(&b->host) || addr_same_ip(&a->host, &b->host));
}

static void check_rule(struct reading *r, const struct publish_rule *rule)
{
	struct publish_rule *other;
	struct guest *g;

	cds_list_for_each_entry(g, &r->guests, link)
	{
		cds_list_for_each_entry(other, &g->publish, link)
		{
			if (other == rule)
				return; /* what follows finds this one */
			if (!rules_clash(rule, other))
				continue;
			r->line = rule->line;
			config_fault(r,
				     "publish = %s: guest %s publishes that port already, by %s in "
				     "line %u",
				     rule->text, g->name, other->text, other->line);
			return;
		}
	}
}

void config_guests_check(struct reading *r)
{
	struct publish_rule *rule;
	struct guest *g, *other;
	bool before, faultless = !r->faults;

	cds_list_for_each_entry(g, &r->guests, link)
	{
		check_one(r, g, faultless);
		before = true;
		cds_list_for_each_entry(other, &r->guests, link)
		{
			before = before && other != g;
			if (before)
				check_two(r, g, other);
			check_alias(r, g, other);
		}
		cds_list_for_each_entry(rule, &g->publish, link) check_rule(r, rule);
	}
}
