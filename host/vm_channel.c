/* SPDX-License-Identifier: MIT */
/*
 * The channels of a virtual machine: how they begin, wake and end.
 *
 * Purpose: serves those requests of canal.ko that are about a channel (mail.c has the
 * ring they come by), and is the transport of these channels: wakes by bits and one
 * interrupt.
 *
 * Invariants
 *  1. A channel's memory is mapped some extents in each pass, and nothing behind its
 *     OPEN is served meanwhile.
 *  2. CLOSE and LEAVE are answered when nothing of canald's uses those pages any
 *     more: no operation is under way between two passes, and a channel's memory is
 *     unmapped before its CLOSE is answered.
 *
 * Ownership and threads: the guest's poller.
 *
 * Failure: a request that is wrong gets -errno. One that breaks a rule is counted,
 * too (bad-mail, bad-extent).
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syslog.h>

#include "vm.h"

#define MAPS_A_PASS 64
/* INRs that were posted before the end of a socket, served before it. */
#define INRS_BEFORE_END 256
/* A channel that was closed may go on sending for so long. */
#define CLOSE_NS 20000000000ull

/* --- waking ------------------------------------------------------------ */

static void channel_interrupt(struct vm *vm, uint32_t number)
{
	const uint64_t bit = 1ull << number;

	/* W1 release: slots in `woken` before the channel in `pending`; the interrupt
	 * is on its way already if the bit was set */
	if (!(canal_fetch_or(&vm->mail->pending, bit) & bit))
		irq_raise(vm->irq_fd);
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

static void vm_left(struct client *c)
{
	(void)c;
}

static void vm_hear(struct client *c)
{
	mail_hear(c->channel->vm);
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

void vm_channels_drop(struct vm *vm)
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

/* --- beginning and requests -------------------------------------------- */

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
void vm_open_go_on(struct vm *vm)
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

int vm_open(struct vm *vm, const struct canal_mail *m, uint64_t pos)
{
	struct vm_channel *vc = &vm->channel[m->channel];
	int r;

	if (vc->open || m->client != 1)
		return mail_refuse(vm, BROKEN_MAIL, -EBUSY, "OPEN of a channel that is open");
	r = guestmem_view(&vm->ram, m->address, m->arg, vm->region_len, &vc->view);
	if (r == -EINVAL || r == -EEXIST || r == -E2BIG)
		return mail_refuse(vm, BROKEN_EXTENT, r, "extents that cannot be a channel");
	if (r)
		return open_refused(vm, r);
	vm->opening = (struct vm_opening){ true, m->channel, m->uid, m->pid, "", pos };
	memcpy(vm->opening.name, m->name, sizeof(m->name));
	vm_open_go_on(vm);
	return MAIL_LATER;
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
		return mail_refuse(vm, BROKEN_MAIL, -EALREADY, "CLOSE of a channel twice");
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
	return MAIL_LATER;
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
int vm_channel_serve(struct vm *vm, const struct canal_mail *m, uint64_t pos)
{
	struct vm_channel *vc = &vm->channel[m->channel];
	struct channel *ch = vc->ch;
	struct client *c;

	if (!vc->open)
		return mail_refuse(vm, BROKEN_MAIL, -ENOENT, "a channel that is not open");
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

/* Channels that are closed and do not get their bytes sent. */
void vm_closes_limit(struct vm *vm)
{
	for (uint32_t i = 0; vm->closes && i < vm->channels; i++) {
		struct vm_channel *vc = &vm->channel[i];

		if (!vc->closing || vm->poller->now_ns < vc->close_until_ns)
			continue;
		channel_end(vc->ch);
		channel_reap(vc->ch); /* which answers */
	}
}
