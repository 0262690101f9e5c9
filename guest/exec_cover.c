/* SPDX-License-Identifier: MIT */
/*
 * Will libcanal be in the program that is about to be exec'd?
 *
 * Purpose: canal-run's question (run_cover.c), asked between fork and exec: with
 * nothing but system calls and the stack, and no word why not.
 *
 * Invariants
 *  1. A wrong "yes" costs a wait (START_MS in exec.c), a wrong "no" some speed.
 *
 * Ownership and threads: any.
 * Failure: what cannot be read is no program that is covered.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "exec.h"
#include "sys.h"

#define SCRIPT_DEPTH 5 /* as deep as the kernel follows #! */
#define LINE_LEN 256
#define SEGMENTS 64
#define NOTES_LEN 1024

#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#define OUR_LOADER "ld-linux-x86-64.so"
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#define OUR_LOADER "ld-linux-aarch64.so"
#else
#define OUR_MACHINE EM_NONE
#define OUR_LOADER ""
#endif

enum answer { NOT_COVERED, COVERED, FOREIGN, IS_SCRIPT };

static long read_at(int fd, void *to, size_t len, uint64_t at)
{
	return sys_call4(SYS_pread64, fd, to, len, at);
}

/* Go's linker leaves a note; its programs call the kernel by themselves. */
static bool is_go(int fd, const ElfW(Phdr) * segment)
{
	char notes[NOTES_LEN];
	size_t len = segment->p_filesz < sizeof(notes) ? segment->p_filesz : sizeof(notes);
	long got = read_at(fd, notes, len, segment->p_offset);

	return got > 0 && memmem(notes, (size_t)got, "Go\0\0", 4);
}

/* Of another C library, which would not find what libcanal needs of this one. */
static bool is_foreign(int fd, const ElfW(Phdr) * segment)
{
	char path[LINE_LEN];
	size_t len = segment->p_filesz < sizeof(path) ? segment->p_filesz : sizeof(path) - 1;
	long got = read_at(fd, path, len, segment->p_offset);

	path[got > 0 ? got : 0] = '\0';
	return got > 0 && !strstr(path, OUR_LOADER);
}

/* Dynamically linked, for this machine and this C library. */
static enum answer program_loads(int fd, const ElfW(Ehdr) * head)
{
	enum answer answer = NOT_COVERED;
	ElfW(Phdr) segment;

	if (head->e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) ||
	    (OUR_MACHINE != EM_NONE && head->e_machine != OUR_MACHINE) ||
	    head->e_phentsize != sizeof(segment))
		return NOT_COVERED;
	for (unsigned int i = 0; i < head->e_phnum && i < SEGMENTS; i++) {
		if (read_at(fd, &segment, sizeof(segment), head->e_phoff + i * sizeof(segment)) !=
		    (long)sizeof(segment))
			return NOT_COVERED;
		if (segment.p_type == PT_INTERP)
			answer = is_foreign(fd, &segment) ? FOREIGN : COVERED;
		if (segment.p_type == PT_NOTE && is_go(fd, &segment))
			return NOT_COVERED;
	}
	return answer;
}

/* The loader forgets LD_PRELOAD where identity changes. */
static bool keeps_identity(int fd)
{
	struct stat st;
	char cap[64];

	if (sys_call6(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0) == 1)
		return true;
	if (fstat(fd, &st) < 0)
		return false;
	return !(st.st_mode & S_ISUID) &&
	       (st.st_mode & (S_ISGID | S_IXGRP)) != (S_ISGID | S_IXGRP) &&
	       sys_call4(SYS_fgetxattr, fd, "security.capability", cap, sizeof(cap)) <= 0;
}

/* IS_SCRIPT: @path is now that of its interpreter. */
static enum answer look(int fd, char *path)
{
	union {
		ElfW(Ehdr) elf;
		char line[LINE_LEN];
	} head;
	long got = read_at(fd, &head, sizeof(head) - 1, 0);
	const char *start;
	size_t len;

	if (got < 4)
		return NOT_COVERED;
	if (!memcmp(head.line, ELFMAG, SELFMAG))
		return got >= (long)sizeof(head.elf) && keeps_identity(fd)
			       ? program_loads(fd, &head.elf)
			       : NOT_COVERED;
	if (head.line[0] != '#' || head.line[1] != '!')
		return NOT_COVERED;
	head.line[got] = '\0';
	start = head.line + 2 + strspn(head.line + 2, " \t");
	len = strcspn(start, " \t\r\n");
	memcpy(path, start, len);
	path[len] = '\0';
	return len ? IS_SCRIPT : NOT_COVERED;
}

static enum answer answer_for(const char *program)
{
	char path[PATH_MAX];
	enum answer answer = IS_SCRIPT;

	if (strlen(program) >= sizeof(path))
		return NOT_COVERED;
	strcpy(path, program);
	for (int depth = 0; depth < SCRIPT_DEPTH && answer == IS_SCRIPT; depth++) {
		int fd = (int)sys_call4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);

		if (fd < 0) /* may be executed, but not read */
			return fd == -EACCES ? COVERED : NOT_COVERED;
		answer = look(fd, path);
		sys_close(fd);
	}
	return answer;
}

bool exec_is_covered(const char *program)
{
	return answer_for(program) == COVERED;
}

bool exec_is_foreign(const char *program)
{
	return answer_for(program) == FOREIGN;
}
