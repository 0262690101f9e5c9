/* SPDX-License-Identifier: MIT */
/* How streams end: FIN, RST, half-close, linger, and what each side sees of it. */
#include "conformance.h"

static char data[4096];

static void say_socket(const char *what, int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);
	struct name name = { .len = sizeof(name.ss) };

	say_events(what, events_now(fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI));
	NEED(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	say("%s: error %s", what, error ? strerrorname_np(error) : "none");
	say_result("peer name", getpeername(fd, sa(&name), &name.len));
}

static void wait_hangup(int fd)
{
	calls_wait(fd, 0);
}

static void peer_closes(void)
{
	int fd = connected(1);

	peer_must("send 1 0 abc");
	peer_must("close 1");
	wait_end(fd);
	say_socket("closed", fd);
	TELL(recv(fd, data, 10, 0));
	TELL(recv(fd, data, 10, 0));
	TELL(recv(fd, data, 10, 0));
	say_socket("read", fd);
}

/* The kernel answers with a reset: the second send finds it. */
static void send_after_peer_closed(void)
{
	int fd = connected(1);

	peer_must("close 1");
	wait_end(fd);
	TELL(send(fd, "abc", 3, MSG_NOSIGNAL));
	wait_hangup(fd);
	say_events("reset", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	TELL(send(fd, "abc", 3, MSG_NOSIGNAL));
	TELL(send(fd, "abc", 3, MSG_NOSIGNAL));
	TELL(recv(fd, data, 10, 0));
	TELL(recv(fd, data, 10, 0));
}

static void recv_after_reset_by_send(void)
{
	int fd = connected(1);

	peer_must("close 1");
	wait_end(fd);
	TELL(send(fd, "abc", 3, MSG_NOSIGNAL));
	wait_hangup(fd);
	TELL(recv(fd, data, 10, 0));
	TELL(recv(fd, data, 10, 0));
	TELL(send(fd, "abc", 3, MSG_NOSIGNAL));
}

static void peer_resets(void)
{
	int fd = connected(1);

	peer_must("reset 1");
	wait_hangup(fd);
	say_events("reset", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	TELL(recv(fd, data, 10, 0));
	TELL(recv(fd, data, 10, 0));
	TELL(send(fd, "abc", 3, MSG_NOSIGNAL));
	say_events("told", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
}

/* Who has heard the end hears of a reset as who sends. */
static void reset_behind_the_end(void)
{
	int fd = connected(1);

	peer_must("shutdown 1 %d", SHUT_WR);
	wait_end(fd);
	TELL(send(fd, "abc", 3, 0));
	peer_must("waitbytes 1 3");
	peer_must("close 1");
	wait_hangup(fd);
	say_events("reset", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	TELL(recv(fd, data, 10, 0));
	TELL(send(fd, "abc", 3, MSG_NOSIGNAL));
	say_events("told", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	TELL(recv(fd, data, 10, 0));
}

/* What has ended both ways is not reset any more. */
static void close_unread_behind_both_ends(void)
{
	int fd = connected(1);

	TELL(send(fd, "abc", 3, 0));
	peer_must("waitbytes 1 3");
	TELL(shutdown(fd, SHUT_WR));
	peer_must("shutdown 1 %d", SHUT_WR);
	wait_hangup(fd);
	peer_must("close 1");
	say_events("closed", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	TELL(recv(fd, data, 10, 0));
	TELL(send(fd, "abc", 3, MSG_NOSIGNAL));
}

static void reset_told_by_send(void)
{
	int fd = connected(1);

	peer_must("reset 1");
	wait_hangup(fd);
	TELL(send(fd, "abc", 3, MSG_NOSIGNAL));
	TELL(send(fd, "abc", 3, MSG_NOSIGNAL));
	TELL(recv(fd, data, 10, 0));
}

static void reset_told_by_option(void)
{
	int fd = connected(1);

	peer_must("reset 1");
	wait_hangup(fd);
	say_socket("first", fd);
	say_socket("second", fd);
	TELL(recv(fd, data, 10, 0));
}

static void reset_with_bytes_unread(void)
{
	int fd = connected(1);

	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	peer_must("reset 1");
	wait_hangup(fd);
	say_events("reset", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	TELL(recv(fd, data, 10, 0));
	TELL(recv(fd, data, 10, 0));
	TELL(recv(fd, data, 10, 0));
}

static void close_unread_resets_peer(void)
{
	int fd = connected(1);

	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	close(fd);
	say_events("peer", peer_must("wait 1 0"));
	peer_tell("recv 1 10 0");
	peer_tell("recv 1 10 0");
}

static void close_read_ends_peer(void)
{
	int fd = connected(1);

	peer_must("send 1 0 abc");
	recv_all(fd, data, 3);
	close(fd);
	peer_tell("recv 1 10 0");
	say_events("peer", peer_must("wait 1 %d", POLLIN | POLLRDHUP));
	peer_tell("recv 1 10 0");
}

static void linger_zero_resets_peer(void)
{
	const struct linger linger = { .l_onoff = 1 };
	int fd = connected(1);

	TELL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	TELL(send(fd, "abc", 3, 0));
	peer_must("waitbytes 1 3");
	TELL(close(fd));
	say_events("peer", peer_must("wait 1 0"));
	peer_tell("recv 1 10 0");
	peer_tell("recv 1 10 0");
}

static int64_t close_time(int fd)
{
	int64_t begin = now_ms();

	TELL(close(fd));
	return now_ms() - begin;
}

/* The peer does not read, and cannot take all. */
static int stuffed(void)
{
	int fd = connected(1);

	(void)fill_up(fd, data, sizeof(data));
	return fd;
}

static void linger_waits_its_time(void)
{
	const struct linger linger = { .l_onoff = 1, .l_linger = 1 };
	int fd = stuffed();

	TELL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	say("%s", close_time(fd) >= 900 ? "a second at least" : "not so long");
}

static void linger_ends_when_sent(void)
{
	const struct linger linger = { .l_onoff = 1, .l_linger = 30 };
	int fd = connected(1);

	TELL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	send_all(fd, "abc", 3);
	say("%s", close_time(fd) < 5000 ? "soon" : "late");
	peer_tell("recv 1 10 0");
	peer_tell("recv 1 10 0");
}

static void linger_off_does_not_wait(void)
{
	int fd = stuffed();

	say("%s", close_time(fd) < 3000 ? "at once" : "late");
}

static void linger_of_process_end(void)
{
	const struct linger linger = { .l_onoff = 1, .l_linger = 30 };
	int fd = connected(1);
	pid_t pid = fork();

	if (!pid) {
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		send_all(fd, "abc", 3);
		_exit(0);
	}
	close(fd);
	say_child("child", pid);
	peer_tell("recv 1 10 0");
	peer_tell("recv 1 10 0");
}

static void half_close_write(void)
{
	int fd = connected(1);

	TELL(shutdown(fd, SHUT_WR));
	say_events("peer", peer_must("wait 1 %d", POLLIN | POLLRDHUP));
	peer_tell("recv 1 10 0");
	peer_tell("send 1 0 abc");
	wait_bytes(fd, 3);
	TELL(recv(fd, data, 10, 0));
	TELL(send(fd, "x", 1, MSG_NOSIGNAL));
	say_events("shut", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	peer_must("close 1");
	wait_end(fd);
	say_events("both", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
}

static void half_close_read(void)
{
	int fd = connected(1);

	TELL(shutdown(fd, SHUT_RD));
	say_events("shut", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	TELL(recv(fd, data, 10, 0));
	TELL(send(fd, "abc", 3, 0));
	peer_tell("recv 1 3 0");
	TELL(recv(fd, data, 10, 0));
}

static void bytes_after_shut_read(void)
{
	int fd = connected(1);

	TELL(shutdown(fd, SHUT_RD));
	peer_tell("send 1 0 abc");
	wait_bytes(fd, 3);
	TELL(recv(fd, data, 10, 0));
	TELL(recv(fd, data, 10, 0));
}

static void shutdown_twice(void)
{
	int fd = connected(1);

	TELL(shutdown(fd, SHUT_WR));
	TELL(shutdown(fd, SHUT_WR));
	TELL(shutdown(fd, SHUT_RD));
	TELL(shutdown(fd, SHUT_RDWR));
	TELL(shutdown(fd, 3));
	TELL(shutdown(fd, -1));
	say_events("shut", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	TELL(recv(fd, data, 1, 0));
	TELL(send(fd, "x", 1, MSG_NOSIGNAL));
}

/* Nobody will read it. */
static void data_behind_both_ends(void)
{
	int fd = connected(1);

	TELL(shutdown(fd, SHUT_RDWR));
	peer_tell("recv 1 10 0");
	peer_tell("send 1 %d late", MSG_NOSIGNAL);
	peer_must("wait 1 %d", POLLHUP); /* which is the reset, as it has ended nothing itself */
	peer_tell("getopt 1 %d %d", SOL_SOCKET, SO_ERROR);
	for (int64_t end = now_ms() + 3000; now_ms() < end && !(events_now(fd, 0) & POLLERR);)
		nap_ms(1);
	say_socket("here", fd);
	say_bytes("recv", recv(fd, data, 10, 0), data);
	say_result("send", send(fd, "x", 1, MSG_NOSIGNAL));
}

static void shutdown_after_the_end(void)
{
	int fd = connected(1);
	struct name name = { .len = sizeof(name.ss) };

	peer_must("close 1");
	wait_end(fd);
	TELL(shutdown(fd, SHUT_RD));
	TELL(shutdown(fd, SHUT_WR));
	/* both ends are closed now, at a time that nobody tells: the state comes with it */
	for (int64_t end = now_ms() + 3000; now_ms() < end; nap_ms(1))
		if (getpeername(fd, sa(&name), &name.len))
			break;
	say_result("peer name", getpeername(fd, sa(&name), &name.len));
	TELL(shutdown(fd, SHUT_WR));
	say_events("ended", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
}

/* Both ends have said that they end, and each knows: it has happened when a name is gone. */
static void wait_over(int fd)
{
	struct name name = { .len = sizeof(name.ss) };

	for (int64_t end = now_ms() + 5000; now_ms() < end; nap_ms(1))
		if (getpeername(fd, sa(&name), &name.len))
			return;
	say("it has a name still");
}

static void each_shutdown(int fd)
{
	TELL(shutdown(fd, SHUT_RD));
	TELL(shutdown(fd, SHUT_WR));
	TELL(shutdown(fd, SHUT_RDWR));
	peer_tell("shutdown 1 %d", SHUT_RD);
	peer_tell("shutdown 1 %d", SHUT_WR);
	peer_tell("shutdown 1 %d", SHUT_RDWR);
}

static void shutdown_both_then_again(void)
{
	int fd = connected(1);

	TELL(shutdown(fd, SHUT_WR));
	peer_must("shutdown 1 %d", SHUT_WR);
	wait_over(fd);
	each_shutdown(fd);
}

static void shutdown_both_peer_first(void)
{
	int fd = connected(1);

	peer_must("shutdown 1 %d", SHUT_WR);
	wait_end(fd);
	TELL(shutdown(fd, SHUT_WR));
	wait_over(fd);
	TELL(shutdown(fd, SHUT_RD));
	TELL(shutdown(fd, SHUT_WR));
	TELL(shutdown(fd, SHUT_RDWR));
}

static void shutdown_then_peer_closes(void)
{
	int fd = connected(1);

	TELL(shutdown(fd, SHUT_WR));
	peer_must("wait 1 %d", POLLRDHUP);
	peer_must("close 1");
	wait_over(fd);
	TELL(shutdown(fd, SHUT_RD));
	TELL(shutdown(fd, SHUT_WR));
	TELL(shutdown(fd, SHUT_RDWR));
}

/* The end lies behind bytes that find no room. */
static void shutdown_before_it_arrives(void)
{
	int fd = connected(1);
	static char block[65536];

	(void)fill_up(fd, block, sizeof(block));
	TELL(shutdown(fd, SHUT_WR));
	peer_must("shutdown 1 %d", SHUT_WR);
	wait_end(fd);
	each_shutdown(fd);
}

/* As soon as close() has returned. */
static void reset_by_close_is_there(void)
{
	const struct linger none = { .l_onoff = 1 };
	struct name name;
	int listening = listener(&name), told = 0;

	for (int i = 0; i < 20; i++) {
		struct name peer = { .len = sizeof(peer.ss) };
		int fd = NEED(socket(family, SOCK_STREAM, 0)), other;

		NEED(connect(fd, sa(&name), name.len));
		other = NEED(accept(listening, NULL, NULL));
		NEED(setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)));
		close(fd);
		told += getpeername(other, sa(&peer), &peer.len) && errno == ENOTCONN;
		close(other);
	}
	say("told at once: %d", told);
}

static void shutdown_states(void)
{
	struct name name;
	int fd = NEED(socket(family, SOCK_STREAM, 0)), listening = listener(&name);

	TELL(shutdown(fd, SHUT_RD));
	TELL(shutdown(fd, SHUT_WR));
	TELL(shutdown(fd, 7));
	TELL(shutdown(listening, SHUT_WR));
	TELL(shutdown(listening, SHUT_RD));
	TELL(shutdown(listening, SHUT_RDWR));
	TELL(accept(listening, NULL, NULL));
	say_events("listener", events_now(listening, POLLIN | POLLOUT | POLLRDHUP));
}

static void listener_listens_again(void)
{
	struct name name;
	int listening = listener(&name);

	TELL(shutdown(listening, SHUT_RD));
	TELL(peer("connect 1 %d %d", family, port_of(&name)));
	TELL(listen(listening, 4));
	name = local_name(listening); /* the port was chosen by the system, and is another one */
	say_events("listens", events_now(listening, POLLIN));
	TELL(peer("connect 1 %d %d", family, port_of(&name)));
}

static void close_listener_resets_queued(void)
{
	struct name name;
	int listening = listener(&name);

	peer_must("connect 1 %d %d", family, port_of(&name));
	TELL(close(listening));
	say_events("peer", peer_must("wait 1 %d", POLLIN));
	peer_tell("recv 1 10 0");
	TELL(peer("connect 2 %d %d", family, port_of(&name)));
}

/* Of many that are reset the first hears of it long before the last: nobody listens then. */
static void close_listener_refuses_at_once(void)
{
	int refused = 0;

	for (int round = 0; round < 20; round++) {
		struct name name;
		int listening = listener(&name);

		for (int i = 1; i < 50; i++)
			peer_must("connect %d %d %d", i, family, port_of(&name));
		NEED(close(listening));
		peer_must("wait 1 %d", POLLIN);
		refused += peer("connect 50 %d %d", family, port_of(&name)) < 0 &&
			   errno == ECONNREFUSED;
	}
	say("%d of 20 refused", refused);
}

static void reset_before_accept(void)
{
	struct name name;
	int listening = listener(&name), fd;

	peer_must("connect 1 %d %d", family, port_of(&name));
	peer_must("reset 1");
	calls_wait(listening, POLLIN);
	fd = NEED(accept(listening, NULL, NULL));
	calls_wait(fd, 0);
	say_result("recv", recv(fd, data, 10, 0));
	say_result("again", recv(fd, data, 10, 0));
}

static void sigpipe_and_not(void)
{
	int fd = connected(1);
	struct iovec iov = { "x", 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	count_signal(SIGPIPE, 0);
	TELL(shutdown(fd, SHUT_WR));
#define SEES(call) (signals_seen = 0, TELL(call), say("signals %d", (int)signals_seen))
	SEES(send(fd, "x", 1, 0));
	SEES(send(fd, "x", 1, MSG_NOSIGNAL));
	SEES(write(fd, "x", 1));
	SEES(writev(fd, &iov, 1));
	SEES(sendmsg(fd, &m, 0));
	SEES(sendmsg(fd, &m, MSG_NOSIGNAL));
	SEES(sendto(fd, "x", 1, 0, NULL, 0));
	SEES(send(fd, "", 0, 0));
	SEES(write(fd, "", 0));
}

static void sigpipe_kills(void)
{
	int fd = connected(1);
	pid_t pid = fork();

	if (!pid) {
		signal(SIGPIPE, SIG_DFL);
		shutdown(fd, SHUT_WR);
		(void)!write(fd, "x", 1);
		_exit(0);
	}
	say_child("child", pid);
}

static void reconnect_after_reset(void)
{
	int fd = connected(1);
	struct name name;

	peer_must("reset 1");
	wait_hangup(fd);
	TELL(recv(fd, data, 1, 0));
	name = peer_name(peer_must("listen 2 %d 4", family));
	TELL(connect(fd, sa(&name), name.len));
	TELL(peer("accept 2 3"));
	TELL(send(fd, "abc", 3, MSG_NOSIGNAL));
	peer_tell("recv 3 10 0");
}

static void listen_after_reset(void)
{
	int fd = connected(1);

	peer_must("reset 1");
	wait_hangup(fd);
	TELL(recv(fd, data, 1, 0));
	TELL(listen(fd, 4));
	TELL(connect(fd, sa(&(struct name){ .ss.ss_family = AF_UNSPEC }), sizeof(struct sockaddr)));
	TELL(listen(fd, 4));
}

static void bytes_in_flight_survive_close(void)
{
	static uint8_t block[200000];
	int fd = connected(1);

	pattern_fill(block, sizeof(block), 0);
	send_all(fd, block, sizeof(block));
	TELL(close(fd));
	say_result("peer", peer("drain 1"));
}

static void bytes_survive_exit(void)
{
	static uint8_t block[100000];
	int fd = connected(1);
	pid_t pid = fork();

	if (!pid) {
		pattern_fill(block, sizeof(block), 0);
		send_all(fd, block, sizeof(block));
		_exit(0);
	}
	close(fd);
	say_child("child", pid);
	say_result("peer", peer("drain 1"));
}

static void killed_process_ends_stream(void)
{
	int fd = connected(1);
	pid_t pid = fork();

	if (!pid) {
		send_all(fd, "abc", 3);
		raise(SIGKILL);
	}
	close(fd);
	say_child("child", pid);
	peer_tell("recv 1 10 %d", MSG_WAITALL);
	peer_tell("recv 1 10 0");
}

static void closed_by_one_of_two(void)
{
	int fd = connected(1), other = NEED(dup(fd));

	TELL(close(fd));
	send_all(other, "abc", 3);
	peer_tell("recv 1 3 %d", MSG_WAITALL);
	TELL(close(other));
	peer_tell("recv 1 3 0");
	TELL(close(other));
}

const struct call_case cases[] = {
	{ "peer_closes", peer_closes },
	{ "send_after_peer_closed", send_after_peer_closed },
	{ "recv_after_reset_by_send", recv_after_reset_by_send },
	{ "peer_resets", peer_resets },
	{ "reset_behind_the_end", reset_behind_the_end },
	{ "close_unread_behind_both_ends", close_unread_behind_both_ends },
	{ "reset_told_by_send", reset_told_by_send },
	{ "reset_told_by_option", reset_told_by_option },
	{ "reset_with_bytes_unread", reset_with_bytes_unread },
	{ "close_unread_resets_peer", close_unread_resets_peer },
	{ "close_read_ends_peer", close_read_ends_peer },
	{ "linger_zero_resets_peer", linger_zero_resets_peer },
	{ "linger_waits_its_time", linger_waits_its_time },
	{ "linger_ends_when_sent", linger_ends_when_sent },
	{ "linger_off_does_not_wait", linger_off_does_not_wait },
	{ "linger_of_process_end", linger_of_process_end },
	{ "half_close_write", half_close_write },
	{ "half_close_read", half_close_read },
	{ "bytes_after_shut_read", bytes_after_shut_read },
	{ "shutdown_twice", shutdown_twice },
	{ "data_behind_both_ends", data_behind_both_ends },
	{ "shutdown_after_the_end", shutdown_after_the_end },
	{ "shutdown_both_then_again", shutdown_both_then_again },
	{ "shutdown_both_peer_first", shutdown_both_peer_first },
	{ "shutdown_then_peer_closes", shutdown_then_peer_closes },
	{ "shutdown_before_it_arrives", shutdown_before_it_arrives },
	{ "reset_by_close_is_there", reset_by_close_is_there },
	{ "shutdown_states", shutdown_states },
	{ "listener_listens_again", listener_listens_again },
	{ "close_listener_resets_queued", close_listener_resets_queued },
	{ "close_listener_refuses_at_once", close_listener_refuses_at_once },
	{ "reset_before_accept", reset_before_accept },
	{ "sigpipe_and_not", sigpipe_and_not },
	{ "sigpipe_kills", sigpipe_kills },
	{ "reconnect_after_reset", reconnect_after_reset },
	{ "listen_after_reset", listen_after_reset },
	{ "bytes_in_flight_survive_close", bytes_in_flight_survive_close },
	{ "bytes_survive_exit", bytes_survive_exit },
	{ "killed_process_ends_stream", killed_process_ends_stream },
	{ "closed_by_one_of_two", closed_by_one_of_two },
};
const size_t case_count = COUNT(cases);
