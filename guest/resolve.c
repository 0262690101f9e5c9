/* SPDX-License-Identifier: MIT */
/*
 * Names: getaddrinfo by canald, so that a guest sees the names of its host.
 *
 * Purpose: a name goes to canald as one call; what needs no resolver (numbers,
 * no name at all, addresses to listen on) stays with libc.
 *
 * Invariants
 *  1. The list is made as glibc makes it: one allocation for a node and its
 *     address, one for the canonical name. The program frees it by libc's own
 *     freeaddrinfo().
 *
 * Ownership and threads: any thread; not in signal handlers, as getaddrinfo().
 *
 * Failure: EAI_*. Without canald it is CANAL_FALLBACK that decides.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"
#include "internal.h"

/* More negative than any errno: an EAI_* code of canald's. */
#define IS_EAI(ret) ((ret) < -1000)

static bool is_number(const char *node)
{
	unsigned char ip[sizeof(struct in6_addr)];
	struct in_addr old;

	/* A scope ("fe80::1%eth0") follows numbers only. */
	return strchr(node, ':') || inet_pton(AF_INET, node, ip) == 1 || inet_aton(node, &old);
}

static bool needs_resolver(const char *node, const struct addrinfo *hints)
{
	if (!node || !node[0])
		return false;
	if (hints && (hints->ai_flags & (AI_NUMERICHOST | AI_PASSIVE)))
		return false;
	return !is_number(node);
}

/* --- the question ------------------------------------------------------ */

static int question_fill(struct canal_resolve *q, const char *node, const char *service,
			 const struct addrinfo *hints)
{
	size_t node_len = strlen(node) + 1;
	size_t service_len = service ? strlen(service) + 1 : 0;

	if (node_len > sizeof(q->text) || service_len > sizeof(q->text) - node_len)
		return EAI_NONAME;
	q->flags = hints ? hints->ai_flags : AI_V4MAPPED | AI_ADDRCONFIG;
	q->family = hints ? hints->ai_family : AF_UNSPEC;
	q->socktype = hints ? hints->ai_socktype : 0;
	q->protocol = hints ? hints->ai_protocol : 0;
	q->node_len = node_len;
	q->service_len = service_len;
	memcpy(q->text, node, node_len);
	if (service_len)
		memcpy(q->text + node_len, service, service_len);
	return 0;
}

/* --- the answer -------------------------------------------------------- */

static struct addrinfo *node_make(const struct canal_resolved *r, int flags)
{
	struct addrinfo *ai = malloc(sizeof(*ai) + sizeof(struct sockaddr_in6));
	struct sockaddr_storage ss;

	if (!ai)
		return NULL;
	*ai = (struct addrinfo){
		.ai_flags = flags,
		.ai_family = r->addr.family,
		.ai_socktype = r->socktype,
		.ai_protocol = r->protocol,
		.ai_addrlen = addr_to_sockaddr(&r->addr, &ss),
		.ai_addr = (struct sockaddr *)(void *)(ai + 1),
	};
	memcpy(ai->ai_addr, &ss, ai->ai_addrlen);
	return ai;
}

/* The canonical name hangs at the first node. */
static int list_name(struct addrinfo *first, const struct canal_resolve_answer *answer)
{
	size_t len = answer->canon_len;

	if (!first || !len)
		return 0;
	if (len > sizeof(answer->canon))
		len = sizeof(answer->canon);
	first->ai_canonname = strndup((const char *)answer->canon, len);
	return first->ai_canonname ? 0 : EAI_MEMORY;
}

static int list_make(const struct canal_resolve_answer *answer, int flags,
		     struct addrinfo **ret_list)
{
	struct addrinfo *first = NULL, **end = &first;
	uint32_t count = answer->count;
	int ret = 0;

	if (count > CANAL_RESOLVED_MAX)
		count = CANAL_RESOLVED_MAX;
	for (uint32_t i = 0; i < count && !ret; i++) {
		*end = node_make(&answer->list[i], flags);
		if (*end)
			end = &(*end)->ai_next;
		else
			ret = EAI_MEMORY;
	}
	if (!ret)
		ret = list_name(first, answer);
	if (!ret && !first)
		ret = EAI_NONAME;
	if (ret && first)
		freeaddrinfo(first);
	else if (!ret)
		*ret_list = first;
	return ret;
}

/* --- names of the guest itself ----------------------------------------- */

#define HOSTS "/etc/hosts"

static bool is_localhost(const char *node)
{
	static const char name[] = "localhost";
	size_t len = strlen(node), name_len = sizeof(name) - 1;

	if (len && node[len - 1] == '.')
		len--;
	if (len < name_len || strncasecmp(node + len - name_len, name, name_len) != 0)
		return false;
	return len == name_len || node[len - name_len - 1] == '.';
}

/* Whether a line of the file names @node. */
static bool line_names(char *line, const char *node)
{
	char *word;

	line[strcspn(line, "#\n")] = '\0';
	word = strsep(&line, " \t"); /* the address */
	while (word && (word = strsep(&line, " \t")))
		if (strcasecmp(word, node) == 0)
			return true;
	return false;
}

static bool in_hosts(const char *node)
{
	FILE *f = fopen(HOSTS, "re");
	char *line = NULL;
	size_t room = 0;
	bool found = false;

	while (f && !found && getline(&line, &room, f) > 0)
		found = line_names(line, node);
	free(line);
	if (f)
		fclose(f);
	return found;
}

/* localhost where no file says what it is. */
static int localhost(const char *service, const struct addrinfo *hints, struct addrinfo **ret_list)
{
	bool v6 = hints && hints->ai_family == AF_INET6;
	int ret = real(getaddrinfo)(v6 ? "::1" : "127.0.0.1", service, hints, ret_list);

	if (ret || !(*ret_list)->ai_canonname)
		return ret;
	free((*ret_list)->ai_canonname);
	(*ret_list)->ai_canonname = strdup("localhost");
	return 0;
}

/*
 * In a virtual machine what the guest's own file says, and localhost, come first:
 * they mean the guest. False: canald is to be asked.
 */
static bool names_here(const char *node, const char *service, const struct addrinfo *hints,
		       struct addrinfo **ret_list, int *ret)
{
	struct channel *ch;
	bool local = is_localhost(node);

	if (channel_get(&ch) < 0 || !ch->apart || (!local && !in_hosts(node)))
		return false;
	*ret = real(getaddrinfo)(node, service, hints, ret_list);
	if (*ret && local)
		*ret = localhost(service, hints, ret_list);
	return *ret == 0 || local;
}

/* --- both -------------------------------------------------------------- */

/* 0, EAI_*, or a positive errno when canald could not be asked. */
static int ask(const struct canal_resolve *question, struct addrinfo **ret_list)
{
	struct canal_inr inr = { .op = CANAL_INR_RESOLVE, .sock = CANAL_NONE };
	struct canal_resolve_answer answer = { .count = 0 };
	uint32_t len = sizeof(answer);
	struct call_args args = {
		.in = question,
		.in_len = sizeof(*question),
		.out = &answer,
		.out_len = &len,
	};
	struct channel *ch;
	int ret = channel_get(&ch);

	if (ret == 0)
		ret = channel_call(ch, &inr, &args);
	if (IS_EAI(ret))
		return ret + 1000 == EAI_SYSTEM ? EAI_AGAIN : ret + 1000;
	if (ret < 0)
		return -ret;
	return list_make(&answer, question->flags, ret_list);
}

/**
 * resolve_names() - getaddrinfo()
 *
 * Return: 0 with *ret_list, or EAI_*.
 */
int resolve_names(const char *node, const char *service, const struct addrinfo *hints,
		  struct addrinfo **ret_list)
{
	struct canal_resolve question = { .flags = 0 };
	int ret = 0;

	if (!needs_resolver(node, hints))
		return real(getaddrinfo)(node, service, hints, ret_list);
	if (names_here(node, service, hints, ret_list, &ret))
		return ret;
	ret = question_fill(&question, node, service, hints);
	if (!ret)
		ret = ask(&question, ret_list);
	if (ret <= 0)
		return ret;
	if (fallback_ok())
		return real(getaddrinfo)(node, service, hints, ret_list);
	fallback_complain(ret);
	return EAI_AGAIN;
}
