/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * /dev/canal: what a guest program asks of canal.ko.
 *
 * Purpose: gives a process what the local transport gives it over a UNIX socket:
 * the region, a kick, wait slots to sleep on, dummies; and what only a virtual
 * machine needs, the translation of its buffers.
 *
 * A process opens /dev/canal and makes one ATTACH (a new channel) or JOIN (a
 * forked child, into its parent's). The open file is the process's place in the
 * channel: when its last reference is gone, so is the client, and with the last
 * client and the last dummy the channel. A child inherits its parent's file and
 * leaves it alone.
 *
 * mmap() of the file at offset 0: the whole region, shared, read and write.
 *
 * Errors of all of these: ENODEV the device or canald is gone; ENOTTY no such
 * request; EINVAL a bit or field that is not known or out of range; EFAULT.
 */
#ifndef CANAL_UAPI_H
#define CANAL_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* ATTACH: EBUSY channels used up, ENOMEM no pages, EALREADY done before,
 * EPERM refused by canald, ETIMEDOUT canald does not answer.
 * JOIN: in channel_id and token; ENOENT no such channel, EACCES wrong token. */
struct canal_attach {
	__u32 version;    /* in: CANAL_WIRE_VERSION */
	__u32 client;     /* out: number of this process */
	__u64 channel_id; /* ATTACH out; JOIN in */
	__u64 token;      /* ATTACH out; JOIN in */
	__u64 region_len; /* out: bytes to map */
	__u32 pins;       /* out: pages that the process may pin; 0: no translation,
			   * or another open file of this process has it */
	__u32 pad;
};

/*
 * A wait slot's file. read() of it sleeps until canald has woken the slot since
 * the last read, and gives 1 byte; 0 bytes: canald or the device is gone. poll()
 * gives POLLIN then, POLLHUP at the end. As of a pipe, a signal interrupts it.
 */
struct canal_waiter {
	__u32 slot;
	__u32 serial; /* canal_wait.serial of this use */
	__u32 flags;  /* O_NONBLOCK, O_CLOEXEC */
	__s32 fd;     /* out */
};

/*
 * The dummy of a socket: a descriptor of socket type, at the lowest free number.
 * Its last close tells canald. read, write, send, recv, poll, shutdown and
 * getsockname of it act on the socket.
 */
struct canal_dummy {
	__u32 sock;
	__u32 generation;
	__u32 flags; /* SOCK_NONBLOCK, SOCK_CLOEXEC; CANAL_DUMMY_*, if known */
	__s32 fd;    /* out */
};

/* What fstat and getsockopt(SO_TYPE, SO_DOMAIN) say of it to code that does not
 * know canal. Without them it is what canald has made of the socket by now. */
#define CANAL_DUMMY_TYPE 0xfu   /* SOCK_STREAM, SOCK_DGRAM; 0: not known */
#define CANAL_DUMMY_INET6 0x10u /* AF_INET6 */

/* Pins pages of the caller and enters them into its translation table, which only
 * driver and canald read: programs learn no physical address. EFAULT no such
 * memory; EDQUOT more pages than the process may pin at once. Older pins make room. */
struct canal_pin {
	__u64 address;
	__u64 len;
	__u32 writable; /* 1: the host may write there */
	__u32 pad;
};

#define CANAL_IOC 0xCA
#define CANAL_IOC_ATTACH _IOWR(CANAL_IOC, 1, struct canal_attach)
#define CANAL_IOC_JOIN _IOWR(CANAL_IOC, 2, struct canal_attach)
#define CANAL_IOC_WAITER _IOWR(CANAL_IOC, 3, struct canal_waiter)
#define CANAL_IOC_DUMMY _IOWR(CANAL_IOC, 4, struct canal_dummy)
#define CANAL_IOC_KICK _IO(CANAL_IOC, 5) /* wakes the poller */
#define CANAL_IOC_PIN _IOW(CANAL_IOC, 6, struct canal_pin)

#endif
