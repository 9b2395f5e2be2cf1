"""Shared convolutions: ``F = P T kron(A, G)``, in every form of data."""

import numpy as np
import pytest
from block_case import NumPy, damped, flat, moment, with_one
from block_truth import patches_2x2

import kfac_core as kc
from kfac_core.contrib import fisher_blocks, fisher_factors
from kfac_core.typing import Uses

USES, CASES, LOCATIONS = 3, 5, 4
SHAPE = (2, 2, 1, 2)


def draw(rng, cases=CASES):
    """Return inputs and gradients ``[T, N, ...]``."""
    x = rng.normal(size=(USES, cases, 3, 3, 1))
    return x, rng.normal(size=(USES, cases, 2, 2, 2))


FORMS = {
    "folded": lambda x: x.reshape(-1, *x.shape[2:]),
    "axis": lambda x: x,
    "list": lambda x: Uses(tuple(x)),
}


def block_of(**options):
    return kc.blocks.ConvKFCBasicMultiIndepFB(
        kc.ConvolutionGeometry(SHAPE, padding="VALID"),
        has_bias=True,
        name="conv3",
        **options,
    )


def fisher_of(x, g):
    rows = patches_2x2(x.reshape(-1, 3, 3, 1))
    return moment(with_one(rows)), moment(g), USES * LOCATIONS


@pytest.mark.parametrize(
    ("form_of_x", "form_of_g"),
    [("folded", "list"), ("axis", "folded"), ("list", "axis"), ("list", "list")],
)
def test_the_block_counts_uses_and_locations(form_of_x, form_of_g, rng):
    x, g = draw(rng)
    folded = "folded" in {form_of_x, form_of_g}
    block = block_of(num_uses=USES if folded else None)
    state = block.init(np.zeros(1))
    data = FORMS[form_of_x](x), FORMS[form_of_g](g)
    state = block.update_inverses(block.update_covs(state, *data, ema_decay=0.0), 0.3)
    a, h, c = fisher = fisher_of(x, g)
    np.testing.assert_allclose(
        block.full_fisher_block(state),
        c * np.kron(a, h),
        rtol=0,
        atol=1e-12,
    )
    vector = rng.normal(size=SHAPE), rng.normal(size=2)
    v = np.concatenate([part.ravel() for part in vector])
    found = block.multiply_inverse(state, vector)
    expected = np.linalg.solve(damped(fisher, 0.3), v)
    error = np.linalg.norm(flat(NumPy, found) - expected)
    assert error <= 1e-12 * np.linalg.norm(expected)


def test_no_case_is_left_out(rng):
    # The original takes num_uses for sub_sample_inputs, and then draws a fifth.
    block = block_of(num_uses=USES)
    assert not block.needs_key
    assert (
        kc.blocks.ConvKFCBasicMultiIndepFB(
            kc.ConvolutionGeometry(SHAPE, padding="VALID"),
            has_bias=True,
            num_uses=USES,
            name="conv3",
        )
        == block
    )


def test_towers_and_sources_of_uses(rng):
    (x1, g1), (x2, g2) = draw(rng), draw(rng, 2)
    block = block_of()
    inputs = FORMS["axis"](x1), FORMS["list"](x2)
    source = FORMS["list"](g1), FORMS["axis"](g2)
    state = block.init(np.zeros(1))
    state = block.update_covs(state, inputs, (source, source), ema_decay=0.0)
    x, g = (np.concatenate(pair, axis=1) for pair in ((x1, x2), (g1, g2)))
    a, h, c = fisher_of(x, g)
    np.testing.assert_allclose(
        block.full_fisher_block(state),
        c * np.kron(a, 2 * h),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("data_format", [None, "NHWC", "NCHW"])
@pytest.mark.parametrize("form", FORMS)
def test_factors_are_over_all_rows(form, data_format, rng):
    x, g = draw(rng)
    rows = with_one(patches_2x2(x.reshape(-1, 3, 3, 1)))
    expected = moment(rows), moment(g)
    if data_format == "NCHW":
        x, g = np.moveaxis(x, -1, 2).copy(), np.moveaxis(g, -1, 2).copy()
    num_uses = USES if form == "folded" else None
    options = {"num_uses": num_uses, "data_format": data_format}
    geometry = kc.ConvolutionGeometry(SHAPE, padding="VALID", data_format=data_format)
    specs = (
        kc.factors.ConvInputMultiKF(geometry, has_bias=True, num_uses=num_uses),
        kc.factors.ConvOutputMultiKF(2, **options),
    )
    for spec, data, cov in zip(specs, (x, g), expected, strict=True):
        state = spec.init(np.zeros(1))
        state = spec.update_cov(state, FORMS[form](data), ema_decay=0.0)
        found = spec.get_cov(state)
        np.testing.assert_allclose(found, cov, rtol=0, atol=1e-14)
    tower = FORMS[form](x)
    held = fisher_factors.ConvInputMultiKF(
        [list(tower.arrays) if form == "list" else tower],
        SHAPE,
        "VALID",
        has_bias=True,
        **options,
    )
    held.instantiate_cov_variables()
    found = held.make_covariance_update_op(0.0)()
    np.testing.assert_allclose(found, expected[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("form", FORMS)
def test_contrib_takes_a_list_for_the_uses_of_a_tower(form, rng):
    x, g = draw(rng)
    num_uses = USES if form == "folded" else None
    block = block_of(num_uses=num_uses)
    data = FORMS[form](x), FORMS[form](g)
    state = block.update_covs(block.init(np.zeros(1)), *data, 0.0)
    expected = block.full_fisher_block(state)
    if form == "list":
        data = tuple(list(uses.arrays) for uses in data)
    params = np.zeros(SHAPE), np.zeros(2)
    held = fisher_blocks.ConvKFCBasicMultiIndepFB(
        None, params, "VALID", num_uses=num_uses
    )
    held.register_additional_tower(*data)
    held.instantiate_factors([[data[1]]], 0.1)
    held.make_covariance_update_op(0.0)()
    np.testing.assert_array_equal(held.full_fisher_block(), expected)
    factor = fisher_factors.ConvOutputMultiKF([[data[1]]], num_uses)
    factor.instantiate_cov_variables()
    factor.make_covariance_update_op(0.0)()
    np.testing.assert_array_equal(
        factor.get_cov(),
        held.output_factor.get_cov(),
    )


@pytest.mark.parametrize(
    ("num_uses", "make", "error", "word"),
    [
        (
            None,
            lambda x, g: (x.reshape(-1, 3, 3, 1), g),
            kc.errors.ArgumentError,
            "num_uses",
        ),
        (2, lambda x, g: (x, g), kc.errors.ArgumentError, "num_uses = 2"),
        (2, lambda x, g: (x.reshape(-1, 3, 3, 1), g), kc.errors.ShapeError, "15 rows"),
        (None, lambda x, g: (x, g[:2]), kc.errors.ArgumentError, "3 uses"),
        (None, lambda x, g: (x, g[:, :4]), kc.errors.ShapeError, "12"),
        (None, lambda x, g: (x, g[..., :1]), kc.errors.ShapeError, "outputs_grads"),
        (None, lambda x, g: (x[..., 0], g), kc.errors.ArgumentError, "num_uses"),
        (None, lambda x, g: ((x, x[:2]), g), kc.errors.ArgumentError, "[3, 2] uses"),
    ],
)
def test_uses_that_contradict_each_other_are_refused(num_uses, make, error, word, rng):
    block = block_of(num_uses=num_uses)
    data = make(*draw(rng))
    with pytest.raises(error, match="conv3") as caught:
        block.update_covs(block.init(np.zeros(1)), *data, 0.0)
    assert word in str(caught.value)


def test_cases_are_counted_in_either_order(rng):
    x, _ = draw(rng)
    cases = x.shape[1]
    assert block_of().count_cases(x) == cases
    first = block_of(batch_first=True)
    assert first.count_cases(np.swapaxes(x, 0, 1)) == cases


@pytest.mark.parametrize("bad", [0, -1, 1.5])
def test_a_number_of_uses_that_is_none_is_refused(bad):
    for make in (
        lambda: block_of(num_uses=bad),
        lambda: kc.factors.ConvInputMultiKF(
            kc.ConvolutionGeometry(SHAPE, padding="VALID"), num_uses=bad
        ),
        lambda: kc.factors.ConvOutputMultiKF(2, num_uses=bad),
    ):
        with pytest.raises(kc.errors.ArgumentError, match="num_uses"):
            make()


def test_one_trace_of_jax_serves_all_steps(jax, rng):
    block = block_of(num_uses=USES, sub_sample_inputs=True, inputs_fraction=0.5)
    x, g = (jax.numpy.asarray(a) for a in draw(rng))
    traces = []

    @jax.jit
    def update(state, key, decay):
        traces.append(1)
        return block.update_covs(state, x, g, decay, key=key)

    state = eager = block.init(x)
    for seed, decay in enumerate((0.5, 0.9)):
        key = jax.random.key(seed)
        state = update(state, key, decay)
        eager = block.update_covs(eager, x, g, decay, key=key)
        np.testing.assert_allclose(
            block.full_fisher_block(state),
            block.full_fisher_block(eager),
            rtol=1e-12,
            atol=1e-13,
        )
    assert len(traces) == 1


def test_an_update_compiles_whole(torch, rng):
    block = block_of()
    x, g = (torch.from_numpy(a) for a in draw(rng))
    data = Uses(tuple(x)), g
    torch._dynamo.reset()
    compiled = torch.compile(block.update_covs, fullgraph=True, backend="aot_eager")
    state, eager = (
        update(block.init(x), *data, 0.5) for update in (compiled, block.update_covs)
    )
    np.testing.assert_allclose(
        block.full_fisher_block(state), block.full_fisher_block(eager), rtol=1e-12
    )
    torch._dynamo.reset()
