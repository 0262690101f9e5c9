/* SPDX-License-Identifier: MIT */
/*
 * A program with both ends of a connection: over loopback the other end has what a call
 * does before the call returns. So nothing here waits for anything.
 */
#include "calls.h"

#include <stdarg.h>
#include <sys/epoll.h>

#define TIMES 30

static char data[1 << 20];

/* What one look gave, in words, each with how often. */
static struct {
	char what[60];
	int count;
} seen[8];

static void saw(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void saw(const char *format, ...)
{
	char what[sizeof(seen[0].what)];
	va_list args;
	size_t i = 0;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	while (i < COUNT(seen) - 1 && seen[i].count && strcmp(seen[i].what, what) != 0)
		i++;
	strcpy(seen[i].what, what);
	seen[i].count++;
}

static void many_times(void (*look)(void))
{
	for (int i = 0; i < TIMES; i++)
		look();
	for (size_t i = 0; i < COUNT(seen); i++)
		if (seen[i].count)
			say("%s: %d times", seen[i].what, seen[i].count);
}

static const char *name_of(long result)
{
	static char text[24];

	if (result < 0)
		return strerrorname_np(errno);
	snprintf(text, sizeof(text), "%ld", result);
	return text;
}

static const char *received(int fd)
{
	return name_of(recv(fd, data, sizeof(data), MSG_DONTWAIT));
}

static void reset_on_close(int fd)
{
	const struct linger reset = { .l_onoff = 1 };

	NEED(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)));
}

/* --- what is sent --------------------------------------------------------- */

static void look_bytes(void)
{
	int fd[2], count;

	stream_pair(fd);
	send_all(fd[0], "hello", 5);
	NEED(ioctl(fd[1], FIONREAD, &count));
	saw("%d, then %s", count, received(fd[1]));
	close(fd[0]);
	close(fd[1]);
}

static void bytes(void)
{
	many_times(look_bytes);
}

static void look_more(void)
{
	long got = 0, sent = 0, n;
	int fd[2];

	stream_pair(fd);
	while ((n = send(fd[0], data, 65536, MSG_DONTWAIT)) > 0)
		sent += n;
	while ((n = recv(fd[1], data, sizeof(data), MSG_DONTWAIT)) > 0)
		got += n;
	saw("%s, then %s", got == sent ? "all" : "not all",
	    events_now(fd[0], POLLOUT) & POLLOUT ? "room" : "no room");
	close(fd[0]);
	close(fd[1]);
}

static void more_than_fits(void)
{
	many_times(look_more);
}

static void look_in_set(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	int fd[2], set = NEED(epoll_create1(0)), n;

	stream_pair(fd);
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd[1], &event));
	send_all(fd[0], "x", 1);
	n = epoll_wait(set, &event, 1, 0);
	saw("%d: %x", n, n > 0 ? event.events : 0);
	close(set);
	close(fd[0]);
	close(fd[1]);
}

static void in_a_set(void)
{
	many_times(look_in_set);
}

static void look_datagram(void)
{
	struct name name;
	int to = dgram_bound(&name), from = NEED(socket(family, SOCK_DGRAM, 0));

	NEED(sendto(from, "x", 1, 0, sa(&name), name.len));
	saw("%s", received(to));
	NEED(sendto(from, "xy", 2, 0, sa(&name), name.len));
	saw("poll %x", events_now(to, POLLIN));
	close(from);
	close(to);
}

static void datagrams(void)
{
	many_times(look_datagram);
}

/* What makes a recv possible is no datagram here. */
static void shut_datagrams(void)
{
	int fd[2];

	dgram_pair(fd);
	TELL(shutdown(fd[0], SHUT_RD));
	TELL(recv(fd[0], data, sizeof(data), MSG_DONTWAIT));
}

/* --- ends ----------------------------------------------------------------- */

static void look_end(void)
{
	int fd[2];

	stream_pair(fd);
	send_all(fd[0], "last", 4);
	close(fd[0]);
	saw("poll %x", events_now(fd[1], POLLIN | POLLRDHUP));
	saw("%s", received(fd[1]));
	saw("then %s", received(fd[1]));
	close(fd[1]);
}

static void ends(void)
{
	many_times(look_end);
}

static void look_half(void)
{
	int fd[2];

	stream_pair(fd);
	NEED(shutdown(fd[0], SHUT_WR));
	saw("%s", received(fd[1]));
	send_all(fd[1], "x", 1);
	NEED(shutdown(fd[0], SHUT_RD));
	saw("before SHUT_RD %s", received(fd[0]));
	saw("then %s", received(fd[0]));
	close(fd[0]);
	close(fd[1]);
}

static void half_ends(void)
{
	many_times(look_half);
}

static void look_reset(void)
{
	struct name name = { .len = sizeof(name.ss) };
	int fd[2];

	stream_pair(fd);
	reset_on_close(fd[0]);
	close(fd[0]);
	saw("name: %s", name_of(getpeername(fd[1], sa(&name), &name.len)));
	saw("%s", received(fd[1]));
	close(fd[1]);
}

static void resets(void)
{
	many_times(look_reset);
}

static void look_unread(void)
{
	int fd[2];

	stream_pair(fd);
	send_all(fd[1], "xyz", 3);
	NEED(recv(fd[0], data, 1, 0));
	close(fd[0]);
	saw("%s", received(fd[1]));
	close(fd[1]);
}

static void unread_bytes(void)
{
	many_times(look_unread);
}

static void *close_it(void *arg)
{
	close((int)(intptr_t)arg);
	return NULL;
}

static void look_thread(void)
{
	pthread_t thread;
	int fd[2];

	stream_pair(fd);
	pthread_create(&thread, NULL, close_it, (void *)(intptr_t)fd[0]);
	pthread_join(thread, NULL);
	saw("%s", received(fd[1]));
	close(fd[1]);
}

static void closed_by_another_thread(void)
{
	many_times(look_thread);
}

/* --- beginnings ----------------------------------------------------------- */

static void look_accept(void)
{
	struct name name;
	int l = listener(&name), fd = NEED(socket(family, SOCK_STREAM, 0)), got;

	set_nonblock(l, true);
	NEED(connect(fd, sa(&name), name.len));
	saw("poll %x", events_now(l, POLLIN));
	got = accept(l, NULL, NULL);
	saw("%s", got < 0 ? name_of(got) : "accepted");
	if (got >= 0)
		close(got);
	close(fd);
	close(l);
}

static void accepted(void)
{
	many_times(look_accept);
}

static void look_connect(void)
{
	struct name name;
	int l = listener(&name), fd = NEED(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));

	saw("%s", name_of(connect(fd, sa(&name), name.len)));
	saw("poll %x", events_now(fd, POLLOUT));
	close(fd);
	close(l);
}

static void connected_at_once(void)
{
	many_times(look_connect);
}

static void look_refused(void)
{
	struct name name;
	int fd = NEED(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0)), error = 0;
	socklen_t len = sizeof(error);

	close(listener(&name));
	saw("%s", name_of(connect(fd, sa(&name), name.len)));
	saw("poll %x", events_now(fd, POLLOUT));
	NEED(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	saw("%s", error ? strerrorname_np(error) : "no error");
	close(fd);
}

static void refused_at_once(void)
{
	many_times(look_refused);
}

const struct call_case cases[] = {
	{ "bytes", bytes },
	{ "more_than_fits", more_than_fits },
	{ "in_a_set", in_a_set },
	{ "datagrams", datagrams },
	{ "shut_datagrams", shut_datagrams },
	{ "ends", ends },
	{ "half_ends", half_ends },
	{ "resets", resets },
	{ "unread_bytes", unread_bytes },
	{ "closed_by_another_thread", closed_by_another_thread },
	{ "accepted", accepted },
	{ "connected_at_once", connected_at_once },
	{ "refused_at_once", refused_at_once },
};
const size_t case_count = COUNT(cases);
