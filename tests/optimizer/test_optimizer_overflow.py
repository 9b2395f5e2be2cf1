"""Data, parameters and losses that overflow: no warning comes before the error.

Of NumPy alone, which is what warns; every warning is an error in these tests.
"""

import contextlib

import numpy as np
import pytest
from optimizer_cases import DEEP, NORMAL, optimizer_of

import kfac_core as kc
from kfac_core.estimator import ESTIMATION_MODES
from kfac_core.reference import Batch

LARGE = {"float32": 1e30, "float64": 1e300}
KINDS = {
    "adam": {},
    "qmodel": {"momentum_type": "qmodel"},
    "adapting": {"adapt_damping": True, "damping_adaptation_interval": 1},
}


def problem(dtype, rng, **factors):
    """Return parameters and a batch, with some of them that large."""
    x = rng.normal(size=(6, 4)).astype(dtype)
    y = rng.normal(size=(6, 3)).astype(dtype)
    large = {name: np.asarray(LARGE[dtype], dtype) for name in factors}
    params = DEEP.init(rng, like=x)
    if "weights" in large:
        params["dense_1/weights"] = params["dense_1/weights"] * large["weights"]
    return params, Batch(x * large.get("x", x.dtype.type(1)), y * large.get("y", 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", LARGE)
@pytest.mark.parametrize(
    ("large", "told"),
    [
        ("x", r"dense_0 \(input factor\): the statistics of inputs overflowed"),
        ("y", "KfacOptimizer: the loss is inf"),
        ("weights", r"overflowed|holds NaN|the loss is inf"),
    ],
)
def test_steps(kind, dtype, large, told, rng):
    params, batch = problem(dtype, rng, **{large: True})
    optimizer = optimizer_of(DEEP, NORMAL, **KINDS[kind])
    state = optimizer.init(params)
    with pytest.raises(kc.errors.NotFiniteError, match=told):
        optimizer.step(state, params, batch)


@pytest.mark.parametrize("loss", [1e300, -1e300, np.float32(1e38)])
@pytest.mark.parametrize("kind", KINDS)
def test_finite_losses_that_large_are_losses(kind, loss, rng):
    params, batch = problem("float64", rng)
    options = {**KINDS[kind], "loss_fn": lambda *_: loss}
    optimizer = optimizer_of(DEEP, NORMAL, **options)
    _, new, told = optimizer.step(optimizer.init(params), params, batch)
    assert float(told.loss) == float(loss)
    assert all(np.isfinite(x).all() for x in new.values())


@pytest.mark.parametrize("mode", ESTIMATION_MODES)
@pytest.mark.parametrize("dtype", LARGE)
def test_estimates(mode, dtype, rng):
    estimator = kc.FisherEstimator(DEEP.layer_collection(NORMAL), mode)
    params, batch = problem(dtype, rng, x=True)
    linearization, state = DEEP.linearize(params, batch), estimator.init(params)
    key = rng if estimator.needs_randomness else None
    with pytest.raises(kc.errors.NotFiniteError, match=r"dense_0 \(input factor\)"):
        estimator.update_covs(state, linearization, 0.9, key=key)


@pytest.mark.parametrize("dtype", LARGE)
def test_products(dtype, rng):
    params, batch = problem(dtype, rng)
    computer = kc.CurvatureMatrixVectorProductComputer(DEEP.layer_collection(NORMAL))
    vectors = {name: x * LARGE[dtype] * 1e7 for name, x in params.items()}
    vectors = {name: x.astype(dtype) for name, x in vectors.items()}
    with contextlib.suppress(kc.errors.NotFiniteError):
        product = computer.multiply_fisher(DEEP.linearize(params, batch), vectors)
        assert all(np.isfinite(x).all() for x in product.values())
