/* SPDX-License-Identifier: MIT */
/*
 * What a transport does for a guest: the few things that are not shared memory.
 *
 * Purpose: everything above works on the region and does not know how it came to
 * be mapped. There are two: canald's UNIX socket (attach_local.c), and /dev/canal
 * of a virtual machine (attach_vm.c).
 *
 * Ownership and threads: attach and join under channel.c's attach_lock, all else
 * from any thread. Descriptors of the library's own go through fd_move_high().
 *
 * Failure: -errno; an end of the connection makes the channel dead.
 */
#ifndef CANAL_TRANSPORT_H
#define CANAL_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>

struct channel;

/* A dummy to come: what it needs, held until the socket is known. */
struct dummy_ends {
	int near;       /* the program's descriptor to be; -1: made later */
	int far;        /* -1: canald has it */
	int flags;      /* SOCK_NONBLOCK, SOCK_CLOEXEC */
	uint32_t stock; /* local: slot of our stock that it comes from, plus 1; 0: none */
	bool told;      /* which slot: by INR_SOCKET */
};

struct transport {
	/* Maps the region and fills @ch; @path: where canald or the device is. */
	int (*attach)(struct channel *ch, const char *path);
	/* In a forked child: a place of its own in its parent's channel. */
	int (*join)(struct channel *ch);
	/* *ret_fd: what the thread reads from when it sleeps in wait slot @slot: a
	 * byte when it is woken, end-of-file when canald is gone. */
	int (*waiter)(struct channel *ch, uint32_t slot, bool nonblock, int *ret_fd);
	/* Prepares a dummy, at the lowest free number as socket() would. @must: after
	 * this it does not fail for lack of descriptors. unpair drops it. */
	int (*pair)(struct channel *ch, int flags, bool must, struct dummy_ends *ret_ends);
	void (*unpair)(const struct dummy_ends *ends);
	/* Makes it the dummy of socket @n: the program's descriptor, or -errno and
	 * all of it is closed. @kind: SOCK_STREAM or SOCK_DGRAM, with TRANSPORT_INET6. */
	int (*dummy)(struct channel *ch, uint32_t n, uint32_t generation, int kind,
		     const struct dummy_ends *ends);
	/* Wakes the poller. */
	void (*kick)(struct channel *ch);
	/* Lets canald reach the process's own buffers (hybrid.c); NULL: it cannot. */
	int (*pin)(struct channel *ch, uintptr_t address, uint64_t len, bool writable);
	/* Another kernel than canald's: its loopback (twin.c), its membarrier. */
	bool apart;
};

#define TRANSPORT_INET6 0x100

extern const struct transport transport_local __attribute__((visibility("hidden")));
/* attach_local.c: into channel @id, or, with 0, that which has a dummy of inode @token. */
int attach_local_to(struct channel *ch, const char *path, uint64_t id, uint64_t token);

extern const struct transport transport_vm __attribute__((visibility("hidden")));

/* region.c: maps @len bytes of @fd as the region of @ch and finds its tables. */
int region_map(struct channel *ch, int fd, uint64_t len);

/* attach_vm.c: whether there is a /dev/canal at all, and what came of the last
 * attempt to attach there, a positive errno or 0. */
#define TRANSPORT_VM_DEVICE "/dev/canal"
bool attach_vm_present(void);
int attach_vm_failure(void);

#endif
