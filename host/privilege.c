/* SPDX-License-Identifier: MIT */
/*
 * What canald may do for a guest that the guest may not do itself: nothing.
 *
 * Purpose: a canald that runs as root acts on sockets for users. The kernel
 * checks capabilities of the thread that asks, so a poller gives up all that
 * sockets could use, and what it needs for root's own guests (ports below
 * 1024) is checked here by the guest's uid. The kernel lets sockets of one user share
 * a port (SO_REUSEPORT): those of a guest become its user's.
 *
 * Ownership and threads: privilege_drop() in each poller, for that thread only.
 * Failure: a poller that cannot give them up says so and goes on. A canald without
 * CAP_CHOWN that serves others than its own user is one user to the kernel.
 */
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/syslog.h>
#include <unistd.h>

#include "sock.h"

#define PORT_RANGE "/proc/sys/net/ipv4/ip_unprivileged_port_start"

/* Ports of root's guests; sockets of other users' guests. */
#define KEPT ((1u << CAP_NET_BIND_SERVICE) | (1u << CAP_CHOWN))

void privilege_drop(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data))
		return;
	data[0].effective &= KEPT;
	data[0].permitted &= KEPT;
	data[0].inheritable = 0;
	memset(&data[1], 0, sizeof(data[1]));
	if (syscall(SYS_capset, &head, data))
		host_log(LOG_WARNING, "a poller cannot give up capabilities: %s", strerror(errno));
}

static uint16_t first_open_port(void)
{
	static int first = -1;
	FILE *f;

	if (canal_read_once(&first) >= 0)
		return (uint16_t)first;
	f = fopen(PORT_RANGE, "re");
	if (!f || fscanf(f, "%d", &first) != 1 || first < 0 || first > 65535)
		first = 1024;
	if (f)
		fclose(f);
	return (uint16_t)first;
}

bool privilege_port(uid_t uid, uint16_t port)
{
	return !uid || !port || ntohs(port) >= first_open_port();
}

void privilege_own(const struct sock *s)
{
	if (s->channel->uid != geteuid() && !s->channel->guest)
		(void)!fchown(s->fd, s->channel->uid, (gid_t)-1);
}
