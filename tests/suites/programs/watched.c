/* SPDX-License-Identifier: MIT */
/*
 * A small program to be watched: by a debugger, a tracer, a sanitizer.
 *
 * usage: watched COUNT		COUNT messages to a thread of its own and back, and one datagram
 *	  watched over		takes 101 bytes into a buffer of 100
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LENGTH 1000

static void must(int fine, const char *what)
{
	if (fine)
		return;
	perror(what);
	exit(1);
}

static int bound(int type, struct sockaddr_in *name)
{
	socklen_t len = sizeof(*name);
	int fd = socket(AF_INET, type, 0), on = 1;

	*name = (struct sockaddr_in){ .sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	must(fd >= 0, "socket");
	must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0, "setsockopt");
	must(bind(fd, (struct sockaddr *)name, len) == 0, "bind");
	must(getsockname(fd, (struct sockaddr *)name, &len) == 0, "getsockname");
	return fd;
}

static void *answer(void *listener)
{
	int fd = accept(*(int *)listener, NULL, NULL);
	char *bytes = malloc(LENGTH);
	ssize_t got;

	must(fd >= 0 && bytes, "accept");
	while ((got = recv(fd, bytes, LENGTH, 0)) > 0)
		must(send(fd, bytes, (size_t)got, 0) == got, "send back");
	free(bytes);
	close(fd);
	return NULL;
}

static void ask(const struct sockaddr_in *name, int count)
{
	struct epoll_event event = { .events = EPOLLIN };
	char sent[LENGTH], *got = malloc(LENGTH);
	int fd = socket(AF_INET, SOCK_STREAM, 0), set = epoll_create1(0);

	must(connect(fd, (const struct sockaddr *)name, sizeof(*name)) == 0, "connect");
	must(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
	for (int i = 0; i < count; i++) {
		memset(sent, i, sizeof(sent));
		must(send(fd, sent, LENGTH, 0) == LENGTH, "send");
		must(epoll_wait(set, &event, 1, 10000) == 1, "epoll_wait");
		must(recv(fd, got, LENGTH, MSG_WAITALL) == LENGTH, "recv");
		must(memcmp(sent, got, LENGTH) == 0, "compare");
	}
	free(got);
	close(set);
	close(fd);
}

static void datagram(void)
{
	struct sockaddr_in name, from;
	socklen_t len = sizeof(from);
	int fd = bound(SOCK_DGRAM, &name);
	char byte = 'x';

	must(sendto(fd, &byte, 1, 0, (struct sockaddr *)&name, sizeof(name)) == 1, "sendto");
	must(recvfrom(fd, &byte, 1, 0, (struct sockaddr *)&from, &len) == 1, "recvfrom");
	close(fd);
}

static void over(int listener, const struct sockaddr_in *name)
{
	int to = socket(AF_INET, SOCK_STREAM, 0), from;
	char bytes[101] = "", *room = malloc(100);

	must(connect(to, (const struct sockaddr *)name, sizeof(*name)) == 0, "connect");
	from = accept(listener, NULL, NULL);
	must(send(to, bytes, sizeof(bytes), 0) == sizeof(bytes), "send");
	must(recv(from, room, sizeof(bytes), MSG_WAITALL) == sizeof(bytes), "recv");
	free(room);
}

int main(int argc, char **argv)
{
	struct sockaddr_in name;
	int listener = bound(SOCK_STREAM, &name);
	pthread_t thread;

	must(argc == 2 && listen(listener, 1) == 0, "listen");
	if (strcmp(argv[1], "over") == 0) {
		over(listener, &name);
		return 0;
	}
	must(pthread_create(&thread, NULL, answer, &listener) == 0, "thread");
	ask(&name, atoi(argv[1]));
	must(pthread_join(thread, NULL) == 0, "join");
	close(listener);
	datagram();
	puts("fine");
	return 0;
}
