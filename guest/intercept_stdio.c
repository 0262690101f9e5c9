/* SPDX-License-Identifier: MIT */
/*
 * Exported symbols: stdio.
 *
 * Purpose and rules: intercept.h. stdio reads and writes where nobody sees it, on a
 * descriptor that may be a socket of ours: one that fdopen() was given, or that dup2()
 * or the program's parent put under stdin, stdout or stderr. So the socket is handed
 * over, before the first bytes where they are read. What is written is found in the
 * dummy and needs no more (host/pump.c), as long as write() does not come behind it:
 * stdio_precedes().
 *
 * Invariants
 *  1. A stream that is on none of our sockets costs a look at the table.
 *
 * Failure: a socket that cannot be handed over stays a dummy: nothing is read there.
 */
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "intercept.h"

EXPORT FILE *fdopen(int fd, const char *mode)
{
	TRACED(fdopen, fd, mode);

	if (fd_sock(fd))
		(void)handover(fd);
	return real(fdopen)(fd, mode);
}

static int print(int fd, const char *text, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t put = write(fd, text + done, len - done);

		if (put < 0)
			return -1;
		done += (size_t)put;
	}
	return (int)len;
}

EXPORT int vdprintf(int fd, const char *format, va_list args)
{
	TRACED(vdprintf, fd, format, args);

	char *text = NULL;
	int len;

	if (!fd_sock(fd))
		return real(vdprintf)(fd, format, args);
	len = vasprintf(&text, format, args);
	if (len >= 0)
		len = print(fd, text, (size_t)len);
	free(text);
	return len;
}

EXPORT int dprintf(int fd, const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = vdprintf(fd, format, args);
	va_end(args);
	return len;
}

extern int __vdprintf_chk(int fd, int flag, const char *format, va_list args);
extern int __dprintf_chk(int fd, int flag, const char *format, ...);

EXPORT int __vdprintf_chk(int fd, int flag, const char *format, va_list args)
{
	TRACED(__vdprintf_chk, fd, flag, format, args);

	return fd_sock(fd) ? vdprintf(fd, format, args)
			   : real(__vdprintf_chk)(fd, flag, format, args);
}

EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = __vdprintf_chk(fd, flag, format, args);
	va_end(args);
	return len;
}

/* --- a stream gets another file ------------------------------------------ */

static FILE *reopened(const char *path, const char *mode, FILE *f)
{
	const int fd = fileno(f);
	FILE *ret = real(freopen)(path, mode, f);
	int saved = errno;

	if (fd >= 0)
		process_drop(fd); /* closed, or another file's */
	errno = saved;
	return ret;
}

EXPORT FILE *freopen(const char *path, const char *mode, FILE *f)
{
	return reopened(path, mode, f);
}

/* --- what reads ------------------------------------------------------------ */

static inline void before_read(const FILE *f)
{
	if (unlikely(fd_sock(f->_fileno)))
		(void)handover(f->_fileno);
}

/* Names that the header has another one behind, or none for. */
extern char *old_gets(char *line) __asm__("gets");
extern char *gets_chk(char *line, size_t room) __asm__("__gets_chk");
extern char *fgets_chk(char *line, size_t room, int len, FILE *f) __asm__("__fgets_chk");
extern char *fgets_unlocked_chk(char *line, size_t room, int len,
				FILE *f) __asm__("__fgets_unlocked_chk");
extern size_t fread_chk(void *to, size_t room, size_t size, size_t count,
			FILE *f) __asm__("__fread_chk");
extern size_t fread_unlocked_chk(void *to, size_t room, size_t size, size_t count,
				 FILE *f) __asm__("__fread_unlocked_chk");
extern int old_vfscanf(FILE *f, const char *format, va_list args) __asm__("vfscanf");
extern int c99_vfscanf(FILE *f, const char *format, va_list args) __asm__("__isoc99_vfscanf");
extern int c23_vfscanf(FILE *f, const char *format, va_list args) __asm__("__isoc23_vfscanf");
extern int io_getc(FILE *f) __asm__("_IO_getc");
extern int stdio_underflow(FILE *f) __asm__("__underflow");
extern int stdio_uflow(FILE *f) __asm__("__uflow");

#define READS(type, name, libc, params, args, f) \
	EXPORT type name params                  \
	{                                        \
		before_read(f);                  \
		return real(libc) args;          \
	}

READS(int, (fgetc), fgetc, (FILE * f), (f), f)
READS(int, (getc), getc, (FILE * f), (f), f)
READS(int, (io_getc), getc, (FILE * f), (f), f)
READS(int, (getchar), getc, (void), (stdin), stdin)
READS(int, (fgetc_unlocked), getc_unlocked, (FILE * f), (f), f)
READS(int, (getc_unlocked), getc_unlocked, (FILE * f), (f), f)
READS(int, (getchar_unlocked), getc_unlocked, (void), (stdin), stdin)
READS(int, (stdio_underflow), __underflow, (FILE * f), (f), f)
READS(int, (stdio_uflow), __uflow, (FILE * f), (f), f)
READS(char *, (old_gets), gets, (char *line), (line), stdin)
READS(char *, (gets_chk), __gets_chk, (char *line, size_t room), (line, room), stdin)
READS(char *, (fgets), fgets, (char *line, int len, FILE *f), (line, len, f), f)
READS(char *, (fgets_unlocked), fgets_unlocked, (char *line, int len, FILE *f), (line, len, f), f)
READS(char *, (fgets_chk), __fgets_chk, (char *line, size_t room, int len, FILE *f),
      (line, room, len, f), f)
READS(char *, (fgets_unlocked_chk), __fgets_unlocked_chk,
      (char *line, size_t room, int len, FILE *f), (line, room, len, f), f)
READS(size_t, (fread), fread, (void *to, size_t size, size_t count, FILE *f), (to, size, count, f),
      f)
READS(size_t, (fread_unlocked), fread_unlocked, (void *to, size_t size, size_t count, FILE *f),
      (to, size, count, f), f)
READS(size_t, (fread_chk), __fread_chk, (void *to, size_t room, size_t size, size_t count, FILE *f),
      (to, room, size, count, f), f)
READS(size_t, (fread_unlocked_chk), __fread_unlocked_chk,
      (void *to, size_t room, size_t size, size_t count, FILE *f), (to, room, size, count, f), f)
READS(ssize_t, (getline), getline, (char **line, size_t *room, FILE *f), (line, room, f), f)
READS(ssize_t, (getdelim), getdelim, (char **line, size_t *room, int end, FILE *f),
      (line, room, end, f), f)
READS(int, (old_vfscanf), vfscanf, (FILE * f, const char *format, va_list args), (f, format, args),
      f)
READS(int, (c99_vfscanf), __isoc99_vfscanf, (FILE * f, const char *format, va_list args),
      (f, format, args), f)
READS(int, (c23_vfscanf), __isoc23_vfscanf, (FILE * f, const char *format, va_list args),
      (f, format, args), f)
READS(wint_t, (fgetwc), fgetwc, (FILE * f), (f), f)
READS(wint_t, (getwc), fgetwc, (FILE * f), (f), f)
READS(wint_t, (getwchar), fgetwc, (void), (stdin), stdin)
READS(wchar_t *, (fgetws), fgetws, (wchar_t * line, int len, FILE *f), (line, len, f), f)

ALIAS(__getdelim, getdelim);

/* The three of a kind that are made of vfscanf(). */
#define SCANS(prefix, name)                                                                  \
	extern int prefix##_vscanf(const char *format, va_list args) __asm__(name "vscanf"); \
	EXPORT int prefix##_vscanf(const char *format, va_list args)                         \
	{                                                                                    \
		return prefix##_vfscanf(stdin, format, args);                                \
	}                                                                                    \
	extern int prefix##_scanf(const char *format, ...) __asm__(name "scanf");            \
	EXPORT int prefix##_scanf(const char *format, ...)                                   \
	{                                                                                    \
		va_list args;                                                                \
		int ret;                                                                     \
                                                                                             \
		va_start(args, format);                                                      \
		ret = prefix##_vfscanf(stdin, format, args);                                 \
		va_end(args);                                                                \
		return ret;                                                                  \
	}                                                                                    \
	extern int prefix##_fscanf(FILE *f, const char *format, ...) __asm__(name "fscanf"); \
	EXPORT int prefix##_fscanf(FILE *f, const char *format, ...)                         \
	{                                                                                    \
		va_list args;                                                                \
		int ret;                                                                     \
                                                                                             \
		va_start(args, format);                                                      \
		ret = prefix##_vfscanf(f, format, args);                                     \
		va_end(args);                                                                \
		return ret;                                                                  \
	}

SCANS(old, "")
SCANS(c99, "__isoc99_")
SCANS(c23, "__isoc23_")

/* --- write() behind what was written so ------------------------------------- */

/* The socket of a stream that has been used. */
static struct sock_ref written_by(FILE *f)
{
	return f && __fbufsize(f) ? sock_of(f->_fileno) : (struct sock_ref){ .s = NULL };
}

void stdio_precedes(const struct canal_sock *s)
{
	FILE *const streams[] = { stdout, stderr };

	for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++)
		if (written_by(streams[i]).s == s)
			(void)handover(streams[i]->_fileno);
}

ALIAS(freopen64, freopen);
