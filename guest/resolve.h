/* SPDX-License-Identifier: MIT */
/*
 * Names: what the files of the resolver know of each other.
 *
 *	intercept_name.c, intercept_dns.c	exported symbols
 *	resolve.c	getaddrinfo
 *	resolve_later.c	getaddrinfo_a
 *	resolve_host.c	gethostbyname, gethostbyaddr and their kin, getnameinfo
 *	resolve_dns.c	res_query, res_search, res_send
 *	resolve_order.c	who is asked: the guest's own files, canald, libc
 *	resolve_ask.c	a question to canald
 */
#ifndef CANAL_GUEST_RESOLVE_H
#define CANAL_GUEST_RESOLVE_H

#include <netdb.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "wire.h"

/* --- resolve_order.c ------------------------------------------------------ */

/*
 * In a program under canal that has a canald libc itself looks at the guest's
 * own files alone, and canald stands for all else that nsswitch.conf names.
 */
struct names_order {
	bool ours;        /* else libc does everything */
	bool files, ask;  /* whether the files, canald are to be asked at all */
	bool files_first; /* in that order */
	bool apart;       /* a virtual machine: localhost is the guest, whatever canald says */
	int error;        /* positive errno: there is no canald, and libc may not do it */
};

struct names_order names_order(void);
/* Remembers who answered, for the trace. */
void names_answered(const char *who);

/* --- resolve_ask.c ---------------------------------------------------------- */

/* What canald could not be asked for comes as a positive errno; a limit of time as
 * EAI_AGAIN, TRY_AGAIN. */
int ask_list(const struct canal_resolve *q, struct canal_resolve_answer *ret); /* 0, EAI_*, errno */
int ask_host(const struct canal_resolve *q,
	     struct canal_resolve_host *ret);                             /* 0, -h_errno, errno */
int ask_addr(const struct canal_addr *a, struct canal_resolve_host *ret); /* 0, -h_errno, errno */
/* Bytes of the answer, or -errno. */
int ask_dns(const void *query, size_t len, void *answer, size_t room);
/* False when node (and service) do not fit. */
bool ask_fill(struct canal_resolve *q, const char *node, int family, int flags);

/* --- the calls ----------------------------------------------------------------- */

/* resolve.c: EAI_* or 0. */
int resolve_names(const char *node, const char *service, const struct addrinfo *hints,
		  struct addrinfo **ret_list);

/* resolve_later.c */
int later_start(int mode, struct gaicb **list, int count, struct sigevent *sig);
int later_wait(const struct gaicb *const *list, int count, const struct timespec *timeout);
int later_cancel(struct gaicb *one);

/* resolve_host.c. As gethostbyname2_r() and gethostbyaddr_r(): 0 or a positive errno,
 * *ret_result NULL and *ret_h_errno when there is nothing. */
int host_by_name(const char *name, int family, struct hostent *h, char *buf, size_t len,
		 struct hostent **ret_result, int *ret_h_errno);
int host_by_addr(const void *addr, socklen_t addr_len, int family, struct hostent *h, char *buf,
		 size_t len, struct hostent **ret_result, int *ret_h_errno);
int host_name_info(const struct sockaddr *addr, socklen_t addr_len, char *host, socklen_t host_len,
		   char *service, socklen_t service_len, int flags);

/* resolve_dns.c: as res_nsend() and so on, h_errno set. */
struct __res_state;
int dns_send(struct __res_state *state, const unsigned char *query, int len, unsigned char *answer,
	     int room);
int dns_query(struct __res_state *state, const char *name, int class, int type,
	      unsigned char *answer, int room);
int dns_query_domain(struct __res_state *state, const char *name, const char *domain, int class,
		     int type, unsigned char *answer, int room);
int dns_search(struct __res_state *state, const char *name, int class, int type,
	       unsigned char *answer, int room);

/* In a forked child. */
void order_after_fork(void);
void later_after_fork(void);

#endif
