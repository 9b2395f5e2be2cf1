"""What a step returns keeps nothing alive of what it was computed from."""

import gc
import tracemalloc
import weakref
from importlib.util import find_spec

import numpy as np
import pytest
from optimizer_cases import SHALLOW, optimizer_of, problem

from kfac_core import backend_of
from kfac_core.estimator import FisherEstimator
from kfac_core.optimizer import KfacOptimizer
from kfac_core.products import CurvatureMatrixVectorProductComputer
from kfac_core.tree import leaves

if find_spec("torch"):
    import torch_model

KINDS = {
    "regular": {"learning_rate": 0.1, "weight_decay_coeff": 0.01},
    "adam": {"learning_rate": 0.1, "norm_constraint": 0.1},
    "qmodel": {},
    "qmodel_fixedmu": {"update_damping_immediately": False},
}
PERIODS = {"adapt_damping": True, "damping_adaptation_interval": 2, "invert_every": 2}


def made(kind, **options):
    merged = {"damping": 0.5, "estimation_mode": "exact", **KINDS[kind], **options}
    collection = torch_model.collection()
    return KfacOptimizer(
        torch_model.Model(), collection, momentum_type=kind, **PERIODS, **merged
    )


def assert_no_graph(tree):
    assert not any(leaf.requires_grad for leaf in leaves(tree))


def given_with_graphs(torch, params):
    """Return arguments of a step that autograd tracks, each of them."""

    def tracked(value):
        root = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        return root * 1.0

    return {
        "gradient": {name: p * 0.1 for name, p in params.items()},
        "loss": sum((p * p).sum() for p in params.values()),
        "damping": tracked(0.3),
    }


@pytest.mark.parametrize("burn_in", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_step_has_a_graph(torch, kind, burn_in):
    optimizer = made(
        kind,
        num_burnin_steps=burn_in,
        loss_fn=lambda p, _: sum((part * part).sum() for part in p.values()),
    )
    params, batch = torch_model.drawn_params(), torch_model.drawn_batch()
    batch = (batch[0].requires_grad_(), batch[1])
    state = optimizer.init(params)
    assert_no_graph(state)
    for t in range(5):
        given = given_with_graphs(torch, params) if t > 1 else {}
        state, params, told = optimizer.step(
            state, params, batch, prev_batch=batch, **given
        )
        assert_no_graph(state)
        assert_no_graph(told)
        # Leaves, so that the next step can take gradients for them.
        assert all(p.is_leaf and p.requires_grad for p in params.values())


def test_parameters_that_are_not_tracked_stay_so(torch):
    optimizer = optimizer_of(SHALLOW)

    class InTorch:
        asarray = staticmethod(torch.as_tensor)

    params, batch = problem(InTorch, model=SHALLOW)
    for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with context():
            state, moved, told = optimizer.step(optimizer.init(params), params, batch)
        assert_no_graph((state, moved, told))


@pytest.mark.parametrize("kind", KINDS)
def test_no_batch_outlives_its_step(torch, kind):
    """Of 200 steps, and their memory does not grow."""
    optimizer = made(kind)
    params = torch_model.drawn_params()
    state, alive, sizes = optimizer.init(params), [], []
    batch = torch_model.drawn_batch(0)
    tracemalloc.start()
    try:
        for t in range(200):
            before, batch = batch, torch_model.drawn_batch(t)
            alive.append(weakref.ref(batch[0]))
            state, params, _ = optimizer.step(state, params, batch, prev_batch=before)
            if t in {99, 199}:
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    del before, batch
    gc.collect()
    assert not any(ref() is not None for ref in alive)
    # Python's own caches, and the list above, take a few kilobytes.
    assert sizes[1] - sizes[0] < 100_000


def test_statistics_and_inverses_are_without_graph(torch):
    params, batch = torch_model.drawn_params(), torch_model.drawn_batch()
    estimator = FisherEstimator(torch_model.collection(), estimation_mode="exact")
    linearization = torch_model.Model().linearize(params, batch)
    decay = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    state = estimator.update_covs(estimator.init(params), linearization, decay, decay)
    assert_no_graph(state)
    state = estimator.update_inverses(state, 0.1)
    assert_no_graph(state)
    assert_no_graph(estimator.update_inverses(state, 0.1, tolerance=0.5))
    assert_no_graph(estimator.inverse_errors(state, decay))
    vectors = {name: p.detach() for name, p in params.items()}
    for verb in ("multiply", "multiply_inverse"):
        assert_no_graph(getattr(estimator, verb)(state, vectors))


FACTORS = ("fisher_factor_transpose", "ggn_factor_transpose")


@pytest.mark.parametrize("verb", ["fisher", "ggn", *FACTORS])
def test_products_are_differentiable_for_the_vector_alone(torch, verb):
    computer = CurvatureMatrixVectorProductComputer(torch_model.collection())
    params, batch = torch_model.drawn_params(), torch_model.drawn_batch()
    linearization = torch_model.Model().linearize(params, batch)
    multiply = getattr(computer, f"multiply_{verb}")
    vectors = {name: p.detach() * 2 for name, p in params.items()}
    product = multiply(linearization, vectors)
    assert_no_graph(product)
    tracked = {name: v.clone().requires_grad_() for name, v in vectors.items()}
    found = multiply(linearization, tracked)
    # The product is linear: with itself as a weight, the derivative along the vector
    # is its square.
    total = sum((found[k] * product[k]).sum() for k in product)
    names = list(tracked)
    slopes = torch.autograd.grad(total, [tracked[name] for name in names])
    along = sum((g * vectors[k]).sum() for k, g in zip(names, slopes, strict=True))
    square = sum((p * p).sum() for p in product.values())
    np.testing.assert_allclose(float(along), float(square), rtol=1e-12)


def test_products_of_inverses_are_differentiable_for_vector_and_damping(torch):
    """For that of the inverse, by the statistics being constants."""
    params, batch = torch_model.drawn_params(), torch_model.drawn_batch()
    estimator = FisherEstimator(torch_model.collection(), estimation_mode="exact")
    linearization = torch_model.Model().linearize(params, batch)
    state = estimator.update_covs(estimator.init(params), linearization, 0.9)
    vectors = {name: p.detach() for name, p in params.items()}

    def value(damping):
        known = estimator.update_inverses(state, damping)
        product = estimator.multiply_inverse(known, vectors)
        return sum((product[k] * vectors[k]).sum() for k in vectors)

    damping = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(damping), damping)
    h = 1e-5
    wanted = (float(value(0.3 + h)) - float(value(0.3 - h))) / (2 * h)
    np.testing.assert_allclose(float(slope), wanted, rtol=1e-8)


def test_jax_leaks_no_tracer(jax):
    optimizer = optimizer_of(SHALLOW, momentum_type="qmodel", **PERIODS)

    class InJAX:
        asarray = staticmethod(jax.numpy.asarray)

    params, batch = problem(InJAX, model=SHALLOW)
    with jax.checking_leaks():
        step = jax.jit(optimizer.step)
        state = optimizer.init(params)
        for _ in range(2):
            state, params, told = step(state, params, batch)
    # Nothing that was traced is kept by the specs: they work outside as well.
    _, _, outside = optimizer.step(state, params, batch)
    assert bool(told.ok)
    assert bool(outside.ok)


def test_jax_differentiates_a_step_for_its_numbers(jax):
    """What a transformation differentiates is no graph that is kept."""
    optimizer = optimizer_of(SHALLOW, momentum_type="regular")

    class InJAX:
        asarray = staticmethod(jax.numpy.asarray)

    params, batch = problem(InJAX, model=SHALLOW)
    state = optimizer.init(params)

    @jax.jit
    def norm(rate):
        _, moved, _ = optimizer.step(state, params, batch, learning_rate=rate)
        return sum((p * p).sum() for p in moved.values())

    h = 1e-5
    wanted = (norm(0.3 + h) - norm(0.3 - h)) / (2 * h)
    np.testing.assert_allclose(jax.jit(jax.grad(norm))(0.3), wanted, rtol=1e-7)
    assert backend_of(batch.inputs).has_graph(batch.inputs) is False
