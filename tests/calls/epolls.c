/* SPDX-License-Identifier: MIT */
/* epoll: level, edge, oneshot, mixed with the kernel's descriptors, several sets. */
#include "calls.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

static char data[4096];

static int set_of(int fd, uint32_t events)
{
	int set = NEED(epoll_create1(EPOLL_CLOEXEC));
	struct epoll_event ev = { .events = events, .data.u64 = 0x1234567800000000ull + fd };

	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev));
	return set;
}

/* Waits and tells what came, in the order of the numbers in data. */
static int collect(const char *what, int set, int limit)
{
	struct epoll_event ev[16];
	int count = NEED(epoll_wait(set, ev, COUNT(ev), limit));

	say("%s: %d", what, count);
	for (uint32_t bit = 0; bit < 64; bit++)
		for (int i = 0; i < count; i++)
			if ((ev[i].data.u64 & 63) == bit)
				say_events("  event", ev[i].events);
	return count;
}

/* Asks often: who serves many may look at some of them now and then only. */
static void gather(const char *what, int set)
{
	uint32_t seen[64] = { 0 };
	struct epoll_event ev[16];

	for (int i = 0; i < 64; i++)
		for (int n = NEED(epoll_wait(set, ev, COUNT(ev), i ? 0 : 5000)); n > 0; n--)
			seen[ev[n - 1].data.u64 & 63] |= ev[n - 1].events;
	say("%s", what);
	for (int i = 0; i < 64; i++)
		if (seen[i])
			say_events("  event", seen[i]);
}

static void level(void)
{
	int fd[2], set;

	stream_pair(fd);
	set = set_of(fd[0], EPOLLIN);
	collect("nothing", set, 0);
	send_all(fd[1], "abc", 3);
	collect("arrived", set, 5000);
	collect("still", set, 0);
	TELL(recv(fd[0], data, 1, 0));
	collect("still", set, 0);
	TELL(recv(fd[0], data, sizeof(data), 0));
	collect("empty", set, 0);
	send_all(fd[1], "d", 1);
	collect("again", set, 5000);
	close(fd[1]);
	calls_wait(fd[0], POLLRDHUP);
	collect("ended", set, 5000);
	TELL(recv(fd[0], data, sizeof(data), 0));
	TELL(recv(fd[0], data, sizeof(data), 0));
	collect("ended", set, 0);
}

static void edge(void)
{
	int fd[2], set;

	stream_pair(fd);
	set = set_of(fd[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
	collect("writable", set, 5000);
	collect("told", set, 0);
	send_all(fd[1], "abc", 3);
	wait_bytes(fd[0], 3);
	collect("arrived", set, 5000);
	collect("told", set, 20);
	send_all(fd[1], "d", 1); /* more, although the rest was not read */
	wait_bytes(fd[0], 4);
	collect("more", set, 5000);
	collect("told", set, 20);
	TELL(recv(fd[0], data, sizeof(data), 0));
	collect("empty", set, 20);
	send_all(fd[1], "e", 1);
	wait_bytes(fd[0], 1);
	collect("again", set, 5000);
	TELL(shutdown(fd[1], SHUT_WR));
	calls_wait(fd[0], POLLRDHUP);
	collect("end", set, 5000);
	collect("told", set, 20);
	close(fd[0]);
	collect("closed", set, 20);
}

static void oneshot(void)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT };
	int fd[2], set;

	stream_pair(fd);
	set = set_of(fd[0], EPOLLIN | EPOLLONESHOT);
	send_all(fd[1], "abc", 3);
	collect("first", set, 5000);
	collect("disarmed", set, 0);
	send_all(fd[1], "d", 1);
	wait_bytes(fd[0], 4);
	collect("disarmed", set, 20);
	NEED(epoll_ctl(set, EPOLL_CTL_MOD, fd[0], &ev));
	collect("armed", set, 5000);
	collect("disarmed", set, 0);
	TELL(recv(fd[0], data, sizeof(data), 0));
	NEED(epoll_ctl(set, EPOLL_CTL_MOD, fd[0], &ev));
	collect("empty", set, 0);
	close(fd[1]);
	collect("ended", set, 5000);
	collect("disarmed", set, 20);
}

static void control(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int fd[2], set = NEED(epoll_create1(0)), pipes[2], file = NEED(open("/dev/null", O_RDWR));
	volatile int less = -1; /* for gcc a constant would be an error */

	stream_pair(fd);
	NEED(pipe(pipes));
	TELL(epoll_create(0));
	TELL(epoll_create1(77));
	TELL(fcntl(set, F_GETFD));
	TELL(epoll_ctl(set, EPOLL_CTL_MOD, fd[0], &ev));
	TELL(epoll_ctl(set, EPOLL_CTL_DEL, fd[0], &ev));
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &ev));
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &ev));
	TELL(epoll_ctl(set, 99, fd[0], &ev));
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, -1, &ev));
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, set, &ev));
	TELL(epoll_ctl(-1, EPOLL_CTL_ADD, fd[0], &ev));
	TELL(epoll_ctl(fd[0], EPOLL_CTL_ADD, fd[1], &ev));
	TELL(epoll_ctl(pipes[0], EPOLL_CTL_ADD, fd[1], &ev));
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, pipes[0], &ev));
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, file, &ev));
	TELL(epoll_ctl(set, EPOLL_CTL_DEL, fd[0], NULL));
	TELL(epoll_ctl(set, EPOLL_CTL_DEL, fd[0], NULL));
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &ev));
	ev.events = EPOLLOUT;
	TELL(epoll_ctl(set, EPOLL_CTL_MOD, fd[0], &ev));
	collect("writable", set, 5000);
	ev.events = 0;
	TELL(epoll_ctl(set, EPOLL_CTL_MOD, fd[0], &ev));
	collect("nothing asked", set, 0);
	close(fd[1]);
	nap_ms(5);
	collect("nothing asked", set, 0);
	TELL(epoll_wait(set, &ev, 0, 0));
	TELL(epoll_wait(set, &ev, less, 0));
	TELL(epoll_wait(-1, &ev, 1, 0));
	TELL(epoll_wait(fd[0], &ev, 1, 0));
	close(set);
	TELL(epoll_wait(set, &ev, 1, 0));
}

static void mixed(void)
{
	int fd[2], udp[2], pipes[2], counter = NEED(eventfd(0, 0)), set;
	struct epoll_event ev = { .events = EPOLLIN };

	stream_pair(fd);
	dgram_pair(udp);
	NEED(pipe(pipes));
	set = set_of(counter, EPOLLIN);
	ev.data.u32 = 1;
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &ev));
	ev.data.u32 = 2;
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, pipes[0], &ev));
	ev.data.u32 = 3;
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, udp[0], &ev));
	collect("none", set, 0);
	(void)!write(pipes[1], "x", 1);
	gather("pipe", set);
	send_all(fd[1], "x", 1);
	wait_bytes(fd[0], 1);
	gather("pipe, stream", set);
	send_all(udp[1], "x", 1);
	wait_bytes(udp[0], 1);
	gather("pipe, stream, datagram", set);
	NEED(eventfd_write(counter, 1));
	gather("all", set);
	TELL(read(pipes[0], data, 1));
	TELL(recv(fd[0], data, 1, 0));
	gather("datagram, eventfd", set);
	TELL(recv(udp[0], data, 1, 0));
	TELL(read(counter, data, 8));
	collect("none", set, 10);
}

/* Few places in the array: nobody starves. */
static void few_places(void)
{
	int pair[6][2], pipes[2], set = NEED(epoll_create1(0)), seen[8] = { 0 };
	struct epoll_event ev = { .events = EPOLLIN };

	NEED(pipe(pipes));
	for (uint32_t i = 0; i < 6; i++) {
		stream_pair(pair[i]);
		ev.data.u32 = i;
		NEED(epoll_ctl(set, EPOLL_CTL_ADD, pair[i][0], &ev));
		send_all(pair[i][1], "x", 1);
		wait_bytes(pair[i][0], 1);
	}
	ev.data.u32 = 6;
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, pipes[0], &ev));
	(void)!write(pipes[1], "x", 1);
	for (int i = 0; i < 28; i++)
		if (NEED(epoll_wait(set, &ev, 1, 5000)) == 1)
			seen[ev.data.u32 & 7]++;
	for (int i = 0; i < 7; i++)
		say("%d was seen: %s", i, seen[i] >= 2 ? "yes" : "no");
}

static void limits(void)
{
	struct timespec ts = { .tv_nsec = 20000000 };
	struct epoll_event ev;
	int fd[2], set, times[] = { 0, 1, 25 };
	int64_t begin;

	stream_pair(fd);
	set = set_of(fd[0], EPOLLIN);
	for (size_t i = 0; i < COUNT(times); i++) {
		begin = now_ms();
		TELL(epoll_wait(set, &ev, 1, times[i]));
		begin = now_ms() - begin;
		say("%s", begin >= times[i] && begin < times[i] + 5000 ? "in time" : "not in time");
	}
	begin = now_ms();
	TELL(epoll_pwait(set, &ev, 1, 20, NULL));
	TELL(epoll_pwait2(set, &ev, 1, &ts, NULL));
	begin = now_ms() - begin;
	say("%s", begin >= 40 && begin < 5000 ? "in time" : "not in time");
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
	(void)number;
	signals++;
}

static void masks(void)
{
	struct sigaction action = { .sa_handler = count_signal };
	struct epoll_event ev;
	sigset_t block, none;
	int fd[2], set;

	stream_pair(fd);
	set = set_of(fd[0], EPOLLIN);
	sigaction(SIGUSR1, &action, NULL);
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, NULL);
	raise(SIGUSR1);
	TELL(epoll_wait(set, &ev, 1, 10));
	say("signals %d", signals);
	TELL(epoll_pwait(set, &ev, 1, 5000, &none));
	say("signals %d", signals);
}

/* Both of a socket that is in a set twice: one may be told of a moment before the other. */
static void wait_events(int set, int count)
{
	struct epoll_event ev[16];

	for (int64_t end = now_ms() + 5000; now_ms() < end; nap_ms(1))
		if (NEED(epoll_wait(set, ev, COUNT(ev), 5000)) >= count)
			return;
}

/* One socket in two sets, and twice in one by dup(). */
static void two_sets(void)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 9 };
	int fd[2], copy, a, b;

	stream_pair(fd);
	copy = NEED(dup(fd[0]));
	a = set_of(fd[0], EPOLLIN);
	b = set_of(fd[0], EPOLLIN | EPOLLET);
	TELL(epoll_ctl(a, EPOLL_CTL_ADD, copy, &ev));
	send_all(fd[1], "abc", 3);
	wait_bytes(fd[0], 3);
	collect("a", a, 5000);
	collect("b", b, 5000);
	collect("a", a, 5000);
	collect("b", b, 10);
	TELL(recv(fd[0], data, 3, 0));
	collect("a", a, 0);
	send_all(fd[1], "d", 1);
	wait_bytes(fd[0], 1);
	wait_events(a, 2);
	collect("a", a, 5000);
	collect("b", b, 5000);
	TELL(epoll_ctl(a, EPOLL_CTL_DEL, copy, NULL));
	collect("a", a, 5000);
	/* A set keeps a socket while any descriptor is open. */
	NEED(epoll_ctl(a, EPOLL_CTL_DEL, fd[0], NULL));
	NEED(epoll_ctl(a, EPOLL_CTL_ADD, copy, &ev));
	close(fd[0]);
	collect("a", a, 5000);
	TELL(recv(copy, data, 1, 0));
	close(copy);
	collect("a", a, 10);
	collect("b", b, 10);
}

/* What watches a set may be woken for nothing now and then, but not for ever. */
static void say_quiet(int outer, int inner)
{
	struct epoll_event ev;
	int quiet = 0, i;

	for (i = 0; i < 1000 && quiet < 10; i++, nap_ms(1)) {
		quiet = NEED(epoll_wait(outer, &ev, 1, 0)) ? 0 : quiet + 1;
		if (NEED(epoll_wait(inner, &ev, 1, 0)))
			say("the inner set has an event");
	}
	say("%s", i < 1000 ? "quiet" : "never quiet");
}

/* A set in a set, and in poll and select. */
static void nested(void)
{
	int fd[2], inner, outer;

	stream_pair(fd);
	inner = set_of(fd[0], EPOLLIN);
	outer = set_of(inner, EPOLLIN);
	say_events("poll", events_now(inner, POLLIN | POLLOUT));
	say_quiet(outer, inner);
	send_all(fd[1], "x", 1);
	say_events("poll", calls_wait(inner, POLLIN));
	collect("outer", outer, 5000);
	collect("inner", inner, 5000);
	TELL(recv(fd[0], data, 1, 0));
	say_events("poll", events_now(inner, POLLIN));
	say_quiet(outer, inner);
}

static void connecting(void)
{
	struct name name;
	int fd = listener(&name), c = NEED(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0)), a, set,
	    in;

	set = set_of(c, EPOLLIN | EPOLLOUT | EPOLLET);
	in = set_of(fd, EPOLLIN);
	collect("fresh", set, 0);
	collect("no connection", in, 0);
	TELL(connect(c, sa(&name), name.len));
	collect("connected", set, 5000);
	collect("to be accepted", in, 5000);
	a = NEED(accept(fd, NULL, NULL));
	collect("accepted", in, 0);
	send_all(a, "x", 1);
	wait_bytes(c, 1);
	collect("arrived", set, 5000);
	close(fd);
	close(c);
	c = NEED(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
	set = set_of(c, EPOLLOUT);
	if (connect(c, sa(&name), name.len) < 0 && errno != EINPROGRESS)
		say("%s", strerrorname_np(errno));
	calls_wait(c, POLLOUT);
	collect("refused", set, 5000);
}

struct echo {
	int set, stop;
	uint64_t total;
};

/* Serves whatever the shared set says, one event at a time. */
static void *serve(void *arg)
{
	struct echo *e = arg;
	struct epoll_event ev;
	char buf[256];

	while (epoll_wait(e->set, &ev, 1, 5000) == 1) {
		int fd = ev.data.fd;
		ssize_t got;

		if (fd == e->stop)
			break;
		got = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (got > 0) {
			send_all(fd, buf, got);
			__atomic_fetch_add(&e->total, got, __ATOMIC_RELAXED);
		}
		if (got == 0)
			continue; /* stays disarmed */
		ev.events = EPOLLIN | EPOLLONESHOT;
		NEED(epoll_ctl(e->set, EPOLL_CTL_MOD, fd, &ev));
	}
	return NULL;
}

/* Four threads wait on one set; each connection is served by one at a time. */
static void threads_on_one_set(void)
{
	enum { PAIRS = 8, THREADS = 4, ROUNDS = 100 };
	struct echo e = { .set = NEED(epoll_create1(0)), .stop = NEED(eventfd(0, 0)) };
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = e.stop };
	pthread_t thread[THREADS];
	int fd[PAIRS][2];

	NEED(epoll_ctl(e.set, EPOLL_CTL_ADD, e.stop, &ev));
	for (int i = 0; i < PAIRS; i++) {
		stream_pair(fd[i]);
		ev = (struct epoll_event){ .events = EPOLLIN | EPOLLONESHOT, .data.fd = fd[i][1] };
		NEED(epoll_ctl(e.set, EPOLL_CTL_ADD, fd[i][1], &ev));
	}
	for (int i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, serve, &e);
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < PAIRS; i++)
			send_all(fd[i][0], "question", 8);
		for (int i = 0; i < PAIRS; i++)
			recv_all(fd[i][0], data, 8);
	}
	NEED(eventfd_write(e.stop, 1));
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	say("echoed %llu", (unsigned long long)e.total);
}

/* Members that come and go, also while there are events of theirs. */
static void members_change(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int set = NEED(epoll_create1(0));

	for (int i = 0; i < 300; i++) {
		int fd[2];

		stream_pair(fd);
		NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &ev));
		send_all(fd[1], "x", 1);
		if (i % 3 == 0 && NEED(epoll_wait(set, &ev, 1, 5000)) != 1)
			say("missing");
		if (i % 2)
			NEED(epoll_ctl(set, EPOLL_CTL_DEL, fd[0], NULL));
		close(fd[0]);
		close(fd[1]);
		ev.events = EPOLLIN;
	}
	collect("none left", set, 10);
}

const struct call_case cases[] = {
	{ "level", level },
	{ "edge", edge },
	{ "oneshot", oneshot },
	{ "control", control },
	{ "mixed", mixed },
	{ "few_places", few_places },
	{ "limits", limits },
	{ "masks", masks },
	{ "two_sets", two_sets },
	{ "nested", nested },
	{ "connecting", connecting },
	{ "threads_on_one_set", threads_on_one_set },
	{ "members_change", members_change },
};
const size_t case_count = COUNT(cases);
