/* SPDX-License-Identifier: MIT */
/*
 * What programs do to themselves while they have sockets: confine themselves, change
 * users and programs, end in the middle of a call, close everything; and code that no
 * library sees.
 */
#include "conformance.h"
#include "ring.h"

#include <grp.h>
#include <libgen.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static char data[65536];

/* --- what the cases share ------------------------------------------------ */

/* Both directions of a stream whose other end is in @slot of the peer. */
static void exchange(int fd, int slot, const char *text)
{
	say_result("send", send(fd, text, strlen(text), 0));
	peer_tell("recv %d 100 0", slot);
	peer_must("send %d 0 answer", slot);
	memset(data, 0, 16);
	say_bytes("recv", recv(fd, data, 16, 0), data);
}

/* A new connection, and the same over that. */
static void new_exchange(int slot, const char *text)
{
	int fd = connected(slot);

	exchange(fd, slot, text);
	close(fd);
	peer_tell("recv %d 10 0", slot);
}

static const char *program(const char *name)
{
	static char path[PATH_MAX + 64];
	char self[PATH_MAX];
	ssize_t len = NEED(readlink("/proc/self/exe", self, sizeof(self) - 1));

	self[len] = '\0';
	snprintf(path, sizeof(path), "%s/%s", dirname(self), name);
	return path;
}

static bool is_root(void)
{
	if (!geteuid())
		return true;
	say("not root");
	return false;
}

static void *recv_one(void *arg)
{
	char byte;

	return (void *)(intptr_t)recv(*(int *)arg, &byte, 1, 0);
}

/* --- confined -------------------------------------------------------------- */

static void chroot_before(void)
{
	if (!is_root())
		return;
	TELL(chroot("/proc/self/fdinfo"));
	new_exchange(1, "behind it");
}

static void chroot_between(void)
{
	int fd = connected(1);

	if (!is_root())
		return;
	TELL(chroot("/proc/self/fdinfo"));
	exchange(fd, 1, "from before");
	new_exchange(2, "behind it");
}

static void chroot_then_sleeps(void)
{
	pthread_t thread;
	int fd = connected(1);
	void *got;

	if (!is_root())
		return;
	NEED(chroot("/proc/self/fdinfo"));
	NEED(-pthread_create(&thread, NULL, recv_one, &fd));
	nap_ms(20);
	peer_must("send 1 0 x");
	pthread_join(thread, &got);
	say("received %ld", (long)(intptr_t)got);
}

static void other_user(void)
{
	int fd = connected(1);

	if (!is_root())
		return;
	NEED(setgroups(0, NULL));
	NEED(setgid(65534));
	TELL(setuid(65534));
	exchange(fd, 1, "as nobody");
	new_exchange(2, "nobody's own");
}

/* As servers do: the child serves as another user what root accepted. */
static void other_user_in_child(void)
{
	int fd = connected(1);
	pid_t pid;

	if (!is_root())
		return;
	pid = NEED(fork());
	if (!pid) {
		NEED(setgroups(0, NULL));
		NEED(setgid(65534));
		NEED(setuid(65534));
		exchange(fd, 1, "as nobody");
		new_exchange(2, "nobody's own");
		exit(0);
	}
	say_child("child", pid);
	exchange(fd, 1, "as before");
}

static void few_descriptors(void)
{
	struct rlimit limit;
	int fd = connected(1), count = 0;

	NEED(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = 24;
	NEED(setrlimit(RLIMIT_NOFILE, &limit));
	while (socket(family, SOCK_STREAM, 0) >= 0)
		count++;
	say_result("socket", -1);
	say("some %d", count > 2);
	exchange(fd, 1, "none is left");
}

/* --- ends --------------------------------------------------------------------- */

static void abort_in_recv(void)
{
	int fd = connected(1);
	pid_t pid = NEED(fork());

	if (!pid) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
		(void)!recv(fd, data, 1, 0);
		exit(1);
	}
	wait_asleep(pid);
	NEED(kill(pid, SIGABRT));
	say_child("child", pid);
	exchange(fd, 1, "the parent's");
	close(fd);
	peer_tell("recv 1 10 0");
}

static void abort_in_send(void)
{
	int fd = connected(1);
	pid_t pid = NEED(fork());

	if (!pid) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
		for (uint64_t at = 0;; at += sizeof(data)) {
			pattern_fill((uint8_t *)data, sizeof(data), at);
			NEED(send(fd, data, sizeof(data), 0));
		}
	}
	wait_asleep(pid); /* all is full */
	NEED(kill(pid, SIGABRT));
	say_child("child", pid);
	peer_begin("drain 1");
	NEED(shutdown(fd, SHUT_WR));
	say("whole %d", peer_answer() > 0);
}

static void aborts_itself(void)
{
	int fd = connected(1);
	pid_t pid = NEED(fork());

	if (!pid) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
		NEED(send(fd, "last words", 10, 0));
		abort();
	}
	close(fd);
	say_child("child", pid);
	peer_tell("recv 1 100 0");
	peer_tell("recv 1 100 0");
}

static volatile sig_atomic_t abort_fd;

static void say_goodbye(int number)
{
	(void)number;
	(void)!send(abort_fd, "goodbye", 7, 0);
}

/* A handler of SIGABRT that sends, on top of a call that waits. */
static void abort_handled(void)
{
	int fd = connected(1);
	pid_t pid;

	abort_fd = fd;
	signal(SIGABRT, say_goodbye); /* of the child from its first moment */
	pid = NEED(fork());
	if (!pid) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
		(void)!recv(fd, data, 1, 0);
		signal(SIGABRT, SIG_DFL);
		abort();
	}
	wait_asleep(pid);
	NEED(kill(pid, SIGABRT));
	peer_tell("recv 1 100 0");
	peer_must("send 1 0 x"); /* glibc's signal() restarts the call */
	say_child("child", pid);
}

/* --- cancelled ------------------------------------------------------------------ */

static void *poll_one(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };

	return (void *)(intptr_t)poll(&p, 1, -1);
}

static void *read_all(void *arg)
{
	while (read(*(int *)arg, data, sizeof(data)) > 0)
		;
	return NULL;
}

static void *write_all(void *arg)
{
	for (uint64_t at = 0;; at += sizeof(data)) {
		pattern_fill((uint8_t *)data, sizeof(data), at);
		if (write(*(int *)arg, data, sizeof(data)) < 0)
			return NULL;
	}
}

/* Of a stream that stdio uses, too. */
static void cancelled(void *(*call)(void *))
{
	int fd = connected(1);
	pthread_t thread;
	FILE *f = fdopen(dup(fd), "r+");
	void *ret;

	NEED(-pthread_create(&thread, NULL, call, &fd));
	nap_ms(50);
	NEED(-pthread_cancel(thread));
	NEED(-pthread_join(thread, &ret));
	say("cancelled %d", ret == PTHREAD_CANCELED);
	fclose(f);
	if (call == write_all) {
		peer_begin("drain 1");
		NEED(shutdown(fd, SHUT_WR));
		say("whole %d", peer_answer() > 0);
		return;
	}
	exchange(fd, 1, "afterwards");
}

static void cancelled_in_handed_recv(void)
{
	cancelled(recv_one);
}

static void cancelled_in_handed_read(void)
{
	cancelled(read_all);
}

static void cancelled_in_handed_poll(void)
{
	cancelled(poll_one);
}

static void cancelled_in_handed_write(void)
{
	cancelled(write_all);
}

/* --- everything closed ------------------------------------------------------------ */

/* In a child, as the peer's commands come by a descriptor, too. */
static void closes(void (*close_all)(void))
{
	int port = (int)peer_must("listen 5 %d 4", family), kept = connected(1);
	pid_t pid = NEED(fork());

	if (!pid) {
		struct name name = peer_name(port);
		int fd;

		close_all();
		say("still open %d", fcntl(kept, F_GETFD) >= 0);
		fd = socket(family, SOCK_STREAM, 0);
		say("lowest %d", fd);
		TELL(connect(fd, sa(&name), name.len));
		NEED(send(fd, "anew", 4, 0));
		say("received %zd", recv(fd, data, 1, 0));
		exit(0);
	}
	peer_must("accept 5 2");
	peer_tell("recv 2 10 0");
	peer_must("send 2 0 x");
	say_child("child", pid);
	exchange(kept, 1, "the parent's");
}

static void by_range(void)
{
	TELL(close_range(3, ~0u, 0));
}

static void by_closefrom(void)
{
	closefrom(3);
}

static void one_by_one(void)
{
	for (int fd = 3; fd < 5000; fd++)
		close(fd);
}

static void by_number(void)
{
	TELL(syscall(SYS_close_range, 3, ~0u, 0));
}

static void close_range_over_all(void)
{
	closes(by_range);
}

static void closefrom_over_all(void)
{
	closes(by_closefrom);
}

static void close_over_all(void)
{
	closes(one_by_one);
}

static void close_range_by_number(void)
{
	closes(by_number);
}

/* --- other programs ----------------------------------------------------------------- */

static pid_t helper(bool is_static, const char *what, int fd)
{
	pid_t pid = NEED(fork());
	char number[12];

	if (pid)
		return pid;
	snprintf(number, sizeof(number), "%d", fd);
	execl(program(is_static ? "calls_helper_static" : "calls_helper"), "helper", what, number,
	      NULL);
	_exit(99);
}

static void echoed_by(bool is_static)
{
	int fd = connected(1);
	pid_t pid;

	NEED(send(fd, "first ", 6, 0));
	peer_must("send 1 0 early");
	pid = helper(is_static, "echo", fd);
	close(fd);
	peer_must("waitbytes 1 11");
	peer_tell("recv 1 100 0");
	peer_must("send 1 0 late");
	peer_tell("recv 1 100 0");
	peer_must("shutdown 1 1");
	say_child("helper", pid);
	peer_tell("recv 1 100 0");
}

static void exec_static(void)
{
	echoed_by(true);
}

static void exec_dynamic(void)
{
	echoed_by(false);
}

static void *exec_here(void *arg)
{
	char number[12];

	snprintf(number, sizeof(number), "%d", *(int *)arg);
	execl(program("calls_helper"), "helper", "echo", number, NULL);
	return NULL;
}

/* Not by the first thread, while another one sleeps on the socket. */
static void exec_by_a_thread(void)
{
	int fd = connected(1), pipes[2];
	pid_t pid;

	NEED(pipe2(pipes, O_CLOEXEC)); /* ends with the exec, and with it the thread that sleeps */
	pid = NEED(fork());
	if (!pid) {
		pthread_t thread[2];

		pthread_create(&thread[0], NULL, recv_one, &fd);
		nap_ms(20);
		pthread_create(&thread[1], NULL, exec_here, &fd);
		pause();
	}
	close(fd);
	close(pipes[1]);
	NEED(read(pipes[0], data, 1));
	peer_must("send 1 0 whose");
	peer_tell("recv 1 100 0");
	peer_must("shutdown 1 1");
	say_child("helper", pid);
}

/* A listener as descriptor 3, and who is told so. */
static void activation(bool is_static)
{
	struct name name;
	int l = listener(&name);
	pid_t pid = NEED(fork());

	if (!pid) {
		char number[12];

		if (l == 3)
			NEED(fcntl(3, F_SETFD, 0));
		else
			NEED(dup2(l, 3));
		snprintf(number, sizeof(number), "%d", getpid());
		setenv("LISTEN_PID", number, 1);
		setenv("LISTEN_FDS", "1", 1);
		execl(program(is_static ? "calls_helper_static" : "calls_helper"), "helper",
		      "activated", "3", NULL);
		_exit(99);
	}
	close(l);
	peer_must("connect 1 %d %d", family, port_of(&name));
	peer_must("send 1 0 whoever");
	peer_tell("recv 1 100 0");
	peer_must("shutdown 1 1");
	peer_tell("recv 1 100 0");
	say_child("activated", pid);
}

static void socket_activation(void)
{
	activation(false);
}

/* --- daemon -------------------------------------------------------------------------- */

static void daemonized(void)
{
	int fd = connected(1);
	pid_t pid = NEED(fork());

	if (!pid) {
		if (daemon(1, 0))
			_exit(1);
		(void)!send(fd, "from the background", 19, 0);
		_exit(0);
	}
	say_child("starter", pid);
	peer_must("waitbytes 1 19");
	peer_tell("recv 1 100 0");
	exchange(fd, 1, "the parent's");
	close(fd);
	peer_tell("recv 1 100 0");
}

/* --- children in their parent's memory --------------------------------------------- */

static int close_and_end(void *fd)
{
	close(*(const int *)fd);
	_exit(7);
}

/* As vfork(), but on a stack of its own: what it closes is its own. */
static void clone_like_vfork(void)
{
	static _Alignas(16) char stack[65536];
	int fd = connected(1);

	say_child("child", NEED(clone(close_and_end, stack + sizeof(stack),
				      CLONE_VM | CLONE_VFORK | SIGCHLD, &fd)));
	exchange(fd, 1, "the parent's");
}

static void clone_by_arguments(void)
{
	struct clone_args args = { .flags = CLONE_VFORK, .exit_signal = SIGCHLD };
	int fd = connected(1);
	pid_t pid = (pid_t)NEED(syscall(SYS_clone3, &args, sizeof(args)));

	if (!pid)
		close_and_end(&fd);
	say_child("child", pid);
	exchange(fd, 1, "the parent's");
	args.flags = 0;
	pid = (pid_t)NEED(syscall(SYS_clone3, &args, sizeof(args)));
	if (!pid) {
		exchange(fd, 1, "the child's");
		new_exchange(2, "a new one");
		_exit(0);
	}
	say_child("child", pid);
	exchange(fd, 1, "the parent's again");
}

/* --- io_uring ------------------------------------------------------------------------- */

static void ring_reads_and_writes(void)
{
	int fd = connected(1);

	if (!ring_works())
		return;
	io_uring_prep_write(io_uring_get_sqe(&ring), fd, "written", 7, 0);
	say("write %d", ring_wait());
	peer_tell("recv 1 100 0");
	peer_must("send 1 0 to_be_read");
	memset(data, 0, 16);
	io_uring_prep_read(io_uring_get_sqe(&ring), fd, data, 16, 0);
	say_bytes("read", ring_wait(), data);
	peer_must("shutdown 1 1");
	io_uring_prep_read(io_uring_get_sqe(&ring), fd, data, 16, 0);
	say("end %d", ring_wait());
}

static void ring_sends_and_receives(void)
{
	int fd = connected(1);

	if (!ring_works())
		return;
	io_uring_prep_send(io_uring_get_sqe(&ring), fd, "sent", 4, MSG_NOSIGNAL);
	say("send %d", ring_wait());
	peer_tell("recv 1 100 0");
	peer_must("send 1 0 to_be_had");
	memset(data, 0, 16);
	io_uring_prep_recv(io_uring_get_sqe(&ring), fd, data, 16, MSG_PEEK);
	say_bytes("peek", ring_wait(), data);
	memset(data, 0, 16);
	io_uring_prep_recv(io_uring_get_sqe(&ring), fd, data, 5, 0);
	say_bytes("recv", ring_wait(), data);
	say_bytes("recv by call", recv(fd, data, 16, 0), data);
	say_result("send by call", send(fd, "by call", 7, 0));
	peer_tell("recv 1 100 0");
}

static void ring_polls(void)
{
	int fd = connected(1);

	if (!ring_works())
		return;
	io_uring_prep_poll_add(io_uring_get_sqe(&ring), fd, POLLOUT);
	say("out %d", ring_wait() == POLLOUT);
	io_uring_prep_poll_add(io_uring_get_sqe(&ring), fd, POLLIN);
	peer_must("send 1 0 x");
	say("in %d", (ring_wait() & (POLLIN | POLLERR)) == POLLIN);
	say_bytes("recv", recv(fd, data, 16, 0), data);
	io_uring_prep_poll_add(io_uring_get_sqe(&ring), fd, POLLIN | POLLRDHUP);
	peer_must("shutdown 1 1");
	say("end %d", (ring_wait() & (POLLRDHUP | POLLERR)) == POLLRDHUP);
}

/* A connection that was accepted by a call, after the ring was there. */
static void ring_then_connection(void)
{
	int fd;

	if (!ring_works())
		return;
	fd = accepted(1);
	io_uring_prep_write(io_uring_get_sqe(&ring), fd, "written", 7, 0);
	say("write %d", ring_wait());
	peer_tell("recv 1 100 0");
	fd = connected(2);
	io_uring_prep_write(io_uring_get_sqe(&ring), fd, "too", 3, 0);
	say("write %d", ring_wait());
	peer_tell("recv 2 100 0");
}

/* --- stdio ------------------------------------------------------------------------------ */

static void stdio_on_socket(void)
{
	int fd = connected(1);
	FILE *f = fdopen(fd, "r+");
	char line[64];

	fprintf(f, "a line of %d\n", 10);
	fflush(f);
	peer_tell("recv 1 100 0");
	peer_must("send 1 0 one\ntwo\n");
	say("%s", fgets(line, sizeof(line), f));
	peer_must("shutdown 1 1");
	while (fgets(line, sizeof(line), f))
		say("%s", line);
	say("end %d error %d", feof(f), ferror(f));
	fclose(f);
	peer_tell("recv 1 10 0");
}

const struct call_case cases[] = {
	{ "chroot_before", chroot_before },
	{ "chroot_between", chroot_between },
	{ "chroot_then_sleeps", chroot_then_sleeps },
	{ "other_user", other_user },
	{ "other_user_in_child", other_user_in_child },
	{ "few_descriptors", few_descriptors },
	{ "abort_in_recv", abort_in_recv },
	{ "abort_in_send", abort_in_send },
	{ "aborts_itself", aborts_itself },
	{ "abort_handled", abort_handled },
	{ "cancelled_in_handed_recv", cancelled_in_handed_recv },
	{ "cancelled_in_handed_read", cancelled_in_handed_read },
	{ "cancelled_in_handed_poll", cancelled_in_handed_poll },
	{ "cancelled_in_handed_write", cancelled_in_handed_write },
	{ "close_range_over_all", close_range_over_all },
	{ "closefrom_over_all", closefrom_over_all },
	{ "close_over_all", close_over_all },
	{ "close_range_by_number", close_range_by_number },
	{ "exec_static", exec_static },
	{ "exec_dynamic", exec_dynamic },
	{ "exec_by_a_thread", exec_by_a_thread },
	{ "socket_activation", socket_activation },
	{ "daemonized", daemonized },
	{ "clone_like_vfork", clone_like_vfork },
	{ "clone_by_arguments", clone_by_arguments },
	{ "ring_reads_and_writes", ring_reads_and_writes },
	{ "ring_sends_and_receives", ring_sends_and_receives },
	{ "ring_polls", ring_polls },
	{ "ring_then_connection", ring_then_connection },
	{ "stdio_on_socket", stdio_on_socket },
};
const size_t case_count = COUNT(cases);
