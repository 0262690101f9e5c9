// SPDX-License-Identifier: GPL-2.0
/*
 * Wait slots: what a program sleeps on, and the interrupts that end its sleep.
 *
 * Purpose: canald sets the bit of a slot in the region, the bit of the channel in
 * the mailbox, and interrupts; here both are taken, and the file of the slot
 * becomes readable. A program reads from it as it would from a pipe whose other
 * end canald has, or has the kernel send it a signal (O_ASYNC).
 *
 * Invariants
 *  1. The channel's bit is taken before the slots' bits, canald sets them the
 *     other way round: none is lost.
 *  2. One interrupt wakes at most WAKES_MOST; the rest goes to a work item. A
 *     program that sets all bits of its own region costs no more than that.
 *
 * Ownership and threads: the table of a channel and the flags of a waiter are
 * under device.lock. A waiter file holds the channel's struct, not its pages.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "canal.h"

/* Sleepers woken by one interrupt. */
#define WAKES_MOST 128u

struct canal_waiter_file {
	struct list_head link; /* channel.waiters */
	struct canal_channel *ch;
	u32 slot;
	u32 woken; /* since the last read */
	bool ended;
	wait_queue_head_t wait;
	struct fasync_struct *async; /* O_ASYNC: signals instead of sleep */
	struct canal_request request;
};

/* --- interrupts -------------------------------------------------------- */

static void slot_wake(struct canal_channel *ch, u32 slot)
{
	struct canal_waiter_file *w = ch->waiter[slot];

	if (slot == ch->kernel_slot)
		wake_up_all(&ch->kernel_wait);
	if (!w)
		return;
	WRITE_ONCE(w->woken, 1);
	wake_up_interruptible_poll(&w->wait, EPOLLIN | EPOLLRDNORM);
	kill_fasync(&w->async, SIGIO, POLL_IN);
}

/* False: more is left than the budget allowed. */
static bool channel_woken(struct canal_channel *ch, unsigned int *budget)
{
	unsigned int word;

	for (word = 0; word < CANAL_WOKEN_WORDS; word++) {
		u64 bits = ch->left[word] | canal_take_bits(&ch->region->woken[word]);

		while (bits && *budget) {
			slot_wake(ch, word * 64 + __ffs64(bits));
			bits &= bits - 1;
			(*budget)--;
		}
		ch->left[word] = bits;
		if (bits)
			return false;
	}
	return true;
}

/**
 * canal_woken() - wakes whom canald wants woken
 * @dev: the device
 *
 * Context: interrupt handler or work item.
 */
void canal_woken(struct canal_device *dev)
{
	unsigned int budget = WAKES_MOST;
	struct canal_bars *bars;
	unsigned long flags;
	u64 pending;

	spin_lock_irqsave(&dev->lock, flags);
	bars = rcu_dereference_protected(dev->bars, lockdep_is_held(&dev->lock));
	/* W1 acquire: the channel's bit before the slots' bits; pairs with canald */
	pending = dev->pending;
	if (bars)
		pending |= canal_take_bits(&bars->mail->pending);
	dev->pending = 0;
	while (pending) {
		unsigned int n = __ffs64(pending);
		struct canal_channel *ch = dev->channel[n];

		pending &= pending - 1;
		if (!ch || !ch->region || channel_woken(ch, &budget))
			continue;
		dev->pending = pending | 1ull << n;
		queue_work(canal_work, &dev->woken_work);
		break;
	}
	spin_unlock_irqrestore(&dev->lock, flags);
}

void canal_woken_work(struct work_struct *work)
{
	canal_woken(container_of(work, struct canal_device, woken_work));
}

/* Nobody will be woken any more. Under device.lock. */
void canal_waiters_end(struct canal_channel *ch)
{
	struct canal_waiter_file *w;

	list_for_each_entry(w, &ch->waiters, link)
	{
		WRITE_ONCE(w->ended, true);
		wake_up_all(&w->wait);
	}
}

/* --- files ------------------------------------------------------------- */

static ssize_t waiter_read(struct file *file, char __user *buf, size_t len, loff_t *pos)
{
	struct canal_waiter_file *w = file->private_data;
	int err;

	if (!len)
		return 0;
	while (!xchg(&w->woken, 0)) {
		if (READ_ONCE(w->ended))
			return 0;
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		err = wait_event_interruptible(w->wait, READ_ONCE(w->woken) || READ_ONCE(w->ended));
		if (err)
			return err;
	}
	return put_user('\1', buf) ? -EFAULT : 1;
}

static __poll_t waiter_poll(struct file *file, poll_table *table)
{
	struct canal_waiter_file *w = file->private_data;
	__poll_t mask = 0;

	poll_wait(file, &w->wait, table);
	if (READ_ONCE(w->woken))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (READ_ONCE(w->ended))
		mask |= EPOLLHUP;
	return mask;
}

static int waiter_fasync(int fd, struct file *file, int on)
{
	struct canal_waiter_file *w = file->private_data;

	return fasync_helper(fd, file, on, &w->async);
}

static void waiter_free(struct canal_waiter_file *w)
{
	canal_channel_put(w->ch);
	kfree(w);
}

static void waiter_told(struct canal_request *request)
{
	waiter_free(container_of(request, struct canal_waiter_file, request));
}

static int waiter_release(struct inode *inode, struct file *file)
{
	struct canal_waiter_file *w = file->private_data;
	struct canal_device *dev = w->ch->dev;

	spin_lock_irq(&dev->lock);
	list_del(&w->link);
	if (w->ch->waiter[w->slot] == w)
		w->ch->waiter[w->slot] = NULL;
	spin_unlock_irq(&dev->lock);
	if (!canal_request_abandon(dev, &w->request, waiter_told))
		waiter_free(w);
	return 0;
}

static const struct file_operations waiter_fops = {
	.owner = THIS_MODULE,
	.read = waiter_read,
	.poll = waiter_poll,
	.fasync = waiter_fasync,
	.release = waiter_release,
	.llseek = noop_llseek,
};

/* Enters the waiter, before canald is told of it. The one that had the slot
 * before is woken no more. */
static int waiter_enter(struct canal_channel *ch, struct canal_waiter_file *w)
{
	struct canal_device *dev = ch->dev;
	int err = 0;

	spin_lock_irq(&dev->lock);
	if (ch->dead) {
		err = -ENODEV;
	} else {
		list_add(&w->link, &ch->waiters);
		ch->waiter[w->slot] = w;
	}
	spin_unlock_irq(&dev->lock);
	return err;
}

static struct canal_waiter_file *waiter_new(struct canal_channel *ch, u32 client,
					    const struct canal_waiter *arg)
{
	struct canal_waiter_file *w = kzalloc(sizeof(*w), GFP_KERNEL_ACCOUNT);

	if (!w)
		return NULL;
	w->ch = canal_channel_get(ch);
	w->slot = arg->slot;
	init_waitqueue_head(&w->wait);
	canal_request_init(&w->request, CANAL_MAIL_WAITER, false);
	canal_request_about(&w->request, ch, client);
	w->request.mail.sock = arg->slot;
	w->request.mail.generation = arg->serial;
	return w;
}

/**
 * canal_waiter_create() - the file of a wait slot
 * @ch:       the channel
 * @client:   number of the calling process
 * @arg:      what the program asked; its fd is set
 * @ret_file: the file
 *
 * Context: process context; may wait for canald to take requests.
 * Return: 0, with a number and a file that belong together.
 */
int canal_waiter_create(struct canal_channel *ch, u32 client, struct canal_waiter *arg,
			struct file **ret_file)
{
	struct canal_waiter_file *w;
	struct file *file;
	int fd, err;

	if (arg->slot >= ch->layout.wait.count || (arg->flags & ~(O_NONBLOCK | O_CLOEXEC)))
		return -EINVAL;
	err = canal_device_throttle(ch->dev);
	if (err)
		return err;
	fd = get_unused_fd_flags(arg->flags & O_CLOEXEC);
	if (fd < 0)
		return fd;
	err = -ENOMEM;
	w = waiter_new(ch, client, arg);
	if (!w)
		goto fail_fd;
	err = waiter_enter(ch, w);
	if (err)
		goto fail_waiter;
	file = anon_inode_getfile("[canal-wait]", &waiter_fops, w,
				  O_RDONLY | (arg->flags & O_NONBLOCK));
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto fail_entered;
	}
	canal_request_submit(ch->dev, &w->request);
	arg->fd = fd;
	*ret_file = file;
	return 0;
fail_entered:
	spin_lock_irq(&ch->dev->lock);
	list_del(&w->link);
	if (ch->waiter[w->slot] == w)
		ch->waiter[w->slot] = NULL;
	spin_unlock_irq(&ch->dev->lock);
fail_waiter:
	waiter_free(w);
fail_fd:
	put_unused_fd(fd);
	return err;
}
