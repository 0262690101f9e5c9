/* SPDX-License-Identifier: MIT */
/*
 * What the files of canald know of each other; of sockets: sock.h.
 *
 *	main.c		options, signals, start and stop
 *	config.c	the configuration file; config_guest.c its [guest NAME] sections; ini.c its lines
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
 *	socket.c	a socket's life: open, bind, close; connect.c in between
 *	options.c	getsockopt, setsockopt
 *	stream.c, dgram.c, listen.c	moving what it carries
 *	switch.c	sockets of guests joined in memory
 *	urgent.c	urgent data of streams
 *	stock.c		socket pairs for dummies, made ahead
 *	settle.c	calls behind which all is done
 *	linger.c	close() that waits; closing.c what is sent behind it
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
	unsigned int cpu_count;
	unsigned int pollers; /* 0: one for each of these CPUs, or one */
	int idle_exit_s;      /* 0: never */
	int log_level;        /* syslog's LOG_* */
	/* of every guest of the local transport */
	uint32_t max_sockets; /* per channel */
	uint32_t max_channels;
	uint32_t spin_looks; /* SPIN_LOOKS_AUTO: by the number of CPUs */
	/* of every guest: sockets that it closed with bytes to send */
	uint32_t max_closing;     /* on one poller */
	uint32_t close_timeout_s; /* without any that moves */
	bool guest_fallback;      /* advice to guests */
	bool heavy;               /* membarrier(2) works: guests need no fence (S2) */
	bool udplite;             /* the kernel has UDP-Lite */
	bool join;                /* connect guests of one canald in memory */
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
/* For what a guest can trigger: at most a few of each per second, then a summary. @guest is its
 * name, where the guest has it (NULL: any of them). */
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
	uint32_t channel_count;              /* read by other threads */
	struct cds_list_head tx_busy;        /* struct sock.tx_link */
	struct cds_list_head rx_ready;       /* struct sock.rx_link */
	struct cds_list_head trim;           /* struct sock.trim_link: hold RX chunks */
	struct cds_list_head dead;           /* freed after the next flush */
	struct cds_list_head starved;        /* struct sock.starved_link: sock_starve() */
	uint32_t settling;                   /* slots in channel.settling, of all channels */
	uint32_t spared_count;               /* sockets in channel.spared, of all channels */
	uint64_t spared_at_ns;               /* when to look at those */
	struct cds_list_head vms;            /* struct vm.poller_link */
	struct cds_list_head ref_ready;      /* struct sock.ref_link */
	struct cds_list_head handing;        /* struct sock.handing_link */
	struct cds_list_head passed;         /* struct sock.passed_link */
	struct cds_list_head lingering;      /* struct sock.linger_link */
	struct cds_list_head closing;        /* struct sock.closing_link */
	struct cds_list_head closing_owners; /* closing.c */
	uint64_t closing_at_ns;              /* when to look at those */
	struct cds_list_head far_table[FAR_BUCKETS]; /* struct sock.far_link */
	uint8_t *bounce;                             /* pump.c; NULL: not needed yet */
	uint64_t ref_left;                           /* bytes of transfers, in this pass */
	uint64_t now_ns;                             /* of this pass */
	uint64_t crowded_until_ns;                   /* more runnable threads than cores */
	uint64_t work;                               /* things done in this pass */
	unsigned int hearing;                        /* sock_hear_closes() in one another */
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
	bool hearing;              /* its packets are being served */
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

#define CHANNEL_INRS 1024u
#define CHANNEL_GRANTS 64u
#define CHANNEL_WAITS_MAX 1024u
#define CHANNEL_SOCKS_MAX 32768u

/* Who waits until what it did is done (settle.c), and for which pass. */
#define SETTLING_MOST 16u
struct settling {
	uint32_t slot, client;
	uint64_t pass;
};

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
	struct canal_ring_reader reader; /* of the INR ring */
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
	struct cds_list_head spared;  /* sock.spared_link: wake_spared() */
	struct settling settling[SETTLING_MOST];
	uint32_t settling_count;
	struct cds_list_head clients;
	uint64_t client_alive[CANAL_CLIENT_MAX / 64]; /* by number */
	struct client **client;                       /* by number, below client_room; NULL: none */
	uint32_t client_room;
	uint32_t last_client; /* number given last */
	uint32_t client_high; /* highest ever given */
	int kick_fd;
	struct engine_handle kick;
	bool broken, orphan; /* closed for cause; no process left */
	bool hearing;        /* channel_hear() */
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
/* On the poller, after a break: lets go of everything, outside of the calls that found it. */
void channel_tear_down(struct channel *ch);
/* On the poller: packets that wait on the connection of client @number. */
void channel_hear(struct channel *ch, uint32_t number);
/* On the poller: NULL when there is no such process. */
struct client *channel_client(struct channel *ch, uint32_t number);
/* ring_serve.c, on the poller: one pass of INRs, at most @budget. */
void channel_serve(struct channel *ch, unsigned int budget);
/* The client is gone: what it claimed and did not publish never comes. */
void ring_drop_client(struct channel *ch, uint32_t number);
/* How often to look at a ring that can go on no longer. */
#define RING_LOOK_NS 10000000ull
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

/* --- names ------------------------------------------------------------- */

/* Helper threads over a wfcqueue; the answer is completed on the poller. */
int resolve_start(unsigned int threads);
void resolve_stop(void);
/* On the poller: copies the question out of shared memory and queues it. The
 * channel may die before the answer: id is looked up again then. */
void resolve_ask(struct channel *ch, uint32_t slot);
/* The channel ends: what it asked and waits for its turn is not asked any more. */
void resolve_forget(const struct channel *ch);

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
/* CLOCK_MONOTONIC. */
time_t control_now_s(void);
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
