/* SPDX-License-Identifier: MIT */
/*
 * A driver and a QEMU that lie. Each case breaks one rule; what it prints, name and
 * reason (perhaps twice), is held against what canald has counted. After it, a
 * channel can be opened and used again.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"

static const struct canal_mail reset_mail = { .op = CANAL_MAIL_RESET };

static void wait_thrown(struct machine *m)
{
	uint64_t until = now_ms() + 10000;

	while (!machine_thrown(m)) {
		if (now_ms() > until)
			fail("it was not thrown out");
		machine_ring(m);
		nap_us(100);
	}
}

/* --- requests ---------------------------------------------------------- */

static void op_zero(struct machine *m)
{
	(void)machine_ask_op(m, 0, 0, 1);
	wait_thrown(m);
}

static void op_unknown(struct machine *m)
{
	(void)machine_ask_op(m, CANAL_MAIL_OPS, 0, 1);
	wait_thrown(m);
}

static void tail_far_ahead(struct machine *m)
{
	canal_store_fence(&m->mail->tail, m->tail + CANAL_MAIL_SLOTS + 1);
	wait_thrown(m);
}

static void tail_goes_back(struct machine *m)
{
	canal_store_fence(&m->mail->tail, m->tail - 1);
	wait_thrown(m);
}

static void channel_too_high(struct machine *m)
{
	machine_expect("JOIN", machine_ask_op(m, CANAL_MAIL_JOIN, m->mail->channels, 1), -EINVAL);
}

static void channel_not_open(struct machine *m)
{
	machine_expect("CLOSE", machine_ask_op(m, CANAL_MAIL_CLOSE, 5, 1), -ENOENT);
}

static void open_twice(struct machine *m)
{
	struct canal_extent extents[1];
	struct canal_mail mail = machine_open_mail(
		0, machine_list(m, 0, extents, machine_extents(m, 0, 1, extents)), 1);

	machine_expect("OPEN", machine_ask(m, &mail), 0);
	machine_expect("OPEN", machine_ask(m, &mail), -EBUSY);
}

static void open_by_client_two(struct machine *m)
{
	struct canal_extent extents[1];
	struct canal_mail mail = machine_open_mail(
		0, machine_list(m, 0, extents, machine_extents(m, 0, 1, extents)), 1);

	mail.client = 2;
	machine_expect("OPEN", machine_ask(m, &mail), -EBUSY);
}

/* Nothing but RESET is served before RESET. */
static void before_reset(struct machine *m)
{
	machine_vanish(m);
	machine_connect(m);
	m->epoch = 0;
	machine_expect("JOIN", machine_ask_op(m, CANAL_MAIL_JOIN, 0, 1), -ESTALE);
	machine_expect("op 0", machine_ask_op(m, 0, 0, 1), -ESTALE);
}

static void too_many_clients(struct machine *m)
{
	struct guest g;
	int r = 0;

	machine_guest_open(m, &g, 0, 1);
	for (uint32_t i = 0; i <= CANAL_CLIENT_MAX && r >= 0; i++)
		r = machine_ask_op(m, CANAL_MAIL_JOIN, 0, 1);
	machine_expect("JOIN", r, -EUSERS);
	guest_close(&g);
}

/* Clients, sockets and generations that there are not: nobody's, and no harm. */
static void nobodys(struct machine *m)
{
	struct guest g;
	uint32_t l, a, b;
	uint64_t until;

	machine_guest_open(m, &g, 0, 1);
	machine_expect("LEAVE", machine_ask_op(m, CANAL_MAIL_LEAVE, 0, 4000), 0);
	l = guest_listener(&g, 4);
	guest_pair(&g, l, &a, &b);
	for (uint32_t op = CANAL_MAIL_DUMMY; op <= CANAL_MAIL_UNDUMMY; op++) {
		machine_dummy(&g, op, CANAL_NONE, 1);
		machine_dummy(&g, op, g.shape.sock.count, 1);
		machine_dummy(&g, op, a, guest_sock(&g, a)->generation + 1);
		machine_dummy(&g, op, a, guest_sock(&g, a)->generation - 1);
	}
	g.client = 77;
	machine_waiter(&g, 3, 0);
	g.client = 1;
	guest_put(&g, a, "alive", 5);
	for (until = now_ms() + LONGEST_MS;
	     canal_load_acquire(&guest_sock(&g, b)->rx.tail) != 5 && now_ms() < until;) {
		guest_sync(&g);
		nap_us(100);
	}
	machine_expect("bytes", (int)guest_sock(&g, b)->rx.tail, 5);
	machine_dummy(&g, CANAL_MAIL_UNDUMMY, a, guest_sock(&g, a)->generation);
	while (!canal_load_acquire(&guest_sock(&g, b)->rx.closed) && now_ms() < until)
		nap_us(100);
	machine_expect("end", (int)guest_sock(&g, b)->rx.closed, CANAL_CLOSED_EOF);
	guest_close(&g);
}

static void slot_out_of_range(struct machine *m)
{
	struct guest g;

	machine_guest_open(m, &g, 0, 1);
	machine_waiter(&g, g.shape.wait.count, 0);
	guest_wait_closed(&g, LONGEST_MS);
	guest_close(&g);
}

/* --- extents ----------------------------------------------------------- */

/* One channel of these extents, which is not to be. */
static int try_open(struct machine *m, uint32_t number, const struct canal_extent *extents,
		    uint32_t count)
{
	const struct canal_mail mail =
		machine_open_mail(number, machine_list(m, number, extents, count), count);

	return machine_ask(m, &mail);
}

static int try_one(struct machine *m, uint64_t address, uint64_t len)
{
	const struct canal_extent e = { address, len };

	return try_open(m, 0, &e, 1);
}

static void outside(struct machine *m)
{
	machine_expect("OPEN", try_one(m, machine_address(m, m->ram_len), m->region_len), -EINVAL);
}

static void half_outside(struct machine *m)
{
	machine_expect("OPEN", try_one(m, machine_address(m, m->ram_len - PAGE), m->region_len),
		       -EINVAL);
}

static void in_the_hole(struct machine *m)
{
	machine_expect("OPEN", try_one(m, m->low, m->region_len), -EINVAL);
}

static void wraps_around(struct machine *m)
{
	machine_expect("OPEN", try_one(m, 0 - PAGE, m->region_len), -EINVAL);
}

static void no_page(struct machine *m)
{
	machine_expect("OPEN", try_one(m, RAM_CHANNELS + 8, m->region_len), -EINVAL);
}

static void too_short(struct machine *m)
{
	machine_expect("OPEN", try_one(m, RAM_CHANNELS, m->region_len - PAGE), -EINVAL);
}

static void too_long(struct machine *m)
{
	machine_expect("OPEN", try_one(m, RAM_CHANNELS, m->region_len + PAGE), -EINVAL);
}

static void nothing(struct machine *m)
{
	machine_expect("OPEN", try_one(m, RAM_CHANNELS, 0), -EINVAL);
}

static void overlap(struct machine *m)
{
	const struct canal_extent e[2] = { { RAM_CHANNELS, m->region_len - PAGE },
					   { RAM_CHANNELS + m->region_len - 2 * PAGE, PAGE } };

	machine_expect("OPEN", try_open(m, 0, e, 2), -EEXIST);
}

static void anothers_page(struct machine *m)
{
	const struct canal_extent e = { RAM_CHANNELS, m->region_len };

	machine_expect("OPEN", try_open(m, 0, &e, 1), 0);
	machine_expect("OPEN", try_open(m, 1, &e, 1), -EEXIST);
}

static void none(struct machine *m)
{
	const struct canal_mail mail = machine_open_mail(0, RAM_LISTS, 0);

	machine_expect("OPEN", machine_ask(m, &mail), -E2BIG);
}

static void too_many(struct machine *m)
{
	const struct canal_mail mail = machine_open_mail(0, RAM_LISTS, CANAL_MAIL_EXTENTS + 1);

	machine_expect("OPEN", machine_ask(m, &mail), -E2BIG);
}

static void list_outside(struct machine *m)
{
	const struct canal_mail mail = machine_open_mail(0, machine_address(m, m->ram_len), 1);

	machine_expect("OPEN", machine_ask(m, &mail), -EINVAL);
}

static void list_no_page(struct machine *m)
{
	const struct canal_mail mail = machine_open_mail(0, RAM_LISTS + 16, 1);

	machine_expect("OPEN", machine_ask(m, &mail), -EINVAL);
}

/* The second page of the list is the first again: its extents are there twice. */
static void list_in_a_circle(struct machine *m)
{
	struct canal_extent extents[300];
	struct canal_extent *list = (void *)(m->ram + RAM_LISTS);

	machine_extents(m, 0, 300, extents);
	machine_list(m, 0, extents, 300);
	list[CANAL_EXTENTS_PAGE].address = RAM_LISTS;
	machine_expect("OPEN",
		       machine_ask(m, &(struct canal_mail){ .op = CANAL_MAIL_OPEN,
							    .client = 1,
							    .arg = 300,
							    .address = RAM_LISTS }),
		       -EEXIST);
}

/* Channels in as many pieces as there may be, until the share of mappings ends; then all of them go. */
static uint32_t share_used_up(struct machine *m)
{
	static struct canal_extent extents[CANAL_MAIL_EXTENTS];
	const uint32_t pieces = (uint32_t)(m->region_len / PAGE) < CANAL_MAIL_EXTENTS
					? (uint32_t)(m->region_len / PAGE)
					: CANAL_MAIL_EXTENTS;
	uint32_t opened = 0;
	int r = 0;

	for (uint32_t n = 0; n < m->mail->channels && !r; n++) {
		machine_extents(m, n, pieces, extents);
		r = try_open(m, n, extents, pieces);
		opened += !r;
	}
	machine_expect("OPEN", r, -ENOSPC);
	for (uint32_t n = 0; n < opened; n++)
		machine_expect("CLOSE", machine_ask_op(m, CANAL_MAIL_CLOSE, n, 1), 0);
	machine_reset(m);
	printf("share_of_mappings extent-limit\n");
	return opened;
}

/* It comes back: what was unmapped goes some in each pass. */
static void share_of_mappings(struct machine *m)
{
	uint32_t first = share_used_up(m), again = 0;

	for (uint64_t until = now_ms() + LONGEST_MS; again != first && now_ms() < until;) {
		nap_us(200000);
		again = share_used_up(m);
	}
	if (!first || again != first)
		fail("%u channels, then %u", first, again);
}

/* --- RAM --------------------------------------------------------------- */

static void cookies(struct machine *m)
{
	machine_expect("wrong", machine_try_reset(m, RAM_COOKIE, 1), -ENOENT);
	machine_expect("zeros", machine_try_reset(m, RAM_COOKIE + PAGE, 0), -ENOENT);
	machine_expect("no page", machine_try_reset(m, RAM_COOKIE + 8, 1), -ENOENT);
	machine_expect("outside", machine_try_reset(m, m->ram_len, 1), -ENOENT);
	machine_expect("after it", machine_ask_op(m, CANAL_MAIL_JOIN, 0, 1), -ESTALE);
	machine_expect("RESET", machine_ask(m, &reset_mail), -ENOENT);
}

static void ram_too_short(struct machine *m)
{
	if (ftruncate(m->ram_fd, 100))
		fail("ftruncate");
	machine_expect("RESET", machine_try_reset(m, RAM_COOKIE, 1), -EINVAL);
	if (ftruncate(m->ram_fd, (off_t)m->ram_len))
		fail("ftruncate");
}

/* While canald works on it: it is thrown out, as somebody whose RAM is gone. */
static void ram_cut_short(struct machine *m)
{
	const struct canal_mail join = { .op = CANAL_MAIL_JOIN };
	struct guest g;

	machine_guest_open(m, &g, 0, 5);
	guest_listener(&g, 4);
	if (ftruncate(m->ram_fd, (off_t)(4 * PAGE)))
		fail("ftruncate");
	machine_post(m, &join);
	wait_thrown(m);
	if (ftruncate(m->ram_fd, (off_t)m->ram_len))
		fail("ftruncate");
	munmap(g.base, g.len);
}

/* --- all --------------------------------------------------------------- */

#define LIE(what, ...)              \
	{                           \
#what, what,        \
		{                   \
			__VA_ARGS__ \
		}                   \
	}

static const struct {
	const char *name;
	void (*run)(struct machine *m);
	const char *reasons[2];
} lies[] = {
	LIE(op_zero, "bad-mail"),
	LIE(op_unknown, "bad-mail"),
	LIE(tail_far_ahead, "bad-mail"),
	LIE(tail_goes_back, "bad-mail"),
	LIE(channel_too_high, "bad-mail"),
	LIE(channel_not_open, "bad-mail"),
	LIE(open_twice, "bad-mail"),
	LIE(open_by_client_two, "bad-mail"),
	LIE(before_reset, NULL),
	LIE(too_many_clients, NULL),
	LIE(nobodys, NULL),
	LIE(slot_out_of_range, "bad-slot"),
	LIE(outside, "bad-extent"),
	LIE(half_outside, "bad-extent"),
	LIE(in_the_hole, "bad-extent"),
	LIE(wraps_around, "bad-extent"),
	LIE(no_page, "bad-extent"),
	LIE(too_short, "bad-extent"),
	LIE(too_long, "bad-extent"),
	LIE(nothing, "bad-extent"),
	LIE(overlap, "bad-extent"),
	LIE(anothers_page, "bad-extent"),
	LIE(none, "bad-extent"),
	LIE(too_many, "bad-extent"),
	LIE(list_outside, "bad-extent"),
	LIE(list_no_page, "bad-extent"),
	LIE(list_in_a_circle, "bad-extent"),
	LIE(share_of_mappings, NULL), /* says by itself how often */
	LIE(cookies, NULL),
	LIE(ram_too_short, NULL),
	LIE(ram_cut_short, "bad-mail"),
};

void run_lies(uint64_t seed)
{
	(void)seed;
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		if (only && strcmp(only, lies[i].name))
			continue;
		fprintf(stderr, "%s\n", lies[i].name);
		machine_reset(the_machine);
		lies[i].run(the_machine);
		machine_still_works(the_machine);
		for (int k = 0; k < 2; k++)
			if (lies[i].reasons[k])
				printf("%s %s\n", lies[i].name, lies[i].reasons[k]);
	}
}
