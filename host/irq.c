/* SPDX-License-Identifier: MIT */
/*
 * Interrupts: eventfds that canald shares with QEMU are signalled without waiting.
 *
 * Purpose: whether a write(2) to an eventfd waits is a property of the open file,
 * and that is QEMU's as well: one that clears O_NONBLOCK and fills the counter would
 * hold a poller for as long as it likes. The kernel itself signals an eventfd without
 * waiting, whatever its counter. It does so for canald as each asynchronous read
 * (io_submit(2)) of nothing ends.
 *
 * Invariants
 *  1. At most RING reads are not yet taken in: then all are.
 *
 * Ownership and threads: started and stopped by the main thread; in between of the
 * poller that has the guests, and of the main thread again when pollers have ended.
 *
 * Failure: where the kernel has no asynchronous I/O, irq_start() says so in the log,
 * and a QEMU that is up to it can hold the poller.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/syslog.h>
#include <unistd.h>

#include "vm.h"

#define RING 32

static struct {
	aio_context_t context; /* 0: there is none */
	int null_fd;
	unsigned int done; /* reads that ended and were not taken in */
} irq = { .null_fd = -1 };

void irq_start(void)
{
	irq.null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (irq.null_fd >= 0 && !syscall(SYS_io_setup, RING, &irq.context))
		return;
	host_log(LOG_WARNING, "no asynchronous I/O (%s): a QEMU can hold up interrupts of others",
		 strerror(errno));
	irq.context = 0;
}

void irq_stop(void)
{
	if (irq.context)
		syscall(SYS_io_destroy, irq.context);
	if (irq.null_fd >= 0)
		close(irq.null_fd);
	irq.context = 0;
	irq.null_fd = -1;
	irq.done = 0;
}

static void take_in(void)
{
	struct io_event events[RING];

	(void)syscall(SYS_io_getevents, irq.context, 0, RING, events, NULL);
	irq.done = 0;
}

static bool submit(int fd)
{
	struct iocb read_nothing = {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)irq.null_fd,
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = (uint32_t)fd,
	};
	struct iocb *list = &read_nothing;

	if (syscall(SYS_io_submit, irq.context, 1, &list) != 1)
		return false;
	irq.done++;
	return true;
}

void irq_raise(int fd)
{
	const uint64_t one = 1;

	if (!irq.context) {
		(void)!write(fd, &one, sizeof(one));
		return;
	}
	if (irq.done == RING)
		take_in();
	if (submit(fd))
		return;
	take_in();
	if (!submit(fd))
		host_log_limited(NULL, LOG_ERR, "an interrupt was lost: %s", strerror(errno));
}
