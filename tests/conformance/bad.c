/* SPDX-License-Identifier: MIT */
/* Pointers, lengths, flags and descriptors that the kernel refuses. */
#include "conformance.h"

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>

static char data[64];
/* Nothing is there, and the compiler does not know. */
static void *volatile bad = (void *)16;

static void *unreadable(void)
{
	return mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void *read_only(void)
{
	return mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void addresses_to_read(void)
{
	int fd = NEED(socket(family, SOCK_STREAM, 0)), udp = NEED(socket(family, SOCK_DGRAM, 0));
	struct sockaddr *at[] = { bad, unreadable(), NULL };

	for (size_t i = 0; i < COUNT(at); i++) {
		TELL(bind(fd, at[i], 28));
		TELL(connect(fd, at[i], 28));
		TELL(connect(udp, at[i], 28));
		TELL(bind(udp, at[i], 28));
	}
	TELL(sendto(udp, "x", 1, 0, bad, 28));
	TELL(sendto(udp, "x", 1, 0, unreadable(), 28));
}

static void addresses_to_write(void)
{
	int fd = connected(1);
	socklen_t len = 28;
	struct sockaddr *at[] = { bad, unreadable(), read_only(), NULL };

	for (size_t i = 0; i < COUNT(at); i++) {
		TELL(getsockname(fd, at[i], &len));
		len = 28;
		TELL(getpeername(fd, at[i], &len));
		len = 28;
	}
	TELL(getsockname(fd, (void *)data, bad));
	TELL(getsockname(fd, (void *)data, NULL));
	TELL(getpeername(fd, (void *)data, unreadable()));
	len = 0;
	TELL(getsockname(fd, bad, &len));
}

static void accept_addresses(void)
{
	struct name name;
	int fd = listener(&name);
	socklen_t len = 28;

	peer_must("connect 1 %d %d", family, port_of(&name));
	calls_wait(fd, POLLIN);
	TELL(accept(fd, bad, &len));
	peer_must("connect 2 %d %d", family, port_of(&name));
	calls_wait(fd, POLLIN);
	TELL(accept(fd, (void *)data, bad));
	peer_must("connect 3 %d %d", family, port_of(&name));
	calls_wait(fd, POLLIN);
	TELL(accept(fd, (void *)data, NULL));
}

static void option_values(void)
{
	int fd = connected(1), value = 1;
	socklen_t len = 4;

	TELL(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, bad, 4));
	TELL(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, unreadable(), 4));
	TELL(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, bad, 4));
	TELL(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, NULL, 4));
	TELL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, bad, 16));
	TELL(setsockopt(fd, SOL_SOCKET, SO_LINGER, bad, 8));
	TELL(getsockopt(fd, SOL_SOCKET, SO_TYPE, bad, &len));
	TELL(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, bad, &len));
	TELL(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, read_only(), &len));
	TELL(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, bad));
	TELL(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, NULL));
	TELL(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, bad, &(socklen_t){ 16 }));
	TELL(getsockopt(fd, SOL_SOCKET, SO_TYPE, NULL, &(socklen_t){ 0 }));
}

/* Shorter than an int, and longer than what is there. */
static void option_lengths(void)
{
	int fd = connected(1);
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	NEED(mprotect(page + 4096, 4096, PROT_NONE));
	TELL(setsockopt(fd, IPPROTO_IP, IP_TOS, bad, 1));
	TELL(setsockopt(fd, IPPROTO_IP, IP_TOS, bad, 0));
	TELL(setsockopt(fd, IPPROTO_IP, IP_TOS, page, 1));
	TELL(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, bad, 3));
	TELL(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, bad, 3));
	TELL(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, bad, 2));
	TELL(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, bad, 2));
	TELL(getsockopt(fd, IPPROTO_TCP, TCP_INFO, page + 4092, &(socklen_t){ 104 }));
	TELL(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, page + 4092, &(socklen_t){ 16 }));
	TELL(getsockopt(fd, SOL_SOCKET, SO_LINGER, page + 4092, &(socklen_t){ 4 }));
}

static void ioctl_values(void)
{
	int fd = connected(1);

	TELL(ioctl(fd, FIONREAD, bad));
	TELL(ioctl(fd, FIONREAD, NULL));
	TELL(ioctl(fd, FIONBIO, bad));
	TELL(ioctl(fd, TIOCOUTQ, unreadable()));
	TELL(ioctl(fd, FIONREAD, read_only()));
}

static void message_headers(void)
{
	int fd = connected(1), udp = dgram_with(2);
	struct iovec iov = { data, 1 };
	struct msghdr m = { .msg_iov = bad, .msg_iovlen = 1 };

	set_nonblock(fd, true);
	TELL(sendmsg(fd, bad, 0));
	TELL(recvmsg(fd, bad, 0));
	TELL(sendmsg(fd, unreadable(), 0));
	TELL(sendmsg(fd, &m, 0));
	TELL(recvmsg(fd, &m, 0));
	m.msg_iov = unreadable();
	TELL(sendmsg(udp, &m, 0));
	m.msg_iov = &iov;
	m.msg_name = bad;
	m.msg_namelen = 28;
	TELL(sendmsg(udp, &m, 0));
	m.msg_name = NULL;
	m.msg_control = bad;
	m.msg_controllen = 64;
	TELL(sendmsg(udp, &m, 0));
	TELL(writev(fd, bad, 1));
	TELL(readv(fd, bad, 1));
	TELL(sendmmsg(fd, bad, 1, 0));
	TELL(recvmmsg(fd, bad, 1, MSG_DONTWAIT, NULL));
}

/* Of what the messages of an array lead to, and of where a name is to go. */
static void message_contents(void)
{
	int fd = dgram_with(1);
	struct iovec iov = { data, 4 };
	struct mmsghdr many[2] = {
		{ .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } },
		{ .msg_hdr = { .msg_iov = bad, .msg_iovlen = 1 } },
	};

	TELL(sendmmsg(fd, many + 1, 1, 0));
	TELL(sendmmsg(fd, many, 2, 0));
	TELL(recvmmsg(fd, many + 1, 1, MSG_DONTWAIT, NULL));
	peer_must("send 1 0 abcd");
	calls_wait(fd, POLLIN);
	many[0].msg_hdr.msg_name = data;
	many[0].msg_hdr.msg_namelen = (socklen_t)-1;
	TELL(recvmsg(fd, &many[0].msg_hdr, MSG_DONTWAIT));
	TELL(recvmmsg(fd, many, 1, MSG_DONTWAIT, NULL));
	many[0].msg_hdr.msg_name = bad;
	many[0].msg_hdr.msg_namelen = 16;
	TELL(recvmsg(fd, &many[0].msg_hdr, MSG_DONTWAIT));
}

/* Descriptors to be sent, more than the message has. */
static void rights_length(void)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .head = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { data, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	int fd = connected(1), pair[2];

	NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	control.head.cmsg_len = 1ul << 40;
	TELL(sendmsg(pair[0], &m, 0));
	control.head.cmsg_len = sizeof(control) + 1;
	TELL(sendmsg(pair[0], &m, 0));
	control.head.cmsg_len = 1;
	TELL(sendmsg(pair[0], &m, 0));
	control.head.cmsg_len = CMSG_LEN(sizeof(int));
	TELL(sendmsg(pair[0], &m, 0));
}

static void poll_arrays(void)
{
	struct pollfd *at[] = { bad, unreadable(), NULL };
	volatile nfds_t too_many = -1;
	int fd = connected(1);

	for (size_t i = 0; i < COUNT(at); i++)
		TELL(poll(at[i], 1, 0));
	TELL(poll(bad, 0, 0));
	TELL(poll(bad, too_many, 0));
	TELL(ppoll(&(struct pollfd){ fd, POLLOUT, 0 }, 1, NULL, bad));
}

static void select_sets(void)
{
	int fd = connected(1);
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	TELL(select(fd + 1, bad, NULL, NULL, NULL));
	TELL(select(fd + 1, &set, unreadable(), NULL, NULL));
	TELL(select(fd + 1, NULL, NULL, read_only(), &(struct timeval){ 0 }));
}

static void epoll_events(void)
{
	int fd = connected(1), set = NEED(epoll_create1(0));
	struct epoll_event event = { .events = EPOLLOUT };
	volatile int too_many = INT_MAX;

	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd, bad));
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd, NULL));
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd, unreadable()));
	TELL(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	TELL(epoll_ctl(set, EPOLL_CTL_MOD, fd, bad));
	TELL(epoll_wait(set, bad, 1, 0));
	TELL(epoll_wait(set, read_only(), 1, 0));
	TELL(epoll_wait(set, &event, 1, 0));
	TELL(epoll_wait(set, &event, too_many, 0));
	TELL(epoll_ctl(set, EPOLL_CTL_DEL, fd, bad));
}

static void epoll_times(void)
{
	int fd = connected(1), set = NEED(epoll_create1(0));
	struct epoll_event event = { .events = EPOLLIN };

	NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	TELL(epoll_pwait2(set, &event, 1, bad, NULL));
	TELL(epoll_pwait(set, &event, 1, 0, bad));
	TELL(recvmmsg(fd, (struct mmsghdr[1]){ 0 }, 1, MSG_DONTWAIT, bad));
}

/* What is not replaced stays what it was. */
static void dups_refused(void)
{
	int fd = connected(1), other = connected(2), high = NEED(fcntl(fd, F_DUPFD, 200));
	struct rlimit limit;

	NEED(getrlimit(RLIMIT_NOFILE, &limit));
	TELL(dup3(other, fd, 0x1234));
	TELL(send(fd, "still the first", 15, 0));
	peer_tell("recv 1 100 0");
	NEED(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 100, limit.rlim_max }));
	TELL(dup2(other, high));
	NEED(setrlimit(RLIMIT_NOFILE, &limit));
	TELL(send(high, "this one, too", 13, 0));
	peer_tell("recv 1 100 0");
}

static void sendfile_offsets(void)
{
	int fd = connected(1), pipes[2];

	NEED(pipe(pipes));
	TELL(splice(fd, bad, pipes[1], NULL, 10, 0));
	TELL(splice(pipes[0], bad, fd, NULL, 10, 0));
	TELL(sendfile(fd, NEED(open("/proc/self/exe", O_RDONLY)), bad, 10));
}

static void descriptors(void)
{
	int fds[] = { -1, 1 << 20, INT_MAX, INT_MIN, 999 };
	struct msghdr m = { 0 };
	struct name name = { .len = sizeof(name.ss) };

	for (size_t i = 0; i < COUNT(fds); i++) {
		int fd = fds[i];

		TELL(send(fd, "x", 1, 0));
		TELL(recv(fd, data, 1, 0));
		TELL(sendmsg(fd, &m, 0));
		TELL(recvmsg(fd, &m, 0));
		TELL(getsockname(fd, sa(&name), &name.len));
		TELL(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, data, 4));
		TELL(shutdown(fd, SHUT_RD));
		TELL(listen(fd, 1));
		TELL(close(fd));
		TELL(dup(fd));
		TELL(dup2(fd, 500));
		TELL(fcntl(fd, F_GETFL));
		TELL(ioctl(fd, FIONREAD, data));
		TELL(sockatmark(fd));
	}
}

static void not_sockets(void)
{
	int pipes[2], fd;
	struct name name = { .len = sizeof(name.ss) };

	NEED(pipe(pipes));
	fd = pipes[1];
	TELL(send(fd, "x", 1, 0));
	TELL(recv(fd, data, 1, 0));
	TELL(connect(fd, sa(&name), name.len));
	TELL(getpeername(fd, sa(&name), &name.len));
	TELL(getsockopt(fd, SOL_SOCKET, SO_TYPE, data, &name.len));
	TELL(shutdown(fd, SHUT_RD));
	TELL(listen(fd, 1));
	TELL(accept(fd, NULL, NULL));
	TELL(sockatmark(fd));
}

static void socket_arguments(void)
{
	static const struct {
		int domain, type, protocol;
	} tries[] = {
		{ AF_INET, SOCK_STREAM, IPPROTO_UDP },
		{ AF_INET, SOCK_DGRAM, IPPROTO_TCP },
		{ AF_INET, 77, 0 },
		{ AF_INET, SOCK_STREAM | 0x100000, 0 },
		{ AF_INET, SOCK_STREAM, 255 },
		{ AF_INET, SOCK_STREAM, 256 },
		{ AF_INET, SOCK_STREAM, -1 },
		{ AF_INET, SOCK_SEQPACKET, 0 },
		{ AF_INET6, SOCK_STREAM, 1000 },
		{ AF_INET6, SOCK_RDM, 0 },
		{ 99, SOCK_STREAM, 0 },
		{ -1, SOCK_STREAM, 0 },
		{ AF_INET, SOCK_PACKET, 0 },
		{ AF_INET, 0, 0 },
	};

	for (size_t i = 0; i < COUNT(tries); i++)
		say_result("socket",
			   socket(tries[i].domain, tries[i].type, tries[i].protocol) < 0 ? -1 : 0);
	TELL(socketpair(AF_INET, SOCK_STREAM, 0, (int[2]){ 0 }));
	TELL(socketpair(AF_INET6, SOCK_DGRAM, 0, (int[2]){ 0 }));
}

const struct call_case cases[] = {
	{ "addresses_to_read", addresses_to_read },
	{ "addresses_to_write", addresses_to_write },
	{ "accept_addresses", accept_addresses },
	{ "option_values", option_values },
	{ "option_lengths", option_lengths },
	{ "ioctl_values", ioctl_values },
	{ "message_headers", message_headers },
	{ "message_contents", message_contents },
	{ "rights_length", rights_length },
	{ "poll_arrays", poll_arrays },
	{ "select_sets", select_sets },
	{ "epoll_events", epoll_events },
	{ "epoll_times", epoll_times },
	{ "dups_refused", dups_refused },
	{ "sendfile_offsets", sendfile_offsets },
	{ "descriptors", descriptors },
	{ "not_sockets", not_sockets },
	{ "socket_arguments", socket_arguments },
};
const size_t case_count = COUNT(cases);
