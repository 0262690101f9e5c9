/* SPDX-License-Identifier: MIT */
/* Requests with arguments that are wrong, at a time that is wrong, from who has no right to them. */
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver_abuse.h"

void test_unattached(void)
{
	struct canal_attach at;
	int fd = place_open();
	char page[1];

	CHECK(fd >= 0);
	FAILS(waiter(fd, 0, 0), EINVAL);
	FAILS(dummy(fd, 0, 0), EINVAL);
	FAILS(ioctl(fd, CANAL_IOC_KICK), EINVAL);
	FAILS(pin(fd, page, 1, 0), EINVAL);
	FAILS(ioctl(fd, _IO(CANAL_IOC, 99)), ENOTTY);
	FAILS(ioctl(fd, _IOWR(CANAL_IOC, 1, char)), ENOTTY);
	FAILS(ioctl(fd, CANAL_IOC_ATTACH, bad_pointer()), EFAULT);
	FAILS(ioctl(fd, CANAL_IOC_ATTACH, NULL), EFAULT);
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EINVAL);
	memset(&at, 0, sizeof(at));
	FAILS(ioctl(fd, CANAL_IOC_ATTACH, &at), EINVAL);
	at.version = CANAL_WIRE_VERSION;
	at.pad = 1;
	FAILS(ioctl(fd, CANAL_IOC_ATTACH, &at), EINVAL);
	FAILS(read(fd, page, 1), EINVAL);
	FAILS(write(fd, page, 1), EINVAL);
	close(fd);
}

void test_attach(void)
{
	struct place p = place_new();
	struct canal_attach again;
	int fd;

	FAILS(attach(p.fd, &again), EALREADY);
	CHECK(region(&p)->magic == CANAL_WIRE_MAGIC && region(&p)->region_len == p.at.region_len);
	CHECK(p.at.client == 1 && p.at.token);
	CHECK(ioctl(p.fd, CANAL_IOC_KICK) == 0);
	/* A file that is attached behind a bad answer is cleaned up as any. */
	fd = place_open();
	again = (struct canal_attach){ .version = CANAL_WIRE_VERSION };
	void *ro = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memcpy(ro, &again, sizeof(again));
	CHECK(!mprotect(ro, 4096, PROT_READ));
	FAILS(ioctl(fd, CANAL_IOC_ATTACH, ro), EFAULT);
	close(fd);
	munmap(ro, 4096);
	place_end(&p);
}

void test_join(void)
{
	struct place p = place_new();
	struct canal_attach j = p.at;
	int fd = place_open(), status;

	j.token ^= 1;
	FAILS(ioctl(fd, CANAL_IOC_JOIN, &j), EACCES);
	j = p.at;
	j.channel_id += 1000;
	FAILS(ioctl(fd, CANAL_IOC_JOIN, &j), ENOENT);
	close(fd);
	if (fork() == 0) {
		failures = 0;
		fd = place_open();
		j = p.at;
		CHECK(ioctl(fd, CANAL_IOC_JOIN, &j) == 0);
		CHECK(j.client != p.at.client && j.region_len == p.at.region_len);
		FAILS(ioctl(fd, CANAL_IOC_JOIN, &j), EALREADY);
		p.map[p.at.region_len - 1] = 0x77;
		_exit(failures != 0);
	}
	CHECK(wait(&status) > 0 && status == 0);
	CHECK(p.map[p.at.region_len - 1] == 0x77);
	place_end(&p);
	/* The channel is gone: nobody can join it. */
	fd = place_open();
	j = p.at;
	FAILS(ioctl(fd, CANAL_IOC_JOIN, &j), ENOENT);
	close(fd);
}

static void *try_map(const struct place *p, uint64_t len, int prot, int flags, off_t offset)
{
	void *at = mmap(NULL, len, prot, flags, p->fd, offset);

	if (at != MAP_FAILED)
		munmap(at, len);
	return at;
}

void test_mmap(void)
{
	struct place p = place_new();
	const int rw = PROT_READ | PROT_WRITE;
	uint64_t len = p.at.region_len;
	int status;

	CHECK(try_map(&p, len + 4096, rw, MAP_SHARED, 0) == MAP_FAILED);
	CHECK(try_map(&p, len - 4096, rw, MAP_SHARED, 0) == MAP_FAILED);
	CHECK(try_map(&p, len, rw, MAP_SHARED, 4096) == MAP_FAILED);
	CHECK(try_map(&p, 4096, rw, MAP_SHARED, (off_t)len) == MAP_FAILED);
	CHECK(try_map(&p, len, rw, MAP_PRIVATE, 0) == MAP_FAILED);
	CHECK(try_map(&p, len, rw | PROT_EXEC, MAP_SHARED, 0) == MAP_FAILED);
	CHECK(try_map(&p, len, PROT_READ, MAP_SHARED, 0) != MAP_FAILED);
	CHECK(mprotect(p.map, 4096, PROT_READ | PROT_EXEC) < 0);
	CHECK(mremap(p.map, len, len + (1 << 20), MREMAP_MAYMOVE) == MAP_FAILED);
	memset(p.map + len / 2, 0xa5, len / 2);
	CHECK(p.map[len - 1] == 0xa5);
	/* A part unmapped, the rest used; a child that has the mapping, too. */
	CHECK(!munmap(p.map + len / 2, 1 << 20));
	p.map[len / 2 + (1 << 20)] = 1;
	if (fork() == 0) {
		p.map[len / 2 + (1 << 20)] = 2;
		munmap(p.map, len / 2);
		_exit(0);
	}
	CHECK(wait(&status) > 0 && status == 0);
	CHECK(p.map[len / 2 + (1 << 20)] == 2);
	/* The mapping outlives the descriptor. */
	close(p.fd);
	p.map[len - 1] = 9;
	CHECK(p.map[len - 1] == 9 && region(&p)->magic == CANAL_WIRE_MAGIC);
	munmap(p.map, len);
}

static void on_signal(int number)
{
	(void)number;
}

void test_waiter(void)
{
	struct place p = place_new();
	struct sigaction sa = { .sa_handler = on_signal };
	int fd, second;
	char byte;

	FAILS(waiter(p.fd, 1 << 30, 0), EINVAL);
	FAILS(waiter(p.fd, region(&p)->wait.count, 0), EINVAL);
	FAILS(waiter(p.fd, 0, O_APPEND), EINVAL);
	FAILS(ioctl(p.fd, CANAL_IOC_WAITER, bad_pointer()), EFAULT);
	fd = waiter(p.fd, 1, O_NONBLOCK | O_CLOEXEC);
	CHECK(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
	while (read(fd, &byte, 1) == 1) /* a wake-up that was owed */
		;
	FAILS(read(fd, &byte, 1), EAGAIN);
	FAILS(write(fd, &byte, 1), EBADF);
	CHECK(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) == 0);
	second = waiter(p.fd, 1, 0); /* the same slot once more */
	CHECK(second >= 0);
	close(fd);
	sigaction(SIGALRM, &sa, NULL);
	alarm(1);
	errno = 0;
	while (read(second, &byte, 1) == 1)
		;
	CHECK(errno == EINTR);
	/* It outlives its channel, and tells nothing. */
	place_end(&p);
	CHECK(!fcntl(second, F_SETFL, O_NONBLOCK));
	FAILS(read(second, &byte, 1), EAGAIN);
	close(second);
}

void test_dummy(void)
{
	struct place p = place_new();
	struct rlimit files, few;
	struct stat st;
	int fd, value;
	socklen_t len = sizeof(value);

	FAILS(dummy(p.fd, region(&p)->sock.count, 0), EINVAL);
	FAILS(dummy(p.fd, CANAL_NONE, 0), EINVAL);
	FAILS(dummy(p.fd, 0, O_APPEND), EINVAL);
	FAILS(dummy(p.fd, 0, 7), EINVAL);
	FAILS(ioctl(p.fd, CANAL_IOC_DUMMY, bad_pointer()), EFAULT);
	fd = dummy(p.fd, 3, SOCK_CLOEXEC | SOCK_NONBLOCK | SOCK_DGRAM | CANAL_DUMMY_INET6);
	CHECK(fd >= 0 && !fstat(fd, &st) && S_ISSOCK(st.st_mode));
	CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) && (fcntl(fd, F_GETFL) & O_NONBLOCK));
	CHECK(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &len));
	CHECK(getsockopt(fd, IPPROTO_TCP, 1, &value, &len) < 0);
	CHECK(setsockopt(fd, IPPROTO_TCP, 1, &value, len) < 0);
	CHECK(bind(fd, (struct sockaddr *)&(struct sockaddr_in){ .sin_family = AF_INET }, 16) < 0);
	CHECK(listen(fd, 1) < 0 && accept(fd, NULL, NULL) < 0);
	close(fd);
	/* No descriptor left: nothing is left behind. */
	getrlimit(RLIMIT_NOFILE, &files);
	few = files;
	few.rlim_cur = 3;
	setrlimit(RLIMIT_NOFILE, &few);
	FAILS(dummy(p.fd, 4, 0), EMFILE);
	FAILS(waiter(p.fd, 4, 0), EMFILE);
	setrlimit(RLIMIT_NOFILE, &files);
	/* A dummy keeps its channel. */
	fd = dummy(p.fd, 5, 0);
	place_end(&p);
	CHECK(fd >= 0 && !fstat(fd, &st));
	close(fd);
}

/* More than there are channels and slots of the mailbox, so that a leak shows. */
void test_many(void)
{
	for (int i = 0; i < 100; i++) {
		struct place p = { .fd = place_open() };

		if (p.fd < 0 || attach(p.fd, &p.at)) {
			CHECK(!"attach once more");
			return;
		}
		for (uint32_t k = 0; k < 8; k++) {
			close(dummy(p.fd, k, 0));
			close(waiter(p.fd, k, 0));
		}
		close(p.fd);
	}
}

/* More channels than there is memory for: refused, and nobody is killed for it. */
void test_memory(void)
{
	int fd[64], count = 0, failed = 0;
	struct canal_attach at;

	while (count < 64) {
		fd[count] = place_open();
		if (fd[count] < 0 || attach(fd[count++], &at)) {
			failed = errno;
			break;
		}
	}
	if (failed != ENOMEM && failed != EBUSY && failed)
		CHECK(!"attach until it is refused");
	while (count--)
		close(fd[count]);
	struct place p = place_new();

	place_end(&p);
}
