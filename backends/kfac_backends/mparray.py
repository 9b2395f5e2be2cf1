"""mparray: NumPy arrays of mpmath's numbers, with as many digits as one asks for.

The precision is mpmath's, ``mpmath.mp.dps``, at the time of an operation. The dtype of
an array is a label alone: one of ``float32`` has the same digits as one of ``float64``.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any, NamedTuple

import mparray
import mpmath
import numpy as np
from mpmath import libmp, mp

from kfac_backends.array_api import ArrayAPIBackend
from kfac_core.typing import Array, Device

WIDEST = 4096
"""Bits between the largest and the smallest number of a product of integers."""


class FInfo(NamedTuple):
    """What the standard's ``finfo`` tells, for the precision of this moment."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: Any


class MPArrayBackend(ArrayAPIBackend):
    """Exact products, rounded once; the factorisations that mparray lacks.

    Example:
        >>> from kfac_core.registry import load_backend
        >>> backend = load_backend("mparray")  # doctest: +SKIP
        >>> with backend.digits(50):  # doctest: +SKIP
        ...     third = backend.xp.ones(()) / 3
    """

    def digits(self, digits: int) -> AbstractContextManager[object]:
        """Return a context in which results are rounded to this number of digits."""
        context: AbstractContextManager[object] = mpmath.workdps(digits)
        return context

    def matmul(self, a: Any, b: Any) -> Array:
        """Return ``a @ b``, each entry rounded once."""
        found: Array = _wrapped(_product(a._data, b._data), a)
        return found

    def gram_of_run(self, a: Any) -> Array:
        """Return ``a.T @ a``: what is rounded once is symmetric."""
        return self.matmul(a.mT, a)

    def solve_triangular(
        self, factor: Any, b: Any, *, transpose: bool = False
    ) -> Array:
        """Solve by substitution."""
        substitute = _substituted_back if transpose else _substituted
        found: Array = _wrapped(_each(substitute, factor._data, b._data), b)
        return found

    def to_numpy(self, x: Any) -> Any:
        """Copy, rounded to the dtype."""
        return np.array(x._data.astype(x.dtype))

    def from_numpy(self, x: Any, device: Device = None) -> Array:
        """Copy; floats are exact where the precision is that of their dtype or more."""
        copied: Array = mparray.asarray(np.array(x))
        return copied


def _wrapped(data: Any, like: Any) -> Any:
    return mparray.asarray(data, dtype=like.dtype)


def _product(a: Any, b: Any) -> Any:
    """Return a product of arrays of numbers, through integers where these are small.

    All numbers of an array are integers times one power of two, so that their sums of
    products are exact, in a twentieth of the time of sums of mpmath's own numbers.
    """
    if not a.shape[-1]:
        return np.full((*a.shape[:-1], *b.shape[-1:]), mp.zero)
    left, right = _as_integers(a), _as_integers(b)
    if left is None or right is None:
        return a @ b
    exponent = left[1] + right[1]

    def rounded(n: Any) -> Any:
        return mp.make_mpf(
            libmp.from_man_exp(n, exponent, mp.prec, libmp.round_nearest)
        )

    return _each_number(rounded, left[0] @ right[0])


def _as_integers(a: Any) -> tuple[Any, int] | None:
    """Return integers and the exponent of the power of two that they are times."""
    if not all(mp.isfinite(x) for x in a.ravel()):
        return None
    parts = [x._mpf_ for x in a.ravel() if x]
    least = min((part[2] for part in parts), default=0)
    if max((part[2] + part[3] for part in parts), default=0) - least > WIDEST:
        return None

    def scaled(x: Any) -> Any:
        sign, mantissa, exponent, _ = x._mpf_
        size = mantissa << (exponent - least) if mantissa else 0
        return -size if sign else size

    return _each_number(scaled, a), least


def _each_number(function: Callable[[Any], Any], a: Any) -> Any:
    found = np.empty(a.shape, dtype=object)
    found.ravel()[...] = [function(x) for x in a.ravel()]
    return found


def _each(function: Callable[..., Any], *stacks: Any) -> Any:
    """Apply a function of matrices to the members of stacks of them."""
    if stacks[0].ndim == 2:
        return function(*stacks)
    members = [_each(function, *same) for same in zip(*stacks, strict=True)]
    return np.stack(members) if members else stacks[-1]


def _cholesky(a: Any) -> Any:
    """Return the lower factor; NaN where a pivot is not positive and finite."""
    lower = np.full(a.shape, mp.zero)
    for j in range(len(a)):
        for i in range(j, len(a)):
            rest = a[i, j] - mp.fdot(lower[i, :j], lower[j, :j])
            if i > j:
                lower[i, j] = rest / lower[j, j]
            elif rest > 0 and mp.isfinite(rest):
                lower[j, j] = mp.sqrt(rest)
            else:
                return np.full(a.shape, mp.nan)
    return lower


def _substituted(lower: Any, b: Any) -> Any:
    """Return the solution of ``L x = b``, row after row."""
    x = np.full(b.shape, mp.zero)
    for i in range(len(lower)):
        for k in range(b.shape[1]):
            x[i, k] = (b[i, k] - mp.fdot(lower[i, :i], x[:i, k])) / lower[i, i]
    return x


def _substituted_back(lower: Any, b: Any) -> Any:
    """Return the solution of ``L' x = b``: that of the reversed system, reversed."""
    return _substituted(lower.T[::-1, ::-1], b[::-1])[::-1]


def _eigh(a: Any) -> tuple[Any, Any]:
    values, vectors = mp.eigsy(mp.matrix(a.tolist()))
    return _as_array(values).ravel(), _as_array(vectors)


def _solution(a: Any, b: Any) -> Any:
    matrix = mp.matrix(a.tolist())
    columns = [mp.lu_solve(matrix, mp.matrix(column.tolist())) for column in b.T]
    return np.hstack([_as_array(column) for column in columns]) if columns else b


def _as_array(matrix: Any) -> Any:
    return np.array(matrix.tolist(), dtype=object).reshape(matrix.rows, matrix.cols)


def cholesky(x: Any, /) -> Any:
    """Return lower Cholesky factors."""
    return _wrapped(_each(_cholesky, x._data), x)


def eigh(x: Any, /) -> tuple[Any, Any]:
    """Return eigenvalues, ascending, and eigenvectors."""
    shape, n = x.shape[:-2], x.shape[-1]
    found = [_eigh(a) for a in x._data.reshape(-1, n, n)] if x.size else []
    values, vectors = np.empty((*shape, n), object), np.empty(x.shape, object)
    for k, index in enumerate(np.ndindex(shape)):
        values[index], vectors[index] = found[k] if found else (0, 0)
    return _wrapped(values, x), _wrapped(vectors, x)


def qr(x: Any, /) -> tuple[Any, Any]:
    """Return an orthogonal and an upper triangular factor of a square matrix."""
    q, r = (
        mp.qr(mp.matrix(x._data.tolist())) if x.size else (mp.matrix(0), mp.matrix(0))
    )
    return _wrapped(_as_array(q), x), _wrapped(_as_array(r), x)


def solve(x1: Any, x2: Any, /) -> Any:
    """Return the solution of a general system."""
    return _wrapped(_each(_solution, x1._data, x2._data), x2)


def diagonal(x: Any, /) -> Any:
    """Return the diagonals of matrices."""
    return _wrapped(np.diagonal(x._data, axis1=-2, axis2=-1), x)


def trace(x: Any, /) -> Any:
    """Return the sums of the diagonals of matrices."""
    return mparray.sum(diagonal(x), axis=-1)


def finfo(dtype: Any, /) -> FInfo:
    """Return the limits of a dtype, and the roundoff of mpmath's precision."""
    own = np.finfo(getattr(dtype, "dtype", dtype))
    ends = (float(own.max), float(own.min), float(own.smallest_normal))
    return FInfo(own.bits, float(mp.eps), *ends, own.dtype)


LINALG = SimpleNamespace(
    cholesky=cholesky, diagonal=diagonal, eigh=eigh, qr=qr, solve=solve, trace=trace
)
"""What of the extension ``linalg`` is needed; mparray has none."""

NAMESPACE: Any = SimpleNamespace(**vars(mparray))
NAMESPACE.linalg, NAMESPACE.finfo = LINALG, finfo

backend = MPArrayBackend(NAMESPACE, "mparray")
