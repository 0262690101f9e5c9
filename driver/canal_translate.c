// SPDX-License-Identifier: GPL-2.0
/*
 * The hybrid address space (vCanal 3.4): pages of a program that canald may use in
 * place, by the program's own addresses.
 *
 * Purpose: a program that gives a large buffer to a socket has its pages pinned
 * once (on a miss) and entered into a table of four levels that canald walks. As
 * soon as the program unmaps, remaps or forks, the entries go, and a while later,
 * when canald cannot be using them any more, the pins.
 *
 * Invariants
 *  1. An entry stands only while its page is pinned, and while the program has
 *     that page at that address: the notifier takes the entry out before the
 *     kernel changes the mapping. What was pinned while a change was under way is
 *     not entered (mmu_interval_read_retry()).
 *  2. A page that left the table, or a table that left its parent, is given back
 *     only when canald is quiet (T1, T2): two passes begun, or asleep.
 *  3. A process has at most `limit` pages in its table, and as many again that
 *     wait for canald. The oldest make room. It has one table, however often it
 *     opens /dev/canal.
 *
 * Ownership and threads: one per client, for the mm that attached; translation
 * and lists under translation.lock. The table itself is written under the lock
 * and read by canald at any time: single stores of 8 bytes.
 *
 * Failure: -EFAULT, -EDQUOT, -ENOMEM, -EAGAIN when canald does not get quiet: the
 * program copies instead.
 */
#include <linux/capability.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "canal.h"

#define LEVEL_BITS 9
#define LEVEL_ENTRIES (1u << LEVEL_BITS)
#define ADDRESS_BITS (PAGE_SHIFT + CANAL_HYBRID_LEVELS * LEVEL_BITS)
/* Pages pinned by one turn of the loop. */
#define BATCH 64u
/* Table pages beyond what `limit` neighbouring pages need, before all begins anew. */
#define TABLES_SPARE 256u
/* Looks, a tenth of a millisecond apart, at whether canald is quiet. */
#define QUIET_LOOKS 100
#define TRIES_MOST 8

struct pin {
	struct list_head link; /* translation.pins: oldest first; or leaving */
	struct page *page;
	unsigned long index; /* address / PAGE_SIZE */
	bool writable;
};

struct canal_translation {
	struct canal_device *dev;
	struct list_head link; /* device.translations */
	struct mm_struct *mm;
	struct mmu_interval_notifier notifier;
	u32 limit;

	spinlock_t lock;
	u64 *root;
	struct xarray by_index; /* struct pin of every entry */
	struct list_head pins;
	unsigned int pin_count;
	unsigned int table_count;
	struct list_head tables;  /* of the tree, without the root */
	struct list_head leaving; /* pins that left the table */
	struct list_head leaving_tables;
	unsigned int leaving_count;
	bool stopped;

	struct list_head kept; /* channel.kept */

	struct mutex reap_lock; /* what is below; outside of lock */
	struct list_head batch, batch_tables;
	u64 batch_passes;
	struct delayed_work reap;
};

/* --- the table --------------------------------------------------------- */

static unsigned int level_slot(unsigned long index, unsigned int level)
{
	return index >> (level * LEVEL_BITS) & (LEVEL_ENTRIES - 1);
}

static u64 *table_next(u64 entry)
{
	return entry & CANAL_HYBRID_VALID ? phys_to_virt(entry & CANAL_HYBRID_ADDRESS) : NULL;
}

/* The last-level entry of @index; NULL when there is no table for it yet. */
static u64 *table_find(struct canal_translation *t, unsigned long index)
{
	u64 *table = t->root;
	unsigned int level;

	for (level = CANAL_HYBRID_LEVELS - 1; table && level; level--)
		table = table_next(table[level_slot(index, level)]);
	return table ? &table[level_slot(index, 0)] : NULL;
}

/* The same, with tables made of pages in @spare. Under lock; NULL: none left. */
static u64 *table_make(struct canal_translation *t, unsigned long index, struct list_head *spare)
{
	u64 *table = t->root;
	unsigned int level;

	for (level = CANAL_HYBRID_LEVELS - 1; level; level--) {
		u64 *entry = &table[level_slot(index, level)];
		struct page *page;

		if (!*entry) {
			page = list_first_entry_or_null(spare, struct page, lru);
			if (!page)
				return NULL;
			list_move(&page->lru, &t->tables);
			t->table_count++;
			/* The table is empty before the way to it: whoever follows
			 * it early finds no entry. */
			canal_store_release(entry, page_to_phys(page) | CANAL_HYBRID_VALID);
		}
		table = table_next(*entry);
	}
	return &table[level_slot(index, 0)];
}

/* Takes an entry out; its pin waits for canald. Under lock. */
static void pin_leave(struct canal_translation *t, struct pin *pin)
{
	u64 *entry = table_find(t, pin->index);

	if (entry)
		canal_write_once(entry, 0);
	xa_erase(&t->by_index, pin->index);
	list_move_tail(&pin->link, &t->leaving);
	t->pin_count--;
	t->leaving_count++;
}

/* All of it, with the tables. Under lock. */
static void table_drop(struct canal_translation *t)
{
	struct pin *pin, *next;
	unsigned int i;

	list_for_each_entry_safe(pin, next, &t->pins, link) pin_leave(t, pin);
	for (i = 0; i < LEVEL_ENTRIES; i++)
		canal_write_once(&t->root[i], 0);
	list_splice_tail_init(&t->tables, &t->leaving_tables);
	t->table_count = 0;
}

static bool anything_leaves(struct canal_translation *t)
{
	return t->leaving_count || !list_empty(&t->leaving_tables);
}

/* --- giving back ------------------------------------------------------- */

static void pin_free(struct canal_translation *t, struct pin *pin)
{
	unpin_user_pages_dirty_lock(&pin->page, 1, pin->writable);
	atomic64_dec(&t->mm->pinned_vm);
	kfree(pin);
}

static void batch_free(struct canal_translation *t)
{
	struct pin *pin, *next;
	struct page *page, *next_page;
	unsigned int count = 0;

	list_for_each_entry_safe(pin, next, &t->batch, link)
	{
		pin_free(t, pin);
		count++;
	}
	list_for_each_entry_safe(page, next_page, &t->batch_tables, lru) __free_page(page);
	INIT_LIST_HEAD(&t->batch);
	INIT_LIST_HEAD(&t->batch_tables);
	spin_lock(&t->lock);
	t->leaving_count -= count;
	spin_unlock(&t->lock);
}

/**
 * reap() - gives back what canald cannot be using any more
 * @t:      the translation
 * @forced: canald is known to use nothing of it
 *
 * Context: process context; reap_lock.
 * Return: true when nothing waits.
 */
static bool reap(struct canal_translation *t, bool forced)
{
	for (;;) {
		if (list_empty(&t->batch) && list_empty(&t->batch_tables)) {
			spin_lock(&t->lock);
			list_splice_init(&t->leaving, &t->batch);
			list_splice_init(&t->leaving_tables, &t->batch_tables);
			spin_unlock(&t->lock);
			if (list_empty(&t->batch) && list_empty(&t->batch_tables))
				return true;
			canal_full_fence(); /* T1 store-load: cleared entries before passes */
			t->batch_passes = canal_device_passes(t->dev);
		}
		if (!forced && !canal_device_quiet(t->dev, t->batch_passes))
			return false;
		batch_free(t);
	}
}

static void reap_work(struct work_struct *work)
{
	struct canal_translation *t = container_of(work, struct canal_translation, reap.work);
	bool done;

	mutex_lock(&t->reap_lock);
	done = reap(t, false);
	mutex_unlock(&t->reap_lock);
	/* Without a device canald will never say more: what waits goes with the client. */
	if (!done && !READ_ONCE(t->stopped) && READ_ONCE(t->dev->state) != CANAL_DEVICE_GONE)
		queue_delayed_work(canal_work, &t->reap, 1);
}

/* --- the notifier ------------------------------------------------------ */

/*
 * The program's mapping of a range is about to change. Does not sleep, so it
 * serves callers that may not as well.
 */
static bool translation_invalidate(struct mmu_interval_notifier *notifier,
				   const struct mmu_notifier_range *range, unsigned long seq)
{
	struct canal_translation *t = container_of(notifier, struct canal_translation, notifier);
	unsigned long last = (range->end - 1) >> PAGE_SHIFT;
	unsigned long index = range->start >> PAGE_SHIFT;
	struct pin *pin;
	bool left;

	spin_lock(&t->lock);
	mmu_interval_set_seq(notifier, seq);
	xa_for_each_range(&t->by_index, index, pin, index, last) pin_leave(t, pin);
	left = anything_leaves(t);
	spin_unlock(&t->lock);
	if (left && !READ_ONCE(t->stopped))
		queue_delayed_work(canal_work, &t->reap, 1);
	return true;
}

static const struct mmu_interval_notifier_ops notifier_ops = {
	.invalidate = translation_invalidate,
};

/* --- pinning ----------------------------------------------------------- */

/* What one turn works with. */
struct turn {
	struct page *page[BATCH];
	struct pin *pin[BATCH];
	struct list_head spare; /* table pages */
	unsigned long first;
	unsigned int count;
	bool writable;
};

/* Table pages that the worst case needs: the two ends of a run of at most BATCH
 * pages may lie in different tables of each level. */
static int spare_fill(struct canal_translation *t, struct turn *turn)
{
	unsigned int i;
	bool there;

	spin_lock(&t->lock);
	there = table_find(t, turn->first) && table_find(t, turn->first + turn->count - 1);
	spin_unlock(&t->lock);
	if (there || !list_empty(&turn->spare))
		return 0;
	for (i = 0; i < 2 * (CANAL_HYBRID_LEVELS - 1); i++) {
		struct page *page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);

		if (!page)
			return -ENOMEM;
		list_add(&page->lru, &turn->spare);
	}
	return 0;
}

static void turn_free(struct turn *turn)
{
	struct page *page, *next;
	unsigned int i;

	for (i = 0; i < turn->count; i++)
		kfree(turn->pin[i]);
	list_for_each_entry_safe(page, next, &turn->spare, lru) __free_page(page);
}

/* A struct pin for each page that has none: a try may have used some of them up, for
 * pages that have left again since. */
static int turn_fill(struct turn *turn)
{
	unsigned int i;

	for (i = 0; i < turn->count; i++) {
		struct pin *pin;

		if (turn->pin[i])
			continue;
		pin = kmalloc(sizeof(*pin), GFP_KERNEL_ACCOUNT);
		if (!pin)
			return -ENOMEM;
		pin->index = turn->first + i;
		pin->writable = turn->writable;
		INIT_LIST_HEAD(&pin->link);
		turn->pin[i] = pin;
	}
	return 0;
}

/* Is the page entered already, at least for what is asked? Then it is the newest
 * from now on. Under lock. */
static bool entry_serves(struct canal_translation *t, unsigned long index, bool writable)
{
	struct pin *pin = xa_load(&t->by_index, index);

	if (!pin || (writable && !pin->writable))
		return false;
	list_move_tail(&pin->link, &t->pins);
	return true;
}

static void room_make(struct canal_translation *t)
{
	while (t->pin_count >= t->limit)
		pin_leave(t, list_first_entry(&t->pins, struct pin, link));
}

/*
 * Enters the pages of a turn; those it takes over are NULL in @turn. A page that
 * is entered for reading and is asked for writing changes places.
 */
static int turn_enter(struct canal_translation *t, struct turn *turn)
{
	u64 flags = CANAL_HYBRID_VALID | (turn->writable ? CANAL_HYBRID_WRITE : 0);
	unsigned int i;

	for (i = 0; i < turn->count; i++) {
		struct pin *old = xa_load(&t->by_index, turn->first + i);
		u64 *entry;

		if (entry_serves(t, turn->first + i, turn->writable))
			continue;
		if (old)
			pin_leave(t, old);
		room_make(t);
		entry = table_make(t, turn->first + i, &turn->spare);
		if (!entry) /* the tables were dropped meanwhile */
			return -EAGAIN;
		if (xa_err(xa_store(&t->by_index, turn->first + i, turn->pin[i],
				    GFP_ATOMIC | __GFP_NOWARN)))
			return -ENOMEM;
		turn->pin[i]->page = turn->page[i];
		list_add_tail(&turn->pin[i]->link, &t->pins);
		t->pin_count++;
		atomic64_inc(&t->mm->pinned_vm);
		/* The program tells canald of it later: no edge of its own. */
		canal_write_once(entry, page_to_phys(turn->page[i]) | flags);
		turn->pin[i] = NULL;
		turn->page[i] = NULL;
	}
	return 0;
}

static bool turn_served(struct canal_translation *t, const struct turn *turn)
{
	unsigned int i;
	bool all = true;

	spin_lock(&t->lock);
	for (i = 0; i < turn->count && all; i++)
		all = entry_serves(t, turn->first + i, turn->writable);
	spin_unlock(&t->lock);
	return all;
}

/* One try: pins, and enters if nothing has changed meanwhile. */
static int turn_try(struct canal_translation *t, struct turn *turn)
{
	unsigned int gup = FOLL_LONGTERM | (turn->writable ? FOLL_WRITE : 0);
	unsigned long seq = mmu_interval_read_begin(&t->notifier);
	int got = pin_user_pages_fast(turn->first << PAGE_SHIFT, turn->count, gup, turn->page);
	int i, err = -EFAULT;

	if (got == turn->count) {
		spin_lock(&t->lock);
		if (t->stopped)
			err = -ENODEV;
		else if (mmu_interval_read_retry(&t->notifier, seq))
			err = -EAGAIN;
		else
			err = turn_enter(t, turn);
		spin_unlock(&t->lock);
	}
	for (i = 0; i < got; i++)
		if (turn->page[i])
			unpin_user_page(turn->page[i]);
	return got == -ENOMEM || got == -EINTR ? got : err;
}

/* Room for one turn more among those that wait for canald. */
static int leaving_wait(struct canal_translation *t)
{
	unsigned int i;

	for (i = 0; READ_ONCE(t->leaving_count) > t->limit; i++) {
		if (i == QUIET_LOOKS)
			return -EAGAIN;
		if (fatal_signal_pending(current))
			return -EINTR;
		if (i) {
			canal_device_kick(t->dev);
			usleep_range(100, 200);
		}
		mutex_lock(&t->reap_lock);
		(void)reap(t, false);
		mutex_unlock(&t->reap_lock);
	}
	return 0;
}

/* A program that goes all over its address space leaves tables behind. */
static void tables_bound(struct canal_translation *t)
{
	spin_lock(&t->lock);
	if (t->table_count > t->limit / LEVEL_ENTRIES + TABLES_SPARE)
		table_drop(t);
	spin_unlock(&t->lock);
}

static int turn_run(struct canal_translation *t, struct turn *turn)
{
	int err, tries;

	if (turn_served(t, turn))
		return 0;
	err = leaving_wait(t);
	if (err)
		return err;
	tables_bound(t);
	for (tries = 0; !err; tries++) {
		err = turn_fill(turn);
		if (!err)
			err = spare_fill(t, turn);
		if (!err)
			err = turn_try(t, turn);
		if (err != -EAGAIN || tries == TRIES_MOST)
			break;
		err = 0;
	}
	if (READ_ONCE(t->leaving_count) && !READ_ONCE(t->stopped))
		queue_delayed_work(canal_work, &t->reap, 1);
	return err;
}

/**
 * canal_translation_pin() - enters a buffer of the calling process
 * @t:   the translation of a client
 * @arg: what the program asked
 *
 * Context: process context; the process that attached, and no other.
 * Return: 0 or -errno; what was entered before an error stays.
 */
int canal_translation_pin(struct canal_translation *t, const struct canal_pin *arg)
{
	unsigned long first = arg->address >> PAGE_SHIFT, end;
	struct turn *turn;
	int err = 0;

	if (!arg->len || t->mm != current->mm)
		return -EINVAL;
	if (arg->address >= 1ull << ADDRESS_BITS ||
	    arg->len > (1ull << ADDRESS_BITS) - arg->address ||
	    !access_ok((void __user *)(uintptr_t)arg->address, arg->len))
		return -EFAULT;
	end = ((arg->address + arg->len - 1) >> PAGE_SHIFT) + 1;
	if (end - first > t->limit)
		return -EDQUOT;
	turn = kmalloc(sizeof(*turn), GFP_KERNEL_ACCOUNT);
	if (!turn)
		return -ENOMEM;
	for (; first < end && !err; first += turn->count) {
		memset(turn, 0, sizeof(*turn));
		INIT_LIST_HEAD(&turn->spare);
		turn->first = first;
		turn->count = min_t(unsigned long, end - first, BATCH);
		turn->writable = arg->writable;
		err = turn_run(t, turn);
		turn_free(turn);
		cond_resched();
	}
	kfree(turn);
	return err;
}

/* --- beginning and end ------------------------------------------------- */

/* What a user who may not lock memory at will may pin. */
static u32 pins_allowed(u32 pins)
{
	unsigned long most = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;

	if (capable(CAP_IPC_LOCK) || most >= pins)
		return pins;
	return most;
}

/* Enters it as the one of its process. */
static int translation_enter(struct canal_device *dev, struct canal_translation *t)
{
	struct canal_translation *other;
	int err = 0;

	spin_lock_irq(&dev->lock);
	list_for_each_entry(other, &dev->translations, link)
	{
		if (other->mm == t->mm)
			err = -EBUSY;
	}
	if (!err)
		list_add(&t->link, &dev->translations);
	spin_unlock_irq(&dev->lock);
	return err;
}

static void translation_remove(struct canal_translation *t)
{
	spin_lock_irq(&t->dev->lock);
	list_del(&t->link);
	spin_unlock_irq(&t->dev->lock);
}

/* -EBUSY: another file of this process has one. */
int canal_translation_create(struct canal_device *dev, u32 pins,
			     struct canal_translation **ret_translation)
{
	struct canal_translation *t;
	int err = -ENOMEM;

	pins = pins_allowed(pins);
	if (!pins || !current->mm)
		return -EPERM;
	t = kzalloc(sizeof(*t), GFP_KERNEL_ACCOUNT);
	if (!t)
		return -ENOMEM;
	t->root = (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!t->root)
		goto fail;
	t->dev = canal_device_get(dev);
	t->limit = pins;
	spin_lock_init(&t->lock);
	xa_init(&t->by_index);
	INIT_LIST_HEAD(&t->pins);
	INIT_LIST_HEAD(&t->tables);
	INIT_LIST_HEAD(&t->leaving);
	INIT_LIST_HEAD(&t->leaving_tables);
	INIT_LIST_HEAD(&t->batch);
	INIT_LIST_HEAD(&t->batch_tables);
	mutex_init(&t->reap_lock);
	INIT_DELAYED_WORK(&t->reap, reap_work);
	t->mm = current->mm;
	mmgrab(t->mm);
	err = translation_enter(dev, t);
	if (err)
		goto fail_mm;
	err = mmu_interval_notifier_insert(&t->notifier, t->mm, 0, ULONG_MAX, &notifier_ops);
	if (err)
		goto fail_entered;
	*ret_translation = t;
	return 0;
fail_entered:
	translation_remove(t);
fail_mm:
	mmdrop(t->mm);
	canal_device_put(dev);
	free_page((unsigned long)t->root);
fail:
	kfree(t);
	return err;
}

u64 canal_translation_root(struct canal_translation *t)
{
	return virt_to_phys(t->root);
}

u32 canal_translation_limit(struct canal_translation *t)
{
	return t->limit;
}

/* Sleeps until no invalidation runs, so it is not called from one. */
void canal_translation_stop(struct canal_translation *t)
{
	translation_remove(t);
	mmu_interval_notifier_remove(&t->notifier);
	spin_lock(&t->lock);
	t->stopped = true;
	table_drop(t);
	spin_unlock(&t->lock);
	cancel_delayed_work_sync(&t->reap);
}

void canal_translation_free(struct canal_translation *t)
{
	mutex_lock(&t->reap_lock);
	(void)reap(t, true);
	mutex_unlock(&t->reap_lock);
	mmdrop(t->mm);
	canal_device_put(t->dev);
	free_page((unsigned long)t->root);
	kfree(t);
}

/* canald has not answered LEAVE, and may write into these pages some day. */
void canal_translation_keep(struct canal_translation *t, struct list_head *list)
{
	list_add(&t->kept, list);
}

void canal_translations_free(struct list_head *list)
{
	struct canal_translation *t, *next;

	list_for_each_entry_safe(t, next, list, kept) canal_translation_free(t);
	INIT_LIST_HEAD(list);
}
