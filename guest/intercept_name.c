/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: names.
 *
 * Purpose and rules: intercept.h. A list made here is freed by libc's own
 * freeaddrinfo() (resolve.c), which is therefore not exported.
 */
#include <ifaddrs.h>
#include <netdb.h>

#include "intercept.h"

EXPORT int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		       struct addrinfo **list)
{
	TRACED(getaddrinfo, node, service, hints, list);

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

EXPORT int gethostbyname2_r(const char *name, int family, struct hostent *h, char *buf, size_t len,
			    struct hostent **result, int *h_error)
{
	TRACED(gethostbyname2_r, name, family, h, buf, len, result, h_error);

	int saved_errno = errno;
	int ret;

	libcanal_init();
	if (!host_is_ours() || (family != AF_INET && family != AF_INET6)) {
		errno = saved_errno;
		return real(gethostbyname2_r)(name, family, h, buf, len, result, h_error);
	}
	ret = host_lookup(name, family, h, buf, len, h_error);
	*result = ret ? NULL : h;
	errno = saved_errno;
	/* As glibc: a name that is not there is no error of the call. */
	return ret == -ENOENT ? 0 : -ret;
}

EXPORT int gethostbyname_r(const char *name, struct hostent *h, char *buf, size_t len,
			   struct hostent **result, int *h_error)
{
	TRACED(gethostbyname_r, name, h, buf, len, result, h_error);

	libcanal_init();
	if (!host_is_ours())
		return real(gethostbyname_r)(name, h, buf, len, result, h_error);
	return gethostbyname2_r(name, AF_INET, h, buf, len, result, h_error);
}

EXPORT struct hostent *gethostbyname2(const char *name, int family)
{
	TRACED(gethostbyname2, name, family);

	static struct hostent host;
	static char buf[8192];
	struct hostent *result = NULL;

	libcanal_init();
	if (!host_is_ours())
		return real(gethostbyname2)(name, family);
	if (gethostbyname2_r(name, family, &host, buf, sizeof(buf), &result, &h_errno))
		return NULL;
	return result;
}

EXPORT struct hostent *gethostbyname(const char *name)
{
	TRACED(gethostbyname, name);

	libcanal_init();
	return host_is_ours() ? gethostbyname2(name, AF_INET) : real(gethostbyname)(name);
}

/* Freed by libc's freeifaddrs(). */
EXPORT int getifaddrs(struct ifaddrs **list)
{
	int saved_errno = errno;
	int ret;

	TRACED(getifaddrs, list);
	libcanal_init();
	if (!libcanal_preloaded)
		return real(getifaddrs)(list);
	ret = interfaces_list(list);
	if (ret == 0)
		errno = saved_errno;
	return (int)give(ret);
}
