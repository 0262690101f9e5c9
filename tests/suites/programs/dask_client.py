# SPDX-License-Identifier: MIT
"""dask_client.py PORT: 100 results of 200,000 bytes, fetched, and added up by a worker, which asks the other for its half."""

import sys

import distributed

client = distributed.Client(f"tcp://127.0.0.1:{sys.argv[1]}", timeout=120)
client.wait_for_workers(2)
pieces = client.map(lambda n: bytes([n % 256]) * 200_000, range(100))
print(sum(map(len, client.gather(pieces))), client.submit(lambda all_of: sum(map(len, all_of)), pieces).result())
