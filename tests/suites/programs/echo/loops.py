# SPDX-License-Identifier: MIT
"""loops.py LOOP serve|ask PORT: an echo and who asks it, of an event loop that Python borrows: uvloop (libuv), trio, Qt, Gio.

Who asks has 16 connections at once, writes 300,000 bytes to each, ends its half and reads until the end.
"""

import random
import sys

PEERS, LENGTH = 16, 300_000
loop, end, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
HOST = "127.0.0.1"


def text(number):
    return random.Random(number).randbytes(LENGTH)


def told(equal):
    if not equal:
        sys.exit("different")
    print("all equal", flush=True)


def uvloop():
    import asyncio
    import uvloop as uv

    async def echo(reader, writer):
        while piece := await reader.read(10_000):
            writer.write(piece)
            await writer.drain()
        writer.close()

    async def ask(number):
        reader, writer = await asyncio.open_connection(HOST, port)

        async def write():
            writer.write(text(number))
            await writer.drain()
            writer.write_eof()
        _, back = await asyncio.gather(write(), reader.read(-1))
        writer.close()
        return back == text(number)

    async def serve():
        await (await asyncio.start_server(echo, HOST, port)).serve_forever()

    async def all_of_them():
        told(all(await asyncio.gather(*map(ask, range(PEERS)))))
    uv.install()
    asyncio.run(serve() if end == "serve" else all_of_them())


def trio():
    import trio as t

    async def echo(stream):
        async for piece in stream:
            await stream.send_all(piece)

    async def ask(number, equal):
        stream = await t.open_tcp_stream(HOST, port)
        back = b""

        async def write():
            await stream.send_all(text(number))
            await stream.send_eof()
        async with t.open_nursery() as nursery:
            nursery.start_soon(write)
            async for piece in stream:
                back += piece
        equal.append(back == text(number))

    async def all_of_them():
        equal = []
        async with t.open_nursery() as nursery:
            for number in range(PEERS):
                nursery.start_soon(ask, number, equal)
        told(all(equal))
    t.run(*((t.serve_tcp, echo, port) if end == "serve" else (all_of_them,)))


def qt():
    from PyQt5.QtCore import QCoreApplication
    from PyQt5.QtNetwork import QHostAddress, QTcpServer, QTcpSocket
    app = QCoreApplication([])
    kept, left = [], list(range(PEERS))

    def serve(server):
        while peer := server.nextPendingConnection():
            kept.append(peer)
            peer.readyRead.connect(lambda peer=peer: peer.write(peer.readAll()))

    def ask(number):
        peer, back = QTcpSocket(), bytearray()

        def read():
            back.extend(peer.readAll().data())
            if len(back) >= LENGTH:
                if back != text(number):
                    sys.exit("different")
                peer.disconnectFromHost()
                left.remove(number)
                if not left:
                    app.quit()
        peer.readyRead.connect(read)
        peer.connected.connect(lambda: peer.write(text(number)))
        peer.connectToHost(HOST, port)
        kept.append(peer)

    if end == "serve":
        server = QTcpServer()
        server.newConnection.connect(lambda: serve(server))
        server.listen(QHostAddress(HOST), port)
    else:
        for number in range(PEERS):
            ask(number)
    app.exec_()
    told(not left)


def gio():
    import gi
    gi.require_version("Gio", "2.0")
    from gi.repository import Gio, GLib
    main = GLib.MainLoop()
    kept, left = [], list(range(PEERS))

    def echo(service, peer, *_):
        def spliced(source, result):
            peer.get_output_stream().splice_finish(result)
            peer.close()
        peer.get_output_stream().splice_async(peer.get_input_stream(), Gio.OutputStreamSpliceFlags.NONE, 0, None, spliced)
        return True

    def ask(client, result, number):
        peer = client.connect_to_host_finish(result)
        kept.append(peer)
        back = Gio.MemoryOutputStream.new_resizable()

        def written(stream, result, left):
            done = stream.write_bytes_finish(result)
            if done == len(left):
                peer.get_socket().shutdown(False, True)
            else:
                write(stream, left[done:])

        def write(stream, left):
            stream.write_bytes_async(GLib.Bytes.new(left), 0, None, written, left)

        def read(stream, result):
            stream.splice_finish(result)
            if back.steal_as_bytes().get_data() != text(number):
                sys.exit("different")
            left.remove(number)
            if not left:
                main.quit()
        write(peer.get_output_stream(), text(number))
        back.splice_async(peer.get_input_stream(), Gio.OutputStreamSpliceFlags.CLOSE_TARGET, 0, None, read)

    if end == "serve":
        service = Gio.SocketService()
        service.add_address(Gio.InetSocketAddress.new_from_string(HOST, port), Gio.SocketType.STREAM, Gio.SocketProtocol.TCP, None)
        service.connect("incoming", echo)
        service.start()
    else:
        for number in left[:]:
            Gio.SocketClient().connect_to_host_async(HOST, port, None, ask, number)
    main.run()
    told(not left)


globals()[loop]()
