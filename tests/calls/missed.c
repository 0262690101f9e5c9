/* SPDX-License-Identifier: MIT */
/*
 * Sockets in the hands of code that no library sees, and of programs that are started
 * with them: stdio, raw system calls, exec, spawn, descriptors sent over UNIX sockets.
 */
#include "calls.h"
#include "early.h"

#include <libgen.h>
#include <limits.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

extern char **environ;

static char data[65536];

/* --- what the cases share ---------------------------------------------- */

/* Past every library. */
static long raw(long number, long x, long y, long z)
{
#if defined(__x86_64__)
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(number), "D"(x), "S"(y), "d"(z)
			 : "rcx", "r11", "memory");
	return ret;
#else
	return syscall(number, x, y, z);
#endif
}

static void expect(int fd, const char *text)
{
	size_t len = strlen(text);

	memset(data, 0, len + 1);
	recv_all(fd, data, len);
	if (memcmp(data, text, len))
		say("got '%.60s' and not '%.60s'", data, text);
	else
		say("%.60s", text);
}

static void put(int fd, const char *text)
{
	send_all(fd, text, strlen(text));
}

static void expect_end(int fd)
{
	say("end %zd", recv(fd, data, sizeof(data), 0));
}

/* helper.c beside this program: statically linked or not. */
static const char *helper(bool is_static)
{
	static char path[PATH_MAX + 32];
	char self[PATH_MAX];
	ssize_t len = NEED(readlink("/proc/self/exe", self, sizeof(self) - 1));

	self[len] = '\0';
	snprintf(path, sizeof(path), "%s/calls_helper%s", dirname(self),
		 is_static ? "_static" : "");
	return path;
}

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

/* --- stdio ------------------------------------------------------------- */

static void stdio_talk(void)
{
	char line[64];
	FILE *a, *b;
	int fd[2];

	stream_pair(fd);
	a = fdopen(fd[0], "r+");
	b = fdopen(fd[1], "r+");
	for (int i = 0; i < 3; i++) {
		fprintf(a, "question %d\n", i);
		fflush(a);
		say("%s", fgets(line, sizeof(line), b));
		fprintf(b, "answer %d\n", i);
		fflush(b);
		say("%s", fgets(line, sizeof(line), a));
	}
	fclose(a);
	say("%s", fgets(line, sizeof(line), b) ? "more" : "end");
	fclose(b);
}

/* What was on its way before goes first, in both directions. */
static void stdio_after_calls(void)
{
	char line[64];
	int fd[2];
	FILE *f;

	stream_pair(fd);
	put(fd[0], "from call\n");
	put(fd[1], "waiting\n");
	wait_bytes(fd[0], 8);
	f = fdopen(dup(fd[0]), "r+");
	fprintf(f, "from stdio\n");
	fflush(f);
	put(fd[0], "from call again\n");
	expect(fd[1], "from call\nfrom stdio\nfrom call again\n");
	say("%s", fgets(line, sizeof(line), f));
	put(fd[1], "once more\n");
	expect(fd[0], "once more\n");
	fclose(f);
	put(fd[0], "the descriptor lives\n");
	expect(fd[1], "the descriptor lives\n");
}

static void printed(void)
{
	int fd[2];

	stream_pair(fd);
	TELL(dprintf(fd[0], "%d and %s\n", 42, "text"));
	expect(fd[1], "42 and text\n");
}

/* --- names and options of what was handed over -------------------------- */

static void still_a_socket(void)
{
	int fd[2], value = 0;
	socklen_t len = sizeof(value);
	struct name name;

	stream_pair(fd);
	NEED(fdopen(fd[0], "r+") ? 0 : -1);
	name.len = sizeof(name.ss);
	NEED(getpeername(fd[0], sa(&name), &name.len));
	say_name("peer", &name);
	name = local_name(fd[0]);
	say_name("local", &name);
	TELL(getsockopt(fd[0], SOL_SOCKET, SO_TYPE, &value, &len));
	say("stream %d", value == SOCK_STREAM);
	value = 1;
	TELL(setsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, &value, sizeof(value)));
	value = 0;
	TELL(getsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, &value, &len));
	say("nodelay %d", value);
	TELL(connect(fd[0], sa(&name), name.len));
	TELL(sendto(fd[0], "x", 1, 0, sa(&name), name.len));
	TELL(shutdown(fd[0], SHUT_WR));
	expect(fd[1], "x");
	expect_end(fd[1]);
}

static void waits(void)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 3 };
	int fd[2], set = NEED(epoll_create1(0));

	stream_pair(fd);
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &ev));
	NEED(fdopen(fd[0], "r+") ? 0 : -1);
	say_events("nothing", events_now(fd[0], POLLIN | POLLOUT));
	TELL(epoll_wait(set, &ev, 1, 0));
	put(fd[1], "x");
	say_events("bytes", calls_wait(fd[0], POLLIN));
	ev.data.u32 = 0;
	TELL(epoll_wait(set, &ev, 1, 5000));
	say("data %u", ev.data.u32);
	expect(fd[0], "x");
	NEED(shutdown(fd[1], SHUT_WR));
	say_events("end", calls_wait(fd[0], POLLRDHUP | POLLIN));
	expect_end(fd[0]);
}

/* Another thread sleeps in each of the calls when the socket changes hands. */
static int sleeper_fd;

static void *sleep_in_recv(void *arg)
{
	*(ssize_t *)arg = recv(sleeper_fd, data, 1, 0);
	return NULL;
}

static void *sleep_in_poll(void *arg)
{
	struct pollfd p = { .fd = sleeper_fd, .events = POLLIN };

	*(ssize_t *)arg = poll(&p, 1, 10000);
	return NULL;
}

static void sleepers(void)
{
	void *(*const in[])(void *) = { sleep_in_recv, sleep_in_poll };

	for (size_t i = 0; i < COUNT(in); i++) {
		ssize_t result = -2;
		pthread_t thread;
		int fd[2];

		stream_pair(fd);
		sleeper_fd = fd[0];
		pthread_create(&thread, NULL, in[i], &result);
		nap_ms(20);
		NEED(fdopen(dup(fd[0]), "r+") ? 0 : -1);
		put(fd[1], "x");
		pthread_join(thread, NULL);
		say("result %zd", result);
	}
}

/* More than all buffers on the way hold, both directions. */
static void bulk(void)
{
	enum { LEN = 4 << 20 };
	int fd[2];
	FILE *f;
	pid_t pid;

	stream_pair(fd);
	f = fdopen(fd[0], "r+");
	pid = NEED(fork());
	if (!pid) {
		uint8_t piece[10000];
		uint64_t at = 0;

		fclose(f);
		while (at < LEN) {
			ssize_t got = NEED(recv(fd[1], piece, sizeof(piece), 0));

			if (!got || !pattern_fits(piece, (size_t)got, at))
				_exit(1);
			send_all(fd[1], piece, (size_t)got);
			at += (uint64_t)got;
		}
		_exit(0);
	}
	close(fd[1]);
	if (!NEED(fork())) {
		for (uint64_t at = 0; at < LEN; at += 8192) {
			pattern_fill((uint8_t *)data, 8192, at);
			if (fwrite(data, 1, 8192, f) != 8192)
				_exit(1);
		}
		fflush(f);
		_exit(0);
	}
	for (uint64_t at = 0; at < LEN; at += 8192) {
		if (fread(data, 1, 8192, f) != 8192 || !pattern_fits((uint8_t *)data, 8192, at)) {
			say("wrong at %llu", (unsigned long long)at);
			break;
		}
	}
	say_child("echo", pid);
	NEED(wait(NULL));
}

/* --- system calls ------------------------------------------------------ */

static void by_number(void)
{
	int fd[2];

	stream_pair(fd);
	TELL(syscall(SYS_write, fd[0], "number", 6));
	expect(fd[1], "number");
	put(fd[1], "back");
	wait_bytes(fd[0], 4);
	TELL(syscall(SYS_read, fd[0], data, 64));
	TELL(syscall(SYS_write, -1, "x", 1));
	TELL(syscall(SYS_close, fd[0]));
	expect_end(fd[1]);
}

/* Nobody can see these. */
static void by_instruction(void)
{
	int fd[2];

	stream_pair(fd);
	say("write %ld", raw(SYS_write, fd[0], (long)"raw", 3));
	expect(fd[1], "raw");
	put(fd[1], "answer");
	say("read %ld", raw(SYS_read, fd[0], (long)data, 64));
	say("%.6s", data);
	put(fd[0], "call");
	expect(fd[1], "call");
	say("write %ld", raw(SYS_write, fd[0], (long)"last", 4));
	say("close %ld", raw(SYS_close, fd[0], 0, 0));
	expect(fd[1], "last");
	expect_end(fd[1]);
}

static bool set_hears(int set, int fd)
{
	struct epoll_event got[4];
	int count = epoll_wait(set, got, 4, 0);

	for (int i = 0; i < count; i++)
		if (got[i].data.fd == fd)
			return true;
	return false;
}

static bool poll_hears(int busy, int fd)
{
	struct pollfd p[] = { { .fd = busy, .events = POLLIN }, { .fd = fd, .events = POLLIN } };

	return poll(p, 2, -1) > 0 && p[1].revents;
}

/* Another socket, which is always ready, hides nothing, nor does a look that does not wait. */
static void beside_busy(void)
{
	int busy[2], fd[2], set = NEED(epoll_create1(0));
	int64_t until = now_ms() + 5000;
	bool by_set = false, by_poll = false;

	stream_pair(busy);
	stream_pair(fd);
	for (int i = 0; i < 2; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.fd = i ? fd[0] : busy[0] };

		NEED(epoll_ctl(set, EPOLL_CTL_ADD, event.data.fd, &event));
	}
	put(busy[1], "here");
	wait_bytes(busy[0], 4);
	say("write %ld", raw(SYS_write, fd[0], (long)"raw", 3));
	expect(fd[1], "raw");
	put(fd[1], "answer");
	while (!by_poll && now_ms() < until)
		by_poll = poll_hears(busy[0], fd[0]);
	while (!by_set && now_ms() < until)
		by_set = set_hears(set, fd[0]);
	say("poll %d set %d", by_poll, by_set);
	expect(fd[0], "answer");
}

/* What a set has told once it does not tell again because the kernel has it now. */
static void told_once(void)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT }, got;
	int fd[2], set = NEED(epoll_create1(0));

	stream_pair(fd);
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &event));
	put(fd[1], "x");
	TELL(epoll_wait(set, &got, 1, 5000));
	say("write %ld", raw(SYS_write, fd[0], (long)"raw", 3));
	expect(fd[1], "raw");
	expect(fd[0], "x");
	put(fd[1], "more");
	wait_bytes(fd[0], 4);
	TELL(epoll_wait(set, &got, 1, 0));
	TELL(epoll_ctl(set, EPOLL_CTL_MOD, fd[0], &event));
	TELL(epoll_wait(set, &got, 1, 5000));
}

/* The set alone. */
static void looked_for(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	int fd[2], set = NEED(epoll_create1(0));
	int64_t until = now_ms() + 5000;

	stream_pair(fd);
	event.data.fd = fd[0];
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &event));
	say("write %ld", raw(SYS_write, fd[0], (long)"raw", 3));
	expect(fd[1], "raw");
	put(fd[1], "answer");
	while (!set_hears(set, fd[0]) && now_ms() < until)
		;
	say("%s", now_ms() < until ? "heard" : "not heard");
	expect(fd[0], "answer");
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

static void constructors(void)
{
	say("pair %d, flags %d, wrote %ld, got %ld, closed %d, again %d", early.pair, early.flags,
	    early.wrote, early.got, early.closed, early.again);
}

/* What a program forgets of its environment, libcanal knows. */
static void cleared(void)
{
	int fd[2];

	NEED(clearenv());
	stream_pair(fd);
	put(fd[0], "here");
	expect(fd[1], "here");
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

static void send_fd(int to, int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_level = SOL_SOCKET,
				  .cmsg_type = SCM_RIGHTS,
				  .cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct iovec iov = { "x", 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = CMSG_SPACE(sizeof(int)) };

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	NEED(sendmsg(to, &m, 0));
}

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

static int receive_fd(int from)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { data, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	int fd;

	NEED(recvmsg(from, &m, 0));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

/* To oneself, and to a child that has no other way to it. */
static void sent_here(void)
{
	int fd[2], way[2], udp[2], got;
	struct name name;
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
	{ "stdio_talk", stdio_talk },
	{ "stdio_after_calls", stdio_after_calls },
	{ "printed", printed },
	{ "still_a_socket", still_a_socket },
	{ "waits", waits },
	{ "sleepers", sleepers },
	{ "bulk", bulk },
	{ "by_number", by_number },
	{ "by_instruction", by_instruction },
	{ "beside_busy", beside_busy },
	{ "looked_for", looked_for },
	{ "told_once", told_once },
	{ "exec_static", exec_static },
	{ "exec_dynamic", exec_dynamic },
	{ "exec_polls", exec_polls },
	{ "exec_says", exec_says },
	{ "exec_named", exec_named },
	{ "exec_cleared", exec_cleared },
	{ "constructors", constructors },
	{ "cleared", cleared },
	{ "exec_limited", exec_limited },
	{ "exec_listener", exec_listener },
	{ "exec_backlog", exec_backlog },
	{ "closed_on_exec", closed_on_exec },
	{ "spawned", spawned },
	{ "shell", shell },
	{ "sent_away", sent_away },
	{ "sent_here", sent_here },
};
const size_t case_count = COUNT(cases);
