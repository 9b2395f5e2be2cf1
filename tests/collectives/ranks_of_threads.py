"""Ranks that are threads of one process: a collective without an engine."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kfac_core import backend_of


class Rank:
    """One of several threads, which put arrays on a shared table in turns."""

    def __init__(self, rank, table, barrier):
        self.rank, self.size = rank, len(table)
        self._table, self._barrier = table, barrier

    def split(self, groups):
        own = next(list(group) for group in groups if self.rank in group)
        place, size = own.index(self.rank), len(own)
        met = self._met(([None] * size, threading.Barrier(size)))
        return Rank(place, *met[own[0]])

    def _met(self, x):
        self._table[self.rank] = x
        self._barrier.wait(timeout=30)
        found = list(self._table)
        self._barrier.wait(timeout=30)
        return found

    def all_reduce(self, x):
        first, *others = self._met(x)
        total = first
        for other in others:
            total = total + other
        return np.asarray(total) if isinstance(total, np.generic) else total

    def broadcast(self, x, root):
        found = self._met(x)[root]
        return backend_of(found).xp.astype(found, found.dtype, copy=True)


def on_ranks(size, work):
    """Return what each rank's work returns; an error of one is raised."""
    table, barrier = [None] * size, threading.Barrier(size)

    def run(rank):
        try:
            return work(Rank(rank, table, barrier))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))
