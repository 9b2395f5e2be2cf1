"""The closed form of a series, as a plain sum over lags, in NumPy alone."""

from dataclasses import dataclass

import numpy as np
from block_case import moment, with_one


def lagged(x):
    """Return C1 of ``[T, N, n]``: of each use with the one before."""
    later, before = (part.reshape(-1, x.shape[-1]) for part in (x[1:], x[:-1]))
    return later.T @ before / (x.shape[0] * x.shape[1])


def root(matrix, exp):
    """Return a power of a semi-definite matrix, on its range."""
    values, vectors = np.linalg.eigh(matrix)
    known = values > 1e-12 * values.max()
    power = np.where(known, np.where(known, values, 1) ** exp, 0)
    return (vectors * power) @ vectors.T


def chain(c0, c1, lag):
    """Return the covariance of a lag, that of a chain."""
    psi = root(c0, -0.5) @ c1 @ root(c0, -0.5)
    middle = np.linalg.matrix_power(psi, lag) if lag else np.eye(len(c0))
    return root(c0, 0.5) @ middle @ root(c0, 0.5)


def closed_form(option, uses, a, a1, g, g1, lags=300):
    """Return the block as a plain sum over lags."""
    if option == 1:
        a1, g1 = (a1 + a1.T) / 2, (g1 + g1.T) / 2
        lags = uses
    total = (uses * np.kron(a, g)).astype(float)
    for lag in range(1, lags):
        term = np.kron(chain(a, a1, lag), chain(g, g1, lag))
        total += (uses - lag if option == 1 else uses) * (term + term.T)
    return total


@dataclass(frozen=True)
class SeriesFisher:
    """The block of inputs and gradients ``[T, N, ...]``, damped and not."""

    option: int
    x: np.ndarray
    g: np.ndarray
    has_bias: bool = False

    def damped(self, damping, damping_type="pi", power=1.0):
        rows, g = with_one(self.x) if self.has_bias else self.x, self.g
        a, out = moment(rows), moment(g)
        normal = damping / len(g) ** power
        pi = np.sqrt(np.trace(a) * len(out) / (np.trace(out) * len(a)))
        of_a, of_g = {
            "pi": (pi * np.sqrt(normal), np.sqrt(normal) / pi),
            "off": (np.sqrt(normal), np.sqrt(normal)),
            "constant": (normal, normal),
        }[damping_type]
        a, out = a + of_a * np.eye(len(a)), out + of_g * np.eye(len(out))
        return closed_form(self.option, len(g), a, lagged(rows), out, lagged(g))

    def undamped(self):
        return self.damped(0.0)
