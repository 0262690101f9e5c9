/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of canal.ko know of each other.
 *
 *	canal_main.c		/dev/canal: open, ioctl, mmap, release; parameters
 *	canal_pci.c		the ivshmem-doorbell device: BARs, vector 0
 *	canal_mail.c		requests to canald, epochs, is canald alive
 *	canal_channel.c		channel pages: made, announced, mapped, freed
 *	canal_wait.c		wait slots: files that a program sleeps on; interrupts
 *	canal_sock.c		the descriptor of a canal socket
 *	canal_data.c		its bytes: what goes through the FIFOs from there, with
 *				canal_stream.c, canal_dgram.c, canal_fifo.c
 *	canal_kernel.c		the kernel in a region: INRs, locks, sleep
 *	canal_translate.c	the hybrid address space: pins, table, mmu notifier
 *
 * Objects: a device has channels, a channel has clients (open files of
 * /dev/canal) and dummies (sockets), which are its users, and waiters. Memory
 * goes by kref; a channel ends with its last user, its pages are freed when
 * canald has answered CLOSE, or has forgotten all (a new epoch).
 *
 * Locks, outer to inner; no lock is held while waiting for canald, but for
 * client.lock and channel.kernel_lock, which only stop callers of the same file
 * or channel:
 *
 *	client.lock, channel.kernel_lock (mutex)
 *	  mmap_lock (gup)
 *	    translation.lock (spin): entries and lists of pins
 *	translation.reap_lock (mutex)
 *	  translation.lock
 *	device.lock (spin, irq-safe): mailbox, channel table, waiter tables
 *	  wait queue locks
 *
 * translation.lock and device.lock are never held together. The two words of a
 * FIFO, tx_lock and rx_lock, lie in memory that programs write: they are taken
 * with a bound and can be interrupted (canal_kernel.c), outside all of the above.
 */
#ifndef CANAL_DRIVER_H
#define CANAL_DRIVER_H

#include <linux/bitmap.h>
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/version.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "fifo.h"
#include "mailbox.h"
#include "notify.h"
#include "order.h"
#include "ring.h"
#include "wire.h"

#include "canal_uapi.h"

#define CANAL_WOKEN_WORDS 16u
#define CANAL_WAIT_SLOTS (CANAL_WOKEN_WORDS * 64u)

/* Of the whole module: work on it may outlive its device by a moment. */
extern struct workqueue_struct *canal_work;

extern unsigned int canal_timeout_ms;
extern unsigned int canal_max_pins;

/* --- requests to canald (canal_mail.c) --------------------------------- */

enum canal_request_state {
	CANAL_REQUEST_IDLE,
	CANAL_REQUEST_QUEUED, /* on device.queue */
	CANAL_REQUEST_POSTED, /* in a slot of the mailbox */
	CANAL_REQUEST_DONE,
};

/**
 * struct canal_request - one thing that canald is told or asked
 * @link:	in device.queue, or in device.finished
 * @mail:	what goes into the slot
 * @ch:		that it is about; NULL: none
 * @done:	called in process context when it is over; may free the request.
 *		NULL: somebody sleeps in canal_request_wait()
 * @finished:	for canal_request_wait()
 * @result:	canald's, or -ENODEV when there is none any more
 * @state:	under device.lock
 * @answered:	over when canald answers, and not as soon as it lies in a slot
 *
 * The memory is the caller's until it is over.
 */
struct canal_request {
	struct list_head link;
	struct canal_mail mail;
	const struct canal_channel *ch;
	void (*done)(struct canal_request *request);
	struct completion finished;
	int result;
	enum canal_request_state state;
	bool answered;
};

enum canal_device_state {
	CANAL_DEVICE_DOWN, /* canald is away, or has not answered RESET yet */
	CANAL_DEVICE_READY,
	CANAL_DEVICE_GONE, /* unbound: there is no way back */
};

/* The two BARs, mapped. Freed behind a grace period. */
struct canal_bars {
	struct canal_mailbox *mail;
	u32 __iomem *doorbell;
};

struct canal_device {
	struct kref refs;
	struct canal_bars __rcu *bars; /* NULL: unbound */
	unsigned int irq;              /* 0: none */
	spinlock_t lock;
	enum canal_device_state state;
	u32 epoch;              /* that the last RESET belongs to */
	u64 tail;               /* of the mailbox: our copy */
	struct list_head queue; /* requests that found no slot */
	unsigned int queue_len;
	struct list_head finished; /* requests whose done() is due */
	struct {
		struct canal_request *request; /* NULL: nobody waits for the answer */
		u64 pos;
		bool busy;
	} slot[CANAL_MAIL_SLOTS];
	struct canal_request reset;
	bool reset_sent;
	u32 reset_epoch;
	struct page *cookie;
	bool forgotten;                                     /* unbound, and canald knows it */
	u64 last_passes;                                    /* is canald alive */
	unsigned int still;                                 /* looks since it last moved */
	unsigned long looked;                               /* jiffies of the last of them */
	struct canal_channel *channel[CANAL_MAIL_CHANNELS]; /* by number */
	struct list_head channels;                          /* all, also those that are over */
	unsigned int closing;                               /* channels that wait for CLOSE */
	struct list_head translations;                      /* of processes that live */
	u64 pending;            /* bits of `pending` that were too many for one interrupt */
	wait_queue_head_t wait; /* state, queue_len */
	struct work_struct finish_work;
	struct delayed_work monitor; /* queued under device.lock while there are bars */
	struct work_struct woken_work;
	struct work_struct free_work;
};

struct canal_device *canal_device_create(struct canal_mailbox *mail, u32 __iomem *doorbell);
void canal_device_start(struct canal_device *dev);
void canal_device_remove(struct canal_device *dev);
void canal_device_free(struct kref *refs);
void canal_device_end_all(struct canal_device *dev);

static inline struct canal_device *canal_device_get(struct canal_device *dev)
{
	kref_get(&dev->refs);
	return dev;
}

static inline void canal_device_put(struct canal_device *dev)
{
	kref_put(&dev->refs, canal_device_free);
}

/* 0 when canald serves us; waits for it a moment. -ENODEV, -ERESTARTSYS. */
int canal_device_ready(struct canal_device *dev);
int canal_device_throttle(struct canal_device *dev);
void canal_device_kick(struct canal_device *dev);
void canal_device_collect(struct canal_device *dev);
bool canal_device_quiet(struct canal_device *dev, u64 passes);
u64 canal_device_passes(struct canal_device *dev);
u32 canal_device_limit(struct canal_device *dev, u64 *ret_region_len, u32 *ret_pins);

void canal_request_init(struct canal_request *request, u32 op, bool answered);
void canal_request_about(struct canal_request *request, const struct canal_channel *ch, u32 client);
void canal_request_who(struct canal_request *request);
void canal_request_submit(struct canal_device *dev, struct canal_request *request);
int canal_request_wait(struct canal_device *dev, struct canal_request *request);
bool canal_request_abandon(struct canal_device *dev, struct canal_request *request,
			   void (*done)(struct canal_request *request));

/* /dev/canal (canal_main.c) */
int canal_misc_add(struct canal_device *dev);
void canal_misc_remove(struct canal_device *dev);

/* --- channels (canal_channel.c) ---------------------------------------- */

/* Where things lie in a region: a copy that programs cannot change, checked
 * against the region's length. */
struct canal_layout {
	struct canal_table inr, wait, sock, tx_next, tx, rx;
};

struct canal_waiter_file;
struct canal_translation;

struct canal_channel {
	struct kref refs; /* of the struct */
	refcount_t users; /* clients and dummies */
	struct canal_device *dev;
	struct pid_namespace *pid_ns; /* in which its programs number their threads */
	struct list_head link;        /* device.channels */
	struct list_head grave;       /* canal_channel_forget() */
	u32 number;
	u64 id, token;
	bool opened; /* canald knows it */
	bool dead;   /* nothing works any more; device.lock, read anywhere */
	bool lost;   /* of another epoch: its number is somebody else's by now */
	bool let_go; /* canald has forgotten it: device.lock */
	bool over;   /* no users: device.lock */
	u32 clients; /* of the users; without one nobody can join: device.lock */
	u64 region_len;
	unsigned long page_count;
	struct page **pages;
	struct list_head lists;      /* pages of struct canal_extent */
	struct list_head kept;       /* translations whose LEAVE had no answer: device.lock */
	struct canal_region *region; /* page_count pages in a row */
	struct canal_layout layout;
	struct canal_request open, close;

	/* waiters, under device.lock */
	struct list_head waiters;
	struct canal_waiter_file *waiter[CANAL_WAIT_SLOTS];
	u64 left[CANAL_WOKEN_WORDS]; /* taken from `woken`, not yet done */

	/* the kernel as a client of its own: canal_kernel.c */
	struct mutex kernel_lock;
	u32 kernel_client; /* 0: not joined */
	u32 kernel_slot;   /* CANAL_NONE: none */
	struct canal_request kernel_join;
	struct canal_request kernel_waiter;
	bool kernel_busy; /* kernel_join is with canald */
	wait_queue_head_t kernel_wait;
};

static inline bool canal_channel_gone(const struct canal_channel *ch)
{
	return READ_ONCE(ch->dead) || canal_read_once(&ch->region->broken);
}

static inline struct canal_channel *canal_channel_get(struct canal_channel *ch)
{
	kref_get(&ch->refs);
	return ch;
}

void canal_channel_put(struct canal_channel *ch);
/* A new channel with one user, who is a client. */
int canal_channel_open(struct canal_device *dev, struct canal_channel **ret_ch);
/* An existing one, with one user more. */
int canal_channel_find(struct canal_device *dev, u64 id, u64 token, struct canal_channel **ret_ch);
void canal_channel_use(struct canal_channel *ch);
void canal_channel_unuse(struct canal_channel *ch);
/* A client came (1) or goes (-1). */
void canal_channel_count(struct canal_channel *ch, int more);
void canal_channel_keep(struct canal_channel *ch, struct canal_translation *t);
bool canal_channel_mapped(const struct canal_channel *ch);
int canal_channel_mmap(struct canal_channel *ch, struct vm_area_struct *vma);
void canal_channel_forget(struct canal_device *dev, bool let_go);

/* --- wait slots (canal_wait.c) ----------------------------------------- */

/* The number in arg->fd is reserved: fd_install() or put_unused_fd() and fput(). */
int canal_waiter_create(struct canal_channel *ch, u32 client, struct canal_waiter *arg,
			struct file **ret_file);
void canal_waiters_end(struct canal_channel *ch);
void canal_woken(struct canal_device *dev);
void canal_woken_work(struct work_struct *work);

/* --- sockets (canal_sock.c, canal_data.c) ------------------------------ */

int canal_sock_register(void);
void canal_sock_unregister(void);
int canal_dummy_create(struct canal_channel *ch, u32 client, struct canal_dummy *arg,
		       struct file **ret_file);

/* The kernel in a region (canal_kernel.c). */
struct canal_sock *canal_data_sock(struct canal_channel *ch, u32 number);
int canal_data_post(struct canal_channel *ch, u32 op, u32 sock, u32 arg);
int canal_kernel_join(struct canal_channel *ch);
int canal_kernel_lock(struct canal_channel *ch, u32 *lock, int flags);
void canal_kernel_unlock(u32 *lock);
bool canal_kernel_arm(struct canal_channel *ch, struct canal_sock *s);
int canal_kernel_sleep(struct canal_channel *ch, struct canal_sock *s, bool (*ready)(void *arg),
		       void *arg, long *timeo);

/* What the operations of a dummy do (canal_data.c). */
struct msghdr;

int canal_data_send(struct canal_channel *ch, u32 number, struct msghdr *msg);
int canal_data_recv(struct canal_channel *ch, u32 number, struct msghdr *msg, int flags);
__poll_t canal_data_poll(struct canal_channel *ch, u32 number);
int canal_data_shutdown(struct canal_channel *ch, u32 number, int how);
int canal_data_name(struct canal_channel *ch, u32 number, bool peer, void *name);
int canal_data_error(struct canal_channel *ch, u32 number);
int canal_data_at_mark(struct canal_channel *ch, u32 number);
int canal_data_queued(struct canal_channel *ch, u32 number, bool sent);

/* --- translation (canal_translate.c) ----------------------------------- */

int canal_translation_create(struct canal_device *dev, u32 pins,
			     struct canal_translation **ret_translation);
u64 canal_translation_root(struct canal_translation *t);
u32 canal_translation_limit(struct canal_translation *t);
int canal_translation_pin(struct canal_translation *t, const struct canal_pin *arg);
/* No page is given to canald any more; to be called before LEAVE is sent. */
void canal_translation_stop(struct canal_translation *t);
/* Behind LEAVE: canald reads the table no more. */
void canal_translation_free(struct canal_translation *t);
void canal_translation_keep(struct canal_translation *t, struct list_head *list);
void canal_translations_free(struct list_head *list);

#endif
