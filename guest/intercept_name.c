/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: names.
 *
 * Purpose and rules: intercept.h. A list made here is freed by libc's own
 * freeaddrinfo() (resolve.c), which is therefore not exported. gethostent() and
 * its kin read /etc/hosts and are libc's.
 */
#include <ifaddrs.h>
#include <netdb.h>
#include <stdlib.h>

#include "intercept.h"
#include "resolve.h"

EXPORT int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		       struct addrinfo **list)
{
	TRACED(getaddrinfo, node, service, hints, list);

	int saved_errno = errno;
	int ret;

	libcanal_init();
	ret = resolve_names(node, service, hints, list);
	if (ret == 0)
		errno = saved_errno;
	return ret;
}

EXPORT int getnameinfo(const struct sockaddr *addr, socklen_t addr_len, char *host,
		       socklen_t host_len, char *service, socklen_t service_len, int flags)
{
	TRACED(getnameinfo, addr, addr_len, host, host_len, service, service_len, flags);

	int saved_errno = errno;
	int ret;

	libcanal_init();
	ret = host_name_info(addr, addr_len, host, host_len, service, service_len, flags);
	if (ret == 0)
		errno = saved_errno;
	return ret;
}

/* --- in the background -------------------------------------------------- */

EXPORT int getaddrinfo_a(int mode, struct gaicb **list, int count, struct sigevent *sig)
{
	TRACED(getaddrinfo_a, mode, list, count, sig);
	libcanal_init();
	return libcanal_preloaded ? later_start(mode, list, count, sig)
				  : real(getaddrinfo_a)(mode, list, count, sig);
}

EXPORT int gai_suspend(const struct gaicb *const *list, int count, const struct timespec *timeout)
{
	TRACED(gai_suspend, list, count, timeout);
	return libcanal_preloaded ? later_wait(list, count, timeout)
				  : real(gai_suspend)(list, count, timeout);
}

EXPORT int gai_cancel(struct gaicb *one)
{
	TRACED(gai_cancel, one);
	return libcanal_preloaded ? later_cancel(one) : real(gai_cancel)(one);
}

/* --- hosts ---------------------------------------------------------------- */

EXPORT int gethostbyname2_r(const char *name, int family, struct hostent *h, char *buf, size_t len,
			    struct hostent **result, int *h_error)
{
	TRACED(gethostbyname2_r, name, family, h, buf, len, result, h_error);
	libcanal_init();
	return host_by_name(name, family, h, buf, len, result, h_error);
}

EXPORT int gethostbyname_r(const char *name, struct hostent *h, char *buf, size_t len,
			   struct hostent **result, int *h_error)
{
	TRACED(gethostbyname_r, name, h, buf, len, result, h_error);
	libcanal_init();
	return host_by_name(name, AF_INET, h, buf, len, result, h_error);
}

EXPORT int gethostbyaddr_r(const void *addr, socklen_t addr_len, int family, struct hostent *h,
			   char *buf, size_t len, struct hostent **result, int *h_error)
{
	TRACED(gethostbyaddr_r, addr, addr_len, family, h, buf, len, result, h_error);
	libcanal_init();
	return host_by_addr(addr, addr_len, family, h, buf, len, result, h_error);
}

/* The one answer of the functions that have no buffer: it grows, and is never freed. */
static struct {
	struct hostent host;
	char *buf;
	size_t len;
} only;

static int only_grow(void)
{
	size_t len = only.len ? only.len * 2 : 1024;
	char *buf = realloc(only.buf, len);

	if (!buf) {
		h_errno = NETDB_INTERNAL;
		return ENOMEM;
	}
	only.buf = buf;
	only.len = len;
	return ERANGE; /* again */
}

static struct hostent *only_by_name(const char *name, int family)
{
	struct hostent *result = NULL;
	int error = only.len ? ERANGE : only_grow();

	libcanal_init();
	while (error == ERANGE) {
		error = host_by_name(name, family, &only.host, only.buf, only.len, &result,
				     &h_errno);
		if (error == ERANGE)
			error = only_grow();
	}
	if (error && h_errno == NETDB_INTERNAL)
		errno = error;
	return result;
}

EXPORT struct hostent *gethostbyname2(const char *name, int family)
{
	TRACED(gethostbyname2, name, family);
	return only_by_name(name, family);
}

EXPORT struct hostent *gethostbyname(const char *name)
{
	TRACED(gethostbyname, name);
	return only_by_name(name, AF_INET);
}

EXPORT struct hostent *gethostbyaddr(const void *addr, socklen_t addr_len, int family)
{
	TRACED(gethostbyaddr, addr, addr_len, family);

	struct hostent *result = NULL;
	int error = only.len ? ERANGE : only_grow();

	libcanal_init();
	while (error == ERANGE) {
		error = host_by_addr(addr, addr_len, family, &only.host, only.buf, only.len,
				     &result, &h_errno);
		if (error == ERANGE)
			error = only_grow();
	}
	if (error && h_errno == NETDB_INTERNAL)
		errno = error;
	return result;
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
