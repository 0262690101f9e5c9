// SPDX-License-Identifier: GPL-2.0
/*
 * Channels: the pages that programs and canald share.
 *
 * Purpose: takes zeroed pages in runs as long as there are, tells canald where
 * they lie, maps them into the programs that belong to the channel, and keeps
 * them until canald has let go.
 *
 * Invariants
 *  1. A channel whose OPEN was submitted gives its pages back only when canald
 *     has answered CLOSE with success, or has forgotten everything (let_go).
 *  2. Programs see no page before canald has written the region's header; what
 *     the driver believes of that header was copied before (layout).
 *  3. A page that a program has mapped, or that somebody has pinned, stays for
 *     as long as that lasts: each one has its own reference count.
 *
 * Ownership and threads: `users` are open files and sockets; the last one ends
 * the channel. `refs` keep the struct.
 *
 * Failure: -ENOMEM, or what canald says. Pages that canald never lets go of are
 * lost until it answers a RESET.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/pid_namespace.h>
#include <linux/random.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "canal.h"

/* Runs of at most 4 MiB. */
#define ORDER_MOST 10
/* Pages mapped at once around the one that a program touched. */
#define FAULT_AROUND 16ul

#define REGION_LEN_MOST (1ull << 32)

static atomic64_t last_id = ATOMIC64_INIT(0);

/* --- pages ------------------------------------------------------------- */

static void pages_free(struct canal_channel *ch)
{
	struct page *page, *next;
	unsigned long i;

	if (ch->region)
		vunmap(ch->region);
	ch->region = NULL;
	for (i = 0; i < ch->page_count; i++) {
		put_page(ch->pages[i]);
		cond_resched();
	}
	kvfree(ch->pages);
	ch->pages = NULL;
	ch->page_count = 0;
	list_for_each_entry_safe(page, next, &ch->lists, lru) __free_page(page);
	INIT_LIST_HEAD(&ch->lists);
	canal_translations_free(&ch->kept);
}

static int pages_take(struct canal_channel *ch, unsigned long wanted)
{
	unsigned int order = ORDER_MOST;

	ch->pages = kvcalloc(wanted, sizeof(*ch->pages), GFP_KERNEL_ACCOUNT);
	if (!ch->pages)
		return -ENOMEM;
	while (ch->page_count < wanted) {
		gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN;
		struct page *page;
		unsigned long i;

		while (order && 1ul << order > wanted - ch->page_count)
			order--;
		/* Long runs only where they lie ready; and nobody is killed for the
		 * others: these pages show in no process's account. */
		if (order)
			gfp = (gfp | __GFP_NORETRY) & ~__GFP_DIRECT_RECLAIM;
		else
			gfp |= __GFP_RETRY_MAYFAIL;
		page = alloc_pages(gfp, order);
		if (!page && !order)
			return -ENOMEM;
		if (!page) {
			order--;
			continue;
		}
		split_page(page, order);
		for (i = 0; i < 1ul << order; i++)
			ch->pages[ch->page_count++] = page + i;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/* --- extents ----------------------------------------------------------- */

struct extent_list {
	struct canal_channel *ch;
	struct canal_extent *page; /* 256 of them */
	unsigned int used, count;
};

static struct canal_extent *extent_new(struct extent_list *list)
{
	if (list->count == CANAL_MAIL_EXTENTS)
		return NULL;
	if (!list->page || list->used == CANAL_EXTENTS_PAGE) {
		struct page *page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);

		if (!page)
			return NULL;
		if (list->page)
			list->page[CANAL_EXTENTS_PAGE].address = page_to_phys(page);
		list_add_tail(&page->lru, &list->ch->lists);
		list->page = page_address(page);
		list->used = 0;
	}
	list->count++;
	return &list->page[list->used++];
}

/* The pages of @ch as runs; their number or -ENOMEM. */
static int extents_make(struct canal_channel *ch)
{
	struct extent_list list = { .ch = ch };
	struct canal_extent *last = NULL;
	unsigned long i;

	for (i = 0; i < ch->page_count; i++) {
		u64 address = page_to_phys(ch->pages[i]);

		if (last && last->address + last->len == address) {
			last->len += PAGE_SIZE;
			continue;
		}
		last = extent_new(&list);
		if (!last)
			return -ENOMEM;
		last->address = address;
		last->len = PAGE_SIZE;
	}
	return list.count;
}

/* --- the layout -------------------------------------------------------- */

static bool table_fits(const struct canal_table *t, u64 len, u32 most, size_t least)
{
	return t->count && t->count <= most && t->stride >= least && !(t->stride % 4) &&
	       !(t->offset % 64) && t->offset <= len &&
	       (u64)t->count * t->stride <= len - t->offset;
}

static int layout_read(struct canal_channel *ch)
{
	const struct canal_region *r = ch->region;
	struct canal_layout *l = &ch->layout;
	u64 len = ch->region_len;

	l->inr = r->inr;
	l->wait = r->wait;
	l->sock = r->sock;
	l->tx_next = r->tx_next;
	l->tx = r->tx;
	l->rx = r->rx;
	if (r->magic != CANAL_WIRE_MAGIC || r->version != CANAL_WIRE_VERSION ||
	    r->region_len != len || !table_fits(&l->inr, len, 1u << 20, sizeof(struct canal_inr)) ||
	    (l->inr.count & (l->inr.count - 1)) || l->inr.stride != sizeof(struct canal_inr) ||
	    !table_fits(&l->wait, len, CANAL_WAIT_SLOTS, sizeof(struct canal_wait)) ||
	    !table_fits(&l->sock, len, 1u << 20, sizeof(struct canal_sock)) ||
	    l->sock.stride % 64 || !table_fits(&l->tx_next, len, 1u << 20, sizeof(u32)) ||
	    !table_fits(&l->tx, len, 1u << 20, CANAL_CHUNK) || l->tx.stride != CANAL_CHUNK ||
	    l->tx_next.count < l->tx.count || !table_fits(&l->rx, len, 1u << 20, CANAL_CHUNK) ||
	    l->rx.stride != CANAL_CHUNK)
		return -EPROTO;
	return 0;
}

/* --- the end ----------------------------------------------------------- */

static void channel_free(struct kref *refs)
{
	struct canal_channel *ch = container_of(refs, struct canal_channel, refs);

	canal_device_put(ch->dev);
	put_pid_ns(ch->pid_ns);
	kvfree(ch);
}

void canal_channel_put(struct canal_channel *ch)
{
	kref_put(&ch->refs, channel_free);
}

/* Takes it off the device, and its pages back if canald has let go of them. The
 * reference of device.channels goes with it. Process context. */
static void channel_bury(struct canal_channel *ch)
{
	struct canal_device *dev = ch->dev;
	bool bury;

	spin_lock_irq(&dev->lock);
	bury = ch->over && ch->let_go && !list_empty(&ch->link);
	if (bury) {
		list_del_init(&ch->link);
		if (dev->channel[ch->number] == ch)
			dev->channel[ch->number] = NULL;
	}
	spin_unlock_irq(&dev->lock);
	if (!bury)
		return;
	pages_free(ch);
	canal_channel_put(ch);
}

/* The pins of a client that canald did not let go of: they go with the pages. */
void canal_channel_keep(struct canal_channel *ch, struct canal_translation *t)
{
	spin_lock_irq(&ch->dev->lock);
	if (!ch->let_go) {
		canal_translation_keep(t, &ch->kept);
		t = NULL;
	}
	spin_unlock_irq(&ch->dev->lock);
	if (t)
		canal_translation_free(t);
}

static void close_done(struct canal_request *request)
{
	struct canal_channel *ch = container_of(request, struct canal_channel, close);

	/* -ENOENT: canald had thrown it out before */
	if (request->result >= 0 || request->result == -ENOENT) {
		spin_lock_irq(&ch->dev->lock);
		ch->let_go = true;
		spin_unlock_irq(&ch->dev->lock);
	}
	channel_bury(ch);
	spin_lock_irq(&ch->dev->lock);
	ch->dev->closing--;
	spin_unlock_irq(&ch->dev->lock);
	wake_up_all(&ch->dev->wait);
	canal_channel_put(ch);
}

/* No user is left. */
static void channel_over(struct canal_channel *ch)
{
	struct canal_device *dev = ch->dev;
	bool tell;

	spin_lock_irq(&dev->lock);
	ch->over = true;
	tell = ch->opened && !ch->let_go && !ch->dead;
	if (!ch->opened)
		ch->let_go = true;
	ch->dead = true;
	dev->closing += tell;
	spin_unlock_irq(&dev->lock);
	if (!tell) {
		channel_bury(ch);
		return;
	}
	canal_channel_get(ch);
	canal_request_init(&ch->close, CANAL_MAIL_CLOSE, true);
	canal_request_about(&ch->close, ch, 0);
	ch->close.done = close_done;
	canal_request_submit(dev, &ch->close);
}

void canal_channel_use(struct canal_channel *ch)
{
	refcount_inc(&ch->users);
}

void canal_channel_count(struct canal_channel *ch, int more)
{
	spin_lock_irq(&ch->dev->lock);
	ch->clients += more;
	spin_unlock_irq(&ch->dev->lock);
}

void canal_channel_unuse(struct canal_channel *ch)
{
	if (refcount_dec_and_test(&ch->users))
		channel_over(ch);
}

/**
 * canal_channel_forget() - canald, or the device, is gone
 * @dev:    the device
 * @let_go: canald does not use the pages any more
 *
 * Ends all channels: their programs are woken and told. May be called twice, the
 * second time with @let_go, when that is known only later.
 *
 * Context: process context.
 */
void canal_channel_forget(struct canal_device *dev, bool let_go)
{
	struct canal_channel *ch, *next;
	LIST_HEAD(over);

	spin_lock_irq(&dev->lock);
	list_for_each_entry_safe(ch, next, &dev->channels, link)
	{
		ch->dead = true;
		ch->lost = true;
		if (ch->region)
			(void)canal_cas(&ch->region->broken, 0u, CANAL_NONE);
		canal_waiters_end(ch);
		wake_up_all(&ch->kernel_wait);
		if (!let_go)
			continue;
		ch->let_go = true;
		if (dev->channel[ch->number] == ch)
			dev->channel[ch->number] = NULL;
		if (ch->over) {
			list_del_init(&ch->link);
			list_add(&ch->grave, &over);
		}
	}
	spin_unlock_irq(&dev->lock);
	list_for_each_entry_safe(ch, next, &over, grave)
	{
		pages_free(ch);
		canal_channel_put(ch);
	}
}

/* --- the beginning ----------------------------------------------------- */

static void open_late(struct canal_request *request)
{
	struct canal_channel *ch = container_of(request, struct canal_channel, open);

	spin_lock_irq(&ch->dev->lock);
	/* Nothing of it is left at canald. */
	if (request->result < 0 && request->result != -ENODEV)
		ch->opened = false;
	spin_unlock_irq(&ch->dev->lock);
	canal_channel_unuse(ch);
}

static struct canal_channel *channel_new(struct canal_device *dev, u64 region_len)
{
	struct canal_channel *ch = kvzalloc(sizeof(*ch), GFP_KERNEL_ACCOUNT);

	if (!ch)
		return NULL;
	kref_init(&ch->refs);
	refcount_set(&ch->users, 1);
	ch->clients = 1;
	ch->dev = canal_device_get(dev);
	ch->pid_ns = get_pid_ns(task_active_pid_ns(current));
	ch->id = atomic64_inc_return(&last_id);
	ch->token = get_random_u64();
	ch->region_len = region_len;
	ch->kernel_slot = CANAL_NONE;
	INIT_LIST_HEAD(&ch->link);
	INIT_LIST_HEAD(&ch->lists);
	INIT_LIST_HEAD(&ch->kept);
	INIT_LIST_HEAD(&ch->waiters);
	mutex_init(&ch->kernel_lock);
	init_waitqueue_head(&ch->kernel_wait);
	return ch;
}

/* A number, and a place among the device's channels. */
static int channel_number(struct canal_channel *ch, u32 most)
{
	struct canal_device *dev = ch->dev;
	int err = -EBUSY;
	u32 i;

	spin_lock_irq(&dev->lock);
	if (dev->state != CANAL_DEVICE_READY)
		err = -ENODEV;
	for (i = 0; i < most && err == -EBUSY; i++) {
		if (dev->channel[i])
			continue;
		dev->channel[i] = ch;
		ch->number = i;
		canal_channel_get(ch);
		list_add_tail(&ch->link, &dev->channels);
		err = 0;
	}
	spin_unlock_irq(&dev->lock);
	return err;
}

static int channel_pages(struct canal_channel *ch)
{
	int err = pages_take(ch, ch->region_len >> PAGE_SHIFT);

	if (err)
		return err;
	ch->region = vmap(ch->pages, ch->page_count, VM_MAP, PAGE_KERNEL);
	return ch->region ? extents_make(ch) : -ENOMEM;
}

/* Tells canald where the pages are. On -ETIMEDOUT and -ERESTARTSYS canald may
 * still come to it: the user that we are goes later. */
static int channel_announce(struct canal_channel *ch, unsigned int extents, bool *ret_later)
{
	struct page *first = list_first_entry(&ch->lists, struct page, lru);
	struct canal_device *dev = ch->dev;
	int err;

	canal_request_init(&ch->open, CANAL_MAIL_OPEN, true);
	canal_request_who(&ch->open);
	canal_request_about(&ch->open, ch, 1);
	ch->open.mail.address = page_to_phys(first);
	ch->open.mail.arg = extents;
	spin_lock_irq(&dev->lock);
	ch->opened = true;
	spin_unlock_irq(&dev->lock);
	canal_request_submit(dev, &ch->open);
	err = canal_request_wait(dev, &ch->open);
	if (err == -ETIMEDOUT || err == -ERESTARTSYS) {
		*ret_later = canal_request_abandon(dev, &ch->open, open_late);
		if (*ret_later)
			return err;
		err = ch->open.result; /* just now */
	}
	if (err < 0 && err != -ENODEV) {
		spin_lock_irq(&dev->lock);
		ch->opened = false;
		spin_unlock_irq(&dev->lock);
	}
	return err < 0 ? err : layout_read(ch);
}

static int channel_try(struct canal_device *dev, u32 most, u64 region_len,
		       struct canal_channel **ret_ch)
{
	struct canal_channel *ch = channel_new(dev, region_len);
	bool later = false;
	int err;

	if (!ch)
		return -ENOMEM;
	err = channel_number(ch, most);
	if (!err)
		err = channel_pages(ch);
	if (err > 0)
		err = channel_announce(ch, err, &later);
	if (!err) {
		*ret_ch = ch;
		return 0;
	}
	if (!later)
		canal_channel_unuse(ch);
	canal_channel_put(ch);
	return err;
}

/* Until a channel that is over has given back what it had. False: there is none, or
 * nobody waits any more. */
static bool close_wait(struct canal_device *dev)
{
	unsigned int before = READ_ONCE(dev->closing);

	return before &&
	       wait_event_killable_timeout(dev->wait,
					   READ_ONCE(dev->closing) < before ||
						   READ_ONCE(dev->state) != CANAL_DEVICE_READY,
					   msecs_to_jiffies(READ_ONCE(canal_timeout_ms))) > 0;
}

/**
 * canal_channel_open() - a new channel for the calling process
 * @dev:    the device
 * @ret_ch: the channel
 *
 * Context: process context; waits for canald, also for the memory and the numbers of
 * channels that are being closed.
 * Return: 0 with one user, who is the caller; -errno as canal_uapi.h lists them.
 */
int canal_channel_open(struct canal_device *dev, struct canal_channel **ret_ch)
{
	unsigned int tries = CANAL_MAIL_CHANNELS;
	u64 region_len = 0;
	u32 pins, most;
	int err = canal_device_ready(dev);

	if (err)
		return err;
	most = canal_device_limit(dev, &region_len, &pins);
	if (!most || !region_len || region_len % (2u << 20) || region_len > REGION_LEN_MOST)
		return most ? -EPROTO : -ENODEV;
	do
		err = channel_try(dev, most, region_len, ret_ch);
	while ((err == -ENOMEM || err == -EBUSY) && tries-- && close_wait(dev));
	return err;
}

int canal_channel_find(struct canal_device *dev, u64 id, u64 token, struct canal_channel **ret_ch)
{
	struct canal_channel *ch;
	int err = -ENOENT;

	spin_lock_irq(&dev->lock);
	list_for_each_entry(ch, &dev->channels, link)
	{
		if (ch->id != id)
			continue;
		err = -EACCES;
		if (ch->token != token)
			break;
		/* -ENOENT: its last process has left */
		err = ch->lost ? -ENODEV : -ENOENT;
		if (!ch->dead && ch->clients && refcount_inc_not_zero(&ch->users)) {
			canal_channel_get(ch);
			*ret_ch = ch;
			err = 0;
		}
		break;
	}
	spin_unlock_irq(&dev->lock);
	return err;
}

/* --- mapping ----------------------------------------------------------- */

static vm_fault_t region_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct canal_channel *ch = vma->vm_private_data;
	unsigned long first = vmf->pgoff & ~(FAULT_AROUND - 1);
	unsigned long last = min(first + FAULT_AROUND, ch->page_count);
	unsigned long i, at;
	int err;

	if (vmf->pgoff >= ch->page_count)
		return VM_FAULT_SIGBUS;
	err = vm_insert_page(vma, vmf->address & PAGE_MASK, ch->pages[vmf->pgoff]);
	if (err && err != -EBUSY)
		return err == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
	for (i = max(first, vma->vm_pgoff); i < last; i++) {
		at = vma->vm_start + ((i - vma->vm_pgoff) << PAGE_SHIFT);
		if (at >= vma->vm_end)
			break;
		if (i != vmf->pgoff) /* may be there, may fail: nobody asked */
			(void)vm_insert_page(vma, at, ch->pages[i]);
	}
	return VM_FAULT_NOPAGE;
}

static const struct vm_operations_struct region_ops = {
	.fault = region_fault,
};

/*
 * The mapping keeps the file, which keeps the client, which keeps the channel.
 * Its pages come by and by: a forked child copies only what was touched.
 */
/**
 * canal_channel_mapped() - whether libcanal is in the calling program
 * @ch: the channel that it would have mapped
 *
 * Context: process context, may sleep; takes mmap_lock.
 * Return: false in a program that was executed since, and has the descriptor alone.
 */
bool canal_channel_mapped(const struct canal_channel *ch)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	unsigned long at = 0;
	bool found = false;

	if (!mm || mmap_read_lock_killable(mm))
		return false;
	while (!found && (vma = find_vma(mm, at))) {
		found = vma->vm_ops == &region_ops && vma->vm_private_data == ch;
		at = vma->vm_end;
	}
	mmap_read_unlock(mm);
	return found;
}

int canal_channel_mmap(struct canal_channel *ch, struct vm_area_struct *vma)
{
	const unsigned long add = VM_MIXEDMAP | VM_DONTEXPAND | VM_DONTDUMP;

	if (vma->vm_pgoff || vma->vm_end - vma->vm_start != ch->region_len ||
	    !(vma->vm_flags & VM_SHARED) || (vma->vm_flags & VM_EXEC))
		return -EINVAL;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_mod(vma, add, VM_MAYEXEC);
#else
	vma->vm_flags = (vma->vm_flags | add) & ~VM_MAYEXEC;
#endif
	vma->vm_private_data = ch;
	vma->vm_ops = &region_ops;
	return 0;
}
