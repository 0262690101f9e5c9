// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/canal: the place of a process in a channel. driver/canal_uapi.h says what
 * a program may ask.
 *
 * Invariants
 *  1. An open file is attached once, to one channel, as one client; until then
 *     it can do nothing else.
 *  2. Descriptors are given out when the answer is in the program's memory, not
 *     before: no request leaves one behind that the program does not know.
 *
 * Ownership and threads: client.lock serialises ATTACH and JOIN; what they set is
 * published by `ch` and read without lock afterwards.
 *
 * Failure: as canal_uapi.h says. A client that canald never heard of, or that
 * timed out, is cleaned up by the answer, whenever it comes.
 */
#include <linux/file.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "canal.h"

unsigned int canal_timeout_ms = 5000;
module_param_named(timeout_ms, canal_timeout_ms, uint, 0644);
MODULE_PARM_DESC(timeout_ms, "how long a program waits for canald, in milliseconds");

unsigned int canal_max_pins = 16384;
module_param_named(max_pins, canal_max_pins, uint, 0644);
MODULE_PARM_DESC(max_pins, "pages that one process may have pinned, 0: no translation");

struct canal_client {
	struct canal_device *dev;
	struct mutex lock;
	struct canal_channel *ch; /* published; NULL: not attached */
	u32 number;
	u32 pins;
	struct canal_translation *translation; /* NULL: none */
	struct canal_request join, leave, hybrid;
};

static DEFINE_MUTEX(misc_lock);
static struct canal_device *misc_device;

static struct canal_channel *client_channel(struct canal_client *c)
{
	return smp_load_acquire(&c->ch);
}

/* --- the end of a client ----------------------------------------------- */

static void client_free(struct canal_client *c)
{
	if (c->translation)
		canal_translation_free(c->translation);
	if (c->ch) {
		canal_channel_unuse(c->ch);
		canal_channel_put(c->ch);
	}
	canal_device_put(c->dev);
	kfree(c);
}

static void leave_done(struct canal_request *request)
{
	struct canal_client *c = container_of(request, struct canal_client, leave);

	if (request->result == -ENODEV && c->translation) {
		canal_channel_keep(c->ch, c->translation);
		c->translation = NULL;
	}
	client_free(c);
}

static void client_leave(struct canal_client *c)
{
	canal_channel_count(c->ch, -1);
	if (c->translation)
		canal_translation_stop(c->translation);
	canal_request_init(&c->leave, CANAL_MAIL_LEAVE, true);
	canal_request_about(&c->leave, c->ch, c->number);
	c->leave.done = leave_done;
	canal_request_submit(c->dev, &c->leave);
}

/* A JOIN that nobody waited for any longer. */
static void join_late(struct canal_request *request)
{
	struct canal_client *c = container_of(request, struct canal_client, join);

	if (request->result > 0) {
		c->number = request->result;
		canal_channel_count(c->ch, 1);
		client_leave(c);
	} else {
		client_free(c);
	}
}

/* --- ATTACH and JOIN --------------------------------------------------- */

/*
 * Gives the process its translation table. Canald hears of it before the program
 * can name an address; without one the program goes without.
 */
static void client_translate(struct canal_client *c, struct canal_channel *ch)
{
	u64 region_len;
	u32 pins = 0;

	c->pins = 0;
	if (!canal_device_limit(c->dev, &region_len, &pins))
		return;
	pins = min(pins, READ_ONCE(canal_max_pins));
	if (!pins || canal_translation_create(c->dev, pins, &c->translation))
		return;
	c->pins = canal_translation_limit(c->translation);
	canal_request_init(&c->hybrid, CANAL_MAIL_HYBRID, false);
	canal_request_about(&c->hybrid, ch, c->number);
	c->hybrid.mail.address = canal_translation_root(c->translation);
	canal_request_submit(c->dev, &c->hybrid);
}

static void client_answer(struct canal_client *c, struct canal_channel *ch,
			  struct canal_attach *arg)
{
	client_translate(c, ch);
	arg->client = c->number;
	arg->channel_id = ch->id;
	arg->token = ch->token;
	arg->region_len = ch->region_len;
	arg->pins = c->pins;
	/* What was set before, for whoever sees the channel. */
	smp_store_release(&c->ch, ch);
}

static int client_attach(struct canal_client *c, struct canal_attach *arg)
{
	struct canal_channel *ch;
	int err;

	if (arg->channel_id || arg->token)
		return -EINVAL;
	err = canal_channel_open(c->dev, &ch);
	if (err)
		return err;
	c->number = 1;
	client_answer(c, ch, arg);
	return 0;
}

/*
 * The answer that does not come in time finds another struct canal_client than
 * the one of this file, so that the file can try again.
 */
static int join_ask(struct canal_client *c, struct canal_channel *ch)
{
	struct canal_client *asking = kzalloc(sizeof(*asking), GFP_KERNEL_ACCOUNT);
	int r;

	if (!asking)
		return -ENOMEM;
	asking->dev = canal_device_get(c->dev);
	asking->ch = canal_channel_get(ch);
	canal_channel_use(ch);
	canal_request_init(&asking->join, CANAL_MAIL_JOIN, true);
	canal_request_who(&asking->join);
	canal_request_about(&asking->join, ch, 0);
	canal_request_submit(c->dev, &asking->join);
	r = canal_request_wait(c->dev, &asking->join);
	if (r == -ETIMEDOUT || r == -ERESTARTSYS) {
		if (canal_request_abandon(c->dev, &asking->join, join_late))
			return r;
		r = asking->join.result; /* just now */
	}
	client_free(asking);
	if (r == -EPIPE) /* its last process has left */
		return -ENOENT;
	return r ?: -EPROTO;
}

static int client_join(struct canal_client *c, struct canal_attach *arg)
{
	struct canal_channel *ch;
	int r = canal_channel_find(c->dev, arg->channel_id, arg->token, &ch);

	if (r)
		return r;
	r = join_ask(c, ch);
	if (r <= 0) {
		canal_channel_unuse(ch);
		canal_channel_put(ch);
		return r;
	}
	c->number = r;
	canal_channel_count(ch, 1);
	client_answer(c, ch, arg);
	return 0;
}

static int ioctl_attach(struct canal_client *c, void __user *user, bool join)
{
	struct canal_attach arg;
	int err;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (arg.version != CANAL_WIRE_VERSION || arg.pad)
		return -EINVAL;
	if (mutex_lock_killable(&c->lock))
		return -EINTR;
	if (c->ch)
		err = -EALREADY;
	else
		err = join ? client_join(c, &arg) : client_attach(c, &arg);
	mutex_unlock(&c->lock);
	/* On EFAULT it is attached all the same; to close the file undoes it. */
	if (!err && copy_to_user(user, &arg, sizeof(arg)))
		err = -EFAULT;
	return err;
}

/* --- the other requests ------------------------------------------------ */

/* Hands a file to the program, or lets go of it. */
static int file_give(struct file *file, int fd, bool told)
{
	if (!told) {
		put_unused_fd(fd);
		fput(file);
		return -EFAULT;
	}
	fd_install(fd, file);
	return 0;
}

static int ioctl_waiter(struct canal_client *c, struct canal_channel *ch, void __user *user)
{
	struct canal_waiter arg;
	struct file *file;
	int err;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	err = canal_waiter_create(ch, c->number, &arg, &file);
	if (err)
		return err;
	return file_give(file, arg.fd, !copy_to_user(user, &arg, sizeof(arg)));
}

static int ioctl_dummy(struct canal_client *c, struct canal_channel *ch, void __user *user)
{
	struct canal_dummy arg;
	struct file *file;
	int err;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	err = canal_dummy_create(ch, c->number, &arg, &file);
	if (err)
		return err;
	return file_give(file, arg.fd, !copy_to_user(user, &arg, sizeof(arg)));
}

static int ioctl_pin(struct canal_client *c, void __user *user)
{
	struct canal_pin arg;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (arg.pad || arg.writable > 1)
		return -EINVAL;
	return c->translation ? canal_translation_pin(c->translation, &arg) : -EDQUOT;
}

static long canal_ioctl(struct file *file, unsigned int cmd, unsigned long user)
{
	struct canal_client *c = file->private_data;
	void __user *arg = (void __user *)user;
	struct canal_channel *ch;

	if (cmd == CANAL_IOC_ATTACH || cmd == CANAL_IOC_JOIN)
		return ioctl_attach(c, arg, cmd == CANAL_IOC_JOIN);
	if (cmd != CANAL_IOC_WAITER && cmd != CANAL_IOC_DUMMY && cmd != CANAL_IOC_KICK &&
	    cmd != CANAL_IOC_PIN)
		return -ENOTTY;
	ch = client_channel(c);
	if (!ch)
		return -EINVAL;
	if (READ_ONCE(ch->dead))
		return -ENODEV;
	switch (cmd) {
	case CANAL_IOC_WAITER:
		return ioctl_waiter(c, ch, arg);
	case CANAL_IOC_DUMMY:
		return ioctl_dummy(c, ch, arg);
	case CANAL_IOC_PIN:
		return ioctl_pin(c, arg);
	default:
		canal_device_kick(ch->dev);
		return 0;
	}
}

static int canal_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct canal_client *c = file->private_data;
	struct canal_channel *ch = client_channel(c);

	if (!ch)
		return -EINVAL;
	return READ_ONCE(ch->dead) ? -ENODEV : canal_channel_mmap(ch, vma);
}

/* --- the device node --------------------------------------------------- */

static int canal_open(struct inode *inode, struct file *file)
{
	struct canal_client *c = kzalloc(sizeof(*c), GFP_KERNEL_ACCOUNT);

	if (!c)
		return -ENOMEM;
	mutex_init(&c->lock);
	mutex_lock(&misc_lock);
	if (misc_device)
		c->dev = canal_device_get(misc_device);
	mutex_unlock(&misc_lock);
	if (!c->dev) {
		kfree(c);
		return -ENODEV;
	}
	file->private_data = c;
	return 0;
}

/* Mappings hold the file: nothing of the region is mapped any more. */
static int canal_release(struct inode *inode, struct file *file)
{
	struct canal_client *c = file->private_data;

	if (c->ch)
		client_leave(c);
	else
		client_free(c);
	return 0;
}

static const struct file_operations canal_fops = {
	.owner = THIS_MODULE,
	.open = canal_open,
	.release = canal_release,
	.unlocked_ioctl = canal_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = canal_mmap,
	.llseek = noop_llseek,
};

static struct miscdevice canal_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "canal",
	.fops = &canal_fops,
	.mode = 0660,
};

/* One mailbox serves a guest; a second one finds the name taken. */
int canal_misc_add(struct canal_device *dev)
{
	int err = -EBUSY;

	mutex_lock(&misc_lock);
	if (!misc_device) {
		misc_device = dev;
		err = 0;
	}
	mutex_unlock(&misc_lock);
	if (err)
		return err;
	err = misc_register(&canal_misc);
	if (err) {
		mutex_lock(&misc_lock);
		misc_device = NULL;
		mutex_unlock(&misc_lock);
	}
	return err;
}

void canal_misc_remove(struct canal_device *dev)
{
	misc_deregister(&canal_misc);
	mutex_lock(&misc_lock);
	misc_device = NULL;
	mutex_unlock(&misc_lock);
}
