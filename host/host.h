/* SPDX-License-Identifier: MIT */
/*
 * What the files of canald know of each other.
 *
 *	main.c		options, signals, start and stop
 *	config.c	the configuration file; config_guest.c its [guest NAME] sections
 *	control.c	the UNIX sockets: new guests, canalctl; unix_path.c where they lie
 *	guest.c		guests that the configuration names
 *	vnet.c		their address spaces; portmap.c whose a port is there
 *	vsocket.c, vdgram.c	sockets in such an address space
 *	publish.c	ports of the host that lead to guests
 *	watchdog.c	tells the service manager that all threads live
 *	attach_local.c	the local transport: HELLO, JOIN, WAITER, DUMMY
 *	attach_ivshmem.c	the transport of virtual machines, with those of vm.h
 *	poller.c	the loop; schedule of its channels
 *	channel.c	one region: layout, clients, grants, closing
 *	request.c	one INR
 *	socket.c	a socket's life: open, bind, connect, close
 *	options.c	getsockopt, setsockopt
 *	stream.c, dgram.c, listen.c	moving what it carries
 *	switch.c	sockets of guests joined in memory
 *	urgent.c	urgent data of streams
 *	stock.c		socket pairs for dummies, made ahead
 *	linger.c	close() that waits
 *	errqueue.c	the error queue of a socket
 *	pump.c		bytes that go through a dummy
 *	guest_fd.c	receiving and closing descriptors of guests
 *	wake.c		waking guests: waiters and subscriptions
 *	arena.c		RX chunks
 *	resolve.c	names, on helper threads
 *	stats.c		what canalctl shows; stats_ports.c, stats_sockets.c
 *	log.c		messages
 *
 * Ownership and threads: a channel, and all that hangs on it, belongs to its
 * poller's thread. Other threads ask the poller (poller_call). Counters are
 * read by anyone.
 */
#ifndef CANAL_HOST_H
#define CANAL_HOST_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <urcu/list.h>
#include <urcu/wfcqueue.h>

#include "engine.h"
#include "fifo.h"
#include "local.h"
#include "notify.h"
#include "order.h"
#include "ring.h"
#include "urgent.h"
#include "wire.h"

/* --- settings ---------------------------------------------------------- */

enum poll_mode { POLL_ADAPTIVE = 0, POLL_ALWAYS, POLL_NEVER };
extern const char *const poll_mode_name[3];

#define SETTINGS_POLLERS 64u

struct settings {
	char socket_path[108];           /* as long as sun_path */
	const char *config_path;         /* NULL: CONFIG_DEFAULT, if it is there */
	const struct engine_ops *engine; /* NULL: io_uring where allowed */
	enum poll_mode poll;
	int cpus[SETTINGS_POLLERS]; /* one poller each; -1: not pinned */
	unsigned int pollers;
	int idle_exit_s; /* 0: never */
	int log_level;   /* syslog's LOG_* */
	/* of every guest of the local transport */
	uint32_t max_sockets; /* per channel */
	uint32_t max_channels;
	uint32_t spin_looks; /* SPIN_LOOKS_AUTO: by the number of CPUs */
	bool guest_fallback; /* advice to guests */
	bool heavy;          /* membarrier(2) works: guests need no fence (S2) */
	bool udplite;        /* the kernel has UDP-Lite */
	bool join;           /* connect guests of one canald in memory */
};

#define SPIN_LOOKS_AUTO UINT32_MAX

extern struct settings settings;

/* Read when no other is named. */
#define CONFIG_DEFAULT "/etc/canal/canald.conf"

/* Reads @path over @s, and its guests into `guests`. 0, or -errno after logging file, line and remedy. */
int config_read(struct settings *s, const char *path);
/* Prints to standard output what is wrong in @path, or that it is ok. */
int config_check(const char *path);
/* One key of the [canald] section. 0, -ENOENT for a key that there is not, or
 * -EINVAL; then *ret_expected says what the value should have been. */
int config_set(struct settings *s, const char *name, const char *value, const char **ret_expected);

/* --- messages ---------------------------------------------------------- */

/* To stderr; with sd-daemon priority prefixes when that is the journal. Never payload. */
void host_log(int priority, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* For what @guest can trigger (NULL: any of them): at most a few of each per second, then a summary. */
void host_log_limited(const char *guest, int priority, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* --- poller ------------------------------------------------------------ */

#define SWITCH_BUCKETS 1024
#define FAR_BUCKETS 1024u
#define PORTPOOL_MAX 16384u
/* A port rests until so many others are free. */
#define PORTPOOL_REST 64u

#define PORTPOOL_HELD 1024u
#define PORT_NONE (-1)
#define PORT_NOT_HELD (-2)

struct held_port {
	int fd;        /* the bound socket, PORT_NOT_HELD or PORT_NONE */
	uint16_t port; /* network order */
};

struct poller {
	unsigned int number;
	int cpu;
	pthread_t thread;
	const struct engine_ops *ops;
	struct engine *engine;
	enum poll_mode mode;
	bool stop; /* finish what was accepted, then end */
	bool ended;
	/* calls from other threads */
	struct cds_wfcq_head calls_head;
	struct cds_wfcq_tail calls_tail;
	int kick_fd;
	struct engine_handle kick;
	uint32_t asleep; /* handshake with poller_call() */
	/* its own */
	struct cds_list_head channels;
	uint32_t channel_count;                      /* read by other threads */
	struct cds_list_head tx_busy;                /* struct sock.tx_link */
	struct cds_list_head rx_ready;               /* struct sock.rx_link */
	struct cds_list_head trim;                   /* struct sock.trim_link: hold RX chunks */
	struct cds_list_head dead;                   /* freed after the next flush */
	struct cds_list_head starved;                /* struct sock.starved_link: sock_starve() */
	struct cds_list_head vms;                    /* struct vm.poller_link */
	struct cds_list_head ref_ready;              /* struct sock.ref_link */
	struct cds_list_head handing;                /* struct sock.handing_link */
	struct cds_list_head passed;                 /* struct sock.passed_link */
	struct cds_list_head lingering;              /* struct sock.linger_link */
	struct cds_list_head far_table[FAR_BUCKETS]; /* struct sock.far_link */
	uint8_t *bounce;                             /* pump.c; NULL: not needed yet */
	uint64_t ref_left;                           /* bytes of transfers, in this pass */
	uint64_t now_ns;                             /* of this pass */
	uint64_t crowded_until_ns;                   /* more runnable threads than cores */
	uint64_t work;                               /* things done in this pass */
	uint32_t tx_busy_count;
	bool tx_idling; /* some socket of tx_busy is */
	uint64_t trim_at_ns;
	/* switch.c: listeners and datagram sockets by port */
	struct cds_list_head switch_table[SWITCH_BUCKETS];
	/* portpool.c: a ring of free ports, the longest unused first */
	struct held_port ports[PORTPOOL_MAX];
	uint32_t ports_head, ports_free, ports_held;
	uint64_t ports_mine[65536 / 64]; /* by port in network order */
	uint64_t ports_given_ns;
	/* counters */
	uint64_t passes, sleeps;
};

/* Starts the thread. 0 or -errno. */
int poller_start(struct poller *p, unsigned int number, int cpu, const struct engine_ops *ops,
		 enum poll_mode mode);
/* Asks it to drain and end; poller_join() waits for it. */
void poller_stop(struct poller *p);
void poller_join(struct poller *p);
/* Runs fn(arg) on the poller's thread between two passes. Waits for it when
 * @wait; otherwise @arg must live until fn has run. */
int poller_call(struct poller *p, void (*fn)(void *), void *arg, bool wait);
/* What its thread does, for a test that has none: one pass, the trimming that
 * now_ns says is due. */
void poller_init(struct poller *p);
void poller_pass(struct poller *p);
void poller_trim(struct poller *p);
extern struct poller *pollers;
extern unsigned int poller_count;

/* --- transport --------------------------------------------------------- */

struct channel;
struct client;
struct guest;   /* guest.h */
struct vm;      /* vm.h */
struct port;    /* portmap.h */
struct publish; /* publish.h */
struct vpeers;  /* vdgram.c */

/* In the place of a descriptor: what it would stand for exists, in the guest. */
#define FD_REMOTE (-2)
/* In early_far[]: it was there, and is gone. */
#define FD_GONE (-3)

/* How canald reaches the processes of a channel; on its poller. */
struct transport {
	const char *name;
	bool fences;         /* heavy fences (S2) reach its processes: they run on our kernel */
	uint32_t spin_looks; /* unless configured; 0: by the number of CPUs */
	/* Ends the sleep of an armed slot whose wait_fd is there. False: not now. */
	bool (*wake)(struct channel *ch, uint32_t slot);
	/* Tells all processes that the channel is over. */
	void (*broken)(struct channel *ch);
	/* Serves what waits on the control path of a process. */
	void (*hear)(struct client *c);
	/* A process is gone: lets go of its control path. */
	void (*left)(struct client *c);
	/* The channel is being freed: lets go of its memory and its kick. */
	void (*release)(struct channel *ch);
};

extern const struct transport transport_local; /* attach_local.c */

/* --- channel ----------------------------------------------------------- */

/* Why a channel was closed: docs/wire.md section 8. */
enum broken {
	BROKEN_NOT = 0,
	BROKEN_RING_STATE,
	BROKEN_RING_STALLED,
	BROKEN_OP,
	BROKEN_SOCKET,
	BROKEN_SLOT,
	BROKEN_SUBSCRIPTION,
	BROKEN_TX_POSITION,
	BROKEN_TX_CHUNK,
	BROKEN_RX_POSITION,
	BROKEN_DGRAM_LENGTH,
	BROKEN_CLIENT,
	BROKEN_ADDRESS,
	BROKEN_CONTROL,
	BROKEN_MAIL,   /* vm: of a guest's driver, not of one channel */
	BROKEN_EXTENT, /* vm: the channel was not opened */
	BROKEN_EXTENT_LIMIT,
	BROKEN_BELLS, /* vm: not heard for a moment */
	BROKEN_REASONS,
};
extern const char *const broken_name[BROKEN_REASONS];
extern uint64_t broken_count[BROKEN_REASONS]; /* since start */

struct stock; /* stock.c */

/* The host's end of a dummy that canald made. */
struct far_end {
	int fd;         /* -1: none */
	uint64_t inode; /* of the near end; 0: not known */
};

/* One process of a channel. */
struct client {
	uint32_t number;
	int fd; /* control connection, or FD_REMOTE */
	pid_t pid;
	uid_t uid;
	struct channel *channel;
	uint64_t table;      /* vm: root of its translation table, guest-physical; 0: none */
	struct stock *stock; /* stock.c; NULL: none */
	struct engine_handle control;
	struct cds_list_head link; /* channel.clients */
};

/* Counters of a guest; written by its poller. */
struct counters {
	uint64_t tx_bytes, rx_bytes, connections, falls, tx_dgrams, rx_dgrams, rx_drops, inrs,
		wakes, joined, handovers, smuggled;
};

/* A subscription as the host knows it. */
struct sub {
	struct sock *sock; /* NULL: none */
	uint32_t set;
	uint32_t events;
	struct cds_list_head link; /* sock.subs */
};

#define CLIENT_SEEN 64u
#define CHANNEL_INRS 1024u
#define CHANNEL_GRANTS 64u
#define CHANNEL_WAITS_MAX 1024u
#define CHANNEL_SOCKS_MAX 32768u

/* Whom to signal, by a wait slot's bell: async.c of libcanal. */
struct bell {
	uint32_t slot, serial; /* CANAL_NONE: none; and for which use of the slot */
};

#define RING_IN 1u
#define RING_HUP 2u

/* How many of each a region has: of all its tables, chunks of each direction. */
struct channel_shape {
	uint32_t waits, sets, subs, socks, chunks;
};

/* Memory that nobody touches costs nothing. */
extern const struct channel_shape shape_local;

struct channel {
	const struct transport *transport;
	struct guest *guest; /* in whose address space it is; NULL: the plain policy */
	struct vm *vm;       /* transport_vm: whose, and which of its channels */
	uint32_t vm_number;
	uint64_t id, token;
	uid_t uid;
	char name[64]; /* program's name, for people */
	pid_t pid;     /* of the first process */
	struct poller *poller;
	struct cds_list_head link; /* poller.channels */
	/* the region; its counts are private */
	struct channel_shape shape;
	int region_fd;
	uint8_t *base;
	uint64_t region_len;
	struct canal_region *region;
	struct canal_inr *inr;
	uint32_t *grant;
	struct canal_wait *wait;
	struct canal_call *call;
	struct canal_set *set;
	struct canal_sub *sub;
	uint8_t *sock;
	struct canal_arena tx, rx;
	/* private state */
	uint64_t inr_pos;
	uint64_t stalled_since_ns, stall_look_ns;
	uint64_t grant_tail;
	uint32_t grant_none;
	uint32_t *free_socks; /* stack of free numbers */
	uint32_t free_count, free_cursor;
	uint32_t *generation; /* of each number */
	uint8_t *granted;     /* handed out, not yet a socket */
	int *early_far;       /* far ends that came before, + 1; FD_REMOTE */
	struct sock **socks;  /* by number; NULL: not in use */
	uint32_t sock_used;
	uint32_t *rx_free; /* stack of free RX chunks */
	uint32_t rx_free_count, rx_fresh;
	uint32_t rx_in_use;
	int *wait_fd;          /* far end of each slot's bell, FD_REMOTE, -1 */
	uint32_t *wait_client; /* whose bell it is */
	uint32_t *wait_serial; /* and for which use of the slot */
	uint8_t *wait_signals; /* rung by RING_*, for a signal; 0: by a byte */
	uint8_t *wait_owed;    /* to be woken as soon as there is a bell */
	bool bells_full;       /* or when some have been read */
	bool wakes_owed;       /* or in the next pass: */
	uint64_t wakes_pass;   /* wakes_left is of this one */
	uint32_t wakes_left;
	uint32_t wait_high; /* slots below this may have a bell */
	struct sub *subs;
	struct cds_list_head farless; /* sock.farless_link: no far end came yet */
	struct cds_list_head clients;
	uint64_t client_alive[CANAL_CLIENT_MAX / 64]; /* by number */
	struct client *client_seen[CLIENT_SEEN];      /* by number modulo; channel_client() */
	uint32_t last_client;                         /* number given last */
	uint32_t client_high;                         /* highest ever given */
	int kick_fd;
	struct engine_handle kick;
	bool broken, orphan; /* closed for cause; no process left */
	uint32_t resolving;  /* questions under way: resolve.c */
	struct ref **refs;   /* of each wait slot; NULL: never was one: ref.c */
	struct counters count;
};

/* Bytes a FIFO may hold unless SO_SNDBUF or SO_RCVBUF say otherwise. */
#define DEFAULT_TX_LIMIT (256u << 10)
#define DEFAULT_RX_LIMIT (256u << 10)
/* One chunk less than the table: a FIFO may begin in the middle of one. */
#define MAX_LIMIT (CANAL_FIFO_MAX - CANAL_CHUNK)

static inline struct canal_sock *channel_shared(const struct channel *ch, uint32_t n)
{
	return (struct canal_sock *)(void *)(ch->sock + (uint64_t)n * sizeof(struct canal_sock));
}

/* region.c: bytes of a region of that shape. */
uint64_t region_length(const struct channel_shape *shape);
/* Makes the memory and the kick of @ch, whose id and shape are known. 0 or -errno. */
int region_create(struct channel *ch);
/* The same where ch->base is mapped already, region_length() bytes. */
void region_begin(struct channel *ch);

struct channel_origin {
	const struct transport *transport;
	struct guest *guest; /* NULL: none */
	const struct channel_shape *shape;
	uint8_t *base; /* the region's memory; NULL: is made, and a kick with it */
	uid_t uid;
	pid_t pid;
	const char *name;
};

/* Makes an empty channel; it has no poller yet. On failure @base is still the
 * caller's. 0 or -errno. */
int channel_create(struct channel **ret_ch, const struct channel_origin *from);
/* On the poller: takes the channel in / adds one process. The client's control
 * connection is watched from now on (attach_local_packet). */
int channel_attach(struct channel *ch, struct poller *p);
int channel_add_client(struct channel *ch, int fd, pid_t pid, uid_t uid,
		       struct client **ret_client);
static inline bool channel_has_client(const struct channel *ch, uint32_t number)
{
	return ch->client_alive[number / 64] >> number % 64 & 1;
}

/* On the poller: the client's process is gone. */
void channel_drop_client(struct client *c);
/* On the poller: the guest broke a rule. Logs, counts, closes all it has. */
void channel_break(struct channel *ch, enum broken why);
/* On the poller: canald stops, the guest sees its channel end. */
void channel_end(struct channel *ch);
/* On the poller: packets that wait on the connection of client @number. */
void channel_hear(struct channel *ch, uint32_t number);
/* On the poller: NULL when there is no such process. */
struct client *channel_client(struct channel *ch, uint32_t number);
/* On the poller: one pass of INRs, at most @budget. */
void channel_serve(struct channel *ch, unsigned int budget);
/* On the poller: frees a channel that has neither clients nor sockets. */
bool channel_reap(struct channel *ch);
/* On the poller: the bell of a wait slot's use @serial arrived. Owns @fd, or it is
 * FD_REMOTE. */
void channel_add_waiter(struct client *c, uint32_t slot, uint32_t serial, int fd);
/* Finds a channel to JOIN by id, any thread: call on the right poller. */
struct channel *poller_find_channel(struct poller *p, uint64_t id);

/* grant.c */
/* On the poller: refills the grant ring. */
void channel_grant(struct channel *ch);
/* On the poller: numbers for sockets that the host itself makes. */
uint32_t channel_take_number(struct channel *ch);
void channel_give_number(struct channel *ch, uint32_t n);
/* On the poller: the far end of socket @n's dummy arrived. Owns @fd, which is
 * known to be an AF_UNIX socket, or FD_REMOTE. */
void channel_add_dummy(struct channel *ch, uint32_t n, uint32_t generation, int fd);
/* On the poller: the last descriptor of a remote dummy was closed. */
void channel_end_dummy(struct channel *ch, uint32_t n, uint32_t generation);

/* attach_local.c: a packet to a guest; 0 or -errno. */
int local_send(int fd, const struct canal_local *packet, const int *fds, size_t fd_count);
/* attach_local.c, on the poller: packets waiting on a client's connection. */
void attach_local_packets(struct client *c);
/* Main thread: a new connection's first packet, HELLO or JOIN, on the socket of @g
 * (NULL: the main one). True when the
 * connection belongs to a poller now; false when it was refused: close it. */
bool attach_local_first(int fd, struct guest *g, const void *packet, size_t len);

/* --- sockets ----------------------------------------------------------- */

struct sock {
	struct channel *channel;
	struct canal_sock *shared;
	uint32_t number, generation;
	int domain, type;
	int protocol; /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE */
	enum canal_sock_state state;
	int fd;     /* kernel socket, -1 while there is none */
	int far_fd; /* far end of the dummy, FD_REMOTE, -1 */
	struct engine_handle kernel, far;
	struct engine_op rx_op, tx_op;
	/* the dummy (stock.c, pump.c) */
	uint64_t far_inode;            /* of the dummy's near end; 0: not known */
	struct cds_list_head far_link; /* poller.far_table */
	struct cds_list_head handing_link, passed_link;
	uint64_t passed_until_ns; /* 0: not passed on, or adopted */
	uint64_t handed_head;     /* consumed of RX, by the host */
	struct canal_addr local, peer;
	struct canal_addr asked; /* where the last connect() of a stream goes */
	struct cds_list_head tx_link, rx_link, trim_link, subs;
	struct cds_list_head refs, ref_link; /* ref.c */
	/* private side of the FIFOs */
	uint64_t tx_head;
	uint64_t rx_tail, rx_reclaim;
	uint64_t rx_backed; /* chunks exist up to this position */
	uint64_t trim_tail; /* rx_tail at the last look of the trimmer */
	uint32_t rx_slice;  /* bytes to ask the kernel for */
	uint32_t tx_limit, rx_limit;
	uint32_t rx_chunk[CANAL_FIFO_CHUNKS];
	uint32_t tx_quiet;               /* passes without bytes in TX */
	uint64_t tx_look_ns;             /* not to be looked at before */
	struct bell on_event, on_urgent; /* SIGIO, SIGURG */
	/* urgent.c */
	bool urgent;            /* a mark may be ahead in what the kernel has */
	bool urgent_early;      /* and the guest had its SIGURG for it */
	uint32_t urgent_looked; /* urgent_signals that were heard */
	uint64_t urgent_until;  /* in RX: behind it there is none */
	uint32_t rx_pieces;     /* buffers of rx_op */
	uint64_t urgent_mark;   /* in RX, as the guest knows it; behind the byte */
	uint64_t urgent_sent;   /* in TX, as the joined end knows it */
	uint8_t urgent_byte;    /* at the mark */
	bool urgent_untold;     /* the guest does not know it yet */
	/* joined in memory (switch.c) */
	struct sock *joined;
	struct sock *listener;   /* it was accepted from this one, and not taken */
	struct sock *pending_at; /* the listener in whose pending it waits */
	struct cds_list_head pending_link, pending; /* connectors that wait for room */
	struct cds_list_head accept_link, accepted; /* accepted, perhaps not taken */
	struct cds_list_head farless_link;          /* channel.farless */
	uint32_t maker;                             /* client of its INR_SOCKET */
	struct cds_list_head hash_link;
	struct held_port pool_port; /* of the connecting end of a join */
	int backlog;
	int rcvlowat; /* what the guest asked for, or 0 */
	/* in a guest's address space (vsocket.c, vdgram.c) */
	struct port *port;       /* its entry in the port map; NULL: none */
	struct publish *rx_from; /* of the datagram being received; NULL: its own */
	struct publish *tx_from; /* of the one being sent */
	struct vpeers *peers;    /* whom it wrote to; NULL: nobody */
	/* flags */
	bool starved;      /* in poller.starved */
	bool was_accepted; /* came out of a listener */
	bool released;     /* the guest has no descriptor any more */
	bool close_hint;   /* INR_CLOSE came before the far end */
	bool v6only, reuseport, hashed, bound;
	bool lingers;                          /* SO_LINGER was set, or inherited */
	struct notes *notes;                   /* inherit.c; NULL: none */
	uint32_t heir_tx_limit, heir_rx_limit; /* what accepted ones begin with; 0: default */
	bool tx_idling;                        /* to be given up at the end of the pass */
	bool tx_busy, tx_blocked;              /* in poller.tx_busy; kernel is full */
	bool rx_ready, rx_parked;              /* in poller.rx_ready; FIFO is full */
	bool rx_hup;                           /* kernel reported end or error */
	bool rx_eof, tx_shut, rx_shut, tx_fin_sent, broken_off;
	bool trimming;
	bool ref_ready, ref_receives;    /* in poller.ref_ready; the kernel fills a ref */
	bool peer_gone;                  /* the other end of a join went away */
	bool own_ready;                  /* a guest's: its own kernel socket has datagrams */
	bool own_linked;                 /* and that is connected to the peer */
	bool dead;                       /* waits in poller.dead */
	struct sockaddr_storage op_name; /* of dgram operations */
	struct sockaddr_storage tx_name;
	uint32_t op_span, tx_span;
	struct dgram_control *control; /* NULL: neither asked for nor sent */
	bool by_kernel;                /* datagrams of this one never go by the switch */
	bool corked;                   /* of a datagram, the kernel has a part already */
	bool hears_control;            /* an option asks for control messages */
	uint64_t linger_until_ns;      /* in poller.lingering; 0: not */
	struct cds_list_head linger_link;
	uint32_t linger_slot, linger_client; /* who waits for that, plus 1 */
	bool lingering;                      /* only its kernel socket is left */
	bool hears_errors;                   /* an option asks for the error queue */
	struct cds_list_head dead_link, starved_link;
	uint64_t tx_bytes, rx_bytes;
	/* pump.c */
	bool far_ours;                 /* canald made the pair, and has the far end alone */
	bool far_ready;                /* may have bytes for TX */
	bool far_gone;                 /* no descriptor of the dummy is left */
	bool far_unread;               /* and there were bytes in it that nobody read */
	bool far_clean;                /* and nothing is left to be read on this side */
	bool far_peeked;               /* its peek offset is in use */
	bool given;                    /* its user has the kernel socket (give.c) */
	bool far_tcp;                  /* a connection to a listener that was given */
	bool handed;                   /* the host consumes RX */
	bool handing;                  /* soon: a thread of the guest is at RX still */
	bool handed_full, handed_over; /* the dummy is full; has been told the end */
};

/* privilege.c: canald does nothing for a guest that its user may not do */
void privilege_drop(void);
bool privilege_port(uid_t uid, uint16_t port); /* network order */

/* fds.c: descriptors are finite; when few are left no socket is begun */
void fds_start(void);
void fds_opened(int fd);
void fds_closed(int fd);
bool fds_short(void);

/* Control messages of the datagrams under way. */
struct dgram_control {
	_Alignas(8) uint8_t rx[CANAL_DGRAM_CONTROL_MAX];
	_Alignas(8) uint8_t tx[CANAL_DGRAM_CONTROL_MAX];
};

/* dgram_control.c */
/* Makes s->control if there is none. False: no memory. */
bool dgram_control_have(struct sock *s);
/* Whether an option that was set makes the kernel give control messages. */
bool dgram_control_option(int level, int name);
/* Takes those of the record at tx_head into tx_op. 0 or -errno: the record is not
 * to be sent. */
int dgram_control_tx(struct sock *s, const struct canal_dgram *rec);

/* What a request that breaks a rule comes to. No errno: the kernel has a use for each. */
#define RULE_BROKEN (-10000)

/* socket.c */
int sock_open(struct channel *ch, const struct canal_inr *inr);
struct sock *sock_new(struct channel *ch, uint32_t number, int domain, int type);
int sock_kernel(struct sock *s); /* makes the kernel socket if need be */
int sock_bind(struct sock *s, const struct canal_addr *a);
int sock_connect(struct sock *s, const struct canal_addr *a);
int sock_shutdown(struct sock *s, int how);
void sock_set_far(struct sock *s, int fd);                         /* owns @fd; or FD_REMOTE */
void sock_set_far_ours(struct sock *s, const struct far_end *end); /* owns it */
/* @never: the guest made no dummy for it. */
void sock_close_hint(struct sock *s, uint32_t client, bool never);
int sock_adopt_kernel(struct sock *s, int fd); /* watches it */
/* What the kernel has to tell of far ends, so that their ports are free. */
void sock_hear_closes(struct poller *p);
void sock_unwatch(struct sock *s);
bool sock_resets(struct sock *s); /* closing it is a reset */
void sock_share_names(struct sock *s);
void sock_drained(struct sock *s); /* TX is empty */
void sock_release(struct sock *s); /* the guest let go: drain, then destroy */
void sock_destroy(struct sock *s); /* at once */
/* A process is gone, and all that it sent was heard: its sockets without far end
 * have nobody who could close them. */
void sock_release_farless(struct channel *ch, uint32_t client);
void sock_fail(struct sock *s, int err, uint32_t closed); /* so_error, wake */
void sock_ended(struct sock *s);                          /* its end was sent, or the peer's came */
void sock_connecting(struct sock *s);
void sock_connected(struct sock *s, int err);
void sock_publish_names(struct sock *s);
void sock_set_state(struct sock *s, enum canal_sock_state state);

/* stock.c */
/* Whether a slot of its stock is free. */
bool stock_has_room(const struct client *c);
/* It has taken the last answer: it may be sent descriptors. */
bool stock_takes_answers(const struct client *c);
/* On the poller: answers a packet STOCK. 0 or -errno. */
int stock_answer(struct client *c, const struct canal_local *asked);
/* What slot @slot holds is the caller's; false: nothing, or no such client. */
bool stock_take(struct channel *ch, uint32_t client, uint32_t slot, struct far_end *ret_end);
/* Nobody but canald has used it, or can any more: its near end is closed, or it
 * is shut down first. */
void far_end_close(int fd);
void stock_drop(struct client *c);
/* Sockets by the inode of their dummies. */
void stock_enter(struct sock *s);
void stock_leave(struct sock *s);
struct sock *stock_find(struct channel *ch, uint64_t inode);
/* The same in any channel of the poller. */
struct sock *stock_find_any(struct poller *p, uint64_t inode);

/* give.c, on the poller: answers a packet KERNEL. 0 or -errno. */
int give_answer(struct client *c, const struct canal_local *asked);

/* pump.c: streams whose dummies canald made */
void pump_event(struct sock *s, uint32_t events);
/* Whether TX goes on behind the FIFO; moves some of it. False: not now. */
bool pump_pending(const struct sock *s);
bool pump_tx(struct sock *s);
/* RX of one that was handed over: into the dummy. */
void pump_rx(struct sock *s);
/* INR_HANDOVER, whose caller holds rx_lock. 0 or -errno. */
int pump_handover(struct sock *s);
/* Those that wait for a thread of the guest. */
void pump_retry(struct poller *p);
/* INR_PASSED; and its end, when somebody adopted it. */
void pump_passed(struct sock *s, uint32_t ms);
void pump_adopted(struct sock *s);
/* Those that nobody adopted in time. False: there are none to look after. */
bool pump_passed_look(struct poller *p);
void pump_end(struct sock *s); /* it is released or destroyed */

/* options.c */
int sock_setopt(struct sock *s, int level, int name, const void *val, uint32_t len);
int sock_getopt(struct sock *s, int level, int name, void *val, uint32_t *len);

/* linger.c */
void linger_begin(struct sock *s); /* it is released */
void linger_end(struct sock *s);   /* and now destroyed */
bool linger_hold(struct sock *s);  /* TX is empty: true, not to be destroyed yet */
void linger_look(struct sock *s);  /* the kernel told something of one that is held */
void linger_tick(struct poller *p);
void linger_drop_client(struct channel *ch, uint32_t client);
/* INR_LINGER, which it answers itself. 0 or RULE_BROKEN. */
int linger_ask(struct channel *ch, const struct canal_inr *inr);

/* errqueue.c */
void errqueue_option(struct sock *s, int level, int name); /* it was set */
void errqueue_event(struct sock *s);                       /* the kernel told of an error */
int errqueue_take(struct sock *s, uint32_t slot, uint32_t *ret_len);

/* inherit.c */
void inherit_note(struct sock *s, int level, int name, const void *val, uint32_t len);
void inherit_take(struct sock *a, const struct sock *l);
void inherit_apply(struct sock *s);
void inherit_drop(struct sock *s);

/* stream.c, dgram.c, listen.c: one bounded step; true when something moved */
bool stream_tx(struct sock *s);
bool stream_rx(struct sock *s);
/* What SIOCOUTQ tells, or SIOCOUTQNSD. Bytes, or -errno. */
int stream_outq(struct sock *s, bool unsent);
/* What the kernel gave for a receive of @asked bytes, but for the bytes. */
void stream_received(struct sock *s, uint64_t asked, int res);
bool dgram_tx(struct sock *s);
bool dgram_rx(struct sock *s);
bool listen_rx(struct sock *s);
int listen_start(struct sock *s, int backlog);
bool listen_push(struct sock *listener, struct sock *s);
void listen_stop(struct sock *s);
/* Whether no process has taken what was accepted, and none will. */
bool listen_refuse_wins(struct sock *s);
/* An accepted socket was taken by the guest, or goes away. */
void listen_taken(struct sock *s);

/* fifo_host.c */
/* TX bytes waiting, checked; false after channel_break(). */
bool sock_tx_avail(struct sock *s, uint64_t *ret_bytes);
void sock_tx_consumed(struct sock *s, uint64_t len);
void sock_tx_quiet(struct sock *s);
/* Gives up the TX FIFOs that poller.tx_busy has marked, or all. False: one of
 * them got bytes meanwhile. */
bool tx_idle(struct poller *p, bool all);
/* Whether the kernel has UDP-Lite. */
bool udplite_works(void);
/* Once, before the first poller: whether heavy fences work here. */
bool heavy_fence_works(void);
/* How far RX was consumed, unchecked. */
uint64_t sock_rx_head(const struct sock *s);
/* S2 heavy; nothing where membarrier(2) does not work. */
void heavy_fence(void);
/* RX room, checked; false after channel_break(). */
bool sock_rx_room(struct sock *s, uint64_t *ret_bytes);
/* Puts chunks behind [rx_tail, rx_tail + len); bytes that have them. */
uint64_t sock_rx_prepare(struct sock *s, uint64_t len);
void sock_rx_publish(struct sock *s, uint64_t len);
void sock_rx_shrink(struct sock *s);
void sock_rx_trim(struct sock *s);
void sock_rx_drop(struct sock *s);
bool sock_rx_park(struct sock *s);
void sock_rx_resume(struct sock *s);
/* The poller's lists. */
void sock_mark_tx(struct sock *s);
void sock_mark_rx(struct sock *s);
void sock_unmark_tx(struct sock *s);
void sock_unmark_rx(struct sock *s);
void sock_starve(struct sock *s);
void sock_unstarve(struct sock *s);

/* switch.c: sockets of one canald joined in memory */
bool switch_connect(struct sock *s, const struct canal_addr *to); /* true: taken */
/* The same where both ends, and the names of @s, are known. */
void switch_join(struct sock *s, struct sock *listener);
/* Carries the record at tx_head of @s to @d; false: not now. */
bool switch_deliver(struct sock *s, struct sock *d, const struct canal_dgram *rec,
		    const struct canal_addr *from);
bool switch_tx(struct sock *s, uint64_t avail);
/* Moves both lists on by what it copied: as much as the shorter one has. */
void switch_copy(struct iovec *to, int to_n, struct iovec *from, int from_n);
/* Carries the record at tx_head; false: the kernel shall. */
bool switch_dgram(struct sock *s, const struct canal_dgram *rec);
/* The socket that is bound to @to, or NULL. */
struct sock *switch_find(struct poller *p, int type, const struct canal_addr *to);
void switch_listen(struct sock *s);
void switch_unlisten(struct sock *s);
void switch_bound(struct sock *s);
void switch_resume(struct sock *listener);
void switch_peer_room(struct sock *s);
void switch_fin(struct sock *s);
void switch_detach(struct sock *s);

/* mail.c, on the poller: requests of virtual machines; first what a pass begins with. */
void vms_pass(struct poller *p);
void vms_serve(struct poller *p);
/* Only what says which descriptors exist, in the middle of a pass. */
void vms_hear(struct poller *p);
void vms_arm(struct poller *p, bool on);
int64_t vms_sleep_limit(const struct poller *p);
void vms_end(void); /* the thread ends */

/* ref.c: transfers by reference */
/* SEND_REF and RECV_REF of @s (NULL: it is gone); REF_STOP. 0 or RULE_BROKEN. */
int ref_ask(struct channel *ch, struct sock *s, const struct canal_inr *inr);
int ref_stop(struct channel *ch, const struct canal_inr *inr);
/* Once a pass, before its receives and sends. */
void ref_pass(struct poller *p);
/* Bytes of the @avail in TX that go before the first SEND_REF. */
uint64_t ref_before(const struct sock *s, uint64_t avail);
/* The socket can move bytes again; it ends, and with it those of its refs. */
void ref_mark(struct sock *s);
void ref_end(struct sock *s, int error);
void ref_end_sends(struct sock *s, int error);
void ref_drop_client(struct channel *ch, uint32_t client);
/* The channel is being freed. */
void ref_free(struct channel *ch);

/* attach_ivshmem.c, main thread: virtual machines of the configuration. 0 or -errno,
 * after logging. */
int ivshmem_start(void);
bool ivshmem_event(const void *ptr); /* false: not its event */
void ivshmem_pause(bool pause);      /* no descriptor is left to accept with */
void ivshmem_stop(void);             /* takes in no more */
void ivshmem_end(void);              /* pollers have ended */

/* vsocket.c: sockets of a channel that has a guest */
int vsock_bind(struct sock *s, const struct canal_addr *a);
int vsock_connect_stream(struct sock *s, const struct canal_addr *a);
int vsock_connect_dgram(struct sock *s, const struct canal_addr *a);
int vsock_listen(struct sock *s);
void vsock_unlisten(struct sock *s);
/* A connection of the listener came through a publish rule: its descriptor, or -1. */
int vsock_accept(struct sock *listener, struct canal_addr *ret_peer);
void vsock_accepted(struct sock *s, const struct sock *listener, const struct canal_addr *peer);
/* Of those who share the listener's port, the one whose turn it is. */
struct sock *vsock_turn(struct sock *listener);
int vsock_name(struct sock *s, const struct canal_addr *from); /* an ephemeral port, if need be */
void vsock_unname(struct sock *s); /* its connect() failed, or was dissolved */
void vsock_end(struct sock *s);    /* it is destroyed */
void vsock_option(struct sock *s); /* an option changed, perhaps one of its port */
/* A flag of its kernel socket, if it has one. */
bool sock_flag(const struct sock *s, int level, int name);

/* vdgram.c */
/* Takes the record at tx_head, or says by tx_op how the kernel shall carry it. */
enum vdgram { VDGRAM_TAKEN, VDGRAM_KERNEL, VDGRAM_LATER };
enum vdgram vdgram_tx(struct sock *s, const struct canal_dgram *rec);
/* Where to receive from; -1: nothing there now. */
int vdgram_source(struct sock *s);
void vdgram_drained(struct sock *s); /* that one had nothing more */
/* Who sent it, as the guest sees it; false: not for this socket. */
bool vdgram_heard(struct sock *s, struct canal_addr *ret_from);

/* portpool.c; false: no port to be had */
bool portpool_take(struct poller *p, struct held_port *ret);
void portpool_give(struct poller *p, struct held_port port);
bool portpool_trim(struct poller *p);

/* arena.c */
uint32_t arena_take(struct channel *ch);
void arena_give(struct channel *ch, uint32_t chunk);

/* wake.c; the caller has published and passed a full fence */
void wake_socket(struct sock *s, uint32_t events); /* EPOLLIN, EPOLLOUT, ... */
/* The same for what the guest did itself, of which no signal tells. */
void wake_quietly(struct sock *s, uint32_t events);
/* INR_ASYNC; 0 or RULE_BROKEN. */
int wake_signals(struct sock *s, const struct canal_inr *inr);
void wake_urgent(struct sock *s); /* urgent data is announced */
void wake_slot(struct channel *ch, uint32_t slot);
/* Those that were too many for the last pass. */
void wake_owed(struct channel *ch);
int sub_add(struct channel *ch, struct sock *s, uint32_t sub, uint32_t set, uint32_t events);
void sub_drop(struct sub *sub);

/* request.c */
void request_serve(struct channel *ch, struct canal_inr *inr);
/* Finishes a call; @len bytes of canal_call.data were filled before. */
void request_complete(struct channel *ch, uint32_t slot, int result, uint32_t len);

/* addr.c */
socklen_t addr_to_sockaddr(const struct canal_addr *a, struct sockaddr_storage *ss);
bool addr_from_sockaddr(struct canal_addr *a, const struct sockaddr_storage *ss);

/* --- names ------------------------------------------------------------- */

/* Helper threads over a wfcqueue; the answer is completed on the poller. */
int resolve_start(unsigned int threads);
void resolve_stop(void);
/* On the poller: copies the question out of shared memory and queues it. The
 * channel may die before the answer: id is looked up again then. */
void resolve_ask(struct channel *ch, uint32_t slot);

/* --- descriptors of guests --------------------------------------------- */

/* As many as a packet can have (SCM_MAX_FD): none is left to the kernel. */
#define GUEST_FDS 253

struct guest_fds {
	int fd[GUEST_FDS]; /* -1: somebody else's now */
	size_t count;
};

/* A packet and its descriptors. Its length, or -errno; then there are none. */
ssize_t guest_recv(int conn, void *buf, size_t len, struct guest_fds *fds, int *ret_flags);
/* Where it does not matter how long that takes. */
void guest_fds_close(struct guest_fds *fds);
void close_later(int fd);
int closer_start(void);
void closer_stop(void);

/* --- control ----------------------------------------------------------- */

/* Listens on settings.socket_path. 0 or -errno, after logging what to do. */
int control_start(void);
/* Serves until SIGTERM/SIGINT or idle exit. */
int control_run(void);
/* Watches @fd in the main loop; ivshmem_event(@ptr) is called. 0 or -errno. */
int control_watch(int op, int fd, uint32_t events, void *ptr);
/* No descriptor is left: nobody is taken in for up to a second. */
void control_pause(void);
/* Takes no new guests. The path stays until control_remove(). */
void control_stop(void);
void control_remove(void);
/* What a path is to be for, in messages: "choose another --socket". */
struct unix_path {
	char path[108];
	const char *remedy;
	int fd;      /* listens; -1 */
	int path_fd; /* keeps the inode of our path from being given to another */
};

/* unix_path.c: a socket of that type that listens at u->path, with @mode, or, when
 * that is 0, open to all where canald is everybody's. 0 or -errno, after logging. */
int unix_path_claim(struct unix_path *u, int type, mode_t mode);
/* Closes it / removes the path if it is still our own socket. */
void unix_path_close(struct unix_path *u);
void unix_path_remove(struct unix_path *u);

/* watchdog.c: a descriptor to wait on, or -1 when nobody asks; then watchdog_tick(). */
int watchdog_start(void);
void watchdog_tick(void);
void watchdog_stop(void);

/* The status document; caller frees with json_decref. */
struct json_t;
struct json_t *stats_status(void);
struct json_t *stats_ports(void); /* stats_ports.c: of the port map */
/* stats_sockets.c: of all sockets; @asked has the filters. */
struct json_t *stats_sockets(const struct json_t *asked);
struct json_t *stats_address(const struct canal_addr *a);
/* The time of start. */
void stats_start(void);
extern struct counters total_gone; /* of channels that are gone */
extern uint64_t channels_alive;    /* atomically counted */

#endif
