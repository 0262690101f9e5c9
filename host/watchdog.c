/* SPDX-License-Identifier: MIT */
/*
 * The service manager's watchdog.
 *
 * Purpose: with WatchdogSec= the manager wants a sign of life in time, or ends
 * canald and starts it anew. The main loop gives the sign, and only if each poller
 * has begun a pass since the last one, or sleeps: a poller that hangs in one pass
 * serves nobody, whatever the main thread does.
 *
 * Ownership and threads: the main thread.
 *
 * Failure: without a timer there is no sign; that is logged.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syslog.h>
#include <sys/timerfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "host.h"

/* Signs in the time in which one must come. */
#define SIGNS 3

static struct {
	int fd;
	uint64_t *passes; /* of each poller at the last look */
	bool warned;
} dog = { .fd = -1 };

static bool poller_lives(struct poller *p, uint64_t *seen)
{
	uint64_t passes = canal_read_once(&p->passes);
	bool moved = passes != *seen;

	*seen = passes;
	return moved || canal_read_once(&p->asleep) || canal_load_acquire(&p->ended);
}

void watchdog_tick(void)
{
	bool live = true;
	uint64_t ticks;

	(void)!read(dog.fd, &ticks, sizeof(ticks));
	for (unsigned int i = 0; i < poller_count; i++) {
		if (poller_lives(&pollers[i], &dog.passes[i]))
			continue;
		live = false;
		if (!dog.warned)
			host_log(LOG_ERR, "poller %u has not finished a pass for long", i);
		dog.warned = true;
	}
	if (!live)
		return;
	dog.warned = false;
	sd_notify(0, "WATCHDOG=1");
}

static int timer_make(uint64_t every_us)
{
	const struct timespec every = {
		.tv_sec = (time_t)(every_us / 1000000),
		.tv_nsec = (long)(every_us % 1000000) * 1000,
	};
	const struct itimerspec spec = { .it_value = every, .it_interval = every };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd >= 0 && timerfd_settime(fd, 0, &spec, NULL) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

int watchdog_start(void)
{
	uint64_t limit_us = 0;

	if (sd_watchdog_enabled(0, &limit_us) <= 0 || !limit_us)
		return -1;
	dog.passes = calloc(poller_count, sizeof(*dog.passes));
	dog.fd = dog.passes ? timer_make(limit_us / SIGNS + 1) : -1;
	if (dog.fd < 0)
		host_log(LOG_ERR, "watchdog: %s: the service manager will end canald",
			 strerror(errno));
	return dog.fd;
}

void watchdog_stop(void)
{
	if (dog.fd >= 0)
		close(dog.fd);
	dog.fd = -1;
	free(dog.passes);
	dog.passes = NULL;
}
