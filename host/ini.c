/* SPDX-License-Identifier: MIT */
/*
 * INI files, a line at a time.
 *
 * Purpose: says of each line whether it opens a section or gives a key its value.
 * Blank lines and comments are passed over: a comment is a line that begins with
 * ';' or '#', and the rest of one from a ';' on that stands behind a blank. A
 * byte order mark and the line ends of other systems do no harm.
 *
 * Invariants
 *  1. A line stands alone: nothing goes on in the next.
 *  2. No line is cut: what does not fit is told as such, whole.
 *  3. A name and a value have no control character but tabs, so they may be shown.
 *
 * Ownership and threads: the caller's file, one thread.
 *
 * Failure: a file that is no text ends at the first line that shows it, however
 * long that line is (/dev/zero has one).
 */
#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "ini.h"

#define BLANKS " \t\r"

static bool is_blank(int c)
{
	return c && strchr(BLANKS, c);
}

/* Takes in one line: INI_KEY if it may be looked at. */
static enum ini_kind line_read(struct ini *ini)
{
	enum ini_kind kind = INI_KEY;
	size_t len = 0;
	int c = getc(ini->file);

	if (c == EOF)
		return INI_END;
	ini->line++;
	for (; c != EOF && c != '\n'; c = getc(ini->file)) {
		if (iscntrl(c) && !is_blank(c))
			return INI_BINARY;
		if (len < sizeof(ini->text) - 1)
			ini->text[len++] = (char)c;
		else
			kind = INI_LONG;
	}
	ini->text[len] = '\0';
	return ferror(ini->file) ? INI_END : kind;
}

/* @text without what is blank at both ends. */
static char *trimmed(char *text)
{
	size_t len;

	text += strspn(text, BLANKS);
	for (len = strlen(text); len && is_blank(text[len - 1]); len--)
		;
	text[len] = '\0';
	return text;
}

/* The end of what @line says. */
static char *comment_find(char *line)
{
	char *at = line;

	if (line[0] == '#')
		return line;
	while (*at && !(*at == ';' && (at == line || is_blank(at[-1]))))
		at++;
	return at;
}

static enum ini_kind section_take(struct ini *ini, char *line)
{
	char *end = strchr(line, ']');

	if (!end || end[1])
		return INI_OTHER;
	*end = '\0';
	ini->name = trimmed(line + 1);
	return INI_SECTION;
}

static enum ini_kind key_take(struct ini *ini, char *line)
{
	char *equals = strchr(line, '=');

	if (!equals || equals == line)
		return INI_OTHER;
	*equals = '\0';
	ini->name = trimmed(line);
	ini->value = trimmed(equals + 1);
	return INI_KEY;
}

enum ini_kind ini_next(struct ini *ini)
{
	static const char mark[] = "\xef\xbb\xbf"; /* of UTF-8 */
	enum ini_kind kind;
	char *line;

	do {
		kind = line_read(ini);
		if (kind != INI_KEY)
			return kind;
		line = ini->text;
		if (ini->line == 1 && strncmp(line, mark, strlen(mark)) == 0)
			line += strlen(mark);
		line = trimmed(line);
		*comment_find(line) = '\0';
		line = ini->name = trimmed(line);
	} while (!line[0]);
	if (strchr(line, '\r'))
		return INI_BINARY;
	return line[0] == '[' ? section_take(ini, line) : key_take(ini, line);
}
