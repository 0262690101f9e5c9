/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: DNS.
 *
 * Purpose and rules: intercept.h. Only what sends a query is here; making and
 * reading messages is libc's.
 */
#include <netinet/in.h>
#include <resolv.h>

#include "intercept.h"
#include "resolve.h"

/* Older headers give these their other names. */
#undef res_query
#undef res_search
#undef res_querydomain
#undef res_send
#undef res_nquery
#undef res_nsearch
#undef res_nquerydomain
#undef res_nsend

EXPORT int res_nquery(struct __res_state *state, const char *name, int class, int type,
		      unsigned char *answer, int room)
{
	TRACED(res_nquery, state, name, class, type, answer, room);
	libcanal_init();
	return dns_query(state, name, class, type, answer, room);
}

EXPORT int res_nsearch(struct __res_state *state, const char *name, int class, int type,
		       unsigned char *answer, int room)
{
	TRACED(res_nsearch, state, name, class, type, answer, room);
	libcanal_init();
	return dns_search(state, name, class, type, answer, room);
}

EXPORT int res_nquerydomain(struct __res_state *state, const char *name, const char *domain,
			    int class, int type, unsigned char *answer, int room)
{
	TRACED(res_nquerydomain, state, name, domain, class, type, answer, room);
	libcanal_init();
	return dns_query_domain(state, name, domain, class, type, answer, room);
}

EXPORT int res_nsend(struct __res_state *state, const unsigned char *query, int len,
		     unsigned char *answer, int room)
{
	TRACED(res_nsend, state, query, len, answer, room);
	libcanal_init();
	return dns_send(state, query, len, answer, room);
}

/* The thread's own state. */

EXPORT int res_query(const char *name, int class, int type, unsigned char *answer, int room)
{
	TRACED(res_query, name, class, type, answer, room);
	libcanal_init();
	return dns_query(&_res, name, class, type, answer, room);
}

EXPORT int res_search(const char *name, int class, int type, unsigned char *answer, int room)
{
	TRACED(res_search, name, class, type, answer, room);
	libcanal_init();
	return dns_search(&_res, name, class, type, answer, room);
}

EXPORT int res_querydomain(const char *name, const char *domain, int class, int type,
			   unsigned char *answer, int room)
{
	TRACED(res_querydomain, name, domain, class, type, answer, room);
	libcanal_init();
	return dns_query_domain(&_res, name, domain, class, type, answer, room);
}

EXPORT int res_send(const unsigned char *query, int len, unsigned char *answer, int room)
{
	TRACED(res_send, query, len, answer, room);
	libcanal_init();
	return dns_send(&_res, query, len, answer, room);
}

#undef __res_query
#undef __res_search
#undef __res_querydomain
#undef __res_send
#undef __res_nquery
#undef __res_nsearch
#undef __res_nquerydomain
#undef __res_nsend

ALIAS(__res_nquery, res_nquery);
ALIAS(__res_nsearch, res_nsearch);
ALIAS(__res_nquerydomain, res_nquerydomain);
ALIAS(__res_nsend, res_nsend);
ALIAS(__res_query, res_query);
ALIAS(__res_search, res_search);
ALIAS(__res_querydomain, res_querydomain);
ALIAS(__res_send, res_send);
