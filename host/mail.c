/* SPDX-License-Identifier: MIT */
/*
 * The mailbox: what canal.ko asks of canald, and whom canald wakes.
 *
 * Purpose: serves the requests of common/mailbox.h, some in each pass; and is the
 * transport of a virtual machine's channels: wakes by bits and one interrupt.
 *
 * Invariants
 *  1. A request is copied out once, and the copy is served: what the guest changes
 *     meanwhile is nobody's.
 *  2. Where canald stands (pos) is its own; the guest's tail is at most a ring ahead,
 *     or the guest is thrown out: all its channels end and a new epoch begins.
 *  3. CLOSE, LEAVE and RESET are answered when nothing of canald's uses those pages
 *     any more: no operation is under way between two passes, and a channel's
 *     memory is unmapped before its CLOSE is answered.
 *  4. No translation is used outside of ref_pass(), between two stores of `passes`.
 *
 * Ownership and threads: the guest's poller; vm_farewell(), when pollers have ended.
 *
 * Failure: a request that is wrong gets -errno. One that breaks a rule is counted,
 * too (bad-mail, bad-extent).
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syslog.h>
#include <unistd.h>

#include "vm.h"

/* What a guest's requests may cost the others in a pass. RESET, OPEN and CLOSE, which
 * make and undo mappings, are the last of their pass. */
#define MAILS_A_PASS 32
#define MAPS_A_PASS 64
#define UNMAPS_A_PASS 256
/* INRs that were posted before the end of a socket, served before it; in a pass. */
#define INRS_BEFORE_END 256
#define INRS_A_PASS 1024u
/* A channel that was closed may go on sending for so long. */
#define CLOSE_NS 20000000000ull
/* Doorbells for nothing in a second, before they are not heard for a while. */
#define BELLS_MAX 2000
#define DEAF_NS 10000000ull
#define SECOND_NS 1000000000ull

#define VM_CHUNKS 1024u
#define VM_PINS 16384u
/* RX or TX chunks come in 2 MiB, as the region does. */
#define CHUNKS_STEP ((2u << 20) / CANAL_CHUNK)

/* The answer comes later. */
#define LATER 1000000

/* --- interrupts -------------------------------------------------------- */

static void interrupt(const struct vm *vm)
{
	irq_raise(vm->irq_fd);
}

static void channel_interrupt(struct vm *vm, uint32_t number)
{
	const uint64_t bit = 1ull << number;

	/* W1 release: slots in `woken` before the channel in `pending`; the interrupt
	 * is on its way already if the bit was set */
	if (!(canal_fetch_or(&vm->mail->pending, bit) & bit))
		interrupt(vm);
}

static bool vm_wake(struct channel *ch, uint32_t slot)
{
	(void)canal_fetch_or(&ch->region->woken[slot / 64], 1ull << slot % 64);
	channel_interrupt(ch->vm, ch->vm_number);
	return true;
}

/* All its programs wake up, and see region.broken. */
static void vm_broken(struct channel *ch)
{
	for (uint32_t i = 0; i < ch->shape.waits / 64; i++)
		(void)canal_fetch_or(&ch->region->woken[i], ~0ull);
	channel_interrupt(ch->vm, ch->vm_number);
}

static void mail_answer(struct vm *vm, uint64_t pos, int result, bool waited)
{
	struct canal_mail *slot = &vm->mail->mail[pos % CANAL_MAIL_SLOTS];

	canal_write_once(&slot->result, result);
	/* M2 release: the result, and our last use of what it gives back, before done */
	canal_store_release(&slot->done, pos + 1);
	if (waited && !canal_xchg(&vm->mail->pending_mail, 1u))
		interrupt(vm);
}

static void vm_left(struct client *c)
{
	(void)c;
}

static void mails_hear(struct vm *vm);

static void vm_hear(struct client *c)
{
	mails_hear(c->channel->vm);
}

static void close_forget(struct vm *vm, struct vm_channel *vc)
{
	vm->closes -= vc->closing;
	vc->closing = false;
}

/* The channel is freed, or could not be made: then it has no memory of ours. */
static void vm_release(struct channel *ch)
{
	struct vm *vm = ch->vm;
	struct vm_channel *vc;

	if (!vm)
		return;
	vc = &vm->channel[ch->vm_number];
	guestmem_unview(&vm->ram, &vc->view);
	vc->ch = NULL;
	if (!vc->closing)
		return;
	close_forget(vm, vc);
	vc->open = false;
	mail_answer(vm, vc->close_pos, 0, true);
}

const struct transport transport_vm = {
	.name = "vm",
	/* To sleep costs an interrupt, and the guest's yield gives way to nobody outside it. */
	.spin_looks = 5000,
	.wake = vm_wake,
	.broken = vm_broken,
	.hear = vm_hear,
	.left = vm_left,
	.release = vm_release,
};

/* --- the end of channels ----------------------------------------------- */

/* At once; nothing is under way between two passes. */
static void channel_drop(struct vm *vm, uint32_t number)
{
	struct vm_channel *vc = &vm->channel[number];

	vc->open = false;
	close_forget(vm, vc);
	if (!vc->ch)
		return;
	channel_end(vc->ch);
	channel_reap(vc->ch);
}

static void channels_drop(struct vm *vm)
{
	for (uint32_t i = 0; i < CANAL_MAIL_CHANNELS; i++)
		channel_drop(vm, i);
	if (vm->opening.under_way)
		guestmem_unview(&vm->ram, &vm->channel[vm->opening.number].view);
	vm->opening.under_way = false;
	if (vm->ram.fd >= 0)
		guestmem_close(&vm->ram);
	vm->ready = false;
}

/*
 * What was asked before a RESET was asked of another canald, or by another driver,
 * and is answered with an error. The driver sees the new epoch by the interrupt, or
 * when it looks next.
 */
static void epoch_begin(struct vm *vm, uint64_t pos)
{
	uint64_t tail = canal_read_once(&vm->mail->tail);
	uint32_t epoch = 0;

	channels_drop(vm);
	while (!epoch && getrandom(&epoch, sizeof(epoch), 0) < 0 && errno == EINTR)
		;
	vm->pos = tail - pos <= CANAL_MAIL_SLOTS ? pos : tail;
	canal_write_once(&vm->mail->head, vm->pos);
	canal_write_once(&vm->mail->pending, 0u);
	canal_write_once(&vm->mail->pending_mail, 0u);
	/* M1 release: what a driver needs to know, before the epoch */
	canal_store_release(&vm->mail->epoch, epoch ? epoch : 1u);
	interrupt(vm);
}

static void throw_out(struct vm *vm, const char *why)
{
	canal_fetch_add(&broken_count[BROKEN_MAIL], 1);
	host_log_limited(vm->guest->name, LOG_WARNING,
			 "guest=%s: thrown out, all its channels end: %s", vm->guest->name, why);
	epoch_begin(vm, vm->pos);
}

static int rule_broken(const struct vm *vm, enum broken rule, int result, const char *what)
{
	canal_fetch_add(&broken_count[rule], 1);
	host_log_limited(vm->guest->name, LOG_WARNING, "guest=%s: request refused: %s",
			 vm->guest->name, what);
	return result;
}

/* --- requests ---------------------------------------------------------- */

static bool is_file(const struct guestmem *m, const char *path)
{
	struct stat st;

	return path[0] && !lstat(path, &st) && st.st_dev == m->dev && st.st_ino == m->ino;
}

/*
 * A QEMU that can make links must not have canald read another guest's RAM for it: it
 * is whose section names the file itself, else who came first.
 */
static bool is_anothers(const struct vm *vm)
{
	bool named = is_file(&vm->ram, vm->guest->memory_path);
	struct guest *g;

	cds_list_for_each_entry(g, &guests, link)
	{
		const struct vm *other = g->vm;

		if (g == vm->guest)
			continue;
		if (!named && is_file(&vm->ram, g->memory_path))
			return true;
		if (other && other->ram.base && other->ram.dev == vm->ram.dev &&
		    other->ram.ino == vm->ram.ino)
			return true;
	}
	return false;
}

static int ram_open(struct vm *vm, const struct canal_mail *m, const char **ret_why)
{
	int r = guestmem_open(&vm->ram, vm->guest->memory_path, ret_why);

	if (r)
		return r;
	*ret_why = "it is that of another guest";
	r = is_anothers(vm) ? -EINVAL : 0;
	if (!r) {
		*ret_why = "the driver's cookie is not in it: is it this guest's RAM, share=on?";
		r = guestmem_find(&vm->ram, m->address, m->arg64, m->arg);
	}
	if (r)
		guestmem_close(&vm->ram);
	return r;
}

static int serve_reset(struct vm *vm, const struct canal_mail *m)
{
	const char *why = NULL;
	int r;

	channels_drop(vm);
	r = ram_open(vm, m, &why);
	if (r) {
		host_log_limited(vm->guest->name, LOG_ERR, "guest=%s: memory = %s: %s",
				 vm->guest->name, vm->guest->memory_path, why ? why : strerror(-r));
		return r;
	}
	vm->ready = true;
	host_log_limited(vm->guest->name, LOG_INFO, "guest=%s: driver attached, %llu MiB of RAM",
			 vm->guest->name, (unsigned long long)(vm->ram.len >> 20));
	return 0;
}

/* For people: the guest, and the program as the guest calls it. */
static void program_name(const struct vm *vm, const struct vm_opening *o, char *name, size_t len)
{
	size_t at = (size_t)snprintf(name, len, "%s/", vm->guest->name);

	for (size_t i = 0; i < sizeof(o->name) && o->name[i] && at + 1 < len; i++)
		name[at++] = isgraph((unsigned char)o->name[i]) && o->name[i] != '"' ? o->name[i]
										     : '_';
	name[at] = '\0';
}

/* The view is the channel's from now on. */
static int channel_begin(struct vm *vm, const struct vm_opening *o, struct channel *ch)
{
	struct client *c;
	int r;

	ch->vm = vm;
	ch->vm_number = o->number;
	vm->channel[o->number].ch = ch;
	r = channel_attach(ch, vm->poller);
	if (!r)
		r = channel_add_client(ch, FD_REMOTE, 0, o->uid, &c);
	if (r)
		channel_reap(ch);
	return r;
}

/* Its memory is mapped. */
static int open_finish(struct vm *vm, const struct vm_opening *o)
{
	struct vm_channel *vc = &vm->channel[o->number];
	char name[sizeof(vc->ch->name)];
	const struct channel_origin from = {
		.transport = &transport_vm,
		.guest = vm->guest,
		.shape = &vm->shape,
		.base = vc->view.base,
		.uid = o->uid,
		.pid = (pid_t)o->pid,
		.name = name,
	};
	struct channel *ch;
	int r;

	program_name(vm, o, name, sizeof(name));
	r = channel_create(&ch, &from);
	if (r)
		guestmem_unview(&vm->ram, &vc->view);
	else
		r = channel_begin(vm, o, ch);
	vc->open = !r;
	return r;
}

/* Some more of the channel that is being opened. */
static void open_go_on(struct vm *vm)
{
	struct vm_channel *vc = &vm->channel[vm->opening.number];
	int r = guestmem_map(&vm->ram, &vc->view, MAPS_A_PASS);

	vm->poller->work++; /* no sleep before it is there */
	if (r > 0)
		return;
	vm->opening.under_way = false;
	if (r)
		guestmem_unview(&vm->ram, &vc->view);
	else
		r = open_finish(vm, &vm->opening);
	mail_answer(vm, vm->opening.pos, r, true);
}

/* A channel that an honest driver may ask for, and does not get. */
static int open_refused(struct vm *vm, int error)
{
	const char *why = strerror(-error);

	if (error == -ENOSPC) {
		canal_fetch_add(&broken_count[BROKEN_EXTENT_LIMIT], 1);
		why = "its RAM is in too many pieces: raise vm.max_map_count, or restart the "
		      "guest";
	} else if (error == -EOPNOTSUPP) {
		why = "its RAM is in pieces smaller than a page of hugetlbfs: restart the guest";
	} else if (error == -ENXIO) {
		why = "where its RAM continues above 4 GiB is not known: load canal.ko anew";
	}
	host_log_limited(vm->guest->name, LOG_WARNING, "guest=%s: no channel: %s", vm->guest->name,
			 why);
	return error;
}

static int serve_open(struct vm *vm, const struct canal_mail *m, uint64_t pos)
{
	struct vm_channel *vc = &vm->channel[m->channel];
	int r;

	if (vc->open || m->client != 1)
		return rule_broken(vm, BROKEN_MAIL, -EBUSY, "OPEN of a channel that is open");
	r = guestmem_view(&vm->ram, m->address, m->arg, vm->region_len, &vc->view);
	if (r == -EINVAL || r == -EEXIST || r == -E2BIG)
		return rule_broken(vm, BROKEN_EXTENT, r, "extents that cannot be a channel");
	if (r)
		return open_refused(vm, r);
	vm->opening = (struct vm_opening){ true, m->channel, m->uid, m->pid, "", pos };
	memcpy(vm->opening.name, m->name, sizeof(m->name));
	open_go_on(vm);
	return LATER;
}

static int serve_join(struct channel *ch, const struct canal_mail *m)
{
	struct client *c;
	int r;

	if (ch->broken)
		return -EPIPE;
	r = channel_add_client(ch, FD_REMOTE, 0, m->uid, &c);
	return r ? r : (int)c->number;
}

static int serve_leave(struct channel *ch, struct client *c)
{
	if (c) {
		ref_drop_client(ch, c->number);
		channel_drop_client(c);
	}
	return 0;
}

/* Its last process and its last descriptor are gone. */
static int serve_close(struct vm *vm, struct vm_channel *vc, uint64_t pos)
{
	struct channel *ch = vc->ch;
	struct client *c, *next;

	if (!ch) {
		vc->open = false;
		return 0;
	}
	if (vc->closing)
		return rule_broken(vm, BROKEN_MAIL, -EALREADY, "CLOSE of a channel twice");
	vc->closing = true;
	vm->closes++;
	vc->close_pos = pos;
	vc->close_until_ns = vm->poller->now_ns + CLOSE_NS;
	cds_list_for_each_entry_safe(c, next, &ch->clients, link)
	{
		ref_drop_client(ch, c->number);
		channel_drop_client(c);
	}
	for (uint32_t i = 0; i < ch->shape.socks && ch->sock_used; i++)
		if (ch->socks[i])
			sock_release(ch->socks[i]);
	(void)channel_reap(ch); /* else serve_channels() does, when all is sent */
	return LATER;
}

/* A descriptor's last close: what was asked before it goes before it. */
static int serve_undummy(struct vm *vm, struct channel *ch, const struct canal_mail *m)
{
	uint64_t before = ch->count.inrs, served;

	if (!vm->hearing && !ch->broken)
		channel_serve(ch, INRS_BEFORE_END);
	served = ch->count.inrs - before;
	vm->inrs_left -= served < vm->inrs_left ? (uint32_t)served : vm->inrs_left;
	if (!ch->broken)
		channel_end_dummy(ch, m->sock, m->generation);
	return 0;
}

static int serve_waiter(struct channel *ch, struct client *c, const struct canal_mail *m)
{
	if (c && !ch->broken)
		channel_add_waiter(c, m->sock, m->generation, FD_REMOTE);
	return 0;
}

/* Those that name a channel. */
static int serve_channel(struct vm *vm, const struct canal_mail *m, uint64_t pos)
{
	struct vm_channel *vc = &vm->channel[m->channel];
	struct channel *ch = vc->ch;
	struct client *c;

	if (!vc->open)
		return rule_broken(vm, BROKEN_MAIL, -ENOENT, "a channel that is not open");
	if (m->op == CANAL_MAIL_CLOSE)
		return serve_close(vm, vc, pos);
	if (!ch || vc->closing) /* broken, and gone already */
		return m->op == CANAL_MAIL_JOIN ? -EPIPE : 0;
	c = channel_client(ch, m->client);
	switch (m->op) {
	case CANAL_MAIL_JOIN:
		return serve_join(ch, m);
	case CANAL_MAIL_HYBRID:
		if (c)
			c->table = m->address;
		return 0;
	case CANAL_MAIL_LEAVE:
		return serve_leave(ch, c);
	case CANAL_MAIL_DUMMY:
		if (!ch->broken)
			channel_add_dummy(ch, m->sock, m->generation, FD_REMOTE);
		return 0;
	case CANAL_MAIL_UNDUMMY:
		return serve_undummy(vm, ch, m);
	default:
		return serve_waiter(ch, c, m);
	}
}

static int mail_serve(struct vm *vm, const struct canal_mail *m, uint64_t pos)
{
	if (m->op == CANAL_MAIL_RESET)
		return serve_reset(vm, m);
	if (!vm->ready)
		return -ESTALE;
	if (!m->op || m->op >= CANAL_MAIL_OPS)
		return RULE_BROKEN;
	if (m->channel >= vm->channels)
		return rule_broken(vm, BROKEN_MAIL, -EINVAL, "a channel number too high");
	return m->op == CANAL_MAIL_OPEN ? serve_open(vm, m, pos) : serve_channel(vm, m, pos);
}

static bool is_waited(uint32_t op)
{
	return op == CANAL_MAIL_RESET || op == CANAL_MAIL_OPEN || op == CANAL_MAIL_JOIN ||
	       op == CANAL_MAIL_LEAVE || op == CANAL_MAIL_CLOSE;
}

/* Nothing else of this guest is served after it in a pass. */
static bool is_heavy(uint32_t op)
{
	return op == CANAL_MAIL_RESET || op == CANAL_MAIL_OPEN || op == CANAL_MAIL_CLOSE;
}

/* Those that can be served in the middle of a pass: no channel begins or ends. */
static bool is_light(uint32_t op)
{
	return op == CANAL_MAIL_DUMMY || op == CANAL_MAIL_UNDUMMY || op == CANAL_MAIL_WAITER;
}

/* --- the ring ---------------------------------------------------------- */

/* The next request; false: there is none, or the guest was thrown out. */
static bool mail_next(struct vm *vm, struct canal_mail *m)
{
	/* M1 acquire: tail before the request */
	uint64_t ahead = canal_load_acquire(&vm->mail->tail) - vm->pos;

	if (!ahead)
		return false;
	if (ahead > CANAL_MAIL_SLOTS) {
		if (!vm->hearing)
			throw_out(vm, "mailbox position");
		return false;
	}
	memcpy(m, &vm->mail->mail[vm->pos % CANAL_MAIL_SLOTS], offsetof(struct canal_mail, result));
	return true;
}

static void mail_take(struct vm *vm, const struct canal_mail *m)
{
	uint64_t pos = vm->pos++;
	int result = mail_serve(vm, m, pos);

	vm->poller->work++;
	canal_write_once(&vm->mail->head, vm->pos);
	if (result != LATER)
		mail_answer(vm, pos, result == RULE_BROKEN ? -EINVAL : result, is_waited(m->op));
	if (result == RULE_BROKEN)
		throw_out(vm, "unknown request");
}

/* In the middle of a pass: has a descriptor been closed meanwhile? */
static void mails_hear(struct vm *vm)
{
	struct canal_mail m;

	if (vm->hearing || !vm->ready || vm->opening.under_way)
		return;
	vm->hearing = true;
	for (int i = 0; i < MAILS_A_PASS && mail_next(vm, &m) && is_light(m.op); i++)
		mail_take(vm, &m);
	vm->hearing = false;
}

void vms_hear(struct poller *p)
{
	struct vm *vm;

	cds_list_for_each_entry(vm, &p->vms, poller_link) mails_hear(vm);
}

/* Channels that are closed and do not get their bytes sent. */
static void closes_limit(struct vm *vm)
{
	for (uint32_t i = 0; vm->closes && i < vm->channels; i++) {
		struct vm_channel *vc = &vm->channel[i];

		if (!vc->closing || vm->poller->now_ns < vc->close_until_ns)
			continue;
		channel_end(vc->ch);
		channel_reap(vc->ch); /* which answers */
	}
}

/* Whether it is as it should be. */
static bool bell_watch(struct vm *vm, bool on)
{
	struct poller *p = vm->poller;

	if (on && vm->bell.fd < 0)
		return !p->ops->watch(p->engine, &vm->bell, vm->bell_fd, EPOLLIN);
	if (!on && vm->bell.fd >= 0)
		p->ops->unwatch(p->engine, &vm->bell);
	return true;
}

static void mails_serve(struct vm *vm)
{
	struct canal_mail m;

	vm->inrs_left = INRS_A_PASS;
	if (vm->opening.under_way)
		open_go_on(vm);
	for (int i = 0;
	     i < MAILS_A_PASS && !vm->opening.under_way && vm->inrs_left && mail_next(vm, &m);
	     i++) {
		mail_take(vm, &m);
		if (is_heavy(m.op))
			break;
	}
	closes_limit(vm);
	if (vm->deaf_until_ns && vm->poller->now_ns >= vm->deaf_until_ns && bell_watch(vm, true))
		vm->deaf_until_ns = 0;
}

void vms_serve(struct poller *p)
{
	struct vm *vm;

	cds_list_for_each_entry(vm, &p->vms, poller_link) mails_serve(vm);
}

/* --- passes and sleep -------------------------------------------------- */

void vms_pass(struct poller *p)
{
	struct vm *vm;

	if (guestmem_bury(UNMAPS_A_PASS))
		p->work++;
	cds_list_for_each_entry(vm, &p->vms, poller_link)
	{
		/* T2 release: our last use of a page in the pass before this. T1
		 * store-load: before the next look at a table. */
		canal_store_fence(&vm->mail->passes, ++vm->passes);
		if (vm->ram.fd >= 0 && vm->ram.lost)
			throw_out(vm, "the file that is its RAM became shorter");
	}
	vms_serve(p);
}

void vms_arm(struct poller *p, bool on)
{
	struct vm *vm;

	cds_list_for_each_entry(vm, &p->vms, poller_link)
	{
		if (on)
			canal_arm(&vm->mail->host_asleep);
		else
			canal_disarm(&vm->mail->host_asleep);
	}
}

int64_t vms_sleep_limit(const struct poller *p)
{
	int64_t limit = -1;
	struct vm *vm;

	cds_list_for_each_entry(vm, &p->vms, poller_link)
	{
		if (vm->deaf_until_ns)
			return (int64_t)DEAF_NS;
		if (vm->closes)
			limit = (int64_t)SECOND_NS;
	}
	return limit;
}

void vms_end(void)
{
	guestmem_bury(UINT32_MAX);
}

/* Grows with each request and INR of this guest; others' do not count. */
static uint64_t work_of(const struct vm *vm)
{
	uint64_t work = vm->pos;

	for (uint32_t i = 0; i < vm->channels; i++)
		if (vm->channel[i].ch)
			work += vm->channel[i].ch->count.inrs;
	return work;
}

/*
 * The bell only ends the poller's sleep. A guest that rings without end, for
 * nothing, is not heard for a moment now and then: its requests are looked at in
 * each pass all the same. The eventfd is not read: QEMU could have made that block.
 */
static void bell_rings(struct engine_handle *h, uint32_t events)
{
	struct vm *vm = caa_container_of(h, struct vm, bell);
	uint64_t now = vm->poller->now_ns, work = work_of(vm);

	(void)events;
	if (now - vm->bell_ns > SECOND_NS) {
		vm->bell_ns = now;
		vm->bells = 0;
	}
	if (work == vm->bell_work)
		vm->bells++; /* the one before brought nothing */
	vm->bell_work = work;
	if (vm->bells < BELLS_MAX)
		return;
	vm->deaf_until_ns = now + DEAF_NS;
	bell_watch(vm, false);
	if (vm->bells > BELLS_MAX) /* counted in this second already */
		return;
	vm->bells++;
	canal_fetch_add(&broken_count[BROKEN_BELLS], 1);
	host_log_limited(vm->guest->name, LOG_NOTICE, "guest=%s: rings the doorbell too often",
			 vm->guest->name);
}

/* --- QEMU comes and goes ----------------------------------------------- */

/* How many of what a channel of this guest has. */
static void shape_choose(struct vm *vm)
{
	const struct guest *g = vm->guest;
	uint32_t chunks = g->chunks ? g->chunks : VM_CHUNKS;

	vm->shape = (struct channel_shape){
		.waits = 256,
		.sets = 256,
		.subs = 8192,
		.socks = 4096,
		.chunks = (chunks + CHUNKS_STEP - 1) / CHUNKS_STEP * CHUNKS_STEP,
	};
	vm->region_len = region_length(&vm->shape);
	vm->pins = g->pins ? g->pins : VM_PINS;
	vm->channels = g->max_channels && g->max_channels < CANAL_MAIL_CHANNELS
			       ? g->max_channels
			       : CANAL_MAIL_CHANNELS;
}

static void header_fill(struct vm *vm)
{
	vm->mail->magic = CANAL_MAIL_MAGIC;
	vm->mail->version = CANAL_MAIL_VERSION;
	vm->mail->region_len = vm->region_len;
	vm->mail->channels = vm->channels;
	vm->mail->pins = vm->pins;
	vm->passes = canal_read_once(&vm->mail->passes);
}

int vm_up(struct vm *vm, struct poller *p)
{
	int r;

	vm->mail = mmap(NULL, CANAL_MAIL_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, vm->mail_fd, 0);
	if (vm->mail == MAP_FAILED) {
		vm->mail = NULL;
		return -errno;
	}
	vm->ram.fd = -1;
	vm->ram.share = &vm->share;
	vm->bell.fd = -1;
	vm->deaf_until_ns = 0;
	vm->bell.event = bell_rings;
	r = p->ops->watch(p->engine, &vm->bell, vm->bell_fd, EPOLLIN);
	if (r) {
		munmap(vm->mail, CANAL_MAIL_LEN);
		vm->mail = NULL;
		return r;
	}
	vm->poller = p;
	shape_choose(vm);
	header_fill(vm);
	epoch_begin(vm, canal_read_once(&vm->mail->head));
	cds_list_add_tail(&vm->poller_link, &p->vms);
	return 0;
}

void vm_down(struct vm *vm)
{
	if (!vm->poller)
		return;
	channels_drop(vm);
	bell_watch(vm, false);
	cds_list_del(&vm->poller_link);
	munmap(vm->mail, CANAL_MAIL_LEN);
	vm->mail = NULL;
	vm->poller = NULL;
}

void vm_farewell(struct vm *vm)
{
	if (!vm->mail)
		return;
	canal_store_release(&vm->mail->epoch, 0u);
	interrupt(vm);
	if (vm->ram.fd >= 0)
		guestmem_close(&vm->ram);
	munmap(vm->mail, CANAL_MAIL_LEN);
	vm->mail = NULL;
	vm->poller = NULL;
}
