/* SPDX-License-Identifier: MIT */
/*
 * Prints how many thousand times per second the time-stamp counter of this machine counts.
 *
 * QEMU's emulator shows a guest this counter. The guest's kernel would measure it against emulated timers, which stand still
 * while others use the processor; here it is held against the clock, and a look that something came in between of is none.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#define LOOKS 100
#define APART_NS 100000000L

struct look {
	uint64_t ticks;
	int64_t ns;
};

/* The one of LOOKS that took the least time. */
static struct look look(void)
{
	uint64_t least = UINT64_MAX;
	struct look best = { 0 };

	for (int i = 0; i < LOOKS; i++) {
		struct timespec now;
		uint64_t before = __rdtsc(), took;

		clock_gettime(CLOCK_MONOTONIC, &now);
		took = __rdtsc() - before;
		if (took >= least)
			continue;
		least = took;
		best = (struct look){ before + took / 2, now.tv_sec * 1000000000LL + now.tv_nsec };
	}
	return best;
}

int main(void)
{
	struct look first = look(), last;

	nanosleep(&(struct timespec){ .tv_nsec = APART_NS }, NULL);
	last = look();
	printf("%.0f\n", (double)(last.ticks - first.ticks) * 1e6 / (double)(last.ns - first.ns));
	return 0;
}
