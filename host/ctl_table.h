/* SPDX-License-Identifier: MIT */
/*
 * A table of text whose columns are as wide as what is in them.
 */
#ifndef CANAL_CTL_TABLE_H
#define CANAL_CTL_TABLE_H

#include <stddef.h>

#define TABLE_COLUMNS 8

struct table {
	const char *columns; /* a letter for each, at most TABLE_COLUMNS: 'l' left, 'r' right */
	char *(*rows)[TABLE_COLUMNS];
	size_t cell_count;
};

/* Adds a cell to the last row, or to a new one when that is full. */
__attribute__((format(printf, 2, 3))) void table_add(struct table *table, const char *format, ...);

/* Prints the table and gives its memory back. */
void table_print(struct table *table);

#endif
