/* SPDX-License-Identifier: MIT */
/*
 * deep, and with -DLIBRARY what it loads with RTLD_DEEPBIND: calls by the table, by a pointer in
 * data, and to a function that the library has itself.
 *
 * usage: deep PATH	the library by its path
 *	  deep NAME	beside the program, by its RUNPATH, and not bound deep
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef LIBRARY
static ssize_t (*const receive)(int, void *, size_t, int) = recv;

int listen(int fd, int backlog)
{
	return fd == -1 && backlog == -1 ? 77 : -1; /* ours */
}

int deep_own(void)
{
	return listen(-1, -1);
}

int deep_socket(const struct sockaddr_in *to)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	return connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0 ? -1 : fd;
}

ssize_t deep_pass(int from, int to, char *byte)
{
	return receive(from, byte, 1, 0) == 1 ? send(to, byte, 1, 0) : -1;
}
#else
static void *find(void *library, const char *name)
{
	void *function = dlsym(library, name);

	if (!function) {
		puts(dlerror());
		exit(1);
	}
	return function;
}

int main(int argc, char **argv)
{
	const char *path = argv[argc - 1];
	struct sockaddr_in name = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	void *library = dlopen(path, RTLD_LAZY | (strchr(path, '/') ? RTLD_DEEPBIND : 0));
	int listener = socket(AF_INET, SOCK_STREAM, 0), near, far;
	ssize_t (*pass)(int, int, char *);
	int (*connected)(const struct sockaddr_in *), (*own)(void);
	socklen_t len = sizeof(name);
	char byte = 'x';

	if (!library) {
		puts(dlerror());
		return 1;
	}
	if (dlerror())
		puts("an error is left");
	*(void **)&own = find(library, "deep_own");
	*(void **)&connected = find(library, "deep_socket");
	*(void **)&pass = find(library, "deep_pass");
	if (bind(listener, (struct sockaddr *)&name, len) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&name, &len) < 0)
		return 2;
	printf("own %d\n", own());
	far = connected(&name);
	near = accept(listener, NULL, NULL);
	printf("sent %zd\n", send(far, &byte, 1, 0));
	printf("passed %zd\n", pass(near, near, &byte));
	printf("back %zd %c\n", recv(far, &byte, 1, 0), byte);
	return 0;
}
#endif
