"""Symmetric matrices to factorise, and the ratios that LAPACK judges results by.

The ratios divide a residual by what rounding alone would explain, so that a good
algorithm has a ratio of the order of one for every size, scale, condition number
and precision. LAPACK's own tests pass below 30 (linear equations) and 60
(eigenvalues) [LAPACK, TESTING: dpot01, dpot02, dpot03, dsyt21]; `GATE` is stricter.
All norms are the 1-norm.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

GATE = 10.0
SIZES = (1, 2, 3, 5, 10, 50)


def families(dtype: str) -> Iterator[tuple[str, Any]]:
    """Yield names and positive-definite matrices: LAPACK's, and a damped factor.

    Args:
        dtype: NumPy name of the dtype.

    Yields:
        A name, and a symmetric ``[n, n]`` NumPy array of this dtype.
    """
    hard = float(np.sqrt(0.1 / np.finfo(dtype).eps))
    for n in SIZES:
        rng = np.random.default_rng(n)
        yield f"diagonal, n={n}", np.diag(np.geomspace(1, 0.01, n)).astype(dtype)
        for name, condition in (("2", 2.0), ("sqrt(0.1/eps)", hard)):
            matrix = _with_condition(rng, n, condition)
            yield f"condition {name}, n={n}", matrix.astype(dtype)
        rows = rng.standard_normal((max(1, n // 4), n))
        factor = rows.T @ rows / len(rows)
        damped = factor + 1e-3 * np.eye(n)
        yield f"rank-deficient and damped, n={n}", damped.astype(dtype)


def _with_condition(rng: np.random.Generator, n: int, condition: float) -> Any:
    basis, _ = np.linalg.qr(rng.standard_normal((n, n)))
    matrix = (basis * np.geomspace(1, 1 / condition, n)) @ basis.T
    return (matrix + matrix.T) / 2


def columns(n: int, most: int = 16) -> Any:
    """Return the columns in which residuals of an order are computed.

    Those of a large matrix would take minutes in such precision; the norm of some
    columns is not above that of all.
    """
    if n <= 256:
        return slice(None)
    return np.unique(np.linspace(0, n - 1, most).astype(int))


def cholesky_ratio(matrix: Any, factor: Any) -> float:
    """Return ``|L L' - A| / (n |A| u)``."""
    a, lower = _wide(matrix, factor)
    some = columns(len(a))
    residual = lower @ lower.T[:, some] - a[:, some]
    return _norm(residual) / (len(a) * _norm(a) * _unit(matrix))


def solve_ratio(matrix: Any, solution: Any, b: Any) -> float:
    """Return the largest ``|A x - b| / (|A| |x| u)`` over right-hand sides."""
    a, x, rhs = _wide(matrix, solution, b)
    residuals = np.abs(a @ x - rhs).sum(axis=0)
    return float((residuals / (_norm(a) * np.abs(x).sum(axis=0) * _unit(matrix))).max())


def inverse_ratio(matrix: Any, inverse: Any) -> float:
    """Return ``|A X - I| / (n |A| |X| u)``."""
    a, x = _wide(matrix, inverse)
    scale, some = len(a) * _norm(a) * _norm(x) * _unit(matrix), columns(len(a))
    return _norm(a @ x[:, some] - np.eye(len(a))[:, some]) / scale


def eigen_ratio(matrix: Any, values: Any, vectors: Any) -> float:
    """Return ``|V S V' - A| / (n |A| 2u)``."""
    a, s, v = _wide(matrix, values, vectors)
    some = columns(len(a))
    residual = (v * s) @ v.T[:, some] - a[:, some]
    return _norm(residual) / (2 * len(a) * _norm(a) * _unit(matrix))


def product_ratio(matrix: Any, left: Any, right: Any) -> float:
    """Return ``|L R - A| / (n |A| 2u)``."""
    a, x, y = _wide(matrix, left, right)
    some = columns(len(a))
    residual = x @ y[:, some] - a[:, some]
    return _norm(residual) / (2 * len(a) * _norm(a) * _unit(matrix))


def orthogonality_ratio(vectors: Any) -> float:
    """Return ``|V V' - I| / (n 2u)``."""
    (v,) = _wide(vectors)
    some = columns(len(v))
    residual = v @ v.T[:, some] - np.eye(len(v))[:, some]
    return _norm(residual) / (2 * len(v) * _unit(vectors))


def _unit(x: Any) -> float:
    """Return the unit roundoff, half of the spacing of numbers at one."""
    return float(np.finfo(x.dtype).eps) / 2


def _wide(*arrays: Any) -> list[Any]:
    # Wider than either precision, where the machine has it: the residual of a
    # float64 result is otherwise rounded as much as the result.
    return [x.astype(np.longdouble) for x in arrays]


def _norm(x: Any) -> float:
    return float(np.abs(x).sum(axis=0).max())
