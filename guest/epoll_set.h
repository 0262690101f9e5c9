/* SPDX-License-Identifier: MIT */
/*
 * What the files of epoll, ready.c and select.c share.
 *
 * Three layers: epoll.c is the program's calls, epoll_member.c what this process
 * knows of its members, epoll_set.c what all processes share in the region, with
 * epoll_life.c: how that comes and goes, and by what it wakes.
 * Locks are taken in that order: the table's (epoll_member.c), then a set's.
 */
#ifndef CANAL_EPOLL_SET_H
#define CANAL_EPOLL_SET_H

#include "guest.h"

struct member;

/* An epoll descriptor as this process sees it. */
struct epoll_set {
	uint32_t number; /* in the region; CANAL_NONE: no canal socket yet */
	uint32_t serial; /* of the region's set, when it was taken */
	uint32_t client; /* as whom it was taken: differs after fork */
	uint32_t used;
	int bell_fd;     /* near end: canald wakes the set */
	int nudge_fd;    /* eventfd: a thread wakes another; -1: not needed yet */
	uint32_t kernel; /* members that the kernel watches, at most */
	uint32_t twins;  /* of them those that are twins of canal sockets (twin.c), ever */
	uint32_t calls;
	uint32_t wakes;
	uint32_t early; /* threads that began to sleep before the set was made */
	uint32_t rouse; /* how often those may still be woken */
	int nested_fd;  /* the number that was given then */
	bool nested;    /* another epoll instance watches this one */
	bool polled;    /* a poll() or select() of it may have begun before the set was made */
	bool nests;     /* it watches, or did, other epoll descriptors */
	bool edges;     /* something of the kernel's is told of once only: EPOLLET, EPOLLONESHOT */
	bool dead;      /* canald's end was told to all members */
	struct member *members;
};

/* One canal socket in one set, as this process knows it. */
struct member {
	uint32_t sub; /* in the region */
	uint32_t sock;
	uint32_t client;
	uint32_t events;
	uint64_t data;
	uint64_t pos;        /* quarantine: INR that ended the subscription */
	uint32_t generation; /* of the socket */
	struct epoll_set *es;
	struct member *next; /* same socket; or quarantine; or free */
	struct member *es_next, *es_prev;
	int fd;
	uint32_t set; /* quarantine: which set it was in */
};

/* canal_set.flags */
#define SET_NESTED 1u /* stays armed, and readable for the kernel while ready */
#define SET_SHARED 2u /* more than one process has it, or had */
#define SET_POLLED 4u /* as SET_NESTED, while who polled it before may still be there */
#define SET_WATCHED (SET_NESTED | SET_POLLED)

/* canal_sub.flags, under the set's lock. SEEN: what the last look saw. */
#define SUB_LISTED 1u /* in the set's ready list */
#define SUB_MUTED 2u  /* pending is ours: the host does not push */
#define SUB_FORCED 4u /* report at the next look, edge or not */
#define SUB_DEAD 8u   /* unsubscribed */
#define SUB_SEEN_SHIFT 4

#define EVENT_BITS (~(uint32_t)(EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP))

static inline struct canal_set *set_shared(const struct epoll_set *es)
{
	return &the_channel.set[es->number];
}

/* What of @asked (EPOLL* or POLL*: same bits) is so now, errors always. */
static inline uint32_t ready_events(struct canal_sock *s, uint32_t asked)
{
	return (uint16_t)sock_events(s, (short)asked);
}

/* --- epoll_life.c: sets, and the descriptors by which they wake ----------- */

int set_make(struct epoll_set *es, int epfd);
/* A reference for this process, in a forked child; false: the set is gone. */
bool set_share(struct epoll_set *es);
/* Gives the reference back; true: it was the last. */
bool set_leave(struct epoll_set *es);
/* Frees a set that the host does not know any more. */
void set_free(uint32_t number);
/* Takes over a set whose processes are all gone; false: it is none such. */
bool set_inherit(uint32_t number);
/* Whether subscription @n belongs to a set that was taken over. */
bool set_holds(uint32_t number, uint32_t n);
/* The number above all sets that were ever used. */
uint32_t set_high(void);

/* Makes the kernel's epoll instance readable for one look. */
void set_nudge(struct epoll_set *es, int epfd);
/* Wakes one more of those who slept before the set was made. */
void set_rouse(struct epoll_set *es);
/* Removes our own descriptors' events; notices the end of canald. */
int set_strip(struct epoll_set *es, struct epoll_event *ev, int count);
/* Makes our own descriptors unreadable: who does so must look afterwards. */
void set_settle(struct epoll_set *es);

/* --- epoll_set.c: the shared part ---------------------------------------- */

/* The subscription of a socket under a number, if another process may have made it;
 * CANAL_NONE: there is none. */
uint32_t set_find(const struct epoll_set *es, uint32_t sock, int fd);

/* Under the table's lock: membership. True: somebody must be nudged. */
bool set_link(struct epoll_set *es, uint32_t n);
bool set_change(struct epoll_set *es, uint32_t n, uint32_t events, uint64_t data);
/* False: another process that shares the set was faster, and may have used the
 * subscription again; else it is the caller's. */
bool set_unlink(struct epoll_set *es, const struct member *m);
/* Whether a dead subscription lies in no list; @number: of its set. */
bool set_sub_settled(uint32_t number, uint32_t n);
void set_sweep(uint32_t number);

/* One of those who SET_BEFORE_SLEEP counted will not come back. */
void set_sleeper_gone(uint32_t number, uint32_t serial);

enum set_when { SET_LOOK, SET_BEFORE_SLEEP, SET_AFTER_SLEEP };

/**
 * set_collect() - events of canal sockets that are ready
 * @when: SET_BEFORE_SLEEP counts the caller as a sleeper and arms, and takes that
 *        back if it found something; SET_AFTER_SLEEP ends a sleep
 * @max:  0 collects nothing, but does what @when says
 *
 * Return: events stored. Passes a wake-up on when others sleep and more is ready.
 */
int set_collect(struct epoll_set *es, int epfd, struct epoll_event *ev, int max,
		enum set_when when);
/* The same for somebody who watches the epoll descriptor: takes nothing. */
bool set_peek(struct epoll_set *es, int epfd, enum set_when when);
void set_nest(struct epoll_set *es, int epfd, uint32_t flag);
/* Who polled it before it was made is gone. */
void set_polls_over(struct epoll_set *es);
/* Nothing is ready. Nobody is woken for it: set_settle() and set_peek() follow. */
bool set_is_idle(struct epoll_set *es);
void set_enlist_all(struct epoll_set *es);

/* --- epoll_member.c: the private part ------------------------------------ */

struct epoll_set *member_set_take(uint32_t *ret_number);
void member_set_give(struct epoll_set *es);
/* One after the other, from NULL to NULL. */
struct epoll_set *member_set_next(struct epoll_set *es);
int member_add(struct epoll_set *es, int epfd, int fd, const struct epoll_event *ev);
int member_change(struct epoll_set *es, int epfd, int fd, const struct epoll_event *ev);
int member_remove(struct epoll_set *es, int epfd, int fd);
bool member_forget(uint32_t sock);
/* In a forked child: takes part in the parent's set, or makes it anew. */
int member_adopt(struct epoll_set *es, int epfd);
void member_drop_all(struct epoll_set *es);
/* Before a fork: a set for an instance that has none yet. */
void member_foresee(struct epoll_set *es, int epfd);

/* A socket in a set of this process. */
struct membership {
	struct epoll_set *es;
	int fd;
	uint32_t events;
	uint64_t data;
};
/* Where a socket is a member; how many were stored. */
uint32_t member_list(uint32_t sock, struct membership *ret_list, uint32_t max);

static inline bool set_is_foreign(const struct epoll_set *es)
{
	return es->client != canal_read_once(&the_channel.client);
}

/* --- epoll.c, for poll and select ---------------------------------------- */

/* epoll_ctl() for the kernel's twin of a member: it is watched, but not a member. */
void epoll_twin(int epfd, int op, int fd, struct epoll_event *ev);
/* Whether @fd is an epoll descriptor with canal sockets in it. */
bool epoll_is_ours(int fd);
/* The same; and where it has none yet, who waits for it in the kernel will hear of one. */
bool epoll_watched(int fd);
/* Behind a call of poll or select, which asked that. */
void epoll_unwatch(void);
extern __thread bool epoll_watching
	__attribute__((tls_model("initial-exec"), visibility("hidden")));
/* Nobody is in a poll() that began before its set was made. */
bool epoll_polls_over(void);
void epoll_polls_after_fork(void);
bool epoll_peek(int epfd, enum set_when when);
void epoll_settle(int epfd);

#endif
