/* SPDX-License-Identifier: MIT */
/*
 * order.h with one thing broken, for the twins of the stress tests. Included
 * first, it changes what ring.h, fifo.h, pool.h and notify.h are built from.
 *
 *	TWIN_STORE_FENCE	publications are plain stores (Q1, R1, R2, C1)
 *	TWIN_STORE_RELEASE	release stores are plain stores (Q2)
 *	TWIN_LOAD_ACQUIRE	acquire loads are plain loads
 *	TWIN_CAS_RELAXED	compare-and-swap orders nothing (A1)
 *	TWIN_CAS_TORN		compare, then swap: two may succeed
 *
 * The first four differ from the real thing on a weaker processor than x86, and
 * in the eyes of TSan. The last one fails everywhere.
 */
#ifndef CANAL_TEST_ORDER_TWIN_H
#define CANAL_TEST_ORDER_TWIN_H

#include <sched.h>
#include <string.h>

#include "order.h"

/*
 * gcc expands a short memcpy after TSan has looked at the code, so that TSan does
 * not see the consumer of the ring read its slot. A call is seen. The slot begins
 * with its state: the compare-and-swap of a late producer, which fails, is a write
 * for TSan, but none for C.
 */
#ifdef __SANITIZE_THREAD__
static __attribute__((noipa, unused)) void order_twin_copy(void *to, const void *from, size_t len)
{
	uint64_t state = canal_read_once((const uint64_t *)from);

	memcpy(to, &state, sizeof(state));
	memcpy((char *)to + sizeof(state), (const char *)from + sizeof(state), len - sizeof(state));
}

#define __builtin_memcpy(to, from, len) order_twin_copy(to, from, len)
#endif

#ifdef TWIN_STORE_FENCE
#undef canal_store_fence
#define canal_store_fence(p, v) canal_write_once(p, v)
#endif

#ifdef TWIN_STORE_RELEASE
#undef canal_store_release
#define canal_store_release(p, v) canal_write_once(p, v)
#endif

#ifdef TWIN_LOAD_ACQUIRE
#undef canal_load_acquire
#define canal_load_acquire(p) canal_read_once(p)
#endif

#ifdef TWIN_CAS_RELAXED
#undef canal_cas
#define canal_cas(p, from, to)                                                                   \
	__extension__({                                                                          \
		__typeof__(*(p)) canal_cas_from = (from);                                        \
		__atomic_compare_exchange_n((p), &canal_cas_from, (to), false, __ATOMIC_RELAXED, \
					    __ATOMIC_RELAXED);                                   \
	})
#endif

#ifdef TWIN_CAS_TORN
#undef canal_cas
#define canal_cas(p, from, to)                                         \
	__extension__({                                                \
		bool canal_cas_same = canal_load_acquire(p) == (from); \
		if (canal_cas_same) {                                  \
			sched_yield();                                 \
			canal_xchg((p), (to));                         \
		}                                                      \
		canal_cas_same;                                        \
	})
#endif

#endif
