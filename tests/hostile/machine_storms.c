/* SPDX-License-Identifier: MIT */
/*
 * A driver and a QEMU that let nobody rest: doorbells, interrupts that would wait, requests
 * that cost much, a mailbox that changes while it is read. After each a channel can be opened
 * and used again.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "machine.h"

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
		machine_expect("OPEN", machine_ask(m, &mail), 0);
		canal_write_once(&m->mail->pending_mail, 0u);
		machine_expect("CLOSE", machine_ask_op(m, CANAL_MAIL_CLOSE, 0, 1), 0);
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
			machine_expect("CLOSE", machine_ask_op(m, CANAL_MAIL_CLOSE, 0, 1), 0);
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
	machine_still_works(m);
	interrupts_full(m);
	heavy_storm(m);
	machine_still_works(m);
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
	uint64_t until = now_ms() + LONGEST_MS;

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
	machine_still_works(m);
	printf("%u resets\n", resets);
}
