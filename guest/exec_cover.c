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
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#else
#define OUR_MACHINE EM_NONE
#endif

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

/* Dynamically linked, for this machine. */
static bool program_loads(int fd, const ElfW(Ehdr) * head)
{
	ElfW(Phdr) segment;
	bool loader = false;

	if (head->e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) ||
	    (OUR_MACHINE != EM_NONE && head->e_machine != OUR_MACHINE) ||
	    head->e_phentsize != sizeof(segment))
		return false;
	for (unsigned int i = 0; i < head->e_phnum && i < SEGMENTS; i++) {
		if (read_at(fd, &segment, sizeof(segment), head->e_phoff + i * sizeof(segment)) !=
		    (long)sizeof(segment))
			return false;
		loader |= segment.p_type == PT_INTERP;
		if (segment.p_type == PT_NOTE && is_go(fd, &segment))
			return false;
	}
	return loader;
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

/* 1: yes, 0: no, -1: @path is now that of a script's interpreter. */
static int look(int fd, char *path)
{
	union {
		ElfW(Ehdr) elf;
		char line[LINE_LEN];
	} head;
	long got = read_at(fd, &head, sizeof(head) - 1, 0);
	const char *start;
	size_t len;

	if (got < 4)
		return 0;
	if (!memcmp(head.line, ELFMAG, SELFMAG))
		return got >= (long)sizeof(head.elf) && keeps_identity(fd) &&
		       program_loads(fd, &head.elf);
	if (head.line[0] != '#' || head.line[1] != '!')
		return 0;
	head.line[got] = '\0';
	start = head.line + 2 + strspn(head.line + 2, " \t");
	len = strcspn(start, " \t\r\n");
	memcpy(path, start, len);
	path[len] = '\0';
	return len ? -1 : 0;
}

bool exec_is_covered(const char *program)
{
	char path[PATH_MAX];
	int answer = -1;

	if (strlen(program) >= sizeof(path))
		return false;
	strcpy(path, program);
	for (int depth = 0; depth < SCRIPT_DEPTH && answer < 0; depth++) {
		int fd = (int)sys_call4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);

		if (fd < 0) /* may be executed, but not read */
			return fd == -EACCES;
		answer = look(fd, path);
		sys_close(fd);
	}
	return answer == 1;
}
