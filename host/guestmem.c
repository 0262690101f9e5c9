/* SPDX-License-Identifier: MIT */
/*
 * The RAM of a virtual machine, as canald sees it.
 *
 * Purpose: QEMU keeps the guest's RAM in a file, and canald maps it. A guest names
 * pages by guest-physical address: below 4 GiB that is the offset in the file; what
 * does not fit below the hole for devices continues at 4 GiB. Where the hole begins
 * is found by a cookie that the driver wrote.
 *
 *	guest-physical	0 ........ low          4 GiB ......... 4 GiB + len - low
 *	file		0 ........ low | low .................. len
 *
 * Invariants
 *  1. Every range that a guest names is compared by subtraction, so nothing wraps
 *     around, with the length that the file had when it was opened.
 *  2. A page is in at most one channel of the guest: `used` says which are taken.
 *  3. Lists and tables in the guest's RAM are read once, entry by entry, into a
 *     local that is checked; how many are read is bounded by constants.
 *  4. No translation outlives the pass that made it: guestmem_walk() keeps none.
 *  5. Where the file is cut short under canald, who reads there gets zeros, and
 *     `lost` says so: what is mapped is known to the handler of SIGBUS.
 *
 * Ownership and threads: the poller of that guest.
 * Failure: -errno; what was mapped or marked until then is undone.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "vm.h"

#define PAGE 4096ull
#define GIB (1ull << 30)
#define ABOVE (4 * GIB)

/* --- memory that may vanish --------------------------------------------- */

/* A fault comes on the thread that mapped the memory. */
static __thread struct guestmem_range *ranges;

static void vanished(int signal_number, siginfo_t *info, void *context)
{
	uint8_t *at = (uint8_t *)((uintptr_t)info->si_addr & ~(uintptr_t)(PAGE - 1));

	(void)context;
	for (struct guestmem_range *r = ranges; r; r = r->next) {
		if (at < r->base || (uint64_t)(at - r->base) >= r->len)
			continue;
		if (mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			 -1, 0) == MAP_FAILED)
			break;
		*r->lost = true;
		return;
	}
	signal(signal_number, SIG_DFL); /* not ours: it comes again, and ends canald */
}

static void range_add(struct guestmem_range *r, uint8_t *base, uint64_t len, bool *lost)
{
	static bool handled;
	const struct sigaction act = { .sa_sigaction = vanished, .sa_flags = SA_SIGINFO };

	if (!canal_xchg(&handled, true))
		sigaction(SIGBUS, &act, NULL);
	*r = (struct guestmem_range){ ranges, base, len, lost };
	ranges = r;
}

static void range_del(struct guestmem_range *r)
{
	for (struct guestmem_range **at = &ranges; *at; at = &(*at)->next) {
		if (*at == r) {
			*at = r->next;
			return;
		}
	}
}

/* --- the file ---------------------------------------------------------- */

static int file_check(int fd, uint64_t *ret_len, const char **ret_why)
{
	struct statfs fs;
	struct stat st;

	if (fstat(fd, &st) || fstatfs(fd, &fs))
		return -errno;
	*ret_why = "it is not a file";
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*ret_why = "it lies on hugetlbfs, whose pages are too large to build channels of";
	if (fs.f_type == HUGETLBFS_MAGIC)
		return -EINVAL;
	*ret_why = "it is too short to be a guest's RAM";
	if ((uint64_t)st.st_size < PAGE)
		return -EINVAL;
	*ret_len = (uint64_t)st.st_size & ~(PAGE - 1);
	*ret_why = NULL;
	return 0;
}

int guestmem_open(struct guestmem *m, const char *path, const char **ret_why)
{
	int r;

	memset(m, 0, sizeof(*m));
	*ret_why = NULL;
	m->fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (m->fd < 0)
		return -errno;
	r = file_check(m->fd, &m->len, ret_why);
	if (!r) {
		m->used = calloc((m->len / PAGE + 63) / 64, sizeof(*m->used));
		m->base = mmap(NULL, m->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			       m->fd, 0);
		if (m->base == MAP_FAILED || !m->used)
			r = -ENOMEM;
	}
	if (m->base == MAP_FAILED)
		m->base = NULL;
	if (r)
		guestmem_close(m);
	else
		range_add(&m->range, m->base, m->len, &m->lost);
	return r;
}

void guestmem_close(struct guestmem *m)
{
	range_del(&m->range);
	if (m->base)
		munmap(m->base, m->len);
	if (m->fd >= 0)
		close(m->fd);
	free(m->used);
	memset(m, 0, sizeof(*m));
	m->fd = -1;
}

/* --- ranges ------------------------------------------------------------ */

/* @address and @len in the file, where @low bytes of it lie below 4 GiB. */
static bool offset_of(const struct guestmem *m, uint64_t low, uint64_t address, uint64_t len,
		      uint64_t *ret_offset)
{
	uint64_t first = 0, room = low;

	if (address >= ABOVE) {
		address -= ABOVE;
		first = low;
		room = m->len - low;
	}
	if (len > room || address > room - len)
		return false;
	*ret_offset = first + address;
	return true;
}

static bool cookie_at(const struct guestmem *m, uint64_t low, uint64_t address, uint64_t cookie)
{
	uint64_t offset;

	return low <= m->len && offset_of(m, low, address, PAGE, &offset) &&
	       canal_read_once((uint64_t *)(void *)(m->base + offset)) == cookie;
}

/*
 * What QEMU's machines have below 4 GiB: all of it, when that is not much, or one of
 * these. A cookie below the hole says nothing about where that is: then nothing above
 * 4 GiB is believed to be RAM.
 */
int guestmem_find(struct guestmem *m, uint64_t address, uint64_t cookie)
{
	const uint64_t all = m->len < ABOVE ? m->len : ABOVE;
	const uint64_t lows[] = { 2 * GIB, 3 * GIB, 3 * GIB + GIB / 2 };

	if (address % PAGE)
		return -ENOENT;
	if (address < ABOVE) {
		if (!cookie_at(m, all, address, cookie))
			return -ENOENT;
		m->low = all;
		return 0;
	}
	for (size_t i = 0; i < sizeof(lows) / sizeof(lows[0]); i++) {
		if (cookie_at(m, lows[i], address, cookie)) {
			m->low = lows[i];
			return 0;
		}
	}
	return -ENOENT;
}

void *guestmem_at(const struct guestmem *m, uint64_t address, uint64_t len)
{
	uint64_t offset;

	return offset_of(m, m->low, address, len, &offset) ? m->base + offset : NULL;
}

/* --- channels ---------------------------------------------------------- */

static bool page_used(const struct guestmem *m, uint64_t page)
{
	return m->used[page / 64] >> page % 64 & 1;
}

static void pages_mark(struct guestmem *m, uint64_t offset, uint64_t len, bool used)
{
	for (uint64_t page = offset / PAGE; len; page++, len -= PAGE) {
		if (used)
			m->used[page / 64] |= 1ull << page % 64;
		else
			m->used[page / 64] &= ~(1ull << page % 64);
	}
}

static int pages_take(struct guestmem *m, uint64_t offset, uint64_t len)
{
	for (uint64_t page = offset / PAGE, end = page + len / PAGE; page < end; page++)
		if (page_used(m, page))
			return -EEXIST;
	pages_mark(m, offset, len, true);
	return 0;
}

/* One entry of a list, and the page that holds it when that is the next one. */
static int extent_read(const struct guestmem *m, uint64_t *list, uint32_t i,
		       struct canal_extent *ret_extent)
{
	const struct canal_extent *page = guestmem_at(m, *list, PAGE);
	uint32_t at = i % CANAL_EXTENTS_PAGE;

	if (*list % PAGE || !page)
		return -EINVAL;
	if (i && !at) {
		*list = canal_read_once(&page[CANAL_EXTENTS_PAGE].address);
		page = guestmem_at(m, *list, PAGE);
		if (*list % PAGE || !page)
			return -EINVAL;
	}
	ret_extent->address = canal_read_once(&page[at].address);
	ret_extent->len = canal_read_once(&page[at].len);
	return 0;
}

/* Its pages are the view's from now on. */
static int extent_take(struct guestmem *m, struct guestmem_view *v, uint64_t done,
		       const struct canal_extent *e)
{
	uint64_t offset;
	int r;

	if (!e->len || e->len % PAGE || e->address % PAGE || e->len > v->len - done ||
	    !offset_of(m, m->low, e->address, e->len, &offset))
		return -EINVAL;
	r = pages_take(m, offset, e->len);
	if (r)
		return r;
	v->extent[v->count].offset = offset;
	v->extent[v->count++].len = e->len;
	return 0;
}

static int extents_take(struct guestmem *m, uint64_t list, uint32_t count, struct guestmem_view *v)
{
	uint64_t done = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct canal_extent e;
		int r = extent_read(m, &list, i, &e);

		if (!r)
			r = extent_take(m, v, done, &e);
		if (r)
			return r;
		done += e.len;
	}
	return done == v->len ? 0 : -EINVAL;
}

static int view_map(const struct guestmem *m, struct guestmem_view *v)
{
	uint64_t done = 0;

	v->base = mmap(NULL, v->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (v->base == MAP_FAILED) {
		v->base = NULL;
		return -errno;
	}
	for (uint32_t i = 0; i < v->count; i++) {
		if (mmap(v->base + done, v->extent[i].len, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, m->fd,
			 (off_t)v->extent[i].offset) == MAP_FAILED)
			return -errno;
		done += v->extent[i].len;
	}
	return 0;
}

int guestmem_view(struct guestmem *m, uint64_t list, uint32_t count, uint64_t len,
		  struct guestmem_view *ret_view)
{
	struct guestmem_view v = { .len = len };
	int r;

	if (!count || count > CANAL_MAIL_EXTENTS)
		return -E2BIG;
	v.extent = calloc(count, sizeof(*v.extent));
	if (!v.extent)
		return -ENOMEM;
	r = extents_take(m, list, count, &v);
	if (!r)
		r = view_map(m, &v);
	if (r) {
		guestmem_unview(m, &v);
		return r;
	}
	*ret_view = v;
	range_add(&ret_view->range, v.base, v.len, &m->lost);
	return 0;
}

void guestmem_unview(struct guestmem *m, struct guestmem_view *v)
{
	range_del(&v->range);
	if (v->base)
		munmap(v->base, v->len);
	for (uint32_t i = 0; i < v->count; i++)
		pages_mark(m, v->extent[i].offset, v->extent[i].len, false);
	free(v->extent);
	memset(v, 0, sizeof(*v));
}

/* --- translation ------------------------------------------------------- */

#define LEVEL_BITS 9

void *guestmem_walk(const struct guestmem *m, uint64_t root, uint64_t address, bool write,
		    uint64_t *ret_len)
{
	const uint64_t wanted = CANAL_HYBRID_VALID | (write ? CANAL_HYBRID_WRITE : 0);
	uint64_t entry = root;
	uint8_t *page;

	if (address >> (12 + CANAL_HYBRID_LEVELS * LEVEL_BITS))
		return NULL;
	for (int level = CANAL_HYBRID_LEVELS - 1; level >= 0; level--) {
		const uint64_t *table = guestmem_at(m, entry & CANAL_HYBRID_ADDRESS, PAGE);

		if (!entry || !table)
			return NULL;
		/* T1 store-load: `passes` (or host_asleep = 0) before this look; pairs with
		 * the driver, which takes an entry out and then looks at those */
		entry = canal_read_once(&table[address >> (12 + level * LEVEL_BITS) & 511]);
	}
	if ((entry & wanted) != wanted)
		return NULL;
	page = guestmem_at(m, entry & CANAL_HYBRID_ADDRESS, PAGE);
	if (!page)
		return NULL;
	*ret_len = PAGE - address % PAGE;
	return page + address % PAGE;
}
