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
 *  6. A guest has at most its share of mappings (the kernel has vm.max_map_count of
 *     them for all of canald), and a pass makes and undoes only so many: a view is
 *     mapped piece by piece, and what was unmapped waits in `graves`.
 *
 * Ownership and threads: the poller of that guest.
 * Failure: -errno; what was mapped or marked until then is undone.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
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
/* For the RAM of all guests: half of what a process of x86-64 or arm64 has. */
#define ADDRESSES (64 * 1024 * GIB)
/* Linux' own default of vm.max_map_count. */
#define MAPPINGS 65530ul
#define MAPPINGS_FILE "/proc/sys/vm/max_map_count"

/* --- memory that may vanish --------------------------------------------- */

/* A fault comes on the thread that mapped the memory. */
static __thread struct guestmem_range *ranges;

/* All of it, so that there are fewer mappings afterwards, and one signal. */
static void vanished(int signal_number, siginfo_t *info, void *context)
{
	const uint8_t *at = info->si_addr;

	(void)context;
	for (struct guestmem_range *r = ranges; r; r = r->next) {
		if (at < r->base || (uint64_t)(at - r->base) >= r->len)
			continue;
		if (mmap(r->base, r->len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
			 0) == MAP_FAILED)
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

/* Where a page fault waits for another program, or another machine. */
static bool is_slow(const struct statfs *fs)
{
	static const uint32_t slow[] = { FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC,  SMB_SUPER_MAGIC,
					 CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC, V9FS_MAGIC,
					 CEPH_SUPER_MAGIC, AFS_SUPER_MAGIC,  CODA_SUPER_MAGIC };

	for (size_t i = 0; i < sizeof(slow) / sizeof(slow[0]); i++)
		if ((uint32_t)fs->f_type == slow[i])
			return true;
	return false;
}

static int file_check(struct guestmem *m, const char **ret_why)
{
	struct statfs fs;
	struct stat st;

	if (fstat(m->fd, &st) || fstatfs(m->fd, &fs))
		return -errno;
	*ret_why = "it is not a file";
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*ret_why = "its file system may keep canald waiting: expected /dev/shm, hugetlbfs or a "
		   "local disk";
	if (is_slow(&fs))
		return -EINVAL;
	m->page = fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize : PAGE;
	*ret_why = "it is too short to be a guest's RAM";
	if ((uint64_t)st.st_size < m->page)
		return -EINVAL;
	*ret_why = "it is longer than canald has addresses for: a machine has its share of 64 TiB";
	if (m->share && m->share->ram_most && (uint64_t)st.st_size > m->share->ram_most)
		return -EFBIG;
	m->len = (uint64_t)st.st_size & ~(m->page - 1);
	m->dev = st.st_dev;
	m->ino = st.st_ino;
	*ret_why = NULL;
	return 0;
}

/* Nothing of it but the share, which outlives the file. */
static void forget(struct guestmem *m)
{
	struct guestmem_share *share = m->share;

	memset(m, 0, sizeof(*m));
	m->share = share;
	m->fd = -1;
}

/* NULL: the error says it. */
static const char *cannot_open(int error)
{
	switch (-error) {
	case ENOENT:
		return "there is no such file: expected the mem-path of QEMU";
	case EISDIR:
		return "it is a directory: expected a file";
	case EACCES:
	case EPERM:
		return "canald's user may not read and write it: give it canald's group and mode "
		       "0660";
	default:
		return NULL;
	}
}

int guestmem_open(struct guestmem *m, const char *path, const char **ret_why)
{
	int r;

	forget(m);
	*ret_why = NULL;
	m->fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (m->fd < 0) {
		r = -errno;
		*ret_why = cannot_open(r);
		return r;
	}
	r = file_check(m, ret_why);
	if (!r) {
		m->used = calloc((m->len / PAGE + 63) / 64, sizeof(*m->used));
		m->base = mmap(NULL, m->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			       m->fd, 0);
		if (m->base == MAP_FAILED || !m->used)
			r = -ENOMEM;
	}
	if (m->base == MAP_FAILED)
		m->base = NULL;
	if (r) {
		guestmem_close(m);
		return r;
	}
	range_add(&m->range, m->base, m->len, &m->lost);
	/* a guest's memory is nothing for a core dump of canald */
	(void)madvise(m->base, m->len, MADV_DONTDUMP);
	return 0;
}

void guestmem_close(struct guestmem *m)
{
	range_del(&m->range);
	if (m->base)
		munmap(m->base, m->len);
	if (m->fd >= 0)
		close(m->fd);
	free(m->used);
	forget(m);
}

uint32_t guestmem_mappings(uint32_t machines)
{
	unsigned long most = MAPPINGS;
	FILE *f = fopen(MAPPINGS_FILE, "re");

	if (!f || fscanf(f, "%lu", &most) != 1)
		most = MAPPINGS;
	if (f)
		fclose(f);
	/* the other half is for all else that canald maps */
	most = most / 2 / (machines ? machines : 1);
	return most < CANAL_MAIL_CHANNELS * CANAL_MAIL_EXTENTS
		       ? (uint32_t)most
		       : CANAL_MAIL_CHANNELS * CANAL_MAIL_EXTENTS;
}

/* A file of holes costs its QEMU nothing, and canald the addresses that others need. */
uint64_t guestmem_ram_most(uint32_t machines)
{
	return ADDRESSES / (machines ? machines : 1);
}

/* --- ranges ------------------------------------------------------------ */

/* @address and @len in the file, where @low bytes of it lie below 4 GiB and @high,
 * which follow those, above. */
static bool offset_of(uint64_t low, uint64_t high, uint64_t address, uint64_t len,
		      uint64_t *ret_offset)
{
	uint64_t first = 0, room = low;

	if (address >= ABOVE) {
		address -= ABOVE;
		first = low;
		room = high;
	}
	if (len > room || address > room - len)
		return false;
	*ret_offset = first + address;
	return true;
}

static bool cookie_at(const struct guestmem *m, uint64_t low, uint64_t address, uint64_t cookie)
{
	uint64_t offset;

	return low <= m->len && offset_of(low, m->len - low, address, PAGE, &offset) &&
	       canal_read_once((uint64_t *)(void *)(m->base + offset)) == cookie;
}

/*
 * What QEMU's machines have below 4 GiB: all of it, when that is not much, or one of
 * these. A cookie above the hole shows which; with one below, what the driver says is
 * believed: a lie leads to other pages of the guest's own RAM.
 */
int guestmem_find(struct guestmem *m, uint64_t address, uint64_t cookie, uint32_t low_pages)
{
	const uint64_t all = m->len < ABOVE ? m->len : ABOVE;
	const uint64_t lows[] = { 2 * GIB, 3 * GIB, 3 * GIB + GIB / 2 };
	const uint64_t least = address < ABOVE ? low_pages * PAGE : 0;

	/* no page of zeros is a cookie: it would be in any file */
	if (address % PAGE || !cookie)
		return -ENOENT;
	for (size_t i = 0; i < sizeof(lows) / sizeof(lows[0]); i++) {
		if ((address < ABOVE && !least) || lows[i] < least || lows[i] >= m->len ||
		    !cookie_at(m, lows[i], address, cookie))
			continue;
		m->low = lows[i];
		m->high = m->len - lows[i];
		return 0;
	}
	if (address >= ABOVE || !cookie_at(m, all, address, cookie))
		return -ENOENT;
	m->low = all;
	m->high = 0;
	return 0;
}

void *guestmem_at(const struct guestmem *m, uint64_t address, uint64_t len)
{
	uint64_t offset;

	return offset_of(m->low, m->high, address, len, &offset) ? m->base + offset : NULL;
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

	if (e->address >= ABOVE && !m->high && m->len > 2 * GIB)
		return -ENXIO;
	if (!e->len || e->len % PAGE || e->address % PAGE || e->len > v->len - done ||
	    !offset_of(m->low, m->high, e->address, e->len, &offset))
		return -EINVAL;
	if ((offset | e->len) % m->page)
		return -EOPNOTSUPP;
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

/* Room for the extents, at an address that fits their pages. */
static int view_reserve(const struct guestmem *m, struct guestmem_view *v)
{
	const uint64_t more = m->page > PAGE ? m->page : 0;
	uint8_t *at = mmap(NULL, v->len + more, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t before = more ? (m->page - (uintptr_t)at % m->page) % m->page : 0;

	if (at == MAP_FAILED)
		return -errno;
	if (before)
		munmap(at, before);
	if (more > before)
		munmap(at + before + v->len, more - before);
	v->base = at + before;
	return 0;
}

static bool share_take(struct guestmem *m, uint32_t count)
{
	if (!m->share)
		return true;
	if (count > m->share->most - m->share->used)
		return false;
	m->share->used += count;
	return true;
}

int guestmem_view(struct guestmem *m, uint64_t list, uint32_t count, uint64_t len,
		  struct guestmem_view *ret_view)
{
	struct guestmem_view v = { .len = len };
	int r;

	if (!count || count > CANAL_MAIL_EXTENTS)
		return -E2BIG;
	if (!share_take(m, count))
		return -ENOSPC;
	v.share = m->share;
	v.shared = count;
	v.extent = calloc(count, sizeof(*v.extent));
	r = v.extent ? extents_take(m, list, count, &v) : -ENOMEM;
	if (!r)
		r = view_reserve(m, &v);
	if (r) {
		guestmem_unview(m, &v);
		return r;
	}
	*ret_view = v;
	range_add(&ret_view->range, v.base, v.len, &m->lost);
	return 0;
}

int guestmem_map(const struct guestmem *m, struct guestmem_view *v, uint32_t budget)
{
	for (; v->mapped < v->count && budget; v->mapped++, budget--) {
		uint64_t len = v->extent[v->mapped].len;

		if (mmap(v->base + v->mapped_len, len, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, m->fd,
			 (off_t)v->extent[v->mapped].offset) == MAP_FAILED)
			return -errno;
		v->mapped_len += len;
	}
	return v->mapped < v->count;
}

/* --- what is not a channel's any more ----------------------------------- */

/* Nobody uses it; its mappings go some in each pass. Of this thread. */
static __thread struct guestmem_view *graves;

bool guestmem_bury(uint32_t budget)
{
	while (graves && budget) {
		struct guestmem_view *v = graves;
		uint64_t len = v->len;

		budget--;
		if (v->count > 1) { /* from the end on: all but the first are by themselves */
			len = v->extent[--v->count].len;
			v->len -= len;
			munmap(v->base + v->len, len);
			continue;
		}
		munmap(v->base, len);
		if (v->share)
			v->share->used -= v->shared;
		graves = v->grave;
		free(v->extent);
		free(v);
	}
	return graves;
}

/* At once, where there is no memory to remember it in. */
static void grave_dig(struct guestmem_view *v)
{
	struct guestmem_view *grave = v->base && v->count > 1 ? malloc(sizeof(*grave)) : NULL;

	if (!grave) {
		if (v->base)
			munmap(v->base, v->len);
		if (v->share)
			v->share->used -= v->shared;
		free(v->extent);
		return;
	}
	*grave = *v;
	grave->grave = graves;
	graves = grave;
}

void guestmem_unview(struct guestmem *m, struct guestmem_view *v)
{
	range_del(&v->range);
	for (uint32_t i = 0; i < v->count; i++)
		pages_mark(m, v->extent[i].offset, v->extent[i].len, false);
	grave_dig(v);
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
