"""Eigenvalues of every form of a factor are those of its dense matrix."""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.fisher_factors.eigenbasis import eigenvalues

FACTORS = {
    "whole": kc.factors.FullyConnectedKroneckerFactor(4, True),
    "diagonal": kc.factors.DiagonalKroneckerFactor(4, True),
    "few rows": kc.factors.FullyConnectedKroneckerFactor(
        4, True, form=kc.factors.LowRank(max_rows=3)
    ),
    "as many rows": kc.factors.FullyConnectedKroneckerFactor(
        4, True, form=kc.factors.LowRank(max_rows=5)
    ),
    "more rows": kc.factors.FullyConnectedKroneckerFactor(
        4, True, form=kc.factors.LowRank(max_rows=8)
    ),
    "blocks": kc.factors.FullyConnectedKroneckerFactor(
        4, True, form=kc.factors.BlockDiagonal(blocks=2)
    ),
}


@pytest.mark.parametrize("name", FACTORS)
def test_they_are_those_of_the_dense_matrix(name, rng):
    factor, rows = FACTORS[name], rng.normal(size=(3, 4))
    state = factor.update_cov(factor.init(rows), rows, 0.5)
    found = np.sort(eigenvalues(kc.backend_of(rows), factor, state))
    expected = np.linalg.eigvalsh(factor.get_cov(state))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_of_a_hundred_thousand_columns(rng):
    rows = rng.normal(size=(2, 100_000))
    factor = kc.factors.FullyConnectedKroneckerFactor(
        100_000, form=kc.factors.LowRank(max_rows=2)
    )
    state = factor.update_cov(factor.init(rows), rows, 0.5)
    found = eigenvalues(kc.backend_of(rows), factor, state)
    assert found.shape == (100_000,)
    np.testing.assert_allclose(found.sum(), (rows**2).sum() / 2, rtol=1e-12)
