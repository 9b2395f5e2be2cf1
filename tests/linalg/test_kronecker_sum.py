"""Solutions, determinants and roots of a sum of two products are the dense ones."""

import numpy as np
import pytest

from kfac_core import backend_of
from kfac_core.linalg.kronecker_sum import KroneckerSum, pencil

SHIFT = 0.3


def moment(rng, size, rank=None):
    rows = rng.normal(size=(rank or 2 * size, size))
    return rows.T @ rows / len(rows)


@pytest.fixture
def sides(rng):
    """Return ``A`` of low rank and ``M``, and ``G`` and ``N``."""
    return (moment(rng, 4, 2), moment(rng, 4)), (moment(rng, 3), moment(rng, 3))


@pytest.fixture
def dense(sides):
    (a, m), (g, n) = sides
    return SHIFT * np.kron(m, n) + np.kron(a, g)


def computed(library, sides, shift):
    (a, m), (g, n) = ([library.asarray(x) for x in side] for side in sides)
    backend = backend_of(a)

    def of(a, m, g, n, x, shift):
        total = KroneckerSum(pencil(backend, a, m), pencil(backend, g, n))
        return (
            total.solve(backend, x, shift),
            total.root_of_inverse(backend, x, shift),
            total.logdet(backend, shift),
        )

    size = sides[0][0].shape[0] * sides[1][0].shape[0]
    eye = np.eye(size).reshape(size, sides[0][0].shape[0], -1)
    given = (library.asarray(eye), library.asarray(np.asarray(shift)))
    found = library.compiled(of)(a, m, g, n, *given)
    inverse, root, logdet = (library.to_numpy(x) for x in found)
    return inverse.reshape(size, size), root.reshape(size, size).T, float(logdet)


def test_it_is_the_dense_sum(library, sides, dense):
    inverse, root, logdet = computed(library, sides, SHIFT)
    expected = np.linalg.inv(dense)
    close = {"rtol": 0, "atol": 1e-11 * np.abs(expected).max()}
    np.testing.assert_allclose(inverse, expected, **close)
    np.testing.assert_allclose(root @ root.T, expected, **close)
    np.testing.assert_allclose(logdet, np.linalg.slogdet(dense)[1], rtol=1e-11)


def test_identities_as_metrics_are_exact_damping(library, sides):
    (a, _), (g, _) = sides
    inverse, _, _ = computed(library, ((a, np.eye(4)), (g, np.eye(3))), SHIFT)
    expected = np.linalg.inv(np.kron(a, g) + SHIFT * np.eye(12))
    np.testing.assert_allclose(inverse, expected, atol=1e-11 * np.abs(expected).max())
    # Another metric is another damping.
    inverse, _, _ = computed(library, sides, SHIFT)
    assert np.abs(inverse - expected).max() > 0.1 * np.abs(expected).max()


def test_a_metric_that_is_not_positive_definite_gives_nan(sides):
    (a, m), _ = sides
    found = pencil(backend_of(a), a, m - 10 * np.eye(4))
    assert np.isnan(found.vectors).all()
