/* SPDX-License-Identifier: MIT */
/*
 * The end of a tool whose answer is what it prints: who asked has all of it, or is told
 * that it is not so.
 */
#ifndef CANAL_OUTPUT_H
#define CANAL_OUTPUT_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/**
 * canal_output_exit() - end with @status, or with @failed when standard output took less than all
 */
__attribute__((noreturn)) static inline void canal_output_exit(const char *tool, int status,
							       int failed)
{
	int error = ferror(stdout) ? EIO : 0;

	if (fflush(stdout) != 0)
		error = errno;
	if (!error)
		exit(status);
	fprintf(stderr, "%s: standard output: %s\n", tool, strerror(error));
	exit(failed);
}

#endif
