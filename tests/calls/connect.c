/* SPDX-License-Identifier: MIT */
/* socket, bind, listen, accept, connect, and names; endings.c has how they end. */
#include "calls.h"

/* --- socket ------------------------------------------------------------ */

static void socket_kinds(void)
{
	int fd = NEED(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));

	TELL(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE));
	TELL(fcntl(fd, F_GETFD));
	TELL(close(fd));
	TELL(close(fd));
	fd = NEED(socket(family, SOCK_DGRAM, IPPROTO_UDP));
	TELL(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE));
	TELL(fcntl(fd, F_GETFD));
	TELL(close(fd));
	TELL(socket(family, SOCK_STREAM, IPPROTO_UDP));
	TELL(socket(family, SOCK_DGRAM, IPPROTO_TCP));
	TELL(socket(family, SOCK_SEQPACKET, 0));
}

static void socket_lowest_number(void)
{
	int low = NEED(dup(0)), fd;

	close(low);
	fd = NEED(socket(family, SOCK_STREAM, 0));
	TELL(fd == low);
	TELL(socket(family, SOCK_DGRAM, 0) == low + 1);
	TELL(dup(0) == low + 2);
	TELL(close(low));
	TELL(socket(family, SOCK_DGRAM, 0) == low);
}

/* --- bind -------------------------------------------------------------- */

static void bind_port_zero(void)
{
	int fd = NEED(socket(family, SOCK_STREAM, 0));
	struct name name = loopback(0), got = local_name(fd);

	say_name("before", &got);
	TELL(bind(fd, sa(&name), name.len));
	got = local_name(fd);
	say_name("after", &got);
	TELL(bind(fd, sa(&name), name.len));
	TELL(connect(fd, sa(&got), 3));
}

static void bind_refused(void)
{
	int fd = NEED(socket(family, SOCK_STREAM, 0)), udp = NEED(socket(family, SOCK_DGRAM, 0));
	struct name name = loopback(0), used, other = loopback(0);
	struct sockaddr_in *in = (void *)&other.ss;
	struct sockaddr_in6 *in6 = (void *)&other.ss;
	int first = listener(&used);

	TELL(bind(fd, sa(&name), 3));
	TELL(bind(fd, sa(&used), used.len));
	TELL(bind(udp, sa(&used), used.len));
	if (family == AF_INET)
		in->sin_addr.s_addr = htonl(0xc0000201);
	else
		in6->sin6_addr.s6_addr[0] = 0x20;
	TELL(bind(fd, sa(&other), other.len));
	other.ss.ss_family = family == AF_INET ? AF_INET6 : AF_INET;
	TELL(bind(fd, sa(&other), sizeof(other.ss)));
	TELL(bind(fd, sa(&name), name.len));
	TELL(close(first));
	TELL(bind(fd, sa(&used), used.len));
	TELL(bind(-1, sa(&used), used.len));
	TELL(bind(STDOUT_FILENO, sa(&used), used.len));
}

static void bind_any(void)
{
	struct name name = loopback(0), got, far;
	int fd = NEED(socket(family, SOCK_STREAM, 0)), c = NEED(socket(family, SOCK_STREAM, 0));
	int a;

	if (family == AF_INET)
		((struct sockaddr_in *)(void *)&name.ss)->sin_addr.s_addr = htonl(INADDR_ANY);
	else
		((struct sockaddr_in6 *)(void *)&name.ss)->sin6_addr = in6addr_any;
	TELL(bind(fd, sa(&name), name.len));
	got = local_name(fd);
	say_name("bound", &got);
	TELL(listen(fd, 5));
	far = loopback(port_of(&got));
	TELL(connect(c, sa(&far), far.len));
	far.len = sizeof(far.ss);
	a = NEED(accept(fd, sa(&far), &far.len));
	say_name("accepted from", &far);
	got = local_name(a);
	say_name("accepted at", &got);
	/* Connecting to "any" means here. */
	name = local_name(fd);
	close(c);
	c = NEED(socket(family, SOCK_STREAM, 0));
	TELL(connect(c, sa(&name), name.len));
	far.len = sizeof(far.ss);
	TELL(getpeername(c, sa(&far), &far.len));
	say_name("peer", &far);
}

static void bind_shared_port(void)
{
	static const int names[] = { SO_REUSEADDR, SO_REUSEPORT };

	for (size_t i = 0; i < COUNT(names); i++) {
		int a = NEED(socket(family, SOCK_STREAM, 0)),
		    b = NEED(socket(family, SOCK_STREAM, 0));
		struct name name = loopback(0);
		int one = 1;

		TELL(setsockopt(a, SOL_SOCKET, names[i], &one, sizeof(one)));
		TELL(setsockopt(b, SOL_SOCKET, names[i], &one, sizeof(one)));
		NEED(bind(a, sa(&name), name.len));
		name = local_name(a);
		TELL(bind(b, sa(&name), name.len));
		TELL(listen(a, 5));
		TELL(listen(b, 5));
		close(a);
		close(b);
	}
}

static void bind_again(void)
{
	struct name name = loopback(0);
	int fd, port = 0;

	for (int i = 0; i < 50; i++) {
		fd = NEED(socket(family, SOCK_STREAM, 0));
		name = loopback(port);
		NEED(bind(fd, sa(&name), name.len));
		NEED(listen(fd, 5));
		name = local_name(fd);
		port = port_of(&name);
		NEED(close(fd));
	}
	say("bound and closed the same port 50 times");
	for (int i = 0; i < 50; i++) {
		fd = NEED(socket(family, SOCK_DGRAM, 0));
		NEED(bind(fd, sa(&name), name.len));
		NEED(close(fd));
	}
	say("and as datagram socket");
}

/* A server that ends first leaves TIME_WAIT behind: SO_REUSEADDR is for that. */
static void bind_after_service(void)
{
	int fd = NEED(socket(family, SOCK_STREAM, 0)), c = NEED(socket(family, SOCK_STREAM, 0));
	struct name name = loopback(0);
	int a, one = 1;
	char byte;

	NEED(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	NEED(bind(fd, sa(&name), name.len));
	NEED(listen(fd, 5));
	name = local_name(fd);
	NEED(connect(c, sa(&name), name.len));
	a = NEED(accept(fd, NULL, NULL));
	TELL(close(a));
	TELL(close(fd));
	TELL(recv(c, &byte, 1, 0));
	TELL(close(c));
	fd = NEED(socket(family, SOCK_STREAM, 0));
	TELL(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	TELL(bind(fd, sa(&name), name.len));
	TELL(listen(fd, 5));
}

/* --- listen, accept ---------------------------------------------------- */

static void listen_states(void)
{
	int fd = NEED(socket(family, SOCK_STREAM, 0)), udp = NEED(socket(family, SOCK_DGRAM, 0));
	struct name name;
	int pair[2], value = -1;
	socklen_t len = sizeof(value);

	TELL(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len));
	say("accepts %d", value);
	TELL(listen(fd, 5)); /* without bind */
	name = local_name(fd);
	say_name("listening", &name);
	TELL(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len));
	say("accepts %d", value);
	TELL(listen(fd, 9));
	TELL(listen(udp, 5));
	TELL(connect(fd, sa(&name), name.len));
	TELL(send(fd, "x", 1, MSG_NOSIGNAL));
	TELL(recv(fd, &value, 1, MSG_DONTWAIT));
	say_events("listener", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	stream_pair(pair);
	TELL(listen(pair[0], 5));
	TELL(listen(pair[1], 5));
	TELL(listen(STDOUT_FILENO, 5));
}

static void accept_refused(void)
{
	struct name name;
	int fd = listener(&name), plain = NEED(socket(family, SOCK_STREAM, 0));
	int udp = NEED(socket(family, SOCK_DGRAM, 0)), pair[2];

	TELL(accept(plain, NULL, NULL));
	TELL(accept(udp, NULL, NULL));
	stream_pair(pair);
	TELL(accept(pair[0], NULL, NULL));
	TELL(accept4(fd, NULL, NULL, 0x40000000));
	set_nonblock(fd, true);
	TELL(accept(fd, NULL, NULL));
	TELL(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
	TELL(accept(-1, NULL, NULL));
	TELL(accept(STDOUT_FILENO, NULL, NULL));
	close(fd);
	TELL(accept(fd, NULL, NULL));
}

static void accept_flags(void)
{
	static const int flags[] = { 0, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC };
	struct name name;
	int fd = listener(&name);

	for (int nonblock = 0; nonblock < 2; nonblock++) {
		set_nonblock(fd, nonblock);
		for (size_t i = 0; i < COUNT(flags); i++) {
			int c = NEED(socket(family, SOCK_STREAM, 0)), a;

			NEED(connect(c, sa(&name), name.len));
			calls_wait(fd, POLLIN);
			a = NEED(accept4(fd, NULL, NULL, flags[i]));
			say("listener %d flags %zu: fl %d fd %d", nonblock, i,
			    fcntl(a, F_GETFL) & (O_NONBLOCK | O_ACCMODE), fcntl(a, F_GETFD));
			close(a);
			close(c);
		}
	}
}

static void accept_names(void)
{
	struct name name, got = { .len = 0 }, mine;
	int fd = listener(&name), c = NEED(socket(family, SOCK_STREAM, 0)), a;
	char cut[64];
	socklen_t len = 4;

	NEED(connect(c, sa(&name), name.len));
	got.len = sizeof(got.ss);
	a = NEED(accept(fd, sa(&got), &got.len));
	say_name("from", &got);
	mine = local_name(c);
	TELL(port_of(&mine) == port_of(&got));
	mine = local_name(a);
	say_name("here", &mine);
	TELL(port_of(&mine) == port_of(&name));
	got.len = sizeof(got.ss);
	TELL(getpeername(a, sa(&got), &got.len));
	mine = local_name(c);
	TELL(port_of(&mine) == port_of(&got));
	got.len = sizeof(got.ss);
	TELL(getpeername(c, sa(&got), &got.len));
	TELL(port_of(&name) == port_of(&got));
	memset(cut, 0x5a, sizeof(cut));
	TELL(getpeername(c, (struct sockaddr *)(void *)cut, &len));
	say("cut: needs %u, byte 4 %s", len, cut[4] == 0x5a ? "left alone" : "written");
	len = (socklen_t)-1;
	TELL(getsockname(c, (struct sockaddr *)(void *)cut, &len));
	got.len = sizeof(got.ss);
	TELL(getpeername(fd, sa(&got), &got.len));
	close(c);
	/* The name survives the peer. */
	say_events("after close", calls_wait(a, POLLIN | POLLRDHUP));
	got.len = sizeof(got.ss);
	TELL(getpeername(a, sa(&got), &got.len));
}

/* --- connect ----------------------------------------------------------- */

/* A port where nobody listens. */
static struct name nobody(void)
{
	struct name name;
	int fd = NEED(socket(family, SOCK_STREAM, 0));

	name = loopback(0);
	NEED(bind(fd, sa(&name), name.len));
	name = local_name(fd);
	/* Bound and not listening: nobody else gets it meanwhile. */
	return name;
}

static void connect_blocking(void)
{
	struct name name, got;
	int fd = listener(&name), c = NEED(socket(family, SOCK_STREAM, 0)), error = -1;
	socklen_t len = sizeof(error);

	got.len = sizeof(got.ss);
	TELL(getpeername(c, sa(&got), &got.len));
	say_events("new", events_now(c, POLLIN | POLLOUT | POLLRDHUP));
	TELL(send(c, "x", 1, MSG_NOSIGNAL));
	TELL(recv(c, &error, 1, 0));
	TELL(connect(c, sa(&name), name.len));
	TELL(getsockopt(c, SOL_SOCKET, SO_ERROR, &error, &len));
	say("error %d", error);
	TELL(connect(c, sa(&name), name.len));
	say_events("connected", events_now(c, POLLIN | POLLOUT | POLLRDHUP));
	got = local_name(c);
	say_name("local", &got);
	say_events("listener", calls_wait(fd, POLLIN | POLLOUT));
	close(fd);
}

static void connect_refused(void)
{
	struct name name = nobody(), up;
	int fd = NEED(socket(family, SOCK_STREAM, 0)), error = -1, listening = listener(&up);
	socklen_t len = sizeof(error);

	TELL(connect(fd, sa(&name), name.len));
	TELL(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	say("error %d", error);
	say_events("refused", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
	TELL(recv(fd, &error, 1, MSG_DONTWAIT));
	TELL(send(fd, "x", 1, MSG_NOSIGNAL));
	TELL(connect(fd, sa(&name), name.len));
	/* Linux lets it try again. */
	TELL(connect(fd, sa(&up), up.len));
	TELL(send(fd, "x", 1, MSG_NOSIGNAL));
	close(listening);
}

static void connect_refused_later(void)
{
	struct name name = nobody();
	int fd = NEED(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0)), error = -1, ret;
	socklen_t len = sizeof(error);

	/* The kernel may know at once on the loopback interface. */
	ret = connect(fd, sa(&name), name.len);
	if (ret == 0 || (errno != EINPROGRESS && errno != ECONNREFUSED))
		TELL(ret);
	say_events("refused", calls_wait(fd, POLLIN | POLLOUT | POLLRDHUP));
	TELL(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	say("error %s", strerrorname_np(error));
	TELL(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	say("error %d", error);
	say_events("taken", events_now(fd, POLLIN | POLLOUT | POLLRDHUP));
}

static void connect_nonblocking(void)
{
	struct name name, got;
	int fd = listener(&name), c = NEED(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0)), a;
	int error = -1;
	socklen_t len = sizeof(error);
	char byte;

	TELL(connect(c, sa(&name), name.len));
	say_events("connected", calls_wait(c, POLLOUT));
	TELL(getsockopt(c, SOL_SOCKET, SO_ERROR, &error, &len));
	say("error %d", error);
	got.len = sizeof(got.ss);
	TELL(getpeername(c, sa(&got), &got.len));
	TELL(connect(c, sa(&name), name.len));
	TELL(connect(c, sa(&name), name.len));
	TELL(recv(c, &byte, 1, 0));
	a = NEED(accept(fd, NULL, NULL));
	TELL(send(a, "y", 1, 0));
	say_events("readable", calls_wait(c, POLLIN));
	TELL(recv(c, &byte, 1, 0));
}

/* A listener that takes no more: the next connect() stays under way. */
static void connect_under_way(void)
{
	struct name name = loopback(0), got;
	int fd = NEED(socket(family, SOCK_STREAM, 0)), c = -1, error = -1, i;
	socklen_t len = sizeof(error);

	NEED(bind(fd, sa(&name), name.len));
	NEED(listen(fd, 0));
	name = local_name(fd);
	for (i = 0; i < 32; i++) {
		struct pollfd p = { .events = POLLOUT };

		c = p.fd = NEED(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
		if (connect(c, sa(&name), name.len) < 0 && errno != EINPROGRESS)
			TELL(-1);
		if (!NEED(poll(&p, 1, 500)))
			break;
	}
	say("one is under way: %s", i < 32 ? "yes" : "no");
	TELL(connect(c, sa(&name), name.len));
	TELL(getsockopt(c, SOL_SOCKET, SO_ERROR, &error, &len));
	say("error %d", error);
	say_events("meanwhile", events_now(c, POLLIN | POLLOUT | POLLRDHUP));
	TELL(send(c, "x", 1, MSG_NOSIGNAL));
	TELL(recv(c, &error, 1, 0));
	got.len = sizeof(got.ss);
	TELL(getpeername(c, sa(&got), &got.len));
	got = local_name(c);
	say_name("local", &got);
	TELL(close(c));
}

static void connect_odd_addresses(void)
{
	struct name name = loopback(1), unspec = { .ss.ss_family = AF_UNSPEC, .len = 16 }, up;
	int fd = NEED(socket(family, SOCK_STREAM, 0)), listening = listener(&up), a;
	char byte;

	TELL(connect(fd, sa(&name), 1));
	TELL(connect(fd, sa(&name), sizeof(struct sockaddr_in) - 1));
	name.ss.ss_family = AF_UNIX;
	TELL(connect(fd, sa(&name), name.len));
	name.ss.ss_family = family == AF_INET ? AF_INET6 : AF_INET;
	TELL(connect(fd, sa(&name), sizeof(struct sockaddr_in6)));
	TELL(connect(-1, sa(&up), up.len));
	TELL(connect(STDOUT_FILENO, sa(&up), up.len));
	TELL(connect(fd, sa(&up), up.len));
	a = NEED(accept(listening, NULL, NULL));
	TELL(connect(fd, sa(&unspec), unspec.len));
	say_events("left", calls_wait(a, POLLIN));
	TELL(recv(a, &byte, 1, 0));
	TELL(connect(fd, sa(&up), up.len));
	a = NEED(accept(listening, NULL, NULL));
	TELL(send(fd, "z", 1, 0));
	TELL(recv(a, &byte, 1, 0));
}

/* Nothing of the old connection is in the new one. */
static void connect_anew(void)
{
	struct name unspec = { .ss.ss_family = AF_UNSPEC, .len = 16 }, up;
	int fd = NEED(socket(family, SOCK_STREAM, 0)), listening = listener(&up), a;
	char data[8] = "";

	TELL(connect(fd, sa(&up), up.len));
	a = NEED(accept(listening, NULL, NULL));
	TELL(send(a, "old", 3, 0));
	wait_bytes(fd, 3);
	TELL(shutdown(a, SHUT_WR));
	TELL(connect(fd, sa(&unspec), unspec.len));
	TELL(connect(fd, sa(&up), up.len));
	a = NEED(accept(listening, NULL, NULL));
	TELL(recv(fd, data, sizeof(data), MSG_DONTWAIT));
	TELL(send(a, "new", 3, 0));
	TELL(recv(fd, data, sizeof(data), 0));
	say("got %.3s", data);
	TELL(send(fd, "up", 2, 0));
	TELL(recv(a, data, sizeof(data), 0));
}

static void connect_bound(void)
{
	struct name name, mine = loopback(0), got = { .len = sizeof(got.ss) };
	int fd = listener(&name), c = NEED(socket(family, SOCK_STREAM, 0));

	NEED(bind(c, sa(&mine), mine.len));
	mine = local_name(c);
	TELL(connect(c, sa(&name), name.len));
	NEED(accept(fd, sa(&got), &got.len));
	TELL(port_of(&mine) == port_of(&got));
	TELL(bind(c, sa(&mine), mine.len));
}

/* An IPv6 listener hears IPv4, unless IPV6_V6ONLY is set. */
static void connect_both_families(void)
{
	struct name name = loopback(0), got = { .len = sizeof(got.ss) };
	int fd = NEED(socket(AF_INET6, SOCK_STREAM, 0)), c = NEED(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in6 any = { .sin6_family = AF_INET6 };
	int one = 1, value = -1, a, port;
	socklen_t len = sizeof(value);

	TELL(getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &value, &len));
	say("only %d", value);
	NEED(bind(fd, (struct sockaddr *)(void *)&any, sizeof(any)));
	NEED(listen(fd, 5));
	name = local_name(fd);
	port = port_of(&name);
	family = AF_INET;
	name = loopback(port);
	TELL(connect(c, sa(&name), name.len));
	a = NEED(accept(fd, sa(&got), &got.len));
	say_name("from", &got);
	got = local_name(a);
	say_name("at", &got);
	TELL(send(c, "abc", 3, 0));
	TELL(recv(a, &value, 3, MSG_WAITALL));
	close(fd);
	close(a);
	close(c);
	fd = NEED(socket(AF_INET6, SOCK_STREAM, 0));
	TELL(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)));
	NEED(bind(fd, (struct sockaddr *)(void *)&any, sizeof(any)));
	NEED(listen(fd, 5));
	name = local_name(fd);
	name = loopback(port_of(&name));
	c = NEED(socket(AF_INET, SOCK_STREAM, 0));
	TELL(connect(c, sa(&name), name.len));
}

/* An IPv6 socket reaches an IPv4 listener by a mapped address. */
static void connect_mapped(void)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6 };
	int fd, c = NEED(socket(AF_INET6, SOCK_STREAM, 0)), a;
	struct name name, got = { .len = sizeof(got.ss) };

	family = AF_INET;
	fd = listener(&name);
	to.sin6_port = htons(port_of(&name));
	to.sin6_addr.s6_addr[10] = to.sin6_addr.s6_addr[11] = 0xff;
	to.sin6_addr.s6_addr[12] = 127;
	to.sin6_addr.s6_addr[15] = 1;
	TELL(connect(c, (struct sockaddr *)(void *)&to, sizeof(to)));
	a = NEED(accept(fd, sa(&got), &got.len));
	say_name("from", &got);
	got.len = sizeof(got.ss);
	TELL(getpeername(c, sa(&got), &got.len));
	say_name("to", &got);
	got = local_name(c);
	say_name("at", &got);
	TELL(send(a, "q", 1, 0));
	TELL(recv(c, &to, 1, 0));
}

const struct call_case cases[] = {
	{ "socket_kinds", socket_kinds },
	{ "socket_lowest_number", socket_lowest_number },
	{ "bind_port_zero", bind_port_zero },
	{ "bind_refused", bind_refused },
	{ "bind_any", bind_any },
	{ "bind_shared_port", bind_shared_port },
	{ "bind_again", bind_again },
	{ "bind_after_service", bind_after_service },
	{ "listen_states", listen_states },
	{ "accept_refused", accept_refused },
	{ "accept_flags", accept_flags },
	{ "accept_names", accept_names },
	{ "connect_blocking", connect_blocking },
	{ "connect_refused", connect_refused },
	{ "connect_refused_later", connect_refused_later },
	{ "connect_nonblocking", connect_nonblocking },
	{ "connect_under_way", connect_under_way },
	{ "connect_odd_addresses", connect_odd_addresses },
	{ "connect_anew", connect_anew },
	{ "connect_bound", connect_bound },
	{ "connect_both_families", connect_both_families },
	{ "connect_mapped", connect_mapped },
};
const size_t case_count = COUNT(cases);
