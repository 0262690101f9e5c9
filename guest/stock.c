/* SPDX-License-Identifier: MIT */
/*
 * Near ends of dummies to come (docs/wire.md, section 1).
 *
 * Purpose: canald makes the socket pairs whose near ends become the program's
 * descriptors, so that the far ends are its own. To ask for each would cost a
 * round trip, so a process keeps a few, and asks for twice as many each time.
 *
 * Invariants
 *  1. What is kept lies among the library's own descriptors; what is taken is
 *     copied to the lowest free number, as socket() would give it.
 *  2. A near end is one process's: a forked child closes those that its parent
 *     keeps, or their far ends would not hang up with the parent's sockets.
 *  3. The answers to STOCK and KERNEL are the only packets that come from canald,
 *     and are received by who asked, under the lock.
 *
 * Ownership and threads: private to the process, under stock_lock.
 * Failure: -EMFILE when the program's descriptors are used up; -EAGAIN when canald
 * gives none: then the caller makes a pair itself.
 */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "lock.h"
#include "stock.h"
#include "sys.h"

/* A program that may have fewer descriptors than this keeps none for later. */
#define PLENTY 256
#define MAX_ERRNO 4095u

static uint32_t stock_lock;
static struct {
	uint32_t client; /* whose it is: differs after fork */
	uint32_t batch;  /* to be asked for next */
	uint64_t held;   /* slots, bits */
	uint64_t lost;   /* given by canald, but no descriptor came */
	int fd[CANAL_LOCAL_STOCK_SLOTS];
	bool off; /* an answer did not come in time: the next would be that */
} stock;

static void stock_empty(void)
{
	for (uint32_t i = 0; i < CANAL_LOCAL_STOCK_SLOTS; i++)
		if (stock.held >> i & 1)
			fd_close_own(stock.fd[i]);
	memset(&stock, 0, sizeof(stock));
}

void stock_after_fork(void)
{
	canal_write_once(&stock_lock, 0u);
	stock_empty();
}

static uint32_t most(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur < PLENTY ? 1 : CANAL_LOCAL_FDS;
}

/* Files what came under its slots. The first one that came is the caller's to use. */
static int keep(const struct canal_local *p, const int *fds, unsigned int count, uint32_t *ret_slot)
{
	unsigned int used = 0;
	int first = -1;

	for (uint32_t i = 0; i < CANAL_LOCAL_STOCK_SLOTS; i++) {
		if (!(p->token >> i & 1))
			continue;
		if (used == count) { /* our table is full */
			stock.lost |= 1ull << i;
			continue;
		}
		if (first < 0) {
			first = fds[used++];
			*ret_slot = i;
			continue;
		}
		stock.fd[i] = fd_move_high(fds[used++]);
		stock.held |= 1ull << i;
	}
	return first;
}

/* Asks canald; a near end at a low number, closed on exec, or -errno. */
static int refill(struct channel *ch, uint32_t *ret_slot)
{
	uint32_t wanted = stock.batch ? stock.batch : 1, limit = most();
	struct canal_local p = { .type = CANAL_LOCAL_STOCK, .token = stock.lost };
	int fds[CANAL_LOCAL_FDS], err, saved = errno;
	unsigned int count = 0;

	p.number = wanted < limit ? wanted : limit;
	stock.batch = p.number * 2;
	err = packet_send(ch->control_fd, &p, -1);
	if (!err)
		err = packet_receive(ch->control_fd, &p, fds, &count);
	if (err) {
		stock.off = true;
		if (err == -EPIPE || err == -ECONNRESET)
			canal_write_once(&ch->dead, true);
		return err == -ETIMEDOUT ? -EAGAIN : err;
	}
	stock.lost = 0;
	if (p.type != CANAL_LOCAL_STOCK || !p.number)
		return -EAGAIN;
	err = keep(&p, fds, count, ret_slot);
	errno = saved; /* of fd_move_high() */
	return err < 0 ? -EMFILE : err;
}

/* One that is kept, at the lowest free number. */
static int from_kept(uint32_t slot, int flags)
{
	int kept = stock.fd[slot];
	int fd = (int)sys_call4(SYS_fcntl, kept, flags & SOCK_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD,
				0, 0);

	if (fd < 0)
		return fd == -EINVAL ? -EMFILE : fd;
	stock.held &= ~(1ull << slot);
	fd_close_own(kept);
	return fd;
}

static int take(struct channel *ch, int flags, uint32_t *ret_slot)
{
	int fd;

	if (stock.client != ch->client) {
		stock_empty(); /* a raw fork, or as good as that */
		stock.client = ch->client;
	}
	if (stock.held) {
		*ret_slot = (uint32_t)__builtin_ctzll(stock.held);
		return from_kept(*ret_slot, flags);
	}
	if (stock.off)
		return -EAGAIN;
	fd = refill(ch, ret_slot);
	if (fd >= 0 && !(flags & SOCK_CLOEXEC))
		(void)sys_call4(SYS_fcntl, fd, F_SETFD, 0, 0);
	return fd;
}

int stock_take(struct channel *ch, int flags, struct dummy_ends *ret_ends)
{
	uint32_t slot = 0;
	int fd;

	if (!lock_enter(&stock_lock))
		return -EAGAIN;
	fd = take(ch, flags, &slot);
	lock_leave(&stock_lock);
	if (fd < 0)
		return fd;
	if (flags & SOCK_NONBLOCK)
		(void)sys_call4(SYS_fcntl, fd, F_SETFL, O_RDWR | O_NONBLOCK, 0);
	*ret_ends = (struct dummy_ends){
		.near = fd,
		.far = -1,
		.flags = flags,
		.stock = slot + 1,
	};
	return 0;
}

/* Under the lock. */
static int kernel_ask(struct channel *ch, struct canal_local *p)
{
	int fds[CANAL_LOCAL_FDS], err;
	unsigned int count = 0;

	if (stock.off)
		return -EOPNOTSUPP;
	err = packet_send(ch->control_fd, p, -1);
	if (!err)
		err = packet_receive(ch->control_fd, p, fds, &count);
	if (err) {
		stock.off = true;
		return err;
	}
	if (p->type != CANAL_LOCAL_KERNEL)
		return -EPROTO;
	if (p->number)
		return count ? fds[0] : -EMFILE;
	return p->extra && p->extra < MAX_ERRNO ? -(int)p->extra : -EPROTO;
}

int stock_kernel(struct channel *ch, uint32_t n, uint32_t generation)
{
	struct canal_local p = { .type = CANAL_LOCAL_KERNEL, .number = n, .extra = generation };
	int fd;

	if (!lock_enter(&stock_lock))
		return -EDEADLK;
	fd = kernel_ask(ch, &p);
	lock_leave(&stock_lock);
	return fd;
}

void stock_return(const struct dummy_ends *ends)
{
	if (!lock_enter(&stock_lock))
		return; /* canald keeps the far end until this process ends */
	stock.lost |= 1ull << (ends->stock - 1);
	lock_leave(&stock_lock);
}
