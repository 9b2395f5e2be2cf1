"""Checks of the Cholesky factor, what is solved with it, and the eigenbasis."""

from typing import Any

import numpy as np

from kfac_core.testing.candidate import Candidate, require
from kfac_core.testing.matrices import (
    GATE,
    cholesky_ratio,
    eigen_ratio,
    families,
    inverse_ratio,
    orthogonality_ratio,
    product_ratio,
    solve_ratio,
)


def cholesky_is_accurate(candidate: Candidate) -> None:
    """``L L' = A`` to rounding, ``L`` is lower, and the upper triangle is not read."""
    for dtype in candidate.floats():
        for name, matrix in families(dtype):
            above = np.triu(np.full_like(matrix, 1e3), 1)
            factor = _factor(candidate, np.tril(matrix) + above)
            _judge("cholesky", dtype, name, cholesky_ratio(matrix, factor))
            require(
                not np.triu(factor, 1).any(),
                f"cholesky of {dtype} ({name}) is not zero above the diagonal",
            )


def solutions_are_accurate(candidate: Candidate) -> None:
    """The solutions with ``L`` and with ``L'`` solve their systems."""
    backend = candidate.backend
    for dtype in candidate.floats():
        for name, matrix in families(dtype):
            n = len(matrix)
            b = np.random.default_rng(n).standard_normal((n, 3)).astype(dtype)
            factor, rhs = backend.cholesky(candidate.array(matrix)), candidate.array(b)
            lower = candidate.numpy(factor)
            once = backend.solve_triangular(factor, rhs)
            transposed = backend.solve_triangular(factor, rhs, transpose=True)
            for verb, system, x in (
                ("solve_triangular", lower, once),
                ("solve_triangular(transpose=True)", lower.T, transposed),
            ):
                ratio = solve_ratio(system, candidate.numpy(x), b)
                _judge(verb, dtype, name, ratio)


def inverse_is_accurate(candidate: Candidate) -> None:
    """The inverses are such to rounding, and symmetric bit for bit."""
    backend = candidate.backend
    for dtype in candidate.floats():
        zero = candidate.array(np.zeros(()), dtype)
        for name, matrix in families(dtype):
            x = candidate.array(matrix)
            of_factor = backend.cholesky_inverse(backend.cholesky(x))
            at_once = backend.damped_inverse(x, zero)
            for verb, found in (
                ("cholesky_inverse", of_factor),
                ("damped_inverse", at_once),
            ):
                inverse = candidate.numpy(found)
                _judge(verb, dtype, name, inverse_ratio(matrix, inverse))
                require(
                    np.array_equal(inverse, inverse.T),
                    f"{verb} of {dtype} ({name}) is not symmetric bit for bit",
                )


def eigh_is_accurate(candidate: Candidate) -> None:
    """``V S V' = A`` and ``V V' = I`` to rounding, and ``S`` ascends."""
    for dtype in candidate.floats():
        for name, matrix in families(dtype):
            x = candidate.array(matrix)
            values, vectors = map(candidate.numpy, candidate.backend.eigh(x))
            _judge("eigh", dtype, name, eigen_ratio(matrix, values, vectors))
            _judge("eigh, V V'", dtype, name, orthogonality_ratio(vectors))
            require(
                (np.diff(values) >= 0).all(),
                f"eigh of {dtype} ({name}) does not ascend",
            )


def qr_is_accurate(candidate: Candidate) -> None:
    """``Q R = A`` and ``Q Q' = I`` to rounding, and ``R`` is upper."""
    for dtype in candidate.floats():
        for name, matrix in families(dtype):
            x = candidate.array(matrix)
            q, r = map(candidate.numpy, candidate.backend.qr(x))
            _judge("qr", dtype, name, product_ratio(matrix, q, r))
            _judge("qr, Q Q'", dtype, name, orthogonality_ratio(q))
            require(
                not np.tril(r, -1).any(),
                f"qr of {dtype} ({name}) is not zero below the diagonal",
            )


def failed_cholesky_is_nan(candidate: Candidate) -> None:
    """Without a factor, the triangle is all NaN, and so is what is made of it."""
    backend = candidate.backend
    for dtype in candidate.floats():
        rhs = candidate.array(np.ones((3, 2)), dtype)
        for name, matrix in _without_factor(dtype):
            x = candidate.array(matrix)
            factor, zero = backend.cholesky(x), candidate.array(np.zeros(()), dtype)
            triangle = candidate.numpy(factor)[np.tril_indices(3)]
            require(
                np.isnan(triangle).all(),
                f"cholesky of {dtype} ({name}) is {triangle}, expected NaN on and"
                " below the diagonal",
            )
            for verb, found in (
                ("damped_inverse", backend.damped_inverse(x, zero)),
                ("cholesky_inverse", backend.cholesky_inverse(factor)),
                ("solve_triangular", backend.solve_triangular(factor, rhs)),
            ):
                require(
                    not np.isfinite(candidate.numpy(found)).any(),
                    f"{verb} with the NaN of a failed factor ({dtype}, {name}) is"
                    f" {candidate.numpy(found)}, expected NaN",
                )


def inverses_of_a_stack_are_of_each(candidate: Candidate) -> None:
    """Matrices without a factor are told of, and leave the others as they are."""
    for dtype in candidate.floats():
        failing = [matrix for _, matrix in _without_factor(dtype)]
        good = [np.array([[k + 2, 1, 0], [1, 3, 1], [0, 1, k + 1]]) for k in range(4)]
        dampings = np.array([0.5, 0, 1, 2, *[0] * len(failing)], dtype)
        matrices = np.stack([*good, *failing]).astype(dtype)
        inverses, finite = candidate.backend.damped_inverses(
            candidate.array(matrices), candidate.array(dampings)
        )
        told, found = candidate.numpy(finite), [*map(candidate.numpy, inverses)]
        expected = [k < len(good) for k in range(len(matrices))]
        require(
            told.tolist() == expected,
            f"damped_inverses of {dtype} tells {told.tolist()}, expected {expected}",
        )
        for k, inverse in enumerate(found):
            if k >= len(good):
                what = f"damped_inverses without a factor ({dtype}) is {inverse}"
                require(not np.isfinite(inverse).any(), f"{what}, expected NaN")
                continue
            damped = matrices[k] + dampings[k] * np.eye(3, dtype=dtype)
            _judge("damped_inverses", dtype, str(k), inverse_ratio(damped, inverse))
            require(
                np.array_equal(inverse, inverse.T),
                f"damped_inverses of {dtype} ({k}) is not symmetric bit for bit",
            )


def eigh_of_nan_is_nan(candidate: Candidate) -> None:
    """One entry that is not finite makes all eigenvalues and eigenvectors NaN."""
    for dtype in candidate.floats():
        for name, matrix in _not_finite(dtype):
            x = candidate.array(matrix)
            values, vectors = map(candidate.numpy, candidate.backend.eigh(x))
            require(
                np.isnan(values).all() and np.isnan(vectors).all(),
                f"eigh of {dtype} ({name}) is {values}, {vectors}, expected NaN",
            )


def _without_factor(dtype: str) -> list[tuple[str, Any]]:
    return [
        ("indefinite", np.array([[1, 2, 0], [2, 1, 0], [0, 0, 1]], dtype)),
        ("negative definite", -np.eye(3, dtype=dtype)),
        ("a zero row", np.diag([1, 0, 1]).astype(dtype)),
        ("zeros", np.zeros((3, 3), dtype)),
        ("a negative last pivot", np.diag([1, 1, -1]).astype(dtype)),
        *_not_finite(dtype),
    ]


def _not_finite(dtype: str) -> list[tuple[str, Any]]:
    cases = []
    for name, value in (("NaN", np.nan), ("Inf", np.inf), ("-Inf", -np.inf)):
        for i, j in ((0, 0), (2, 2), (1, 0)):
            matrix = 2 * np.eye(3, dtype=dtype)
            matrix[i, j] = matrix[j, i] = value
            cases.append((f"{name} at {i}, {j}", matrix))
    return cases


def _factor(candidate: Candidate, matrix: Any) -> Any:
    return candidate.numpy(candidate.backend.cholesky(candidate.array(matrix)))


def _judge(verb: str, dtype: str, name: str, ratio: float) -> None:
    # Not `ratio > GATE`: NaN must fail as well.
    require(
        ratio <= GATE,
        f"{verb} of {dtype} ({name}) has LAPACK test ratio {ratio:.3g},"
        f" expected at most {GATE:g}",
    )
