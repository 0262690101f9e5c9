# SPDX-License-Identifier: MIT
"""Does what it is told, a line at a time: each line of standard input is JSON, a piece of Python.

An expression is evaluated, else it is executed; the answer is a line of JSON, [number, "ok", value]
or [number, "error", name of the errno or of the exception]. Names live on from line to line.
"""

import errno
import json
import select
import socket
import sys

names = {"socket": socket, "select": select}


def tcp(family=socket.AF_INET, **options):
    """A stream socket that gives up after a while."""
    made = socket.socket(family, socket.SOCK_STREAM)
    for name, value in options.items():
        made.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    made.settimeout(60)
    return made


def udp(family=socket.AF_INET, **options):
    made = socket.socket(family, socket.SOCK_DGRAM)
    for name, value in options.items():
        made.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    made.settimeout(60)
    return made


def listener(address, port, family=socket.AF_INET, **options):
    made = tcp(family, **options)
    made.bind((address, port))
    made.listen()
    return made


def client(address, port, family=socket.AF_INET, **options):
    made = tcp(family, **options)
    made.connect((address, port))
    return made


names.update(tcp=tcp, udp=udp, listener=listener, client=client)


def plain(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else repr(value)


def answer(text):
    try:
        try:
            code = compile(text, "told", "eval")
        except SyntaxError:
            exec(compile(text, "told", "exec"), names)
            return "ok", None
        return "ok", plain(eval(code, names))
    except OSError as error:
        return "error", errno.errorcode.get(error.errno, type(error).__name__)
    except Exception as error:
        return "error", f"{type(error).__name__}: {error}"


print("ready", flush=True)
for number, line in enumerate(sys.stdin):
    print(json.dumps([number, *answer(json.loads(line))]), flush=True)
