/* SPDX-License-Identifier: MIT */
/*
 * Names, the old way: gethostbyname and its relatives, over resolve.c.
 *
 * Purpose: in a virtual machine without a network of its own libc's resolver has
 * nobody to ask. Elsewhere libc's own functions serve as before.
 *
 * Invariants
 *  1. Everything that a struct hostent points to lies in the caller's buffer.
 *
 * Ownership and threads: host_lookup() any thread. gethostbyname() has one buffer
 * for all, as libc's.
 *
 * Failure: h_errno values; -ERANGE for a buffer that is too small.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

#include "internal.h"

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

bool host_is_ours(void)
{
	struct channel *ch;

	return libcanal_preloaded && channel_get(&ch) == 0 && ch->apart;
}

static const void *address_of(const struct addrinfo *ai)
{
	if (ai->ai_family == AF_INET6)
		return &((const struct sockaddr_in6 *)(const void *)ai->ai_addr)->sin6_addr;
	return &((const struct sockaddr_in *)(const void *)ai->ai_addr)->sin_addr;
}

static size_t list_count(const struct addrinfo *list, int family)
{
	size_t count = 0;

	for (; list; list = list->ai_next)
		count += list->ai_family == family;
	return count;
}

/* h_addr_list and the addresses. */
static char **addresses(struct room *room, const struct addrinfo *list, int family)
{
	size_t len = family == AF_INET6 ? 16 : 4, count = list_count(list, family), i = 0;
	char **to = room_take(room, (count + 1) * sizeof(*to), sizeof(*to));
	char *ip = room_take(room, count * len, 4);

	if (!to || !ip)
		return NULL;
	for (; list; list = list->ai_next) {
		if (list->ai_family != family)
			continue;
		to[i] = ip + i * len;
		memcpy(to[i++], address_of(list), len);
	}
	to[i] = NULL;
	return to;
}

static int host_fill(struct hostent *h, struct room room, const char *name, int family,
		     const struct addrinfo *list)
{
	const char *canon = list->ai_canonname ? list->ai_canonname : name;
	char **aliases = room_take(&room, sizeof(*aliases), sizeof(*aliases));
	char **to = addresses(&room, list, family);
	char *text = room_take(&room, strlen(canon) + 1, 1);

	if (!aliases || !to || !text)
		return -ERANGE;
	*aliases = NULL;
	*h = (struct hostent){
		.h_name = strcpy(text, canon),
		.h_aliases = aliases,
		.h_addrtype = family,
		.h_length = family == AF_INET6 ? 16 : 4,
		.h_addr_list = to,
	};
	return 0;
}

static int h_error(int eai)
{
	switch (eai) {
	case EAI_NONAME:
		return HOST_NOT_FOUND;
	case EAI_AGAIN:
		return TRY_AGAIN;
	case EAI_NODATA:
	case EAI_ADDRFAMILY:
		return NO_DATA;
	default:
		return NO_RECOVERY;
	}
}

/**
 * host_lookup() - gethostbyname2_r()
 *
 * Return: 0; -ENOENT with *ret_h_errno; -ERANGE: @buf is too small.
 */
int host_lookup(const char *name, int family, struct hostent *h, char *buf, size_t len,
		int *ret_h_errno)
{
	const struct addrinfo hints = {
		.ai_family = family,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_CANONNAME,
	};
	struct addrinfo *list = NULL;
	int ret = resolve_names(name, NULL, &hints, &list);

	if (ret) {
		*ret_h_errno = h_error(ret);
		return -ENOENT;
	}
	ret = host_fill(h, (struct room){ buf, len }, name, family, list);
	freeaddrinfo(list);
	if (ret)
		*ret_h_errno = NETDB_INTERNAL;
	return ret;
}
