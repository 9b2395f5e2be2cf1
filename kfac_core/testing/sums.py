"""Checks of `axpby`, `damp` and `syrk`, which add whole matrices, and `is_finite`."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kfac_core.testing.candidate import Candidate, require
from kfac_core.typing import Array

# [rows, n]: none, tall; and larger than a panel or a part.
_SHAPES = ((0, 3), (9, 4), (2, 259), (300, 270))


def sums_are_exact(candidate: Candidate) -> None:
    """`axpby`, `damp` and `syrk` are exact for small integers in any memory order."""
    backend, rng = candidate.backend, np.random.default_rng(0)
    for dtype in candidate.floats():
        alpha, beta = (candidate.array(np.asarray(x), dtype) for x in (0.5, 3.0))
        for rows, n in _SHAPES:
            a = rng.integers(-3, 4, (rows, n)).astype(dtype)
            lower = rng.integers(-9, 10, (n, n))
            c = (np.tril(lower) + np.tril(lower, -1).T).astype(dtype)
            eye = np.eye(n, dtype=dtype)
            for x, y in _in_both_orders(candidate, a, lower.astype(dtype)):
                z = candidate.array(c)
                for verb, found, expected in (
                    ("axpby", backend.axpby(alpha, y, beta, z), 0.5 * lower + 3 * c),
                    ("damp", backend.damp(y, alpha), lower + 0.5 * eye),
                    (
                        "syrk",
                        backend.syrk(alpha, x, beta, z),
                        0.5 * (a.T @ a) + 3 * c,
                    ),
                ):
                    require(
                        np.array_equal(candidate.numpy(found), expected),
                        f"{verb} of {dtype} [{rows}, {n}] is not what its name says",
                    )


def syrk_is_symmetric(candidate: Candidate) -> None:
    """``syrk`` of any numbers equals its transpose bit for bit."""
    backend, rng = candidate.backend, np.random.default_rng(1)
    for dtype in candidate.floats():
        alpha, beta = (candidate.array(np.asarray(x), dtype) for x in (0.3, 0.7))
        for rows, n in ((1, 67), (3, 517), (400, 300)):
            x = rng.standard_normal((rows, n))
            whole = rng.standard_normal((n, n))
            c = candidate.array(whole + whole.T, dtype)
            result = candidate.numpy(
                backend.syrk(alpha, candidate.array(x, dtype), beta, c)
            )
            differ = int((result != result.T).sum())
            require(
                differ == 0,
                f"syrk of {dtype} [{rows}, {n}]: {differ} unequal entries",
            )


def is_finite_sees_every_entry(candidate: Candidate) -> None:
    """One NaN or infinity among many entries is found; the largest number is finite."""
    for dtype in candidate.floats():
        largest = np.finfo(dtype).max
        for shape in ((), (0, 3), (5,), (7, 41)):
            values = np.full(shape, largest, dtype)
            values.reshape(-1)[::2] = -largest
            found = candidate.backend.is_finite(candidate.array(values))
            require(bool(found), f"is_finite of {shape} finite {dtype} is false")
            for bad in (np.nan, np.inf, -np.inf):
                for place in range(0, values.size, 3):
                    spoilt = values.copy()
                    spoilt.reshape(-1)[place] = bad
                    found = candidate.backend.is_finite(candidate.array(spoilt))
                    with np.errstate(all="ignore"):
                        known = candidate.backend.known_finite(candidate.array(spoilt))
                    for name, result in (("is_finite", found), ("known_finite", known)):
                        require(
                            not bool(result),
                            f"{name} of {dtype} {shape} with {bad} at {place} is true",
                        )


def telling_entries_tell(candidate: Candidate) -> None:
    """What is infinite or NaN in a sum of squares shows in the entries that tell."""
    backend = candidate.backend
    for dtype in candidate.floats():
        for bad in (1.0, np.nan, np.inf):
            rows = np.ones((3, 4), dtype)
            rows[1, 2] = bad
            with np.errstate(all="ignore"):
                squares = candidate.array(rows.T @ rows)
            found = bool(backend.is_finite(backend.telling_entries(squares)))
            require(
                found == (bad == 1),
                f"telling_entries of {dtype} with {bad} are finite: {found}",
            )


def precisions_are_backends(candidate: Candidate) -> None:
    """`in_precision` returns a backend for the same arrays, the first for highest."""
    backend, x = candidate.backend, candidate.array(np.ones((2, 2)), "float32")
    require(
        backend.in_precision("highest") is backend,
        "in_precision('highest') is another backend than the registered one",
    )
    other = backend.in_precision("default")
    require(
        type(other) is type(backend)
        and other.in_precision("highest") is backend
        and np.array_equal(candidate.numpy(other.gram(x)), np.full((2, 2), 2.0)),
        "in_precision('default') does not compute with the arrays of the backend",
    )


def _in_both_orders(candidate: Candidate, *values: Any) -> Iterator[tuple[Array, ...]]:
    """Yield the arrays as they are, and transposed in memory."""
    yield tuple(candidate.array(x) for x in values)
    yield tuple(candidate.array(x.T.copy()).mT for x in values)
