/* SPDX-License-Identifier: MIT */
/* cmocka.h wants these before it. */
#ifndef CANAL_TEST_CMOCKA_BEGIN_H
#define CANAL_TEST_CMOCKA_BEGIN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
