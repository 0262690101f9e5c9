/* SPDX-License-Identifier: MIT */
/*
 * guest/hybrid.c against a canald that is a thread of the test: what a program sees
 * of a send or recv by reference is what it sees of a copy.
 *
 * The stand-in reads the buffers where they lie, keeps its own table of pages that
 * were pinned, and has a "kernel" that takes so many bytes and has so many to give.
 */
#include "cmocka_begin.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"
#include "hybrid.h"
#include "lock.h"

#define RINGS 16u
#define SLOTS 8u
#define CHUNKS 64u
#define KIB 1024u
#define LEAST (32u * KIB)
#define PAGE 4096u
#define PINS 4096u

/* --- memory of the channel --------------------------------------------- */

static struct canal_region region;
static struct canal_inr ring[RINGS];
static struct canal_wait waits[SLOTS];
static struct canal_call calls[SLOTS];
static struct canal_sock sock;
static uint32_t tx_next[CHUNKS];
static _Alignas(64) uint8_t tx_chunks[CHUNKS * CANAL_CHUNK], rx_chunks[CHUNKS * CANAL_CHUNK];
static uint8_t data[1024 * KIB], got[1024 * KIB];

/* --- the stand-in for canald ------------------------------------------- */

static struct {
	pthread_t thread;
	pthread_mutex_t lock;
	bool stop;
	struct canal_ring_reader reader;
	int pipe[SLOTS];
	uintptr_t pinned[PINS]; /* pages */
	bool pinned_writable[PINS];
	uint32_t pin_count, pin_calls, pin_room;
	int pin_error;
	uint8_t wire[1024 * KIB]; /* what the kernel took */
	size_t wire_len, wire_room;
	const uint8_t *source; /* what the kernel has to give */
	size_t source_len;
	int answer; /* to everything by reference; 0: serve it */
	uint32_t ops[CANAL_INR_OPS];
	uint32_t held; /* wait slot of a SEND_REF under way, or CANAL_NONE */
	size_t held_done;
} host;

static int fake_waiter(struct channel *ch, uint32_t slot, bool nonblock, int *ret_fd)
{
	int ends[2];

	(void)ch;
	(void)nonblock;
	assert_int_equal(pipe(ends), 0);
	host.pipe[slot] = ends[1];
	*ret_fd = ends[0];
	return 0;
}

static int fake_pin(struct channel *ch, uintptr_t address, uint64_t len, bool writable)
{
	(void)ch;
	pthread_mutex_lock(&host.lock);
	host.pin_calls++;
	for (uintptr_t page = address / PAGE; page <= (address + len - 1) / PAGE; page++) {
		uint32_t at = host.pin_count++ % host.pin_room;

		host.pinned[at] = page;
		host.pinned_writable[at] = writable;
	}
	pthread_mutex_unlock(&host.lock);
	return host.pin_error;
}

static void fake_kick(struct channel *ch)
{
	(void)ch;
}

static const struct transport transport_fake = {
	.waiter = fake_waiter,
	.kick = fake_kick,
	.pin = fake_pin,
};

static bool is_pinned(uintptr_t address, bool writable)
{
	uint32_t count = host.pin_count < host.pin_room ? host.pin_count : host.pin_room;

	for (uint32_t i = 0; i < count; i++)
		if (host.pinned[i] == address / PAGE && (!writable || host.pinned_writable[i]))
			return true;
	return false;
}

static void wake(uint32_t slot)
{
	if (canal_take(&waits[slot].armed))
		assert_int_equal(write(host.pipe[slot], "", 1), 1);
}

static void answer(uint32_t slot, int result)
{
	calls[slot].result = result;
	/* C1 release: the result before COMPLETED */
	canal_store_fence(&calls[slot].state, CANAL_INR_COMPLETED);
	wake(slot);
}

static void drain_tx(void)
{
	uint64_t tail = canal_load_acquire(&sock.tx.tail);

	while (sock.tx.head != tail && host.wire_len < host.wire_room) {
		(void)canal_fifo_peek(sock.tx.chunk, &the_channel.tx, sock.tx.head,
				      &host.wire[host.wire_len++], 1);
		canal_store_fence(&sock.tx.head, sock.tx.head + 1);
	}
	if (sock.tx.head == tail && canal_take(&sock.tx.want_room))
		for (uint32_t slot = 0; slot < SLOTS; slot++)
			wake(slot);
}

/* Bytes between the kernel and pages of @ref from @skip on, as far as it goes. */
static size_t move(struct canal_ref *ref, size_t skip, bool in, size_t most)
{
	size_t done = 0;

	for (uint32_t i = 0; i < ref->count; i++) {
		for (uint64_t at = 0; at < ref->piece[i].len; at++) {
			uint8_t *byte = (uint8_t *)(uintptr_t)(ref->piece[i].address + at);

			if (skip) {
				skip--;
				continue;
			}
			if (done == most)
				return done;
			if (!is_pinned((uintptr_t)byte, in)) {
				ref->miss = (uintptr_t)byte;
				return done;
			}
			if (in)
				*byte = host.source[done];
			else
				host.wire[host.wire_len++] = *byte;
			done++;
		}
	}
	return done;
}

static uint64_t length_of(const struct canal_ref *ref)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < ref->count; i++)
		total += ref->piece[i].len;
	return total;
}

static void serve_send(uint32_t slot)
{
	struct canal_ref *ref = (void *)calls[slot].data;
	size_t total = length_of(ref);

	drain_tx();
	if (sock.tx.head == sock.tx.tail)
		host.held_done += move(ref, host.held_done, false, host.wire_room - host.wire_len);
	if (host.held_done == total || ref->miss) {
		answer(slot, host.held_done ? (int)host.held_done : -EFAULT);
		host.held = CANAL_NONE;
	} else if (ref->flags & CANAL_REF_DONTWAIT) {
		answer(slot, host.held_done ? (int)host.held_done : -EAGAIN);
		host.held = CANAL_NONE;
	}
}

/* First RX, byte by byte, then the kernel. */
static void serve_recv(uint32_t slot)
{
	struct canal_ref *ref = (void *)calls[slot].data;
	static uint8_t all[1024 * KIB];
	size_t ready = sock.rx.tail - sock.rx.head, done;

	(void)canal_fifo_peek(sock.rx.chunk, &the_channel.rx, sock.rx.head, all, ready);
	memcpy(all + ready, host.source, host.source_len);
	host.source = all;
	done = move(ref, 0, true, ready + host.source_len);
	ref->taken = done < ready ? done : ready;
	host.source = all + ready;
	answer(slot, done ? (int)done : ref->miss ? -EFAULT : -EAGAIN);
}

static void serve(const struct canal_inr *inr)
{
	host.ops[inr->op]++;
	if (host.answer && (inr->op == CANAL_INR_SEND_REF || inr->op == CANAL_INR_RECV_REF)) {
		answer(inr->slot, host.answer);
	} else if (inr->op == CANAL_INR_SEND_REF) {
		host.held = inr->slot;
		host.held_done = 0;
	} else if (inr->op == CANAL_INR_RECV_REF) {
		serve_recv(inr->slot);
	} else if (inr->op == CANAL_INR_REF_STOP && inr->u.arg[0] == host.held) {
		answer(host.held, host.held_done ? (int)host.held_done : -EAGAIN);
		host.held = CANAL_NONE;
	}
}

static void *host_run(void *unused)
{
	struct canal_inr inr;
	bool stop = false;

	(void)unused;
	while (!stop) {
		pthread_mutex_lock(&host.lock);
		stop = host.stop;
		while (canal_ring_next(ring, RINGS, &host.reader, &inr) == CANAL_RING_GOT) {
			serve(&inr);
			canal_ring_free(ring, RINGS, &host.reader, canal_inr_pos(inr.state));
		}
		if (host.held != CANAL_NONE)
			serve_send(host.held);
		else
			drain_tx();
		pthread_mutex_unlock(&host.lock);
		usleep(100);
	}
	return NULL;
}

/* --- each test --------------------------------------------------------- */

static int begin(void **state)
{
	struct channel *ch = &the_channel;

	(void)state;
	memset(&region, 0, sizeof(region));
	memset(waits, 0, sizeof(waits));
	memset(&sock, 0, sizeof(sock));
	memset(&host, 0, sizeof(host));
	for (uint32_t i = 0; i < RINGS; i++)
		ring[i].state = canal_inr_state(i, 0, CANAL_INR_FREE);
	canal_fifo_init(&sock.tx, 64 * KIB);
	canal_fifo_init(&sock.rx, 256 * KIB);
	sock.state = CANAL_SOCK_CONNECTED;
	sock.type = SOCK_STREAM;
	*ch = (struct channel){
		.region = &region,
		.inr = ring,
		.inr_count = RINGS,
		.wait = waits,
		.wait_count = SLOTS,
		.call = calls,
		.sock = (void *)&sock,
		.sock_count = 1,
		.sock_stride = sizeof(sock),
		.tx = { tx_chunks, CHUNKS },
		.rx = { rx_chunks, CHUNKS },
		.tx_pool = { .head = &region.tx_free,
			     .used = &region.tx_used,
			     .count = CHUNKS,
			     .link = (void *)tx_next,
			     .stride = sizeof(tx_next[0]) },
		.via = &transport_fake,
		.client = 1,
		.ref_min = LEAST,
		.ref_most = 256 * KIB,
	};
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 31 + i / 251);
	memset(got, 0, sizeof(got));
	host.held = CANAL_NONE;
	host.wire_room = sizeof(host.wire);
	host.pin_room = PINS;
	pthread_mutex_init(&host.lock, NULL);
	wait_after_fork(); /* the thread's wait slot was one of the test before */
	return pthread_create(&host.thread, NULL, host_run, NULL);
}

static int end(void **state)
{
	(void)state;
	pthread_mutex_lock(&host.lock);
	host.stop = true;
	pthread_mutex_unlock(&host.lock);
	return pthread_join(host.thread, NULL);
}

static ssize_t send_bytes(size_t from, size_t len, int flags)
{
	const struct iovec iov = { data + from, len };

	return stream_send(&sock, 0, &iov, 1, flags);
}

static ssize_t recv_bytes(size_t len, int flags)
{
	const struct iovec iov = { got, len };

	return stream_recv(&sock, 0, &iov, 1, flags);
}

/* The kernel took the first @len bytes of data, in order, and no more. */
static void wire_is(size_t len)
{
	for (unsigned int i = 0; i < 10000 && canal_read_once(&host.wire_len) < len; i++)
		usleep(1000);
	pthread_mutex_lock(&host.lock);
	assert_int_equal(host.wire_len, len);
	assert_memory_equal(host.wire, data, len);
	pthread_mutex_unlock(&host.lock);
}

static void send_follows_what_is_in_tx(void **state)
{
	(void)state;
	assert_int_equal(send_bytes(0, 100, 0), 100);
	assert_int_equal(send_bytes(100, 600 * KIB, 0), 600 * KIB);
	assert_int_equal(send_bytes(100 + 600 * KIB, 50, 0), 50);
	wire_is(600 * KIB + 150);
	assert_int_equal(sock.tx.tail, 150);
	assert_true(host.pin_calls >= 3);
}

static void send_below_the_threshold_is_copied(void **state)
{
	(void)state;
	assert_int_equal(send_bytes(0, LEAST - 1, 0), LEAST - 1);
	wire_is(LEAST - 1);
	assert_int_equal(host.ops[CANAL_INR_SEND_REF], 0);
}

static void send_of_many_pieces(void **state)
{
	struct iovec iov[200];

	(void)state;
	for (size_t i = 0; i < 200; i++)
		iov[i] = (struct iovec){ data + i * 1000, 1000 };
	iov[199].iov_len = 0;
	assert_int_equal(stream_send(&sock, 0, iov, 200, 0), 199000);
	wire_is(199000);
	assert_int_equal(sock.tx.tail, 0);
}

static void pages_pinned_once_are_not_pinned_again(void **state)
{
	uint32_t before;

	(void)state;
	assert_int_equal(send_bytes(0, 100 * KIB, 0), 100 * KIB);
	before = host.pin_calls;
	host.wire_len = 0;
	assert_int_equal(send_bytes(0, 100 * KIB, 0), 100 * KIB);
	assert_int_equal(host.pin_calls, before);
	wire_is(100 * KIB);
}

/* The table holds fewer pages than the send needs. */
static void pins_that_do_not_last_end_in_a_copy(void **state)
{
	(void)state;
	host.pin_room = 3;
	assert_int_equal(send_bytes(0, 200 * KIB, 0), 200 * KIB);
	wire_is(200 * KIB);
}

static void bad_buffer_is_efault(void **state)
{
	(void)state;
	host.pin_error = -EFAULT;
	host.pin_room = 1;
	assert_int_equal(send_bytes(PAGE, 100 * KIB, 0), -EFAULT);
	assert_int_equal(sock.tx.tail, 0);
}

static void pins_refused_end_in_a_copy(void **state)
{
	(void)state;
	host.pin_error = -EDQUOT;
	host.pin_room = 1;
	assert_int_equal(send_bytes(0, 100 * KIB, 0), 100 * KIB);
	wire_is(100 * KIB);
	assert_int_equal(sock.tx.tail, 100 * KIB);
}

static void no_translation_is_remembered(void **state)
{
	(void)state;
	host.answer = -EOPNOTSUPP;
	assert_int_equal(send_bytes(0, 100 * KIB, 0), 100 * KIB);
	wire_is(100 * KIB);
	assert_true(the_channel.ref_min == SIZE_MAX);
	assert_int_equal(host.ops[CANAL_INR_SEND_REF], 1);
}

/* The kernel takes some, TX takes what fits, and then it is not writable. */
static void nonblocking_send_fills_tx_with_the_rest(void **state)
{
	(void)state;
	host.wire_room = 40 * KIB;
	assert_int_equal(send_bytes(0, 200 * KIB, MSG_DONTWAIT), (40 + 64) * KIB);
	assert_int_equal(send_bytes(0, 200 * KIB, MSG_DONTWAIT), -EAGAIN);
	assert_false(sock_events(&sock, POLLOUT) & POLLOUT);
	host.wire_room = sizeof(host.wire);
	wire_is((40 + 64) * KIB);
	assert_true(sock_events(&sock, POLLOUT) & POLLOUT);
}

static void blocked_send_goes_on_when_there_is_room(void **state)
{
	(void)state;
	host.wire_room = 40 * KIB;
	sock.sndtimeo_ns = 20000000;
	assert_int_equal(send_bytes(0, 200 * KIB, 0), 40 * KIB);
	assert_int_equal(host.ops[CANAL_INR_REF_STOP], 1);
	assert_int_equal(send_bytes(40 * KIB, 200 * KIB, 0), -EAGAIN);
	host.wire_room = sizeof(host.wire);
	sock.sndtimeo_ns = 0;
	assert_int_equal(send_bytes(40 * KIB, 200 * KIB, 0), 200 * KIB);
	wire_is(240 * KIB);
}

static void nothing_is_held(void)
{
	pthread_mutex_lock(&host.lock);
	assert_int_equal(host.held, CANAL_NONE);
	pthread_mutex_unlock(&host.lock);
}

static void do_nothing(int number)
{
	(void)number;
}

static void *kick_main(void *thread)
{
	usleep(50000);
	pthread_kill(*(pthread_t *)thread, SIGUSR1);
	return NULL;
}

static void signal_interrupts_a_blocked_send(void **state)
{
	const struct sigaction action = { .sa_handler = do_nothing };
	pthread_t self = pthread_self(), other;

	(void)state;
	sigaction(SIGUSR1, &action, NULL);
	host.wire_room = 0;
	pthread_create(&other, NULL, kick_main, &self);
	assert_int_equal(send_bytes(0, 200 * KIB, 0), -EINTR);
	pthread_join(other, NULL);
	nothing_is_held();
	host.wire_room = 1000;
	pthread_create(&other, NULL, kick_main, &self);
	assert_int_equal(send_bytes(0, 200 * KIB, 0), 1000);
	pthread_join(other, NULL);
}

static void *send_for_ever(void *unused)
{
	(void)unused;
	(void)send_bytes(0, 200 * KIB, 0);
	return NULL;
}

static void cancelled_thread_leaves_no_call_behind(void **state)
{
	pthread_t thread;

	(void)state;
	host.wire_room = 1000;
	pthread_create(&thread, NULL, send_for_ever, NULL);
	usleep(50000);
	assert_int_equal(canal_read_once(&host.wire_len), 1000);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	assert_int_equal(host.ops[CANAL_INR_REF_STOP], 1);
	nothing_is_held();
}

static void broken_connection_is_epipe(void **state)
{
	(void)state;
	host.answer = -ECONNRESET;
	sock.rx.closed = CANAL_CLOSED_RESET;
	assert_int_equal(send_bytes(0, 100 * KIB, MSG_NOSIGNAL), -EPIPE);
	sock.so_error = ECONNRESET;
	assert_int_equal(send_bytes(0, 100 * KIB, MSG_NOSIGNAL), -ECONNRESET);
}

/* --- receiving --------------------------------------------------------- */

static void fill_rx(size_t len)
{
	for (size_t i = 0; i < (len + CANAL_CHUNK - 1) / CANAL_CHUNK; i++)
		sock.rx.chunk[i] = (uint32_t)i;
	memcpy(rx_chunks, data, len);
	canal_store_release(&sock.rx.tail, len);
}

static void recv_takes_rx_then_the_kernel(void **state)
{
	(void)state;
	fill_rx(50 * KIB);
	host.source = data + 50 * KIB;
	host.source_len = 100 * KIB;
	assert_int_equal(recv_bytes(400 * KIB, 0), 150 * KIB);
	assert_memory_equal(got, data, 150 * KIB);
	assert_int_equal(sock.rx.head, 50 * KIB);
	assert_int_equal(host.ops[CANAL_INR_RECV_REF], 2); /* before and behind the pin */
}

static void recv_of_little_is_copied(void **state)
{
	(void)state;
	fill_rx(1000);
	host.source = data;
	assert_int_equal(recv_bytes(400 * KIB, 0), 1000);
	assert_memory_equal(got, data, 1000);
	assert_int_equal(host.ops[CANAL_INR_RECV_REF], 0);
}

static void peek_is_copied(void **state)
{
	(void)state;
	fill_rx(50 * KIB);
	host.source = data;
	assert_int_equal(recv_bytes(400 * KIB, MSG_PEEK), 50 * KIB);
	assert_memory_equal(got, data, 50 * KIB);
	assert_int_equal(sock.rx.head, 0);
	assert_int_equal(host.ops[CANAL_INR_RECV_REF], 0);
}

static void recv_into_a_bad_buffer_is_efault(void **state)
{
	(void)state;
	fill_rx(50 * KIB);
	host.source = data;
	host.pin_error = -EFAULT;
	host.pin_room = 1;
	assert_int_equal(recv_bytes(400 * KIB, 0), -EFAULT);
	assert_int_equal(sock.rx.head, 0);
}

static void recv_without_translation_is_copied(void **state)
{
	(void)state;
	fill_rx(50 * KIB);
	host.answer = -EOPNOTSUPP;
	assert_int_equal(recv_bytes(400 * KIB, 0), 50 * KIB);
	assert_memory_equal(got, data, 50 * KIB);
	assert_int_equal(sock.rx.head, 50 * KIB);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(send_follows_what_is_in_tx),
		CASE(send_below_the_threshold_is_copied),
		CASE(send_of_many_pieces),
		CASE(pages_pinned_once_are_not_pinned_again),
		CASE(pins_that_do_not_last_end_in_a_copy),
		CASE(bad_buffer_is_efault),
		CASE(pins_refused_end_in_a_copy),
		CASE(no_translation_is_remembered),
		CASE(nonblocking_send_fills_tx_with_the_rest),
		CASE(blocked_send_goes_on_when_there_is_room),
		CASE(signal_interrupts_a_blocked_send),
		CASE(cancelled_thread_leaves_no_call_behind),
		CASE(broken_connection_is_epipe),
		CASE(recv_takes_rx_then_the_kernel),
		CASE(recv_of_little_is_copied),
		CASE(peek_is_copied),
		CASE(recv_into_a_bad_buffer_is_efault),
		CASE(recv_without_translation_is_copied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
