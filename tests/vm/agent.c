/* SPDX-License-Identifier: MIT */
/*
 * The guest's first process: runs the commands that machine.py sends.
 *
 * Purpose
 *	/init of the initramfs that image.py builds. Mounts what programs need, loads the modules
 *	of /etc/guest/modules in that order, and then serves two virtio-serial ports:
 *	"agent" carries frames (struct frame) both ways, "kmsg" the kernel's log as it is
 *	written. No network is involved, so a guest without any card serves as well.
 *	In a guest that has an init of its own it is a service, and leaves the system alone.
 *
 * Invariants
 *	1. One thread, one poll(). What a command prints is read at once and passed on, so no
 *	   command waits for another.
 *	2. A command leads a session and a process group; its number is the host's. EXIT comes after all
 *	   that was printed until the command ended.
 *	3. Every orphan is reaped.
 *	4. A guest without a host that listens turns itself off.
 *
 * Failure
 *	What fails before the ports are open goes to the console, and the guest is turned off:
 *	QEMU ends, and the host shows the console.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FRAME_MAGIC 0x6c61634eu
#define FRAME_MAX (1u << 20)
#define COMMANDS 256
#define CHUNK (64 << 10)
#define MODULES "/etc/guest/modules"
#define SETUP "/etc/guest/setup"
#define PORT_SECONDS 20

enum frame_type {
	/* to the guest */
	FRAME_RUN = 1, /* uid, argument count: u32; then arguments and environment, NUL-ended */
	FRAME_SIGNAL,  /* signal, 1 for the whole group: u32 */
	FRAME_STDIN,   /* bytes; none: end of file */
	FRAME_PUT,     /* mode: u32; path, NUL, bytes; replaces or, with mode 0, appends */
	FRAME_OFF,     /* reboot(2) command: u32 */
	FRAME_PING,
	/* to the host */
	FRAME_READY = 16, /* text: what went wrong with the modules, or nothing */
	FRAME_OUT,
	FRAME_ERR,
	FRAME_EXIT, /* wait status: u32 */
	FRAME_PONG, /* errno: u32, of PUT or PING */
};

struct frame {
	uint32_t magic, type, id, len;
};

struct command {
	pid_t pid; /* 0: ended, but its pipes may be held by its children */
	uint32_t id;
	bool used;
	int in, out, err;
};

static struct command commands[COMMANDS];
static int agent = -1, kmsg_port = -1, kmsg = -1, signals = -1;
static char problems[2048];
static uint8_t received[sizeof(struct frame) + FRAME_MAX];
static size_t received_len;

/* --- small things ------------------------------------------------------------------------- */

__attribute__((format(printf, 1, 2))) static void problem(const char *format, ...)
{
	size_t len = strlen(problems);
	va_list args;

	va_start(args, format);
	vsnprintf(problems + len, sizeof(problems) - len, format, args);
	va_end(args);
}

__attribute__((noreturn)) static void turn_off(int how)
{
	sync();
	reboot(how);
	for (;;)
		pause();
}

__attribute__((noreturn)) static void fatal(const char *what)
{
	fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
	turn_off(RB_POWER_OFF);
}

static bool write_all(int fd, const void *data, size_t len)
{
	const uint8_t *next = data;

	while (len) {
		ssize_t done = write(fd, next, len);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return false;
		next += done;
		len -= done;
	}
	return true;
}

/* The port blocks while the host does not read: nothing is ever dropped. */
static void frame_send(uint32_t type, uint32_t id, const void *data, uint32_t len)
{
	static uint8_t whole[sizeof(struct frame) + CHUNK];
	struct frame frame = { FRAME_MAGIC, type, id, len };

	memcpy(whole, &frame, sizeof(frame));
	memcpy(whole + sizeof(frame), data, len);
	if (!write_all(agent, whole, sizeof(frame) + len))
		fatal("the agent's port");
}

static uint32_t u32_at(const uint8_t *data)
{
	uint32_t value;

	memcpy(&value, data, sizeof(value));
	return value;
}

/* --- coming up ----------------------------------------------------------------------------- */

static void mount_at(const char *type, const char *path, const char *data)
{
	mkdir(path, 0755);
	if (mount(type, path, type, MS_NOSUID, data) < 0 && errno != EBUSY)
		problem("mount %s at %s: %s\n", type, path, strerror(errno));
}

static void mounts(void)
{
	mount_at("proc", "/proc", NULL);
	mount_at("sysfs", "/sys", NULL);
	mount_at("devtmpfs", "/dev", NULL);
	mount_at("devpts", "/dev/pts", "ptmxmode=0666");
	mount_at("tmpfs", "/dev/shm", "mode=1777");
	mount_at("tmpfs", "/tmp", "mode=1777");
	mount_at("tmpfs", "/run", "mode=0755");
	if (symlink("/proc/self/fd", "/dev/fd") < 0 && errno != EEXIST)
		problem("/dev/fd: %s\n", strerror(errno));
	if (access("/sys/kernel/tracing", F_OK) == 0)
		mount_at("tracefs", "/sys/kernel/tracing", NULL);
}

/* The tests measure and break other things than the guess of the kernel at what fits. */
static void overcommit(void)
{
	int fd = open("/proc/sys/vm/overcommit_memory", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "1", 1) != 1)
		problem("overcommit_memory: %s\n", strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void module_load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
		problem("%s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void modules_load(void)
{
	FILE *list = fopen(MODULES, "re");
	char line[256];

	if (!list)
		return;
	while (fgets(line, sizeof(line), list)) {
		line[strcspn(line, "\n")] = '\0';
		module_load(line);
	}
	fclose(list);
}

static void loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		problem("lo: %s\n", strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* What the comparison with a network card needs, as a shell script. */
static void setup_run(void)
{
	int status;

	if (access(SETUP, X_OK) < 0)
		return;
	status = system(SETUP);
	if (status != 0)
		problem("%s: status %d\n", SETUP, WEXITSTATUS(status));
}

static bool port_named(const char *device, const char *wanted)
{
	char path[300], name[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", device);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fgets(name, sizeof(name), file))
		name[strcspn(name, "\n")] = '\0';
	fclose(file);
	return strcmp(name, wanted) == 0;
}

static int port_open(const char *wanted)
{
	DIR *dir = opendir("/sys/class/virtio-ports");
	struct dirent *entry;
	char path[300];
	int fd = -1;

	while (dir && fd < 0 && (entry = readdir(dir))) {
		if (!port_named(entry->d_name, wanted))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (dir)
		closedir(dir);
	return fd;
}

/* Ports appear when the device has answered: looks for them until they are there. */
static int port_wait(const char *wanted)
{
	for (int look = 0; look < PORT_SECONDS * 100; look++) {
		int fd = port_open(wanted);

		if (fd >= 0)
			return fd;
		poll(NULL, 0, 10);
	}
	errno = ENODEV;
	fatal(wanted);
}

static void signals_open(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		fatal("signalfd");
}

static void come_up(void)
{
	const struct rlimit files = { 65536, 65536 };

	if (getpid() == 1) {
		mounts();
		overcommit();
		loopback_up();
		sethostname("guest", 5);
		setrlimit(RLIMIT_NOFILE, &files);
	}
	modules_load();
	setup_run();
	signals_open();
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	kmsg_port = port_wait("kmsg");
	agent = port_wait("agent");
	frame_send(FRAME_READY, 0, problems, strlen(problems));
}

/* --- commands -------------------------------------------------------------------------------- */

static struct command *command_find(uint32_t id)
{
	for (struct command *c = commands; c < commands + COMMANDS; c++)
		if (c->used && c->id == id)
			return c;
	return NULL;
}

static struct command *command_new(uint32_t id)
{
	for (struct command *c = commands; c < commands + COMMANDS; c++)
		if (!c->used) {
			*c = (struct command){
				.id = id, .used = true, .in = -1, .out = -1, .err = -1
			};
			return c;
		}
	return NULL;
}

static void command_exited(uint32_t id, uint32_t status)
{
	frame_send(FRAME_EXIT, id, &status, sizeof(status));
}

static void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void command_free_if_done(struct command *c)
{
	if (c->pid || c->out >= 0 || c->err >= 0)
		return;
	fd_close(&c->in);
	c->used = false;
}

/* Passes on what is there. @all: until nothing is there. */
static void command_read(struct command *c, int *fd, uint32_t type, bool all)
{
	static uint8_t data[CHUNK];
	ssize_t len;

	if (*fd < 0)
		return;
	do {
		len = read(*fd, data, sizeof(data));
		if (len > 0)
			frame_send(type, c->id, data, len);
	} while (all && len > 0);
	if (len == 0 || (len < 0 && errno != EAGAIN && errno != EINTR))
		fd_close(fd);
}

/* The user's groups are those of /etc/group; read directly, for a static program has no NSS. */
static int groups_of(const char *user, gid_t *groups, int max)
{
	FILE *file = fopen("/etc/group", "re");
	struct group *group;
	int count = 0;

	while (file && count < max && (group = fgetgrent(file)))
		for (char **member = group->gr_mem; *member; member++)
			if (strcmp(*member, user) == 0 && count < max)
				groups[count++] = group->gr_gid;
	if (file)
		fclose(file);
	return count;
}

/* Its groups and nothing else of it; 0 stays root. */
static void user_become(uint32_t uid)
{
	FILE *file = uid ? fopen("/etc/passwd", "re") : NULL;
	const struct passwd *user = NULL;
	gid_t groups[16];
	int count = 0;

	while (file && (user = fgetpwent(file)) && user->pw_uid != uid)
		;
	if (user)
		count = groups_of(user->pw_name, groups, 16);
	if (file)
		fclose(file);
	if (uid && (setgroups(count, groups) < 0 || setgid(uid) < 0 || setuid(uid) < 0)) {
		perror("agent: setuid");
		_exit(126);
	}
}

__attribute__((noreturn)) static void child(char **argv, char **envp, uint32_t uid,
					    const int fds[3])
{
	sigset_t none;

	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	for (int fd = 0; fd < 3; fd++)
		dup2(fds[fd], fd);
	user_become(uid);
	environ = envp;
	if (chdir("/tmp") < 0)
		perror("agent: /tmp");
	execvp(argv[0], argv);
	fprintf(stderr, "agent: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static bool command_start(struct command *c, char **argv, char **envp, uint32_t uid)
{
	int in[2], out[2], err[2];

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		fatal("pipe2");
	c->pid = fork();
	if (c->pid == 0)
		child(argv, envp, uid, (int[3]){ in[0], out[1], err[1] });
	close(in[0]);
	close(out[1]);
	close(err[1]);
	c->in = in[1];
	c->out = out[0];
	c->err = err[0];
	fcntl(c->out, F_SETFL, O_NONBLOCK);
	fcntl(c->err, F_SETFL, O_NONBLOCK);
	return c->pid > 0;
}

/* Splits NUL-ended strings: @argc of them are arguments, the others the environment. */
static char **strings_split(uint8_t *data, uint32_t len, uint32_t argc)
{
	uint32_t count = 0;
	char **all;

	for (uint32_t i = 0; i < len; i++)
		count += data[i] == '\0';
	if (!argc || argc > count)
		return NULL;
	all = calloc(count + 2, sizeof(*all));
	for (uint32_t i = 0; all && i < count; i++) {
		all[i + (i >= argc)] = (char *)data;
		data += strlen((char *)data) + 1;
	}
	return all;
}

static void on_run(uint32_t id, uint8_t *data, uint32_t len)
{
	uint32_t argc = len >= 8 ? u32_at(data + 4) : 0;
	char **argv = argc ? strings_split(data + 8, len - 8, argc) : NULL;
	struct command *c = argv ? command_new(id) : NULL;

	if (!c || !command_start(c, argv, argv + argc + 1, u32_at(data))) {
		command_exited(id, 125 << 8);
		if (c)
			c->used = false;
	}
	free(argv);
}

static void on_signal(uint32_t id, const uint8_t *data, uint32_t len)
{
	const struct command *c = command_find(id);

	if (c && c->pid > 0 && len == 8)
		kill(u32_at(data + 4) ? -c->pid : c->pid, u32_at(data));
}

static void on_stdin(uint32_t id, const uint8_t *data, uint32_t len)
{
	struct command *c = command_find(id);

	if (c && c->in >= 0 && (!len || !write_all(c->in, data, len)))
		fd_close(&c->in);
}

static uint32_t file_put(const uint8_t *data, uint32_t len)
{
	uint32_t mode = len > 5 ? u32_at(data) : 0;
	const char *path = (const char *)data + 4;
	size_t path_len = len > 5 ? strnlen(path, len - 4) : 0;
	bool good;
	int fd;

	if (!path_len || path_len == len - 4)
		return EINVAL;
	fd = open(path, O_WRONLY | O_CLOEXEC | (mode ? O_CREAT | O_TRUNC : O_APPEND), mode);
	if (fd < 0)
		return errno;
	good = write_all(fd, path + path_len + 1, len - 4 - path_len - 1) &&
	       (!mode || fchmod(fd, mode) == 0);
	len = good ? 0 : errno;
	close(fd);
	return len;
}

static void on_frame(const struct frame *frame, uint8_t *data)
{
	uint32_t error = 0;

	switch (frame->type) {
	case FRAME_RUN:
		return on_run(frame->id, data, frame->len);
	case FRAME_SIGNAL:
		return on_signal(frame->id, data, frame->len);
	case FRAME_STDIN:
		return on_stdin(frame->id, data, frame->len);
	case FRAME_OFF:
		turn_off(frame->len == 4 ? (int)u32_at(data) : RB_POWER_OFF);
	case FRAME_PUT:
		error = file_put(data, frame->len);
		/* fall through */
	default:
		frame_send(FRAME_PONG, frame->id, &error, sizeof(error));
	}
}

/* --- the loop ---------------------------------------------------------------------------------- */

/* How many bytes of what was received were a frame, and served. */
static size_t frame_take(uint8_t *data, size_t len)
{
	struct frame frame;

	if (len < sizeof(frame))
		return 0;
	memcpy(&frame, data, sizeof(frame));
	if (frame.magic != FRAME_MAGIC || frame.len > FRAME_MAX)
		return 1; /* what was left of an earlier life of the guest */
	if (len - sizeof(frame) < frame.len)
		return 0;
	on_frame(&frame, data + sizeof(frame));
	return sizeof(frame) + frame.len;
}

static void agent_read(void)
{
	ssize_t len = read(agent, received + received_len, sizeof(received) - received_len);
	size_t from = 0, taken;

	if (len <= 0)
		return;
	received_len += len;
	while ((taken = frame_take(received + from, received_len - from)) > 0)
		from += taken;
	received_len -= from;
	memmove(received, received + from, received_len);
}

static void kmsg_read(void)
{
	char record[8192];
	ssize_t len;

	while ((len = read(kmsg, record, sizeof(record))) > 0 || (len < 0 && errno == EPIPE))
		if (len > 0 && !write_all(kmsg_port, record, len))
			fatal("the port of the kernel's log");
}

static void children_reap(void)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(signals, &info, sizeof(info)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (struct command *c = commands; c < commands + COMMANDS; c++)
			if (c->used && c->pid == pid) {
				command_read(c, &c->out, FRAME_OUT, true);
				command_read(c, &c->err, FRAME_ERR, true);
				kmsg_read();
				c->pid = 0;
				command_exited(c->id, status);
				command_free_if_done(c);
			}
}

static nfds_t poll_fill(struct pollfd *fds)
{
	nfds_t count = 0;

	fds[count++] = (struct pollfd){ .fd = agent, .events = POLLIN };
	fds[count++] = (struct pollfd){ .fd = signals, .events = POLLIN };
	fds[count++] = (struct pollfd){ .fd = kmsg, .events = POLLIN };
	for (struct command *c = commands; c < commands + COMMANDS; c++) {
		fds[count++] = (struct pollfd){ .fd = c->used ? c->out : -1, .events = POLLIN };
		fds[count++] = (struct pollfd){ .fd = c->used ? c->err : -1, .events = POLLIN };
	}
	return count;
}

int main(void)
{
	static struct pollfd fds[3 + 2 * COMMANDS];

	come_up();
	for (;;) {
		nfds_t count = poll_fill(fds);

		if (poll(fds, count, -1) < 0 && errno != EINTR)
			fatal("poll");
		if (fds[2].revents)
			kmsg_read();
		for (int i = 0; i < COMMANDS; i++) {
			struct command *c = &commands[i];

			if (fds[3 + 2 * i].revents)
				command_read(c, &c->out, FRAME_OUT, false);
			if (fds[4 + 2 * i].revents)
				command_read(c, &c->err, FRAME_ERR, false);
			if (c->used)
				command_free_if_done(c);
		}
		if (fds[1].revents)
			children_reap();
		if (fds[0].revents & POLLHUP)
			turn_off(RB_POWER_OFF); /* whoever commanded this guest is gone */
		/* last: a frame may make descriptors that poll() has not seen */
		if (fds[0].revents)
			agent_read();
	}
}
