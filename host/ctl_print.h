/* SPDX-License-Identifier: MIT */
/*
 * Answers of canald, for people: one function for each command of canalctl.
 */
#ifndef CANAL_CTL_PRINT_H
#define CANAL_CTL_PRINT_H

#include <jansson.h>

void print_status(const json_t *answer);
void print_ports(const json_t *answer);
void print_sockets(const json_t *answer);

#endif
