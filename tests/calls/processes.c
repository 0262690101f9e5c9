/* SPDX-License-Identifier: MIT */
/* fork: children that inherit sockets, serve, share a listener, and end first or last. */
#include "calls.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

extern char **environ;

static char data[4096];

static struct name name;

static int dial(void)
{
	int fd = NEED(socket(family, SOCK_STREAM, 0));

	NEED(connect(fd, sa(&name), name.len));
	return fd;
}

/* A listener ends with its last process, if not at the same moment. */
static void until_refused(void)
{
	for (int64_t end = now_ms() + 5000; now_ms() < end; nap_ms(1)) {
		int fd = NEED(socket(family, SOCK_STREAM, 0));

		if (connect(fd, sa(&name), name.len) < 0 && errno == ECONNREFUSED) {
			say("refused");
			return;
		}
		close(fd);
	}
	say("never refused");
}

static void echo(int fd)
{
	ssize_t got;

	while ((got = NEED(recv(fd, data, sizeof(data), 0))) > 0)
		send_all(fd, data, got);
}

static void ask(int fd, const char *text)
{
	char answer[64] = "";

	send_all(fd, text, strlen(text));
	recv_all(fd, answer, strlen(text));
	say("%s", answer);
}

/* A forking server: each child serves one connection. */
static void child_serves(void)
{
	int fd = listener(&name);
	pid_t server = NEED(fork());

	if (!server) {
		for (int i = 0; i < 5; i++) {
			int a = NEED(accept(fd, NULL, NULL));

			if (!NEED(fork())) {
				close(fd);
				echo(a);
				_exit(0);
			}
			close(a);
		}
		for (int i = 0; i < 5; i++)
			wait(NULL);
		_exit(0);
	}
	close(fd);
	for (int i = 0; i < 5; i++) {
		int c = dial();

		ask(c, "first");
		ask(c, "second");
		close(c);
	}
	say_child("server", server);
	until_refused();
}

/* Parent and child accept on one listener. */
static void both_accept(void)
{
	int fd = listener(&name), total = 0;
	char who[2] = { 0 };
	pid_t child[2];

	for (int i = 0; i < 2; i++) {
		child[i] = NEED(fork());
		if (child[i])
			continue;
		for (;;) {
			int a = NEED(accept(fd, NULL, NULL));
			char byte;

			recv_all(a, &byte, 1);
			if (byte == 'q')
				_exit(0);
			send_all(a, i ? "1" : "0", 1);
			close(a);
		}
	}
	for (int i = 0; i < 60; i++) {
		int c = dial();

		send_all(c, "n", 1);
		recv_all(c, data, 1);
		who[data[0] & 1] = 1;
		total++;
		close(c);
	}
	say("%d served", total);
	close(fd);
	for (int i = 0; i < 2; i++) {
		send_all(dial(), "q", 1);
		NEED(wait(NULL));
	}
	say("who: %s", who[0] || who[1] ? "somebody" : "nobody");
	until_refused();
}

/* The parent lets go of what its child talks on. */
static void child_inherits(void)
{
	int fd[2];
	pid_t pid;

	stream_pair(fd);
	pid = NEED(fork());
	if (!pid) {
		close(fd[1]);
		ask(fd[0], "from the child");
		_exit(7);
	}
	close(fd[0]);
	echo(fd[1]); /* until the child has ended */
	say_child("child", pid);
}

/* The child ends; what it shared with its parent lives. */
static void parent_goes_on(void)
{
	int fd[2], udp[2];
	pid_t pid;

	stream_pair(fd);
	dgram_pair(udp);
	for (int i = 0; i < 3; i++) {
		pid = NEED(fork());
		if (!pid) {
			if (i == 1)
				send_all(fd[0], "c", 1);
			if (i == 2)
				close(fd[0]);
			_exit(0);
		}
		say_child("child", pid);
	}
	recv_all(fd[1], data, 1);
	say_events("alive", events_now(fd[1], POLLIN | POLLRDHUP));
	send_all(fd[0], "parent", 6);
	recv_all(fd[1], data, 6);
	send_all(udp[0], "udp", 3);
	TELL(recv(udp[1], data, sizeof(data), 0));
}

/* Killed in the middle: the peer sees the end. */
static void killed(void)
{
	int fd[2];
	pid_t pid;

	stream_pair(fd);
	pid = NEED(fork());
	if (!pid) {
		close(fd[1]);
		send_all(fd[0], "x", 1);
		pause();
	}
	close(fd[0]);
	recv_all(fd[1], data, 1);
	kill(pid, SIGKILL);
	TELL(recv(fd[1], data, 1, 0));
	say_child("child", pid);
}

/* Both write to one stream, and both read from one. */
static void shared_stream(void)
{
	enum { RECORDS = 2000, LEN = 16 };
	int fd[2], count[2] = { 0 };
	pid_t pid;

	stream_pair(fd);
	pid = NEED(fork());
	memset(data, pid ? 'p' : 'c', LEN);
	for (int i = 0; i < RECORDS; i++) {
		send_all(fd[0], data, LEN);
		if (pid && i % 50 == 49)
			for (int j = 0; j < 50; j++) {
				char got[LEN];

				recv_all(fd[1], got, LEN);
				count[got[0] == 'p']++;
				for (int k = 1; k < LEN; k++)
					if (got[k] != got[0])
						say("torn record");
			}
	}
	if (!pid)
		_exit(0);
	while (count[0] + count[1] < 2 * RECORDS) {
		char got[LEN];

		recv_all(fd[1], got, LEN);
		count[got[0] == 'p']++;
	}
	say("parent %d child %d", count[1], count[0]);
	say_child("child", pid);
}

/* A child inherits an epoll set with its members. */
static void epoll_inherited(void)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 5 };
	int fd[2], set = NEED(epoll_create1(0));
	pid_t pid;

	stream_pair(fd);
	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &ev));
	pid = NEED(fork());
	if (!pid) {
		ev.data.u32 = 0;
		TELL(epoll_wait(set, &ev, 1, 5000));
		say("data %u", ev.data.u32);
		TELL(recv(fd[0], data, sizeof(data), 0));
		_exit(0);
	}
	send_all(fd[1], "hello", 5);
	say_child("child", pid);
	TELL(epoll_wait(set, &ev, 1, 10));
	send_all(fd[1], "again", 5);
	TELL(epoll_wait(set, &ev, 1, 5000));
	TELL(recv(fd[0], data, sizeof(data), 0));
}

/* A process that makes sockets only after it was forked, and its children too. */
static void generations(void)
{
	int fd[2], depth = 0;
	pid_t pid;

	while (depth < 4) {
		stream_pair(fd);
		ask(fd[0], (send_all(fd[1], "g", 1), "g"));
		recv_all(fd[1], data, 1);
		close(fd[0]);
		close(fd[1]);
		pid = NEED(fork());
		if (pid) {
			say_child("child", pid);
			break;
		}
		depth++;
	}
	if (depth)
		_exit(depth);
}

/* posix_spawn of something that has nothing to do with sockets. */
static void spawned(void)
{
	char *yes[] = { "true", NULL };
	int fd[2];
	pid_t pid;

	stream_pair(fd);
	if (posix_spawnp(&pid, yes[0], NULL, NULL, yes, environ))
		say("not spawned");
	say_child("true", pid);
	pid = vfork();
	if (!pid)
		_exit(5);
	say_child("vfork", pid);
	say("system %d", system("exit 4") >> 8);
	send_all(fd[0], "x", 1);
	recv_all(fd[1], data, 1);
	say("alive");
}

/* From here on whoever makes or names a socket, or a file, is killed. */
static void filter(void)
{
	static const unsigned int killed[] = {
		SYS_socket,   SYS_connect, SYS_socketpair, SYS_sendmsg, SYS_recvmsg,     SYS_sendto,
		SYS_recvfrom, SYS_dup,     SYS_fcntl,      SYS_openat,  SYS_sched_yield, SYS_mmap,
	};
	struct sock_filter code[2 * COUNT(killed) + 2] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};
	struct sock_fprog program = { .len = COUNT(code), .filter = code };

	for (size_t i = 0; i < COUNT(killed); i++) {
		code[2 * i + 1] =
			(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, killed[i], 0, 1);
		code[2 * i + 2] =
			(struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	}
	code[COUNT(code) - 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	NEED(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

/* As sshd's child does that talks to whoever has not said yet who he is. */
static void confined(void)
{
	const struct rlimit one = { 1, 1 };
	char data[8];
	int fd[2];
	pid_t pid;

	stream_pair(fd);
	pid = NEED(fork());
	if (!pid) {
		if (!geteuid())
			NEED(chroot("/usr"));
		NEED(setrlimit(RLIMIT_NOFILE, &one));
		filter();
		close(fd[0]);
		while (read(fd[1], data, sizeof(data)) > 0)
			if (write(fd[1], data, sizeof(data)) != sizeof(data))
				_exit(1);
		_exit(3);
	}
	close(fd[1]);
	for (int i = 0; i < 5; i++) {
		nap_ms(20); /* it sleeps */
		send_all(fd[0], "confined", 8);
		recv_all(fd[0], data, 8);
		say("%.8s", data);
	}
	shutdown(fd[0], SHUT_WR);
	say_child("child", pid);
}

/* The parent goes on when the child has executed a program, or ended; not before. */
static void vfork_waits(void)
{
	char *yes[] = { "true", NULL };
	int way[2], fd[2];
	pid_t pid;

	NEED(pipe2(way, O_CLOEXEC | O_NONBLOCK));
	stream_pair(fd);
	for (int i = 0; i < 2; i++) {
		char byte = 0;

		pid = vfork();
		if (!pid) {
			nap_ms(30);
			(void)!write(way[1], "x", 1);
			if (i)
				_exit(3);
			execv("/bin/true", yes);
			_exit(99);
		}
		say("waited %zd", read(way[0], &byte, 1));
		say_child("vfork", pid);
		send_all(fd[0], "x", 1);
		recv_all(fd[1], &byte, 1);
	}
}

/* Uses its parent's socket, one of its own, and closes both. */
static int cloned(void *arg)
{
	int *fd = arg, own[2];

	send_all(fd[0], "child", 5);
	stream_pair(own);
	send_all(own[0], "own", 3);
	close(own[0]);
	close(fd[0]);
	close(fd[1]);
	return 7;
}

static void clones(void)
{
	static char stack[65536] __attribute__((aligned(64)));
	char text[6] = "";
	int fd[2], status;
	pid_t pid;

	for (int i = 0; i < 4; i++) {
		stream_pair(fd);
		if (i == 0)
			pid = clone(cloned, stack + sizeof(stack), SIGCHLD, fd);
		else if (i == 1)
			pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		else if (i == 2)
			pid = (pid_t)syscall(SYS_clone, SIGCHLD | CLONE_VFORK, 0, 0, 0, 0);
		else
			pid = _Fork();
		if (!pid)
			_exit(cloned(fd));
		NEED(pid);
		recv_all(fd[1], text, 5);
		say("%s", text);
		NEED(waitpid(pid, &status, 0));
		say("status %d", WEXITSTATUS(status));
		send_all(fd[1], "still", 5);
		recv_all(fd[0], text, 5);
		say("%s", text);
		close(fd[0]);
		say("end %zd", recv(fd[1], text, 1, 0));
		close(fd[1]);
	}
}

/*
 * A child in another pid namespace is killed while it sends: whatever it held, the
 * parent goes on, and does not mistake a thread of its own for it.
 */
static void other_pids(void)
{
	static char block[1 << 16];
	int fd[2], dead = 0;

	stream_pair(fd);
	for (int i = 0; i < 3; i++) {
		pid_t pid, maker = NEED(fork());

		if (!maker) {
			if (unshare(CLONE_NEWPID)) /* not allowed here: then as any child */
				errno = 0;
			pid = NEED(fork());
			while (!pid)
				if (send(fd[0], block, sizeof(block), 0) < 0)
					_exit(1);
			nap_ms(30);
			NEED(kill(pid, SIGKILL));
			NEED(waitpid(pid, NULL, 0));
			_exit(0);
		}
		while (waitpid(maker, NULL, WNOHANG) == 0)
			(void)recv(fd[1], block, sizeof(block), MSG_DONTWAIT);
		while (send(fd[0], block, 1, MSG_DONTWAIT) != 1)
			(void)recv(fd[1], block, sizeof(block), MSG_DONTWAIT);
		dead++;
	}
	say("went on %d times", dead);
}

const struct call_case cases[] = {
	{ "child_serves", child_serves },
	{ "both_accept", both_accept },
	{ "child_inherits", child_inherits },
	{ "parent_goes_on", parent_goes_on },
	{ "killed", killed },
	{ "shared_stream", shared_stream },
	{ "epoll_inherited", epoll_inherited },
	{ "generations", generations },
	{ "spawned", spawned },
	{ "confined", confined },
	{ "vfork_waits", vfork_waits },
	{ "clones", clones },
	{ "other_pids", other_pids },
};
const size_t case_count = COUNT(cases);
