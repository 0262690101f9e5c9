/* SPDX-License-Identifier: MIT */
/*
 * What canald cannot serve.
 *
 * Purpose: one place that decides whether a socket goes to the kernel or fails
 * (CANAL_FALLBACK, and the policy of the port in the region), counts it with
 * canald, and tells the user.
 *
 * Ownership and threads: any thread. Failure: a fall that cannot be counted
 * (no channel) is not.
 */
#include <errno.h>
#include <string.h>

#include "common/paths.h"
#include "exec.h"
#include "internal.h"
#include "trace.h"

bool fallback_ok(void)
{
	const struct canal_region *region = the_channel.region;

	return fallback_allowed && (!region || canal_read_once(&region->fallback));
}

void fallback_count(int why)
{
	struct canal_inr inr = {
		.op = CANAL_INR_FALL,
		.sock = CANAL_NONE,
		.slot = CANAL_NONE,
		.u.arg = { why },
	};

	if (the_channel.region && the_channel.client && !the_channel.dead)
		(void)channel_post(&the_channel, &inr);
}

/* What to do about a virtual machine's device that does not attach. */
static const char *device_advice(int why)
{
	switch (why) {
	case EACCES:
	case EPERM:
		return "make this user a member of the group canal";
	case EBUSY:
		return "this virtual machine's channels are used up: raise the limit in canald.conf";
	case ENOMEM:
		return "no memory for a channel: give the virtual machine more";
	case EPROTONOSUPPORT:
	case EPROTO:
		return "canal.ko, libcanal and canald must be of one version";
	default:
		return "see that canald runs on the host and serves this virtual machine";
	}
}

void fallback_complain(int why)
{
	static uint32_t told;
	char path[CANAL_PATHS_LEN];

	if (canal_xchg(&told, 1u))
		return;
	if (attach_vm_failure()) {
		guest_log(TRANSPORT_VM_DEVICE
			  ": %s: %s, or allow the kernel's sockets with CANAL_FALLBACK=allow",
			  strerror(attach_vm_failure()), device_advice(attach_vm_failure()));
		return;
	}
	if (canal_paths_find(exec_socket(), path, sizeof(path)) < 0)
		path[0] = 0;
	guest_log("%s: %s: no canald there; start it with: canald --socket %s, "
		  "or allow the kernel's sockets with CANAL_FALLBACK=allow",
		  path, strerror(why), path);
}

/* canald is not there, as opposed to: it is, and says no. */
static bool is_absence(int why)
{
	return why == ECONNREFUSED || why == ENOENT || why == ENETDOWN || why == EPIPE ||
	       why == EACCES || why == EPERM;
}

/**
 * fallback_socket() - the kernel's socket in place of canald's
 * @why: positive errno: what went wrong with canald
 *
 * Return: a descriptor that is not ours; or -ENETDOWN when there is no canald,
 * else -@why.
 */
int fallback_socket(int domain, int type, int protocol, int why)
{
	int fd;

	if (!fallback_ok()) {
		trace_note(strerrorname_np(why));
		if (!is_absence(why))
			return -why;
		fallback_complain(why);
		return -ENETDOWN;
	}
	guest_info("socket(%d, %d, %d) goes to the kernel: %s", domain, type, protocol,
		   strerror(why));
	trace_note(strerrorname_np(why));
	fallback_count(why);
	fd = real(socket)(domain, type, protocol);
	return fd < 0 ? -errno : fd;
}
