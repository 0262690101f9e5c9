/* SPDX-License-Identifier: MIT */
/* Urgent bytes: MSG_OOB, the mark, SO_OOBINLINE, POLLPRI, SIGURG. */
#include "conformance.h"

#include <sys/epoll.h>

static char data[256];

static long receive(int fd, size_t len, int flags)
{
	memset(data, 0, sizeof(data));
	return recv(fd, data, len, flags);
}

/* "abc", the urgent byte X, "def", all of it arrived. */
static int with_urgent(void)
{
	int fd = connected(1);

	peer_must("send 1 0 abc");
	peer_must("send 1 %d X", MSG_OOB);
	if (!(calls_wait(fd, POLLPRI) & POLLPRI))
		say("no urgent byte");
	peer_must("send 1 0 def");
	nap_ms(30); /* nothing tells that these have arrived: they are behind the mark */
	return fd;
}

static void take_byte(void)
{
	int fd = with_urgent();

	say_events("arrived", events_now(fd, POLLIN | POLLPRI));
	say_bytes("urgent", receive(fd, 10, MSG_OOB), data);
	say_bytes("again", receive(fd, 10, MSG_OOB), data);
	say_events("taken", events_now(fd, POLLIN | POLLPRI));
}

static void peek_byte(void)
{
	int fd = with_urgent();

	say_bytes("peek", receive(fd, 1, MSG_OOB | MSG_PEEK), data);
	say_bytes("urgent", receive(fd, 1, MSG_OOB), data);
	say_bytes("peek", receive(fd, 1, MSG_OOB | MSG_PEEK), data);
}

static void recv_stops_at_mark(void)
{
	int fd = with_urgent();

	TELL(sockatmark(fd));
	say_bytes("recv", receive(fd, 100, 0), data);
	TELL(sockatmark(fd));
	say_bytes("urgent", receive(fd, 1, MSG_OOB), data);
	TELL(sockatmark(fd));
	say_bytes("recv", receive(fd, 100, 0), data);
	TELL(sockatmark(fd));
}

static void byte_lost_when_passed(void)
{
	int fd = with_urgent();

	say_bytes("recv", receive(fd, 100, 0), data);
	say_bytes("recv", receive(fd, 2, 0), data);
	say_bytes("urgent", receive(fd, 1, MSG_OOB), data);
	say_events("passed", events_now(fd, POLLIN | POLLPRI));
	say_bytes("recv", receive(fd, 100, 0), data);
}

static void partial_to_mark(void)
{
	int fd = with_urgent();

	say_bytes("recv", receive(fd, 2, 0), data);
	TELL(sockatmark(fd));
	say_bytes("recv", receive(fd, 2, 0), data);
	TELL(sockatmark(fd));
	say_bytes("recv", receive(fd, 2, 0), data);
	TELL(sockatmark(fd));
}

static void in_line(void)
{
	int fd = connected(1), on = 1;

	TELL(setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)));
	peer_must("send 1 0 abc");
	peer_must("send 1 %d X", MSG_OOB);
	calls_wait(fd, POLLPRI);
	peer_must("send 1 0 def");
	wait_bytes(fd, 7);
	say_bytes("urgent", receive(fd, 1, MSG_OOB), data);
	TELL(sockatmark(fd));
	say_bytes("recv", receive(fd, 100, 0), data);
	TELL(sockatmark(fd));
	say_events("at the mark", events_now(fd, POLLIN | POLLPRI));
	say_bytes("recv", receive(fd, 100, 0), data);
	TELL(sockatmark(fd));
	say_events("passed", events_now(fd, POLLIN | POLLPRI));
}

static void in_line_later(void)
{
	int fd = with_urgent(), on = 1;

	say_bytes("recv", receive(fd, 100, 0), data);
	TELL(setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)));
	wait_bytes(fd, 4);
	say_bytes("recv", receive(fd, 100, 0), data);
}

static void peek_at_mark(void)
{
	int fd = with_urgent();

	say_bytes("peek", receive(fd, 100, MSG_PEEK), data);
	say_bytes("recv", receive(fd, 3, 0), data);
	say_bytes("peek", receive(fd, 100, MSG_PEEK), data);
	say_bytes("recv", receive(fd, 100, 0), data);
}

static void waiting_bytes(void)
{
	int fd = with_urgent(), count = -1;

	NEED(ioctl(fd, FIONREAD, &count));
	say("in front of the mark: %d", count);
	say_bytes("recv", receive(fd, 3, 0), data);
	NEED(ioctl(fd, FIONREAD, &count));
	say("at the mark: %d", count);
	say_bytes("recv", receive(fd, 1, 0), data);
	NEED(ioctl(fd, FIONREAD, &count));
	say("behind: %d", count);
}

static void only_urgent(void)
{
	int fd = connected(1);

	peer_must("send 1 %d X", MSG_OOB);
	calls_wait(fd, POLLPRI);
	say_events("arrived", events_now(fd, POLLIN | POLLPRI));
	TELL(sockatmark(fd));
	say_bytes("recv", receive(fd, 10, MSG_DONTWAIT), data);
	say_bytes("urgent", receive(fd, 10, MSG_OOB), data);
	say_bytes("recv", receive(fd, 10, MSG_DONTWAIT), data);
}

static void second_replaces_first(void)
{
	int fd = connected(1);

	peer_must("send 1 %d aX", MSG_OOB);
	calls_wait(fd, POLLPRI);
	say_bytes("recv", receive(fd, 10, 0), data);
	say_bytes("urgent", receive(fd, 10, MSG_OOB), data);
	peer_must("send 1 %d bY", MSG_OOB);
	calls_wait(fd, POLLPRI);
	say_bytes("recv", receive(fd, 10, 0), data);
	say_bytes("urgent", receive(fd, 10, MSG_OOB), data);
}

static void none_there(void)
{
	int fd = connected(1);

	say_result("none", receive(fd, 1, MSG_OOB));
	say_result("none", receive(fd, 1, MSG_OOB | MSG_DONTWAIT));
	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	say_result("none", receive(fd, 1, MSG_OOB));
	TELL(sockatmark(fd));
	peer_must("close 1");
	wait_end(fd);
	say_result("none", receive(fd, 1, MSG_OOB));
}

static void sent(void)
{
	int fd = connected(1);

	TELL(send(fd, "abc", 3, 0));
	TELL(send(fd, "dX", 2, MSG_OOB));
	say_events("peer", peer_must("wait 1 %d", POLLPRI) & POLLPRI);
	TELL(send(fd, "ef", 2, 0));
	peer_tell("recv 1 100 0");
	peer_tell("mark 1");
	peer_tell("recv 1 1 %d", MSG_OOB);
	peer_tell("recv 1 100 0");
	peer_tell("mark 1");
}

static void sent_in_line(void)
{
	int fd = connected(1);

	peer_must("setopt 1 %d %d 1", SOL_SOCKET, SO_OOBINLINE);
	TELL(send(fd, "abc", 3, 0));
	TELL(send(fd, "X", 1, MSG_OOB));
	peer_must("wait 1 %d", POLLPRI);
	peer_tell("recv 1 100 0");
	peer_tell("mark 1");
	peer_tell("recv 1 1 0");
	peer_tell("recv 1 1 %d", MSG_OOB);
}

static void sent_twice(void)
{
	int fd = connected(1);

	TELL(send(fd, "aX", 2, MSG_OOB));
	peer_must("wait 1 %d", POLLPRI);
	peer_tell("recv 1 1 %d", MSG_OOB);
	TELL(send(fd, "bY", 2, MSG_OOB));
	peer_must("wait 1 %d", POLLPRI);
	peer_tell("recv 1 100 0");
	peer_tell("recv 1 100 0");
	peer_tell("recv 1 1 %d", MSG_OOB);
}

static void sent_nothing(void)
{
	int fd = connected(1);

	TELL(send(fd, "", 0, MSG_OOB));
	TELL(send(fd, "x", 1, 0));
	peer_tell("recv 1 10 0");
	TELL(shutdown(fd, SHUT_WR));
	TELL(send(fd, "x", 1, MSG_OOB | MSG_NOSIGNAL));
}

static void in_select(void)
{
	int fd = with_urgent();
	fd_set rd, ex;
	struct timeval limit = { .tv_sec = 5 };

	FD_ZERO(&rd);
	FD_ZERO(&ex);
	FD_SET(fd, &rd);
	FD_SET(fd, &ex);
	TELL(select(fd + 1, &rd, NULL, &ex, &limit));
	say("%d %d", FD_ISSET(fd, &rd), FD_ISSET(fd, &ex));
	receive(fd, 1, MSG_OOB);
	FD_SET(fd, &ex);
	limit.tv_sec = 0;
	TELL(select(fd + 1, NULL, NULL, &ex, &limit));
}

static void in_epoll(void)
{
	int fd = connected(1), set = NEED(epoll_create1(0));
	struct epoll_event event = { .events = EPOLLPRI }, got = { 0 };

	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	TELL(epoll_wait(set, &got, 1, 0));
	peer_must("send 1 %d X", MSG_OOB);
	TELL(epoll_wait(set, &got, 1, 5000));
	say_epoll("events", got.events);
	receive(fd, 1, MSG_OOB);
	TELL(epoll_wait(set, &got, 1, 0));
}

static bool signal_seen(void *arg)
{
	(void)arg;
	return signals_seen;
}

static void sigurg(void)
{
	int fd = connected(1);

	count_signal(SIGURG, SA_RESTART);
	TELL(fcntl(fd, F_SETOWN, getpid()) * 0);
	peer_must("send 1 %d X", MSG_OOB);
	wait_for(signal_seen, NULL, "SIGURG");
	say("signals %d", (int)signals_seen);
}

static void sigurg_needs_owner(void)
{
	int fd = connected(1);

	count_signal(SIGURG, SA_RESTART);
	peer_must("send 1 %d X", MSG_OOB);
	calls_wait(fd, POLLPRI);
	nap_ms(20);
	say("signals %d", (int)signals_seen);
}

static bool two_signals_seen(void *arg)
{
	(void)arg;
	return signals_seen >= 2;
}

static void sigurg_each(void)
{
	int fd = connected(1);

	count_signal(SIGURG, SA_RESTART);
	NEED(fcntl(fd, F_SETOWN, getpid()));
	peer_must("send 1 %d X", MSG_OOB);
	wait_for(signal_seen, NULL, "SIGURG");
	receive(fd, 1, MSG_OOB);
	peer_must("send 1 %d Y", MSG_OOB);
	wait_for(two_signals_seen, NULL, "SIGURG");
	nap_ms(20);
	say("signals %d", (int)signals_seen);
}

/* Another signal for all that happens leaves this one as it is. */
static void sigurg_besides(void)
{
	int fd = connected(1);

	NEED(signal(SIGRTMIN, SIG_IGN) == SIG_ERR ? -1 : 0);
	count_signal(SIGURG, SA_RESTART);
	NEED(fcntl(fd, F_SETSIG, SIGRTMIN));
	NEED(fcntl(fd, F_SETOWN, getpid()));
	NEED(fcntl(fd, F_SETFL, O_ASYNC));
	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	say("signals %d", (int)signals_seen);
	peer_must("send 1 %d X", MSG_OOB);
	wait_for(signal_seen, NULL, "SIGURG");
	say("signals %d", (int)signals_seen);
}

const struct call_case cases[] = {
	{ "take_byte", take_byte },
	{ "peek_byte", peek_byte },
	{ "recv_stops_at_mark", recv_stops_at_mark },
	{ "byte_lost_when_passed", byte_lost_when_passed },
	{ "partial_to_mark", partial_to_mark },
	{ "in_line", in_line },
	{ "in_line_later", in_line_later },
	{ "peek_at_mark", peek_at_mark },
	{ "waiting_bytes", waiting_bytes },
	{ "only_urgent", only_urgent },
	{ "second_replaces_first", second_replaces_first },
	{ "none_there", none_there },
	{ "sent", sent },
	{ "sent_in_line", sent_in_line },
	{ "sent_twice", sent_twice },
	{ "sent_nothing", sent_nothing },
	{ "in_select", in_select },
	{ "in_epoll", in_epoll },
	{ "sigurg", sigurg },
	{ "sigurg_needs_owner", sigurg_needs_owner },
	{ "sigurg_each", sigurg_each },
	{ "sigurg_besides", sigurg_besides },
};
const size_t case_count = COUNT(cases);
