# SPDX-License-Identifier: MIT
# echo.rb serve|ask PORT: EventMachine, a reactor of its own in C++ (epoll, writev).
require "eventmachine"
LENGTH, PEERS = 300_000, 16
finish, port = ARGV[0], ARGV[1].to_i
$left = PEERS

module Answer
  def receive_data(piece) = send_data(piece)
end

class Ask < EM::Connection
  def initialize(number)
    @text, @back = Random.new(number).bytes(LENGTH), +""
  end

  def connection_completed = send_data(@text)

  def receive_data(piece)
    @back << piece
    return if @back.bytesize < LENGTH
    abort "different" unless @back == @text
    close_connection
  end

  def unbind
    abort "short" if @back.bytesize < LENGTH
    EM.stop if ($left -= 1).zero?
  end
end

EM.epoll
EM.run do
  if finish == "serve"
    EM.start_server("127.0.0.1", port, Answer)
  else
    PEERS.times { |number| EM.connect("127.0.0.1", port, Ask, number) }
  end
end
puts "all equal"
