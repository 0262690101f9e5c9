/* SPDX-License-Identifier: MIT */
/*
 * A virtual machine's RAM file: where addresses lie in it, and what is refused.
 *
 * Idea: the file is a memfd that the test fills as a guest's driver would. Large ones
 * are holes: nothing of them is touched but the pages that are named.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "mailbox.h"
#include "sock.h"
#include "vm.h"

#define PAGE 4096ull
#define GIB (1ull << 30)
#define ABOVE (4 * GIB)
#define COOKIE 0x1122334455667788ull

struct fixture {
	struct guestmem m;
	int fd;
	char path[32];
};

/* A RAM file of that length, opened as canald does. */
static void ram(struct fixture *f, uint64_t len)
{
	const char *why;

	f->fd = memfd_create("ram", MFD_CLOEXEC);
	assert_true(f->fd >= 0);
	assert_int_equal(ftruncate(f->fd, (off_t)len), 0);
	snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->fd);
	assert_int_equal(guestmem_open(&f->m, f->path, &why), 0);
}

static void put(struct fixture *f, uint64_t offset, uint64_t value)
{
	assert_int_equal(pwrite(f->fd, &value, sizeof(value), (off_t)offset), sizeof(value));
}

static void put_extent(struct fixture *f, uint64_t offset, uint64_t address, uint64_t len)
{
	put(f, offset, address);
	put(f, offset + 8, len);
}

static int setup(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	f.fd = f.m.fd = -1;
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->m.base)
		guestmem_close(&f->m);
	assert_false(guestmem_bury(UINT32_MAX));
	if (f->fd >= 0)
		close(f->fd);
	return 0;
}

/* --- the file ---------------------------------------------------------- */

static void file_that_is_too_short(void **state)
{
	struct fixture *f = *state;
	const char *why = NULL;

	f->fd = memfd_create("ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->fd, 100), 0);
	snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->fd);
	assert_int_not_equal(guestmem_open(&f->m, f->path, &why), 0);
	assert_non_null(why);
}

/* All holes: no memory, but the addresses of others. */
static void file_that_is_too_long(void **state)
{
	struct fixture *f = *state;
	struct guestmem_share share = { .most = 100, .ram_most = 16 * PAGE };
	const char *why = NULL;

	f->m.share = &share;
	ram(f, 16 * PAGE);
	guestmem_close(&f->m);
	assert_int_equal(ftruncate(f->fd, 17 * PAGE), 0);
	assert_int_equal(guestmem_open(&f->m, f->path, &why), -EFBIG);
	assert_non_null(why);
	f->m.share = NULL;
}

static void file_that_is_none(void **state)
{
	struct fixture *f = *state;
	const char *why = NULL;

	assert_int_not_equal(guestmem_open(&f->m, "/dev/null", &why), 0);
	assert_non_null(why);
	assert_int_equal(guestmem_open(&f->m, "/nonexistent/ram", &why), -ENOENT);
	assert_non_null(strstr(why, "no such file"));
	assert_int_equal(guestmem_open(&f->m, "/tmp", &why), -EISDIR);
	assert_non_null(strstr(why, "directory"));
}

/* What is gone reads as zeros, and is told. */
static void file_that_is_cut_short(void **state)
{
	struct fixture *f = *state;
	const uint64_t *word;

	ram(f, 64 << 20);
	put(f, 0, COOKIE);
	put(f, 10 * PAGE, 5);
	assert_int_equal(guestmem_find(&f->m, 0, COOKIE, 0), 0);
	word = guestmem_at(&f->m, 10 * PAGE, PAGE);
	assert_int_equal(canal_read_once(word), 5);
	assert_int_equal(ftruncate(f->fd, PAGE), 0);
	assert_int_equal(canal_read_once(word), 0);
	assert_true(canal_read_once(&f->m.lost));
}

/* --- where addresses lie ----------------------------------------------- */

static void cookie_in_small_memory(void **state)
{
	struct fixture *f = *state;

	ram(f, 64 << 20);
	put(f, 5 * PAGE, COOKIE);
	assert_int_equal(guestmem_find(&f->m, 5 * PAGE, COOKIE + 1, 0), -ENOENT);
	assert_int_equal(guestmem_find(&f->m, 6 * PAGE, COOKIE, 0), -ENOENT);
	assert_int_equal(guestmem_find(&f->m, 5 * PAGE + 8, COOKIE, 0), -ENOENT);
	assert_int_equal(guestmem_find(&f->m, 64 << 20, COOKIE, 0), -ENOENT);
	assert_int_equal(guestmem_find(&f->m, ~0ull - PAGE + 1, COOKIE, 0), -ENOENT);
	assert_int_equal(guestmem_find(&f->m, 5 * PAGE, COOKIE, 0), 0);
	assert_ptr_equal(guestmem_at(&f->m, 7 * PAGE, PAGE), f->m.base + 7 * PAGE);
}

/* q35 has 2 GiB below the hole, pc 3 GiB or 3.5. */
static void cookie_above_the_hole(void **state)
{
	struct fixture *f = *state;
	static const uint64_t lows[] = { 2 * GIB, 3 * GIB, 3 * GIB + GIB / 2 };

	ram(f, 6 * GIB);
	for (int i = 0; i < 3; i++) {
		put(f, lows[i] + PAGE, COOKIE + (uint64_t)i);
		assert_int_equal(guestmem_find(&f->m, ABOVE + PAGE, COOKIE + (uint64_t)i, 0), 0);
		assert_ptr_equal(guestmem_at(&f->m, ABOVE, PAGE), f->m.base + lows[i]);
		assert_ptr_equal(guestmem_at(&f->m, lows[i] - PAGE, PAGE),
				 f->m.base + lows[i] - PAGE);
		/* in the hole, across its edge, behind the end */
		assert_null(guestmem_at(&f->m, lows[i], PAGE));
		assert_null(guestmem_at(&f->m, lows[i] - PAGE, 2 * PAGE));
		assert_null(guestmem_at(&f->m, ABOVE + 6 * GIB - lows[i], PAGE));
	}
}

/* Then the driver says how much RAM there is below; without that, none above is believed. */
static void cookie_below_the_hole(void **state)
{
	struct fixture *f = *state;
	static const uint64_t lows[] = { 2 * GIB, 3 * GIB, 3 * GIB + GIB / 2 };

	ram(f, 6 * GIB);
	put(f, 5 * PAGE, COOKIE);
	for (int i = 0; i < 3; i++) {
		uint32_t pages = (uint32_t)(lows[i] / PAGE);

		assert_int_equal(guestmem_find(&f->m, 5 * PAGE, COOKIE, pages - 4096), 0);
		assert_ptr_equal(guestmem_at(&f->m, ABOVE, PAGE), f->m.base + lows[i]);
		assert_null(guestmem_at(&f->m, lows[i], PAGE));
	}
	assert_int_equal(guestmem_find(&f->m, 5 * PAGE, COOKIE, 0), 0);
	assert_null(guestmem_at(&f->m, ABOVE, PAGE));
	assert_ptr_equal(guestmem_at(&f->m, 4 * GIB - PAGE, PAGE), f->m.base + 4 * GIB - PAGE);
	assert_int_equal(guestmem_find(&f->m, 5 * PAGE, COOKIE, ~0u), 0);
	assert_null(guestmem_at(&f->m, ABOVE, PAGE));
}

static void ranges_that_wrap_around(void **state)
{
	struct fixture *f = *state;

	ram(f, 64 << 20);
	put(f, 0, COOKIE);
	assert_int_equal(guestmem_find(&f->m, 0, COOKIE, 0), 0);
	assert_null(guestmem_at(&f->m, PAGE, ~0ull));
	assert_null(guestmem_at(&f->m, PAGE, ~0ull - PAGE + 1));
	assert_null(guestmem_at(&f->m, ~0ull - PAGE + 1, PAGE));
	assert_null(guestmem_at(&f->m, (64 << 20) - PAGE, 2 * PAGE));
	assert_non_null(guestmem_at(&f->m, (64 << 20) - PAGE, PAGE));
}

/* --- channels ---------------------------------------------------------- */

#define LIST (8 * PAGE)

static void small_ram(struct fixture *f)
{
	ram(f, 64 << 20);
	put(f, 0, COOKIE);
	assert_int_equal(guestmem_find(&f->m, 0, COOKIE, 0), 0);
}

static int view(struct fixture *f, uint64_t list, uint32_t count, uint64_t len,
		struct guestmem_view *ret_view)
{
	int r = guestmem_view(&f->m, list, count, len, ret_view);

	return r ? r : guestmem_map(&f->m, ret_view, UINT32_MAX);
}

static void view_of_two_extents(void **state)
{
	struct fixture *f = *state;
	struct guestmem_view v;

	small_ram(f);
	put_extent(f, LIST, 100 * PAGE, 2 * PAGE);
	put_extent(f, LIST + 16, 50 * PAGE, PAGE);
	put(f, 101 * PAGE, 1);
	put(f, 50 * PAGE, 2);
	assert_int_equal(view(f, LIST, 2, 3 * PAGE, &v), 0);
	assert_int_equal(*(uint64_t *)(void *)(v.base + PAGE), 1);
	assert_int_equal(*(uint64_t *)(void *)(v.base + 2 * PAGE), 2);
	guestmem_unview(&f->m, &v);
}

static void refused(struct fixture *f, uint64_t address, uint64_t len, uint64_t sum)
{
	struct guestmem_view v;

	put_extent(f, LIST, address, len);
	assert_int_not_equal(guestmem_view(&f->m, LIST, 1, sum, &v), 0);
}

static void extents_that_are_refused(void **state)
{
	struct fixture *f = *state;
	struct guestmem_view v;

	small_ram(f);
	refused(f, 64 << 20, PAGE, PAGE);                  /* outside */
	refused(f, (64 << 20) - PAGE, 2 * PAGE, 2 * PAGE); /* half outside */
	refused(f, ~0ull - PAGE + 1, 2 * PAGE, 2 * PAGE);  /* wraps */
	refused(f, 100 * PAGE + 8, PAGE, PAGE);            /* not a page */
	refused(f, 100 * PAGE, PAGE + 8, PAGE + 8);
	refused(f, 100 * PAGE, 0, PAGE);        /* nothing */
	refused(f, 100 * PAGE, PAGE, 2 * PAGE); /* too little */
	refused(f, 100 * PAGE, 2 * PAGE, PAGE); /* too much */
	put_extent(f, LIST, 100 * PAGE, PAGE);
	assert_int_not_equal(guestmem_view(&f->m, LIST, 0, PAGE, &v), 0);
	assert_int_not_equal(guestmem_view(&f->m, LIST, CANAL_MAIL_EXTENTS + 1, PAGE, &v), 0);
	assert_int_not_equal(guestmem_view(&f->m, LIST + 8, 1, PAGE, &v), 0);
	assert_int_not_equal(guestmem_view(&f->m, 64 << 20, 1, PAGE, &v), 0);
	/* nothing of all that is left behind */
	assert_int_equal(guestmem_view(&f->m, LIST, 1, PAGE, &v), 0);
	guestmem_unview(&f->m, &v);
}

static void extents_that_overlap(void **state)
{
	struct fixture *f = *state;
	struct guestmem_view first, second;

	small_ram(f);
	put_extent(f, LIST, 100 * PAGE, 2 * PAGE);
	put_extent(f, LIST + 16, 101 * PAGE, PAGE);
	assert_int_not_equal(guestmem_view(&f->m, LIST, 2, 3 * PAGE, &first), 0);
	assert_int_equal(guestmem_view(&f->m, LIST, 1, 2 * PAGE, &first), 0);
	/* of another channel */
	assert_int_not_equal(guestmem_view(&f->m, LIST + 4096, 1, PAGE, &second), 0);
	put_extent(f, LIST + PAGE, 101 * PAGE, PAGE);
	assert_int_not_equal(guestmem_view(&f->m, LIST + PAGE, 1, PAGE, &second), 0);
	guestmem_unview(&f->m, &first);
	assert_int_equal(guestmem_view(&f->m, LIST + PAGE, 1, PAGE, &second), 0);
	guestmem_unview(&f->m, &second);
}

/* 255 extents a page; then the address of the next. */
static void list_of_two_pages(void **state)
{
	struct fixture *f = *state;
	struct guestmem_view v;

	small_ram(f);
	for (uint64_t i = 0; i < CANAL_EXTENTS_PAGE; i++)
		put_extent(f, LIST + 16 * i, (1000 + 2 * i) * PAGE, PAGE);
	put_extent(f, LIST + 16 * CANAL_EXTENTS_PAGE, 20 * PAGE, 0);
	put_extent(f, 20 * PAGE, 5000 * PAGE, PAGE);
	put(f, 5000 * PAGE, 7);
	assert_int_equal(view(f, LIST, 256, 256 * PAGE, &v), 0);
	assert_int_equal(*(uint64_t *)(void *)(v.base + 255 * PAGE), 7);
	guestmem_unview(&f->m, &v);
	put_extent(f, LIST + 16 * CANAL_EXTENTS_PAGE, 64 << 20, 0);
	assert_int_not_equal(guestmem_view(&f->m, LIST, 256, 256 * PAGE, &v), 0);
}

/* --- shares and budgets ------------------------------------------------ */

/* @count pages, no two of them together. */
static void scattered(struct fixture *f, uint64_t list, uint64_t first, uint32_t count)
{
	for (uint64_t i = 0; i < count; i++)
		put_extent(f, list + 16 * i, (first + 2 * i) * PAGE, PAGE);
}

static void mapped_piece_by_piece(void **state)
{
	struct guestmem_share share = { .most = 20 };
	struct fixture *f = *state;
	struct guestmem_view v, other;

	small_ram(f);
	f->m.share = &share;
	scattered(f, LIST, 1000, 16);
	scattered(f, LIST + PAGE, 2000, 8);
	put(f, 1030 * PAGE, 9);
	assert_int_equal(guestmem_view(&f->m, LIST, 16, 16 * PAGE, &v), 0);
	assert_int_equal(guestmem_map(&f->m, &v, 15), 1);
	assert_int_equal(guestmem_map(&f->m, &v, 1), 0);
	assert_int_equal(*(uint64_t *)(void *)(v.base + 15 * PAGE), 9);
	/* more than its share: also while the first is going */
	assert_int_equal(guestmem_view(&f->m, LIST + PAGE, 8, 8 * PAGE, &other), -ENOSPC);
	guestmem_unview(&f->m, &v);
	assert_true(guestmem_bury(15));
	assert_int_equal(guestmem_view(&f->m, LIST + PAGE, 8, 8 * PAGE, &other), -ENOSPC);
	assert_false(guestmem_bury(1));
	assert_int_equal(share.used, 0);
	assert_int_equal(view(f, LIST + PAGE, 8, 8 * PAGE, &other), 0);
	guestmem_unview(&f->m, &other);
	assert_false(guestmem_bury(8));
	assert_int_equal(share.used, 0);
}

static void share_of_each_guest(void **state)
{
	(void)state;
	assert_true(guestmem_mappings(0) >= guestmem_mappings(1));
	assert_int_equal(guestmem_mappings(1) / 4, guestmem_mappings(4));
	assert_true(guestmem_ram_most(1) == 4 * guestmem_ram_most(4));
	assert_true(guestmem_ram_most(0) == guestmem_ram_most(1));
}

/* Nothing of it can be trusted to be in place: no piece is read at a wrong one. */
static void unknown_above_the_hole(void **state)
{
	struct fixture *f = *state;
	struct guestmem_view v;

	ram(f, 6 * GIB);
	put(f, PAGE, COOKIE);
	assert_int_equal(guestmem_find(&f->m, PAGE, COOKIE, 0), 0);
	assert_null(guestmem_at(&f->m, ABOVE, PAGE));
	put_extent(f, LIST, ABOVE + PAGE, PAGE);
	assert_int_equal(guestmem_view(&f->m, LIST, 1, PAGE, &v), -ENXIO);
	put_extent(f, LIST, 3 * GIB, PAGE);
	assert_int_equal(view(f, LIST, 1, PAGE, &v), 0);
	guestmem_unview(&f->m, &v);
}

static void channel_above_the_hole(void **state)
{
	struct fixture *f = *state;
	struct guestmem_view v;

	ram(f, 6 * GIB);
	put(f, 2 * GIB + 7 * PAGE, COOKIE);
	assert_int_equal(guestmem_find(&f->m, ABOVE + 7 * PAGE, COOKIE, 0), 0);
	put_extent(f, 2 * GIB + 8 * PAGE, 2 * GIB - PAGE, PAGE);
	put_extent(f, 2 * GIB + 8 * PAGE + 16, ABOVE + 4 * GIB - PAGE, PAGE);
	put(f, 2 * GIB - PAGE, 1);
	put(f, 6 * GIB - PAGE, 2);
	assert_int_equal(view(f, ABOVE + 8 * PAGE, 2, 2 * PAGE, &v), 0);
	assert_int_equal(*(uint64_t *)(void *)v.base, 1);
	assert_int_equal(*(uint64_t *)(void *)(v.base + PAGE), 2);
	guestmem_unview(&f->m, &v);
}

/* No file is without a page of zeros. */
static void cookie_of_zeros(void **state)
{
	struct fixture *f = *state;

	ram(f, 64 << 20);
	assert_int_equal(guestmem_find(&f->m, 5 * PAGE, 0, 0), -ENOENT);
}

#define HUGE_PAGE (2ull << 20) /* of x86-64 */

/* Pieces as large as its pages can be mapped, others are refused. */
static void ram_of_huge_pages(void **state)
{
	struct fixture *f = *state;
	struct guestmem_view v;
	const char *why;
	uint64_t *word;

	f->fd = memfd_create("ram", MFD_CLOEXEC | MFD_HUGETLB);
	if (f->fd < 0 || ftruncate(f->fd, 4 * HUGE_PAGE) ||
	    mmap(NULL, 4 * HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0) == MAP_FAILED)
		skip(); /* vm.nr_hugepages is 0 */
	snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->fd);
	assert_int_equal(guestmem_open(&f->m, f->path, &why), 0);
	word = (uint64_t *)(void *)f->m.base;
	word[0] = COOKIE;
	assert_int_equal(guestmem_find(&f->m, 0, COOKIE, 0), 0);
	word[512] = HUGE_PAGE;
	word[513] = PAGE;
	assert_int_equal(guestmem_view(&f->m, PAGE, 1, PAGE, &v), -EOPNOTSUPP);
	word[512] = 2 * HUGE_PAGE;
	word[513] = HUGE_PAGE;
	word[514] = HUGE_PAGE;
	word[515] = HUGE_PAGE;
	assert_int_equal(view(f, PAGE, 2, 2 * HUGE_PAGE, &v), 0);
	f->m.base[HUGE_PAGE] = 3;
	assert_int_equal(v.base[HUGE_PAGE], 3);
	guestmem_unview(&f->m, &v);
	assert_false(guestmem_bury(2));
}

/* --- translation ------------------------------------------------------- */

static void walk_of_four_levels(void **state)
{
	struct fixture *f = *state;
	const uint64_t va = 0x7f1234567123ull;
	uint64_t table = 30 * PAGE, len = 0;

	small_ram(f);
	for (int level = 3; level > 0; level--, table += PAGE)
		put(f, table + 8 * (va >> (12 + 9 * level) & 511), (table + PAGE) | 1);
	put(f, table + 8 * (va >> 12 & 511), 77 * PAGE | CANAL_HYBRID_VALID);
	assert_ptr_equal(guestmem_walk(&f->m, 30 * PAGE, va, false, &len),
			 f->m.base + 77 * PAGE + 0x123);
	assert_int_equal(len, PAGE - 0x123);
	assert_null(guestmem_walk(&f->m, 30 * PAGE, va, true, &len));
	assert_null(guestmem_walk(&f->m, 30 * PAGE, va + PAGE, false, &len));
	assert_null(guestmem_walk(&f->m, 30 * PAGE, va | 1ull << 48, false, &len));
	assert_null(guestmem_walk(&f->m, 0, va, false, &len));
	/* a page, and a table, outside of the RAM */
	put(f, table + 8 * (va >> 12 & 511), 64 << 20 | CANAL_HYBRID_VALID);
	assert_null(guestmem_walk(&f->m, 30 * PAGE, va, false, &len));
	put(f, 30 * PAGE + 8 * (va >> 39 & 511), 1ull << 40 | 1);
	assert_null(guestmem_walk(&f->m, 30 * PAGE, va, false, &len));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(file_that_is_too_short),   TEST(file_that_is_none),
		TEST(file_that_is_cut_short),   TEST(cookie_in_small_memory),
		TEST(cookie_above_the_hole),    TEST(cookie_below_the_hole),
		TEST(ranges_that_wrap_around),  TEST(view_of_two_extents),
		TEST(extents_that_are_refused), TEST(extents_that_overlap),
		TEST(list_of_two_pages),        TEST(walk_of_four_levels),
		TEST(mapped_piece_by_piece),    TEST(share_of_each_guest),
		TEST(unknown_above_the_hole),   TEST(channel_above_the_hole),
		TEST(cookie_of_zeros),          TEST(ram_of_huge_pages),
		TEST(file_that_is_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
