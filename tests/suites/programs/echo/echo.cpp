// SPDX-License-Identifier: MIT
// echo.cpp serve|ask PORT: Boost.Asio: an edge-triggered epoll, an eventfd and a timerfd in it, four threads.
#include <boost/asio.hpp>
#include <array>
#include <iostream>
#include <memory>
#include <thread>
#include <vector>

using boost::asio::ip::tcp;
using Error = boost::system::error_code;
constexpr int peers = 16;
constexpr std::size_t length = 300000;

struct Answer : std::enable_shared_from_this<Answer> {
	tcp::socket socket;
	std::array<char, 10000> piece;
	explicit Answer(tcp::socket s) : socket(std::move(s)) {}
	void read()
	{
		socket.async_read_some(boost::asio::buffer(piece), [self = shared_from_this()](Error e, std::size_t n) {
			if (!e)
				self->write(n);
		});
	}
	void write(std::size_t n)
	{
		boost::asio::async_write(socket, boost::asio::buffer(piece, n), [self = shared_from_this()](Error e, std::size_t) {
			if (!e)
				self->read();
		});
	}
};

static void serve(tcp::acceptor &acceptor)
{
	acceptor.async_accept([&](Error e, tcp::socket socket) {
		if (!e)
			std::make_shared<Answer>(std::move(socket))->read();
		serve(acceptor);
	});
}

struct Ask : std::enable_shared_from_this<Ask> {
	tcp::socket socket;
	boost::asio::steady_timer timer;
	std::vector<char> text, back;
	std::atomic<int> &left;
	Ask(boost::asio::io_context &io, int number, std::atomic<int> &l) : socket(io), timer(io), text(length), back(length), left(l)
	{
		for (std::size_t i = 0; i < length; i++)
			text[i] = char(i * 2654435761u >> 13) ^ char(number);
	}
	void begin(tcp::endpoint at)
	{
		timer.expires_after(std::chrono::seconds(120));
		timer.async_wait([self = shared_from_this()](Error e) {
			if (!e)
				std::abort();
		});
		socket.async_connect(at, [self = shared_from_this()](Error e) {
			if (e)
				std::abort();
			self->talk();
		});
	}
	void talk()
	{
		boost::asio::async_write(socket, boost::asio::buffer(text), [self = shared_from_this()](Error e, std::size_t) {
			if (e)
				std::abort();
			self->socket.shutdown(tcp::socket::shutdown_send);
		});
		boost::asio::async_read(socket, boost::asio::buffer(back), [self = shared_from_this()](Error e, std::size_t) {
			if (e || self->back != self->text)
				std::abort();
			self->timer.cancel();
			self->left--;
		});
	}
};

int main(int, char **argv)
{
	boost::asio::io_context io;
	tcp::endpoint at(boost::asio::ip::make_address("127.0.0.1"), std::atoi(argv[2]));
	std::unique_ptr<tcp::acceptor> acceptor;
	std::atomic<int> left{0};
	if (argv[1] == std::string("serve")) {
		acceptor = std::make_unique<tcp::acceptor>(io, at);
		serve(*acceptor);
	} else {
		for (left = peers; int n : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
			std::make_shared<Ask>(io, n, left)->begin(at);
	}
	std::vector<std::thread> threads;
	for (int i = 0; i < 4; i++)
		threads.emplace_back([&] { io.run(); });
	for (auto &thread : threads)
		thread.join();
	std::cout << (left == 0 ? "all equal\n" : "different\n");
}
