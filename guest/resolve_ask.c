/* SPDX-License-Identifier: MIT */
/*
 * Names: a question to canald.
 *
 * Purpose: one call of the channel for each question, with a limit of time and
 * as a cancellation point, as a program expects of what asks a name server.
 *
 * Ownership and threads: any thread; not in signal handlers, as getaddrinfo().
 *
 * Failure: see resolve.h. A question that takes longer than QUESTION_S is given
 * up: its wait slot rests until the answer has come (wait.c).
 */
#include <errno.h>
#include <string.h>

#include "internal.h"
#include "resolve.h"

#define QUESTION_S 75 /* longer than a resolver with three silent servers */
#define H_ERROR_BASE (-2000)
#define EAI_BASE (-1000)

/* The result of the host: 0 or more, or -errno, or below EAI_BASE. */
static int ask(uint32_t kind, const void *question, uint32_t question_len, void *answer,
	       uint32_t *answer_len)
{
	struct canal_inr inr = { .op = CANAL_INR_RESOLVE, .sock = CANAL_NONE };
	struct call_args args = {
		.name = kind,
		.in = question,
		.in_len = question_len,
		.out = answer,
		.out_len = answer_len,
	};
	struct channel *ch;
	int ret = channel_get(&ch);

	if (ret == 0)
		ret = channel_call_until(ch, &inr, &args, wait_now() + QUESTION_S * 1000000000LL);
	return ret;
}

bool ask_fill(struct canal_resolve *q, const char *node, int family, int flags)
{
	size_t len = strlen(node) + 1;

	if (len > sizeof(q->text))
		return false;
	*q = (struct canal_resolve){
		.flags = flags,
		.family = family,
		.socktype = SOCK_STREAM,
		.node_len = (canal_u16)len,
	};
	memcpy(q->text, node, len);
	return true;
}

int ask_list(const struct canal_resolve *q, struct canal_resolve_answer *ret)
{
	uint32_t len = sizeof(*ret);
	int result = ask(CANAL_RESOLVE_LIST, q, sizeof(*q), ret, &len);

	if (result >= 0)
		return result ? 0 : EAI_NONAME;
	if (result == -EAGAIN)
		return EAI_AGAIN;
	if (result > EAI_BASE)
		return -result;
	return result - EAI_BASE == EAI_SYSTEM ? EAI_AGAIN : result - EAI_BASE;
}

/* The answer of a host, which must be whole. */
static int host_result(int result, const struct canal_resolve_host *host, uint32_t len)
{
	uint32_t addrs = (uint32_t)host->addr_len * host->addr_count;

	if (result == -EAGAIN)
		return -TRY_AGAIN;
	if (result <= H_ERROR_BASE)
		return -(H_ERROR_BASE - result);
	if (result < 0)
		return result > EAI_BASE ? -result : -NO_RECOVERY;
	if (len < offsetof(struct canal_resolve_host, data) || addrs > sizeof(host->data) ||
	    (host->addr_len != 4 && host->addr_len != 16) || !host->addr_count || !host->name_count)
		return -NO_RECOVERY;
	return 0;
}

int ask_host(const struct canal_resolve *q, struct canal_resolve_host *ret)
{
	uint32_t len = sizeof(*ret);
	int result = ask(CANAL_RESOLVE_HOST, q, sizeof(*q), ret, &len);

	return host_result(result, ret, len);
}

int ask_addr(const struct canal_addr *a, struct canal_resolve_host *ret)
{
	uint32_t len = sizeof(*ret);
	int result = ask(CANAL_RESOLVE_ADDR, a, sizeof(*a), ret, &len);

	return host_result(result, ret, len);
}

int ask_dns(const void *query, size_t len, void *answer, size_t room)
{
	uint32_t answer_len = room < CANAL_CALL_DATA ? (uint32_t)room : CANAL_CALL_DATA;
	int result;

	if (len > CANAL_CALL_DATA)
		return -EMSGSIZE;
	result = ask(CANAL_RESOLVE_DNS, query, (uint32_t)len, answer, &answer_len);
	if (result <= EAI_BASE || result == -EAGAIN)
		return -ETIMEDOUT;
	return result;
}
