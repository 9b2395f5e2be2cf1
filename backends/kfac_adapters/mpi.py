"""`MPI`: a communicator of mpi4py as a `kfac_core.collectives.Collective`.

Start the script with ``mpirun -n 4 python script.py``, or as the cluster says. Arrays
may be of any library: they travel through the memory of the host.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kfac_core.registry import backend_of
from kfac_core.typing import Array


class MPI:
    """The ranks of a communicator.

    Args:
        comm: A communicator of mpi4py, such as ``MPI.COMM_WORLD``.
    """

    def __init__(self, comm: Any) -> None:
        self._comm = comm

    @property
    def rank(self) -> int:
        """The number of this process."""
        return int(self._comm.Get_rank())

    @property
    def size(self) -> int:
        """The number of processes."""
        return int(self._comm.Get_size())

    def all_reduce(self, x: Array) -> Array:
        """Return the sum of the arrays of all ranks, the same bits on each.

        MPI leaves it open whether an ``Allreduce`` adds in one order for all ranks, so
        that one of them adds, and the others get a copy.
        """
        own = _host(x)
        total = np.empty_like(own)
        self._comm.Reduce(own, total, root=0)
        self._comm.Bcast(total, root=0)
        return _like(total, x)

    def broadcast(self, x: Array, root: int) -> Array:
        """Return the array of one rank."""
        own = _host(x).copy()
        self._comm.Bcast(own, root=root)
        return _like(own, x)

    def split(self, groups: Sequence[Sequence[int]]) -> "MPI":
        """Return the group of this rank, a communicator of its own."""
        rank = self.rank
        colour = next(i for i, group in enumerate(groups) if rank in group)
        return MPI(self._comm.Split(colour, list(groups[colour]).index(rank)))


def _host(x: Array) -> Any:
    return np.ascontiguousarray(backend_of(x).to_numpy(x))


def _like(found: Any, x: Array) -> Array:
    backend = backend_of(x)
    shaped: Any = found.reshape(tuple(x.shape))
    return backend.from_numpy(shaped, backend.creation_device(x))
