/* SPDX-License-Identifier: MIT */
/*
 * Names: getaddrinfo_a, which looks names up in the background.
 *
 * Purpose: libc's own would call libc's own getaddrinfo. Requests wait in a
 * queue for a few threads, which end when there is nothing to do.
 *
 * Invariants
 *  1. A request's __return is EAI_INPROGRESS from getaddrinfo_a() on, until it is
 *     done or cancelled; it is written under the lock.
 *
 * Ownership and threads: the queue has one lock. A request is the program's,
 * and stays where it is while it is in progress.
 *
 * Failure: as getaddrinfo_a(): EAI_AGAIN when there is no memory or no thread.
 */
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "internal.h"
#include "resolve.h"

#define THREADS_MAX 8

/* One call of getaddrinfo_a() that does not wait. */
struct notice {
	int left; /* requests in progress */
	struct sigevent sig;
	pid_t caller;
};

struct later {
	struct later *next;
	struct gaicb *request;
	struct notice *notice; /* NULL: none wanted */
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t done; /* some request */
	struct later *first, **end;
	int threads;
} queue = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.done = PTHREAD_COND_INITIALIZER,
	.end = &queue.first,
};

/* --- telling ------------------------------------------------------------------ */

static void *notify_thread(void *arg)
{
	struct sigevent sig = *(struct sigevent *)arg;

	free(arg);
	sig.sigev_notify_function(sig.sigev_value);
	return NULL;
}

static void notify_by_thread(const struct sigevent *sig)
{
	struct sigevent *copy = malloc(sizeof(*copy));
	pthread_attr_t own, *attr = sig->sigev_notify_attributes;
	pthread_t thread;

	if (!copy)
		return;
	*copy = *sig;
	if (!attr) {
		pthread_attr_init(&own);
		pthread_attr_setdetachstate(&own, PTHREAD_CREATE_DETACHED);
	}
	if (pthread_create(&thread, attr ? attr : &own, notify_thread, copy))
		free(copy);
	if (!attr)
		pthread_attr_destroy(&own);
}

static void notify(const struct notice *notice)
{
	if (notice->sig.sigev_notify == SIGEV_SIGNAL)
		sigqueue(notice->caller, notice->sig.sigev_signo, notice->sig.sigev_value);
	else if (notice->sig.sigev_notify == SIGEV_THREAD)
		notify_by_thread(&notice->sig);
}

/* Under the lock: the request is over, and with the last of its call that. */
static void finish(struct later *l, int result)
{
	canal_write_once(&l->request->__return, result);
	pthread_cond_broadcast(&queue.done);
	if (l->notice && --l->notice->left == 0) {
		notify(l->notice);
		free(l->notice);
	}
	free(l);
}

/* --- the threads ------------------------------------------------------------------ */

static void *worker(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&queue.lock);
	while (queue.first) {
		struct later *l = queue.first;
		struct gaicb *r = l->request;
		int result;

		queue.first = l->next;
		if (!queue.first)
			queue.end = &queue.first;
		pthread_mutex_unlock(&queue.lock);
		result = resolve_names(r->ar_name, r->ar_service, r->ar_request, &r->ar_result);
		pthread_mutex_lock(&queue.lock);
		finish(l, result);
	}
	queue.threads--;
	pthread_mutex_unlock(&queue.lock);
	return NULL;
}

/* Under the lock. The program's signals are not for this thread. */
static int worker_start(void)
{
	sigset_t all, before;
	pthread_attr_t attr;
	pthread_t thread;
	int error;

	if (queue.threads >= THREADS_MAX)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	error = pthread_create(&thread, &attr, worker, NULL);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	queue.threads += !error;
	return error && !queue.threads ? -error : 0;
}

/* The threads are the parent's, and so are the requests. */
void later_after_fork(void)
{
	queue.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	queue.done = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
	queue.first = NULL;
	queue.end = &queue.first;
	queue.threads = 0;
}

/* --- the calls ----------------------------------------------------------------------- */

/* Under the lock. */
static int add(struct gaicb *request, struct notice *notice)
{
	struct later *l = malloc(sizeof(*l));

	if (!l)
		return EAI_AGAIN;
	*l = (struct later){ .request = request, .notice = notice };
	canal_write_once(&request->__return, EAI_INPROGRESS);
	*queue.end = l;
	queue.end = &l->next;
	if (worker_start() == 0)
		return 0;
	/* no thread at all: nobody would ever look */
	queue.first = NULL;
	queue.end = &queue.first;
	canal_write_once(&request->__return, EAI_AGAIN);
	free(l);
	return EAI_AGAIN;
}

static void unlock(void *unused)
{
	(void)unused;
	pthread_mutex_unlock(&queue.lock);
}

static bool in_progress(const struct gaicb *request)
{
	return request && canal_read_once(&request->__return) == EAI_INPROGRESS;
}

static void wait_all(struct gaicb **list, int count)
{
	pthread_cleanup_push(unlock, NULL);
	for (int i = 0; i < count; i++)
		while (in_progress(list[i]))
			pthread_cond_wait(&queue.done, &queue.lock);
	pthread_cleanup_pop(0);
}

/* Under the lock. */
static void add_all(struct gaicb **list, int count, struct notice *notice, int *ret_error)
{
	for (int i = 0; i < count; i++) {
		int error = list[i] ? add(list[i], notice) : 0;

		if (error)
			*ret_error = error;
		else if (list[i] && notice)
			notice->left++;
	}
}

int later_start(int mode, struct gaicb **list, int count, struct sigevent *sig)
{
	struct notice *notice = NULL;
	int error = 0;

	if (mode != GAI_WAIT && mode != GAI_NOWAIT) {
		errno = EINVAL;
		return EAI_SYSTEM;
	}
	if (mode == GAI_NOWAIT && sig && sig->sigev_notify != SIGEV_NONE) {
		notice = calloc(1, sizeof(*notice));
		if (!notice)
			return EAI_MEMORY;
		notice->sig = *sig;
		notice->caller = getpid();
		notice->left = 1; /* us: not before all are in */
	}
	pthread_mutex_lock(&queue.lock);
	add_all(list, count, notice, &error);
	if (notice && --notice->left == 0) {
		notify(notice);
		free(notice);
	}
	if (mode == GAI_WAIT)
		wait_all(list, count);
	pthread_mutex_unlock(&queue.lock);
	return error;
}

static int count_open(const struct gaicb *const *list, int count)
{
	int open = 0;

	for (int i = 0; i < count; i++)
		open += in_progress(list[i]);
	return open;
}

/* Under the lock: until one of the @open is over. 0, or ETIMEDOUT. */
static int wait_one(const struct gaicb *const *list, int count, int open,
		    const struct timespec *until)
{
	int error = 0;

	while (!error && count_open(list, count) == open)
		error = until ? pthread_cond_timedwait(&queue.done, &queue.lock, until)
			      : pthread_cond_wait(&queue.done, &queue.lock);
	return count_open(list, count) < open ? 0 : error;
}

int later_wait(const struct gaicb *const *list, int count, const struct timespec *timeout)
{
	struct timespec until = { 0 };
	volatile int ret = EAI_ALLDONE; /* pthread_cleanup_push() is a setjmp() */

	if (timeout) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += timeout->tv_nsec;
		until.tv_sec += timeout->tv_sec + until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
	}
	pthread_mutex_lock(&queue.lock);
	pthread_cleanup_push(unlock, NULL);
	const int open = count_open(list, count);

	if (open)
		ret = wait_one(list, count, open, timeout ? &until : NULL) ? EAI_AGAIN : 0;
	pthread_cleanup_pop(1);
	return ret;
}

int later_cancel(struct gaicb *one)
{
	int ret = EAI_ALLDONE;

	pthread_mutex_lock(&queue.lock);
	if (in_progress(one))
		ret = EAI_NOTCANCELED;
	for (struct later **at = &queue.first; *at; at = &(*at)->next) {
		struct later *l = *at;

		if (l->request != one)
			continue;
		*at = l->next;
		if (!l->next)
			queue.end = at;
		finish(l, EAI_CANCELED);
		ret = EAI_CANCELED;
		break;
	}
	pthread_mutex_unlock(&queue.lock);
	return ret;
}
