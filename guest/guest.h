/* SPDX-License-Identifier: MIT */
/*
 * What the files of libcanal know of each other.
 *
 * Purpose: the library is a thin layer of exported symbols (intercept.c, which
 * alone sets errno) over functions that return 0 or more, or -errno:
 *
 *	intercept.c	exported symbols, dispatch by descriptor
 *	fdtable.c	descriptor -> socket, epoll set, or nothing of ours
 *	init.c		first use, environment, the real functions of libc
 *	channel.c	the mapped region, INRs, calls
 *	transport.h	what differs by transport: attach_local.c canald's UNIX
 *			socket, attach_vm.c /dev/canal of a virtual machine
 *	region.c	the mapped region's tables
 *	wait.c		wait slots: looking, sleeping, signals, time limits
 *	trim.c		chunks that nobody needs; lock.c locks, and dead holders
 *	stream.c, dgram.c	moving bytes; data.c what they share
 *	socket.c	socket, bind, listen, accept, shutdown, names; connect.c
 *	errqueue.c	MSG_ERRQUEUE
 *	hybrid.c	moving them by reference, in a virtual machine
 *	twin.c		loopback of a virtual machine, which is the guest's own
 *	async.c		SIGIO, SIGURG
 *	options.c	getsockopt, setsockopt, ioctl, fcntl
 *	ready.c		poll; select.c: select; epoll*.c: epoll, see epoll_set.h;
 *			events.c: what they see
 *	inward.c	programs that have both ends
 *	keep.c		close() while another thread waits; hold.c signals in mid-call
 *	process.c	fork, close, dup; handover.c sockets for code that we do not see
 *	interfaces.c	getifaddrs and SIOCGIF*, of a guest with addresses
 *	resolve*.c	names: resolve.h
 *	vsocket.c	AF_VSOCKET for programs that opt in by source
 *	log.c		messages; trace*.c the calls, for CANAL_LOG=debug
 *
 * Ownership and threads: everything in the region may be used by all threads of
 * all processes of the channel; what is declared here is private to a process.
 */
#ifndef CANAL_GUEST_H
#define CANAL_GUEST_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include "fifo.h"
#include "log.h"
#include "notify.h"
#include "order.h"
#include "pool.h"
#include "ring.h"
#include "transport.h"
#include "wire.h"

/* --- the channel ------------------------------------------------------- */

/* A mapped region as this process sees it. Filled once, then read only. */
struct channel {
	struct canal_region *region;
	struct canal_inr *inr;
	uint32_t inr_count;
	uint32_t *grant;
	uint32_t grant_count;
	struct canal_wait *wait;
	uint32_t wait_count;
	struct canal_call *call;
	struct canal_set *set;
	uint32_t set_count;
	struct canal_sub *sub;
	uint8_t *sock; /* stride sock_stride: use channel_sock() */
	uint32_t sock_count;
	uint32_t sock_stride;
	struct canal_arena tx, rx;
	struct canal_pool tx_pool, sub_pool;
	uint32_t client; /* our number; 0 in a child that has not joined */
	uint64_t id, token;
	const struct transport *via;
	int kick_fd, control_fd;
	size_t ref_min;    /* by reference from so many bytes on; SIZE_MAX: never */
	uint64_t ref_most; /* bytes in one transfer by reference */
	uint32_t uid, pid; /* who attached it */
	bool light;        /* the host's heavy fence covers us (S2) */
	bool dead;         /* canald is gone, or closed the channel */
	bool apart;        /* loopback is not canald's (twin.c) */
};

static inline struct canal_sock *channel_sock(const struct channel *ch, uint32_t n)
{
	return (struct canal_sock *)(void *)(ch->sock + (uint64_t)n * ch->sock_stride);
}

/* canald is gone, or has closed the channel for cause. */
static inline bool channel_gone(const struct channel *ch)
{
	return canal_read_once(&ch->dead) || canal_read_once(&ch->region->broken);
}

/* The process's channel: attached on first need. 0 or -errno. In a forked
 * child it joins first. Not async-signal-safe the first time. */
int channel_get(struct channel **ret_ch);

/* Posts an INR that nobody waits for. 0 or -errno (-EPIPE: channel dead). */
int channel_post(struct channel *ch, const struct canal_inr *inr);

/* The same in an attached channel; *ret_pos is for channel_passed(). */
int channel_post_pos(struct channel *ch, const struct canal_inr *inr, uint64_t *ret_pos);

/* Whether the host has carried out the INR at @pos. */
bool channel_passed(const struct channel *ch, uint64_t pos);

/* Posts an INR and waits for its result; *in fills canal_call first, *out gets
 * a copy of the finished canal_call's data. Result of the host or -errno. */
struct call_args {
	uint32_t level, name;
	const void *in;
	uint32_t in_len;
	void *out;
	uint32_t *out_len; /* room, then length */
};
int channel_call(struct channel *ch, struct canal_inr *inr, struct call_args *args);
/* The same as a cancellation point, and with a limit: -EAGAIN. */
int channel_call_until(struct channel *ch, struct canal_inr *inr, struct call_args *args,
		       int64_t deadline);

/* Wakes the poller if it asked for it. Behind a full fence. */
void channel_kick(struct channel *ch);

/* --- descriptors ------------------------------------------------------- */

/* FD_HANDED: a socket whose bytes the kernel moves (handover.h). */
enum fd_kind { FD_NONE = 0, FD_SOCKET, FD_EPOLL, FD_HANDED };

/* One entry per descriptor number; 16 bytes, so that four share a line. */
struct fd_entry {
	void *object;    /* struct canal_sock * or struct epoll_set * */
	uint32_t number; /* of the socket or the set */
	uint16_t kind;   /* enum fd_kind */
	uint16_t flags;
};

/* The table is a reserved, lazily touched mapping: a look-up is one compare
 * and one load, also before init (then it is empty). */
extern struct fd_entry *fd_table __attribute__((visibility("hidden")));
extern uint32_t fd_table_len __attribute__((visibility("hidden")));

static inline struct fd_entry *fd_lookup(int fd)
{
	return (uint32_t)fd < canal_read_once(&fd_table_len) && fd_table[fd].kind != FD_NONE
		       ? &fd_table[fd]
		       : NULL;
}

static inline struct canal_sock *fd_sock(int fd)
{
	return (uint32_t)fd < canal_read_once(&fd_table_len) && fd_table[fd].kind == FD_SOCKET
		       ? (struct canal_sock *)fd_table[fd].object
		       : NULL;
}

int fd_install(int fd, enum fd_kind kind, void *object, uint32_t number);
/* Forgets @fd; true when no other descriptor of this process has that object. */
bool fd_remove(int fd);
/* Makes @to what @from is (after a dup). */
void fd_copy(int from, int to);
/* From here to fd_room_leave() descriptors may be opened beyond the program's limit.
 * False in a handler on top of who is there. */
bool fd_room_enter(void);
void fd_room_leave(bool entered);
void fd_room_after_fork(void);
struct rlimit;
/* setrlimit(RLIMIT_NOFILE), not while it is raised. */
int fd_room_limit(const struct rlimit *to);
/* Moves a descriptor of our own out of the program's way. */
int fd_move_high(int fd);
bool fd_is_ours(int fd);
/* Closes what fd_move_high() gave; a bare close would leave the number taken. */
void fd_close_own(int fd);

/* Whether a socket came after the last fork: no other process can have it, short
 * of one that it was passed to. */
bool fd_is_private(uint32_t sock);

/* The process's only channel, for code that already has a socket. */
extern struct channel the_channel __attribute__((visibility("hidden")));

/* --- sockets (socket.c) ------------------------------------------------ */

/*
 * Bits of canal_sock.status that only the guest knows. A stream connect() is
 * begun by INR_CONNECT, and until the host raises `connects` it is under way,
 * whatever `state` says: the host may not have seen the INR yet. (The low bit
 * of `connects` is kept; only one connect() is under way at a time.)
 */
#define SOCK_CONNECT_BEGUN (1u << 16) /* and no connect() told how it ended */
#define SOCK_CONNECT_ODD (1u << 17)   /* `connects` was odd when it began */

static inline bool sock_connecting(const struct canal_sock *s)
{
	uint32_t status = canal_read_once(&s->status);

	/* N1 acquire: the count before the outcome; pairs with sock_connected() */
	return (status & SOCK_CONNECT_BEGUN) &&
	       !(status & SOCK_CONNECT_ODD) == !(canal_load_acquire(&s->connects) & 1);
}

/* --- waiting ----------------------------------------------------------- */

/* A thread's wait slot; made on the thread's first sleep. */
struct waiter {
	uint32_t slot;
	int fd;          /* what it sleeps on: transport.h, waiter */
	uint32_t client; /* whose it is: differs after fork */
};
int waiter_get(struct channel *ch, struct waiter **ret_w);
/* The same for one sleep: a handler that interrupts a sleep gets @spare made
 * for it, so that it does not take the wake-up of the sleep below. */
int waiter_borrow(struct channel *ch, struct waiter *spare, struct waiter **ret_w);
void waiter_return(struct channel *ch, struct waiter *w);
/* The same where the call of the slot may not have been completed. */
void waiter_abandon(struct channel *ch, struct waiter *w);
/* A wait slot and its bell for something that is not a thread (an epoll set). */
int waiter_claim(struct channel *ch, bool nonblock, struct waiter *ret_w);
void waiter_release(struct channel *ch, struct waiter *w);
/* Whether who slept at @where of this thread's stack has left by siglongjmp(), as @here is
 * not on top of it. A jump into a function that goes deeper is not noticed. */
bool wait_is_left(uintptr_t where, const void *here);
/* epoll_thread_ends() is to be called when this thread ends. */
void wait_hear_exit(void);
/* In a forked child: the parent's threads and their slots are not ours. */
void wait_after_fork(void);
/* trim.c: a thread forgets what it noted. */
void trim_forget(void);
/* A process leaves its channel: the same, and its notes. */
void wait_leave(void);

/* Deadlines: CLOCK_MONOTONIC nanoseconds, WAIT_FOREVER for none. */
#define WAIT_FOREVER INT64_MAX
int64_t wait_now(void);

/* Spins a bounded number of times while !ready(arg); true when ready. */
bool wait_spin(const struct channel *ch, bool (*ready)(void *), void *arg);

/**
 * wait_socket() - sleep until ready(arg), as a blocked call of one socket
 * @words: WAIT_READ and/or WAIT_WRITE: which waiter words get our bit; WAIT_ONE: of
 *         those that sleep like this, one is enough for each thing that comes
 *
 * Return: 0 when ready, -EAGAIN at the deadline, -EINTR as Linux would (with
 * no deadline a SA_RESTART handler restarts, as read(2) on the bell does; where
 * signals are held (hold.h) always, also when it is ready by then),
 * -EPIPE when canald is gone. Trims TX FIFOs before it sleeps.
 */
#define WAIT_READ 1
#define WAIT_WRITE 2
#define WAIT_ONE 4
int wait_socket(struct channel *ch, struct canal_sock *s, uint32_t number, int words,
		bool (*ready)(void *), void *arg, int64_t deadline);

/* The same for a call that has done a part of its work (hold.h). */
int wait_socket_on(struct channel *ch, struct canal_sock *s, uint32_t number, int words,
		   bool (*ready)(void *), void *arg, int64_t deadline);

/* Sleeps until ready(arg) with no socket in view, signals or not: the sleep of
 * a call. 0, or -EPIPE when canald is gone. */
int wait_slot(struct channel *ch, struct waiter *w, bool (*ready)(void *), void *arg);
/* The same as a blocked call of the program's: also -EAGAIN at the deadline and
 * -EINTR, and a cancellation point. */
int wait_slot_until(struct channel *ch, struct waiter *w, bool (*ready)(void *), void *arg,
		    int64_t deadline);
/* A short sleep for where nobody would wake us; 0 or -EINTR. */
int wait_nap(int64_t ns);
/* How long one who has no wait slot naps before it looks again, after a nap of @nap; 0: its first. */
int64_t wait_longer(int64_t nap);

/* Remembers that @s holds a TX chunk, for the trim before the next sleep. */
void wait_note_tx(struct canal_sock *s);
void wait_trim(struct channel *ch);
/*
 * Before a look at what is ready: a little that this thread has sent to a socket of
 * its own channel arrives first, as it does over loopback. Programs that talk to
 * themselves count on it. Waits for some microseconds at most. Of @datagrams it is not
 * known whose they will be: for them waits only who would not wait otherwise.
 */
void wait_inward(const struct channel *ch, bool datagrams);
extern __thread bool wait_has_inward
	__attribute__((tls_model("initial-exec"), visibility("hidden")));
extern __thread uint32_t wait_noted
	__attribute__((tls_model("initial-exec"), visibility("hidden")));
/* The same before a recv on @to says that there is nothing, until ready(arg); true: look again. */
bool wait_own(const struct channel *ch, const struct canal_sock *to, bool (*ready)(void *),
	      void *arg);
/* inward.c: until canald has done what was posted before; errors are no matter. */
void inward_settle(void);
bool addr_is_loopback(const struct canal_addr *addr);
static inline void wait_arrival(const struct channel *ch)
{
	if (__builtin_expect(wait_has_inward, 0))
		wait_inward(ch, false);
}
static inline void wait_arrival_for(const struct channel *ch, bool waits)
{
	if (waits)
		wait_arrival(ch);
	else if (wait_noted)
		wait_inward(ch, true);
}
/* No TX chunk is left: takes those of a socket that ended or has nothing to send.
 * False: none found. */
bool wait_scavenge(struct channel *ch);

/* Locks in shared memory, by thread id; survive the death of their holder. */
void lock_take(uint32_t *lock);
bool lock_try(uint32_t *lock);
void lock_drop(uint32_t *lock);
/* Of a socket that is new to this program: who held it under this thread's number was a
 * thread of the program before, which exec ended. */
void lock_forget(uint32_t *lock);

/* --- data -------------------------------------------------------------- */

ssize_t stream_send(struct canal_sock *s, uint32_t n, const struct iovec *iov, int count,
		    int flags);
ssize_t stream_recv(struct canal_sock *s, uint32_t n, const struct iovec *iov, int count,
		    int flags);
/* The same past the hot path. */
ssize_t stream_recv_slowly(struct canal_sock *s, uint32_t n, const struct iovec *iov, int count,
			   int flags);
ssize_t dgram_send(struct canal_sock *s, uint32_t n, const struct msghdr *m, int flags);
ssize_t dgram_recv(struct canal_sock *s, uint32_t n, struct msghdr *m, int flags);
/* The same without what comes by loopback (twin_io.c), and why it may not wait. */
ssize_t dgram_recv_canal(struct canal_sock *s, uint32_t n, struct msghdr *m, int flags);
bool dgram_arrived(void *sock);

/* POLLIN, POLLOUT, POLLRDHUP, POLLHUP, POLLERR as Linux gives them now, from
 * shared memory alone. Arms want_room when @events has POLLOUT and there is
 * none, so that the host tells. */
short sock_events(struct canal_sock *s, short events);

/* --- readiness (ready.c, select.c, epoll.c) ---------------------------- */

/* Without system calls: what is ready among @fds, if all are canal's; 0: not known. */
int ready_poll_now(struct pollfd *fds, nfds_t count);
int ready_poll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
	       const sigset_t *mask);
int ready_select(int n, fd_set *rd, fd_set *wr, fd_set *ex, const struct timespec *timeout,
		 const sigset_t *mask, struct timespec *ret_left);
/* True when any of them is ours; else the caller goes to the kernel at once. */
bool ready_poll_ours(const struct pollfd *fds, nfds_t count);
bool ready_select_ours(int n, const fd_set *rd, const fd_set *wr, const fd_set *ex);

int epoll_make(int epfd); /* after the real epoll_create */
int epoll_change(int epfd, int op, int fd, struct epoll_event *ev);
int epoll_collect(int epfd, struct epoll_event *ev, int max, const struct timespec *timeout,
		  const sigset_t *mask);
/* A socket's last descriptor @fd of this process is closed: leave all sets. Its
 * entry in fd_table is forgotten but still names the socket. True: it stays in one
 * until canald has seen that no other process has it. */
bool epoll_forget(int fd);
/* The thread ends, perhaps cancelled in the middle of epoll_wait. */
void epoll_thread_ends(void);
/* An epoll descriptor is closed; @last: the last of this process. */
void epoll_drop(int epfd, bool last);
/* Instances without a set get one: children may add sockets to them. */
void epoll_before_fork(void);
/* In a forked child. fork() does it by itself; for _Fork(). */
void epoll_after_fork(void);

/* --- the real libc (init.c) -------------------------------------------- */

/* One pointer per intercepted symbol, found by dlsym(RTLD_NEXT) in
 * libcanal_init(); real(read)(fd, buf, len). Before that, raw system calls. */
#include "real.h"

/* Runs once, from the constructor or the first intercepted call. */
void libcanal_init(void);

/* CANAL_FALLBACK=allow|deny */
extern bool fallback_allowed;

#endif
