/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Memory order: every atomic access to shared memory goes through here.
 *
 * Purpose: name what an access is for. A caller cites the edge it belongs to
 * ("R1 release: ..."); both ends of each edge and what breaks without it are
 * listed in docs/memory-order.md.
 *
 * Failure: none of these can fail.
 */
#ifndef CANAL_ORDER_H
#define CANAL_ORDER_H

#ifdef __KERNEL__
/* The compiler's atomics here too: the kernel's own lose their lock prefix on a
 * guest with one processor, and the other side is the host. */
#include <linux/types.h>
#else
#include <stdbool.h>
#include <stdint.h>
#endif

/* One copy of a value that the other side may change at any time. */
#define canal_read_once(p) __atomic_load_n((p), __ATOMIC_RELAXED)
/* A plain store that the other side may read at any time. */
#define canal_write_once(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)

/* What was stored before the matching release is seen after this load. */
#define canal_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
/* What was stored before this is seen by whoever acquires the value. */
#define canal_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

/* Stores before it are seen by others before loads after it are done. */
#define canal_full_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)

/*
 * A release store with a full fence behind it: "publish, then look". On x86
 * this is one xchg, cheaper than a store and mfence.
 */
#define canal_store_fence(p, v)                                 \
	((void)__atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST), \
	 __atomic_thread_fence(__ATOMIC_ACQ_REL))

/*
 * An uneven pair: the light side only keeps the compiler in order, the heavy
 * side makes every core that runs a registered process pass a full fence
 * (membarrier(2), GLOBAL_EXPEDITED). For a fast path whose other end is rare.
 */
#define canal_light_fence() __atomic_signal_fence(__ATOMIC_SEQ_CST)

/* Read-modify-write, each a full fence. */
#define canal_xchg(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define canal_fetch_or(p, v) __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define canal_fetch_and(p, v) __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST)
#define canal_fetch_add(p, v) __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)

/* Replaces *p by @to when it is @from; false leaves *p as it is. */
#define canal_cas(p, from, to)                                                                   \
	__extension__({                                                                          \
		__typeof__(*(p)) canal_cas_from = (from);                                        \
		__atomic_compare_exchange_n((p), &canal_cas_from, (to), false, __ATOMIC_SEQ_CST, \
					    __ATOMIC_ACQUIRE);                                   \
	})

/* Tells the core that this is a spin, so that its sibling may work. */
static inline void canal_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

#endif
