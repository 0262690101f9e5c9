/* SPDX-License-Identifier: MIT */
/* SIGIO: O_ASYNC, its owner, its signal. */
#include "conformance.h"

#include <linux/sockios.h>

static volatile sig_atomic_t got_fd = -1, got_band, got_code, got_signal;

static void details(int number, siginfo_t *info, void *context)
{
	(void)context;
	got_signal = number;
	got_fd = info->si_fd;
	got_band = (sig_atomic_t)info->si_band;
	got_code = info->si_code;
	signals_seen++;
}

static bool seen(void *arg)
{
	(void)arg;
	return signals_seen > 0;
}

static void expect_sigio(void)
{
	wait_for(seen, NULL, "SIGIO");
	say("signal %s", signals_seen ? sigabbrev_np(got_signal) : "none");
}

static void on(int number)
{
	struct sigaction action = { .sa_sigaction = details, .sa_flags = SA_SIGINFO | SA_RESTART };

	NEED(sigaction(number, &action, NULL));
}

static void async(int fd)
{
	NEED(fcntl(fd, F_SETOWN, getpid()));
	NEED(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC));
}

static void bytes_arrive(void)
{
	int fd = connected(1);

	on(SIGIO);
	async(fd);
	signals_seen = 0;
	peer_must("send 1 0 abc");
	expect_sigio();
}

static void datagram_arrives(void)
{
	int fd = dgram_with(1);

	on(SIGIO);
	async(fd);
	peer_must("send 1 0 abc");
	expect_sigio();
}

static void connection_arrives(void)
{
	struct name name;
	int fd = listener(&name);

	on(SIGIO);
	async(fd);
	peer_must("connect 1 %d %d", family, port_of(&name));
	expect_sigio();
}

static void the_end_arrives(void)
{
	int fd = connected(1);

	on(SIGIO);
	async(fd);
	signals_seen = 0;
	peer_must("close 1");
	expect_sigio();
}

static void another_signal(void)
{
	int fd = connected(1);

	on(SIGRTMIN + 1);
	NEED(fcntl(fd, F_SETSIG, SIGRTMIN + 1));
	async(fd);
	signals_seen = 0;
	peer_must("send 1 0 abc");
	wait_for(seen, NULL, "the signal");
	say("SIGRTMIN+%d, %s, band %s", got_signal - SIGRTMIN,
	    got_fd == fd ? "its descriptor" : "another", got_band & POLLIN ? "in" : "not in");
	TELL(fcntl(fd, F_GETSIG) - SIGRTMIN);
}

static void without_owner(void)
{
	int fd = connected(1);

	on(SIGIO);
	NEED(fcntl(fd, F_SETFL, O_ASYNC));
	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	nap_ms(30);
	say("signals: %s", signals_seen ? "some" : "none");
}

static void not_async(void)
{
	int fd = connected(1);

	on(SIGIO);
	NEED(fcntl(fd, F_SETOWN, getpid()));
	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	nap_ms(30);
	say("signals: %s", signals_seen ? "some" : "none");
}

static void switched_off(void)
{
	int fd = connected(1);

	on(SIGIO);
	async(fd);
	NEED(fcntl(fd, F_SETFL, 0));
	signals_seen = 0;
	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	nap_ms(30);
	say("signals: %s", signals_seen ? "some" : "none");
}

static void by_ioctl(void)
{
	int fd = connected(1), one = 1, pid = getpid();

	on(SIGIO);
	TELL(ioctl(fd, FIOSETOWN, &pid));
	TELL(ioctl(fd, FIOASYNC, &one));
	say("%s", fcntl(fd, F_GETFL) & O_ASYNC ? "O_ASYNC" : "not O_ASYNC");
	signals_seen = 0;
	peer_must("send 1 0 abc");
	expect_sigio();
}

static void owner_read_back(void)
{
	int fd = connected(1), pid = 0;
	struct f_owner_ex owner = { F_OWNER_PID, 0 };

	TELL(fcntl(fd, F_GETOWN));
	NEED(fcntl(fd, F_SETOWN, getpid()));
	say("%s", fcntl(fd, F_GETOWN) == getpid() ? "ours" : "not ours");
	TELL(ioctl(fd, FIOGETOWN, &pid));
	say("%s", pid == getpid() ? "ours" : "not ours");
	TELL(fcntl(fd, F_GETOWN_EX, &owner));
	say("%d %s", owner.type, owner.pid == getpid() ? "ours" : "not ours");
	NEED(fcntl(fd, F_SETOWN, -getpgrp()));
	say("%s", fcntl(fd, F_GETOWN) == -getpgrp() ? "group" : "not the group");
	TELL(fcntl(fd, F_SETOWN, 0));
	TELL(fcntl(fd, F_GETOWN));
	TELL(fcntl(fd, F_SETOWN, 0x7fffffff));
	TELL(fcntl(fd, F_SETSIG, 1000));
}

static void each_arrival(void)
{
	int fd = dgram_with(1);
	char data[8];

	on(SIGIO);
	async(fd);
	for (int i = 0; i < 3; i++) {
		signals_seen = 0;
		peer_must("send 1 0 abc");
		wait_for(seen, NULL, "SIGIO");
		say("%d: %s", i, signals_seen ? "signal" : "none");
		NEED(recv(fd, data, sizeof(data), 0));
	}
}

/* More than the buffer of a socket has room for. */
static void many_arrivals(void)
{
	int fd = dgram_with(1), missed = 0;
	char data[8];

	on(SIGIO);
	async(fd);
	for (int i = 0; i < 800; i++) {
		signals_seen = 0;
		peer_must("send 1 0 abc");
		wait_for(seen, NULL, "SIGIO");
		missed += !signals_seen;
		NEED(recv(fd, data, sizeof(data), 0));
	}
	say("missed: %d", missed);
}

/* si_fd is the descriptor by which it was set. */
static void by_a_duplicate(void)
{
	int fd = dgram_with(1), other = NEED(fcntl(fd, F_DUPFD, 50));
	char data[8];

	on(SIGRTMIN);
	NEED(fcntl(fd, F_SETSIG, SIGRTMIN));
	async(other);
	peer_must("send 1 0 abc");
	wait_for(seen, NULL, "the signal");
	say("%s", got_fd == other ? "the duplicate" : got_fd == fd ? "the first" : "another");
	NEED(recv(fd, data, sizeof(data), 0));
	signals_seen = 0;
	close(other);
	peer_must("send 1 0 abc");
	wait_for(seen, NULL, "the signal");
	say("%d", signals_seen ? 1 : 0);
}

static void to_a_group(void)
{
	int fd = dgram_with(1);

	NEED(setpgid(0, 0));
	on(SIGIO);
	NEED(fcntl(fd, F_SETOWN, -getpgrp()));
	NEED(fcntl(fd, F_SETFL, O_ASYNC));
	peer_must("send 1 0 abc");
	expect_sigio();
}

static void to_a_thread(void)
{
	struct f_owner_ex owner = { F_OWNER_TID, gettid() };
	int fd = dgram_with(1);

	on(SIGIO);
	TELL(fcntl(fd, F_SETOWN_EX, &owner));
	NEED(fcntl(fd, F_SETFL, O_ASYNC));
	peer_must("send 1 0 abc");
	expect_sigio();
}

static void owner_comes_later(void)
{
	int fd = connected(1);

	on(SIGIO);
	NEED(fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK));
	NEED(fcntl(fd, F_SETOWN, getpid()));
	signals_seen = 0;
	peer_must("send 1 0 abc");
	expect_sigio();
}

static void a_parent_goes_on(void)
{
	int fd = dgram_with(1);
	pid_t pid;

	on(SIGIO);
	async(fd);
	pid = fork();
	if (!pid)
		_exit(0);
	say_child("child", pid);
	signals_seen = 0;
	peer_must("send 1 0 abc");
	expect_sigio();
}

static void on_both_ends_closed(void)
{
	int fd = connected(1);

	on(SIGRTMIN);
	NEED(fcntl(fd, F_SETSIG, SIGRTMIN));
	async(fd);
	NEED(shutdown(fd, SHUT_WR));
	peer_must("wait 1 %d", POLLRDHUP);
	signals_seen = 0;
	peer_must("close 1");
	wait_for(seen, NULL, "the signal");
	say("band %s", got_band & POLLHUP ? "hup" : "not hup");
}

static void of_a_child(void)
{
	int fd = dgram_with(1);
	pid_t pid = fork();

	if (!pid) {
		on(SIGIO);
		async(fd);
		peer_must("send 1 0 abc");
		expect_sigio();
		_exit(0);
	}
	say_child("child", pid);
	say("%s", fcntl(fd, F_GETFL) & O_ASYNC ? "O_ASYNC" : "not O_ASYNC");
}

static void bytes_stay_in_order(void)
{
	int fd = connected(1);
	char data[64] = "";

	on(SIGIO);
	async(fd);
	for (int i = 0; i < 5; i++)
		peer_must("send 1 0 n%d", i);
	recv_all(fd, data, 10);
	say("%s", data);
	TELL(recv(fd, data, 1, MSG_DONTWAIT));
}

const struct call_case cases[] = {
	{ "bytes_arrive", bytes_arrive },
	{ "datagram_arrives", datagram_arrives },
	{ "connection_arrives", connection_arrives },
	{ "the_end_arrives", the_end_arrives },
	{ "another_signal", another_signal },
	{ "without_owner", without_owner },
	{ "not_async", not_async },
	{ "switched_off", switched_off },
	{ "by_ioctl", by_ioctl },
	{ "owner_read_back", owner_read_back },
	{ "each_arrival", each_arrival },
	{ "many_arrivals", many_arrivals },
	{ "by_a_duplicate", by_a_duplicate },
	{ "to_a_group", to_a_group },
	{ "to_a_thread", to_a_thread },
	{ "owner_comes_later", owner_comes_later },
	{ "a_parent_goes_on", a_parent_goes_on },
	{ "on_both_ends_closed", on_both_ends_closed },
	{ "of_a_child", of_a_child },
	{ "bytes_stay_in_order", bytes_stay_in_order },
};
const size_t case_count = COUNT(cases);
