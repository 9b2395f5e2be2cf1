"""How far approximations are from a dense matrix, as a table and as a picture."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kfac_core.arguments.powers import shown
from kfac_core.errors import ArgumentError, NotPositiveDefiniteError, ShapeError
from kfac_core.reference.dense_fisher import DenseFisher
from kfac_core.reference.pictures import Matrix, Panel, as_borders, draw, numbers
from kfac_core.typing import Array

LABEL = "compare"

COLUMNS = {
    "frobenius": "Frobenius",
    "spectral": "spectral",
    "trace": "trace ratio",
    "logdet": "log det",
    "cosine": "cosine",
    "length": "length",
}
"""What a `Comparison` tells of each approximation, by the names of its fields."""


@dataclass(frozen=True)
class Errors:
    """How far one approximation ``M`` is from the truth ``F``.

    Attributes:
        frobenius: ``|M - F| / |F|`` in the Frobenius norm.
        spectral: The same in the spectral norm, the largest eigenvalue.
        trace: ``tr M / tr F``.
        logdet: ``log det (M + l I) - log det (F + l I)``, for the damping ``l``.
        cosine: Cosine of the angle between ``inv(M + l I) g`` and ``inv(F + l I) g``;
            None without a gradient ``g``.
        length: Ratio of their lengths; None without a gradient.

    Example:
        >>> import numpy as np
        >>> truth = np.asarray([[2.0, 1.0], [1.0, 2.0]])
        >>> errors = compare({"double": 2 * truth}, truth).errors["double"]
        >>> errors.frobenius, errors.trace
        (1.0, 2.0)
    """

    frobenius: float
    spectral: float
    trace: float
    logdet: float
    cosine: float | None = None
    length: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; as text it is a table.

    Attributes:
        errors: The errors of each approximation, by its name.
        damping: The damping that log determinants and steps have.
        truth: The dense matrix, ``[n, n]``, of NumPy.
        matrices: The approximations, by name.
        borders: Sizes of the layers along the diagonal, for the picture.
        layers: Names of the layers, for the picture; or none.

    Example:
        >>> import numpy as np
        >>> truth = np.asarray([[2.0, 1.0], [1.0, 2.0]])
        >>> found = compare({"diagonal": np.diag(np.diag(truth))}, truth)
        >>> round(found.errors["diagonal"].frobenius, 4), found.borders
        (0.4472, ())
        >>> found.matrices["diagonal"] - found.truth  # what `plot` draws beside both
        array([[ 0., -1.],
               [-1.,  0.]])
    """

    errors: Mapping[str, Errors]
    damping: float
    truth: Matrix = field(repr=False)
    matrices: Mapping[str, Matrix] = field(repr=False)
    borders: tuple[int, ...] = ()
    layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the table: a row for each approximation."""
        fields = [
            name
            for name in COLUMNS
            if any(getattr(own, name) is not None for own in self.errors.values())
        ]
        rows = [["", *(COLUMNS[name] for name in fields)]]
        for name, own in self.errors.items():
            numbers = (getattr(own, each) for each in fields)
            rows.append([name, *(f"{number:.4g}" for number in numbers)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (
            "  ".join(
                cell.ljust(width) if place == 0 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )
        return "\n".join(line.rstrip() for line in lines)

    def plot(self) -> Any:
        """Draw the truth, each approximation and its difference from the truth.

        All heat maps have one scale of colours, which reaches to the largest entry, so
        that nothing is cut off; lines are at the borders of layers.

        Returns:
            A figure of matplotlib, which a notebook draws as a picture, and a script
            saves by its ``savefig``.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        on = (self.borders, self.layers)
        panels: list[Panel | None] = [Panel("truth", self.truth, *on)]
        panels += [Panel(k, m, *on) for k, m in self.matrices.items()]
        panels.append(None)
        panels += [
            Panel(f"{k} - truth", m - self.truth, *on) for k, m in self.matrices.items()
        ]
        return draw(panels, len(panels) // 2)


def compare(
    matrices: Mapping[str, Array | DenseFisher],
    truth: Array | DenseFisher,
    *,
    damping: float = 1e-3,
    gradient: Array | None = None,
    borders: Sequence[int] = (),
) -> Comparison:
    """Compare approximations of a matrix with the matrix itself.

    Args:
        matrices: Dense approximations ``[n, n]`` by name, such as the
            `kfac_core.fisher_blocks.FisherBlock.full_fisher_block` of some blocks; of
            any array library.
        truth: The matrix, ``[n, n]``, such as an `exact_fisher`: symmetric, positive
            semi-definite, and not zero.
        damping: Added to the diagonals for determinants and steps, positive; in units
            of the largest eigenvalue of `truth`.
        gradient: ``[n]``, for the cosine and the length of preconditioned gradients;
            None: without these.
        borders: Sizes of layers along the diagonal, for the picture; they sum to ``n``.
            Not needed for a `dense_fisher`.

    Returns:
        The errors; ``print`` shows a table, and `Comparison.plot` draws heat maps.

    Raises:
        ArgumentError: If there is nothing to compare, the truth is zero, or a number is
            out of range.
        NotFiniteError: If a matrix or the gradient holds NaN or infinity.
        NotPositiveDefiniteError: If a damped matrix is not positive definite.
        ShapeError: If the matrices differ in size, or are not square.

    Example:
        >>> import numpy as np
        >>> truth = np.asarray([[2.0, 1.0], [1.0, 2.0]])
        >>> print(compare({"diagonal": np.diag(np.diag(truth))}, truth))
                  Frobenius  spectral  trace ratio  log det
        diagonal     0.4472    0.3333            1   0.2867
    """
    layers: tuple[str, ...] = ()
    if isinstance(truth, DenseFisher):
        layers, borders = (truth.layers, truth.sizes) if not borders else ((), borders)
        truth = truth.matrix
    fisher = _dense(truth, "truth")
    given: object = matrices
    if not isinstance(given, Mapping) or not given:
        msg = (
            f"{LABEL}: matrices is {shown(matrices)}, expected a mapping from names to"
            " dense matrices, at least one"
        )
        raise ArgumentError(msg)
    dense = {
        str(k): _dense(
            m.matrix if isinstance(m, DenseFisher) else m, f"matrices[{k!r}]"
        )
        for k, m in matrices.items()
    }
    for name, matrix in dense.items():
        _check_shape(matrix, fisher.shape, f"matrices[{name!r}]")
    values = np.linalg.eigvalsh(fisher)
    largest = float(values[-1])
    if not largest > 0:
        msg = f"{LABEL}: truth has no positive eigenvalue, and no relative errors"
        raise ArgumentError(msg)
    shift = _positive(damping) * largest
    vector = None
    if gradient is not None:
        vector = numbers(gradient, "gradient", LABEL)
        _check_shape(vector, fisher.shape[:1], "gradient")
    sizes = as_borders(borders, len(fisher), LABEL)
    of_truth = _damped(fisher, shift, "truth")
    errors = {
        name: _errors(
            matrix, fisher, largest, _damped(matrix, shift, name), of_truth, vector
        )
        for name, matrix in dense.items()
    }
    return Comparison(errors, shift, fisher, dense, sizes, layers)


def _errors(
    matrix: Matrix,
    truth: Matrix,
    largest: float,
    damped: Matrix,
    damped_truth: Matrix,
    gradient: Matrix | None,
) -> Errors:
    difference = matrix - truth
    cosine = length = None
    if gradient is not None:
        own = np.linalg.solve(damped, gradient)
        right = np.linalg.solve(damped_truth, gradient)
        lengths = float(np.linalg.norm(own)), float(np.linalg.norm(right))
        cosine = float(own @ right) / (lengths[0] * lengths[1])
        length = lengths[0] / lengths[1]
    return Errors(
        frobenius=float(np.linalg.norm(difference) / np.linalg.norm(truth)),
        spectral=float(abs(np.linalg.eigvalsh(difference)).max()) / largest,
        trace=float(np.trace(matrix) / np.trace(truth)),
        logdet=float(np.linalg.slogdet(damped)[1] - np.linalg.slogdet(damped_truth)[1]),
        cosine=cosine,
        length=length,
    )


def _dense(matrix: Array, argument: str) -> Matrix:
    """Return a square matrix of NumPy in float64, symmetric."""
    found = numbers(matrix, argument, LABEL)
    if found.ndim != 2 or found.shape[0] != found.shape[1] or not found.size:
        msg = f"{LABEL}: {argument} has shape {found.shape}, expected a square matrix"
        raise ShapeError(msg)
    scale = abs(found).max()
    # Rounding of half precision is allowed.
    if abs(found - found.T).max() > 1e-2 * scale:
        msg = f"{LABEL}: {argument} is not symmetric; a Fisher is"
        raise ArgumentError(msg)
    return (found + found.T) / 2


def _check_shape(x: Matrix, wanted: tuple[int, ...], argument: str) -> None:
    if x.shape != wanted:
        msg = f"{LABEL}: {argument} has shape {x.shape}, expected {wanted}"
        raise ShapeError(msg)


def _damped(matrix: Matrix, damping: float, name: str) -> Matrix:
    damped = matrix + damping * np.eye(len(matrix))
    if not np.linalg.eigvalsh(damped)[0] > 0:
        msg = (
            f"{LABEL}: {name} plus the damping {damping:g} is not positive definite;"
            " give a larger damping"
        )
        raise NotPositiveDefiniteError(msg)
    return damped


def _positive(damping: object) -> float:
    known = isinstance(damping, float | int) and not isinstance(damping, bool)
    number = damping if isinstance(damping, float | int) and known else -1.0
    if not 0 < number <= sys.float_info.max:
        msg = f"{LABEL}: damping is {shown(damping)}, expected a positive number"
        raise ArgumentError(msg)
    return float(number)
