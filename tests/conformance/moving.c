/* SPDX-License-Identifier: MIT */
/* sendfile, splice, tee and relatives. */
#include "conformance.h"

#include <sys/mman.h>
#include <sys/sendfile.h>

static char data[65536];

static int file_of(size_t len)
{
	int fd = NEED(memfd_create("conformance", 0));

	for (size_t at = 0; at < len; at += sizeof(data)) {
		size_t part = len - at < sizeof(data) ? len - at : sizeof(data);

		pattern_fill((uint8_t *)data, part, at);
		NEED(pwrite(fd, data, part, at));
	}
	return fd;
}

static void sendfile_whole(void)
{
	int fd = connected(1), file = file_of(300000);
	long sent = 0;

	peer_begin("take 1 300000");
	while (sent < 300000) {
		long part = sendfile(fd, file, NULL, 300000 - sent);

		if (part <= 0) {
			say_result("sendfile", part);
			break;
		}
		sent += part;
	}
	say_result("peer", peer_answer());
	say("at %ld", (long)lseek(file, 0, SEEK_CUR));
	TELL(sendfile(fd, file, NULL, 100));
}

static void sendfile_offset(void)
{
	int fd = connected(1), file = file_of(100);
	off_t at = 90;

	TELL(sendfile(fd, file, &at, 50));
	say("offset %ld at %ld", (long)at, (long)lseek(file, 0, SEEK_CUR));
	TELL(sendfile(fd, file, &at, 50));
	at = -1;
	TELL(sendfile(fd, file, &at, 50));
	at = 0;
	TELL(sendfile(fd, file, &at, 0));
	peer_tell("waitbytes 1 10");
}

static void sendfile_from_others(void)
{
	int fd = connected(1), pipes[2], directory = NEED(open("/", O_RDONLY | O_DIRECTORY));
	off_t at = 0;

	NEED(pipe(pipes));
	TELL(sendfile(fd, directory, NULL, 10));
	TELL(sendfile(fd, directory, &at, 10));
	TELL(sendfile(fd, pipes[0], NULL, 10));
	TELL(sendfile(fd, pipes[0], &at, 10));
	TELL(sendfile(fd, NEED(open("/dev/zero", O_RDONLY)), &at, 10));
	peer_tell("waitbytes 1 10");
}

static void sendfile_errors(void)
{
	int fd = connected(1), file = file_of(100), pipes[2];
	int fresh = NEED(socket(family, SOCK_STREAM, 0)), udp = dgram_with(2);

	signal(SIGPIPE, SIG_IGN);
	NEED(pipe(pipes));
	TELL(sendfile(fd, fd, NULL, 10));
	TELL(sendfile(fd, -1, NULL, 10));
	TELL(sendfile(-1, file, NULL, 10));
	TELL(sendfile(fresh, file, NULL, 10));
	TELL(sendfile(udp, file, NULL, 10));
	peer_tell("recvfrom 2");
	TELL(sendfile(file, fd, NULL, 10));
	TELL(shutdown(fd, SHUT_WR));
	TELL(sendfile(fd, file, NULL, 10));
}

static void sendfile_nonblocking(void)
{
	int fd = connected(1), file = file_of(8 << 20);
	long sent = 0, part;

	set_nonblock(fd, true);
	while ((part = sendfile(fd, file, NULL, 1 << 20)) > 0)
		sent += part;
	say_result("last", part);
	say("%s", lseek(file, 0, SEEK_CUR) == sent ? "position fits" : "position does not fit");
	peer_begin("take 1 %ld", sent);
	say("%s", peer_answer() == sent ? "all there" : "not all there");
}

static void splice_in(void)
{
	int fd = connected(1), pipes[2];

	NEED(pipe(pipes));
	peer_must("send 1 0 abcdef");
	wait_bytes(fd, 6);
	TELL(splice(fd, NULL, pipes[1], NULL, 4, 0));
	say_bytes("pipe", read(pipes[0], data, 100), data);
	TELL(splice(fd, NULL, pipes[1], NULL, 100, SPLICE_F_MOVE | SPLICE_F_MORE));
	say_bytes("pipe", read(pipes[0], data, 100), data);
	set_nonblock(fd, true);
	TELL(splice(fd, NULL, pipes[1], NULL, 100, 0));
	set_nonblock(fd, false);
	peer_must("close 1");
	wait_end(fd);
	TELL(splice(fd, NULL, pipes[1], NULL, 100, 0));
	TELL(splice(fd, NULL, pipes[1], NULL, 0, 0));
}

static void splice_out(void)
{
	int fd = connected(1), pipes[2];

	NEED(pipe(pipes));
	NEED(write(pipes[1], "abcdef", 6));
	TELL(splice(pipes[0], NULL, fd, NULL, 4, SPLICE_F_MORE));
	TELL(splice(pipes[0], NULL, fd, NULL, 100, 0));
	peer_tell("recv 1 6 %d", MSG_WAITALL);
	TELL(splice(pipes[0], NULL, fd, NULL, 100, SPLICE_F_NONBLOCK));
	close(pipes[1]);
	TELL(splice(pipes[0], NULL, fd, NULL, 100, 0));
}

static void splice_errors(void)
{
	int fd = connected(1), other = connected(2), pipes[2], file = file_of(10);
	off64_t at = 0;

	signal(SIGPIPE, SIG_IGN);
	NEED(pipe(pipes));
	NEED(write(pipes[1], "abc", 3));
	TELL(splice(fd, NULL, other, NULL, 10, 0));
	TELL(splice(fd, NULL, file, NULL, 10, 0));
	TELL(splice(fd, &at, pipes[1], NULL, 10, 0));
	TELL(splice(pipes[0], NULL, fd, &at, 10, 0));
	TELL(splice(pipes[1], NULL, fd, NULL, 10, 0));
	TELL(splice(fd, NULL, pipes[0], NULL, 10, 0));
	TELL(splice(pipes[0], NULL, fd, NULL, 10, 0x1000));
	TELL(splice(-1, NULL, fd, NULL, 10, 0));
	TELL(splice(fd, NULL, -1, NULL, 10, 0));
	TELL(shutdown(fd, SHUT_WR));
	TELL(splice(pipes[0], NULL, fd, NULL, 10, 0));
	close(pipes[0]);
	peer_must("send 1 0 xyz");
	wait_bytes(fd, 3);
	TELL(splice(fd, NULL, pipes[1], NULL, 10, 0));
	TELL(recv(fd, data, 10, MSG_DONTWAIT));
}

static void splice_large(void)
{
	int fd = connected(1), pipes[2];
	long moved = 0;

	NEED(pipe(pipes));
	peer_begin("fill 1 %d", 1 << 20);
	while (moved < 1 << 20) {
		long part = NEED(splice(fd, NULL, pipes[1], NULL, 1 << 20, 0));

		for (long left = part; left;) {
			long got = NEED(read(pipes[0], data, sizeof(data)));

			if (!pattern_fits((uint8_t *)data, got, moved))
				say("wrong bytes");
			moved += got;
			left -= got;
		}
		if (!part)
			break;
	}
	say("moved %ld", moved);
	peer_answer();
}

static void splice_dgram(void)
{
	int fd = dgram_with(1), pipes[2];

	NEED(pipe(pipes));
	peer_must("send 1 0 abcdef");
	calls_wait(fd, POLLIN);
	TELL(splice(fd, NULL, pipes[1], NULL, 100, 0));
	NEED(write(pipes[1], "xyz", 3));
	TELL(splice(pipes[0], NULL, fd, NULL, 3, 0));
	peer_tell("recvfrom 1");
}

static void tee_and_others(void)
{
	int fd = connected(1), pipes[2], file = file_of(10);
	struct iovec iov = { data, 3 };
	off64_t in = 0, out = 0;

	NEED(pipe(pipes));
	NEED(write(pipes[1], "abc", 3));
	TELL(tee(pipes[0], fd, 10, 0));
	TELL(tee(fd, pipes[1], 10, 0));
	TELL(vmsplice(fd, &iov, 1, 0));
	TELL(copy_file_range(file, &in, fd, &out, 10, 0));
	TELL(copy_file_range(fd, NULL, file, &out, 10, 0));
	say("%s", mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED
			  ? strerrorname_np(errno)
			  : "mapped");
}

static void tee_then_splice(void)
{
	int fd = connected(1), a[2], b[2];

	NEED(pipe(a));
	NEED(pipe(b));
	peer_must("send 1 0 abcdef");
	wait_bytes(fd, 6);
	TELL(splice(fd, NULL, a[1], NULL, 100, 0));
	TELL(tee(a[0], b[1], 100, 0));
	TELL(splice(b[0], NULL, fd, NULL, 100, 0));
	say_bytes("pipe", read(a[0], data, 100), data);
	peer_tell("recv 1 6 %d", MSG_WAITALL);
}

const struct call_case cases[] = {
	{ "sendfile_whole", sendfile_whole },
	{ "sendfile_offset", sendfile_offset },
	{ "sendfile_errors", sendfile_errors },
	{ "sendfile_from_others", sendfile_from_others },
	{ "sendfile_nonblocking", sendfile_nonblocking },
	{ "splice_in", splice_in },
	{ "splice_out", splice_out },
	{ "splice_errors", splice_errors },
	{ "splice_large", splice_large },
	{ "splice_dgram", splice_dgram },
	{ "tee_and_others", tee_and_others },
	{ "tee_then_splice", tee_then_splice },
};
const size_t case_count = COUNT(cases);
