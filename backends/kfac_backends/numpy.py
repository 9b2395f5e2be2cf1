"""NumPy: its products, and LAPACK through SciPy, in the array's own precision.

`numpy.linalg` computes float32 in float64, which is up to four times slower; SciPy's
wrappers do not. SciPy is imported at the first factorisation.
"""

import math
from typing import Any

import numpy as np

from kfac_backends.array_api import PANELS_FROM, ArrayAPIBackend
from kfac_backends.numpy_inverse import (
    factorise,
    invert_factor,
    invert_triangle,
    lapack,
    square,
)
from kfac_backends.numpy_triangles import gram_in_tiles, is_in_tiles
from kfac_backends.runs import ROWS_OF_NARROW_RUN
from kfac_core.typing import Array, Device, DType, Key

IN_PANELS_FROM = 128
"""Size from which matrices are factorised in panels; see `numpy_inverse`.

Below this size potrf and trtri use one thread; potri and syevd would use all threads.
"""


class NumPyBackend(ArrayAPIBackend):
    """SYRK for Gram matrices, potrf, trtri and syevd for the rest."""

    def check(self, x: Any) -> None:
        """Refuse what does not hold numbers, and arrays that compute in another way."""
        if type(x) is np.ndarray and x.dtype.kind in "biufc":
            return
        kind = type(x).__name__
        if not isinstance(x, np.ndarray | np.generic):
            msg = f"expected a numpy.ndarray, got {kind}: convert it with np.asarray"
            raise TypeError(msg)
        if x.dtype.kind not in "biufc" and not _is_short(x.dtype):
            raise TypeError(_no_numbers(x))
        if _computes_otherwise(x):
            msg = (
                f"expected a plain numpy.ndarray, got {kind}, whose products mean"
                " something else: convert it with np.asarray, which leaves out units"
                " and masks"
            )
            raise TypeError(msg)

    def device(self, x: Any) -> Device:
        """Return the one device that there is."""
        return "cpu"

    def creation_device(self, x: Any) -> Device:
        """Return None: there is one device."""
        return None

    def isdtype(self, dtype: DType, kind: str | tuple[str, ...]) -> bool:
        """Know the short floats of ml_dtypes, too, which NumPy does not."""
        if _is_short(dtype):
            kinds = (kind,) if isinstance(kind, str) else kind
            return bool({"real floating", "numeric"} & {*kinds})
        return np.isdtype(dtype, kind)

    def finfo(self, dtype: DType) -> Any:
        """Know the short floats of ml_dtypes as well."""
        if not _is_short(dtype):
            return np.finfo(dtype)
        from ml_dtypes import finfo

        return finfo(dtype)  # type: ignore[no-untyped-call]

    def are_alike(self, arrays: tuple[Any, ...]) -> bool:
        """Return whether all are NumPy's own arrays and scalars, of real numbers."""
        for x in arrays:
            if type(x) not in _PLAIN_TYPES or x.dtype.char not in "efd":
                return False
        return True

    def known_number(self, x: Any) -> Any:
        """Return the scalar."""
        return None if x.shape else x[()]

    def scalar(self, value: float, like: Any) -> Array:
        """Return a 0-d array, as a state keeps it."""
        number: Array = np.array(value, like.dtype)
        return number

    def is_finite(self, x: Any) -> Array:
        """Test every entry."""
        finite: Array = np.isfinite(x).all()
        return finite

    def known_finite(self, x: Any) -> bool:
        """Test the sum."""
        return x.dtype.char in "efd" and math.isfinite(np.add.reduce(x, axis=None))

    def axpby(self, a: Any, x: Any, b: Any, y: Any) -> Array:
        """Return ``a * x + b * y`` in one new array, the second term in parts."""
        return _added(x * a, b, y)

    def damp(self, a: Any, damping: Any) -> Array:
        """Copy, and add to the diagonal of the copy."""
        damped: Any = np.array(a, order="C")
        n = a.shape[-1]
        diagonals = damped.reshape(*a.shape[:-2], n * n)[..., :: n + 1]
        diagonals += damping
        whole: Array = damped
        return whole

    def buffer(self, shape: tuple[int, ...], like: Any) -> Array:
        """Return memory to write to."""
        empty: Array = np.empty(shape, like.dtype)
        return empty

    def diagonal(self, a: Any) -> Array:
        """Return a view, by the array's own method."""
        view: Array = a.diagonal()
        return view

    telling_entries = diagonal

    def gram(self, a: Any) -> Array:
        """Return ``a.T @ a`` by SYRK, in tiles if it is large."""
        # A tile goes through the runs of rows itself.
        if a.shape[0] <= ROWS_OF_NARROW_RUN or self._is_large(a):
            return self.gram_of_run(a)
        return super().gram(a)

    def gram_of_run(self, a: Any) -> Array:
        """Return ``a.T @ a`` by SYRK."""
        # With other strides NumPy would make two copies, and not notice that both
        # arguments are one array.
        rows = a if a.flags.forc else np.ascontiguousarray(a)
        if rows.shape[-1] >= PANELS_FROM and is_in_tiles(rows):
            return gram_in_tiles(rows)
        product = rows.T @ rows
        # For one row or column NumPy does not use SYRK, and may round both triangles
        # differently.
        return product if min(rows.shape) > 1 else self._symmetric(product)

    def syrk(self, alpha: Any, a: Any, beta: Any, c: Any) -> Array:
        """Return the sum of the Gram matrix and `c`, added while it is in the cache."""
        if a.shape[-1] < PANELS_FROM or not is_in_tiles(a):
            is_run = a.shape[0] <= ROWS_OF_NARROW_RUN
            product: Any = self.gram_of_run(a) if is_run else self.gram(a)
            product *= alpha
            return _added(product, beta, c)
        rows = a if a.flags.forc else np.ascontiguousarray(a)
        return gram_in_tiles(rows, alpha, beta, c)

    def eigh(self, a: Any) -> tuple[Array, Array]:
        """Return the eigendecomposition by divide and conquer."""
        from scipy.linalg import eigh

        # Other drivers were seen to hang on NaN.
        if a.shape[0] == 0 or not np.isfinite(a).all():
            return self._nan(a[..., 0]), self._nan(a)
        try:
            if len(a) < IN_PANELS_FROM:
                values, vectors = np.linalg.eigh(a)
            else:
                values, vectors = eigh(a, driver="evd", check_finite=False)
        except np.linalg.LinAlgError:
            return self._nan(a[..., 0]), self._nan(a)
        return values, np.ascontiguousarray(vectors)

    def qr(self, a: Any) -> tuple[Array, Array]:
        """Return both factors by geqrf and orgqr, in the precision of the matrix."""
        if a.ndim != 2 or 0 in a.shape:
            return super().qr(a)
        factors: Any = np.array(a, order="F")
        size = _QR_BLOCK * len(a)
        factors, scales, _, _ = lapack("geqrf", a.dtype)(
            factors, lwork=size, overwrite_a=True
        )
        upper: Any = np.triu(factors)
        q, _, _ = lapack("orgqr", a.dtype)(
            factors, scales, lwork=size, overwrite_a=True
        )
        return np.ascontiguousarray(q), upper

    def cholesky(self, a: Any) -> Array:
        """Return the lower factor by potrf, in panels if it is large."""
        if len(a) < IN_PANELS_FROM:
            return self._small_factor(np.ascontiguousarray(a), is_owned=False)
        factor: Any = np.array(a, order="C")
        return factor if factorise(factor) else self._none(factor)

    def cholesky_inverse(self, factor: Any) -> Array:
        """Return the inverse by trtri and the square of a triangle."""
        if len(factor) < IN_PANELS_FROM:
            return self._small_inverse(np.ascontiguousarray(factor), is_owned=False)
        root: Any = np.array(factor, order="C")
        return square(root) if invert_triangle(root) else self._none(root)

    def damped_inverse(self, a: Any, damping: Any) -> Array:
        """Damp, factorise and invert one copy, in place."""
        damped: Any = self.damp(a, damping)
        if len(a) < IN_PANELS_FROM:
            factor = self._small_factor(damped, is_owned=True)
            return self._small_inverse(factor, is_owned=True)
        return square(damped) if invert_factor(damped) else self._none(damped)

    def damped_inverses(self, stack: Any, dampings: Any) -> tuple[list[Array], Array]:
        """Invert one after the other."""
        pairs = zip(stack, dampings, strict=True)
        inverses: Any = [self.damped_inverse(a, damping) for a, damping in pairs]
        # No entry of a positive matrix is larger than the largest of its diagonal.
        finite = [np.isfinite(own.diagonal()).all() for own in inverses]
        return inverses, np.array(finite, bool)

    def inverts_together(self, x: Any) -> bool:
        """Return True where numbers and checks, which all share, cost most."""
        small: bool = x.shape[-1] <= IN_PANELS_FROM
        return small

    def members(self, x: Any) -> list[Array]:
        """Copy each."""
        return [np.array(own) for own in x]

    def _small_factor(self, a: Any, *, is_owned: bool) -> Array:
        """Return the lower factor of a matrix in C order, which it may overwrite."""
        # The transpose of a C-ordered matrix is Fortran-ordered: no copy to convert.
        upper, info = lapack("potrf", a.dtype)(
            a.T, lower=False, clean=True, overwrite_a=is_owned
        )
        # No entry is above the root of the largest number: the sum is in the range.
        if info != 0 or not math.isfinite(np.add.reduce(upper.diagonal())):
            return self._none(a)
        factor: Array = upper.T
        return factor

    def _small_inverse(self, factor: Any, *, is_owned: bool) -> Array:
        """Return the inverse from a factor in C order, which it may overwrite."""
        root, info = lapack("trtri", factor.dtype)(
            factor.T, lower=False, overwrite_c=is_owned
        )
        return self.gram(root.T) if info == 0 else self._none(factor)

    def _none(self, a: Any) -> Array:
        """Return NaN in C order, where there is no factor."""
        nan: Array = np.full(a.shape, np.nan, a.dtype)
        return nan

    def solve_triangular(
        self, factor: Any, b: Any, *, transpose: bool = False
    ) -> Array:
        """Solve by trtrs."""
        from scipy.linalg import solve_triangular

        if np.isnan(factor).any():
            return self._nan(b)
        solution: Array = solve_triangular(
            factor, b, lower=True, trans="T" if transpose else "N", check_finite=False
        )
        return solution

    def scatter_add(self, size: int, indices: Any, weights: Any) -> Array:
        """Count with weights; `numpy.bincount` adds in float64."""
        total: Array = np.bincount(indices, weights, size).astype(weights.dtype)
        return total

    def uniform(
        self, key: Key, shape: tuple[int, ...], dtype: DType, device: Device
    ) -> Array:
        """Draw from a `numpy.random.Generator`."""
        drawn: Array = key.random(shape, dtype=dtype)
        return drawn

    def normal(
        self, key: Key, shape: tuple[int, ...], dtype: DType, device: Device
    ) -> Array:
        """Draw from a `numpy.random.Generator`."""
        drawn: Array = key.standard_normal(shape, dtype=dtype)
        return drawn

    def to_numpy(self, x: Any) -> Any:
        """Copy."""
        return np.array(x)

    def from_numpy(self, x: Any, device: Device = None) -> Array:
        """Copy."""
        copied: Array = np.array(x)
        return copied


def _added(total: Any, b: Any, y: Any) -> Array:
    """Return `total`, which is changed, plus ``b * y``, in parts if it is large."""
    if total.size <= _ENTRIES_OF_PART:
        total += y * b
    else:
        # Fresh memory costs more than the arithmetic; a part's temporary array fits
        # into a cache, and is used again.
        step = max(1, _ENTRIES_OF_PART * len(total) // total.size)
        for k in range(0, len(total), step):
            total[k : k + step] += y[k : k + step] * b
    whole: Array = total
    return whole


def _is_short(dtype: Any) -> bool:
    """Return whether a dtype is one of ml_dtypes' floats, such as bfloat16."""
    kind: type = getattr(dtype, "type", dtype)
    return kind.__module__ == "ml_dtypes" and "float" in kind.__name__


def _no_numbers(x: Any) -> str:
    """Return what is wrong with an array without numbers, and what to do."""
    got = f"expected numbers in a numpy.ndarray, got {type(x).__name__} of dtype"
    if x.dtype.names == ("float0",):
        return f"{got} float0, JAX's gradient for integers: make zeros of a real dtype"
    if "int" in x.dtype.name:  # ml_dtypes has some of two and four bits
        return f"{got} {x.dtype}: make one that NumPy has, with .astype(np.int32)"
    return (
        f"{got} {x.dtype}: make an array of a real dtype, for instance with"
        " .astype(np.float32)"
    )


def _computes_otherwise(x: Any) -> bool:
    """Return whether an array's class has products of its own, as those of units."""
    kind: Any = type(x)
    if isinstance(x, np.matrix | np.ma.MaskedArray):
        return True
    # A scalar has no such functions; other subclasses leave NumPy's as they are.
    return isinstance(x, np.ndarray) and (
        kind.__array_ufunc__ is not np.ndarray.__array_ufunc__
        or kind.__array_function__ is not np.ndarray.__array_function__
    )


_PLAIN_TYPES = {np.ndarray, np.float32, np.float64}

_QR_BLOCK = 64
"""Columns that LAPACK reflects at once: as many as it would ask for, or more."""

_ENTRIES_OF_PART = 2**16
"""Number of entries whose temporary array is reused from a cache."""

backend = NumPyBackend(np, "numpy")
