"""Factorisations held to LAPACK's own test ratios.

A ratio is a residual over what rounding explains, ``n eps cond``; see
`kfac_core.testing.matrices`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from kfac_core.linalg import psd
from kfac_core.testing.matrices import (
    GATE,
    cholesky_ratio,
    columns,
    eigen_ratio,
    inverse_ratio,
    orthogonality_ratio,
)
from kfac_core.theorems import Trial

SIZES = (1, 10, 129)
THOROUGH = (1, 2, 10, 63, 64, 65, 127, 128, 129, 513, 2048)
"""Orders of matrices: by default, and where time does not matter."""


class Ratio(NamedTuple):
    """The largest ratio of one operation.

    Attributes:
        library: Name of the array library.
        dtype: NumPy name of the dtype.
        operation: What was computed.
        ratio: The largest of its ratios.
        matrix: The matrix that has it.

    Example:
        >>> Ratio("numpy", "float64", "cholesky", 0.3, "hilbert").holds
        True
        >>> Ratio("numpy", "float64", "cholesky", float("nan"), "hilbert").holds
        False
    """

    library: str
    dtype: str
    operation: str
    ratio: float
    matrix: str

    @property
    def holds(self) -> bool:
        """Whether the ratio is within the gate; NaN is not."""
        return self.ratio <= GATE


def matrices(dtype: str, sizes: tuple[int, ...] = SIZES) -> Iterator[tuple[str, Any]]:
    """Yield names and symmetric positive definite matrices, hard ones among them.

    Args:
        dtype: NumPy name of the dtype.
        sizes: Their orders.

    Yields:
        A name, and ``[n, n]`` of this dtype.
    """
    unit = float(np.finfo(dtype).eps)
    hard = float(np.sqrt(unit))
    for n in sizes:
        rng = np.random.default_rng(n)
        basis, _ = np.linalg.qr(rng.standard_normal((n, n)))
        scales = np.geomspace(1, np.sqrt(hard), n)
        rows = rng.standard_normal((max(1, n // 4), n))
        ones = 1 + np.arange(n)
        least = np.where(np.arange(n) < n / 2, 1, 16 * n * unit)
        of_values = {
            "graded": np.diag(scales) @ (np.eye(n) + 0.5 / n) @ np.diag(scales),
            "two clusters": (basis * np.where(np.arange(n) < n / 2, 1, hard)) @ basis.T,
            "rank-deficient, damped": rows.T @ rows / n + hard * np.eye(n),
            "random": (basis * np.geomspace(1, hard, n)) @ basis.T,
            "nearly singular": (basis * least) @ basis.T,
            "Hilbert, damped": 1 / (ones[:, None] + ones - 1) + hard * np.eye(n),
        }
        for name, matrix in of_values.items():
            yield f"{name}, order {n}", ((matrix + matrix.T) / 2).astype(dtype)


def _computed(backend: Any, matrix: Any) -> dict[str, Any]:
    zero = backend.scalar(0.0, matrix)
    factor = backend.cholesky(matrix)
    values, vectors = backend.eigh(matrix)
    return {
        "factor": factor,
        "inverse_factor": psd.cholesky_inverse(backend, factor),
        "inverse": backend.damped_inverse(matrix, zero),
        "values": values,
        "vectors": vectors,
        "root": psd.power(backend, matrix, zero, -0.5),
    }


def ratios(library: str, trial: Trial, sizes: tuple[int, ...] = SIZES) -> list[Ratio]:
    """Return the largest ratio of each operation.

    Args:
        library: Name of the array library.
        trial: Backend, dtype and device.
        sizes: Orders of the matrices.
    """
    worst: dict[str, tuple[float, str]] = {}
    for name, matrix in matrices(trial.dtype, sizes):
        found = trial.call(_computed, trial.backend, matrix)
        mine = {key: value.astype(trial.dtype) for key, value in found.items()}
        for operation, ratio in _ratios(matrix, mine).items():
            before, _ = worst.get(operation, (0.0, ""))
            if not ratio <= before:  # NaN counts as larger
                worst[operation] = (ratio, name)
    return [
        Ratio(library, trial.dtype, operation, *own) for operation, own in worst.items()
    ]


def _ratios(matrix: Any, found: dict[str, Any]) -> dict[str, float]:
    """Return the ratios of all that was computed from a matrix."""
    factor, inverse_factor = found["factor"], found["inverse_factor"]
    values, vectors, root = found["values"], found["vectors"], found["root"]
    wide, of_root = matrix.astype(np.longdouble), root.astype(np.longdouble)
    some = columns(len(matrix))
    product = of_root @ (wide @ of_root[:, some])
    residual = float(np.abs(product - np.eye(len(matrix))[:, some]).max())
    unit = float(np.finfo(matrix.dtype).eps) / 2
    exact = np.linalg.eigvalsh(matrix.astype(np.float64))
    condition = float(exact[-1] / exact[0])
    return {
        "Cholesky factor": cholesky_ratio(matrix, factor),
        "inverse Cholesky factor": inverse_ratio(factor, inverse_factor),
        "inverse": inverse_ratio(matrix, found["inverse"]),
        "eigenvalues": eigen_ratio(matrix, values, vectors),
        "eigenvectors": orthogonality_ratio(vectors),
        "power -1/2": residual / (len(matrix) * condition * unit),
    }
