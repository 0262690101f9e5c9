/* SPDX-License-Identifier: MIT */
/*
 * canald without a kernel: channels, a poller without a thread, and an input
 * that plays two guests and the network.
 *
 * The input is a list of commands: an INR, words written into the region, bytes
 * put into TX or taken from RX, descriptors that arrive, readiness, a process
 * that goes, a pass of the poller. What a system call on a socket returns is
 * taken from the input, too; the linker puts the wrappers below in its place
 * (--wrap), so that nothing leaves this process.
 *
 * With FUZZ_ADDRESSES the two guests have addresses of their own, and publish a
 * port for streams and one for datagrams each; without, they have the plain policy.
 *
 * Checked, besides what the sanitizers see: operations touch only the arenas of
 * their channel, an RX chunk has one owner, no list leads to what was freed, and
 * at the end everything was given back, descriptors and all.
 */
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "guest.h"
#include "portmap.h"
#include "publish.h"

#define GUESTS 2
#define PUBLISHED 200 /* and the next one for datagrams */
#define HANDLES 4096
#define OPS 256
#define GOES_WELL 0x6f
#define PORT_FIRST 10000
#define NUMBERS 128u /* of sockets that there are */
#define SOCKS 32     /* of sockets that the input names most */

struct engine {
	struct engine_handle *handles[HANDLES];
	uint32_t handle_count;
	struct engine_op *ops[OPS];
	bool op_sends[OPS];
	uint32_t op_count;
};

static struct fuzz_input input;
static struct poller poller;
static struct engine engine;
static uint64_t guest_id[GUESTS];
static struct guest *named[GUESTS]; /* NULL: the plain policy */
static int first_fd;
static bool quiet; /* system calls succeed, and take nothing from the input */

/*
 * What the kernel does comes from the end of the input, so that the commands
 * stay what they are, whatever is served in between. Past the end all goes well.
 */
static uint8_t choice(uint8_t limit)
{
	uint8_t byte = input.len ? input.data[--input.len] : GOES_WELL;

	return quiet ? 0 : byte % limit;
}

/* --- system calls ------------------------------------------------------ */

int __wrap_socket(int domain, int type, int protocol);
int __wrap_bind(int fd, const struct sockaddr *a, socklen_t len);
int __wrap_listen(int fd, int backlog);
int __wrap_connect(int fd, const struct sockaddr *a, socklen_t len);
int __wrap_accept4(int fd, struct sockaddr *a, socklen_t *len, int flags);
int __wrap_shutdown(int fd, int how);
int __wrap_setsockopt(int fd, int level, int name, const void *val, socklen_t len);
int __wrap_getsockopt(int fd, int level, int name, void *val, socklen_t *len);
int __wrap_getsockname(int fd, struct sockaddr *a, socklen_t *len);
int __wrap_getpeername(int fd, struct sockaddr *a, socklen_t *len);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);

/* Some descriptor. */
static int make_fd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	fuzz_check(fd >= 0);
	return fd;
}

static int name_of(int fd, struct sockaddr *a, socklen_t *len);

static int outcome(const int *errors, uint8_t count)
{
	uint8_t n = choice(4 * count);

	if (n >= count || !errors[n])
		return 0;
	errno = errors[n];
	return -1;
}

#define OUTCOME(...) \
	outcome((const int[]){ 0, __VA_ARGS__ }, sizeof((int[]){ 0, __VA_ARGS__ }) / sizeof(int))

int __wrap_socket(int domain, int type, int protocol)
{
	(void)domain, (void)type, (void)protocol;
	return OUTCOME(EMFILE) ? -1 : make_fd();
}

int __wrap_bind(int fd, const struct sockaddr *a, socklen_t len)
{
	(void)fd, (void)a, (void)len;
	return OUTCOME(EADDRINUSE, EINVAL);
}

int __wrap_listen(int fd, int backlog)
{
	(void)fd, (void)backlog;
	return OUTCOME(EADDRINUSE);
}

int __wrap_connect(int fd, const struct sockaddr *a, socklen_t len)
{
	(void)fd, (void)a, (void)len;
	return OUTCOME(EINPROGRESS, EINPROGRESS, ECONNREFUSED, EPROTO);
}

int __wrap_accept4(int fd, struct sockaddr *a, socklen_t *len, int flags)
{
	(void)flags;
	if (quiet || choice(3)) {
		errno = choice(8) ? EAGAIN : ECONNABORTED;
		return -1;
	}
	if (a)
		name_of(fd, a, len);
	return make_fd();
}

int __wrap_shutdown(int fd, int how)
{
	(void)fd, (void)how;
	return 0;
}

int __wrap_setsockopt(int fd, int level, int name, const void *val, socklen_t len)
{
	(void)fd, (void)level, (void)name;
	for (socklen_t i = 0; i < len; i++)
		(void)*((const volatile uint8_t *)val + i);
	return OUTCOME(EINVAL, EPROTO);
}

int __wrap_getsockopt(int fd, int level, int name, void *val, socklen_t *len)
{
	(void)fd, (void)level, (void)name;
	if (OUTCOME(EINVAL))
		return -1;
	memset(val, 0, *len);
	if (*len >= sizeof(int)) {
		int value = choice(8) ? 0 : choice(255);

		memcpy(val, &value, sizeof(value));
	}
	return 0;
}

/* Each descriptor has a port of its own, the same in each run of an input. */
static int name_of(int fd, struct sockaddr *a, socklen_t *len)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)(PORT_FIRST + fd - first_fd)),
				  .sin_addr.s_addr =
					  htonl(choice(4) ? INADDR_LOOPBACK : INADDR_ANY) };

	memset(a, 0, *len);
	memcpy(a, &in, *len < sizeof(in) ? *len : sizeof(in));
	*len = sizeof(in);
	return 0;
}

int __wrap_getsockname(int fd, struct sockaddr *a, socklen_t *len)
{
	return name_of(fd, a, len);
}

int __wrap_getpeername(int fd, struct sockaddr *a, socklen_t *len)
{
	if (choice(2)) {
		errno = ENOTCONN;
		return -1;
	}
	return name_of(fd, a, len);
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	(void)count, (void)timeout;
	fds->revents = choice(2) ? POLLHUP : 0;
	return !!fds->revents;
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
	(void)fd, (void)flags;
	msg->msg_controllen = 0;
	errno = EAGAIN;
	return quiet || !choice(16) ? 0 : -1;
}

/* --- an engine --------------------------------------------------------- */

static int fake_watch(struct engine *e, struct engine_handle *h, int fd, uint32_t events)
{
	if (e->handle_count == HANDLES || (!choice(32) && !quiet && choice(2)))
		return -ENOMEM;
	h->fd = fd;
	h->events = events;
	h->id = e->handle_count;
	e->handles[e->handle_count++] = h;
	return 0;
}

static void fake_unwatch(struct engine *e, struct engine_handle *h)
{
	if (h->fd < 0)
		return;
	fuzz_check(h->id < e->handle_count && e->handles[h->id] == h);
	e->handles[h->id] = e->handles[--e->handle_count];
	e->handles[h->id]->id = h->id;
	h->fd = -1;
}

static bool inside(const struct canal_arena *a, const struct iovec *piece)
{
	const uint8_t *from = piece->iov_base;
	uint64_t len = (uint64_t)a->count << CANAL_CHUNK_SHIFT;

	return from >= a->base && from <= a->base + len && piece->iov_len <= len &&
	       (uint64_t)(from - a->base) <= len - piece->iov_len;
}

static void check_op(const struct engine_op *op, bool sends)
{
	const struct sock *s = sends ? caa_container_of(op, struct sock, tx_op)
				     : caa_container_of(op, struct sock, rx_op);

	fuzz_check(op->msg.msg_iovlen <= ENGINE_IOV);
	for (size_t i = 0; i < op->msg.msg_iovlen; i++)
		fuzz_check(inside(sends ? &s->channel->tx : &s->channel->rx, &op->msg.msg_iov[i]));
}

static uint64_t op_len(const struct engine_op *op)
{
	uint64_t len = 0;

	for (size_t i = 0; i < op->msg.msg_iovlen; i++)
		len += op->msg.msg_iov[i].iov_len;
	return len;
}

/* What the kernel says to it. */
static int op_result(const struct engine_op *op)
{
	static const int errors[] = { EAGAIN, EAGAIN, EINTR, ENOBUFS, ECONNRESET, EPIPE, EPROTO };
	uint64_t len = op_len(op);
	uint8_t n = choice(24);

	if (quiet)
		return -EPIPE;
	if (n < sizeof(errors) / sizeof(errors[0]))
		return -errors[n];
	if (n == 8)
		return 0;
	return n < 12 && len ? (int)(fuzz_number(&input) % len) : (int)len;
}

static void op_finish(struct engine_op *op, bool sends)
{
	int res = op_result(op);

	check_op(op, sends);
	op->under_way = false;
	op->msg.msg_flags = res >= 0 && choice(16) == 1 ? MSG_TRUNC : 0;
	if (!sends && res > 0) {
		if (op->msg.msg_name)
			name_of(op->fd, op->msg.msg_name, &op->msg.msg_namelen);
		memset(op->msg.msg_iov[0].iov_base, 0x5a, 1);
	}
	op->done(op, res);
}

static void op_start(struct engine *e, struct engine_op *op, bool sends)
{
	check_op(op, sends);
	if (e->op_count == OPS || choice(2)) {
		op_finish(op, sends);
		return;
	}
	op->under_way = true;
	e->op_sends[e->op_count] = sends;
	e->ops[e->op_count++] = op;
}

static void fake_recv(struct engine *e, struct engine_op *op)
{
	op_start(e, op, false);
}

static void fake_send(struct engine *e, struct engine_op *op)
{
	op_start(e, op, true);
}

static void fake_flush(struct engine *e)
{
	while (e->op_count) {
		struct engine_op *op = e->ops[--e->op_count];

		op_finish(op, e->op_sends[e->op_count]);
	}
}

static void ready(struct engine *e)
{
	struct engine_handle *h;
	uint8_t bits = fuzz_byte(&input);
	uint32_t events = 0;

	if (!e->handle_count)
		return;
	h = e->handles[fuzz_byte(&input) % e->handle_count];
	events |= bits & 1 ? EPOLLIN : 0;
	events |= bits & 2 ? EPOLLOUT : 0;
	events |= bits & 4 ? EPOLLRDHUP : 0;
	events |= (bits & 0x18) == 0x18 ? EPOLLHUP : 0;
	events |= (bits & 0x60) == 0x60 ? EPOLLERR : 0;
	events &= h->events | EPOLLHUP | EPOLLERR;
	if (events)
		h->event(h, events);
}

/* Also from within an event. */
static int fake_wait(struct engine *e, int64_t timeout_ns)
{
	uint8_t count = choice(4);

	fuzz_check(!timeout_ns);
	fake_flush(e);
	for (uint8_t i = 0; i < count; i++)
		ready(e);
	return count;
}

static const struct engine_ops fake_ops = {
	.name = "fake",
	.watch = fake_watch,
	.unwatch = fake_unwatch,
	.recv = fake_recv,
	.send = fake_send,
	.flush = fake_flush,
	.wait = fake_wait,
};

/* --- a guest ----------------------------------------------------------- */

static void open_guest(int i)
{
	const struct channel_origin origin = {
		.transport = &transport_local,
		.guest = named[i],
		.shape = &shape_local,
		.pid = 1,
		.name = "fuzz",
	};
	struct channel *ch;
	struct client *c;

	fuzz_check(!channel_create(&ch, &origin));
	guest_id[i] = ch->id;
	fuzz_check(!channel_attach(ch, &poller));
	fuzz_check(!channel_add_client(ch, make_fd(), 1, 0, &c));
}

/* The first is there from the start, the other from when it is named. */
static struct channel *guest(void)
{
	int i = fuzz_byte(&input) % 4 == 1;

	if (!guest_id[i]) {
		quiet = true;
		open_guest(i);
		quiet = false;
	}
	return poller_find_channel(&poller, guest_id[i]);
}

/* The numbers that lie ready at the start, and those that accepted sockets get. */
static uint32_t sock_name(uint8_t n)
{
	n %= SOCKS;
	return n < SOCKS / 2 ? n : CHANNEL_GRANTS + n - SOCKS / 2;
}

static uint32_t take_number(uint32_t limit)
{
	uint8_t how = fuzz_byte(&input);
	uint32_t raw;

	if (how < 0xfc)
		return how % (limit < SOCKS ? limit : SOCKS);
	fuzz_take(&input, &raw, sizeof(raw));
	return raw;
}

/* The name of a socket of one of the guests, as another guest could know it, or
 * of a port where none is. */
static void take_addr(struct canal_addr *a)
{
	uint8_t how = fuzz_byte(&input), n = fuzz_byte(&input);
	uint64_t id = guest_id[n / SOCKS % GUESTS];
	struct channel *ch = id ? poller_find_channel(&poller, id) : NULL;

	memset(a, 0, sizeof(*a));
	a->port = ch && n < 0xc0 ? channel_shared(ch, sock_name(n))->local.port : htons(n);
	a->family = how % 16 == 0 ? 0 : how % 16 == 1 ? AF_INET6 : how % 16 == 2 ? how : AF_INET;
	if (a->family == AF_INET6)
		a->ip[15] = 1;
	else
		memcpy(a->ip, "\177\0\0\1", 4);
	if (how >= 0xf0)
		memset(a->ip, how & 1 ? 0xff : 0, sizeof(a->ip));
	else if (named[0] && a->family == AF_INET && how >= 0x80) /* the alias, or a guest's */
		memcpy(a->ip, (const uint8_t[]){ 10, 77, 0, 1 + how / 16 % 4 }, 4);
}

static void take_args(struct canal_inr *inr)
{
	if (inr->op == CANAL_INR_BIND || inr->op == CANAL_INR_CONNECT) {
		take_addr(&inr->u.addr);
		return;
	}
	for (int i = 0; i < 3; i++)
		inr->u.arg[i] = take_number(8);
	if (inr->op == CANAL_INR_SOCKET && inr->u.arg[0] < 8) {
		inr->u.arg[1] = inr->u.arg[0] & 1 ? SOCK_DGRAM : SOCK_STREAM;
		inr->u.arg[0] = inr->u.arg[0] & 2 ? AF_INET6 : AF_INET;
		inr->u.arg[2] = 0;
	}
}

static void post(struct channel *ch)
{
	uint64_t pos = ch->inr_pos;
	struct canal_inr *slot, inr = { .op = fuzz_byte(&input) % (CANAL_INR_OPS + 1) };

	inr.sock = take_number(shape_local.socks);
	if (inr.sock < SOCKS)
		inr.sock = sock_name((uint8_t)inr.sock);
	inr.slot = fuzz_byte(&input);
	if (inr.sock < shape_local.socks) /* some are late */
		inr.generation = ch->generation[inr.sock] - (inr.slot >= 240);
	inr.slot = inr.slot < 64 ? inr.slot : CANAL_NONE;
	inr.client = 1;
	take_args(&inr);
	/* behind those that were not served yet */
	for (int i = 0; i < 64; i++, pos++) {
		slot = &ch->inr[pos % CHANNEL_INRS];
		if (slot->state == canal_inr_state(pos, 0, CANAL_INR_FREE))
			break;
	}
	inr.state = canal_inr_state(pos, 1, CANAL_INR_READY);
	*slot = inr;
}

static uint64_t take_word(void)
{
	const uint64_t values[] = { 0,
				    1,
				    CANAL_NONE,
				    CANAL_FIFO_MAX,
				    CANAL_FIFO_MAX + 1,
				    CANAL_CHUNK,
				    shape_local.chunks,
				    ~0ull,
				    ~0ull - 64,
				    32,
				    40 };
	uint8_t how = fuzz_byte(&input);

	return how < 0x80 ? values[how % (sizeof(values) / sizeof(values[0]))]
			  : fuzz_number(&input);
}

static void scribble(struct channel *ch)
{
	uint8_t where = fuzz_byte(&input);
	uint32_t at = fuzz_byte(&input) * 4u;
	uint8_t *base;
	uint64_t word = take_word();
	uint32_t n = fuzz_byte(&input) % SOCKS;

	switch (where % 8) {
	case 0:
		base = (uint8_t *)ch->region + 192 + at % 440;
		break;
	case 1:
		base = (uint8_t *)&ch->inr[(ch->inr_pos + n) % CHANNEL_INRS] + at % 56;
		break;
	case 2:
		base = (uint8_t *)&ch->call[n] + at % 1024;
		break;
	case 3:
		base = (uint8_t *)&ch->wait[n] + at % 16;
		break;
	case 4:
		base = (uint8_t *)&ch->set[n % 8] + at % 120;
		break;
	case 5:
		base = (uint8_t *)&ch->sub[n % 8] + at % 56;
		break;
	case 6: /* a record */
		base = ch->tx.base + n * CANAL_CHUNK + at;
		break;
	default:
		base = (uint8_t *)channel_shared(ch, sock_name((uint8_t)n)) +
		       at % (sizeof(struct canal_sock) - 8);
		break;
	}
	memcpy(base, &word, where & 0x80 ? 4 : 8);
}

/* Bytes, or a record, as the rules want them. */
static void put(struct channel *ch)
{
	struct canal_sock *s = channel_shared(ch, sock_name(fuzz_byte(&input)));
	uint64_t tail = s->tx.tail;
	uint32_t len = fuzz_byte(&input) * 256u + fuzz_byte(&input);
	struct canal_dgram rec = { .len = len };

	for (uint32_t i = 0; i < 6; i++)
		s->tx.chunk[(tail / CANAL_CHUNK + i) % CANAL_FIFO_CHUNKS] = i;
	if (fuzz_byte(&input) & 1) {
		struct canal_arena tx = ch->tx;

		take_addr(&rec.addr);
		canal_fifo_poke(s->tx.chunk, &tx, tail, &rec, sizeof(rec));
		len = (uint32_t)canal_dgram_span(len);
	}
	if (len & 1)
		s->tx.mark = tail + fuzz_byte(&input) % (len + 1);
	s->tx.tail = tail + len;
}

static void take(struct channel *ch)
{
	struct canal_sock *s = channel_shared(ch, sock_name(fuzz_byte(&input)));
	uint64_t held = s->rx.tail - s->rx.head;
	uint8_t part = fuzz_byte(&input);

	s->rx.head += part < 0x80 || !held ? held : fuzz_number(&input) % held;
}

static void arrive(struct channel *ch)
{
	uint8_t how = fuzz_byte(&input);
	uint32_t n = fuzz_byte(&input) % SOCKS;
	struct client *c;

	if (how & 1) {
		n = sock_name((uint8_t)n);
		channel_add_dummy(ch, n, how & 0x40 ? how : ch->generation[n], make_fd());
		return;
	}
	if (cds_list_empty(&ch->clients))
		return;
	c = cds_list_first_entry(&ch->clients, struct client, link);
	channel_add_waiter(c, how & 0x40 ? n + shape_local.waits - 4 : n,
			   canal_read_once(&ch->wait[n].serial), make_fd());
}

static void processes(struct channel *ch)
{
	struct client *c;
	uint8_t how = fuzz_byte(&input);
	int fd;

	if (how % 4) {
		if (ch->broken)
			return;
		fd = make_fd();
		if (channel_add_client(ch, fd, 1, 0, &c))
			close(fd);
	} else if (!cds_list_empty(&ch->clients)) {
		c = cds_list_first_entry(&ch->clients, struct client, link);
		channel_drop_client(c);
	}
}

/* --- what must hold ---------------------------------------------------- */

static void check_sock(const struct sock *s, uint32_t *chunks)
{
	for (uint32_t i = 0; i < CANAL_FIFO_CHUNKS; i++) {
		if (s->rx_chunk[i] == CANAL_NONE)
			continue;
		fuzz_check(s->rx_chunk[i] < shape_local.chunks);
		++*chunks;
	}
	fuzz_check(!s->dead);
	fuzz_check(s->rx_reclaim <= s->rx_tail && s->rx_tail - s->rx_reclaim <= CANAL_FIFO_MAX);
	fuzz_check(s->rx_tail <= s->rx_backed || s->rx_tail - s->rx_backed < CANAL_CHUNK);
	fuzz_check(!s->joined || s->joined->joined == s);
	fuzz_check(!s->listener || s->listener->state == CANAL_SOCK_LISTENING);
	fuzz_check(!s->pending_at || (s->pending_at->state == CANAL_SOCK_LISTENING &&
				      s->state == CANAL_SOCK_CONNECTING));
}

static void check_channel(const struct channel *ch)
{
	uint32_t chunks = 0, socks = 0;

	for (uint32_t i = 0; i < NUMBERS; i++) {
		if (!ch->socks[i])
			continue;
		fuzz_check(ch->socks[i]->number == i && ch->socks[i]->channel == ch);
		check_sock(ch->socks[i], &chunks);
		socks++;
	}
	fuzz_check(socks == ch->sock_used);
	fuzz_check(chunks == ch->rx_in_use);
}

static void pass(void)
{
	struct channel *ch;

	poller.now_ns += 2000;
	if (choice(16) == 1)
		poller.now_ns += 100000000;
	poller_pass(&poller);
	poller_trim(&poller);
	fuzz_check(!engine.op_count);
	cds_list_for_each_entry(ch, &poller.channels, link) check_channel(ch);
}

/* --- the whole --------------------------------------------------------- */

static void command(void)
{
	uint8_t what = fuzz_byte(&input);
	struct channel *ch = what % 16 < 6 ? NULL : guest();

	if (what % 16 < 4)
		pass();
	else if (what % 16 < 6)
		fake_wait(&engine, 0);
	else if (!ch || ch->broken)
		return;
	else if (what % 16 < 11)
		post(ch);
	else if (what % 16 == 11)
		scribble(ch);
	else if (what % 16 == 12)
		put(ch);
	else if (what % 16 == 13)
		take(ch);
	else if (what % 16 == 14)
		arrive(ch);
	else if (what & 0x80)
		processes(ch);
}

static void publish_add(struct guest *g, int type, uint16_t port)
{
	struct publish_rule *rule = calloc(1, sizeof(*rule));

	fuzz_check(rule);
	rule->guest = g;
	rule->type = type;
	rule->host_port = rule->guest_port = htons(port);
	cds_list_add_tail(&rule->link, &g->publish);
}

#ifdef FUZZ_ADDRESSES
static void name_guests(void)
{
	static bool started;

	if (!started)
		fuzz_check(!portmap_start());
	started = true;
	for (uint8_t i = 0; i < GUESTS; i++) {
		struct guest *g = named[i] = guest_new(i ? "two" : "one");

		fuzz_check(g);
		g->number = i + 1;
		g->poller = &poller;
		g->address = (struct canal_addr){ .family = AF_INET, .ip = { 10, 77, 0, 2 + i } };
		g->alias = (struct canal_addr){ .family = AF_INET, .ip = { 10, 77, 0, 1 } };
		cds_list_add_tail(&g->link, &guests);
		publish_add(g, SOCK_STREAM, PUBLISHED);
		publish_add(g, SOCK_DGRAM, PUBLISHED + 1);
		fuzz_check(!publish_open(g));
	}
}

static bool nobody(const struct port *p, void *arg)
{
	(void)p, (void)arg;
	fuzz_check(false);
	return false;
}

/* No port is anybody's any more. */
static void forget_guests(void)
{
	portmap_read_lock();
	portmap_each(nobody, NULL);
	portmap_read_unlock();
	for (int i = 0; i < GUESTS; i++)
		publish_close(named[i]);
	guests_free(&guests);
}
#else
static void name_guests(void)
{
	(void)publish_add;
}

static void forget_guests(void)
{
}
#endif

static void start(void)
{
	memset(&poller, 0, sizeof(poller));
	memset(&engine, 0, sizeof(engine));
	settings.log_level = -1;
	settings.join = true;
	settings.max_sockets = NUMBERS;
	poller_init(&poller);
	poller.ops = &fake_ops;
	poller.engine = &engine;
	poller.kick.fd = -1;
	poller.now_ns = 1000000000;
	fuzz_check(!resolve_start(0));
	memset(guest_id, 0, sizeof(guest_id));
	quiet = true;
	name_guests();
	open_guest(0);
	quiet = false;
}

static void end(void)
{
	quiet = true;
	for (int i = 0; i < GUESTS; i++) {
		struct channel *ch = guest_id[i] ? poller_find_channel(&poller, guest_id[i]) : NULL;

		if (!ch)
			continue;
		channel_end(ch);
		poller_pass(&poller); /* buries, and frees the channel */
		fuzz_check(!poller_find_channel(&poller, guest_id[i]));
	}
	poller.now_ns += 10000000000;
	portpool_trim(&poller);
	fuzz_check(!poller.ports_held && !engine.handle_count);
	fuzz_check(cds_list_empty(&poller.tx_busy) && cds_list_empty(&poller.rx_ready));
	fuzz_check(cds_list_empty(&poller.trim) && cds_list_empty(&poller.dead));
	forget_guests();
	resolve_stop();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	int after;

	first_fd = make_fd();
	close(first_fd);
	input = (struct fuzz_input){ data, len };
	start();
	while (input.len)
		command();
	end();
	after = make_fd();
	close(after);
	fuzz_check(after == first_fd); /* none was left open */
	return 0;
}
