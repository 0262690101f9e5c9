# SPDX-License-Identifier: MIT
"""beanstalk.py PORT COUNT LEN: a producer and a consumer of beanstalkd's jobs, in two threads."""

import random
import socket
import sys
import threading

port, count, length = map(int, sys.argv[1:])


def job(number):
    return random.Random(number).randbytes(length)


def produce():
    with socket.create_connection(("127.0.0.1", port)) as s, s.makefile("rwb") as file:
        for number in range(count):
            file.write(b"put 0 0 60 %d\r\n%s\r\n" % (length, job(number)))
            file.flush()
            assert file.readline().startswith(b"INSERTED")


def consume():
    with socket.create_connection(("127.0.0.1", port)) as s, s.makefile("rwb") as file:
        for number in range(count):
            file.write(b"reserve\r\n")
            file.flush()
            _, name, size = file.readline().split()
            assert int(size) == length and file.read(length + 2) == job(number) + b"\r\n", number
            file.write(b"delete %s\r\n" % name)
            file.flush()
            assert file.readline() == b"DELETED\r\n"


producer = threading.Thread(target=produce)
producer.start()
consume()
producer.join()
print("all equal")
