/* SPDX-License-Identifier: MIT */
/*
 * canald without a kernel: channels, a poller without a thread, and an input
 * that plays two guests and the network.
 *
 * The input is a list of commands: an INR, words written into the region, bytes
 * put into TX or taken from RX, descriptors that arrive, readiness, a process
 * that goes, a pass of the poller. What a system call on a socket returns is
 * taken from the input, too (inr_kernel.c), so that nothing leaves this process.
 *
 * With FUZZ_ADDRESSES the two guests have addresses of their own, and publish a
 * port for streams and one for datagrams each; without, they have the plain policy.
 *
 * Checked, besides what the sanitizers see: operations touch only the arenas of
 * their channel, an RX chunk has one owner, no list leads to what was freed, and
 * at the end everything was given back, descriptors and all.
 */
#include <netinet/in.h>
#include <unistd.h>

#include "fuzz.h"
#include "guest.h"
#include "inr.h"
#include "portmap.h"
#include "publish.h"

#define GUESTS 2
#define PUBLISHED 200 /* and the next one for datagrams */
#define NUMBERS 128u  /* of sockets that there are */
#define SOCKS 32      /* of sockets that the input names most */

struct fuzz_input input;
struct engine engine;
int first_fd;
bool quiet;
static struct poller poller;
static uint64_t guest_id[GUESTS];
static struct guest *named[GUESTS]; /* NULL: the plain policy */

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
	uint64_t pos = ch->reader.pos;
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
		base = (uint8_t *)&ch->inr[(ch->reader.pos + n) % CHANNEL_INRS] + at % 56;
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
		fake_ops.wait(&engine, 0);
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
