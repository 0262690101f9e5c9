/* SPDX-License-Identifier: MIT */
/*
 * Ends: of a canald, which the driver outlives; of a QEMU, at every point; and a QEMU that
 * comes with RAM which is another's.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine.h"

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
		machine_still_works(m);
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
	machine_still_works(m);
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
	machine_still_works(m);
}
