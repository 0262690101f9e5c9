# SPDX-License-Identifier: MIT
"""mpi_ring.py: four ranks send each other pieces of every length, in a ring and all to all."""

import numpy
from mpi4py import MPI

world = MPI.COMM_WORLD
rank, size = world.Get_rank(), world.Get_size()
for length in (1, 100, 5_000, 100_000, 3_000_000):
    for turn in range(10):
        mine = numpy.arange(length, dtype="u4") * (rank + 1) + turn
        other = numpy.empty(length, dtype="u4")
        world.Sendrecv(mine, (rank + 1) % size, 0, other, (rank - 1) % size, 0)
        before = (rank - 1) % size
        assert (other == numpy.arange(length, dtype="u4") * (before + 1) + turn).all()
total = world.allreduce(sum(range(rank + 1)))
assert total == sum(sum(range(n + 1)) for n in range(size))
pieces = world.alltoall([bytes([rank, to]) * 50_000 for to in range(size)])
assert pieces == [bytes([source, rank]) * 50_000 for source in range(size)]
world.Barrier()
if rank == 0:
    print("all equal", flush=True)
