/* SPDX-License-Identifier: MIT */
/*
 * Workers: the same functions run at once, as threads or as processes.
 *
 * Idea: canal's structures are shared by the threads of a process and by
 * processes that share a memfd. A stress test is written once, against one
 * struct in shared memory, and runs both ways. Threads are what TSan sees;
 * processes show that nothing private (a pointer, a lock) slipped in.
 *
 * A worker returns 0 or a number; every number must be 0. A worker that finds a
 * fault raises workers_stop, so that the others do not wait for it for ever.
 */
#ifndef CANAL_TEST_WORKERS_H
#define CANAL_TEST_WORKERS_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "order.h"

#define WORKERS_MAX 8

struct workers_job {
	int (*run)(void *shared, unsigned int number);
	void *shared;
	unsigned int number;
};

static inline void workers_die(const char *what)
{
	perror(what);
	exit(2);
}

/* Zeroed memory that a forked child shares. */
static inline void *workers_memory(size_t len)
{
	int fd = memfd_create("canal-test", MFD_CLOEXEC);
	void *shared;

	if (fd < 0 || ftruncate(fd, (off_t)len) < 0)
		workers_die("memfd");
	shared = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED)
		workers_die("mmap");
	close(fd);
	return shared;
}

static inline void *workers_thread(void *arg)
{
	struct workers_job *job = arg;

	return (void *)(intptr_t)job->run(job->shared, job->number);
}

/* Return: how many failed. */
static inline int workers_threads(struct workers_job *jobs, unsigned int count)
{
	pthread_t threads[WORKERS_MAX];
	int failed = 0;

	for (unsigned int i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, workers_thread, &jobs[i]))
			workers_die("pthread_create");
	for (unsigned int i = 0; i < count; i++) {
		void *result;

		pthread_join(threads[i], &result);
		failed += result != NULL;
	}
	return failed;
}

static inline int workers_processes(struct workers_job *jobs, unsigned int count)
{
	pid_t pids[WORKERS_MAX];
	int failed = 0;

	fflush(NULL);
	for (unsigned int i = 0; i < count; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			workers_die("fork");
		if (!pids[i]) {
			int result;

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			result = jobs[i].run(jobs[i].shared, jobs[i].number);
			fflush(NULL);
			_exit(result != 0);
		}
	}
	for (unsigned int i = 0; i < count; i++) {
		int status;

		if (waitpid(pids[i], &status, 0) != pids[i])
			workers_die("waitpid");
		failed += status != 0;
	}
	return failed;
}

/**
 * workers_main() - what each stress test's main() is
 * @jobs: workers; all but .shared given
 *
 * The program's first argument says how they run: threads or processes.
 */
static inline int workers_main(int argc, char **argv, struct workers_job *jobs, unsigned int count,
			       void *shared)
{
	int failed;

	for (unsigned int i = 0; i < count; i++)
		jobs[i].shared = shared;
	if (argc == 2 && !strcmp(argv[1], "threads")) {
		failed = workers_threads(jobs, count);
	} else if (argc == 2 && !strcmp(argv[1], "processes")) {
		failed = workers_processes(jobs, count);
	} else {
		fprintf(stderr, "usage: %s threads|processes\n", argv[0]);
		return 2;
	}
	if (failed)
		fprintf(stderr, "%d of %u workers failed\n", failed, count);
	return failed != 0;
}

#endif
