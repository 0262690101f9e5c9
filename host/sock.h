/* SPDX-License-Identifier: MIT */
/*
 * Sockets of canald, and who does what with them.
 *
 * Purpose: struct sock, and what the files that move, join, hand over and wake
 * sockets know of each other. The list of files is host.h's.
 *
 * Ownership and threads: a socket belongs to its channel, and so to one poller.
 */
#ifndef CANAL_HOST_SOCK_H
#define CANAL_HOST_SOCK_H

#include "host.h"

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
	int rcvlowat;  /* what the guest asked for, or 0 */
	bool deferred; /* a listener: connections come with their first bytes */
	bool shares;   /* SO_REUSEPORT was set: its kernel sockets are its user's */
	/* in a guest's address space (vsocket.c, vdgram.c) */
	struct port *port;       /* its entry in the port map; NULL: none */
	struct publish *rx_from; /* of the datagram being received; NULL: its own */
	struct publish *tx_from; /* of the one being sent */
	struct vpeers *peers;    /* whom it wrote to; NULL: nobody */
	/* flags */
	bool starved;      /* in poller.starved */
	bool spared;       /* in channel.spared */
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
	struct dgram_control *control;           /* NULL: neither asked for nor sent */
	bool by_kernel;                          /* datagrams of this one never go by the switch */
	bool corked;                             /* of a datagram, the kernel has a part already */
	bool hears_control;                      /* an option asks for control messages */
	uint64_t linger_until_ns;                /* in poller.lingering; 0: not */
	uint64_t linger_look_ns, linger_wait_ns; /* the next look; and from one to the next */
	struct cds_list_head linger_link;
	uint32_t linger_slot, linger_client; /* who waits for that, plus 1 */
	bool lingering;                      /* only its kernel socket is left */
	struct closing_owner *closing;       /* in poller.closing, and whose; NULL: not */
	struct cds_list_head closing_link;
	uint64_t closing_since_ns, closing_bytes; /* when tx_bytes was seen to grow last */
	int closing_outq;                         /* what the kernel had since then */
	bool cut;                                 /* not all was sent: it ends by a reset */
	bool hears_errors;                        /* an option asks for the error queue */
	struct cds_list_head dead_link, starved_link, spared_link;
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
/* Its kernel socket is its guest's user's from now on. */
void privilege_own(const struct sock *s);

/* fds.c: descriptors are finite; when few are left no socket is begun */
void fds_start(void);
void fds_opened(int fd);
void fds_closed(int fd);
bool fds_short(void);
/* What is to be done about that error, or "". */
const char *fds_remedy(int error);

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
int sock_watch(struct sock *s); /* 0 or -errno */
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
/* A connect() under way goes on by a kernel socket of its own. */
void sock_connect_kernel(struct sock *s);
/* The kernel says how it ended. */
void sock_connect_finished(struct sock *s);
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

/* closing.c: the last descriptor is closed, and bytes are left. False: it is to be reset. */
bool closing_begin(struct sock *s);
void closing_end(struct sock *s); /* and now destroyed */
void closing_tick(struct poller *p);
int64_t closing_sleep_limit(struct poller *p); /* -1: none */

/* settle.c */
int settle_ask(struct channel *ch, const struct canal_inr *inr); /* RULE_BROKEN */
void settle_drop_client(struct channel *ch, uint32_t client);
void settle_tick(struct poller *p);

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
void stream_rx_now(struct sock *s); /* not with others at the end of the pass */
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
void switch_pass_on(struct sock *l);
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
bool ivshmem_tick(time_t now);       /* now and then; true: again in a second */
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
/* Those who sleep in accept() beside one that was woken, and did not come. */
void wake_spared(struct poller *p);
int64_t spared_sleep_limit(const struct poller *p); /* ns; below 0: none */
void wake_no_more(struct sock *s);
void wake_slot(struct channel *ch, uint32_t slot);
/* Those that were too many for the last pass. */
void wake_owed(struct channel *ch);
int sub_add(struct channel *ch, struct sock *s, uint32_t sub, uint32_t set, uint32_t events,
	    bool connected);
void sub_drop(struct sub *sub);

/* request.c */
void request_serve(struct channel *ch, struct canal_inr *inr);
/* Finishes a call; @len bytes of canal_call.data were filled before. */
void request_complete(struct channel *ch, uint32_t slot, int result, uint32_t len);

/* addr.c */
socklen_t addr_to_sockaddr(const struct canal_addr *a, struct sockaddr_storage *ss);
bool addr_from_sockaddr(struct canal_addr *a, const struct sockaddr_storage *ss);

#endif
