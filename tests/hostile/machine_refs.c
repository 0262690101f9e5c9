/* SPDX-License-Identifier: MIT */
/*
 * Transfers by reference that lie, and what ends in the middle of them. Cases as in
 * machine_lies.c: name, and the reason that canald must have counted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "machine.h"

#define LONG (512u << 10)

struct flow {
	struct guest g;
	uint32_t l, a, b;
};

static void flow_open(struct flow *f)
{
	machine_guest_open(the_machine, &f->g, 0, 3);
	machine_translate(&f->g);
	f->l = guest_listener(&f->g, 4);
	guest_pair(&f->g, f->l, &f->a, &f->b);
}

static int32_t transfer(struct flow *f, uint8_t op, uint32_t sock, uint64_t address, uint64_t len,
			uint32_t flags)
{
	machine_ref_post(&f->g, op, sock, 2, address, len, flags);
	return machine_ref_wait(&f->g, 2);
}

static void expect(const char *what, int got, int wanted)
{
	if (got != wanted)
		fail("%s: %d, expected %d", what, got, wanted);
}

static struct canal_ref *ref_of(struct flow *f, uint32_t slot)
{
	return (void *)f->g.call[slot].data;
}

/* The receiver takes all that it has. */
static void drain(struct flow *f)
{
	struct canal_fifo *rx = &guest_sock(&f->g, f->b)->rx;

	canal_store_fence(&rx->head, canal_load_acquire(&rx->tail));
	post(&f->g, CANAL_INR_RX, f->b, 0);
	guest_sync(&f->g);
}

/* Something has come to the other end: what was asked for is answered before bytes are moved. */
static void wait_moved(struct flow *f)
{
	struct canal_fifo *rx = &guest_sock(&f->g, f->b)->rx;
	uint64_t until = now_ms() + LONGEST_MS;

	while (!canal_load_acquire(&rx->tail)) {
		if (guest_closed(&f->g) || now_ms() > until)
			fail("nothing is moved");
		guest_kick(&f->g);
		nap_us(50);
	}
}

/* --- addresses --------------------------------------------------------- */

static void pages_that_are_not_there(struct flow *f)
{
	expect("behind", transfer(f, CANAL_INR_SEND_REF, f->a, VA + VA_PAGES * PAGE, 100, 0),
	       -EFAULT);
	expect("above", transfer(f, CANAL_INR_SEND_REF, f->a, 1ull << 48, 100, 0), -EFAULT);
	expect("far", transfer(f, CANAL_INR_SEND_REF, f->a, ~0ull, 100, 0), -EINVAL);
	expect("long", transfer(f, CANAL_INR_SEND_REF, f->a, VA, 1ull << 40, 0), -EINVAL);
	expect("all", transfer(f, CANAL_INR_SEND_REF, f->a, VA, ~0ull, 0), -EINVAL);
	ref_of(f, 2)->count = 65;
	guest_post(&f->g, CANAL_INR_SEND_REF, f->a, 2, "", 1);
	guest_sync(&f->g);
	expect("pieces", f->g.call[2].result, -EINVAL);
	*machine_entry(the_machine, 3) &= ~CANAL_HYBRID_WRITE;
	expect("read only", transfer(f, CANAL_INR_RECV_REF, f->b, VA + 3 * PAGE, 100, 0), -EFAULT);
	if (ref_of(f, 2)->miss != VA + 3 * PAGE)
		fail("miss is %llx", (unsigned long long)ref_of(f, 2)->miss);
	/* what is there goes, and then it ends */
	*machine_entry(the_machine, 5) = 0;
	expect("until there", transfer(f, CANAL_INR_SEND_REF, f->a, VA, 20 * PAGE, 0), 5 * PAGE);
}

static void tables_that_lead_outside(struct flow *f)
{
	struct machine *m = the_machine;
	const uint64_t outside[] = { machine_address(m, m->ram_len), m->low, 1ull << 51,
				     ~0ull & CANAL_HYBRID_ADDRESS };
	struct canal_mail mail = { .op = CANAL_MAIL_HYBRID, .client = 1 };

	for (size_t i = 0; i < ARRAY_LEN(outside); i++) {
		*machine_entry(m, 0) = outside[i] | CANAL_HYBRID_VALID | CANAL_HYBRID_WRITE;
		expect("page", transfer(f, CANAL_INR_SEND_REF, f->a, VA, 100, 0), -EFAULT);
		mail.address = outside[i];
		machine_post(m, &mail);
		expect("root", transfer(f, CANAL_INR_SEND_REF, f->a, VA, 100, 0), -EFAULT);
		machine_translate(&f->g);
	}
	/* a table that is its own: a page like any other, in four steps */
	mail.address = machine_address(m, RAM_TABLES);
	machine_post(m, &mail);
	for (uint64_t i = 0; i < 512; i++)
		((uint64_t *)(void *)(m->ram + RAM_TABLES))[i] = mail.address | CANAL_HYBRID_VALID |
								 CANAL_HYBRID_WRITE;
	expect("circle", transfer(f, CANAL_INR_SEND_REF, f->a, VA, 100, 0), 100);
	expect("JOIN", machine_ask(m, &(struct canal_mail){ .op = CANAL_MAIL_JOIN }) < 0, 0);
}

struct flipper {
	bool stop;
};

static void *entries_flip(void *arg)
{
	struct flipper *f = arg;
	struct machine *m = the_machine;
	uint64_t rnd = 77;

	while (!canal_read_once(&f->stop)) {
		uint64_t *entry = machine_entry(m, random_below(&rnd, VA_PAGES)), good = *entry;
		const uint64_t bad[] = { 0, machine_address(m, m->ram_len) | 3, ~0ull, 2,
					 good & ~CANAL_HYBRID_WRITE };

		canal_write_once(entry, bad[random_below(&rnd, 5)]);
		for (uint32_t i = random_below(&rnd, 500); i; i--)
			canal_relax();
		canal_write_once(entry, good);
	}
	return NULL;
}

/* Buffers that are unmapped, and come back, while canald works on them. */
static void unmapped_in_the_middle(struct flow *f)
{
	struct flipper flipper = { false };
	uint64_t until = now_ms() + 2000;
	pthread_t thread;

	if (pthread_create(&thread, NULL, entries_flip, &flipper))
		fail("pthread_create");
	while (now_ms() < until) {
		int32_t r = transfer(f, CANAL_INR_SEND_REF, f->a, VA, LONG, CANAL_REF_DONTWAIT);

		if (r < 0 && r != -EFAULT && r != -EAGAIN)
			fail("SEND_REF: %d", r);
		r = transfer(f, CANAL_INR_RECV_REF, f->b, VA, LONG, 0);
		if (r < 0 && r != -EFAULT && r != -EAGAIN)
			fail("RECV_REF: %d", r);
		drain(f);
	}
	canal_write_once(&flipper.stop, true);
	pthread_join(thread, NULL);
}

/* --- positions --------------------------------------------------------- */

/* TX goes back below what a transfer is to follow: that would wait for ever. */
static void tail_goes_back(struct flow *f)
{
	struct canal_fifo *tx = &guest_sock(&f->g, f->a)->tx;

	guest_put(&f->g, f->a, NULL, 400000); /* more than the other end takes */
	guest_sync(&f->g);
	machine_ref_post(&f->g, CANAL_INR_SEND_REF, f->a, 2, VA, LONG, 0);
	guest_sync(&f->g);
	canal_store_fence(&tx->tail, tx->tail - 500);
	for (int i = 0; i < 1000 && !guest_closed(&f->g); i++) {
		struct canal_fifo *rx = &guest_sock(&f->g, f->b)->rx;

		canal_store_fence(&rx->head, canal_load_acquire(&rx->tail));
		post(&f->g, CANAL_INR_RX, f->b, 0);
		nap_us(1000);
	}
	guest_wait_closed(&f->g, LONGEST_MS);
}

/* The head of RX goes back into a chunk that was taken away. */
static void head_into_a_trimmed_chunk(struct flow *f)
{
	struct canal_fifo *rx = &guest_sock(&f->g, f->b)->rx;

	guest_put(&f->g, f->a, NULL, 1000);
	wait_moved(f);
	for (int i = 0; i < 200 && !guest_closed(&f->g); i++) {
		drain(f);
		nap_us(30000);
		canal_store_fence(&rx->head, 500);
		(void)transfer(f, CANAL_INR_RECV_REF, f->b, VA, 100, 0);
	}
	guest_wait_closed(&f->g, LONGEST_MS);
}

static void head_ahead(struct flow *f)
{
	canal_store_fence(&guest_sock(&f->g, f->b)->rx.head, 1);
	machine_ref_post(&f->g, CANAL_INR_RECV_REF, f->b, 2, VA, 100, 0);
	guest_wait_closed(&f->g, LONGEST_MS);
}

static void slot_in_use(struct flow *f)
{
	machine_ref_post(&f->g, CANAL_INR_SEND_REF, f->a, 2, VA, 2 * MIB, 0);
	machine_ref_post(&f->g, CANAL_INR_SEND_REF, f->a, 2, VA, 2 * MIB, 0);
	guest_wait_closed(&f->g, LONGEST_MS);
}

static void stop_out_of_range(struct flow *f)
{
	post(&f->g, CANAL_INR_REF_STOP, 0, f->g.shape.wait.count);
	guest_wait_closed(&f->g, LONGEST_MS);
}

/* --- ends in the middle ------------------------------------------------- */

/* More than RX of the other end takes: it stays under way, and some of it is there. */
static void long_send(struct flow *f, uint32_t slot)
{
	machine_ref_post(&f->g, CANAL_INR_SEND_REF, f->a, slot, VA, 2 * MIB, 0);
	guest_sync(&f->g);
	wait_moved(f);
}

static void stopped(struct flow *f)
{
	int32_t r;

	long_send(f, 2);
	long_send(f, 3);
	post(&f->g, CANAL_INR_REF_STOP, 0, 3);
	expect("the second", machine_ref_wait(&f->g, 3), 0);
	post(&f->g, CANAL_INR_REF_STOP, 0, 2);
	r = machine_ref_wait(&f->g, 2);
	if (r <= 0 || (uint64_t)r >= 2 * MIB)
		fail("stopped with %d", r);
	post(&f->g, CANAL_INR_REF_STOP, 0, 2); /* nothing is under way */
	guest_sync(&f->g);
}

/* It is answered with what it has, by whatever end. */
static void ended(struct flow *f, int32_t least)
{
	int32_t r = machine_ref_wait(&f->g, 2);

	if (r < least || (uint64_t)r >= 2 * MIB)
		fail("ended with %d", r);
}

static void shut_down(struct flow *f)
{
	long_send(f, 2);
	post(&f->g, CANAL_INR_SHUTDOWN, f->a, SHUT_WR);
	ended(f, 1);
}

static void other_end_closes(struct flow *f)
{
	long_send(f, 2);
	machine_dummy(&f->g, CANAL_MAIL_UNDUMMY, f->b, guest_sock(&f->g, f->b)->generation);
	ended(f, 1);
}

static void own_end_closes(struct flow *f)
{
	long_send(f, 2);
	machine_dummy(&f->g, CANAL_MAIL_UNDUMMY, f->a, guest_sock(&f->g, f->a)->generation);
	ended(f, 1);
}

static void dissolved(struct flow *f)
{
	const struct canal_addr nowhere = { 0 };

	long_send(f, 2);
	guest_post(&f->g, CANAL_INR_CONNECT, f->a, CANAL_NONE, &nowhere, sizeof(nowhere));
	ended(f, 1);
}

/* A process leaves: its transfer ends, its table is not read any more. */
static void process_leaves(struct flow *f)
{
	struct machine *m = the_machine;
	struct canal_mail mail = { .op = CANAL_MAIL_JOIN };
	int second = machine_ask(m, &mail);

	if (second < 2)
		fail("JOIN: %d", second);
	f->g.client = (uint32_t)second;
	machine_translate(&f->g);
	long_send(f, 2);
	mail.op = CANAL_MAIL_LEAVE;
	mail.client = (uint32_t)second;
	expect("LEAVE", machine_ask(m, &mail), 0);
	memset(m->ram + RAM_TABLES, 0xff, 4 * PAGE);
	drain(f);
	ended(f, 1);
	f->g.client = 1;
	guest_sync(&f->g);
}

static void channel_closes(struct flow *f)
{
	long_send(f, 2);
	long_send(f, 3);
	/* guest_close() follows */
}

static void reset_in_the_middle(struct flow *f)
{
	long_send(f, 2);
	machine_reset(the_machine);
}

/* Of an older use of that number, by what it says. */
static void stale_generation(struct flow *f)
{
	uint32_t *generation = &guest_sock(&f->g, f->a)->generation;

	--*generation; /* guest_post() reads it there */
	expect("stale", transfer(f, CANAL_INR_SEND_REF, f->a, VA, 100, 0), -EBADF);
	++*generation;
	expect("right", transfer(f, CANAL_INR_SEND_REF, f->a, VA, 100, 0), 100);
}

/* All slots at once, on one socket. */
static void many_at_once(struct flow *f)
{
	guest_put(&f->g, f->a, NULL, 200000);
	wait_moved(f);
	for (int round = 0; round < 5; round++) {
		for (uint32_t slot = 2; slot < 200; slot++)
			machine_ref_post(&f->g, CANAL_INR_RECV_REF, f->b, slot, VA, LONG, 0);
		for (uint32_t slot = 2; slot < 200; slot++)
			if (machine_ref_wait(&f->g, slot) < 0)
				fail("RECV_REF: %d", f->g.call[slot].result);
	}
}

/* --- all --------------------------------------------------------------- */

#define REF(what, why)           \
	{                        \
#what, what, why \
	}

static const struct {
	const char *name;
	void (*run)(struct flow *f);
	const char *reason;
} refs[] = {
	REF(pages_that_are_not_there, NULL),
	REF(tables_that_lead_outside, NULL),
	REF(unmapped_in_the_middle, NULL),
	REF(tail_goes_back, "tx-position"),
	REF(head_into_a_trimmed_chunk, "rx-position"),
	REF(head_ahead, "rx-position"),
	REF(slot_in_use, "bad-slot"),
	REF(stop_out_of_range, "bad-slot"),
	REF(stopped, NULL),
	REF(shut_down, NULL),
	REF(other_end_closes, NULL),
	REF(own_end_closes, NULL),
	REF(dissolved, NULL),
	REF(process_leaves, NULL),
	REF(channel_closes, NULL),
	REF(reset_in_the_middle, "bad-mail"),
	REF(stale_generation, NULL),
	REF(many_at_once, NULL),
};

void run_refs(uint64_t seed)
{
	(void)seed;
	machine_reset(the_machine);
	for (size_t i = 0; i < ARRAY_LEN(refs); i++) {
		struct flow f;

		if (only && strcmp(only, refs[i].name))
			continue;
		fprintf(stderr, "%s\n", refs[i].name);
		flow_open(&f);
		refs[i].run(&f);
		if (!refs[i].reason && guest_closed(&f.g))
			fail("%s: the channel was closed", refs[i].name);
		guest_close(&f.g);
		machine_reset(the_machine);
		if (refs[i].reason)
			printf("%s %s\n", refs[i].name, refs[i].reason);
	}
}
