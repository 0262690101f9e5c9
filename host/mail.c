/* SPDX-License-Identifier: MIT */
/*
 * The mailbox: what canal.ko asks of canald.
 *
 * Purpose: serves the requests of common/mailbox.h, some in each pass; those about a
 * channel are vm_channel.c's.
 *
 * Invariants
 *  1. A request is copied out once, and the copy is served: what the guest changes
 *     meanwhile is nobody's.
 *  2. Where canald stands (pos) is its own; the guest's tail is at most a ring ahead,
 *     or the guest is thrown out: all its channels end and a new epoch begins.
 *  3. No translation is used outside of ref_pass(), between two stores of `passes`.
 *
 * Ownership and threads: the guest's poller; vm_farewell(), when pollers have ended.
 *
 * Failure: a request that is wrong gets -errno. One that breaks a rule is counted,
 * too (bad-mail, bad-extent).
 */
#include <errno.h>
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
#define UNMAPS_A_PASS 256
/* INRs that were posted before the end of a socket, served before it; of all channels. */
#define INRS_A_PASS 1024u
/* Doorbells for nothing in a second, before they are not heard for a while. */
#define BELLS_MAX 2000
#define DEAF_NS 10000000ull
#define SECOND_NS 1000000000ull

#define VM_CHUNKS 1024u
#define VM_PINS 16384u
/* RX or TX chunks come in 2 MiB, as the region does. */
#define CHUNKS_STEP ((2u << 20) / CANAL_CHUNK)

void mail_answer(struct vm *vm, uint64_t pos, int result, bool waited)
{
	struct canal_mail *slot = &vm->mail->mail[pos % CANAL_MAIL_SLOTS];

	canal_write_once(&slot->result, result);
	/* M2 release: the result, and our last use of what it gives back, before done */
	canal_store_release(&slot->done, pos + 1);
	if (waited && !canal_xchg(&vm->mail->pending_mail, 1u))
		irq_raise(vm->irq_fd);
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

	vm_channels_drop(vm);
	while (!epoch && getrandom(&epoch, sizeof(epoch), 0) < 0 && errno == EINTR)
		;
	vm->pos = tail - pos <= CANAL_MAIL_SLOTS ? pos : tail;
	canal_write_once(&vm->mail->head, vm->pos);
	canal_write_once(&vm->mail->pending, 0u);
	canal_write_once(&vm->mail->pending_mail, 0u);
	/* M1 release: what a driver needs to know, before the epoch */
	canal_store_release(&vm->mail->epoch, epoch ? epoch : 1u);
	irq_raise(vm->irq_fd);
}

static void throw_out(struct vm *vm, const char *why)
{
	canal_fetch_add(&broken_count[BROKEN_MAIL], 1);
	host_log_limited(vm->guest->name, LOG_WARNING,
			 "guest=%s: thrown out, all its channels end: %s", vm->guest->name, why);
	epoch_begin(vm, vm->pos);
}

int mail_refuse(const struct vm *vm, enum broken rule, int result, const char *what)
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

	vm_channels_drop(vm);
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

static int mail_serve(struct vm *vm, const struct canal_mail *m, uint64_t pos)
{
	if (m->op == CANAL_MAIL_RESET)
		return serve_reset(vm, m);
	if (!vm->ready)
		return -ESTALE;
	if (!m->op || m->op >= CANAL_MAIL_OPS)
		return RULE_BROKEN;
	if (m->channel >= vm->channels)
		return mail_refuse(vm, BROKEN_MAIL, -EINVAL, "a channel number too high");
	return m->op == CANAL_MAIL_OPEN ? vm_open(vm, m, pos) : vm_channel_serve(vm, m, pos);
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
	if (result != MAIL_LATER)
		mail_answer(vm, pos, result == RULE_BROKEN ? -EINVAL : result, is_waited(m->op));
	if (result == RULE_BROKEN)
		throw_out(vm, "unknown request");
}

void mail_hear(struct vm *vm)
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

	cds_list_for_each_entry(vm, &p->vms, poller_link) mail_hear(vm);
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
		vm_open_go_on(vm);
	for (int i = 0;
	     i < MAILS_A_PASS && !vm->opening.under_way && vm->inrs_left && mail_next(vm, &m);
	     i++) {
		mail_take(vm, &m);
		if (is_heavy(m.op))
			break;
	}
	vm_closes_limit(vm);
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
	vm_channels_drop(vm);
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
	irq_raise(vm->irq_fd);
	if (vm->ram.fd >= 0)
		guestmem_close(&vm->ram);
	munmap(vm->mail, CANAL_MAIL_LEN);
	vm->mail = NULL;
	vm->poller = NULL;
}
