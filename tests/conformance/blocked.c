/* SPDX-License-Identifier: MIT */
/* Threads that wait in calls: what wakes them, what interrupts them, and with what. */
#include "conformance.h"

#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

struct waiter {
	pthread_t thread;
	volatile pid_t tid;
	int fd;
	long (*call)(int fd);
	long result;
	int error;
	volatile bool done;
};

static void *run(void *arg)
{
	struct waiter *w = arg;

	w->tid = (pid_t)syscall(SYS_gettid);
	errno = 0;
	w->result = w->call(w->fd);
	w->error = errno;
	w->done = true;
	return NULL;
}

/* Starts a thread in @call, and waits until it sleeps there. */
static struct waiter *blocked(int fd, long (*call)(int fd))
{
	struct waiter *w = calloc(1, sizeof(*w));

	w->fd = fd;
	w->call = call;
	NEED(-pthread_create(&w->thread, NULL, run, w));
	while (!w->tid)
		nap_ms(1);
	wait_asleep(w->tid);
	if (w->done)
		say("did not wait");
	return w;
}

static bool is_done(void *arg)
{
	return ((struct waiter *)arg)->done;
}

static void say_woken(const char *what, struct waiter *w)
{
	wait_for(is_done, w, what);
	if (!w->done)
		return;
	pthread_join(w->thread, NULL);
	errno = w->error;
	say_result(what, w->result);
}

static void say_asleep(const char *what, struct waiter *w)
{
	nap_ms(30);
	say("%s: %s", what, w->done ? "woken" : "sleeps on");
}

static long do_recv(int fd)
{
	char c;

	return recv(fd, &c, 1, 0);
}

static long do_read(int fd)
{
	char c;

	return read(fd, &c, 1);
}

static long do_recvmsg(int fd)
{
	char c;
	struct iovec iov = { &c, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	return recvmsg(fd, &m, 0);
}

static long do_send(int fd)
{
	static char block[32 << 20];
	long sent = send(fd, block, sizeof(block), MSG_NOSIGNAL);

	return sent > 0 && sent < (long)sizeof(block) ? 1 : sent;
}

static long do_accept(int fd)
{
	int got = accept(fd, NULL, NULL);

	return got < 0 ? -1 : 0;
}

static long do_poll(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLRDHUP };

	return poll(&p, 1, -1) == 1 ? p.revents : -1;
}

static long do_select(int fd)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	return select(fd + 1, &set, NULL, NULL, NULL);
}

static long do_epoll(int fd)
{
	int set = epoll_create1(0);
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP };

	epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
	return epoll_wait(set, &event, 1, -1) == 1 ? (long)event.events : -1;
}

/* --- shutdown and the peer --------------------------------------------- */

static void shutdown_wakes_recv(void)
{
	int fd = connected(1);
	struct waiter *w = blocked(fd, do_recv);

	TELL(shutdown(fd, SHUT_RD));
	say_woken("recv", w);
}

static void shutdown_write_does_not_wake_recv(void)
{
	int fd = connected(1);
	struct waiter *w = blocked(fd, do_recv);

	TELL(shutdown(fd, SHUT_WR));
	say_asleep("recv", w);
	TELL(shutdown(fd, SHUT_RD));
	say_woken("recv", w);
}

static void shutdown_wakes_send(void)
{
	int fd = connected(1);
	struct waiter *w = blocked(fd, do_send);

	TELL(shutdown(fd, SHUT_WR));
	say_woken("send", w);
}

static void reset_wakes_send(void)
{
	int fd = connected(1);
	struct waiter *w = blocked(fd, do_send);

	peer_must("reset 1");
	say_woken("send", w);
	say_result("next", send(fd, "x", 1, MSG_NOSIGNAL));
}

static void reset_wakes_recv(void)
{
	int fd = connected(1);
	struct waiter *w = blocked(fd, do_recv);

	peer_must("reset 1");
	say_woken("recv", w);
}

static void end_wakes_recv(void)
{
	int fd = connected(1);
	struct waiter *w = blocked(fd, do_read);

	peer_must("close 1");
	say_woken("read", w);
}

static void shutdown_wakes_accept(void)
{
	struct name name;
	int fd = listener(&name);
	struct waiter *w = blocked(fd, do_accept);

	TELL(shutdown(fd, SHUT_RDWR));
	say_woken("accept", w);
}

static void shutdown_wakes_poll(void)
{
	int fd = connected(1);
	struct waiter *w = blocked(fd, do_poll), *s = blocked(fd, do_select),
		      *e = blocked(fd, do_epoll);

	TELL(shutdown(fd, SHUT_RD));
	say_woken("poll", w);
	say_woken("select", s);
	say_woken("epoll", e);
}

static void shutdown_wakes_poll_of_listener(void)
{
	struct name name;
	int fd = listener(&name);
	struct waiter *w = blocked(fd, do_poll), *e = blocked(fd, do_epoll);

	TELL(shutdown(fd, SHUT_RDWR));
	say_woken("poll", w);
	say_woken("epoll", e);
}

static void shutdown_wakes_dgram(void)
{
	int fd = dgram_with(1);
	struct waiter *w = blocked(fd, do_recv);

	TELL(shutdown(fd, SHUT_RD));
	say_woken("recv", w);
}

/* A connect that gets no answer: the listener's queue is full. */
static int unanswered(struct name *ret_name)
{
	struct name name = peer_name(peer_must("listen 62 %d 0", family));
	int filler = NEED(socket(family, SOCK_STREAM, 0));

	NEED(connect(filler, sa(&name), name.len));
	*ret_name = name;
	return NEED(socket(family, SOCK_STREAM, 0));
}

static struct name connect_to;

static long do_connect(int fd)
{
	return connect(fd, sa(&connect_to), connect_to.len);
}

static void shutdown_wakes_connect(void)
{
	int fd = unanswered(&connect_to);
	struct waiter *w = blocked(fd, do_connect);

	TELL(shutdown(fd, SHUT_RDWR));
	say_woken("connect", w);
}

static void signal_interrupts_connect(void)
{
	int fd = unanswered(&connect_to);
	struct waiter *w = blocked(fd, do_connect);

	count_signal(SIGUSR1, 0);
	pthread_kill(w->thread, SIGUSR1);
	say_woken("connect", w);
	set_nonblock(fd, true);
	TELL(connect(fd, sa(&connect_to), connect_to.len));
}

/* --- close: who waits goes on waiting on what is left ------------------- */

static void close_does_not_wake_recv(void)
{
	int fd = connected(1);
	struct waiter *w = blocked(fd, do_recv);

	TELL(close(fd));
	say_asleep("recv", w);
	peer_must("send 1 0 x");
	say_woken("recv", w);
}

static void close_does_not_wake_poll(void)
{
	int fd = connected(1);
	struct waiter *w = blocked(fd, do_poll);

	TELL(close(fd));
	say_asleep("poll", w);
	peer_must("send 1 0 x");
	say_woken("poll", w);
}

static void close_does_not_wake_accept(void)
{
	struct name name;
	int fd = listener(&name);
	struct waiter *w = blocked(fd, do_accept);

	TELL(close(fd));
	say_asleep("accept", w);
	TELL(peer("connect 1 %d %d", family, port_of(&name)));
	say_woken("accept", w);
}

/* Who was interrupted in accept() has let go of it: where it was closed meanwhile, nobody listens. */
static void closed_under_accept_refuses(void)
{
	int refused = 0;

	count_signal(SIGUSR1, 0);
	for (int round = 0; round < 50; round++) {
		struct name name;
		int fd = listener(&name), other;
		struct waiter *w = blocked(fd, do_accept);

		NEED(close(fd));
		pthread_kill(w->thread, SIGUSR1);
		pthread_join(w->thread, NULL);
		other = NEED(socket(family, SOCK_STREAM, 0));
		refused += connect(other, sa(&name), name.len) < 0 && errno == ECONNREFUSED;
		NEED(close(other));
	}
	say("%d of 50 refused", refused);
}

/* --- SO_RCVLOWAT ------------------------------------------------------- */

static long do_recv_many(int fd)
{
	char bytes[100];

	return recv(fd, bytes, sizeof(bytes), 0);
}

static long do_peek_many(int fd)
{
	char bytes[100];

	return recv(fd, bytes, sizeof(bytes), MSG_PEEK);
}

static void lowat_is_waited_for(void)
{
	const int five = 5;
	int fd = connected(1);
	struct waiter *peek, *poll, *epoll, *recv;

	NEED(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &five, sizeof(five)));
	peek = blocked(fd, do_peek_many);
	poll = blocked(fd, do_poll);
	epoll = blocked(fd, do_epoll);
	peer_must("send 1 0 abc");
	say_asleep("peek", peek);
	say_asleep("poll", poll);
	say_asleep("epoll", epoll);
	peer_must("send 1 0 def");
	say_woken("peek", peek);
	say_woken("poll", poll);
	say_woken("epoll", epoll);
	say_result("recv", do_recv_many(fd));
	recv = blocked(dup(fd), do_recv_many);
	peer_must("send 1 0 abc");
	say_asleep("recv", recv);
	peer_must("close 1");
	say_woken("recv", recv);
}

/* --- signals ----------------------------------------------------------- */

static void interrupts(const char *what, int fd, long (*call)(int fd), int flags)
{
	struct waiter *w;

	signals_seen = 0;
	count_signal(SIGUSR1, flags);
	w = blocked(fd, call);
	if (call == do_send) {
		wait_stuck(fd);
		wait_asleep(w->tid);
	}
	pthread_kill(w->thread, SIGUSR1);
	if (flags & SA_RESTART)
		say_asleep(what, w);
	else
		say_woken(what, w);
	say("signals %d", (int)signals_seen);
}

static void eintr_recv(void)
{
	interrupts("recv", connected(1), do_recv, 0);
}

static void eintr_read(void)
{
	interrupts("read", connected(1), do_read, 0);
}

static void eintr_recvmsg(void)
{
	interrupts("recvmsg", connected(1), do_recvmsg, 0);
}

static void eintr_dgram(void)
{
	interrupts("recv", dgram_with(1), do_recv, 0);
}

static void eintr_send(void)
{
	interrupts("send", connected(1), do_send, 0);
}

static void eintr_accept(void)
{
	struct name name;

	interrupts("accept", listener(&name), do_accept, 0);
}

static void eintr_poll(void)
{
	interrupts("poll", connected(1), do_poll, 0);
}

static void eintr_select(void)
{
	interrupts("select", connected(1), do_select, 0);
}

static void eintr_epoll(void)
{
	interrupts("epoll_wait", connected(1), do_epoll, 0);
}

static void restart_recv(void)
{
	interrupts("recv", connected(1), do_recv, SA_RESTART);
}

static void restart_dgram(void)
{
	interrupts("recv", dgram_with(1), do_recv, SA_RESTART);
}

static void restart_accept(void)
{
	struct name name;

	interrupts("accept", listener(&name), do_accept, SA_RESTART);
}

/* poll and its kin are never restarted. */
static void restart_does_not_hold_for(const char *what, long (*call)(int fd))
{
	struct waiter *w;

	signals_seen = 0;
	count_signal(SIGUSR1, SA_RESTART);
	w = blocked(connected(1), call);
	pthread_kill(w->thread, SIGUSR1);
	say_woken(what, w);
}

static void restart_poll(void)
{
	restart_does_not_hold_for("poll", do_poll);
}

static void restart_select(void)
{
	restart_does_not_hold_for("select", do_select);
}

static void restart_epoll(void)
{
	restart_does_not_hold_for("epoll_wait", do_epoll);
}

/* A time limit takes SA_RESTART's effect away (signal(7)). */
static void restart_with_limit(void)
{
	const struct timeval limit = { .tv_sec = 8 };
	int fd = connected(1);
	struct waiter *w;

	NEED(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
	count_signal(SIGUSR1, SA_RESTART);
	w = blocked(fd, do_recv);
	pthread_kill(w->thread, SIGUSR1);
	say_woken("recv", w);
}

/* --- signals of calls that have moved bytes ---------------------------- */

#define LONG (32 << 20)
#define BURST (8 << 20)
#define ROUNDS 10

/* All that such a call tells that is the same each time. */
static long partly(long moved, long asked)
{
	return moved > 0 && moved < asked ? 1 : moved;
}

static char *long_block(void)
{
	static uint8_t block[LONG];

	if (!block[1])
		pattern_fill(block, sizeof(block), 0);
	return (char *)block;
}

static long do_send_long(int fd)
{
	return partly(send(fd, long_block(), LONG, MSG_NOSIGNAL), LONG);
}

static long do_recv_long(int fd)
{
	return partly(recv(fd, long_block(), LONG, MSG_WAITALL), LONG);
}

static long do_sendfile_long(int fd)
{
	int file = memfd_create("long", 0);
	off_t at = 0;
	long sent;

	if (NEED(write(file, long_block(), LONG)) != LONG)
		say("no file");
	sent = sendfile(fd, file, &at, LONG);
	close(file);
	return partly(sent, LONG);
}

/* Two messages, of which the first does not find room. */
static long do_sendmmsg_long(int fd)
{
	struct iovec iov[2] = { { long_block(), LONG }, { long_block(), 1 } };
	struct mmsghdr m[2] = {
		{ .msg_hdr = { .msg_iov = &iov[0], .msg_iovlen = 1 } },
		{ .msg_hdr = { .msg_iov = &iov[1], .msg_iovlen = 1 } },
	};
	int sent = sendmmsg(fd, m, 2, MSG_NOSIGNAL);

	if (sent == 1)
		say("of the first: %s", partly(m[0].msg_len, LONG) == 1 ? "a part" : "?");
	return sent;
}

static void ends_with_part(const char *what, int fd, long (*call)(int fd))
{
	struct waiter *w;

	count_signal(SIGUSR1, SA_RESTART);
	w = blocked(fd, call);
	wait_stuck(fd);
	wait_asleep(w->tid);
	pthread_kill(w->thread, SIGUSR1);
	say_woken(what, w);
}

static void restart_send_in_part(void)
{
	ends_with_part("send", connected(1), do_send_long);
}

static void restart_sendfile_in_part(void)
{
	ends_with_part("sendfile", connected(1), do_sendfile_long);
}

static void restart_sendmmsg_in_part(void)
{
	ends_with_part("sendmmsg", connected(1), do_sendmmsg_long);
}

static void sendmmsg_in_part_ends(void)
{
	int fd = connected(1);

	NEED(fcntl(fd, F_SETFL, O_NONBLOCK));
	say_result("sendmmsg", do_sendmmsg_long(fd));
}

/* It has its first byte: which is in its buffer. */
static struct waiter *blocked_in_recv_long(int fd)
{
	volatile char *first = long_block();
	struct waiter *w;

	*first = 'x';
	w = blocked(fd, do_recv_long);
	peer_must("fill 1 1");
	while (*first == 'x')
		nap_ms(1);
	return w;
}

static void restart_recv_in_part(void)
{
	int fd = connected(1);
	struct waiter *w;

	count_signal(SIGUSR1, SA_RESTART);
	w = blocked_in_recv_long(fd);
	wait_asleep(w->tid);
	pthread_kill(w->thread, SIGUSR1);
	say_woken("recv", w);
}

static long do_splice_in(int fd)
{
	static int in[2];

	NEED(pipe(in));
	return splice(in[0], NULL, fd, NULL, 10, 0);
}

static void restart_splice(void)
{
	interrupts("splice", connected(1), do_splice_in, SA_RESTART);
}

/* A signal that comes while the call is busy: the peer sees to that by @command. */
static void ends_busy(const char *what, long (*call)(int fd), const char *command, int flags)
{
	count_signal(SIGUSR1, flags);
	for (int i = 0; i < ROUNDS; i++) {
		int fd = connected(1);
		struct waiter *w;

		signals_seen = 0;
		w = call == do_recv_long ? blocked_in_recv_long(fd) : blocked(fd, call);
		peer_begin("%s 1 %d", command, BURST);
		nap_ms(1 + i % 4);
		pthread_kill(w->thread, SIGUSR1);
		wait_for(is_done, w, what);
		if (!w->done)
			return;
		pthread_join(w->thread, NULL);
		if (w->result != 1 || signals_seen != 1)
			say_result(what, w->result);
		close(fd);
		(void)peer_answer();
	}
	say("%s: a part each time", what);
}

static void busy_send_ends(void)
{
	ends_busy("send", do_send_long, "take", 0);
}

static void busy_send_ends_restart(void)
{
	ends_busy("send", do_send_long, "take", SA_RESTART);
}

static void busy_sendfile_ends(void)
{
	ends_busy("sendfile", do_sendfile_long, "take", SA_RESTART);
}

static void busy_recv_ends(void)
{
	ends_busy("recv", do_recv_long, "fill", SA_RESTART);
}

static void ignored_signal_does_not_wake(void)
{
	int fd = connected(1);
	struct waiter *w = blocked(fd, do_recv);

	signal(SIGUSR1, SIG_IGN);
	pthread_kill(w->thread, SIGUSR1);
	say_asleep("recv", w);
	peer_must("send 1 0 x");
	say_woken("recv", w);
}

static void stopped_and_continued(void)
{
	int fd = connected(1);
	pid_t pid = fork();
	char c;

	if (!pid) {
		say_result("recv", recv(fd, &c, 1, 0));
		_exit(0);
	}
	nap_ms(30);
	kill(pid, SIGSTOP);
	waitpid(pid, NULL, WUNTRACED);
	kill(pid, SIGCONT);
	nap_ms(30);
	peer_must("send 1 0 x");
	say_child("child", pid);
}

/* --- many -------------------------------------------------------------- */

#define MANY 64

static void many_woken_one_by_one(void)
{
	struct waiter *w[MANY];
	int fd[MANY];

	for (int i = 0; i < MANY - 4; i++)
		fd[i] = connected(i);
	for (int i = 0; i < MANY - 4; i++)
		w[i] = blocked(fd[i], i % 2 ? do_recv : do_poll);
	for (int i = MANY - 5; i >= 0; i--) {
		peer_must("send %d 0 x", i);
		wait_for(is_done, w[i], "the right one");
		for (int j = 0; j < i; j++)
			if (w[j]->done)
				say("%d is awake", j);
	}
	say("all woken");
}

static bool is_either_done(void *arg)
{
	struct waiter **pair = arg;

	return pair[0]->done || pair[1]->done;
}

static void say_one_of(struct waiter *a, struct waiter *b)
{
	struct waiter *pair[] = { a, b };

	wait_for(is_either_done, pair, "one of two");
	nap_ms(30);
	say("woken: %d", a->done + b->done);
}

static void two_readers_share(void)
{
	int fd = connected(1);
	struct waiter *a = blocked(fd, do_recv), *b = blocked(fd, do_recv);

	peer_must("send 1 0 x");
	say_one_of(a, b);
	peer_must("send 1 0 x");
	say_woken("one", a);
	say_woken("other", b);
}

static void two_acceptors_share(void)
{
	struct name name;
	int fd = listener(&name);
	struct waiter *a = blocked(fd, do_accept), *b = blocked(fd, do_accept);

	peer_must("connect 1 %d %d", family, port_of(&name));
	say_one_of(a, b);
	peer_must("connect 2 %d %d", family, port_of(&name));
	say_woken("one", a);
	say_woken("other", b);
}

static void reader_and_poller(void)
{
	int fd = connected(1);
	struct waiter *p = blocked(fd, do_poll), *e = blocked(fd, do_epoll),
		      *s = blocked(fd, do_select);

	peer_must("send 1 0 x");
	say_woken("poll", p);
	say_woken("epoll", e);
	say_woken("select", s);
}

static void writer_waits_reader_works(void)
{
	int fd = connected(1);
	struct waiter *w = blocked(fd, do_send);
	char data[8] = "";

	peer_must("send 1 0 abc");
	say_bytes("recv", recv(fd, data, 3, 0), data);
	peer_must("reset 1");
	say_woken("send", w);
}

static void cancelled_in_recv(void)
{
	int fd = connected(1);
	struct waiter *w = blocked(fd, do_recv);
	void *result;

	TELL(pthread_cancel(w->thread));
	TELL(pthread_join(w->thread, &result));
	say("%s", result == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
	peer_must("send 1 0 x");
	say_result("recv", do_recv(fd));
}

static void cancelled_in_epoll(void)
{
	int fd = connected(1);
	struct waiter *w = blocked(fd, do_epoll);
	void *result;

	TELL(pthread_cancel(w->thread));
	TELL(pthread_join(w->thread, &result));
	say("%s", result == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
}

const struct call_case cases[] = {
	{ "shutdown_wakes_recv", shutdown_wakes_recv },
	{ "shutdown_write_does_not_wake_recv", shutdown_write_does_not_wake_recv },
	{ "shutdown_wakes_send", shutdown_wakes_send },
	{ "reset_wakes_send", reset_wakes_send },
	{ "reset_wakes_recv", reset_wakes_recv },
	{ "end_wakes_recv", end_wakes_recv },
	{ "shutdown_wakes_accept", shutdown_wakes_accept },
	{ "shutdown_wakes_poll", shutdown_wakes_poll },
	{ "shutdown_wakes_poll_of_listener", shutdown_wakes_poll_of_listener },
	{ "shutdown_wakes_dgram", shutdown_wakes_dgram },
	{ "shutdown_wakes_connect", shutdown_wakes_connect },
	{ "signal_interrupts_connect", signal_interrupts_connect },
	{ "close_does_not_wake_recv", close_does_not_wake_recv },
	{ "close_does_not_wake_poll", close_does_not_wake_poll },
	{ "close_does_not_wake_accept", close_does_not_wake_accept },
	{ "closed_under_accept_refuses", closed_under_accept_refuses },
	{ "lowat_is_waited_for", lowat_is_waited_for },
	{ "eintr_recv", eintr_recv },
	{ "eintr_read", eintr_read },
	{ "eintr_recvmsg", eintr_recvmsg },
	{ "eintr_dgram", eintr_dgram },
	{ "eintr_send", eintr_send },
	{ "eintr_accept", eintr_accept },
	{ "eintr_poll", eintr_poll },
	{ "eintr_select", eintr_select },
	{ "eintr_epoll", eintr_epoll },
	{ "restart_recv", restart_recv },
	{ "restart_dgram", restart_dgram },
	{ "restart_accept", restart_accept },
	{ "restart_poll", restart_poll },
	{ "restart_select", restart_select },
	{ "restart_epoll", restart_epoll },
	{ "restart_with_limit", restart_with_limit },
	{ "restart_send_in_part", restart_send_in_part },
	{ "restart_sendfile_in_part", restart_sendfile_in_part },
	{ "restart_sendmmsg_in_part", restart_sendmmsg_in_part },
	{ "sendmmsg_in_part_ends", sendmmsg_in_part_ends },
	{ "restart_recv_in_part", restart_recv_in_part },
	{ "restart_splice", restart_splice },
	{ "busy_send_ends", busy_send_ends },
	{ "busy_send_ends_restart", busy_send_ends_restart },
	{ "busy_sendfile_ends", busy_sendfile_ends },
	{ "busy_recv_ends", busy_recv_ends },
	{ "ignored_signal_does_not_wake", ignored_signal_does_not_wake },
	{ "stopped_and_continued", stopped_and_continued },
	{ "many_woken_one_by_one", many_woken_one_by_one },
	{ "two_readers_share", two_readers_share },
	{ "two_acceptors_share", two_acceptors_share },
	{ "reader_and_poller", reader_and_poller },
	{ "writer_waits_reader_works", writer_waits_reader_works },
	{ "cancelled_in_recv", cancelled_in_recv },
	{ "cancelled_in_epoll", cancelled_in_epoll },
};
const size_t case_count = COUNT(cases);
