# SPDX-License-Identifier: MIT
"""grpc_ends.py serve|ask PORT: gRPC's C core: an edge-triggered epoll, SO_REUSEPORT, TCP_USER_TIMEOUT and pollers of its own."""

import random
import sys
import threading
from concurrent import futures

import grpc

end, port = sys.argv[1:]
PEERS, CALLS = 8, 50
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        kind = details.method.rsplit("/", 1)[1]
        if kind == "one":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request[::-1])
        return grpc.stream_stream_rpc_method_handler(lambda requests, context: (piece[::-1] for piece in requests))


def ask(number, equal):
    noise = random.Random(number)
    with grpc.insecure_channel(f"127.0.0.1:{port}", OPTIONS) as channel:
        one, stream = channel.unary_unary("/Echo/one"), channel.stream_stream("/Echo/many")
        for length in [10] * CALLS + [3_000_000]:
            text = noise.randbytes(length)
            assert one(text, timeout=120) == text[::-1]
        pieces = [noise.randbytes(noise.randrange(100_000)) for _ in range(CALLS)]
        equal.append(list(stream(iter(pieces), timeout=120)) == [piece[::-1] for piece in pieces])


if end == "serve":
    server = grpc.server(futures.ThreadPoolExecutor(20), [Echo()], options=OPTIONS)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()
equal = []
threads = [threading.Thread(target=ask, args=(number, equal)) for number in range(PEERS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("all equal" if equal == [True] * PEERS else "different")
