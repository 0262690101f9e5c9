/* SPDX-License-Identifier: MIT */
/* stdin, stdout and stderr that are sockets: stdio where nobody gave it one to open. */
#include "conformance.h"

#include <pty.h>
#include <sys/wait.h>
#include <wchar.h>

static char text[64];

/* The standard descriptors as they were, so that say() works. */
static int kept[3];

static void put_under(int fd, int number)
{
	kept[number] = NEED(fcntl(number, F_DUPFD_CLOEXEC, 10));
	NEED(dup2(fd, number));
}

static void put_back(int number)
{
	fflush(number == 1 ? stdout : stderr);
	NEED(dup2(kept[number], number));
}

/* --- in ------------------------------------------------------------------- */

static void lines_come(void)
{
	put_under(connected(1), 0);
	peer_must("send 1 0 one\ntwo\nthree\nfour\n5\nsix\nseven\n");
	peer_must("shutdown 1 1");
}

static void each_way_to_read(void)
{
	char *line = NULL;
	size_t room = 0;
	int number = 0;

	lines_come();
	say("fgets %s", fgets(text, sizeof(text), stdin));
	say("getline %zd %s", getline(&line, &room, stdin), line);
	say("getdelim %zd %s", getdelim(&line, &room, 'e', stdin), line);
	say("getc %c getchar %c", getc(stdin), getchar());
	memset(text, 0, sizeof(text));
	say("fread %zu %s", fread(text, 1, 4, stdin), text);
	say("scanf %d", scanf("%d", &number));
	say("number %d", number);
	say("fscanf %d %s", fscanf(stdin, "%60s", text), text);
	say("unlocked %d %c", getc_unlocked(stdin), getchar_unlocked());
	while (fgets_unlocked(text, sizeof(text), stdin))
		say("left %s", text);
	say("end %d error %d", feof(stdin), ferror(stdin));
	free(line);
}

/* The first call of each case is what must not wait for ever. */
static void first_by_getchar(void)
{
	lines_come();
	say("%c", getchar());
}

static void first_by_scanf(void)
{
	lines_come();
	say("%d %s", scanf("%60s", text), text);
}

static void first_by_fread(void)
{
	lines_come();
	say("%zu %s", fread(text, 1, 9, stdin), text);
}

static void first_by_getline(void)
{
	char *line = NULL;
	size_t room = 0;

	lines_come();
	say("%zd %s", getline(&line, &room, stdin), line);
	free(line);
}

static void first_by_getwchar(void)
{
	lines_come();
	say("%d", getwchar() == L'o');
}

static void *send_later(void *unused)
{
	wait_asleep(getpid());
	peer_must("send 1 0 late\n");
	return unused;
}

static void waits_for_a_line(void)
{
	pthread_t thread;

	put_under(connected(1), 0);
	NEED(pthread_create(&thread, NULL, send_later, NULL));
	say("%s", fgets(text, sizeof(text), stdin));
	pthread_join(thread, NULL);
}

static void read_then_fgets(void)
{
	lines_come();
	say_bytes("read", read(0, text, 2), text);
	say("fgets %s", fgets(text, sizeof(text), stdin));
}

static void reopened(void)
{
	int fd = connected(1);

	put_under(fd, 0);
	close(fd);
	say("%d", freopen("/dev/null", "r", stdin) == stdin);
	peer_tell("recv 1 100 0");
	TELL(read(0, text, 1));
	TELL(recv(0, text, 1, MSG_DONTWAIT));
}

/* --- out ------------------------------------------------------------------ */

static void write_behind_printf(void)
{
	int fd = connected(1);

	put_under(fd, 1);
	for (int i = 0; i < 20; i++) {
		printf("a");
		fflush(stdout);
		(void)!write(1, "b", 1);
		(void)!send(fd, "c", 1, 0);
		(void)!writev(1, &(struct iovec){ (void *)(uintptr_t) "d", 1 }, 1);
	}
	put_back(1);
	close(fd);
	peer_must("waitbytes 1 80");
	peer_tell("recv 1 100 0");
}

static void printf_behind_write(void)
{
	int fd = connected(1);

	put_under(fd, 1);
	(void)!write(1, "first ", 6);
	printf("second ");
	fflush(stdout);
	(void)!write(1, "third", 5);
	put_back(1);
	close(fd);
	peer_must("waitbytes 1 18");
	peer_tell("recv 1 100 0");
}

static void errors(void)
{
	int fd = connected(1);

	put_under(fd, 2);
	fprintf(stderr, "an error ");
	(void)!write(2, "of two", 6);
	put_back(2);
	close(fd);
	peer_must("waitbytes 1 15");
	peer_tell("recv 1 100 0");
}

/* --- programs --------------------------------------------------------------- */

/* As inetd starts them: the socket, and nothing else. */
static void run(char *const argv[])
{
	int fd = connected(1);
	pid_t pid = NEED(fork());

	if (!pid) {
		dup2(fd, 0);
		dup2(fd, 1);
		closefrom(3);
		execvp(argv[0], argv);
		_exit(99);
	}
	close(fd);
	peer_must("send 1 0 one\ntwo\n");
	peer_must("shutdown 1 1");
	NEED(waitpid(pid, NULL, 0));
	peer_tell("recv 1 100 0");
	peer_tell("recv 1 100 0");
}

static void runs_sed(void)
{
	run((char *[]){ "sed", "s/o/0/", NULL });
}

static void runs_shell(void)
{
	run((char *[]){ "sh", "-c", "read a; read b; echo $b $a", NULL });
}

static void runs_head(void)
{
	run((char *[]){ "head", "-n", "1", NULL });
}

/* A terminal takes the place of the socket. */
static void in_a_terminal(void)
{
	int fd = connected(1), master;
	pid_t pid;

	for (int i = 0; i < 3; i++)
		put_under(fd, i);
	pid = forkpty(&master, NULL, NULL, NULL);
	if (!pid) {
		(void)!write(1, "on the terminal", 15);
		_exit(0);
	}
	for (int i = 0; i < 3; i++)
		NEED(dup2(kept[i], i));
	say_bytes("terminal", read(master, text, sizeof(text)), text);
	NEED(waitpid(pid, NULL, 0));
	peer_tell("recv 1 100 %d", MSG_DONTWAIT);
}

const struct call_case cases[] = {
	{ "each_way_to_read", each_way_to_read },
	{ "first_by_getchar", first_by_getchar },
	{ "first_by_scanf", first_by_scanf },
	{ "first_by_fread", first_by_fread },
	{ "first_by_getline", first_by_getline },
	{ "first_by_getwchar", first_by_getwchar },
	{ "waits_for_a_line", waits_for_a_line },
	{ "read_then_fgets", read_then_fgets },
	{ "reopened", reopened },
	{ "write_behind_printf", write_behind_printf },
	{ "printf_behind_write", printf_behind_write },
	{ "errors", errors },
	{ "runs_sed", runs_sed },
	{ "runs_shell", runs_shell },
	{ "runs_head", runs_head },
	{ "in_a_terminal", in_a_terminal },
};
const size_t case_count = COUNT(cases);
