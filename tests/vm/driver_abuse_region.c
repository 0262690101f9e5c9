/* SPDX-License-Identifier: MIT */
/* What the driver reads of a region that a program can write: locks, nonsense, and no end of it when it is killed. */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver_abuse.h"

/* --- locks of a FIFO --------------------------------------------------- */

/* Socket 1 with one byte to read. */
static struct canal_sock *readable(const struct place *p)
{
	const struct canal_region *r = region(p);
	struct canal_sock *s = (void *)(p->map + r->sock.offset + r->sock.stride);

	s->state = CANAL_SOCK_CONNECTED;
	s->domain = AF_INET;
	s->type = SOCK_STREAM;
	s->shut = s->so_error = s->rx.closed = 0;
	s->rx.chunk[0] = 0;
	s->rx.head = 0;
	s->rx.tail = 1;
	return s;
}

/* A holder that lives is not robbed, also by one who cannot see it: in another pid
 * namespace its number means nothing. */
void test_lock_namespace(void)
{
	struct place p = place_new();
	struct canal_sock *s = readable(&p);
	uint32_t me = (uint32_t)gettid();
	int fd = dummy(p.fd, 1, 0), status;
	char byte;

	__atomic_store_n(&s->rx.rx_lock, me, __ATOMIC_RELEASE);
	if (fork() == 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWPID))
			_exit(errno == EPERM || errno == EINVAL ? 77 : 1);
		if (fork() == 0) {
			status = recv(fd, &byte, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN;
			_exit(status);
		}
		CHECK(wait(&status) > 0);
		_exit(status != 0);
	}
	CHECK(wait(&status) > 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		printf("%s: no namespaces for this user\n", current);
	else
		CHECK(status == 0 && s->rx.rx_lock == me);
	/* A holder that is gone is. */
	if (fork() == 0) {
		s->rx.rx_lock = (uint32_t)gettid();
		_exit(0);
	}
	CHECK(wait(&status) > 0);
	CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) == 1 && !s->rx.rx_lock);
	close(fd);
	place_end(&p);
}

/* A page that comes only when a userfaultfd gives it; -1: this user may not. */
static int page_late(uint8_t *page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { (uintptr_t)page, 4096 },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd >= 0 && (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &range))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* A copy that stops in the middle, at the caller's own buffer: it holds the lock as
 * the kernel, others wait or are told to come back, and it ends with its thread. */
void test_fault_in_copy(void)
{
	struct place p = place_new();
	struct canal_sock *s = readable(&p);
	uint8_t *page = map_at(0x400000000000ull, 4096);
	int fd = dummy(p.fd, 1, 0), late, status;
	pid_t pid;
	char byte;

	late = page_late(page);
	if (late < 0) {
		printf("%s: no userfaultfd for this user\n", current);
	} else {
		close(late);
		CHECK(fd >= 0);
		pid = fork();
		if (pid == 0) {
			page = map_at(0x400000000000ull, 4096);
			if (page_late(page) >= 0)
				(void)!recv(fd, page, 1, 0);
			_exit(1);
		}
		while (!(__atomic_load_n(&s->rx.rx_lock, __ATOMIC_ACQUIRE) & CANAL_LOCK_KERNEL))
			usleep(1000);
		FAILS(recv(fd, &byte, 1, MSG_DONTWAIT), EAGAIN);
		kill(pid, SIGKILL);
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK(recv(fd, &byte, 1, 0) == 1 && !s->rx.rx_lock);
	}
	munmap(page, 4096);
	close(fd);
	place_end(&p);
}

/* Writes nonsense over everything that the driver may read, then asks it to act. */
void test_nonsense(void)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	static const uint8_t fills[] = { 0xff, 0x00, 0x01, 0x7f, 0x80, 0x55 };
	char bytes[40000];

	sigaction(SIGPIPE, &ignore, NULL);
	memset(bytes, 1, sizeof(bytes));
	for (unsigned int i = 0; i < sizeof(fills) + 6; i++) {
		struct place p = place_new();
		struct canal_table inr = region(&p)->inr, sock = region(&p)->sock;
		int fd = dummy(p.fd, 1, SOCK_NONBLOCK);
		struct sockaddr_storage name;
		socklen_t len = sizeof(name);
		int value = 0;

		CHECK(fd >= 0);
		usleep(20000);
		if (i < sizeof(fills)) {
			memset(p.map, fills[i], p.at.region_len);
		} else {
			srandom(i);
			for (uint64_t at = 0; at + 4 <= sock.offset + 16ull * sock.stride;
			     at += 4) {
				uint32_t word = (uint32_t)random();

				memcpy(p.map + at, &word, 4);
			}
			region(&p)->broken = 0;
		}
		if (i % 2) { /* a state in which bytes flow */
			struct canal_sock *s = (void *)(p.map + sock.offset + sock.stride);

			region(&p)->broken = 0;
			s->state = CANAL_SOCK_CONNECTED;
			s->shut = s->so_error = s->rx.closed = 0;
			s->type = i & 2 ? SOCK_STREAM : SOCK_DGRAM;
			s->tx.tx_lock = s->rx.rx_lock = 0;
			s->tx.limit = 65536;
		}
		(void)inr;
		(void)!write(fd, bytes, sizeof(bytes));
		(void)!read(fd, bytes, sizeof(bytes));
		(void)sendto(fd, bytes, 100, MSG_DONTWAIT, NULL, 0);
		(void)recv(fd, bytes, 100, MSG_DONTWAIT | MSG_PEEK);
		(void)poll(&(struct pollfd){ .fd = fd, .events = POLLIN | POLLOUT }, 1, 10);
		(void)getsockname(fd, (struct sockaddr *)&name, &len);
		len = sizeof(name);
		(void)getpeername(fd, (struct sockaddr *)&name, &len);
		(void)ioctl(fd, FIONREAD, &value);
		(void)shutdown(fd, SHUT_RDWR);
		(void)shutdown(fd, 77);
		close(fd);
		place_end(&p);
	}
}

/* Killed wherever they are. */
void test_kill(void)
{
	for (int i = 0; i < 12; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			for (;;) {
				struct place p = place_new();
				uint8_t *buf = malloc(1 << 18);

				for (uint32_t k = 0; k < 16; k++) {
					(void)waiter(p.fd, k, 0);
					(void)dummy(p.fd, k, 0);
					(void)pin(p.fd, buf, 1 << 18, 0);
				}
				if (i % 3 == 0) {
					char byte;

					(void)!read(waiter(p.fd, 20, 0), &byte, 1);
				}
				free(buf);
				place_end(&p);
				for (int fd = 3; fd < 64; fd++)
					close(fd);
			}
		}
		usleep(20000 + 30000 * (unsigned int)i);
		kill(pid, SIGKILL);
		CHECK(waitpid(pid, NULL, 0) == pid);
	}
}
