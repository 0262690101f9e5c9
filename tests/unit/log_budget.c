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

/* So close to each other they share no budget by chance. */
static const char names[][8] = { "loud", "quiet", "nginx", "nginx" };

/* What @MANY lines of @loud and then one of @quiet leave on standard error. */
static void said(const char *loud, const char *quiet, char *ret_text, size_t len)
{
	int kept = dup(STDERR_FILENO), pipe_fd[2];
	ssize_t got;

	assert_true(kept >= 0);
	assert_int_equal(pipe(pipe_fd), 0);
	assert_int_equal(dup2(pipe_fd[1], STDERR_FILENO), STDERR_FILENO);
	close(pipe_fd[1]);
	for (int i = 0; i < MANY; i++)
		host_log_limited(loud, LOG_WARNING, "guest=%s: again", loud);
	host_log_limited(quiet, LOG_WARNING, "guest=%s: once", quiet);
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
	said(names[0], names[1], text, sizeof(text));
	for (const char *p = text; (p = strstr(p, "guest=loud: again")); p++)
		loud++;
	assert_in_range(loud, 1, MANY / 10);
	assert_non_null(strstr(text, "guest=quiet: once"));
}

/* A name is what the program chose: another user's may have the same. */
static void also_of_the_same_name(void **state)
{
	char text[65536];

	(void)state;
	said(names[2], names[3], text, sizeof(text));
	assert_non_null(strstr(text, "guest=nginx: once"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_guest_has_its_own),
		cmocka_unit_test(also_of_the_same_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
