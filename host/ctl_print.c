/* SPDX-License-Identifier: MIT */
/*
 * canalctl: answers of canald as tables, in the manner of ss(8).
 *
 * Purpose: one function for each command. What comes from canald is text that
 * guests had a say in: ctl_table.c makes it fit for a terminal.
 *
 * Invariants
 *	1. What canald did not send is shown as nothing: it may be older or newer.
 *
 * Failure: the program ends without memory.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl_print.h"
#include "ctl_table.h"

/* --- members of an object ------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "-";
}

static json_int_t number_of(const json_t *object, const char *key)
{
	return (json_int_t)json_number_value(json_object_get(object, key));
}

/* Adds a cell such as "1.5G". */
static void add_bytes(struct table *table, json_int_t bytes)
{
	static const char units[] = "BKMGTPE";
	double value = (double)bytes;
	size_t unit = 0;

	for (; value >= 1024 && units[unit + 1]; unit++)
		value /= 1024;
	table_add(table, unit && value < 10 ? "%.1f%c" : "%.0f%c", value, units[unit]);
}

static void add_number(struct table *table, json_int_t number)
{
	table_add(table, "%" JSON_INTEGER_FORMAT, number);
}

static void add_texts(struct table *table, const char *const *texts)
{
	for (; *texts; texts++)
		table_add(table, "%s", *texts);
}

/* The counters that a guest and the total have in common. */
static void add_counters(struct table *table, const json_t *object)
{
	add_number(table, number_of(object, "connections"));
	add_bytes(table, number_of(object, "tx_bytes"));
	add_bytes(table, number_of(object, "rx_bytes"));
	add_number(table, number_of(object, "falls"));
}

/* --- status ----------------------------------------------------------------- */

static void print_service(const json_t *status)
{
	json_int_t up_s = number_of(status, "uptime_s");

	printf("canald %s, pid %" JSON_INTEGER_FORMAT
	       ", engine %s, poll %s, up %" JSON_INTEGER_FORMAT ":%02d:%02d\n",
	       text_of(status, "version"), number_of(status, "pid"), text_of(status, "engine"),
	       text_of(status, "poll"), up_s / 3600, (int)(up_s / 60 % 60), (int)(up_s % 60));
}

static void print_guests(const json_t *status)
{
	static const char *const head[] = { "Guest", "Pid",  "Command", "Sockets", "Conns",
					    "Sent",  "Recv", "Falls",   NULL };
	struct table table = { .columns = "lrlrrrrr" };
	size_t i, socket_count = 0;
	json_t *guest;

	add_texts(&table, head);
	json_array_foreach(json_object_get(status, "guests"), i, guest) {
		size_t count = json_array_size(json_object_get(guest, "sockets"));

		table_add(&table, "%s", text_of(guest, "name"));
		add_number(&table, number_of(guest, "pid"));
		table_add(&table, "%s", text_of(guest, "command"));
		add_number(&table, (json_int_t)count);
		add_counters(&table, guest);
		socket_count += count;
	}
	add_texts(&table, (const char *const[]){ "total", "", "", NULL });
	add_number(&table, (json_int_t)socket_count);
	add_counters(&table, json_object_get(status, "total"));
	printf("\n");
	table_print(&table);
}

static void print_status_sockets(const json_t *status)
{
	static const char *const head[] = { "Netid", "State", "Recv-Q", "Send-Q",
					    "Local", "Peer",  "Guest",  NULL };
	struct table table = { .columns = "llrrlll" };
	json_t *guest, *socket;
	size_t i, j;

	add_texts(&table, head);
	json_array_foreach(json_object_get(status, "guests"), i, guest) {
		json_array_foreach(json_object_get(guest, "sockets"), j, socket) {
			table_add(&table, "%s", text_of(socket, "type"));
			table_add(&table, "%s", text_of(socket, "state"));
			add_number(&table, number_of(socket, "rxq"));
			add_number(&table, number_of(socket, "txq"));
			table_add(&table, "%s", text_of(socket, "local"));
			table_add(&table, "%s", text_of(socket, "peer"));
			table_add(&table,
				  "%s,pid=%" JSON_INTEGER_FORMAT ",id=%" JSON_INTEGER_FORMAT,
				  text_of(guest, "command"), number_of(guest, "pid"),
				  number_of(socket, "id"));
		}
	}
	printf("\n");
	table_print(&table);
}

/* Guests that broke the rules and lost their channel, by what they did. */
static void print_broken(const json_t *status)
{
	struct table table = { .columns = "rl" };
	const char *reason;
	json_t *count;

	json_object_foreach(json_object_get(status, "broken"), reason, count) {
		if (json_number_value(count) == 0)
			continue;
		add_number(&table, (json_int_t)json_number_value(count));
		table_add(&table, "%s", reason);
	}
	if (!table.cell_count)
		return;
	printf("\nChannels closed because the guest broke the rules:\n");
	table_print(&table);
}

void print_status(const json_t *status)
{
	print_service(status);
	print_guests(status);
	print_status_sockets(status);
	print_broken(status);
}

/* --- ports ----------------------------------------------------------------- */

/* "0.0.0.0:8080,[::]:8080", or "-". */
static void add_published(struct table *table, const json_t *list)
{
	char text[256] = "";
	json_t *one;
	size_t i, len = 0;

	json_array_foreach(list, i, one) {
		const char *address = json_string_value(one);

		if (address && len < sizeof(text))
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s",
						len ? "," : "", address);
	}
	table_add(table, "%s", len ? text : "-");
}

static void add_port(struct table *table, const json_t *port)
{
	table_add(table, "%s", text_of(port, "guest"));
	table_add(table, "%s", text_of(port, "proto"));
	table_add(table, "%s", text_of(port, "local"));
	add_published(table, json_object_get(port, "published"));
	table_add(table, "%s", text_of(port, "state"));
	add_number(table, number_of(port, "queue"));
	if (json_object_get(port, "pid"))
		table_add(table, "%s,pid=%" JSON_INTEGER_FORMAT, text_of(port, "command"),
			  number_of(port, "pid"));
	else
		table_add(table, "%s", text_of(port, "error"));
}

/* By guest, protocol, port and address: the map has no order of its own. */
static int port_order(const void *left, const void *right)
{
	const json_t *a = *(json_t *const *)left, *b = *(json_t *const *)right;
	json_int_t port_a = number_of(a, "port"), port_b = number_of(b, "port");
	int order = strcmp(text_of(a, "guest"), text_of(b, "guest"));

	if (!order)
		order = strcmp(text_of(a, "proto"), text_of(b, "proto"));
	if (!order)
		order = (port_a > port_b) - (port_a < port_b);
	return order ? order : strcmp(text_of(a, "local"), text_of(b, "local"));
}

void print_ports(const json_t *answer)
{
	static const char *const head[] = { "Guest", "Proto", "Local",   "Published",
					    "State", "Queue", "Program", NULL };
	const json_t *list = json_object_get(answer, "ports");
	size_t count = json_array_size(list);
	json_t **ports = calloc(count + 1, sizeof(json_t *));
	struct table table = { .columns = "lllllrl" };

	if (!ports)
		err(EXIT_FAILURE, NULL);
	for (size_t i = 0; i < count; i++)
		ports[i] = json_array_get(list, i);
	qsort(ports, count, sizeof(json_t *), port_order);
	add_texts(&table, head);
	for (size_t i = 0; i < count; i++)
		add_port(&table, ports[i]);
	free(ports);
	table_print(&table);
}

/* --- sockets ----------------------------------------------------------------- */

void print_sockets(const json_t *answer)
{
	static const char *const head[] = {
		"Netid", "State",   "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port",
		"Guest", "Process", NULL
	};
	struct table table = { .columns = "llrrllll" };
	json_t *socket;
	size_t i;

	add_texts(&table, head);
	json_array_foreach(json_object_get(answer, "sockets"), i, socket) {
		table_add(&table, "%s", text_of(socket, "netid"));
		table_add(&table, "%s", text_of(socket, "state"));
		add_number(&table, number_of(socket, "recv_q"));
		add_number(&table, number_of(socket, "send_q"));
		table_add(&table, "%s", text_of(socket, "local"));
		table_add(&table, "%s", text_of(socket, "peer"));
		table_add(&table, "%s", text_of(socket, "guest"));
		if (json_object_get(socket, "pid"))
			table_add(&table, "%s,pid=%" JSON_INTEGER_FORMAT,
				  text_of(socket, "program"), number_of(socket, "pid"));
		else
			table_add(&table, "-");
	}
	table_print(&table);
}
