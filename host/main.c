/* SPDX-License-Identifier: MIT */
/*
 * canald: runs the sockets of guests.
 *
 * Purpose: options, start and stop. A guest is served by a poller; this thread
 * waits for new ones and for signals (control.c).
 *
 * Invariants
 *  1. What was started before a failure is undone: either canald says READY=1
 *     or nothing is left of it.
 *  2. SIGTERM and SIGINT are taken by the main thread only, from before the
 *     first other thread. A second one, while what was accepted is drained,
 *     ends canald at once.
 *
 * Ownership and threads: the main thread.
 *
 * Failure: one line that says what and what to do, and exit status 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "guest.h"
#include "option.h"
#include "output.h"
#include "paths.h"
#include "portmap.h"

#define RESOLVE_THREADS 4

static const char usage[] =
	"usage: canald [OPTION...]\n"
	"\n"
	"Runs the sockets of programs that use libcanal, in the foreground.\n"
	"\n"
	"  -c, --config FILE       read settings and guests from FILE; options go before them\n"
	"  -s, --socket PATH       listen at PATH\n"
	"  -e, --engine ENGINE     io_uring, epoll or auto\n"
	"  -p, --poll MODE         always, adaptive or never\n"
	"  -C, --cpu LIST          one poller on each of these CPUs, such as 0,2-3\n"
	"  -l, --log-level LEVEL   err, warning, notice, info or debug\n"
	"  -i, --idle-exit S       end after S seconds without a guest\n"
	"      --no-join           do not connect guests in memory\n"
	"      --check FILE        say what is wrong in a configuration file, and exit\n"
	"  -h, --help              print this and exit\n"
	"  -V, --version           print the version and exit\n"
	"\n"
	"Without --config: " CONFIG_DEFAULT ", if it is there.\n";

enum { OPTION_CHECK = 256, OPTION_NO_JOIN };

static const struct option options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "socket", required_argument, NULL, 's' },
	{ "engine", required_argument, NULL, 'e' },
	{ "poll", required_argument, NULL, 'p' },
	{ "cpu", required_argument, NULL, 'C' },
	{ "log-level", required_argument, NULL, 'l' },
	{ "idle-exit", required_argument, NULL, 'i' },
	{ "no-join", no_argument, NULL, OPTION_NO_JOIN },
	{ "check", required_argument, NULL, OPTION_CHECK },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ 0 },
};
/* the first colon: a missing value is told apart from an unknown option */
static const char short_options[] = ":c:s:e:p:C:l:i:hV";

/* --- options ----------------------------------------------------------- */

__attribute__((noreturn)) static void usage_error(const char *which, const char *what)
{
	host_log(LOG_ERR, "%s%s, see 'canald --help'", which, what);
	exit(EXIT_FAILURE);
}

__attribute__((noreturn)) static void option_bad(char **argv, int result)
{
	char fault[256];

	canal_option_fault(fault, sizeof(fault), result, argv, short_options);
	usage_error(fault, "");
}

/* The key of the configuration file that an option stands for. */
static const char *option_key(int option)
{
	switch (option) {
	case 's':
		return "socket";
	case 'e':
		return "engine";
	case 'p':
		return "poll";
	case 'C':
		return "cpu";
	case 'l':
		return "log_level";
	case 'i':
		return "idle_exit";
	default:
		return "join";
	}
}

static const char *option_name(int option)
{
	const struct option *o = options;

	while (o->val != option)
		o++;
	return o->name;
}

static void option_set(int option, const char *value)
{
	const char *expected = "";

	if (option == 'C') /* before a number of pollers that the file has */
		settings.pollers = 0;
	if (config_set(&settings, option_key(option), value, &expected) == 0)
		return;
	host_log(LOG_ERR, "--%s %s: expected %s", option_name(option), value, expected);
	exit(EXIT_FAILURE);
}

/* First the options that come before the file, then (@values) those after it. */
static void options_walk(int argc, char **argv, bool values, const char **ret_check)
{
	int option;

	optind = 1;
	opterr = 0;
	while ((option = getopt_long(argc, argv, short_options, options, NULL)) != -1) {
		switch (option) {
		case 'c':
			settings.config_path = optarg;
			break;
		case 'h':
			fputs(usage, stdout);
			canal_output_exit("canald", EXIT_SUCCESS, EXIT_FAILURE);
		case 'V':
			puts("canald " CANAL_VERSION);
			canal_output_exit("canald", EXIT_SUCCESS, EXIT_FAILURE);
		case OPTION_CHECK:
			*ret_check = optarg;
			break;
		case ':':
		case '?':
			option_bad(argv, option);
		default:
			if (values)
				option_set(option, option == OPTION_NO_JOIN ? "no" : optarg);
		}
	}
	if (optind < argc)
		usage_error(argv[optind], ": canald takes no argument");
}

static void options_parse(int argc, char **argv)
{
	const char *check = NULL;

	options_walk(argc, argv, false, &check);
	if (check)
		canal_output_exit("canald", config_check(check) ? EXIT_FAILURE : EXIT_SUCCESS,
				  EXIT_FAILURE);
	if (!settings.config_path && access(CONFIG_DEFAULT, F_OK) == 0)
		settings.config_path = CONFIG_DEFAULT;
	if (settings.config_path && config_read(&settings, settings.config_path))
		exit(EXIT_FAILURE);
	options_walk(argc, argv, true, &check);
	if (!settings.pollers)
		settings.pollers = settings.cpu_count ? settings.cpu_count : 1;
}

/* --- where to listen --------------------------------------------------- */

static int socket_dir_make(char *dir, size_t dir_len)
{
	bool root = geteuid() == 0;
	int error = root ? canal_paths_dir(1, dir, dir_len) : canal_paths_private_dir(dir, dir_len);

	if (error)
		return error;
	if (mkdir(dir, root ? 0755 : 0700) < 0 && errno != EEXIST)
		return -errno;
	return root || canal_paths_is_private(dir) ? 0 : -EPERM;
}

static int socket_default(void)
{
	char dir[CANAL_PATHS_LEN] = "";
	int error;

	if (settings.socket_path[0])
		return 0;
	error = socket_dir_make(dir, sizeof(dir));
	if (!error)
		error = canal_paths_socket_in(dir, settings.socket_path,
					      sizeof(settings.socket_path));
	if (error) {
		host_log(LOG_ERR, "%s: %s: give --socket", dir, strerror(-error));
	}
	return error;
}

/* --- start and stop ---------------------------------------------------- */

/* Two descriptors for each connection: as many as the administrator allows. */
static void limits_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int engine_try(const struct engine_ops *ops)
{
	struct engine *engine;
	int error = ops->open(&engine);

	if (!error)
		ops->close(engine);
	return error;
}

static const char *engine_hint(int error)
{
	return error == -EPERM || error == -EACCES
		       ? " (sysctl kernel.io_uring_disabled, or a seccomp filter)"
		       : "";
}

static int engine_choose(void)
{
	const struct engine_ops *wanted = settings.engine ? settings.engine : &engine_uring;
	int error = engine_try(wanted);

	if (error && settings.engine) {
		host_log(LOG_ERR, "engine %s does not work here: %s%s: choose another --engine",
			 wanted->name, strerror(-error), engine_hint(error));
		return error;
	}
	if (error)
		host_log(LOG_NOTICE, "engine io_uring does not work here: %s%s: using epoll",
			 strerror(-error), engine_hint(error));
	settings.engine = error ? &engine_epoll : wanted;
	return 0;
}

static void pollers_stop(void)
{
	for (unsigned int i = 0; i < poller_count; i++)
		poller_stop(&pollers[i]);
	for (unsigned int i = 0; i < poller_count; i++)
		poller_join(&pollers[i]);
	poller_count = 0;
	free(pollers);
	pollers = NULL;
}

static int pollers_start(void)
{
	int error = 0;

	pollers = calloc(settings.pollers, sizeof(*pollers));
	if (!pollers)
		return -ENOMEM;
	while (!error && poller_count < settings.pollers) {
		error = poller_start(&pollers[poller_count], poller_count,
				     settings.cpus[poller_count], settings.engine, settings.poll);
		if (!error)
			poller_count++;
	}
	if (error)
		pollers_stop();
	return error;
}

static void settle_kernel(void)
{
	settings.heavy = heavy_fence_works();
	settings.udplite = udplite_works();
}

static int workers_start(void)
{
	int error;

	settle_kernel();
	fds_start();
	error = portmap_start();
	if (!error)
		error = closer_start();
	if (!error)
		error = pollers_start();
	if (!error) {
		error = resolve_start(RESOLVE_THREADS);
		if (!error)
			error = guests_start();
		if (!error)
			error = ivshmem_start();
		if (error) {
			ivshmem_stop();
			resolve_stop();
			pollers_stop();
			ivshmem_end();
		}
	}
	if (error) {
		closer_stop();
		host_log(LOG_ERR, "cannot start: %s%s", strerror(-error), fds_remedy(error));
	}
	return error;
}

/* What is logged goes into no socket, whatever canald was started with. */
static void descriptors_fill(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* Writes to pipes and sockets that nobody reads are told by errno. */
static void signals_ignore(void)
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };

	sigaction(SIGPIPE, &ignore, NULL);
	sigaction(SIGHUP, &ignore, NULL);
}

static void second_signal_kills(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
}

static int serve(void)
{
	int error;

	sd_notifyf(0, "READY=1\nSTATUS=Listening on %s", settings.socket_path);
	host_log(LOG_INFO, "version %s, listening on %s, engine %s, poll %s, pollers %u",
		 CANAL_VERSION, settings.socket_path, settings.engine->name,
		 poll_mode_name[settings.poll], poller_count);
	error = control_run();
	if (error)
		host_log(LOG_ERR, "main loop: %s: ending", strerror(-error));
	sd_notify(0, "STOPPING=1");
	ivshmem_stop();
	control_stop();
	second_signal_kills();
	resolve_stop();
	pollers_stop();
	ivshmem_end();
	guests_stop();
	portmap_stop();
	closer_stop();
	return error;
}

int main(int argc, char **argv)
{
	int error;

	options_parse(argc, argv);
	descriptors_fill();
	stats_start();
	limits_raise();
	signals_ignore();
	if (socket_default() || engine_choose() || control_start())
		return EXIT_FAILURE;
	error = workers_start();
	if (error)
		control_stop();
	else
		error = serve();
	control_remove();
	return error ? EXIT_FAILURE : EXIT_SUCCESS;
}
