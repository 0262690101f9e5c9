/* SPDX-License-Identifier: MIT */
/*
 * The transport of a virtual machine, guest's side: requests to /dev/canal.
 *
 * Purpose: what attach_local.c has from canald's UNIX socket, this has from the
 * driver (driver/canal_uapi.h): the region is its mapping, a wait slot sleeps on
 * a file of its, a dummy is a file of its, and the kick is its doorbell.
 *
 * Invariants
 *  1. No call here goes through a symbol that libcanal exports (sys.h).
 *  2. An open /dev/canal is a process's place in the channel. A child opens it
 *     anew, and keeps its parent's open, untouched: its end tells the driver that
 *     the parent and all that it forked are gone.
 *  3. Descriptors of our own lie where fd_move_high() puts them; only a dummy has
 *     a number of the program's.
 *
 * Ownership and threads: attaching and joining under channel.c's attach_lock, the
 * rest by any thread.
 *
 * Failure: -errno; ENODEV, the device or canald is gone, makes the channel dead.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "driver/canal_uapi.h"
#include "guest.h"
#include "lock.h"
#include "sys.h"
#include "transport.h"

/* By reference pays from this length on, unless CANAL_REF_MIN says otherwise. */
#define REF_MIN_DEFAULT (32u << 10)
#define PAGE_LEN 4096u

static int last_failure; /* positive errno */

bool attach_vm_present(void)
{
	return !sys_call4(SYS_faccessat, AT_FDCWD, TRANSPORT_VM_DEVICE, F_OK, 0);
}

int attach_vm_failure(void)
{
	return canal_read_once(&last_failure);
}

static int ask(const struct channel *ch, unsigned long request, void *arg)
{
	long r;

	do
		r = sys_call4(SYS_ioctl, ch->control_fd, request, arg, 0);
	while (r == -EINTR);
	return r < 0 ? (int)r : 0;
}

/* For requests of a channel that is attached. */
static int tell(struct channel *ch, unsigned long request, void *arg)
{
	int err = ask(ch, request, arg);

	if (err == -ENODEV)
		canal_write_once(&ch->dead, true);
	return err;
}

/* --- attaching --------------------------------------------------------- */

static int device_open(struct channel *ch, const char *path)
{
	int saved = errno;
	int fd = (int)sys_call4(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	ch->control_fd = fd_move_high(fd);
	ch->kick_fd = ch->control_fd;
	errno = saved;
	return 0;
}

/* Transfers by reference: from how many bytes on, and how many at once. */
static void ref_limits(struct channel *ch, uint32_t pins)
{
	const char *text = secure_getenv("CANAL_REF_MIN");
	unsigned long long least = REF_MIN_DEFAULT;
	char *end;

	if (text && text[0]) {
		least = strtoull(text, &end, 10);
		if (*end) {
			guest_log("CANAL_REF_MIN=%s: not a number of bytes; taking %u", text,
				  REF_MIN_DEFAULT);
			least = REF_MIN_DEFAULT;
		}
	}
	/* A quarter, so that several threads do not drive out each other's pages. */
	ch->ref_most = (uint64_t)pins * PAGE_LEN / 4;
	ch->ref_min = least && ch->ref_most >= PAGE_LEN ? least : SIZE_MAX;
}

static int vm_attach(struct channel *ch, const char *path)
{
	struct canal_attach a = { .version = CANAL_WIRE_VERSION };
	int err = device_open(ch, path);

	if (!err) {
		err = ask(ch, CANAL_IOC_ATTACH, &a);
		if (!err && (!a.client || a.client >= CANAL_CLIENT_MAX))
			err = -EPROTO;
		if (!err)
			err = region_map(ch, ch->control_fd, a.region_len);
		if (err)
			fd_close_own(ch->control_fd);
	}
	canal_write_once(&last_failure, -err);
	if (err)
		return err;
	ch->id = a.channel_id;
	ch->token = a.token;
	ch->client = a.client;
	ref_limits(ch, a.pins);
	return 0;
}

static int vm_join(struct channel *ch)
{
	struct canal_attach a = {
		.version = CANAL_WIRE_VERSION,
		.channel_id = ch->id,
		.token = ch->token,
	};
	struct channel own = { .client = 0 };
	int err = device_open(&own, TRANSPORT_VM_DEVICE);

	if (!err) {
		err = ask(&own, CANAL_IOC_JOIN, &a);
		if (!err && (!a.client || a.client >= CANAL_CLIENT_MAX))
			err = -EPROTO;
		if (err)
			fd_close_own(own.control_fd);
	}
	if (err) {
		canal_write_once(&ch->dead, true);
		return err;
	}
	ch->control_fd = own.control_fd;
	ch->kick_fd = own.control_fd;
	/* G2 release: the open device before the client number */
	canal_store_release(&ch->client, a.client);
	return 0;
}

/* --- what sleeps, and what a program holds ----------------------------- */

static int vm_waiter(struct channel *ch, uint32_t slot, bool nonblock, int *ret_fd)
{
	struct canal_waiter w = {
		.slot = slot,
		.serial = canal_read_once(&ch->wait[slot].serial),
		.flags = O_CLOEXEC | (nonblock ? O_NONBLOCK : 0),
	};
	int saved = errno, err = tell(ch, CANAL_IOC_WAITER, &w);

	if (err)
		return err;
	*ret_fd = fd_move_high(w.fd);
	errno = saved;
	return 0;
}

/* The driver's dummy has its socket from the beginning. What must not fail then
 * holds its number with another descriptor until then. */
static int vm_pair(struct channel *ch, int flags, bool must, struct dummy_ends *ret_ends)
{
	struct dummy_ends ends = { .near = -1, .far = -1, .flags = flags };

	if (must)
		ends.near = (int)sys_call4(SYS_fcntl, ch->control_fd, F_DUPFD_CLOEXEC, 0, 0);
	if (must && ends.near < 0)
		return ends.near;
	*ret_ends = ends;
	return 0;
}

static void vm_unpair(const struct dummy_ends *ends)
{
	if (ends->near >= 0)
		sys_close(ends->near);
}

static int vm_dummy(struct channel *ch, uint32_t n, uint32_t generation, int kind,
		    const struct dummy_ends *ends)
{
	struct canal_dummy d = {
		.sock = n,
		.generation = generation,
		.flags = ((uint32_t)ends->flags & (SOCK_NONBLOCK | SOCK_CLOEXEC)) |
			 ((uint32_t)kind & CANAL_DUMMY_TYPE) |
			 (kind & TRANSPORT_INET6 ? CANAL_DUMMY_INET6 : 0),
	};
	int err;

	vm_unpair(ends);
	err = tell(ch, CANAL_IOC_DUMMY, &d);
	return err ? err : d.fd;
}

static void vm_kick(struct channel *ch)
{
	(void)ask(ch, CANAL_IOC_KICK, NULL);
}

static int vm_pin(struct channel *ch, uintptr_t address, uint64_t len, bool writable)
{
	uintptr_t start = address & ~(uintptr_t)(PAGE_LEN - 1);
	struct canal_pin p = {
		.address = start,
		.len = (address - start + len + PAGE_LEN - 1) & ~(uint64_t)(PAGE_LEN - 1),
		.writable = writable,
	};

	return tell(ch, CANAL_IOC_PIN, &p);
}

const struct transport transport_vm = {
	.attach = vm_attach,
	.join = vm_join,
	.waiter = vm_waiter,
	.pair = vm_pair,
	.unpair = vm_unpair,
	.dummy = vm_dummy,
	.kick = vm_kick,
	.pin = vm_pin,
	.apart = true,
};
