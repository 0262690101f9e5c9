/* SPDX-License-Identifier: MIT */
/*
 * Can libcanal be loaded into a program, and would it see the program's calls?
 *
 * Purpose
 *	A program that the loader leaves alone runs as if canal were not there,
 *	and nobody notices. canal-run asks here first.
 *
 * Invariants
 *	1. "No" is said only for what is certain: a file that may be executed
 *	   but not read is let through.
 *	2. This machine is whatever canal-run itself was built for, so both files
 *	   go through the same reader.
 *
 * Failure
 *	The file belongs to somebody else and may be anything: each header is
 *	read whole or not at all, and the number of headers is bounded.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "run.h"

#define SCRIPT_DEPTH 5 /* as deep as the kernel follows #! */
#define SCRIPT_LINE_LEN 256
#define SEGMENT_COUNT 256
#define NOTES_LEN 4096
#define NOTE_NAME_GO "Go"

struct program {
	ElfW(Ehdr) head;
	char loader[PATH_MAX]; /* PT_INTERP; empty: statically linked */
	bool go;
};

void run_because(struct run_reason *reason, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason->text, sizeof(reason->text), format, args);
	va_end(args);
}

static bool read_at(int fd, void *data, size_t len, uint64_t offset)
{
	return offset <= INT64_MAX && pread(fd, data, len, (off_t)offset) == (ssize_t)len;
}

/* Do the notes name the Go linker? */
static bool notes_are_go(const char *notes, size_t notes_len)
{
	ElfW(Nhdr) note;

	while (notes_len >= sizeof(note)) {
		memcpy(&note, notes, sizeof(note));
		size_t name_len = ((size_t)note.n_namesz + 3) & ~(size_t)3;
		size_t desc_len = ((size_t)note.n_descsz + 3) & ~(size_t)3;
		const char *name = notes + sizeof(note);

		notes_len -= sizeof(note);
		if (name_len > notes_len || desc_len > notes_len - name_len)
			return false;
		if (note.n_namesz == sizeof(NOTE_NAME_GO) + 1 &&
		    memcmp(name, NOTE_NAME_GO, sizeof(NOTE_NAME_GO)) == 0)
			return true;
		notes = name + name_len + desc_len;
		notes_len -= name_len + desc_len;
	}
	return false;
}

static void read_segment(int fd, const ElfW(Phdr) * segment, struct program *program)
{
	char notes[NOTES_LEN];
	size_t len = segment->p_filesz;

	if (segment->p_type == PT_INTERP && len < sizeof(program->loader)) {
		if (read_at(fd, program->loader, len, segment->p_offset))
			program->loader[len] = '\0';
	} else if (segment->p_type == PT_NOTE && len <= sizeof(notes)) {
		if (read_at(fd, notes, len, segment->p_offset))
			program->go |= notes_are_go(notes, len);
	}
}

/* Fills in the header always, the rest only where the layout is that of this machine. */
static bool read_program(int fd, struct program *ret_program)
{
	struct program program = { 0 };
	ElfW(Phdr) segment;

	if (!read_at(fd, &program.head, sizeof(program.head), 0))
		return false;
	if (program.head.e_ident[EI_CLASS] == (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) &&
	    program.head.e_phentsize == sizeof(segment)) {
		for (unsigned int i = 0; i < program.head.e_phnum && i < SEGMENT_COUNT; i++)
			if (read_at(fd, &segment, sizeof(segment),
				    program.head.e_phoff + i * sizeof(segment)))
				read_segment(fd, &segment, &program);
	}
	*ret_program = program;
	return true;
}

static bool same_machine(const struct program *a, const struct program *b)
{
	return a->head.e_ident[EI_CLASS] == b->head.e_ident[EI_CLASS] &&
	       a->head.e_ident[EI_DATA] == b->head.e_ident[EI_DATA] &&
	       a->head.e_machine == b->head.e_machine;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int check_program(int fd, struct run_reason *ret_reason)
{
	struct program program, self = { 0 };
	int self_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	bool known = self_fd >= 0 && read_program(self_fd, &self);

	if (self_fd >= 0)
		close(self_fd);
	if (!known)
		return 0;
	if (!read_program(fd, &program) || !same_machine(&program, &self))
		run_because(ret_reason, "it is not an ELF program for this machine");
	else if (program.head.e_type != ET_EXEC && program.head.e_type != ET_DYN)
		run_because(ret_reason, "it is an ELF file, but not a program");
	else if (!program.loader[0])
		run_because(ret_reason,
			    "it is statically linked: no library can be loaded into it");
	else if (strcmp(base_name(program.loader), base_name(self.loader)) != 0)
		run_because(ret_reason, "its loader is %s, and libcanal is for %s", program.loader,
			    self.loader);
	else if (program.go)
		run_because(ret_reason,
			    "it is a Go program: it calls the kernel past every library");
	else
		return 0;
	return -ENOEXEC;
}

/*
 * The loader ignores LD_PRELOAD for a program that changes identity. root
 * running a file of root's changes nothing, but what root may run and
 * others may not would only hide the trap.
 */
static int check_identity(int fd, struct run_reason *ret_reason)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return 0;
	if (st.st_mode & S_ISUID)
		run_because(ret_reason, "it is setuid: the loader ignores LD_PRELOAD for it");
	else if ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
		run_because(ret_reason, "it is setgid: the loader ignores LD_PRELOAD for it");
	else if (fgetxattr(fd, "security.capability", NULL, 0) > 0)
		run_because(ret_reason,
			    "it has file capabilities: the loader ignores LD_PRELOAD for it");
	else
		return 0;
	return -EPERM;
}

/* The interpreter of "#! /path [argument]", in place; NULL if there is none. */
static char *script_interpreter(char *line)
{
	char *start = line + 2 + strspn(line + 2, " \t");

	start[strcspn(start, " \t\r\n")] = '\0';
	return start[0] ? start : NULL;
}

/* Looks at one file; if it is a script, leaves its interpreter in @path. */
static int check_file(int fd, char *path, size_t path_len, bool *ret_script,
		      struct run_reason *ret_reason)
{
	char head[SCRIPT_LINE_LEN + 1];
	ssize_t head_len = pread(fd, head, SCRIPT_LINE_LEN, 0);
	char *interpreter;
	int error;

	*ret_script = false;
	head[head_len < 0 ? 0 : head_len] = '\0';
	if (head_len >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0) {
		error = check_identity(fd, ret_reason);
		return error ? error : check_program(fd, ret_reason);
	}
	interpreter = strncmp(head, "#!", 2) == 0 ? script_interpreter(head) : NULL;
	if (!interpreter) {
		run_because(ret_reason, "it is neither an ELF program nor a script");
		return -ENOEXEC;
	}
	*ret_script = true;
	snprintf(path, path_len, "%s", interpreter);
	return 0;
}

/**
 * run_cover_check() - can the program at @path be run under libcanal?
 *
 * A script stands for its interpreter.
 *
 * Return: 0, or -errno with a line in @ret_reason.
 */
int run_cover_check(const char *path, struct run_reason *ret_reason)
{
	struct run_reason reason = { "its interpreters are scripts without end" };
	char file[PATH_MAX];
	int error = -ELOOP;

	snprintf(file, sizeof(file), "%s", path);
	for (int depth = 0; depth < SCRIPT_DEPTH; depth++) {
		char looked_at[PATH_MAX];
		bool script;
		int fd = open(file, O_RDONLY | O_CLOEXEC);

		if (fd < 0 && errno == EACCES)
			return 0;
		if (fd < 0) {
			run_because(ret_reason, "its interpreter %s: %s", file, strerror(errno));
			return -ENOENT;
		}
		memcpy(looked_at, file, sizeof(file));
		error = check_file(fd, file, sizeof(file), &script, &reason);
		close(fd);
		if (error && depth > 0)
			run_because(ret_reason, "its interpreter is %s, and %s", looked_at,
				    reason.text);
		else if (error)
			*ret_reason = reason;
		if (error || !script)
			return error;
	}
	*ret_reason = reason;
	return -ELOOP;
}
