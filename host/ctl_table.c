/* SPDX-License-Identifier: MIT */
/*
 * Tables for a terminal.
 *
 * Invariants
 *	1. What reaches the terminal is printable: guests choose some of the text,
 *	   and a terminal obeys control characters.
 *
 * Failure
 *	Without memory the program ends with one line.
 */
#include <ctype.h>
#include <err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl_table.h"

void table_add(struct table *table, const char *format, ...)
{
	size_t column_count = strlen(table->columns);
	size_t row = table->cell_count / column_count, column = table->cell_count % column_count;
	va_list args;
	char *text;

	if (column == 0)
		table->rows = reallocarray(table->rows, row + 1, sizeof(*table->rows));
	va_start(args, format);
	if (!table->rows || vasprintf(&text, format, args) < 0)
		err(EXIT_FAILURE, NULL);
	va_end(args);
	for (char *c = text; *c; c++)
		if (!isprint((unsigned char)*c))
			*c = '?';
	table->rows[row][column] = text;
	table->cell_count++;
}

void table_print(struct table *table)
{
	size_t column_count = strlen(table->columns), row_count = table->cell_count / column_count;
	int width[TABLE_COLUMNS] = { 0 };

	for (size_t row = 0; row < row_count; row++)
		for (size_t column = 0; column < column_count; column++)
			if ((int)strlen(table->rows[row][column]) > width[column])
				width[column] = (int)strlen(table->rows[row][column]);
	for (size_t row = 0; row < row_count; row++) {
		for (size_t column = 0; column < column_count; column++) {
			int last = column + 1 == column_count;
			int left = table->columns[column] == 'l';

			printf("%*s%s", left ? (last ? 0 : -width[column]) : width[column],
			       table->rows[row][column], last ? "\n" : "  ");
			free(table->rows[row][column]);
		}
	}
	free(table->rows);
	table->rows = NULL;
	table->cell_count = 0;
}
