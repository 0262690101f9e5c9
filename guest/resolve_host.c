/* SPDX-License-Identifier: MIT */
/*
 * Names, the old way: gethostbyname, gethostbyaddr and their kin; and getnameinfo,
 * which asks the same.
 *
 * Purpose: the guest's own files first, by libc, then canald (resolve_order.c).
 * gethostent() and its kin list /etc/hosts, and are libc's alone.
 *
 * Invariants
 *  1. Everything that a struct hostent points to lies in the caller's buffer.
 *
 * Ownership and threads: any thread.
 *
 * Failure: as the _r functions of glibc: a positive errno, ERANGE for a buffer
 * that is too small; nothing found is 0 with no result and an h_errno.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"
#include "resolve.h"

#define NAME_BUFFER 2048

/* --- a struct hostent --------------------------------------------------------- */

/* Where the next thing goes in the caller's buffer. */
struct room {
	char *at;
	size_t left;
};

static void *room_take(struct room *room, size_t len, size_t align)
{
	size_t skip = -(uintptr_t)room->at & (align - 1);
	void *taken = room->at + skip;

	if (room->left < skip || room->left - skip < len)
		return NULL;
	room->at += skip + len;
	room->left -= skip + len;
	return taken;
}

/* The next name of the answer, a string that ends in it; NULL: none. */
static const char *name_next(const struct canal_resolve_host *from, size_t *at)
{
	const char *name = (const char *)from->data + *at;
	size_t len = *at < sizeof(from->data) ? strnlen(name, sizeof(from->data) - *at) : 0;

	if (*at >= sizeof(from->data) || len == sizeof(from->data) - *at)
		return NULL;
	*at += len + 1;
	return name;
}

/* A list of pointers for @count and the NULL behind them. */
static char **pointers(struct room *room, size_t count)
{
	return room_take(room, (count + 1) * sizeof(char *), sizeof(char *));
}

static char **addresses(struct room *room, const struct canal_resolve_host *from)
{
	size_t len = from->addr_len, count = from->addr_count;
	char **to = pointers(room, count), *ip = room_take(room, count * len, 4);

	if (!to || !ip)
		return NULL;
	memcpy(ip, from->data, count * len);
	for (size_t i = 0; i < count; i++)
		to[i] = ip + i * len;
	to[count] = NULL;
	return to;
}

/* -ERANGE, or -EBADMSG for an answer that is not whole. */
static int host_fill(struct hostent *h, struct room room, const struct canal_resolve_host *from)
{
	size_t at = (size_t)from->addr_len * from->addr_count, alias_count = from->name_count - 1u;
	char **aliases, **to;

	if (alias_count > sizeof(from->data))
		return -EBADMSG;
	aliases = pointers(&room, alias_count);
	to = addresses(&room, from);
	if (!aliases || !to)
		return -ERANGE;
	h->h_name = NULL;
	for (size_t i = 0; i <= alias_count; i++) {
		const char *name = name_next(from, &at);
		char *text = name ? room_take(&room, strlen(name) + 1, 1) : NULL;

		if (!text)
			return name ? -ERANGE : -EBADMSG;
		strcpy(text, name);
		if (i)
			aliases[i - 1] = text;
		else
			h->h_name = text;
	}
	aliases[alias_count] = NULL;
	h->h_aliases = aliases;
	h->h_addrtype = from->family;
	h->h_length = from->addr_len;
	h->h_addr_list = to;
	return 0;
}

/* What canald said, as the _r functions give it. @ret: 0, -h_errno, or errno. */
static int give_host(int ret, struct hostent *h, struct room room,
		     const struct canal_resolve_host *from, struct hostent **ret_result,
		     int *ret_h_errno)
{
	int error = 0;

	names_answered("canald");
	*ret_result = NULL;
	if (!ret)
		error = -host_fill(h, room, from);
	if (error == ERANGE) {
		*ret_h_errno = NETDB_INTERNAL;
		return ERANGE;
	}
	if (ret > 0)
		fallback_complain(ret);
	*ret_h_errno = error ? NO_RECOVERY : ret > 0 ? TRY_AGAIN : ret < 0 ? -ret : NETDB_SUCCESS;
	if (!ret && !error)
		*ret_result = h;
	/* as glibc: EAGAIN where trying again may help */
	return *ret_h_errno == TRY_AGAIN || *ret_h_errno == NO_RECOVERY ? EAGAIN : 0;
}

/* Found, or a buffer that is too small: libc's answer is the last word. */
static bool settled(int error, const struct hostent *result)
{
	return result || error == ERANGE;
}

/* Whether the files have the word before canald, alone or not at all. */
static bool files_before(const struct names_order *order)
{
	return order->files && (order->files_first || !order->ask);
}

/* --- by name ------------------------------------------------------------------------ */

static bool is_number(const char *name, int family)
{
	unsigned char ip[sizeof(struct in6_addr)];
	struct in_addr old;

	return inet_pton(AF_INET6, name, ip) == 1 || (family == AF_INET && inet_aton(name, &old)) ||
	       inet_pton(AF_INET, name, ip) == 1;
}

int host_by_name(const char *name, int family, struct hostent *h, char *buf, size_t len,
		 struct hostent **ret_result, int *ret_h_errno)
{
	struct canal_resolve_host answer;
	struct names_order order = { .ours = false };
	struct canal_resolve q;
	int error = 0, ret;

	if (!is_number(name, family) && (family == AF_INET || family == AF_INET6))
		order = names_order();
	if (!order.ours || !ask_fill(&q, name, family, 0))
		return real(gethostbyname2_r)(name, family, h, buf, len, ret_result, ret_h_errno);
	*ret_result = NULL;
	*ret_h_errno = HOST_NOT_FOUND;
	if (files_before(&order)) {
		names_answered("files");
		error = real(gethostbyname2_r)(name, family, h, buf, len, ret_result, ret_h_errno);
		if (settled(error, *ret_result))
			return error;
	}
	if (!order.ask)
		return error;
	ret = order.error ? order.error : ask_host(&q, &answer);
	error = give_host(ret, h, (struct room){ buf, len }, &answer, ret_result, ret_h_errno);
	if (settled(error, *ret_result) || !order.files || order.files_first)
		return error;
	return real(gethostbyname2_r)(name, family, h, buf, len, ret_result, ret_h_errno);
}

/* --- by address ------------------------------------------------------------------------ */

static struct canal_addr wire_address(const void *addr, int family)
{
	struct canal_addr a = { .family = (canal_u16)family };

	memcpy(a.ip, addr, family == AF_INET6 ? 16 : 4);
	return a;
}

static bool is_address(socklen_t len, int family)
{
	return (family == AF_INET && len >= 4) || (family == AF_INET6 && len >= 16);
}

int host_by_addr(const void *addr, socklen_t addr_len, int family, struct hostent *h, char *buf,
		 size_t len, struct hostent **ret_result, int *ret_h_errno)
{
	struct canal_resolve_host answer;
	struct names_order order = { .ours = false };
	struct canal_addr a;
	int error = 0, ret;

	if (addr && is_address(addr_len, family))
		order = names_order();
	if (!order.ours)
		return real(gethostbyaddr_r)(addr, addr_len, family, h, buf, len, ret_result,
					     ret_h_errno);
	*ret_result = NULL;
	*ret_h_errno = HOST_NOT_FOUND;
	if (files_before(&order)) {
		names_answered("files");
		error = real(gethostbyaddr_r)(addr, addr_len, family, h, buf, len, ret_result,
					      ret_h_errno);
		if (settled(error, *ret_result))
			return error;
	}
	if (!order.ask)
		return error;
	a = wire_address(addr, family);
	ret = order.error ? order.error : ask_addr(&a, &answer);
	error = give_host(ret, h, (struct room){ buf, len }, &answer, ret_result, ret_h_errno);
	if (settled(error, *ret_result) || !order.files || order.files_first)
		return error;
	return real(gethostbyaddr_r)(addr, addr_len, family, h, buf, len, ret_result, ret_h_errno);
}

/* --- getnameinfo ------------------------------------------------------------------------- */

/* The address in a sockaddr; NULL: libc is to say what is wrong with it. */
static const void *address_in(const struct sockaddr *addr, socklen_t len)
{
	if (addr && addr->sa_family == AF_INET && len >= sizeof(struct sockaddr_in))
		return &((const struct sockaddr_in *)(const void *)addr)->sin_addr;
	if (addr && addr->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6))
		return &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr;
	return NULL;
}

static int copy_name(const char *name, char *host, socklen_t host_len)
{
	if (strlen(name) >= host_len)
		return EAI_OVERFLOW;
	strcpy(host, name);
	return 0;
}

int host_name_info(const struct sockaddr *addr, socklen_t addr_len, char *host, socklen_t host_len,
		   char *service, socklen_t service_len, int flags)
{
	const void *ip = address_in(addr, addr_len);
	struct names_order order = { .ours = false };
	struct hostent h, *found = NULL;
	char buf[NAME_BUFFER];
	int h_error, ret;

	if (ip && host && host_len && !(flags & NI_NUMERICHOST))
		order = names_order();
	if (!order.ours)
		return real(getnameinfo)(addr, addr_len, host, host_len, service, service_len,
					 flags);
	/* libc: what is wrong with the arguments, the files alone, and the service */
	if (files_before(&order)) {
		names_answered("files");
		ret = real(getnameinfo)(addr, addr_len, host, host_len, service, service_len,
					flags | NI_NAMEREQD);
		if (ret != EAI_NONAME && ret != EAI_AGAIN)
			return ret;
	}
	if (host_by_addr(ip, addr->sa_family == AF_INET6 ? 16 : 4, addr->sa_family, &h, buf,
			 sizeof(buf), &found, &h_error) == EAGAIN &&
	    (flags & NI_NAMEREQD))
		return EAI_AGAIN;
	if (!found && (flags & NI_NAMEREQD))
		return EAI_NONAME;
	if (!found)
		return real(getnameinfo)(addr, addr_len, host, host_len, service, service_len,
					 flags | NI_NUMERICHOST);
	ret = service && service_len ? real(getnameinfo)(addr, addr_len, NULL, 0, service,
							 service_len, flags & ~NI_NAMEREQD)
				     : 0;
	return ret ? ret : copy_name(h.h_name, host, host_len);
}
