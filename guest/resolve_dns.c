/* SPDX-License-Identifier: MIT */
/*
 * Names: DNS itself, for programs that ask it by res_query() and its kin.
 *
 * Purpose: a query goes to canald, which sends it to the host's name servers and
 * gives the answer back. What libc's resolver does around one query is done
 * here: the search list, which is the guest's own, and what an answer means.
 *
 * Ownership and threads: the caller's state (res_n...), or the thread's own.
 *
 * Failure: -1 with h_errno, as libc. An answer that is longer than a call of
 * canald's holds has its bit TC set.
 */
#include <arpa/nameser.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"
#include "resolve.h"

#define QUERY_MAX 512
#define HEADER_RCODE 3 /* byte of the header, its lower half */
#define HEADER_ANSWERS 6

static int fail(int h)
{
	h_errno = h;
	return -1;
}

/* A state that was not made ready is, as libc does it. */
static bool ready(struct __res_state *state)
{
	return (state->options & RES_INIT) || res_ninit(state) == 0;
}

int dns_send(struct __res_state *state, const unsigned char *query, int len, unsigned char *answer,
	     int room)
{
	int ret;

	if (!names_order().ours)
		return real(res_nsend)(state, query, len, answer, room);
	if (len < NS_HFIXEDSZ || room < NS_HFIXEDSZ) {
		errno = EINVAL;
		return -1;
	}
	names_answered("canald");
	ret = ask_dns(query, (size_t)len, answer, (size_t)room);
	if (ret >= 0)
		return ret;
	errno = ret == -ETIMEDOUT ? ETIMEDOUT : ECONNREFUSED;
	return -1;
}

/* What libc calls an answer: at least one record, and no error. */
static int judge(const unsigned char *answer, int len)
{
	if (answer[HEADER_ANSWERS] || answer[HEADER_ANSWERS + 1])
		if ((answer[HEADER_RCODE] & 0xf) == ns_r_noerror)
			return len;
	switch (answer[HEADER_RCODE] & 0xf) {
	case ns_r_noerror:
		return fail(NO_DATA);
	case ns_r_nxdomain:
		return fail(HOST_NOT_FOUND);
	case ns_r_servfail:
		return fail(TRY_AGAIN);
	default:
		return fail(NO_RECOVERY);
	}
}

int dns_query(struct __res_state *state, const char *name, int class, int type,
	      unsigned char *answer, int room)
{
	unsigned char query[QUERY_MAX];
	int len;

	if (!names_order().ours)
		return real(res_nquery)(state, name, class, type, answer, room);
	if (!ready(state) || room < NS_HFIXEDSZ)
		return fail(NETDB_INTERNAL);
	len = res_nmkquery(state, ns_o_query, name, class, type, NULL, 0, NULL, query,
			   sizeof(query));
	if (len <= 0)
		return fail(NO_RECOVERY);
	len = dns_send(state, query, len, answer, room);
	return len < 0 ? fail(TRY_AGAIN) : judge(answer, len);
}

int dns_query_domain(struct __res_state *state, const char *name, const char *domain, int class,
		     int type, unsigned char *answer, int room)
{
	char whole[NS_MAXDNAME];
	size_t len = strlen(name);
	int fits;

	if (!names_order().ours)
		return real(res_nquerydomain)(state, name, domain, class, type, answer, room);
	if (!domain && len && name[len - 1] == '.')
		fits = snprintf(whole, sizeof(whole), "%.*s", (int)len - 1, name);
	else
		fits = snprintf(whole, sizeof(whole), domain ? "%s.%s" : "%s%s", name,
				domain ? domain : "");
	if (fits < 0 || (size_t)fits >= sizeof(whole))
		return fail(NO_RECOVERY);
	return dns_query(state, whole, class, type, answer, room);
}

/* --- the search list --------------------------------------------------------- */

struct search {
	struct __res_state *state;
	const char *name;
	int class, type;
	unsigned char *answer;
	int room;
	bool no_data, failed; /* somewhere in the list */
	bool as_is;           /* was asked, by itself or by a root in the list */
};

static int search_one(struct search *s, const char *domain)
{
	return dns_query_domain(s->state, s->name, domain, s->class, s->type, s->answer, s->room);
}

/* The answer's length, 0: go on, -1: this ends the search. */
static int search_list(struct search *s)
{
	for (char **domain = s->state->dnsrch; *domain; domain++) {
		bool root = !**domain || strcmp(*domain, ".") == 0;
		int len = search_one(s, root ? NULL : *domain);

		s->as_is |= root;
		if (len > 0)
			return len;
		if (h_errno == NO_DATA)
			s->no_data = true;
		else if (h_errno == TRY_AGAIN && errno != ETIMEDOUT && errno != ECONNREFUSED)
			s->failed = true;
		else if (h_errno != HOST_NOT_FOUND)
			return -1;
		if (!(s->state->options & RES_DNSRCH))
			break;
	}
	return 0;
}

static unsigned int count_dots(const char *name)
{
	unsigned int dots = 0;

	for (; *name; name++)
		dots += *name == '.';
	return dots;
}

int dns_search(struct __res_state *state, const char *name, int class, int type,
	       unsigned char *answer, int room)
{
	struct search s = { state, name, class, type, answer, room, false, false, false };
	unsigned int dots = count_dots(name);
	bool full = dots && name[strlen(name) - 1] == '.';
	int len, first = 0; /* h_errno of the first, as it is */

	if (!names_order().ours)
		return real(res_nsearch)(state, name, class, type, answer, room);
	if (!ready(state))
		return fail(NETDB_INTERNAL);
	errno = 0;
	h_errno = HOST_NOT_FOUND;
	if (dots >= state->ndots || full) {
		len = search_one(&s, NULL);
		if (len > 0 || full)
			return len;
		first = h_errno;
		s.as_is = true;
	}
	if (dots ? (state->options & RES_DNSRCH) != 0 : (state->options & RES_DEFNAMES) != 0) {
		len = search_list(&s);
		if (len)
			return len;
	}
	if (!s.as_is && (dots || !(state->options & RES_NOTLDQUERY))) {
		len = search_one(&s, NULL);
		if (len > 0)
			return len;
	}
	if (first)
		return fail(first);
	return s.no_data ? fail(NO_DATA) : s.failed ? fail(TRY_AGAIN) : -1;
}
