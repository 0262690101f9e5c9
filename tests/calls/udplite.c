/* SPDX-License-Identifier: MIT */
/* UDP-Lite, which a guest with addresses of its own does not have. */
#include "calls.h"

/* A protocol of its own: ports and options are not those of UDP. */
static void carried(void)
{
	struct name name, from = { .len = sizeof(from.ss) };
	int udp = dgram_bound(&name), to = NEED(socket(family, SOCK_DGRAM, IPPROTO_UDPLITE));
	int fd = NEED(socket(family, SOCK_DGRAM, IPPROTO_UDPLITE)), value = 0, covered = 20;
	socklen_t len = sizeof(value);
	char data[64] = "";

	TELL(bind(to, sa(&name), name.len));
	TELL(bind(fd, sa(&name), name.len));
	TELL(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &value, &len));
	TELL(value);
	TELL(setsockopt(fd, IPPROTO_UDPLITE, 10 /* UDPLITE_SEND_CSCOV */, &covered,
			sizeof(covered)));
	TELL(getsockopt(fd, IPPROTO_UDPLITE, 10, &value, &len));
	TELL(value);
	TELL(setsockopt(udp, IPPROTO_UDPLITE, 10, &covered, sizeof(covered)));
	TELL(sendto(fd, "lite", 4, 0, sa(&name), name.len));
	TELL(recvfrom(to, data, sizeof(data), 0, sa(&from), &from.len));
	say_name("from", &from);
	say("%s", data);
	TELL(recv(udp, data, sizeof(data), MSG_DONTWAIT));
	TELL(connect(fd, sa(&name), name.len));
	TELL(send(fd, "again", 5, 0));
	TELL(recv(to, data, sizeof(data), 0));
}

const struct call_case cases[] = {
	{ "carried", carried },
};
const size_t case_count = COUNT(cases);
