/* SPDX-License-Identifier: MIT */
/*
 * canalctl: asks a running canald what it does.
 *
 * Purpose
 *	One question, one answer: a packet of JSON on canald's own socket, then
 *	the packets of the answer until canald closes. --json prints the answer
 *	as it came; else it is shown as tables in the manner of ss(8).
 *
 * Invariants
 *	1. A field that this version does not know is passed over, and one that
 *	   canald did not send is shown as nothing: either side may be newer.
 *
 * Failure
 *	One line that says what and what to do, and exit status 1.
 */
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl_table.h"
#include "paths.h"

#define ANSWER_S 10

static const char usage[] =
	"usage: canalctl [--socket PATH] status|ports [--json]\n"
	"\n"
	"  status  the guests of a running canald, their sockets and counters\n"
	"  ports   whose ports are whose, in guests with addresses of their own,\n"
	"          and as what they are published on the host\n"
	"\n"
	"  -s, --socket PATH  ask the canald that listens at PATH\n"
	"  -j, --json         print canald's answer as it is\n"
	"  -h, --help         print this and exit\n"
	"  -V, --version      print the version and exit\n";

/* --- question and answer ------------------------------------------------- */

__attribute__((noreturn)) static void connect_failed(const char *path, int error)
{
	if (error == ENOENT || error == ECONNREFUSED)
		errx(EXIT_FAILURE,
		     "%s: %s: no canald is listening there; start one with 'canald --socket %s'",
		     path, strerror(error), path);
	if (error == EACCES || error == EPERM)
		errx(EXIT_FAILURE, "%s: %s: ask as the user that canald runs as, or as root", path,
		     strerror(error));
	errx(EXIT_FAILURE, "%s: %s: is it the socket of a canald?", path, strerror(error));
}

static int canald_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = ANSWER_S };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		err(EXIT_FAILURE, "socket");
	memcpy(address.sun_path, path, strlen(path) + 1);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		connect_failed(path, errno);
	return fd;
}

/* Appends one packet to the answer; returns its length, 0 at the end. */
static size_t packet_receive(int fd, const char *path, char **text, size_t text_len)
{
	ssize_t len = recv(fd, NULL, 0, MSG_PEEK | MSG_TRUNC);

	if (len > 0) {
		*text = realloc(*text, text_len + (size_t)len + 1);
		if (!*text)
			err(EXIT_FAILURE, NULL);
		len = recv(fd, *text + text_len, (size_t)len, 0);
	}
	if (len < 0 && errno == EAGAIN)
		errx(EXIT_FAILURE, "%s: no answer for %d s: does canald hang?", path, ANSWER_S);
	if (len < 0)
		err(EXIT_FAILURE, "%s", path);
	return (size_t)len;
}

/* Returns canald's answer to @question as text. */
static char *canald_ask(const char *path, const char *question)
{
	int fd = canald_connect(path);
	size_t len, text_len = 0;
	char *text = NULL;

	if (send(fd, question, strlen(question), MSG_NOSIGNAL) < 0)
		err(EXIT_FAILURE, "%s", path);
	while ((len = packet_receive(fd, path, &text, text_len)) > 0)
		text_len += len;
	close(fd);
	if (!text)
		errx(EXIT_FAILURE,
		     "%s: closed without an answer: is canald of version " CANAL_VERSION "?", path);
	text[text_len] = '\0';
	return text;
}

/* Returns the answer as an object that is not an error. */
static json_t *answer_parse(const char *path, const char *text)
{
	json_error_t error;
	json_t *answer = json_loads(text, 0, &error);
	const char *refused;

	if (!json_is_object(answer))
		errx(EXIT_FAILURE,
		     "%s: the answer is no JSON object (%s): is it the socket of a canald?", path,
		     answer ? "another type" : error.text);
	refused = json_string_value(json_object_get(answer, "error"));
	if (refused)
		errx(EXIT_FAILURE, "%s: %s", path, refused);
	return answer;
}

/* --- what it says, for people --------------------------------------------- */

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

static void print_sockets(const json_t *status)
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

static void status_print(const json_t *status)
{
	print_service(status);
	print_guests(status);
	print_sockets(status);
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

static void ports_print(const json_t *answer)
{
	static const char *const head[] = { "Guest", "Proto", "Local",   "Published",
					    "State", "Queue", "Program", NULL };
	struct table table = { .columns = "lllllrl" };
	json_t *port;
	size_t i;

	add_texts(&table, head);
	json_array_foreach(json_object_get(answer, "ports"), i, port) {
		table_add(&table, "%s", text_of(port, "guest"));
		table_add(&table, "%s", text_of(port, "proto"));
		table_add(&table, "%s", text_of(port, "local"));
		add_published(&table, json_object_get(port, "published"));
		table_add(&table, "%s", text_of(port, "state"));
		add_number(&table, number_of(port, "queue"));
		if (json_object_get(port, "pid"))
			table_add(&table, "%s,pid=%" JSON_INTEGER_FORMAT, text_of(port, "command"),
				  number_of(port, "pid"));
		else
			table_add(&table, "%s", text_of(port, "error"));
	}
	table_print(&table);
}

/* --- the command line ------------------------------------------------------ */

static const struct command {
	const char *name, *question;
	void (*print)(const json_t *answer);
} commands[] = {
	{ "status", "{\"cmd\":\"status\"}", status_print },
	{ "ports", "{\"cmd\":\"ports\"}", ports_print },
	{ 0 },
};

struct options {
	const char *socket;
	bool json;
	const struct command *command;
};

static const struct command *command_find(const char *name)
{
	const struct command *command = commands;

	while (command->name && strcmp(command->name, name) != 0)
		command++;
	return command->name ? command : NULL;
}

static void options_parse(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":s:jhV", known, NULL)) != -1) {
		switch (option) {
		case 's':
			options->socket = optarg;
			break;
		case 'j':
			options->json = true;
			break;
		case 'h':
			fputs(usage, stdout);
			exit(EXIT_SUCCESS);
		case 'V':
			puts("canalctl " CANAL_VERSION);
			exit(EXIT_SUCCESS);
		case ':':
			errx(EXIT_FAILURE, "%s needs a value, see 'canalctl --help'",
			     argv[optind - 1]);
		default:
			if (optopt)
				errx(EXIT_FAILURE, "-%c: no such option, see 'canalctl --help'",
				     optopt);
			errx(EXIT_FAILURE, "%s: no such option, see 'canalctl --help'",
			     argv[optind - 1]);
		}
	}
	if (optind == argc)
		errx(EXIT_FAILURE, "which command? see 'canalctl --help'");
	options->command = command_find(argv[optind]);
	if (!options->command || optind + 1 != argc)
		errx(EXIT_FAILURE,
		     "%s: the commands are 'status' and 'ports', see 'canalctl --help'",
		     argv[options->command ? optind + 1 : optind]);
}

int main(int argc, char **argv)
{
	char path[CANAL_PATHS_LEN], *text;
	struct options options = { 0 };
	json_t *status;

	options_parse(argc, argv, &options);
	if (canal_paths_find(options.socket, path, sizeof(path)) < 0)
		errx(EXIT_FAILURE, "%s: a socket needs a shorter path",
		     options.socket ? options.socket : "CANAL_SOCKET");
	text = canald_ask(path, options.command->question);
	status = answer_parse(path, text);
	if (options.json)
		puts(text);
	else
		options.command->print(status);
	json_decref(status);
	free(text);
	if (fflush(stdout) != 0)
		err(EXIT_FAILURE, "standard output");
	return EXIT_SUCCESS;
}
