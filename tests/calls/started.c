/* SPDX-License-Identifier: MIT */
/*
 * Sockets in the hands of programs that are started with them, or get them over a UNIX
 * socket: exec, spawn, a shell, SCM_RIGHTS; linked statically, where no library gets in,
 * and dynamically.
 */
#include "calls.h"
#include "outside.h"

#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>

extern char **environ;

/* --- what the cases share ---------------------------------------------- */

static void keep_on_exec(int fd)
{
	NEED(fcntl(fd, F_SETFD, 0));
}

static pid_t start(bool is_static, const char *what, int fd, int gone)
{
	pid_t pid = NEED(fork());
	char number[12];

	if (pid)
		return pid;
	if (gone >= 0)
		close(gone);
	keep_on_exec(fd);
	snprintf(number, sizeof(number), "%d", fd);
	execl(helper(is_static), "helper", what, number, "said", NULL);
	_exit(99);
}

/* --- programs ---------------------------------------------------------- */

static void echoed_by(bool is_static)
{
	int fd[2];
	pid_t pid;

	stream_pair(fd);
	put(fd[1], "before ");
	wait_bytes(fd[0], 7);
	put(fd[0], "first ");
	pid = start(is_static, "echo", fd[0], fd[1]);
	close(fd[0]);
	put(fd[1], "text");
	expect(fd[1], "first BEFORE TEXT");
	NEED(shutdown(fd[1], SHUT_WR));
	say_child("helper", pid);
	expect_end(fd[1]);
}

static void exec_static(void)
{
	echoed_by(true);
}

static void exec_dynamic(void)
{
	echoed_by(false);
}

static void waited_for_by(bool is_static)
{
	int fd[2];
	pid_t pid;

	stream_pair(fd);
	pid = start(is_static, "late", fd[0], fd[1]);
	close(fd[0]);
	nap_ms(20);
	put(fd[1], "late text");
	expect(fd[1], "late text");
	expect_end(fd[1]);
	NEED(shutdown(fd[1], SHUT_WR));
	say_child("helper", pid);
}

static void exec_polls(void)
{
	waited_for_by(true);
	waited_for_by(false);
}

/* The last words of a program that ends at once. */
static void exec_says(void)
{
	for (int i = 0; i < 2; i++) {
		int fd[2];
		pid_t pid;

		stream_pair(fd);
		put(fd[0], "parent ");
		pid = start(i, "say", fd[0], fd[1]);
		close(fd[0]);
		expect(fd[1], "parent said\n");
		expect_end(fd[1]);
		say_child("helper", pid);
	}
}

static void exec_named(void)
{
	int fd[2];
	pid_t pid;

	stream_pair(fd);
	pid = start(false, "name", fd[0], fd[1]);
	expect(fd[1], "port\n");
	say_child("helper", pid);
	put(fd[0], "and here");
	expect(fd[1], "and here");
}

/* A program that forgets everything, as servers do. */
static void exec_cleared(void)
{
	char *none[] = { NULL };
	int fd[2];
	pid_t pid;

	stream_pair(fd);
	pid = NEED(fork());
	if (!pid) {
		char number[12];

		keep_on_exec(fd[0]);
		snprintf(number, sizeof(number), "%d", fd[0]);
		execle(helper(false), "helper", "name", number, NULL, none);
		_exit(99);
	}
	expect(fd[1], "port\n");
	say_child("helper", pid);
}

static void say_limit(const char *what)
{
	struct rlimit limit;

	NEED(getrlimit(RLIMIT_AS, &limit));
	say("%s: %lu of %lu", what, limit.rlim_cur, limit.rlim_max);
}

/* An address space that libcanal's memory would not fit in: it is not the program's. */
static void exec_limited(void)
{
	const struct rlimit wanted = { 300000001, 400000000 }, wrong = { 2, 1 };
	struct rlimit before;
	struct name name;
	int fd = listener(&name), c = NEED(socket(family, SOCK_STREAM, 0));
	pid_t pid;

	TELL(setrlimit(RLIMIT_AS, &wanted));
	say_limit("limit");
	TELL(setrlimit(RLIMIT_AS, &wrong));
	TELL(prlimit(getpid(), RLIMIT_AS, &(struct rlimit){ 200 << 20, 200 << 20 }, &before));
	say("before: %lu of %lu", before.rlim_cur, before.rlim_max);
	TELL(mmap(NULL, 256 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	pid = start(false, "limited", fd, c);
	close(fd);
	NEED(connect(c, sa(&name), name.len));
	expect(c, "209715200 of 209715200\n");
	put(c, "said");
	expect(c, "SAID");
	close(c);
	say_child("helper", pid);
}

static void exec_listener(void)
{
	struct name name;
	int fd = listener(&name), c;
	pid_t pid = start(false, "accept", fd, -1);

	close(fd);
	c = NEED(socket(family, SOCK_STREAM, 0));
	NEED(connect(c, sa(&name), name.len));
	put(c, "listened");
	expect(c, "LISTENED");
	close(c);
	say_child("helper", pid);
}

/* One that waits in the backlog while the program changes. */
static void exec_backlog(void)
{
	struct name name;
	int fd = listener(&name), c = NEED(socket(family, SOCK_STREAM, 0));
	pid_t pid;

	NEED(connect(c, sa(&name), name.len));
	put(c, "early");
	pid = start(false, "accept", fd, c);
	close(fd);
	expect(c, "EARLY");
	close(c);
	say_child("helper", pid);
}

static void closed_on_exec(void)
{
	int fd[2];
	pid_t pid;

	stream_pair(fd);
	NEED(fcntl(fd[0], F_SETFD, FD_CLOEXEC));
	pid = NEED(fork());
	if (!pid) {
		close(fd[1]);
		execl("/bin/cat", "cat", "/dev/null", NULL);
		_exit(99);
	}
	close(fd[0]);
	expect_end(fd[1]);
	say_child("cat", pid);
}

/* A server in inetd's manner. */
static void spawned_with(const char *path, char **argv, char *const *env)
{
	posix_spawn_file_actions_t actions;
	int fd[2];
	pid_t pid;

	stream_pair(fd);
	NEED(fcntl(fd[0], F_SETFD, FD_CLOEXEC));
	NEED(fcntl(fd[1], F_SETFD, FD_CLOEXEC));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd[0], 0);
	posix_spawn_file_actions_adddup2(&actions, fd[0], 1);
	say("spawn %d", posix_spawn(&pid, path, &actions, NULL, argv, env));
	posix_spawn_file_actions_destroy(&actions);
	close(fd[0]);
	put(fd[1], "to and fro\n");
	expect(fd[1], argv[1] ? "TO AND FRO\n" : "to and fro\n");
	NEED(shutdown(fd[1], SHUT_WR));
	expect_end(fd[1]);
	say_child("child", pid);
}

static void spawned(void)
{
	char *cat[] = { "cat", NULL }, *echo[] = { "helper", "echo", "0", NULL };

	spawned_with("/bin/cat", cat, environ);
	spawned_with(helper(true), echo, environ);
	spawned_with(helper(false), echo, environ);
}

static void shell(void)
{
	int fd[2];
	char command[64];

	stream_pair(fd);
	keep_on_exec(fd[0]);
	snprintf(command, sizeof(command), "echo from the shell >&%d", fd[0]);
	say("system %d", system(command));
	expect(fd[1], "from the shell\n");
	snprintf(command, sizeof(command), "head -c 4 <&%d", fd[0]);
	put(fd[1], "four");
	fflush(stdout);
	pclose(popen(command, "w"));
	say(" ");
}

/* --- descriptors sent -------------------------------------------------- */

static void sent_to(bool is_static)
{
	int fd[2], way[2];
	pid_t pid;

	NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, way));
	pid = start(is_static, "take", way[1], way[0]);
	close(way[1]);
	stream_pair(fd);
	put(fd[1], "before ");
	wait_bytes(fd[0], 7);
	send_fd(way[0], fd[0]);
	close(fd[0]);
	put(fd[1], "sent");
	expect(fd[1], "BEFORE SENT");
	NEED(shutdown(fd[1], SHUT_WR));
	say_child("helper", pid);
	expect_end(fd[1]);
}

static void sent_away(void)
{
	sent_to(true);
	sent_to(false);
}

/* To oneself, and to a child that has no other way to it. */
static void sent_here(void)
{
	int fd[2], way[2], udp[2], got;
	struct name name;
	char data[64];
	pid_t pid;

	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, way));
	pid = NEED(fork());
	if (!pid) {
		got = receive_fd(way[1]);
		put(got, "child");
		got = receive_fd(way[1]);
		NEED(send(got, "record", 6, 0));
		got = receive_fd(way[1]);
		got = NEED(accept(got, NULL, NULL));
		put(got, "accepted");
		_exit(0);
	}
	stream_pair(fd);
	send_fd(way[0], fd[0]);
	expect(fd[1], "child");
	send_fd(way[1], fd[0]);
	got = receive_fd(way[0]);
	close(fd[0]);
	put(got, "myself");
	expect(fd[1], "myself");
	dgram_pair(udp);
	send_fd(way[0], udp[0]);
	say("%zd", recv(udp[1], data, sizeof(data), 0));
	fd[0] = listener(&name);
	send_fd(way[0], fd[0]);
	close(fd[0]);
	got = NEED(socket(family, SOCK_STREAM, 0));
	NEED(connect(got, sa(&name), name.len));
	expect(got, "accepted");
	say_child("child", pid);
}

const struct call_case cases[] = {
	{ "exec_static", exec_static },   { "exec_dynamic", exec_dynamic },
	{ "exec_polls", exec_polls },     { "exec_says", exec_says },
	{ "exec_named", exec_named },     { "exec_cleared", exec_cleared },
	{ "exec_limited", exec_limited }, { "exec_listener", exec_listener },
	{ "exec_backlog", exec_backlog }, { "closed_on_exec", closed_on_exec },
	{ "spawned", spawned },           { "shell", shell },
	{ "sent_away", sent_away },       { "sent_here", sent_here },
};
const size_t case_count = COUNT(cases);
