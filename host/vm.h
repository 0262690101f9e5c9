/* SPDX-License-Identifier: MIT */
/*
 * The transport of virtual machines, as its files know each other.
 *
 *	attach_ivshmem.c	QEMU's ivshmem server; what is kept across a restart
 *	passed.c		descriptors that the service manager gives and keeps
 *	guestmem.c		the guest's RAM: ranges, channels, translation
 *	mail.c			requests of canal.ko
 *	ref.c			transfers by reference
 *
 * Ownership and threads: the main thread has the listening socket and QEMU's
 * connection. From vm_up() to vm_down() all else of a struct vm is its poller's.
 */
#ifndef CANAL_HOST_VM_H
#define CANAL_HOST_VM_H

#include "guest.h"
#include "mailbox.h"

/* --- guestmem.c -------------------------------------------------------- */

/* Mapped memory of a file that somebody may cut short. */
struct guestmem_range {
	struct guestmem_range *next; /* of this thread */
	uint8_t *base;
	uint64_t len;
	bool *lost;
};

struct guestmem {
	int fd;    /* -1: not open */
	bool lost; /* the file became shorter */
	struct guestmem_range range;
	uint8_t *base;
	uint64_t len;   /* of the file, bytes */
	uint64_t low;   /* of it, what lies below 4 GiB; 0: no RESET yet */
	uint64_t *used; /* a bit for each page that is in a channel */
};

/* A channel's memory, contiguous in canald. */
struct guestmem_view {
	struct guestmem_range range;
	uint8_t *base;
	uint64_t len;
	uint32_t count;
	struct {
		uint64_t offset, len; /* in the file */
	} * extent;
};

/* 0 or -errno; *ret_why says what is wrong, for people. */
int guestmem_open(struct guestmem *m, const char *path, const char **ret_why);
void guestmem_close(struct guestmem *m);
/* Finds out where RAM continues above 4 GiB: @cookie lies at guest-physical @address.
 * 0, or -ENOENT: this is not that guest's RAM. */
int guestmem_find(struct guestmem *m, uint64_t address, uint64_t cookie);
/* Guest-physical to canald's own; NULL when any byte of it is not RAM. */
void *guestmem_at(const struct guestmem *m, uint64_t address, uint64_t len);
/* The channel that @count extents at guest-physical @list make: exactly @len bytes.
 * 0; -EINVAL, -EEXIST (pages that are in a channel already), -E2BIG: a rule is broken;
 * -errno. */
int guestmem_view(struct guestmem *m, uint64_t list, uint32_t count, uint64_t len,
		  struct guestmem_view *ret_view);
void guestmem_unview(struct guestmem *m, struct guestmem_view *view);
/* The byte at guest-virtual @address, by the table at @root: canald's own pointer, or
 * NULL when it is not there (or not to be written). *ret_len: bytes from there to the
 * end of the page. Good for this pass only. */
void *guestmem_walk(const struct guestmem *m, uint64_t root, uint64_t address, bool write,
		    uint64_t *ret_len);

/* --- mail.c ------------------------------------------------------------ */

struct vm_channel {
	struct channel *ch; /* NULL: it ended */
	bool open;          /* opened, and not closed by the driver */
	bool closing;       /* CLOSE came, its answer waits for the sockets */
	uint64_t close_pos, close_until_ns;
	struct guestmem_view view;
};

struct vm {
	struct guest *guest;
	struct cds_list_head link; /* all of them; main thread */
	/* main thread */
	struct unix_path at;
	bool passed;         /* the listening socket is the service manager's */
	int conn_fd;         /* QEMU; -1 */
	int mail_fd;         /* BAR2 */
	int bell_fd, irq_fd; /* guest to host, host to guest */
	/* its poller's, while QEMU is there */
	struct poller *poller;            /* NULL: not there */
	struct cds_list_head poller_link; /* poller.vms */
	struct engine_handle bell;
	struct canal_mailbox *mail;
	struct guestmem ram;
	struct channel_shape shape;
	uint64_t region_len;
	uint32_t channels, pins;
	uint64_t pos; /* of the next request */
	uint64_t passes;
	bool ready;         /* RESET was served in this epoch */
	bool hearing;       /* in vm_hear() */
	uint64_t bell_work; /* poller.work at the last bell */
	uint64_t bell_ns;   /* of the second that bells are counted in */
	uint32_t bells;     /* that found nothing to do, in it */
	uint64_t deaf_until_ns;
	struct vm_channel channel[CANAL_MAIL_CHANNELS];
};

extern const struct transport transport_vm;

/* On the poller: QEMU is there / gone. vm_up(): 0 or -errno. */
int vm_up(struct vm *vm, struct poller *p);
void vm_down(struct vm *vm);
/* Pollers have ended: tells the guest that canald goes. */
void vm_farewell(struct vm *vm);

#endif
