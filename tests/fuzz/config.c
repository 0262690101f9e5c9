/* SPDX-License-Identifier: MIT */
/*
 * The configuration reader, over any file.
 *
 * The first byte says what the rest is: a file, or the value of one key of a guest,
 * which reaches the parsers of publish and allow rules sooner. A file is refused as a
 * whole, or what it says keeps the rules that the rest of canald relies on.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "guest.h"
#include "vnet.h"

static const char *const heads[] = {
	"",
	"[guest a]\nsocket = /a\naddress = 10.77.0.2\npublish = ",
	"[guest a]\nsocket = /a\naddress = 10.77.0.2\nallow = ",
	"[guest a]\nsocket = /a\naddress6 = ",
	"[guest a]\nsocket = /a\naddress = 10.77.0.2\nhost-alias = ",
	"[canald]\ncpu = ",
};

/* Writes the file and returns its path. */
static const char *file_write(const uint8_t *data, size_t len)
{
	static char path[64];
	static int fd = -1;
	const char *head = heads[len ? data[0] % (sizeof(heads) / sizeof(heads[0])) : 0];

	if (fd < 0) {
		fd = memfd_create("config", MFD_CLOEXEC);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	fuzz_check(ftruncate(fd, 0) == 0 && pwrite(fd, head, strlen(head), 0) >= 0);
	if (len > 1)
		fuzz_check(pwrite(fd, data + 1, len - 1, (off_t)strlen(head)) >= 0);
	return path;
}

static bool is_machine(const struct canal_addr *a, int family)
{
	return !a->family ||
	       (a->family == family && !addr_any(a) && !addr_loopback(a) && !vnet_is_special(a));
}

static void rules_check(const struct guest *g)
{
	const struct publish_rule *rule;
	const struct allow_rule *allow;
	unsigned int count = 0;

	cds_list_for_each_entry(rule, &g->publish, link)
	{
		count++;
		fuzz_check(rule->guest == g && rule->line && rule->text[0]);
		fuzz_check(rule->host_port && rule->guest_port);
		fuzz_check(rule->type == SOCK_STREAM || rule->type == SOCK_DGRAM);
		fuzz_check(addr_plain(&rule->host).family == rule->host.family);
	}
	fuzz_check(count <= 100);
	cds_list_for_each_entry(allow, &g->allow, link)
		fuzz_check(allow->bits <= (allow->net.family == AF_INET ? 32 : 128));
}

static void guest_check(const struct guest *g)
{
	fuzz_check(g->name[0] && strlen(g->name) < GUEST_NAME);
	fuzz_check(g->socket_path[0] && strlen(g->socket_path) < GUEST_PATH);
	fuzz_check((g->transport == GUEST_VM) == (g->memory_path[0] == '/'));
	fuzz_check(g->address.family || g->address6.family);
	fuzz_check(is_machine(&g->address, AF_INET) && is_machine(&g->address6, AF_INET6));
	fuzz_check(is_machine(&g->alias, AF_INET) && is_machine(&g->alias6, AF_INET6));
	fuzz_check(g->chunks <= 16384 && g->max_sockets <= CHANNEL_SOCKS_MAX);
	rules_check(g);
}

static void settings_check(const struct settings *s)
{
	fuzz_check(s->pollers <= SETTINGS_POLLERS && s->cpu_count <= SETTINGS_POLLERS);
	for (unsigned int i = 0; i < SETTINGS_POLLERS; i++)
		fuzz_check((s->cpus[i] >= 0) == (i < s->cpu_count));
	fuzz_check(s->max_sockets <= CHANNEL_SOCKS_MAX && s->max_channels);
	fuzz_check(memchr(s->socket_path, '\0', sizeof(s->socket_path)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct settings before, s;
	const struct guest *g;
	int error;

	settings.log_level = -1;                    /* what is wrong is no matter here */
	memcpy(&before, &settings, sizeof(before)); /* with what is between its members */
	memcpy(&s, &settings, sizeof(s));
	error = config_read(&s, file_write(data, len));
	if (error) {
		fuzz_check(error == -EINVAL && !memcmp(&s, &before, sizeof(s)));
		fuzz_check(cds_list_empty(&guests));
		return 0;
	}
	settings_check(&s);
	cds_list_for_each_entry(g, &guests, link) guest_check(g);
	guests_free(&guests);
	return 0;
}
