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
 *	The file belongs to somebody else and may be anything: run_elf.c.
 */
#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "run.h"
#include "run_elf.h"

#define SCRIPT_DEPTH 5 /* as deep as the kernel follows #! */
#define SCRIPT_LINE_LEN 256
#define SHELL "/bin/sh"

void run_because(struct run_reason *reason, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason->text, sizeof(reason->text), format, args);
	va_end(args);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* This machine, C library and all: canal-run itself. */
static int self_read(struct elf_facts *ret)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int error = fd < 0 ? -errno : elf_facts_read(fd, ret);

	if (fd >= 0)
		close(fd);
	return error;
}

static bool same_machine(const struct elf_facts *a, const struct elf_facts *b)
{
	return a->elf_class == b->elf_class && a->data == b->data && a->machine == b->machine;
}

/* What the program cannot do without, with canal or without. */
static int missing(struct run_reason *ret_reason, const char *what, const char *path)
{
	run_because(ret_reason, "its %s %s: %s: install it, or correct what names it", what, path,
		    strerror(errno));
	return -ENOENT;
}

/* Its loader may end it for a library that needs another C library. */
static int foreign(struct run_reason *ret_reason, const char *loader, const char *ours)
{
	run_because(ret_reason, "its loader is %s, and libcanal is for %s", loader, ours);
	return -ELIBBAD;
}

static int check_program(int fd, struct run_reason *ret_reason)
{
	struct elf_facts program, self;

	if (self_read(&self))
		return 0;
	if (elf_facts_read(fd, &program))
		run_because(ret_reason,
			    "it is not an ELF program for this machine: its header is broken");
	else if (!same_machine(&program, &self))
		run_because(ret_reason,
			    "it is not an ELF program for this machine: it is for %s (%d-bit), "
			    "libcanal for %s",
			    elf_machine_name(program.machine),
			    program.elf_class == ELFCLASS32 ? 32 : 64,
			    elf_machine_name(self.machine));
	else if ((program.type != ET_EXEC && program.type != ET_DYN) ||
		 (!program.entry && !program.loader[0]))
		run_because(ret_reason, "it is an ELF file, but not a program");
	else if (program.go)
		run_because(ret_reason,
			    "it is a Go program%s: it calls the kernel past every library",
			    program.loader[0] ? "" : ", statically linked");
	else if (!program.loader[0])
		run_because(ret_reason,
			    "it is statically linked: no library can be loaded into it");
	else if (strcmp(base_name(program.loader), base_name(self.loader)) != 0)
		return foreign(ret_reason, program.loader, self.loader);
	else if (access(program.loader, X_OK) < 0)
		return missing(ret_reason, "loader", program.loader);
	else
		return 0;
	return -ENOEXEC;
}

/* A file's privileges that the kernel will not give. */
static bool identity_kept(const char *path)
{
	struct statvfs fs;

	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ||
	       (statvfs(path, &fs) == 0 && (fs.f_flag & ST_NOSUID));
}

/*
 * The loader ignores LD_PRELOAD for a program that changes identity. root
 * running a file of root's changes nothing, but what root may run and
 * others may not would only hide the trap. A file says so that cannot be read, too.
 */
static int check_identity(const char *path, struct run_reason *ret_reason)
{
	struct stat st;

	if (stat(path, &st) < 0 || identity_kept(path))
		return 0;
	if (st.st_mode & S_ISUID)
		run_because(ret_reason, "it is setuid: the loader ignores LD_PRELOAD for it");
	else if ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
		run_because(ret_reason, "it is setgid: the loader ignores LD_PRELOAD for it");
	else if (getxattr(path, "security.capability", NULL, 0) > 0)
		run_because(ret_reason,
			    "it has file capabilities: the loader ignores LD_PRELOAD for it");
	else
		return 0;
	return -EPERM;
}

/* "/path [argument]" of "#! /path [argument]", in place; NULL if there is none. */
static char *script_interpreter(char *line)
{
	char *start = line + 2 + strspn(line + 2, " \t");

	start[strcspn(start, "\n")] = '\0';
	return start[0] ? start : NULL;
}

/* Does env(1) take LD_PRELOAD away? @rest: its arguments. */
static bool env_clears(const char *rest)
{
	size_t len;

	for (; rest && *rest; rest += len) {
		rest += strspn(rest, " \t");
		len = strcspn(rest, " \t");
		if ((len == 1 && rest[0] == '-') || (len == 2 && strncmp(rest, "-i", 2) == 0) ||
		    (len == 3 && strncmp(rest, "-iS", 3) == 0))
			return true;
		if (rest[0] != '-')
			return false;
	}
	return false;
}

/* "python3" of "/usr/bin/env -S python3 -u", at @rest; NULL: hard to say. */
static char *env_command(char *rest)
{
	char *word;

	while ((word = strsep(&rest, " \t"))) {
		if (strcmp(word, "-S") == 0 || strcmp(word, "--split-string") == 0 || !word[0])
			continue;
		if (strncmp(word, "-S", 2) == 0)
			return word + 2;
		if (word[0] == '-')
			return NULL;
		if (!strchr(word, '='))
			return word;
	}
	return NULL;
}

/* Leaves in @path the file that interprets the script with that first line: of
 * env(1) it is the program that env runs. */
static int script_follow(char *line, char *path, size_t path_len, struct run_reason *ret_reason)
{
	char *rest = line, *interpreter = strsep(&rest, " \t"), *command = NULL, found[PATH_MAX];

	if (strcmp(base_name(interpreter), "env") == 0) {
		if (env_clears(rest)) {
			run_because(ret_reason,
				    "its interpreter is %s, which clears the environment, "
				    "and with it LD_PRELOAD",
				    interpreter);
			return -EPERM;
		}
		command = env_command(rest);
	}
	if (command && run_command_find(command, found, sizeof(found)) == 0)
		snprintf(path, path_len, "%s", found);
	else
		snprintf(path, path_len, "%s", interpreter);
	return 0;
}

static bool is_text(const char *head, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (iscntrl((unsigned char)head[i]) && !isspace((unsigned char)head[i]))
			return false;
	return true;
}

/* Leaves in @path who runs the script that begins with @head; -ENOEXEC: it is none. */
static int check_script(char *head, size_t head_len, char *path, size_t path_len,
			struct run_reason *ret_reason)
{
	bool text = is_text(head, head_len);
	char *line = strncmp(head, "#!", 2) == 0 ? script_interpreter(head) : NULL;

	if (line && line[strlen(line) - 1] == '\r') {
		run_because(ret_reason,
			    "its first line ends in a carriage return, which the kernel "
			    "takes for a part of it: remove that");
		return -ENOENT;
	}
	if (line)
		return script_follow(line, path, path_len, ret_reason);
	if (!text) {
		run_because(ret_reason, "it is neither an ELF program nor a script");
		return -ENOEXEC;
	}
	snprintf(path, path_len, SHELL); /* as execvp() does it */
	return 0;
}

/* Looks at one file; if it is a script, leaves its interpreter in @path. */
static int check_file(int fd, char *path, size_t path_len, bool *ret_script,
		      struct run_reason *ret_reason)
{
	char head[SCRIPT_LINE_LEN + 1];
	ssize_t head_len = pread(fd, head, SCRIPT_LINE_LEN, 0);
	int error;

	*ret_script = false;
	if (head_len < 0) {
		run_because(ret_reason, "it cannot be read: %s", strerror(errno));
		return -ENOEXEC;
	}
	head[head_len] = '\0';
	if (head_len >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0) {
		error = check_identity(path, ret_reason);
		return error ? error : check_program(fd, ret_reason);
	}
	*ret_script = true;
	return check_script(head, (size_t)head_len, path, path_len, ret_reason);
}

/* The same of a file that may perhaps be executed, but not read. */
static int check_path(char *path, size_t path_len, bool *ret_script, struct run_reason *ret_reason)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), error;

	*ret_script = false;
	if (access(path, X_OK) < 0 || (fd < 0 && errno != EACCES))
		error = missing(ret_reason, "interpreter", path);
	else if (fd < 0)
		error = check_identity(path, ret_reason);
	else
		error = check_file(fd, path, path_len, ret_script, ret_reason);
	if (fd >= 0)
		close(fd);
	return error;
}

/**
 * run_cover_check() - can the program at @path be run under libcanal?
 * @ret_program: PATH_MAX; the ELF program that runs: that of a script is its interpreter
 *
 * Return: 0, or -errno with a line in @ret_reason; -ENOENT: without canal it cannot be run either.
 */
int run_cover_check(const char *path, char *ret_program, struct run_reason *ret_reason)
{
	struct run_reason reason = { "its interpreters are scripts without end" };
	char *file = ret_program;
	int error = -ELOOP;

	snprintf(file, PATH_MAX, "%s", path);
	for (int depth = 0; depth < SCRIPT_DEPTH; depth++) {
		char looked_at[PATH_MAX];
		bool script;

		memcpy(looked_at, file, sizeof(looked_at));
		error = check_path(file, PATH_MAX, &script, &reason);
		if (error && error != -ENOENT && depth > 0)
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
