/* SPDX-License-Identifier: MIT */
/*
 * RLIMIT_AS without libcanal's own mappings.
 *
 * Purpose: a channel's region is more address space than many programs allow
 * themselves or their children (dovecot: 256 MB each), and most of it is never
 * touched. So the kernel's limit is what a program asks for and room for a region,
 * and a program that looks sees what was asked for, also behind an exec.
 *
 * Invariants
 *  1. The kernel counts pages. The low bits of a limit that was raised here are a
 *     mark, by which the next program knows it.
 *  2. Nobody gets more rights than he has: a hard limit that was set before libcanal
 *     came stays as it is, and what is asked for is cut to it.
 *
 * Ownership and threads: any thread; no lock. Of two that set the limit at once one
 * may see it back rounded down to a page.
 * Failure: what the kernel says.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "limit_as.h"
#include "sys.h"

#define PAGE_BITS 12
#define PAGE_MASK ((1ull << PAGE_BITS) - 1)
#define MARK 0xca5ull
/* A region of the usual shape (556 MB), and what sets and descriptors need beside it. */
#define ROOM (576ull << 20)

/* The last limit that this process set: in the kernel, and to the byte. */
static struct rlimit last_kernel, last_program;

static rlim_t raised(rlim_t value)
{
	if (value >= RLIM_INFINITY - ROOM)
		return value;
	return ((value & ~PAGE_MASK) + ROOM) | MARK;
}

static rlim_t lowered(rlim_t value)
{
	bool marked = value != RLIM_INFINITY && (value & PAGE_MASK) == MARK && value > ROOM;

	return marked ? (value & ~PAGE_MASK) - ROOM : value;
}

static struct rlimit to_kernel(const struct rlimit *program)
{
	return (struct rlimit){ raised(program->rlim_cur), raised(program->rlim_max) };
}

static struct rlimit to_program(const struct rlimit *kernel)
{
	const struct rlimit *last = &last_kernel;

	return (struct rlimit){
		kernel->rlim_cur == last->rlim_cur ? last_program.rlim_cur
						   : lowered(kernel->rlim_cur),
		kernel->rlim_max == last->rlim_max ? last_program.rlim_max
						   : lowered(kernel->rlim_max),
	};
}

static int ask(const struct rlimit *to, struct rlimit *old)
{
	return (int)sys_call4(SYS_prlimit64, 0, RLIMIT_AS, to, old);
}

static rlim_t lesser(rlim_t a, rlim_t b)
{
	return a < b ? a : b;
}

/* Below a hard limit that was not raised there may be no room, and no right to make it. */
static int set(const struct rlimit *to, const struct rlimit *now)
{
	struct rlimit kernel = to_kernel(to);
	int err;

	if (to->rlim_cur > to->rlim_max)
		return -EINVAL;
	err = ask(&kernel, NULL);
	if (err == -EPERM && to->rlim_max <= now->rlim_max) {
		kernel.rlim_max = lesser(kernel.rlim_max, now->rlim_max);
		kernel.rlim_cur = lesser(kernel.rlim_cur, kernel.rlim_max);
		err = ask(&kernel, NULL);
	}
	if (!err) {
		last_kernel = kernel;
		last_program = *to;
	}
	return err;
}

int limit_as(const struct rlimit *to, struct rlimit *old)
{
	struct rlimit kernel, program;
	int err = ask(NULL, &kernel);

	if (err)
		return err;
	program = to_program(&kernel);
	if (to)
		err = set(to, &kernel);
	if (!err && old)
		*old = program;
	return err;
}
