/* SPDX-License-Identifier: MIT */
/* Threads that share sockets, or block on many. */
#include "calls.h"

#include <stdatomic.h>

static char data[4096];

/* --- looks at what another thread closes -------------------------------- */

static atomic_int watched = -1;
static atomic_bool watching;

static void *watch(void *arg)
{
	(void)arg;
	while (watching) {
		struct pollfd p = { .fd = watched, .events = POLLIN | POLLOUT };

		(void)poll(&p, 1, 0);
	}
	return NULL;
}

static void closed_by_others(void)
{
	pthread_t thread[4];
	int fd[2];

	watching = true;
	for (int i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, watch, NULL);
	for (int i = 0; i < 1000; i++) {
		stream_pair(fd);
		watched = fd[i % 2];
		send_all(fd[0], "x", 1);
		recv_all(fd[1], data, 1);
		close(fd[0]);
		close(fd[1]);
	}
	watching = false;
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	say("all at an end");
}

/* --- four senders, one stream ------------------------------------------ */

enum { SENDERS = 4, RECORDS = 3000, LEN = 24 };

struct sender {
	int fd;
	char tag;
};

static void *send_records(void *arg)
{
	const struct sender *s = arg;
	char record[LEN];

	memset(record, s->tag, sizeof(record));
	for (int i = 0; i < RECORDS; i++)
		send_all(s->fd, record, sizeof(record));
	return NULL;
}

/* One send of a blocking stream goes in as one piece. */
static void senders(void)
{
	struct sender s[SENDERS];
	pthread_t thread[SENDERS];
	int fd[2], count[SENDERS] = { 0 };
	char record[LEN];

	stream_pair(fd);
	for (int i = 0; i < SENDERS; i++) {
		s[i] = (struct sender){ fd[0], (char)('a' + i) };
		pthread_create(&thread[i], NULL, send_records, &s[i]);
	}
	for (int i = 0; i < SENDERS * RECORDS; i++) {
		recv_all(fd[1], record, sizeof(record));
		for (int j = 1; j < LEN; j++)
			if (record[j] != record[0])
				say("torn record");
		count[(record[0] - 'a') & 3]++;
	}
	for (int i = 0; i < SENDERS; i++) {
		pthread_join(thread[i], NULL);
		say("%c: %d", 'a' + i, count[i]);
	}
}

/* --- sixteen threads, sixteen streams ------------------------------------ */

enum { BLOCKED = 16, ROUNDS = 20 };

static void *answer(void *arg)
{
	int *fd = arg;
	ssize_t got;
	char buf[32];

	while ((got = NEED(recv(*fd, buf, sizeof(buf), 0))) > 0)
		send_all(*fd, buf, got);
	return NULL;
}

static void blocked(void)
{
	pthread_t thread[BLOCKED];
	int fd[BLOCKED][2];

	for (int i = 0; i < BLOCKED; i++) {
		stream_pair(fd[i]);
		pthread_create(&thread[i], NULL, answer, &fd[i][1]);
	}
	for (int round = 0; round < ROUNDS; round++) {
		if (round % 8 == 0)
			nap_ms(5); /* now they sleep */
		for (int i = BLOCKED - 1; i >= 0; i--)
			send_all(fd[i][0], "question", 8);
		for (int i = 0; i < BLOCKED; i++)
			recv_all(fd[i][0], data, 8);
	}
	for (int i = 0; i < BLOCKED; i++) {
		close(fd[i][0]);
		pthread_join(thread[i], NULL);
	}
	say("all answered");
}

/* --- accept() in four threads -------------------------------------------- */

static int listening, accepted[4];

static void *accept_some(void *arg)
{
	int *count = arg;

	for (;;) {
		int fd = accept(listening, NULL, NULL);
		char byte;

		if (fd < 0)
			return NULL; /* shut down */
		recv_all(fd, &byte, 1);
		send_all(fd, &byte, 1);
		close(fd);
		++*count;
	}
}

static void acceptors(void)
{
	pthread_t thread[4];
	struct name name;
	int total = 0;

	listening = listener(&name);
	for (int i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, accept_some, &accepted[i]);
	for (int i = 0; i < 200; i++) {
		int c = NEED(socket(family, SOCK_STREAM, 0));

		NEED(connect(c, sa(&name), name.len));
		send_all(c, "x", 1);
		recv_all(c, data, 1);
		close(c);
	}
	TELL(shutdown(listening, SHUT_RDWR));
	for (int i = 0; i < 4; i++) {
		pthread_join(thread[i], NULL);
		total += accepted[i];
	}
	say("accepted %d", total);
}

/* --- many at one ------------------------------------------------------------ */

static int reader_fd;

static void *read_one(void *arg)
{
	char byte = 0;
	ssize_t got = recv(reader_fd, &byte, 1, 0);

	*(int *)arg = got == 1 ? byte : -1;
	return NULL;
}

/* Readers that block on one stream each get one of the bytes. */
static void readers_of_one(void)
{
	int fd[2], got[6], sum = 0;
	pthread_t thread[6];

	stream_pair(fd);
	reader_fd = fd[1];
	for (int i = 0; i < 6; i++)
		pthread_create(&thread[i], NULL, read_one, &got[i]);
	nap_ms(10);
	for (char i = 1; i <= 6; i++) {
		send_all(fd[0], &i, 1);
		nap_ms(1);
	}
	for (int i = 0; i < 6; i++) {
		pthread_join(thread[i], NULL);
		sum += got[i];
	}
	say("sum %d", sum);
}

static void *open_many(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100; i++) {
		int fd[2];
		char byte;

		stream_pair(fd);
		send_all(fd[0], "x", 1);
		recv_all(fd[1], &byte, 1);
		close(fd[i & 1]);
		close(fd[!(i & 1)]);
	}
	return NULL;
}

static void everybody_opens(void)
{
	pthread_t thread[8];

	for (int i = 0; i < 8; i++)
		pthread_create(&thread[i], NULL, open_many, NULL);
	for (int i = 0; i < 8; i++)
		pthread_join(thread[i], NULL);
	say("all closed");
}

/* --- threads that end, and that are cancelled ---------------------------------- */

static void *recv_once(void *arg)
{
	int *fd = arg;
	char byte;

	recv_all(*fd, &byte, 1);
	return NULL;
}

static void threads_come_and_go(void)
{
	int fd[2];

	stream_pair(fd);
	for (int i = 0; i < 200; i++) {
		pthread_t thread;

		pthread_create(&thread, NULL, recv_once, &fd[1]);
		if (i % 20 == 0)
			nap_ms(1);
		send_all(fd[0], "x", 1);
		pthread_join(thread, NULL);
	}
	say("200 threads");
}

static void cancelled(void)
{
	pthread_t thread;
	void *ret;
	int fd[2];

	stream_pair(fd);
	pthread_create(&thread, NULL, recv_once, &fd[1]);
	nap_ms(10);
	pthread_cancel(thread);
	pthread_join(thread, &ret);
	say("cancelled: %s", ret == PTHREAD_CANCELED ? "yes" : "no");
	send_all(fd[0], "x", 1);
	pthread_create(&thread, NULL, recv_once, &fd[1]);
	pthread_join(thread, NULL);
	say("alive");
}

const struct call_case cases[] = {
	{ "senders", senders },
	{ "blocked", blocked },
	{ "acceptors", acceptors },
	{ "readers_of_one", readers_of_one },
	{ "everybody_opens", everybody_opens },
	{ "threads_come_and_go", threads_come_and_go },
	{ "cancelled", cancelled },
	{ "closed_by_others", closed_by_others },
};
const size_t case_count = COUNT(cases);
