"""`Trial`: one array library, dtype, size and seed that a theorem is tried on.

The numbers of a trial come from NumPy and its seed alone, so that all libraries see the
same. The library computes what the theorem is about, from data in the trial's dtype;
the truth is computed by NumPy in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from kfac_core import tree
from kfac_core.backend import Backend
from kfac_core.typing import Array, Device

Matrix: TypeAlias = Any
"""An array of NumPy in float64."""

LARGEST_BOUND = {"float64": 1e-10}
"""What no bound exceeds, however large the condition number."""

BEYOND = 100.0
"""How many times its bound the error of a negative twin is, at the least."""


class Sizes(NamedTuple):
    """How much data a theorem is tried on.

    Attributes:
        batch: Number of cases.
        inputs: Number of inputs of a layer.
        outputs: Number of its outputs.

    Example:
        >>> few = Sizes(batch=2, inputs=5, outputs=3)  # fewer cases than inputs
        >>> few.batch < few.inputs
        True
    """

    batch: int
    inputs: int
    outputs: int


GENERAL = Sizes(5, 3, 4)
"""The sizes at which negative twins are tried: at others they may be exact."""


class Measured(NamedTuple):
    """What a trial gave.

    Attributes:
        error: The relative error of what the library computed.
        bound: The largest error that rounding explains.

    Example:
        >>> Measured(error=3e-16, bound=1e-14).holds
        True
        >>> Measured(error=0.4, bound=1e-14).is_broken  # as a negative twin must be
        True
        >>> Measured(error=float("nan"), bound=1e-14).holds
        False
    """

    error: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the error is within the bound; NaN is not."""
        return self.error <= self.bound

    @property
    def part(self) -> float:
        """The error as a part of the bound."""
        if self.bound:
            return self.error / self.bound
        return 0.0 if self.error == 0 else float("inf")

    @property
    def is_broken(self) -> bool:
        """Whether the error is far beyond the bound, as that of a twin must be."""
        return self.error > BEYOND * self.bound


@dataclass(frozen=True)
class Trial:
    """One library, dtype, size and seed.

    Attributes:
        backend: The backend of the library.
        dtype: NumPy name of the dtype, ``"float32"`` or ``"float64"``.
        seed: Seed of all random numbers.
        sizes: How much data there is.
        device: Where to compute; None: where the library does by default.

    Example:
        >>> from kfac_core.registry import load_backend
        >>> trial = Trial(load_backend("numpy"), dtype="float32", seed=1)
        >>> trial.array([0.1]).dtype
        dtype('float32')
        >>> trial.rounded(0.1).item()  # the number that float32 holds
        0.10000000149011612
    """

    backend: Backend
    dtype: str = "float64"
    seed: int = 0
    sizes: Sizes = GENERAL
    device: Device = None

    @property
    def compiles(self) -> bool:
        """Whether the library compiles a program for each verb, spec and size.

        Uncompiled, JAX would compile each operation on its own.
        """
        return self.backend.name == "jax"

    def rng(self) -> np.random.Generator:
        """Return NumPy's generator for the seed."""
        return np.random.default_rng(self.seed)

    def array(self, values: Any) -> Array:
        """Return numbers as an array of the library, real ones in the trial's dtype."""
        given = np.asarray(values)
        if given.dtype.kind == "f":
            given = given.astype(self.dtype)
        return self.backend.from_numpy(given, self.device)

    def rounded(self, values: Any) -> Matrix:
        """Return float64 numbers that the trial's dtype holds exactly."""
        return np.asarray(values).astype(self.dtype).astype(np.float64)

    def call(self, verb: Callable[..., Any], spec: Any, *arguments: Any) -> Any:
        """Return what a function of a spec and arrays computes in the library.

        It is one program, which is kept for each verb and spec; see `compiles`.

        Args:
            verb: Takes the spec and trees of arrays, and returns a tree of arrays.
            spec: Anything hashable.
            *arguments: Trees of NumPy arrays and numbers.

        Returns:
            The same tree, of NumPy arrays in float64.
        """
        backend: Any = self.backend
        program = _program(backend, verb, spec, self.compiles)
        result = program(*(tree.map(self.array, own) for own in arguments))
        return tree.map(self.numpy, result)

    def numpy(self, x: Array) -> Matrix:
        """Return the values of an array of the library, in float64."""
        return np.asarray(self.backend.to_numpy(x), np.float64)

    def bound(self, terms: int, size: int, condition: float = 1.0) -> float:
        """Return the largest relative error, in norm, that rounding explains.

        A sum of ``r`` products of numbers that were rounded once errs by at most ``(r +
        4) u`` times the sum of magnitudes (Higham, Accuracy and Stability of Numerical
        Algorithms, 3.1), and the magnitudes of a positive semi-definite ``[n, n]``
        matrix have at most ``sqrt(n)`` times its norm. Two such factors, products with
        them and a last rounding are within ``2 (r + 8) sqrt(n) eps``, for ``eps = 2
        u``. A solution with a matrix multiplies that by its condition number, since
        LAPACK's are backward stable with ``n`` among the terms.

        Args:
            terms: Number of terms in a sum: rows and sources, and the order of what is
                factorised.
            size: Order of the larger factor.
            condition: Condition number of what is inverted.

        Returns:
            The bound; in float64 at most 1e-10.
        """
        eps = float(np.finfo(self.dtype).eps)
        derived = 2 * (terms + 8) * float(np.sqrt(size)) * eps * condition
        return min(derived, LARGEST_BOUND.get(self.dtype, np.inf))

    def judged(
        self,
        found: Any,
        truth: Any,
        *,
        terms: int,
        size: int | None = None,
        condition: float = 1.0,
    ) -> Measured:
        """Return the relative error of numbers, in norm, beside its bound.

        Args:
            found: What the library computed, of any shape; or a tuple of such.
            truth: What it is compared with, of the same shapes.
            terms: As in `bound`.
            size: As in `bound`; None: the larger of the trial's inputs and outputs.
            condition: As in `bound`.
        """
        error = relative_error(found, truth)
        order = max(self.sizes.inputs, self.sizes.outputs) + 1 if size is None else size
        return Measured(error, self.bound(terms, order, condition))


def relative_error(found: Any, truth: Any) -> float:
    """Return ``|found - truth| / |truth|`` in the Frobenius norm, the largest of some.

    Entries may cancel; what is compared as a whole does not.

    Args:
        found: An array, or a tuple of arrays.
        truth: The same structure.

    Returns:
        The error; where the truth is zero, the norm of what was found.
    """
    if isinstance(found, tuple):
        pairs = zip(found, truth, strict=True)
        return max(relative_error(mine, right) for mine, right in pairs)
    mine, right = np.asarray(found), np.asarray(truth)
    if mine.shape != right.shape:
        return float("inf")
    scale = float(np.linalg.norm(right))
    error = float(np.linalg.norm(mine - right))
    return error / scale if scale else error


@lru_cache(maxsize=256)
def _program(
    backend: Backend, verb: Callable[..., Any], spec: Any, compiles: bool
) -> Any:
    function = partial(verb, spec)
    return backend.jit(function) if compiles else function
