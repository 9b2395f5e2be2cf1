"""Checks of `matmul`, `gram` and `scatter_add`: sums of products, and by index."""

from fractions import Fraction
from typing import Any

import numpy as np

from kfac_core.testing.candidate import Candidate, require

# [rows, n]: empty, single, one row, one column, tall, wide, larger than a tile.
_SHAPES = ((0, 3), (1, 1), (1, 4), (5, 1), (7, 5), (5, 7), (130, 3))

_exact = np.vectorize(Fraction, otypes=[object])


def matmul_is_accurate(candidate: Candidate) -> None:
    """``|matmul(A', B) - A'B| <= (rows + 4) u |A|'|B|``; see `gram_is_accurate`."""
    rng = np.random.default_rng(3)
    for dtype in candidate.floats():
        unit = Fraction(float(np.finfo(dtype).eps)) / 2
        for rows, n in ((1, 1), (7, 5), (130, 3)):
            left, right = (
                rng.standard_normal((rows, size)).astype(dtype) for size in (n, 4)
            )
            a, b = candidate.array(left), candidate.array(right)
            result = candidate.numpy(candidate.backend.matmul(a.mT, b))
            exact = _exact(left).T @ _exact(right)
            error = abs(_fractions(result) - exact)
            bound = (rows + 4) * unit * (abs(_exact(left)).T @ abs(_exact(right)))
            require(
                (error <= bound).all(),
                f"matmul of {dtype} over {rows} rows exceeds its bound"
                f" (rows + 4) u |A|'|B| by a factor of {_excess(error, bound):.3g}",
            )


def gram_is_accurate(candidate: Candidate) -> None:
    """``|gram(A) - A'A| <= (rows + 4) u |A|'|A|`` in each entry, in exact arithmetic.

    A sum of ``r`` products, added in any order, errs by at most ``r u / (1 - r u)``
    times the sum of their magnitudes (Higham, Accuracy and Stability of Numerical
    Algorithms, 3.1), which is below ``(r + 1) u`` while ``r**2 u < 1 / 2``. Averaging
    the two triangles rounds once more; 4 leaves room for a scaling. Products in TF32
    or bfloat16 exceed it thousandfold.
    """
    rng = np.random.default_rng(0)
    for dtype in candidate.floats():
        unit = Fraction(float(np.finfo(dtype).eps)) / 2
        for rows, n in _SHAPES:
            # Columns of different scale: a bound on the norm would not see the small.
            source = rng.standard_normal((rows, n)) * np.geomspace(1e-3, 1e3, n)
            values = source.astype(dtype)
            # Both memory orders: a transposed copy reaches another code path.
            for x in (candidate.array(values), candidate.array(values.T.copy()).mT):
                result = candidate.numpy(candidate.backend.gram(x))
                require(
                    result.shape == (n, n),
                    f"gram of [{rows}, {n}] has shape {result.shape}",
                )
                exact = _exact(values).reshape(rows, n) if rows else np.zeros((0, n))
                error = abs(_fractions(result) - exact.T @ exact)
                bound = (rows + 4) * unit * (abs(exact).T @ abs(exact))
                require(
                    (error <= bound).all(),
                    f"gram of {dtype} [{rows}, {n}] exceeds its bound"
                    f" (rows + 4) u |A|'|A| by a factor of {_excess(error, bound):.3g}",
                )


def gram_is_symmetric(candidate: Candidate) -> None:
    """``gram(A)`` equals its transpose bit for bit."""
    rng = np.random.default_rng(1)
    for dtype in candidate.floats():
        for rows, n in (*_SHAPES, (1, 67), (200, 67), (33, 130), (3, 517)):
            values = rng.standard_normal((rows, n))
            once = candidate.array(values, dtype)
            for x in (once, candidate.array(values.T, dtype).mT, once[:, ::2]):
                result = candidate.numpy(candidate.backend.gram(x))
                differ = int((result != result.T).sum())
                require(
                    differ == 0,
                    f"gram of {dtype} {list(x.shape)}: {differ} unequal entries",
                )


def gram_scales_exactly(candidate: Candidate) -> None:
    """``gram(2**k A)`` equals ``4**k gram(A)`` bit for bit."""
    values = np.random.default_rng(2).standard_normal((9, 4))
    for dtype in candidate.floats():
        base = values.astype(dtype)
        once = candidate.numpy(candidate.backend.gram(candidate.array(base)))
        for k in (-20, -1, 1, 20):
            scaled = candidate.array(base * np.asarray(2.0**k, dtype))
            result = candidate.numpy(candidate.backend.gram(scaled))
            require(
                np.array_equal(result, once * np.asarray(4.0**k, dtype)),
                f"gram of {dtype} is not scaled by 4**{k} with its argument by 2**{k}",
            )


def scatter_add_sums_by_index(candidate: Candidate) -> None:
    """Repeated, unsorted and no indices give the sums that `numpy.add.at` gives."""
    cases: tuple[tuple[str, int, list[int]], ...] = (
        ("repeated and unsorted", 5, [3, 0, 3, 1, 3, 0]),
        ("each once", 4, [2, 0, 3, 1]),
        ("none", 3, []),
        ("a single place", 1, [0, 0, 0]),
    )
    for dtype in candidate.floats():
        for name, size, indices in cases:
            for kind in ("int32", "int64"):
                ids = np.array(indices, dtype=kind)
                # Small integers: every order of additions gives the same sum.
                weights = np.arange(1, len(ids) + 1).astype(dtype)
                expected = np.zeros(size, dtype)
                np.add.at(expected, ids, weights)
                result = candidate.numpy(
                    candidate.backend.scatter_add(
                        size, candidate.array(ids), candidate.array(weights)
                    )
                )
                require(
                    result.dtype == dtype and np.array_equal(result, expected),
                    f"scatter_add of {dtype} by {kind} ({name}) is {result!r},"
                    f" expected {expected!r}",
                )


def _fractions(values: Any) -> Any:
    return _exact(values) if values.size else np.zeros(values.shape)


def _excess(error: Any, bound: Any) -> float:
    ratios = [
        float(e / b) if b else float("inf")
        for e, b in zip(error.ravel(), bound.ravel(), strict=True)
        if e > b
    ]
    return max(ratios, default=0.0)
