/* SPDX-License-Identifier: MIT */
/* Bytes of a stream: flags of send and recv, vectors, amounts. */
#include "conformance.h"

static char data[4096];

static long receive(int fd, size_t len, int flags)
{
	memset(data, 0, sizeof(data));
	return recv(fd, data, len, flags);
}

static void peek_leaves_bytes(void)
{
	int fd = connected(1);

	peer_must("send 1 0 abcdef");
	wait_bytes(fd, 6);
	say_bytes("peek 3", receive(fd, 3, MSG_PEEK), data);
	say_bytes("peek 100", receive(fd, 100, MSG_PEEK), data);
	say_bytes("recv 2", receive(fd, 2, 0), data);
	say_bytes("peek 100", receive(fd, 100, MSG_PEEK), data);
	say_bytes("recv 100", receive(fd, 100, 0), data);
	say_bytes("peek, none", receive(fd, 100, MSG_PEEK | MSG_DONTWAIT), data);
}

static void peek_waitall(void)
{
	int fd = connected(1);

	peer_must("send 1 0 abc");
	peer_begin("send 1 0 def");
	say_bytes("peek", receive(fd, 6, MSG_PEEK | MSG_WAITALL), data);
	peer_answer();
	say_bytes("recv", receive(fd, 6, MSG_WAITALL), data);
}

static void waitall_to_the_end(void)
{
	int fd = connected(1);

	peer_must("send 1 0 abc");
	peer_must("close 1");
	say_bytes("recv", receive(fd, 100, MSG_WAITALL), data);
	say_bytes("again", receive(fd, 100, MSG_WAITALL), data);
}

static void waitall_nonblocking(void)
{
	int fd = connected(1);

	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	say_bytes("recv", receive(fd, 100, MSG_WAITALL | MSG_DONTWAIT), data);
	say_bytes("again", receive(fd, 100, MSG_WAITALL | MSG_DONTWAIT), data);
}

static void waitall_reset(void)
{
	int fd = connected(1);

	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	peer_begin("reset 1");
	peer_answer();
	calls_wait(fd, POLLHUP);
	say_result("recv", receive(fd, 100, MSG_WAITALL));
	say_result("again", receive(fd, 100, MSG_WAITALL));
	say_result("third", receive(fd, 100, MSG_WAITALL));
}

static void waitall_timeout(void)
{
	const struct timeval limit = { .tv_usec = 50000 };
	int fd = connected(1);

	NEED(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	say_bytes("recv", receive(fd, 100, MSG_WAITALL), data);
	say_bytes("again", receive(fd, 100, MSG_WAITALL), data);
}

static void trunc_discards(void)
{
	int fd = connected(1);

	peer_must("send 1 0 abcdef");
	wait_bytes(fd, 6);
	memset(data, 'x', sizeof(data));
	TELL(recv(fd, data, 4, MSG_TRUNC));
	say("untouched: %.4s", data);
	say_bytes("rest", receive(fd, 100, 0), data);
}

static void trunc_null_buffer(void)
{
	int fd = connected(1);

	peer_must("send 1 0 abcdef");
	wait_bytes(fd, 6);
	TELL(recv(fd, NULL, 4, MSG_TRUNC));
	TELL(recv(fd, NULL, 0, 0));
	say_bytes("rest", receive(fd, 100, 0), data);
}

static void trunc_and_peek(void)
{
	int fd = connected(1);

	peer_must("send 1 0 abcdef");
	wait_bytes(fd, 6);
	TELL(recv(fd, NULL, 4, MSG_TRUNC | MSG_PEEK));
	say_bytes("rest", receive(fd, 100, 0), data);
}

static void recvmsg_flags_out(void)
{
	struct iovec iov = { data, 2 };
	char control[64];
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control),
			    .msg_flags = 0x7fff };
	int fd = connected(1);

	peer_must("send 1 0 abcdef");
	wait_bytes(fd, 6);
	TELL(recvmsg(fd, &m, 0));
	say("flags %#x control %zu", m.msg_flags, (size_t)m.msg_controllen);
	m.msg_flags = 0x7fff;
	TELL(recvmsg(fd, &m, MSG_PEEK | MSG_DONTWAIT));
	say("flags %#x", m.msg_flags);
	m.msg_flags = 0x7fff;
	TELL(recvmsg(fd, &m, MSG_TRUNC));
	say("flags %#x", m.msg_flags);
	m.msg_flags = 0x7fff;
	TELL(recvmsg(fd, &m, MSG_CMSG_CLOEXEC));
	say("flags %#x", m.msg_flags);
}

static void recvmsg_name_of_stream(void)
{
	struct name name = { .len = sizeof(name.ss) };
	struct iovec iov = { data, 2 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_name = &name.ss,
			    .msg_namelen = sizeof(name.ss) };
	int fd = connected(1);

	peer_must("send 1 0 abcdef");
	wait_bytes(fd, 6);
	TELL(recvmsg(fd, &m, 0));
	say("name length %u", m.msg_namelen);
	TELL(recvfrom(fd, data, 2, 0, sa(&name), &name.len));
	say("name length %u", name.len);
}

static void zero_length(void)
{
	int fd = connected(1);

	TELL(send(fd, "", 0, 0));
	TELL(write(fd, NULL, 0));
	TELL(send(fd, NULL, 0, MSG_NOSIGNAL));
	set_nonblock(fd, true);
	TELL(recv(fd, data, 0, 0));
	TELL(read(fd, data, 0));
	TELL(recv(fd, data, 0, MSG_PEEK));
	peer_must("send 1 0 ab");
	wait_bytes(fd, 2);
	TELL(recv(fd, data, 0, 0));
	TELL(recv(fd, data, 0, MSG_WAITALL));
	peer_must("close 1");
	wait_end(fd);
	TELL(recv(fd, data, 0, 0));
	TELL(recv(fd, data, 5, 0));
	TELL(recv(fd, data, 0, 0));
}

static void unknown_flags(void)
{
	int fd = connected(1);

	TELL(send(fd, "abc", 3, 0x10000000));
	TELL(send(fd, "def", 3, MSG_PROXY));
	TELL(send(fd, "ghi", 3, MSG_RST));
	say_result("peer", peer_must("take 1 0"));
	peer_tell("waitbytes 1 9");
	peer_tell("recv 1 9 0");
	peer_must("send 1 0 abcdef");
	wait_bytes(fd, 6);
	say_bytes("recv", receive(fd, 2, 0x10000000), data);
	say_bytes("recv", receive(fd, 2, MSG_CONFIRM), data);
	say_bytes("recv", receive(fd, 2, MSG_EOR), data);
}

static void more_is_sent(void)
{
	int fd = connected(1);

	TELL(send(fd, "abc", 3, MSG_MORE));
	TELL(send(fd, "def", 3, 0));
	peer_tell("recv 1 6 %d", MSG_WAITALL);
	TELL(send(fd, "ghi", 3, MSG_MORE));
	TELL(shutdown(fd, SHUT_WR));
	peer_tell("recv 1 6 %d", MSG_WAITALL);
}

static void cork_holds_and_lets_go(void)
{
	int fd = connected(1), on = 1;

	TELL(setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on)));
	TELL(send(fd, "abc", 3, 0));
	TELL(send(fd, "def", 3, 0));
	on = 0;
	TELL(setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on)));
	peer_tell("recv 1 6 %d", MSG_WAITALL);
}

static void vectors_many(void)
{
	static struct iovec iov[1024];
	int fd = connected(1);

	for (int i = 0; i < 1024; i++)
		iov[i] = (struct iovec){ (char *)(uintptr_t) "abcdefgh" + i % 8, i % 3 };
	TELL(writev(fd, iov, 1024));
	peer_tell("waitbytes 1 1023");
	peer_tell("recv 1 40 0");
	for (int i = 0; i < 1024; i++)
		iov[i] = (struct iovec){ data + 2 * i, 2 };
	peer_must("send 1 0 abcdefghijklm");
	wait_bytes(fd, 13);
	memset(data, 0, sizeof(data));
	say_bytes("readv", readv(fd, iov, 1024), data);
}

static void vectors_empty_pieces(void)
{
	struct iovec out[] = { { NULL, 0 }, { "ab", 2 }, { NULL, 0 }, { NULL, 0 }, { "c", 1 } };
	struct iovec in[] = { { NULL, 0 }, { data, 1 }, { NULL, 0 }, { data + 1, 10 } };
	int fd = connected(1);

	TELL(writev(fd, out, COUNT(out)));
	peer_tell("recv 1 3 %d", MSG_WAITALL);
	peer_must("send 1 0 xyz");
	wait_bytes(fd, 3);
	memset(data, 0, sizeof(data));
	say_bytes("readv", readv(fd, in, COUNT(in)), data);
	TELL(writev(fd, out, 1));
	set_nonblock(fd, true);
	TELL(readv(fd, in, 1));
	TELL(readv(fd, in, 2));
}

static void vectors_refused(void)
{
	static struct iovec iov[1025];
	struct iovec huge[] = { { data, (size_t)-1 }, { data, 1 } };
	struct iovec large[] = { { data, SSIZE_MAX }, { data, 1 } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 1025 };
	int fd = connected(1);
	struct iovec *volatile nowhere = NULL;
	volatile int minus = -1;

	set_nonblock(fd, true);
	TELL(writev(fd, iov, 1025));
	TELL(readv(fd, iov, 1025));
	TELL(writev(fd, iov, minus));
	TELL(readv(fd, iov, minus));
	TELL(writev(fd, nowhere, 1));
	TELL(readv(fd, nowhere, 1));
	TELL(writev(fd, NULL, 0));
	TELL(writev(fd, huge, 2));
	TELL(readv(fd, huge, 2));
	TELL(readv(fd, large, 2));
	TELL(sendmsg(fd, &m, 0));
	TELL(recvmsg(fd, &m, 0));
	m.msg_iovlen = (size_t)-1;
	TELL(sendmsg(fd, &m, 0));
	TELL(recvmsg(fd, &m, 0));
}

static void offsets_refused(void)
{
	struct iovec iov = { data, 1 };
	int fd = connected(1);

	TELL(pread(fd, data, 1, 0));
	TELL(pwrite(fd, data, 1, 0));
	TELL(preadv(fd, &iov, 1, 0));
	TELL(pwritev(fd, &iov, 1, 0));
	TELL(preadv2(fd, &iov, 1, 7, 0));
	TELL(pwritev2(fd, &iov, 1, 7, 0));
	TELL(lseek(fd, 0, SEEK_CUR));
	TELL(ftruncate(fd, 0));
	TELL(fsync(fd));
	TELL(fdatasync(fd));
	TELL(posix_fallocate(fd, 0, 10));
	TELL(posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL));
}

static void offset_minus_one(void)
{
	struct iovec in = { data, 3 }, out = { "abc", 3 };
	int fd = connected(1);

	TELL(pwritev2(fd, &out, 1, -1, 0));
	peer_tell("recv 1 3 %d", MSG_WAITALL);
	TELL(preadv2(fd, &in, 1, -1, RWF_NOWAIT));
	peer_must("send 1 0 def");
	wait_bytes(fd, 3);
	say_bytes("preadv2", preadv2(fd, &in, 1, -1, RWF_NOWAIT), data);
	TELL(preadv2(fd, &in, 1, -1, RWF_HIPRI | RWF_NOWAIT));
}

static void large_both_ways(void)
{
	static uint8_t block[1 << 18];
	int fd = connected(1);
	uint64_t at = 0;

	peer_begin("take 1 %d", 4 << 20);
	for (int i = 0; i < 16; i++, at += sizeof(block)) {
		pattern_fill(block, sizeof(block), at);
		send_all(fd, block, sizeof(block));
	}
	say_result("peer took", peer_answer());
	peer_begin("fill 1 %d", 4 << 20);
	for (at = 0; at < 4 << 20; at += sizeof(block)) {
		recv_all(fd, block, sizeof(block));
		if (!pattern_fits(block, sizeof(block), at))
			say("wrong bytes");
	}
	say_result("peer sent", peer_answer());
}

static void waitall_large(void)
{
	static uint8_t block[3 << 20];
	int fd = connected(1);

	peer_begin("fill 1 %d", 3 << 20);
	say_result("recv", recv(fd, block, sizeof(block), MSG_WAITALL));
	say("%s", pattern_fits(block, sizeof(block), 0) ? "right" : "wrong");
	say_result("peer sent", peer_answer());
}

static void nonblocking_fills_up(void)
{
	static char block[65536];
	int fd = connected(1);
	long sent;

	set_nonblock(fd, true);
	sent = fill_up(fd, block, sizeof(block));
	say_result("last", send(fd, block, sizeof(block), 0));
	say("%s", sent > 65536 ? "many bytes" : "few bytes");
	say_events("full", events_now(fd, POLLOUT | POLLIN));
	TELL(send(fd, block, 1, MSG_DONTWAIT));
	TELL(write(fd, block, 0));
}

static void room_comes_back(void)
{
	static uint8_t block[65536];
	int fd = connected(1);
	long sent = 0, part;

	set_nonblock(fd, true);
	do {
		pattern_fill(block, sizeof(block), sent);
		part = send(fd, block, sizeof(block), 0);
		sent += part > 0 ? part : 0;
	} while (part > 0);
	peer_begin("take 1 %ld", sent);
	say_events("room", calls_wait(fd, POLLOUT));
	say("%s", peer_answer() == sent ? "all taken" : "not all");
}

static void send_timeout_partial(void)
{
	const struct timeval limit = { .tv_usec = 50000 };
	static char block[16 << 20];
	int fd = connected(1);
	long sent;

	NEED(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)));
	sent = send(fd, block, sizeof(block), 0);
	say("%s", sent > 0 && sent < (long)sizeof(block) ? "partial" : "not partial");
}

static void mmsg_stream(void)
{
	struct iovec a = { "abc", 3 }, b = { "defg", 4 };
	struct mmsghdr out[2] = { { .msg_hdr = { .msg_iov = &a, .msg_iovlen = 1 } },
				  { .msg_hdr = { .msg_iov = &b, .msg_iovlen = 1 } } };
	struct iovec in[2] = { { data, 2 }, { data + 100, 100 } };
	struct mmsghdr got[2] = { { .msg_hdr = { .msg_iov = &in[0], .msg_iovlen = 1 } },
				  { .msg_hdr = { .msg_iov = &in[1], .msg_iovlen = 1 } } };
	int fd = connected(1);

	TELL(sendmmsg(fd, out, 2, 0));
	say("%u %u", out[0].msg_len, out[1].msg_len);
	peer_tell("recv 1 7 %d", MSG_WAITALL);
	peer_must("send 1 0 vwxyz");
	wait_bytes(fd, 5);
	memset(data, 0, sizeof(data));
	TELL(recvmmsg(fd, got, 2, 0, NULL));
	say("%u %s %u %s", got[0].msg_len, data, got[1].msg_len, data + 100);
	TELL(recvmmsg(fd, got, 2, MSG_DONTWAIT, NULL));
	TELL(recvmmsg(fd, got, 0, MSG_DONTWAIT, NULL));
	TELL(sendmmsg(fd, out, 0, 0));
}

static void recvmmsg_bad_timeout(void)
{
	struct timespec bad[] = { { .tv_sec = -1 }, { .tv_nsec = 1000000000 }, { .tv_nsec = -1 } };
	struct iovec in = { data, 2 };
	struct mmsghdr got = { .msg_hdr = { .msg_iov = &in, .msg_iovlen = 1 } };
	int fd = connected(1);

	for (size_t i = 0; i < COUNT(bad); i++)
		TELL(recvmmsg(fd, &got, 1, MSG_DONTWAIT, &bad[i]));
}

static void lowat_holds_back(void)
{
	const struct timeval limit = { .tv_usec = 30000 };
	int fd = connected(1), five = 5;

	TELL(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &five, sizeof(five)));
	NEED(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
	peer_must("send 1 0 abc");
	wait_bytes(fd, 3);
	say_events("three", events_now(fd, POLLIN));
	say_bytes("recv", receive(fd, 100, MSG_DONTWAIT | MSG_PEEK), data);
	peer_must("send 1 0 def");
	wait_bytes(fd, 6);
	say_events("six", events_now(fd, POLLIN));
	say_bytes("recv 2", receive(fd, 2, 0), data);
	say_events("four", events_now(fd, POLLIN));
	say_bytes("recv 100", receive(fd, 100, 0), data);
}

static void peek_off(void)
{
	int fd = connected(1), off = 0;
	socklen_t len = sizeof(off);

	TELL(getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, &len));
	TELL(setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)));
	peer_must("send 1 0 abcdef");
	wait_bytes(fd, 6);
	say_bytes("peek 2", receive(fd, 2, MSG_PEEK), data);
	say_bytes("peek 2 more", receive(fd, 2, MSG_PEEK), data);
	say_bytes("recv 1", receive(fd, 1, 0), data);
	TELL(getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, &len));
	say("%d", off);
	say_bytes("peek the rest", receive(fd, 10, MSG_PEEK), data);
	say_bytes("peek behind", receive(fd, 10, MSG_PEEK | MSG_DONTWAIT), data);
	say_bytes("recv 5", receive(fd, 5, 0), data);
	peer_must("send 1 0 xyz");
	wait_bytes(fd, 3);
	say_bytes("peek 2", receive(fd, 2, MSG_PEEK), data);
	off = -1;
	TELL(setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)));
	say_bytes("peek from the beginning", receive(fd, 2, MSG_PEEK), data);
}

static void not_connected(void)
{
	int fd = NEED(socket(family, SOCK_STREAM, 0));

	signal(SIGPIPE, SIG_IGN);
	TELL(send(fd, "x", 1, 0));
	TELL(send(fd, "", 0, 0));
	TELL(write(fd, "x", 1));
	TELL(recv(fd, data, 1, 0));
	TELL(recv(fd, data, 1, MSG_DONTWAIT));
	TELL(recv(fd, data, 0, 0));
	TELL(read(fd, data, 1));
	TELL(recv(fd, data, 1, MSG_PEEK));
	TELL(recv(fd, data, 1, MSG_ERRQUEUE));
}

static void listening_socket(void)
{
	struct name name;
	int fd = listener(&name);

	signal(SIGPIPE, SIG_IGN);
	TELL(send(fd, "x", 1, 0));
	TELL(recv(fd, data, 1, 0));
	TELL(recv(fd, data, 1, MSG_OOB));
	TELL(recv(fd, data, 1, MSG_DONTWAIT));
}

const struct call_case cases[] = {
	{ "peek_leaves_bytes", peek_leaves_bytes },
	{ "peek_waitall", peek_waitall },
	{ "waitall_to_the_end", waitall_to_the_end },
	{ "waitall_nonblocking", waitall_nonblocking },
	{ "waitall_reset", waitall_reset },
	{ "waitall_timeout", waitall_timeout },
	{ "trunc_discards", trunc_discards },
	{ "trunc_null_buffer", trunc_null_buffer },
	{ "trunc_and_peek", trunc_and_peek },
	{ "recvmsg_flags_out", recvmsg_flags_out },
	{ "recvmsg_name_of_stream", recvmsg_name_of_stream },
	{ "zero_length", zero_length },
	{ "unknown_flags", unknown_flags },
	{ "more_is_sent", more_is_sent },
	{ "cork_holds_and_lets_go", cork_holds_and_lets_go },
	{ "vectors_many", vectors_many },
	{ "vectors_empty_pieces", vectors_empty_pieces },
	{ "vectors_refused", vectors_refused },
	{ "offsets_refused", offsets_refused },
	{ "offset_minus_one", offset_minus_one },
	{ "large_both_ways", large_both_ways },
	{ "waitall_large", waitall_large },
	{ "nonblocking_fills_up", nonblocking_fills_up },
	{ "room_comes_back", room_comes_back },
	{ "send_timeout_partial", send_timeout_partial },
	{ "mmsg_stream", mmsg_stream },
	{ "recvmmsg_bad_timeout", recvmmsg_bad_timeout },
	{ "lowat_holds_back", lowat_holds_back },
	{ "peek_off", peek_off },
	{ "not_connected", not_connected },
	{ "listening_socket", listening_socket },
};
const size_t case_count = COUNT(cases);
