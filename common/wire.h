/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The wire: what lies where in the memory that guest and host share.
 *
 * Purpose: layout only. No function here, nothing that a kernel cannot include.
 * What may be done with a field is said where it is used: ring.h, fifo.h,
 * notify.h. docs/wire.md tells the same as a story.
 *
 * Invariants
 *  1. A cache line has one writer, named in the comment, or is a handshake line
 *     that both write with atomic operations only.
 *  2. The host believes nothing in here. Offsets and counts in the header are
 *     for the guest's eyes; the host keeps private copies.
 *  3. Numbers of sockets, chunks, sets, subscriptions and wait slots index the
 *     tables below. 0xffffffff (CANAL_NONE) means none.
 *  4. All integers are in the machine's byte order (guest and host share a
 *     processor); ports and IP addresses are in network order.
 */
#ifndef CANAL_WIRE_H
#define CANAL_WIRE_H

#ifdef __KERNEL__
#include <linux/build_bug.h>
#include <linux/types.h>
typedef u8 canal_u8;
typedef u16 canal_u16;
typedef u32 canal_u32;
typedef u64 canal_u64;
typedef s32 canal_s32;
#else
#include <stddef.h>
#include <stdint.h>
typedef uint8_t canal_u8;
typedef uint16_t canal_u16;
typedef uint32_t canal_u32;
typedef uint64_t canal_u64;
typedef int32_t canal_s32;
#endif

#define CANAL_WIRE_MAGIC 0x314c414e4143ULL /* "CANAL1" */
#define CANAL_WIRE_VERSION 1u
#define CANAL_NONE 0xffffffffu
#define CANAL_LINE 64
/* Starts a cache line. */
#define CANAL_NEW_LINE __attribute__((aligned(CANAL_LINE)))

/* A chunk holds FIFO bytes; a FIFO never holds more than its table of them. */
#define CANAL_CHUNK_SHIFT 14
#define CANAL_CHUNK (1u << CANAL_CHUNK_SHIFT)
#define CANAL_FIFO_CHUNKS 64u
#define CANAL_FIFO_MAX (CANAL_FIFO_CHUNKS << CANAL_CHUNK_SHIFT)

/* An internet endpoint. family is AF_INET, AF_INET6 or 0 for "none". */
struct canal_addr {
	canal_u16 family;
	canal_u16 port;  /* network order */
	canal_u32 scope; /* sin6_scope_id */
	canal_u8 ip[16]; /* IPv4 in the first four bytes */
};

/*
 * A queue of bytes in one direction of one socket. Positions count bytes since
 * the beginning and never wrap; position p lies in chunk
 * chunk[p / CANAL_CHUNK % CANAL_FIFO_CHUNKS] at offset p % CANAL_CHUNK.
 * The producer owns the chunks: it puts them into the table before it
 * publishes bytes in them, and takes them back once the consumer has passed.
 */
struct canal_fifo {
	/* line 0, written by the producer */
	canal_u64 tail CANAL_NEW_LINE; /* bytes published so far */
	canal_u64 head_seen;           /* the producer's last look at head */
	canal_u64 reclaim;             /* chunks below this position were taken back */
	canal_u32 limit;               /* most bytes to hold; host writes it, see wire.md */
	canal_u32 closed;              /* CANAL_CLOSED_*: nothing follows tail */
	canal_u32 tx_lock;             /* guest: thread that produces, 0 if none; or
					* CANAL_LOCK_KERNEL and something */
	canal_u32 drops;               /* datagrams that found no room */
	canal_u64 mark;                /* behind the last urgent byte, 0: there was none */
	canal_u64 skip;                /* RX: behind a byte that one replaced as urgent; it is
					* no part of the stream */
	canal_u32 urgent;              /* RX: CANAL_URGENT_HERE and the byte at the mark */
	/* line 1, written by the consumer */
	canal_u64 head CANAL_NEW_LINE; /* bytes consumed so far */
	canal_u64 taken;               /* RX: the mark whose byte MSG_OOB has given */
	canal_u32 rx_lock;             /* guest: thread that consumes, as tx_lock */
	/* line 2, handshake: one side sets, the other takes (notify.h) */
	canal_u32 idle CANAL_NEW_LINE; /* consumer stopped looking: tell it of new bytes */
	canal_u32 want_room;           /* producer found it full: tell it of room */
	/* lines 3 to 6, written by the producer */
	canal_u32 chunk[CANAL_FIFO_CHUNKS] CANAL_NEW_LINE;
};

/* In tx_lock and rx_lock: held by canal.ko for a call that libcanal does not see, by
 * a thread that may have no number here. It lives, and lets go. */
#define CANAL_LOCK_KERNEL 0x80000000u
/* Else: the thread's number, and in which pid namespace it has that (by its inode; 0:
 * not known), so that nobody asks another one whether the thread lives. */
#define CANAL_LOCK_TID 0x003fffffu
#define CANAL_LOCK_SPACE(inode) ((1u + (canal_u32)(inode) % 511u) << 22)
#define CANAL_LOCK_SPACE_OF(word) ((word) & ~CANAL_LOCK_TID & ~CANAL_LOCK_KERNEL)

#define CANAL_URGENT_HERE 0x100u

#define CANAL_CLOSED_EOF 1u   /* orderly end: FIN, shutdown */
#define CANAL_CLOSED_RESET 2u /* broken off: so_error says why */

/* A datagram in a FIFO: this header, the payload, padding to 8 bytes, then control
 * messages as the kernel's struct cmsghdr has them, if CANAL_DGRAM_CONTROL says so. */
struct canal_dgram {
	canal_u32 len;          /* of the payload, bytes */
	canal_u32 flags;        /* CANAL_DGRAM_* */
	struct canal_addr addr; /* TX: destination or family 0; RX: source */
};

#define CANAL_DGRAM_ALIGN 8u
#define CANAL_DGRAM_TRUNC 1u /* the host saw a longer one than it could keep */
#define CANAL_DGRAM_MORE 2u  /* TX: more bytes of this datagram follow (MSG_MORE) */
/* In flags: bytes of control messages, a multiple of CANAL_DGRAM_ALIGN. */
#define CANAL_DGRAM_CONTROL(flags) ((flags) >> 16)
#define CANAL_DGRAM_CONTROL_MAX 512u

/* An accepted connection in the RX FIFO of a listener. */
struct canal_accept {
	canal_u32 sock;       /* number of the new socket */
	canal_u32 generation; /* of that number */
};

/* Where a socket stands. Written by the host. */
enum canal_sock_state {
	CANAL_SOCK_FREE = 0,   /* no guest may use it */
	CANAL_SOCK_GRANTED,    /* lies in the grant ring, or was taken from it */
	CANAL_SOCK_OPEN,       /* socket() done; a datagram socket stays here */
	CANAL_SOCK_LISTENING,  /* RX carries struct canal_accept */
	CANAL_SOCK_CONNECTING, /* connect() under way */
	CANAL_SOCK_CONNECTED,  /* bytes may flow */
	CANAL_SOCK_FAILED,     /* the last connect() failed: may be tried again */
	CANAL_SOCK_CLOSED,     /* host let go; nothing works any more */
	CANAL_SOCK_HANDED,     /* connected, but its bytes go through the dummy alone */
	CANAL_SOCK_GIVEN,      /* the kernel's socket is to be had in place of the dummy */
};

struct canal_sock {
	/* line 0, written by the host */
	canal_u32 state CANAL_NEW_LINE; /* enum canal_sock_state */
	canal_u32 generation;           /* counts the uses of this number */
	canal_u8 domain;                /* AF_INET or AF_INET6 */
	canal_u8 type;                  /* SOCK_STREAM or SOCK_DGRAM */
	canal_u16 protocol;
	struct canal_addr local;
	canal_u32 inward; /* joined in memory with a socket of the same channel */
	/* line 1, written by the host */
	struct canal_addr peer CANAL_NEW_LINE;
	canal_u32 connects; /* connect() calls finished, well or not */
	/* line 2, handshake: bits of wait slots that sleep on this socket */
	canal_u64 rd_waiters CANAL_NEW_LINE;
	canal_u64 wr_waiters;
	canal_u32 so_error; /* host sets a positive errno, guest takes it */
	canal_u32 queued;   /* host: the error queue (IP_RECVERR) has entries */
	canal_u64 taken;    /* of an accepted one: CANAL_TAKEN(), by one swap only */
	/* line 3, written by the guest: what belongs to the open description */
	canal_u32 status CANAL_NEW_LINE; /* CANAL_STATUS_* */
	canal_u32 shut;                  /* 1: shutdown for reading, 2: for writing */
	canal_u64 rcvtimeo_ns;           /* 0: for ever */
	canal_u64 sndtimeo_ns;
	canal_u32 ctl_lock; /* thread that connects or changes options */
	canal_u32 rcvlowat; /* SO_RCVLOWAT; 0: was not set */
	canal_u32 linger;   /* SO_LINGER: seconds, 1 for a reset; 0: none */
	canal_u32 pad1;
	canal_u64 peek_at;                   /* SO_PEEK_OFF: where in RX to peek next, plus 1 */
	struct canal_fifo tx CANAL_NEW_LINE; /* guest produces */
	struct canal_fifo rx CANAL_NEW_LINE; /* host produces */
};

/*
 * Whose an accepted socket is: 0 while it lies in the listener's RX, the client
 * that took it, or CANAL_NONE when the host refused it.
 */
#define CANAL_TAKEN(generation, who) ((canal_u64)(generation) << 32 | (canal_u32)(who))

#define CANAL_STATUS_NONBLOCK 1u
#define CANAL_STATUS_ASYNC 2u
#define CANAL_STATUS_BOUND 4u   /* bind() succeeded */
#define CANAL_STATUS_INLINE 8u  /* SO_OOBINLINE */
#define CANAL_STATUS_INQ 16u    /* TCP_INQ */
#define CANAL_STATUS_SHARES 32u /* datagrams: others may have its port */

/*
 * What an INR asks for (vCanal 3.3). "call": the sender waits for the result
 * in struct canal_call of its wait slot; the others have no result.
 */
enum canal_inr_op {
	CANAL_INR_NOP = 0,
	CANAL_INR_SOCKET,      /* arg[0] domain, arg[1] type, arg[2] protocol; arg[3]: the
				 sender's stock that became its dummy, plus 1; 0: none */
	CANAL_INR_BIND,        /* call; addr */
	CANAL_INR_LISTEN,      /* call; arg[0] backlog */
	CANAL_INR_CONNECT,     /* addr; family 0 dissolves. Stream: result comes as
				 state, connects and so_error. Datagram: call */
	CANAL_INR_SHUTDOWN,    /* arg[0] SHUT_*; bytes in TX go first */
	CANAL_INR_CLOSE,       /* a descriptor was closed: look if it was the last;
				 arg[0] 1: there never was one, arg[1] generation */
	CANAL_INR_TX,          /* TX went from idle to busy */
	CANAL_INR_RX,          /* RX has room again */
	CANAL_INR_SETSOCKOPT,  /* call; level, optname, value in canal_call.data */
	CANAL_INR_GETSOCKOPT,  /* call; value comes back in canal_call.data */
	CANAL_INR_SUBSCRIBE,   /* arg[0] subscription, arg[1] set, arg[2] events, arg[3] 1: was
				 connected when the sender looked at it */
	CANAL_INR_UNSUBSCRIBE, /* arg[0] subscription; call if slot is given */
	CANAL_INR_RESOLVE,     /* call; canal_call.name is CANAL_RESOLVE_*, the question is
				 in canal_call.data */
	CANAL_INR_FALL,        /* a socket went to the kernel; arg[0] errno-like why */
	CANAL_INR_SEND_REF,    /* call; struct canal_ref in canal_call.data: TX, in place.
				 Follows what is in TX; bytes that come into TX while
				 it waits follow it or precede it */
	CANAL_INR_RECV_REF,    /* call; struct canal_ref. Under rx_lock; takes what there
				 is now, from RX and then from the kernel */
	CANAL_INR_REF_STOP,    /* arg[0] wait slot: its SEND_REF ends with what it has */
	CANAL_INR_DUMMY,       /* an accepted socket; arg[0] the sender's stock that became
				 its dummy, arg[1] generation */
	CANAL_INR_HANDOVER,    /* call; under rx_lock: from now on the host moves what is in
				 RX, and what will be, into the dummy */
	CANAL_INR_ADOPT,       /* call; arg[0], arg[1] inode of a dummy: number of its socket */
	CANAL_INR_PASSED,      /* a descriptor goes to another program: unless that adopts it
				 within arg[0] milliseconds, it is handed over */
	CANAL_INR_QUEUE,       /* call; the oldest entry of the error queue comes back as
				 struct canal_queued in canal_call.data */
	CANAL_INR_OUTQ,        /* call; of a stream: bytes in TX and those that the peer has not
				 acknowledged; arg[0] 1: only those that were not sent */
	CANAL_INR_LINGER,      /* call; arg[0] generation: ends when the peer has all that a
				 socket with SO_LINGER had, which was closed, or its time is over */
	CANAL_INR_ASYNC,       /* call; wait slots whose bells are rung for a signal, or
				 CANAL_NONE: arg[0] when something happens to the socket,
				 arg[1] when urgent data comes */
	CANAL_INR_SETTLE,      /* call; ends when all that came before is done, and what the
				 kernel says to it is heard */
	CANAL_INR_OPS,
};

/*
 * One slot of the INR ring. state is (position << 16 | client << 2 | phase);
 * ring.h tells how it moves. The rest is written by the claiming producer.
 */
struct canal_inr {
	canal_u64 state;
	canal_u8 op; /* enum canal_inr_op */
	canal_u8 pad0;
	canal_u16 client; /* number of the process, given at attach */
	canal_u32 sock;
	canal_u32 slot;       /* wait slot whose canal_call is filled; or CANAL_NONE */
	canal_u32 generation; /* of sock: an INR that comes late is not the next one's */
	union {
		struct canal_addr addr;
		canal_u32 arg[6];
	} u;
	canal_u8 pad2[16];
};

#define CANAL_INR_FREE 0u
#define CANAL_INR_CLAIMED 1u
#define CANAL_INR_READY 2u
#define CANAL_INR_PHASE 3u
#define CANAL_INR_CLIENT_SHIFT 2
#define CANAL_INR_POS_SHIFT 16
#define CANAL_CLIENT_MAX 4096u /* clients are numbered from 1 */

/* The state of a call (vCanal's flag of the INR). */
#define CANAL_CALL_IDLE 0u
#define CANAL_INR_REQUESTED 1u
#define CANAL_INR_COMPLETED 2u

#define CANAL_CALL_DATA 1984u

/* Arguments and result that do not fit the ring: one per wait slot. */
struct canal_call {
	canal_u32 state;  /* handshake: guest REQUESTED, host COMPLETED */
	canal_s32 result; /* host: 0 or more, or -errno (resolve: EAI_* code) */
	canal_u32 level;
	canal_u32 name;
	canal_u32 len;     /* bytes of data, in and out */
	canal_u32 out_max; /* getsockopt: room that the caller has */
	canal_u8 data[CANAL_CALL_DATA] CANAL_NEW_LINE;
};

/* What CANAL_INR_RESOLVE asks for. */
#define CANAL_RESOLVE_LIST 0u /* getaddrinfo(): struct canal_resolve, struct canal_resolve_answer */
#define CANAL_RESOLVE_HOST \
	1u                    /* gethostbyname(): struct canal_resolve with node and family,
				 struct canal_resolve_host */
#define CANAL_RESOLVE_ADDR 2u /* gethostbyaddr(): struct canal_addr, struct canal_resolve_host */
#define CANAL_RESOLVE_DNS \
	3u /* res_send(): canal_call.len bytes of a DNS query, and the
				 answer, cut to CANAL_CALL_DATA with the bit TC set */
#define CANAL_RESOLVE_KINDS 4u

/* The question of CANAL_RESOLVE_LIST and CANAL_RESOLVE_HOST. */
struct canal_resolve {
	canal_s32 flags; /* AI_* */
	canal_s32 family;
	canal_s32 socktype;
	canal_s32 protocol;
	canal_u16 node_len;    /* including NUL; 0: no node */
	canal_u16 service_len; /* including NUL; 0: no service */
	canal_u8 text[1044];   /* node, then service */
};

/* The answer of a list: result is the number of addresses or -(EAI_*) - 1000. */
struct canal_resolved {
	struct canal_addr addr;
	canal_s32 socktype;
	canal_s32 protocol;
};

#define CANAL_RESOLVED_MAX 48u
#define CANAL_RESOLVE_ERROR(eai) (-1000 + (eai)) /* EAI_* are negative */

/* canal_call.data of a finished resolve. */
struct canal_resolve_answer {
	canal_u32 count;
	canal_u16 canon_len; /* including NUL; 0: none */
	canal_u16 pad;
	struct canal_resolved list[CANAL_RESOLVED_MAX];
	canal_u8 canon[256];
};

/* The answer of a host: result is the number of addresses, or -2000 - h_errno. */
struct canal_resolve_host {
	canal_u16 family;
	canal_u16 addr_len;   /* of each: 4 or 16 */
	canal_u16 addr_count; /* they come first */
	canal_u16 name_count; /* then the names, each with its NUL: h_name, aliases */
	canal_u8 data[CANAL_CALL_DATA - 8];
};

#define CANAL_RESOLVE_H_ERROR(h) (-2000 - (h))

/*
 * In canal_call.data of CANAL_INR_SEND_REF and CANAL_INR_RECV_REF: buffers of the
 * calling process, by guest-virtual address, which canald translates with the
 * table that the driver keeps for that client (mailbox.h). result: bytes, or
 * -errno: -EOPNOTSUPP no translation here, -EFAULT `miss` is not in the table and
 * nothing was moved, -EAGAIN nothing could be moved without waiting.
 */
struct canal_ref {
	canal_u32 count; /* of pieces */
	canal_u32 flags; /* CANAL_REF_* */
	canal_u64 miss;  /* host: an address that is not in the table; 0: none */
	canal_u64 taken; /* host, of RECV_REF: bytes of the result that came out of RX;
			    the guest moves rx.head by as much */
	struct {
		canal_u64 address; /* guest-virtual */
		canal_u64 len;
	} piece[64];
};

#define CANAL_REF_DONTWAIT 1u

/* canal_call.data of a finished CANAL_INR_QUEUE. */
struct canal_queued {
	struct canal_addr addr;
	canal_u32 len;         /* of data */
	canal_u32 flags;       /* MSG_TRUNC: the datagram was longer */
	canal_u32 control_len; /* of control: struct cmsghdr, as the kernel has them */
	canal_u32 pad;
	canal_u8 control[512];
	canal_u8 data[1400];
};

/* Someone who sleeps: a thread, or an epoll set. */
struct canal_wait {
	canal_u32 armed CANAL_NEW_LINE; /* handshake: sleeper sets, waker takes */
	canal_u32 owner;                /* guest: client number that uses the slot, 0 if free */
	canal_u32 sock;                 /* guest: the only socket waited for, or CANAL_NONE */
	canal_u32 serial;               /* guest: counts the uses of this slot */
};

/* An epoll instance (or any other collector of readiness). */
struct canal_set {
	canal_u32 ready CANAL_NEW_LINE; /* handshake: newest pushed subscription + 1, or 0 */
	/* line 1, written by the guest */
	canal_u32 owner CANAL_NEW_LINE; /* client that made it, 0 if free; the host
					   stores CANAL_NONE when that is gone */
	canal_u32 slot;                 /* wait slot to signal */
	canal_u32 lock;                 /* thread that collects */
	canal_u32 sleepers;             /* threads in epoll_wait */
	canal_u32 members;              /* subscriptions that exist */
	canal_u32 first;                /* subscriptions known ready: guest's list */
	canal_u32 last;
	canal_u32 all;    /* every subscription: guest's list */
	canal_u32 refs;   /* processes that use it; 0: being dropped */
	canal_u32 serial; /* counts the uses of this number */
	canal_u32 flags;  /* guest: see epoll_set.h */
	canal_u32 wakes;  /* guest: events of the bell that were seen */
};

/* One socket in one set. */
struct canal_sub {
	/* handshake */
	canal_u32 pending; /* host sets when it pushes, guest takes when it pops, or
			      sets when it wants no push */
	canal_u32 next;    /* host: the one pushed before it + 1, or 0 */
	/* written by the guest */
	canal_u32 set; /* CANAL_NONE: free */
	canal_u32 sock;
	canal_u32 events; /* EPOLL* as asked, with EPOLLET, EPOLLONESHOT */
	canal_s32 fd;
	canal_u64 data;       /* epoll_event.data */
	canal_u32 ready_next; /* in the set's list of ready ones */
	canal_u32 flags;      /* see epoll_set.h */
	canal_u32 all_next;
	canal_u32 all_prev;
	canal_u32 seen_in; /* guest: edge state, see epoll_set.c */
	canal_u32 seen_out;
	canal_u32 free_next;
	canal_u32 generation; /* of the socket, when it was added */
};

/* A table of the region: offset in bytes from its start, entries, entry size. */
struct canal_table {
	canal_u64 offset;
	canal_u32 count;
	canal_u32 stride;
};

/* The first page of a region. */
struct canal_region {
	/* lines 0 to 2, written by the host before the guest sees them */
	canal_u64 magic;
	canal_u32 version;
	canal_u32 header_len;
	canal_u64 region_len;
	canal_u64 channel_id;
	struct canal_table inr;     /* struct canal_inr; a power of two */
	struct canal_table grant;   /* canal_u32; a power of two */
	struct canal_table wait;    /* struct canal_wait */
	struct canal_table call;    /* struct canal_call, one per wait slot */
	struct canal_table set;     /* struct canal_set */
	struct canal_table sub;     /* struct canal_sub */
	struct canal_table sock;    /* struct canal_sock */
	struct canal_table tx_next; /* canal_u32: free list of TX chunks */
	struct canal_table tx;      /* TX chunks */
	struct canal_table rx;      /* RX chunks */
	/* line 3, written by the host */
	canal_u32 broken CANAL_NEW_LINE; /* reason why the channel was closed, 0: works */
	canal_u32 spin_looks;            /* advice: how often to look before sleeping */
	canal_u32 fallback;              /* policy of the port: 1 allows the kernel */
	canal_u32 heavy;                 /* 1: the host arms idle and RX want_room with a
				 membarrier, so the guest needs no fence (S2) */
	canal_u32 udplite;               /* 1: IPPROTO_UDPLITE is served, too */
	/* line 4, handshake: the poller sleeps, kick it */
	canal_u32 host_asleep CANAL_NEW_LINE;
	/* line 5, written by guest producers: where to claim next */
	canal_u64 inr_tail CANAL_NEW_LINE;
	/* line 6, written by the host: grants given */
	canal_u64 grant_tail CANAL_NEW_LINE;
	canal_u32 grant_none; /* looks at an empty ring that there was nothing for */
	/* line 7, written by the guest: grants taken */
	canal_u64 grant_head CANAL_NEW_LINE;
	/* line 8, written by the guest: newest free TX chunk, (tag << 32 | n + 1) */
	canal_u64 tx_free CANAL_NEW_LINE;
	/* line 9, written by the guest: free subscriptions, (tag << 32 | n + 1) */
	canal_u64 sub_free CANAL_NEW_LINE;
	canal_u32 sub_used;  /* subscriptions never used lie from here on */
	canal_u32 tx_used;   /* TX chunks never used lie from here on */
	canal_u32 wait_used; /* wait slots at or above this were never used */
	/* lines 10 and 11, handshake, of a virtual machine only: wait slots to be
	 * woken, a bit each; the host sets, the driver's interrupt handler takes */
	canal_u64 woken[16] CANAL_NEW_LINE;
	/* line 12, written by the host before the guest sees it: IPv4 and IPv6 of a guest
	 * with addresses of its own; family 0: none */
	struct canal_addr own[2] CANAL_NEW_LINE;
};

#define CANAL_AT(what, bytes) _Static_assert((what) == (bytes), "layout of the wire: " #what)

CANAL_AT(sizeof(struct canal_addr), 24);
CANAL_AT(sizeof(struct canal_fifo), 192 + 4 * CANAL_FIFO_CHUNKS);
CANAL_AT(offsetof(struct canal_fifo, mark), 40);
CANAL_AT(offsetof(struct canal_fifo, head), 64);
CANAL_AT(offsetof(struct canal_fifo, taken), 72);
CANAL_AT(offsetof(struct canal_fifo, idle), 128);
CANAL_AT(offsetof(struct canal_fifo, chunk), 192);
CANAL_AT(sizeof(struct canal_dgram), 32);
CANAL_AT(sizeof(struct canal_accept), 8);
CANAL_AT(offsetof(struct canal_sock, local), 12);
CANAL_AT(offsetof(struct canal_sock, peer), 64);
CANAL_AT(offsetof(struct canal_sock, rd_waiters), 128);
CANAL_AT(offsetof(struct canal_sock, taken), 152);
CANAL_AT(offsetof(struct canal_sock, status), 192);
CANAL_AT(offsetof(struct canal_sock, tx), 256);
CANAL_AT(sizeof(struct canal_sock), 256 + 2 * sizeof(struct canal_fifo));
CANAL_AT(sizeof(struct canal_inr), 64);
CANAL_AT(sizeof(struct canal_call), 64 + CANAL_CALL_DATA);
CANAL_AT(sizeof(struct canal_resolve_host), CANAL_CALL_DATA);
CANAL_AT(sizeof(struct canal_wait), 64);
CANAL_AT(sizeof(struct canal_set), 128);
CANAL_AT(sizeof(struct canal_sub), 64);
CANAL_AT(sizeof(struct canal_table), 16);
CANAL_AT(offsetof(struct canal_region, broken), 192);
CANAL_AT(offsetof(struct canal_region, sub_free), 192 + 6 * 64);
CANAL_AT(offsetof(struct canal_region, woken), 192 + 7 * 64);
CANAL_AT(offsetof(struct canal_region, own), 192 + 9 * 64);
CANAL_AT(sizeof(struct canal_region), 192 + 10 * 64);
_Static_assert(sizeof(struct canal_queued) <= CANAL_CALL_DATA, "an entry fits a call");
_Static_assert(sizeof(struct canal_ref) <= CANAL_CALL_DATA, "a struct canal_ref fits a call");

#endif
