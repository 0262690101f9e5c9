/* SPDX-License-Identifier: MIT */
/*
 * The transport of virtual machines, as its files know each other.
 *
 *	attach_ivshmem.c	QEMU's ivshmem server; what is kept across a restart
 *	passed.c		descriptors that the service manager gives and keeps
 *	guestmem.c		the guest's RAM: ranges, channels, translation
 *	mail.c			requests of canal.ko: the ring, passes, RESET
 *	vm_channel.c		those about channels; how channels wake and end
 *	irq.c			interrupts, which no QEMU can make wait
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

/* Mappings that a guest's channels may have, together; also those that are going. */
struct guestmem_share {
	uint32_t most, used; /* mappings */
	uint64_t ram_most;   /* bytes of RAM that are mapped; 0: no limit */
};

struct guestmem {
	struct guestmem_share *share; /* NULL: no limit */
	int fd;                       /* -1: not open */
	bool lost;                    /* the file became shorter */
	struct guestmem_range range;
	uint8_t *base;
	uint64_t len;       /* of the file, bytes */
	uint64_t page;      /* what it can be mapped in: more than 4096 on hugetlbfs */
	uint64_t low, high; /* of it, what lies below 4 GiB and above; 0: no RESET yet */
	uint64_t *used;     /* a bit for each page that is in a channel */
	dev_t dev;
	ino_t ino;
};

/* A channel's memory, contiguous in canald. */
struct guestmem_view {
	struct guestmem_range range;
	struct guestmem_share *share;
	uint8_t *base;
	uint64_t len;
	uint32_t shared; /* taken of the share */
	uint32_t count;
	struct {
		uint64_t offset, len; /* in the file */
	} * extent;
	uint32_t mapped; /* extents that are in place */
	uint64_t mapped_len;
	struct guestmem_view *grave; /* unmapped, the next one */
};

/* 0 or -errno; *ret_why says what is wrong, for people. */
int guestmem_open(struct guestmem *m, const char *path, const char **ret_why);
void guestmem_close(struct guestmem *m);
/* The share of each of so many guests. */
uint32_t guestmem_mappings(uint32_t machines);
uint64_t guestmem_ram_most(uint32_t machines);
/* Finds out where RAM continues above 4 GiB: @cookie lies at guest-physical @address.
 * @low_pages: what the driver says of RAM below 4 GiB, for a cookie that lies there;
 * 0: there is none above. 0, -ENOENT: this is not that guest's RAM. */
int guestmem_find(struct guestmem *m, uint64_t address, uint64_t cookie, uint32_t low_pages);
/* Guest-physical to canald's own; NULL when any byte of it is not RAM. */
void *guestmem_at(const struct guestmem *m, uint64_t address, uint64_t len);
/* The channel that @count extents at guest-physical @list make: exactly @len bytes. Its
 * memory is there when guestmem_map() says so. 0; -EINVAL, -EEXIST (pages that are in a
 * channel already), -E2BIG: a rule is broken; -ENOSPC: more than its share of mappings;
 * -EOPNOTSUPP: pieces smaller than a page of hugetlbfs; -ENXIO: nobody knows where its
 * RAM continues above 4 GiB; -errno. */
int guestmem_view(struct guestmem *m, uint64_t list, uint32_t count, uint64_t len,
		  struct guestmem_view *ret_view);
/* Maps at most @budget extents: 0 all are, 1 not yet, -errno. */
int guestmem_map(const struct guestmem *m, struct guestmem_view *view, uint32_t budget);
/* Nobody uses it any more; guestmem_bury() unmaps it. */
void guestmem_unview(struct guestmem *m, struct guestmem_view *view);
/* Undoes at most @budget mappings of what this thread let go of; true: not all yet. */
bool guestmem_bury(uint32_t budget);
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

/* An OPEN that is being served; nothing behind it is, meanwhile. */
struct vm_opening {
	bool under_way;
	uint32_t number, uid, pid;
	char name[16];
	uint64_t pos;
};

struct vm {
	struct guest *guest;
	struct cds_list_head link; /* all of them; main thread */
	/* main thread */
	struct unix_path at;
	bool passed;         /* the listening socket is the service manager's */
	bool kept;           /* it keeps the four descriptors below, too */
	time_t keep_at_s;    /* when it is to; 0: it does, or there is no QEMU */
	time_t gone_s;       /* when the last QEMU went; 0: there was none */
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
	struct guestmem_share share;
	uint64_t pos; /* of the next request */
	struct vm_opening opening;
	uint32_t closes;    /* channels that are closing */
	uint32_t inrs_left; /* for UNDUMMY, in this pass */
	uint64_t passes;
	bool ready;         /* RESET was served in this epoch */
	bool hearing;       /* in vm_hear() */
	uint64_t bell_work; /* the guest's own at the last bell */
	uint64_t bell_ns;   /* of the second that bells are counted in */
	uint32_t bells;     /* that found nothing to do, in it */
	uint64_t deaf_until_ns;
	struct vm_channel channel[CANAL_MAIL_CHANNELS];
};

/* The answer comes later. */
#define MAIL_LATER 1000000

/* Answers the request at @pos; @waited: a program sleeps until then. */
void mail_answer(struct vm *vm, uint64_t pos, int result, bool waited);
/* Counts @rule, and says @what in the log. Return: @result. */
int mail_refuse(const struct vm *vm, enum broken rule, int result, const char *what);
/* In the middle of a pass: has a descriptor been closed meanwhile? */
void mail_hear(struct vm *vm);

/* --- vm_channel.c ------------------------------------------------------ */

/* OPEN, and requests that name a channel: the result, MAIL_LATER, or RULE_BROKEN. */
int vm_open(struct vm *vm, const struct canal_mail *m, uint64_t pos);
int vm_channel_serve(struct vm *vm, const struct canal_mail *m, uint64_t pos);
/* Some more of the channel that is being opened. */
void vm_open_go_on(struct vm *vm);
/* Ends channels that are closed and do not get their bytes sent. */
void vm_closes_limit(struct vm *vm);
/* All of them, at once, and the RAM; nothing is under way between two passes. */
void vm_channels_drop(struct vm *vm);

/* --- irq.c ------------------------------------------------------------- */

void irq_start(void);
void irq_stop(void);
/* Signals an eventfd; never waits. */
void irq_raise(int fd);

extern const struct transport transport_vm;

/* On the poller: QEMU is there / gone. vm_up(): 0 or -errno. */
int vm_up(struct vm *vm, struct poller *p);
void vm_down(struct vm *vm);
/* Pollers have ended: tells the guest that canald goes. */
void vm_farewell(struct vm *vm);

#endif
