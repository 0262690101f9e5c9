# SPDX-License-Identifier: MIT
"""What a program is told of its own addresses: getifaddrs(), SIOCGIF*, and joining a group, as JSON."""

import ctypes
import errno
import fcntl
import json
import socket
import struct

SIOCGIFCONF, SIOCGIFADDR, SIOCGIFNETMASK, SIOCGIFFLAGS = 0x8912, 0x8915, 0x891B, 0x8913
IFREQ_LEN = 40
FAMILIES = {socket.AF_INET: (4, 4), socket.AF_INET6: (8, 16)}  # where the address lies, and its length


class Ifaddrs(ctypes.Structure):
    pass


Ifaddrs._fields_ = [("next", ctypes.POINTER(Ifaddrs)), ("name", ctypes.c_char_p), ("flags", ctypes.c_uint),
                    ("addr", ctypes.c_void_p), ("mask", ctypes.c_void_p), ("other", ctypes.c_void_p),
                    ("data", ctypes.c_void_p)]


def address(pointer):
    """The text of an internet address, or None."""
    if not pointer:
        return None
    family = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_uint16))[0]
    if family not in FAMILIES:
        return None
    offset, length = FAMILIES[family]
    return socket.inet_ntop(family, ctypes.string_at(pointer + offset, length))


def listed():
    libc = ctypes.CDLL(None, use_errno=True)
    head = ctypes.POINTER(Ifaddrs)()
    assert libc.getifaddrs(ctypes.byref(head)) == 0, ctypes.get_errno()
    found, at = [], head
    while at:
        entry = at.contents
        if text := address(entry.addr):
            found.append([entry.name.decode(), text, address(entry.mask)])
        at = entry.next
    libc.freeifaddrs(head)
    return found


def request(name):
    return name.encode().ljust(16, b"\0") + bytes(IFREQ_LEN - 16)


def asked(sock, number, name):
    try:
        reply = fcntl.ioctl(sock, number, request(name))
    except OSError as error:
        return errno.errorcode[error.errno]
    return struct.unpack("H", reply[16:18])[0] if number == SIOCGIFFLAGS else socket.inet_ntoa(reply[20:24])


def configured(sock, room):
    buffer = ctypes.create_string_buffer(room)
    conf = fcntl.ioctl(sock, SIOCGIFCONF, struct.pack("iP", room, ctypes.addressof(buffer)))
    length = struct.unpack("iP", conf)[0]
    assert length <= room
    return [[buffer.raw[at:at + 16].rstrip(b"\0").decode(), socket.inet_ntoa(buffer.raw[at + 20:at + 24])]
            for at in range(0, length, IFREQ_LEN)]


def join(sock):
    try:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.2.3") + bytes(4))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "joined"


with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
    needed = struct.unpack("iP", fcntl.ioctl(own, SIOCGIFCONF, struct.pack("iP", 0, 0)))[0]
    print(json.dumps({
        "listed": listed(),
        "configured": configured(own, 4096),
        "one": len(configured(own, IFREQ_LEN + 7)),
        "needed": needed // IFREQ_LEN,
        "address": asked(own, SIOCGIFADDR, "canal0"),
        "mask": asked(own, SIOCGIFNETMASK, "canal0"),
        "flags": asked(own, SIOCGIFFLAGS, "canal0"),
        "lo": asked(own, SIOCGIFADDR, "lo"),
        "other": asked(own, SIOCGIFADDR, "nosuch0"),
        "join": join(own),
    }))
