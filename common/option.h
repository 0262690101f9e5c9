/* SPDX-License-Identifier: MIT */
/*
 * What is wrong with an option that getopt_long() did not take, in words.
 */
#ifndef CANAL_OPTION_H
#define CANAL_OPTION_H

#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/**
 * canal_option_fault() - such as "--socket: needs a value"
 * @result: ':' or '?', as getopt_long() gave it
 * @letters: the short options, with a colon in front
 *
 * A long option that it does not know leaves 0 in optopt, one that was given a value and
 * takes none what it stands for: a letter that is known, or no letter.
 */
static inline void canal_option_fault(char *text, size_t text_len, int result, char **argv,
				      const char *letters)
{
	if (result == '?' && optopt > 0 && optopt < 256 &&
	    (optopt == ':' || !strchr(letters, optopt)))
		snprintf(text, text_len, "-%c: no such option", optopt);
	else if (result == '?')
		snprintf(text, text_len, "%.128s: %s", argv[optind - 1],
			 optopt ? "takes no value" : "no such option");
	else
		snprintf(text, text_len, "%.128s: needs a value", argv[optind - 1]);
}

#endif
