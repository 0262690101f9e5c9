# SPDX-License-Identifier: MIT
"""echo_asyncio.py server|client PORT [HOST]: echo over TCP streams and UDP with asyncio.

The client keeps CONNECTIONS streams busy at once with messages of many lengths, ends its sending
side, and expects every byte back; then it sends datagrams, and sends again what was lost.
"""

import asyncio
import random
import sys

CONNECTIONS = 100
MESSAGE_LENS = (1, 64, 1000, 16 << 10, 200 << 10)
DATAGRAM_LENS = (1, 64, 1400, 9000, 60000)
TIMEOUT = 200


class Datagrams(asyncio.DatagramProtocol):
    """Server: send back what came."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


class Answers(asyncio.DatagramProtocol):
    """Client: keep what came."""

    def __init__(self):
        self.queue = asyncio.Queue()

    def datagram_received(self, data, _address):
        self.queue.put_nowait(data)


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def serve(host, port):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=(host, port))
    server = await asyncio.start_server(echo, host, port, backlog=CONNECTIONS)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()
    transport.close()


async def talk(host, port, number):
    source = random.Random(number)
    sent = b"".join(source.randbytes(length) for length in MESSAGE_LENS)
    reader, writer = await asyncio.open_connection(host, port)

    async def send():
        offset = 0
        for length in MESSAGE_LENS:
            writer.write(sent[offset:offset + length])
            offset += length
            await writer.drain()
        writer.write_eof()
    _, received = await asyncio.gather(send(), reader.read())
    assert received == sent, f"connection {number}: {len(received)} of {len(sent)} bytes, or other"
    writer.close()
    await writer.wait_closed()


async def talk_datagrams(host, port):
    loop = asyncio.get_running_loop()
    transport, answers = await loop.create_datagram_endpoint(Answers, remote_addr=(host, port))
    for length in DATAGRAM_LENS:
        datagram = random.Random(length).randbytes(length)
        for _attempt in range(5):
            transport.sendto(datagram)
            try:
                if await asyncio.wait_for(answers.queue.get(), 2) == datagram:
                    break
            except asyncio.TimeoutError:
                pass
        else:
            raise AssertionError(f"no echo of a datagram of {length} bytes")
    transport.close()


async def ask(host, port):
    await asyncio.gather(*(talk(host, port, number) for number in range(CONNECTIONS)))
    await talk_datagrams(host, port)
    print("all equal")


def main():
    mode, port = sys.argv[1], int(sys.argv[2])
    host = sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1"
    if mode == "server":
        asyncio.run(serve(host, port))
    else:
        asyncio.run(asyncio.wait_for(ask(host, port), TIMEOUT))


main()
