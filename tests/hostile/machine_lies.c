/* SPDX-License-Identifier: MIT */
/*
 * A driver and a QEMU that lie. Each case breaks one rule; what it prints, name and
 * reason (perhaps twice), is held against what canald has counted. After it, a
 * channel can be opened and used again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"

static const struct canal_mail reset_mail = { .op = CANAL_MAIL_RESET };

static void expect(const char *what, int got, int wanted)
{
	if (got != wanted)
		fail("%s: %d, expected %d", what, got, wanted);
}

static int ask_op(struct machine *m, uint32_t op, uint32_t channel, uint32_t client)
{
	const struct canal_mail mail = { .op = op, .channel = channel, .client = client };

	return machine_ask(m, &mail);
}

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
	(void)ask_op(m, 0, 0, 1);
	wait_thrown(m);
}

static void op_unknown(struct machine *m)
{
	(void)ask_op(m, CANAL_MAIL_OPS, 0, 1);
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
	expect("JOIN", ask_op(m, CANAL_MAIL_JOIN, m->mail->channels, 1), -EINVAL);
}

static void channel_not_open(struct machine *m)
{
	expect("CLOSE", ask_op(m, CANAL_MAIL_CLOSE, 5, 1), -ENOENT);
}

static void open_twice(struct machine *m)
{
	struct canal_extent extents[1];
	struct canal_mail mail = machine_open_mail(
		0, machine_list(m, 0, extents, machine_extents(m, 0, 1, extents)), 1);

	expect("OPEN", machine_ask(m, &mail), 0);
	expect("OPEN", machine_ask(m, &mail), -EBUSY);
}

static void open_by_client_two(struct machine *m)
{
	struct canal_extent extents[1];
	struct canal_mail mail = machine_open_mail(
		0, machine_list(m, 0, extents, machine_extents(m, 0, 1, extents)), 1);

	mail.client = 2;
	expect("OPEN", machine_ask(m, &mail), -EBUSY);
}

/* Nothing but RESET is served before RESET. */
static void before_reset(struct machine *m)
{
	machine_vanish(m);
	machine_connect(m);
	m->epoch = 0;
	expect("JOIN", ask_op(m, CANAL_MAIL_JOIN, 0, 1), -ESTALE);
	expect("op 0", ask_op(m, 0, 0, 1), -ESTALE);
}

static void too_many_clients(struct machine *m)
{
	struct guest g;
	int r = 0;

	machine_guest_open(m, &g, 0, 1);
	for (uint32_t i = 0; i <= CANAL_CLIENT_MAX && r >= 0; i++)
		r = ask_op(m, CANAL_MAIL_JOIN, 0, 1);
	expect("JOIN", r, -EUSERS);
	guest_close(&g);
}

/* Clients, sockets and generations that there are not: nobody's, and no harm. */
static void nobodys(struct machine *m)
{
	struct guest g;
	uint32_t l, a, b;

	machine_guest_open(m, &g, 0, 1);
	expect("LEAVE", ask_op(m, CANAL_MAIL_LEAVE, 0, 4000), 0);
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
	for (int i = 0; i < 10000 && canal_load_acquire(&guest_sock(&g, b)->rx.tail) != 5; i++) {
		guest_sync(&g);
		nap_us(100);
	}
	expect("bytes", (int)guest_sock(&g, b)->rx.tail, 5);
	machine_dummy(&g, CANAL_MAIL_UNDUMMY, a, guest_sock(&g, a)->generation);
	for (int i = 0; i < 10000 && !canal_load_acquire(&guest_sock(&g, b)->rx.closed); i++)
		nap_us(100);
	expect("end", (int)guest_sock(&g, b)->rx.closed, CANAL_CLOSED_EOF);
	guest_close(&g);
}

static void slot_out_of_range(struct machine *m)
{
	struct guest g;

	machine_guest_open(m, &g, 0, 1);
	machine_waiter(&g, g.shape.wait.count, 0);
	guest_wait_closed(&g, 5000);
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
	expect("OPEN", try_one(m, machine_address(m, m->ram_len), m->region_len), -EINVAL);
}

static void half_outside(struct machine *m)
{
	expect("OPEN", try_one(m, machine_address(m, m->ram_len - PAGE), m->region_len), -EINVAL);
}

static void in_the_hole(struct machine *m)
{
	expect("OPEN", try_one(m, m->low, m->region_len), -EINVAL);
}

static void wraps_around(struct machine *m)
{
	expect("OPEN", try_one(m, 0 - PAGE, m->region_len), -EINVAL);
}

static void no_page(struct machine *m)
{
	expect("OPEN", try_one(m, RAM_CHANNELS + 8, m->region_len), -EINVAL);
}

static void too_short(struct machine *m)
{
	expect("OPEN", try_one(m, RAM_CHANNELS, m->region_len - PAGE), -EINVAL);
}

static void too_long(struct machine *m)
{
	expect("OPEN", try_one(m, RAM_CHANNELS, m->region_len + PAGE), -EINVAL);
}

static void nothing(struct machine *m)
{
	expect("OPEN", try_one(m, RAM_CHANNELS, 0), -EINVAL);
}

static void overlap(struct machine *m)
{
	const struct canal_extent e[2] = { { RAM_CHANNELS, m->region_len - PAGE },
					   { RAM_CHANNELS + m->region_len - 2 * PAGE, PAGE } };

	expect("OPEN", try_open(m, 0, e, 2), -EEXIST);
}

static void anothers_page(struct machine *m)
{
	const struct canal_extent e = { RAM_CHANNELS, m->region_len };

	expect("OPEN", try_open(m, 0, &e, 1), 0);
	expect("OPEN", try_open(m, 1, &e, 1), -EEXIST);
}

static void none(struct machine *m)
{
	const struct canal_mail mail = machine_open_mail(0, RAM_LISTS, 0);

	expect("OPEN", machine_ask(m, &mail), -E2BIG);
}

static void too_many(struct machine *m)
{
	const struct canal_mail mail = machine_open_mail(0, RAM_LISTS, CANAL_MAIL_EXTENTS + 1);

	expect("OPEN", machine_ask(m, &mail), -E2BIG);
}

static void list_outside(struct machine *m)
{
	const struct canal_mail mail = machine_open_mail(0, machine_address(m, m->ram_len), 1);

	expect("OPEN", machine_ask(m, &mail), -EINVAL);
}

static void list_no_page(struct machine *m)
{
	const struct canal_mail mail = machine_open_mail(0, RAM_LISTS + 16, 1);

	expect("OPEN", machine_ask(m, &mail), -EINVAL);
}

/* The second page of the list is the first again: its extents are there twice. */
static void list_in_a_circle(struct machine *m)
{
	struct canal_extent extents[300];
	struct canal_extent *list = (void *)(m->ram + RAM_LISTS);

	machine_extents(m, 0, 300, extents);
	machine_list(m, 0, extents, 300);
	list[CANAL_EXTENTS_PAGE].address = RAM_LISTS;
	expect("OPEN",
	       machine_ask(m, &(struct canal_mail){ .op = CANAL_MAIL_OPEN,
						    .client = 1,
						    .arg = 300,
						    .address = RAM_LISTS }),
	       -EEXIST);
}

/* In as many pieces as there may be: the share of mappings ends, and comes back. */
static void share_of_mappings(struct machine *m)
{
	static struct canal_extent extents[CANAL_MAIL_EXTENTS];
	const uint32_t pieces = (uint32_t)(m->region_len / PAGE) < CANAL_MAIL_EXTENTS
					? (uint32_t)(m->region_len / PAGE)
					: CANAL_MAIL_EXTENTS;
	uint32_t opened[2] = { 0 };

	for (int round = 0; round < 2; round++) {
		int r = 0;

		for (uint32_t n = 0; n < m->mail->channels && !r; n++) {
			machine_extents(m, n, pieces, extents);
			r = try_open(m, n, extents, pieces);
			opened[round] += !r;
		}
		expect("OPEN", r, -ENOSPC);
		for (uint32_t n = 0; n < opened[round]; n++)
			expect("CLOSE", ask_op(m, CANAL_MAIL_CLOSE, n, 1), 0);
		machine_reset(m);
		nap_us(200000); /* what was unmapped goes some in each pass */
	}
	if (!opened[0] || opened[0] != opened[1])
		fail("%u channels, then %u", opened[0], opened[1]);
}

/* --- RAM --------------------------------------------------------------- */

static void cookies(struct machine *m)
{
	expect("wrong", machine_try_reset(m, RAM_COOKIE, 1), -ENOENT);
	expect("zeros", machine_try_reset(m, RAM_COOKIE + PAGE, 0), -ENOENT);
	expect("no page", machine_try_reset(m, RAM_COOKIE + 8, 1), -ENOENT);
	expect("outside", machine_try_reset(m, m->ram_len, 1), -ENOENT);
	expect("after it", ask_op(m, CANAL_MAIL_JOIN, 0, 1), -ESTALE);
	expect("RESET", machine_ask(m, &reset_mail), -ENOENT);
}

static void ram_too_short(struct machine *m)
{
	if (ftruncate(m->ram_fd, 100))
		fail("ftruncate");
	expect("RESET", machine_try_reset(m, RAM_COOKIE, 1), -EINVAL);
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
	LIE(share_of_mappings, "extent-limit", "extent-limit"),
	LIE(cookies, NULL),
	LIE(ram_too_short, NULL),
	LIE(ram_cut_short, "bad-mail"),
};

static void still_works(struct machine *m)
{
	struct guest g;
	uint32_t l, a, b;

	machine_reset(m);
	machine_guest_open(m, &g, 1, 4);
	l = guest_listener(&g, 4);
	guest_pair(&g, l, &a, &b);
	guest_close(&g);
}

void run_lies(uint64_t seed)
{
	(void)seed;
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		if (only && strcmp(only, lies[i].name))
			continue;
		fprintf(stderr, "%s\n", lies[i].name);
		machine_reset(the_machine);
		lies[i].run(the_machine);
		still_works(the_machine);
		for (int k = 0; k < 2; k++)
			if (lies[i].reasons[k])
				printf("%s %s\n", lies[i].name, lies[i].reasons[k]);
	}
}

/* --- bells, and interrupts that would wait ------------------------------ */

#define BELLS_MS 1500

/* QEMU fills the counter of its interrupts and makes writes to it wait. */
static void interrupts_full(struct machine *m)
{
	const uint64_t full = UINT64_MAX - 1;
	struct canal_extent extents[1];

	fcntl(m->irq, F_SETFL, fcntl(m->irq, F_GETFL) & ~O_NONBLOCK);
	for (int i = 0; i < 50; i++) {
		uint64_t count;
		struct canal_mail mail;

		fcntl(m->irq, F_SETFL, O_NONBLOCK);
		(void)!read(m->irq, &count, sizeof(count));
		(void)!write(m->irq, &full, sizeof(full));
		fcntl(m->irq, F_SETFL, 0);
		canal_write_once(&m->mail->pending_mail, 0u);
		mail = machine_open_mail(
			0, machine_list(m, 0, extents, machine_extents(m, 0, 1, extents)), 1);
		expect("OPEN", machine_ask(m, &mail), 0);
		canal_write_once(&m->mail->pending_mail, 0u);
		expect("CLOSE", ask_op(m, CANAL_MAIL_CLOSE, 0, 1), 0);
	}
}

/* Requests that cost much, as fast as they are answered. */
static void heavy_storm(struct machine *m)
{
	static struct canal_extent extents[1000];
	struct canal_mail mail;

	for (int i = 0; i < 300; i++)
		machine_reset(m);
	machine_extents(m, 0, 1000, extents);
	mail = machine_open_mail(0, machine_list(m, 0, extents, 1000), 1000);
	for (int i = 0; i < 100; i++) {
		int r = machine_ask(m, &mail);

		if (r && r != -ENOSPC)
			fail("OPEN: %d", r);
		if (!r)
			expect("CLOSE", ask_op(m, CANAL_MAIL_CLOSE, 0, 1), 0);
	}
}

void run_bells(uint64_t seed)
{
	struct machine *m = the_machine;
	uint64_t until = now_ms() + BELLS_MS;

	(void)seed;
	machine_reset(m);
	while (now_ms() < until)
		machine_ring(m);
	still_works(m);
	interrupts_full(m);
	heavy_storm(m);
	still_works(m);
}

/* --- a mailbox that changes while it is read ---------------------------- */

#define MAILBOX_MS 4000

struct scribbler {
	struct machine *m;
	uint64_t rnd;
	bool stop;
};

static struct canal_mail random_mail(struct machine *m, uint64_t *rnd)
{
	const uint64_t addresses[] = { RAM_LISTS,
				       RAM_CHANNELS,
				       m->ram_len,
				       ABOVE,
				       0,
				       ~0ull,
				       machine_address(m, m->ram_len - PAGE) };
	uint32_t n = random_below(rnd, 16);

	return (struct canal_mail){
		/* rarely one that throws it out */
		.op = n ? 1 + n % (CANAL_MAIL_OPS - 1) : random_below(rnd, 20),
		.channel = random_below(rnd, 5),
		.client = random_below(rnd, 4),
		.sock = random_below(rnd, 100),
		.generation = random_below(rnd, 3),
		.arg = random_below(rnd, 3) ? 1 : random_below(rnd, 5000),
		.address = addresses[random_below(rnd, ARRAY_LEN(addresses))],
		.arg64 = random_below(rnd, 4),
	};
}

static void *scribbler_main(void *arg)
{
	struct scribbler *s = arg;
	uint8_t *mail = (uint8_t *)s->m->mail->mail;
	uint8_t *lists = s->m->ram + RAM_LISTS;

	while (!canal_read_once(&s->stop)) {
		const struct canal_mail good = random_mail(s->m, &s->rnd);
		uint32_t slot = random_below(&s->rnd, CANAL_MAIL_SLOTS);

		memcpy(mail + slot * sizeof(good), &good, offsetof(struct canal_mail, result));
		canal_write_once((uint32_t *)(void *)(mail + slot * sizeof(good) +
						      random_below(&s->rnd, 32) * 4),
				 (uint32_t)random_next(&s->rnd));
		canal_write_once((uint64_t *)(void *)(lists + random_below(&s->rnd, 512) * 8),
				 random_below(&s->rnd, 2) ? RAM_CHANNELS : random_next(&s->rnd));
	}
	return NULL;
}

/* Tail goes on, one ring at most; positions of canald's own are written over. */
static void tail_moves(struct machine *m, uint64_t *rnd)
{
	uint64_t head = canal_load_acquire(&m->mail->head);

	canal_store_fence(&m->mail->tail,
			  head + random_below(rnd, random_below(rnd, 50) ? 200 : 400));
	if (!random_below(rnd, 20))
		canal_write_once(&m->mail->passes, random_next(rnd));
	if (!random_below(rnd, 20))
		canal_write_once(&m->mail->host_asleep, (uint32_t)random_next(rnd));
	if (!random_below(rnd, 20))
		canal_write_once(&m->mail->pending, random_next(rnd));
	machine_ring(m);
}

static void reset_put(struct machine *m)
{
	const struct canal_mail reset = { .op = CANAL_MAIL_RESET,
					  .address = RAM_COOKIE,
					  .arg64 = 3 };
	uint64_t head = canal_load_acquire(&m->mail->head);

	memcpy(&m->mail->mail[head % CANAL_MAIL_SLOTS], &reset,
	       offsetof(struct canal_mail, result));
	canal_store_fence(&m->mail->tail, head + 1);
	machine_ring(m);
	nap_us(200);
}

/* Until canald has seen all that there is. */
static void settle(struct machine *m)
{
	uint64_t until = now_ms() + 10000;

	while (canal_load_acquire(&m->mail->head) != canal_load_acquire(&m->mail->tail)) {
		if (now_ms() > until)
			fail("the mailbox is not served");
		machine_ring(m);
		nap_us(100);
	}
	m->tail = m->mail->tail;
}

void run_mailbox(uint64_t seed)
{
	struct machine *m = the_machine;
	struct scribbler s = { m, seed, false };
	uint64_t rnd = seed + 1, until = now_ms() + MAILBOX_MS;
	pthread_t thread;
	unsigned int resets = 0;

	machine_reset(m);
	if (pthread_create(&thread, NULL, scribbler_main, &s))
		fail("pthread_create");
	while (now_ms() < until) {
		tail_moves(m, &rnd);
		nap_us(50);
		if (random_below(&rnd, 100))
			continue;
		/* with the scribbler about, a RESET of ours may be written over */
		canal_write_once((uint64_t *)(void *)(m->ram + RAM_COOKIE), 3u);
		reset_put(m);
		resets++;
	}
	canal_write_once(&s.stop, true);
	pthread_join(thread, NULL);
	settle(m);
	still_works(m);
	printf("%u resets\n", resets);
}

/* --- a canald that goes, and the next one -------------------------------- */

#define CANALDS 3
#define RESTART_MS 60000

/* QEMU notices nothing: the driver sees a new epoch, and begins again. */
void run_kept(uint64_t seed)
{
	struct machine *m = the_machine;

	(void)seed;
	for (int i = 1; i <= CANALDS; i++) {
		uint64_t until = now_ms() + RESTART_MS;

		while (machine_thrown(m) && !canal_load_acquire(&m->mail->epoch))
			nap_us(1000);
		still_works(m);
		printf("works %d\n", i);
		fflush(stdout);
		while (i < CANALDS &&
		       (!machine_thrown(m) || !canal_load_acquire(&m->mail->epoch))) {
			if (now_ms() > until)
				fail("no other canald came");
			nap_us(1000);
		}
	}
	machine_vanish(m);
}

/* --- RAM that is another's ----------------------------------------------- */

/* Whatever it says lies there. */
void run_steal(uint64_t seed)
{
	struct machine *m = the_machine;

	(void)seed;
	for (uint64_t page = 0; page < 64; page++)
		if (machine_try_reset(m, RAM_COOKIE + page * PAGE,
				      *(uint64_t *)(void *)(m->ram + RAM_COOKIE + page * PAGE)) !=
		    -EINVAL)
			fail("RESET was not refused");
	puts("refused");
}

/* --- QEMU goes away, at every point -------------------------------------- */

#define ROUNDS 40

/* It has heard so many of the five messages. */
static void deaf_qemu(struct machine *m, unsigned int most)
{
	int conn = machine_dial();

	(void)m;
	for (unsigned int i = 0; i < most; i++) {
		int64_t number;
		int fd;

		if (machine_hear(conn, &number, &fd))
			break; /* the one before is still there */
		if (fd >= 0)
			close(fd);
	}
	close(conn);
}

static void vanish_in(struct machine *m, unsigned int point, uint64_t *rnd)
{
	struct canal_extent extents[500];
	struct guest g;
	uint32_t l, a, b;

	machine_connect(m);
	if (point == 0)
		return;
	machine_reset(m);
	if (point == 1)
		return;
	if (point == 2) { /* OPEN of many pieces is under way */
		const uint32_t count = machine_extents(m, 0, 500, extents);
		const struct canal_mail mail =
			machine_open_mail(0, machine_list(m, 0, extents, count), count);

		machine_post(m, &mail);
		nap_us(random_below(rnd, 300));
		return;
	}
	machine_guest_open(m, &g, 0, 3);
	l = guest_listener(&g, 4);
	guest_pair(&g, l, &a, &b);
	if (point == 4)
		guest_put(&g, a, NULL, 60000);
	if (point == 5) {
		machine_translate(&g);
		machine_ref_post(&g, CANAL_INR_SEND_REF, a, 2, VA, MIB, 0);
		nap_us(random_below(rnd, 300));
	}
	munmap(g.base, g.len);
	for (unsigned int i = 0; i < g.fd_count; i++)
		close(g.fds[i]);
}

void run_vanish(uint64_t seed)
{
	struct machine *m = the_machine;
	uint64_t rnd = seed;
	int second;

	/* a second one is turned away, and harms nobody */
	machine_reset(m);
	for (unsigned int i = 0; i < 6; i++)
		deaf_qemu(m, i);
	still_works(m);
	/* one that talks is no QEMU */
	(void)!write(m->conn, "talk", 4);
	machine_vanish(m);
	for (int i = 0; i < ROUNDS; i++) {
		deaf_qemu(m, i % 6);
		vanish_in(m, random_below(&rnd, 6), &rnd);
		machine_vanish(m);
	}
	second = machine_dial();
	close(second);
	machine_connect(m);
	still_works(m);
}
