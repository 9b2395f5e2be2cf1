"""What a case of a factor is: how to make it, what it is given, what it estimates."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import kfac_core as kc

ID = ("damping",)


@dataclass(frozen=True)
class FactorCase:
    """One factor.

    Attributes:
        make: Makes the spec, given options of `FisherFactor`.
        draw: Draws the arrays of a batch of so many cases.
        moment: The statistic of these arrays, by another way than the library's.
        matrix: The matrix of these statistics; by default they are it, or its diagonal.
        extra: Further arguments of `update_cov`.
        axis: That of the cases in all arrays; None if they have none.
        argument: What the first array is called.
        channels: Axis of the first array whose size the spec says.
        any_rank: Whether the first array may have any number of axes.
        ids: Whether it holds ids.
        sources: Place among the arrays of that which may have several sources.
        scaled: Place of the array by whose square the statistic grows.
        bordered: Whether the last row of the statistic is that of the bias.
        powers_alone: Whether it serves powers, and nothing else.
        stacked: Whether it is of a stack of matrices, one verb for all.
        singular: Arrays whose statistic is singular, if that is a case of its own.
    """

    make: Callable[..., kc.factors.FisherFactor]
    draw: Callable[[np.random.Generator, int], tuple[Any, ...]]
    moment: Callable[..., np.ndarray]
    matrix: Callable[[np.ndarray], np.ndarray] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    axis: int | None = 0
    argument: str = "inputs"
    channels: int = -1
    any_rank: bool = False
    ids: bool = False
    sources: int | None = None
    scaled: int | None = None
    bordered: bool = False
    powers_alone: bool = False
    stacked: bool = False
    singular: tuple[Any, ...] | None = None

    @property
    def batched(self) -> bool:
        return self.axis is not None

    @property
    def paired(self) -> bool:
        """Whether it is given inputs and gradients of the same cases."""
        return self.sources == 1

    def all_served(self, *powers, eigendecomposition=True):
        """Return the options that serve these powers, and all else that there is."""
        if self.powers_alone:
            return {"matpowers": powers}
        return {
            "matpowers": powers,
            "cholesky": ID,
            "cholesky_inverse": ID,
            "eigendecomposition": eigendecomposition,
        }

    def fold(
        self, library, spec, state, data, ema_decay=0.5, compiled=False, **options
    ):
        """Return the state after `data`, NumPy arrays or nested tuples of them."""
        update = library.compiled(spec.update_cov) if compiled else spec.update_cov
        arrays = asarrays(library, data)
        return update(state, *arrays, **self.extra, ema_decay=ema_decay, **options)

    def updated(self, library, spec, data, dtype="float64", **options):
        """Return the state after `data` alone, by a program where there is one."""
        state = library.moved(spec.init(np.zeros(1, dtype)))
        return self.fold(library, spec, state, data, compiled=True, **options)

    def given(self, library, spec, data, dtype="float64"):
        """Return what NumPy makes of `data`, as a state that a test starts from."""
        return library.moved(self.updated(NumPy(), spec, data, dtype))

    def split(self, data, cuts):
        """Return the arrays as towers, cut along the cases."""
        return tuple(tuple(np.split(x, cuts, axis=self.axis)) for x in data)

    def chosen(self, data, places):
        """Return the arrays of these cases."""
        return tuple(np.take(x, places, axis=self.axis) for x in data)

    def folded_shape(self, x):
        """Return the shape of an array whose uses are cases of their own."""
        uses = x.shape[: self.axis + 1]
        return (int(np.prod(uses)), *x.shape[self.axis + 1 :])

    def dense(self, spec, statistics):
        """Return the matrix of the statistics."""
        if self.matrix is not None:
            return self.matrix(statistics)
        is_diagonal = isinstance(spec.form, kc.factors.Diagonal)
        return np.diag(statistics.ravel()) if is_diagonal else statistics


class NumPy:
    """NumPy as it is, for what does not depend on the library."""

    name = package = "numpy"
    asarray = staticmethod(np.asarray)
    to_numpy = staticmethod(np.asarray)

    @staticmethod
    def compiled(function):
        return function

    @staticmethod
    def moved(state):
        return state


def asarrays(library, data):
    return tree(library.asarray, data)


def tree(function, data):
    """Map over the arrays of nested tuples."""
    if isinstance(data, tuple):
        return tuple(tree(function, part) for part in data)
    return function(data)


def leaves(data):
    if isinstance(data, tuple):
        return [leaf for part in data for leaf in leaves(part)]
    return [data]


def one_of_each_form(cases):
    """Return the first case of each form, and of each number of axes of statistics."""
    found = {}
    for name, case in cases.items():
        spec = case.make()
        found.setdefault((type(spec.form), len(spec.cov_shape)), name)
    return {name: cases[name] for name in found.values()}
