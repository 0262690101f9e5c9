/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: names.
 *
 * Purpose and rules: intercept.h. A list made here is freed by libc's own
 * freeaddrinfo() (resolve.c), which is therefore not exported.
 */
#include <netdb.h>

#include "intercept.h"

EXPORT int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		       struct addrinfo **list)
{
	int saved_errno = errno;
	int ret;

	libcanal_init();
	if (!libcanal_preloaded)
		return real(getaddrinfo)(node, service, hints, list);
	ret = resolve_names(node, service, hints, list);
	if (ret == 0)
		errno = saved_errno;
	return ret;
}
