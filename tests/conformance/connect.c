/* SPDX-License-Identifier: MIT */
/* bind, listen, connect and accept: results, errors, names. */
#include "conformance.h"

#include <netdb.h>

#include <arpa/inet.h>

static int stream(void)
{
	return NEED(socket(family, SOCK_STREAM, 0));
}

static void say_error(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	NEED(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	say("SO_ERROR: %s", error ? strerrorname_np(error) : "none");
}

static void inet_pton6(struct name *name, const char *text)
{
	NEED(inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)(void *)&name->ss)->sin6_addr));
}

/* A port where nobody listens. */
static struct name nobody(void)
{
	struct name name = peer_name(peer_must("bind 62 %d", family));

	return name;
}

static void refused_blocking(void)
{
	struct name name = nobody();
	int fd = stream();

	TELL(connect(fd, sa(&name), name.len));
	say_error(fd);
	say_events("after", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	TELL(connect(fd, sa(&name), name.len));
}

static void refused_nonblocking(void)
{
	struct name name = nobody();
	int fd = stream();

	set_nonblock(fd, true);
	TELL(connect(fd, sa(&name), name.len));
	say_events("after", calls_wait(fd, POLLIN | POLLOUT | POLLRDHUP));
	say_error(fd);
	say_error(fd);
	say_events("told", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
}

static void refused_told_by_connect(void)
{
	struct name name = nobody();
	int fd = stream();

	set_nonblock(fd, true);
	TELL(connect(fd, sa(&name), name.len));
	calls_wait(fd, POLLOUT);
	TELL(connect(fd, sa(&name), name.len));
	say_error(fd);
	TELL(connect(fd, sa(&name), name.len));
	calls_wait(fd, POLLOUT);
	say_error(fd);
}

static void refused_told_by_send(void)
{
	struct name name = nobody();
	int fd = stream();

	set_nonblock(fd, true);
	TELL(connect(fd, sa(&name), name.len));
	calls_wait(fd, POLLOUT);
	TELL(send(fd, "x", 1, MSG_NOSIGNAL));
	TELL(send(fd, "x", 1, MSG_NOSIGNAL));
	say_error(fd);
}

static void refused_told_by_recv(void)
{
	struct name name = nobody();
	int fd = stream();
	char c;

	set_nonblock(fd, true);
	TELL(connect(fd, sa(&name), name.len));
	calls_wait(fd, POLLOUT);
	TELL(recv(fd, &c, 1, 0));
	TELL(recv(fd, &c, 1, 0));
	say_error(fd);
}

static void refused_then_accepted(void)
{
	struct name name = nobody();
	int fd = stream();

	TELL(connect(fd, sa(&name), name.len));
	peer_must("relisten 62 4");
	TELL(connect(fd, sa(&name), name.len));
	peer_must("accept 62 1");
	send_all(fd, "abc", 3);
	peer_tell("recv 1 3 0");
}

static void nonblocking_success(void)
{
	struct name name = peer_name(peer_must("listen 62 %d 4", family));
	int fd = stream();

	set_nonblock(fd, true);
	TELL(connect(fd, sa(&name), name.len));
	say_events("after", calls_wait(fd, POLLOUT));
	say_error(fd);
	TELL(connect(fd, sa(&name), name.len));
	TELL(connect(fd, sa(&name), name.len));
	say_events("after", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
}

static void connected_already(void)
{
	struct name name = peer_name(peer_must("listen 62 %d 4", family));
	int fd = stream();

	TELL(connect(fd, sa(&name), name.len));
	TELL(connect(fd, sa(&name), name.len));
	TELL(bind(fd, sa(&name), name.len));
	TELL(listen(fd, 3));
	TELL(accept(fd, NULL, NULL));
}

static void network_unreachable(void)
{
	struct name name = loopback(9);
	int fd = stream();

	if (family == AF_INET)
		((struct sockaddr_in *)(void *)&name.ss)->sin_addr.s_addr = htonl(0xf0000001);
	else
		inet_pton6(&name, "3fff::1");
	TELL(connect(fd, sa(&name), name.len));
	say_error(fd);
	set_nonblock(fd, true);
	TELL(connect(fd, sa(&name), name.len));
	say_error(fd);
}

static void broadcast_address(void)
{
	struct name name = loopback(9);
	int fd = stream();

	if (family != AF_INET)
		return;
	((struct sockaddr_in *)(void *)&name.ss)->sin_addr.s_addr = htonl(INADDR_BROADCAST);
	TELL(connect(fd, sa(&name), name.len));
	fd = NEED(socket(family, SOCK_DGRAM, 0));
	TELL(connect(fd, sa(&name), name.len));
	TELL(sendto(fd, "x", 1, 0, sa(&name), name.len));
}

static void port_zero(void)
{
	struct name name = loopback(0);
	int fd = stream();

	TELL(connect(fd, sa(&name), name.len));
	fd = NEED(socket(family, SOCK_DGRAM, 0));
	TELL(connect(fd, sa(&name), name.len));
	TELL(sendto(fd, "x", 1, 0, sa(&name), name.len));
}

static void address_lengths(void)
{
	struct name name = nobody();
	socklen_t lens[] = { 0, 1, 2, 8, name.len - 1, 28, 128, 129, (socklen_t)-1 };

	for (size_t i = 0; i < COUNT(lens); i++) {
		int fd = stream(), one = stream(), udp = NEED(socket(family, SOCK_DGRAM, 0));

		say("length %d", lens[i] == name.len - 1 ? -2 : (int)lens[i]);
		TELL(connect(fd, sa(&name), lens[i]));
		TELL(bind(one, sa(&name), lens[i]));
		TELL(sendto(udp, "x", 1, 0, sa(&name), lens[i]));
		close(fd);
		close(one);
		close(udp);
	}
}

static void address_families(void)
{
	static const int families[] = { AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, 77, 0xffff };

	for (size_t i = 0; i < COUNT(families); i++) {
		struct name name = loopback(0);
		int fd = stream(), udp = NEED(socket(family, SOCK_DGRAM, 0));

		name.ss.ss_family = families[i];
		say("family %d", families[i]);
		TELL(bind(fd, sa(&name), sizeof(name.ss)));
		TELL(connect(fd, sa(&name), sizeof(name.ss)));
		TELL(bind(udp, sa(&name), sizeof(name.ss)));
		TELL(connect(udp, sa(&name), sizeof(name.ss)));
		close(fd);
		close(udp);
	}
}

static void bind_twice(void)
{
	struct name name = loopback(0), used = nobody();
	int fd = stream();

	TELL(bind(fd, sa(&used), used.len));
	TELL(bind(fd, sa(&name), name.len));
	TELL(bind(fd, sa(&name), name.len));
}

static void bind_not_ours(void)
{
	struct name name = loopback(0);
	int fd = stream();

	if (family == AF_INET)
		((struct sockaddr_in *)(void *)&name.ss)->sin_addr.s_addr = htonl(0xc0000201);
	else
		inet_pton6(&name, "2001:db8::1");
	TELL(bind(fd, sa(&name), name.len));
	fd = NEED(socket(family, SOCK_DGRAM, 0));
	TELL(bind(fd, sa(&name), name.len));
}

static void bind_loopback_net(void)
{
	struct name name = loopback(0);
	int fd = stream();

	if (family != AF_INET)
		return;
	((struct sockaddr_in *)(void *)&name.ss)->sin_addr.s_addr = htonl(0x7f010203);
	TELL(bind(fd, sa(&name), name.len));
	TELL(listen(fd, 3));
	name = local_name(fd);
	say_name("bound", &name);
}

static void in_use(void)
{
	struct name name;
	int first = listener(&name), fd = stream(), on = 1;

	(void)first;
	TELL(bind(fd, sa(&name), name.len));
	TELL(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	TELL(bind(fd, sa(&name), name.len));
	TELL(peer("connect 1 %d %d", family, port_of(&name)));
}

static void in_use_by_peer(void)
{
	struct name name = peer_name(peer_must("listen 1 %d 4", family));
	int fd = stream(), on = 1;

	TELL(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	TELL(bind(fd, sa(&name), name.len));
	fd = stream();
	TELL(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)));
	TELL(bind(fd, sa(&name), name.len));
}

static void reuseaddr_bound_not_listening(void)
{
	struct name name = loopback(0);
	int a = stream(), b = stream(), on = 1;

	NEED(setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	NEED(setsockopt(b, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	NEED(bind(a, sa(&name), name.len));
	name = local_name(a);
	TELL(bind(b, sa(&name), name.len));
	TELL(listen(a, 3));
	TELL(listen(b, 3));
}

static void reuseport_both(void)
{
	struct name name = loopback(0);
	int a = stream(), b = stream(), c = stream(), on = 1;

	NEED(setsockopt(a, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)));
	NEED(bind(a, sa(&name), name.len));
	name = local_name(a);
	TELL(bind(b, sa(&name), name.len));
	NEED(setsockopt(b, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)));
	TELL(bind(b, sa(&name), name.len));
	TELL(listen(a, 3));
	TELL(listen(b, 3));
	TELL(bind(c, sa(&name), name.len));
	peer_must("connect 1 %d %d", family, port_of(&name));
	TELL(poll((struct pollfd[]){ { a, POLLIN, 0 }, { b, POLLIN, 0 } }, 2, 5000));
}

static void rebind_after_close(void)
{
	struct name name;
	int first = listener(&name), fd, on = 1, second = stream();

	peer_must("connect 1 %d %d", family, port_of(&name));
	fd = NEED(accept(first, NULL, NULL));
	close(fd); /* our end is in TIME_WAIT, or will be */
	close(first);
	peer_must("recv 1 1 0");
	peer_must("close 1");
	TELL(setsockopt(second, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	TELL(bind(second, sa(&name), name.len));
	TELL(listen(second, 4));
}

static void listen_unbound(void)
{
	int fd = stream();
	struct name name;

	TELL(listen(fd, 4));
	name = local_name(fd);
	say_name("chosen", &name);
	TELL(listen(fd, 8));
	TELL(listen(fd, -1));
	TELL(connect(fd, sa(&name), name.len));
	TELL(bind(fd, sa(&name), name.len));
	fd = NEED(socket(family, SOCK_DGRAM, 0));
	TELL(listen(fd, 4));
}

static void accept_states(void)
{
	int fd = stream();
	struct name name = loopback(0);

	TELL(accept(fd, NULL, NULL));
	NEED(bind(fd, sa(&name), name.len));
	TELL(accept(fd, NULL, NULL));
	TELL(accept4(fd, NULL, NULL, 0x10));
	fd = NEED(socket(family, SOCK_DGRAM, 0));
	TELL(accept(fd, NULL, NULL));
	TELL(accept(-1, NULL, NULL));
	TELL(accept(STDOUT_FILENO, NULL, NULL));
}

static void accept_flags(void)
{
	struct name name;
	int listening = listener(&name);
	static const int flags[] = { 0, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC };

	set_nonblock(listening, true);
	for (size_t i = 0; i < COUNT(flags); i++) {
		int fd;

		peer_must("connect 1 %d %d", family, port_of(&name));
		calls_wait(listening, POLLIN);
		fd = NEED(accept4(listening, NULL, NULL, flags[i]));
		say("flags %#x %d", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
		close(fd);
	}
	TELL(accept(listening, NULL, NULL));
}

static void accept_name_lengths(void)
{
	struct name name;
	int listening = listener(&name);
	socklen_t lens[] = { 0, 3, 128, 1000 };

	for (size_t i = 0; i < COUNT(lens); i++) {
		struct sockaddr_storage ss;
		socklen_t len = lens[i];

		memset(&ss, 0x55, sizeof(ss));
		peer_must("connect 1 %d %d", family, port_of(&name));
		if (len > sizeof(ss))
			continue;
		NEED(accept(listening, (void *)&ss, &len));
		say("%u: %u family %#x", lens[i], len, ss.ss_family);
	}
}

static void backlog_order(void)
{
	struct name name;
	int listening = listener(&name);
	char data[8] = "";

	for (int i = 1; i <= 3; i++) {
		peer_must("connect %d %d %d", i, family, port_of(&name));
		peer_must("send %d 0 n%d", i, i);
	}
	for (int i = 1; i <= 3; i++) {
		int fd = NEED(accept(listening, NULL, NULL));

		recv_all(fd, data, 2);
		say("%s", data);
	}
}

static void names_before_and_after(void)
{
	struct name name = peer_name(peer_must("listen 62 %d 4", family)), got;
	int fd = stream();

	got = local_name(fd);
	say_name("new", &got);
	got.len = sizeof(got.ss);
	TELL(getpeername(fd, sa(&got), &got.len));
	NEED(connect(fd, sa(&name), name.len));
	got = local_name(fd);
	say_name("local", &got);
	got.len = sizeof(got.ss);
	TELL(getpeername(fd, sa(&got), &got.len));
	say_name("peer", &got);
	say("%s", port_of(&got) == port_of(&name) ? "same port" : "another port");
}

static void names_short(void)
{
	int fd = connected(1);
	socklen_t lens[] = { 0, 2, 4, 16, 28, 100 };

	for (size_t i = 0; i < COUNT(lens); i++) {
		struct sockaddr_storage ss = { .ss_family = 0x5555 };
		socklen_t len = lens[i];
		int ret = getsockname(fd, (void *)&ss, &len);

		say("%u: %d %u %#x", lens[i], ret, len, ss.ss_family);
	}
}

static void connect_timeout_option(void)
{
	const struct timeval limit = { .tv_usec = 300000 };
	struct name name = peer_name(peer_must("listen 62 %d 1", family));
	int fd[8], i;

	/* a backlog of 1 takes two; the third waits for its SYN to be answered */
	for (i = 0; i < 8; i++) {
		fd[i] = stream();
		NEED(setsockopt(fd[i], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)));
		if (connect(fd[i], sa(&name), name.len))
			break;
	}
	say("%s", i == 8 ? "never" : strerrorname_np(errno));
	if (i < 8)
		TELL(connect(fd[i], sa(&name), name.len));
}

static void dissolve(void)
{
	struct name none = { .ss.ss_family = AF_UNSPEC }, got = { .len = sizeof(got.ss) }, name;
	int fd = connected(1);
	char data[8];

	TELL(connect(fd, sa(&none), sizeof(struct sockaddr)));
	TELL(getpeername(fd, sa(&got), &got.len));
	peer_tell("recv 1 4 0");
	name = peer_name(peer_must("listen 2 %d 4", family));
	TELL(connect(fd, sa(&name), name.len));
	peer_must("accept 2 3");
	peer_must("send 3 0 abc");
	TELL(recv(fd, data, sizeof(data), 0));
}

/* What a socket has been decides, not what it is good for now. */
static void states_that_refuse(void)
{
	struct name nobody = loopback(0), name;
	int fd = NEED(socket(family, SOCK_STREAM, 0)), l = listener(&name);
	struct pollfd shut = { .events = POLLIN | POLLOUT };
	const int port = port_of(&name);
	char byte;

	/* refused, and connect() has not told yet */
	close(listener(&nobody));
	set_nonblock(fd, true);
	TELL(connect(fd, sa(&nobody), nobody.len));
	calls_wait(fd, POLLOUT);
	TELL(listen(fd, 1));
	/* reset */
	fd = connected(1);
	peer_must("reset 1");
	wait_end(fd);
	set_nonblock(fd, true);
	TELL(connect(fd, sa(&name), name.len));
	/* connected */
	fd = connected(2);
	name = loopback(0);
	TELL(bind(fd, sa(&name), name.len));
	TELL(recv(fd, &byte, 0, MSG_WAITALL | MSG_DONTWAIT));
	/* listened, and has a connection left */
	peer_must("connect 3 %d %d", family, port);
	calls_wait(l, POLLIN);
	TELL(shutdown(l, SHUT_RDWR));
	TELL(recv(l, &byte, 1, 0));
	shut.fd = l;
	TELL(poll(&shut, 1, 0));
	say("shut down %#x", shut.revents);
}

static void tell_reserved(const char *what, int fd)
{
	struct name name = { .len = sizeof(name.ss) };

	NEED(getsockname(fd, sa(&name), &name.len));
	say("%s: family %d, reserved %d", what, name.ss.ss_family,
	    port_of(&name) >= 512 && port_of(&name) < 1024);
}

static void reserved_ports(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	int fd, port = 1023, other = 0;

	fd = NEED(socket(AF_INET, SOCK_STREAM, 0));
	TELL(bindresvport(fd, &in));
	tell_reserved("bindresvport", fd);
	say("told %d", in.sin_port != 0);
	TELL(bindresvport(fd, NULL));
	in.sin_family = AF_INET6;
	TELL(bindresvport(fd, &in));
	fd = NEED(rresvport(&port));
	tell_reserved("rresvport", fd);
	fd = NEED(rresvport_af(&other, AF_INET6));
	tell_reserved("rresvport_af", fd);
	TELL(rresvport_af(&port, AF_UNIX));
}

static void self_connect(void)
{
	struct name name = loopback(0);
	int fd = stream();
	char c = 0;

	NEED(bind(fd, sa(&name), name.len));
	name = local_name(fd);
	TELL(connect(fd, sa(&name), name.len));
	TELL(send(fd, "x", 1, MSG_NOSIGNAL));
	calls_wait(fd, POLLIN);
	TELL(recv(fd, &c, 1, MSG_DONTWAIT));
	say("%c", c ? c : '-');
}

static void any_is_this_machine(void)
{
	struct name name = peer_name(peer_must("listen 62 %d 4", family)),
		    got = { .len = sizeof(got.ss) };
	int fd = stream();

	if (family == AF_INET)
		((struct sockaddr_in *)(void *)&name.ss)->sin_addr.s_addr = 0;
	else
		((struct sockaddr_in6 *)(void *)&name.ss)->sin6_addr = in6addr_any;
	TELL(connect(fd, sa(&name), name.len));
	NEED(getpeername(fd, sa(&got), &got.len));
	say_name("peer", &got);
}

const struct call_case cases[] = {
	{ "refused_blocking", refused_blocking },
	{ "refused_nonblocking", refused_nonblocking },
	{ "refused_told_by_connect", refused_told_by_connect },
	{ "refused_told_by_send", refused_told_by_send },
	{ "refused_told_by_recv", refused_told_by_recv },
	{ "refused_then_accepted", refused_then_accepted },
	{ "nonblocking_success", nonblocking_success },
	{ "connected_already", connected_already },
	{ "network_unreachable", network_unreachable },
	{ "broadcast_address", broadcast_address },
	{ "port_zero", port_zero },
	{ "address_lengths", address_lengths },
	{ "address_families", address_families },
	{ "bind_twice", bind_twice },
	{ "bind_not_ours", bind_not_ours },
	{ "bind_loopback_net", bind_loopback_net },
	{ "in_use", in_use },
	{ "in_use_by_peer", in_use_by_peer },
	{ "reuseaddr_bound_not_listening", reuseaddr_bound_not_listening },
	{ "reuseport_both", reuseport_both },
	{ "rebind_after_close", rebind_after_close },
	{ "listen_unbound", listen_unbound },
	{ "accept_states", accept_states },
	{ "accept_flags", accept_flags },
	{ "accept_name_lengths", accept_name_lengths },
	{ "backlog_order", backlog_order },
	{ "names_before_and_after", names_before_and_after },
	{ "names_short", names_short },
	{ "connect_timeout_option", connect_timeout_option },
	{ "states_that_refuse", states_that_refuse },
	{ "reserved_ports", reserved_ports },
	{ "dissolve", dissolve },
	{ "self_connect", self_connect },
	{ "any_is_this_machine", any_is_this_machine },
};
const size_t case_count = COUNT(cases);
