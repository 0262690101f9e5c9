/* SPDX-License-Identifier: MIT */
/*
 * canal-run: ELF files, by libelf.
 *
 * Purpose: headers, notes and symbols of a program or a library of any machine.
 *
 * Failure: the file belongs to somebody else and may be anything. libelf checks
 * what it hands out against the file's size; strings are checked here to end.
 */
#include <elf.h>
#include <errno.h>
#include <gelf.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#include "run_elf.h"

#define NOTE_GO "Go"

static Elf *begin(int fd)
{
	Elf *elf;

	if (elf_version(EV_CURRENT) == EV_NONE)
		return NULL;
	elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
	if (elf && elf_kind(elf) != ELF_K_ELF) {
		elf_end(elf);
		elf = NULL;
	}
	return elf;
}

/* --- headers ------------------------------------------------------------ */

static bool note_is_go(Elf *elf, const GElf_Phdr *segment)
{
	Elf_Data *data = elf_getdata_rawchunk(elf, (int64_t)segment->p_offset, segment->p_filesz,
					      ELF_T_NHDR);
	size_t at = 0, name_at, desc_at;
	GElf_Nhdr note;

	while (data && (at = gelf_getnote(data, at, &note, &name_at, &desc_at)) > 0)
		if (note.n_namesz >= sizeof(NOTE_GO) &&
		    memcmp((char *)data->d_buf + name_at, NOTE_GO, sizeof(NOTE_GO)) == 0)
			return true;
	return false;
}

static void loader_read(Elf *elf, const GElf_Phdr *segment, struct elf_facts *facts)
{
	Elf_Data *data;

	if (segment->p_filesz >= sizeof(facts->loader))
		return;
	data = elf_getdata_rawchunk(elf, (int64_t)segment->p_offset, segment->p_filesz, ELF_T_BYTE);
	if (!data)
		return;
	memcpy(facts->loader, data->d_buf, data->d_size);
	facts->loader[data->d_size] = '\0';
}

/* False: the file does not have all that it says. */
static bool segments_read(Elf *elf, const GElf_Ehdr *header, struct elf_facts *facts)
{
	GElf_Phdr segment;
	size_t count;

	if (elf_getphdrnum(elf, &count) < 0 ||
	    (count != header->e_phnum && header->e_phnum != PN_XNUM))
		return false;
	for (size_t i = 0; i < count && i < INT_MAX; i++) {
		if (!gelf_getphdr(elf, (int)i, &segment))
			return false;
		if (segment.p_type == PT_INTERP)
			loader_read(elf, &segment, facts);
		else if (segment.p_type == PT_NOTE)
			facts->go |= note_is_go(elf, &segment);
	}
	return true;
}

/* Where the note was stripped: Go's tables are needed by its runtime. */
static void sections_read(Elf *elf, struct elf_facts *facts)
{
	Elf_Scn *section = NULL;
	GElf_Shdr header;
	size_t names;

	if (elf_getshdrstrndx(elf, &names) < 0)
		return;
	while ((section = elf_nextscn(elf, section))) {
		const char *name = gelf_getshdr(section, &header)
					   ? elf_strptr(elf, names, header.sh_name)
					   : NULL;

		if (name && (strcmp(name, ".gopclntab") == 0 || strcmp(name, ".go.buildinfo") == 0))
			facts->go = true;
	}
}

int elf_facts_read(int fd, struct elf_facts *ret)
{
	Elf *elf = begin(fd);
	GElf_Ehdr header;
	bool whole;

	if (!elf || !gelf_getehdr(elf, &header)) {
		elf_end(elf);
		return -ENOEXEC;
	}
	*ret = (struct elf_facts){
		.elf_class = header.e_ident[EI_CLASS],
		.data = header.e_ident[EI_DATA],
		.machine = header.e_machine,
		.type = header.e_type,
		.entry = header.e_entry != 0,
	};
	whole = segments_read(elf, &header, ret);
	sections_read(elf, ret);
	elf_end(elf);
	return whole ? 0 : -ENOEXEC;
}

const char *elf_machine_name(unsigned int machine)
{
	switch (machine) {
	case EM_386:
		return "i386";
	case EM_X86_64:
		return "x86-64";
	case EM_ARM:
		return "arm";
	case EM_AARCH64:
		return "arm64";
	case EM_RISCV:
		return "riscv";
	case EM_PPC64:
		return "ppc64";
	case EM_S390:
		return "s390";
	default:
		return "another machine";
	}
}

/* --- symbols ------------------------------------------------------------- */

static void table_read(Elf *elf, Elf_Scn *section, const GElf_Shdr *header,
		       void (*each)(void *arg, const char *name, bool imported), void *arg)
{
	Elf_Data *data = elf_getdata(section, NULL);
	size_t count = header->sh_entsize ? header->sh_size / header->sh_entsize : 0;
	GElf_Sym symbol;

	for (size_t i = 0; data && i < count && i < INT_MAX; i++) {
		const char *name;

		if (!gelf_getsym(data, (int)i, &symbol))
			return;
		name = elf_strptr(elf, header->sh_link, symbol.st_name);
		if (name && name[0] && GELF_ST_BIND(symbol.st_info) != STB_LOCAL)
			each(arg, name, symbol.st_shndx == SHN_UNDEF);
	}
}

int elf_symbols(int fd, void (*each)(void *arg, const char *name, bool imported), void *arg)
{
	Elf *elf = begin(fd);
	Elf_Scn *section = NULL;
	GElf_Shdr header;

	if (!elf)
		return -ENOEXEC;
	while ((section = elf_nextscn(elf, section)))
		if (gelf_getshdr(section, &header) && header.sh_type == SHT_DYNSYM)
			table_read(elf, section, &header, each, arg);
	elf_end(elf);
	return 0;
}

/* --- code ------------------------------------------------------------------ */

#define LOOK_BACK 24 /* bytes in front of the instruction, in which its number is loaded */

/* Does the system call of that number act on sockets? On io_uring, as well. */
static bool acts_on_sockets(uint32_t number)
{
	static const uint16_t numbers[] = {
		SYS_socket,        SYS_bind,       SYS_listen,      SYS_accept,
		SYS_accept4,       SYS_connect,    SYS_sendto,      SYS_recvfrom,
		SYS_sendmsg,       SYS_recvmsg,    SYS_sendmmsg,    SYS_recvmmsg,
		SYS_shutdown,      SYS_getsockopt, SYS_setsockopt,  SYS_getsockname,
		SYS_getpeername,   SYS_epoll_ctl,  SYS_epoll_pwait, SYS_io_uring_setup,
		SYS_io_uring_enter
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (numbers[i] == number)
			return true;
	return false;
}

/* The number that is loaded in front of the instruction at @at; 0: not seen. */
static uint32_t number_before(const uint8_t *start, const uint8_t *at)
{
#if defined(__x86_64__)
	for (const uint8_t *p = at - 5; p >= start && p >= at - LOOK_BACK; p--)
		if (p[0] == 0xb8 && !p[3] && !p[4]) /* mov $number, %eax */
			return p[1] | (uint32_t)p[2] << 8;
#elif defined(__aarch64__)
	for (const uint8_t *p = at - 4; p >= start && p >= at - LOOK_BACK; p -= 4) {
		uint32_t code;

		memcpy(&code, p, sizeof(code));
		if ((code & 0x7fe0001f) == 0x52800008) /* mov w8, #number */
			return code >> 5 & 0xffff;
	}
#else
	(void)start;
	(void)at;
#endif
	return 0;
}

static size_t count_syscalls(const Elf_Data *data)
{
#if defined(__aarch64__)
	static const uint8_t code[] = { 0x01, 0x00, 0x00, 0xd4 };
#else
	static const uint8_t code[] = { 0x0f, 0x05 };
#endif
	const uint8_t *start = data->d_buf, *at = start, *end = start + data->d_size;
	size_t count = 0;

	while (at < end && (at = memmem(at, (size_t)(end - at), code, sizeof(code)))) {
		count += acts_on_sockets(number_before(start, at));
		at += sizeof(code);
	}
	return count;
}

size_t elf_syscalls(int fd)
{
	Elf *elf = begin(fd);
	Elf_Scn *section = NULL;
	GElf_Shdr header;
	size_t count = 0;

	while (elf && (section = elf_nextscn(elf, section))) {
		Elf_Data *data;

		if (!gelf_getshdr(section, &header) || !(header.sh_flags & SHF_EXECINSTR) ||
		    header.sh_type != SHT_PROGBITS)
			continue;
		data = elf_rawdata(section, NULL);
		if (data && data->d_buf)
			count += count_syscalls(data);
	}
	elf_end(elf);
	return count;
}

bool elf_is_pascal(int fd)
{
	Elf *elf = begin(fd);
	Elf_Scn *section = NULL;
	GElf_Shdr header;
	bool found = false;
	size_t names;

	while (elf && !found && elf_getshdrstrndx(elf, &names) == 0 &&
	       (section = elf_nextscn(elf, section))) {
		const char *name = gelf_getshdr(section, &header)
					   ? elf_strptr(elf, names, header.sh_name)
					   : NULL;

		found = name && strcmp(name, ".fpcdata") == 0;
	}
	elf_end(elf);
	return found;
}
