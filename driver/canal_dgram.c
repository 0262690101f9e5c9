// SPDX-License-Identifier: GPL-2.0
/*
 * Datagrams through a dummy: guest/dgram.c, for callers that libcanal does not see.
 *
 * Invariants
 *  1. A record is put whole or not at all, and taken whole. Its header is copied,
 *     and its length held against the bytes that are there, before it is used.
 *
 * Ownership and threads: any process context.
 * Failure: errnos of Linux's sockets, as libcanal gives them.
 */
#include <linux/in.h>
#include <linux/in6.h>

#include "canal_data.h"

#define DGRAM_MOST_IPV4 65507
#define DGRAM_MOST_IPV6 65527

/* --- addresses --------------------------------------------------------- */

static int addr_read(struct canal_addr *a, const struct msghdr *msg, int domain)
{
	const struct sockaddr_in6 *in6 = msg->msg_name;
	const struct sockaddr_in *in = msg->msg_name;
	u8 *ip = a->ip;

	memset(a, 0, sizeof(*a));
	if (msg->msg_namelen < (int)sizeof(sa_family_t))
		return -EINVAL;
	if (in->sin_family == AF_INET6 && domain == AF_INET6) {
		if (msg->msg_namelen < (int)sizeof(*in6))
			return -EINVAL;
		a->family = AF_INET6;
		a->port = (__force u16)in6->sin6_port;
		a->scope = in6->sin6_scope_id;
		memcpy(a->ip, &in6->sin6_addr, sizeof(a->ip));
		return 0;
	}
	if (in->sin_family != AF_INET && !(in->sin_family == AF_UNSPEC && domain == AF_INET))
		return domain == AF_INET6 ? -EINVAL : -EAFNOSUPPORT;
	if (msg->msg_namelen < (int)sizeof(*in))
		return -EINVAL;
	a->family = domain;
	a->port = (__force u16)in->sin_port;
	if (domain == AF_INET6) {
		ip[10] = ip[11] = 0xff;
		ip += 12;
	}
	memcpy(ip, &in->sin_addr, 4);
	return 0;
}

int canal_addr_write(const struct canal_addr *a, int family, void *name)
{
	if (family == AF_INET6) {
		struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
					    .sin6_port = (__force __be16)a->port,
					    .sin6_scope_id = a->scope };

		memcpy(&in6.sin6_addr, a->ip, sizeof(a->ip));
		memcpy(name, &in6, sizeof(in6));
		return sizeof(in6);
	} else {
		struct sockaddr_in in = { .sin_family = AF_INET,
					  .sin_port = (__force __be16)a->port };

		memcpy(&in.sin_addr, a->ip, 4);
		memcpy(name, &in, sizeof(in));
		return sizeof(in);
	}
}

/* --- sending ----------------------------------------------------------- */

static bool dgram_fits(const struct canal_fifo *f, u64 span, u64 used)
{
	return used + span <= tx_limit(f) || (!used && span <= TX_MOST);
}

static bool dgram_possible(void *arg)
{
	struct job *job = arg;
	struct canal_fifo *f = &job->s->tx;

	if (canal_read_once(&job->s->so_error) || (canal_read_once(&job->s->shut) & SHUT_WRITE))
		return true;
	if (dgram_fits(f, job->span, canal_read_once(&f->tail) - canal_load_acquire(&f->head)))
		return true;
	canal_arm(&f->want_room); /* S1 */
	return dgram_fits(f, job->span, canal_read_once(&f->tail) - canal_load_acquire(&f->head));
}

/* Under tx_lock: one record. */
static int dgram_put(struct job *job, const struct canal_dgram *record)
{
	struct canal_fifo *f = &job->s->tx;
	u64 tail = canal_read_once(&f->tail);
	/* R2 acquire: the host's reads before our writes to that room */
	u64 head = canal_load_acquire(&f->head);
	struct iov_iter start = job->msg->msg_iter;
	int err;

	if (tail - head > CANAL_FIFO_MAX)
		return -EIO;
	canal_write_once(&f->head_seen, head);
	if (!dgram_fits(f, job->span, tail - head))
		return -EAGAIN;
	err = canal_job_put(job, tail, head, record, sizeof(*record));
	if (!err)
		err = canal_job_put(job, tail + sizeof(*record), head, NULL, record->len);
	if (err) {
		job->msg->msg_iter = start;
		return err;
	}
	job->done = record->len;
	canal_job_sent(job, tail + job->span);
	return 0;
}

int canal_dgram_send(struct job *job)
{
	struct canal_sock *s = job->s;
	int domain = READ_ONCE(s->domain) == AF_INET6 ? AF_INET6 : AF_INET, err;
	size_t len = msg_data_left(job->msg);
	struct canal_dgram record = { .len = len };

	if (len > (domain == AF_INET6 ? DGRAM_MOST_IPV6 : DGRAM_MOST_IPV4))
		return -EMSGSIZE;
	if (job->msg->msg_name && job->msg->msg_namelen) {
		err = addr_read(&record.addr, job->msg, domain);
		if (err)
			return err;
		if (!record.addr.port)
			return -EINVAL;
	} else if (!canal_read_once(&s->peer.family)) {
		return -EDESTADDRREQ;
	}
	job->span = canal_dgram_span(len);
	for (;;) {
		if (canal_channel_gone(job->ch) || (canal_read_once(&s->shut) & SHUT_WRITE) ||
		    canal_read_once(&s->state) == CANAL_SOCK_CLOSED)
			return -EPIPE;
		err = error_take(s);
		if (!err)
			err = canal_kernel_lock(job->ch, &s->tx.tx_lock, job->flags);
		if (err)
			return err;
		err = dgram_put(job, &record);
		canal_kernel_unlock(&s->tx.tx_lock);
		canal_job_tell(job, CANAL_INR_TX, &s->tx.idle);
		if (err == -EAGAIN)
			err = canal_job_wait(job, dgram_possible);
		else if (err == -ENOBUFS)
			err = canal_job_nap(job);
		else
			return err;
		if (err)
			return err;
	}
}

/* --- receiving --------------------------------------------------------- */

/* Under rx_lock. 1: got one, 0: none, or -errno. */
static int dgram_get(struct job *job, size_t room, struct canal_dgram *record)
{
	u64 head, len, span;
	int err = canal_job_look(&job->s->rx, &head, &len);

	if (err || !len)
		return err;
	if (len < sizeof(*record))
		return -EIO;
	err = canal_job_get(job, head, record, sizeof(*record), false);
	span = canal_dgram_extent(record);
	if (err || span > len)
		return -EIO;
	job->done = min_t(u64, record->len, room);
	err = canal_job_get(job, head + sizeof(*record), NULL, job->done, false);
	if (err)
		return err;
	if (!(job->flags & MSG_PEEK))
		canal_job_taken(job, head + span, len - span);
	return 1;
}

static bool dgram_arrived(void *arg)
{
	struct job *job = arg;
	struct canal_sock *s = job->s;

	return rx_has(s, 0) || canal_read_once(&s->so_error) ||
	       (canal_read_once(&s->shut) & SHUT_READ) ||
	       canal_read_once(&s->state) == CANAL_SOCK_CLOSED;
}

int canal_dgram_recv(struct job *job)
{
	struct canal_sock *s = job->s;
	struct msghdr *msg = job->msg;
	size_t room = msg_data_left(msg);
	struct canal_dgram record;
	int r;

	if (job->flags & MSG_OOB)
		return -EOPNOTSUPP;
	for (;;) {
		r = error_take(s);
		if (!r)
			r = canal_kernel_lock(job->ch, &s->rx.rx_lock, job->flags);
		if (r)
			return r;
		r = dgram_get(job, room, &record);
		canal_kernel_unlock(&s->rx.rx_lock);
		canal_job_tell(job, CANAL_INR_RX, &s->rx.want_room);
		if (r)
			break;
		if (canal_channel_gone(job->ch))
			return -ECONNRESET;
		if ((canal_read_once(&s->shut) & SHUT_READ) ||
		    canal_read_once(&s->state) == CANAL_SOCK_CLOSED)
			return job->flags & MSG_DONTWAIT ? -EAGAIN : 0;
		r = canal_job_wait(job, dgram_arrived);
		if (r)
			return r == -ENODEV ? -ECONNRESET : r;
	}
	if (r < 0)
		return r;
	if (msg->msg_name)
		msg->msg_namelen =
			canal_addr_write(&record.addr, record.addr.family, msg->msg_name);
	if (job->done < record.len || (record.flags & CANAL_DGRAM_TRUNC))
		msg->msg_flags |= MSG_TRUNC;
	if (job->flags & MSG_TRUNC)
		job->done = record.len;
	return 0;
}
