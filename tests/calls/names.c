/* SPDX-License-Identifier: MIT */
/* getaddrinfo: numbers, localhost, addresses to listen on, errors. */
#include "calls.h"

#include <arpa/inet.h>
#include <netdb.h>

static void look_up(const char *node, const char *service, int flags, int socktype)
{
	struct addrinfo hints = { .ai_flags = flags, .ai_family = family, .ai_socktype = socktype };
	struct addrinfo *list = NULL;
	int ret = getaddrinfo(node, service, &hints, &list);

	say("%s %s flags %x: %s", node ? node : "-", service ? service : "-", flags,
	    ret ? gai_strerror(ret) : "found");
	for (struct addrinfo *ai = list; ai && !ret; ai = ai->ai_next) {
		struct name name = { .len = ai->ai_addrlen };
		char host[NI_MAXHOST], port[NI_MAXSERV];

		memcpy(&name.ss, ai->ai_addr, ai->ai_addrlen);
		getnameinfo(ai->ai_addr, ai->ai_addrlen, host, sizeof(host), port, sizeof(port),
			    NI_NUMERICHOST | NI_NUMERICSERV);
		say("  family %d type %d protocol %d length %u %s %s flags %x name %s",
		    ai->ai_family, ai->ai_socktype, ai->ai_protocol, ai->ai_addrlen, host, port,
		    ai->ai_flags, ai->ai_canonname ? ai->ai_canonname : "-");
	}
	if (!ret)
		freeaddrinfo(list);
}

static void numbers(void)
{
	look_up("127.0.0.1", "80", 0, SOCK_STREAM);
	look_up("::1", "80", 0, SOCK_STREAM);
	look_up("127.0.0.1", "http", AI_NUMERICHOST, SOCK_STREAM);
	look_up("127.1", "80", 0, SOCK_DGRAM);
	look_up("127.0.0.1", NULL, 0, 0);
	look_up("10.0.0.1", "7", AI_NUMERICHOST | AI_NUMERICSERV, SOCK_STREAM);
}

static void names(void)
{
	look_up("localhost", "80", 0, SOCK_STREAM);
	look_up("localhost", "http", 0, SOCK_STREAM);
	look_up("localhost", NULL, AI_CANONNAME, SOCK_DGRAM);
	look_up("localhost", "80", AI_PASSIVE, SOCK_STREAM);
	look_up("localhost", "80", 0, 0);
}

static void to_listen(void)
{
	look_up(NULL, "8080", AI_PASSIVE, SOCK_STREAM);
	look_up(NULL, "8080", 0, SOCK_STREAM);
	look_up(NULL, "0", AI_PASSIVE | AI_NUMERICSERV, SOCK_DGRAM);
}

static void refused(void)
{
	look_up(NULL, NULL, 0, SOCK_STREAM);
	look_up("localhost", "80", AI_NUMERICHOST, SOCK_STREAM);
	look_up("localhost", "nonesuch", 0, SOCK_STREAM);
	look_up("localhost", "http", AI_NUMERICSERV, SOCK_STREAM);
	look_up("localhost", "80", 0, 99);
	look_up("localhost", "80", 0x40000000, SOCK_STREAM);
}

/* What clients do with the answer. */
static void use(void)
{
	struct addrinfo hints = { .ai_family = family, .ai_socktype = SOCK_STREAM }, *list;
	struct name name;
	int listening = listener(&name), fd;
	char port[8];

	snprintf(port, sizeof(port), "%d", port_of(&name));
	if (getaddrinfo(family == AF_INET ? "127.0.0.1" : "::1", port, &hints, &list)) {
		say("not found");
		return;
	}
	fd = NEED(socket(list->ai_family, list->ai_socktype, list->ai_protocol));
	TELL(connect(fd, list->ai_addr, list->ai_addrlen));
	TELL(accept(listening, NULL, NULL) >= 0);
	freeaddrinfo(list);
}

const struct call_case cases[] = {
	{ "numbers", numbers }, { "names", names }, { "to_listen", to_listen },
	{ "refused", refused }, { "use", use },
};
const size_t case_count = COUNT(cases);
