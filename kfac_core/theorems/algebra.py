"""Kronecker algebra: products, powers and determinants without a dense matrix."""

from typing import Any

import numpy as np

from kfac_core.damping import DampingType
from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
from kfac_core.spectral import SpectralBlock
from kfac_core.theorems import verbs
from kfac_core.theorems.theorem import LARGE, theorem
from kfac_core.theorems.trial import Matrix, Measured, Trial

DAMPING = 0.5
POWERS = (-1.0, -0.5, 0.5)


def rows(trial: Trial) -> tuple[Matrix, Matrix, Matrix]:
    """Return inputs, gradients and a vector that have nothing to do with a network."""
    rng, (n, d, o) = trial.rng(), trial.sizes
    x = rng.standard_normal((n, d)) / np.sqrt(d)
    g = rng.standard_normal((n, o)) / np.sqrt(o)
    v = rng.standard_normal((d, o))
    return trial.rounded(x), trial.rounded(g), trial.rounded(v)


def moments_of(x: Matrix, g: Matrix) -> tuple[Matrix, Matrix]:
    """Return ``A`` and ``G`` of rows, by NumPy."""
    return x.T @ x / len(x), g.T @ g / len(g)


def pi_damped(
    a: Matrix, g: Matrix, damping: float, pi: float | None = None
) -> tuple[Matrix, Matrix]:
    """Return both factors, damped as Martens & Grosse (2015), section 6.3."""
    if pi is None:
        pi = np.sqrt((np.trace(a) / len(a)) / (np.trace(g) / len(g)))
    root = np.sqrt(damping)
    return a + pi * root * np.eye(len(a)), g + root / pi * np.eye(len(g))


def _powers(block: Any, data: Any, damping: Any, vector: Any) -> tuple[Any, ...]:
    state = verbs.inverted(block, data, damping)
    return tuple(block.multiply_matpower(state, vector, exp) for exp in POWERS)


def _numbers(block: Any, data: Any, damping: Any) -> tuple[Any, ...]:
    spectral = SpectralBlock(block)
    spectrum = spectral.decompose(verbs.fitted(block, data))
    return (
        spectral.logdet(spectrum, damping),
        spectral.trace(spectrum),
        spectral.frobenius_norm(spectrum),
    )


@theorem(
    "T20",
    condition="a block of A and G, parameters row-major with inputs first",
    claim="F v = vec(A V G), damped as well",
    source="vec(A V G) = kron(A, G) vec(V)",
    twin="outputs first: kron(G, A)",
    large=LARGE,
)
def products_need_no_dense_matrix(trial: Trial, holds: bool) -> Measured:
    """Multiply a block and a vector, with the damping of both factors."""
    (x, g, v), (_, d, o) = rows(trial), trial.sizes
    block = FullyConnectedKFACBasicFB(d, o, matpowers=())  # nothing is inverted
    found = trial.call(verbs.multiplied, block, (x, g), DAMPING, v)
    a, moment = pi_damped(*moments_of(x, g), DAMPING)
    if holds:
        return trial.judged(found, a @ v @ moment, terms=len(x) + d)
    other = moment @ v.reshape(o, d) @ a
    return trial.judged(found, other.reshape(d, o), terms=len(x) + d)


@theorem(
    "T21",
    condition="exact damping c",
    claim="(F + c I)^p v by the factors' eigenvectors, for p = -1, -1/2, 1/2",
    source="eigenvalues of a Kronecker product are products",
    twin="damping of each factor",
)
def powers_are_of_eigenvalues(trial: Trial, holds: bool) -> Measured:
    """Compare with powers of the dense matrix."""
    (x, g, v), (_, d, o) = rows(trial), trial.sizes
    damping_type: DampingType = "exact" if holds else "pi"
    block = FullyConnectedKFACBasicFB(d, o, damping_type=damping_type, matpowers=POWERS)
    found = trial.call(_powers, block, (x, g), DAMPING, v)
    values, vectors = np.linalg.eigh(np.kron(*moments_of(x, g)))
    values = np.maximum(values, 0) + DAMPING
    truth = tuple(
        ((vectors * values**exp) @ (vectors.T @ v.reshape(-1))).reshape(d, o)
        for exp in POWERS
    )
    condition = float(values.max() / values.min())
    return trial.judged(
        found, truth, terms=len(x) + d + o, size=d * o, condition=condition
    )


@theorem(
    "T22",
    condition="damping c added to the block itself",
    claim="log det(F + c I), tr F and |F| from the factors' eigenvalues",
    source="eigenvalues of a Kronecker product are products",
    twin="damping of each factor",
)
def determinants_are_of_eigenvalues(trial: Trial, holds: bool) -> Measured:
    """Compare with the dense matrix."""
    (x, g, _), (_, d, o) = rows(trial), trial.sizes
    block = FullyConnectedKFACBasicFB(d, o)
    found = trial.call(_numbers, block, (x, g), DAMPING)
    a, moment = moments_of(x, g)
    dense = np.kron(a, moment)
    damped: Matrix = dense + DAMPING * np.eye(d * o)
    if not holds:
        damped = np.kron(*pi_damped(a, moment, DAMPING))
    truth = (np.linalg.slogdet(damped)[1], np.trace(dense), np.linalg.norm(dense))
    values = np.linalg.eigvalsh(damped)
    # The logarithms may cancel: their error is absolute, a part of the order.
    part = max(1.0, d * o / abs(float(truth[0])))
    condition = part * float(values.max() / values.min())
    return trial.judged(
        found, truth, terms=len(x) + d + o, size=d * o, condition=condition
    )


THEOREMS = (
    products_need_no_dense_matrix,
    powers_are_of_eigenvalues,
    determinants_are_of_eigenvalues,
)
