/* SPDX-License-Identifier: MIT */
/* Buffers of the program that are pinned, and unmapped, replaced, forked and dropped meanwhile. */
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver_abuse.h"

void test_pin(void)
{
	struct place p = place_new();
	const size_t most = 64 << 10;
	uint8_t *buf = mmap(NULL, most, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *ro = mmap(NULL, most, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct canal_pin bad = { .address = (uintptr_t)buf, .len = 1, .pad = 1 };
	int status;

	if (!p.at.pins) {
		FAILS(pin(p.fd, buf, 1, 0), EDQUOT);
		place_end(&p);
		return;
	}
	FAILS(ioctl(p.fd, CANAL_IOC_PIN, &bad), EINVAL);
	FAILS(ioctl(p.fd, CANAL_IOC_PIN, NULL), EFAULT);
	FAILS(pin(p.fd, buf, 1, 2), EINVAL);
	FAILS(pin(p.fd, buf, 0, 0), EINVAL);
	FAILS(pin(p.fd, bad_pointer(), 4096, 0), EFAULT);
	FAILS(pin(p.fd, (void *)(uintptr_t)0xffffffff81000000ull, 4096, 1), EFAULT);
	FAILS(pin(p.fd, (void *)(uintptr_t)0x7ffffffff000ull, 1 << 20, 0), EFAULT);
	FAILS(pin(p.fd, (void *)-4096l, 8192, 0), EFAULT);
	FAILS(pin(p.fd, NULL, 4096, 0), EFAULT);
	FAILS(pin(p.fd, ro, 4096, 1), EFAULT);
	CHECK(!pin(p.fd, ro, 4096, 0));
	FAILS(pin(p.fd, buf, (uint64_t)-1, 0), EFAULT);
	FAILS(pin(p.fd, buf, ((uint64_t)p.at.pins + 2) << 12, 0), EDQUOT);
	CHECK(!pin(p.fd, buf + 100, most - 100, 1));
	CHECK(!pin(p.fd, buf + 100, most - 100, 1));
	CHECK(!pin(p.fd, buf, 1, 0));
	/* Unmapped, replaced, moved, given back, forked while pinned. */
	CHECK(!munmap(buf, most / 2));
	FAILS(pin(p.fd, buf, 4096, 0), EFAULT);
	CHECK(!madvise(buf + most / 2, most / 4, MADV_DONTNEED));
	CHECK(!pin(p.fd, buf + most / 2, most / 2, 1));
	memset(buf + most / 2, 1, most / 2);
	if (fork() == 0) {
		buf[most - 1] = 2;
		/* The table of the parent is not the child's to fill. */
		status = pin(p.fd, buf + most / 2, 4096, 0) == 0;
		_exit(status);
	}
	CHECK(wait(&status) > 0 && status == 0);
	CHECK(buf[most - 1] == 1);
	CHECK(!pin(p.fd, buf + most / 2, most / 2, 1));
	CHECK(mremap(buf + most / 2, most / 2, most, MREMAP_MAYMOVE) != MAP_FAILED);
	/* More than may be pinned, in turn, all over the address space. */
	for (uint64_t i = 0; i < 3ull * p.at.pins / RUN_PAGES && i < 320; i++) {
		uint8_t *pages = map_at(0x100000000000ull + (i << 30), RUN_PAGES << 12);

		if (!pages)
			break;
		if (pin(p.fd, pages, RUN_PAGES << 12, 1)) {
			CHECK(!"pin once more");
			break;
		}
		if (i % 3)
			munmap(pages, RUN_PAGES << 12);
	}
	place_end(&p);
}

/* Two threads pin what a third unmaps. */
static struct place race_place;
static uint8_t *race_buf;
static volatile int race_over;

static void *race_pin(void *arg)
{
	(void)arg;
	while (!race_over)
		(void)pin(race_place.fd, race_buf, 16 << 12, 1);
	return NULL;
}

void test_pin_race(void)
{
	pthread_t threads[2];

	race_place = place_new();
	race_over = 0;
	race_buf = mmap(NULL, 16 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 2; i++)
		CHECK(!pthread_create(&threads[i], NULL, race_pin, NULL));
	for (int i = 0; i < 128; i++) {
		CHECK(mmap(race_buf, 16 << 12, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == race_buf);
		race_buf[i % (16 << 12)] = (uint8_t)i;
		if (i % 32 == 0 && fork() == 0)
			_exit(0);
		else if (i % 32 == 0)
			wait(NULL);
	}
	race_over = 1;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	place_end(&race_place);
}

/* The limit is a process's, not a file's: one of its files has the table. */
void test_pin_twice(void)
{
	struct place p = place_new(), again = p;
	uint8_t *buf = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct canal_attach other = { .version = CANAL_WIRE_VERSION };
	int fd = place_open(), status;

	again.fd = place_open();
	CHECK(!ioctl(again.fd, CANAL_IOC_JOIN, &again.at) && !again.at.pins);
	FAILS(pin(again.fd, buf, 4096, 1), EDQUOT);
	CHECK(!ioctl(fd, CANAL_IOC_ATTACH, &other) && !other.pins);
	FAILS(pin(fd, buf, 4096, 1), EDQUOT);
	if (p.at.pins)
		CHECK(!pin(p.fd, buf, 4096, 1));
	if (fork() == 0) { /* another process */
		again.fd = place_open();
		status = ioctl(again.fd, CANAL_IOC_JOIN, &again.at) || again.at.pins != p.at.pins;
		_exit(status);
	}
	CHECK(wait(&status) > 0 && status == 0);
	close(again.fd);
	close(fd);
	status = (int)p.at.pins;
	place_end(&p);
	/* And when that one is closed, the next has it. */
	p = place_new();
	CHECK((int)p.at.pins == status);
	place_end(&p);
}

/* All tables dropped, again and again, while others fill them: first to last page of a
 * run lie in different tables of each level, and are unmapped meanwhile. */
#define FAR_FIRST 0x200000000000ull
#define FAR_COUNT 400

static void *drop_tables(void *arg)
{
	(void)arg;
	for (uint64_t i = 0; i < FAR_COUNT; i++) {
		uint8_t *page = map_at(FAR_FIRST + (i << 30), 4096);

		if (page)
			(void)pin(race_place.fd, page, 4096, 1);
		if (page)
			munmap(page, 4096);
	}
	race_over = 1;
	return NULL;
}

static void *pin_run(void *arg)
{
	while (!race_over)
		(void)pin(race_place.fd, arg, RUN_PAGES << 12, 1);
	return NULL;
}

void test_pin_drop(void)
{
	const uint64_t border = 0x300000000000ull; /* of tables of all levels but the root */
	const size_t len = RUN_PAGES << 12;
	pthread_t threads[3];
	uint8_t *run = map_at(border - len / 2, len);

	race_place = place_new();
	race_over = 0;
	CHECK(run != NULL);
	CHECK(!pthread_create(&threads[0], NULL, drop_tables, NULL));
	CHECK(!pthread_create(&threads[1], NULL, pin_run, run));
	CHECK(!pthread_create(&threads[2], NULL, pin_run, run));
	while (!race_over) {
		CHECK(map_at(border - len / 2, len) == run);
		sched_yield();
	}
	for (unsigned int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	place_end(&race_place);
	munmap(run, len);
}
