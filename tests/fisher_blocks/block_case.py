"""What a case of a block is: how to make it, what it is given, its Fisher, densely."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

import kfac_core as kc

DAMPING_TYPES = ("pi", "off", "constant", "exact")


@dataclass(frozen=True)
class BlockCase:
    """One block.

    Attributes:
        make: Makes the spec, given the options of all blocks.
        draw: Draws the arrays of a batch of so many cases.
        shapes: Shapes of the layer's parameters.
        fisher: Of these arrays: ``(A, G, c)`` of a Kronecker block; or the matrix; or
            an object with the methods `undamped` and `damped`, as the functions here.
        damping_types: The ways to damp it; by default all, of a Kronecker block.
        extra: Further arguments of `update_covs`.
        axis: That of the cases in all arrays; None if they have none.
        channels: Axis of both arrays whose size the spec says.
        ids: Whether the inputs are ids.
        powers_alone: Whether it serves no Cholesky factors.
        inverse_alone: Whether it serves the power -1, and nothing else.
        linear: Whether it is linear in the statistics of either side.
        precision: How close, relatively, the dense truth is to exact arithmetic.
    """

    make: Callable[..., kc.blocks.FisherBlock]
    draw: Callable[[np.random.Generator, int], tuple[Any, ...]]
    shapes: tuple[tuple[int, ...], ...]
    fisher: Callable[..., Any]
    damping_types: tuple[str | None, ...] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    axis: int | None = 0
    channels: int = -1
    ids: bool = False
    powers_alone: bool = False
    inverse_alone: bool = False
    linear: bool = True
    precision: float = 1e-14

    @property
    def is_kronecker(self) -> bool:
        return isinstance(self.make(), kc.blocks.KroneckerProductFB)

    @property
    def takes_inputs(self) -> bool:
        """Whether it is given the inputs; if not, those drawn are of no matter."""
        return self.make().takes_inputs

    def taken(self, data):
        """Return those of the arrays drawn that the block takes."""
        block = self.make()
        return data[not block.takes_inputs : len(data) - (not block.takes_gradients)]

    @property
    def kinds(self) -> tuple[str | None, ...]:
        """The ways to damp it; None of a block without that option."""
        if self.damping_types is not None:
            return self.damping_types
        return DAMPING_TYPES if self.is_kronecker else (None,)

    def made(self, kind=None, powers=(-1,), **options):
        """Return the spec that is damped so, and serves all that there is."""
        if kind is not None:
            options["damping_type"] = kind
        if not self.inverse_alone:
            options["matpowers"] = powers
        if not self.inverse_alone and not self.powers_alone:
            options |= {"cholesky": True, "cholesky_inverse": True}
        return self.make(**options)

    def exponents(self, *powers):
        """Return those of the powers that the block serves."""
        return [exp for exp in powers if exp == -1 or not self.inverse_alone]

    def products(self, block, *powers):
        """Return all ways to multiply by name, each as ``f(state, vector)``."""
        found = {
            f"power {exp}": partial(block.multiply_matpower, exp=exp)
            for exp in self.exponents(*powers)
        }
        if not self.inverse_alone and not self.powers_alone:
            for name in ("multiply_cholesky", "multiply_cholesky_inverse"):
                multiply = getattr(block, name)
                found[f"{name} False"] = multiply
                found[f"{name} True"] = partial(multiply, transpose=True)
        return found

    def fold(
        self, library, block, state, data, ema_decay=0.5, compiled=False, **options
    ):
        """Return the state after `data`, NumPy arrays or nested tuples of them."""
        update = library.compiled(block.update_covs) if compiled else block.update_covs
        arrays = self.taken(asarrays(library, data))
        return update(state, *arrays, **self.extra, ema_decay=ema_decay, **options)

    def updated(self, library, block, data, dtype="float64", **options):
        """Return the state after `data` alone, by a program where there is one."""
        state = library.moved(block.init(np.zeros(1, dtype)))
        return self.fold(library, block, state, data, compiled=True, **options)

    def given(self, library, block, data, dtype="float64"):
        """Return what NumPy makes of `data`, as a state that a test starts from."""
        return library.moved(self.updated(NumPy(), block, data, dtype))

    def vector(self, rng, dtype="float64"):
        """Draw NumPy arrays in the shapes of the parameters."""
        tensors = tuple(rng.normal(size=shape).astype(dtype) for shape in self.shapes)
        return tensors if len(tensors) > 1 else tensors[0]

    def split(self, x, *cuts):
        """Return an array as towers, cut along the cases."""
        return tuple(np.split(x, cuts, axis=self.axis))

    def folded_shape(self, x):
        """Return the shape of an array whose uses are cases of their own."""
        uses = x.shape[: self.axis + 1]
        return (int(np.prod(uses)), *x.shape[self.axis + 1 :])


class NumPy:
    """NumPy as it is, for what does not depend on the library."""

    asarray = staticmethod(np.asarray)
    to_numpy = staticmethod(np.asarray)

    @staticmethod
    def compiled(function):
        return function

    @staticmethod
    def moved(state):
        return state


def tree(function, data):
    """Map over the arrays of nested tuples."""
    if isinstance(data, tuple):
        return tuple(tree(function, part) for part in data)
    return function(data)


def asarrays(library, data):
    return tree(library.asarray, data)


def leaves(data):
    if isinstance(data, tuple):
        return [leaf for part in data for leaf in leaves(part)]
    return [data]


def flat(library, params):
    """Return the entries of parameters as one NumPy vector."""
    return np.concatenate([library.to_numpy(x).ravel() for x in leaves(params)])


def dense_power(matrix, exp):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exp) @ vectors.T


def damped(fisher, damping, damping_type="pi", power=1.0):
    """Return the dense damped block, by the formulas of Martens & Grosse (2015)."""
    if hasattr(fisher, "damped"):
        return fisher.damped(damping, damping_type, power)
    if not isinstance(fisher, tuple):
        return fisher + damping * np.eye(len(fisher))
    a, g, c = fisher
    if damping_type == "exact":
        return c * np.kron(a, g) + damping * np.eye(len(a) * len(g))
    normal = damping / c**power
    pi = np.sqrt(np.trace(a) * len(g) / (np.trace(g) * len(a)))
    of_a, of_g = {
        "pi": (pi * np.sqrt(normal), np.sqrt(normal) / pi),
        "off": (np.sqrt(normal), np.sqrt(normal)),
        "constant": (normal, normal),
    }[damping_type]
    return c * np.kron(a + of_a * np.eye(len(a)), g + of_g * np.eye(len(g)))


def undamped(fisher):
    if hasattr(fisher, "undamped"):
        return fisher.undamped()
    return fisher[2] * np.kron(*fisher[:2]) if isinstance(fisher, tuple) else fisher


def with_one(rows):
    return np.concatenate([rows, np.ones((*rows.shape[:-1], 1))], axis=-1)


def moment(rows):
    rows = rows.reshape(-1, rows.shape[-1])
    return rows.T @ rows / len(rows)
