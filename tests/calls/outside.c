/* SPDX-License-Identifier: MIT */
#include "outside.h"
#include "calls.h"

#include <libgen.h>
#include <limits.h>

void expect(int fd, const char *text)
{
	size_t len = strlen(text);
	char data[4096];

	memset(data, 0, sizeof(data));
	recv_all(fd, data, len);
	if (memcmp(data, text, len))
		say("got '%.60s' and not '%.60s'", data, text);
	else
		say("%.60s", text);
}

void put(int fd, const char *text)
{
	send_all(fd, text, strlen(text));
}

void expect_end(int fd)
{
	char data[4096];

	say("end %zd", recv(fd, data, sizeof(data), 0));
}

const char *helper(bool is_static)
{
	static char path[PATH_MAX + 32];
	char self[PATH_MAX];
	ssize_t len = NEED(readlink("/proc/self/exe", self, sizeof(self) - 1));

	self[len] = '\0';
	snprintf(path, sizeof(path), "%s/calls_helper%s", dirname(self),
		 is_static ? "_static" : "");
	return path;
}

void send_fd(int to, int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_level = SOL_SOCKET,
				  .cmsg_type = SCM_RIGHTS,
				  .cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct iovec iov = { "x", 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = CMSG_SPACE(sizeof(int)) };

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	NEED(sendmsg(to, &m, 0));
}

int receive_fd(int from)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	char data[1];
	struct iovec iov = { data, sizeof(data) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	int fd;

	NEED(recvmsg(from, &m, 0));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}
