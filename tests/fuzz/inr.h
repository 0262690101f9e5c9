/* SPDX-License-Identifier: MIT */
/* What inr.c, which plays the guests, and inr_kernel.c, the kernel, have together. */
#ifndef CANAL_TEST_FUZZ_INR_H
#define CANAL_TEST_FUZZ_INR_H

#include "fuzz.h"
#include "host.h"
#include "sock.h"

#define HANDLES 4096
#define OPS 256

struct engine {
	struct engine_handle *handles[HANDLES];
	uint32_t handle_count;
	struct engine_op *ops[OPS];
	bool op_sends[OPS];
	uint32_t op_count;
};

extern struct fuzz_input input;
extern struct engine engine;
extern int first_fd; /* that an input finds free */
extern bool quiet;   /* system calls succeed, and take nothing from the input */
extern const struct engine_ops fake_ops;

/* A number below @limit, what the kernel does next. */
uint8_t choice(uint8_t limit);
/* Some descriptor. */
int make_fd(void);

#endif
