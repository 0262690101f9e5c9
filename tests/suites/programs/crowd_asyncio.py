# SPDX-License-Identifier: MIT
"""crowd_asyncio.py server PORT | client PORT COUNT: a crowd of connections on one event loop at each end.

All are open at once; then each says something, three times, and gets it back in capitals.
"""

import asyncio
import resource
import sys

ROUNDS = 3
AT_ONCE = 500  # connecting
SECONDS = 120


async def serve_one(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def serve(port):
    server = await asyncio.start_server(serve_one, "127.0.0.1", port, backlog=2000)
    print("ready", flush=True)
    await server.serve_forever()


async def one_client(number, port, slots, everybody):
    async with slots:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await everybody.wait()
    for turn in range(ROUNDS):
        writer.write(f"client {number} turn {turn}\n".encode())
        assert await reader.readline() == f"CLIENT {number} TURN {turn}\n".encode()
    writer.close()
    await writer.wait_closed()


async def crowd(port, count):
    slots, everybody = asyncio.Semaphore(AT_ONCE), asyncio.Barrier(count)
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(one_client(number, port, slots, everybody) for number in range(count)))
    print("all equal")


resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
if sys.argv[1] == "server":
    asyncio.run(serve(int(sys.argv[2])))
else:
    asyncio.run(crowd(int(sys.argv[2]), int(sys.argv[3])))
