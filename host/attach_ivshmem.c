/* SPDX-License-Identifier: MIT */
/*
 * QEMU's ivshmem server, one for each virtual machine of the configuration.
 *
 * Purpose: QEMU connects to a UNIX socket and gets the mailbox (BAR2) and two
 * eventfds: the guest's doorbell writes to that of peer 0, and canald interrupts the
 * guest by that of peer 1. QEMU's connection says how long the guest lives.
 *
 * QEMU waits for nobody: where it starts first, systemd listens for canald. And it
 * never connects again: so connection, mailbox and eventfds are kept by the service
 * manager, and the next canald goes on with them; the guest sees a new epoch.
 *
 * Invariants
 *  1. A guest has one QEMU. Another one is turned away while the first is there.
 *  2. The mailbox is sealed in its length, so that no QEMU can cut it short.
 *  3. Nothing here waits for QEMU: what the server says fits a socket's buffer.
 *  4. The service manager keeps one set of a guest's descriptors, or none: never some
 *     of an older QEMU beside those of a newer. It has none exactly while !vm->kept.
 *
 * Ownership and threads: the main thread; between vm_up() and vm_down(), for which it
 * waits, all but connection and listening socket is the poller's.
 *
 * Failure: a guest whose socket cannot be had prevents the start. A QEMU that cannot
 * be served is logged and its connection closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syslog.h>
#include <unistd.h>

#include "passed.h"
#include "vm.h"

#define IVSHMEM_VERSION 0
#define IVSHMEM_MEMORY (-1)

/* After one QEMU has gone, the next is kept when it has been there for a while: one that
 * connects without end is nothing to tell the service manager of. */
#define RESTLESS_S 10
#define SETTLED_S 2

static CDS_LIST_HEAD(machines);

/* --- what QEMU is told ------------------------------------------------- */

/* One message: a number, and a descriptor or -1. */
static int tell(int conn, int64_t number, int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .room = { 0 } };
	struct iovec iov = { &number, sizeof(number) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control.room);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
	}
	sent = sendmsg(conn, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	return sent == (ssize_t)sizeof(number) ? 0 : sent < 0 ? -errno : -EPROTO;
}

static int tell_all(const struct vm *vm)
{
	int r = tell(vm->conn_fd, IVSHMEM_VERSION, -1);

	if (!r)
		r = tell(vm->conn_fd, CANAL_PEER_GUEST, -1);
	if (!r)
		r = tell(vm->conn_fd, IVSHMEM_MEMORY, vm->mail_fd);
	if (!r)
		r = tell(vm->conn_fd, CANAL_PEER_HOST, vm->bell_fd);
	if (!r)
		r = tell(vm->conn_fd, CANAL_PEER_GUEST, vm->irq_fd);
	return r;
}

/* --- descriptors, and who keeps them ----------------------------------- */

static const char *const kept_names[] = { "qemu", "mail", "bell", "irq" };

static int *kept_fd(struct vm *vm, size_t i)
{
	int *const fds[] = { &vm->conn_fd, &vm->mail_fd, &vm->bell_fd, &vm->irq_fd };

	return fds[i];
}

static const char *kept_name(const struct vm *vm, size_t i, char *text, size_t len)
{
	snprintf(text, len, "vm-%s-%s", vm->guest->name, kept_names[i]);
	return text;
}

static void forget(struct vm *vm)
{
	char name[64];

	vm->kept = false;
	for (size_t i = 0; i < 4; i++)
		passed_forget(kept_name(vm, i, name, sizeof(name)));
}

/* The service manager has nothing of this guest's. */
static void keep(struct vm *vm)
{
	char name[64];

	vm->kept = true;
	vm->keep_at_s = 0;
	for (size_t i = 0; i < 4; i++)
		passed_store(kept_name(vm, i, name, sizeof(name)), *kept_fd(vm, i));
}

static void keep_in_time(struct vm *vm, time_t now)
{
	if (vm->gone_s && now - vm->gone_s < RESTLESS_S)
		vm->keep_at_s = now + SETTLED_S;
	else
		keep(vm);
}

bool ivshmem_tick(time_t now)
{
	bool more = false;
	struct vm *vm;

	cds_list_for_each_entry(vm, &machines, link)
	{
		if (vm->keep_at_s && now >= vm->keep_at_s)
			keep(vm);
		more |= vm->keep_at_s != 0;
	}
	return more;
}

static void close_all(struct vm *vm)
{
	for (size_t i = 0; i < 4; i++) {
		int *fd = kept_fd(vm, i);

		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
}

static int mail_create(void)
{
	int fd = memfd_create("canal-mail", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, CANAL_MAIL_LEN) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

static int make_all(struct vm *vm)
{
	vm->mail_fd = mail_create();
	vm->bell_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	vm->irq_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return vm->mail_fd < 0 || vm->bell_fd < 0 || vm->irq_fd < 0 ? -EMFILE : 0;
}

/* --- QEMU comes and goes ----------------------------------------------- */

struct moving {
	struct vm *vm;
	int error;
};

static void up(void *arg)
{
	struct moving *m = arg;

	m->error = vm_up(m->vm, m->vm->guest->poller);
}

static void down(void *arg)
{
	vm_down(arg);
}

static int begin(struct vm *vm)
{
	struct moving m = { .vm = vm };
	int r = poller_call(vm->guest->poller, up, &m, true);

	if (!r)
		r = m.error;
	if (!r) {
		r = control_watch(EPOLL_CTL_ADD, vm->conn_fd, EPOLLIN | EPOLLRDHUP, &vm->conn_fd);
		if (r)
			(void)poller_call(vm->guest->poller, down, vm, true);
	}
	return r;
}

static void qemu_comes(struct vm *vm)
{
	int fd = accept4(vm->at.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), r;

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			control_pause(); /* else it would be told of it without end */
		return;
	}
	if (vm->conn_fd >= 0) {
		host_log_limited(vm->guest->name, LOG_WARNING,
				 "guest=%s: a second QEMU is turned away: one is there",
				 vm->guest->name);
		close(fd);
		return;
	}
	vm->conn_fd = fd;
	r = make_all(vm);
	if (!r) /* before QEMU knows of it: the mailbox is whole when the guest looks */
		r = begin(vm);
	if (!r) {
		r = tell_all(vm);
		if (r)
			(void)poller_call(vm->guest->poller, down, vm, true);
	}
	if (r) {
		host_log_limited(vm->guest->name, LOG_ERR, "guest=%s: QEMU cannot be served: %s",
				 vm->guest->name, strerror(-r));
		close_all(vm);
		return;
	}
	keep_in_time(vm, control_now_s());
	host_log_limited(vm->guest->name, LOG_INFO, "guest=%s: QEMU is there", vm->guest->name);
}

/* QEMU says nothing after it has connected: an event is the end, and who does say
 * something is no QEMU. */
static void qemu_goes(struct vm *vm)
{
	char byte;

	if (recv(vm->conn_fd, &byte, 1, MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	(void)control_watch(EPOLL_CTL_DEL, vm->conn_fd, 0, NULL);
	(void)poller_call(vm->guest->poller, down, vm, true);
	if (vm->kept)
		forget(vm);
	vm->keep_at_s = 0;
	vm->gone_s = control_now_s();
	close_all(vm);
	host_log_limited(vm->guest->name, LOG_INFO, "guest=%s: QEMU is gone", vm->guest->name);
}

bool ivshmem_event(const void *ptr)
{
	struct vm *vm;

	cds_list_for_each_entry(vm, &machines, link)
	{
		if (ptr == &vm->at)
			qemu_comes(vm);
		else if (ptr == &vm->conn_fd)
			qemu_goes(vm);
		else
			continue;
		return true;
	}
	return false;
}

/* --- start ------------------------------------------------------------- */

static bool kept_whole(const struct vm *vm)
{
	struct stat st;

	return vm->conn_fd >= 0 && vm->mail_fd >= 0 && vm->bell_fd >= 0 && vm->irq_fd >= 0 &&
	       !fstat(vm->mail_fd, &st) && st.st_size == CANAL_MAIL_LEN;
}

/* What the canald before this one left with the service manager. */
static void take_up(struct vm *vm)
{
	char name[64];
	int r;

	for (size_t i = 0; i < 4; i++)
		*kept_fd(vm, i) = passed_stored(kept_name(vm, i, name, sizeof(name)));
	if (!kept_whole(vm)) {
		forget(vm);
		close_all(vm);
		return;
	}
	r = begin(vm);
	if (r) {
		host_log(LOG_ERR, "guest=%s: cannot be taken up again: %s", vm->guest->name,
			 strerror(-r));
		forget(vm);
		close_all(vm);
		return;
	}
	vm->kept = true;
	host_log(LOG_INFO, "guest=%s: taken up again", vm->guest->name);
}

static int listener_make(struct vm *vm)
{
	strcpy(vm->at.path, vm->guest->socket_path);
	vm->at.remedy = "choose another socket for that guest";
	vm->at.path_fd = -1;
	vm->at.fd = passed_listener(vm->at.path);
	vm->passed = vm->at.fd >= 0;
	if (!vm->passed) {
		int r = unix_path_claim(&vm->at, SOCK_STREAM,
					vm->guest->socket_mode ? vm->guest->socket_mode : 0600);

		if (r)
			return r;
	}
	return control_watch(EPOLL_CTL_ADD, vm->at.fd, EPOLLIN, &vm->at);
}

static uint32_t machine_count(void)
{
	uint32_t count = 0;
	struct guest *g;

	cds_list_for_each_entry(g, &guests, link) count += g->transport == GUEST_VM;
	return count;
}

static int machine_start(struct guest *g)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int r;

	if (!vm)
		return -ENOMEM;
	vm->guest = g;
	vm->share.most = guestmem_mappings(machine_count());
	vm->share.ram_most = guestmem_ram_most(machine_count());
	vm->conn_fd = vm->mail_fd = vm->bell_fd = vm->irq_fd = vm->ram.fd = vm->at.fd = -1;
	g->vm = vm;
	cds_list_add_tail(&vm->link, &machines);
	r = listener_make(vm);
	if (!r)
		take_up(vm);
	return r;
}

void ivshmem_pause(bool pause)
{
	struct vm *vm;

	cds_list_for_each_entry(vm, &machines, link)(void)
		control_watch(EPOLL_CTL_MOD, vm->at.fd, pause ? 0 : EPOLLIN, &vm->at);
}

int ivshmem_start(void)
{
	struct guest *g;
	int r = 0;

	if (machine_count())
		irq_start();
	passed_begin();
	cds_list_for_each_entry(g, &guests, link)
	{
		if (!r && g->transport == GUEST_VM)
			r = machine_start(g);
	}
	passed_end();
	return r;
}

void ivshmem_stop(void)
{
	struct vm *vm;

	cds_list_for_each_entry(vm, &machines, link)
	{
		if (vm->keep_at_s) /* for the next canald */
			keep(vm);
		if (!vm->passed)
			unix_path_remove(&vm->at);
		if (vm->at.fd >= 0)
			unix_path_close(&vm->at);
	}
}

void ivshmem_end(void)
{
	struct vm *vm, *next;

	cds_list_for_each_entry_safe(vm, next, &machines, link)
	{
		vm_farewell(vm);
		close_all(vm);
		vm->guest->vm = NULL;
		cds_list_del(&vm->link);
		free(vm);
	}
	irq_stop();
}
