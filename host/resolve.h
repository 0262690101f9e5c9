/* SPDX-License-Identifier: MIT */
/*
 * A question for the host's resolver, and its answer.
 */
#ifndef CANAL_HOST_RESOLVE_H
#define CANAL_HOST_RESOLVE_H

#include <stdint.h>

#include "wire.h"

struct question {
	uint32_t kind; /* CANAL_RESOLVE_* */
	uint32_t len;  /* bytes of data that the guest filled */
	int families;  /* QUESTION_*: of the guest's own addresses, for AI_ADDRCONFIG */
	union {
		struct canal_resolve names;
		uint8_t data[CANAL_CALL_DATA];
	};
};

#define QUESTION_V4 1
#define QUESTION_V6 2

struct answer {
	int result;   /* as the wire has it */
	uint32_t len; /* bytes of data */
	union {
		struct canal_resolve_answer names;
		struct canal_resolve_host host;
		uint8_t data[CANAL_CALL_DATA];
	};
};

/* resolve_ask.c: 0, or the result that the guest gets at once. */
int question_check(const struct question *q);
/* Takes as long as it takes: on a helper thread. */
void question_ask(const struct question *q, struct answer *ret);

#endif
