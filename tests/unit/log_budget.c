/* SPDX-License-Identifier: MIT */
/* host/log.c: what one guest makes canald say never takes the place of another's. */
#include "cmocka_begin.h"

#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "host.h"

/* More than any budget. */
#define MANY 1000

/* What @MANY lines of "loud" and then one of "quiet" leave on standard error. */
static void said(char *ret_text, size_t len)
{
	int kept = dup(STDERR_FILENO), pipe_fd[2];
	ssize_t got;

	assert_true(kept >= 0);
	assert_int_equal(pipe(pipe_fd), 0);
	assert_int_equal(dup2(pipe_fd[1], STDERR_FILENO), STDERR_FILENO);
	close(pipe_fd[1]);
	for (int i = 0; i < MANY; i++)
		host_log_limited("loud", LOG_WARNING, "guest=loud: again");
	host_log_limited("quiet", LOG_WARNING, "guest=quiet: once");
	dup2(kept, STDERR_FILENO);
	close(kept);
	got = read(pipe_fd[0], ret_text, len - 1);
	close(pipe_fd[0]);
	assert_true(got > 0);
	ret_text[got] = '\0';
}

static void each_guest_has_its_own(void **state)
{
	unsigned int loud = 0;
	char text[65536];

	(void)state;
	settings.log_level = LOG_INFO;
	said(text, sizeof(text));
	for (const char *p = text; (p = strstr(p, "guest=loud: again")); p++)
		loud++;
	assert_in_range(loud, 1, MANY / 10);
	assert_non_null(strstr(text, "guest=quiet: once"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_guest_has_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
