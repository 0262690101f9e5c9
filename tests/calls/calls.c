/* SPDX-License-Identifier: MIT */
/*
 * The frame of each program of tests/calls; see calls.h.
 *
 *	calls_stream 4		all cases over 127.0.0.1, each in a process of its own
 *	calls_stream 6 peek	one case over ::1, in this process
 */
#include "calls.h"

#include <arpa/inet.h>
#include <stdarg.h>

#define CASE_SECONDS 150
#define WAIT_MS 5000

int family = AF_INET;

/* --- telling ----------------------------------------------------------- */

/* One write per line: processes and threads of a case may tell at once. */
void say(const char *format, ...)
{
	char line[1024];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	if (len > (int)sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len] = '\n';
	if (write(STDOUT_FILENO, line, len + 1) < 0)
		abort();
}

long calls_tell(const char *text, long result)
{
	int error = errno;

	if (result == -1)
		say("%s = -1 %s", text, error ? strerrorname_np(error) : "");
	else
		say("%s = %ld", text, result);
	return result;
}

long calls_need(const char *text, int line, long result)
{
	if (result >= 0)
		return result;
	say("line %d: %s: %s", line, text, strerrorname_np(errno));
	exit(1);
}

void say_bits(const char *what, const struct bit_name *names, size_t count, uint32_t bits)
{
	char text[160] = "";

	for (size_t i = 0; i < count; i++) {
		if (!(bits & names[i].bit))
			continue;
		strcat(text, " ");
		strcat(text, names[i].name);
		bits &= ~names[i].bit;
	}
	say("%s:%s%s", what, text[0] ? text : " none", bits ? " and others" : "");
}

void say_events(const char *what, int events)
{
	static const struct bit_name names[] = {
		{ POLLIN, "IN" },       { POLLPRI, "PRI" }, { POLLOUT, "OUT" },
		{ POLLRDHUP, "RDHUP" }, { POLLERR, "ERR" }, { POLLHUP, "HUP" },
		{ POLLNVAL, "NVAL" },
	};

	say_bits(what, names, COUNT(names), (uint32_t)events);
}

void say_name(const char *what, const struct name *name)
{
	const struct sockaddr_in6 *in6 = (const void *)&name->ss;
	const struct sockaddr_in *in = (const void *)&name->ss;
	char text[INET6_ADDRSTRLEN] = "?";

	if (name->ss.ss_family == AF_INET)
		inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
	if (name->ss.ss_family == AF_INET6)
		inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
	say("%s: family %d length %u %s port %s", what, name->ss.ss_family, name->len, text,
	    port_of(name) ? "set" : "0");
}

void say_child(const char *what, pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		say("%s: lost", what);
	else if (WIFSIGNALED(status))
		say("%s: signal %s", what, sigabbrev_np(WTERMSIG(status)));
	else
		say("%s: exit %d", what, WEXITSTATUS(status));
}

/* --- names and sockets ------------------------------------------------- */

struct name loopback(int port)
{
	struct name name = { .ss.ss_family = family };
	struct sockaddr_in6 *in6 = (void *)&name.ss;
	struct sockaddr_in *in = (void *)&name.ss;

	if (family == AF_INET6) {
		in6->sin6_port = htons(port);
		in6->sin6_addr = in6addr_loopback;
		name.len = sizeof(*in6);
	} else {
		in->sin_port = htons(port);
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		name.len = sizeof(*in);
	}
	return name;
}

/* At the same place in both. */
int port_of(const struct name *name)
{
	return ntohs(((const struct sockaddr_in *)(const void *)&name->ss)->sin_port);
}

struct name local_name(int fd)
{
	struct name name = { .len = sizeof(name.ss) };

	NEED(getsockname(fd, sa(&name), &name.len));
	return name;
}

int listener(struct name *ret_name)
{
	int fd = NEED(socket(family, SOCK_STREAM, 0));
	struct name name = loopback(0);

	NEED(bind(fd, sa(&name), name.len));
	NEED(listen(fd, 64));
	*ret_name = local_name(fd);
	return fd;
}

void stream_pair(int fd[2])
{
	struct name name;
	int listening = listener(&name);

	fd[0] = NEED(socket(family, SOCK_STREAM, 0));
	NEED(connect(fd[0], sa(&name), name.len));
	fd[1] = NEED(accept(listening, NULL, NULL));
	close(listening);
}

int dgram_bound(struct name *ret_name)
{
	int fd = NEED(socket(family, SOCK_DGRAM, 0));
	struct name name = loopback(0);

	NEED(bind(fd, sa(&name), name.len));
	*ret_name = local_name(fd);
	return fd;
}

void dgram_pair(int fd[2])
{
	struct name name[2];

	for (int i = 0; i < 2; i++)
		fd[i] = dgram_bound(&name[i]);
	for (int i = 0; i < 2; i++)
		NEED(connect(fd[i], sa(&name[!i]), name[!i].len));
}

/* --- waiting ----------------------------------------------------------- */

static int wait_ms(void)
{
	const char *ms = getenv("CASE_WAIT_MS");

	return ms ? atoi(ms) : WAIT_MS;
}

int calls_wait(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return NEED(poll(&p, 1, wait_ms())) ? p.revents : 0;
}

int events_now(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	NEED(poll(&p, 1, 0));
	return p.revents;
}

void wait_bytes(int fd, int len)
{
	int count = 0;

	for (int64_t end = now_ms() + WAIT_MS; now_ms() < end; nap_ms(1)) {
		NEED(ioctl(fd, FIONREAD, &count));
		if (count >= len)
			return;
	}
	say("%d of %d bytes have not come", len - count, len);
}

void nap_ms(int ms)
{
	const struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* --- bytes ------------------------------------------------------------- */

void send_all(int fd, const void *data, size_t len)
{
	const char *from = data;

	while (len) {
		ssize_t sent = NEED(send(fd, from, len, MSG_NOSIGNAL));

		from += sent;
		len -= sent;
	}
}

void recv_all(int fd, void *data, size_t len)
{
	char *to = data;

	while (len) {
		ssize_t got = NEED(recv(fd, to, len, 0));

		if (!got) {
			say("end of file, %zu bytes missing", len);
			exit(1);
		}
		to += got;
		len -= got;
	}
}

void set_nonblock(int fd, bool on)
{
	int flags = NEED(fcntl(fd, F_GETFL));

	NEED(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

static uint8_t pattern_at(uint64_t at)
{
	return (uint8_t)(at * 131 + (at >> 8) * 7 + (at >> 16));
}

void pattern_fill(uint8_t *data, size_t len, uint64_t at)
{
	for (size_t i = 0; i < len; i++)
		data[i] = pattern_at(at + i);
}

bool pattern_fits(const uint8_t *data, size_t len, uint64_t at)
{
	for (size_t i = 0; i < len; i++)
		if (data[i] != pattern_at(at + i))
			return false;
	return true;
}

/* --- running ----------------------------------------------------------- */

static unsigned int case_seconds(void)
{
	const char *seconds = getenv("CASE_SECONDS");

	return seconds ? (unsigned int)atoi(seconds) : CASE_SECONDS;
}

static void run_apart(const struct call_case *c)
{
	pid_t pid;

	say("== %s", c->name);
	pid = fork();
	if (pid == 0) {
		alarm(case_seconds());
		if (case_begin)
			case_begin();
		c->run();
		exit(0);
	}
	say_child("ended", pid);
}

int main(int argc, char **argv)
{
	bool found = argc < 3;

	if (argc < 2 || (strcmp(argv[1], "4") && strcmp(argv[1], "6"))) {
		fprintf(stderr, "usage: %s 4|6 [CASE...]\n", argv[0]);
		return 2;
	}
	family = argv[1][0] == '6' ? AF_INET6 : AF_INET;
	for (size_t i = 0; i < case_count; i++) {
		if (argc < 3 && !cases[i].only_named)
			run_apart(&cases[i]);
		for (int j = 2; j < argc; j++) {
			if (strcmp(argv[j], cases[i].name))
				continue;
			if (case_begin)
				case_begin();
			cases[i].run();
			found = true;
		}
	}
	return found ? 0 : 2;
}
