// SPDX-License-Identifier: GPL-2.0
/*
 * Requests to canald, and whether there is a canald.
 *
 * Purpose: a request lies in the queue until the mailbox has a slot for it, then
 * in the slot until canald has answered. UNDUMMY, LEAVE and CLOSE come out of
 * release functions, which cannot fail: their memory is part of what is being
 * released, and they stay in the queue for as long as it takes.
 *
 * Invariants
 *  1. Requests go into the mailbox in the order in which they were submitted.
 *  2. Every submitted request ends exactly once: canald answered, or it lies in
 *     a slot and has no answer, or the epoch ended (-ENODEV).
 *  3. Pages that canald knows are not freed before it has answered CLOSE or
 *     RESET, or has changed the epoch.
 *
 * Ownership and threads: all of it under device.lock; the interrupt handler
 * collects answers, done() functions run from a work item.
 *
 * Failure: canald that does not answer gives -ETIMEDOUT to who waits. One that
 * shows no sign of life while there are channels is taken for dead: all channels
 * end, and the monitor goes on trying RESET.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cred.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uidgid.h>

#include "canal.h"

/* Looks at the epoch when nothing happens. */
#define MONITOR_PERIOD HZ
/* And while somebody waits for an answer. */
#define LOOK_PERIOD (HZ / 10)
/* Looks, a period apart, without a pass of canald, although it was knocked at, before
 * it counts as dead. */
#define STILL_MOST 15
/* Requests in the queue before programs have to wait. */
#define QUEUE_MOST 1024

/* Not inline, so that a kprobe can count it (tests/bench/vm). */
static noinline void doorbell_ring(struct canal_bars *bars)
{
	writel(CANAL_PEER_HOST << 16, bars->doorbell);
}

static struct canal_bars *bars_locked(struct canal_device *dev)
{
	return rcu_dereference_protected(dev->bars, lockdep_is_held(&dev->lock));
}

void canal_device_kick(struct canal_device *dev)
{
	struct canal_bars *bars;

	rcu_read_lock();
	bars = rcu_dereference(dev->bars);
	if (bars)
		doorbell_ring(bars);
	rcu_read_unlock();
}

/* --- the ends of requests ---------------------------------------------- */

void canal_request_init(struct canal_request *request, u32 op, bool answered)
{
	memset(request, 0, sizeof(*request));
	INIT_LIST_HEAD(&request->link);
	init_completion(&request->finished);
	request->mail.op = op;
	request->answered = answered;
}

/* Without this it is not about a channel. @client: 0 where that says nothing. */
void canal_request_about(struct canal_request *request, const struct canal_channel *ch, u32 client)
{
	request->ch = ch;
	request->mail.channel = ch->number;
	request->mail.client = client;
}

/* Fills in who asks: the calling process. */
void canal_request_who(struct canal_request *request)
{
	request->mail.uid = from_kuid(&init_user_ns, current_euid());
	request->mail.pid = task_tgid_nr(current);
	strscpy(request->mail.name, current->group_leader->comm, sizeof(request->mail.name));
}

/* Under device.lock. */
static void request_over(struct canal_device *dev, struct canal_request *request, int result)
{
	request->result = result;
	request->state = CANAL_REQUEST_DONE;
	if (request->done) {
		list_add_tail(&request->link, &dev->finished);
		queue_work(canal_work, &dev->finish_work);
	} else {
		complete(&request->finished);
	}
}

static void finish_work(struct work_struct *work)
{
	struct canal_device *dev = container_of(work, struct canal_device, finish_work);
	struct canal_request *request, *next;
	LIST_HEAD(list);

	spin_lock_irq(&dev->lock);
	list_splice_init(&dev->finished, &list);
	spin_unlock_irq(&dev->lock);
	list_for_each_entry_safe(request, next, &list, link)
	{
		list_del_init(&request->link);
		request->done(request);
	}
}

/* --- the mailbox ------------------------------------------------------- */

/* Answers that have come. Under device.lock. */
static void answers_take(struct canal_device *dev, struct canal_mailbox *mail)
{
	unsigned int i;

	for (i = 0; i < CANAL_MAIL_SLOTS; i++) {
		struct canal_request *request = dev->slot[i].request;

		/* M2 acquire: done before the result; pairs with canald */
		if (!dev->slot[i].busy ||
		    canal_load_acquire(&mail->mail[i].done) != dev->slot[i].pos + 1)
			continue;
		dev->slot[i].busy = false;
		dev->slot[i].request = NULL;
		if (request)
			request_over(dev, request, canal_read_once(&mail->mail[i].result));
	}
}

/* Under device.lock; the slot at tail is free. */
static void request_post(struct canal_device *dev, struct canal_mailbox *mail,
			 struct canal_request *request)
{
	unsigned int i = dev->tail % CANAL_MAIL_SLOTS;

	memcpy(&mail->mail[i], &request->mail, offsetof(struct canal_mail, result));
	dev->slot[i].busy = true;
	dev->slot[i].pos = dev->tail;
	dev->slot[i].request = request->answered ? request : NULL;
	request->state = CANAL_REQUEST_POSTED;
	dev->tail++;
	/* M1 release: the request before tail; with the fence for S1 */
	canal_store_fence(&mail->tail, dev->tail);
	if (!request->answered)
		request_over(dev, request, 0);
}

/* Moves requests into slots, while there are any. Under device.lock. */
static void queue_pump(struct canal_device *dev)
{
	struct canal_bars *bars = bars_locked(dev);
	bool posted = false;

	if (!bars)
		return;
	while (!list_empty(&dev->queue)) {
		struct canal_request *request;

		if (dev->slot[dev->tail % CANAL_MAIL_SLOTS].busy)
			answers_take(dev, bars->mail);
		if (dev->slot[dev->tail % CANAL_MAIL_SLOTS].busy)
			break;
		request = list_first_entry(&dev->queue, struct canal_request, link);
		list_del_init(&request->link);
		dev->queue_len--;
		request_post(dev, bars->mail, request);
		posted = true;
	}
	if (posted && canal_take(&bars->mail->host_asleep))
		doorbell_ring(bars);
	if (!list_empty(&dev->queue))
		mod_delayed_work(canal_work, &dev->monitor, 1);
	else if (posted)
		wake_up_all(&dev->wait);
}

/**
 * canal_request_submit() - hands a request over
 * @dev:     the device
 * @request: filled, after canal_request_init()
 *
 * Context: any process context; does not sleep.
 */
void canal_request_submit(struct canal_device *dev, struct canal_request *request)
{
	unsigned long flags;

	spin_lock_irqsave(&dev->lock, flags);
	if ((dev->state != CANAL_DEVICE_READY && request->mail.op != CANAL_MAIL_RESET) ||
	    (request->ch && request->ch->lost)) {
		request_over(dev, request, -ENODEV);
	} else {
		request->state = CANAL_REQUEST_QUEUED;
		list_add_tail(&request->link, &dev->queue);
		dev->queue_len++;
		queue_pump(dev);
	}
	spin_unlock_irqrestore(&dev->lock, flags);
}

/* For an answer whose interrupt was lost: nobody listened yet. */
static void answers_look(struct canal_device *dev)
{
	struct canal_bars *bars;

	spin_lock_irq(&dev->lock);
	bars = bars_locked(dev);
	if (bars) {
		(void)canal_xchg(&bars->mail->pending_mail, 0u);
		answers_take(dev, bars->mail);
		queue_pump(dev);
	}
	spin_unlock_irq(&dev->lock);
}

/**
 * canal_request_wait() - for the answer to a request without done()
 * @dev:     the device
 * @request: submitted
 *
 * Context: process context, sleeps.
 * Return: canald's result, -ENODEV, or -ETIMEDOUT and -ERESTARTSYS: then canald
 * may still see it, and the caller goes on with canal_request_abandon().
 */
int canal_request_wait(struct canal_device *dev, struct canal_request *request)
{
	unsigned long end = jiffies + msecs_to_jiffies(READ_ONCE(canal_timeout_ms));
	long left;

	do {
		left = wait_for_completion_killable_timeout(&request->finished, LOOK_PERIOD);
		if (left > 0)
			return request->result;
		if (left)
			return (int)left;
		answers_look(dev);
	} while (time_before(jiffies, end));
	return try_wait_for_completion(&request->finished) ? request->result : -ETIMEDOUT;
}

/**
 * canal_request_abandon() - nobody waits for the answer any more
 * @dev:     the device
 * @request: submitted
 * @done: is called when it comes after all
 *
 * Return: false when it is over already, and @done will not be called.
 */
bool canal_request_abandon(struct canal_device *dev, struct canal_request *request,
			   void (*done)(struct canal_request *request))
{
	bool later;

	spin_lock_irq(&dev->lock);
	later = request->state != CANAL_REQUEST_DONE;
	if (later)
		request->done = done;
	spin_unlock_irq(&dev->lock);
	return later;
}

/* From the interrupt handler. */
void canal_device_collect(struct canal_device *dev)
{
	struct canal_bars *bars;
	unsigned long flags;

	spin_lock_irqsave(&dev->lock, flags);
	bars = bars_locked(dev);
	if (bars) {
		if (canal_xchg(&bars->mail->pending_mail, 0u)) {
			answers_take(dev, bars->mail);
			queue_pump(dev);
		}
		if (canal_read_once(&bars->mail->epoch) != dev->epoch)
			mod_delayed_work(canal_work, &dev->monitor, 0);
	}
	spin_unlock_irqrestore(&dev->lock, flags);
}

/* --- canald: there, away, dead ----------------------------------------- */

u64 canal_device_passes(struct canal_device *dev)
{
	struct canal_bars *bars;
	u64 passes = 0;

	rcu_read_lock();
	bars = rcu_dereference(dev->bars);
	if (bars)
		passes = canal_load_acquire(&bars->mail->passes);
	rcu_read_unlock();
	return passes;
}

/**
 * canal_device_quiet() - has canald stopped using what left a table by now?
 * @dev:    the device
 * @passes: canal_device_passes() behind a full fence behind the store
 */
bool canal_device_quiet(struct canal_device *dev, u64 passes)
{
	struct canal_bars *bars;
	bool quiet;

	rcu_read_lock();
	bars = rcu_dereference(dev->bars);
	quiet = bars || READ_ONCE(dev->forgotten);
	/* T2 acquire: canald's uses in passes before this one, or before it slept */
	if (bars && canal_load_acquire(&bars->mail->passes) - passes < 2) {
		canal_full_fence(); /* T1 store-load: the cleared entry before this look */
		quiet = canal_load_acquire(&bars->mail->host_asleep);
	}
	rcu_read_unlock();
	return quiet;
}

/* Channels that this guest may have; 0 when canald is away. */
u32 canal_device_limit(struct canal_device *dev, u64 *ret_region_len, u32 *ret_pins)
{
	struct canal_bars *bars;
	u32 channels = 0;

	rcu_read_lock();
	bars = rcu_dereference(dev->bars);
	if (bars && canal_read_once(&bars->mail->epoch)) {
		channels = min(canal_read_once(&bars->mail->channels), CANAL_MAIL_CHANNELS);
		*ret_region_len = canal_read_once(&bars->mail->region_len);
		*ret_pins = canal_read_once(&bars->mail->pins);
	}
	rcu_read_unlock();
	return channels;
}

/* All that is under way ends with -ENODEV, but RESET. Under device.lock. */
static void requests_end(struct canal_device *dev)
{
	struct canal_request *request, *next;
	unsigned int i;

	for (i = 0; i < CANAL_MAIL_SLOTS; i++) {
		request = dev->slot[i].request;
		if (request && request->mail.op == CANAL_MAIL_RESET)
			continue;
		dev->slot[i].busy = false;
		dev->slot[i].request = NULL;
		if (request)
			request_over(dev, request, -ENODEV);
	}
	list_for_each_entry_safe(request, next, &dev->queue, link)
	{
		if (request->mail.op == CANAL_MAIL_RESET)
			continue;
		list_del_init(&request->link);
		dev->queue_len--;
		request_over(dev, request, -ENODEV);
	}
}

/**
 * device_down() - what canald knew is over
 * @dev:    the device
 * @state:  CANAL_DEVICE_DOWN or CANAL_DEVICE_GONE
 * @let_go: canald does not use our pages any more
 */
static void device_down(struct canal_device *dev, enum canal_device_state state, bool let_go)
{
	spin_lock_irq(&dev->lock);
	if (dev->state != CANAL_DEVICE_GONE)
		dev->state = state;
	dev->still = 0;
	requests_end(dev);
	spin_unlock_irq(&dev->lock);
	canal_channel_forget(dev, let_go);
	wake_up_all(&dev->wait);
}

/* Knocks at a canald that has channels but makes no pass. */
static bool device_is_dead(struct canal_device *dev)
{
	bool used, rang = false;
	struct canal_bars *bars;
	u64 passes;

	spin_lock_irq(&dev->lock);
	bars = bars_locked(dev);
	used = !list_empty(&dev->channels);
	passes = bars ? canal_read_once(&bars->mail->passes) : 0;
	if (!bars || !used || passes != dev->last_passes) {
		dev->still = 0;
		dev->looked = jiffies;
	} else if (time_after_eq(jiffies, dev->looked + MONITOR_PERIOD)) {
		/* with requests in the queue it is each tick that we are here */
		dev->looked = jiffies;
		rang = ++dev->still > 1; /* an idle canald sleeps: it is no sign */
	}
	dev->last_passes = passes;
	if (rang && bars) {
		(void)canal_xchg(&bars->mail->host_asleep, 0u);
		doorbell_ring(bars);
	}
	spin_unlock_irq(&dev->lock);
	return dev->still > STILL_MOST;
}

/* The page where RAM ends below 4 GiB, or a few MiB above that; 0: there is none at
 * 4 GiB, so it does not matter. Where a cookie lies below, canald cannot find out. */
static u32 low_top(void)
{
	const unsigned long above = 1ul << (32 - PAGE_SHIFT), step = (16ul << 20) >> PAGE_SHIFT;
	unsigned long pfn = above;

	if (!page_is_ram(above))
		return 0;
	while (pfn > step && !page_is_ram(pfn - step))
		pfn -= step;
	return pfn;
}

/* The RESET that is under way was asked of another canald, or of one that has thrown us
 * out since and did not look at it: nobody answers it. What comes all the same is nobody's. */
static void reset_take_back(struct canal_device *dev)
{
	unsigned int i;

	spin_lock_irq(&dev->lock);
	if (dev->reset.state == CANAL_REQUEST_QUEUED) {
		list_del_init(&dev->reset.link);
		dev->queue_len--;
	}
	for (i = 0; i < CANAL_MAIL_SLOTS; i++) {
		if (dev->slot[i].request != &dev->reset)
			continue;
		dev->slot[i].busy = false;
		dev->slot[i].request = NULL;
	}
	dev->reset_sent = false;
	spin_unlock_irq(&dev->lock);
}

static void reset_submit(struct canal_device *dev, u32 epoch)
{
	/* the same for as long as one may be served that was taken back */
	u64 *at = page_address(dev->cookie), cookie = *at ?: get_random_u64() ?: 1;

	*at = cookie;
	canal_request_init(&dev->reset, CANAL_MAIL_RESET, true);
	dev->reset.mail.address = page_to_phys(dev->cookie);
	dev->reset.mail.arg64 = cookie;
	dev->reset.mail.arg = low_top();
	dev->reset_epoch = epoch;
	dev->reset_sent = true;
	canal_request_submit(dev, &dev->reset);
}

/**
 * device_reset() - begins anew with canald
 * @dev:   the device
 * @epoch: that it belongs to
 *
 * Context: the monitor, or who has stopped it. Sleeps until canald answers or the
 * time is over; an unanswered RESET is waited for again the next time, unless the epoch
 * that it was sent in is over (@epoch 0: it is left as it is).
 */
static int device_reset(struct canal_device *dev, u32 epoch)
{
	int err;

	if (dev->reset_sent && epoch && epoch != dev->reset_epoch)
		reset_take_back(dev);
	if (!dev->reset_sent)
		reset_submit(dev, epoch);
	err = canal_request_wait(dev, &dev->reset);
	if (err == -ETIMEDOUT || err == -ERESTARTSYS) {
		if (canal_request_abandon(dev, &dev->reset, NULL))
			return err;
		err = dev->reset.result; /* just now, or canald says just that */
	}
	dev->reset_sent = false;
	return err;
}

/* RESET was answered, so canald has let go of all that was before. */
static void device_up(struct canal_device *dev)
{
	canal_channel_forget(dev, true);
	spin_lock_irq(&dev->lock);
	if (dev->state == CANAL_DEVICE_DOWN) {
		dev->state = CANAL_DEVICE_READY;
		dev->epoch = dev->reset_epoch;
		dev->still = 0;
	}
	spin_unlock_irq(&dev->lock);
	wake_up_all(&dev->wait);
}

static void monitor(struct work_struct *work)
{
	struct canal_device *dev = container_of(work, struct canal_device, monitor.work);
	u32 epoch = 0;
	struct canal_bars *bars;
	bool ready;

	answers_look(dev);
	canal_woken(dev);
	spin_lock_irq(&dev->lock);
	bars = dev->state == CANAL_DEVICE_GONE ? NULL : bars_locked(dev);
	/* M1 acquire: the epoch before what canald stored for it */
	if (bars)
		epoch = canal_load_acquire(&bars->mail->epoch);
	ready = dev->state == CANAL_DEVICE_READY;
	spin_unlock_irq(&dev->lock);
	if (!bars)
		return;
	if (ready && epoch != dev->epoch) {
		pr_info("canald %s: all channels end\n", epoch ? "began anew" : "left");
		device_down(dev, CANAL_DEVICE_DOWN, true);
		ready = false;
	} else if (ready && device_is_dead(dev)) {
		pr_warn("canald does not move: all channels end\n");
		device_down(dev, CANAL_DEVICE_DOWN, false);
		ready = false;
	}
	if (!ready && epoch) {
		int err = device_reset(dev, epoch);

		if (!err)
			device_up(dev);
		else if (err != -ETIMEDOUT)
			pr_warn_ratelimited("canald refuses this guest: %d\n", err);
	}
	spin_lock_irq(&dev->lock);
	if (bars_locked(dev) && dev->state != CANAL_DEVICE_GONE)
		queue_delayed_work(canal_work, &dev->monitor,
				   list_empty(&dev->queue) ? MONITOR_PERIOD : 1);
	spin_unlock_irq(&dev->lock);
}

int canal_device_ready(struct canal_device *dev)
{
	struct canal_bars *bars;
	long left;

	if (READ_ONCE(dev->state) == CANAL_DEVICE_READY)
		return 0;
	spin_lock_irq(&dev->lock);
	bars = bars_locked(dev);
	if (bars && !canal_read_once(&bars->mail->epoch))
		bars = NULL;
	if (bars)
		mod_delayed_work(canal_work, &dev->monitor, 0);
	spin_unlock_irq(&dev->lock);
	if (!bars)
		return -ENODEV;
	left = wait_event_killable_timeout(dev->wait, READ_ONCE(dev->state) != CANAL_DEVICE_DOWN,
					   msecs_to_jiffies(canal_timeout_ms));
	if (left < 0)
		return (int)left;
	return READ_ONCE(dev->state) == CANAL_DEVICE_READY ? 0 : -ENODEV;
}

/* Holds up programs that ask for more than canald does. */
int canal_device_throttle(struct canal_device *dev)
{
	long left;

	if (READ_ONCE(dev->queue_len) < QUEUE_MOST)
		return 0;
	left = wait_event_interruptible_timeout(dev->wait,
						READ_ONCE(dev->queue_len) < QUEUE_MOST ||
							READ_ONCE(dev->state) != CANAL_DEVICE_READY,
						msecs_to_jiffies(canal_timeout_ms));
	if (left < 0)
		return (int)left;
	return left ? 0 : -ETIMEDOUT;
}

/* --- the device -------------------------------------------------------- */

/* The last reference may go in a work item of the device itself. */
static void device_free_work(struct work_struct *work)
{
	struct canal_device *dev = container_of(work, struct canal_device, free_work);

	cancel_work_sync(&dev->finish_work);
	cancel_work_sync(&dev->woken_work);
	__free_page(dev->cookie);
	kvfree(dev);
}

struct canal_device *canal_device_create(struct canal_mailbox *mail, u32 __iomem *doorbell)
{
	struct canal_device *dev = kvzalloc(sizeof(*dev), GFP_KERNEL);
	struct canal_bars *bars = kzalloc(sizeof(*bars), GFP_KERNEL);

	if (!dev || !bars)
		goto fail;
	dev->cookie = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!dev->cookie)
		goto fail;
	kref_init(&dev->refs);
	spin_lock_init(&dev->lock);
	INIT_LIST_HEAD(&dev->queue);
	INIT_LIST_HEAD(&dev->finished);
	INIT_LIST_HEAD(&dev->channels);
	INIT_LIST_HEAD(&dev->translations);
	init_waitqueue_head(&dev->wait);
	INIT_WORK(&dev->finish_work, finish_work);
	INIT_WORK(&dev->woken_work, canal_woken_work);
	INIT_WORK(&dev->free_work, device_free_work);
	INIT_DELAYED_WORK(&dev->monitor, monitor);
	bars->mail = mail;
	bars->doorbell = doorbell;
	/* A driver that was here before left its position. */
	dev->tail = canal_read_once(&mail->tail);
	rcu_assign_pointer(dev->bars, bars);
	return dev;
fail:
	kfree(bars);
	kvfree(dev);
	return ERR_PTR(-ENOMEM);
}

/* Interrupts come from now on. */
void canal_device_start(struct canal_device *dev)
{
	spin_lock_irq(&dev->lock);
	queue_delayed_work(canal_work, &dev->monitor, 0);
	spin_unlock_irq(&dev->lock);
}

/**
 * canal_device_end_all() - makes canald let go of all pages of this guest
 * @dev: the device
 *
 * Context: process context, sleeps; the device takes no requests afterwards.
 */
void canal_device_end_all(struct canal_device *dev)
{
	u64 region_len;
	u32 pins;
	bool let_go = true;

	/* The monitor leaves RESET to us from now on; one that runs is waited for. */
	spin_lock_irq(&dev->lock);
	dev->state = CANAL_DEVICE_GONE;
	spin_unlock_irq(&dev->lock);
	cancel_delayed_work_sync(&dev->monitor);
	device_down(dev, CANAL_DEVICE_GONE, false);
	/* One that was sent before has nothing of the last channels in front of it. */
	if (canal_device_limit(dev, &region_len, &pins))
		let_go = !device_reset(dev, 0);
	WRITE_ONCE(dev->forgotten, let_go);
	canal_channel_forget(dev, let_go);
	if (!let_go)
		pr_warn("canald does not answer: the pages of its channels are lost\n");
}

/* Nobody reaches the BARs behind this, and the monitor does not run again. */
void canal_device_remove(struct canal_device *dev)
{
	struct canal_bars *bars;

	canal_device_end_all(dev);
	spin_lock_irq(&dev->lock);
	bars = bars_locked(dev);
	rcu_assign_pointer(dev->bars, NULL);
	spin_unlock_irq(&dev->lock);
	synchronize_rcu();
	kfree(bars);
	cancel_delayed_work_sync(&dev->monitor);
}

void canal_device_free(struct kref *refs)
{
	struct canal_device *dev = container_of(refs, struct canal_device, refs);

	queue_work(canal_work, &dev->free_work);
}
