/* SPDX-License-Identifier: MIT */
/*
 * Names: the host's resolver on helper threads.
 *
 * Purpose: a poller never waits for a name server. It copies the question into
 * a job; a helper answers it (resolve_ask.c); the answer goes back to the
 * poller, which puts it into shared memory.
 *
 * Invariants
 *  1. A job holds no pointer to a channel: that may be gone when the answer
 *     comes. It is found again by its id.
 *  2. At most JOBS_PER_CHANNEL jobs of a channel are under way.
 *  3. After resolve_stop() no job calls a poller.
 *  4. One guest's slow names hold at most half of the helpers: the first job
 *     whose guest has fewer is the next one.
 *
 * Ownership and threads: a job belongs to the poller, then to a helper, then to
 * the poller again, which frees it. The queue has one lock for its consumers,
 * which no poller takes.
 *
 * Failure: too many jobs, or no memory, is EAI_AGAIN; a question that makes no
 * sense is EAI_FAIL or what getaddrinfo() says to it.
 */
#include <errno.h>
#include <locale.h>
#include <netdb.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "resolve.h"

#define JOBS_PER_CHANNEL 64
#define HELPERS_MAX 64u
struct job {
	struct cds_wfcq_node link;
	struct cds_list_head waiting; /* helpers.waiting */
	struct poller *poller;
	uint64_t channel_id, owner; /* owner: whose limit it counts against */
	uint32_t slot, serial;      /* of the slot */
	bool forgotten;             /* nobody is there any more; under `turn` while it waits */
	struct question question;
	struct answer answer;
};

static struct {
	struct cds_wfcq_head head;
	struct cds_wfcq_tail tail;
	sem_t more;
	pthread_t threads[HELPERS_MAX];
	unsigned int count, share; /* share: of one owner, at most */
	/* of the helpers, under `turn` */
	pthread_mutex_t turn;
	struct cds_list_head waiting;  /* in the order in which they came */
	uint64_t running[HELPERS_MAX]; /* owners of the jobs under way; 0: none */
	unsigned int held_back;        /* signals of `more` for jobs that had to wait */
	/* held while a poller is called, so that it can be stopped */
	pthread_mutex_t lock;
	bool stopped;
} helpers = {
	.turn = PTHREAD_MUTEX_INITIALIZER,
	.waiting = CDS_LIST_HEAD_INIT(helpers.waiting),
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

/* --- the answer -------------------------------------------------------- */

/* On the poller. */
static void job_answer(void *arg)
{
	struct job *job = arg;
	struct channel *ch = poller_find_channel(job->poller, job->channel_id);

	if (ch) {
		ch->resolving--;
		/* else the thread that asked is gone, and its slot is another's */
		if (!ch->broken && canal_read_once(&ch->wait[job->slot].serial) == job->serial) {
			memcpy(ch->call[job->slot].data, job->answer.data, job->answer.len);
			request_complete(ch, job->slot, job->answer.result, job->answer.len);
		}
	}
	free(job);
}

static void job_finish(struct job *job)
{
	pthread_mutex_lock(&helpers.lock);
	if (helpers.stopped || poller_call(job->poller, job_answer, job, false))
		free(job);
	pthread_mutex_unlock(&helpers.lock);
}

/* --- on a helper ------------------------------------------------------- */

static void take_in(void)
{
	struct cds_wfcq_node *node;

	while ((node = cds_wfcq_dequeue_blocking(&helpers.head, &helpers.tail)))
		cds_list_add_tail(&caa_container_of(node, struct job, link)->waiting,
				  &helpers.waiting);
}

static bool has_its_share(uint64_t owner)
{
	unsigned int has = 0;

	for (unsigned int i = 0; i < HELPERS_MAX; i++)
		has += helpers.running[i] == owner;
	return has >= helpers.share;
}

/* Under `turn`: the first whose owner may have one more; NULL: none now. */
static struct job *job_choose(void)
{
	struct job *job;

	cds_list_for_each_entry(job, &helpers.waiting, waiting)
	{
		if (has_its_share(job->owner))
			continue;
		cds_list_del(&job->waiting);
		return job;
	}
	return NULL;
}

/* False: it was woken for no job, and is to end. */
static bool job_next(unsigned int self, struct job **ret_job)
{
	bool none;

	while (sem_wait(&helpers.more) < 0)
		;
	pthread_mutex_lock(&helpers.turn);
	take_in();
	none = cds_list_empty(&helpers.waiting);
	*ret_job = job_choose();
	if (*ret_job)
		helpers.running[self] = (*ret_job)->owner;
	else if (!none)
		helpers.held_back++;
	pthread_mutex_unlock(&helpers.turn);
	return *ret_job || !none;
}

/* A job is done: one that was held back for it may go now. */
static void job_done(unsigned int self)
{
	pthread_mutex_lock(&helpers.turn);
	helpers.running[self] = 0;
	if (helpers.held_back) {
		helpers.held_back--;
		sem_post(&helpers.more);
	}
	pthread_mutex_unlock(&helpers.turn);
}

static void *helper_run(void *arg)
{
	unsigned int self = (unsigned int)(uintptr_t)arg;
	/* for AI_IDN: names are in UTF-8 */
	locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
	struct job *job;

	if (locale)
		uselocale(locale);
	pthread_setname_np(pthread_self(), "canald-resolve");
	while (job_next(self, &job)) {
		if (!job)
			continue;
		if (!job->forgotten)
			question_ask(&job->question, &job->answer);
		job_finish(job);
		job_done(self);
	}
	uselocale(LC_GLOBAL_LOCALE);
	if (locale)
		freelocale(locale);
	return NULL;
}

/* --- the question ------------------------------------------------------ */

/* A guest of the configuration, or a user: never 0. */
static uint64_t owner_of(const struct channel *ch)
{
	return ch->guest ? 1ull << 32 | ch->guest->number : 2ull << 32 | ch->uid;
}

static void question_copy(struct question *q, const struct channel *ch, uint32_t slot)
{
	const struct canal_call *call = &ch->call[slot];
	const struct guest *g = ch->guest;

	q->kind = canal_read_once(&call->name);
	q->len = canal_read_once(&call->len);
	q->families = g ? (g->address.family ? QUESTION_V4 : 0) |
				      (g->address6.family ? QUESTION_V6 : 0)
			: 0;
	memcpy(q->data, call->data, sizeof(q->data));
}

/* 0, or the result of a question that is not asked. */
static int job_queue(struct channel *ch, uint32_t slot)
{
	struct job *job;
	int error;

	if (ch->resolving >= JOBS_PER_CHANNEL)
		return CANAL_RESOLVE_ERROR(EAI_AGAIN);
	job = calloc(1, sizeof(*job));
	if (!job)
		return CANAL_RESOLVE_ERROR(EAI_AGAIN);
	question_copy(&job->question, ch, slot);
	error = question_check(&job->question);
	if (error) {
		free(job);
		return error;
	}
	job->poller = ch->poller;
	job->channel_id = ch->id;
	job->owner = owner_of(ch);
	job->slot = slot;
	job->serial = canal_read_once(&ch->wait[slot].serial);
	ch->resolving++;
	cds_wfcq_node_init(&job->link);
	cds_wfcq_enqueue(&helpers.head, &helpers.tail, &job->link);
	sem_post(&helpers.more);
	return 0;
}

void resolve_forget(const struct channel *ch)
{
	struct job *job;

	if (!ch->resolving)
		return;
	pthread_mutex_lock(&helpers.turn);
	take_in();
	cds_list_for_each_entry(job, &helpers.waiting, waiting) if (job->channel_id == ch->id)
		job->forgotten = true;
	pthread_mutex_unlock(&helpers.turn);
}

void resolve_ask(struct channel *ch, uint32_t slot)
{
	int error;

	if (slot >= ch->shape.waits) {
		channel_break(ch, BROKEN_SLOT);
		return;
	}
	error = job_queue(ch, slot);
	if (error)
		request_complete(ch, slot, error, 0);
}

/* --- start and stop ---------------------------------------------------- */

int resolve_start(unsigned int threads)
{
	int error = 0;

	cds_wfcq_init(&helpers.head, &helpers.tail);
	sem_init(&helpers.more, 0, 0);
	if (threads > HELPERS_MAX)
		threads = HELPERS_MAX;
	helpers.share = threads > 1 ? threads / 2 : 1;
	while (!error && helpers.count < threads) {
		error = -pthread_create(&helpers.threads[helpers.count], NULL, helper_run,
					(void *)(uintptr_t)helpers.count);
		if (!error)
			helpers.count++;
	}
	if (error)
		resolve_stop();
	return error;
}

/*
 * A helper may be in the middle of getaddrinfo(), which can take long: it is
 * not waited for beyond a moment, and finds that nobody wants its answer.
 */
void resolve_stop(void)
{
	struct timespec until;
	struct job *job, *next;

	pthread_mutex_lock(&helpers.lock);
	helpers.stopped = true;
	pthread_mutex_unlock(&helpers.lock);
	pthread_mutex_lock(&helpers.turn);
	take_in();
	cds_list_for_each_entry_safe(job, next, &helpers.waiting, waiting) free(job);
	CDS_INIT_LIST_HEAD(&helpers.waiting);
	helpers.held_back = 0;
	pthread_mutex_unlock(&helpers.turn);
	for (unsigned int i = 0; i < helpers.count; i++)
		sem_post(&helpers.more);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 100000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	for (unsigned int i = 0; i < helpers.count; i++)
		if (pthread_timedjoin_np(helpers.threads[i], NULL, &until) == ETIMEDOUT)
			pthread_detach(helpers.threads[i]);
	helpers.count = 0;
}
