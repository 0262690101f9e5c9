/* SPDX-License-Identifier: MIT */
/*
 * Names, against a name server that tests/system/test_names.py has for itself:
 * every function that looks names up, and what it says.
 */
#include "calls.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <resolv.h>

static const char *text_of(int af, const void *ip)
{
	static char text[INET6_ADDRSTRLEN];

	return inet_ntop(af, ip, text, sizeof(text));
}

/* --- getaddrinfo ------------------------------------------------------------- */

static void say_list(const struct addrinfo *list)
{
	for (const struct addrinfo *ai = list; ai; ai = ai->ai_next) {
		char host[NI_MAXHOST], port[NI_MAXSERV];

		getnameinfo(ai->ai_addr, ai->ai_addrlen, host, sizeof(host), port, sizeof(port),
			    NI_NUMERICHOST | NI_NUMERICSERV);
		say("  family %d type %d protocol %d length %u %s %s flags %x name %s",
		    ai->ai_family, ai->ai_socktype, ai->ai_protocol, ai->ai_addrlen, host, port,
		    ai->ai_flags, ai->ai_canonname ? ai->ai_canonname : "-");
	}
}

static void look_up(const char *node, const char *service, int af, int flags, int socktype)
{
	struct addrinfo hints = { .ai_flags = flags, .ai_family = af, .ai_socktype = socktype };
	struct addrinfo *list = NULL;
	int ret = getaddrinfo(node, service, &hints, &list);

	say("%s %s family %d flags %x type %d: %s", node, service ? service : "-", af, flags,
	    socktype, ret ? gai_strerror(ret) : "found");
	if (ret)
		return;
	say_list(list);
	freeaddrinfo(list);
}

static const char *const nodes[] = { "one.example.test",
				     "both.example.test",
				     "many.example.test",
				     "alias.example.test",
				     "six.example.test",
				     "nothing.example.test",
				     "empty.example.test",
				     "broken.example.test",
				     "one",
				     "ONE.example.test.",
				     "mine",
				     "mine.example.test",
				     "host-only",
				     "localhost" };

static void lists(void)
{
	for (size_t i = 0; i < COUNT(nodes); i++) {
		look_up(nodes[i], "80", AF_UNSPEC, 0, SOCK_STREAM);
		look_up(nodes[i], NULL, AF_INET, AI_CANONNAME, SOCK_DGRAM);
		look_up(nodes[i], "http", AF_INET6, 0, SOCK_STREAM);
		look_up(nodes[i], "7", AF_UNSPEC, AI_ADDRCONFIG, 0);
	}
}

static void flags(void)
{
	look_up("one.example.test", "80", AF_INET6, AI_V4MAPPED, SOCK_STREAM);
	look_up("both.example.test", "80", AF_INET6, AI_V4MAPPED | AI_ALL, SOCK_STREAM);
	look_up("one.example.test", "80", AF_INET, AI_PASSIVE, SOCK_STREAM);
	look_up("one.example.test", "80", AF_INET, AI_NUMERICHOST, SOCK_STREAM);
	look_up("one.example.test", "http", AF_INET, AI_NUMERICSERV, SOCK_STREAM);
	look_up("one.example.test", "nonesuch", AF_INET, 0, SOCK_STREAM);
	look_up("one.example.test", "canal-test", AF_INET, 0, 0);
	look_up("one.example.test", "canal-test", AF_INET, 0, SOCK_DGRAM);
	look_up("one.example.test", "80", AF_INET, 0, 99);
	look_up("one.example.test", "80", 77, 0, SOCK_STREAM);
	look_up("one.example.test", "80", AF_INET, 0x40000000, SOCK_STREAM);
	look_up("alias.example.test", "80", AF_UNSPEC, AI_CANONNAME, 0);
	look_up("a..b", "80", AF_INET, 0, SOCK_STREAM);
	look_up("spaced name", "80", AF_INET, 0, SOCK_STREAM);
}

static void in_background(void)
{
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };
	struct gaicb one = { .ar_name = "one.example.test",
			     .ar_service = "80",
			     .ar_request = &hints };
	struct gaicb two = { .ar_name = "nothing.example.test", .ar_request = &hints };
	struct gaicb *list[] = { &one, NULL, &two };
	const struct gaicb *const waited[] = { &one, &two };

	TELL(getaddrinfo_a(GAI_WAIT, list, 3, NULL));
	say("%s, %s", gai_strerror(gai_error(&one)), gai_strerror(gai_error(&two)));
	say_list(one.ar_result);
	TELL(gai_cancel(&one));
	TELL(getaddrinfo_a(GAI_NOWAIT, list, 3, NULL));
	/* One by one: glibc's gai_suspend() of two can return while its list still hangs on the one
	   that is just ending, and crash a moment later. */
	for (int i = 0; i < 2; i++)
		while (gai_error((struct gaicb *)waited[i]) == EAI_INPROGRESS)
			gai_suspend(&waited[i], 1, NULL);
	say("%s, %s", gai_strerror(gai_error(&one)), gai_strerror(gai_error(&two)));
	TELL(gai_suspend(waited, 2, NULL));
	TELL(getaddrinfo_a(7, list, 3, NULL));
}

/* --- the old functions ---------------------------------------------------------- */

static void say_host(const struct hostent *h)
{
	if (!h) {
		say("  nothing: %s", hstrerror(h_errno));
		return;
	}
	say("  %s type %d length %d", h->h_name, h->h_addrtype, h->h_length);
	for (char **alias = h->h_aliases; *alias; alias++)
		say("    alias %s", *alias);
	for (char **ip = h->h_addr_list; *ip; ip++)
		say("    %s", text_of(h->h_addrtype, *ip));
}

static void by_name(void)
{
	for (size_t i = 0; i < COUNT(nodes); i++) {
		say("%s", nodes[i]);
		say_host(gethostbyname(nodes[i]));
		say_host(gethostbyname2(nodes[i], AF_INET6));
	}
	say_host(gethostbyname("127.0.0.1"));
	say_host(gethostbyname2("::1", AF_INET6));
}

/* Each byte too few is ERANGE, until it is enough. */
static void by_name_r(void)
{
	struct hostent h, *result;
	char buf[2048];
	int h_error = 0, error = ERANGE;
	size_t len = 0;

	for (; error == ERANGE && len < sizeof(buf); len += 8)
		error = gethostbyname2_r("alias.example.test", AF_INET, &h, buf, len, &result,
					 &h_error);
	say("enough: %s", error ? strerror(error) : result ? "found" : "nothing");
	if (!error)
		say_host(result);
	error = gethostbyname_r("nothing.example.test", &h, buf, sizeof(buf), &result, &h_error);
	say("%s, %s, %s", strerror(error), result ? "found" : "nothing", hstrerror(h_error));
	error = gethostbyname_r("broken.example.test", &h, buf, sizeof(buf), &result, &h_error);
	say("%s, %s, %s", strerror(error), result ? "found" : "nothing", hstrerror(h_error));
	error = gethostbyname_r("empty.example.test", &h, buf, sizeof(buf), &result, &h_error);
	say("%s, %s, %s", strerror(error), result ? "found" : "nothing", hstrerror(h_error));
	error = gethostbyname2_r("one.example.test", 77, &h, buf, sizeof(buf), &result, &h_error);
	say("family 77: %s", result ? "found" : "nothing");
}

static const char *const ips[] = { "192.0.2.1", "192.0.2.2", "192.0.2.77", "203.0.113.9",
				   "127.0.0.1" };

static void by_address(void)
{
	struct in6_addr in6;
	struct in_addr in;

	for (size_t i = 0; i < COUNT(ips); i++) {
		inet_pton(AF_INET, ips[i], &in);
		say("%s", ips[i]);
		say_host(gethostbyaddr(&in, sizeof(in), AF_INET));
	}
	inet_pton(AF_INET6, "2001:db8::6", &in6);
	say_host(gethostbyaddr(&in6, sizeof(in6), AF_INET6));
}

static void reverse(const char *ip, int port, int flags, size_t host_len, size_t service_len)
{
	char host[NI_MAXHOST] = "", service[NI_MAXSERV] = "";
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int ret;

	inet_pton(AF_INET, ip, &in.sin_addr);
	ret = getnameinfo((struct sockaddr *)&in, sizeof(in), host_len ? host : NULL,
			  (socklen_t)host_len, service_len ? service : NULL, (socklen_t)service_len,
			  flags);
	say("%s %d flags %x: %s %s %s", ip, port, flags, ret ? gai_strerror(ret) : "found",
	    ret ? "" : host, ret ? "" : service);
}

static void names_of(void)
{
	struct sockaddr_in in = { .sin_family = 77 };
	char host[64];

	for (size_t i = 0; i < COUNT(ips); i++) {
		reverse(ips[i], 80, 0, NI_MAXHOST, NI_MAXSERV);
		reverse(ips[i], 80, NI_NAMEREQD, NI_MAXHOST, 0);
		reverse(ips[i], 80, NI_NUMERICHOST, NI_MAXHOST, NI_MAXSERV);
		reverse(ips[i], 7777, NI_DGRAM, 0, NI_MAXSERV);
		reverse(ips[i], 80, 0, 4, NI_MAXSERV);
		reverse(ips[i], 80, NI_NUMERICSERV, NI_MAXHOST, 1);
	}
	reverse("192.0.2.1", 80, 0, 0, 0);
	say("%s", gai_strerror(getnameinfo((struct sockaddr *)&in, sizeof(in), host, sizeof(host),
					   NULL, 0, 0)));
}

/* The files alone. */
static void the_files(void)
{
	struct hostent *h;
	struct servent *s = getservbyname("canal-test", "tcp");

	sethostent(0);
	while ((h = gethostent()))
		say_host(h);
	endhostent();
	say("service %d", s ? ntohs((uint16_t)s->s_port) : -1);
}

/* --- DNS ---------------------------------------------------------------------------- */

static void say_answer(const char *what, int len, const unsigned char *answer)
{
	ns_msg msg;

	if (len < 0) {
		say("%s: %s", what, hstrerror(h_errno));
		return;
	}
	say("%s: %d bytes", what, len);
	if (ns_initparse(answer, len, &msg) < 0)
		return;
	for (int i = 0; i < ns_msg_count(msg, ns_s_an); i++) {
		ns_rr rr;

		if (ns_parserr(&msg, ns_s_an, i, &rr) == 0)
			say("  %s type %d length %d", ns_rr_name(rr), ns_rr_type(rr),
			    ns_rr_rdlen(rr));
	}
}

static void dns(void)
{
	static const char *const names[] = { "one.example.test",
					     "many.example.test",
					     "nothing.example.test",
					     "empty.example.test",
					     "broken.example.test",
					     "text.example.test",
					     "one",
					     "one.",
					     "alias" };
	unsigned char answer[4096], query[512];
	struct __res_state state = { 0 };
	int len;

	TELL(res_init());
	for (size_t i = 0; i < COUNT(names); i++) {
		len = res_query(names[i], ns_c_in, ns_t_a, answer, sizeof(answer));
		say_answer(names[i], len, answer);
		len = res_search(names[i], ns_c_in, ns_t_a, answer, sizeof(answer));
		say_answer("  search", len, answer);
		len = res_query(names[i], ns_c_in, ns_t_txt, answer, sizeof(answer));
		say_answer("  text", len, answer);
	}
	say_answer("domain",
		   res_querydomain("one", "example.test", ns_c_in, ns_t_a, answer, sizeof(answer)),
		   answer);
	TELL(res_ninit(&state));
	say_answer("n", res_nsearch(&state, "one", ns_c_in, ns_t_a, answer, sizeof(answer)),
		   answer);
	len = res_nmkquery(&state, ns_o_query, "one.example.test", ns_c_in, ns_t_a, NULL, 0, NULL,
			   query, sizeof(query));
	say_answer("send", res_nsend(&state, query, len, answer, sizeof(answer)), answer);
	say_answer("send", res_send(query, len, answer, sizeof(answer)), answer);
	res_nclose(&state);
}

/* --- threads -------------------------------------------------------------------------- */

static void *looks(void *arg)
{
	bool right = true;

	for (int i = 0; i < 20; i++) {
		struct hostent h, *result = NULL;
		struct addrinfo hints = { .ai_family = AF_INET }, *list = NULL;
		char buf[1024], expected[32], node[64];
		int h_error;

		snprintf(node, sizeof(node), "n%d.example.test", (int)(intptr_t)arg);
		snprintf(expected, sizeof(expected), "198.51.100.%d", (int)(intptr_t)arg);
		right &= !gethostbyname_r(node, &h, buf, sizeof(buf), &result, &h_error) &&
			 result &&
			 strcmp(inet_ntop(AF_INET, h.h_addr_list[0], node, sizeof(node)),
				expected) == 0;
		snprintf(node, sizeof(node), "n%d.example.test", (int)(intptr_t)arg);
		right &= !getaddrinfo(node, NULL, &hints, &list);
		if (list)
			freeaddrinfo(list);
	}
	return (void *)(intptr_t)right;
}

static void threads(void)
{
	pthread_t thread[8];
	int right = 0;

	for (int i = 0; i < 8; i++)
		pthread_create(&thread[i], NULL, looks, (void *)(intptr_t)(i + 1));
	for (int i = 0; i < 8; i++) {
		void *one;

		pthread_join(thread[i], &one);
		right += one != NULL;
	}
	say("%d of 8 threads", right);
}

/* --- cancellation ------------------------------------------------------------------------ */

static void *waits(void *kind)
{
	struct addrinfo *list;
	struct hostent h, *result;
	char buf[1024];
	int h_error;

	if (kind)
		gethostbyname_r("silent.example.test", &h, buf, sizeof(buf), &result, &h_error);
	else
		getaddrinfo("silent.example.test", NULL, NULL, &list);
	return NULL;
}

/* Only by name: what it prints depends on the time that a name server has. */
static void cancelled(void)
{
	for (int round = 0; round < 2; round++) {
		struct hostent *h;
		pthread_t thread[2];
		int count = 0;

		for (int i = 0; i < 2; i++)
			pthread_create(&thread[i], NULL, waits, (void *)(intptr_t)(i & 1));
		nap_ms(50);
		for (int i = 0; i < 2; i++)
			pthread_cancel(thread[i]);
		for (int i = 0; i < 2; i++) {
			void *end;

			pthread_join(thread[i], &end);
			count += end == PTHREAD_CANCELED;
		}
		say("%d of 2 cancelled", count);
		h = gethostbyname("one.example.test");
		say("  %s", h ? text_of(h->h_addrtype, h->h_addr_list[0]) : hstrerror(h_errno));
	}
}

/* Only by name, as well. A child has none of its parent's threads. */
static void background_of_child(void)
{
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };
	struct gaicb slow[8], *list[8],
		one = { .ar_name = "one.example.test", .ar_request = &hints };
	pid_t pid;

	for (int i = 0; i < 8; i++) {
		slow[i] = (struct gaicb){ .ar_name = "silent.example.test", .ar_request = &hints };
		list[i] = &slow[i];
	}
	TELL(getaddrinfo_a(GAI_NOWAIT, list, 8, NULL));
	pid = NEED(fork());
	if (!pid) {
		TELL(getaddrinfo_a(GAI_WAIT, (struct gaicb *[]){ &one }, 1, NULL));
		say_list(one.ar_result);
		fflush(stdout);
		_exit(0);
	}
	say_child("child", pid);
}

/* Only by name, as well. At whatever point: nothing that the next one needs is kept by who is gone. */
static void cancelled_at_once(void)
{
	struct hostent *h;

	for (int round = 0; round < 50; round++) {
		pthread_t thread[2];

		for (int i = 0; i < 2; i++)
			pthread_create(&thread[i], NULL, waits, (void *)(intptr_t)(i & 1));
		for (int i = 0; i < 2; i++)
			pthread_cancel(thread[i]);
		for (int i = 0; i < 2; i++)
			pthread_join(thread[i], NULL);
	}
	h = gethostbyname("localhost");
	say("%s", h ? text_of(h->h_addrtype, h->h_addr_list[0]) : hstrerror(h_errno));
}

const struct call_case cases[] = {
	{ "lists", lists },
	{ "flags", flags },
	{ "in_background", in_background },
	{ "by_name", by_name },
	{ "by_name_r", by_name_r },
	{ "by_address", by_address },
	{ "names_of", names_of },
	{ "the_files", the_files },
	{ "dns", dns },
	{ "threads", threads },
	{ "cancelled", cancelled, .only_named = true },
	{ "background_of_child", background_of_child, .only_named = true },
	{ "cancelled_at_once", cancelled_at_once, .only_named = true },
};
const size_t case_count = COUNT(cases);
