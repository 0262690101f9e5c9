/* SPDX-License-Identifier: MIT */
/* config.h's [guest] sections and vnet.h: what was written, and where that leads. */
#include "cmocka_begin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vnet.h"

static const char config[] = "[guest one]\n"
			     "socket = /s/one\n"
			     "address = 10.77.0.2\n"
			     "address6 = fd77::2\n"
			     "host_alias = 10.77.0.1\n"
			     "publish = 8080:80\n"
			     "publish = [::1]:8443:443\n"
			     "publish = 127.0.0.1:5353:53/udp\n"
			     "max-channels = 7\n"
			     "channel-memory = 4M\n"
			     "pin-memory = 64K\n"
			     "[guest two]\n"
			     "socket = /s/two\n"
			     "socket-mode = 0660\n"
			     "transport = vm\n"
			     "memory = /dev/shm/two\n"
			     "address = 10.77.0.3\n"
			     "[guest shut]\n"
			     "socket = /s/shut\n"
			     "address = 10.77.0.4\n"
			     "allow = 10.77.0.3:80\n"
			     "allow = 198.51.100.128/25\n"
			     "allow = 127.0.0.0/8\n";

static struct canal_addr address(const char *ip, uint16_t port)
{
	struct canal_addr a = { .family = strchr(ip, ':') ? AF_INET6 : AF_INET,
				.port = htons(port) };

	assert_int_equal(inet_pton(a.family, ip, a.ip), 1);
	return a;
}

static void assert_address(const struct canal_addr *a, const char *ip, uint16_t port)
{
	char text[INET6_ADDRSTRLEN] = "none";

	if (a->family)
		inet_ntop(a->family, a->ip, text, sizeof(text));
	assert_string_equal(text, ip);
	assert_int_equal(ntohs(a->port), port);
}

static int set_up(void **state)
{
	char path[] = "/tmp/canal-unit-XXXXXX";
	int fd = mkstemp(path), r;

	(void)state;
	if (fd < 0 || write(fd, config, sizeof(config) - 1) != sizeof(config) - 1)
		return -1;
	close(fd);
	r = config_read(&settings, path);
	unlink(path);
	return r;
}

static int tear_down(void **state)
{
	(void)state;
	guests_free(&guests);
	return 0;
}

static struct guest *guest(const char *name)
{
	struct guest *g = guest_find(&guests, name);

	assert_non_null(g);
	return g;
}

static void sections_are_read(void **state)
{
	struct guest *one = guest("one"), *two = guest("two");
	struct publish_rule *rule;
	int i = 0;

	(void)state;
	assert_string_equal(one->socket_path, "/s/one");
	assert_int_equal(one->transport, GUEST_LOCAL);
	assert_address(&one->address, "10.77.0.2", 0);
	assert_address(&one->address6, "fd77::2", 0);
	assert_address(&one->alias, "10.77.0.1", 0);
	assert_int_equal(one->alias6.family, 0);
	assert_int_equal(one->max_channels, 7);
	assert_int_equal(one->chunks, (4 << 20) / 2 / CANAL_CHUNK);
	assert_int_equal(one->pins, 16);
	cds_list_for_each_entry(rule, &one->publish, link)
	{
		static const struct {
			const char *host;
			uint16_t host_port, guest_port;
			int type;
		} expected[] = {
			{ "none", 8080, 80, SOCK_STREAM },
			{ "::1", 8443, 443, SOCK_STREAM },
			{ "127.0.0.1", 5353, 53, SOCK_DGRAM },
		};

		assert_address(&rule->host, expected[i].host, 0);
		assert_int_equal(ntohs(rule->host_port), expected[i].host_port);
		assert_int_equal(ntohs(rule->guest_port), expected[i].guest_port);
		assert_int_equal(rule->type, expected[i].type);
		i++;
	}
	assert_int_equal(i, 3);
	assert_int_equal(two->transport, GUEST_VM);
	assert_int_equal(two->socket_mode, 0660);
	assert_string_equal(two->memory_path, "/dev/shm/two");
	assert_null(guest_find(&guests, "three"));
}

/* Where @ip leads from @from: @to, as @sender; NULL guest: out of the host. */
static void assert_route(const char *from, const char *ip, const char *to_guest, const char *to,
			 const char *sender)
{
	struct canal_addr a = address(ip, 80);
	struct vnet_route route;

	assert_int_equal(vnet_route(guest(from), &a, &route), 0);
	assert_ptr_equal(route.guest, to_guest ? guest(to_guest) : NULL);
	assert_address(&route.to, to, 80);
	assert_address(&route.from, sender, 0);
}

static int route_error(const char *from, const char *ip, uint16_t port)
{
	struct canal_addr a = address(ip, port);
	struct vnet_route route;

	return vnet_route(guest(from), &a, &route);
}

static void loopback_is_the_guests_own(void **state)
{
	(void)state;
	assert_route("one", "127.0.0.1", "one", "127.0.0.1", "127.0.0.1");
	assert_route("one", "127.9.9.9", "one", "127.9.9.9", "127.0.0.1");
	assert_route("one", "::1", "one", "::1", "::1");
	assert_route("one", "::ffff:127.0.0.1", "one", "127.0.0.1", "127.0.0.1");
	assert_route("one", "0.0.0.0", "one", "127.0.0.1", "127.0.0.1");
	assert_route("one", "::", "one", "::1", "::1");
	assert_route("one", "::ffff:0.0.0.0", "one", "127.0.0.1", "127.0.0.1");
	assert_route("shut", "127.0.0.1", "shut", "127.0.0.1", "127.0.0.1");
}

static void addresses_lead_to_guests(void **state)
{
	(void)state;
	assert_route("one", "10.77.0.2", "one", "10.77.0.2", "10.77.0.2");
	assert_route("one", "fd77::2", "one", "fd77::2", "fd77::2");
	assert_route("one", "10.77.0.3", "two", "10.77.0.3", "10.77.0.2");
	assert_route("one", "::ffff:10.77.0.3", "two", "10.77.0.3", "10.77.0.2");
	assert_route("two", "10.77.0.2", "one", "10.77.0.2", "10.77.0.3");
}

static void alias_leads_to_the_hosts_loopback(void **state)
{
	(void)state;
	assert_route("one", "10.77.0.1", NULL, "127.0.0.1", "10.77.0.2");
	assert_route("two", "10.77.0.1", NULL, "10.77.0.1", "10.77.0.3"); /* it has none */
}

static void the_rest_is_outside(void **state)
{
	(void)state;
	assert_route("one", "192.0.2.1", NULL, "192.0.2.1", "10.77.0.2");
	assert_route("one", "2001:db8::1", NULL, "2001:db8::1", "fd77::2");
	assert_int_equal(route_error("two", "2001:db8::1", 80), -ENETUNREACH);
	assert_int_equal(route_error("one", "169.254.169.254", 80), -EACCES);
	assert_int_equal(route_error("one", "fe80::1", 80), -EACCES);
	assert_int_equal(route_error("one", "224.0.0.1", 80), -EACCES);
	assert_int_equal(route_error("one", "255.255.255.255", 80), -EACCES);
	assert_int_equal(route_error("one", "ff02::1", 80), -EACCES);
}

static void allow_list_is_the_limit(void **state)
{
	(void)state;
	assert_route("shut", "10.77.0.3", "two", "10.77.0.3", "10.77.0.4");
	assert_int_equal(route_error("shut", "10.77.0.3", 81), -EACCES);
	assert_int_equal(route_error("shut", "10.77.0.2", 80), -EACCES);
	assert_int_equal(route_error("shut", "198.51.100.127", 80), -EACCES);
	assert_route("shut", "198.51.100.128", NULL, "198.51.100.128", "10.77.0.4");
	assert_route("shut", "198.51.100.255", NULL, "198.51.100.255", "10.77.0.4");
	assert_int_equal(route_error("shut", "198.51.101.128", 80), -EACCES);
	assert_int_equal((int)guest("shut")->denied, 4);
}

static void hosts_loopback_is_seen_as_the_alias(void **state)
{
	struct canal_addr a = address("127.0.0.5", 5), b = address("::1", 6),
			  c = address("192.0.2.1", 7);

	(void)state;
	vnet_seen(guest("one"), &a);
	vnet_seen(guest("one"), &b);
	vnet_seen(guest("one"), &c);
	assert_address(&a, "10.77.0.1", 5);
	assert_address(&b, "100::8", 6);
	assert_true(vnet_is_stand_in(&b));
	assert_address(&c, "192.0.2.1", 7);
}

static void only_own_addresses_can_be_bound(void **state)
{
	static const char *const own[] = { "0.0.0.0", "::",        "127.0.0.2",
					   "::1",     "10.77.0.2", "fd77::2" };
	static const char *const others[] = { "10.77.0.1", "10.77.0.3", "192.0.2.1", "fd77::3" };

	(void)state;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		struct canal_addr a = address(own[i], 0);

		assert_true(vnet_is_own(guest("one"), &a));
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct canal_addr a = address(others[i], 0);

		assert_false(vnet_is_own(guest("one"), &a));
	}
}

static void addresses_change_family(void **state)
{
	const struct canal_addr v4 = address("10.0.0.1", 9), v6 = address("fd77::2", 9);
	struct canal_addr a = addr_as(&v4, AF_INET6), b;

	(void)state;
	assert_address(&a, "::ffff:10.0.0.1", 9);
	b = addr_as(&a, AF_INET);
	assert_address(&b, "10.0.0.1", 9);
	b = addr_as(&v6, AF_INET); /* there is none */
	assert_address(&b, "0.0.0.0", 9);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(sections_are_read),
		CASE(loopback_is_the_guests_own),
		CASE(addresses_lead_to_guests),
		CASE(alias_leads_to_the_hosts_loopback),
		CASE(the_rest_is_outside),
		CASE(allow_list_is_the_limit),
		CASE(hosts_loopback_is_seen_as_the_alias),
		CASE(only_own_addresses_can_be_bound),
		CASE(addresses_change_family),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
