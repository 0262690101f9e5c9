# SPDX-License-Identifier: MIT
"""crowd_threads.py COUNT: a server of COUNT threads, and as many that ask it, each with a connection; half wait in poll()."""

import select
import socket
import sys
import threading

COUNT = int(sys.argv[1])
threading.stack_size(128 << 10)
listener = socket.create_server(("127.0.0.1", 0), backlog=COUNT)
together = threading.Barrier(COUNT)
equal = []


def receive(end, number):
    if number % 2:
        poller = select.poll()
        poller.register(end, select.POLLIN)
        assert poller.poll(100_000)
    return end.recv(100)


def answer(end, number):
    with end:
        while piece := receive(end, number):
            end.sendall(piece)


def ask(number):
    with socket.create_connection(listener.getsockname()) as end:
        together.wait()
        for turn in range(5):
            sent = b"%d %d" % (number, turn)
            end.sendall(sent)
            assert receive(end, number) == sent
    equal.append(number)


askers = [threading.Thread(target=ask, args=(number,)) for number in range(COUNT)]
for asker in askers:
    asker.start()
for number in range(COUNT):
    threading.Thread(target=answer, args=(listener.accept()[0], number)).start()
for asker in askers:
    asker.join()
print("all equal" if len(equal) == COUNT else f"{len(equal)} of {COUNT}")
