/* SPDX-License-Identifier: MIT */
/*
 * What the fuzz targets share: taking values off the input, and a check that
 * stops the fuzzer in every build.
 */
#ifndef CANAL_TEST_FUZZ_H
#define CANAL_TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Not assert(): NDEBUG must not turn a target into one that finds nothing. */
#define fuzz_check(what)                                                                     \
	do {                                                                                 \
		if (!(what)) {                                                               \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #what); \
			abort();                                                             \
		}                                                                            \
	} while (0)

struct fuzz_input {
	const uint8_t *data;
	size_t len;
};

/* Fills @to with what is next; zeros after the end. */
static inline void fuzz_take(struct fuzz_input *in, void *to, size_t len)
{
	size_t part = len < in->len ? len : in->len;

	memset(to, 0, len);
	if (part)
		memcpy(to, in->data, part);
	in->data += part;
	in->len -= part;
}

static inline uint8_t fuzz_byte(struct fuzz_input *in)
{
	uint8_t value;

	fuzz_take(in, &value, sizeof(value));
	return value;
}

static inline uint64_t fuzz_number(struct fuzz_input *in)
{
	uint64_t value;

	fuzz_take(in, &value, sizeof(value));
	return value;
}

#endif
