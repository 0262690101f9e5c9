/* SPDX-License-Identifier: MIT */
/* Packets of the control connection, and their descriptors, that break one rule each: see cases.h. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cases.h"

static void tell(struct guest *g, struct canal_local packet, int fd)
{
	conn_send(g->conn, &packet, sizeof(packet), &fd, fd >= 0);
	if (fd >= 0)
		close(fd);
}

static void packet_garbage(struct guest *g)
{
	uint8_t bytes[sizeof(struct canal_local)];

	memset(bytes, 0xa5, sizeof(bytes));
	conn_send(g->conn, bytes, sizeof(bytes), NULL, 0);
}

static void packet_truncated(struct guest *g)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_DUMMY);

	conn_send(g->conn, &packet, sizeof(packet) - 1, NULL, 0);
}

static void packet_long(struct guest *g)
{
	static const uint8_t zeros[8192];

	conn_send(g->conn, zeros, sizeof(zeros), NULL, 0);
}

static void packet_version(struct guest *g)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_DUMMY);

	packet.version++;
	tell(g, packet, -1);
}

static void packet_type(struct guest *g)
{
	tell(g, packet_of(99), -1);
}

static void hello_again(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_HELLO), -1);
}

static void waiter_without_fd(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_WAITER), -1);
}

static void fds(struct guest *g, uint16_t type, unsigned int count)
{
	struct canal_local packet = packet_of(type);
	int many[64];

	for (unsigned int i = 0; i < count; i++)
		many[i] = g->kick;
	conn_send(g->conn, &packet, sizeof(packet), many, count);
}

static void fds_three(struct guest *g)
{
	fds(g, CANAL_LOCAL_WAITER, 3);
}

static void fds_many(struct guest *g)
{
	fds(g, CANAL_LOCAL_DUMMY, 64);
}

static void waiter_of_a_file(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_WAITER), memfd_create("x", MFD_CLOEXEC));
}

static void waiter_of_a_socket(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_WAITER), socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

/* A FIFO that somebody's file system has a name for. */
static void waiter_of_a_fifo(struct guest *g)
{
	char dir[] = "/tmp/canal-hostile-XXXXXX", path[64];
	int fd;

	if (!mkdtemp(dir))
		fail("mkdtemp: %s", strerror(errno));
	snprintf(path, sizeof(path), "%s/fifo", dir);
	if (mkfifo(path, 0600) || (fd = open(path, O_RDWR | O_CLOEXEC)) < 0)
		fail("mkfifo: %s", strerror(errno));
	tell(g, packet_of(CANAL_LOCAL_WAITER), fd);
	unlink(path);
	rmdir(dir);
}

static void dummy_of_a_file(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_DUMMY), memfd_create("x", MFD_CLOEXEC));
}

static void dummy_of_family(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_DUMMY), socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static void dummy_of_type(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_DUMMY), socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

/* It would keep the guest's connection open when the guest is gone. */
static void dummy_of_our_connection(struct guest *g)
{
	tell(g, packet_of(CANAL_LOCAL_DUMMY), dup(g->conn));
}

static void dummy_that_listens(struct guest *g)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint16_t family = AF_UNIX;

	if (bind(fd, (struct sockaddr *)&family, sizeof(family)) || listen(fd, 8))
		fail("listen: %s", strerror(errno));
	tell(g, packet_of(CANAL_LOCAL_DUMMY), fd);
}

static void waiter_out_of_range(struct guest *g)
{
	struct canal_local packet = packet_of(CANAL_LOCAL_WAITER);
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		fail("socketpair");
	guest_keep(g, ends[0]);
	packet.number = g->shape.wait.count;
	tell(g, packet, ends[1]);
}

/* Who reads a pipe can hold its lock for as long as he likes. */
static void waiter_is_a_pipe(struct guest *g)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		fail("pipe2");
	guest_keep(g, ends[0]);
	tell(g, packet_of(CANAL_LOCAL_WAITER), ends[1]);
}

/* It could listen as soon as it is canald's, and would then never hang up. */
static void dummy_is_not_connected(struct guest *g)
{
	sa_family_t family = AF_UNIX;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&family, sizeof(family)))
		fail("bind: %s", strerror(errno));
	tell(g, packet_of(CANAL_LOCAL_DUMMY), fd);
}

const struct hostile_case packet_cases[] = {
	CASE(waiter_out_of_range, "bad-slot"),
	CASE(packet_garbage, "bad-control"),
	CASE(packet_truncated, "bad-control"),
	CASE(packet_long, "bad-control"),
	CASE(packet_version, "bad-control"),
	CASE(packet_type, "bad-control"),
	CASE(hello_again, "bad-control"),
	CASE(waiter_without_fd, "bad-control"),
	CASE(waiter_is_a_pipe, "bad-control"),
	CASE(dummy_is_not_connected, "bad-control"),
	CASE(fds_three, "bad-control"),
	CASE(fds_many, "bad-control"),
	CASE(waiter_of_a_file, "bad-control"),
	CASE(waiter_of_a_socket, "bad-control"),
	CASE(waiter_of_a_fifo, "bad-control"),
	CASE(dummy_of_a_file, "bad-control"),
	CASE(dummy_of_family, "bad-control"),
	CASE(dummy_of_type, "bad-control"),
	CASE(dummy_of_our_connection, "bad-control"),
	CASE(dummy_that_listens, "bad-control"),
	{ NULL },
};
