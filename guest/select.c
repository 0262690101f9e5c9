/* SPDX-License-Identifier: MIT */
/*
 * select and pselect over canal sockets, kernel descriptors and sets.
 *
 * Purpose: the three sets become one array of struct pollfd, in the order of the
 * descriptors, which is waited for as poll's is (ready.c); what is ready of it becomes
 * the sets again.
 *
 * Invariants
 *  1. The program's sets are written only when the call gives a number, not an error.
 *  2. A set has room for the descriptors below @n, which may be more, or fewer, than
 *     an fd_set's.
 *
 * Ownership and threads: any thread; nothing here outlives a call.
 *
 * Failure: as Linux. ENOMEM when there is no room for an array that the stack does not hold.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "deadline.h"
#include "ready.h"

#define WORD_BITS (8 * (int)sizeof(fd_mask))

/* Bits of descriptors @word * WORD_BITS and up; a set may be longer than fd_set. */
static unsigned long bits_of(const fd_set *set, int word)
{
	return set ? (unsigned long)((const fd_mask *)(const void *)set)[word] : 0;
}

/* All three sets' bits of one word, of the descriptors below @n. */
static unsigned long bits_below(int n, int word, const fd_set *rd, const fd_set *wr,
				const fd_set *ex)
{
	unsigned long bits = bits_of(rd, word) | bits_of(wr, word) | bits_of(ex, word);

	if (n - word * WORD_BITS < WORD_BITS)
		bits &= (1ul << (n - word * WORD_BITS)) - 1;
	return bits;
}

/* Fills @fds if it is given; returns how many there are. */
static uint32_t select_to_poll(int n, const fd_set *rd, const fd_set *wr, const fd_set *ex,
			       struct pollfd *fds)
{
	uint32_t count = 0;

	for (int word = 0; word * WORD_BITS < n; word++) {
		unsigned long bits = bits_below(n, word, rd, wr, ex);

		for (; bits; bits &= bits - 1, count++) {
			int bit = __builtin_ctzl(bits);
			short events = 0;

			if (!fds)
				continue;
			if (bits_of(rd, word) >> bit & 1)
				events |= POLLIN;
			if (bits_of(wr, word) >> bit & 1)
				events |= POLLOUT;
			if (bits_of(ex, word) >> bit & 1)
				events |= POLLPRI;
			fds[count] = (struct pollfd){ word * WORD_BITS + bit, events, 0 };
		}
	}
	return count;
}

/* Leaves in one set what is ready, returns how many. */
static int select_result(int n, fd_set *set, const struct ready_list *l, short asked, short mask)
{
	int ready = 0;

	if (!set)
		return 0;
	memset(set, 0, (size_t)((n + WORD_BITS - 1) / WORD_BITS) * sizeof(fd_mask));
	for (uint32_t i = 0; i < l->count; i++) {
		const struct pollfd *p = &l->fds[i];
		unsigned long *words = (unsigned long *)(void *)set;

		if (!(p->events & asked) || !(p->revents & mask))
			continue;
		words[p->fd / WORD_BITS] |= 1ul << (p->fd % WORD_BITS);
		ready++;
	}
	return ready;
}

static int select_run(int n, fd_set *rd, fd_set *wr, fd_set *ex, struct ready_list *l,
		      const struct timespec *timeout, const sigset_t *mask)
{
	int ready;

	(void)select_to_poll(n, rd, wr, ex, l->fds);
	ready = look_plainly(l->fds, l->count, true);
	if (!ready)
		ready = ready_wait(l, true, timeout, mask);
	if (ready < 0)
		return ready;
	return select_result(n, rd, l, POLLIN, SELECT_RD) +
	       select_result(n, wr, l, POLLOUT, SELECT_WR) +
	       select_result(n, ex, l, POLLPRI, SELECT_EX);
}

static int select_in_room(int n, fd_set *rd, fd_set *wr, fd_set *ex, const struct timespec *timeout,
			  const sigset_t *mask)
{
	struct ready_list l = { .count = select_to_poll(n, rd, wr, ex, NULL) };
	size_t len = l.count * sizeof(struct pollfd);
	struct pollfd few[READY_FEW];
	int ready;

	l.fds = few;
	if (l.count > READY_FEW) {
		void *pages =
			mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (pages == MAP_FAILED)
			return -ENOMEM;
		l.fds = pages;
	}
	ready = select_run(n, rd, wr, ex, &l, timeout, mask);
	if (l.fds != few)
		munmap(l.fds, len);
	return ready;
}

/* Descriptors beyond the limit cannot be open; the kernel does not look at them. */
static int select_clamp(int n)
{
	struct rlimit limit;

	if (n <= FD_SETSIZE || getrlimit(RLIMIT_NOFILE, &limit) < 0 || (rlim_t)n <= limit.rlim_cur)
		return n;
	return (int)limit.rlim_cur;
}

int ready_select(int n, fd_set *rd, fd_set *wr, fd_set *ex, const struct timespec *timeout,
		 const sigset_t *mask, struct timespec *ret_left)
{
	int64_t deadline;
	int ready;

	if (n < 0 || !timeout_is_valid(timeout))
		return -EINVAL;
	deadline = deadline_of(timeout);
	ready = select_in_room(select_clamp(n), rd, wr, ex, timeout, mask);
	if (ret_left && deadline != WAIT_FOREVER)
		(void)time_left(deadline, ret_left);
	else if (ret_left && timeout)
		*ret_left = *timeout;
	return ready;
}

bool ready_select_ours(int n, const fd_set *rd, const fd_set *wr, const fd_set *ex)
{
	for (int word = 0; word * WORD_BITS < n; word++) {
		unsigned long bits = bits_below(n, word, rd, wr, ex);

		for (; bits; bits &= bits - 1) {
			int fd = word * WORD_BITS + __builtin_ctzl(bits);

			if (fd_sock(fd) || epoll_watched(fd))
				return true;
		}
	}
	return false;
}
