/* SPDX-License-Identifier: MIT */
/*
 * Runs in a guest with canal.ko and asks /dev/canal for what it must not give.
 *
 * Purpose: each request with arguments that are wrong, at a time that is wrong,
 * from a process that has no right to it; mappings beyond their bounds; buffers
 * that go while they are pinned; a region full of nonsense behind the driver's
 * back; processes that are killed in the middle. Afterwards all must be as at
 * the beginning: as many channels can be had as before.
 *
 * Usage: driver_abuse [TEST]. Prints what failed; the status says whether any
 * did. The guest's kernel log must show no warning afterwards.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "driver_abuse.h"

int failures;
const char *current;

void check(int ok, int line, const char *what)
{
	int saved = errno;

	if (ok)
		return;
	failures++;
	printf("%s: line %d: %s (errno %d, %s)\n", current, line, what, saved, strerror(saved));
}

int place_open(void)
{
	return open("/dev/canal", O_RDWR | O_CLOEXEC);
}

int attach(int fd, struct canal_attach *at)
{
	memset(at, 0, sizeof(*at));
	at->version = CANAL_WIRE_VERSION;
	return ioctl(fd, CANAL_IOC_ATTACH, at);
}

struct place place_new(void)
{
	struct place p = { .fd = place_open() };

	if (p.fd < 0 || attach(p.fd, &p.at)) {
		printf("%s: cannot attach: %s\n", current, strerror(errno));
		exit(1);
	}
	p.map = mmap(NULL, p.at.region_len, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd, 0);
	if (p.map == MAP_FAILED) {
		printf("%s: cannot map: %s\n", current, strerror(errno));
		exit(1);
	}
	return p;
}

void place_end(struct place *p)
{
	munmap(p->map, p->at.region_len);
	close(p->fd);
}

struct canal_region *region(const struct place *p)
{
	return (struct canal_region *)(void *)p->map;
}

int waiter(int fd, uint32_t slot, uint32_t flags)
{
	struct canal_waiter w = { .slot = slot, .serial = 1, .flags = flags };

	return ioctl(fd, CANAL_IOC_WAITER, &w) ? -1 : w.fd;
}

int dummy(int fd, uint32_t sock, uint32_t flags)
{
	struct canal_dummy d = { .sock = sock, .generation = 1, .flags = flags };

	return ioctl(fd, CANAL_IOC_DUMMY, &d) ? -1 : d.fd;
}

int pin(int fd, void *at, uint64_t len, uint32_t writable)
{
	struct canal_pin p = { .address = (uintptr_t)at, .len = len, .writable = writable };

	return ioctl(fd, CANAL_IOC_PIN, &p);
}

void *bad_pointer(void)
{
	return (void *)(uintptr_t)0xffff888000000000ull;
}

uint8_t *map_at(uint64_t address, size_t len)
{
	void *at = mmap((void *)(uintptr_t)address, len, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "unattached", test_unattached },
	{ "attach", test_attach },
	{ "join", test_join },
	{ "mmap", test_mmap },
	{ "waiter", test_waiter },
	{ "dummy", test_dummy },
	{ "pin", test_pin },
	{ "pin-race", test_pin_race },
	{ "pin-twice", test_pin_twice },
	{ "pin-drop", test_pin_drop },
	{ "lock-namespace", test_lock_namespace },
	{ "fault-in-copy", test_fault_in_copy },
	{ "nonsense", test_nonsense },
	{ "memory", test_memory },
	{ "kill", test_kill },
	{ "many", test_many },
};

static unsigned int now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (unsigned int)(ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned int i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		int before = failures;
		unsigned int began;

		if (argc > 1 && strcmp(argv[1], tests[i].name))
			continue;
		current = tests[i].name;
		began = now_ms();
		tests[i].run();
		printf("%s: %s after %u ms\n", current, failures == before ? "ok" : "FAILED",
		       now_ms() - began);
	}
	return failures != 0;
}
