/* SPDX-License-Identifier: MIT */
/*
 * What the parts of driver_abuse share.
 *
 *	driver_abuse.c		which tests there are
 *	driver_abuse_requests.c	arguments, times and processes that are wrong
 *	driver_abuse_pins.c	buffers that go while they are pinned
 *	driver_abuse_region.c	nonsense in the region, held locks, killed processes
 */
#ifndef CANAL_TEST_DRIVER_ABUSE_H
#define CANAL_TEST_DRIVER_ABUSE_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "driver/canal_uapi.h"
#include "wire.h"

#define RUN_PAGES 64u /* pinned at once */

extern int failures;
extern const char *current; /* the test that runs */

/* Counts and prints what is not @ok. */
void check(int ok, int line, const char *what);

#define CHECK(what) check((what), __LINE__, #what)
#define FAILS(call, with) \
	check((errno = 0, (call) < 0 && errno == (with)), __LINE__, #call " must give " #with)

/* An open, attached and mapped /dev/canal. */
struct place {
	int fd;
	struct canal_attach at;
	uint8_t *map;
};

int place_open(void);
int attach(int fd, struct canal_attach *at);
struct place place_new(void);
void place_end(struct place *p);
struct canal_region *region(const struct place *p);

/* The requests: a descriptor or 0, or -1 and errno. */
int waiter(int fd, uint32_t slot, uint32_t flags);
int dummy(int fd, uint32_t sock, uint32_t flags);
int pin(int fd, void *at, uint64_t len, uint32_t writable);

/* An address that is the kernel's. */
void *bad_pointer(void);
/* Pages just there; NULL: they cannot be had. */
uint8_t *map_at(uint64_t address, size_t len);

/* --- driver_abuse_requests.c --- */
void test_unattached(void);
void test_attach(void);
void test_join(void);
void test_mmap(void);
void test_waiter(void);
void test_dummy(void);
void test_many(void);
void test_memory(void);

/* --- driver_abuse_pins.c --- */
void test_pin(void);
void test_pin_race(void);
void test_pin_twice(void);
void test_pin_drop(void);

/* --- driver_abuse_region.c --- */
void test_lock_namespace(void);
void test_fault_in_copy(void);
void test_nonsense(void);
void test_kill(void);

#endif
