/* SPDX-License-Identifier: MIT */
/*
 * Names: a question of a guest, asked of the host's resolver.
 *
 * Purpose: getaddrinfo(), gethostbyname(), gethostbyaddr() and DNS queries, as
 * the host's own files and name servers answer them.
 *
 * Invariants
 *  1. The question is canald's own copy, checked by question_check().
 *  2. Of DNS messages only queries go out.
 *
 * Ownership and threads: question_check() runs on the poller, question_ask() on
 * a helper thread.
 *
 * Failure: what the resolver says; what concerns canald itself is EAI_AGAIN and
 * TRY_AGAIN. What does not fit an answer is cut.
 */
#include <arpa/nameser.h>
#include <errno.h>
#include <netdb.h>
#include <resolv.h>
#include <stdlib.h>
#include <string.h>

#include "resolve.h"
#include "sock.h"

#define FLAGS_ALLOWED                                                                        \
	(AI_PASSIVE | AI_CANONNAME | AI_NUMERICHOST | AI_V4MAPPED | AI_ALL | AI_ADDRCONFIG | \
	 AI_NUMERICSERV | AI_IDN | AI_CANONIDN)
#define HOST_BUFFER 16384
#define DNS_ANSWER_MAX 65536
#define TC_BYTE 2 /* of the header: QR, opcode, AA, TC, RD */
#define TC_BIT 0x02
#define QUERY_BITS 0xf8 /* QR and opcode: 0 in a query */

/* --- the question ---------------------------------------------------------- */

/* Is there a string of @len bytes with its NUL, and only that one, at the end? */
static bool text_valid(const uint8_t *text, uint32_t len)
{
	return !len || memchr(text, 0, len) == text + len - 1;
}

static int names_check(const struct canal_resolve *q)
{
	if ((uint32_t)q->node_len + q->service_len > sizeof(q->text) ||
	    !text_valid(q->text, q->node_len) || !text_valid(q->text + q->node_len, q->service_len))
		return EAI_FAIL;
	if (!q->node_len && !q->service_len)
		return EAI_NONAME;
	if (q->flags & ~FLAGS_ALLOWED)
		return EAI_BADFLAGS;
	if (q->family != AF_UNSPEC && q->family != AF_INET && q->family != AF_INET6)
		return EAI_FAMILY;
	return 0;
}

static bool host_valid(const struct canal_resolve *q)
{
	return !names_check(q) && q->node_len && q->family != AF_UNSPEC;
}

static bool addr_valid(const struct question *q)
{
	struct canal_addr a;

	memcpy(&a, q->data, sizeof(a));
	return q->len == sizeof(a) && (a.family == AF_INET || a.family == AF_INET6);
}

static bool dns_valid(const struct question *q)
{
	return q->len >= NS_HFIXEDSZ && q->len <= sizeof(q->data) &&
	       !(q->data[TC_BYTE] & QUERY_BITS);
}

int question_check(const struct question *q)
{
	switch (q->kind) {
	case CANAL_RESOLVE_LIST: {
		int error = names_check(&q->names);

		return error ? CANAL_RESOLVE_ERROR(error) : 0;
	}
	case CANAL_RESOLVE_HOST:
		return host_valid(&q->names) ? 0 : CANAL_RESOLVE_H_ERROR(NO_RECOVERY);
	case CANAL_RESOLVE_ADDR:
		return addr_valid(q) ? 0 : CANAL_RESOLVE_H_ERROR(NO_RECOVERY);
	case CANAL_RESOLVE_DNS:
		return dns_valid(q) ? 0 : CANAL_RESOLVE_ERROR(EAI_FAIL);
	default:
		return CANAL_RESOLVE_ERROR(EAI_FAIL);
	}
}

/* --- getaddrinfo ------------------------------------------------------------- */

static void answer_add(struct canal_resolve_answer *answer, const struct addrinfo *ai)
{
	struct canal_resolved *to = &answer->list[answer->count];
	struct sockaddr_storage ss = { 0 };

	if (answer->count == CANAL_RESOLVED_MAX || ai->ai_addrlen > sizeof(ss))
		return;
	memcpy(&ss, ai->ai_addr, ai->ai_addrlen);
	if (!addr_from_sockaddr(&to->addr, &ss))
		return;
	to->socktype = ai->ai_socktype;
	to->protocol = ai->ai_protocol;
	answer->count++;
}

static void answer_fill(struct canal_resolve_answer *answer, const struct addrinfo *list)
{
	const char *canon = list->ai_canonname;

	if (canon && strlen(canon) < sizeof(answer->canon)) {
		answer->canon_len = (canal_u16)(strlen(canon) + 1);
		memcpy(answer->canon, canon, answer->canon_len);
	}
	for (; list; list = list->ai_next)
		answer_add(answer, list);
}

/* AI_ADDRCONFIG asks for the guest's own addresses, not the host's. */
static int family_wanted(const struct question *q, int *ret_flags)
{
	int family = q->names.family, has = q->families;

	*ret_flags = q->names.flags;
	if (!(q->names.flags & AI_ADDRCONFIG) || !has)
		return family;
	*ret_flags &= ~AI_ADDRCONFIG;
	if (family == AF_UNSPEC && has != (QUESTION_V4 | QUESTION_V6))
		return has == QUESTION_V4 ? AF_INET : AF_INET6;
	return family;
}

static bool family_missing(const struct question *q)
{
	int family = q->names.family, has = q->families;

	return (q->names.flags & AI_ADDRCONFIG) && has && !(q->names.flags & AI_V4MAPPED) &&
	       ((family == AF_INET && !(has & QUESTION_V4)) ||
		(family == AF_INET6 && !(has & QUESTION_V6)));
}

static void ask_list(const struct question *question, struct answer *ret)
{
	const struct canal_resolve *q = &question->names;
	const char *node = q->node_len ? (const char *)q->text : NULL;
	const char *service = q->service_len ? (const char *)q->text + q->node_len : NULL;
	struct addrinfo *list, hints = {
		.ai_socktype = q->socktype,
		.ai_protocol = q->protocol,
	};
	int error = EAI_NONAME;

	hints.ai_family = family_wanted(question, &hints.ai_flags);
	if (!family_missing(question))
		error = getaddrinfo(node, service, &hints, &list);
	if (error == EAI_SYSTEM) /* errno is ours, not the guest's */
		error = EAI_AGAIN;
	if (!error) {
		answer_fill(&ret->names, list);
		freeaddrinfo(list);
		if (!ret->names.count)
			error = EAI_NONAME;
	}
	ret->result = error ? CANAL_RESOLVE_ERROR(error) : (int)ret->names.count;
	ret->len = error ? 0 : sizeof(ret->names);
}

/* --- gethostbyname, gethostbyaddr ----------------------------------------------- */

static bool host_add(struct answer *ret, const void *from, size_t len)
{
	uint32_t at = ret->len - (uint32_t)offsetof(struct canal_resolve_host, data);

	if (len > sizeof(ret->host.data) - at)
		return false;
	memcpy(ret->host.data + at, from, len);
	ret->len += (uint32_t)len;
	return true;
}

static void host_fill(struct answer *ret, const struct hostent *h)
{
	struct canal_resolve_host *to = &ret->host;

	ret->len = offsetof(struct canal_resolve_host, data);
	to->family = (canal_u16)h->h_addrtype;
	to->addr_len = (canal_u16)h->h_length;
	/* the name has its place before more addresses than anybody needs */
	for (char **a = h->h_addr_list; *a && to->addr_count < CANAL_RESOLVED_MAX; a++)
		if (host_add(ret, *a, (size_t)h->h_length))
			to->addr_count++;
	if (host_add(ret, h->h_name, strlen(h->h_name) + 1))
		to->name_count++;
	for (char **name = h->h_aliases; *name; name++)
		if (to->name_count && host_add(ret, *name, strlen(*name) + 1))
			to->name_count++;
	ret->result = to->addr_count;
}

/* Nothing: @h says why, but of what concerns us alone (a buffer, no memory). */
static void host_finish(struct answer *ret, const struct hostent *found, int h)
{
	if (found)
		host_fill(ret, found);
	else
		ret->result =
			CANAL_RESOLVE_H_ERROR(h < HOST_NOT_FOUND || h > NO_DATA ? TRY_AGAIN : h);
}

static void ask_host(const struct question *q, struct answer *ret)
{
	struct hostent host, *found = NULL;
	char buf[HOST_BUFFER];
	int h = TRY_AGAIN;

	gethostbyname2_r((const char *)q->names.text, q->names.family, &host, buf, sizeof(buf),
			 &found, &h);
	host_finish(ret, found, h);
}

static void ask_addr(const struct question *q, struct answer *ret)
{
	struct hostent host, *found = NULL;
	char buf[HOST_BUFFER];
	struct canal_addr a;
	int h = TRY_AGAIN;

	memcpy(&a, q->data, sizeof(a));
	gethostbyaddr_r(a.ip, a.family == AF_INET6 ? 16 : 4, a.family, &host, buf, sizeof(buf),
			&found, &h);
	host_finish(ret, found, h);
}

/* --- DNS ---------------------------------------------------------------------------- */

static void ask_dns(const struct question *q, struct answer *ret)
{
	struct __res_state state = { 0 };
	uint8_t *text = malloc(DNS_ANSWER_MAX);
	int len = -1;

	if (text && res_ninit(&state) == 0) {
		len = res_nsend(&state, q->data, (int)q->len, text, DNS_ANSWER_MAX);
		res_nclose(&state);
	}
	if (len >= NS_HFIXEDSZ) {
		bool cut = (size_t)len > sizeof(ret->data);

		ret->len = cut ? (uint32_t)sizeof(ret->data) : (uint32_t)len;
		memcpy(ret->data, text, ret->len);
		if (cut)
			ret->data[TC_BYTE] |= TC_BIT;
		ret->result = (int)ret->len;
	} else {
		ret->result = CANAL_RESOLVE_ERROR(EAI_AGAIN);
	}
	free(text);
}

void question_ask(const struct question *q, struct answer *ret)
{
	ret->len = 0;
	memset(ret->data, 0, sizeof(ret->data));
	switch (q->kind) {
	case CANAL_RESOLVE_LIST:
		ask_list(q, ret);
		break;
	case CANAL_RESOLVE_HOST:
		ask_host(q, ret);
		break;
	case CANAL_RESOLVE_ADDR:
		ask_addr(q, ret);
		break;
	default:
		ask_dns(q, ret);
	}
}
