"""Rows of a layer weigh as their cases do, whatever order a model has them in."""

import jax_models
import numpy as np
import pytest
from jax_truth import relative

import kfac_core as kc

pytest.importorskip("jax")
IGNORING = kc.losses.CategoricalLogitsNegativeLogProbLoss(ignore_index=-1)
OUT = jax_models.numbers(4, 3)


def layouts(jax, times, cases):
    """Return functions of one value, of inputs ``[times, cases, 5]``."""
    jnp = jax.numpy

    def layer(p, x):
        return jnp.tanh(x @ p["w"]) @ OUT

    def merged(p, x):
        y = layer(p, x.reshape(-1, 5)).reshape(times, cases, 3)
        return y.transpose(1, 0, 2)

    return {
        "cases first": lambda p, x: layer(p, x.transpose(1, 0, 2)),
        "time first": lambda p, x: layer(p, x).transpose(1, 0, 2),
        "time first, merged": merged,
        "mapped over time": lambda p, x: jax.vmap(
            lambda own: layer(p, own), out_axes=1
        )(x),
        "time first, and a loss of rows": lambda p, x: (
            layer(p, x).transpose(1, 0, 2).reshape(-1, 3)
        ),
    }


def labels(shape, seed=0):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < 0.5, rng.integers(0, 3, shape), -1)


def block_of(jax, function, params, x, y, **options):
    """Return the one block of a function as a dense matrix, of the data's targets."""
    from kfac_adapters.jax import capture
    from kfac_adapters.jax.linearized import Linearized

    captured = capture(function, params, x, loss=IGNORING, **options)
    estimator = kc.FisherEstimator(captured.collection, "empirical")
    (layer,) = estimator.layers

    def dense(params, x):
        state = estimator.init(captured.named(params))
        at = Linearized(captured, params, (x,), y)
        state = estimator.update_covs(state, at, 0.0)
        return layer.block.full_fisher_block(state.blocks[layer.name])

    return jax.jit(dense)(params, x)


def product(x, g, w, count):
    """Return the Kronecker product for rows of weights `w`, the mean of `count`."""
    A = np.einsum("ri,rj,r->ij", x, x, w) / w.sum()
    return np.kron(A, np.einsum("ri,rj->ij", g, g) / count)


def gradients(logits, y):
    """Return gradients of the losses that are not ignored, for the logits."""
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return (p - np.eye(3)[y]) * (y >= 0)[..., None]


LAYOUTS = [
    "cases first",
    "time first",
    "time first, merged",
    "mapped over time",
    "time first, and a loss of rows",
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("times", [3, 4])
def test_ignored_positions_are_ignored_in_any_layout(jax, layout, times):
    x, w = jax_models.numbers(times, 4, 5), jax_models.numbers(5, 4)
    y = labels((4, times))
    function = layouts(jax, times, 4)[layout]
    given = y.reshape(-1) if "rows" in layout else y
    block = block_of(jax, function, {"w": w}, x, given)
    x = x.transpose(1, 0, 2).reshape(-1, 5)
    h, own = np.tanh(x @ w), y.reshape(-1)
    g = gradients(h @ OUT, own) @ OUT.T * (1 - h**2)
    expected = product(x, g, (own >= 0) * 1.0, own.size)
    assert relative(block, expected) < 1e-10
    assert relative(block, product(x, g, np.ones(own.size), own.size)) > 1e-3


def test_ignored_cases_of_several_positions_each_in_any_layout(jax):
    x, w = jax_models.numbers(4, 4, 5), jax_models.numbers(5, 4)
    y = np.asarray([0, -1, 2, -1])

    def function(p, x):
        return (jax.numpy.tanh(x @ p["w"]) @ OUT).sum(0)

    block = block_of(jax, function, {"w": w}, x, y)
    h = np.tanh(x @ w)
    g = (gradients((h @ OUT).sum(0), y) @ OUT.T)[None] * (1 - h**2)
    weights = np.broadcast_to(y >= 0, (4, 4)).reshape(-1) * 1.0
    expected = product(x.reshape(-1, 5), g.reshape(-1, 4), weights, 4)
    assert relative(block, expected) < 1e-10


def test_a_row_that_reaches_several_losses_counts_if_one_of_them_does(jax):
    x, w = jax_models.numbers(3, 4, 5), jax_models.numbers(5, 4)
    y = np.asarray([[0, -1, -1, 2], [-1, -1, -1, -1], [-1, 1, -1, -1]])

    def function(p, x):
        return jax.numpy.cumsum(jax.numpy.tanh(x @ p["w"]), 1) @ OUT

    block = block_of(jax, function, {"w": w}, x, y)
    h = np.tanh(x @ w)
    back = gradients(np.cumsum(h, 1) @ OUT, y) @ OUT.T
    g = np.cumsum(back[:, ::-1], 1)[:, ::-1] * (1 - h**2)
    weights = np.repeat((y >= 0).any(1) * 1.0, 4)
    expected = product(x.reshape(-1, 5), g.reshape(-1, 4), weights, y.size)
    assert relative(block, expected) < 1e-10


def test_a_scale_of_time_before_cases_has_the_gradients_of_cases(jax):
    from kfac_adapters.jax import capture
    from kfac_adapters.jax.linearized import Linearized

    x, y = jax_models.numbers(4, 4, 3), np.asarray([0, 1, 2, -1])
    params = {"s": jax_models.numbers(3)}

    def function(p, x):
        return (x * p["s"]).sum(0)

    full = {"scale_and_shift": "full"}
    captured = capture(function, params, x, loss=IGNORING, approximations=full)
    estimator = kc.FisherEstimator(captured.collection, "empirical")
    (layer,) = estimator.layers

    @jax.jit
    def dense(params):
        state = estimator.init(captured.named(params))
        at = Linearized(captured, params, (x,), y)
        state = estimator.update_covs(state, at, 0.0)
        return layer.block.full_fisher_block(state.blocks[layer.name])

    g = gradients((x * params["s"]).sum(0), y)
    j = x.sum(0) * g
    assert relative(dense(params), j.T @ j / 4) < 1e-10


def test_where_the_order_was_not_tried_ignored_cases_are_refused(jax):
    x, w = jax_models.numbers(3, 4, 5), jax_models.numbers(5, 4)
    function = layouts(jax, 3, 4)["time first"]
    y = labels((4, 3))
    with pytest.raises(kc.errors.ArgumentError, match=r"\['w'\].*verify=True|dot_gen"):
        block_of(jax, function, {"w": w}, x, y, verify=False)


def test_zeros_after_a_layer_do_not_hide_the_order_of_its_rows(jax):
    from kfac_adapters.jax import capture

    x = jax_models.numbers(3, 4, 5)
    params = {"w": jax_models.numbers(5, 4), "v": np.zeros((4, 3))}

    def function(p, x):
        return (jax.numpy.tanh(x @ p["w"]) @ p["v"]).transpose(1, 0, 2)

    captured = capture(function, params, x, loss=IGNORING)
    assert all(order.knows_all for order in captured.orders.values())


@pytest.mark.parametrize(
    ("rows", "cases", "expected"),
    [
        ((3, 4), (4, 3), (12, ())),
        ((12,), (4, 3), (12, ())),
        ((3, 4, 2), (4, 3), (12, (2,))),
        ((3, 4), (12,), (12, ())),
        ((24,), (4,), (4, (6,))),
    ],
)
def test_axes_of_rows_are_cut_into_cases_and_uses(rows, cases, expected):
    from kfac_adapters.row_orders import order_of

    order = order_of(rows, cases, lambda axis, place: None)
    found = order.arranged(np.arange(np.prod(rows)).reshape(rows), rows, cases)
    assert (found.shape[0], found.shape[1:]) == expected
