/* SPDX-License-Identifier: MIT */
/*
 * The line of a traced call.
 *
 * Purpose: put a line together on the stack, and say where the call went: to
 * canald, or to the kernel, and why there.
 *
 * Invariants
 *  1. As in log.c: no allocation, no lock, no stdio. A line that is too long is
 *     cut. Payload is never in it.
 *  2. The program's memory is read by process_vm_readv(), so that a pointer that
 *     the call would refuse does no harm here.
 *
 * Ownership and threads: all on the caller's stack.
 *
 * Failure: memory that cannot be read is shown as its address.
 */
#include <string.h>
#include <sys/uio.h>

#include "internal.h"
#include "sys.h"
#include "trace.h"

bool trace_on;
__thread bool trace_skip __attribute__((tls_model("initial-exec")));
__thread const char *trace_said __attribute__((tls_model("initial-exec")));

#define STRING_MAX 128
#define TAIL 96 /* kept for the result */

/* --- text ---------------------------------------------------------------- */

void trace_char(struct trace *t, char c)
{
	if (t->len < sizeof(t->line) - 1)
		t->line[t->len++] = c;
}

void trace_text(struct trace *t, const char *text)
{
	while (*text)
		trace_char(t, *text++);
}

static void digits(struct trace *t, unsigned long number, unsigned int base)
{
	char text[24];
	int i = sizeof(text);

	text[--i] = '\0';
	do
		text[--i] = "0123456789abcdef"[number % base];
	while (number /= base);
	trace_text(t, text + i);
}

void trace_number(struct trace *t, long number)
{
	if (number < 0)
		trace_char(t, '-');
	digits(t, number < 0 ? -(unsigned long)number : (unsigned long)number, 10);
}

void trace_hex(struct trace *t, unsigned long number)
{
	trace_text(t, "0x");
	digits(t, number, 16);
}

bool trace_peek(void *to, const void *from, size_t len)
{
	struct iovec local = { .iov_base = to, .iov_len = len };
	struct iovec remote = { .iov_base = (void *)(uintptr_t)from, .iov_len = len };

	return from && sys_call6(SYS_process_vm_readv, sys_call2(SYS_getpid, 0, 0), (long)&local, 1,
				 (long)&remote, 1, 0) == (long)len;
}

void trace_string(struct trace *t, const char *from)
{
	char c;

	if (!from) {
		trace_text(t, "NULL");
		return;
	}
	if (!trace_peek(&c, from, 1)) {
		trace_hex(t, (unsigned long)from);
		return;
	}
	trace_char(t, '"');
	for (int i = 0; i < STRING_MAX && trace_peek(&c, from + i, 1) && c; i++)
		trace_char(t, c >= ' ' && c != 0x7f && c != '"' ? c : '?');
	trace_char(t, '"');
}

/* --- where it goes ---------------------------------------------------------- */

void trace_begin(struct trace *t, int fd)
{
	t->len = 0;
	t->fd = fd;
	t->path = fd >= 0 && fd_lookup(fd) ? "canal" : "kernel";
	t->quiet = t->makes = t->names = false;
	trace_said = NULL;
}

/* One of ours that the kernel has now: loopback of a virtual machine (twin.c). */
static bool went_over(const struct trace *t, const char *name)
{
	return t->fd >= 0 && t->path[0] == 'c' && !fd_lookup(t->fd) && strncmp(name, "close", 5) &&
	       strcmp(name, "fclose") != 0;
}

/* Of a new descriptor, and of a name, that is known behind the call. */
static void path_find(struct trace *t, long ret)
{
	if (t->makes && ret >= 0 && fd_lookup((int)ret))
		t->path = "canal";
	else if (t->makes && trace_said)
		t->path = ret < 0 ? "canal" : "fallback";
	if (t->names) {
		t->path = trace_said ? trace_said : "libc";
		trace_said = NULL;
	}
}

static void put_path(struct trace *t, const char *name)
{
	trace_text(t, " [");
	trace_text(t, went_over(t, name) ? "canal, from now on kernel" : t->path);
	if (trace_said) {
		trace_text(t, ": ");
		trace_text(t, trace_said);
	}
	trace_char(t, ']');
}

/* --- the result --------------------------------------------------------------- */

static void put_error(struct trace *t, int error)
{
	const char *name = strerrorname_np(error);

	trace_char(t, ' ');
	if (name)
		trace_text(t, name);
	else
		trace_number(t, error);
}

static void put_result(struct trace *t, enum trace_result how, long ret, int error)
{
	trace_text(t, " = ");
	switch (how) {
	case TRACE_INT:
		trace_number(t, ret);
		if (ret == -1)
			put_error(t, error);
		break;
	case TRACE_EAI:
		trace_named(t, trace_eais, ret);
		if (ret == EAI_SYSTEM)
			put_error(t, error);
		break;
	case TRACE_POINTER:
		trace_text(t, ret ? "found" : "NULL");
		break;
	case TRACE_VOID:
		trace_char(t, '?');
	}
}

/* The pid and the tid first, as the program sees them. */
static void put_head(struct trace *t)
{
	trace_char(t, '[');
	trace_number(t, sys_call2(SYS_getpid, 0, 0));
	trace_char(t, ' ');
	trace_number(t, sys_call2(SYS_gettid, 0, 0));
	trace_text(t, "] ");
}

void trace_end(struct trace *t, const char *name, const char *kinds, const long *args,
	       enum trace_result how, long ret)
{
	int error = errno;

	if (t->quiet)
		return;
	put_head(t);
	trace_text(t, name);
	trace_char(t, '(');
	trace_args(t, kinds, args, ret);
	if (t->len > sizeof(t->line) - TAIL) {
		t->len = sizeof(t->line) - TAIL;
		trace_text(t, "...");
	}
	trace_char(t, ')');
	put_result(t, how, ret, error);
	path_find(t, ret);
	put_path(t, name);
	log_line(t->line, t->len);
	errno = error;
}
