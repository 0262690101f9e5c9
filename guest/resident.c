/* SPDX-License-Identifier: MIT */
/*
 * mlockall() of all but the region.
 *
 * Purpose: a program that wants its memory resident would have all 556 MB of the region
 * made and locked, of which it uses little, and which stands for memory of the kernel's that
 * mlockall() does not mean. No mapping can be left out of that call. So everything is locked
 * without being made, the region is let go, and then each other mapping is made.
 *
 * Ownership and threads: any thread. What another one maps meanwhile is locked if it asked
 * for MCL_FUTURE, as natively.
 *
 * Failure: what the kernel says of the whole; without /proc the region is locked, too. A
 * mapping that cannot be made (no access) is passed over, as the kernel does.
 */
#include "resident.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "guest.h"
#include "sys.h"

/* A line of /proc/self/maps is read up to its second address. */
struct reader {
	int fd;
	long len, at;
	char text[1024];
};

static int next_char(struct reader *r)
{
	if (r->at == r->len) {
		r->at = 0;
		r->len = sys_call4(SYS_read, r->fd, r->text, sizeof(r->text), 0);
		if (r->len <= 0) {
			r->len = 0;
			return -1;
		}
	}
	return (unsigned char)r->text[r->at++];
}

/* What stands behind the number, or -1 at the end. */
static int read_number(struct reader *r, uintptr_t *ret)
{
	int c;

	*ret = 0;
	while ((c = next_char(r)) >= 0) {
		if (c >= '0' && c <= '9')
			*ret = *ret << 4 | (uintptr_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			*ret = *ret << 4 | (uintptr_t)(c - 'a' + 10);
		else
			break;
	}
	return c;
}

static bool next_mapping(struct reader *r, uintptr_t *ret_from, uintptr_t *ret_to)
{
	int c = read_number(r, ret_from);

	if (c >= 0)
		c = read_number(r, ret_to);
	while (c >= 0 && c != '\n')
		c = next_char(r);
	return c >= 0;
}

static void make_others(struct reader *r, uintptr_t region, uintptr_t region_end)
{
	uintptr_t from, to;

	while (next_mapping(r, &from, &to))
		if (to <= region || from >= region_end)
			(void)sys_call2(SYS_mlock, from, to - from);
}

int resident_all(int flags)
{
	uintptr_t region = (uintptr_t)the_channel.region;
	struct reader r = { .fd = -1 };
	uint64_t len;
	long err;

	if (!region || !(flags & MCL_CURRENT))
		return (int)sys_call2(SYS_mlockall, flags, 0);
	r.fd = (int)sys_call4(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	if (r.fd < 0)
		return (int)sys_call2(SYS_mlockall, flags, 0);
	len = the_channel.region->region_len;
	err = sys_call2(SYS_mlockall, flags | MCL_ONFAULT, 0);
	if (!err) {
		(void)sys_call2(SYS_munlock, region, len);
		if (!(flags & MCL_ONFAULT)) {
			if (flags & MCL_FUTURE)
				(void)sys_call2(SYS_mlockall, MCL_FUTURE, 0);
			make_others(&r, region, region + len);
		}
	}
	sys_close(r.fd);
	return (int)err;
}
