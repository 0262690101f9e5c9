/* SPDX-License-Identifier: MIT */
/*
 * canal-run: runs a command under libcanal.
 *
 * Purpose
 *	Set the environment that loads libcanal and leads it to canald, then
 *	become the command: no process stays in between, so signals, the exit
 *	status and the process id are the command's own.
 *
 * Invariants
 *	1. Everything that can fail is looked at before the command starts, in the
 *	   order of what it leaves behind: first the command, last a new canald.
 *	2. LD_PRELOAD keeps what was in it.
 *
 * Failure
 *	One line, and the exit status of env(1) and its kin: 125 canal-run itself,
 *	126 the command cannot be run (under canal), 127 there is no such command.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "limit_as.h"
#include "option.h"
#include "output.h"
#include "paths.h"
#include "run.h"

#define LIBRARY "libcanal.so"
#define DEVICE "/dev/canal"
#define PATH_DEFAULT "/usr/local/bin:/usr/bin:/bin"

enum {
	STATUS_FAILED = 125,
	STATUS_CANNOT_RUN = 126,
	STATUS_NOT_FOUND = 127,
	/* of --check */
	STATUS_COVERED = 0,
	STATUS_REMARKS = 1,
	STATUS_NOT_COVERED = 2,
};

static const char usage[] =
	"usage: canal-run [--socket PATH] [--] COMMAND [ARGUMENT...]\n"
	"       canal-run --check COMMAND\n"
	"\n"
	"Runs COMMAND with its sockets in canald.\n"
	"\n"
	"  -s, --socket PATH  use the canald that listens at PATH\n"
	"  -c, --check        do not run COMMAND, but say whether libcanal can cover it: 0 all of\n"
	"                     it, 1 with what is remarked, 2 not\n"
	"  -h, --help         print this and exit\n"
	"  -V, --version      print the version and exit\n"
	"\n"
	"Without --socket: the canald that CANAL_SOCKET names, else in a virtual machine that of its\n"
	"host (" DEVICE
	"), else one that runs already (this user's or the system's), else a new one\n"
	"of this user's own.\n"
	"CANAL_FALLBACK=allow runs COMMAND even where libcanal or canald cannot serve it.\n";

__attribute__((format(printf, 1, 0))) static void say(const char *format, va_list args)
{
	fputs("canal-run: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

__attribute__((format(printf, 1, 2))) static void warn(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
}

__attribute__((noreturn, format(printf, 2, 3))) static void die(int status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
	exit(status);
}

static bool fallback_allowed(void)
{
	const char *fallback = getenv("CANAL_FALLBACK");

	return fallback && strcmp(fallback, "allow") == 0;
}

/* Returns 0 for a file that may be executed, -errno for what execve() would say. */
static int command_check(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) && access(path, X_OK) == 0 ? 0 : -EACCES;
}

int run_command_find(const char *name, char *path, size_t path_len)
{
	const char *dirs = getenv("PATH");
	int error = -ENOENT;

	if (strchr(name, '/') || !name[0]) {
		if (strlen(name) >= path_len)
			return -ENAMETOOLONG;
		strcpy(path, name);
		return command_check(path);
	}
	for (const char *dir = dirs ? dirs : PATH_DEFAULT, *end;; dir = end + 1) {
		end = strchrnul(dir, ':');
		snprintf(path, path_len, "%.*s%s%s", (int)(end - dir), dir, end == dir ? "./" : "/",
			 name);
		int found = command_check(path);

		if (found == 0)
			return 0;
		if (found == -EACCES)
			error = found;
		if (!*end)
			return error;
	}
}

/* Return: false: LD_PRELOAD would keep the command from starting. */
static bool command_cover(const char *path)
{
	char program[PATH_MAX];
	struct run_reason reason;
	int error = run_cover_check(path, program, &reason);

	if (error == 0)
		return true;
	if (error == -ENOENT) /* that is no matter of canal's */
		die(STATUS_CANNOT_RUN, "%s: cannot be run: %s", path, reason.text);
	if (!fallback_allowed())
		die(STATUS_CANNOT_RUN, "%s: cannot be covered: %s; run it without canal-run", path,
		    reason.text);
	warn("%s: not covered: %s; CANAL_FALLBACK=allow, so it runs without canal", path,
	     reason.text);
	return error != -ELIBBAD;
}

/* The file @name in @dir, which is relative to where canal-run itself is. */
static bool beside(const char *dir, const char *name, char *path)
{
	char self[PATH_MAX], joined[PATH_MAX * 2];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (len <= 0)
		return false;
	self[len] = '\0';
	*strrchr(self, '/') = '\0';
	snprintf(joined, sizeof(joined), "%s/%s", self, dir);
	if (!realpath(joined, path) || strlen(path) + strlen(name) + 2 > PATH_MAX)
		return false;
	strcat(strcat(path, "/"), name);
	return access(path, F_OK) == 0;
}

static void library_find(char *path)
{
	if (!beside("../lib", LIBRARY, path)) {
		strcpy(path, CANAL_LIBDIR "/" LIBRARY);
		if (access(path, F_OK) < 0)
			die(STATUS_FAILED,
			    LIBRARY ": neither in ../lib beside canal-run nor in " CANAL_LIBDIR
				    ": install canal-guest");
	}
	if (strpbrk(path, ": "))
		die(STATUS_FAILED,
		    "%s: no path with a colon or space can be preloaded: install canal elsewhere",
		    path);
}

/* In front of what is preloaded already, once. */
static void library_preload(const char *library)
{
	const char *before = getenv("LD_PRELOAD");
	size_t library_len = strlen(library);
	char *value;

	if (before && strncmp(before, library, library_len) == 0 &&
	    (!before[library_len] || strchr(": ", before[library_len])))
		return;
	if (asprintf(&value, "%s%s%s", library, before && before[0] ? ":" : "",
		     before ? before : "") < 0 ||
	    setenv("LD_PRELOAD", value, 1) < 0)
		die(STATUS_FAILED, "%s", strerror(ENOMEM));
	free(value);
}

/* --check: says whether and ends. */
__attribute__((noreturn)) static void command_check_print(const char *path)
{
	char program[PATH_MAX], library[PATH_MAX];
	struct run_remarks remarks = { 0 };
	struct run_reason reason;
	int error;

	if (run_cover_check(path, program, &reason)) {
		printf("%s: cannot be covered: %s\n", path, reason.text);
		canal_output_exit("canal-run", STATUS_NOT_COVERED, STATUS_FAILED);
	}
	library_find(library);
	error = run_check(program, library, &remarks);
	if (error)
		die(STATUS_FAILED, "%s: %s", program, strerror(-error));
	printf("%s: can be covered%s", path,
	       remarks.missed ? ", but for what goes past libcanal" : "");
	if (strcmp(path, program) != 0)
		printf(" (its interpreter is %s)", program);
	putchar('\n');
	for (size_t i = 0; i < remarks.count; i++)
		printf("  %s\n", remarks.line[i]);
	error = remarks.missed ? STATUS_REMARKS : STATUS_COVERED;
	run_remarks_free(&remarks);
	canal_output_exit("canal-run", error, STATUS_FAILED);
}

static void canald_find(char *path, size_t path_len)
{
	int error;

	if (beside(".", "canald", path) && access(path, X_OK) == 0)
		return;
	error = run_command_find("canald", path, path_len);
	if (error)
		die(STATUS_FAILED, "no canald is running, and none is beside canal-run or in PATH: "
				   "install canal-host, or give --socket");
}

/* A virtual machine's way to the canald of its host; 0, -ENOENT if this is none. */
static int device_check(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static bool socket_find(char *path, size_t path_len)
{
	for (unsigned int place = 0; place < CANAL_PATHS_PLACES; place++)
		if (canal_paths_place(place, path, path_len) == 0 && run_canald_probe(path) == 0)
			return true;
	return false;
}

/* In a virtual machine a canald of its own would serve nobody: its network is the host's. */
static void device_explain(int error)
{
	const char *advice = error == -EACCES ? "make this user a member of the group canal"
					      : "see that canald serves this virtual machine";

	if (!fallback_allowed())
		die(STATUS_FAILED, DEVICE ": %s: %s, or give --socket", strerror(-error), advice);
	warn(DEVICE ": %s: %s; CANAL_FALLBACK=allow, so it runs without canal", strerror(-error),
	     advice);
}

/*
 * A canald that runs in one of the default places, or else a new one.
 *
 * Return: false in a virtual machine, where libcanal finds the device by itself.
 */
static bool socket_ensure(char *path, size_t path_len)
{
	struct run_reason reason;
	char canald[PATH_MAX];
	int error = device_check();

	if (error == 0)
		return false;
	if (socket_find(path, path_len))
		return true;
	if (error != -ENOENT) {
		device_explain(error);
		return false;
	}
	canald_find(canald, sizeof(canald));
	if (run_private_start(canald, path, path_len, &reason) == 0)
		return true;
	if (!fallback_allowed() || canal_paths_find(NULL, path, path_len) < 0)
		die(STATUS_FAILED, "cannot start a private canald: %s", reason.text);
	warn("cannot start a private canald: %s; CANAL_FALLBACK=allow, so it runs without canal",
	     reason.text);
	return true;
}

static void socket_check(const char *path)
{
	int error = run_canald_probe(path);
	bool nobody = error == -ENOENT || error == -ECONNREFUSED;
	const char *is = error ? canal_paths_not_socket(path) : NULL;

	if (error == 0)
		return;
	if (fallback_allowed())
		warn("%s: %s; CANAL_FALLBACK=allow, so it runs without canal", path,
		     strerror(-error));
	else if (is)
		die(STATUS_FAILED,
		    "%s: it is %s and no socket: give --socket the path of a canald's socket", path,
		    is);
	else if (nobody)
		die(STATUS_FAILED,
		    "%s: %s: no canald is listening there; start one with 'canald --socket %s'",
		    path, strerror(-error), path);
	else if (error == -EPROTOTYPE)
		die(STATUS_FAILED,
		    "%s: it is another program's socket, or that of a virtual machine: give --socket "
		    "the path of a canald's",
		    path);
	else
		die(STATUS_FAILED,
		    "%s: %s: give --socket the path of a canald that this user may use", path,
		    strerror(-error));
}

/* The command may change its directory: the path it is given must not depend on it. */
static void socket_export(const char *path)
{
	char dir[PATH_MAX], absolute[PATH_MAX * 2];

	if (path[0] != '/' && !getcwd(dir, sizeof(dir)))
		die(STATUS_FAILED, "working directory: %s", strerror(errno));
	snprintf(absolute, sizeof(absolute), "%s%s%s", path[0] == '/' ? "" : dir,
		 path[0] == '/' ? "" : "/", path);
	if (setenv("CANAL_SOCKET", absolute, 1) < 0)
		die(STATUS_FAILED, "%s", strerror(errno));
}

/* Returns the index of COMMAND in @argv; leaves *@socket alone where no option names one. */
static int options_parse(int argc, char **argv, const char **socket, bool *check)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "check", no_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	static const char letters[] = "+:s:chV"; /* the plus: COMMAND has options of its own */
	char fault[256];
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, letters, options, NULL)) != -1) {
		switch (option) {
		case 's':
			if (!optarg[0])
				die(STATUS_FAILED,
				    "--socket: needs a path, see 'canal-run --help'");
			*socket = optarg;
			break;
		case 'c':
			*check = true;
			break;
		case 'h':
			fputs(usage, stdout);
			canal_output_exit("canal-run", 0, STATUS_FAILED);
		case 'V':
			puts("canal-run " CANAL_VERSION);
			canal_output_exit("canal-run", 0, STATUS_FAILED);
		default:
			canal_option_fault(fault, sizeof(fault), option, argv, letters);
			die(STATUS_FAILED, "%s, see 'canal-run --help'", fault);
		}
	}
	if (optind == argc)
		die(STATUS_FAILED, "which command? see 'canal-run --help'");
	return optind;
}

__attribute__((noreturn)) static void command_missing(const char *name, int error)
{
	if (error == -ENOENT || error == -ENOTDIR)
		die(STATUS_NOT_FOUND, "%s: command not found: check its name%s", name,
		    strchr(name, '/') ? "" : " and PATH");
	if (error == -EACCES)
		die(STATUS_CANNOT_RUN, "%s: %s: it must be a file that this user may execute", name,
		    strerror(-error));
	die(STATUS_CANNOT_RUN, "%s: %s: check its name", name, strerror(-error));
}

/* A limit of the address space is the command's; libcanal's share comes on top where that may be. */
static void address_space_widen(void)
{
	struct rlimit limit;

	if (limit_as(NULL, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		(void)limit_as(&limit, NULL);
}

int main(int argc, char **argv)
{
	const char *given = canal_paths_given();
	bool check = false, preload;
	char **command = argv + options_parse(argc, argv, &given, &check);
	char path[PATH_MAX], library[PATH_MAX], socket_path[CANAL_PATHS_LEN];
	int error = run_command_find(command[0], path, sizeof(path));

	if (error)
		command_missing(command[0], error);
	if (check)
		command_check_print(path);
	preload = command_cover(path);
	library_find(library);
	if (given)
		socket_check(given);
	else if (socket_ensure(socket_path, sizeof(socket_path)))
		given = socket_path;
	if (given)
		socket_export(given);
	if (preload)
		library_preload(library);
	address_space_widen();
	execvp(path, command); /* a script without #! is the shell's */
	die(STATUS_CANNOT_RUN, "%s: %s: check what it is", path, strerror(errno));
}
