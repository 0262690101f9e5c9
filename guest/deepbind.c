/* SPDX-License-Identifier: MIT */
/*
 * Libraries that are loaded with RTLD_DEEPBIND.
 *
 * Purpose: such a library, and what it brings along, looks for functions in itself and its
 * own libraries first, so it finds libc's socket() and not ours: PHP loads all its extensions
 * that way. Where it would have found libc's, it is given ours.
 *
 * Invariants
 *  1. Only a reference to libc's own function is changed: what the library defines itself, or
 *     another of its libraries, stays, as that is what RTLD_DEEPBIND is for.
 *  2. Pages that are read-only when dlopen() returns are read-only again.
 *
 * Ownership and threads: any thread; each word is stored whole.
 *
 * Failure: what cannot be read or written stays as it is: its calls go past libcanal, as do
 * those that its constructors made.
 */
#include "deepbind.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"
#include "sys.h"

#if defined(__x86_64__) && !defined(__ILP32__)
#define BY_TABLE R_X86_64_GLOB_DAT
#define BY_CALL R_X86_64_JUMP_SLOT
#define BY_POINTER R_X86_64_64
#elif defined(__aarch64__)
#define BY_TABLE R_AARCH64_GLOB_DAT
#define BY_CALL R_AARCH64_JUMP_SLOT
#define BY_POINTER R_AARCH64_ABS64
#else
#define BY_TABLE UINT32_MAX
#define BY_CALL UINT32_MAX
#define BY_POINTER UINT32_MAX
#endif

#define PAGE 4096ul

/* What of an object's dynamic section is needed here; its addresses are the loader's. */
struct object {
	uintptr_t base;
	const ElfW(Sym) * symbols;
	const char *names;
	const uint32_t *hash;
	const ElfW(Rela) * table[2];
	size_t table_len[2];
	uintptr_t relro, relro_len;
};

static void dynamic_read(struct object *o, const ElfW(Dyn) * entry)
{
	for (; entry->d_tag != DT_NULL; entry++) {
		const void *at = (const void *)entry->d_un.d_ptr;

		switch (entry->d_tag) {
		case DT_SYMTAB:
			o->symbols = at;
			break;
		case DT_STRTAB:
			o->names = at;
			break;
		case DT_GNU_HASH:
			o->hash = at;
			break;
		case DT_RELA:
			o->table[0] = at;
			break;
		case DT_RELASZ:
			o->table_len[0] = entry->d_un.d_val;
			break;
		case DT_JMPREL:
			o->table[1] = at;
			break;
		case DT_PLTRELSZ:
			o->table_len[1] = entry->d_un.d_val;
			break;
		}
	}
}

/* --- what we export ------------------------------------------------------ */

static uint32_t hash_of(const char *name)
{
	uint32_t hash = 5381;

	for (; *name; name++)
		hash = hash * 33 + (unsigned char)*name;
	return hash;
}

/* Our function of that name, by our DT_GNU_HASH; NULL: none. */
static void *own_function(const struct object *us, const char *name)
{
	const uint32_t buckets = us->hash[0], first = us->hash[1], blooms = us->hash[2];
	const uint32_t *bucket = us->hash + 4 + blooms * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
	const uint32_t *chain = bucket + buckets, hash = hash_of(name);

	for (uint32_t i = bucket[hash % buckets]; i >= first; i++) {
		uint32_t one = chain[i - first];

		if ((one | 1) == (hash | 1) && !strcmp(us->names + us->symbols[i].st_name, name))
			return (void *)(us->base + us->symbols[i].st_value);
		if (one & 1)
			break;
	}
	return NULL;
}

static bool own_read(struct object *us)
{
	struct link_map *map;
	Dl_info info;

	*us = (struct object){ .base = 0 };
	if (!dladdr1(&real_calls, &info, (void **)&map, RTLD_DL_LINKMAP))
		return false;
	us->base = map->l_addr;
	dynamic_read(us, map->l_ld);
	return us->symbols && us->names && us->hash && us->hash[0];
}

/* --- one object ------------------------------------------------------------ */

struct walk {
	struct object us;
	void *handle;
	uintptr_t first; /* address of the object that was asked for: new ones come behind it */
	bool begun;
};

/* What is to be in the place of the function: ours instead of libc's. */
static void *replacement(const struct walk *w, const struct object *o, const ElfW(Rela) * r)
{
	const uint32_t type = (uint32_t)ELF64_R_TYPE(r->r_info);
	const ElfW(Sym) *symbol = &o->symbols[ELF64_R_SYM(r->r_info)];
	void *ours;

	if (type != BY_TABLE && type != BY_CALL && (type != BY_POINTER || r->r_addend))
		return NULL;
	if (symbol->st_shndx != SHN_UNDEF || !symbol->st_name)
		return NULL;
	ours = own_function(&w->us, o->names + symbol->st_name);
	if (!ours || dlsym(w->handle, o->names + symbol->st_name) !=
			     dlsym(RTLD_NEXT, o->names + symbol->st_name))
		return NULL;
	return ours;
}

static void protect(const struct object *o, int how)
{
	uintptr_t from = o->relro & ~(PAGE - 1), to = (o->relro + o->relro_len) & ~(PAGE - 1);

	(void)sys_call4(SYS_mprotect, from, to - from, how, 0);
}

static void object_bind(const struct walk *w, const struct object *o)
{
	bool opened = false;

	for (int t = 0; t < 2; t++) {
		for (size_t i = 0; i < o->table_len[t] / sizeof(*o->table[t]); i++) {
			uintptr_t *slot = (uintptr_t *)(o->base + o->table[t][i].r_offset);
			void *ours = replacement(w, o, &o->table[t][i]);

			if (!ours || canal_read_once(slot) == (uintptr_t)ours)
				continue;
			if (!opened && o->relro_len)
				protect(o, PROT_READ | PROT_WRITE);
			opened = true;
			canal_write_once(slot, (uintptr_t)ours);
		}
	}
	if (opened && o->relro_len)
		protect(o, PROT_READ);
}

static int object_look(struct dl_phdr_info *info, size_t len, void *arg)
{
	struct object o = { .base = info->dlpi_addr };
	struct walk *w = arg;

	(void)len;
	w->begun |= o.base == w->first;
	if (!w->begun || o.base == w->us.base)
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_DYNAMIC)
			dynamic_read(&o, (const void *)(o.base + p->p_vaddr));
		if (p->p_type == PT_GNU_RELRO) {
			o.relro = o.base + p->p_vaddr;
			o.relro_len = p->p_memsz;
		}
	}
	/* the kernel's own object has addresses that nobody has moved */
	if (o.symbols && o.names && (uintptr_t)o.symbols >= o.base)
		object_bind(w, &o);
	return 0;
}

void deepbind_take(void *handle)
{
	struct walk w = { .handle = handle };
	struct link_map *map;

	if (!own_read(&w.us) || dlinfo(handle, RTLD_DI_LINKMAP, &map))
		return;
	w.first = map->l_addr;
	(void)dl_iterate_phdr(object_look, &w);
	(void)dlerror(); /* of ours: the program's dlopen() went well */
}
