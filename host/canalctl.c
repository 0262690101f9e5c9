/* SPDX-License-Identifier: MIT */
/*
 * canalctl: asks a running canald what it does.
 *
 * Purpose
 *	One question, one answer: a packet of JSON on canald's own socket, then
 *	the packets of the answer until canald closes. --json prints the answer
 *	as it came; else it is shown as tables (ctl_print.c).
 *
 * Invariants
 *	1. A field that this version does not know is passed over, and one that
 *	   canald did not send is shown as nothing: either side may be newer.
 *
 * Failure
 *	One line that says what and what to do, and exit status 1; 2 for a command
 *	line that makes no sense.
 */
#include <err.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl_print.h"
#include "option.h"
#include "output.h"
#include "paths.h"

#define ANSWER_S 10

/* --- question and answer ------------------------------------------------- */

__attribute__((noreturn)) static void connect_failed(const char *path, int error)
{
	const char *is = canal_paths_not_socket(path);

	if (is)
		errx(EXIT_FAILURE, "%s: it is %s and no socket: give the path of a canald's socket",
		     path, is);
	if (error == ENOENT || error == ECONNREFUSED)
		errx(EXIT_FAILURE,
		     "%s: %s: no canald is listening there; start one with 'canald --socket %s'",
		     path, strerror(error), path);
	if (error == EPROTOTYPE)
		errx(EXIT_FAILURE,
		     "%s: it is another program's socket, or that of a virtual machine: give the path "
		     "of canald's own",
		     path);
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

/* --- the command line ------------------------------------------------------ */

#define EXIT_USAGE 2

static const char short_options[] = ":s:jhVg:ltu46anp";

struct options {
	const char *socket;
	bool json;
	const struct command *command;
	json_t *question;
};

static const struct command {
	const char *name, *summary, *details;
	const char *filters; /* which letters it knows */
	void (*print)(const json_t *answer);
} commands[] = {
	{ "status", "guests, their sockets and counters, and canald itself",
	  "Shows canald, the guests that it has now with their counters, their sockets, and what was\n"
	  "closed for breaking the rules.\n",
	  "", print_status },
	{ "sockets", "all sockets of all guests, in the manner of ss",
	  "Shows each socket as ss(8) would, with its guest and who made it. As in ss -a, those that\n"
	  "listen are among them.\n"
	  "\n"
	  "  -g, --guest NAME   only those of that guest of the configuration\n"
	  "  -l, --listening    only those that listen, and datagram sockets without a peer\n"
	  "  -t, --tcp          only TCP\n"
	  "  -u, --udp          only UDP\n"
	  "  -4, --ipv4         only sockets of IPv4\n"
	  "  -6, --ipv6         only sockets of IPv6\n"
	  "  -a, --all, -n, --numeric, -p, --processes\n"
	  "                     as ss has them: always on\n",
	  "gltu46anp", print_sockets },
	{ "ports", "whose ports are whose, in guests with addresses of their own",
	  "Shows which ports the guests that have addresses of their own have, and as what they are\n"
	  "published on the host.\n",
	  "", print_ports },
	{ 0 },
};

static const char usage_options[] = "  -s, --socket PATH  ask the canald that listens at PATH\n"
				    "  -j, --json         print canald's answer as it is\n"
				    "  -h, --help         print this and exit\n"
				    "  -V, --version      print the version and exit\n";

__attribute__((noreturn)) static void usage_print(const struct command *command)
{
	if (command) {
		printf("usage: canalctl %s [OPTION...]\n\n%s", command->name, command->details);
		printf("%s%s", command->filters[0] ? "" : "\n", usage_options);
		canal_output_exit("canalctl", EXIT_SUCCESS, EXIT_FAILURE);
	}
	printf("usage: canalctl [--socket PATH] COMMAND [--json] [OPTION...]\n\n");
	for (command = commands; command->name; command++)
		printf("  %-8s %s\n", command->name, command->summary);
	printf("\n%s\n'canalctl COMMAND --help' tells more of a command.\n", usage_options);
	canal_output_exit("canalctl", EXIT_SUCCESS, EXIT_FAILURE);
}

__attribute__((noreturn)) static void unknown_command(const char *name)
{
	char list[128] = "";

	for (const struct command *c = commands; c->name; c++)
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s",
			 !list[0]        ? ""
			 : (c + 1)->name ? ", "
					 : " and ",
			 c->name);
	errx(EXIT_USAGE, "%s: no such command; there are %s, see 'canalctl --help'", name, list);
}

/* NULL: there is none of that name. */
static const struct command *command_named(const char *name)
{
	const struct command *command = commands;

	while (command->name && strcmp(command->name, name) != 0)
		command++;
	return command->name ? command : NULL;
}

static const struct command *command_find(const char *name)
{
	const struct command *command = command_named(name);

	if (!command)
		unknown_command(name);
	return command;
}

static void guest_take(json_t *question, const char *name)
{
	if (json_object_get(question, "guest"))
		errx(EXIT_USAGE, "--guest %s: there can be one, see 'canalctl sockets --help'",
		     name);
	if (json_object_set_new(question, "guest", json_string(name)) < 0)
		errx(EXIT_USAGE, "--guest: no guest can have such a name, see 'canalctl status'");
}

/* Adds to the question what the options of `sockets` ask for. */
static void filters_ask(json_t *question, const char *filters)
{
	bool v4 = strchr(filters, '4'), v6 = strchr(filters, '6');

	if (strchr(filters, 'l'))
		json_object_set_new(question, "listening", json_true());
	if (strchr(filters, 't'))
		json_object_set_new(question, "tcp", json_true());
	if (strchr(filters, 'u'))
		json_object_set_new(question, "udp", json_true());
	if (v4 != v6)
		json_object_set_new(question, "family", json_string(v4 ? "inet" : "inet6"));
}

__attribute__((noreturn)) static void option_bad(char **argv, int result)
{
	const struct command *command = NULL;
	char fault[256];

	canal_option_fault(fault, sizeof(fault), result, argv, short_options);
	for (char **arg = argv + 1; *arg && !command; arg++)
		command = command_named(*arg);
	errx(EXIT_USAGE, "%s, see 'canalctl %s%s--help'", fault, command ? command->name : "",
	     command ? " " : "");
}

static void option_take(struct options *options, int letter, char **argv, char *filters)
{
	switch (letter) {
	case 's':
		if (!optarg[0])
			errx(EXIT_USAGE, "--socket: needs a path, see 'canalctl --help'");
		options->socket = optarg;
		break;
	case 'j':
		options->json = true;
		break;
	case 'V':
		puts("canalctl " CANAL_VERSION);
		canal_output_exit("canalctl", EXIT_SUCCESS, EXIT_FAILURE);
	case ':':
	case '?':
		option_bad(argv, letter);
	default:
		if (!strchr(filters, letter))
			filters[strlen(filters)] = (char)letter;
		if (letter == 'g')
			guest_take(options->question, optarg);
	}
}

static void filters_check(const struct command *command, const char *filters)
{
	size_t known = strspn(filters, command->filters);

	if (filters[known])
		errx(EXIT_USAGE, "-%c: no such option of 'canalctl %s', see 'canalctl %s --help'",
		     filters[known], command->name, command->name);
}

static void options_parse(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{ "socket", required_argument, NULL, 's' }, { "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },         { "version", no_argument, NULL, 'V' },
		{ "guest", required_argument, NULL, 'g' },  { "listening", no_argument, NULL, 'l' },
		{ "tcp", no_argument, NULL, 't' },          { "udp", no_argument, NULL, 'u' },
		{ "ipv4", no_argument, NULL, '4' },         { "ipv6", no_argument, NULL, '6' },
		{ "all", no_argument, NULL, 'a' },          { "numeric", no_argument, NULL, 'n' },
		{ "processes", no_argument, NULL, 'p' },    { 0 },
	};
	char filters[sizeof(short_options)] = "";
	bool help = false;
	int letter;

	opterr = 0;
	while ((letter = getopt_long(argc, argv, short_options, known, NULL)) != -1) {
		if (letter == 'h')
			help = true;
		else
			option_take(options, letter, argv, filters);
	}
	if (help)
		usage_print(optind < argc ? command_find(argv[optind]) : NULL);
	if (optind == argc)
		errx(EXIT_USAGE, "which command? see 'canalctl --help'");
	options->command = command_find(argv[optind]);
	if (optind + 1 != argc)
		errx(EXIT_USAGE, "%s: 'canalctl %s' needs no argument, see 'canalctl %s --help'",
		     argv[optind + 1], options->command->name, options->command->name);
	filters_check(options->command, filters);
	filters_ask(options->question, filters);
	json_object_set_new(options->question, "cmd", json_string(options->command->name));
}

int main(int argc, char **argv)
{
	struct options options = { .question = json_object() };
	char path[CANAL_PATHS_LEN], *question, *text;
	json_t *answer;

	options_parse(argc, argv, &options);
	if (canal_paths_find(options.socket, path, sizeof(path)) < 0)
		errx(EXIT_USAGE, "%s: a socket needs a shorter path",
		     options.socket ? options.socket : "CANAL_SOCKET");
	question = json_dumps(options.question, JSON_COMPACT);
	if (!question)
		err(EXIT_FAILURE, NULL);
	text = canald_ask(path, question);
	answer = answer_parse(path, text);
	if (options.json)
		puts(text);
	else
		options.command->print(answer);
	json_decref(answer);
	json_decref(options.question);
	free(text);
	free(question);
	canal_output_exit("canalctl", EXIT_SUCCESS, EXIT_FAILURE);
}
