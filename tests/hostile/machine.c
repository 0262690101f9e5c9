/* SPDX-License-Identifier: MIT */
/* QEMU's end of the ivshmem server, the mailbox, and channels in RAM: see machine.h. */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "machine.h"

#define ANSWER_MS LONGEST_MS
#define LISTS_EACH 32u
#define COOKIE 0x5ca1ab1e0ddba11ull

struct machine *the_machine;

/* --- QEMU -------------------------------------------------------------- */

void machine_ram(struct machine *m, const char *path, uint64_t len)
{
	struct stat st;
	bool others = !lstat(path, &st) && S_ISLNK(st.st_mode);

	m->ram_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0660);
	if (m->ram_fd < 0)
		fail("%s: %s", path, strerror(errno));
	if (!others && (ftruncate(m->ram_fd, 0) || ftruncate(m->ram_fd, (off_t)len)))
		fail("ftruncate: %s", strerror(errno));
	m->ram_len = len;
	m->low = len < 3 * GIB ? len : 2 * GIB;
	m->ram = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, m->ram_fd, 0);
	if (m->ram == MAP_FAILED)
		fail("mmap of RAM: %s", strerror(errno));
	m->conn = -1;
}

int machine_dial(void)
{
	return conn_dial(SOCK_STREAM);
}

int machine_hear(int conn, int64_t *ret_number, int *ret_fd)
{
	int fds[CANAL_LOCAL_FDS];
	unsigned int count;
	ssize_t len = conn_receive(conn, ret_number, sizeof(*ret_number), fds, &count);

	*ret_fd = count ? fds[0] : -1;
	return len == sizeof(*ret_number) ? 0 : -ECONNRESET;
}

/* False: another one is there, for as long as canald has not noticed its end. */
static bool greeted(struct machine *m)
{
	static const int64_t wanted[] = { 0, CANAL_PEER_GUEST, -1, CANAL_PEER_HOST,
					  CANAL_PEER_GUEST };
	int *const fds[] = { NULL, NULL, &m->mail_fd, &m->bell, &m->irq };

	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		int64_t number;
		int fd;

		if (machine_hear(m->conn, &number, &fd))
			return false;
		if (number != wanted[i] || (fd >= 0) != !!fds[i])
			fail("message %zu of the server is %lld", i, (long long)number);
		if (fds[i])
			*fds[i] = fd;
	}
	return true;
}

void machine_connect(struct machine *m)
{
	uint64_t until = now_ms() + ANSWER_MS;

	m->conn = machine_dial();
	while (!greeted(m)) {
		close(m->conn);
		if (now_ms() > until)
			fail("canald takes no QEMU any more");
		nap_us(1000);
		m->conn = machine_dial();
	}
	m->mail = mmap(NULL, CANAL_MAIL_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, m->mail_fd, 0);
	if (m->mail == MAP_FAILED)
		fail("mmap of BAR2: %s", strerror(errno));
	if (m->mail->magic != CANAL_MAIL_MAGIC || !m->mail->epoch)
		fail("no mailbox in BAR2");
	m->region_len = m->mail->region_len;
	m->tail = m->mail->tail;
}

void machine_vanish(struct machine *m)
{
	munmap(m->mail, CANAL_MAIL_LEN);
	close(m->mail_fd);
	close(m->bell);
	close(m->irq);
	close(m->conn);
	m->conn = -1;
}

/* --- the mailbox ------------------------------------------------------- */

void machine_ring(const struct machine *m)
{
	const uint64_t one = 1;

	(void)!write(m->bell, &one, sizeof(one));
}

bool machine_thrown(const struct machine *m)
{
	return canal_load_acquire(&m->mail->epoch) != m->epoch;
}

uint64_t machine_post(struct machine *m, const struct canal_mail *mail)
{
	uint64_t pos = m->tail, until = now_ms() + ANSWER_MS;
	struct canal_mail *slot = &m->mail->mail[pos % CANAL_MAIL_SLOTS];

	while (pos - canal_load_acquire(&m->mail->head) >= CANAL_MAIL_SLOTS) {
		if (now_ms() > until)
			fail("the mailbox stays full");
		machine_ring(m);
		nap_us(50);
	}
	memcpy(slot, mail, offsetof(struct canal_mail, result));
	canal_write_once(&slot->done, 0u);
	m->tail++;
	/* M1 release: the request before tail */
	canal_store_fence(&m->mail->tail, m->tail);
	if (canal_take(&m->mail->host_asleep))
		machine_ring(m);
	return pos;
}

int machine_wait(struct machine *m, uint64_t pos)
{
	struct canal_mail *slot = &m->mail->mail[pos % CANAL_MAIL_SLOTS];
	uint64_t until = now_ms() + ANSWER_MS;

	for (unsigned int looks = 0;; looks++) {
		/* M2 acquire: done before the result */
		if (canal_load_acquire(&slot->done) == pos + 1)
			return slot->result;
		if (looks % 16)
			continue;
		if (m->epoch && machine_thrown(m))
			return INT32_MIN;
		if (now_ms() > until)
			fail("request %u is not answered", slot->op);
		machine_ring(m);
		nap_us(50);
	}
}

int machine_ask(struct machine *m, const struct canal_mail *mail)
{
	return machine_wait(m, machine_post(m, mail));
}

int machine_try_reset(struct machine *m, uint64_t offset, uint64_t cookie)
{
	const struct canal_mail reset = { .op = CANAL_MAIL_RESET,
					  .address = machine_address(m, offset),
					  .arg64 = cookie };

	if (machine_thrown(m)) /* what was asked before is nobody's */
		m->tail = canal_load_acquire(&m->mail->head);
	m->epoch = canal_load_acquire(&m->mail->epoch);
	return machine_ask(m, &reset);
}

void machine_reset(struct machine *m)
{
	uint64_t offset = m->low < m->ram_len ? m->low + RAM_COOKIE : RAM_COOKIE;
	int r;

	*(uint64_t *)(void *)(m->ram + offset) = COOKIE;
	do
		r = machine_try_reset(m, offset, COOKIE);
	while (r == INT32_MIN); /* thrown out for what was before */
	if (r)
		fail("RESET: %s", strerror(-r));
}

/* --- channels ---------------------------------------------------------- */

uint64_t machine_address(const struct machine *m, uint64_t offset)
{
	return offset < m->low ? offset : ABOVE + (offset - m->low);
}

uint64_t machine_list(struct machine *m, uint32_t number, const struct canal_extent *extents,
		      uint32_t count)
{
	uint64_t at = RAM_LISTS + (uint64_t)number * LISTS_EACH * PAGE;
	struct canal_extent *page = (void *)(m->ram + at);

	for (uint32_t i = 0; i < count; i++) {
		uint32_t in = i % CANAL_EXTENTS_PAGE;

		if (i && !in) {
			page[CANAL_EXTENTS_PAGE].address =
				machine_address(m, (uint64_t)((uint8_t *)(page + 256) - m->ram));
			page += 256;
		}
		page[in] = extents[i];
	}
	return machine_address(m, at);
}

struct canal_mail machine_open_mail(uint32_t number, uint64_t list, uint32_t count)
{
	return (struct canal_mail){ .op = CANAL_MAIL_OPEN,
				    .channel = number,
				    .client = 1,
				    .arg = count,
				    .address = list,
				    .name = "hostile" };
}

/* From the end on, with a page between two of them; every second one above the hole. */
uint32_t machine_extents(const struct machine *m, uint32_t number, uint32_t pieces,
			 struct canal_extent *extents)
{
	uint64_t room = m->region_len + (pieces + 1) * PAGE, done = 0;
	uint64_t base = RAM_CHANNELS + number * room;

	for (uint32_t i = 0; i < pieces; i++) {
		uint64_t len = i + 1 < pieces ? m->region_len / pieces & ~(PAGE - 1)
					      : m->region_len - done;
		uint64_t at = base + room - done - len - i * PAGE;

		if (i % 2 && m->low < m->ram_len)
			at += m->low;
		extents[i] = (struct canal_extent){ machine_address(m, at), len };
		done += len;
	}
	return pieces;
}

static uint64_t offset_of(const struct machine *m, uint64_t address)
{
	return address < ABOVE ? address : address - ABOVE + m->low;
}

static void view_map(struct machine *m, struct guest *g, const struct canal_extent *extents,
		     uint32_t count)
{
	uint64_t done = 0;

	g->len = m->region_len;
	g->base = mmap(NULL, g->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (uint32_t i = 0; i < count; done += extents[i++].len)
		if (mmap(g->base + done, extents[i].len, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, m->ram_fd,
			 (off_t)offset_of(m, extents[i].address)) == MAP_FAILED)
			fail("mmap of a channel: %s", strerror(errno));
}

void machine_guest_open(struct machine *m, struct guest *g, uint32_t number, uint32_t pieces)
{
	struct canal_extent extents[CANAL_MAIL_EXTENTS];
	struct canal_mail mail;
	int r;

	memset(g, 0, sizeof(*g));
	machine_extents(m, number, pieces, extents);
	view_map(m, g, extents, pieces);
	for (uint64_t i = 0; i < m->region_len; i += PAGE) /* as the driver gives pages */
		if (*(uint64_t *)(void *)(g->base + i))
			memset(g->base + i, 0, PAGE);
	mail = machine_open_mail(number, machine_list(m, number, extents, pieces), pieces);
	r = machine_ask(m, &mail);
	if (r)
		fail("OPEN of channel %u: %s", number, strerror(-r));
	g->machine = m;
	g->number = number;
	g->client = 1;
	g->conn = g->region_fd = -1;
	g->kick = m->bell;
	guest_place(g);
}

void machine_guest_close(struct guest *g)
{
	const struct canal_mail mail = { .op = CANAL_MAIL_CLOSE, .channel = g->number };
	struct machine *m = g->machine;

	if (machine_thrown(m) || machine_ask(m, &mail) == INT32_MIN)
		machine_reset(m);
}

bool machine_guest_closed(const struct guest *g)
{
	return machine_thrown(g->machine) || canal_read_once(&g->region->broken);
}

void machine_dummy(struct guest *g, uint32_t op, uint32_t sock, uint32_t generation)
{
	const struct canal_mail mail = { .op = op,
					 .channel = g->number,
					 .client = g->client,
					 .sock = sock,
					 .generation = generation };

	if (!machine_thrown(g->machine))
		machine_post(g->machine, &mail);
}

void machine_waiter(struct guest *g, uint32_t slot, uint32_t serial)
{
	machine_dummy(g, CANAL_MAIL_WAITER, slot, serial);
}

/* --- by reference ------------------------------------------------------ */

#define TABLE(level) (RAM_TABLES + (3 - (uint64_t)(level)) * PAGE)

static uint64_t *entry_at(const struct machine *m, uint64_t table, uint64_t address, int level)
{
	return (uint64_t *)(void *)(m->ram + table) + (address >> (12 + 9 * level) & 511);
}

uint64_t *machine_entry(const struct machine *m, uint32_t page)
{
	return entry_at(m, TABLE(0), VA + page * PAGE, 0);
}

uint8_t *machine_byte(const struct machine *m, uint64_t address)
{
	uint64_t page = (address - VA) / PAGE;

	return m->ram + RAM_BUFFERS + page * 7 % VA_PAGES * PAGE + address % PAGE;
}

void machine_translate(struct guest *g)
{
	struct machine *m = g->machine;
	struct canal_mail mail = { .op = CANAL_MAIL_HYBRID,
				   .channel = g->number,
				   .client = g->client,
				   .address = machine_address(m, TABLE(3)) };

	for (int level = 3; level > 0; level--)
		*entry_at(m, TABLE(level), VA, level) = machine_address(m, TABLE(level - 1)) |
							CANAL_HYBRID_VALID;
	for (uint32_t i = 0; i < VA_PAGES; i++)
		*machine_entry(m, i) = machine_address(m, RAM_BUFFERS + i * 7 % VA_PAGES * PAGE) |
				       CANAL_HYBRID_VALID | CANAL_HYBRID_WRITE;
	machine_post(m, &mail);
	mail.op = CANAL_MAIL_JOIN; /* is answered, so the other is served */
	if (machine_ask(m, &mail) < 0)
		fail("JOIN");
}

void machine_ref_post(struct guest *g, uint8_t op, uint32_t sock, uint32_t slot, uint64_t address,
		      uint64_t len, uint32_t flags)
{
	struct canal_ref *ref = (void *)g->call[slot].data;

	ref->count = 1;
	ref->flags = flags;
	ref->piece[0].address = address;
	ref->piece[0].len = len;
	canal_store_release(&g->call[slot].state, CANAL_INR_REQUESTED);
	guest_post(g, op, sock, slot, "", 1);
}

int32_t machine_ref_wait(struct guest *g, uint32_t slot)
{
	uint64_t until = now_ms() + ANSWER_MS;

	while (canal_load_acquire(&g->call[slot].state) != CANAL_INR_COMPLETED) {
		if (guest_closed(g))
			return INT32_MIN;
		if (now_ms() > until)
			fail("a transfer by reference is not answered");
		guest_kick(g);
		nap_us(50);
	}
	return g->call[slot].result;
}

void machine_expect(const char *what, int got, int wanted)
{
	if (got != wanted)
		fail("%s: %d, expected %d", what, got, wanted);
}

int machine_ask_op(struct machine *m, uint32_t op, uint32_t channel, uint32_t client)
{
	const struct canal_mail mail = { .op = op, .channel = channel, .client = client };

	return machine_ask(m, &mail);
}

void machine_still_works(struct machine *m)
{
	struct guest g;
	uint32_t l, a, b;

	machine_reset(m);
	machine_guest_open(m, &g, 1, 4);
	l = guest_listener(&g, 4);
	guest_pair(&g, l, &a, &b);
	guest_close(&g);
}
