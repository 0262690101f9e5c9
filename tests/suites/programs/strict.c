/* SPDX-License-Identifier: MIT */
/*
 * strict: echoes what comes from a child that has confined itself by SECCOMP_MODE_STRICT (read,
 * write, exit and sigreturn; not even the clock) with a connection that it had.
 */
#include <arpa/inet.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TURNS 500
#define LENGTH 4096

static void confined(int fd)
{
	char sent[LENGTH], got[LENGTH];

	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) < 0)
		_exit(2);
	for (int turn = 0; turn < TURNS; turn++) {
		size_t have = 0;

		memset(sent, turn, LENGTH);
		if (write(fd, sent, LENGTH) != LENGTH)
			syscall(SYS_exit, 3);
		while (have < LENGTH) {
			ssize_t more = read(fd, got + have, LENGTH - have);

			if (more <= 0)
				syscall(SYS_exit, 4);
			have += (size_t)more;
		}
		if (memcmp(sent, got, LENGTH) != 0)
			syscall(SYS_exit, 5);
	}
	syscall(SYS_exit, 0);
}

int main(void)
{
	struct sockaddr_in name = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM, 0), near = socket(AF_INET, SOCK_STREAM, 0), far;
	socklen_t len = sizeof(name);
	char bytes[LENGTH];
	ssize_t got;
	int status;
	pid_t pid;

	if (bind(listener, (struct sockaddr *)&name, len) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&name, &len) < 0 ||
	    connect(near, (struct sockaddr *)&name, len) < 0)
		return 1;
	far = accept(listener, NULL, NULL);
	pid = fork();
	if (pid == 0)
		confined(near);
	close(near);
	while ((got = read(far, bytes, sizeof(bytes))) > 0)
		if (write(far, bytes, (size_t)got) != got)
			return 1;
	waitpid(pid, &status, 0);
	printf("ended %x\n", status);
	return 0;
}
