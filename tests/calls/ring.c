/* SPDX-License-Identifier: MIT */
#include "ring.h"
#include "calls.h"

struct io_uring ring;

bool ring_works(void)
{
	int ret = io_uring_queue_init(8, &ring, 0);

	if (ret < 0)
		say("no io_uring here");
	return ret == 0;
}

int ring_wait(void)
{
	struct io_uring_cqe *cqe;
	int ret;

	NEED(io_uring_submit(&ring));
	NEED(io_uring_wait_cqe(&ring, &cqe));
	ret = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	return ret;
}
