/* SPDX-License-Identifier: MIT */
/*
 * Names: getaddrinfo() on helper threads.
 *
 * Purpose: a poller never waits for a name server. It copies the question into
 * a job; a helper answers it; the answer goes back to the poller, which puts it
 * into shared memory.
 *
 * Invariants
 *  1. A job holds no pointer to a channel: that may be gone when the answer
 *     comes. It is found again by its id.
 *  2. At most JOBS_PER_CHANNEL jobs of a channel are under way.
 *  3. After resolve_stop() no job calls a poller.
 *
 * Ownership and threads: a job belongs to the poller, then to a helper, then to
 * the poller again, which frees it. The queue has one lock for its consumers.
 *
 * Failure: too many jobs, or no memory, is EAI_AGAIN; a question that makes no
 * sense is EAI_FAIL or what getaddrinfo() says to it.
 */
#include <errno.h>
#include <netdb.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host.h"

#define JOBS_PER_CHANNEL 64
#define HELPERS_MAX 64u
#define FLAGS_ALLOWED                                                                        \
	(AI_PASSIVE | AI_CANONNAME | AI_NUMERICHOST | AI_V4MAPPED | AI_ALL | AI_ADDRCONFIG | \
	 AI_NUMERICSERV | AI_IDN | AI_CANONIDN)

struct job {
	struct cds_wfcq_node link;
	struct poller *poller;
	uint64_t channel_id;
	uint32_t slot, serial; /* of the slot */
	struct canal_resolve question;
	int result;
	struct canal_resolve_answer answer;
};

static struct {
	struct cds_wfcq_head head;
	struct cds_wfcq_tail tail;
	sem_t waiting;
	pthread_t threads[HELPERS_MAX];
	unsigned int count;
	/* held while a poller is called, so that it can be stopped */
	pthread_mutex_t lock;
	bool stopped;
} helpers = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- the answer -------------------------------------------------------- */

/* On the poller. */
static void job_answer(void *arg)
{
	struct job *job = arg;
	struct channel *ch = poller_find_channel(job->poller, job->channel_id);
	uint32_t len = job->result < 0 ? 0 : sizeof(job->answer);

	if (ch) {
		ch->resolving--;
		/* else the thread that asked is gone, and its slot is another's */
		if (!ch->broken && canal_read_once(&ch->wait[job->slot].serial) == job->serial) {
			memcpy(ch->call[job->slot].data, &job->answer, len);
			request_complete(ch, job->slot, job->result, len);
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

static void answer_add(struct canal_resolve_answer *answer, const struct addrinfo *ai)
{
	struct canal_resolved *to = &answer->list[answer->count];
	struct sockaddr_storage ss = { 0 };

	if (answer->count == CANAL_RESOLVED_MAX || ai->ai_addrlen > sizeof(ss))
		return;
	memcpy(&ss, ai->ai_addr, ai->ai_addrlen);
	if (!addr_from_sockaddr(&to->addr, &ss))
		return;
	to->socktype = ai->ai_socktype;
	to->protocol = ai->ai_protocol;
	answer->count++;
}

static void answer_fill(struct canal_resolve_answer *answer, const struct addrinfo *list)
{
	const char *canon = list->ai_canonname;

	if (canon && strlen(canon) < sizeof(answer->canon)) {
		answer->canon_len = (canal_u16)(strlen(canon) + 1);
		memcpy(answer->canon, canon, answer->canon_len);
	}
	for (; list; list = list->ai_next)
		answer_add(answer, list);
}

static int job_ask(struct job *job)
{
	const struct canal_resolve *q = &job->question;
	const char *node = q->node_len ? (const char *)q->text : NULL;
	const char *service = q->service_len ? (const char *)q->text + q->node_len : NULL;
	struct addrinfo *list, hints = {
		.ai_flags = q->flags,
		.ai_family = q->family,
		.ai_socktype = q->socktype,
		.ai_protocol = q->protocol,
	};
	int error = getaddrinfo(node, service, &hints, &list);

	if (error == EAI_SYSTEM) /* errno is ours, not the guest's */
		error = EAI_AGAIN;
	if (error)
		return CANAL_RESOLVE_ERROR(error);
	answer_fill(&job->answer, list);
	freeaddrinfo(list);
	return job->answer.count ? (int)job->answer.count : CANAL_RESOLVE_ERROR(EAI_NONAME);
}

static struct job *job_next(void)
{
	struct cds_wfcq_node *node;

	while (sem_wait(&helpers.waiting) < 0)
		;
	node = cds_wfcq_dequeue_blocking(&helpers.head, &helpers.tail);
	return node ? caa_container_of(node, struct job, link) : NULL;
}

/* Ends when it is woken for no job. */
static void *helper_run(void *arg)
{
	struct job *job;

	(void)arg;
	pthread_setname_np(pthread_self(), "canald-resolve");
	while ((job = job_next())) {
		job->result = job_ask(job);
		job_finish(job);
	}
	return NULL;
}

/* --- the question ------------------------------------------------------ */

/* Is there a string of @len bytes with its NUL, and only that one, at the end? */
static bool text_valid(const uint8_t *text, uint32_t len)
{
	return !len || memchr(text, 0, len) == text + len - 1;
}

/* 0 or the EAI_* that the guest gets at once. */
static int question_check(const struct canal_resolve *q)
{
	if ((uint32_t)q->node_len + q->service_len > sizeof(q->text) ||
	    !text_valid(q->text, q->node_len) || !text_valid(q->text + q->node_len, q->service_len))
		return EAI_FAIL;
	if (!q->node_len && !q->service_len)
		return EAI_NONAME;
	if (q->flags & ~FLAGS_ALLOWED)
		return EAI_BADFLAGS;
	if (q->family != AF_UNSPEC && q->family != AF_INET && q->family != AF_INET6)
		return EAI_FAMILY;
	return 0;
}

static int job_queue(struct channel *ch, uint32_t slot)
{
	struct job *job;
	int error;

	if (ch->resolving >= JOBS_PER_CHANNEL)
		return EAI_AGAIN;
	job = calloc(1, sizeof(*job));
	if (!job)
		return EAI_AGAIN;
	memcpy(&job->question, ch->call[slot].data, sizeof(job->question));
	error = question_check(&job->question);
	if (error) {
		free(job);
		return error;
	}
	job->poller = ch->poller;
	job->channel_id = ch->id;
	job->slot = slot;
	job->serial = canal_read_once(&ch->wait[slot].serial);
	ch->resolving++;
	cds_wfcq_node_init(&job->link);
	cds_wfcq_enqueue(&helpers.head, &helpers.tail, &job->link);
	sem_post(&helpers.waiting);
	return 0;
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
		request_complete(ch, slot, CANAL_RESOLVE_ERROR(error), 0);
}

/* --- start and stop ---------------------------------------------------- */

int resolve_start(unsigned int threads)
{
	int error = 0;

	cds_wfcq_init(&helpers.head, &helpers.tail);
	sem_init(&helpers.waiting, 0, 0);
	if (threads > HELPERS_MAX)
		threads = HELPERS_MAX;
	while (!error && helpers.count < threads) {
		error = -pthread_create(&helpers.threads[helpers.count], NULL, helper_run, NULL);
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
	struct cds_wfcq_node *node;

	pthread_mutex_lock(&helpers.lock);
	helpers.stopped = true;
	pthread_mutex_unlock(&helpers.lock);
	while ((node = cds_wfcq_dequeue_blocking(&helpers.head, &helpers.tail)))
		free(caa_container_of(node, struct job, link));
	for (unsigned int i = 0; i < helpers.count; i++)
		sem_post(&helpers.waiting);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 100000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	for (unsigned int i = 0; i < helpers.count; i++)
		if (pthread_timedjoin_np(helpers.threads[i], NULL, &until) == ETIMEDOUT)
			pthread_detach(helpers.threads[i]);
	helpers.count = 0;
}
