/* SPDX-License-Identifier: MIT */
/*
 * Broken rules of the ring, of who asks, and of numbers; and the run of all cases: what
 * it prints, name and reason, is held against what canald has counted.
 */
#include "cases.h"

/* --- the ring ---------------------------------------------------------- */

static void op_unknown(struct guest *g)
{
	post(g, CANAL_INR_OPS, 0, 0);
}

static void op_high(struct guest *g)
{
	post(g, 255, CANAL_NONE, 0);
}

static void set_state(struct guest *g, uint64_t state)
{
	uint64_t pos = g->region->inr_tail;
	struct canal_inr *inr = &g->inr[pos % g->shape.inr.count];

	memset((uint8_t *)inr + sizeof(inr->state), 0, sizeof(*inr) - sizeof(inr->state));
	inr->slot = CANAL_NONE;
	inr->client = (uint16_t)g->client;
	canal_store_fence(&inr->state, state);
	guest_kick(g);
}

static void phase_unknown(struct guest *g)
{
	set_state(g, canal_inr_state(g->region->inr_tail, g->client, 3));
}

static void position_next(struct guest *g)
{
	set_state(g, canal_inr_state(g->region->inr_tail + 1, g->client, CANAL_INR_READY));
}

static void position_back(struct guest *g)
{
	guest_sync(g);
	set_state(g, canal_inr_state(g->region->inr_tail - 1, g->client, CANAL_INR_READY));
}

static void late_ends(struct guest *g)
{
	uint64_t pos = 0;
	struct canal_inr *slot =
		canal_ring_claim(g->inr, g->shape.inr.count, &g->region->inr_tail, g->client, &pos);

	guest_sync(g); /* it is gone past */
	canal_write_once(&slot->state,
			 canal_inr_state(pos + g->shape.inr.count, 0, CANAL_INR_FREE));
	guest_kick(g);
}

static void state_ones(struct guest *g)
{
	set_state(g, ~0ull);
}

static void grant_ahead(struct guest *g)
{
	g->region->grant_head = g->region->grant_tail + 1;
	guest_kick(g);
}

static void grant_back(struct guest *g)
{
	g->region->grant_head -= 1;
	guest_kick(g);
}

/* --- who asks ---------------------------------------------------------- */

static void client_zero(struct guest *g)
{
	g->client = 0;
	post(g, CANAL_INR_NOP, 0, 0);
}

static void client_unknown(struct guest *g)
{
	g->client += 1;
	post(g, CANAL_INR_NOP, 0, 0);
}

static void client_differs(struct guest *g)
{
	uint64_t pos = 0;
	struct canal_inr *inr =
		canal_ring_claim(g->inr, g->shape.inr.count, &g->region->inr_tail, g->client, &pos);

	inr->op = CANAL_INR_NOP;
	inr->slot = CANAL_NONE;
	inr->client = (uint16_t)(g->client + 1);
	canal_ring_publish(inr, pos, g->client);
	guest_kick(g);
}

static void claim_unknown(struct guest *g)
{
	set_state(g, canal_inr_state(g->region->inr_tail, CANAL_CLIENT_MAX - 1, CANAL_INR_CLAIMED));
}

static void claim_nobody(struct guest *g)
{
	set_state(g, canal_inr_state(g->region->inr_tail, 0, CANAL_INR_CLAIMED));
}

/* --- numbers ----------------------------------------------------------- */

static void bind_out_of_range(struct guest *g)
{
	struct canal_addr to = loopback(0);

	guest_post(g, CANAL_INR_BIND, g->shape.sock.count, 1, &to, sizeof(to));
}

static void connect_none(struct guest *g)
{
	struct canal_addr to = loopback(0);

	guest_post(g, CANAL_INR_CONNECT, CANAL_NONE, CANAL_NONE, &to, sizeof(to));
}

static void tx_out_of_range(struct guest *g)
{
	post(g, CANAL_INR_TX, 0x80000000u, 0);
}

static void socket_not_granted(struct guest *g)
{
	post(g, CANAL_INR_SOCKET, g->shape.sock.count - 1, AF_INET, SOCK_STREAM);
}

static void socket_out_of_range(struct guest *g)
{
	post(g, CANAL_INR_SOCKET, g->shape.sock.count, AF_INET, SOCK_STREAM);
}

static void socket_twice(struct guest *g)
{
	uint32_t n = guest_socket(g, AF_INET, SOCK_STREAM);

	post(g, CANAL_INR_SOCKET, n, AF_INET, SOCK_STREAM);
}

static void socket_of_family(struct guest *g)
{
	post(g, CANAL_INR_SOCKET, guest_number(g), AF_UNIX, SOCK_STREAM);
}

static void socket_of_type(struct guest *g)
{
	post(g, CANAL_INR_SOCKET, guest_number(g), AF_INET, SOCK_RAW, 1);
}

static void socket_of_protocol(struct guest *g)
{
	post(g, CANAL_INR_SOCKET, guest_number(g), AF_INET, SOCK_STREAM, 132);
}

static void getsockopt_nowhere(struct guest *g)
{
	post(g, CANAL_INR_GETSOCKOPT, guest_socket(g, AF_INET, SOCK_STREAM), 0);
}

static void queue_nowhere(struct guest *g)
{
	post(g, CANAL_INR_QUEUE, guest_socket(g, AF_INET, SOCK_DGRAM), 0);
}

static void outq_nowhere(struct guest *g)
{
	post(g, CANAL_INR_OUTQ, guest_socket(g, AF_INET, SOCK_STREAM), 0);
}

static void linger_nowhere(struct guest *g)
{
	post(g, CANAL_INR_LINGER, guest_socket(g, AF_INET, SOCK_STREAM), 0);
}

static void settle_nowhere(struct guest *g)
{
	guest_post(g, CANAL_INR_SETTLE, 0, CANAL_NONE, "", 1);
}

static void slot_out_of_range(struct guest *g)
{
	guest_post(g, CANAL_INR_NOP, 0, g->shape.wait.count, "", 1);
}

static void async_out_of_range(struct guest *g)
{
	post(g, CANAL_INR_ASYNC, guest_socket(g, AF_INET, SOCK_STREAM), g->shape.wait.count,
	     CANAL_NONE);
}

static void async_high(struct guest *g)
{
	post(g, CANAL_INR_ASYNC, guest_socket(g, AF_INET, SOCK_STREAM), CANAL_NONE, CANAL_NONE - 1);
}

static void slot_high(struct guest *g)
{
	guest_post(g, CANAL_INR_RESOLVE, 0, 0x80000000u, "", 1);
}

static void resolve_nowhere(struct guest *g)
{
	post(g, CANAL_INR_RESOLVE, 0, 0);
}

/* Questions that make no sense have an answer that says so; it is the end that breaks a rule. */
static void names_wrong(struct guest *g)
{
	static const struct {
		uint32_t kind, len;
		uint8_t first[4];
	} wrong[] = {
		{ CANAL_RESOLVE_LIST, 0, { 0 } },
		{ CANAL_RESOLVE_HOST, 0, { 0 } },
		{ CANAL_RESOLVE_ADDR, 23, { AF_INET } },
		{ CANAL_RESOLVE_ADDR, 24, { AF_UNIX } },
		{ CANAL_RESOLVE_DNS, 11, { 0 } },
		{ CANAL_RESOLVE_DNS, CANAL_CALL_DATA + 1, { 0 } },
		{ CANAL_RESOLVE_DNS, 0xffffffff, { 0 } },
		{ CANAL_RESOLVE_DNS, 40, { 0, 0, 0x80 } }, /* an answer */
		{ CANAL_RESOLVE_DNS, 40, { 0, 0, 0x28 } }, /* an update */
		{ CANAL_RESOLVE_KINDS, 40, { 0 } },
		{ 0xffffffff, 40, { 0 } },
	};

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct canal_call *call = &g->call[1];

		memset(call->data, 0, sizeof(call->data));
		memcpy(call->data, wrong[i].first, sizeof(wrong[i].first));
		call->name = wrong[i].kind;
		call->len = wrong[i].len;
		if (guest_call(g, CANAL_INR_RESOLVE, 0, 1, "", 1) > -1000)
			fail("question %zu was not refused", i);
	}
	post(g, CANAL_INR_OPS, 0, 0);
}

static void sub_out_of_range(struct guest *g)
{
	post(g, CANAL_INR_SUBSCRIBE, guest_socket(g, AF_INET, SOCK_STREAM), g->shape.sub.count, 0,
	     1);
}

static void set_out_of_range(struct guest *g)
{
	post(g, CANAL_INR_SUBSCRIBE, guest_socket(g, AF_INET, SOCK_STREAM), 0, g->shape.set.count,
	     1);
}

static void unsub_out_of_range(struct guest *g)
{
	post(g, CANAL_INR_UNSUBSCRIBE, 0, CANAL_NONE);
}

/* --- all --------------------------------------------------------------- */

static const struct hostile_case ring_cases[] = {
	CASE(op_unknown, "bad-op"),
	CASE(op_high, "bad-op"),
	CASE(phase_unknown, "ring-state"),
	CASE(position_next, "ring-state"),
	CASE(position_back, "ring-state"),
	CASE(late_ends, "ring-state"),
	CASE(state_ones, "ring-state"),
	CASE(grant_ahead, "ring-state"),
	CASE(grant_back, "ring-state"),
	CASE(client_zero, "bad-client"),
	CASE(client_unknown, "bad-client"),
	CASE(client_differs, "bad-client"),
	CASE(claim_unknown, "bad-client"),
	CASE(claim_nobody, "bad-client"),
	CASE(bind_out_of_range, "bad-socket"),
	CASE(connect_none, "bad-socket"),
	CASE(tx_out_of_range, "bad-socket"),
	CASE(socket_not_granted, "bad-socket"),
	CASE(socket_out_of_range, "bad-socket"),
	CASE(socket_twice, "bad-socket"),
	CASE(socket_of_family, "bad-socket"),
	CASE(socket_of_type, "bad-socket"),
	CASE(socket_of_protocol, "bad-socket"),
	CASE(getsockopt_nowhere, "bad-socket"),
	CASE(queue_nowhere, "bad-socket"),
	CASE(outq_nowhere, "bad-socket"),
	CASE(linger_nowhere, "bad-socket"),
	CASE(settle_nowhere, "bad-slot"),
	CASE(slot_out_of_range, "bad-slot"),
	CASE(slot_high, "bad-slot"),
	CASE(async_out_of_range, "bad-slot"),
	CASE(async_high, "bad-slot"),
	CASE(resolve_nowhere, "bad-slot"),
	CASE(names_wrong, "bad-op"),
	CASE(sub_out_of_range, "bad-subscription"),
	CASE(set_out_of_range, "bad-subscription"),
	CASE(unsub_out_of_range, "bad-subscription"),
	{ NULL },
};

static void run_case(const struct hostile_case *c)
{
	struct guest g;

	if (only && strcmp(only, c->name))
		return;
	guest_open(&g);
	fprintf(stderr, "%s\n", c->name);
	c->run(&g);
	guest_wait_closed(&g, LONGEST_MS);
	guest_close(&g);
	printf("%s %s\n", c->name, c->reason);
}

void run_cases(uint64_t seed)
{
	const struct hostile_case *const all[] = { ring_cases, fifo_cases, packet_cases };

	(void)seed;
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		for (const struct hostile_case *c = all[i]; c->name; c++)
			run_case(c);
}

/* --- slots that are claimed and not published --------------------------- */

static struct canal_inr *claim(struct guest *g, uint64_t *pos)
{
	struct canal_inr *slot =
		canal_ring_claim(g->inr, g->shape.inr.count, &g->region->inr_tail, g->client, pos);

	if (!slot)
		fail("the ring is full");
	return slot;
}

/* Calls behind it are answered until the ring comes to it again, and then it is published. */
static void late_one(struct guest *g)
{
	uint64_t pos = 0;
	struct canal_inr *slot = claim(g, &pos);

	for (uint32_t i = 1; i < g->shape.inr.count; i++)
		guest_sync(g);
	slot->op = CANAL_INR_NOP;
	slot->slot = CANAL_NONE;
	slot->client = (uint16_t)g->client;
	if (!canal_ring_publish(slot, pos, g->client))
		fail("it was taken back at once");
	guest_kick(g);
	for (uint32_t i = 0; i < 2 * g->shape.inr.count; i++)
		guest_sync(g);
}

/* They hold up the ring once, together. */
static void never_published(struct guest *g)
{
	uint64_t pos[CANAL_RING_LATE];
	struct canal_inr *slot[CANAL_RING_LATE];

	for (int i = 0; i < CANAL_RING_LATE; i++)
		slot[i] = claim(g, &pos[i]);
	for (uint32_t i = 0; i < 2 * g->shape.inr.count && i < 1100; i++)
		guest_sync(g);
	if (canal_ring_publish(slot[0], pos[0], g->client))
		fail("the first one was not taken back");
}

/* By a process that lives: others go on, and the channel is not closed. */
void run_stalled(uint64_t seed)
{
	struct guest g;

	(void)seed;
	guest_open(&g);
	late_one(&g);
	never_published(&g);
	if (guest_closed(&g))
		fail("closed");
	guest_close(&g);
}
