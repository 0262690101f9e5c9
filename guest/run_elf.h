/* SPDX-License-Identifier: MIT */
/*
 * What canal-run wants to know of an ELF file; over libelf.
 */
#ifndef CANAL_RUN_ELF_H
#define CANAL_RUN_ELF_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

struct elf_facts {
	unsigned char elf_class, data; /* EI_CLASS, EI_DATA */
	unsigned int machine, type;    /* EM_, ET_ */
	char loader[PATH_MAX];         /* PT_INTERP; empty: statically linked */
	bool entry;                    /* says where it begins: a library need not */
	bool go;                       /* its code was linked by Go */
};

/* 0, or -ENOEXEC for what is no ELF file that can be read. */
int elf_facts_read(int fd, struct elf_facts *ret);

/* The name of a machine for people. */
const char *elf_machine_name(unsigned int machine);

/* Calls @each with every symbol of the dynamic table: imported, or else exported. 0
 * or -ENOEXEC. */
int elf_symbols(int fd, void (*each)(void *arg, const char *name, bool imported), void *arg);

/* System calls in its code that act on sockets, or set io_uring up, as far as their
 * numbers are seen right before them. */
size_t elf_syscalls(int fd);

/* Compiled by Free Pascal: its units have one function that makes any system call. */
bool elf_is_pascal(int fd);

#endif
