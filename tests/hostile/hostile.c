/* SPDX-License-Identifier: MIT */
/*
 * usage: hostile SOCKET PART[/NAME] SEED [VICTIM-PORT [RAM]]
 *
 * One part of what guest.h lists; with NAME one case of it only. With RAM, a path,
 * it is a virtual machine whose RAM is that file: SOCKET is QEMU's. RAM+ is one of
 * more than 4 GiB.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "machine.h"

#define SECONDS_MAX 390

static const struct {
	const char *name;
	void (*run)(uint64_t seed);
} parts[] = {
	{ "cases", run_cases },       { "stalled", run_stalled }, { "chains", run_chains },
	{ "scribble", run_scribble }, { "flip", run_flip },       { "requests", run_requests },
	{ "storm", run_storm },       { "control", run_control }, { "flood", run_flood },
	{ "deaths", run_deaths },     { "lies", run_lies },       { "bells", run_bells },
	{ "mailbox", run_mailbox },   { "vanish", run_vanish },   { "refs", run_refs },
	{ "honest", run_honest },     { "steal", run_steal },     { "kept", run_kept },
	{ "stock", run_stock },       { "depths", run_depths },
};

static void machine_start(char *ram)
{
	static struct machine machine;
	size_t len = strlen(ram);
	bool large = len && ram[len - 1] == '+';

	if (large)
		ram[len - 1] = '\0';
	machine_ram(&machine, ram, large ? 6 * GIB : 512 * MIB);
	machine_connect(&machine);
	the_machine = &machine;
}

int main(int argc, char **argv)
{
	struct rlimit limit;

	if (argc < 4)
		fail("usage: hostile SOCKET PART[/NAME] SEED [VICTIM-PORT]");
	socket_path = argv[1];
	if (argc > 4)
		victim_port = htons((uint16_t)atoi(argv[4]));
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	signal(SIGPIPE, SIG_IGN);
	alarm(SECONDS_MAX);
	if (argc > 5)
		machine_start(argv[5]);
	if (argc > 5 && strcmp(argv[2], "steal"))
		machine_reset(the_machine);
	only = strchr(argv[2], '/');
	if (only)
		*only++ = '\0';
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		if (strcmp(parts[i].name, argv[2]) == 0) {
			parts[i].run(strtoull(argv[3], NULL, 0) * 2 + 1);
			return 0;
		}
	fail("%s: no such part", argv[2]);
}
