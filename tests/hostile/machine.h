/* SPDX-License-Identifier: MIT */
/*
 * A virtual machine made by hand: QEMU, its RAM and its driver in one program.
 *
 *	machine.c	QEMU's end of the ivshmem server, mailbox, channels
 *	machine_lies.c	requests, extents and RAM that break a rule each
 *	machine_storms.c	doorbells, interrupts and requests without a pause
 *	machine_ends.c	canalds and QEMUs that go, at every point
 *	machine_refs.c	transfers by reference, and what ends in the middle of them
 *	machine_honest.c	one that keeps all rules and checks its bytes
 *
 * Its channels are struct guest: what the other parts do, they do here as well.
 */
#ifndef CANAL_TEST_MACHINE_H
#define CANAL_TEST_MACHINE_H

#include "guest.h"
#include "mailbox.h"

#define PAGE 4096ull
#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define ABOVE (4 * GIB)

/* Where things lie in RAM, offsets in its file. */
#define RAM_COOKIE (1 * MIB)
#define RAM_LISTS (2 * MIB)   /* pages of extents, 32 for each channel */
#define RAM_TABLES (10 * MIB) /* translation */
#define RAM_BUFFERS (16 * MIB)
#define RAM_CHANNELS (32 * MIB)

struct machine {
	int conn, bell, irq, mail_fd, ram_fd;
	struct canal_mailbox *mail;
	uint8_t *ram;
	uint64_t ram_len;
	uint64_t low; /* of it, below the hole */
	uint64_t tail;
	uint32_t epoch;
	uint64_t region_len;
};

/* NULL: this program's guests are processes. */
extern struct machine *the_machine;

/* RAM of that length, all of it a hole; behind a link as it is. */
void machine_ram(struct machine *m, const char *path, uint64_t len);
/* QEMU connects, the driver sees BAR2. Waits until canald has let go of the one before. */
void machine_connect(struct machine *m);
void machine_vanish(struct machine *m);
/* The connection only; messages that came, at most @most. */
int machine_dial(void);
int machine_hear(int conn, int64_t *ret_number, int *ret_fd);

/* Guest-physical address of an offset in the file. */
uint64_t machine_address(const struct machine *m, uint64_t offset);

void machine_ring(const struct machine *m);
/* Puts a request into the mailbox; its position. */
uint64_t machine_post(struct machine *m, const struct canal_mail *mail);
/* And waits for its answer; INT32_MIN: the epoch changed. */
int machine_ask(struct machine *m, const struct canal_mail *mail);
int machine_wait(struct machine *m, uint64_t pos);
/* Whether canald threw it out since the last machine_reset(). */
bool machine_thrown(const struct machine *m);
/* RESET with a cookie at RAM_COOKIE; fails the test if it is refused. */
void machine_reset(struct machine *m);
int machine_try_reset(struct machine *m, uint64_t offset, uint64_t cookie);

/* The list of @count extents, at the place of lists of channel @number; its address. */
uint64_t machine_list(struct machine *m, uint32_t number, const struct canal_extent *extents,
		      uint32_t count);
struct canal_mail machine_open_mail(uint32_t number, uint64_t list, uint32_t count);
/* Extents of a channel, @pieces of them, some below the hole and some above. */
uint32_t machine_extents(const struct machine *m, uint32_t number, uint32_t pieces,
			 struct canal_extent *ret_extents);
/* A channel in @pieces pieces, as a guest. */
void machine_guest_open(struct machine *m, struct guest *g, uint32_t number, uint32_t pieces);
void machine_guest_close(struct guest *g);
bool machine_guest_closed(const struct guest *g);
void machine_dummy(struct guest *g, uint32_t op, uint32_t sock, uint32_t generation);
void machine_waiter(struct guest *g, uint32_t slot, uint32_t serial);

/* Fails the test when @got is not @wanted. */
void machine_expect(const char *what, int got, int wanted);
/* A request that has no more than these. */
int machine_ask_op(struct machine *m, uint32_t op, uint32_t channel, uint32_t client);
/* Fails the test unless RESET, a channel and a connection in it work. */
void machine_still_works(struct machine *m);

/* --- by reference ------------------------------------------------------ */

#define VA 0x7f1200000000ull /* of the program's first page */
#define VA_PAGES 512u

/* A table in which page i of VA is page (i * 7) % VA_PAGES of RAM_BUFFERS; HYBRID. */
void machine_translate(struct guest *g);
uint64_t *machine_entry(const struct machine *m, uint32_t page);
uint8_t *machine_byte(const struct machine *m, uint64_t address);
/* Fills the call of @slot and posts it. */
void machine_ref_post(struct guest *g, uint8_t op, uint32_t sock, uint32_t slot, uint64_t address,
		      uint64_t len, uint32_t flags);
/* Until it is answered; INT32_MIN: the channel was closed. */
int32_t machine_ref_wait(struct guest *g, uint32_t slot);

#endif
