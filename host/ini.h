/* SPDX-License-Identifier: MIT */
/*
 * INI files, a line at a time: ini.c.
 */
#ifndef CANAL_HOST_INI_H
#define CANAL_HOST_INI_H

#include <stdio.h>

#define INI_LINE 1024 /* the longest line, with its NUL in place of the line's end */

enum ini_kind {
	INI_END = 0, /* or the file cannot be read: ferror() */
	INI_SECTION, /* [name] */
	INI_KEY,     /* name = value */
	INI_OTHER,   /* neither */
	INI_LONG,    /* more than INI_LINE - 1 bytes */
	INI_BINARY,  /* it has a control character: what follows is no text either */
};

/* Zero but for its file. */
struct ini {
	FILE *file;
	unsigned int line;  /* that was read last, from 1 */
	char *name, *value; /* in text; of INI_OTHER the line is the name */
	char text[INI_LINE];
};

/* What the next line that says anything is. */
enum ini_kind ini_next(struct ini *ini);

#endif
