/* SPDX-License-Identifier: MIT */
/*
 * Runs in a guest with canal.ko and asks /dev/canal for what it must not give.
 *
 * Purpose: each request with arguments that are wrong, at a time that is wrong,
 * from a process that has no right to it; mappings beyond their bounds; buffers
 * that go while they are pinned; a region full of nonsense behind the driver's
 * back; processes that are killed in the middle. Afterwards all must be as at
 * the beginning: as many channels can be had as before.
 *
 * Usage: driver_abuse [TEST]. Prints what failed; the status says whether any
 * did. The guest's kernel log must show no warning afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "driver/canal_uapi.h"
#include "wire.h"

static int failures;
static const char *current;

static void check(int ok, int line, const char *what)
{
	int saved = errno;

	if (ok)
		return;
	failures++;
	printf("%s: line %d: %s (errno %d, %s)\n", current, line, what, saved, strerror(saved));
}

#define CHECK(what) check((what), __LINE__, #what)
#define FAILS(call, with) \
	check((errno = 0, (call) < 0 && errno == (with)), __LINE__, #call " must give " #with)

struct place {
	int fd;
	struct canal_attach at;
	uint8_t *map;
};

static int place_open(void)
{
	return open("/dev/canal", O_RDWR | O_CLOEXEC);
}

static int attach(int fd, struct canal_attach *at)
{
	memset(at, 0, sizeof(*at));
	at->version = CANAL_WIRE_VERSION;
	return ioctl(fd, CANAL_IOC_ATTACH, at);
}

static struct place place_new(void)
{
	struct place p = { .fd = place_open() };

	if (p.fd < 0 || attach(p.fd, &p.at)) {
		printf("%s: cannot attach: %s\n", current, strerror(errno));
		exit(1);
	}
	p.map = mmap(NULL, p.at.region_len, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd, 0);
	if (p.map == MAP_FAILED) {
		printf("%s: cannot map: %s\n", current, strerror(errno));
		exit(1);
	}
	return p;
}

static void place_end(struct place *p)
{
	munmap(p->map, p->at.region_len);
	close(p->fd);
}

static struct canal_region *region(const struct place *p)
{
	return (struct canal_region *)(void *)p->map;
}

static int waiter(int fd, uint32_t slot, uint32_t flags)
{
	struct canal_waiter w = { .slot = slot, .serial = 1, .flags = flags };

	return ioctl(fd, CANAL_IOC_WAITER, &w) ? -1 : w.fd;
}

static int dummy(int fd, uint32_t sock, uint32_t flags)
{
	struct canal_dummy d = { .sock = sock, .generation = 1, .flags = flags };

	return ioctl(fd, CANAL_IOC_DUMMY, &d) ? -1 : d.fd;
}

static int pin(int fd, void *at, uint64_t len, uint32_t writable)
{
	struct canal_pin p = { .address = (uintptr_t)at, .len = len, .writable = writable };

	return ioctl(fd, CANAL_IOC_PIN, &p);
}

static void *bad_pointer(void)
{
	return (void *)(uintptr_t)0xffff888000000000ull;
}

#define RUN_PAGES 64u

static uint8_t *map_at(uint64_t address, size_t len)
{
	void *at = mmap((void *)(uintptr_t)address, len, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

/* --- tests ------------------------------------------------------------- */

static void test_unattached(void)
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

static void test_attach(void)
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

static void test_join(void)
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

static void test_mmap(void)
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

static void test_waiter(void)
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

static void test_dummy(void)
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
static void test_many(void)
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

static void test_pin(void)
{
	struct place p = place_new();
	const size_t most = 64 << 10;
	uint8_t *buf = mmap(NULL, most, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *ro = mmap(NULL, most, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct canal_pin bad = { .address = (uintptr_t)buf, .len = 1, .pad = 1 };
	int status;

	if (!p.at.pins) {
		FAILS(pin(p.fd, buf, 1, 0), EDQUOT);
		place_end(&p);
		return;
	}
	FAILS(ioctl(p.fd, CANAL_IOC_PIN, &bad), EINVAL);
	FAILS(ioctl(p.fd, CANAL_IOC_PIN, NULL), EFAULT);
	FAILS(pin(p.fd, buf, 1, 2), EINVAL);
	FAILS(pin(p.fd, buf, 0, 0), EINVAL);
	FAILS(pin(p.fd, bad_pointer(), 4096, 0), EFAULT);
	FAILS(pin(p.fd, (void *)(uintptr_t)0xffffffff81000000ull, 4096, 1), EFAULT);
	FAILS(pin(p.fd, (void *)(uintptr_t)0x7ffffffff000ull, 1 << 20, 0), EFAULT);
	FAILS(pin(p.fd, (void *)-4096l, 8192, 0), EFAULT);
	FAILS(pin(p.fd, NULL, 4096, 0), EFAULT);
	FAILS(pin(p.fd, ro, 4096, 1), EFAULT);
	CHECK(!pin(p.fd, ro, 4096, 0));
	FAILS(pin(p.fd, buf, (uint64_t)-1, 0), EFAULT);
	FAILS(pin(p.fd, buf, ((uint64_t)p.at.pins + 2) << 12, 0), EDQUOT);
	CHECK(!pin(p.fd, buf + 100, most - 100, 1));
	CHECK(!pin(p.fd, buf + 100, most - 100, 1));
	CHECK(!pin(p.fd, buf, 1, 0));
	/* Unmapped, replaced, moved, given back, forked while pinned. */
	CHECK(!munmap(buf, most / 2));
	FAILS(pin(p.fd, buf, 4096, 0), EFAULT);
	CHECK(!madvise(buf + most / 2, most / 4, MADV_DONTNEED));
	CHECK(!pin(p.fd, buf + most / 2, most / 2, 1));
	memset(buf + most / 2, 1, most / 2);
	if (fork() == 0) {
		buf[most - 1] = 2;
		/* The table of the parent is not the child's to fill. */
		status = pin(p.fd, buf + most / 2, 4096, 0) == 0;
		_exit(status);
	}
	CHECK(wait(&status) > 0 && status == 0);
	CHECK(buf[most - 1] == 1);
	CHECK(!pin(p.fd, buf + most / 2, most / 2, 1));
	CHECK(mremap(buf + most / 2, most / 2, most, MREMAP_MAYMOVE) != MAP_FAILED);
	/* More than may be pinned, in turn, all over the address space. */
	for (uint64_t i = 0; i < 3ull * p.at.pins / RUN_PAGES && i < 320; i++) {
		uint8_t *pages = map_at(0x100000000000ull + (i << 30), RUN_PAGES << 12);

		if (!pages)
			break;
		if (pin(p.fd, pages, RUN_PAGES << 12, 1)) {
			CHECK(!"pin once more");
			break;
		}
		if (i % 3)
			munmap(pages, RUN_PAGES << 12);
	}
	place_end(&p);
}

/* Two threads pin what a third unmaps. */
static struct place race_place;
static uint8_t *race_buf;
static volatile int race_over;

static void *race_pin(void *arg)
{
	(void)arg;
	while (!race_over)
		(void)pin(race_place.fd, race_buf, 16 << 12, 1);
	return NULL;
}

static void test_pin_race(void)
{
	pthread_t threads[2];

	race_place = place_new();
	race_over = 0;
	race_buf = mmap(NULL, 16 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 2; i++)
		CHECK(!pthread_create(&threads[i], NULL, race_pin, NULL));
	for (int i = 0; i < 128; i++) {
		CHECK(mmap(race_buf, 16 << 12, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == race_buf);
		race_buf[i % (16 << 12)] = (uint8_t)i;
		if (i % 32 == 0 && fork() == 0)
			_exit(0);
		else if (i % 32 == 0)
			wait(NULL);
	}
	race_over = 1;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	place_end(&race_place);
}

/* The limit is a process's, not a file's: one of its files has the table. */
static void test_pin_twice(void)
{
	struct place p = place_new(), again = p;
	uint8_t *buf = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct canal_attach other = { .version = CANAL_WIRE_VERSION };
	int fd = place_open(), status;

	again.fd = place_open();
	CHECK(!ioctl(again.fd, CANAL_IOC_JOIN, &again.at) && !again.at.pins);
	FAILS(pin(again.fd, buf, 4096, 1), EDQUOT);
	CHECK(!ioctl(fd, CANAL_IOC_ATTACH, &other) && !other.pins);
	FAILS(pin(fd, buf, 4096, 1), EDQUOT);
	if (p.at.pins)
		CHECK(!pin(p.fd, buf, 4096, 1));
	if (fork() == 0) { /* another process */
		again.fd = place_open();
		status = ioctl(again.fd, CANAL_IOC_JOIN, &again.at) || again.at.pins != p.at.pins;
		_exit(status);
	}
	CHECK(wait(&status) > 0 && status == 0);
	close(again.fd);
	close(fd);
	status = (int)p.at.pins;
	place_end(&p);
	/* And when that one is closed, the next has it. */
	p = place_new();
	CHECK((int)p.at.pins == status);
	place_end(&p);
}

/* All tables dropped, again and again, while others fill them: first to last page of a
 * run lie in different tables of each level, and are unmapped meanwhile. */
#define FAR_FIRST 0x200000000000ull
#define FAR_COUNT 400

static void *drop_tables(void *arg)
{
	(void)arg;
	for (uint64_t i = 0; i < FAR_COUNT; i++) {
		uint8_t *page = map_at(FAR_FIRST + (i << 30), 4096);

		if (page)
			(void)pin(race_place.fd, page, 4096, 1);
		if (page)
			munmap(page, 4096);
	}
	race_over = 1;
	return NULL;
}

static void *pin_run(void *arg)
{
	while (!race_over)
		(void)pin(race_place.fd, arg, RUN_PAGES << 12, 1);
	return NULL;
}

static void test_pin_drop(void)
{
	const uint64_t border = 0x300000000000ull; /* of tables of all levels but the root */
	const size_t len = RUN_PAGES << 12;
	pthread_t threads[3];
	uint8_t *run = map_at(border - len / 2, len);

	race_place = place_new();
	race_over = 0;
	CHECK(run != NULL);
	CHECK(!pthread_create(&threads[0], NULL, drop_tables, NULL));
	CHECK(!pthread_create(&threads[1], NULL, pin_run, run));
	CHECK(!pthread_create(&threads[2], NULL, pin_run, run));
	while (!race_over) {
		CHECK(map_at(border - len / 2, len) == run);
		sched_yield();
	}
	for (unsigned int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	place_end(&race_place);
	munmap(run, len);
}

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
static void test_lock_namespace(void)
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
static void test_fault_in_copy(void)
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

/* More channels than there is memory for: refused, and nobody is killed for it. */
static void test_memory(void)
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

/* Writes nonsense over everything that the driver may read, then asks it to act. */
static void test_nonsense(void)
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
static void test_kill(void)
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

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "unattached", test_unattached },
	{ "attach", test_attach },
	{ "join", test_join },
	{ "mmap", test_mmap },
	{ "waiter", test_waiter },
	{ "dummy", test_dummy },
	{ "pin", test_pin },
	{ "pin-race", test_pin_race },
	{ "pin-twice", test_pin_twice },
	{ "pin-drop", test_pin_drop },
	{ "lock-namespace", test_lock_namespace },
	{ "fault-in-copy", test_fault_in_copy },
	{ "nonsense", test_nonsense },
	{ "memory", test_memory },
	{ "kill", test_kill },
	{ "many", test_many },
};

static unsigned int now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (unsigned int)(ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned int i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		int before = failures;
		unsigned int began;

		if (argc > 1 && strcmp(argv[1], tests[i].name))
			continue;
		current = tests[i].name;
		began = now_ms();
		tests[i].run();
		printf("%s: %s after %u ms\n", current, failures == before ? "ok" : "FAILED",
		       now_ms() - began);
	}
	return failures != 0;
}
