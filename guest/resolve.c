/* SPDX-License-Identifier: MIT */
/*
 * Names: getaddrinfo.
 *
 * Purpose: what needs no resolver (numbers, no name at all, addresses to listen
 * on) stays with libc, and so do the guest's own files (resolve_order.c). What
 * is not in them is asked of canald: addresses alone, to which the services,
 * which are the guest's, are added here.
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
#include "resolve.h"

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
	if (hints && (hints->ai_flags & AI_NUMERICHOST))
		return false;
	return !is_number(node);
}

/* --- services ------------------------------------------------------------ */

/* The types, protocols and ports of @service, which the guest's /etc/services knows. */
static int services(const char *service, const struct addrinfo *hints, struct addrinfo **ret_list)
{
	const struct addrinfo any = { .ai_flags = 0 };
	struct addrinfo ask;

	hints = hints ? hints : &any;
	ask = (struct addrinfo){
		.ai_flags = AI_PASSIVE | (service ? hints->ai_flags & AI_NUMERICSERV : 0),
		.ai_family = AF_INET,
		.ai_socktype = hints->ai_socktype,
		.ai_protocol = hints->ai_protocol,
	};
	return real(getaddrinfo)(NULL, service ? service : "0", &ask, ret_list);
}

/* --- the answer -------------------------------------------------------- */

static struct addrinfo *node_make(const struct canal_resolved *r, const struct addrinfo *service,
				  int flags)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)service->ai_addr;
	struct addrinfo *ai = malloc(sizeof(*ai) + sizeof(struct sockaddr_in6));
	struct canal_addr addr = r->addr;
	struct sockaddr_storage ss;

	if (!ai)
		return NULL;
	addr.port = in->sin_port;
	*ai = (struct addrinfo){
		.ai_flags = flags,
		.ai_family = addr.family,
		.ai_socktype = service->ai_socktype,
		.ai_protocol = service->ai_protocol,
		.ai_addrlen = addr_to_sockaddr(&addr, &ss),
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

/* Each address with each service. */
static int list_fill(const struct canal_resolve_answer *answer, const struct addrinfo *service,
		     int flags, struct addrinfo **ret_first)
{
	uint32_t count = answer->count < CANAL_RESOLVED_MAX ? answer->count : CANAL_RESOLVED_MAX;
	struct addrinfo **end = ret_first;

	for (uint32_t i = 0; i < count; i++) {
		for (const struct addrinfo *one = service; one; one = one->ai_next) {
			*end = node_make(&answer->list[i], one, flags);
			if (!*end)
				return EAI_MEMORY;
			end = &(*end)->ai_next;
		}
	}
	return *ret_first ? 0 : EAI_NONAME;
}

static int list_make(const struct canal_resolve_answer *answer, const struct addrinfo *service,
		     int flags, struct addrinfo **ret_list)
{
	struct addrinfo *first = NULL;
	int ret = list_fill(answer, service, flags, &first);

	if (!ret)
		ret = list_name(first, answer);
	if (ret && first)
		freeaddrinfo(first);
	else if (!ret)
		*ret_list = first;
	return ret;
}

/* --- who answers ---------------------------------------------------------- */

/* EAI_*, 0, or a positive errno when canald could not be asked. */
static int from_canald(const char *node, const char *service, const struct addrinfo *hints,
		       struct addrinfo **ret_list)
{
	int flags = hints ? hints->ai_flags : AI_V4MAPPED | AI_ADDRCONFIG;
	struct canal_resolve_answer answer = { .count = 0 };
	struct addrinfo *offered;
	struct canal_resolve q;
	int ret;

	if (!ask_fill(&q, node, hints ? hints->ai_family : AF_UNSPEC, flags & ~AI_NUMERICSERV))
		return EAI_NONAME;
	ret = services(service, hints, &offered);
	if (ret)
		return ret;
	ret = ask_list(&q, &answer);
	if (!ret)
		ret = list_make(&answer, offered, flags, ret_list);
	freeaddrinfo(offered);
	names_answered("canald");
	return ret;
}

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

/* localhost where no file says what it is: the guest, in a virtual machine too. */
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

/* There is no such name in the files; anything else is the last word. */
static bool is_absent(int eai)
{
	return eai == EAI_NONAME || eai == EAI_NODATA || eai == EAI_AGAIN ||
	       eai == EAI_ADDRFAMILY || eai == EAI_FAIL;
}

static int from_files(const struct names_order *order, const char *node, const char *service,
		      const struct addrinfo *hints, struct addrinfo **ret_list)
{
	int ret = real(getaddrinfo)(node, service, hints, ret_list);

	if (is_absent(ret) && order->apart && is_localhost(node))
		ret = localhost(service, hints, ret_list);
	names_answered("files");
	return ret;
}

/* The order that the guest's nsswitch.conf gives. */
static int in_order(const struct names_order *order, const char *node, const char *service,
		    const struct addrinfo *hints, struct addrinfo **ret_list)
{
	int ret = EAI_NONAME;

	if (order->files && (order->files_first || !order->ask)) {
		ret = from_files(order, node, service, hints, ret_list);
		if (!is_absent(ret))
			return ret;
	}
	if (order->ask)
		ret = order->error ? order->error : from_canald(node, service, hints, ret_list);
	if (order->files_first || !order->ask || !(is_absent(ret) || ret > 0))
		return ret;
	if (order->files) {
		int from = from_files(order, node, service, hints, ret_list);

		if (!is_absent(from) || ret < 0)
			return from; /* who was asked last has the last word */
	}
	return ret;
}

/**
 * resolve_names() - getaddrinfo()
 *
 * Return: 0 with *ret_list, or EAI_*.
 */
int resolve_names(const char *node, const char *service, const struct addrinfo *hints,
		  struct addrinfo **ret_list)
{
	struct names_order order = { .ours = false };
	int ret;

	if (needs_resolver(node, hints))
		order = names_order();
	if (!order.ours)
		return real(getaddrinfo)(node, service, hints, ret_list);
	ret = in_order(&order, node, service, hints, ret_list);
	if (ret <= 0)
		return ret;
	if (names_order().ours) {
		fallback_complain(ret);
		return EAI_AGAIN;
	}
	/* canald has gone meanwhile, and libc may ask */
	return real(getaddrinfo)(node, service, hints, ret_list);
}
