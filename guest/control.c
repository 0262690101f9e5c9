/* SPDX-License-Identifier: MIT */
/*
 * Control messages of datagrams.
 *
 * Purpose: what a program hands to sendmsg() is checked as the kernel would, for
 * it is sent later, when nobody can be told any more; what came with a datagram is
 * cut to the program's room as the kernel's put_cmsg() does it.
 *
 * Failure: -EINVAL for a message that the kernel does not know or whose value is
 * out of range; -EPERM for what needs privileges.
 */
#include "control.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static int value_check(const struct cmsghdr *c, int least, int most)
{
	int value;

	if (c->cmsg_len != CMSG_LEN(sizeof(value)))
		return -EINVAL;
	memcpy(&value, CMSG_DATA(c), sizeof(value));
	return value < least || value > most ? -EINVAL : 1;
}

static int check_socket(const struct cmsghdr *c)
{
	if (c->cmsg_type == SO_MARK)
		return -EPERM;
	return c->cmsg_type == SCM_RIGHTS || c->cmsg_type == SCM_CREDENTIALS ? 0 : -EINVAL;
}

static int check_ip(const struct cmsghdr *c)
{
	switch (c->cmsg_type) {
	case IP_TOS:
		return c->cmsg_len == CMSG_LEN(1) ? 1 : value_check(c, 0, 255);
	case IP_TTL:
		return value_check(c, 1, 255);
	case IP_PKTINFO:
		return c->cmsg_len == CMSG_LEN(sizeof(struct in_pktinfo)) ? 1 : -EINVAL;
	default:
		return -EINVAL;
	}
}

static int check_ipv6(const struct cmsghdr *c)
{
	switch (c->cmsg_type) {
	case IPV6_TCLASS:
	case IPV6_HOPLIMIT:
		return value_check(c, -1, 255);
	case IPV6_DONTFRAG:
		return value_check(c, 0, 1);
	case IPV6_PKTINFO:
		return c->cmsg_len >= CMSG_LEN(sizeof(struct in6_pktinfo)) ? 1 : -EINVAL;
	default:
		return -EINVAL;
	}
}

/* 1: to be sent, 0: the kernel looks over it, or -errno. */
static int check(const struct cmsghdr *c, int domain)
{
	if (c->cmsg_level == SOL_SOCKET)
		return check_socket(c);
	if (c->cmsg_level == IPPROTO_UDP)
		return c->cmsg_type == UDP_SEGMENT && c->cmsg_len == CMSG_LEN(sizeof(uint16_t))
			       ? 1
			       : -EINVAL;
	if (c->cmsg_level == IPPROTO_IP && domain == AF_INET)
		return check_ip(c);
	return c->cmsg_level == IPPROTO_IPV6 && domain == AF_INET6 ? check_ipv6(c) : 0;
}

/* The length lies within what is left, as the kernel's CMSG_OK() has it. */
static bool fits(const struct msghdr *m, const struct cmsghdr *c)
{
	const char *end = (const char *)m->msg_control + m->msg_controllen;

	return c->cmsg_len >= sizeof(*c) && c->cmsg_len <= (size_t)(end - (const char *)c);
}

int control_pack(struct control *to, const struct msghdr *m, int domain)
{
	to->len = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR((struct msghdr *)m, c)) {
		int ret = fits(m, c) ? check(c, domain) : -EINVAL;

		if (ret < 0)
			return ret;
		if (!ret)
			continue;
		if (CMSG_ALIGN(c->cmsg_len) > sizeof(to->data) - to->len)
			return -EINVAL;
		memset(to->data + to->len, 0, CMSG_ALIGN(c->cmsg_len));
		memcpy(to->data + to->len, c, c->cmsg_len);
		to->len += CMSG_ALIGN(c->cmsg_len);
	}
	return 0;
}

int control_check_stream(const struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR((struct msghdr *)m, c)) {
		int ret = fits(m, c) ? 0 : -EINVAL;

		if (!ret && c->cmsg_level == SOL_SOCKET)
			ret = check_socket(c);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* One message; how much of the room it took. */
static size_t give_one(const struct cmsghdr *c, struct msghdr *m, size_t used)
{
	size_t room = m->msg_controllen - used, len = c->cmsg_len;
	struct cmsghdr head = *c;

	if (!m->msg_control || room < sizeof(head)) {
		m->msg_flags |= MSG_CTRUNC;
		return 0;
	}
	if (room < len) {
		m->msg_flags |= MSG_CTRUNC;
		len = room;
	}
	head.cmsg_len = len;
	memcpy((char *)m->msg_control + used, c, len);
	memcpy((char *)m->msg_control + used, &head, sizeof(head));
	len = CMSG_ALIGN(len);
	return len < room ? len : room;
}

void control_give(const struct control *from, struct msghdr *m)
{
	size_t used = 0;
	canal_u32 at = 0;

	while (from->len - at >= sizeof(struct cmsghdr)) {
		const struct cmsghdr *c = (const void *)(from->data + at);

		if (c->cmsg_len < sizeof(*c) || c->cmsg_len > from->len - at)
			break;
		used += give_one(c, m, used);
		at += CMSG_ALIGN(c->cmsg_len);
		if (at > from->len)
			break;
	}
	m->msg_controllen = used;
}
