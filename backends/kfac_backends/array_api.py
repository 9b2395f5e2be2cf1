"""The array API standard alone: the fallback, and the oracle for other backends."""

import functools
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self, TypeVar

import numpy as np

from kfac_backends.by_the_host import ByTheHost
from kfac_backends.probe import lacking as lacking
from kfac_backends.runs import (
    MANY_COLUMNS,
    ROWS_OF_SUM,
    cross_in_stack,
    cross_in_turn,
    gram_in_stack,
    gram_in_turn,
    run_length,
    sum_of_rows,
    sum_of_stack,
)
from kfac_backends.silence import silence
from kfac_core import tree
from kfac_core.typing import Array, Device, DType, Namespace, Precision

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

PANELS_FROM = 256
"""Size from which a Gram matrix is computed in panels; below it, panels do not help."""
CHUNK_BYTES = 2**23
"""Size in bytes of a chunk of arrays that is processed at once."""


class ArrayAPIBackend(ByTheHost):
    """Every function of `kfac_core.backend.Backend`, by functions of the standard.

    Subclasses replace what their library does better. The class needs the ``linalg``
    extension of the standard.
    """

    array_types: tuple[type, ...] = ()
    # Number of panels of a Gram matrix: four save 3/8 of the product, eight 7/16.
    panels = 4
    # Whatever calls a verb in the place of the caller.
    call: Callable[..., Any] | None = None

    def __init__(self, xp: Namespace, name: str | None = None) -> None:
        self.xp = xp
        self.name = name or xp.__name__.removeprefix("array_api_compat.")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def chooses_once(self) -> bool:
        """Return False: the standard knows no tracing."""
        return False

    def check(self, x: Any) -> None:
        """Accept whatever follows the standard."""

    def device(self, x: Array) -> Device:
        """Return the array's own description of its device."""
        return x.device  # type: ignore[attr-defined]

    def creation_device(self, x: Array) -> Device:
        """Return the array's own device."""
        return x.device  # type: ignore[attr-defined]

    def isdtype(self, dtype: DType, kind: str | tuple[str, ...]) -> bool:
        """Ask the standard's function."""
        return bool(self.xp.isdtype(dtype, kind))

    def finfo(self, dtype: DType) -> Any:
        """Ask the standard's function."""
        return self.xp.finfo(dtype)

    def are_alike(self, arrays: tuple[Any, ...]) -> bool:
        """Return False: each array has to be looked at."""
        return False

    def is_traced(self, x: Array) -> bool:
        """Return False: the standard knows no tracing."""
        return False

    def known_number(self, x: Array) -> Any:
        """Return None: the standard does not tell what reading a number costs."""
        return None

    def scalar(self, value: float, like: Array) -> Array:
        """Multiply a one: a compiler may take the argument of `full` for a constant."""
        device = self.creation_device(like)
        number: Array = self.xp.ones((), dtype=like.dtype, device=device) * value
        return number

    def in_precision(self, precision: Precision) -> Self:
        """Return the backend itself: the standard knows one precision."""
        return self

    def is_finite(self, x: Array) -> Array:
        """Test every entry."""
        finite: Array = self.xp.all(self.xp.isfinite(x))
        return finite

    def known_finite(self, x: Array) -> bool:
        """Return False: `is_finite` has to tell."""
        return False

    def axpby(self, a: Array, x: Array, b: Array, y: Array) -> Array:
        """Return ``a * x + b * y``; a compiler turns it into one pass."""
        return x * a + y * b

    def damp(self, a: Array, damping: Array) -> Array:
        """Return ``a + damping * I``."""
        return a + damping * self._eye(a)

    def matmul(self, a: Array, b: Array) -> Array:
        """Return ``a @ b``: the standard knows no other precision."""
        product: Array = self.xp.matmul(a, b)
        return product

    def transposed(self, a: Array) -> Array:
        """Return ``a.mT``, which is a view or a copy in the standard."""
        view: Array = a.mT
        return view

    def diagonal(self, a: Array) -> Array:
        """Return every entry whose distance from the first is a multiple of n + 1."""
        n = a.shape[-1]
        flat: Array = self.xp.reshape(a, (n * n,))[:: n + 1]
        return flat

    def telling_entries(self, a: Array) -> Array:
        """Return the diagonal."""
        return self.diagonal(a)

    def gram(self, a: Array) -> Array:
        """Return ``a.T @ a``, as a sum over runs for many rows; see `runs`.

        A subclass that has a better method for a run replaces `gram_of_run`.
        """
        rows, n = a.shape[-2:]
        if rows <= run_length(n):
            return self.gram_of_run(a)
        if self._adds_in_turn(a):
            return gram_in_turn(self.gram_of_run, a)
        total = gram_in_stack(self.matmul, self.sum_of_stack, self.xp.reshape, a)
        return self._symmetric(total)

    def cross(self, a: Array, b: Array) -> Array:
        """Return ``a.T @ b``, as a sum over runs for many rows; see `runs`."""
        rows, n, m = a.shape[-2], a.shape[-1], b.shape[-1]
        if rows <= run_length(min(n, m)):
            return self.matmul(a.mT, b)
        if max(n, m) > MANY_COLUMNS:
            return cross_in_turn(self.matmul, a, b)
        return cross_in_stack(self.matmul, self.sum_of_stack, self.xp.reshape, a, b)

    def sum_of_rows(self, x: Array) -> Array:
        """Return the sum over the first axis, as a sum of sums of runs."""
        xp = self.xp
        if x.shape[0] <= ROWS_OF_SUM:
            total: Array = xp.sum(x, axis=0)
            return total
        return sum_of_rows(lambda x, axis: xp.sum(x, axis=axis), xp.reshape, x)

    def sum_of_stack(self, stack: Array) -> Array:
        """Return the sum of matrices ``[..., count, n, n]``, in pairs."""
        return sum_of_stack(stack)

    def gram_of_run(self, a: Array) -> Array:
        """Return ``a.T @ a``; a large one is computed by half, and mirrored."""
        if not self._is_large(a):
            return self._symmetric(self.matmul(a.mT, a))
        xp, n = self.xp, a.shape[-1]
        # Their number is fixed, since a compiler may know sizes only as symbols.
        cuts = [n * k // self.panels for k in range(self.panels + 1)]
        spans = [*itertools.pairwise(cuts)]
        # Each panel multiplies its columns with themselves and with those that follow.
        products = [self.matmul(a[..., i:j].mT, a[..., i:]) for i, j in spans]
        bands = []
        for k, (i, j) in enumerate(spans):
            earlier = zip(cuts[:k], products[:k], strict=True)
            mirrored = [product[..., i - m : j - m].mT for m, product in earlier]
            own = self._symmetric(products[k][..., : j - i])
            later = products[k][..., j - i :]
            bands.append(xp.concat([*mirrored, own, later], axis=-1))
        whole: Array = xp.concat(bands, axis=-2)
        return whole

    def syrk(self, alpha: Array, a: Array, beta: Array, c: Array) -> Array:
        """Return the sum of the Gram matrix and `c`."""
        return self.axpby(beta, c, alpha, self.gram(a))

    # NumPy is silenced, which a library of the standard may be made of.
    quiet: Callable[[], AbstractContextManager[object] | None] = staticmethod(silence)

    def eigh(self, a: Array) -> tuple[Array, Array]:
        """Return eigenvalues and eigenvectors; NaN for what is not finite."""
        xp = self.xp
        finite = xp.all(xp.isfinite(a), axis=(-2, -1))[..., None]
        # Libraries return some finite eigenvalues for a matrix with one NaN.
        safe = xp.where(finite[..., None], a, xp.zeros_like(a))
        try:
            values, vectors = xp.linalg.eigh(safe)
        except _LINALG_ERRORS:
            return self._nan(a[..., 0]), self._nan(a)
        return self._where(finite, values), self._where(finite[..., None], vectors)

    def qr(self, a: Array) -> tuple[Array, Array]:
        """Return what the standard's function does."""
        q, r = self.xp.linalg.qr(a)
        return q, r

    def cholesky(self, a: Array) -> Array:
        """Return the lower factor; NaN where the library raises or a pivot is wrong."""
        xp = self.xp
        try:
            factor = xp.linalg.cholesky(a)
        except _LINALG_ERRORS:
            return self._nan(a)
        # Some libraries go on after a pivot that is zero or negative.
        pivots = xp.linalg.diagonal(factor)
        ok = xp.all(xp.isfinite(pivots) & (pivots > 0), axis=-1)[..., None, None]
        return self._where(ok, factor)

    def cholesky_inverse(self, factor: Array) -> Array:
        """Return ``inv(L).T @ inv(L)``."""
        return self.gram(self.solve_triangular(factor, self._eye(factor)))

    def damped_inverse(self, a: Array, damping: Array) -> Array:
        """Damp, factorise, invert."""
        return self.cholesky_inverse(self.cholesky(self.damp(a, damping)))

    def damped_inverses(
        self, stack: Array, dampings: Array
    ) -> tuple[list[Array], Array]:
        """Map, or go through the stack."""
        inverses = self.vmap(self.damped_inverse, stack, dampings)
        # No entry of a positive matrix is larger than the largest of its diagonal.
        diagonals = self.xp.linalg.diagonal(inverses)
        finite = self.xp.all(self.xp.isfinite(diagonals), axis=-1)
        return self.members(inverses), finite

    def solve_triangular(
        self, factor: Array, b: Array, *, transpose: bool = False
    ) -> Array:
        """Solve as a general system: the standard has no solver for triangles."""
        solution: Array = self.xp.linalg.solve(factor.mT if transpose else factor, b)
        return solution

    def buffer(self, shape: tuple[int, ...], like: Array) -> Any:
        """Return None: the standard does not promise that entries can be written."""

    def chunk_bytes(self, x: Array) -> int | None:
        """Return what caches hold; None under a trace, which has no loops here."""
        return None if self.is_traced(x) else CHUNK_BYTES

    def sum_over(
        self, function: Callable[[Array], Sequence[Array]], x: Array, size: int
    ) -> list[Array]:
        """Take one chunk after the other."""
        total: list[Array] = []
        for start in range(0, x.shape[0], size):
            parts = function(x[start : min(start + size, x.shape[0]), ...])
            pairs = zip(total, parts, strict=True)
            total = [known + part for known, part in pairs] if total else [*parts]
        return total

    def scatter_add(self, size: int, indices: Array, weights: Array) -> Array:
        """Compare every index with every place: slow, exact, in the standard."""
        xp = self.xp
        device = self.creation_device(indices)
        places = xp.arange(size, dtype=indices.dtype, device=device)
        hits = places[:, None] == indices[None, :]
        zero = xp.zeros_like(weights)
        total: Array = xp.sum(xp.where(hits, weights[None, :], zero[None, :]), axis=1)
        return total

    def cond(
        self, condition: Array, then: Callable[[], T], otherwise: Callable[[], T]
    ) -> T:
        """Choose by the value of the condition."""
        return then() if bool(condition) else otherwise()

    def vmap(self, function: Callable[..., T], *stacks: Any) -> T:
        """Go through the members one after the other."""
        found: T = tree.stack(self, [function(*each) for each in tree.members(stacks)])
        return found

    def batches(self, x: Array) -> bool:
        """Return False: the standard promises nothing about the speed of stacks."""
        return False

    def inverts_together(self, x: Array) -> bool:
        """Return what `batches` does."""
        return self.batches(x)

    def stop_gradient(self, x: Array) -> Array:
        """Return `x`: the standard knows no differentiation."""
        return x

    def has_graph(self, x: Array) -> bool:
        """Return False: the standard knows no differentiation."""
        return False

    def as_leaf(self, x: Array, like: Array) -> Array:
        """Return `x`, which has no graph."""
        return x

    def jit(self, function: F) -> F:
        """Return the function: the standard knows no compilation."""
        return function

    def _is_large(self, a: Array) -> bool:
        """Return whether the Gram matrix of `a` is computed in panels."""
        return a.shape[-1] >= PANELS_FROM

    def _adds_in_turn(self, a: Array) -> bool:
        """Return whether runs of rows are multiplied in turn, and not as a stack."""
        return a.shape[-1] > MANY_COLUMNS

    def _symmetric(self, a: Array) -> Array:
        # a + b == b + a in floating point, so this is symmetric bit for bit.
        return (a + a.mT) * 0.5

    def _where(self, ok: Array, x: Array) -> Array:
        return self.xp.where(ok, x, self._nan(x))

    def _nan(self, like: Array) -> Array:
        nan: Array = self.xp.full_like(like, float("nan"))
        return nan

    def _eye(self, like: Array) -> Array:
        device = self.creation_device(like)
        eye: Array = self.xp.eye(like.shape[-1], dtype=like.dtype, device=device)
        return eye


# For a failed factorisation, NumPy raises a ValueError, and others a RuntimeError.
_LINALG_ERRORS = (np.linalg.LinAlgError, ValueError, RuntimeError)


@functools.cache
def backend_for(xp: Namespace) -> ArrayAPIBackend:
    """Return the fallback backend of a namespace; each has one."""
    return ArrayAPIBackend(xp)
