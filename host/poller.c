/* SPDX-License-Identifier: MIT */
/*
 * The poller: one pinned thread, its channels, and the loop over them.
 *
 * Purpose: a pass serves INRs first, then what the kernel sent (RX), then what
 * guests sent (TX), each with a bounded slice (vCanal 3.4). When passes find
 * nothing the poller yields, and at last sleeps, as its mode allows.
 *
 * Invariants
 *  1. Before it sleeps every TX FIFO is armed idle, every channel has
 *     host_asleep armed, and all were looked at once more (S1).
 *  2. A socket is freed only behind a flush: no operation refers to it then.
 *
 * Ownership and threads: everything of a poller belongs to its thread, but for
 * calls, asleep and kick_fd, by which other threads ask.
 * Failure: none; errors belong to sockets or channels.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syslog.h>
#include <time.h>
#include <unistd.h>

#include "portmap.h"
#include "sock.h"

#define INRS_A_PASS 64
/* Adaptive: yield after so many passes for nothing, sleep after so long. */
#define SPIN_PASSES 4
#define SPIN_NS 50000ull
#define CROWDED_NS 100000ull
#define CROWDED_FOR_NS 20000000ull
/* The kernel is asked each so many passes while there is other work. */
#define KERNEL_EVERY 8
#define TRIM_NS 50000000ull
#define DRAIN_NS 5000000000ull

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* --- calls from other threads ------------------------------------------ */

struct poller_job {
	struct cds_wfcq_node node;
	void (*fn)(void *);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool wait, done;
};

static void job_run(struct poller_job *job)
{
	bool wait = job->wait;

	job->fn(job->arg);
	if (!wait) {
		free(job);
		return;
	}
	pthread_mutex_lock(&job->lock);
	job->done = true;
	pthread_cond_signal(&job->cond);
	pthread_mutex_unlock(&job->lock);
}

static void poller_kick(struct poller *p)
{
	uint64_t one = 1;

	canal_full_fence();
	if (canal_take(&p->asleep))
		(void)!write(p->kick_fd, &one, sizeof(one));
}

int poller_call(struct poller *p, void (*fn)(void *), void *arg, bool wait)
{
	struct poller_job *job = calloc(1, sizeof(*job));

	if (!job)
		return -ENOMEM;
	cds_wfcq_node_init(&job->node);
	job->fn = fn;
	job->arg = arg;
	job->wait = wait;
	pthread_mutex_init(&job->lock, NULL);
	pthread_cond_init(&job->cond, NULL);
	cds_wfcq_enqueue(&p->calls_head, &p->calls_tail, &job->node);
	poller_kick(p);
	if (!wait)
		return 0;
	pthread_mutex_lock(&job->lock);
	while (!job->done)
		pthread_cond_wait(&job->cond, &job->lock);
	pthread_mutex_unlock(&job->lock);
	free(job);
	return 0;
}

static void serve_calls(struct poller *p)
{
	struct cds_wfcq_node *node;

	while ((node = __cds_wfcq_dequeue_blocking(&p->calls_head, &p->calls_tail))) {
		p->work++;
		job_run(caa_container_of(node, struct poller_job, node));
	}
}

/* --- one pass ---------------------------------------------------------- */

static void serve_channels(struct poller *p)
{
	struct channel *ch, *next;

	cds_list_for_each_entry_safe(ch, next, &p->channels, link)
	{
		wake_owed(ch);
		/* Without a process nobody asks: what still comes is of one that kept
		 * the memory, and could make sockets that nothing would ever close. */
		if (!ch->orphan || ch->broken)
			channel_serve(ch, INRS_A_PASS);
		if (!ch->orphan && !ch->broken)
			channel_grant(ch);
		if (ch->orphan || ch->broken)
			channel_reap(ch);
	}
}

static void serve_rx(struct poller *p)
{
	struct sock *s, *next;

	cds_list_for_each_entry_safe(s, next, &p->rx_ready, rx_link)
	{
		if (s->dead || s->channel->broken)
			sock_unmark_rx(s);
		else if (s->state == CANAL_SOCK_LISTENING)
			listen_rx(s);
		else if (s->type == SOCK_DGRAM)
			dgram_rx(s);
		else if (s->fd >= 0 && !s->joined && s->state == CANAL_SOCK_CONNECTED)
			stream_rx(s);
		else
			sock_unmark_rx(s);
	}
}

static void serve_tx(struct poller *p)
{
	struct sock *s, *next;

	cds_list_for_each_entry_safe(s, next, &p->tx_busy, tx_link)
	{
		if (s->dead || s->channel->broken)
			sock_unmark_tx(s);
		else if (p->now_ns < s->tx_look_ns)
			continue;
		else if (s->type == SOCK_DGRAM)
			dgram_tx(s);
		else
			stream_tx(s);
	}
}

static void bury(struct poller *p)
{
	struct sock *s, *next;

	cds_list_for_each_entry_safe(s, next, &p->dead, dead_link)
	{
		free(s->control);
		free(s);
	}
	CDS_INIT_LIST_HEAD(&p->dead);
}

/*
 * A guest that had no chunk left for TX was told that it cannot write, and has
 * nothing in the FIFO whose consumption would tell it that it can.
 */
static void tell_room(struct channel *ch)
{
	for (uint32_t i = 0; i < ch->shape.socks; i++) {
		struct sock *s = ch->socks[i];
		uint64_t avail;

		if (s && !s->dead && canal_read_once(&s->shared->tx.want_room) &&
		    sock_tx_avail(s, &avail) && !avail && canal_take(&s->shared->tx.want_room))
			wake_socket(s, EPOLLOUT);
	}
}

static void trim_channel(struct channel *ch)
{
	if (ch->broken)
		return;
	if (ch->bells_full) {
		ch->bells_full = false;
		ch->wakes_owed = true;
		wake_owed(ch);
	}
	if (canal_read_once(&ch->region->tx_used) >= ch->shape.chunks)
		tell_room(ch);
}

void poller_trim(struct poller *p)
{
	struct sock *s, *next;
	struct channel *ch;

	if (p->now_ns < p->trim_at_ns)
		return;
	p->trim_at_ns = p->now_ns + TRIM_NS;
	cds_list_for_each_entry(ch, &p->channels, link) trim_channel(ch);
	(void)portpool_trim(p);
	(void)pump_passed_look(p);
	linger_tick(p);
	closing_tick(p);
	cds_list_for_each_entry_safe(s, next, &p->starved, starved_link)
	{
		sock_unstarve(s);
		sock_rx_resume(s);
	}
	cds_list_for_each_entry_safe(s, next, &p->trim, trim_link) if (!s->channel->broken)
		sock_rx_trim(s);
}

void poller_pass(struct poller *p)
{
	serve_calls(p);
	vms_pass(p);
	serve_channels(p);
	if (!cds_list_empty(&p->handing))
		pump_retry(p);
	ref_pass(p);
	serve_rx(p);
	serve_tx(p);
	p->ops->flush(p->engine);
	tx_idle(p, false);
	bury(p);
	p->passes++;
}

/* --- sleeping ---------------------------------------------------------- */

/* Arms every way in which work can come; false when some came meanwhile. */
static bool arm_all(struct poller *p)
{
	struct channel *ch;
	uint64_t work = p->work;

	if (!tx_idle(p, true))
		return false;
	canal_arm(&p->asleep);
	cds_list_for_each_entry(ch, &p->channels, link) canal_arm(&ch->region->host_asleep);
	vms_arm(p, true);
	serve_calls(p);
	vms_serve(p);
	serve_channels(p);
	return p->work == work && !p->settling && cds_list_empty(&p->ref_ready) &&
	       cds_list_empty(&p->tx_busy) && cds_list_empty(&p->rx_ready) &&
	       cds_list_empty(&p->dead);
}

static void disarm_all(struct poller *p)
{
	struct channel *ch;

	canal_disarm(&p->asleep);
	vms_arm(p, false);
	cds_list_for_each_entry(ch, &p->channels, link) canal_disarm(&ch->region->host_asleep);
}

/* Of two limits; below 0: none. */
static int64_t sooner(int64_t a, int64_t b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* A ring that is held up, or chunks to be trimmed, want another look in time. */
static int64_t sleep_limit(struct poller *p)
{
	int64_t limit =
		sooner(closing_sleep_limit(p), sooner(vms_sleep_limit(p), spared_sleep_limit(p)));
	struct channel *ch;
	bool tick = false;

	/* S1: armed before this look; pairs with poller_stop() */
	if (canal_read_once(&p->stop) || !cds_list_empty(&p->handing))
		return 1000000;
	cds_list_for_each_entry(ch, &p->channels, link)
	{
		if (ch->stalled_since_ns)
			limit = sooner(limit, (int64_t)RING_LOOK_NS);
		tick |= ch->bells_full || canal_read_once(&ch->region->tx_used) >= ch->shape.chunks;
	}
	if (!tick && cds_list_empty(&p->passed) && cds_list_empty(&p->lingering) &&
	    cds_list_empty(&p->trim) && cds_list_empty(&p->starved) && !portpool_trim(p))
		return limit;
	return sooner(limit, (int64_t)TRIM_NS);
}

static void poller_sleep(struct poller *p)
{
	if (arm_all(p)) {
		p->sleeps++;
		p->work += (uint64_t)p->ops->wait(p->engine, sleep_limit(p));
	}
	disarm_all(p);
}

/*
 * A yield that takes long ran somebody else for his whole slice: there are more
 * runnable threads than cores. Who yields then waits for slices, while who
 * sleeps is put in front when he is woken. So for a while the poller sleeps.
 */
static void poller_yield(struct poller *p)
{
	uint64_t after;

	sched_yield();
	after = clock_ns();
	if (after - p->now_ns > CROWDED_NS)
		p->crowded_until_ns = after + CROWDED_FOR_NS;
}

/* Nothing was done since @idle_since_ns. */
static void poller_idle(struct poller *p, uint64_t idle_since_ns, unsigned int idle_passes)
{
	bool enough = p->now_ns - idle_since_ns > SPIN_NS || p->now_ns < p->crowded_until_ns;

	if (p->mode == POLL_NEVER ||
	    (p->mode == POLL_ADAPTIVE && idle_passes > SPIN_PASSES && enough))
		poller_sleep(p);
	else if (p->mode == POLL_ADAPTIVE && idle_passes > SPIN_PASSES)
		poller_yield(p);
	else
		canal_relax();
}

/* --- the thread -------------------------------------------------------- */

static bool drained(struct poller *p)
{
	struct channel *ch;

	cds_list_for_each_entry(ch, &p->channels, link) for (uint32_t i = 0; i < ch->shape.socks;
							     i++)
	{
		uint64_t avail = 0;

		if (ch->socks[i] && !ch->broken && sock_tx_avail(ch->socks[i], &avail) && avail &&
		    ch->socks[i]->state == CANAL_SOCK_CONNECTED)
			return false;
	}
	return true;
}

static void poller_pin(struct poller *p)
{
	cpu_set_t set;

	if (p->cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET((size_t)p->cpu, &set);
	if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set))
		host_log(LOG_WARNING, "poller %u: cannot be pinned to CPU %d", p->number, p->cpu);
}

static void close_all(struct poller *p)
{
	struct channel *ch, *next;

	cds_list_for_each_entry_safe(ch, next, &p->channels, link)
	{
		channel_end(ch);
		p->ops->flush(p->engine);
		bury(p);
		channel_reap(ch);
	}
}

static void *poller_main(void *arg)
{
	struct poller *p = arg;
	uint64_t idle_since_ns = clock_ns(), stop_since_ns = 0;
	unsigned int idle_passes = 0;

	poller_pin(p);
	privilege_drop();
	urgent_listen();
	portmap_thread_begin();
	while (!canal_read_once(&p->stop) || !drained(p)) {
		uint64_t before = p->work;

		p->now_ns = clock_ns();
		if (canal_read_once(&p->stop)) {
			stop_since_ns = stop_since_ns ? stop_since_ns : p->now_ns;
			if (p->now_ns - stop_since_ns > DRAIN_NS)
				break;
		}
		poller_pass(p);
		if (p->work == before || p->passes % KERNEL_EVERY == 0 || p->settling)
			p->work += (uint64_t)p->ops->wait(p->engine, 0);
		poller_trim(p);
		wake_spared(p);
		settle_tick(p);
		if (p->work != before || p->settling) {
			idle_since_ns = p->now_ns;
			idle_passes = 0;
		} else {
			poller_idle(p, idle_since_ns, ++idle_passes);
		}
	}
	close_all(p);
	free(p->bounce);
	p->bounce = NULL;
	vms_end();
	p->ops->close(p->engine);
	portmap_thread_end();
	canal_store_release(&p->ended, true);
	return NULL;
}

static void kicked(struct engine_handle *h, uint32_t events)
{
	uint64_t n;

	(void)events;
	(void)!read(h->fd, &n, sizeof(n));
}

void poller_init(struct poller *p)
{
	CDS_INIT_LIST_HEAD(&p->channels);
	CDS_INIT_LIST_HEAD(&p->tx_busy);
	CDS_INIT_LIST_HEAD(&p->rx_ready);
	CDS_INIT_LIST_HEAD(&p->trim);
	CDS_INIT_LIST_HEAD(&p->starved);
	CDS_INIT_LIST_HEAD(&p->dead);
	CDS_INIT_LIST_HEAD(&p->vms);
	CDS_INIT_LIST_HEAD(&p->ref_ready);
	CDS_INIT_LIST_HEAD(&p->handing);
	CDS_INIT_LIST_HEAD(&p->passed);
	CDS_INIT_LIST_HEAD(&p->lingering);
	CDS_INIT_LIST_HEAD(&p->closing);
	CDS_INIT_LIST_HEAD(&p->closing_owners);
	for (uint32_t i = 0; i < FAR_BUCKETS; i++)
		CDS_INIT_LIST_HEAD(&p->far_table[i]);
	for (int i = 0; i < SWITCH_BUCKETS; i++)
		CDS_INIT_LIST_HEAD(&p->switch_table[i]);
	cds_wfcq_init(&p->calls_head, &p->calls_tail);
	p->kick.event = kicked;
}

int poller_start(struct poller *p, unsigned int number, int cpu, const struct engine_ops *ops,
		 enum poll_mode mode)
{
	int r;

	p->number = number;
	p->cpu = cpu;
	p->ops = ops;
	p->mode = mode;
	poller_init(p);
	p->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (p->kick_fd < 0)
		return -errno;
	r = ops->open(&p->engine);
	if (!r)
		r = ops->watch(p->engine, &p->kick, p->kick_fd, EPOLLIN);
	if (!r)
		r = -pthread_create(&p->thread, NULL, poller_main, p);
	if (r) {
		if (p->engine)
			ops->close(p->engine);
		close(p->kick_fd);
	}
	return r;
}

void poller_stop(struct poller *p)
{
	canal_store_fence(&p->stop, true);
	poller_kick(p);
}

void poller_join(struct poller *p)
{
	pthread_join(p->thread, NULL);
	close(p->kick_fd);
}
