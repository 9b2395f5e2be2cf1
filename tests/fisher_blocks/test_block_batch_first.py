"""Data of shared layers whose cases come before their uses: `[N, T, ...]`.

The statistics are those of the same data as `Uses`, which say their order themselves.
"""

import re

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.typing import Uses

N, T = 4, 3


def matrices(rng):
    return rng.normal(size=(T, N, 2)), rng.normal(size=(T, N, 2))


def images(rng):
    return rng.normal(size=(T, N, 4, 2)), rng.normal(size=(T, N, 4, 2))


def ids(rng):
    return rng.integers(0, 4, (T, N)), rng.normal(size=(T, N, 2))


def many_ids(rng):
    return rng.integers(0, 4, (T, N, 2)), rng.normal(size=(T, N, 2))


BLOCKS = {
    "dense": (
        lambda **options: kc.blocks.FullyConnectedMultiIndepFB(2, 2, True, **options),
        matrices,
    ),
    "diagonal": (
        lambda **options: kc.blocks.FullyConnectedMultiIndepFB(
            2, 2, diagonal_approx_for_input=True, **options
        ),
        matrices,
    ),
    "series-1": (
        lambda **options: kc.blocks.FullyConnectedSeriesFB(2, 2, option=1, **options),
        matrices,
    ),
    "series-2": (
        lambda **options: kc.blocks.FullyConnectedSeriesFB(
            2, 2, True, option=2, **options
        ),
        matrices,
    ),
    "embedding": (
        lambda **options: kc.blocks.EmbeddingKFACMultiIndepFB(4, 2, **options),
        ids,
    ),
    "embedding-many": (
        lambda **options: kc.blocks.EmbeddingKFACMultiIndepFB(4, 2, **options),
        many_ids,
    ),
    "convolution": (
        lambda **options: kc.blocks.ConvKFCBasicMultiIndepFB(
            kc.ConvolutionGeometry((3, 2, 2), padding="SAME"), **options
        ),
        images,
    ),
}


def cases_first(x):
    return np.swapaxes(x, 0, 1)


def flattened(x):
    first = cases_first(x)
    return first.reshape(N * T, *first.shape[2:])


def updated(library, block, data, form):
    arrays = [form(x) for x in data]
    state = block.init(library.asarray(np.zeros(1)))
    state = block.update_covs(state, *arrays, ema_decay=0.0)
    dense = library.to_numpy(block.full_fisher_block(state))
    size = (4 if "Embedding" in type(block).__name__ else 2, 2)
    vector = np.arange(1.0, 1.0 + np.prod(size)).reshape(size)
    if isinstance(block, kc.blocks.ConvKFCBasicMultiIndepFB):
        vector = np.stack([vector] * 3)
    state = block.update_inverses(state, 0.1)
    vector = library.asarray(vector)
    if getattr(block, "has_bias", False):
        vector = vector, library.asarray(np.ones(2))
    product = block.multiply_inverse(state, vector)
    product = product[0] if isinstance(product, tuple) else product
    return dense, library.to_numpy(product)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_form_gives_what_uses_give(plain_library, name, rng):
    make, draw = BLOCKS[name]
    data, asarray = draw(rng), plain_library.asarray
    wanted = updated(
        plain_library, make(), data, lambda x: Uses(tuple(map(asarray, x)))
    )
    scale = max(1.0, np.abs(wanted[1]).max())
    forms = [
        ({"batch_first": True}, cases_first),
        ({"batch_first": True, "num_uses": T}, cases_first),
        ({"num_uses": T}, lambda x: x),
    ]
    if name != "embedding-many":  # ids [N * T, m] look like [N, T]
        forms.append(({"batch_first": True, "num_uses": T}, flattened))
    for options, form in forms:
        found = updated(
            plain_library, make(**options), data, lambda x, form=form: asarray(form(x))
        )
        for x, y in zip(found, wanted, strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("name", ["series-1", "series-2"])
def test_the_order_of_time_matters_in_series(name, rng):
    make, draw = BLOCKS[name]
    data = draw(rng)

    class NumPy:
        asarray = to_numpy = staticmethod(np.asarray)

    right, _ = updated(NumPy, make(batch_first=True, num_uses=T), data, flattened)
    wrong, _ = updated(NumPy, make(num_uses=T), data, flattened)
    assert np.abs(right - wrong).max() > 0.01


def test_the_number_of_uses_is_that_of_uses(rng):
    """Four hundred sequences of six, as in a transformer: ``c`` is six."""
    block = kc.blocks.FullyConnectedMultiIndepFB(2, 2, batch_first=True)
    x, g = rng.normal(size=(400, 6, 2)), rng.normal(size=(400, 6, 2))
    state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
    assert state.uses.total / state.uses.weight == 6
    rows, grads = x.reshape(-1, 2), g.reshape(-1, 2)
    wanted = 6 * np.kron(rows.T @ rows, grads.T @ grads) / 2400**2
    np.testing.assert_allclose(block.full_fisher_block(state), wanted, rtol=1e-12)


def test_data_of_another_order_are_told_what_to_do(rng):
    x = rng.normal(size=(400, 6, 2))
    block = kc.blocks.FullyConnectedMultiIndepFB(2, 2, num_uses=6, name="shared")
    advice = "shared: inputs has shape (400, 6, 2).*the other axis has 6: give"
    pattern = re.escape(advice).replace(r"\.\*", ".*") + " batch_first=True"
    with pytest.raises(kc.errors.ArgumentError, match=pattern):
        block.update_covs(block.init(like=x), x, x, ema_decay=0.0)
    block = kc.blocks.FullyConnectedMultiIndepFB(
        2, 2, num_uses=6, name="shared", batch_first=True
    )
    first = np.swapaxes(x, 0, 1)
    with pytest.raises(
        kc.errors.ArgumentError, match=r"400 uses.*give batch_first=False"
    ):
        block.update_covs(block.init(like=x), first, first, ema_decay=0.0)
    block = kc.blocks.FullyConnectedMultiIndepFB(2, 2, num_uses=5, name="shared")
    with pytest.raises(
        kc.errors.ArgumentError,
        match=r"num_uses = 5; give num_uses=None.* batch_first=True",
    ):
        block.update_covs(block.init(like=x), x, x, ema_decay=0.0)


def test_rows_with_the_cases_first_are_a_multiple_of_the_uses(rng):
    block = kc.blocks.FullyConnectedSeriesFB(2, 2, num_uses=3, batch_first=True)
    x = rng.normal(size=(7, 2))
    with pytest.raises(kc.errors.ShapeError, match="7 rows, expected a multiple"):
        block.update_covs(block.init(like=x), x, x, ema_decay=0.0)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_what_is_no_flag_is_refused(value):
    with pytest.raises(kc.errors.ArgumentError, match="w: batch_first is"):
        kc.blocks.FullyConnectedMultiIndepFB(2, 2, batch_first=value, name="w")


@pytest.mark.parametrize(
    ("register", "args", "shape"),
    [
        ("register_fully_connected_multi", (), (2, 2)),
        ("register_embedding_multi", (), (4, 2)),
        ("register_conv2d_multi", (1, "SAME"), (3, 3, 2, 2)),
    ],
)
def test_registrations_take_it(register, args, shape):
    collection = kc.LayerCollection.of({"w": shape})
    layers = getattr(collection, register)(
        "w", "site", *args, num_uses=6, batch_first=True
    ).layers
    assert layers[0].block.batch_first is True


def test_factors_take_it(library, rng):
    x = rng.normal(size=(N, T, 3, 2))
    made = [
        (kc.factors.FullyConnectedMultiKF(2, batch_first=True), x[:, :, 0]),
        (kc.factors.FullyConnectedMultiKF(2, num_uses=T, batch_first=True), x[:, :, 0]),
        (kc.factors.DiagonalMultiKF(2, num_uses=T, batch_first=True), x[:, :, 0]),
        (
            kc.factors.ConvInputMultiKF(
                kc.ConvolutionGeometry((1, 2, 2), padding="VALID"), batch_first=True
            ),
            x,
        ),
        (kc.factors.ConvOutputMultiKF(2, num_uses=T, batch_first=True), x),
        (kc.factors.ConvOutputMultiKF(2, "NWC", num_uses=T, batch_first=True), x),
    ]
    for factor, data in made:
        state = factor.init(library.asarray(np.zeros(1)))
        state = factor.update_cov(state, library.asarray(data), ema_decay=0.0)
        rows = data.reshape(-1, 2)
        wanted = rows.T @ rows / len(rows)
        if isinstance(factor, kc.factors.DiagonalMultiKF):
            wanted = np.diag(np.diag(wanted))
        found = library.to_numpy(factor.get_cov(state))
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)
